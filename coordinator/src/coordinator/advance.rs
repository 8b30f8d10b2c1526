//! What follows: rounds begin, move on and end, tasks end.
//!
//! After every event each open task is asked for its next step until none has one. A step is one
//! decision, so that a crash between any two of them leaves a state from which the rest follows.
//! Start at [`Coordinator::advance`].

use std::collections::BTreeSet;

use koinon_aggregation::parameters::{Assumptions, ParameterError, sparse_between};
use koinon_aggregation::{COMPLETE_MAX, OpenError, ServerSession, SessionPlan, Topology, plain};
use koinon_proto::task::CohortPlan;
use koinon_proto::{Digest, Millis, SiteId, context, session_id};
use rand::CryptoRng;

use super::{Coordinator, Out, keys};
use crate::cohort::{Draw, choose};
use crate::event::{Effect, codes};
use crate::figures::Figures;
use crate::post::chunk_receipt;
use crate::record::Change;
use crate::round::selection::{Present, Selected};
use crate::round::{Kind, Live, Round, Turn};
use crate::task::material::{Settled, Start};
use crate::task::{FALSE_DEALER, Next};
use crate::upload::Upload;

impl Coordinator {
    /// Does all that follows now.
    pub(super) fn advance(&mut self, out: &mut Out, rng: &mut dyn CryptoRng) {
        loop {
            let select = std::mem::take(&mut self.stirred);
            let open: Vec<Digest> = self.state.open().map(|(digest, _)| *digest).collect();
            for task in &open {
                while self.step(out, rng, task, select) {}
            }
            if !self.stirred {
                return;
            }
        }
    }

    /// One decision about a task; `false` when there is none to make now.
    fn step(
        &mut self,
        out: &mut Out,
        rng: &mut dyn CryptoRng,
        digest: &Digest,
        select: bool,
    ) -> bool {
        self.give_places(out, digest);
        let Some(task) = self.state.tasks.get(digest) else { return false };
        if let Some(round) = &task.round {
            let live = self.live.get_mut(digest).expect("a running round has its session");
            return match round.turn(self.now, live) {
                Turn::Wait(until_ms) => {
                    let lapse_ms = live.mailing.next_ms(self.now, round.terms.deadline_ms);
                    self.wait(digest, Some(lapse_ms.map_or(until_ms, |ms| ms.min(until_ms))))
                }
                Turn::Go(change) => self.proceed(out, digest, change),
                Turn::Open => self.open(out, digest),
                Turn::Abandon(reason) => {
                    self.name_false_dealers(out, digest);
                    self.abandon(out, digest, reason)
                }
            };
        }
        match task.next() {
            Next::Nothing => self.wait(digest, None),
            Next::Coast => self.coast(out, digest),
            Next::End { failure, note } => {
                self.decide(out, Change::TaskEnded { task: *digest, failure, note });
                self.forget_task(digest)
            }
            Next::Round { kind, round, attempt } if select => {
                self.select(out, rng, digest, (kind, round, attempt))
            }
            Next::Round { .. } => false,
        }
    }

    /// Asks for the uploads that there is place for now.
    fn give_places(&mut self, out: &mut Out, digest: &Digest) {
        let round = self.state.tasks.get(digest).and_then(|task| task.round.as_ref());
        let (Some(round), Some(live)) = (round, self.live.get_mut(digest)) else { return };
        let connections = &self.connections;
        let is_there = |site: &SiteId| connections.get(site).is_some_and(|c| c.post.is_some());
        let turned = live.staging.turn(self.now, round.terms.cutoff_ms(), is_there);
        for site in &turned.lost {
            live.uploads.get_mut(site).into_iter().for_each(Upload::clear);
        }
        for site in &turned.given {
            out.send(site, chunk_receipt(round.terms.session.into(), 0));
        }
        let mailed = live.mailing.turn(self.now, round.terms.deadline_ms, is_there);
        // Who does not read its mail loses it with its connection.
        mailed.lost.iter().for_each(|site| self.disconnect(out, site));
        for site in &mailed.given {
            let mail = self.running(digest).mail(self.now, &self.live[digest], site);
            mail.into_iter().for_each(|message| self.post(out, site, message));
        }
    }

    /// Nothing to do for a task before that time.
    fn wait(&mut self, digest: &Digest, until_ms: Option<Millis>) -> bool {
        match until_ms {
            Some(until_ms) => self.deadlines.insert(*digest, until_ms),
            None => self.deadlines.remove(digest),
        };
        false
    }

    /// Invites a cohort, if enough sites are there and no more are waited for.
    fn select(
        &mut self,
        out: &mut Out,
        rng: &mut dyn CryptoRng,
        digest: &Digest,
        (kind, round, attempt): (Kind, u32, u32),
    ) -> bool {
        let (present, paused_until_ms) = self.present(digest);
        let manifest = &self.state.tasks[digest].manifest;
        let (plan, grace_ms) = (manifest.cohort, manifest.grace_ms);
        let selection = self.selections.entry(*digest).or_default();
        let candidates = match selection.turn(plan, grace_ms, present, self.now) {
            Selected::TooFew => return self.wait(digest, paused_until_ms),
            Selected::Wait(until_ms) => return self.wait(digest, Some(until_ms)),
            Selected::Candidates(candidates) => candidates,
        };
        let draw = Draw { seed: manifest.seed, round, attempt };
        let cohort = choose(draw, candidates, usize::from(plan.max));
        let terms = Begin { kind, round, attempt, cohort };
        self.begin(out, rng, digest, terms)
    }

    fn begin(
        &mut self,
        out: &mut Out,
        rng: &mut dyn CryptoRng,
        digest: &Digest,
        Begin { kind, round, attempt, cohort }: Begin,
    ) -> bool {
        self.drop_stale_keys(out, &cohort);
        let task = &self.state.tasks[digest];
        let (version, fitted) = match kind {
            Kind::Statistics => (None, None),
            Kind::Train | Kind::Evaluate => (task.version, task.fitted),
        };
        let mut random = [0; 32];
        rng.fill_bytes(&mut random);
        let session = session_id(digest, round, attempt, &random);
        let clip = task.adapted().filter(|_| kind == Kind::Train).map(|adapted| adapted.clip.0);
        let about = context(digest, kind.to_wire(), round, version.as_ref(), fitted.as_ref(), clip);
        let ahead = self.keys_ahead(&task.manifest, &cohort);
        let about = ahead.as_ref().map_or(about, |ahead| ahead.bind(&about));
        let roster = self.roster.as_ref().expect("candidates are members of a roster");
        let encoding = self.materials[digest].encoding(&task.manifest, kind);
        let members = roster.roster().clients_at(Some(self.now)).members().count();
        let topology = plain::topology(&task.manifest.name)
            .map_or_else(|| topology(&task.manifest.cohort, cohort.len(), members), Ok);
        let topology = topology.expect("what the whole cohort can do, a part of it can");
        let plan = SessionPlan {
            session: session.0,
            context: about,
            roster: roster.digest(),
            encoding: encoding.expect("every encoding of a task is checked when it is submitted"),
            n_min: task.manifest.cohort.min,
            topology,
        };
        let bytes = plan.to_bytes().into();
        let live = Live::new(plan, keys(roster, cohort.iter()));
        let live = live.expect("a manifest's floor and ceiling are those of a plan");
        self.live.insert(*digest, live);
        let task = *digest;
        let (plan, keys) = (bytes, ahead.map(|ahead| ahead.head));
        let change =
            Change::RoundStarted { task, kind, round, attempt, session, plan, cohort, keys };
        self.decide(out, change);
        let cohort: Vec<SiteId> = self.running(digest).terms.cohort.iter().cloned().collect();
        self.tell(out, digest, &cohort);
        cohort.iter().for_each(|site| self.want_keys(out, site));
        true
    }

    /// Ends a phase, and tells everybody who was in it what comes now, also that it goes on without
    /// them.
    fn proceed(&mut self, out: &mut Out, digest: &Digest, change: Change) -> bool {
        let before: Vec<SiteId> = self.running(digest).inside().cloned().collect();
        self.decide(out, change);
        self.live.get_mut(digest).into_iter().for_each(Live::end_mailing);
        self.tell(out, digest, &before);
        true
    }

    /// Posts to each of these sites the newest of its mail.
    pub(super) fn tell(&mut self, out: &mut Out, digest: &Digest, sites: &[SiteId]) {
        for site in sites {
            if self.running(digest).is_bulky(site) {
                self.live.get_mut(digest).into_iter().for_each(|live| live.mailing.ask(site));
                continue;
            }
            let live = &self.live[digest];
            if let Some(message) = self.running(digest).mail(self.now, live, site).pop() {
                self.post(out, site, message);
            }
        }
    }

    /// Opens the sum, and makes of it what the round was for.
    fn open(&mut self, out: &mut Out, digest: &Digest) -> bool {
        let round = self.running(digest);
        let kind = round.terms.kind;
        let clip = round.terms.adapted.as_ref().map(|adapted| adapted.clip.0);
        let start = Start { version: round.terms.version, clip };
        let bytes_up = round.updates().iter().map(|update| update.bytes).sum();
        let live = self.live.get_mut(digest).expect("a running round is live");
        let sum = match live.session.open() {
            Ok((sum, _transcript)) => sum,
            Err(error) => {
                self.name_culprit(out, digest, &error);
                return self.abandon(out, digest, codes::UNOPENED);
            }
        };
        let material = self.materials.get_mut(digest).expect("an open task has its material");
        let Settled { result, optimizer, blobs } = match material.settle(kind, start, &sum) {
            Ok(settled) => settled,
            Err(reason) => return self.abandon(out, digest, reason),
        };
        out.blobs.extend(blobs);
        let audience = self.running(digest).audience();
        let privacy = self.state.tasks[digest].manifest.privacy.as_ref();
        let figures = Figures::read(&sum, bytes_up, privacy);
        self.decide(out, Change::Committed { task: *digest, result, optimizer, figures });
        self.conclude(out, digest, &audience)
    }

    /// Writes down who is to blame, where that can be known.
    fn name_culprit(&mut self, out: &mut Out, digest: &Digest, error: &OpenError) {
        let OpenError::FalseDealer { site } = error else { return };
        let Ok(site) = SiteId::new(site.clone()) else { return };
        self.decline(out, digest, &site, error.code());
    }

    /// Writes down whose shares too many sites could not use: its next rounds go on without it.
    fn name_false_dealers(&mut self, out: &mut Out, digest: &Digest) {
        let session = self.live.get(digest).map(|live| &live.session);
        for site in session.map(ServerSession::false_dealers).unwrap_or_default() {
            if let Ok(site) = SiteId::new(site) {
                self.decline(out, digest, &site, FALSE_DEALER);
            }
        }
    }

    /// A site is left out of the running round; it is not asked for the next attempts for a while,
    /// unless it checks in again.
    pub(super) fn decline(&mut self, out: &mut Out, digest: &Digest, site: &SiteId, code: &str) {
        if let Ok(Some(change)) = self.running(digest).on_decline(site, code) {
            self.decide(out, change);
        }
        if let Some(live) = self.live.get_mut(digest) {
            live.end_upload(site);
            live.mailing.leave(site);
        }
        let budget_ms = self.state.tasks[digest].manifest.budget_ms;
        if let Some(connection) = self.connections.get_mut(site) {
            connection.pauses.insert(*digest, self.now.saturating_add(budget_ms));
        }
    }

    /// When those who may still want the task are too few, the pauses would be waited out for
    /// nothing: the attempts that are left follow after grace, so that the task soon says why it fails.
    fn shorten_pauses(&mut self, digest: &Digest) {
        let Some(signed) = &self.roster else { return };
        let task = &self.state.tasks[digest];
        let members = signed.roster().clients_at(Some(self.now));
        let willing = members.members().filter(|member| !task.declines.lasts(&member.name)).count();
        if willing >= usize::from(task.manifest.cohort.quorum) {
            return;
        }
        let until_ms = self.now.saturating_add(task.manifest.grace_ms);
        for connection in self.connections.values_mut() {
            connection.pauses.entry(*digest).and_modify(|pause| *pause = until_ms.min(*pause));
        }
    }

    pub(super) fn abandon(&mut self, out: &mut Out, digest: &Digest, reason: &str) -> bool {
        let audience = self.running(digest).audience();
        self.decide(out, Change::Abandoned { task: *digest, reason: reason.to_owned() });
        self.shorten_pauses(digest);
        self.conclude(out, digest, &audience)
    }

    /// After a round ended: its audience is told, and what only the round needed goes.
    pub(super) fn conclude(&mut self, out: &mut Out, digest: &Digest, audience: &[SiteId]) -> bool {
        self.live.remove(digest);
        self.deadlines.remove(digest);
        self.stirred = true;
        for site in audience {
            if let Some(outcome) = self.state.outcomes.get(site) {
                let message = outcome.to_wire();
                self.post(out, site, message);
            }
        }
        self.forget_stale(out, digest);
        true
    }

    /// Tells the driver which blobs of the last round nobody needs any more.
    pub(super) fn forget_stale(&self, out: &mut Out, digest: &Digest) {
        let stale = self.state.tasks[digest].stale.iter();
        let unneeded = stale.filter(|blob| !self.needs(blob));
        out.rest.extend(unneeded.map(|blob| Effect::Forget { digest: *blob }));
    }

    /// The parameters are spent: a step on momentum alone, or the task has failed.
    fn coast(&mut self, out: &mut Out, digest: &Digest) -> bool {
        let task = &self.state.tasks[digest];
        let (version, end) = (task.version, task.give_up(Kind::Train));
        let material = self.materials.get_mut(digest).expect("an open task has its material");
        if let Some(Settled { result, optimizer, blobs }) = material.coast(version) {
            out.blobs.extend(blobs);
            self.decide(out, Change::Coasted { task: *digest, version: result, optimizer });
            return true;
        }
        let Next::End { failure, note } = end else { return false };
        self.decide(out, Change::TaskEnded { task: *digest, failure, note });
        self.forget_task(digest)
    }

    /// What only a task that has not ended needs.
    pub(super) fn forget_task(&mut self, digest: &Digest) -> bool {
        self.materials.remove(digest);
        self.selections.remove(digest);
        self.deadlines.remove(digest);
        false
    }

    /// Who can be invited to a task's round now, and when the first paused site may be asked again.
    pub(super) fn present(&self, digest: &Digest) -> (Present, Option<Millis>) {
        let Some(signed) = &self.roster else {
            return (Present { ready: BTreeSet::new(), members: 0 }, None);
        };
        let busy: BTreeSet<&SiteId> = self.state.rounds().flat_map(|(_, r)| r.inside()).collect();
        let roster = Digest(signed.digest());
        let banned = &self.state.tasks[digest].banned;
        let mut ready = BTreeSet::new();
        let mut paused_until_ms: Option<Millis> = None;
        for (site, connection) in &self.connections {
            let wanted = connection.check_in.as_ref().is_some_and(|check_in| {
                check_in.roster == Some(roster) && check_in.tasks.contains(digest)
            });
            let out = busy.contains(site) || banned.contains(site);
            if !wanted || out || self.key_of(site).is_none() {
                continue;
            }
            match connection.pauses.get(digest) {
                Some(&until_ms) if until_ms > self.now => {
                    paused_until_ms = Some(paused_until_ms.map_or(until_ms, |p| p.min(until_ms)));
                }
                _ => {
                    ready.insert(site.clone());
                }
            }
        }
        let members = signed.roster().clients_at(Some(self.now)).members().count();
        (Present { ready, members }, paused_until_ms)
    }

    /// The running round of a task that has one.
    fn running(&self, digest: &Digest) -> &Round {
        let round = self.state.tasks.get(digest).and_then(|task| task.round.as_ref());
        round.expect("only asked for tasks with a running round")
    }
}

/// What a round begins with.
struct Begin {
    kind: Kind,
    round: u32,
    attempt: u32,
    cohort: Vec<SiteId>,
}

/// Who shares with whom in a round of so many invited sites, of whom any number from the quorum on may
/// take part.
///
/// A share of the roster's `members` may collude, and all of them may be in the round: what is withstood
/// is raised to their share of the quorum, as far as so many sites can withstand it. The sites judge
/// whether that is enough for those who are really there.
pub(super) fn topology(
    cohort: &CohortPlan,
    invited: usize,
    members: usize,
) -> Result<Topology, ParameterError> {
    if usize::from(cohort.max) <= COMPLETE_MAX {
        return Ok(Topology::Complete);
    }
    let quorum = usize::from(cohort.quorum);
    let sizes = quorum..=invited.max(quorum);
    let colluding = (members * usize::from(cohort.colluding_percent)).div_ceil(100);
    let among_quorum = u8::try_from((100 * colluding).div_ceil(quorum)).unwrap_or(u8::MAX);
    let least = cohort.colluding_percent;
    let plan = |colluding_percent| {
        let dropout_percent = cohort.dropout_percent;
        let (sigma, failure_bits) = (SIGMA, FAILURE_BITS);
        let assumptions = Assumptions { colluding_percent, dropout_percent, sigma, failure_bits };
        sparse_between(sizes.clone(), &assumptions).map(Topology::Sparse)
    };
    let raised = (least + 1..=among_quorum.min(50)).rev().find_map(|percent| plan(percent).ok());
    raised.map_or_else(|| plan(least), Ok)
}

/// The chance of a bad graph or committee is 2^-80: keys can be ground.
const SIGMA: u8 = 80;
/// A round fails by chance, when no more are lost than assumed, once in so many powers of two.
const FAILURE_BITS: u8 = 20;
