//! Read-only views for operators and for the driver. Nothing is decided here.

use koinon_aggregation::Signer as _;
use koinon_aggregation::roster::{Role, SignedRoster};
use koinon_proto::task::TaskManifest;
use koinon_proto::{Digest, Millis, SiteId, wire};

use super::Coordinator;
use crate::task::Task;
use crate::task::material::named;
use crate::task::view::Presence;

/// Most names in a view of who is waited for.
const MISSING_MAX: usize = 64;

impl Coordinator {
    /// A task as operators see it.
    #[must_use]
    pub fn status(&self, task: &Digest) -> Option<wire::TaskStatus> {
        let entry = self.state.tasks.get(task)?;
        Some(entry.to_wire(task, || self.presence(task)))
    }

    /// All tasks in the order in which they were submitted.
    #[must_use]
    pub fn tasks(&self) -> Vec<wire::TaskStatus> {
        self.state.order.iter().filter_map(|task| self.status(task)).collect()
    }

    /// All versions, in order of digest.
    #[must_use]
    pub fn versions(&self) -> Vec<wire::Version> {
        let mut versions = self.state.registry.to_wire();
        for version in &mut versions {
            let task = Digest::try_from(&version.task[..]).ok();
            let task = task.and_then(|task| self.state.tasks.get(&task));
            // What a task starts from is not its own.
            version.privacy = task.filter(|_| version.round > 0).and_then(Task::privacy);
            // The clips of the rounds up to this version.
            if let Some(privacy) = &mut version.privacy {
                let rounds = usize::try_from(version.round).unwrap_or(usize::MAX);
                privacy.clips.truncate(rounds);
                privacy.unclipped.truncate(rounds);
            }
        }
        versions
    }

    /// Enrolments that wait for a roster, the roster in force, and the coordinator's own key.
    #[must_use]
    pub fn pending(&self) -> wire::PendingReply {
        let roster = self.roster.as_ref();
        wire::PendingReply {
            enrolments: self.state.members.pending(roster).collect(),
            roster: roster.map(|signed| signed.bytes().to_vec()).unwrap_or_default(),
            coordinator_key: self.setup.identity.public().to_vec(),
        }
    }

    /// The roster in force.
    #[must_use]
    pub fn roster(&self) -> Option<&SignedRoster> {
        self.roster.as_ref()
    }

    /// Whether the roster in force counts this name as an operator at `now`; before the first roster
    /// it counts nobody.
    #[must_use]
    pub fn is_operator(&self, name: &SiteId, now: Millis) -> bool {
        self.roster.as_ref().is_some_and(|roster| counts_operator(roster, name, now))
    }

    /// Whether this operator may hand in this roster: it counts in the one in force, or there is none
    /// yet, or the consortium counts it in the very roster that it brings. Without the last a
    /// consortium whose only operator expired could never publish again.
    #[must_use]
    pub fn may_publish(&self, name: &SiteId, bytes: &[u8], now: Millis) -> bool {
        let brought = || SignedRoster::verify(bytes, &self.setup.consortium_key);
        self.roster.is_none()
            || self.is_operator(name, now)
            || brought().is_ok_and(|roster| counts_operator(&roster, name, now))
    }

    /// Whether members may download this blob. Masked updates and the optimizer's state are not for
    /// anybody.
    #[must_use]
    pub fn serves(&self, digest: &Digest) -> bool {
        let state = &self.state;
        state.members.roster == Some(*digest)
            || state.registry.get(digest).is_some()
            || state
                .tasks
                .values()
                .any(|task| task.fitted == Some(*digest) || named(&task.manifest).contains(digest))
    }

    /// Whether anything here still needs this blob: what is in the store and not needed, a driver may
    /// remove when it starts (a blob whose record was never written, for one).
    #[must_use]
    pub fn needs(&self, digest: &Digest) -> bool {
        let state = &self.state;
        let optimizer = |task: &Task| task.end.is_none() && task.optimizer == Some(*digest);
        self.serves(digest)
            || state.tasks.values().any(optimizer)
            || state.rounds().any(|(_, round)| {
                let mut updates = round.updates().into_iter();
                round.terms.roster == *digest || updates.any(|update| update.blob == *digest)
            })
    }

    fn presence(&self, task: &Digest) -> Presence {
        let (present, _) = self.present(task);
        let members = self.roster.iter().flat_map(|signed| {
            signed.roster().clients_at(Some(self.now)).members().map(|member| member.name.clone())
        });
        let missing = members.filter(|name| !present.ready.contains(name.as_str()));
        let grace_ms = self.state.tasks[task].manifest.grace_ms;
        let selection = self.selections.get(task);
        Presence {
            selecting: selection.is_some_and(|s| s.waits_until(grace_ms).is_some()),
            missing: missing.take(MISSING_MAX).collect(),
        }
    }
}

fn counts_operator(signed: &SignedRoster, name: &SiteId, now: Millis) -> bool {
    let member = signed.roster().member(name.as_str());
    member.is_some_and(|member| member.role == Role::Operator && member.counts_at(Some(now)))
}

/// The digests of the blobs that a manifest names: what the driver adds to
/// [`Event::Submit`](crate::Event::Submit) from its store. Empty when it is no manifest.
#[must_use]
pub fn named_blobs(manifest: &[u8]) -> Vec<Digest> {
    TaskManifest::parse_json(manifest).map(|manifest| named(&manifest)).unwrap_or_default()
}
