//! What every state after the first one knows: the plan, the participants, and which one this is.

use crate::codec::{CodecError, Reader, Writer};
use crate::error::Rejection;
use crate::hash::{Digest, hash};
use crate::indices::Indices;
use crate::message::Agreed;
use crate::message::opening::Place;
use crate::message::survivors::SetName;
use crate::participants::{Participant, Participants, PublicKeys};
use crate::plan::{PLAN_BYTES_MAX, SessionPlan};
use crate::planted::{Weakness, weak};
use crate::topology::{Scheme, Seat, Version, narrow};

/// The terms of a session as this site has checked them.
pub(super) struct Session {
    pub(super) plan: SessionPlan,
    pub(super) participants: Participants,
    pub(super) seat: Seat,
    /// The site's own floor: the fewest sites whose sum it helps to open.
    pub(super) floor: usize,
    /// The fewest survivors on an arc of the graph.
    pub(super) arc_min: u16,
}

impl Session {
    pub(super) fn version(&self) -> Version {
        self.plan.version()
    }

    /// The participants, as messages are bound to them.
    pub(super) fn agreed(&self) -> Agreed {
        Agreed { version: self.version(), digest: *self.participants.digest() }
    }

    /// Shares needed to open a secret.
    pub(super) fn threshold(&self) -> usize {
        self.seat.rules.threshold
    }

    /// Refuses fewer `what` than the plan, this site's floor and the threshold want.
    pub(super) fn check_floor(&self, what: &'static str, have: usize) -> Result<(), Rejection> {
        let need = self.threshold().max(self.floor).max(usize::from(self.plan.n_min));
        if have < need && !weak(Weakness::NoFloor) {
            return Err(Rejection::TooFew { what, have, need });
        }
        Ok(())
    }

    /// Refuses survivors that leave fewer than the threshold of this site's neighbours, or that
    /// leave a gap in the graph through which the honest ones fall apart.
    pub(super) fn check_graph(&self, survivors: &Indices) -> Result<(), Rejection> {
        let live = self.seat.peers().filter(|(_, peer)| survivors.contains(*peer)).count();
        let scheme =
            Scheme::new(&self.plan.topology, self.participants.digest(), self.participants.len())?;
        let needs = [
            ("neighbours among the survivors", live, self.threshold()),
            (
                "survivors on an arc of the graph",
                scheme.fewest_on_an_arc(survivors),
                usize::from(self.arc_min),
            ),
        ];
        match needs.into_iter().find(|(_, have, need)| have < need) {
            Some((what, have, need)) if !weak(Weakness::AnyGraph) => {
                Err(Rejection::TooFew { what, have, need })
            }
            _ => Ok(()),
        }
    }

    /// The place among this site's peers of the participant with that index, or a rejection of
    /// `what`. A site is no peer of itself here.
    pub(super) fn peer(&self, index: u16, what: &'static str) -> Result<usize, Rejection> {
        let peer = self.seat.peer(usize::from(index));
        peer.filter(|_| usize::from(index) != self.seat.me)
            .ok_or(Rejection::UnknownIndex { index, what })
    }

    /// The participant with that index if its signature under survivors counts.
    pub(super) fn signer(&self, index: u16, what: &'static str) -> Result<&Participant, Rejection> {
        let counts = self.seat.rules.signers.contains(usize::from(index));
        let known = self.participants.get(usize::from(index)).filter(|_| counts);
        known.ok_or(Rejection::UnknownIndex { index, what })
    }

    /// The one-time keys of a peer.
    pub(super) fn keys(&self, peer: usize) -> &PublicKeys {
        self.participants.keys(peer).expect("of every peer the bundle was checked")
    }

    /// Where the shares of `dealer` for `receiver` belong.
    pub(super) fn place(&self, dealer: usize, receiver: usize) -> Place<'_> {
        Place { participants: self.participants.digest(), dealer, receiver }
    }

    /// How this session's messages name a set of survivors.
    pub(super) fn set_name(&self, agreed: &Agreed, survivors: &Indices) -> SetName {
        SetName::of(agreed, survivors, self.participants.len())
    }

    /// The set of these participants, if it is one.
    pub(super) fn set_of(&self, indices: &[u16]) -> Option<Indices> {
        Indices::new(indices, self.participants.len())
    }

    pub(super) fn bytes_max(&self) -> usize {
        256 + self.plan.encoding.bytes_max() + self.participants.bytes_max()
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.chunk(&self.plan.to_bytes());
        self.participants.write(out);
        out.u16(narrow(self.seat.me));
        out.u16(u16::try_from(self.floor).expect("a floor is given in 16 bits"));
        out.u16(self.arc_min);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let plan = read_plan(from)?;
        let participants = Participants::read(from)?;
        let me = usize::from(from.u16("own index")?);
        let floor = usize::from(from.u16("floor")?);
        let arc_min = from.u16("survivors on an arc")?;
        if me >= participants.len() {
            return Err(CodecError::Value("own index"));
        }
        let scheme = Scheme::new(&plan.topology, participants.digest(), participants.len());
        let seat = scheme.map_err(|_| CodecError::Value("participants"))?.seat(me);
        let known = seat.peers().all(|(_, peer)| participants.keys(peer).is_some())
            && seat.rules.signers.iter().all(|signer| participants.get(signer).is_some());
        if !known {
            return Err(CodecError::Value("participants"));
        }
        Ok(Self { plan, participants, seat, floor, arc_min })
    }
}

pub(super) fn read_plan(from: &mut Reader<'_>) -> Result<SessionPlan, CodecError> {
    SessionPlan::from_bytes(from.chunk(PLAN_BYTES_MAX, "plan")?)
}

/// What is agreed once there are dealers. In version 1 it covers the participants, who of them
/// dealt, and what each of them signed; in version 2 it is the participants alone, because nobody is
/// told of all dealers: each mask is bound to what its ends dealt.
pub(crate) fn after_dealing<'a>(
    participants: &Agreed,
    dealers: &Indices,
    dealings: impl Iterator<Item = &'a Digest>,
) -> Agreed {
    if participants.version == Version::Sparse {
        return *participants;
    }
    let mut out = Writer::with_capacity(8 + 32 * dealers.len());
    dealers.write(&mut out);
    dealings.for_each(|digest| {
        out.bytes(digest);
    });
    let digest = hash("koinon/1/dealers", &[&participants.digest, &out.into_public()]);
    Agreed { version: Version::Complete, digest }
}

/// The start of a stored state says which step it is: one step's bytes are no other step's.
#[derive(Clone, Copy)]
pub(super) enum Step {
    Advertised = 1,
    Shared = 2,
    Keyed = 3,
    Masked = 4,
    Signed = 5,
    Revealed = 6,
}

/// The layout of stored states; it has nothing to do with the protocol's version.
const STATE_VERSION: u32 = 2;

impl Step {
    pub(super) fn start(self, capacity: usize) -> Writer {
        let mut out = Writer::with_capacity(5 + capacity);
        out.u32(STATE_VERSION).u8(self as u8);
        out
    }

    pub(super) fn read(self, from: &mut Reader<'_>) -> Result<(), CodecError> {
        let version = from.u32("version of the stored state")?;
        if version != STATE_VERSION {
            return Err(CodecError::Version(version));
        }
        let step = from.u8("step")?;
        if step == self as u8 { Ok(()) } else { Err(CodecError::Value("step")) }
    }
}
