//! The rules that must hold after every step, whatever goes wrong around the cores.
//!
//! * Every round ends, within its one budget, committed or with a reason.
//! * Each accepted update is counted exactly once, or the round ends with a reason.
//! * The opened sum, and the version made of it, are the oracle's.
//! * A restart from the journal finds the state that the running coordinator has.
//! * What a coordinator says was durable before it said so.
//! * What a site sent, minus what it encoded, is uniform; it never sends other bytes in the same
//!   session, never the same mask in two, never a second survivor signature or reveal, never the same
//!   one-time keys in two, and never opens a second sum over the same parameters.
//! * A coordinator that does not lie keeps one log of posted keys, and names only what is in it.
//!
//! The checker sees what crosses between machines and what lies on their disks, and each site's
//! contribution as its trainer returned it. It never looks into a core. Rules about sites hold for
//! honest ones; a liar's frames are checked before they are turned into lies.
//!
//! Start at [`Checker::records`] (the coordinator), [`Checker::leaves_site`] (sites).

mod opening;
mod round;
mod told;
mod uploads;

use crate::oracle::Expected;
use crate::report::{Counts, Violation};
use crate::uniform::Uniformity;
use koinon_aggregation::SessionPlan;
use koinon_aggregation::roster::Roster;
use koinon_client::trainer::Contribution;
use koinon_coordinator::record::{Change, Record};
use koinon_model::spec::CheckedSpec;
use koinon_proto::{Digest, Millis, SessionId, SiteId, TaskManifest};
use round::Round;
use std::collections::{BTreeMap, BTreeSet};
pub(crate) use told::mail_to_site;
use uploads::Upload;
pub(crate) use uploads::mail_to_coordinator;

/// The rules and what they need to remember.
pub(crate) struct Checker {
    pub(crate) counts: Counts,
    pub(crate) violations: Vec<Violation>,
    seed: u64,
    replay: String,
    start_ms: Millis,
    /// Whether the coordinator tells lies in this run.
    hub_lies: bool,
    sites: Vec<SiteId>,
    roster: Roster,
    manifest: TaskManifest,
    spec: CheckedSpec,
    /// Every session of the journal, running or ended.
    rounds: BTreeMap<SessionId, Round>,
    /// The session that is under way.
    open: Option<SessionId>,
    /// The version that the next round starts from.
    version: Option<Digest>,
    /// The shares of unclipped contributions that were opened, where the clip follows them.
    unclipped: Vec<f64>,
    submitted: bool,
    last_record_ms: Millis,
    /// The plan each site was given for a session: a liar may give different ones.
    plans: BTreeMap<(SessionId, usize), Invited>,
    expected: BTreeMap<(SessionId, usize), Expected>,
    uploads: BTreeMap<(SessionId, usize), Upload>,
    /// Beginnings of masks, to find one that is used twice.
    masks: BTreeMap<Vec<u64>, (SessionId, usize)>,
    uniform: Uniformity,
    signatures: BTreeMap<(SessionId, usize), Vec<u8>>,
    reveals: BTreeMap<(SessionId, usize), Vec<u8>>,
    /// The one-time keys that sites offered, each with the session it was for.
    offered: BTreeMap<[u8; 32], (SessionId, usize)>,
    /// What each site helped to open: kind of round and version.
    opened: BTreeMap<(usize, i32, Vec<u8>), SessionId>,
}

/// What a site was invited to.
struct Invited {
    plan: SessionPlan,
    kind: i32,
    /// The version, or the task where there are no parameters.
    over: Vec<u8>,
}

/// Who and what is checked.
pub(crate) struct CheckerSetup {
    pub(crate) seed: u64,
    pub(crate) replay: String,
    pub(crate) start_ms: Millis,
    pub(crate) hub_lies: bool,
    pub(crate) sites: Vec<SiteId>,
    pub(crate) roster: Roster,
    pub(crate) manifest: TaskManifest,
    pub(crate) spec: CheckedSpec,
}

impl Checker {
    pub(crate) fn new(setup: CheckerSetup) -> Checker {
        Checker {
            counts: Counts::default(),
            violations: Vec::new(),
            seed: setup.seed,
            replay: setup.replay,
            start_ms: setup.start_ms,
            hub_lies: setup.hub_lies,
            sites: setup.sites,
            roster: setup.roster,
            manifest: setup.manifest,
            spec: setup.spec,
            rounds: BTreeMap::new(),
            open: None,
            version: None,
            unclipped: Vec::new(),
            submitted: false,
            last_record_ms: setup.start_ms,
            plans: BTreeMap::new(),
            expected: BTreeMap::new(),
            uploads: BTreeMap::new(),
            masks: BTreeMap::new(),
            uniform: Uniformity::default(),
            signatures: BTreeMap::new(),
            reveals: BTreeMap::new(),
            offered: BTreeMap::new(),
            opened: BTreeMap::new(),
        }
    }

    /// Notes that a rule is broken. The same again, or a hundred others, would say nothing new.
    pub(crate) fn violation(
        &mut self,
        now: Millis,
        place: impl Into<String>,
        what: impl Into<String>,
    ) {
        let (what, place) = (what.into(), place.into());
        let known = self.violations.iter().any(|v| v.what == what && v.place == place);
        if known || self.violations.len() >= VIOLATIONS_MAX {
            return;
        }
        let at_ms = now.saturating_sub(self.start_ms);
        let (seed, replay) = (self.seed, self.replay.clone());
        self.violations.push(Violation { what, place, at_ms, seed, replay });
    }

    /// These records are durable now; nothing that follows from them has left yet.
    pub(crate) fn records(
        &mut self,
        now: Millis,
        records: &[Record],
        blob: &dyn Fn(&Digest) -> Option<Vec<u8>>,
    ) {
        for record in records {
            if let Change::Booted { .. } = record.change {
                // Deadlines move by the time that no record vouches for.
                let away = record.at_ms.saturating_sub(self.last_record_ms);
                if let Some(round) = self.open_round() {
                    round.due_ms = round.due_ms.saturating_add(away);
                }
            }
            self.last_record_ms = record.at_ms;
            self.record(now, record, blob);
        }
    }

    /// Time has come this far; a coordinator that is up has done all it wanted to do by now.
    pub(crate) fn time_if_up(&mut self, now: Millis, up: bool) {
        if up
            && let Some(round) = self.open_round()
            && now > round.due_ms.saturating_add(SLACK_MS)
        {
            let (place, due) = (round.place(), round.due_ms);
            let late = now.saturating_sub(due);
            self.violation(now, place, format!("the round is {late} ms over its budget"));
        }
    }

    /// The restart that a replay tells about, against the running state.
    pub(crate) fn replayed(
        &mut self,
        now: Millis,
        replayed: Result<Digest, String>,
        running: Digest,
    ) {
        self.counts.replays_checked += 1;
        match replayed {
            Ok(digest) if digest == running => {}
            Ok(_) => self.violation(
                now,
                "coordinator",
                "a restart from the journal gives another state than the running one",
            ),
            Err(e) => self.violation(now, "coordinator", format!("the journal is unreadable: {e}")),
        }
    }

    /// A site's trainer returned this.
    pub(crate) fn contribution(
        &mut self,
        now: Millis,
        site: usize,
        session: SessionId,
        contribution: &Contribution,
    ) {
        let Some(invited) = self.plans.get(&(session, site)) else {
            return self.violation(now, self.at(site, session), "works without an invitation");
        };
        match Expected::of(&invited.plan.encoding, contribution) {
            Some(expected) => {
                self.expected.insert((session, site), expected);
            }
            None => self.violation(now, self.at(site, session), "the work does not fit the plan"),
        }
    }

    /// A site's encoded words and their bits, where all are known exactly.
    pub(crate) fn encoded(&self, session: SessionId, site: usize) -> Option<(Vec<u64>, u32)> {
        let bits = u32::from(self.plans.get(&(session, site))?.plan.encoding.bits());
        let expected = self.expected.get(&(session, site))?;
        let word = |place| Some(expected.exact(place)?.cast_unsigned() & ((1 << bits) - 1));
        Some(((0..expected.len()).map(word).collect::<Option<_>>()?, bits))
    }

    /// What is left to check when the run is over.
    pub(crate) fn finish(&mut self, now: Millis) {
        if let Some(worst) = self.uniform.violation() {
            let what = format!("masks of the whole run are not uniform (chi-square {worst:.0})");
            self.violation(now, "all sites", what);
        }
        if let Some(round) = self.open_round() {
            let place = round.place();
            self.violation(now, place, "the round never ended");
        }
    }

    fn at(&self, site: usize, session: SessionId) -> String {
        let name = self.sites.get(site).map_or("?", SiteId::as_str);
        format!("{name} in session {}", session.short())
    }

    fn index(&self, site: &SiteId) -> Option<usize> {
        self.sites.iter().position(|s| s == site)
    }

    fn open_round(&mut self) -> Option<&mut Round> {
        self.rounds.get_mut(&self.open?)
    }

    /// The sites whose lies excuse nothing but their own absence.
    fn accepted(&self, session: SessionId) -> BTreeSet<SiteId> {
        self.rounds.get(&session).map(|r| r.updates.keys().cloned().collect()).unwrap_or_default()
    }
}

const VIOLATIONS_MAX: usize = 20;
/// Ticks are exact in virtual time; this much is left for the coordinator's own rounding.
const SLACK_MS: Millis = 1_000;
