//! Revealing: the one survivor signature of this session has left; when a quorum signed the same set,
//! one share of each dealer's secrets leaves, once.
//!
//! With the reveal, what the sum is over counts as opened with this site's help, for good. The phase
//! lasts until the coordinator tells the outcome, so that a lost reply can be said again.

use koinon_aggregation::client::Signed;
use koinon_aggregation::{PARTICIPANTS_MAX, Rejection, SurvivorSignature};
use koinon_proto::wire::to_coordinator::Message as Reply;
use koinon_proto::{Digest, wire};
use prost::Message as _;

use super::frames::short_code;
use super::phase::Round;
use super::sharing::unverified;
use super::{Ending, Participant, Phase, Turn};
use crate::durable::Question;
use crate::error::Fault;

/// See the module.
pub(super) struct Revealing {
    pub(super) round: Round,
}

impl Participant {
    pub(super) fn unmask(&mut self, turn: &mut Turn<'_>, message: wire::Unmask) {
        let asked = Digest::of(&message.encode_to_vec());
        if !self.is_mine(turn, &message.session)
            || self.answered_before(turn, Question::Unmask, &asked)
        {
            return;
        }
        let (Phase::Revealing(_), Some(active)) = (&self.phase, &mut self.durable.active) else {
            return turn.fault(Fault::OutOfStep);
        };
        let state = Signed::from_secret_bytes(&active.secret).map_err(Rejection::from);
        let signatures = SurvivorSignature::list_from_bytes(&message.request, PARTICIPANTS_MAX);
        let signatures = signatures.map_err(Rejection::from);
        let revealed = state
            .and_then(|state| Ok((state, signatures?)))
            .and_then(|(state, signatures)| state.reveal(&signatures, &self.setup.identity));
        match revealed {
            Ok((revealed, reveal)) => {
                self.durable.spent.insert(active.opens);
                let session = message.session;
                let reply = Reply::Reveal(wire::Reveal { session, reveal: reveal.to_bytes() });
                let secret = revealed.to_secret_bytes();
                self.answer(turn, Question::Unmask, asked, Some(reply), secret);
            }
            Err(rejection) => unverified(turn, &rejection),
        }
    }

    pub(super) fn outcome(&mut self, turn: &mut Turn<'_>, message: wire::Outcome) {
        use wire::outcome::Result as Outcome;
        if !self.is_mine(turn, &message.session) {
            return;
        }
        let ending = match message.result {
            Some(Outcome::Committed(digest)) => match Digest::try_from(&digest[..]) {
                Ok(digest) => Ending::Committed(digest),
                Err(_) => return turn.fault(Fault::Malformed),
            },
            Some(Outcome::Abandoned(reason)) => Ending::Abandoned(short_code(&reason)),
            None => return turn.fault(Fault::Malformed),
        };
        self.leave(turn, ending);
    }
}
