//! The manifest of a task: what the sites are asked to do, how often, with whom and how privately.
//!
//! People write it as TOML ([`TaskManifest::parse_toml`]); what is submitted, offered and approved is
//! JSON ([`TaskManifest::to_canonical_json`]), named by the digest of its verbatim bytes. Whoever
//! reads one gets a checked one. Deliberately only data: model, plans and parameters are named by
//! digest and travel as blobs. What the values mean for the masks is the aggregation's business, and
//! whether a site takes part is its policy's.
//!
//! ```
//! use koinon_proto::{Digest, TaskManifest};
//!
//! let text = format!(
//!     r#"
//! name = "keap1 from clinical data"
//! kind = "train"
//! model = "{digest}"
//! features = "{digest}"
//! training = "{digest}"
//! init_from = {{ fresh = {{ seed = 7 }} }}
//! rounds = 30
//! seed = 7
//! cohort = {{ min = 5, max = 16, quorum = 12 }}
//! budget_ms = 60000
//! grace_ms = 2000
//! server_optimizer = {{ momentum = {{ learning_rate = 1.0, beta = 0.9 }} }}
//! encoding = {{ clip_l2 = 5.0, update_bound = 1.0, frac_bits = 20, rows_max = 1024 }}
//! algorithm = "fed_avg"
//! attempts_max = 3
//! "#,
//!     digest = Digest::of(b"stands for a file")
//! );
//! let manifest = TaskManifest::parse_toml(&text, "task.toml").unwrap();
//! let bytes = manifest.to_canonical_json();
//! assert_eq!(TaskManifest::parse_json(&bytes).unwrap(), manifest);
//! println!("task {}", Digest::of(&bytes));
//!
//! let error = TaskManifest::parse_toml(&text.replace("quorum", "quroum"), "task.toml").unwrap_err();
//! assert!(error.to_string().starts_with(
//!     "task.toml, line 10: unknown key 'quroum'; did you mean 'quorum'?"
//! ));
//! ```

mod clip;
mod cohort;
mod encoding;
mod error;
mod keys;
mod optimizer;
mod privacy;

use serde::{Deserialize, Serialize};

use crate::id::{Digest, Millis};
use crate::limits::{ATTEMPTS_MAX, BUDGET_MS_MAX, ROUNDS_MAX, TASK_NAME_BYTES_MAX};
use crate::nearest::toml_error;
pub use clip::{AdaptiveClip, Clip};
pub use cohort::CohortPlan;
pub use encoding::EncodingChoice;
pub use error::ManifestError;
use error::{bounded, require};
pub use keys::KEYS;
pub use optimizer::ServerOptimizer;
pub use privacy::{Privacy, PrivacyUnit};

/// What the sites of a consortium are asked to do. The order of the fields is the order of the
/// canonical JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskManifest {
    /// For people: 1 to 64 characters of `A-Z a-z 0-9 - _ .` and space.
    pub name: String,
    /// Train, evaluate or statistics.
    pub kind: TaskKind,
    /// The model spec (JSON); absent for statistics.
    #[serde(default)]
    pub model: Option<Digest>,
    /// The feature plan (JSON).
    pub features: Digest,
    /// The training plan (JSON); present for training only.
    #[serde(default)]
    pub training: Option<Digest>,
    /// Where the parameters come from; `fresh` for statistics, which have none.
    pub init_from: InitFrom,
    /// Training rounds, 1 to 10,000; 1 for the other kinds.
    pub rounds: u32,
    /// Governs batch order and initialisation, never keys, masks or noise.
    pub seed: u64,
    /// How many sites take part.
    pub cohort: CohortPlan,
    /// The one deadline budget of a round, milliseconds, up to 30 days.
    pub budget_ms: Millis,
    /// How long stragglers are waited for once the quorum is there, milliseconds, within the budget.
    pub grace_ms: Millis,
    /// How the mean update becomes a new version.
    pub server_optimizer: ServerOptimizer,
    /// How an update becomes integers.
    pub encoding: EncodingChoice,
    /// How a site trains.
    pub algorithm: AlgorithmChoice,
    /// Training ends after this many rounds without a better validation loss; absent: never early.
    #[serde(default)]
    pub patience: Option<u32>,
    /// Attempts at one round before the task fails, 1 to 100.
    pub attempts_max: u32,
    /// Differential privacy; absent: the sums are exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
}

/// What kind of task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Make better versions of a model.
    Train,
    /// Measure one version on the sites' validation rows.
    Evaluate,
    /// Sum the feature plan's statistics over training rows.
    Statistics,
}

/// Where the first parameters come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InitFrom {
    /// Drawn from the seed.
    Fresh {
        /// Seed of the initialisation.
        seed: u64,
    },
    /// A version that the coordinator has.
    Version {
        /// The version's digest.
        digest: Digest,
    },
    /// A parameters' file handed in with the task.
    File {
        /// The file's digest.
        digest: Digest,
    },
}

/// How a site trains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AlgorithmChoice {
    /// Plain local training (McMahan et al. 2017, 1602.05629).
    FedAvg,
    /// Local training that is held near the received version (Li et al. 2020, 1812.06127).
    FedProx {
        /// Strength of the proximal term, 0 to 1000.
        mu: f64,
    },
}

impl TaskManifest {
    /// Reads and checks the JSON form.
    ///
    /// # Errors
    /// [`ManifestError`]: too long, not this JSON, or a value out of its range.
    pub fn parse_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        bounded(bytes.len())?;
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| ManifestError::Json(error.to_string()))?;
        manifest.check()?;
        let planned = manifest.privacy.is_none_or(|privacy| privacy.noise_multiplier.is_some());
        require(planned, "privacy.noise_multiplier", "there: it is planned before a task is sent")?;
        Ok(manifest)
    }

    /// Reads and checks the TOML form; `path` is the file's name for the message.
    ///
    /// # Errors
    /// [`ManifestError`]: too long, not this TOML (with line and nearest right key), or a value out
    /// of its range.
    pub fn parse_toml(text: &str, path: &str) -> Result<Self, ManifestError> {
        bounded(text.len())?;
        let manifest: Self = toml::from_str(text)
            .map_err(|error| ManifestError::Toml(toml_error(text, path, &error, KEYS)))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The JSON form: no white space, fields in the order of the struct, digests in hex. The digest of
    /// these bytes names the task.
    #[must_use]
    pub fn to_canonical_json(&self) -> Vec<u8> {
        serde_json::to_vec(self)
            .expect("a struct of numbers, strings and options always serialises")
    }

    /// Checks every range and what belongs together.
    ///
    /// # Errors
    /// [`ManifestError::Field`] names the first bad field and what it should be.
    pub fn check(&self) -> Result<(), ManifestError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || " -_.".contains(c);
        let named = !self.name.trim().is_empty() && self.name.len() <= TASK_NAME_BYTES_MAX;
        require(
            named && self.name.chars().all(legal),
            "name",
            "1 to 64 characters of A-Z a-z 0-9 - _ . and space",
        )?;
        self.check_kind()?;
        self.cohort.check()?;
        require(
            (1..=BUDGET_MS_MAX).contains(&self.budget_ms),
            "budget_ms",
            "1 ms to 30 days, in milliseconds",
        )?;
        require(self.grace_ms <= self.budget_ms, "grace_ms", "at most budget_ms")?;
        self.server_optimizer.check()?;
        self.encoding.check()?;
        if let AlgorithmChoice::FedProx { mu } = self.algorithm {
            require((0.0..=1e3).contains(&mu), "algorithm.fed_prox.mu", "0 to 1000")?;
        }
        require(self.patience != Some(0), "patience", "at least 1, or left out")?;
        require((1..=ATTEMPTS_MAX).contains(&self.attempts_max), "attempts_max", "1 to 100")?;
        self.privacy.map_or(Ok(()), |privacy| privacy.check(self))
    }

    fn check_kind(&self) -> Result<(), ManifestError> {
        let fresh = matches!(self.init_from, InitFrom::Fresh { .. });
        match self.kind {
            TaskKind::Train => {
                require(self.model.is_some(), "model", "the digest of the model spec")?;
                require(self.training.is_some(), "training", "the digest of the training plan")?;
                let range = (1..=ROUNDS_MAX).contains(&self.rounds);
                return require(range, "rounds", "1 to 10000");
            }
            TaskKind::Evaluate => {
                require(self.model.is_some(), "model", "the digest of the model spec")?;
                require(!fresh, "init_from", "a version or a file: fresh parameters say nothing")?;
            }
            TaskKind::Statistics => {
                require(self.model.is_none(), "model", "left out for statistics")?;
                require(fresh, "init_from", "fresh for statistics, which have no parameters")?;
            }
        }
        require(self.training.is_none(), "training", "left out unless the kind is train")?;
        require(self.patience.is_none(), "patience", "left out unless the kind is train")?;
        require(self.rounds == 1, "rounds", "1 unless the kind is train")
    }
}

#[cfg(test)]
mod tests;
