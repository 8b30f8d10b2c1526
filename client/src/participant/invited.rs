//! Invited: the invitation passed the first look; what it names by digest is on its way.
//!
//! Nothing of the session has left yet, so this phase is not durable: after a restart the coordinator
//! invites again.

use std::sync::Arc;

use koinon_proto::{Digest, Millis, wire};
use prost::Message as _;

use super::ahead::{Looked, slim};
use super::check::{self, Task};
use super::gather::Gather;
use super::phase::Round;
use super::private;
use super::training::Training;
use super::{Effect, Ending, Note, Participant, Phase, Turn};
use crate::durable::Question;
use crate::error::{Fault, Refusal};

/// See the module.
pub(super) struct Invited {
    pub(super) round: Round,
    pub(super) gather: Gather,
}

impl Participant {
    pub(super) fn invite(&mut self, turn: &mut Turn<'_>, invite: wire::Invite) {
        let (invite, told) = slim(invite);
        // Named is spent, whatever becomes of the invitation.
        let own = told.as_ref().and_then(|told| self.take_named(told));
        let session = invite.plan.get(SESSION_IN_PLAN).map(<[u8]>::to_vec).unwrap_or_default();
        if let Some(round) = self.phase.round() {
            if round.plan.to_bytes() == invite.plan {
                return self.invited_again(turn, &invite);
            }
            if round.session.0[..] == session[..] {
                // One session has one plan, as one key has one session.
                return turn.fault(Fault::Changed);
            }
        }
        let Ok(task) = Digest::try_from(&invite.task[..]) else {
            return turn.fault(Fault::Malformed);
        };
        let checked = self.checked(invite, &task, turn.now);
        let head = told.as_ref().map(|told| self.take_head(turn, told)).transpose();
        let looked = checked.and_then(|round| {
            let ahead = told.as_ref().zip(head?);
            let looked = ahead.map(|(told, head)| self.look_ahead(turn, (told, &head), own));
            Ok((round, looked.transpose()?))
        });
        match looked {
            Ok((round, looked)) => self.enter(turn, round, looked),
            Err(refusal) => {
                let told = Digest::try_from(&session[..]).ok();
                turn.note(Note::Refused { task: Some(task), session: told, refusal });
                self.refuse(turn, session, refusal);
            }
        }
    }

    fn checked(&self, invite: wire::Invite, task: &Digest, now: Millis) -> Result<Round, Refusal> {
        if self.paused {
            return Err(Refusal::Paused);
        }
        let offer = self.offers.get(task).ok_or(Refusal::NotApproved)?;
        let manifest = Arc::clone(&offer.manifest);
        let round = check::read(invite, Task { bytes: offer.bytes.clone(), manifest })?;
        let roster = self.roster_digest();
        let policy = &self.setup.policy;
        check::invitation(&round, policy, &self.durable, roster)?;
        // Whoever turns out to take part: what no number of them could make good is not begun.
        let n_max = usize::try_from(round.plan.encoding.n_max()).unwrap_or(usize::MAX);
        let sizes = usize::from(round.plan.n_min)..=n_max;
        check::roster(&round, policy, sizes, self.members(now))?;
        Ok(round)
    }

    /// The same session again: the same answer again, if there was one, and if nothing was changed.
    fn invited_again(&mut self, turn: &mut Turn<'_>, invite: &wire::Invite) {
        let Some(round) = self.phase.round() else { return };
        let asked = invite_digest(invite);
        if asked != invite_digest(&round.invite) {
            return turn.fault(Fault::Changed);
        }
        self.answered_before(turn, Question::Invite, &asked);
    }

    fn enter(&mut self, turn: &mut Turn<'_>, round: Round, looked: Option<Looked>) {
        self.leave(turn, Ending::Superseded);
        self.keep_ahead(round.session, looked);
        let gather = Gather::new(&round);
        gather.ask(turn);
        self.move_to(turn, Phase::Invited(Invited { round, gather }));
    }

    /// All blobs are here: the second look, then work.
    pub(super) fn begin_work(&mut self, turn: &mut Turn<'_>) {
        let Phase::Invited(Invited { round, gather }) = &self.phase else { return };
        let Some(blobs) = gather.blobs() else { return };
        match check::content(round, &blobs, &self.setup.site, &self.durable) {
            Ok((mut job, opens)) => {
                private::draw(&mut job, turn.rng);
                let Phase::Invited(phase) = std::mem::replace(&mut self.phase, Phase::Idle) else {
                    unreachable!("the phase was just looked at");
                };
                turn.push(Effect::Work(Box::new(job)));
                self.move_to(turn, Phase::Training(Training { round: phase.round, opens }));
                self.agree_while_training(turn);
            }
            Err(refusal) => self.withdraw(turn, refusal),
        }
    }
}

/// The content of an invitation, as it is kept, without what changes when it is sent again.
pub(super) fn invite_digest(invite: &wire::Invite) -> Digest {
    Digest::of(&wire::Invite { budget_ms: 0, ..invite.clone() }.encode_to_vec())
}

/// Where a plan's canonical bytes hold the session: behind the protocol version.
const SESSION_IN_PLAN: std::ops::Range<usize> = 4..36;
