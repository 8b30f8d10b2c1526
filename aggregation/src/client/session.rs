//! What every state after the first one knows: the plan, the participants, and which one this is.

use crate::codec::{CodecError, Reader, Writer};
use crate::error::Rejection;
use crate::hash::{Digest, hash};
use crate::indices::Indices;
use crate::message::shares::Place;
use crate::participants::{PARTICIPANT_BYTES_MAX, Participant, Participants};
use crate::plan::{PLAN_BYTES_MAX, SessionPlan, threshold};
use crate::planted::{Weakness, weak};

/// The terms of a session as this site has checked them.
pub(super) struct Session {
    pub(super) plan: SessionPlan,
    pub(super) participants: Participants,
    /// This site's index.
    pub(super) me: usize,
    /// The site's own floor: the fewest sites whose sum it helps to open.
    pub(super) floor: usize,
}

impl Session {
    /// Participants needed to open a secret and to sign a set of survivors.
    pub(super) fn threshold(&self) -> usize {
        threshold(self.participants.len())
    }

    /// Refuses fewer `what` than the plan, this site's floor and the threshold want.
    pub(super) fn check_floor(&self, what: &'static str, have: usize) -> Result<(), Rejection> {
        let need = self.threshold().max(self.floor).max(usize::from(self.plan.n_min));
        if have < need && !weak(Weakness::NoFloor) { Err(Rejection::TooFew { what, have, need }) } else { Ok(()) }
    }

    /// The participant with that index, or a rejection of `what`.
    pub(super) fn participant(
        &self,
        index: u16,
        what: &'static str,
    ) -> Result<&Participant, Rejection> {
        if usize::from(index) < self.participants.len() {
            Ok(self.participants.get(usize::from(index)))
        } else {
            Err(Rejection::UnknownIndex { index, what })
        }
    }

    pub(super) fn place(&self, dealer: usize, receiver: usize) -> Place<'_> {
        Place { participants: self.participants.digest(), dealer, receiver }
    }

    pub(super) fn bytes_max(&self) -> usize {
        256 + self.plan.encoding.bytes_max() + self.participants.len() * PARTICIPANT_BYTES_MAX
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.chunk(&self.plan.to_bytes());
        self.participants.write(out);
        out.u16(u16::try_from(self.me).expect("indices are below 64"));
        out.u16(u16::try_from(self.floor).expect("floors above 64 admit no session"));
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let plan = read_plan(from)?;
        let participants = Participants::read(from, &plan.digest())?;
        let me = usize::from(from.u16("own index")?);
        let floor = usize::from(from.u16("floor")?);
        if me >= participants.len() {
            return Err(CodecError::Value("own index"));
        }
        Ok(Self { plan, participants, me, floor })
    }
}

pub(super) fn read_plan(from: &mut Reader<'_>) -> Result<SessionPlan, CodecError> {
    SessionPlan::from_bytes(from.chunk(PLAN_BYTES_MAX, "plan")?)
}

/// The digest of the dealers: the participants, who of them dealt, and what each of them signed.
pub(crate) fn dealers_digest<'a>(
    participants: &Digest,
    dealers: &Indices,
    dealings: impl Iterator<Item = &'a Digest>,
) -> Digest {
    let mut out = Writer::with_capacity(8 + 32 * dealers.len());
    dealers.write(&mut out);
    dealings.for_each(|digest| {
        out.bytes(digest);
    });
    hash("koinon/1/dealers", &[participants, &out.into_public()])
}

/// The first byte of a stored state: which step it is. One step's bytes are no other step's.
#[derive(Clone, Copy)]
pub(super) enum Step {
    Advertised = 1,
    Shared = 2,
    Keyed = 3,
    Masked = 4,
    Signed = 5,
    Revealed = 6,
}

impl Step {
    pub(super) fn start(self, capacity: usize) -> Writer {
        let mut out = Writer::with_capacity(5 + capacity);
        out.u32(crate::plan::PROTOCOL_VERSION).u8(self as u8);
        out
    }

    pub(super) fn read(self, from: &mut Reader<'_>) -> Result<(), CodecError> {
        let version = from.u32("version of the stored state")?;
        if version != crate::plan::PROTOCOL_VERSION {
            return Err(CodecError::Version(version));
        }
        let step = from.u8("step")?;
        if step == self as u8 { Ok(()) } else { Err(CodecError::Value("step")) }
    }
}
