//! Distance correlation: how much two sets of numbers about the same rows depend on each other.
//!
//! Székely, Rizzo and Bakirov, Annals of Statistics 35 (2007), definition 5, exactly: all pairs of rows,
//! O(rows² · width). 0 in the limit for what is independent, 1 for what is the same up to shift, turn and
//! scale. It is a figure, not a bound: on few rows independent numbers are well above 0. Start at
//! [`distance_correlation`].
//!
//! ```
//! use koinon_client::leakage::distance::distance_correlation;
//!
//! let (x, y) = ([1.0, 2.0, 4.0, 8.0], [-2.0, -4.0, -8.0, -16.0]);
//! let same = distance_correlation(&x, &y, 4).unwrap();
//! assert!((same - 1.0).abs() < 1e-12);
//! ```

/// The distance correlation, 0 to 1, of `rows` rows that `x` and `y` describe, row by row. 0 where one of
/// them is constant; `None` where they are not whole rows, or fewer than two.
#[must_use]
pub fn distance_correlation(x: &[f32], y: &[f32], rows: usize) -> Option<f64> {
    if rows < 2 || [x, y].iter().any(|all| all.is_empty() || all.len() % rows != 0) {
        return None;
    }
    let (a, b) = (centred(x, rows), centred(y, rows));
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (both, x, y) = (product(&a, &b), product(&a, &a), product(&b, &b));
    let scale = (x * y).sqrt();
    Some(if scale > 0.0 { (both / scale).clamp(0.0, 1.0).sqrt() } else { 0.0 })
}

/// Distances of all pairs, less the means of both rows, plus the mean of all.
fn centred(items: &[f32], rows: usize) -> Vec<f64> {
    let width = items.len() / rows;
    let mut distances = vec![0.0; rows * rows];
    for at in 0..rows {
        for other in 0..at {
            let of = |row: usize| &items[row * width..][..width];
            let distance = squares(of(at), of(other)).sqrt();
            distances[at * rows + other] = distance;
            distances[other * rows + at] = distance;
        }
    }
    let n = rows as f64;
    let means: Vec<f64> =
        distances.chunks_exact(rows).map(|row| row.iter().sum::<f64>() / n).collect();
    let all = means.iter().sum::<f64>() / n;
    for (row, mean) in distances.chunks_exact_mut(rows).zip(&means) {
        row.iter_mut().zip(&means).for_each(|(cell, other)| *cell += all - mean - other);
    }
    distances
}

/// Sum of squared differences, in an order that does not depend on the processor.
fn squares(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0f64; LANES];
    let square = |a: f32, b: f32| (f64::from(a) - f64::from(b)).powi(2);
    let (whole_a, whole_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = whole_a.remainder().iter().zip(whole_b.remainder());
    let rest: f64 = rest.map(|(&a, &b)| square(a, b)).sum();
    for (a, b) in whole_a.zip(whole_b) {
        for lane in 0..LANES {
            lanes[lane] += square(a[lane], b[lane]);
        }
    }
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(x: &[f32], y: &[f32], rows: usize, want: f64) {
        let got = distance_correlation(x, y, rows).unwrap();
        assert!((got - want).abs() < 1e-9, "{got} instead of {want}");
    }

    #[test]
    fn published_and_computed_examples() {
        // The example of the Python package `dcor`: 4 rows of 4 numbers against 4 numbers.
        let x: Vec<f32> = (1..=16u8).map(f32::from).collect();
        close(&x, &[1.0, 0.0, 0.0, 1.0], 4, 0.526_640_387_847_926_5);
        // By the definition, in NumPy.
        let x = [1.0, 2.0, 3.0, 1.0, 0.0, 5.0, 2.0, 2.0, 7.0, 3.0];
        close(&x, &[1.0, 4.0, 2.0, 2.0, 9.0], 5, DEFINITION);
    }

    const DEFINITION: f64 = 0.927_751_919_255_929;

    #[test]
    fn the_same_turned_and_stretched_is_one() {
        let x: Vec<f32> = (0..40u16).map(|at| f32::from(at * 37 % 101)).collect();
        let turned: Vec<f32> =
            x.chunks_exact(2).flat_map(|p| [3.0 * p[1] + 7.0, -3.0 * p[0]]).collect();
        close(&x, &turned, 20, 1.0);
        close(&x, &[5.0; 20], 20, 0.0);
    }

    #[test]
    fn independent_numbers_are_near_zero_and_dependent_ones_without_correlation_are_not() {
        // A grid: every x meets every y, so that they are independent exactly.
        let grid = |of: fn(u8) -> u8| (0..144u8).map(|at| f32::from(of(at))).collect::<Vec<_>>();
        let (x, y) = (grid(|at| at / 12), grid(|at| at % 12));
        assert!(distance_correlation(&x, &y, 144).unwrap() < 1e-6);
        let x: Vec<f32> = (0..41u8).map(|at| f32::from(at) - 20.0).collect();
        let square: Vec<f32> = x.iter().map(|x| x * x).collect();
        let got = distance_correlation(&x, &square, 41).unwrap();
        assert!(got > 0.4, "Pearson says 0 here: {got}");
    }

    #[test]
    fn what_are_no_whole_rows_has_none() {
        assert_eq!(distance_correlation(&[1.0, 2.0, 3.0], &[1.0, 2.0], 2), None);
        assert_eq!(distance_correlation(&[1.0], &[1.0], 1), None);
        assert_eq!(distance_correlation(&[], &[], 2), None);
    }
}
