//! Columns moved to mean 0 and spread 1, as learned from some rows, and back.
//!
//! A group of neighbouring columns may share its scale: a channel of an image. Start at [`Scale::fit`].

/// Means of columns and scales of groups.
pub(super) struct Scale {
    means: Vec<f32>,
    scales: Vec<f32>,
    group: usize,
}

impl Scale {
    /// Learns from rows of `width` columns, `group` of which share a scale.
    pub(super) fn fit(items: &[f32], width: usize, group: usize) -> Self {
        let n = (items.len() / width).max(1) as f64;
        let mut means = vec![0.0f64; width];
        for row in items.chunks_exact(width) {
            means.iter_mut().zip(row).for_each(|(mean, &x)| *mean += f64::from(x) / n);
        }
        let mut squares = vec![0.0f64; width.div_ceil(group)];
        for row in items.chunks_exact(width) {
            for (at, (&x, mean)) in row.iter().zip(&means).enumerate() {
                squares[at / group] += (f64::from(x) - mean).powi(2) / (n * group as f64);
            }
        }
        let scale = |&square: &f64| if square > TINY { single(square.sqrt()) } else { 1.0 };
        Self {
            means: means.iter().map(|&mean| single(mean)).collect(),
            scales: squares.iter().map(scale).collect(),
            group,
        }
    }

    /// Rows on the scale.
    pub(super) fn apply(&self, items: &[f32]) -> Vec<f32> {
        self.each(items, |x, mean, scale| (x - mean) / scale)
    }

    /// Rows off the scale again.
    pub(super) fn undo(&self, items: &[f32]) -> Vec<f32> {
        self.each(items, |x, mean, scale| x * scale + mean)
    }

    fn each(&self, items: &[f32], of: impl Fn(f32, f32, f32) -> f32) -> Vec<f32> {
        let mut out = Vec::with_capacity(items.len());
        for row in items.chunks_exact(self.means.len()) {
            let row = row.iter().zip(&self.means).enumerate();
            out.extend(row.map(|(at, (&x, &mean))| of(x, mean, self.scales[at / self.group])));
        }
        out
    }
}

/// A double in single precision: rounded, or infinite where it is too large.
#[expect(clippy::cast_possible_truncation, reason = "rounding is what is wanted")]
pub(super) fn single(x: f64) -> f32 {
    x as f32
}

/// A variance below this is a column that does not vary.
const TINY: f64 = 1e-12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let rows = [1.0, 10.0, 5.0, 3.0, 30.0, 5.0, 2.0, 20.0, 5.0];
        let scale = Scale::fit(&rows, 3, 1);
        let scaled = scale.apply(&rows);
        let first: Vec<f32> = scaled.iter().copied().step_by(3).collect();
        assert!(first.iter().sum::<f32>().abs() < 1e-6);
        assert!((first.iter().map(|x| x * x).sum::<f32>() / 3.0 - 1.0).abs() < 1e-6);
        assert_eq!((scaled[2], scaled[5]), (0.0, 0.0), "a constant column stays finite");
        let back = scale.undo(&scaled);
        assert!(back.iter().zip(&rows).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}
