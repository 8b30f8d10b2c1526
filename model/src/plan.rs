//! The training plan: how a site trains locally, as data.
//!
//! It names no rows, no rounds and no privacy; those belong to the task. Start at
//! [`TrainingPlan::from_toml`]:
//!
//! ```
//! use koinon_model::plan::{Loss, TrainingPlan};
//! let plan = TrainingPlan::from_toml(r#"
//!     epochs = 2
//!     batch_size = 16
//!     learning_rate = 0.05
//!     optimizer = { momentum = { momentum = 0.9 } }
//!     loss = "cross_entropy"
//!     class_weights = [1.0, 4.0]
//! "#)?;
//! assert_eq!(plan.loss, Loss::CrossEntropy);
//! assert_eq!(plan, TrainingPlan::from_canonical(&plan.canonical())?);
//! # Ok::<(), koinon_model::plan::PlanError>(())
//! ```

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, digest_of};
use crate::limits::SPEC_BYTES_MAX;

/// What is done with the rows between two rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingPlan {
    /// Passes over the site's training rows, 1 to 10,000.
    pub epochs: u32,
    /// Rows of one step, 1 to 65,536; the last step of a pass may be smaller.
    pub batch_size: u32,
    /// Step size, above 0, at most 100.
    pub learning_rate: f64,
    /// Factor on the step size for each round done, above 0, at most 1.
    #[serde(default = "one")]
    pub learning_rate_decay: f64,
    /// How a gradient becomes a step. Its state starts anew in every round.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// What is made small.
    pub loss: Loss,
    /// Weight of the L2 penalty, added to the gradient as PyTorch's optimizers do; 0 to 10.
    #[serde(default)]
    pub weight_decay: f64,
    /// Weight of each class, above 0: one per output for `cross_entropy`, `[negative, positive]` for
    /// `binary_cross_entropy`, none for `mse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<Vec<f64>>,
    /// Strength of the pull back to the round's start (FedProx, arXiv 1812.06127, section 3.2):
    /// `mu (w - w₀)` is added to the gradient; above 0, at most 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proximal_mu: Option<f64>,
}

/// How a gradient becomes a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizer {
    /// `w -= rate · g`.
    #[default]
    Sgd,
    /// `v = momentum · v + g; w -= rate · v`, as PyTorch's SGD.
    Momentum {
        /// Share of the old velocity kept, 0 to below 1.
        #[serde(default = "nine_tenths")]
        momentum: f64,
    },
    /// Adam (arXiv 1412.6980, algorithm 1).
    Adam {
        /// Decay of the first moment, 0 to below 1.
        #[serde(default = "nine_tenths")]
        beta1: f64,
        /// Decay of the second moment, 0 to below 1.
        #[serde(default = "beta2")]
        beta2: f64,
        /// Added to the root of the second moment, above 0.
        #[serde(default = "adam_eps")]
        eps: f64,
    },
}

/// What training makes small. All take the model's raw output: put no sigmoid or softmax at its end
/// for the cross entropies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Each output is a logit, each label between 0 and 1, one per output; mean over outputs.
    BinaryCrossEntropy,
    /// Outputs are logits of classes (two or more); one label per row, the class's number.
    CrossEntropy,
    /// Mean over outputs of the squared difference; one label per output.
    Mse,
}

/// Why a plan is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The text is not a plan.
    #[error("the training plan cannot be read: {0}")]
    Syntax(String),
    /// A value out of its range.
    #[error("training plan: `{key}` is {got}; use {want}")]
    Range {
        /// The key.
        key: &'static str,
        /// Its value.
        got: String,
        /// What is allowed, in words.
        want: &'static str,
    },
    /// Bytes that were hashed elsewhere are not in the one canonical form.
    #[error("the training plan is not in canonical form; write it again with this program")]
    NotCanonical,
}

impl TrainingPlan {
    /// Reads and checks TOML; unknown keys are refused.
    ///
    /// # Errors
    /// [`PlanError::Syntax`] with line and column, [`PlanError::Range`].
    pub fn from_toml(text: &str) -> Result<Self, PlanError> {
        size(text.len())?;
        let plan: Self =
            toml::from_str(text).map_err(|error| PlanError::Syntax(error.to_string()))?;
        plan.check().map(|()| plan)
    }

    /// Reads and checks JSON; unknown keys are refused.
    ///
    /// # Errors
    /// [`PlanError::Syntax`] with line and column, [`PlanError::Range`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, PlanError> {
        size(bytes.len())?;
        let plan: Self =
            serde_json::from_slice(bytes).map_err(|error| PlanError::Syntax(error.to_string()))?;
        plan.check().map(|()| plan)
    }

    /// Reads the canonical bytes of another copy of this program.
    ///
    /// # Errors
    /// As [`TrainingPlan::from_json`], and [`PlanError::NotCanonical`].
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, PlanError> {
        let plan = Self::from_json(bytes)?;
        if plan.canonical() != bytes {
            return Err(PlanError::NotCanonical);
        }
        Ok(plan)
    }

    /// The one form that is hashed and travels: JSON without spaces, keys in the order of the type,
    /// defaults written out.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a plan holds numbers, names and lists only")
    }

    /// SHA-256 of the canonical bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest_of("koinon.plan.v1", &self.canonical())
    }

    /// Checks every range. Reading does it too; call it after changing a field.
    ///
    /// # Errors
    /// [`PlanError::Range`] for the first value out of its range.
    pub fn check(&self) -> Result<(), PlanError> {
        ensure("epochs", self.epochs, (1..=10_000).contains(&self.epochs), "1 to 10000")?;
        let batch = (1..=65_536).contains(&self.batch_size);
        ensure("batch_size", self.batch_size, batch, "1 to 65536")?;
        let rate = self.learning_rate;
        ensure("learning_rate", rate, rate > 0.0 && rate <= 100.0, "above 0, at most 100")?;
        let decay = self.learning_rate_decay;
        let want = "above 0, at most 1";
        ensure("learning_rate_decay", decay, decay > 0.0 && decay <= 1.0, want)?;
        let penalty = self.weight_decay;
        ensure("weight_decay", penalty, (0.0..=10.0).contains(&penalty), "0 to 10")?;
        if let Some(mu) = self.proximal_mu {
            let want = "above 0, at most 1000, or leave it out";
            ensure("proximal_mu", mu, mu > 0.0 && mu <= 1000.0, want)?;
        }
        self.optimizer.check()?;
        self.check_class_weights()
    }

    /// Checks that nothing is asked for that a round of record-level privacy does not do: it is one
    /// step, taken by the server optimizer, from a sum of clipped gradients of single rows.
    ///
    /// # Errors
    /// [`PlanError::Range`] for the first setting that would be ignored.
    pub fn check_single_step(&self) -> Result<(), PlanError> {
        let step = "1 for record-level privacy: a round is one step, and the server optimizer's \
                    learning rate is its size";
        ensure("epochs", self.epochs, self.epochs == 1, step)?;
        ensure("learning_rate", self.learning_rate, self.learning_rate == 1.0, step)?;
        let decay = self.learning_rate_decay;
        ensure("learning_rate_decay", decay, decay == 1.0, step)?;
        let plain = self.optimizer == Optimizer::Sgd;
        let name = format!("{:?}", self.optimizer);
        ensure(
            "optimizer",
            name,
            plain,
            "sgd for record-level privacy; the server has an optimizer",
        )?;
        let none = "0 for record-level privacy, where the noise keeps weights small";
        ensure("weight_decay", self.weight_decay, self.weight_decay == 0.0, none)?;
        let mu = self.proximal_mu.unwrap_or(0.0);
        ensure("proximal_mu", mu, mu == 0.0, "left out for record-level privacy")
    }

    /// Checks that no row of a label with so many classes is outside the loss of a model with so many
    /// outputs: otherwise it is up to single rows whether a site can train.
    ///
    /// # Errors
    /// [`PlanError::Range`].
    pub fn check_outputs(&self, classes: usize, outputs: usize) -> Result<(), PlanError> {
        let fits = match self.loss {
            Loss::CrossEntropy => outputs >= classes,
            Loss::BinaryCrossEntropy => outputs == 1 && classes == 2,
            Loss::Mse => outputs == 1,
        };
        let got = format!("{:?} of {outputs} outputs for a label of {classes} classes", self.loss);
        let want = "cross_entropy of an output for each class, binary_cross_entropy of one output for \
                    two classes, or mse of one output";
        ensure("loss", got, fits, want)
    }

    fn check_class_weights(&self) -> Result<(), PlanError> {
        let Some(weights) = &self.class_weights else { return Ok(()) };
        let count = match self.loss {
            Loss::BinaryCrossEntropy => weights.len() == 2,
            Loss::CrossEntropy => (2..=65_536).contains(&weights.len()),
            Loss::Mse => false,
        };
        let fine = count && weights.iter().all(|&weight| (1e-6..=1e6).contains(&weight));
        let want = "two weights for binary_cross_entropy, one per class for cross_entropy, none for \
                    mse, each 1e-6 to 1e6";
        let got = format!("{} weights for {:?}", weights.len(), self.loss);
        ensure("class_weights", got, fine, want)
    }
}

impl Optimizer {
    fn check(self) -> Result<(), PlanError> {
        let share = |key, value: f64| {
            ensure(key, value, (0.0..1.0).contains(&value), "0 to below 1, usually 0.9")
        };
        match self {
            Self::Sgd => Ok(()),
            Self::Momentum { momentum } => share("momentum", momentum),
            Self::Adam { beta1, beta2, eps } => {
                share("beta1", beta1)?;
                share("beta2", beta2)?;
                ensure("eps", eps, (1e-12..=1.0).contains(&eps), "1e-12 to 1, usually 1e-8")
            }
        }
    }
}

fn ensure(
    key: &'static str,
    got: impl std::fmt::Display,
    fine: bool,
    want: &'static str,
) -> Result<(), PlanError> {
    if fine {
        return Ok(());
    }
    Err(PlanError::Range { key, got: got.to_string(), want })
}

fn size(got: usize) -> Result<(), PlanError> {
    if got > SPEC_BYTES_MAX {
        return Err(PlanError::Syntax(format!("{got} bytes are more than {SPEC_BYTES_MAX}")));
    }
    Ok(())
}

fn one() -> f64 {
    1.0
}

fn nine_tenths() -> f64 {
    0.9
}

fn beta2() -> f64 {
    0.999
}

fn adam_eps() -> f64 {
    1e-8
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str =
        "epochs = 1\nbatch_size = 8\nlearning_rate = 0.1\nloss = \"cross_entropy\"\n";

    #[test]
    fn a_loss_must_have_room_for_every_class_of_the_label() {
        let plan = |loss: &str| {
            let text =
                format!("epochs = 1\nbatch_size = 1\nlearning_rate = 0.1\nloss = \"{loss}\"\n");
            TrainingPlan::from_toml(&text).unwrap()
        };
        for (loss, classes, outputs, fits) in [
            ("cross_entropy", 2, 2, true),
            ("cross_entropy", 3, 4, true),
            ("cross_entropy", 3, 2, false),
            ("binary_cross_entropy", 2, 1, true),
            ("binary_cross_entropy", 3, 1, false),
            ("binary_cross_entropy", 2, 2, false),
            ("mse", 5, 1, true),
            ("mse", 2, 2, false),
        ] {
            let found = plan(loss).check_outputs(classes, outputs);
            assert_eq!(found.is_ok(), fits, "{loss}, {classes} classes, {outputs} outputs");
        }
    }

    #[test]
    fn defaults_are_written_out_in_the_canonical_form() {
        let plan = TrainingPlan::from_toml(PLAN).unwrap();
        let expected = r#"{"epochs":1,"batch_size":8,"learning_rate":0.1,"learning_rate_decay":1.0,"optimizer":"sgd","loss":"cross_entropy","weight_decay":0.0}"#;
        assert_eq!(String::from_utf8(plan.canonical()).unwrap(), expected);
        assert_eq!(TrainingPlan::from_canonical(expected.as_bytes()).unwrap(), plan);
        let spaced = expected.replace(',', ", ");
        assert_eq!(TrainingPlan::from_canonical(spaced.as_bytes()), Err(PlanError::NotCanonical));
    }

    #[test]
    fn refuses_unknown_keys_and_values_out_of_range() {
        for (extra, part) in [
            ("epoch = 3", "unknown field `epoch`"),
            ("weight_decay = -1.0", "`weight_decay` is -1"),
            ("weight_decay = nan", "`weight_decay` is NaN"),
            ("class_weights = [1.0]", "`class_weights`"),
            ("class_weights = [1.0, inf]", "`class_weights`"),
            ("proximal_mu = 0.0", "`proximal_mu` is 0"),
            ("optimizer = { momentum = { momentum = 1.0 } }", "`momentum` is 1"),
            ("optimizer = { momentum = { beta = 1.0 } }", "keys in table: beta"),
            ("optimizer = { adam = { eps = 0.0 } }", "`eps` is 0"),
        ] {
            let error = TrainingPlan::from_toml(&format!("{PLAN}{extra}\n")).unwrap_err();
            assert!(error.to_string().contains(part), "{extra}: {error}");
        }
    }

    #[test]
    fn a_single_step_has_no_settings_that_it_would_ignore() {
        let single = PLAN.replace("learning_rate = 0.1", "learning_rate = 1.0");
        let check = |text: &str| TrainingPlan::from_toml(text).unwrap().check_single_step();
        assert_eq!(check(&single), Ok(()));
        assert!(check(PLAN).unwrap_err().to_string().contains("`learning_rate` is 0.1"));
        for extra in ["weight_decay = 0.1", "proximal_mu = 0.1", "optimizer = { adam = {} }"] {
            assert!(check(&format!("{single}{extra}\n")).is_err(), "{extra}");
        }
    }

    #[test]
    fn digest_sees_every_field() {
        let base = TrainingPlan::from_toml(PLAN).unwrap().digest();
        for extra in ["weight_decay = 0.1", "proximal_mu = 0.1", "optimizer = { adam = {} }"] {
            let other = TrainingPlan::from_toml(&format!("{PLAN}{extra}\n")).unwrap();
            assert_ne!(base, other.digest(), "{extra}");
        }
    }
}
