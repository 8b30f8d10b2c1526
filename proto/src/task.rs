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

mod privacy;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::{Digest, Millis};
use crate::limits::{
    ATTEMPTS_MAX, BUDGET_MS_MAX, COHORT_MAX, COHORT_MIN, MANIFEST_BYTES_MAX, ROUNDS_MAX,
    TASK_NAME_BYTES_MAX,
};
use crate::nearest::toml_error;
pub use privacy::{Privacy, PrivacyUnit};

/// Every key of the TOML form, for suggestions.
const KEYS: &[&str] = &[
    "name",
    "kind",
    "model",
    "features",
    "training",
    "init_from",
    "rounds",
    "seed",
    "cohort",
    "budget_ms",
    "grace_ms",
    "server_optimizer",
    "encoding",
    "algorithm",
    "patience",
    "attempts_max",
    "min",
    "max",
    "quorum",
    "colluding_percent",
    "dropout_percent",
    "clip_l2",
    "update_bound",
    "frac_bits",
    "rows_max",
    "learning_rate",
    "beta",
    "beta1",
    "beta2",
    "epsilon",
    "mu",
    "digest",
    "privacy",
    "unit",
    "delta",
    "sampling_rate",
    "clip",
    "noise_multiplier",
    "colluding",
    "expected_rows",
    "retries",
];

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

/// How many sites take part in a round: `3 <= min <= quorum <= max <= 16,384`; and for cohorts of more
/// than 64, where each site shares with some of the others only, what is assumed about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CohortPlan {
    /// The floor: no sum of fewer sites is ever opened.
    pub min: u16,
    /// No more sites than this are chosen.
    pub max: u16,
    /// Reports that a round needs to commit.
    pub quorum: u16,
    /// At most so many of a hundred sites collude with the coordinator, 1 to 50.
    #[serde(default = "assumed_percent", skip_serializing_if = "is_assumed")]
    pub colluding_percent: u8,
    /// At most so many of a hundred sites are lost in a round, 1 to 50.
    #[serde(default = "assumed_percent", skip_serializing_if = "is_assumed")]
    pub dropout_percent: u8,
}

impl CohortPlan {
    /// A cohort of these sizes, with the usual assumptions: one site in ten colludes, one in ten is
    /// lost.
    #[must_use]
    pub const fn new(min: u16, max: u16, quorum: u16) -> Self {
        let (colluding_percent, dropout_percent) = (ASSUMED_PERCENT, ASSUMED_PERCENT);
        Self { min, max, quorum, colluding_percent, dropout_percent }
    }
}

/// What is assumed where nothing else is said.
const ASSUMED_PERCENT: u8 = 10;

fn assumed_percent() -> u8 {
    ASSUMED_PERCENT
}

fn is_assumed(percent: &u8) -> bool {
    *percent == ASSUMED_PERCENT
}

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

/// How an update becomes integers: clip in L2, bound each coordinate, round to fixed point.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodingChoice {
    /// Largest L2 norm of one site's update, in (0, 1e6].
    pub clip_l2: f64,
    /// Largest magnitude of one coordinate of an update, in (0, 1e6].
    pub update_bound: f64,
    /// Binary digits after the point, -16 to 40.
    pub frac_bits: i8,
    /// Most rows that count for one site, 1 to 2^31 - 1; a site with more weighs as if it had these.
    pub rows_max: u32,
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
        let CohortPlan { min, max, quorum, colluding_percent, dropout_percent } = self.cohort;
        require(
            min >= COHORT_MIN,
            "cohort.min",
            "at least 3: with two, each learns the other's update",
        )?;
        require(
            min <= quorum,
            "cohort.quorum",
            "at least cohort.min: no smaller sum is ever opened",
        )?;
        require(quorum <= max, "cohort.max", "at least cohort.quorum")?;
        require(max <= COHORT_MAX, "cohort.max", "at most 16384")?;
        let percent = |percent: u8| (1..=50).contains(&percent);
        require(percent(colluding_percent), "cohort.colluding_percent", "1 to 50")?;
        require(percent(dropout_percent), "cohort.dropout_percent", "1 to 50")?;
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

impl ServerOptimizer {
    fn check(&self) -> Result<(), ManifestError> {
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

impl EncodingChoice {
    fn check(&self) -> Result<(), ManifestError> {
        let size = |value: f64| value > 0.0 && value <= 1e6;
        require(size(self.clip_l2), "encoding.clip_l2", "above 0, at most 1e6")?;
        require(size(self.update_bound), "encoding.update_bound", "above 0, at most 1e6")?;
        require((-16..=40).contains(&self.frac_bits), "encoding.frac_bits", "-16 to 40")?;
        let rows = (1..=i32::MAX.unsigned_abs()).contains(&self.rows_max);
        require(rows, "encoding.rows_max", "1 to 2147483647")
    }
}

/// Why something is no task manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Longer than [`MANIFEST_BYTES_MAX`].
    #[error("the task manifest has {bytes} bytes; at most {MANIFEST_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not the JSON form; the text says where.
    #[error("the task manifest is not the JSON it should be: {0}")]
    Json(String),
    /// Not the TOML form; the text says where and what was probably meant.
    #[error("{0}")]
    Toml(String),
    /// A value out of its range, or one that does not fit the others.
    #[error("task manifest: '{field}' must be {rule}")]
    Field {
        /// The field's path in the manifest.
        field: &'static str,
        /// What it should be.
        rule: &'static str,
    },
}

fn bounded(bytes: usize) -> Result<(), ManifestError> {
    if bytes <= MANIFEST_BYTES_MAX { Ok(()) } else { Err(ManifestError::TooLong { bytes }) }
}

fn require(holds: bool, field: &'static str, rule: &'static str) -> Result<(), ManifestError> {
    if holds { Ok(()) } else { Err(ManifestError::Field { field, rule }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest() -> TaskManifest {
        TaskManifest {
            name: "keap1".into(),
            kind: TaskKind::Train,
            model: Some(Digest::of(b"model")),
            features: Digest::of(b"features"),
            training: Some(Digest::of(b"training")),
            init_from: InitFrom::Fresh { seed: 1 },
            rounds: 30,
            seed: 2,
            cohort: CohortPlan::new(5, 16, 12),
            budget_ms: 60_000,
            grace_ms: 2_000,
            server_optimizer: ServerOptimizer::Momentum { learning_rate: 1.0, beta: 0.5 },
            encoding: EncodingChoice {
                clip_l2: 5.0,
                update_bound: 1.0,
                frac_bits: 20,
                rows_max: 1024,
            },
            algorithm: AlgorithmChoice::FedProx { mu: 0.01 },
            patience: None,
            attempts_max: 3,
            privacy: None,
        }
    }

    fn private() -> TaskManifest {
        let privacy = Privacy {
            unit: PrivacyUnit::Record,
            epsilon: 8.0,
            delta: 1e-4,
            sampling_rate: 0.5,
            clip: Some(0.5),
            noise_multiplier: Some(2.0),
            colluding: 2,
            expected_rows: Some(300),
            retries: 3,
        };
        let encoding = EncodingChoice { rows_max: 1, ..manifest().encoding };
        let cohort = CohortPlan::new(12, 16, 12);
        let algorithm = AlgorithmChoice::FedAvg;
        TaskManifest { privacy: Some(privacy), encoding, cohort, algorithm, ..manifest() }
    }

    #[test]
    fn the_privacy_section_is_checked_and_its_noise_is_always_in_the_canonical_form() {
        let bytes = private().to_canonical_json();
        assert_eq!(TaskManifest::parse_json(&bytes).unwrap(), private());
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.ends_with(
            "\"attempts_max\":3,\"privacy\":{\"unit\":\"record\",\"epsilon\":8.0,\"delta\":0.0001,\
             \"sampling_rate\":0.5,\"clip\":0.5,\"noise_multiplier\":2.0,\"colluding\":2,\
             \"expected_rows\":300,\"retries\":3}}"
        ));
        let privacy = private().privacy.unwrap();
        assert_eq!((privacy.steps(30), privacy.sites_honest(&private().cohort)), (33, 10));
        assert_eq!(privacy.expected_batch(), Some(150.0));

        let complain = |change: &dyn Fn(&mut TaskManifest, &mut Privacy)| {
            let (mut task, mut privacy) = (private(), private().privacy.unwrap());
            change(&mut task, &mut privacy);
            task.privacy = Some(privacy);
            match TaskManifest::parse_json(&task.to_canonical_json()).unwrap_err() {
                ManifestError::Field { field, .. } => field,
                other => panic!("{other}"),
            }
        };
        assert_eq!(complain(&|_, p| p.epsilon = 0.0), "privacy.epsilon");
        assert_eq!(complain(&|_, p| p.delta = 0.004), "privacy.delta");
        assert_eq!(complain(&|_, p| p.sampling_rate = 1.5), "privacy.sampling_rate");
        assert_eq!(complain(&|_, p| p.unit = PrivacyUnit::Site), "privacy.sampling_rate");
        assert_eq!(complain(&|_, p| p.clip = None), "privacy.clip");
        assert_eq!(complain(&|_, p| p.noise_multiplier = None), "privacy.noise_multiplier");
        assert_eq!(complain(&|_, p| p.colluding = 12), "privacy.colluding");
        assert_eq!(complain(&|_, p| p.expected_rows = None), "privacy.expected_rows");
        assert_eq!(complain(&|t, _| t.encoding.rows_max = 2), "encoding.rows_max");
        assert_eq!(complain(&|t, _| t.cohort.min = 11), "cohort.min");
        assert_eq!(complain(&|t, _| t.patience = Some(3)), "patience");
        assert_eq!(
            complain(&|t, _| t.algorithm = AlgorithmChoice::FedProx { mu: 0.1 }),
            "algorithm"
        );
    }

    fn complaint(change: impl FnOnce(&mut TaskManifest)) -> String {
        let mut changed = manifest();
        change(&mut changed);
        let bytes = changed.to_canonical_json();
        let error = TaskManifest::parse_json(&bytes).unwrap_err();
        match error {
            ManifestError::Field { field, .. } => field.to_owned(),
            other => other.to_string(),
        }
    }

    #[test]
    fn the_canonical_bytes_are_the_known_ones() {
        let json = String::from_utf8(manifest().to_canonical_json()).unwrap();
        let [model, features, training] =
            [b"model".as_slice(), b"features", b"training"].map(Digest::of);
        let known = format!(
            "{{\"name\":\"keap1\",\"kind\":\"train\",\"model\":\"{model}\",\
             \"features\":\"{features}\",\"training\":\"{training}\",\
             \"init_from\":{{\"fresh\":{{\"seed\":1}}}},\"rounds\":30,\"seed\":2,\
             \"cohort\":{{\"min\":5,\"max\":16,\"quorum\":12}},\
             \"budget_ms\":60000,\"grace_ms\":2000,\
             \"server_optimizer\":{{\"momentum\":{{\"learning_rate\":1.0,\"beta\":0.5}}}},\
             \"encoding\":{{\"clip_l2\":5.0,\"update_bound\":1.0,\"frac_bits\":20,\
             \"rows_max\":1024}},\"algorithm\":{{\"fed_prox\":{{\"mu\":0.01}}}},\
             \"patience\":null,\"attempts_max\":3}}"
        );
        assert_eq!(json, known);
    }

    #[test]
    fn ranges_are_checked_by_name() {
        assert_eq!(manifest().check(), Ok(()));
        assert_eq!(complaint(|m| m.name = String::new()), "name");
        assert_eq!(complaint(|m| m.name = "a\u{1b}[2J".into()), "name");
        assert_eq!(complaint(|m| m.name = "x".repeat(65)), "name");
        assert_eq!(complaint(|m| m.rounds = 0), "rounds");
        assert_eq!(complaint(|m| m.rounds = ROUNDS_MAX + 1), "rounds");
        assert_eq!(complaint(|m| m.model = None), "model");
        assert_eq!(complaint(|m| m.training = None), "training");
        assert_eq!(complaint(|m| m.cohort.min = 2), "cohort.min");
        assert_eq!(complaint(|m| m.cohort.quorum = 4), "cohort.quorum");
        assert_eq!(complaint(|m| m.cohort.max = 11), "cohort.max");
        assert_eq!(complaint(|m| m.cohort.max = 16_385), "cohort.max");
        assert_eq!(complaint(|m| m.budget_ms = 0), "budget_ms");
        assert_eq!(complaint(|m| m.grace_ms = 60_001), "grace_ms");
        assert_eq!(complaint(|m| m.encoding.clip_l2 = 0.0), "encoding.clip_l2");
        assert_eq!(complaint(|m| m.encoding.update_bound = 1e7), "encoding.update_bound");
        assert_eq!(complaint(|m| m.encoding.frac_bits = 41), "encoding.frac_bits");
        assert_eq!(complaint(|m| m.encoding.rows_max = 0), "encoding.rows_max");
        assert_eq!(complaint(|m| m.patience = Some(0)), "patience");
        assert_eq!(complaint(|m| m.attempts_max = 0), "attempts_max");
        let mu = AlgorithmChoice::FedProx { mu: -1.0 };
        assert_eq!(complaint(|m| m.algorithm = mu), "algorithm.fed_prox.mu");
    }

    #[test]
    fn optimizers_are_checked() {
        let field = |optimizer| complaint(|m| m.server_optimizer = optimizer);
        let rate = "server_optimizer.learning_rate";
        assert_eq!(field(ServerOptimizer::Average { learning_rate: 0.0 }), rate);
        let beta = ServerOptimizer::Momentum { learning_rate: 1.0, beta: 1.0 };
        assert_eq!(field(beta), "server_optimizer.beta");
        let adam =
            ServerOptimizer::Adam { learning_rate: 1.0, beta1: 0.9, beta2: -0.1, epsilon: 1e-3 };
        assert_eq!(field(adam), "server_optimizer.beta");
        let adagrad = ServerOptimizer::Adagrad { learning_rate: 1.0, epsilon: 0.0 };
        assert_eq!(field(adagrad), "server_optimizer.epsilon");
    }

    #[test]
    fn nan_passes_no_range() {
        // JSON has no NaN; a manifest made in memory might.
        let mut bad = manifest();
        bad.encoding.clip_l2 = f64::NAN;
        assert!(bad.check().is_err());
        let mut bad = manifest();
        bad.server_optimizer = ServerOptimizer::Average { learning_rate: f64::NAN };
        assert!(bad.check().is_err());
        let mut bad = manifest();
        bad.algorithm = AlgorithmChoice::FedProx { mu: f64::NAN };
        assert!(bad.check().is_err());
    }

    #[test]
    fn each_kind_has_what_it_needs_and_no_more() {
        let version = InitFrom::Version { digest: Digest::of(b"version") };
        let mut evaluate = manifest();
        evaluate.kind = TaskKind::Evaluate;
        evaluate.training = None;
        evaluate.rounds = 1;
        assert!(evaluate.check().unwrap_err().to_string().contains("'init_from'"));
        evaluate.init_from = version;
        assert_eq!(evaluate.check(), Ok(()));

        let mut statistics = evaluate.clone();
        statistics.kind = TaskKind::Statistics;
        statistics.model = None;
        assert!(statistics.check().unwrap_err().to_string().contains("'init_from'"));
        statistics.init_from = InitFrom::Fresh { seed: 0 };
        assert_eq!(statistics.check(), Ok(()));
        statistics.rounds = 2;
        assert!(statistics.check().unwrap_err().to_string().contains("'rounds'"));
    }

    #[test]
    fn unknown_and_repeated_fields_are_refused() {
        let json = String::from_utf8(manifest().to_canonical_json()).unwrap();
        let parse = |text: String| TaskManifest::parse_json(text.as_bytes());
        assert!(parse(json.replace("\"seed\":2", "\"seed\":2,\"seed\":3")).is_err());
        assert!(parse(json.replace("\"seed\":2", "\"seed\":2,\"code\":\"rm\"")).is_err());
        assert!(parse(json.replace("\"mu\":0.01", "\"mu\":0.01,\"nu\":1")).is_err());
        assert!(parse(json.replace("\"seed\":2", "\"seed\":-2")).is_err());
        assert!(parse(json.replace("\"patience\":null,", "")).is_ok());
        assert!(parse(json.clone() + "{}").is_err());
        assert!(parse(" ".repeat(MANIFEST_BYTES_MAX) + &json).is_err());
        assert!(parse("[".repeat(60_000)).is_err());
    }

    #[test]
    fn a_misspelt_value_is_recognised() {
        let text = "name = \"x\"\nkind = \"trian\"\n";
        let error = TaskManifest::parse_toml(text, "task.toml").unwrap_err().to_string();
        assert!(
            error.starts_with("task.toml, line 2: unknown value 'trian'; did you mean 'train'?")
        );
        let error =
            TaskManifest::parse_toml("name = \"x\"\n", "task.toml").unwrap_err().to_string();
        assert!(error.contains("missing field `kind`"), "{error}");
    }

    fn optimizers() -> impl Strategy<Value = ServerOptimizer> {
        let (rate, beta, epsilon) = (1e-6_f64..100.0, 0.0_f64..1.0, 1e-9_f64..1.0);
        (rate, beta.clone(), beta, epsilon, 0..5).prop_map(
            |(learning_rate, beta1, beta2, epsilon, which)| match which {
                0 => ServerOptimizer::Average { learning_rate },
                1 => ServerOptimizer::Momentum { learning_rate, beta: beta1 },
                2 => ServerOptimizer::Adagrad { learning_rate, epsilon },
                3 => ServerOptimizer::Adam { learning_rate, beta1, beta2, epsilon },
                _ => ServerOptimizer::Yogi { learning_rate, beta1, beta2, epsilon },
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            name in "[a-z][A-Za-z0-9 ._-]{0,63}",
            (rounds, seed, budget_ms) in (1..=ROUNDS_MAX, any::<u64>(), 1..=BUDGET_MS_MAX),
            (min, quorum, max) in (COHORT_MIN..10, 10_u16..20, 20..=COHORT_MAX),
            server_optimizer in optimizers(),
            (clip_l2, update_bound, frac_bits) in (1e-9_f64..1e6, 1e-9_f64..1e6, -16_i8..=40),
            mu in prop::option::of(0.0_f64..1e3),
            patience in prop::option::of(1_u32..),
        ) {
            let written = TaskManifest {
                name,
                init_from: InitFrom::File { digest: Digest::of(b"file") },
                rounds,
                seed,
                cohort: CohortPlan::new(min, max, quorum),
                budget_ms,
                grace_ms: budget_ms / 2,
                server_optimizer,
                encoding: EncodingChoice { clip_l2, update_bound, frac_bits, rows_max: 1 },
                algorithm: mu.map_or(AlgorithmChoice::FedAvg, |mu| AlgorithmChoice::FedProx { mu }),
                patience,
                ..manifest()
            };
            let bytes = written.to_canonical_json();
            let read = TaskManifest::parse_json(&bytes).unwrap();
            prop_assert_eq!(&read, &written);
            prop_assert_eq!(read.to_canonical_json(), bytes);
        }

        #[test]
        fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(TaskManifest::parse_json(&bytes).is_err());
            let text = String::from_utf8_lossy(&bytes);
            prop_assert!(TaskManifest::parse_toml(&text, "task.toml").is_err());
        }

        #[test]
        fn damage_never_panics(at: prop::sample::Index, byte: u8) {
            let mut bytes = manifest().to_canonical_json();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = TaskManifest::parse_json(&bytes);
            bytes.truncate(at);
            prop_assert!(TaskManifest::parse_json(&bytes).is_err());
        }
    }
}
