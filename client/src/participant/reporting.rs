//! Reporting: the masked update is durable and on its way, chunk by chunk, until the coordinator says
//! that it is durable there.
//!
//! Nothing is sent before the coordinator has room and asks for a chunk; then a few are on their way at
//! a time, and each receipt says which one is wanted next. A connection or a coordinator that was
//! lost goes on where the first receipt after it says, with the same bytes.

use std::sync::Arc;

use koinon_aggregation::PARTICIPANTS_MAX;
use koinon_aggregation::client::Masked;
use koinon_proto::wire::to_coordinator::Message as Reply;
use koinon_proto::{Digest, wire};
use prost::Message as _;

use super::phase::Round;
use super::revealing::Revealing;
use super::sharing::unverified;
use super::{Effect, Note, Participant, Phase, Turn};
use crate::durable::Question;
use crate::error::Fault;

/// See the module.
pub(super) struct Reporting {
    pub(super) round: Round,
    pub(super) upload: Option<Upload>,
}

/// The masked update on its way.
pub(super) struct Upload {
    packed: Arc<Vec<u8>>,
    /// The chunk that the coordinator wants next, as far as it said.
    pub(super) next: u32,
    /// The first chunk that is not on its way; none as long as nobody asked on this connection.
    unsent: Option<u32>,
    /// Welcomes on this connection since the coordinator last asked for another chunk.
    quiet: u32,
}

/// Chunks on their way at a time.
const WINDOW: u32 = 8;
/// So many welcomes without a sign of progress mean that chunks were dropped.
const QUIET_MAX: u32 = 2;

impl Reporting {
    pub(super) fn new(round: Round, packed: Arc<Vec<u8>>) -> Self {
        Self { round, upload: Some(Upload { packed, next: 0, unsent: None, quiet: 0 }) }
    }

    /// The phase after the coordinator confirmed the update.
    pub(super) fn accepted(round: Round) -> Self {
        Self { round, upload: None }
    }
}

impl Upload {
    /// How many chunks of `chunk_bytes` there are.
    pub(super) fn total(&self, chunk_bytes: usize) -> u32 {
        u32::try_from(self.packed.len().div_ceil(chunk_bytes)).unwrap_or(u32::MAX)
    }

    /// The coordinator wants this chunk next. A receipt that says nothing new changes nothing: chunks
    /// behind a lost one are asked for again after the next hello.
    fn on_receipt(&mut self, next: u32) {
        let begins = self.unsent.is_none();
        self.unsent = match self.unsent {
            Some(unsent) if next >= self.next => Some(unsent.max(next)),
            _ => Some(next),
        };
        if next != self.next || begins {
            self.quiet = 0;
        }
        self.next = next;
    }

    /// The next chunk to be sent, while there is room in the window.
    fn take(&mut self, session: &Digest, chunk_bytes: usize) -> Option<wire::UploadChunk> {
        let index = self.unsent.filter(|unsent| *unsent < self.next.saturating_add(WINDOW))?;
        let data = self.packed.chunks(chunk_bytes).nth(usize::try_from(index).ok()?)?.to_vec();
        self.unsent = Some(index + 1);
        let (session, total) = ((*session).into(), self.total(chunk_bytes));
        Some(wire::UploadChunk { session, index, total, data })
    }
}

impl Participant {
    pub(super) fn chunk_receipt(&mut self, turn: &mut Turn<'_>, receipt: &wire::ChunkReceipt) {
        let chunk_bytes = self.setup.chunk_bytes;
        let Some(round) =
            self.phase.round().filter(|round| round.session.0[..] == receipt.session[..])
        else {
            return; // Late, for a session that was left.
        };
        let session = round.session;
        let Phase::Reporting(Reporting { upload: Some(upload), .. }) = &mut self.phase else {
            return; // Late, for an upload that was accepted.
        };
        let total = upload.total(chunk_bytes);
        if receipt.next > total {
            return turn.fault(Fault::Receipt);
        }
        let news = receipt.next != upload.next;
        upload.on_receipt(receipt.next);
        if news {
            turn.note(Note::Uploaded { session, acknowledged: receipt.next, total });
        }
        self.upload(turn);
    }

    /// What was sent may be lost: the receipt that answers a hello says where to go on. On the
    /// very connection that chunks are on their way on they are lost only if nothing comes for long: a
    /// welcome may cross the first of them.
    pub(super) fn await_receipt(&mut self, connected: bool) {
        if let Phase::Reporting(Reporting { upload: Some(upload), .. }) = &mut self.phase {
            upload.quiet += 1;
            if connected || upload.quiet == QUIET_MAX {
                (upload.unsent, upload.quiet) = (None, 0);
            }
        }
    }

    fn upload(&mut self, turn: &mut Turn<'_>) {
        let chunk_bytes = self.setup.chunk_bytes;
        if !self.link.is_welcomed() {
            return;
        }
        if let Phase::Reporting(Reporting { round, upload: Some(upload), .. }) = &mut self.phase {
            while let Some(chunk) = upload.take(&round.session, chunk_bytes) {
                self.link.send(turn, wire::site_frame::Frame::Chunk(chunk));
            }
        }
    }

    pub(super) fn accepted(&mut self, turn: &mut Turn<'_>, message: &wire::Accepted) {
        if !self.is_mine(turn, &message.session) {
            return;
        }
        match &mut self.phase {
            Phase::Reporting(Reporting { round, upload, .. }) if upload.is_some() => {
                *upload = None;
                let session = round.session;
                if let Some(active) = &mut self.durable.active {
                    active.accepted = true;
                }
                self.persist(turn);
                turn.push(Effect::DropVector);
                turn.note(Note::Accepted { session });
            }
            Phase::Reporting(_) | Phase::Revealing(_) => {} // Said again.
            _ => turn.fault(Fault::OutOfStep),
        }
    }

    pub(super) fn survivors(&mut self, turn: &mut Turn<'_>, message: wire::Survivors) {
        let asked = Digest::of(&message.encode_to_vec());
        if !self.is_mine(turn, &message.session)
            || self.answered_before(turn, Question::Survivors, &asked)
        {
            return;
        }
        let (Phase::Reporting(phase), Some(active)) = (&self.phase, &self.durable.active) else {
            return turn.fault(Fault::OutOfStep);
        };
        let Some(indices) = indices(&message) else { return turn.fault(Fault::Malformed) };
        let Ok(state) = Masked::from_secret_bytes(&active.secret) else {
            return turn.fault(Fault::OutOfStep);
        };
        let floor = phase.round.floor(self.setup.policy.cohort.min);
        match state.sign(&indices, floor, &self.setup.identity) {
            Ok((signed, signature)) => {
                // Whose signature does not count agrees to the set all the same, for good.
                let session = message.session;
                let reply = signature.map(|signature| {
                    let signature = signature.to_bytes();
                    Reply::SurvivorSignature(wire::SurvivorSignature { session, signature })
                });
                let secret = signed.to_secret_bytes();
                self.enter_revealing(turn);
                self.answer(turn, Question::Survivors, asked, reply, secret);
            }
            Err(rejection) => unverified(turn, &rejection),
        }
    }

    fn enter_revealing(&mut self, turn: &mut Turn<'_>) {
        let Phase::Reporting(Reporting { round, .. }) =
            std::mem::replace(&mut self.phase, Phase::Idle)
        else {
            unreachable!("survivors() looked at the phase");
        };
        self.move_to(turn, Phase::Revealing(Revealing { round }));
    }
}

/// The survivors' indices, however they are written.
fn indices(message: &wire::Survivors) -> Option<Vec<u16>> {
    if message.bitmap.is_empty() {
        return message.indices.iter().map(|index| u16::try_from(*index).ok()).collect();
    }
    if message.bitmap.len() > PARTICIPANTS_MAX.div_ceil(8) || !message.indices.is_empty() {
        return None;
    }
    let bits =
        (0_u16..).zip(message.bitmap.iter().flat_map(|byte| (0..8).map(move |at| byte >> at & 1)));
    Some(bits.filter(|(_, bit)| *bit == 1).map(|(index, _)| index).collect())
}
