//! Labelled rows, sums of losses, and what a model's raw outputs mean under a loss.
//!
//! The arithmetic of losses and their gradients is the engine's; the kinds of loss are described at
//! [`Loss`]. Start at [`TrainData`].

use crate::plan::Loss;

/// Rows with labels, for training and evaluation. No `Debug`: these are people.
#[derive(Clone, Copy)]
pub struct TrainData<'a> {
    /// Rows one under another, each holding all inputs of the model one after another.
    pub x: &'a [f32],
    /// Labels: one per row for `cross_entropy`, else one per output of each row.
    pub y: &'a [f32],
    /// Weight of each row, not negative; all 1 where absent.
    pub weights: Option<&'a [f32]>,
}

/// A loss over rows: sums, so that they can be added over sites.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSum {
    /// Sum over rows of weight times loss.
    pub loss: f64,
    /// Sum over rows of weight (row's times class's).
    pub weight: f64,
}

impl LossSum {
    /// The weighted mean; 0 where there is no weight.
    #[must_use]
    pub fn mean(self) -> f64 {
        if self.weight > 0.0 { self.loss / self.weight } else { 0.0 }
    }

    /// Adds the sums of other rows.
    pub fn add(&mut self, other: Self) {
        self.loss += other.loss;
        self.weight += other.weight;
    }
}

/// Why rows cannot be trained on. It names rows and counts, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A slice of the wrong length.
    #[error("{what}: got {got} numbers, want {want}; check the feature plan against the model")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The length wanted.
        want: usize,
    },
    /// No rows at all, or more than fit.
    #[error("{0} rows; give 1 to 4294967295")]
    Rows(usize),
    /// A feature or weight that is no finite number, or a negative weight.
    #[error(
        "row {row}: its {what} are not usable numbers; check the feature plan's missing values"
    )]
    NotFinite {
        /// The row, counted from 0.
        row: usize,
        /// Features or weights.
        what: &'static str,
    },
    /// A label that the loss has no meaning for.
    #[error("row {row}: its label is not {want}; check the label's column and the loss")]
    Label {
        /// The row, counted from 0.
        row: usize,
        /// What labels may be.
        want: String,
    },
    /// The model's output does not fit the loss.
    #[error("the model has {width} outputs, {loss:?} with these class weights wants {want}")]
    Outputs {
        /// The loss.
        loss: Loss,
        /// The model's outputs.
        width: usize,
        /// What it wants.
        want: String,
    },
}

impl Loss {
    /// Labels of one row for a model of that many outputs.
    #[must_use]
    pub fn labels_per_row(self, width: usize) -> usize {
        match self {
            Self::CrossEntropy => 1,
            Self::BinaryCrossEntropy | Self::Mse => width,
        }
    }

    /// Probability of the positive class for each row, from the model's raw outputs; `None` where
    /// there is no such thing (more than two classes, or a regression).
    #[must_use]
    pub fn positive_scores(self, outputs: &[f32], width: usize) -> Option<Vec<f32>> {
        match (self, width) {
            (Self::BinaryCrossEntropy, 1) => Some(outputs.iter().map(|&z| sigmoid(z)).collect()),
            (Self::CrossEntropy, 2) => {
                Some(outputs.as_chunks::<2>().0.iter().map(|[a, b]| sigmoid(b - a)).collect())
            }
            _ => None,
        }
    }
}

/// The logistic function, without overflow on either side.
pub(crate) fn sigmoid(z: f32) -> f32 {
    if z >= 0.0 { 1.0 / (1.0 + (-z).exp()) } else { z.exp() / (1.0 + z.exp()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_probabilities_of_the_positive_class() {
        assert_eq!(Loss::CrossEntropy.positive_scores(&[1.0, 1.0], 2), Some(vec![0.5]));
        assert_eq!(Loss::BinaryCrossEntropy.positive_scores(&[0.0], 1), Some(vec![0.5]));
        assert_eq!(Loss::CrossEntropy.positive_scores(&[-300.0, 300.0], 2), Some(vec![1.0]));
        assert_eq!(Loss::Mse.positive_scores(&[0.0], 1), None);
    }
}
