//! Each question of a session is answered once: the answer is written ahead, and the same question
//! gets the same bytes again. Another question in its place gets nothing.
//!
//! Leaving a session is here too: whatever the way out, its secrets go and it is never entered again.

use std::collections::BTreeMap;

use koinon_proto::wire::to_coordinator::Message as Reply;
use koinon_proto::{Digest, wire};
use prost::Message as _;
use zeroize::Zeroizing;

use super::phase::Round;
use super::private;
use super::{Effect, Ending, Note, Participant, Phase, Turn};
use crate::durable::{Active, Answered, Opened, Question};
use crate::error::{Fault, Refusal};

impl Active {
    /// A session whose keys are about to leave.
    pub(super) fn new(round: &Round, opens: Opened) -> Self {
        Self {
            session: round.session,
            manifest: round.manifest_bytes.clone(),
            invite: round.invite.encode_to_vec(),
            opens,
            answered: BTreeMap::new(),
            secret: Zeroizing::new(Vec::new()),
            vector: None,
            accepted: false,
        }
    }

    /// The last answer that was said: what the coordinator may be waiting for. Who answered by silence
    /// says what it said before that: it would not hear otherwise of a session that is over.
    fn last(&self) -> Option<&Answered> {
        self.answered.values().rev().find(|answered| !answered.reply.is_empty())
    }
}

impl Participant {
    /// Whether a message is for the session this site is in; a fault if not.
    pub(super) fn is_mine(&self, turn: &mut Turn<'_>, session: &[u8]) -> bool {
        let mine = self.phase.round().is_some_and(|round| round.session.0[..] == *session);
        if !mine {
            turn.fault(Fault::UnknownSession);
        }
        mine
    }

    /// Whether the question was answered before. The same question is answered again by the same
    /// bytes; another one in its place is a fault.
    pub(super) fn answered_before(
        &mut self,
        turn: &mut Turn<'_>,
        question: Question,
        asked: &Digest,
    ) -> bool {
        let answered = self.durable.active.as_ref().and_then(|a| a.answered.get(&question));
        let Some(answered) = answered else { return false };
        if answered.asked == *asked {
            let body = answered.reply.clone();
            if !body.is_empty() && !self.is_posted(&body) {
                self.post_body(turn, body);
            }
        } else {
            turn.fault(Fault::Changed);
        }
        true
    }

    /// Writes an answer ahead, with the protocol's state after it, and then lets it out. Some questions
    /// are answered by silence: that is written ahead too, as an empty reply.
    pub(super) fn answer(
        &mut self,
        turn: &mut Turn<'_>,
        question: Question,
        asked: Digest,
        message: Option<Reply>,
        secret: Zeroizing<Vec<u8>>,
    ) {
        let reply = message.map(|m| wire::ToCoordinator { message: Some(m) }.encode_to_vec());
        let reply = reply.unwrap_or_default();
        let active = self.durable.active.as_mut();
        let active = active.expect("answers are given in a session whose keys left");
        active.secret = secret;
        let before = active.answered.insert(question, Answered { asked, reply: reply.clone() });
        assert!(before.is_none(), "each question of a session is answered once");
        if question == Question::Inbox
            && let Some(round) = self.phase.round()
            && let Some(mechanism) = private::mechanism(round)
        {
            // The masked update follows this answer: what it costs is written down with it.
            self.durable.budget.spend(round.session, round.task, mechanism);
        }
        self.persist(turn);
        if !reply.is_empty() {
            self.post_body(turn, reply);
        }
    }

    pub(super) fn persist(&mut self, turn: &mut Turn<'_>) {
        turn.push(Effect::Persist(self.durable.to_bytes()));
    }

    /// In a new epoch the coordinator may have forgotten the last answer.
    pub(super) fn say_again(&mut self, turn: &mut Turn<'_>) {
        let last = self.durable.active.as_ref().and_then(Active::last);
        if let Some(body) = last.map(|answered| answered.reply.clone())
            && !self.is_posted(&body)
        {
            self.post_body(turn, body);
        }
    }

    pub(super) fn move_to(&mut self, turn: &mut Turn<'_>, phase: Phase) {
        if let Some(round) = phase.round() {
            turn.note(Note::Phase { session: round.session, phase: phase.name() });
        }
        self.phase = phase;
    }

    /// Leaves the session for good, if the site is in one.
    pub(super) fn leave(&mut self, turn: &mut Turn<'_>, ending: Ending) {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        self.ahead = None;
        let Some(round) = phase.round() else { return };
        let session = round.session;
        if phase.is_working() {
            turn.push(Effect::StopWork { session });
        }
        if let Some(active) = self.durable.active.take() {
            self.persist(turn);
            if active.vector.is_some() && !active.accepted {
                turn.push(Effect::DropVector);
            }
        }
        turn.note(Note::Ended { session, ending });
    }

    /// Leaves because this site could not do its part.
    pub(super) fn fail(&mut self, turn: &mut Turn<'_>, code: &'static str) {
        if let Some(round) = self.phase.round() {
            let session = round.session.into();
            self.leave(turn, Ending::Failed(code));
            self.post(turn, Reply::Failure(wire::Failure { session, code: code.to_owned() }));
        }
    }

    /// Leaves because this site's policy says no, now that it knows more.
    pub(super) fn withdraw(&mut self, turn: &mut Turn<'_>, refusal: Refusal) {
        if let Some(round) = self.phase.round() {
            let session = round.session.into();
            self.leave(turn, Ending::Withdrawn(refusal));
            self.refuse(turn, session, refusal);
        }
    }

    pub(super) fn refuse(&mut self, turn: &mut Turn<'_>, session: Vec<u8>, refusal: Refusal) {
        let code = refusal.code().to_owned();
        self.post(turn, Reply::Refusal(wire::Refusal { session, code }));
    }
}
