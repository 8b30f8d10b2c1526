//! Sharing: the keys have left; this site's secrets are shared out among the participants, and theirs
//! come here.
//!
//! Everything up to the masked update is durable before its message leaves, except the contribution:
//! a site that was killed here computes it again. That is safe, because nothing that depends on it
//! has left before the masked update is durable as well.

use std::sync::Arc;

use koinon_aggregation::client::{Advertised, Keyed, Shared};
use koinon_aggregation::{Bundle, CodecError, Delivery, Encoded, Notice, Rejection, plain};
use koinon_proto::wire::to_coordinator::Message as Reply;
use koinon_proto::{Digest, wire};
use prost::Message as _;

use super::gather::Gather;
use super::phase::Round;
use super::private;
use super::reporting::Reporting;
use super::{Effect, Note, Participant, Phase, Turn, check};
use crate::durable::Question;
use crate::error::{Fault, Refusal};

/// See the module.
pub(super) struct Sharing {
    pub(super) round: Round,
    step: Step,
    /// The contribution in the plan's integers; none while it is computed again.
    encoded: Option<Encoded>,
    /// The blobs for computing it again.
    pub(super) gather: Option<Gather>,
    /// Whether it is being computed again.
    working: bool,
}

/// How far the exchange is. The protocol's own state is in the durable state, and nowhere else: a step
/// consumes it even when it fails, and what was stored before still holds.
pub(super) enum Step {
    /// Waits for the participants.
    Advertised,
    /// Waits for the shares of the others.
    Shared,
    /// Has all shares and waits for the contribution; `asked` is the digest of what brought them.
    Keyed { keyed: Box<Keyed>, asked: Digest },
}

impl Sharing {
    pub(super) fn new(round: Round, encoded: Encoded) -> Self {
        let step = Step::Advertised;
        Self { round, step, encoded: Some(encoded), gather: None, working: false }
    }

    /// The phase after a restart: the contribution is to be computed again.
    pub(super) fn again(round: Round, step: Step) -> Self {
        let gather = Some(Gather::new(&round));
        Self { round, step, encoded: None, gather, working: false }
    }

    pub(super) fn is_working(&self) -> bool {
        self.working
    }
}

impl Participant {
    pub(super) fn participants(&mut self, turn: &mut Turn<'_>, message: wire::Participants) {
        let asked = Digest::of(&message.encode_to_vec());
        if !self.is_mine(turn, &message.session)
            || self.answered_before(turn, Question::Participants, &asked)
        {
            return;
        }
        let Phase::Sharing(Sharing { round, step: Step::Advertised, .. }) = &self.phase else {
            return turn.fault(Fault::OutOfStep);
        };
        // Keys count by the roster that the plan names; another one has come since.
        if self.roster_digest() != Some(Digest(round.plan.roster)) {
            return self.withdraw(turn, Refusal::RosterMismatch);
        }
        let notice = notice(&message).map_err(Rejection::from);
        let members = self.members(turn.now);
        let policy = &self.setup.policy;
        // Fewer than were promised are no cohort of the coordinator's choice but a false list.
        let promised = usize::from(round.floor(policy.cohort.min));
        if let Some(n) = notice.as_ref().ok().map(Notice::n).filter(|&n| n >= promised)
            && let Err(refusal) = check::roster(round, policy, n..=n, members)
        {
            return self.withdraw(turn, refusal);
        }
        match notice.and_then(|notice| self.share(turn, &notice)) {
            Ok((shared, reply)) => {
                let (session, agreement) = (Digest(round.plan.session), shared.agreement());
                let secret = shared.to_secret_bytes();
                let Phase::Sharing(phase) = &mut self.phase else {
                    unreachable!("the phase was just looked at");
                };
                phase.step = Step::Shared;
                self.answer(turn, Question::Participants, asked, Some(reply), secret);
                self.agree_while_others_deal(turn, session, agreement);
            }
            Err(rejection) => unverified(turn, &rejection),
        }
    }

    fn share(&self, turn: &mut Turn<'_>, notice: &Notice) -> Result<(Shared, Reply), Rejection> {
        let (Some(active), Some(roster)) = (&self.durable.active, &self.roster) else {
            return Err(Rejection::OutOfTurn { what: "participants" });
        };
        let Some(round) = self.phase.round() else {
            return Err(Rejection::OutOfTurn { what: "participants" });
        };
        let state = Advertised::from_secret_bytes(&active.secret)?.knowing(self.known());
        let members = roster.roster().clients_at(Some(turn.now));
        let floor = round.floor(self.setup.policy.cohort.min);
        let (shared, shares) =
            state.share(notice, &members, floor, &self.setup.identity, turn.rng)?;
        let session = round.session.into();
        Ok((shared, Reply::Shares(wire::Shares { session, shares: shares.to_bytes() })))
    }

    pub(super) fn inbox(&mut self, turn: &mut Turn<'_>, message: wire::Inbox) {
        let asked = Digest::of(&message.encode_to_vec());
        if !self.is_mine(turn, &message.session)
            || self.answered_before(turn, Question::Inbox, &asked)
        {
            return;
        }
        if self.phase.round().is_some_and(|round| plain::is_plain(&round.plan)) {
            return self.report_plainly(turn, &message, asked);
        }
        let Phase::Sharing(Sharing { step: Step::Shared, .. }) = &self.phase else {
            return turn.fault(Fault::OutOfStep);
        };
        let Some(active) = &self.durable.active else { return turn.fault(Fault::OutOfStep) };
        let inbox: Result<Vec<Delivery>, _> =
            message.shares.iter().map(|bytes| Delivery::from_bytes(bytes)).collect();
        let state = Shared::from_secret_bytes(&active.secret);
        let received = inbox
            .and_then(|inbox| Ok((inbox, state?)))
            .map_err(Rejection::from)
            .and_then(|(inbox, state)| state.receive(&inbox));
        match received {
            Ok((keyed, erasures)) => {
                for _ in &erasures {
                    turn.note(Note::Fault { fault: Fault::Unverified, code: "bad_share" });
                }
                if let Phase::Sharing(phase) = &mut self.phase {
                    phase.step = Step::Keyed { keyed: Box::new(keyed), asked };
                }
                self.mask_when_ready(turn);
            }
            Err(rejection) => unverified(turn, &rejection),
        }
    }

    /// In a round where nothing is masked there was nothing to share: see [`plain`].
    fn report_plainly(&mut self, turn: &mut Turn<'_>, message: &wire::Inbox, asked: Digest) {
        let number = message.shares.first().and_then(|bytes| bytes.first_chunk::<2>());
        let secret = self.durable.active.as_ref().map(|active| &active.secret);
        let state = secret.and_then(|secret| Advertised::from_secret_bytes(secret).ok());
        let keyed = state.zip(number).and_then(|(s, number)| s.plain(u16::from_le_bytes(*number)));
        let (Some(keyed), Phase::Sharing(phase)) = (keyed, &mut self.phase) else {
            return turn.fault(Fault::OutOfStep);
        };
        phase.step = Step::Keyed { keyed: Box::new(keyed), asked };
        self.mask_when_ready(turn);
    }

    /// Masks the contribution once it and all shares are here.
    fn mask_when_ready(&mut self, turn: &mut Turn<'_>) {
        let ready = matches!(
            &self.phase,
            Phase::Sharing(Sharing { step: Step::Keyed { .. }, encoded: Some(_), .. })
        );
        if !ready {
            return;
        }
        // The last moment at which the step costs nothing.
        if let Some(round) = self.phase.round()
            && let Err(refusal) =
                private::affordable(round, &self.setup.policy, &self.durable.budget)
        {
            return self.withdraw(turn, refusal);
        }
        let known = self.known();
        let Phase::Sharing(Sharing {
            round,
            step: Step::Keyed { keyed, asked },
            encoded: Some(encoded),
            ..
        }) = std::mem::replace(&mut self.phase, Phase::Idle)
        else {
            unreachable!("the phase was just looked at");
        };
        self.ahead = None;
        let (state, update) = match keyed.knowing(known).mask(encoded, &self.setup.identity) {
            Ok(masked) => masked,
            Err(rejection) => {
                unverified(turn, &rejection);
                self.phase = Phase::Sharing(Sharing::again(round, Step::Shared));
                return self.fail(turn, "mask");
            }
        };
        let secret = state.to_secret_bytes();
        let bytes = update.packed.len() as u64;
        let message = Reply::Report(wire::Report {
            session: round.session.into(),
            report: update.report.to_bytes(),
            bytes,
        });
        if let Some(active) = &mut self.durable.active {
            active.vector = Some((Digest::of(&update.packed), bytes));
        }
        let (session, packed) = (round.session, Arc::new(update.packed));
        turn.push(Effect::PersistVector { session, bytes: Arc::clone(&packed) });
        self.move_to(turn, Phase::Reporting(Reporting::new(round, packed)));
        self.answer(turn, Question::Inbox, asked, Some(message), secret);
    }

    /// All blobs are here again after a restart.
    pub(super) fn work_again(&mut self, turn: &mut Turn<'_>) {
        let Phase::Sharing(Sharing { round, gather: Some(gather), .. }) = &self.phase else {
            return;
        };
        let Some(blobs) = gather.blobs() else { return };
        match check::content(round, &blobs, &self.setup.site, &self.durable) {
            Ok((mut job, _)) => {
                private::draw(&mut job, turn.rng);
                if let Phase::Sharing(phase) = &mut self.phase {
                    (phase.gather, phase.working) = (None, true);
                }
                turn.push(Effect::Work(Box::new(job)));
            }
            Err(refusal) => self.withdraw(turn, refusal),
        }
    }

    /// The contribution was computed again.
    pub(super) fn worked_again(&mut self, turn: &mut Turn<'_>, encoded: Encoded) {
        if let Phase::Sharing(phase) = &mut self.phase {
            (phase.encoded, phase.working) = (Some(encoded), false);
            self.mask_when_ready(turn);
        }
    }
}

/// Who takes part, as this site is told.
fn notice(message: &wire::Participants) -> Result<Notice, CodecError> {
    if !message.notice.is_empty() {
        return Notice::from_bytes(&message.notice);
    }
    let bundles: Result<Vec<Bundle>, _> =
        message.bundles.iter().map(|bytes| Bundle::from_bytes(bytes)).collect();
    bundles.map(Notice::from)
}

/// The protocol's own checks said no; what was known before still holds.
pub(super) fn unverified(turn: &mut Turn<'_>, rejection: &Rejection) {
    turn.note(Note::Fault { fault: Fault::Unverified, code: rejection.code() });
}
