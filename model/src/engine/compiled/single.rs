//! One node by a kernel of its own, where there is one for what it is given; the general path otherwise.
//!
//! Start at [`run`].

use super::arrange;
use super::held::{Held, Room};
use super::image::Filter;
use super::norm::{self, Shift};
use super::pointwise::{Chain, Function, Member, SCRATCH};
use super::product;
use crate::program::op::{Binary, Reduce, Softmax, TensorOp as Op};
use crate::program::ops::{self, Inputs};
use crate::program::value::{OpError, Value, axis};

/// What a node reads: a value of the call, or a constant.
#[derive(Clone, Copy)]
pub(super) enum Read<'a> {
    Held(&'a Held),
    Constant(&'a Value),
}

impl Read<'_> {
    /// The value, if it lies in row-major order.
    pub(super) fn as_rows(&self) -> Option<&Value> {
        match self {
            Self::Held(held) => held.as_rows(),
            Self::Constant(value) => Some(value),
        }
    }
}

/// Runs one node.
///
/// # Errors
/// What the general path says of inputs that do not fit.
pub(super) fn run(
    op: &Op,
    inputs: &[Option<Read<'_>>],
    room: &mut Room,
) -> Result<Vec<Held>, OpError> {
    if let Some(held) = image(op, inputs, room) {
        return Ok(vec![held]);
    }
    // All others read rows.
    let mut copies: Vec<Option<Value>> = Vec::with_capacity(inputs.len());
    for input in inputs {
        copies.push(match input {
            Some(Read::Held(held)) if held.is_channels_last() => Some(held.to_rows(room)),
            _ => None,
        });
    }
    let values: Vec<Option<&Value>> = inputs
        .iter()
        .zip(&copies)
        .map(|(input, copy)| copy.as_ref().or_else(|| input.as_ref().and_then(Read::as_rows)))
        .collect();
    let made = match rows(op, &values, room) {
        Some(held) => vec![held],
        None => ops::apply(op, &Inputs(&values))?.into_iter().map(Held::rows).collect(),
    };
    copies.into_iter().flatten().for_each(|copy| room.give(Held::rows(copy)));
    Ok(made)
}

/// An image with its channels last and one number for each of its channels, in either order.
fn gate(op: Binary, a: Read<'_>, b: Read<'_>, room: &mut Room) -> Option<Held> {
    let (Read::Held(a), Read::Held(b)) = (a, b) else { return None };
    let laid = |held: &Held| {
        let &[n, c, h, w] = held.shape() else { return None };
        (held.is_channels_last() || h * w == 1).then_some([n, h, w, c])
    };
    let (left, right) = (laid(a)?, laid(b)?);
    if !a.is_channels_last() && !b.is_channels_last() {
        return None;
    }
    let (shape, y) = arrange::pair(op, (a.f32s()?, &left), (b.f32s()?, &right), room)?;
    let &[n, h, w, c] = &shape[..] else { return None };
    Held::image(&[n, c, h, w], y)
}

/// Nodes that take images with their channels last.
fn image(op: &Op, inputs: &[Option<Read<'_>>], room: &mut Room) -> Option<Held> {
    let &Some(Read::Held(x)) = inputs.first()? else { return None };
    match op {
        Op::Conv { window, groups } => {
            let weights = inputs.get(1).copied().flatten()?;
            let bias = inputs.get(2).copied().flatten();
            let bias = if let Some(bias) = &bias { Some(bias.as_rows()?) } else { None };
            let filter = Filter::new(weights.as_rows()?, bias, *groups, None)?;
            let shape = filter.shape(x, window)?;
            let chain = filter.chain()?;
            let y = filter.run(x, window, (&chain, &[]), room)?;
            Held::image(&shape, y)
        }
        Op::Pool { kind, kernel, window, ceil: false } => {
            norm::pool(x, *kind, kernel, window, room)
        }
        Op::GlobalPool(crate::program::op::Pool::Average { .. }) => {
            let &[n, c, _, _] = x.shape() else { return None };
            norm::means(x, &[n, c, 1, 1], room)
        }
        Op::Reduce { kind: Reduce::Mean, keep, .. } => {
            let axes = inputs.get(1).copied().flatten()?.as_rows()?.to_i64s().ok()?;
            let &[n, c, _, _] = x.shape() else { return None };
            let mut axes: Vec<usize> =
                axes.iter().map(|&at| axis(at, 4).ok()).collect::<Option<_>>()?;
            axes.sort_unstable();
            let shape = if *keep { vec![n, c, 1, 1] } else { vec![n, c] };
            if axes == [2, 3] { norm::means(x, &shape, room) } else { None }
        }
        Op::Binary(op) => gate(*op, inputs[0]?, inputs.get(1).copied().flatten()?, room),
        Op::Unary(unary) => {
            // The order of the elements does not matter.
            let function = Function::Unary(*unary);
            let chain =
                Chain::new(&[Member::Function(function, 0)]).filter(|_| function.is_known())?;
            let items = x.f32s()?;
            let (mut y, mut scratch) = (room.take(items.len()), room.take(SCRATCH));
            y.copy_from_slice(items);
            chain.run(&mut y, 0, &[], &mut scratch);
            room.give_items(scratch);
            if x.is_channels_last() { Held::image(x.shape(), y) } else { Held::made(x.shape(), y) }
        }
        _ => None,
    }
}

/// Nodes that take rows.
fn rows(op: &Op, inputs: &[Option<&Value>], room: &mut Room) -> Option<Held> {
    let get = |at: usize| inputs.get(at).copied().flatten();
    let x = get(0)?;
    match op {
        Op::MatMul => product::matmul(x, get(1)?, room),
        Op::Binary(op) => {
            let second = get(1)?;
            let (a, b) = (x.f32s().ok()?, second.f32s().ok()?);
            let (shape, y) = arrange::pair(*op, (a, x.shape()), (b, second.shape()), room)?;
            Held::made(&shape, y)
        }
        Op::Transpose { perm: Some(perm) } => arrange::transpose(x, perm, room),
        Op::Softmax { kind: Softmax::Softmax, axis: at, flat: false } => {
            let items = x.f32s().ok()?;
            let last = axis(*at, x.rank()).ok()? + 1 == x.rank();
            let mut y = room.take(items.len());
            y.copy_from_slice(items);
            norm::softmax(&mut y, *x.shape().last().filter(|&&width| last && width > 0)?);
            Held::made(x.shape(), y)
        }
        Op::LayerNorm { axis: at, eps } => {
            let how = Shift { centred: true, eps: narrow(*eps) };
            layer(x, (get(1)?, get(2)), *at, how, room)
        }
        Op::RmsNorm { axis: at, eps } => {
            let how = Shift { centred: false, eps: narrow(*eps) };
            layer(x, (get(1)?, None), *at, how, room)
        }
        _ => None,
    }
}

fn layer(
    x: &Value,
    (scale, bias): (&Value, Option<&Value>),
    at: i64,
    how: Shift,
    room: &mut Room,
) -> Option<Held> {
    let (items, &width) = (x.f32s().ok()?, x.shape().last()?);
    let fits = |value: &Value| value.shape() == [width];
    let last = axis(at, x.rank()).ok()? + 1 == x.rank();
    if !last || width == 0 || !fits(scale) || bias.is_some_and(|bias| !fits(bias)) {
        return None;
    }
    let bias = if let Some(bias) = bias { Some(bias.f32s().ok()?) } else { None };
    let mut y = room.take(items.len());
    norm::layer(items, scale.f32s().ok()?, bias, how, &mut y);
    Held::made(x.shape(), y)
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
fn narrow(number: f64) -> f32 {
    number as f32
}
