//! Elements in another order or stretched: transposes, and pairs of values of different shapes.
//!
//! Start at [`transpose`] and [`pair`].

use super::held::{Held, Room, turn};
use super::math::{vector_work, vectorised};
use super::pointwise;
use crate::program::op::{Binary, TensorOp as Op};
use crate::program::ops::broadcast::{Places, broadcast, stretched};
use crate::program::value::{Value, axis, elements, strides};

/// Axes in another order.
pub(super) fn transpose(x: &Value, perm: &[usize], room: &mut Room) -> Option<Held> {
    let items = x.f32s().ok()?;
    let mut seen = vec![false; x.rank()];
    perm.iter().for_each(|&axis| seen.get_mut(axis).into_iter().for_each(|seen| *seen = true));
    if perm.len() != x.rank() || seen.contains(&false) || items.is_empty() {
        return None;
    }
    let own = strides(x.shape());
    let shape: Vec<usize> = perm.iter().map(|&axis| x.shape()[axis]).collect();
    let steps: Vec<usize> = perm.iter().map(|&axis| own[axis]).collect();
    let mut y = room.take(items.len());
    // Axes at the end that stay are runs; else the last two of the result are turned as matrices.
    let kept = (0..perm.len()).rev().take_while(|&at| perm[at] == at).count();
    let outer = perm.len() - kept;
    let run: usize = shape[outer..].iter().product();
    if kept > 0 || outer < 2 {
        let places = Places::new(&shape[..outer], steps[..outer].to_vec(), 0);
        for (y, from) in y.chunks_exact_mut(run).zip(places) {
            y.copy_from_slice(&items[from..from + run]);
        }
        return Held::made(&shape, y);
    }
    let [lines, width] = [shape[outer - 2], shape[outer - 1]];
    let [line_step, step] = [steps[outer - 2], steps[outer - 1]];
    let places = Places::new(&shape[..outer - 2], steps[..outer - 2].to_vec(), 0);
    for (y, from) in y.chunks_exact_mut(lines * width).zip(places) {
        if line_step == 1 && step == lines {
            turn(&items[from..from + lines * width], y, [1, width, lines]);
            continue;
        }
        for (line, y) in y.chunks_exact_mut(width).enumerate() {
            let from = items[from + line * line_step..].iter().step_by(step);
            y.iter_mut().zip(from).for_each(|(y, x)| *y = *x);
        }
    }
    Held::made(&shape, y)
}

/// Elements and the shape that they lie in.
pub(super) type Laid<'a> = (&'a [f32], &'a [usize]);

/// Two values, element by element, stretched to one another; gives their common shape as well.
pub(super) fn pair(
    op: Binary,
    a: Laid<'_>,
    b: Laid<'_>,
    room: &mut Room,
) -> Option<(Vec<usize>, Vec<f32>)> {
    let ((left, a), (right, b)) = (a, b);
    let shape = broadcast(&[a, b]).ok()?;
    let steps = [stretched(a, &shape), stretched(b, &shape)];
    let (&width, outer) = shape.split_last()?;
    if shape.contains(&0) || !pointwise::is_known(op) {
        return None;
    }
    let mut y = room.take(shape.iter().product());
    let last = outer.len();
    let lines = |steps: &[usize]| Places::new(outer, steps[..last].to_vec(), 0);
    let ends = steps.each_ref().map(|steps| steps[last]);
    let places = lines(&steps[0]).zip(lines(&steps[1]));
    vectorised(PairLines((op, places, [left, right], ends, &mut y[..], width)));
    Some((shape, y))
}

/// Lines of the last axis: whether the values have cells there, and where each line begins.
type Lines<'a> =
    (Binary, std::iter::Zip<Places, Places>, [&'a [f32]; 2], [usize; 2], &'a mut [f32], usize);

vector_work!(PairLines<'a>, lines_of, Lines<'a>);

#[inline(always)]
fn lines_of((op, places, [left, right], ends, y, width): Lines<'_>) {
    for (y, (i, j)) in y.chunks_exact_mut(width).zip(places) {
        match ends {
            [_, 0] if width > 1 => {
                y.copy_from_slice(&left[i..i + width]);
                pointwise::combine_number(op, y, right[j], false);
            }
            [0, _] if width > 1 => {
                y.copy_from_slice(&right[j..j + width]);
                pointwise::combine_number(op, y, left[i], true);
            }
            _ => {
                y.copy_from_slice(&left[i..i + width]);
                pointwise::combine(op, y, &right[j..j + width], false);
            }
        }
    }
}

/// The shape of the same elements under another one, for the operations that do only that.
pub(super) fn reshaped(op: &Op, x: &[usize], second: Option<&Value>) -> Option<Vec<usize>> {
    let count: usize = x.iter().product();
    let shape = match op {
        Op::Identity => x.to_vec(),
        Op::Flatten { axis: at } => {
            let rank = i64::try_from(x.len()).ok()?;
            let at = usize::try_from(if *at < 0 { at.checked_add(rank)? } else { *at }).ok()?;
            let (before, after) = (x.get(..at)?, x.get(at..)?);
            vec![before.iter().product(), after.iter().product()]
        }
        Op::Reshape { zeros: false } => {
            let wanted = second?.to_i64s().ok()?;
            let side = |(at, &side): (usize, &i64)| match side {
                0 => x.get(at).copied(),
                -1 => Some(1),
                _ => usize::try_from(side).ok(),
            };
            let mut shape = wanted.iter().enumerate().map(side).collect::<Option<Vec<_>>>()?;
            if let Some(free) = wanted.iter().position(|&side| side == -1) {
                let rest = elements(&shape).ok().filter(|&rest| rest > 0)?;
                shape[free] = count / rest;
            }
            shape
        }
        Op::Unsqueeze => {
            let axes = second?.to_i64s().ok()?;
            let rank = x.len() + axes.len();
            let mut own = x.iter();
            let axes = axes.iter().map(|&at| axis(at, rank).ok()).collect::<Option<Vec<_>>>()?;
            (0..rank)
                .map(|at| if axes.contains(&at) { Some(1) } else { own.next().copied() })
                .collect::<Option<_>>()?
        }
        Op::Squeeze => {
            let axes = second?.to_i64s().ok()?;
            let axes = axes.iter().map(|&at| axis(at, x.len()).ok()).collect::<Option<Vec<_>>>()?;
            let gone = |at: &usize| axes.contains(at);
            axes.iter().all(|&at| x[at] == 1).then_some(())?;
            (0..x.len()).filter(|at| !gone(at)).map(|at| x[at]).collect()
        }
        _ => return None,
    };
    (elements(&shape).ok()? == count).then_some(shape)
}
