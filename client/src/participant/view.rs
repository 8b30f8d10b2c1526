//! What the site's people see of the participant: phase, upload, tasks on offer. Views only.

use koinon_proto::{Digest, SessionId, TaskManifest};

use super::offers::permitted;
use super::{Participant, Phase};
use crate::budget::Budget;
use crate::error::Refusal;
use crate::policy::PrivacyPolicy;

/// The name of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhaseName {
    /// In no round.
    Idle,
    /// Fetching what a round needs.
    Invited,
    /// Working on a round.
    Training,
    /// Exchanging keys and shares.
    Sharing,
    /// Sending the masked update.
    Reporting,
    /// Signing survivors and opening the sum.
    Revealing,
}

impl PhaseName {
    /// The word for status and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Invited => "invited",
            Self::Training => "training",
            Self::Sharing => "sharing",
            Self::Reporting => "reporting",
            Self::Revealing => "revealing",
        }
    }
}

/// Where the site is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether the coordinator answered on the present connection.
    pub connected: bool,
    /// Whether the site's operator paused it.
    pub paused: bool,
    /// The phase.
    pub phase: PhaseName,
    /// The session, its task and the round's number, unless idle.
    pub round: Option<(SessionId, Digest, u32)>,
    /// The upload under way.
    pub upload: Option<Upload>,
    /// The roster in force.
    pub roster: Option<Digest>,
}

/// A masked update on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The session.
    pub session: SessionId,
    /// Chunks that the coordinator has.
    pub acknowledged: u32,
    /// Chunks there are.
    pub total: u32,
}

/// A task on offer.
#[derive(Clone, Copy, Debug)]
pub struct Offered<'a> {
    /// The manifest's digest.
    pub task: Digest,
    /// The manifest's bytes, verbatim: what an approval is of.
    pub bytes: &'a [u8],
    /// The manifest.
    pub manifest: &'a TaskManifest,
    /// Why the site does not do it, if it does not.
    pub refusal: Option<Refusal>,
}

impl Participant {
    /// Where the site is.
    #[must_use]
    pub fn status(&self) -> Status {
        let round = self.phase.round();
        let upload = match &self.phase {
            Phase::Reporting(phase) => phase.upload.as_ref().map(|upload| Upload {
                session: phase.round.session,
                acknowledged: upload.next,
                total: upload.total(self.setup.chunk_bytes),
            }),
            _ => None,
        };
        Status {
            connected: self.link.is_welcomed(),
            paused: self.paused,
            phase: self.phase.name(),
            round: round.map(|round| (round.session, round.task, round.invite.round)),
            upload,
            roster: self.roster_digest(),
        }
    }

    /// What this site has spent in privacy.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.durable.budget
    }

    /// How often the log of posted keys did not extend what this site had taken of it before: more than
    /// never is grounds to ask whether the coordinator was restored from a backup, or shows different
    /// histories. The first heads, as they were signed, are in the durable state; two of the same size
    /// with different roots are proof.
    #[must_use]
    pub fn key_log_contradictions(&self) -> usize {
        self.durable.heads.contradictions()
    }

    /// What this site's policy permits of it.
    #[must_use]
    pub fn privacy_policy(&self) -> &PrivacyPolicy {
        &self.setup.policy.privacy
    }

    /// The tasks that the coordinator offers, in order of their digests.
    pub fn offers(&self) -> impl Iterator<Item = Offered<'_>> {
        self.offers.iter().map(|(task, offer)| Offered {
            task: *task,
            bytes: &offer.bytes,
            manifest: &offer.manifest,
            refusal: permitted(&self.setup.policy, task, &offer.manifest).err(),
        })
    }
}
