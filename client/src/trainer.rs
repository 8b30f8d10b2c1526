//! Local work: what a site computes for a round, and the seam where a site brings its own program.
//!
//! The participant hands out a [`Job`] and takes back a contribution; who does the work (the engine
//! here, PyTorch behind a pipe, a database query) is the site's choice: it implements [`Trainer`].
//! A trainer deliberately sees no peer, no key and no socket, and what it returns has no wire form:
//!
//! ```compile_fail
//! fn json(work: &koinon_client::trainer::Contribution) -> String {
//!     serde_json::to_string(work).unwrap()
//! }
//! ```
//! ```compile_fail
//! fn text(work: &koinon_client::trainer::Contribution) -> String { format!("{work:?}") }
//! ```
//! ```compile_fail
//! fn copy(work: &koinon_client::trainer::Contribution) -> koinon_client::trainer::Contribution {
//!     work.clone()
//! }
//! ```
//! ```compile_fail
//! fn json(rows: &koinon_model::dataset::Dataset) -> String { serde_json::to_string(rows).unwrap() }
//! ```
//! ```compile_fail
//! fn text(rows: &koinon_model::dataset::Dataset) -> String { format!("{rows:?}") }
//! ```
//!
//! The same types do what they may (so that the examples above fail for the reason meant):
//!
//! ```
//! fn rows(work: &koinon_client::trainer::Contribution) -> u32 { work.weight }
//! fn width(rows: &koinon_model::dataset::Dataset) -> usize { rows.width() }
//! ```

use std::sync::Arc;

use koinon_model::features::FeaturePlan;
use koinon_model::features::fitted::FittedFeatures;
use koinon_model::params::Params;
use koinon_model::plan::TrainingPlan;
use koinon_model::spec::CheckedSpec;
use koinon_proto::{Digest, Millis, SessionId, SiteId, TaskManifest};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::report::Figures;

pub use koinon_model::contribution::{Contribution, RoundKind};

/// One round's local work. Everything in it was checked against the digests the site approved.
#[derive(Clone)]
pub struct Job {
    /// Which session asks.
    pub session: SessionId,
    /// The task's digest.
    pub task: Digest,
    /// The task's manifest.
    pub manifest: Arc<TaskManifest>,
    /// Statistics, training or evaluation.
    pub kind: RoundKind,
    /// The round's number; 0 for the statistics before the first.
    pub round: u32,
    /// How columns become tensors.
    pub features: Arc<FeaturePlan>,
    /// The model; none for statistics.
    pub spec: Option<Arc<CheckedSpec>>,
    /// How to train; present for training.
    pub training: Option<Arc<TrainingPlan>>,
    /// The version to train or evaluate; none for statistics.
    pub params: Option<Arc<Params>>,
    /// The fitted statistics of the features, where the plan needs any.
    pub fitted: Option<Arc<FittedFeatures>>,
    /// Seed of all local randomness: see [`job_seed`].
    pub seed: u64,
    /// Seed of the secret draw of rows, for a step of record-level privacy: from the site's own
    /// entropy, never from a plan, and another one whenever the job is done again.
    pub draw: Option<Zeroizing<[u8; 32]>>,
    /// What one unit's contribution is clipped to in this round, in L2, recomputed by the site; none in
    /// a task without privacy.
    pub clip: Option<f64>,
    /// What was left of the round's budget when the site was invited, for trainers that can hurry.
    pub budget_ms: Millis,
}

/// What the work gives: the contribution to the sum, and figures that stay at the site.
pub struct Work {
    /// What is clipped, encoded, masked and summed.
    pub contribution: Contribution,
    /// For the site's own report.
    pub figures: Figures,
}

/// Why the work could not be done. Only the code leaves the site.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorkError {
    /// The site's data cannot be read or do not fit the feature plan; the text stays at the site.
    #[error("data: {0}")]
    Data(String),
    /// Too few rows for the task.
    #[error("there are no rows to work on; check the file and the plan's split")]
    NoRows,
    /// The model cannot be computed here.
    #[error("engine: {0}")]
    Engine(String),
    /// Training gave numbers that are not finite.
    #[error("training diverged: lower the learning rate of the plan")]
    Diverged,
    /// The participant asked to stop.
    #[error("stopped")]
    Stopped,
}

impl WorkError {
    /// The stable code that leaves the site.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Data(_) => "data",
            Self::NoRows => "no_rows",
            Self::Engine(_) => "engine",
            Self::Diverged => "diverged",
            Self::Stopped => "stopped",
        }
    }
}

/// Does a site's local work. One job at a time; the caller gives it a thread of its own.
pub trait Trainer {
    /// Does `job`. Long work asks `stop` every now and then (at least once a second) and returns
    /// [`WorkError::Stopped`] once it says true.
    ///
    /// The same job must give the same contribution: after a crash between two steps of a session
    /// the participant asks for it again. A task with privacy ([`TaskManifest::privacy`]) sums nothing
    /// but the update; for the unit record that is the negated sum of gradients, each clipped to `clip`,
    /// of rows drawn with `draw`, and the guarantee rests on the trainer clipping every row, and on no
    /// single row deciding whether the work can be done: one that cannot be read is left out. Where the
    /// clip is adaptive the update is in units of it, and what was not clipped is counted beside it: see
    /// [`Contribution::counted`].
    ///
    /// # Errors
    /// [`WorkError`]; the site reports its code and sits out the round.
    fn work(&mut self, job: &Job, stop: &dyn Fn() -> bool) -> Result<Work, WorkError>;
}

/// The seed of a round's local randomness at one site: the first eight bytes of SHA-256 over a domain,
/// the manifest's seed, the round and the site's name. Batch order and initialisation come from it;
/// keys, masks and rounding never do.
///
/// ```
/// use koinon_client::trainer::job_seed;
/// use koinon_proto::SiteId;
///
/// let site = SiteId::new("hospital-05").unwrap();
/// assert_eq!(job_seed(7, 1, &site), job_seed(7, 1, &site));
/// assert_ne!(job_seed(7, 1, &site), job_seed(7, 2, &site));
/// ```
#[must_use]
pub fn job_seed(seed: u64, round: u32, site: &SiteId) -> u64 {
    let mut hash = Sha256::new();
    hash.update(b"koinon/v1/job-seed");
    hash.update(seed.to_le_bytes());
    hash.update(round.to_le_bytes());
    hash.update(site.as_str().as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    u64::from_le_bytes(std::array::from_fn(|index| digest[index]))
}
