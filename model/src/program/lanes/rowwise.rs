//! Which operations go row by row: for stacked inputs they give the stacked outputs, however many rows
//! there are. What is not known to is taken not to.
//!
//! Start at [`is`].

use crate::program::op::TensorOp as Op;
use crate::program::value::Value;

/// An input of a node as one lane has it.
pub(super) struct Input<'a> {
    pub(super) value: &'a Value,
    /// The same for all lanes; else rows, which are stacked along the first axis.
    pub(super) fixed: bool,
    /// Not to be stacked.
    pub(super) own: bool,
}

type Inputs<'i, 'a> = &'i [Option<Input<'a>>];

/// Whether an operation goes row by row on these inputs, none of which is [own](Input::own).
pub(super) fn is(op: &Op, x: Inputs<'_, '_>) -> bool {
    let Some(first) = input(x, 0) else { return false };
    let rank = first.value.rank();
    let behind = |axis: i64| place(axis, rank).is_some_and(|axis| axis > 0);
    // Only the first is rows.
    let led = !first.fixed && x.iter().skip(1).flatten().all(|input| input.fixed);
    match op {
        Op::Unary(_) | Op::Cast(_) | Op::Identity | Op::Clip => led,
        Op::Binary(_) | Op::Fold(_) | Op::Where => stretches(x),
        Op::MatMul => product(x),
        Op::Gemm { trans_a: false, .. } => {
            led && input(x, 2).is_none_or(|c| c.value.rank() < 2 || c.value.shape()[0] == 1)
        }
        Op::Conv { .. }
        | Op::ConvTranspose { .. }
        | Op::Pool { .. }
        | Op::GlobalPool(_)
        | Op::BatchNorm { .. }
        | Op::InstanceNorm { .. }
        | Op::GroupNorm { .. }
        | Op::Lrn { .. }
        | Op::DepthToSpace { .. }
        | Op::SpaceToDepth { .. } => led && rank >= 3,
        Op::LayerNorm { axis, .. } | Op::RmsNorm { axis, .. } => {
            led && behind(*axis) && flat(x, rank)
        }
        Op::Softmax { axis, .. } | Op::LpNorm { axis, .. } | Op::ArgExtreme { axis, .. } => {
            led && behind(*axis)
        }
        Op::Reduce { .. } => {
            led && axes(x, 1).is_some_and(|axes| !axes.is_empty() && axes.into_iter().all(behind))
        }
        Op::TopK { axis, .. } => led && behind(*axis),
        Op::Split { axis, .. } => led && behind(*axis),
        Op::Concat { axis } => {
            behind(*axis)
                && x.iter().flatten().all(|input| !input.fixed && input.value.rank() == rank)
        }
        Op::Slice => led && axes(x, 3).is_some_and(|axes| axes.into_iter().all(behind)),
        Op::Gather { axis } => gather(x, *axis),
        _ => led && arranges(op, x, rank),
    }
}

/// Other arrangements that leave the first axis alone.
fn arranges(op: &Op, x: Inputs<'_, '_>, rank: usize) -> bool {
    let behind = |axis: i64| place(axis, rank).is_some_and(|axis| axis > 0);
    match op {
        Op::Reshape { zeros: false } => reshape(x),
        Op::Transpose { perm: Some(perm) } => perm.first() == Some(&0),
        Op::Flatten { axis } => rank > 1 && place(*axis, rank) == Some(1),
        Op::Squeeze => axes(x, 1).is_some_and(|axes| axes.into_iter().all(behind)),
        Op::Unsqueeze => axes(x, 1).is_some_and(|axes| {
            let rank = rank + axes.len();
            axes.into_iter().all(|axis| place(axis, rank).is_some_and(|axis| axis > 0))
        }),
        _ => false,
    }
}

fn input<'i, 'a>(x: Inputs<'i, 'a>, at: usize) -> Option<&'i Input<'a>> {
    x.get(at)?.as_ref()
}

fn place(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let at = if axis < 0 { axis + rank } else { axis };
    (0..rank).contains(&at).then(|| usize::try_from(at).ok())?
}

/// Axes that are given as a fixed input; left out, nothing is known.
fn axes(x: Inputs<'_, '_>, at: usize) -> Option<Vec<i64>> {
    input(x, at).filter(|input| input.fixed)?.value.to_i64s().ok()
}

/// Rows of one rank, and what is stretched along the rows in the same way for any number of them.
fn stretches(x: Inputs<'_, '_>) -> bool {
    let all = || x.iter().flatten();
    let rank = all().map(|input| input.value.rank()).max().unwrap_or(0);
    rank > 0
        && all().all(|input| {
            let shape = input.value.shape();
            let full = shape.len() == rank;
            if input.fixed { !full || shape[0] == 1 } else { full }
        })
}

/// What a norm scales and shifts by does not lie along the rows.
fn flat(x: Inputs<'_, '_>, rank: usize) -> bool {
    x.iter().skip(1).flatten().all(|by| by.value.rank() < rank)
}

/// Rows times a constant matrix, or matrices of each row times each other.
fn product(x: Inputs<'_, '_>) -> bool {
    let (Some(a), Some(b)) = (input(x, 0), input(x, 1)) else { return false };
    let (left, right) = (a.value.rank(), b.value.rank());
    match (a.fixed, b.fixed) {
        (false, true) => left >= 2 && (right == 2 || (right < left && left >= 3 && right > 2)),
        (false, false) => left >= 3 && left == right,
        _ => false,
    }
}

/// Rows of a constant table, or of each row's own second axis and on.
fn gather(x: Inputs<'_, '_>, axis: i64) -> bool {
    let (Some(table), Some(indices)) = (input(x, 0), input(x, 1)) else { return false };
    let axis = place(axis, table.value.rank());
    match (table.fixed, indices.fixed) {
        (true, false) => axis == Some(0) && indices.value.rank() > 0,
        (false, true) => axis.is_some_and(|axis| axis > 0),
        _ => false,
    }
}

/// Rows stay rows: the first side is copied or what is left, and the others hold a row exactly.
fn reshape(x: Inputs<'_, '_>) -> bool {
    let (Some(from), Some(to)) = (input(x, 0), axes(x, 1)) else { return false };
    let sides = from.value.shape();
    let row: usize = sides.iter().skip(1).product();
    let Some((first, rest)) = to.split_first() else { return false };
    let side = |(at, side): (usize, &i64)| match side {
        0 => sides.get(at + 1).copied(),
        side => usize::try_from(*side).ok(),
    };
    let known: Option<usize> = rest.iter().enumerate().map(side).product();
    match first {
        0 => true,
        -1 => row > 0 && known == Some(row),
        _ => false,
    }
}
