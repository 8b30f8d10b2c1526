//! The durable state: what the journal's records add up to, and nothing else.
//!
//! [`State::apply`] is the only place where it changes, while running and on recovery alike; so the
//! same records always give the same state, and [`State::digest`] says so. Deliberately no checks of
//! peers' messages here (they were made before a record was written), only whether a record can
//! follow at all. Start at [`State::apply`].

use std::collections::BTreeMap;

use koinon_aggregation::{SessionPlan, Topology, plain};
use koinon_proto::{Digest, Millis, SessionId, SiteId, TaskManifest, wire};
use serde::Serialize;

use crate::keys::Keys;
use crate::members::Members;
use crate::record::{Change, Record};
use crate::registry::{Registry, Version};
use crate::round::{Round, Terms};
use crate::task::{End, Task};

/// Everything that survives `kill -9`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct State {
    /// When the last record was made.
    pub(crate) at_ms: Millis,
    /// Names the present start; 0 before the first.
    pub(crate) epoch: u64,
    pub(crate) members: Members,
    pub(crate) tasks: BTreeMap<Digest, Task>,
    /// The tasks in the order in which they were submitted.
    pub(crate) order: Vec<Digest>,
    pub(crate) registry: Registry,
    pub(crate) keys: Keys,
    /// How the last session ended that a site was invited to.
    pub(crate) outcomes: BTreeMap<SiteId, Outcome>,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Outcome {
    pub(crate) session: SessionId,
    /// The result, or the reason of the abandonment.
    pub(crate) result: Result<Digest, String>,
}

/// A record that cannot follow those before it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit;

impl State {
    /// Does what a record says; the state is unusable afterwards when it could not follow.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), Misfit> {
        let done = match &record.change {
            Change::Booted { epoch } => {
                self.boot(record.at_ms, *epoch);
                Some(())
            }
            Change::RosterPublished { roster } => {
                self.members.roster = Some(*roster);
                Some(())
            }
            Change::Enrolled { admission, name, key, enrolment } => {
                self.members.apply_enrolment(*admission, name, *key, enrolment);
                Some(())
            }
            Change::KeysPosted { .. } => self.keys.apply_posted(record.at_ms, &record.change),
            Change::KeysDropped { site } => {
                self.keys.apply_dropped(site);
                Some(())
            }
            Change::KeyLogLost { keeper, head } => {
                self.keys.apply_lost(*keeper, head);
                Some(())
            }
            Change::TaskSubmitted { .. } => self.submit(&record.change),
            Change::RoundStarted { .. } => self.start(record.at_ms, &record.change),
            Change::Committed { task, .. } => self.commit(record.at_ms, *task, &record.change),
            Change::Abandoned { task, reason } => self.abandon(record.at_ms, *task, reason),
            Change::Coasted { task, version, optimizer } => self.coast(*task, *version, *optimizer),
            Change::TaskCancelled { task } => self.cancel(record.at_ms, *task),
            Change::TaskEnded { task, failure, note } => self.tasks.get_mut(task).map(|task| {
                let end = failure.clone().map_or_else(|| End::Done(note.clone()), End::Failed);
                task.end = Some(end);
            }),
            Change::BundleAccepted { task, .. }
            | Change::ParticipantsFixed { task, .. }
            | Change::SharesAccepted { task, .. }
            | Change::DealersFixed { task }
            | Change::UpdateAccepted { task, .. }
            | Change::SurvivorsFixed { task }
            | Change::SignatureAccepted { task, .. }
            | Change::UnmaskStarted { task, .. }
            | Change::RevealAccepted { task, .. }
            | Change::Declined { task, .. } => self.tasks.get_mut(task).and_then(|task| {
                let round = task.round.take()?.apply(record.at_ms, &record.change)?;
                task.round = Some(round);
                task.note_site(&record.change);
                Some(())
            }),
        };
        self.at_ms = record.at_ms;
        done.ok_or(Misfit)
    }

    /// The private sum of a running round has the shares or the reveal of this record, of all without
    /// one: of them a digest is enough from now on.
    pub(crate) fn forget_said(&mut self, change: Option<&Change>) {
        match change {
            None => {
                let rounds = self.tasks.values_mut().filter_map(|task| task.round.as_mut());
                rounds.for_each(|round| round.forget(None));
            }
            Some(
                Change::SharesAccepted { task, site, .. }
                | Change::RevealAccepted { task, site, .. },
            ) => {
                let round = self.tasks.get_mut(task).and_then(|task| task.round.as_mut());
                round.into_iter().for_each(|round| round.forget(Some(site)));
            }
            Some(_) => {}
        }
    }

    /// A digest of the whole state: equal states have equal digests.
    pub(crate) fn digest(&self) -> Digest {
        let bytes =
            serde_json::to_vec(self).expect("the state is numbers, strings, lists and maps");
        Digest::of(&bytes)
    }

    /// The task whose running round has this session.
    pub(crate) fn task_of(&self, session: &SessionId) -> Option<Digest> {
        let of = |task: &&Task| task.round.as_ref().is_some_and(|r| r.terms.session == *session);
        let task = self.tasks.iter().find(|(_, task)| of(task));
        task.map(|(digest, _)| *digest)
    }

    /// The running rounds, with their tasks.
    pub(crate) fn rounds(&self) -> impl Iterator<Item = (&Digest, &Round)> {
        self.tasks.iter().filter_map(|(digest, task)| Some((digest, task.round.as_ref()?)))
    }

    /// Tasks that have not ended, in the order in which they were submitted.
    pub(crate) fn open(&self) -> impl Iterator<Item = (&Digest, &Task)> {
        let open = |digest| Some((digest, self.tasks.get(digest)?));
        self.order.iter().filter_map(open).filter(|(_, task)| task.end.is_none())
    }

    /// The time that the coordinator was down does not count against the budgets.
    fn boot(&mut self, at_ms: Millis, epoch: u64) {
        let down_ms = at_ms.saturating_sub(self.at_ms);
        for round in self.tasks.values_mut().filter_map(|task| task.round.as_mut()) {
            round.postpone(down_ms);
        }
        self.epoch = epoch;
    }

    fn submit(&mut self, change: &Change) -> Option<()> {
        let Change::TaskSubmitted { manifest: bytes, version, fitted } = change else {
            return None;
        };
        let manifest = TaskManifest::parse_json(bytes).ok()?;
        let digest = bytes.digest();
        if let (Some(version), Some(spec)) = (version, manifest.model) {
            let entry = Version {
                parent: None,
                task: digest,
                round: 0,
                spec,
                features: manifest.features,
                fitted: *fitted,
                participants: 0,
                measured: None,
            };
            self.registry.add(*version, entry);
        }
        let task = Task::new(bytes.clone(), manifest, *version, *fitted);
        self.order.push(digest);
        self.tasks.insert(digest, task).is_none().then_some(())
    }

    fn start(&mut self, at_ms: Millis, change: &Change) -> Option<()> {
        let Change::RoundStarted { task, kind, round, attempt, session, plan, cohort, keys } =
            change
        else {
            return None;
        };
        let ahead = match keys {
            Some(head) => Some(self.keys.take(cohort, head)?),
            None => None,
        };
        let entry = self.tasks.get_mut(task).filter(|task| task.round.is_none())?;
        let stated = SessionPlan::from_bytes(plan).ok()?;
        if Digest(stated.session) != *session {
            return None;
        }
        let manifest = &entry.manifest;
        let statistics = *kind == crate::round::Kind::Statistics;
        let terms = Terms {
            task: *task,
            kind: *kind,
            round: *round,
            attempt: *attempt,
            session: *session,
            plan: plan.clone(),
            complete: stated.topology == Topology::Complete,
            plain: plain::is_plain(&stated),
            roster: Digest(stated.roster),
            version: entry.version.filter(|_| !statistics),
            fitted: entry.fitted.filter(|_| !statistics),
            adapted: entry.adapted().filter(|_| *kind == crate::round::Kind::Train),
            cohort: cohort.iter().cloned().collect(),
            ahead,
            quorum: usize::from(manifest.cohort.quorum),
            grace_ms: manifest.grace_ms,
            started_ms: at_ms,
            deadline_ms: at_ms.saturating_add(manifest.budget_ms),
        };
        entry.start(Round::new(terms));
        Some(())
    }

    fn commit(&mut self, at_ms: Millis, digest: Digest, change: &Change) -> Option<()> {
        let Change::Committed { result, optimizer, figures, .. } = change else { return None };
        let task = self.tasks.get_mut(&digest)?;
        let round = task.commit(at_ms, *result, *optimizer, *figures)?;
        let (manifest, terms) = (&task.manifest, &round.terms);
        if let (Some(version), Some(validation)) = (terms.version, figures.validation) {
            self.registry.measure(&version, validation);
        }
        match (terms.kind, manifest.model) {
            (crate::round::Kind::Statistics, _) => {
                if let Some(version) = task.version {
                    self.registry.fit(&version, *result);
                }
            }
            (crate::round::Kind::Train, Some(spec)) => self.registry.add(
                *result,
                Version {
                    parent: terms.version,
                    task: digest,
                    round: terms.round,
                    spec,
                    features: manifest.features,
                    fitted: task.fitted,
                    participants: figures.participants,
                    measured: None,
                },
            ),
            _ => {}
        }
        self.conclude(&round, Ok(*result));
        self.share_fitted();
        Some(())
    }

    /// The newest fitted statistics of a feature plan. A site opens the sums behind them once, so that
    /// every task under this plan shares them.
    pub(crate) fn fitted_of(&self, features: &Digest) -> Option<Digest> {
        let tasks = self.order.iter().rev().filter_map(|digest| self.tasks.get(digest));
        tasks.filter(|task| task.manifest.features == *features).find_map(|task| task.fitted)
    }

    /// Gives tasks that wait for statistics those that another task fitted meanwhile.
    fn share_fitted(&mut self) {
        for digest in &self.order {
            let Some(task) = self.tasks.get(digest).filter(|task| task.wants_fitted()) else {
                continue;
            };
            let Some(fitted) = self.fitted_of(&task.manifest.features) else { continue };
            let Some(task) = self.tasks.get_mut(digest) else { continue };
            task.adopt(fitted);
            if let Some(version) = task.version {
                self.registry.fit(&version, fitted);
            }
        }
    }

    fn abandon(&mut self, at_ms: Millis, task: Digest, reason: &str) -> Option<()> {
        let round = self.tasks.get_mut(&task)?.abandon(at_ms, reason)?;
        self.conclude(&round, Err(reason.to_owned()));
        self.share_fitted();
        Some(())
    }

    fn coast(&mut self, digest: Digest, version: Digest, optimizer: Option<Digest>) -> Option<()> {
        let task = self.tasks.get_mut(&digest)?;
        let entry = Version {
            parent: task.version,
            task: digest,
            round: task.trained,
            spec: task.manifest.model?,
            features: task.manifest.features,
            fitted: task.fitted,
            participants: 0,
            measured: None,
        };
        task.coast(version, optimizer);
        self.registry.add(version, entry);
        Some(())
    }

    fn cancel(&mut self, at_ms: Millis, digest: Digest) -> Option<()> {
        let task = self.tasks.get_mut(&digest)?;
        task.end = Some(End::Cancelled);
        let reason = crate::event::codes::CANCELLED;
        if let Some(round) = task.abandon(at_ms, reason) {
            self.conclude(&round, Err(reason.to_owned()));
        }
        Some(())
    }

    /// Notes for the cohort how the session ended.
    fn conclude(&mut self, round: &Round, result: Result<Digest, String>) {
        for site in &round.terms.cohort {
            let outcome = Outcome { session: round.terms.session, result: result.clone() };
            self.outcomes.insert(site.clone(), outcome);
        }
    }
}

impl Outcome {
    /// The mail that says it.
    pub(crate) fn to_wire(&self) -> wire::to_site::Message {
        use wire::outcome::Result as Said;
        let result = match &self.result {
            Ok(digest) => Said::Committed((*digest).into()),
            Err(reason) => Said::Abandoned(reason.clone()),
        };
        let session = self.session.into();
        wire::to_site::Message::Outcome(wire::Outcome { session, result: Some(result) })
    }
}
