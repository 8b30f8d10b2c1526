//! The same elements in another arrangement: shapes, axes, parts, cells around.
//!
//! Nothing is computed, so all types are alike: each function lists places and picks. Start anywhere.

use super::super::op::PadMode;
use super::super::value::{Data, OpError, OpResult, Value, axes, axis, elements, strides, wrong};
use super::broadcast::Places;

/// Parts that a tensor is split into at most.
const PARTS_MAX: usize = 1 << 16;

/// Side of a block of cells that become channels, at most.
const BLOCK_MAX: usize = 1 << 12;

/// The shape that was asked for: 0 copies, -1 is what is left.
pub(super) fn reshape(x: &Value, to: &[i64], zeros: bool) -> OpResult<Value> {
    let mut shape = Vec::with_capacity(to.len());
    let mut open = None;
    for (at, &side) in to.iter().enumerate() {
        shape.push(match side {
            0 if !zeros => *x.shape().get(at).ok_or_else(|| {
                OpError::Misfit(format!(
                    "{to:?} copies axis {at}, which {:?} does not have",
                    x.shape()
                ))
            })?,
            -1 if open.is_none() => {
                open = Some(at);
                1
            }
            _ => side_of(side)?,
        });
    }
    if let Some(at) = open {
        let rest = elements(&shape)?;
        if rest == 0 || !x.len().is_multiple_of(rest) {
            return wrong(format!("cannot reshape {:?} to {to:?}", x.shape()));
        }
        shape[at] = x.len() / rest;
    }
    x.clone().reshaped(shape)
}

pub(super) fn side_of(side: i64) -> OpResult<usize> {
    usize::try_from(side).map_err(|_| OpError::Misfit(format!("a side of {side} cells")))
}

/// Axes in another order.
pub(super) fn transpose(x: &Value, perm: Option<&[usize]>) -> OpResult<Value> {
    let reversed: Vec<usize> = (0..x.rank()).rev().collect();
    let perm = perm.unwrap_or(&reversed);
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    if sorted != (0..x.rank()).collect::<Vec<_>>() {
        return wrong(format!("{perm:?} is no order of {} axes", x.rank()));
    }
    let own = strides(x.shape());
    let shape: Vec<usize> = perm.iter().map(|&at| x.shape()[at]).collect();
    let places = Places::new(&shape, perm.iter().map(|&at| own[at]).collect(), 0);
    let data = x.data().pick(places);
    Value::new(shape, data)
}

/// Two axes.
pub(super) fn flatten(x: &Value, first: i64) -> OpResult<Value> {
    let rank = i64::try_from(x.rank()).unwrap_or(i64::MAX);
    let at = if first < 0 { first + rank } else { first };
    let at = usize::try_from(at).ok().filter(|&at| at <= x.rank());
    let Some(at) = at else { return wrong(format!("axis {first} is no axis of {rank}")) };
    let rows: usize = x.shape()[..at].iter().product();
    let columns: usize = x.shape()[at..].iter().product();
    x.clone().reshaped(vec![rows, columns])
}

/// Without axes of length 1.
pub(super) fn squeeze(x: &Value, which: Option<&[i64]>) -> OpResult<Value> {
    let gone = match which {
        Some(which) if !which.is_empty() => axes(which, x.rank())?,
        _ => (0..x.rank()).filter(|&at| x.shape()[at] == 1).collect(),
    };
    if gone.iter().any(|&at| x.shape()[at] != 1) {
        return wrong(format!("an axis of {:?} to be squeezed is not 1", x.shape()));
    }
    let keep = (0..x.rank()).filter(|at| !gone.contains(at));
    let shape = keep.map(|at| x.shape()[at]).collect();
    x.clone().reshaped(shape)
}

/// With axes of length 1.
pub(super) fn unsqueeze(x: &Value, which: &[i64]) -> OpResult<Value> {
    let rank = x.rank() + which.len();
    let new = if which.is_empty() { Vec::new() } else { axes(which, rank)? };
    let mut old = x.shape().iter();
    let side = |at| if new.contains(&at) { 1 } else { *old.next().unwrap_or(&1) };
    let shape = (0..rank).map(side).collect();
    x.clone().reshaped(shape)
}

/// Repeated along each axis.
pub(super) fn tile(x: &Value, repeats: &[i64]) -> OpResult<Value> {
    if repeats.len() != x.rank() {
        return wrong(format!("{} repeats for {} axes", repeats.len(), x.rank()));
    }
    let repeats = repeats.iter().map(|&times| side_of(times)).collect::<OpResult<Vec<_>>>()?;
    let shape: Vec<usize> =
        x.shape().iter().zip(&repeats).map(|(a, b)| a.saturating_mul(*b)).collect();
    gather_by(x, &shape, |at, index| index % x.shape()[at])
}

/// Each axis of the result on its own says where it takes its elements from.
fn gather_by(x: &Value, shape: &[usize], from: impl Fn(usize, usize) -> usize) -> OpResult<Value> {
    let n = elements(shape)?;
    let own = strides(x.shape());
    let tables: Vec<Vec<usize>> = (0..shape.len())
        .map(|at| (0..shape[at]).map(|index| from(at, index) * own[at]).collect())
        .collect();
    let mut places = Vec::with_capacity(n);
    if n > 0 {
        visit(&tables, 0, &mut places);
    }
    let data = x.data().pick(places.into_iter());
    Value::new(shape.to_vec(), data)
}

fn visit(tables: &[Vec<usize>], base: usize, out: &mut Vec<usize>) {
    match tables {
        [] => out.push(base),
        [last] => out.extend(last.iter().map(|at| base + at)),
        [first, rest @ ..] => first.iter().for_each(|at| visit(rest, base + at, out)),
    }
}

/// Side by side.
pub(super) fn concat(values: &[&Value], at: i64) -> OpResult<Value> {
    let [first, ..] = values else { return wrong("it reads nothing") };
    let at = axis(at, first.rank())?;
    let mut shape = first.shape().to_vec();
    shape[at] = 0;
    for value in values {
        let agree = value.rank() == first.rank()
            && value.dtype() == first.dtype()
            && (0..first.rank()).all(|i| i == at || value.shape()[i] == first.shape()[i]);
        if !agree {
            return wrong(format!("{:?} and {:?} cannot be joined", first.shape(), value.shape()));
        }
        shape[at] += value.shape()[at];
    }
    elements(&shape)?;
    let outer: usize = shape[..at].iter().product();
    let mut data = Data::zeros(first.dtype(), 0);
    for row in 0..outer {
        for value in values {
            let width: usize = value.shape()[at..].iter().product();
            data.append(value.data(), row * width..(row + 1) * width);
        }
    }
    Value::new(shape, data)
}

/// Apart.
pub(super) fn split(
    x: &Value,
    at: i64,
    lengths: Option<&[i64]>,
    parts: usize,
) -> OpResult<Vec<Value>> {
    let at = axis(at, x.rank())?;
    let side = x.shape()[at];
    if parts > x.shape()[at].max(1) * 2 && lengths.is_none() || parts > PARTS_MAX {
        return wrong(format!("{side} cells cannot be split into {parts} parts"));
    }
    let lengths = match lengths {
        Some(lengths) => lengths.iter().map(|&one| side_of(one)).collect::<OpResult<Vec<_>>>()?,
        None => {
            let most = side.div_ceil(parts.max(1));
            (0..parts).map(|part| most.min(side.saturating_sub(part * most))).collect()
        }
    };
    if lengths.iter().try_fold(0usize, |sum, &one| sum.checked_add(one)) != Some(side)
        || lengths.len() != parts
    {
        return wrong(format!("{side} cells cannot be split into {lengths:?}, {parts} parts"));
    }
    let mut start = 0;
    let mut out = Vec::with_capacity(parts);
    for length in lengths {
        let mut shape = x.shape().to_vec();
        shape[at] = length;
        out.push(gather_by(x, &shape, |axis, i| if axis == at { start + i } else { i })?);
        start += length;
    }
    Ok(out)
}

/// From, to, step along some axes. Ends beyond the tensor are its ends.
pub(super) fn slice(
    x: &Value,
    from: &[i64],
    to: &[i64],
    which: Option<&[i64]>,
    steps: Option<&[i64]>,
) -> OpResult<Value> {
    let all: Vec<i64> = (0..).take(from.len()).collect();
    let ones = vec![1; from.len()];
    let (which, steps) = (which.unwrap_or(&all), steps.unwrap_or(&ones));
    if [to.len(), which.len(), steps.len()] != [from.len(); 3] {
        return wrong("starts, ends, axes and steps have different lengths");
    }
    let mut shape = x.shape().to_vec();
    let mut cuts = vec![(0i64, 1i64); x.rank()];
    for i in 0..from.len() {
        let at = axis(which[i], x.rank())?;
        let side = i64::try_from(x.shape()[at]).unwrap_or(i64::MAX);
        let step = steps[i];
        if step == 0 {
            return wrong("a step of 0");
        }
        let wrap = |place: i64| if place < 0 { place.saturating_add(side) } else { place };
        let (first, last) = if step > 0 {
            (wrap(from[i]).clamp(0, side), wrap(to[i]).clamp(0, side))
        } else {
            (wrap(from[i]).clamp(-1, side - 1), wrap(to[i]).clamp(-1, side - 1))
        };
        let span = (i128::from(last) - i128::from(first)) * i128::from(step.signum());
        let length =
            span.max(0).div_euclid(1).unsigned_abs().div_ceil(i128::from(step).unsigned_abs());
        shape[at] = usize::try_from(length).unwrap_or(usize::MAX);
        cuts[at] = (first, step);
    }
    gather_by(x, &shape, |at, index| {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        usize::try_from(cuts[at].0 + index * cuts[at].1).unwrap_or(0)
    })
}

/// Cells around; a negative number takes cells away.
pub(super) fn pad(
    x: &Value,
    pads: &[i64],
    value: Option<&Value>,
    which: Option<&[i64]>,
    mode: PadMode,
) -> OpResult<Value> {
    let named = which.map_or_else(
        || Ok((0..x.rank()).collect()),
        |which| which.iter().map(|&one| axis(one, x.rank())).collect::<OpResult<Vec<_>>>(),
    )?;
    if pads.len() != 2 * named.len() {
        return wrong(format!("{} pads for {} axes", pads.len(), named.len()));
    }
    let mut around = vec![(0i64, 0i64); x.rank()];
    for (i, &at) in named.iter().enumerate() {
        around[at] = (pads[i], pads[named.len() + i]);
    }
    let sides: Vec<i64> = x.shape().iter().map(|&s| i64::try_from(s).unwrap_or(i64::MAX)).collect();
    let total = |at: usize| {
        let side = sides[at].checked_add(around[at].0).and_then(|s| s.checked_add(around[at].1));
        side_of(side.unwrap_or(-1))
    };
    let shape = (0..x.rank()).map(total).collect::<OpResult<Vec<_>>>()?;
    if mode != PadMode::Constant && (0..x.rank()).any(|at| sides[at] == 0 && shape[at] > 0) {
        return wrong("an empty axis has nothing to pad with");
    }
    // With the padding value as one more element at the end, a constant is a place like any other.
    let fill = match value {
        Some(value) if value.len() == 1 && value.dtype() == x.dtype() => value.data().clone(),
        Some(value) => return wrong(format!("a padding value of shape {:?}", value.shape())),
        None => Data::zeros(x.dtype(), 1),
    };
    let mut data = x.data().clone();
    data.append(&fill, 0..1);
    let own = strides(x.shape());
    let outside = x.len();
    let place = |at: usize, index: usize| {
        let index = i64::try_from(index).unwrap_or(i64::MAX).saturating_sub(around[at].0);
        padded(index, sides[at], mode)
    };
    let n = elements(&shape)?;
    let mut places = Vec::with_capacity(n);
    let mut index = vec![0usize; shape.len()];
    for _ in 0..n {
        let mut sum = Some(0);
        for at in 0..shape.len() {
            let one = place(at, index[at]);
            sum = sum.zip(one).map(|(sum, one)| sum + one * own[at]);
        }
        places.push(sum.unwrap_or(outside));
        step(&mut index, &shape);
    }
    Value::new(shape, data.pick(places.into_iter()))
}

/// Where along an axis a cell comes from; none: it is the constant.
fn padded(index: i64, side: i64, mode: PadMode) -> Option<usize> {
    let inside = (0..side).contains(&index);
    let from = match mode {
        _ if inside => index,
        PadMode::Constant => return None,
        PadMode::Edge => index.clamp(0, side - 1),
        PadMode::Wrap => index.rem_euclid(side),
        PadMode::Reflect if side == 1 => 0,
        PadMode::Reflect => {
            let period = 2 * (side - 1);
            let at = index.rem_euclid(period);
            at.min(period - at)
        }
    };
    usize::try_from(from).ok()
}

/// The next index of a shape, last axis fastest.
pub(super) fn step(index: &mut [usize], shape: &[usize]) {
    for at in (0..shape.len()).rev() {
        index[at] += 1;
        if index[at] < shape[at] {
            return;
        }
        index[at] = 0;
    }
}

/// Centre cropped or padded to sides.
pub(super) fn center(x: &Value, sides: &[i64], which: &[i64]) -> OpResult<Value> {
    let named = if which.is_empty() {
        (0..x.rank()).collect()
    } else {
        which.iter().map(|&one| axis(one, x.rank())).collect::<OpResult<Vec<_>>>()?
    };
    if named.len() != sides.len() {
        return wrong(format!("{} sides for {} axes", sides.len(), named.len()));
    }
    let mut pads = vec![0i64; 2 * x.rank()];
    for (&at, &side) in named.iter().zip(sides) {
        let have = i64::try_from(x.shape()[at]).unwrap_or(i64::MAX);
        side_of(side)?;
        let more = side - have;
        // An odd cell is added behind and taken away in front.
        let before = if more > 0 { more / 2 } else { -((-more) / 2) };
        (pads[at], pads[x.rank() + at]) = (before, more - before);
    }
    pad(x, &pads, None, None, PadMode::Constant)
}

/// Channels to blocks of cells.
pub(super) fn depth_to_space(x: &Value, block: usize, crd: bool) -> OpResult<Value> {
    let [n, c, h, w] = *x.shape() else { return wrong("it reads [n, c, h, w]") };
    if block == 0 || block > BLOCK_MAX || !c.is_multiple_of(block * block) {
        return wrong(format!("{c} channels cannot make blocks of {block} by {block}"));
    }
    let depth = c / (block * block);
    let (apart, order): (Vec<usize>, [usize; 6]) = if crd {
        (vec![n, depth, block, block, h, w], [0, 1, 4, 2, 5, 3])
    } else {
        (vec![n, block, block, depth, h, w], [0, 3, 4, 1, 5, 2])
    };
    let mixed = transpose(&x.clone().reshaped(apart)?, Some(&order))?;
    mixed.reshaped(vec![n, depth, h * block, w * block])
}

/// Blocks of cells to channels.
pub(super) fn space_to_depth(x: &Value, block: usize) -> OpResult<Value> {
    let [n, c, h, w] = *x.shape() else { return wrong("it reads [n, c, h, w]") };
    if block == 0 || block > BLOCK_MAX || !h.is_multiple_of(block) || !w.is_multiple_of(block) {
        return wrong(format!("{h} by {w} cells are no blocks of {block} by {block}"));
    }
    let apart = vec![n, c, h / block, block, w / block, block];
    let mixed = transpose(&x.clone().reshaped(apart)?, Some(&[0, 3, 5, 1, 2, 4]))?;
    mixed.reshaped(vec![n, c * block * block, h / block, w / block])
}

/// Reversed along the time axis up to each length.
pub(super) fn reverse_sequence(
    x: &Value,
    lengths: &[i64],
    batch_axis: usize,
    time_axis: usize,
) -> OpResult<Value> {
    let (Some(&batch), Some(&time)) = (x.shape().get(batch_axis), x.shape().get(time_axis)) else {
        return wrong("it reads a batch and a time axis");
    };
    let lengths = lengths.iter().map(|&one| side_of(one)).collect::<OpResult<Vec<_>>>()?;
    if batch_axis == time_axis || lengths.len() != batch || lengths.iter().any(|&l| l > time) {
        return wrong(format!("lengths {lengths:?} do not fit {:?}", x.shape()));
    }
    let own = strides(x.shape());
    let mut index = vec![0; x.rank()];
    let mut places = Vec::with_capacity(x.len());
    for _ in 0..x.len() {
        let (at, length) = (index[time_axis], lengths[index[batch_axis]]);
        let from = if at < length { length - 1 - at } else { at };
        let place: usize = index.iter().zip(&own).map(|(i, stride)| i * stride).sum();
        places.push(place - at * own[time_axis] + from * own[time_axis]);
        step(&mut index, x.shape());
    }
    Value::new(x.shape().to_vec(), x.data().pick(places.into_iter()))
}
