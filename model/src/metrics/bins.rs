//! Scores counted in fixed public bins, so that an AUC can be had from secure sums.
//!
//! The edges are the same for everybody and depend on no data: they are evenly spaced in
//! `z / (2 + |z|)` of the logit z. That is as fine as even bins of the probability in the middle,
//! and much finer near 0 and 1, where a confident network puts most of its rows.
//!
//! Not exact: [`ScoreBins::auc`] counts pairs within one bin as half, and [`ScoreBins::auc_bounds`]
//! says between which values the exact AUC of the same rows must lie.

use super::super::features::to_f32;

/// Number of bins. On a tested range of scores, from timid to overconfident, 64 keep the error of the
/// AUC under 0.002; logits of ten and more on both sides can raise it to 0.02.
pub const BINS: usize = 64;

/// Rows per bin, positives and negatives apart. Counts are `f64`, for they come from decoded sums.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreBins {
    positives: [f64; BINS],
    negatives: [f64; BINS],
}

impl ScoreBins {
    /// Empty bins.
    #[must_use]
    pub fn new() -> Self {
        Self { positives: [0.0; BINS], negatives: [0.0; BINS] }
    }

    /// Counts one row by its logit. NaN counts in the lowest bin.
    pub fn add_logit(&mut self, logit: f32, positive: Positive) {
        let counts = match positive {
            Positive::Yes => &mut self.positives,
            Positive::No => &mut self.negatives,
        };
        counts[bin_of_logit(logit)] += 1.0;
    }

    /// Counts one row by its probability of the positive class.
    pub fn add_probability(&mut self, probability: f32, positive: Positive) {
        let p = f64::from(probability);
        self.add_logit(to_f32((p / (1.0 - p)).ln()), positive);
    }

    /// Bins from summed counts. Rounding of an encoding below zero becomes zero.
    ///
    /// None when a slice has not [`BINS`] entries or an entry is not finite.
    #[must_use]
    pub fn from_counts(positives: &[f64], negatives: &[f64]) -> Option<Self> {
        let cleaned = |counts: &[f64]| -> Option<[f64; BINS]> {
            let counts: [f64; BINS] = counts.try_into().ok()?;
            let finite = counts.iter().all(|count| count.is_finite());
            finite.then(|| counts.map(|count| count.max(0.0)))
        };
        Some(Self { positives: cleaned(positives)?, negatives: cleaned(negatives)? })
    }

    /// Positive rows per bin, lowest score first.
    #[must_use]
    pub fn positives(&self) -> &[f64; BINS] {
        &self.positives
    }

    /// Negative rows per bin, lowest score first.
    #[must_use]
    pub fn negatives(&self) -> &[f64; BINS] {
        &self.negatives
    }

    /// AUC with pairs within one bin counting one half; none when a class has less than half a row.
    #[must_use]
    pub fn auc(&self) -> Option<f64> {
        let (low, high) = self.auc_bounds()?;
        Some((low + high) / 2.0)
    }

    /// Least and greatest exact AUC that rows with these counts can have.
    #[must_use]
    pub fn auc_bounds(&self) -> Option<(f64, f64)> {
        let positives: f64 = self.positives.iter().sum();
        let negatives: f64 = self.negatives.iter().sum();
        if positives < 0.5 || negatives < 0.5 {
            return None;
        }
        let (mut below, mut won, mut shared) = (0.0, 0.0, 0.0);
        for (&positive, &negative) in self.positives.iter().zip(&self.negatives) {
            won += positive * below;
            shared += positive * negative;
            below += negative;
        }
        let pairs = positives * negatives;
        Some((won / pairs, ((won + shared) / pairs).min(1.0)))
    }
}

impl Default for ScoreBins {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a row's label is positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positive {
    /// It is.
    Yes,
    /// It is not.
    No,
}

impl Positive {
    /// From a label 0 or 1.
    #[must_use]
    pub fn of(y: f32) -> Self {
        if y > 0.5 { Self::Yes } else { Self::No }
    }
}

/// The bin of a logit, from 0 (certainly negative) to `BINS - 1`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value lies between 0 and BINS, and a float cast saturates"
)]
fn bin_of_logit(logit: f32) -> usize {
    let z = f64::from(logit).clamp(-1e9, 1e9);
    let unit = (z / (2.0 + z.abs()) + 1.0) / 2.0;
    ((unit * BINS as f64) as usize).min(BINS - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::auc::auc;
    use super::*;

    proptest! {
        #[test]
        fn bounds_hold_the_exact_auc(
            rows in prop::collection::vec((-12.0f32..12.0, any::<bool>()), 1..200),
        ) {
            let mut bins = ScoreBins::new();
            for &(logit, positive) in &rows {
                bins.add_logit(logit, if positive { Positive::Yes } else { Positive::No });
            }
            let scores: Vec<f32> = rows.iter().map(|row| row.0).collect();
            let y: Vec<f32> = rows.iter().map(|row| f32::from(u8::from(row.1))).collect();
            let exact = auc(&scores, &y);
            prop_assert_eq!(exact.is_some(), bins.auc().is_some());
            if let (Some(exact), Some((low, high))) = (exact, bins.auc_bounds()) {
                prop_assert!(low - 1e-9 <= exact && exact <= high + 1e-9);
            }
        }

        #[test]
        fn every_score_has_a_bin(logit in any::<f32>(), probability in any::<f32>()) {
            let mut bins = ScoreBins::new();
            bins.add_logit(logit, Positive::Yes);
            bins.add_probability(probability, Positive::No);
            prop_assert_eq!(bins.auc().is_some(), true);
        }
    }

    /// Many rows, from timid to overconfident, and one model that is absurdly sure of itself.
    #[test]
    fn close_to_the_exact_auc() {
        let mut state = 7u64;
        let mut normal = || {
            // Sum of twelve uniform numbers less six.
            (0..12)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 40) as f32 / (1u64 << 24) as f32
                })
                .sum::<f32>()
                - 6.0
        };
        for (scale, offset, error_max) in
            [(0.5, -1.0, 2e-3), (1.0, 0.0, 2e-3), (4.0, -6.0, 2e-3), (8.0, 10.0, 2e-2)]
        {
            let y: Vec<f32> = (0..4_000).map(|i| f32::from(u8::from(i % 5 == 0))).collect();
            let logits: Vec<f32> =
                y.iter().map(|y| (normal() + 1.5 * y) * scale + offset).collect();
            let mut bins = ScoreBins::new();
            for (&logit, &y) in logits.iter().zip(&y) {
                bins.add_logit(logit, Positive::of(y));
            }
            let error = bins.auc().unwrap() - auc(&logits, &y).unwrap();
            assert!(error.abs() < error_max, "scale {scale}: {error}");
        }
    }

    #[test]
    fn summed_bins_are_the_bins_of_all_rows() {
        let (mut a, mut b, mut both) = (ScoreBins::new(), ScoreBins::new(), ScoreBins::new());
        for i in 0..100u8 {
            let probability = f32::from(i) / 100.0;
            let positive = Positive::of(f32::from(i % 3));
            if i % 2 == 0 { &mut a } else { &mut b }.add_probability(probability, positive);
            both.add_probability(probability, positive);
        }
        let sum = |x: &[f64; BINS], y: &[f64; BINS]| -> Vec<f64> {
            x.iter().zip(y).map(|(x, y)| x + y).collect()
        };
        let positives = sum(a.positives(), b.positives());
        let negatives = sum(a.negatives(), b.negatives());
        assert_eq!(ScoreBins::from_counts(&positives, &negatives), Some(both));
        assert_eq!(ScoreBins::from_counts(&positives[1..], &negatives), None);
    }
}
