//! The figures of a round, decoded from its opened sum: who took part, the mean training loss, and
//! how good the version was that the round started from.
//!
//! They are the consortium's figures, never one site's. Here is no arithmetic of metrics, that is
//! [`koinon_model::metrics`]; only the way from the sum's fields to them, and a form that is written
//! into the journal bit by bit. Start at [`Figures::read`].

use std::fmt;

use koinon_aggregation::Sum;
use koinon_model::metrics::evaluation::{EvaluationSums, evaluation_fields};
use koinon_proto::task::Privacy;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::task::private::unclipped;

/// Secure figures of one round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Sites whose update is in the sum.
    pub participants: u32,
    /// Bytes of all masked updates accepted.
    pub bytes_up: u64,
    /// Mean loss of local training, weighted by rows, in nats.
    pub training_loss: Option<Figure>,
    /// Figures of the version the round started from; none without validation rows.
    pub validation: Option<Validation>,
    /// The noised share of contributions that were not clipped, where the clip follows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unclipped: Option<Figure>,
}

/// How good a version is on all sites' validation rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// Rows over all sites.
    pub rows: u64,
    /// Mean loss in nats.
    pub loss: Figure,
    /// Area under the ROC curve from binned scores; none when a class is absent.
    pub auc: Option<Figure>,
}

impl Figures {
    /// Reads what an opened sum has of them; a round of statistics has none but its size.
    #[must_use]
    pub fn read(sum: &Sum, bytes_up: u64, privacy: Option<&Privacy>) -> Self {
        let vectors: Option<Vec<Vec<f64>>> =
            evaluation_fields().iter().map(|field| sum.field(field.name)).collect();
        let validation = vectors
            .and_then(|vectors| EvaluationSums::from_vectors(&vectors))
            .and_then(|sums| sums.figures())
            .map(|figures| Validation {
                rows: figures.rows,
                loss: figures.loss.into(),
                auc: figures.auc.map(Figure),
            });
        Self {
            participants: u32::try_from(sum.n_sites()).expect("a session has at most 64 sites"),
            bytes_up,
            training_loss: sum.mean("loss").and_then(|loss| loss.first().copied()).map(Figure),
            validation,
            unclipped: unclipped(privacy, sum),
        }
    }
}

/// A number that is written as the shortest text that reads back to the same bits.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub struct Figure(pub f64);

impl From<f64> for Figure {
    fn from(value: f64) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:?}", self.0))
    }
}

impl<'de> Deserialize<'de> for Figure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_keeps_its_bits() {
        for value in [0.1, 1.0 / 3.0, -0.0, f64::MAX, 5e-324, f64::INFINITY] {
            let text = serde_json::to_string(&Figure(value)).unwrap();
            let read: Figure = serde_json::from_str(&text).unwrap();
            assert_eq!(read.0.to_bits(), value.to_bits(), "{text}");
        }
    }
}
