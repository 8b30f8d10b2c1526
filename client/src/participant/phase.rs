//! The phases, and what all of them know: the round.
//!
//! A phase holds only what it needs and moves only forward; what each does with a message is in the
//! file of its name.

use std::sync::Arc;

use koinon_aggregation::SessionPlan;
use koinon_proto::{Digest, SessionId, TaskManifest, wire};

use super::invited::Invited;
use super::reporting::Reporting;
use super::revealing::Revealing;
use super::sharing::Sharing;
use super::training::Training;
use super::view::PhaseName;
use crate::trainer::RoundKind;

/// Where the site is in a round.
#[expect(clippy::large_enum_variant, reason = "a participant has one, and moves it seldom")]
pub(super) enum Phase {
    /// In no round.
    Idle,
    /// Invited; what the task names by digest is on its way.
    Invited(Invited),
    /// Working; nothing of this session has left.
    Training(Training),
    /// Keys have left; shares go both ways.
    Sharing(Sharing),
    /// The masked update is made and on its way.
    Reporting(Reporting),
    /// The survivor signature has left.
    Revealing(Revealing),
}

/// A round as the site checked it.
pub(super) struct Round {
    pub(super) session: SessionId,
    pub(super) task: Digest,
    /// The manifest's bytes, verbatim.
    pub(super) manifest_bytes: Vec<u8>,
    pub(super) manifest: Arc<TaskManifest>,
    /// The invitation as it came.
    pub(super) invite: wire::Invite,
    pub(super) plan: SessionPlan,
    pub(super) kind: RoundKind,
    /// Digest of the parameters' file; none for statistics.
    pub(super) version: Option<Digest>,
    /// Digest of the fitted statistics, where the plan needs any.
    pub(super) fitted: Option<Digest>,
}

impl Round {
    /// The fewest sites whose sum this site helps to open, given its policy's floor.
    pub(super) fn floor(&self, policy_min: u16) -> u16 {
        policy_min.max(self.manifest.cohort.min)
    }
}

impl Phase {
    /// The round, unless idle.
    pub(super) fn round(&self) -> Option<&Round> {
        match self {
            Self::Idle => None,
            Self::Invited(phase) => Some(&phase.round),
            Self::Training(phase) => Some(&phase.round),
            Self::Sharing(phase) => Some(&phase.round),
            Self::Reporting(phase) => Some(&phase.round),
            Self::Revealing(phase) => Some(&phase.round),
        }
    }

    /// Whether local work is under way.
    pub(super) fn is_working(&self) -> bool {
        match self {
            Self::Training(_) => true,
            Self::Sharing(phase) => phase.is_working(),
            _ => false,
        }
    }

    pub(super) fn name(&self) -> PhaseName {
        match self {
            Self::Idle => PhaseName::Idle,
            Self::Invited(_) => PhaseName::Invited,
            Self::Training(_) => PhaseName::Training,
            Self::Sharing(_) => PhaseName::Sharing,
            Self::Reporting(_) => PhaseName::Reporting,
            Self::Revealing(_) => PhaseName::Revealing,
        }
    }
}
