//! Tensors between the steps of a call, and the room that they are made in.
//!
//! An image may lie with its channels last, `[n, h, w, c]` in memory, while its shape stays
//! `[n, c, h, w]`: convolutions read and write whole runs of channels. Nothing outside a call sees
//! that. Start at [`Held`].

use zeroize::Zeroize;

use crate::program::value::{Data, Value};

/// A value of a call.
pub(super) struct Held {
    value: Value,
    channels_last: bool,
}

impl Held {
    /// As it lies.
    pub(super) fn rows(value: Value) -> Self {
        Self { value, channels_last: false }
    }

    /// Single precision in row-major order, if shape and length agree.
    pub(super) fn made(shape: &[usize], items: Vec<f32>) -> Option<Self> {
        Value::new(shape.to_vec(), Data::F32(items)).ok().map(Self::rows)
    }

    /// An image of shape `[n, c, h, w]` whose elements lie as `[n, h, w, c]`.
    pub(super) fn image(shape: &[usize], items: Vec<f32>) -> Option<Self> {
        let value = Value::new(shape.to_vec(), Data::F32(items)).ok()?;
        Some(Self { value, channels_last: true })
    }

    pub(super) fn shape(&self) -> &[usize] {
        self.value.shape()
    }

    /// Elements in single precision, in whichever order they lie.
    pub(super) fn f32s(&self) -> Option<&[f32]> {
        self.value.f32s().ok()
    }

    pub(super) fn is_channels_last(&self) -> bool {
        self.channels_last
    }

    /// The value, if it lies in row-major order.
    pub(super) fn as_rows(&self) -> Option<&Value> {
        (!self.channels_last).then_some(&self.value)
    }

    /// The same value in row-major order.
    pub(super) fn into_rows(self, room: &mut Room) -> Value {
        if !self.channels_last {
            return self.value;
        }
        let rows = self.to_rows(room);
        room.give(self);
        rows
    }

    /// A copy in row-major order.
    pub(super) fn to_rows(&self, room: &mut Room) -> Value {
        let (Some(items), &[n, c, h, w]) = (self.f32s(), self.shape()) else {
            return self.value.clone();
        };
        if !self.channels_last {
            return self.value.clone();
        }
        let mut out = room.take(items.len());
        turn(items, &mut out, [n, h * w, c]);
        // Shape and length are those of the value itself.
        Value::new(self.shape().to_vec(), Data::F32(out)).unwrap_or_else(|_| self.value.clone())
    }

    /// The elements of an image with its channels last, copied if they lie otherwise.
    pub(super) fn channels_last<'a>(
        &'a self,
        copy: &'a mut Vec<f32>,
        room: &mut Room,
    ) -> Option<&'a [f32]> {
        let items = self.f32s()?;
        let &[n, c, h, w] = self.shape() else { return None };
        if self.channels_last || c == 1 || h * w == 1 {
            return Some(items);
        }
        *copy = room.take(items.len());
        turn(items, copy, [n, c, h * w]);
        Some(copy)
    }
}

/// `[n, a, b]` to `[n, b, a]`.
pub(super) fn turn(from: &[f32], to: &mut [f32], [n, a, b]: [usize; 3]) {
    /// Lines and columns that are turned together, so that both sides stay in the cache.
    const TILE: usize = 16;
    if a * b == 0 {
        return;
    }
    for (from, to) in from.chunks_exact(a * b).zip(to.chunks_exact_mut(a * b)).take(n) {
        for i0 in (0..a).step_by(TILE) {
            let lines = TILE.min(a - i0);
            for (j, to) in to.chunks_exact_mut(a).enumerate() {
                for (to, from) in
                    to[i0..i0 + lines].iter_mut().zip(from[i0 * b + j..].iter().step_by(b))
                {
                    *to = *from;
                }
            }
        }
    }
}

/// Room of values that are gone, for those that come.
#[derive(Default)]
pub(super) struct Room {
    free: Vec<Vec<f32>>,
}

/// Pieces of room that are kept at most.
const PIECES_MAX: usize = 64;

impl Room {
    /// Room for so many elements; what they are is left to the caller.
    pub(super) fn take(&mut self, len: usize) -> Vec<f32> {
        let fits = |piece: &Vec<f32>| piece.capacity() >= len && piece.capacity() / 4 <= len;
        let best = (0..self.free.len())
            .filter(|&at| fits(&self.free[at]))
            .min_by_key(|&at| self.free[at].capacity());
        let Some(best) = best else { return vec![0.0; len] };
        let mut piece = self.free.swap_remove(best);
        piece.resize(len, 0.0);
        piece
    }

    /// Takes a value's room back.
    pub(super) fn give(&mut self, held: Held) {
        if let (_, Data::F32(items)) = held.value.into_parts() {
            self.give_items(items);
        }
    }

    pub(super) fn give_items(&mut self, items: Vec<f32>) {
        if self.free.len() < PIECES_MAX && items.capacity() > 0 {
            self.free.push(items);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.free.iter_mut().for_each(Zeroize::zeroize);
    }
}
