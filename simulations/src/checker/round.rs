//! A session as the journal tells it, record by record.

use super::Checker;
use koinon_aggregation::SessionPlan;
use koinon_coordinator::Kind;
use koinon_coordinator::record::{Change, Record};
use koinon_proto::{Digest, Millis, SessionId, SiteId};
use std::collections::{BTreeMap, BTreeSet};

/// What the journal says about one session.
pub(super) struct Round {
    pub(super) session: SessionId,
    pub(super) plan: SessionPlan,
    pub(super) kind: Kind,
    pub(super) round: u32,
    pub(super) attempt: u32,
    pub(super) cohort: BTreeSet<SiteId>,
    /// Latest end, moved by the coordinator's absences.
    pub(super) due_ms: Millis,
    pub(super) declined: BTreeSet<SiteId>,
    pub(super) bundles: BTreeMap<SiteId, Vec<u8>>,
    pub(super) participants: Vec<SiteId>,
    pub(super) shares: BTreeMap<SiteId, Vec<u8>>,
    pub(super) dealers_fixed: bool,
    /// The accepted report and the blob of each site.
    pub(super) updates: BTreeMap<SiteId, (Vec<u8>, Digest)>,
    pub(super) survivors_fixed: bool,
    pub(super) signatures: Vec<Vec<u8>>,
    pub(super) unmasking: bool,
    pub(super) reveals: Vec<Vec<u8>>,
    pub(super) end: Option<End>,
}

/// How a session ended.
pub(super) enum End {
    Committed(Digest),
    Abandoned,
}

impl Round {
    pub(super) fn place(&self) -> String {
        let session = self.session.short();
        format!("round {} attempt {} (session {session})", self.round, self.attempt)
    }

    /// Whether the round goes, or went, on without this site.
    pub(super) fn left_out(&self, site: &SiteId) -> bool {
        self.declined.contains(site)
            || !self.cohort.contains(site)
            || !self.participants.is_empty() && !self.participants.contains(site)
            || self.dealers_fixed && !self.shares.contains_key(site)
            || self.survivors_fixed && !self.updates.contains_key(site)
    }
}

impl Checker {
    pub(super) fn record(
        &mut self,
        now: Millis,
        record: &Record,
        blob: &dyn Fn(&Digest) -> Option<Vec<u8>>,
    ) {
        match &record.change {
            Change::TaskSubmitted { version, .. } => {
                self.submitted = true;
                self.version = *version;
            }
            Change::RoundStarted { .. } => self.started(now, record),
            // Keys belong to no round; what is named of them is checked where it is told.
            Change::KeysPosted { .. } | Change::KeysDropped { .. } => {}
            Change::KeyLogLost { .. } => {
                self.violation(now, "journal", "the log of posted keys was lost without a backup");
            }
            Change::Coasted { version, .. } => self.version = Some(*version),
            Change::TaskCancelled { .. } => {
                // A cancelled task takes its round with it.
                if let Some(round) = self.open_round() {
                    round.end = Some(End::Abandoned);
                }
                self.open = None;
            }
            Change::TaskEnded { .. } => {
                if let Some(round) = self.open_round() {
                    let place = round.place();
                    self.violation(now, place, "the task ended with the round still open");
                }
            }
            change => self.within_round(now, change, blob),
        }
    }

    fn started(&mut self, now: Millis, record: &Record) {
        let Change::RoundStarted { kind, round, attempt, session, plan, cohort, .. } =
            &record.change
        else {
            return;
        };
        if let Some(open) = self.open_round() {
            let place = open.place();
            self.violation(now, place, "another round started before this one ended");
        }
        let Ok(plan) = SessionPlan::from_bytes(plan) else {
            let what = "the journal holds a plan that cannot be read";
            return self.violation(now, format!("session {}", session.short()), what);
        };
        let started = Round {
            session: *session,
            plan,
            kind: *kind,
            round: *round,
            attempt: *attempt,
            cohort: cohort.iter().cloned().collect(),
            due_ms: record.at_ms.saturating_add(self.manifest.budget_ms),
            declined: BTreeSet::new(),
            bundles: BTreeMap::new(),
            participants: Vec::new(),
            shares: BTreeMap::new(),
            dealers_fixed: false,
            updates: BTreeMap::new(),
            survivors_fixed: false,
            signatures: Vec::new(),
            unmasking: false,
            reveals: Vec::new(),
            end: None,
        };
        if self.rounds.insert(*session, started).is_some() {
            let what = "the session was there before: a session is never used twice";
            self.violation(now, format!("session {}", session.short()), what);
        }
        self.open = Some(*session);
    }

    fn within_round(
        &mut self,
        now: Millis,
        change: &Change,
        blob: &dyn Fn(&Digest) -> Option<Vec<u8>>,
    ) {
        let Some(session) = self.open else {
            let inside = !matches!(
                change,
                Change::Booted { .. } | Change::RosterPublished { .. } | Change::Enrolled { .. }
            );
            if inside {
                self.violation(now, "journal", "a record of a round when none is open");
            }
            return;
        };
        let Some(round) = self.rounds.get_mut(&session) else { return };
        match change {
            Change::Declined { site, .. } => {
                round.declined.insert(site.clone());
            }
            Change::BundleAccepted { site, bundle, .. } => {
                round.bundles.insert(site.clone(), bundle.to_vec());
            }
            Change::ParticipantsFixed { sites, .. } => round.participants.clone_from(sites),
            Change::SharesAccepted { site, shares, .. } => {
                round.shares.insert(site.clone(), shares.to_vec());
            }
            Change::DealersFixed { .. } => round.dealers_fixed = true,
            Change::UpdateAccepted { site, report, update, .. } => {
                let known = round.updates.insert(site.clone(), (report.to_vec(), *update));
                let (place, cohort) = (round.place(), round.cohort.contains(site));
                if known.is_some() {
                    self.violation(now, place, format!("{site}'s update is accepted twice"));
                } else if !cohort {
                    self.violation(now, place, format!("{site} is not in the cohort"));
                }
            }
            Change::SurvivorsFixed { .. } => round.survivors_fixed = true,
            Change::SignatureAccepted { signature, .. } => {
                round.signatures.push(signature.to_vec())
            }
            Change::UnmaskStarted { .. } => round.unmasking = true,
            Change::RevealAccepted { reveal, .. } => round.reveals.push(reveal.to_vec()),
            Change::Committed { result, figures, .. } => {
                let accepted = round.updates.len();
                round.end = Some(End::Committed(*result));
                let place = round.place();
                if figures.participants as usize != accepted {
                    let counted = figures.participants;
                    let what = format!("{accepted} updates were accepted, {counted} are counted");
                    self.violation(now, place, what);
                }
                self.committed(now, session, *result, blob);
                self.open = None;
            }
            Change::Abandoned { reason, .. } => {
                round.end = Some(End::Abandoned);
                let place = round.place();
                if reason.is_empty() {
                    self.violation(now, place, "the round was abandoned without a reason");
                }
                self.open = None;
            }
            _ => {}
        }
    }
}
