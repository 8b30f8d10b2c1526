//! Norms and softmax along the last axis, and pools of images with their channels last.
//!
//! Sums run in sixteen parts that are added in a fixed order, so that they are vectors on any processor
//! and have the same bits. Start at [`softmax`], [`layer`], [`pool`].

use super::held::{Held, Room};
use super::math::{exp, vectorised};
use crate::program::op::{Pads, Pool, Window};
use crate::program::value::{elements, work};

/// Parts of a sum.
const PARTS: usize = 16;

/// Folds a run in parts.
#[inline(always)]
fn folded(
    run: &[f32],
    start: f32,
    step: impl Fn(f32, f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut parts = [start; PARTS];
    let (whole, rest) = run.as_chunks::<PARTS>();
    for chunk in whole {
        for (part, x) in parts.iter_mut().zip(chunk) {
            *part = step(*part, *x);
        }
    }
    for (part, x) in parts.iter_mut().zip(rest) {
        *part = step(*part, *x);
    }
    let mut width = PARTS / 2;
    while width > 0 {
        for at in 0..width {
            parts[at] = join(parts[at], parts[at + width]);
        }
        width /= 2;
    }
    parts[0]
}

#[inline(always)]
fn sum(run: &[f32]) -> f32 {
    folded(run, 0.0, |sum, x| sum + x, |a, b| a + b)
}

/// `eˣ / Σ eˣ` along the last axis, in place.
pub(super) fn softmax(items: &mut [f32], width: usize) {
    vectorised(|| {
        for run in items.chunks_exact_mut(width.max(1)) {
            softmax_run(run);
        }
    });
}

#[inline(always)]
fn softmax_run(run: &mut [f32]) {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let top = folded(run, f32::NEG_INFINITY, larger, larger);
    run.iter_mut().for_each(|x| *x = exp(*x - top));
    let share = 1.0 / sum(run);
    run.iter_mut().for_each(|x| *x *= share);
}

/// How [`layer`] makes a run small.
#[derive(Clone, Copy)]
pub(super) struct Shift {
    /// Whether the mean is taken away.
    pub(super) centred: bool,
    /// Added to the mean square.
    pub(super) eps: f32,
}

/// Each run of the last axis over its deviation, then times `scale` plus `bias`.
pub(super) fn layer(items: &[f32], scale: &[f32], bias: Option<&[f32]>, how: Shift, y: &mut [f32]) {
    #[expect(clippy::cast_precision_loss, reason = "a run is far shorter than 2^24")]
    let n = scale.len() as f32;
    vectorised(|| {
        let width = scale.len().max(1);
        for (x, y) in items.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let mean = if how.centred { sum(x) / n } else { 0.0 };
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x - mean);
            let square = folded(y, 0.0, |sum, x| x.mul_add(x, sum), |a, b| a + b) / n;
            let inverse = 1.0 / (square + how.eps).sqrt();
            match bias {
                Some(bias) => {
                    for ((y, scale), bias) in y.iter_mut().zip(scale).zip(bias) {
                        *y = (*y * inverse).mul_add(*scale, *bias);
                    }
                }
                None => y.iter_mut().zip(scale).for_each(|(y, scale)| *y = *y * inverse * scale),
            }
        }
    });
}

/// Largest or mean of each window of an image; `None` for windows that only the general path knows.
pub(super) fn pool(
    x: &Held,
    kind: Pool,
    kernel: &[usize],
    window: &Window,
    room: &mut Room,
) -> Option<Held> {
    let (&[n, c, height, width], &[kernel_y, kernel_x]) = (x.shape(), kernel) else { return None };
    let pair = |given: &[usize]| match *given {
        [] => Some([1, 1]),
        [a, b] => Some([a, b]),
        _ => None,
    };
    let (strides, dilations) = (pair(&window.strides)?, pair(&window.dilations)?);
    let Pads::Explicit(pads) = &window.pads else { return None };
    let pads = if pads.is_empty() { [0; 4] } else { *pads.first_chunk::<4>()? };
    let fits = dilations == [1, 1] && kernel_y > 0 && kernel_x > 0 && !strides.contains(&0);
    // A window that holds no cell of the image has no largest one.
    let fits =
        fits && pads.iter().zip([kernel_y, kernel_x].repeat(2)).all(|(pad, side)| *pad < side);
    if !fits || matches!(kind, Pool::Lp(_) | Pool::Max { column_major: true }) || n * c == 0 {
        return None;
    }
    let out = [
        (height + pads[0] + pads[2]).checked_sub(kernel_y)? / strides[0] + 1,
        (width + pads[1] + pads[3]).checked_sub(kernel_x)? / strides[1] + 1,
    ];
    let shape = [n, c, out[0], out[1]];
    let len = elements(&shape).ok()?;
    work(&[len, kernel_y, kernel_x]).ok()?;
    let mut copy = Vec::new();
    let items = x.channels_last(&mut copy, room)?;
    let mut y = room.take(len);
    let frame = Frame {
        input: [height, width],
        before: [pads[0], pads[1]],
        kernel: [kernel_y, kernel_x],
        strides,
    };
    let mut cells = y.chunks_exact_mut(c);
    for image in items.chunks_exact(height * width * c) {
        vectorised(|| frame.image(image, kind, out, &mut cells));
    }
    room.give_items(copy);
    Held::image(&shape, y)
}

struct Frame {
    input: [usize; 2],
    before: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
}

impl Frame {
    #[inline(always)]
    fn image(
        &self,
        image: &[f32],
        kind: Pool,
        out: [usize; 2],
        cells: &mut std::slice::ChunksExactMut<'_, f32>,
    ) {
        let inside = |at: usize, axis: usize| {
            let from = at * self.strides[axis];
            let end =
                (from + self.kernel[axis]).saturating_sub(self.before[axis]).min(self.input[axis]);
            from.saturating_sub(self.before[axis]).min(end)..end
        };
        for (oy, ox) in (0..out[0]).flat_map(|oy| (0..out[1]).map(move |ox| (oy, ox))) {
            let Some(y) = cells.next() else { return };
            let (rows, columns) = (inside(oy, 0), inside(ox, 1));
            let count = rows.len() * columns.len();
            let mean = !matches!(kind, Pool::Max { .. });
            y.fill(if mean { 0.0 } else { f32::NEG_INFINITY });
            for (row, column) in
                rows.flat_map(|row| columns.clone().map(move |column| (row, column)))
            {
                let x = &image[(row * self.input[1] + column) * y.len()..][..y.len()];
                if mean {
                    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
                } else {
                    // What is no number stays.
                    y.iter_mut()
                        .zip(x)
                        .for_each(|(y, x)| *y = if *x > *y || x.is_nan() { *x } else { *y });
                }
            }
            if mean {
                let all = kind == Pool::Average { count_pads: true };
                let share = 1.0 / small(if all { self.kernel[0] * self.kernel[1] } else { count });
                y.iter_mut().for_each(|y| *y *= share);
            }
        }
    }
}

/// The mean of each channel of an image.
pub(super) fn means(x: &Held, shape: &[usize], room: &mut Room) -> Option<Held> {
    let &[n, c, height, width] = x.shape() else { return None };
    let cells = height * width;
    let items = x.f32s()?;
    if n * c * cells == 0 {
        return None;
    }
    let share = 1.0 / small(cells);
    let mut y = room.take(n * c);
    vectorised(|| {
        if x.is_channels_last() {
            for (x, y) in items.chunks_exact(c * cells).zip(y.chunks_exact_mut(c)) {
                y.fill(0.0);
                for x in x.chunks_exact(c) {
                    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
                }
                y.iter_mut().for_each(|y| *y *= share);
            }
        } else {
            items.chunks_exact(cells).zip(&mut y).for_each(|(x, y)| *y = sum(x) * share);
        }
    });
    Held::made(shape, y)
}

#[expect(clippy::cast_precision_loss, reason = "an image has far fewer than 2^24 cells")]
fn small(count: usize) -> f32 {
    count as f32
}
