//! The linear decoder: ridge regression from what crosses to the input, in closed form.
//!
//! Behind a linear head nothing beats it by much, and it needs few rows; how strongly it is held back is
//! chosen on a quarter of the auxiliary rows. Start at [`Linear::fit`].

use super::scale::single;

/// A matrix from what crosses to the input.
pub(super) struct Linear {
    /// `width` rows of `targets` weights.
    weights: Vec<f64>,
    width: usize,
    targets: usize,
}

/// The widest crossing that it is fitted for, and the most auxiliary rows that it takes.
pub(super) const WIDTH_MAX: usize = 2048;
const ROWS_MAX: usize = 1024;
/// Ridges that are tried, in shares of the rows.
const RIDGES: [f64; 5] = [1e-6, 1e-4, 1e-2, 1e-1, 1.0];

impl Linear {
    /// Fits rows on scale: `x` of `width` numbers, `y` of `targets`. `None` where it would take too long.
    pub(super) fn fit(x: &[f32], y: &[f32], width: usize, targets: usize) -> Option<Self> {
        let rows = (x.len() / width).min(ROWS_MAX);
        if width > WIDTH_MAX || rows < 8 {
            return None;
        }
        let (x, y) = (&x[..rows * width], &y[..rows * targets]);
        let learn = rows - rows / 4;
        let (x1, x2) = x.split_at(learn * width);
        let (y1, y2) = y.split_at(learn * targets);
        let error = |ridge: f64| {
            let guess = Self::solve(x1, y1, [width, targets], ridge)?.apply(x2);
            Some(guess.iter().zip(y2).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>())
        };
        let tried = RIDGES.iter().filter_map(|&ridge| Some((error(ridge)?, ridge)));
        let (_, ridge) = tried.min_by(|a, b| a.0.total_cmp(&b.0))?;
        Self::solve(x, y, [width, targets], ridge)
    }

    /// Least squares with a ridge, over the smaller of the two Gram matrices.
    fn solve(x: &[f32], y: &[f32], [width, targets]: [usize; 2], ridge: f64) -> Option<Self> {
        let rows = x.len() / width;
        let ridge = ridge * rows as f64;
        let weights = if width <= rows {
            let columns = transposed(x, width);
            let right = product(&columns, &transposed(y, targets), rows);
            cholesky_solve(gram(&columns, rows, ridge), right, targets)?
        } else {
            let dual = cholesky_solve(gram(x, width, ridge), doubles(y), targets)?;
            let mut weights = vec![0.0; width * targets];
            for (row, dual) in x.chunks_exact(width).zip(dual.chunks_exact(targets)) {
                for (&x, weights) in row.iter().zip(weights.chunks_exact_mut(targets)) {
                    weights.iter_mut().zip(dual).for_each(|(w, d)| *w += f64::from(x) * d);
                }
            }
            weights
        };
        Some(Self { weights, width, targets })
    }

    /// Reconstructs rows.
    pub(super) fn apply(&self, x: &[f32]) -> Vec<f32> {
        let mut out = Vec::with_capacity(x.len() / self.width * self.targets);
        let mut sum = vec![0.0f64; self.targets];
        for row in x.chunks_exact(self.width) {
            sum.fill(0.0);
            for (&x, weights) in row.iter().zip(self.weights.chunks_exact(self.targets)) {
                sum.iter_mut().zip(weights).for_each(|(sum, w)| *sum += f64::from(x) * w);
            }
            out.extend(sum.iter().map(|&sum| single(sum)));
        }
        out
    }
}

fn doubles(items: &[f32]) -> Vec<f64> {
    items.iter().map(|&x| f64::from(x)).collect()
}

fn transposed(items: &[f32], width: usize) -> Vec<f32> {
    let columns = (0..width).flat_map(|column| items.iter().skip(column).step_by(width));
    columns.copied().collect()
}

/// Products of each row of `a` with each row of `b`, rows of `len`.
fn product(a: &[f32], b: &[f32], len: usize) -> Vec<f64> {
    let dots = a.chunks_exact(len).flat_map(|a| b.chunks_exact(len).map(move |b| dot(a, b)));
    dots.collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// The lower half of the products of rows with each other, a ridge on the diagonal.
fn gram(rows: &[f32], len: usize, ridge: f64) -> Vec<f64> {
    let n = rows.len() / len;
    let mut out = vec![0.0; n * n];
    for (at, a) in rows.chunks_exact(len).enumerate() {
        for (other, b) in rows.chunks_exact(len).take(at + 1).enumerate() {
            out[at * n + other] = dot(a, b) + if at == other { ridge } else { 0.0 };
        }
    }
    out
}

/// Solves `a z = b` for a symmetric positive `a` given by its lower half; `b` has `columns` columns.
fn cholesky_solve(mut a: Vec<f64>, mut b: Vec<f64>, columns: usize) -> Option<Vec<f64>> {
    let n = b.len() / columns;
    for at in 0..n {
        for other in 0..=at {
            let (upper, row) = a.split_at_mut(at * n);
            let before: f64 = if other == at {
                row[..other].iter().map(|x| x * x).sum()
            } else {
                let other_row = &upper[other * n..][..other];
                row[..other].iter().zip(other_row).map(|(x, y)| x * y).sum()
            };
            let left = row[other] - before;
            row[other] = if other < at {
                left / upper[other * n + other]
            } else if left > 0.0 {
                left.sqrt()
            } else {
                return None;
            };
        }
    }
    for at in 0..n {
        for other in 0..at {
            subtract(&mut b, (at, other), columns, a[at * n + other]);
        }
        b[at * columns..][..columns].iter_mut().for_each(|x| *x /= a[at * n + at]);
    }
    for at in (0..n).rev() {
        for other in at + 1..n {
            subtract(&mut b, (at, other), columns, a[other * n + at]);
        }
        b[at * columns..][..columns].iter_mut().for_each(|x| *x /= a[at * n + at]);
    }
    Some(b)
}

/// Takes `factor` times row `from` off row `to`.
fn subtract(b: &mut [f64], (to, from): (usize, usize), columns: usize, factor: f64) {
    let (low, high) = b.split_at_mut(to.max(from) * columns);
    let rest = &mut low[to.min(from) * columns..][..columns];
    let (to, from) =
        if to > from { (&mut high[..columns], rest) } else { (rest, &mut high[..columns]) };
    to.iter_mut().zip(from.iter()).for_each(|(to, from)| *to -= factor * from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved() {
        // Of [[4, 2], [2, 3]] z = [[2, 8], [5, 8]].
        let z = cholesky_solve(vec![4.0, 0.0, 2.0, 3.0], vec![2.0, 8.0, 5.0, 8.0], 2).unwrap();
        let want = [-0.5, 1.0, 2.0, 2.0];
        assert!(z.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{z:?}");
        assert!(cholesky_solve(vec![1.0, 0.0, 2.0, 1.0], vec![1.0, 1.0], 1).is_none());
    }

    #[test]
    fn a_linear_map_is_inverted_whichever_side_is_smaller() {
        let number = |at: usize| ((at * 7919 + 13) % 997) as f32 / 997.0 - 0.5;
        for rows in [12, 60] {
            let y: Vec<f32> = (0..rows * 3).map(number).collect();
            let map = |y: &[f32]| (0..20).map(|k| y[k % 3] * (k as f32 - 9.5)).collect::<Vec<_>>();
            let x: Vec<f32> = y.chunks_exact(3).flat_map(map).collect();
            let guess = Linear::fit(&x, &y, 20, 3).unwrap().apply(&x);
            let worst = guess.iter().zip(&y).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-3, "{rows} rows: {worst}");
        }
    }
}
