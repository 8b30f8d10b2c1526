//! Building a participant from what it persisted.
//!
//! A session goes on exactly where its last answer left it, or it dies: when a part that it needs is
//! missing or is another one, its secrets are dropped and it is never entered again. State that is
//! older than the ledger is not resumed at all: what it forgot, it could say differently.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use koinon_aggregation::ahead::Stock;
use koinon_aggregation::client::{Advertised, Masked, Revealed, Shared, Signed};
use koinon_aggregation::roster::SignedRoster;
use koinon_proto::{Digest, SessionId, TaskManifest, wire};
use prost::Message as _;
use zeroize::Zeroizing;

use super::check::{self, Task};
use super::link::Link;
use super::offers::{Offer, permitted};
use super::phase::{Phase, Round};
use super::private;
use super::reporting::Reporting;
use super::revealing::Revealing;
use super::sharing::{Sharing, Step};
use super::{Participant, Setup};
use crate::durable::{Active, Durable, Question, StateError};
use crate::error::Error;
use crate::ledger::{Entries, Kind};

/// The session that a state was in, and the questions that it knows it answered. Kept beside the state:
/// a session that cannot go on is dropped from that, and with it what the ledger is compared with.
pub(super) struct Found {
    session: SessionId,
    answered: BTreeSet<Question>,
}

/// See [`Participant::new`].
pub(super) fn resume(
    setup: Setup,
    durable: Option<Zeroizing<Vec<u8>>>,
    vector: Option<Vec<u8>>,
) -> Result<Participant, Error> {
    let mut durable = match durable {
        Some(bytes) => Durable::from_bytes(&bytes, &setup.site, &setup.consortium_key)?,
        None => Durable::new(setup.site.clone(), setup.consortium_key),
    };
    let roster = match &durable.roster[..] {
        [] => None,
        bytes => Some(
            SignedRoster::verify(bytes, &setup.consortium_key)
                .map_err(|_| StateError::Invalid("roster"))?,
        ),
    };
    let found = durable.active.as_ref().map(|active| Found {
        session: active.session,
        answered: active.answered.keys().copied().collect(),
    });
    let mut offers = BTreeMap::new();
    let phase = durable.active.as_ref().and_then(|active| {
        let policy = &setup.policy;
        let round = round_of(active).filter(|round| {
            permitted(policy, &round.task, &round.manifest).is_ok()
                && private::affordable(round, policy, &durable.budget).is_ok()
        })?;
        let (bytes, manifest) = (round.manifest_bytes.clone(), Arc::clone(&round.manifest));
        offers.insert(round.task, Offer { bytes, manifest, epoch: 0 });
        phase_of(active, round, vector)
    });
    if phase.is_none() {
        // What its keys could have said is never said; the session stays among those that were left.
        durable.active = None;
    }
    Ok(Participant {
        link: Link::new(setup.heartbeat_ms),
        setup,
        durable,
        roster,
        roster_wanted: None,
        held: VecDeque::new(),
        offers,
        checked_in: None,
        stock: Stock::default(),
        posted_ms: None,
        ahead: None,
        phase: phase.unwrap_or(Phase::Idle),
        paused: false,
        found,
    })
}

impl Participant {
    /// Leaves the session that the state is in, for good: to be called where the state was copied here
    /// from elsewhere, since nobody knows what its keys said after the copy was made. What was left or
    /// opened before stays known.
    pub fn leave_session(&mut self) {
        self.durable.active = None;
        self.phase = Phase::Idle;
    }

    /// Compares the state as it was read, with the session in it even if that cannot go on, with the
    /// ledger of this site (`text`: its whole lines). To be called after
    /// [`Participant::new`] and before the first event, wherever there is a ledger.
    ///
    /// # Errors
    /// [`StateError::Older`] when the ledger speaks of a step of a session that the state does not
    /// know: the state was restored from a backup, or lost. And the ledger's own errors.
    pub fn check_ledger(&self, text: &[u8]) -> Result<(), Error> {
        for entry in Entries::of(text) {
            let entry = entry?;
            let (Some(question), Some(session)) = (answered_by(entry.kind), entry.about) else {
                continue;
            };
            let known = match self.found.as_ref().filter(|found| found.session == session) {
                Some(found) => found.answered.contains(&question),
                None => self.durable.sessions.contains(&session),
            };
            if !known {
                return Err(StateError::Older { session: session.short() }.into());
            }
        }
        Ok(())
    }
}

/// The question that a message of this kind is the answer to.
fn answered_by(kind: Kind) -> Option<Question> {
    match kind {
        Kind::Ready => Some(Question::Invite),
        Kind::Shares => Some(Question::Participants),
        Kind::Report | Kind::Chunk => Some(Question::Inbox),
        Kind::SurvivorSignature => Some(Question::Survivors),
        Kind::Reveal => Some(Question::Unmask),
        _ => None,
    }
}

fn round_of(active: &Active) -> Option<Round> {
    let manifest = Arc::new(TaskManifest::parse_json(&active.manifest).ok()?);
    let invite = wire::Invite::decode(&active.invite[..]).ok()?;
    let round = check::read(invite, Task { bytes: active.manifest.clone(), manifest }).ok()?;
    (round.session == active.session).then_some(round)
}

/// The phase after the last answer, if everything it needs is there.
fn phase_of(active: &Active, round: Round, vector: Option<Vec<u8>>) -> Option<Phase> {
    let secret = &active.secret[..];
    let (last, _) = active.answered.last_key_value()?;
    match last {
        Question::Invite => {
            Advertised::from_secret_bytes(secret).ok()?;
            Some(Phase::Sharing(Sharing::again(round, Step::Advertised)))
        }
        Question::Participants => {
            Shared::from_secret_bytes(secret).ok()?;
            Some(Phase::Sharing(Sharing::again(round, Step::Shared)))
        }
        Question::Inbox => {
            Masked::from_secret_bytes(secret).ok()?;
            if active.accepted {
                return Some(Phase::Reporting(Reporting::accepted(round)));
            }
            let (digest, length) = active.vector?;
            let packed = vector
                .filter(|packed| packed.len() as u64 == length && Digest::of(packed) == digest)?;
            Some(Phase::Reporting(Reporting::new(round, Arc::new(packed))))
        }
        Question::Survivors => {
            Signed::from_secret_bytes(secret).ok()?;
            Some(Phase::Revealing(Revealing { round }))
        }
        Question::Unmask => {
            Revealed::from_secret_bytes(secret).ok()?;
            Some(Phase::Revealing(Revealing { round }))
        }
    }
}
