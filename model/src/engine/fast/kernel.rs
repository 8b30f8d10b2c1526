//! Matrix products on row-major slices, as the three passes of a linear layer need them.
//!
//! Plain loops over whole rows, which the compiler vectorises without being allowed to reorder a
//! float: each sum runs over its terms in blocks of four from first to last, whatever the batch and
//! whichever loop is the outer one. Widths are never zero (a checked spec has no empty axis).
//! Single precision serves training; sums of clipped rows are kept in double precision.

use std::ops::{Add, AddAssign, Mul};

/// Rows that share one pass over the sum.
const BLOCK: usize = 4;

/// `f32` or `f64`.
pub(super) trait Number:
    Copy + Default + Add<Output = Self> + Mul<Output = Self> + AddAssign
{
}

impl Number for f32 {}
impl Number for f64 {}

/// `sum[j, :] += Σₖ factors[j, k] · rows[k, :]`, where rows and sums have `width` elements.
///
/// It runs on the widest vectors of the processor, which changes no bit: elements of a row have nothing
/// to do with one another, and nothing is multiplied and added in one step.
pub(super) fn add_product<T: Number>(factors: &[T], rows: &[T], width: usize, sum: &mut [T]) {
    pulp::Arch::new().dispatch(AddProduct { factors, rows, width, sum });
}

struct AddProduct<'a, T> {
    factors: &'a [T],
    rows: &'a [T],
    width: usize,
    sum: &'a mut [T],
}

impl<T: Number> pulp::NullaryFnOnce for AddProduct<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { factors, rows, width, sum } = self;
        let n_rows = rows.len() / width;
        // The larger of the two matrices is walked through once, the smaller one stays in the cache.
        if sum.len() > rows.len() {
            for (factors, sum) in factors.chunks_exact(n_rows).zip(sum.chunks_exact_mut(width)) {
                for k in (0..n_rows).step_by(BLOCK) {
                    add_rows(&factors[k..], &rows[k * width..], sum);
                }
            }
        } else {
            for k in (0..n_rows).step_by(BLOCK) {
                let sums = sum.chunks_exact_mut(width);
                for (factors, sum) in factors.chunks_exact(n_rows).zip(sums) {
                    add_rows(&factors[k..], &rows[k * width..], sum);
                }
            }
        }
    }
}

/// Adds the next four rows by their factors, or as many as there are.
#[inline(always)]
fn add_rows<T: Number>(factors: &[T], rows: &[T], sum: &mut [T]) {
    let width = sum.len();
    let Some(block) = rows.get(..BLOCK * width) else {
        for (factor, row) in factors.iter().zip(rows.chunks_exact(width)) {
            for (sum, value) in sum.iter_mut().zip(row) {
                *sum += *factor * *value;
            }
        }
        return;
    };
    let [f0, f1, f2, f3] = [factors[0], factors[1], factors[2], factors[3]];
    let (r0, rest) = block.split_at(width);
    let (r1, rest) = rest.split_at(width);
    let (r2, r3) = rest.split_at(width);
    let rows = r0.iter().zip(r1).zip(r2.iter().zip(r3));
    for (sum, ((v0, v1), (v2, v3))) in sum.iter_mut().zip(rows) {
        *sum += (f0 * *v0 + f1 * *v1) + (f2 * *v2 + f3 * *v3);
    }
}

/// `to[j, i] = from[i, j]`, where rows of `from` have `width` elements.
pub(super) fn transpose<T: Copy>(from: &[T], width: usize, to: &mut [T]) {
    /// Rows that are read together, so that what is written lies together.
    const ROWS: usize = 16;
    let height = from.len() / width;
    for (block, from) in from.chunks(ROWS * width).enumerate() {
        let (first, rows) = (block * ROWS, from.len() / width);
        for (j, to) in to.chunks_exact_mut(height).enumerate() {
            let to = &mut to[first..first + rows];
            for (to, from) in to.iter_mut().zip(from[j..].iter().step_by(width)) {
                *to = *from;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_known_answers_for_every_remainder() {
        for (j, k, width) in [(1, 1, 1), (2, 3, 4), (3, 4, 2), (5, 6, 1), (1, 9, 7), (9, 1, 3)] {
            let factors: Vec<f32> = (0..j * k).map(|i| (i % 5) as f32 - 2.0).collect();
            let rows: Vec<f32> = (0..k * width).map(|i| (i % 7) as f32 - 3.0).collect();
            let mut sum = vec![1.0; j * width];
            add_product(&factors, &rows, width, &mut sum);
            for (at, found) in sum.iter().enumerate() {
                let (row, column) = (at / width, at % width);
                let term = |i: usize| factors[row * k + i] * rows[i * width + column];
                assert_eq!(*found, 1.0 + (0..k).map(term).sum::<f32>(), "{j} {k} {width} {at}");
            }
        }
    }

    #[test]
    fn transposing_twice_gives_the_same() {
        let from: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let (mut once, mut twice) = (vec![0.0; 12], vec![0.0; 12]);
        transpose(&from, 4, &mut once);
        assert_eq!(once[..4], [0.0, 4.0, 8.0, 1.0]);
        transpose(&once, 3, &mut twice);
        assert_eq!(twice, from);
    }
}
