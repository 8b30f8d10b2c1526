//! What a running round has beside its place in the journal: the private sum, and uploads under way.
//!
//! The session is derived: it is a function of the messages that were accepted, and those are in the
//! journal and the blobs. Uploads are volatile. Start at [`Live::rebuild`].

use std::collections::{BTreeMap, BTreeSet};

use koinon_aggregation::{ServerSession, SessionPlan};
use koinon_proto::{Digest, SiteId};

use super::{Phase, Round, own};
use crate::error::ReplayError;
use crate::event::Rejection;
use crate::places::Places;
use crate::upload::{self, Upload};

/// The private sum and the uploads under way: derived from the journal, and volatile.
pub(crate) struct Live {
    pub(crate) session: ServerSession,
    /// Identity keys of the cohort, as the roster of the plan states them.
    pub(crate) members: BTreeMap<String, [u8; 32]>,
    /// The announced uploads that are not accepted yet.
    pub(crate) uploads: BTreeMap<SiteId, Upload>,
    /// Which of them may be staged.
    pub(crate) staging: Places,
    /// Whose bulky mail may be unread.
    pub(crate) mailing: Places,
    /// Whose survivor signatures count, once the participants are fixed.
    pub(crate) signers: BTreeSet<SiteId>,
}

/// Sites that bulky mail is unread of at a time. On a cohort of a thousand it is some 80 KiB each, of
/// ten thousand 200 KiB, held as a letter, as a frame, and as what the connection has not sent yet.
const MAILING_MAX: usize = 24;

impl Live {
    /// A session that nobody has entered yet.
    pub(crate) fn new(
        plan: SessionPlan,
        members: BTreeMap<String, [u8; 32]>,
    ) -> Result<Self, koinon_aggregation::Rejection> {
        let staging = upload::places(plan.encoding.update_bytes());
        let session = ServerSession::new(plan)?;
        let (uploads, signers) = (BTreeMap::new(), BTreeSet::new());
        let mailing = Places::new(MAILING_MAX);
        Ok(Self { session, members, uploads, staging, mailing, signers })
    }

    /// The session of a round in the journal: all that was accepted is given again.
    pub(crate) fn rebuild(
        round: &Round,
        members: BTreeMap<String, [u8; 32]>,
        blobs: &dyn Fn(&Digest) -> Option<Vec<u8>>,
    ) -> Result<Self, ReplayError> {
        let task = round.terms.task;
        let broken = move |what: String| ReplayError::Session { task, what };
        let refused = |rejection: koinon_aggregation::Rejection| broken(rejection.to_string());
        let plan = SessionPlan::from_bytes(&round.terms.plan)
            .map_err(|error| broken(error.to_string()))?;
        let mut live = Self::new(plan, members).map_err(refused)?;
        match &round.phase {
            Phase::Training(phase) => live.replay_bundles(&phase.bundles.of).map_err(refused)?,
            Phase::Sharing(phase) => {
                live.replay_participants(&phase.bundles).map_err(refused)?;
                live.replay_shares(&phase.shares.of).map_err(refused)?;
            }
            Phase::Reporting(phase) => {
                live.replay_participants(&phase.bundles).map_err(refused)?;
                live.replay_shares(&phase.shares).map_err(refused)?;
                live.session.fix_dealers().map_err(refused)?;
                live.replay_updates(&phase.updates.of, blobs, task)?;
            }
            Phase::Unmasking(phase) => {
                live.replay_participants(&phase.bundles).map_err(refused)?;
                live.replay_shares(&phase.shares).map_err(refused)?;
                live.session.fix_dealers().map_err(refused)?;
                live.replay_updates(&phase.updates, blobs, task)?;
                live.session.fix_survivors().map_err(refused)?;
                live.replay_unmasking(phase).map_err(refused)?;
            }
        }
        Ok(live)
    }

    /// Notes whose survivor signatures count: the participants are fixed.
    pub(super) fn note_signers(&mut self, participants: &[&SiteId]) {
        let signer = |index: u16| participants.get(usize::from(index)).map(|site| (*site).clone());
        self.signers = self.session.signers().into_iter().filter_map(signer).collect();
    }

    /// The chunk wanted next of a site whose upload has a place.
    pub(crate) fn wanted(&self, site: &SiteId) -> Option<u32> {
        self.uploads.get(site).filter(|_| self.staging.holds(site)).map(Upload::next)
    }

    /// A site's upload is accepted, or not wanted any more.
    pub(crate) fn end_upload(&mut self, site: &SiteId) {
        self.uploads.remove(site);
        self.staging.leave(site);
    }

    /// A phase is over: nobody waits for its mail any more.
    pub(crate) fn end_mailing(&mut self) {
        self.mailing = Places::new(MAILING_MAX);
    }

    /// Refuses an index that is not the site's own.
    pub(super) fn own_index(&self, site: &SiteId, index: u16) -> Result<(), Rejection> {
        let name = self.session.participants().nth(usize::from(index)).unwrap_or_default();
        own(site, name)
    }
}
