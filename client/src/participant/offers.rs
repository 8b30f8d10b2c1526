//! Tasks on offer, and the check-in that tells the coordinator which of them this site does.
//!
//! Offers are volatile and bounded; the coordinator makes them again in every epoch. Approval is the
//! policy's, by the manifest's digest.

use std::sync::Arc;

use koinon_proto::wire::to_coordinator::Message as Reply;
use koinon_proto::{Digest, TaskManifest, limits, wire};

use super::{Note, Participant, Turn};
use crate::error::{Fault, Refusal};
use crate::policy::{ApprovalDefault, Policy};

/// A manifest as it was offered.
pub(super) struct Offer {
    /// Verbatim.
    pub(super) bytes: Vec<u8>,
    pub(super) manifest: Arc<TaskManifest>,
    /// The coordinator's epoch in which it was offered last.
    pub(super) epoch: u64,
}

/// Whether the policy lets the site take part in a task.
pub(super) fn permitted(
    policy: &Policy,
    task: &Digest,
    manifest: &TaskManifest,
) -> Result<(), Refusal> {
    policy.check_task(manifest)?;
    if policy.approves(task) { Ok(()) } else { Err(Refusal::NotApproved) }
}

impl Participant {
    pub(super) fn offered(&mut self, turn: &mut Turn<'_>, offer: wire::Offer) {
        if offer.manifest.len() > limits::MANIFEST_BYTES_MAX {
            return turn.fault(Fault::Oversized);
        }
        let task = Digest::of(&offer.manifest);
        let epoch = self.link.coordinator_epoch;
        if let Some(known) = self.offers.get_mut(&task) {
            known.epoch = epoch;
            return;
        }
        if self.offers.len() >= limits::TASKS_MAX {
            // What the coordinator did not offer again is over there.
            self.offers.retain(|_, offer| offer.epoch == epoch);
        }
        if self.offers.len() >= limits::TASKS_MAX {
            return turn.fault(Fault::TooMany);
        }
        let Ok(manifest) = TaskManifest::parse_json(&offer.manifest) else {
            let refusal = Refusal::ManifestInvalid;
            return turn.note(Note::Refused { task: Some(task), session: None, refusal });
        };
        match permitted(&self.setup.policy, &task, &manifest) {
            Ok(()) => {}
            Err(Refusal::NotApproved)
                if self.setup.policy.approvals.default == ApprovalDefault::Ask =>
            {
                turn.note(Note::AwaitingApproval { task });
            }
            Err(refusal) => turn.note(Note::Refused { task: Some(task), session: None, refusal }),
        }
        let manifest = Arc::new(manifest);
        self.offers.insert(task, Offer { bytes: offer.manifest, manifest, epoch });
        self.check_in(turn);
    }

    /// Says which tasks this site does, if that is not what it said last.
    pub(super) fn check_in(&mut self, turn: &mut Turn<'_>) {
        if self.link.coordinator_epoch == 0 {
            return; // The first welcome makes the first check-in.
        }
        let check_in = self.check_in_message();
        if self.checked_in.as_ref() != Some(&check_in) {
            // Another head alone is no reason to check in again.
            let head = self.log_head(turn.now);
            self.post(turn, Reply::CheckIn(wire::CheckIn { head, ..check_in.clone() }));
            self.checked_in = Some(check_in);
        }
    }

    /// Says it in any case: the coordinator's epoch is new, it forgot.
    pub(super) fn check_in_anyway(&mut self, turn: &mut Turn<'_>) {
        self.checked_in = None;
        self.check_in(turn);
    }

    fn check_in_message(&self) -> wire::CheckIn {
        let policy = &self.setup.policy;
        let done = |(task, offer): &(&Digest, &Offer)| {
            !self.paused && permitted(policy, task, &offer.manifest).is_ok()
        };
        let tasks = self.offers.iter().filter(done).map(|(task, _)| task.0.to_vec()).collect();
        let roster = self.roster_digest().map(Vec::from).unwrap_or_default();
        wire::CheckIn { tasks, roster, head: Vec::new() }
    }
}
