//! A task's state as people and machines read it: the same object for `task status`, `task watch` and the demo.

use std::fmt;

use koinon_proto::{Digest, wire};
use serde::{Deserialize, Serialize};

/// State of a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TaskView {
    pub(crate) task: String,
    pub(crate) name: String,
    /// waiting | running | done | cancelled | failed
    pub(crate) state: String,
    pub(crate) reason: String,
    pub(crate) round: u32,
    pub(crate) rounds: u32,
    /// statistics | selection | training | sharing | reporting | unmasking | idle
    pub(crate) phase: String,
    pub(crate) cohort: u32,
    pub(crate) ready: u32,
    pub(crate) accepted: u32,
    pub(crate) version: String,
    pub(crate) best_version: String,
    pub(crate) fitted: String,
    pub(crate) abandoned: u64,
    pub(crate) waiting_for: Vec<String>,
    /// Absent without differential privacy.
    pub(crate) privacy: Option<PrivacyView>,
    pub(crate) history: Vec<RoundView>,
}

/// What a task promises about one unit, for all its rounds together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PrivacyView {
    /// record | site
    pub(crate) unit: String,
    pub(crate) epsilon: f64,
    pub(crate) delta: f64,
    /// Where the clip is adaptive: that of each committed round.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) clips: Vec<f64>,
    /// The noised share of contributions that each of them left as they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unclipped: Vec<f64>,
}

impl PrivacyView {
    /// The clip's way, round by round; none where it is fixed.
    pub(crate) fn trail(&self) -> Option<String> {
        let round = |(clip, share): (&f64, &f64)| format!("{clip:.4} ({:.0} %)", 100.0 * share);
        let rounds: Vec<String> = self.clips.iter().zip(&self.unclipped).map(round).collect();
        (!rounds.is_empty()).then(|| rounds.join(", "))
    }
}

impl fmt::Display for PrivacyView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unit, epsilon, delta, clips, .. } = self;
        write!(f, "epsilon at most {epsilon} at delta {delta}, unit {unit}")?;
        match clips.as_slice() {
            [first, .., last] => write!(f, ", adaptive clip from {first:.4} to {last:.4}"),
            [only] => write!(f, ", adaptive clip {only:.4}"),
            [] => Ok(()),
        }
    }
}

impl From<wire::Privacy> for PrivacyView {
    fn from(privacy: wire::Privacy) -> Self {
        let wire::Privacy { unit, epsilon, delta, clips, unclipped } = privacy;
        Self { unit, epsilon, delta, clips, unclipped }
    }
}

/// One ended round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RoundView {
    pub(crate) round: u32,
    pub(crate) attempt: u32,
    /// statistics | train | evaluate
    pub(crate) kind: String,
    /// `committed`, or why it was abandoned.
    pub(crate) outcome: String,
    pub(crate) participants: u32,
    pub(crate) seconds: f64,
    pub(crate) started_ms: u64,
    pub(crate) version: String,
    /// Mean training loss; absent where none was summed.
    pub(crate) loss: Option<f64>,
    /// Of the version that the round started from.
    pub(crate) validation_loss: Option<f64>,
    pub(crate) validation_auc: Option<f64>,
    pub(crate) validation_rows: u64,
    pub(crate) bytes_up: u64,
}

impl TaskView {
    /// Whether nothing more will happen.
    #[cfg(feature = "demo")]
    pub(crate) fn ended(&self) -> bool {
        matches!(self.state.as_str(), "done" | "cancelled" | "failed")
    }
}

impl From<wire::TaskStatus> for TaskView {
    fn from(s: wire::TaskStatus) -> Self {
        TaskView {
            task: hex(&s.task),
            name: s.name,
            state: s.state,
            reason: s.reason,
            round: s.round,
            rounds: s.rounds,
            phase: s.phase,
            cohort: s.cohort,
            ready: s.ready,
            accepted: s.accepted,
            version: hex(&s.version),
            best_version: hex(&s.best_version),
            fitted: hex(&s.fitted),
            abandoned: s.abandoned,
            waiting_for: s.waiting_for,
            privacy: s.privacy.map(PrivacyView::from),
            history: s.history.into_iter().map(RoundView::from).collect(),
        }
    }
}

impl From<wire::RoundSummary> for RoundView {
    fn from(r: wire::RoundSummary) -> Self {
        let kind = match r.kind() {
            wire::RoundKind::Statistics => "statistics",
            wire::RoundKind::Evaluate => "evaluate",
            wire::RoundKind::Train | wire::RoundKind::Unspecified => "train",
        };
        let finite = |x: f64| x.is_finite().then_some(x);
        RoundView {
            kind: kind.into(),
            round: r.round,
            attempt: r.attempt,
            outcome: r.outcome,
            participants: r.participants,
            seconds: r.seconds_milli as f64 / 1000.0,
            started_ms: r.started_ms,
            version: hex(&r.version),
            loss: finite(r.loss),
            validation_loss: finite(r.validation_loss),
            validation_auc: finite(r.validation_auc).filter(|_| r.validation_rows > 0),
            validation_rows: r.validation_rows,
            bytes_up: r.bytes_up,
        }
    }
}

/// Hex of a digest from the wire; empty for none.
pub(crate) fn hex(bytes: &[u8]) -> String {
    <[u8; 32]>::try_from(bytes).map_or_else(|_| String::new(), |d| Digest(d).to_string())
}
