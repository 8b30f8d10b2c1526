//! Last steps: one set of survivors is agreed to, and its shares are revealed, once.

use zeroize::Zeroizing;

use super::keyed::{held_bytes, read_held, write_held};
use super::session::{Session, Step};
use crate::codec::{CodecError, Reader};
use crate::error::Rejection;
use crate::indices::Indices;
use crate::message::opening::Opening;
use crate::message::reveal::{self, Reveal};
use crate::message::survivors::{SetName, SurvivorSignature};
use crate::message::{Agreed, REVEAL_BYTES_MAX, SURVIVOR_SIGNATURE_BYTES_MAX};
use crate::planted::{Weakness, weak};
use crate::signer::{Signer, first_false};

/// A site whose masked update may leave.
pub struct Masked {
    pub(super) session: Session,
    /// The dealers in version 1, the participants in version 2.
    pub(super) agreed: Agreed,
    /// The dealers by their places among the peers.
    pub(super) dealers: Indices,
    /// By place: the peer's shares, if it dealt good ones.
    pub(super) held: Vec<Option<Opening>>,
}

impl Masked {
    /// Agrees to the set of sites whose updates are in the sum: one set per session, ever. Those
    /// whose signatures count sign it; of others there is no signature.
    ///
    /// # Errors
    /// A [`Rejection`] if the set holds a stranger or a site that did not deal, lacks this site, is
    /// smaller than the threshold, the plan's `n_min`, this site's floor, or `floor`, or leaves too
    /// few of this site's neighbours or too few on an arc of the graph.
    pub fn sign(
        self,
        survivors: &[u16],
        floor: u16,
        signer: &dyn Signer,
    ) -> Result<(Signed, Option<SurvivorSignature>), Rejection> {
        let what = "survivors";
        let session = &self.session;
        let mut set = Indices::default();
        for &index in survivors {
            let at = usize::from(index);
            // Of the others nobody here knows whether they dealt; their own neighbours do.
            let dealt = session.seat.peer(at).is_none_or(|place| self.dealers.contains(place));
            if at >= session.participants.len() || !dealt {
                return Err(Rejection::UnknownIndex { index, what });
            }
            if !set.insert(at) {
                return Err(Rejection::Duplicate { site: session.participants.name(at) });
            }
        }
        if !set.contains(session.seat.me) {
            return Err(Rejection::NotIncluded { what });
        }
        session.check_floor(what, set.len())?;
        if set.len() < usize::from(floor) && !weak(Weakness::NoFloor) {
            return Err(Rejection::TooFew { what, have: set.len(), need: usize::from(floor) });
        }
        session.check_graph(&set)?;
        let signature = session.seat.rules.signers.contains(session.seat.me).then(|| {
            let name = session.set_name(&self.agreed, &set);
            SurvivorSignature::new(self.agreed, name, session.seat.me, signer)
        });
        Ok((Signed { masked: self, survivors: set, signature: signature.clone() }, signature))
    }

    /// The canonical bytes of this state, with its secrets.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let held = held_bytes(&self.session, &self.held);
        let mut out = Step::Masked.start(self.session.bytes_max() + held);
        self.session.write(&mut out);
        write_held(&mut out, &self.agreed, &self.dealers, &self.held);
        out.into_secret()
    }

    /// The state that these bytes are.
    ///
    /// # Errors
    /// If the bytes are not this step's canonical ones.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        Step::Masked.read(&mut from)?;
        let masked = Self::read(&mut from)?;
        from.end()?;
        Ok(masked)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let session = Session::read(from)?;
        let (agreed, dealers, held) = read_held(from, &session)?;
        Ok(Self { session, agreed, dealers, held })
    }
}

/// A site that has agreed to a set of survivors.
pub struct Signed {
    masked: Masked,
    survivors: Indices,
    /// If its signature counts.
    signature: Option<SurvivorSignature>,
}

impl Signed {
    /// The signature again, for the same set.
    ///
    /// # Errors
    /// [`Rejection::DifferentSet`] for any other set.
    pub fn signature(&self, survivors: &[u16]) -> Result<Option<SurvivorSignature>, Rejection> {
        let same = self.masked.session.set_of(survivors).as_ref() == Some(&self.survivors);
        if same { Ok(self.signature.clone()) } else { Err(Rejection::DifferentSet) }
    }

    /// Reveals one share of each dealer among its peers, once a quorum has signed the set that this
    /// site has agreed to: of the self-mask secret for a survivor, of the mask key for a site that
    /// is lost.
    ///
    /// # Errors
    /// A [`Rejection`] unless `signatures` are of a quorum of different survivors whose signatures
    /// count, each valid, all over exactly this set.
    pub fn reveal(
        self,
        signatures: &[SurvivorSignature],
        signer: &dyn Signer,
    ) -> Result<(Revealed, Reveal), Rejection> {
        let name = self.check_quorum(signatures)?;
        let Masked { session, agreed, held, .. } = self.masked;
        let me = session.seat.me;
        let mut shown = Vec::with_capacity(held.len());
        for ((at, dealer), opening) in session.seat.peers().zip(&held) {
            if let Some(opening) = opening {
                let kind = Reveal::kind_of(&self.survivors, dealer);
                shown.push((at, opening.show(kind, session.place(dealer, me))));
            }
        }
        let peers = session.seat.peers.len();
        let shares = reveal::Shares { agreed, survivors: name, index: me, peers, shown };
        let reveal = Reveal::new(shares, signer);
        Ok((Revealed { session, reveal: reveal.clone() }, reveal))
    }

    /// The set's name, if enough different survivors whose signatures count have signed it.
    fn check_quorum(&self, signatures: &[SurvivorSignature]) -> Result<SetName, Rejection> {
        let what = "survivor signature";
        let Masked { session, agreed, .. } = &self.masked;
        let name = session.set_name(agreed, &self.survivors);
        let mut signers = Indices::default();
        let mut claims = Vec::with_capacity(signatures.len());
        for signature in signatures {
            let index = usize::from(signature.index);
            let signer = session.signer(signature.index, what)?;
            let site = || signer.name.clone();
            // Another session's set may be written in another way; say that it is another session.
            if signature.agreed != *agreed {
                return Err(Rejection::WrongSession { site: site(), what });
            }
            if signature.survivors != name && !weak(Weakness::MixedQuorum) {
                return Err(Rejection::DifferentSet);
            }
            if !self.survivors.contains(index) {
                return Err(Rejection::UnknownIndex { index: signature.index, what });
            }
            if !signers.insert(index) {
                return Err(Rejection::Duplicate { site: site() });
            }
            claims.push(signature.claim(&signer.identity));
        }
        let false_one = first_false(&claims).filter(|_| !weak(Weakness::UnsignedQuorum));
        if let Some(at) = false_one {
            let site = session.participants.name(usize::from(signatures[at].index));
            return Err(Rejection::BadSignature { site, what });
        }
        let (have, need) = (signers.len(), session.seat.rules.quorum);
        if have < need && !weak(Weakness::SmallQuorum) {
            return Err(Rejection::TooFew { what: "survivor signatures", have, need });
        }
        Ok(name)
    }

    /// The canonical bytes of this state, with its secrets.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let Masked { session, agreed, dealers, held } = &self.masked;
        let n = session.participants.len();
        let rest = n.div_ceil(8) + 4 + SURVIVOR_SIGNATURE_BYTES_MAX;
        let capacity = session.bytes_max() + held_bytes(session, held) + rest;
        let mut out = Step::Signed.start(capacity);
        session.write(&mut out);
        write_held(&mut out, agreed, dealers, held);
        self.survivors.write_bitmap(&mut out, n);
        self.signature.iter().for_each(|signature| {
            out.chunk(&signature.to_bytes());
        });
        out.into_secret()
    }

    /// The state that these bytes are.
    ///
    /// # Errors
    /// If the bytes are not this step's canonical ones.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let part = "survivor signature";
        let mut from = Reader::new(bytes);
        Step::Signed.read(&mut from)?;
        let masked = Masked::read(&mut from)?;
        let session = &masked.session;
        let survivors = Indices::read_bitmap(&mut from, session.participants.len(), "survivors")?;
        let me = session.seat.me;
        let signature = if session.seat.rules.signers.contains(me) {
            let bytes = from.chunk(SURVIVOR_SIGNATURE_BYTES_MAX, part)?;
            let signature = SurvivorSignature::from_bytes(bytes)?;
            let own = usize::from(signature.index) == me
                && signature.agreed == masked.agreed
                && signature.survivors == session.set_name(&masked.agreed, &survivors);
            Some(signature).filter(|_| own).ok_or(CodecError::Value(part)).map(Some)?
        } else {
            None
        };
        from.end()?;
        if !survivors.contains(me) {
            return Err(CodecError::Value("survivors"));
        }
        Ok(Self { masked, survivors, signature })
    }
}

/// A site whose reveal may have left: it keeps the exact reply and no other secret.
pub struct Revealed {
    session: Session,
    reveal: Reveal,
}

impl Revealed {
    /// The reply again, the same bytes, for the same set.
    ///
    /// # Errors
    /// [`Rejection::DifferentSet`] for any other set.
    pub fn reveal(&self, survivors: &[u16]) -> Result<Reveal, Rejection> {
        let set = self.session.set_of(survivors).ok_or(Rejection::DifferentSet)?;
        let same = self.session.set_name(&self.reveal.agreed, &set) == self.reveal.survivors;
        if same { Ok(self.reveal.clone()) } else { Err(Rejection::DifferentSet) }
    }

    /// The canonical bytes of this state.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let reveal = self.reveal.to_bytes();
        let mut out = Step::Revealed.start(self.session.bytes_max() + 4 + reveal.len());
        self.session.write(&mut out);
        out.chunk(&reveal);
        out.into_secret()
    }

    /// The state that these bytes are.
    ///
    /// # Errors
    /// If the bytes are not this step's canonical ones.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        Step::Revealed.read(&mut from)?;
        let session = Session::read(&mut from)?;
        let reveal = Reveal::from_bytes(from.chunk(REVEAL_BYTES_MAX, "reveal")?)?;
        from.end()?;
        let own = usize::from(reveal.index) == session.seat.me;
        if !own || reveal.agreed.version != session.version() {
            return Err(CodecError::Value("reveal"));
        }
        Ok(Self { session, reveal })
    }
}
