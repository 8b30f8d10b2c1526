//! Matrix products of values: by constant weights, and of two values.
//!
//! Rows go through product and chain a block at a time, so that a block is still in the cache when what
//! follows reads it. Start at [`linear`] and [`matmul`].

use super::held::{Held, Room};
use super::pointwise::{Along, Chain, SCRATCH};
use crate::engine::fused::product::{View, multiply_into};
use crate::program::value::{Value, elements, work};

/// Elements of the result that are computed before the chain runs over them.
const BLOCK: usize = 1 << 16;
/// Rows of a block at least: each block reads all weights anew.
const ROWS_MIN: usize = 64;

/// `x · w` for all rows of `x`, then the chain. `w` is `[k, n]`, or `[n, k]` if it is turned.
pub(super) fn linear(
    x: &Held,
    (weights, turned): (&Value, bool),
    (chain, others): (&Chain, &[&Held]),
    room: &mut Room,
) -> Option<Held> {
    let items = x.as_rows()?.f32s().ok()?;
    let [outer @ .., k] = x.shape() else { return None };
    let &[rows, columns] = weights.shape() else { return None };
    let (same, n) = if turned { (columns, rows) } else { (rows, columns) };
    if same != *k
        || outer.is_empty()
        || chain.period().is_some_and(|period| period != (Along::Last, n))
    {
        return None;
    }
    let shape = [outer, &[n]].concat();
    let len = elements(&shape).ok()?;
    let m: usize = outer.iter().product();
    work(&[m, *k, n]).ok()?;
    let same = |other: &&&Held| other.shape() == shape;
    if others.iter().filter(same).count() != others.len() {
        return None;
    }
    let others =
        others.iter().map(|other| other.as_rows()?.f32s().ok()).collect::<Option<Vec<_>>>()?;
    let weights = View::rows(weights.f32s().ok()?, columns);
    let weights = if turned { weights.turned() } else { weights };
    let mut y = room.take(len);
    if len > 0 && *k == 0 {
        y.fill(0.0);
    }
    let mut scratch = room.take(SCRATCH);
    let block = (BLOCK / n.max(1)).max(ROWS_MIN);
    for (at, y) in y.chunks_mut((block * n).max(1)).enumerate() {
        let first = at * block;
        let m = y.len() / n;
        if *k > 0 {
            let a = View::rows(&items[first * k..(first + m) * k], *k);
            multiply_into(y, n, [m, *k, n], a, weights);
        }
        chain.run(y, first * n, &others, &mut scratch);
    }
    room.give_items(scratch);
    Held::made(&shape, y)
}

/// The product of two values, the axes before the last two stretched.
pub(super) fn matmul(a: &Value, b: &Value, room: &mut Room) -> Option<Held> {
    let (left, right) = (a.f32s().ok()?, b.f32s().ok()?);
    let ([outer_a @ .., m, k], [outer_b @ .., same, n]) = (a.shape(), b.shape()) else {
        return None;
    };
    let (m, k, n) = (*m, *k, *n);
    if *same != k || k == 0 {
        return None;
    }
    let single = outer_b.iter().all(|&side| side == 1) && outer_b.len() <= outer_a.len();
    if outer_a != outer_b && !single {
        return None;
    }
    let outer: usize = outer_a.iter().product();
    // One matrix on the right serves all on the left at once.
    let (outer, m) = if single { (1, outer * m) } else { (outer, m) };
    let shape = [outer_a, &[a.shape()[outer_a.len()], n]].concat();
    let len = elements(&shape).ok()?;
    work(&[len, k]).ok()?;
    let mut y = room.take(len);
    if len > 0 {
        let parts = left.chunks_exact(m * k).zip(right.chunks_exact(k * n));
        for (y, (a, b)) in y.chunks_exact_mut(m * n).zip(parts).take(outer) {
            multiply_into(y, n, [m, k, n], View::rows(a, k), View::rows(b, n));
        }
    }
    Held::made(&shape, y)
}
