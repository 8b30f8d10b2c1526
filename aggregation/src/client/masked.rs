//! Last steps: one set of survivors is signed, and its shares are revealed, once.

use zeroize::Zeroizing;

use super::keyed::{held_bytes, read_held, write_held};
use super::session::{Session, Step};
use crate::codec::{CodecError, Reader};
use crate::error::Rejection;
use crate::hash::Digest;
use crate::indices::Indices;
use crate::message::reveal::Reveal;
use crate::message::shares::Opening;
use crate::message::survivors::SurvivorSignature;
use crate::message::{REVEAL_BYTES_MAX, SURVIVOR_SIGNATURE_BYTES};
use crate::planted::{Weakness, weak};
use crate::signer::Signer;

/// A site whose masked update may leave.
pub struct Masked {
    pub(super) session: Session,
    pub(super) dealers: Indices,
    pub(super) digest: Digest,
    pub(super) held: Vec<Option<Opening>>,
}

impl Masked {
    /// Agrees to the set of sites whose updates are in the sum: one set per session, ever. Those
    /// whose word is asked for sign it; of others there is no signature.
    ///
    /// # Errors
    /// A [`Rejection`] if the set holds a stranger or a site that did not deal, lacks this site, or
    /// is smaller than the threshold, the plan's `n_min`, this site's floor, or `floor`.
    pub fn sign(
        self,
        survivors: &[u16],
        floor: u16,
        signer: &dyn Signer,
    ) -> Result<(Signed, Option<SurvivorSignature>), Rejection> {
        let what = "survivors";
        let mut set = Indices::default();
        for &index in survivors {
            if !self.dealers.contains(usize::from(index)) {
                return Err(Rejection::UnknownIndex { index, what });
            }
            if !set.insert(usize::from(index)) {
                let site = self.session.participants.get(usize::from(index)).name.clone();
                return Err(Rejection::Duplicate { site });
            }
        }
        if !set.contains(self.session.me) {
            return Err(Rejection::NotIncluded { what });
        }
        self.session.check_floor(what, set.len())?;
        if set.len() < usize::from(floor) && !weak(Weakness::NoFloor) {
            return Err(Rejection::TooFew { what, have: set.len(), need: usize::from(floor) });
        }
        let signature = SurvivorSignature::new(self.digest, set, self.session.me, signer);
        Ok((Signed { masked: self, signature: signature.clone() }, Some(signature)))
    }

    /// The canonical bytes of this state, with its secrets.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Step::Masked.start(self.session.bytes_max() + held_bytes(&self.held));
        self.session.write(&mut out);
        write_held(&mut out, &self.dealers, &self.digest, &self.held);
        out.into_secret()
    }

    /// The state that these bytes are.
    ///
    /// # Errors
    /// If the bytes are not this step's canonical ones.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        Step::Masked.read(&mut from)?;
        let session = Session::read(&mut from)?;
        let (dealers, digest, held) = read_held(&mut from, &session)?;
        from.end()?;
        Ok(Self { session, dealers, digest, held })
    }
}

/// A site that has signed a set of survivors.
pub struct Signed {
    masked: Masked,
    signature: SurvivorSignature,
}

impl Signed {
    /// The signature again, for the same set.
    ///
    /// # Errors
    /// [`Rejection::DifferentSet`] for any other set.
    pub fn signature(&self, survivors: &[u16]) -> Result<Option<SurvivorSignature>, Rejection> {
        same_set(&self.masked.session, &self.signature.survivors, survivors)?;
        Ok(Some(self.signature.clone()))
    }

    /// Reveals one share of each dealer, once a quorum of survivors has signed the set that this
    /// site has signed: of the self-mask secret for a survivor, of the mask key for a site that is
    /// lost.
    ///
    /// # Errors
    /// A [`Rejection`] unless `signatures` are of [`threshold`](crate::threshold) or more different
    /// survivors, each valid, all over exactly this set.
    pub fn reveal(
        self,
        signatures: &[SurvivorSignature],
        signer: &dyn Signer,
    ) -> Result<(Revealed, Reveal), Rejection> {
        check_quorum(&self.masked.session, &self.signature, signatures)?;
        let survivors = self.signature.survivors;
        let Masked { session, digest, held, .. } = self.masked;
        let mut shares = Vec::with_capacity(held.len());
        for (dealer, opening) in held.iter().enumerate() {
            if let Some(opening) = opening {
                let kind = Reveal::kind_of(&survivors, dealer);
                shares.push((dealer, opening.show(kind, session.place(dealer, session.me))));
            }
        }
        let reveal = Reveal::new(digest, survivors.clone(), session.me, shares, signer);
        Ok((Revealed { session, survivors, reveal: reveal.clone() }, reveal))
    }

    /// The canonical bytes of this state, with its secrets.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let Masked { session, dealers, digest, held } = &self.masked;
        let mut out = Step::Signed
            .start(session.bytes_max() + held_bytes(held) + 4 + SURVIVOR_SIGNATURE_BYTES);
        session.write(&mut out);
        write_held(&mut out, dealers, digest, held);
        out.chunk(&self.signature.to_bytes());
        out.into_secret()
    }

    /// The state that these bytes are.
    ///
    /// # Errors
    /// If the bytes are not this step's canonical ones.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        Step::Signed.read(&mut from)?;
        let session = Session::read(&mut from)?;
        let (dealers, digest, held) = read_held(&mut from, &session)?;
        let signature = SurvivorSignature::from_bytes(
            from.chunk(SURVIVOR_SIGNATURE_BYTES, "survivor signature")?,
        )?;
        from.end()?;
        let own = usize::from(signature.index) == session.me && signature.dealers == digest;
        if !own || !dealers.contains_all(&signature.survivors) {
            return Err(CodecError::Value("survivor signature"));
        }
        Ok(Self { masked: Masked { session, dealers, digest, held }, signature })
    }
}

/// A site whose reveal may have left: it keeps the exact reply and no other secret.
pub struct Revealed {
    session: Session,
    survivors: Indices,
    reveal: Reveal,
}

impl Revealed {
    /// The reply again, the same bytes, for the same set.
    ///
    /// # Errors
    /// [`Rejection::DifferentSet`] for any other set.
    pub fn reveal(&self, survivors: &[u16]) -> Result<Reveal, Rejection> {
        same_set(&self.session, &self.survivors, survivors)?;
        Ok(self.reveal.clone())
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
        if usize::from(reveal.index) != session.me {
            return Err(CodecError::Value("reveal"));
        }
        Ok(Self { session, survivors: reveal.survivors.clone(), reveal })
    }
}

fn same_set(session: &Session, done: &Indices, asked: &[u16]) -> Result<(), Rejection> {
    let same = Indices::new(asked, session.participants.len()).as_ref() == Some(done);
    if same { Ok(()) } else { Err(Rejection::DifferentSet) }
}

/// Refuses unless enough different survivors have signed what this site has signed.
fn check_quorum(
    session: &Session,
    own: &SurvivorSignature,
    signatures: &[SurvivorSignature],
) -> Result<(), Rejection> {
    let what = "survivor signature";
    let mut signers = Indices::default();
    for signature in signatures {
        let index = usize::from(signature.index);
        let signer = session.participant(signature.index, what)?;
        let site = signer.name.clone();
        if signature.survivors != own.survivors && !weak(Weakness::MixedQuorum) {
            return Err(Rejection::DifferentSet);
        }
        if signature.dealers != own.dealers {
            return Err(Rejection::WrongSession { site, what });
        }
        if !own.survivors.contains(index) {
            return Err(Rejection::UnknownIndex { index: signature.index, what });
        }
        if !signers.insert(index) {
            return Err(Rejection::Duplicate { site });
        }
        if !signature.is_signed_by(&signer.identity) && !weak(Weakness::UnsignedQuorum) {
            return Err(Rejection::BadSignature { site, what });
        }
    }
    let (have, need) = (signers.len(), session.threshold());
    if have < need && !weak(Weakness::SmallQuorum) {
        return Err(Rejection::TooFew { what: "survivor signatures", have, need });
    }
    Ok(())
}
