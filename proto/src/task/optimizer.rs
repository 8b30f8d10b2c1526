//! The rule by which the mean update becomes a new version, as a task names it.
//!
//! Names and numbers; the arithmetic is the coordinator's. Start at [`ServerOptimizer`].

use serde::{Deserialize, Serialize};

use super::{ManifestError, require};

/// How the coordinator makes a new version from the decoded mean update. `learning_rate` is in
/// (0, 100], every beta in [0, 1), `epsilon` in (0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ServerOptimizer {
    /// Add the mean, scaled (McMahan et al. 2017, 1602.05629).
    Average {
        /// Factor of the mean; 1 is plain averaging.
        learning_rate: f64,
    },
    /// Average with momentum (Hsu et al. 2019, 1909.06335).
    Momentum {
        /// Factor of the velocity.
        learning_rate: f64,
        /// Decay of the velocity.
        beta: f64,
    },
    /// `FedAdagrad` (Reddi et al. 2021, 2003.00295, algorithm 2).
    Adagrad {
        /// Factor of the step.
        learning_rate: f64,
        /// Added to the root.
        epsilon: f64,
    },
    /// `FedAdam` (the same).
    Adam {
        /// Factor of the step.
        learning_rate: f64,
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root.
        epsilon: f64,
    },
    /// `FedYogi` (the same).
    Yogi {
        /// Factor of the step.
        learning_rate: f64,
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root.
        epsilon: f64,
    },
}

impl ServerOptimizer {
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        let (learning_rate, betas, epsilon) = match *self {
            Self::Average { learning_rate } => (learning_rate, [0.0; 2], 1.0),
            Self::Momentum { learning_rate, beta } => (learning_rate, [beta, 0.0], 1.0),
            Self::Adagrad { learning_rate, epsilon } => (learning_rate, [0.0; 2], epsilon),
            Self::Adam { learning_rate, beta1, beta2, epsilon }
            | Self::Yogi { learning_rate, beta1, beta2, epsilon } => {
                (learning_rate, [beta1, beta2], epsilon)
            }
        };
        let rate = learning_rate > 0.0 && learning_rate <= 100.0;
        require(rate, "server_optimizer.learning_rate", "above 0, at most 100")?;
        let decays = betas.iter().all(|beta| (0.0..1.0).contains(beta));
        require(decays, "server_optimizer.beta", "at least 0, below 1")?;
        require(epsilon > 0.0 && epsilon <= 1.0, "server_optimizer.epsilon", "above 0, at most 1")
    }
}
