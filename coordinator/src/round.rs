//! One attempt at a round: its terms, and the phase it is in.
//!
//! ```text
//!            all ready, or          all dealt, or         all reported, or     quorum signed,
//!            quorum and grace       quorum and grace      quorum and grace     then opened
//! Selection ─────────▶ Training ─────────▶ Sharing ─────────▶ Reporting ─────────▶ Unmasking ──▶ Committed
//!                         └───────────────────┴──────────────────┴──────────────────┴───────▶ Abandoned(reason)
//! ```
//!
//! A phase is a file, holds only what it and the phases after it need, and moves only forward. There
//! is one budget: the last part of it is kept for unmasking, because reveals cannot be repeated, and
//! waiting for stragglers takes at most a quarter of what is left. Peers' messages are checked by
//! [`koinon_aggregation::ServerSession`] at once; what was accepted is in the journal verbatim, so that [`Live::rebuild`]
//! gives the same session after a crash. Deliberately not here: which round comes next (`task`), and
//! what is made of the sum (`material`). Start at [`Round::turn`].

mod answers;
mod kept;
mod live;
pub(crate) mod reporting;
pub(crate) mod selection;
pub(crate) mod sharing;
pub(crate) mod training;
pub(crate) mod unmasking;

use std::collections::{BTreeMap, BTreeSet};

use koinon_aggregation::threshold;
use koinon_model::contribution::RoundKind;
use koinon_proto::wire::to_site::Message;
use koinon_proto::{Digest, Millis, SessionId, SiteId, wire};
use serde::{Deserialize, Serialize};

use crate::event::{Rejection, codes};
use crate::keys::Ahead;
use crate::record::{Bytes, Change};
use crate::task::private::Adapted;

pub(crate) use live::Live;

use answers::{Answers, Wait};
use kept::Kept;
use reporting::Reporting;
use sharing::Sharing;
use training::Training;
use unmasking::Unmasking;

/// What a round asks of the sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Sums that the feature plan is fitted from.
    Statistics,
    /// Updates, and figures of the version they start from.
    Train,
    /// Figures of a version.
    Evaluate,
}

impl Kind {
    /// The kind on the wire and in the session's context.
    #[must_use]
    pub const fn to_wire(self) -> wire::RoundKind {
        match self {
            Self::Statistics => wire::RoundKind::Statistics,
            Self::Train => wire::RoundKind::Train,
            Self::Evaluate => wire::RoundKind::Evaluate,
        }
    }

    /// The kind as the encoding's fields know it.
    pub(crate) const fn to_fields(self) -> RoundKind {
        match self {
            Self::Statistics => RoundKind::Statistics,
            Self::Train => RoundKind::Train,
            Self::Evaluate => RoundKind::Evaluate,
        }
    }
}

/// What was fixed when the round began.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Terms {
    pub(crate) task: Digest,
    pub(crate) kind: Kind,
    pub(crate) round: u32,
    pub(crate) attempt: u32,
    pub(crate) session: SessionId,
    /// The session plan, canonical bytes.
    pub(crate) plan: Bytes,
    /// Whether everybody shares with everybody.
    pub(crate) complete: bool,
    /// Whether nothing is masked: see [`koinon_aggregation::plain`].
    #[serde(skip)]
    pub(crate) plain: bool,
    /// The roster whose keys count in the session.
    pub(crate) roster: Digest,
    pub(crate) version: Option<Digest>,
    pub(crate) fitted: Option<Digest>,
    /// The clip, where it moves from round to round.
    pub(crate) adapted: Option<Adapted>,
    /// Who was invited.
    pub(crate) cohort: BTreeSet<SiteId>,
    /// The posted keys that are named; the plan is bound to them.
    #[serde(skip)]
    pub(crate) ahead: Option<Ahead>,
    /// Reports that the task wants at least.
    pub(crate) quorum: usize,
    pub(crate) grace_ms: Millis,
    pub(crate) started_ms: Millis,
    pub(crate) deadline_ms: Millis,
}

impl Terms {
    /// When everything before the reveals must be done.
    pub(crate) fn cutoff_ms(&self) -> Millis {
        let budget_ms = self.deadline_ms.saturating_sub(self.started_ms);
        self.deadline_ms - self.grace_ms.min(budget_ms / 4)
    }

    /// How many of `participants` have to go on: the task's quorum, and what the masks need.
    fn need(&self, participants: usize) -> usize {
        // On a graph each site looks for itself whether enough of its neighbours are left.
        if self.complete { self.quorum.max(threshold(participants)) } else { self.quorum }
    }
}

/// A round as the journal knows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Round {
    pub(crate) terms: Terms,
    /// Who will not, or could not, or did badly; with the code.
    pub(crate) declined: BTreeMap<SiteId, String>,
    pub(crate) phase: Phase,
}

/// The phase and what it holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    Training(Training),
    Sharing(Sharing),
    Reporting(Reporting),
    Unmasking(Unmasking),
}

/// What is to happen next in a round.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Nothing before that time, unless a message comes.
    Wait(Millis),
    /// The phase is over: decide this.
    Go(Change),
    /// The sum can be opened.
    Open,
    /// The round cannot succeed any more.
    Abandon(&'static str),
}

/// What a site says about a round, beside its report: one message of the aggregation each.
pub(crate) enum Said {
    Ready(Vec<u8>),
    Shares(Vec<u8>),
    Signature(Vec<u8>),
    Reveal(Vec<u8>),
}

impl Said {
    fn what(&self) -> &'static str {
        match self {
            Self::Ready(_) => "key bundle",
            Self::Shares(_) => "dealing of shares",
            Self::Signature(_) => "survivor signature",
            Self::Reveal(_) => "reveal",
        }
    }
}

/// What a message of a site comes to: a change to be journaled, or nothing new.
pub(crate) type Heard = Result<Option<Change>, Rejection>;

impl Round {
    pub(crate) fn new(terms: Terms) -> Self {
        Self { terms, declined: BTreeMap::new(), phase: Phase::Training(Training::default()) }
    }

    /// The phase's name.
    pub(crate) fn phase_name(&self) -> &'static str {
        match &self.phase {
            Phase::Training(_) => "training",
            Phase::Sharing(_) => "sharing",
            Phase::Reporting(_) => "reporting",
            Phase::Unmasking(_) => "unmasking",
        }
    }

    /// Who is still in: the cohort at first, and in each phase those who did all before it.
    pub(crate) fn inside(&self) -> Box<dyn Iterator<Item = &SiteId> + '_> {
        match &self.phase {
            Phase::Training(_) => Box::new(self.terms.cohort.iter()),
            Phase::Sharing(phase) => Box::new(phase.bundles.keys()),
            Phase::Reporting(phase) => Box::new(phase.shares.keys()),
            Phase::Unmasking(phase) => Box::new(phase.updates.keys()),
        }
    }

    /// Whether a site is still in, and was not left out since.
    fn has_inside(&self, site: &SiteId) -> bool {
        let inside = match &self.phase {
            Phase::Training(_) => self.terms.cohort.contains(site),
            Phase::Sharing(phase) => phase.bundles.contains_key(site),
            Phase::Reporting(phase) => phase.shares.contains_key(site),
            Phase::Unmasking(phase) => phase.updates.contains_key(site),
        };
        inside && !self.declined.contains_key(site)
    }

    /// Who is to hear how the round ends: who was left out or left before has been told already.
    pub(crate) fn audience(&self) -> Vec<SiteId> {
        self.inside().filter(|site| !self.declined.contains_key(*site)).cloned().collect()
    }

    /// What a site that is in should do now: the newest mail last, before it what it may have missed
    /// since its last accepted answer.
    pub(crate) fn mail(&self, now: Millis, live: &Live, site: &SiteId) -> Vec<Message> {
        let session = self.terms.session.into();
        if !self.has_inside(site) {
            let result = Some(wire::outcome::Result::Abandoned(codes::LATE.to_owned()));
            return vec![Message::Outcome(wire::Outcome { session, result })];
        }
        match &self.phase {
            Phase::Training(phase) => phase.mail(&self.terms, now, site),
            Phase::Sharing(phase) => phase.mail(&self.terms, live, site),
            Phase::Reporting(phase) => phase.mail(&self.terms, live, site),
            Phase::Unmasking(phase) => phase.mail(&self.terms, live, site),
        }
    }

    /// Whether a site's newest mail is so large that it has to wait for a place: beside keys and shares
    /// it holds the paths that prove them.
    pub(crate) fn is_bulky(&self, site: &SiteId) -> bool {
        let bulky = match &self.phase {
            Phase::Training(_) => false,
            Phase::Sharing(phase) => !phase.shares.of.contains_key(site),
            Phase::Reporting(phase) => !phase.updates.of.contains_key(site),
            Phase::Unmasking(phase) => phase.request.is_some() && !phase.reveals.contains_key(site),
        };
        bulky && !self.terms.complete && !self.terms.plain && self.has_inside(site)
    }

    /// What is to happen at `now`: asked after every message and at every deadline.
    pub(crate) fn turn(&self, now: Millis, live: &mut Live) -> Turn {
        let Self { terms, declined, phase } = self;
        match phase {
            Phase::Training(phase) => phase.on_deadline(terms, declined, now, live),
            Phase::Sharing(phase) => phase.on_deadline(terms, declined, now, live),
            Phase::Reporting(phase) => phase.on_deadline(terms, declined, now, live),
            Phase::Unmasking(phase) => phase.on_deadline(terms, declined, now, live),
        }
    }

    /// A site's message about this round; reports are heard by [`Round::on_report`].
    pub(crate) fn hear(&self, live: &mut Live, site: &SiteId, message: Said) -> Heard {
        if let Some(same) = self.known(site, &message) {
            return repeated(same, message.what());
        }
        if !self.has_inside(site) {
            return Err(not_inside(&self.terms, site));
        }
        let terms = &self.terms;
        match (&self.phase, message) {
            (Phase::Training(phase), Said::Ready(bundle)) => {
                phase.on_ready(terms, live, site, bundle)
            }
            (Phase::Sharing(phase), Said::Shares(shares)) => {
                phase.on_shares(terms, live, site, shares)
            }
            (Phase::Unmasking(phase), Said::Signature(signature)) => {
                phase.on_signature(terms, live, site, signature)
            }
            (Phase::Unmasking(phase), Said::Reveal(reveal)) => {
                phase.on_reveal(terms, live, site, reveal)
            }
            (_, message) => {
                let late = matches!(message, Said::Ready(_) | Said::Shares(_));
                let code = if late && !matches!(self.phase, Phase::Training(_)) {
                    codes::LATE
                } else {
                    codes::EARLY
                };
                Err(out_of_turn(code, message.what(), self.phase_name()))
            }
        }
    }

    /// A site announces its masked update; gives the chunk wanted next, or none when it is accepted.
    pub(crate) fn on_report(
        &self,
        live: &mut Live,
        site: &SiteId,
        report: wire::Report,
    ) -> Result<Option<u32>, Rejection> {
        if self.declined.contains_key(site) {
            return Err(not_inside(&self.terms, site));
        }
        match &self.phase {
            Phase::Reporting(phase) => phase.on_report(&self.terms, live, site, report),
            Phase::Unmasking(phase) => match phase.updates.get(site) {
                Some(known) => repeated(*known.report == report.report, "report").map(|_| None),
                None => Err(not_inside(&self.terms, site)),
            },
            _ => Err(out_of_turn(codes::EARLY, "a report", self.phase_name())),
        }
    }

    /// Whether this message is what was accepted of a site in its place, if anything was.
    fn known(&self, site: &SiteId, message: &Said) -> Option<bool> {
        let (bundles, shares) = match &self.phase {
            Phase::Training(phase) => (&phase.bundles.of, None),
            Phase::Sharing(phase) => (&phase.bundles, Some(&phase.shares.of)),
            Phase::Reporting(phase) => (&phase.bundles, Some(&phase.shares)),
            Phase::Unmasking(phase) => (&phase.bundles, Some(&phase.shares)),
        };
        match message {
            Said::Ready(bundle) => bundles.get(site).map(|known| **known == *bundle),
            Said::Shares(message) => {
                shares.and_then(|shares| shares.get(site)).map(|known| known.is(message))
            }
            Said::Signature(_) | Said::Reveal(_) => None,
        }
    }

    /// A site declines, or is declined: the others go on without it.
    pub(crate) fn on_decline(&self, site: &SiteId, code: &str) -> Heard {
        if self.declined.contains_key(site) {
            return Ok(None);
        }
        if !self.has_inside(site) {
            return Err(not_inside(&self.terms, site));
        }
        let (task, site) = (self.terms.task, site.clone());
        Ok(Some(Change::Declined { task, site, code: code.to_owned() }))
    }

    /// Whether reveals may have left for this session: then its parameters count as spent.
    pub(crate) fn spends(&self) -> bool {
        matches!(&self.phase, Phase::Unmasking(phase) if phase.request.is_some())
    }

    /// The masked updates accepted so far.
    pub(crate) fn updates(&self) -> Vec<reporting::Update> {
        match &self.phase {
            Phase::Training(_) | Phase::Sharing(_) => Vec::new(),
            Phase::Reporting(phase) => phase.updates.values().cloned().collect(),
            Phase::Unmasking(phase) => phase.updates.values().cloned().collect(),
        }
    }

    /// Keeps of the shares and reveals what tells them from others: the private sum has them now.
    pub(crate) fn forget(&mut self, site: Option<&SiteId>) {
        let all: [Option<&mut BTreeMap<SiteId, Kept>>; 2] = match &mut self.phase {
            Phase::Training(_) => [None, None],
            Phase::Sharing(phase) => [Some(&mut phase.shares.of), None],
            Phase::Reporting(phase) => [Some(&mut phase.shares), None],
            Phase::Unmasking(phase) => [Some(&mut phase.shares), Some(&mut phase.reveals)],
        };
        for kept in all.into_iter().flatten() {
            match site {
                Some(site) => kept.get_mut(site).into_iter().for_each(Kept::forget),
                None => kept.values_mut().for_each(Kept::forget),
            }
        }
    }

    /// Moves what is left of the budget by the time the coordinator was down.
    pub(crate) fn postpone(&mut self, by_ms: Millis) {
        self.terms.started_ms = self.terms.started_ms.saturating_add(by_ms);
        self.terms.deadline_ms = self.terms.deadline_ms.saturating_add(by_ms);
        let quorum_ms = match &mut self.phase {
            Phase::Training(phase) => &mut phase.bundles.quorum_ms,
            Phase::Sharing(phase) => &mut phase.shares.quorum_ms,
            Phase::Reporting(phase) => &mut phase.updates.quorum_ms,
            Phase::Unmasking(_) => return,
        };
        *quorum_ms = quorum_ms.map(|quorum_ms| quorum_ms.saturating_add(by_ms));
    }

    /// Does what a record says. `None` when the record does not belong into this phase.
    pub(crate) fn apply(mut self, at_ms: Millis, change: &Change) -> Option<Self> {
        if let Change::Declined { site, code, .. } = change {
            self.declined.insert(site.clone(), code.clone());
            return Some(self);
        }
        let terms = &self.terms;
        self.phase = match self.phase {
            Phase::Training(phase) => phase.apply(terms, at_ms, change)?,
            Phase::Sharing(phase) => phase.apply(terms, at_ms, change)?,
            Phase::Reporting(phase) => phase.apply(terms, at_ms, change)?,
            Phase::Unmasking(phase) => Phase::Unmasking(phase.apply(change)?),
        };
        Some(self)
    }
}

/// A message that was accepted before: the same again is welcome, another one is not.
fn repeated(same: bool, what: &str) -> Heard {
    if same {
        return Ok(None);
    }
    Err(Rejection::new(codes::EQUIVOCATION, format!("a second, different {what}")))
}

/// What is said to a site that is not in the phase.
fn not_inside(terms: &Terms, site: &SiteId) -> Rejection {
    if terms.cohort.contains(site) {
        return Rejection::new(codes::LATE, "the others went on without this site");
    }
    Rejection::new(codes::NOT_INVITED, "this site is not in the cohort")
}

/// A message of another phase.
fn out_of_turn(code: &'static str, what: &str, phase: &str) -> Rejection {
    Rejection::new(code, format!("{what} cannot be taken while {phase}"))
}

impl From<koinon_aggregation::Rejection> for Rejection {
    fn from(rejection: koinon_aggregation::Rejection) -> Self {
        Self::new(rejection.code(), rejection.to_string())
    }
}

impl From<koinon_aggregation::CodecError> for Rejection {
    fn from(error: koinon_aggregation::CodecError) -> Self {
        koinon_aggregation::Rejection::from(error).into()
    }
}

/// Refuses what one site says in the name of another.
fn own(site: &SiteId, name: &str) -> Result<(), Rejection> {
    if site.as_str() == name {
        return Ok(());
    }
    Err(Rejection::new(codes::BAD_MESSAGE, "the message speaks for another site"))
}
