//! What one site contributes to an evaluation: rows, loss, hits and binned scores, as sums.
//!
//! Plain sums of one site leave it only inside a secure sum. Every entry is a sum over rows in which
//! one row counts at most [`StatField::row_bound`]: losses are cut off at [`LOSS_MAX`].
//!
//! Start at [`EvaluationSums::add`]; the coordinator reads opened sums with
//! [`EvaluationSums::from_vectors`].

use super::bins::{BINS, Positive, ScoreBins};
use crate::features::statistics::StatField;

/// The largest loss of one row that is counted, in nats.
pub const LOSS_MAX: f64 = 20.0;

/// Sums over rows of one site, or of all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EvaluationSums {
    /// Rows counted.
    rows: f64,
    /// Losses in nats, each at most [`LOSS_MAX`].
    loss: f64,
    /// Rows on the label's side.
    correct: f64,
    /// Binned scores; all empty for a label with several classes.
    bins: ScoreBins,
}

/// Figures from opened sums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Rows over all sites.
    pub rows: u64,
    /// Mean loss in nats.
    pub loss: f64,
    /// Share of rows on the label's side.
    pub accuracy: f64,
    /// Binned AUC; none for several classes or when a class is absent.
    pub auc: Option<f64>,
}

/// The vectors a site contributes, in order.
#[must_use]
pub fn evaluation_fields() -> Vec<StatField> {
    [
        ("val_rows", 1, 1.0),
        ("val_loss", 1, LOSS_MAX),
        ("val_pos", BINS, 1.0),
        ("val_neg", BINS, 1.0),
        ("val_correct", 1, 1.0),
    ]
    .into_iter()
    .map(|(name, len, row_bound)| StatField { name, len, row_bound })
    .collect()
}

impl EvaluationSums {
    /// No rows yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one row of a binary label by its logit.
    pub fn add_logit(&mut self, logit: f32, y: f32) {
        let z = f64::from(logit);
        let signed = if y > 0.5 { -z } else { z };
        // ln(1 + e^z) without overflow.
        self.add_row(signed.max(0.0) + (-signed.abs()).exp().ln_1p(), (z >= 0.0) == (y > 0.5));
        self.bins.add_logit(logit, Positive::of(y));
    }

    /// Counts one row of several classes by its logits; with two, the scores are binned too.
    pub fn add_logits(&mut self, logits: &[f32], y: f32) {
        if let &[negative, positive] = logits {
            return self.add_logit(positive - negative, y);
        }
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&z| f64::from(z - top).exp()).sum();
        let own = logits.iter().enumerate().find(|&(class, _)| class as f64 == f64::from(y));
        match own {
            Some((_, &own)) => self.add_row(sum.ln() + f64::from(top - own), own >= top),
            None => self.add_row(LOSS_MAX, false),
        }
    }

    /// The vectors to be summed securely, shaped as [`evaluation_fields`] says.
    #[must_use]
    pub fn to_vectors(&self) -> Vec<Vec<f64>> {
        vec![
            vec![self.rows],
            vec![self.loss],
            self.bins.positives().to_vec(),
            self.bins.negatives().to_vec(),
            vec![self.correct],
        ]
    }

    /// Reads opened sums. None when they have the wrong shape or are not finite.
    #[must_use]
    pub fn from_vectors(vectors: &[Vec<f64>]) -> Option<Self> {
        let [rows, loss, positives, negatives, correct] = vectors else { return None };
        let one = |vector: &[f64]| match vector {
            [value] if value.is_finite() => Some(value.max(0.0)),
            _ => None,
        };
        Some(Self {
            rows: one(rows)?,
            loss: one(loss)?,
            correct: one(correct)?,
            bins: ScoreBins::from_counts(positives, negatives)?,
        })
    }

    /// The binned scores.
    #[must_use]
    pub fn bins(&self) -> &ScoreBins {
        &self.bins
    }

    /// The figures; none with less than half a row.
    #[must_use]
    pub fn figures(&self) -> Option<Figures> {
        if self.rows < 0.5 {
            return None;
        }
        Some(Figures {
            rows: whole(self.rows),
            loss: self.loss / self.rows,
            accuracy: (self.correct / self.rows).min(1.0),
            auc: self.bins.auc(),
        })
    }

    fn add_row(&mut self, loss: f64, correct: bool) {
        // A NaN loss is the worst there is, not no loss at all.
        let loss = if loss.is_nan() { LOSS_MAX } else { loss.clamp(0.0, LOSS_MAX) };
        self.rows += 1.0;
        self.loss += loss;
        self.correct += f64::from(u8::from(correct));
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count that is not negative; a float cast saturates"
)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_logits_and_their_difference_agree() {
        let (mut one, mut two) = (EvaluationSums::new(), EvaluationSums::new());
        for (z, y) in [(1.5, 1.0), (-0.5, 1.0), (-2.0, 0.0), (3.0, 0.0)] {
            one.add_logit(z, y);
            two.add_logits(&[0.5, 0.5 + z], y);
        }
        assert_eq!(one, two);
        let figures = one.figures().unwrap();
        assert_eq!((figures.rows, figures.accuracy, figures.auc), (4, 0.5, Some(0.5)));
        let softplus = |z: f64| z.exp().ln_1p();
        let loss = (softplus(-1.5) + softplus(0.5) + softplus(-2.0) + softplus(3.0)) / 4.0;
        assert!((figures.loss - loss).abs() < 1e-9);
    }

    #[test]
    fn sums_of_sites_are_the_sums_of_all() {
        let mut all = EvaluationSums::new();
        let mut summed: Vec<Vec<f64>> =
            evaluation_fields().iter().map(|field| vec![0.0; field.len]).collect();
        for site in 0..3u8 {
            let mut sums = EvaluationSums::new();
            for row in 0..10u8 {
                let (z, y) = (f32::from(row) - f32::from(site) - 4.0, f32::from(row % 2));
                sums.add_logit(z, y);
                all.add_logit(z, y);
            }
            for (sum, vector) in summed.iter_mut().zip(sums.to_vectors()) {
                sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
            }
        }
        let figures = EvaluationSums::from_vectors(&summed).unwrap().figures().unwrap();
        let expected = all.figures().unwrap();
        assert!((figures.loss - expected.loss).abs() < 1e-9);
        assert_eq!(figures.auc, expected.auc);
    }

    #[test]
    fn no_row_counts_more_than_its_bound() {
        let mut sums = EvaluationSums::new();
        sums.add_logit(f32::NEG_INFINITY, 1.0);
        sums.add_logit(f32::NAN, 1.0);
        sums.add_logits(&[0.0, f32::NAN, 1.0], 1.0);
        sums.add_logits(&[0.0, 1.0, 2.0], 9.0);
        sums.add_logits(&[], 0.0);
        for (field, vector) in evaluation_fields().iter().zip(sums.to_vectors()) {
            assert!(vector.iter().all(|value| (0.0..=5.0 * field.row_bound).contains(value)));
        }
        assert_eq!(EvaluationSums::from_vectors(&[vec![1.0]]), None);
        assert_eq!(EvaluationSums::new().figures(), None);
    }

    #[test]
    fn several_classes_have_loss_and_accuracy_but_no_auc() {
        let mut sums = EvaluationSums::new();
        sums.add_logits(&[0.0, 0.0, 0.0], 2.0);
        sums.add_logits(&[9.0, 0.0, 0.0], 1.0);
        let figures = sums.figures().unwrap();
        assert_eq!((figures.rows, figures.auc), (2, None));
        assert_eq!(figures.accuracy, 0.5);
    }
}
