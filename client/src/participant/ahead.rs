//! Ahead of time: keys are posted while nothing is urgent, and with those that an invitation names the
//! site agrees while it trains.
//!
//! Keys leave the stock when an invitation names them, and never come back, whatever becomes of the
//! invitation; a site whose stock has none for it makes fresh ones, because keeping it out of rounds
//! would cost more than the few milliseconds that the others then wait. None of it is durable but the
//! newest head of the log. Start at [`Participant::look_ahead`].

use std::sync::Arc;

use koinon_aggregation::Rejection;
use koinon_aggregation::ahead::{
    Agreement, Agreements, Batch, Head, Named, OneTimeKeys, check_named,
};
use koinon_proto::wire::to_coordinator::Message as Reply;
use koinon_proto::{Millis, SessionId, limits, named_keys, wire};
use prost::Message as _;

use super::sharing::unverified;
use super::{Effect, Note, Participant, Turn};
use crate::durable::heads::NotTaken;
use crate::error::{Fault, Refusal};
use crate::policy::ApprovalDefault;

/// What was done ahead for one session.
pub(super) struct Ahead {
    session: SessionId,
    /// The keys for the session, until they are offered.
    keys: Option<OneTimeKeys>,
    /// What is to be agreed on while training.
    agreement: Option<Agreement>,
    known: Vec<Arc<Agreements>>,
}

/// What an invitation's keys gave: the keys to enter its session with, and whom to agree with.
pub(super) struct Looked {
    keys: OneTimeKeys,
    agreement: Agreement,
}

/// A site posts no more often than this, whoever asks.
const POST_MS: Millis = 10_000;

impl Participant {
    /// The coordinator has few of this site's keys left. What was posted before and is left stays in the
    /// stock until the posting after this one.
    pub(super) fn keys_wanted(&mut self, turn: &mut Turn<'_>) {
        let never = self.setup.policy.approvals.default == ApprovalDefault::Never;
        if never || self.paused {
            return;
        }
        self.post_keys(turn);
    }

    fn post_keys(&mut self, turn: &mut Turn<'_>) {
        let body = |batch: &Batch| {
            let message = Some(Reply::PostedKeys(wire::PostedKeys { batch: batch.to_bytes() }));
            wire::ToCoordinator { message }.encode_to_vec()
        };
        // A coordinator that takes no batch, and asks for the next, would only fill the mailbox.
        if self.stock.newest().is_some_and(|batch| self.is_posted(&body(batch))) {
            return;
        }
        let soon = self.posted_ms.is_some_and(|before| turn.now.saturating_sub(before) < POST_MS);
        let Some(keeper) = self.coordinator_key(turn.now).filter(|_| !soon) else { return };
        let (site, identity) = (self.setup.site.as_str(), &self.setup.identity);
        let body = body(self.stock.make(&keeper, site, identity, turn.rng));
        self.posted_ms = Some(turn.now);
        self.post_body(turn, body);
    }

    /// Takes every pair of this site's that an invitation names out of the stock, for good, before
    /// anything can be wrong with the invitation; gives the one that is named as this site's.
    pub(super) fn take_named(&mut self, told: &wire::KeysAhead) -> Option<OneTimeKeys> {
        let mut own = None;
        for named in told.named.iter().filter_map(|bytes| Named::from_bytes(bytes).ok()) {
            let taken = self.stock.take(&named);
            if named.site() == self.setup.site.as_str() && own.is_none() {
                own = taken;
            }
        }
        own
    }

    /// Takes the head of the log that an invitation shows, if it extends the newest one, also when the
    /// invitation is refused: the coordinator counts on its having been read. Nothing is made durable
    /// for it: that happens with the bundle, the first thing that follows from a head. What is evidence
    /// is durable at once; there is room for little.
    pub(super) fn take_head(
        &mut self,
        turn: &mut Turn<'_>,
        told: &wire::KeysAhead,
    ) -> Result<Head, Refusal> {
        let bytes: usize = told.named.iter().map(Vec::len).sum();
        if told.named.len() > limits::NAMED_KEYS_MAX
            || told.consistency.len() > limits::LOG_PROOF_MAX
            || bytes > limits::NAMED_KEYS_BYTES_MAX
        {
            turn.fault(Fault::Oversized);
            return Err(Refusal::KeysUnproven);
        }
        let head = Head::from_bytes(&told.head).map_err(|_| Refusal::KeyLog)?;
        let proof: Result<Vec<[u8; 32]>, _> =
            told.consistency.iter().map(|hash| hash[..].try_into()).collect();
        let proof = proof.map_err(|_| Refusal::KeyLog)?;
        let keeper = self.coordinator_key(turn.now).ok_or(Refusal::RosterMismatch)?;
        match self.durable.heads.take(&keeper, head.clone(), &proof) {
            Ok(()) => {}
            Err(NotTaken { error, new }) => {
                if new {
                    self.persist(turn);
                }
                turn.note(Note::Fault { fault: Fault::KeyLog, code: error.code() });
                return Err(Refusal::KeyLog);
            }
        }
        self.link.log_size = head.size();
        Ok(head)
    }

    /// Looks at the keys that an invitation names, which is in order otherwise.
    pub(super) fn look_ahead(
        &mut self,
        turn: &mut Turn<'_>,
        (told, head): (&wire::KeysAhead, &Head),
        taken: Option<OneTimeKeys>,
    ) -> Result<Looked, Refusal> {
        let all = self.check_ahead(turn.now, told, head)?.map_err(|rejection| {
            unverified(turn, &rejection);
            Refusal::KeysUnproven
        })?;
        let site = self.setup.site.as_str();
        let named = all.iter().any(|named| named.site() == site);
        let gone = named && taken.is_none();
        let keys = taken.unwrap_or_else(|| OneTimeKeys::draw(turn.rng));
        let agreement = Agreement::with_named(&keys, site, &all);
        if gone {
            // Of a batch that was lost with the program's last run, while the coordinator may have
            // refused the ones after it: the next rounds need others.
            self.keys_wanted(turn);
        }
        Ok(Looked { keys, agreement })
    }

    fn check_ahead(
        &self,
        now: Millis,
        told: &wire::KeysAhead,
        head: &Head,
    ) -> Result<Result<Vec<Named>, Rejection>, Refusal> {
        let keeper = self.coordinator_key(now).ok_or(Refusal::RosterMismatch)?;
        let roster = self.roster.as_ref().ok_or(Refusal::RosterMismatch)?;
        let all = told.named.iter().map(|bytes| Named::from_bytes(bytes));
        let all = all.collect::<Result<Vec<_>, _>>().map_err(Rejection::from);
        Ok(all.and_then(|all| {
            check_named(&keeper, head, &all, &roster.roster().clients_at(Some(now)))?;
            Ok(all)
        }))
    }

    /// Keeps what was found for the session that the site has just entered.
    pub(super) fn keep_ahead(&mut self, session: SessionId, looked: Option<Looked>) {
        self.ahead = looked.map(|Looked { keys, agreement }| Ahead {
            session,
            keys: Some(keys),
            agreement: Some(agreement),
            known: Vec::new(),
        });
    }

    /// Training has begun: now there is time to agree.
    pub(super) fn agree_while_training(&mut self, turn: &mut Turn<'_>) {
        let Some(ahead) = &mut self.ahead else { return };
        let session = ahead.session;
        if let Some(agreement) = ahead.agreement.take() {
            agree(turn, session, agreement);
        }
    }

    /// The others deal: now there is time for what could not be agreed on before.
    pub(super) fn agree_while_others_deal(
        &mut self,
        turn: &mut Turn<'_>,
        session: SessionId,
        agreement: Agreement,
    ) {
        if self.ahead.is_none() {
            let known = Vec::new();
            self.ahead = Some(Ahead { session, keys: None, agreement: None, known });
        }
        agree(turn, session, agreement);
    }

    /// Something was agreed on.
    pub(super) fn agreed(&mut self, session: SessionId, agreements: Agreements) {
        if let Some(ahead) = self.ahead.as_mut().filter(|ahead| ahead.session == session) {
            ahead.known.push(Arc::new(agreements));
        }
    }

    /// The keys to offer in a session: those that were named, else fresh ones.
    pub(super) fn keys_for(&mut self, turn: &mut Turn<'_>, session: &SessionId) -> OneTimeKeys {
        let ahead = self.ahead.as_mut().filter(|ahead| ahead.session == *session);
        let keys = ahead.and_then(|ahead| ahead.keys.take());
        keys.unwrap_or_else(|| OneTimeKeys::draw(turn.rng))
    }

    /// What was agreed on so far in the session that the site is in.
    pub(super) fn known(&self) -> Vec<Arc<Agreements>> {
        let session = self.phase.round().map(|round| round.session);
        let ahead = self.ahead.as_ref().filter(|ahead| Some(ahead.session) == session);
        ahead.map(|ahead| ahead.known.clone()).unwrap_or_default()
    }

    /// How many entries the newest log that this site took has.
    pub(super) fn log_size(&self, now: Millis) -> u64 {
        let keeper = self.coordinator_key(now);
        keeper.and_then(|keeper| self.durable.heads.newest(&keeper)).map_or(0, Head::size)
    }

    /// The newest head, as it was signed; empty before the first.
    pub(super) fn log_head(&self, now: Millis) -> Vec<u8> {
        let keeper = self.coordinator_key(now);
        let head = keeper.and_then(|keeper| self.durable.heads.newest(&keeper));
        head.map(Head::to_bytes).unwrap_or_default()
    }
}

fn agree(turn: &mut Turn<'_>, session: SessionId, agreement: Agreement) {
    if !agreement.is_empty() {
        turn.push(Effect::Agree { session, agreement: Box::new(agreement) });
    }
}

/// An invitation as it is kept and compared: what it names of posted keys stands there as a digest, and
/// what proves to this site that the log grew is left out, because that may be another one each time.
pub(super) fn slim(mut invite: wire::Invite) -> (wire::Invite, Option<wire::KeysAhead>) {
    let told = invite.keys.take();
    invite.keys = told.as_ref().map(|told| wire::KeysAhead {
        head: told.head.clone(),
        named: vec![named_keys(&told.named).into()],
        consistency: Vec::new(),
    });
    (invite, told)
}
