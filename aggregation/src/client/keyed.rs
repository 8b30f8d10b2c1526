//! Third step: the update is masked. This is the only way an update becomes bytes.

use zeroize::Zeroizing;

use super::masked::Masked;
use super::session::{Session, Step};
use super::shared::read_opening;
use crate::agree;
use crate::codec::{CodecError, Reader, Writer};
use crate::error::Rejection;
use crate::hash::Digest;
use crate::indices::Indices;
use crate::message::report::{MaskedUpdate, Report};
use crate::message::shares::{OPENING_BYTES, Opening};
use crate::ring::pack;
use crate::secret::Secret;
use crate::signer::Signer;
use crate::stream::{Sign, add_streams};
use crate::update::Encoded;

/// A site that holds the others' shares and all keys for its masks.
pub struct Keyed {
    pub(super) session: Session,
    /// The private mask key.
    pub(super) mask: Secret<32>,
    /// The secret of this site's own mask.
    pub(super) secret: Secret<32>,
    pub(super) dealers: Indices,
    /// The digest of the dealers.
    pub(super) digest: Digest,
    /// By participant: its shares, if it dealt good ones.
    pub(super) held: Vec<Option<Opening>>,
}

impl Keyed {
    /// Adds this site's own mask and the masks agreed on with every other dealer to the update:
    /// y = x + PRG(self) + Σ ±PRG(pair) modulo 2^b, where the lower index adds and the higher one
    /// subtracts. The private keys are gone after this step.
    ///
    /// # Errors
    /// [`Rejection::WrongEncoding`] if `encoded` was made for another plan.
    pub fn mask(
        self,
        encoded: Encoded,
        signer: &dyn Signer,
    ) -> Result<(Masked, MaskedUpdate), Rejection> {
        let session = self.session;
        let (me, plan) = (session.me, &session.plan.encoding);
        if encoded.plan() != plan {
            return Err(Rejection::WrongEncoding);
        }
        // All the room at once: growing would leave seeds behind in memory.
        let mut seeds = Vec::with_capacity(self.dealers.len());
        seeds.push((agree::self_seed(&self.secret, &self.digest, me), Sign::Plus));
        for other in self.dealers.iter().filter(|&other| other != me) {
            let peer = session.participants.get(other);
            let shared = agree::agree(&self.mask, &peer.mask)
                .ok_or_else(|| Rejection::BadKey { site: peer.name.clone() })?;
            seeds.push((agree::pair_seed(&shared, &self.digest, me, other), pair_sign(me, other)));
        }
        let mut words = encoded.words();
        add_streams(&mut words, 0, &seeds);
        let mut packed = Vec::new();
        pack(&words, plan.bits(), &mut packed);
        let report = Report::new(self.digest, me, &packed, signer);
        let (dealers, digest, held) = (self.dealers, self.digest, self.held);
        Ok((Masked { session, dealers, digest, held }, MaskedUpdate { report, packed }))
    }

    /// The canonical bytes of this state, with its secrets.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Step::Keyed.start(self.session.bytes_max() + 64 + held_bytes(&self.held));
        self.session.write(&mut out);
        out.bytes(self.mask.expose()).bytes(self.secret.expose());
        write_held(&mut out, &self.dealers, &self.digest, &self.held);
        out.into_secret()
    }

    /// The state that these bytes are.
    ///
    /// # Errors
    /// If the bytes are not this step's canonical ones.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        Step::Keyed.read(&mut from)?;
        let session = Session::read(&mut from)?;
        let mask = Secret::new(from.array("mask key")?);
        let secret = Secret::new(from.array("own secret")?);
        let (dealers, digest, held) = read_held(&mut from, &session)?;
        from.end()?;
        Ok(Self { session, mask, secret, dealers, digest, held })
    }
}

/// The lower index adds the mask of a pair, the higher one subtracts it.
pub(crate) fn pair_sign(me: usize, other: usize) -> Sign {
    if me < other { Sign::Plus } else { Sign::Minus }
}

pub(super) fn held_bytes(held: &[Option<Opening>]) -> usize {
    8 + 32 + 8 + held.len() * OPENING_BYTES
}

/// Writes the dealers, their digest, and the shares held.
pub(super) fn write_held(
    out: &mut Writer,
    dealers: &Indices,
    digest: &Digest,
    held: &[Option<Opening>],
) {
    dealers.write(out);
    out.bytes(digest);
    let mut of = Indices::default();
    for (index, _) in held.iter().enumerate().filter(|(_, opening)| opening.is_some()) {
        of.insert(index);
    }
    of.write(out);
    for opening in held.iter().flatten() {
        out.bytes(opening.to_bytes().as_slice());
    }
}

pub(super) type Held = (Indices, Digest, Vec<Option<Opening>>);

pub(super) fn read_held(from: &mut Reader<'_>, session: &Session) -> Result<Held, CodecError> {
    let n = session.participants.len();
    let dealers = Indices::read(from, n, "dealers")?;
    let digest = from.array("digest of the dealers")?;
    let of = Indices::read(from, n, "shares held")?;
    if !dealers.contains_all(&of) || !of.contains(session.me) {
        return Err(CodecError::Value("shares held"));
    }
    let held: Result<_, _> =
        (0..n).map(|i| of.contains(i).then(|| read_opening(from)).transpose()).collect();
    Ok((dealers, digest, held?))
}
