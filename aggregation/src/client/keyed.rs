//! Third step: the update is masked. This is the only way an update becomes bytes.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::masked::Masked;
use super::session::{Session, Step};
use crate::agree::{self, Bound};
use crate::ahead::{Agreements, Known};
use crate::codec::{CodecError, Reader, Writer};
use crate::error::Rejection;
use crate::hash::Digest;
use crate::indices::Indices;
use crate::message::Agreed;
use crate::message::opening::Opening;
use crate::message::report::{MaskedUpdate, Report, UpdateHasher};
use crate::plain::is_plain;
use crate::ring::pack;
use crate::secret::Secret;
use crate::signer::Signer;
use crate::stream::{Seed, Sign, Streams};
use crate::topology::Version;
use crate::update::Encoded;
use crate::words::{PIECE_ENTRIES, Words};

/// A site that holds the others' shares and all keys for its masks.
pub struct Keyed {
    pub(super) session: Session,
    /// The private mask key.
    pub(super) mask: Secret<32>,
    /// The secret of this site's own mask.
    pub(super) secret: Secret<32>,
    /// The digest of what this site signed as a dealer.
    pub(super) dealing: Digest,
    /// The dealers in version 1, the participants in version 2.
    pub(super) agreed: Agreed,
    /// The dealers by their places among the peers.
    pub(super) dealers: Indices,
    /// The digest of what each of them signed.
    pub(super) dealings: Vec<Digest>,
    /// By place: the peer's shares, if it dealt good ones.
    pub(super) held: Vec<Option<Opening>>,
    pub(super) known: Known,
}

impl Keyed {
    /// The same, knowing what was agreed on ahead of time.
    #[must_use]
    pub fn knowing(self, ahead: Vec<Arc<Agreements>>) -> Self {
        Self { known: Known(ahead), ..self }
    }

    /// Adds this site's own mask and the masks agreed on with every other dealer among its peers to
    /// the update: y = x + PRG(self) + Σ ±PRG(pair) modulo 2^b, where the lower index adds and the
    /// higher one subtracts. The private keys are gone after this step.
    ///
    /// # Errors
    /// [`Rejection::WrongEncoding`] if `encoded` was made for another plan.
    pub fn mask(
        self,
        encoded: Encoded,
        signer: &dyn Signer,
    ) -> Result<(Masked, MaskedUpdate), Rejection> {
        let mut packed = Vec::with_capacity(self.session.plan.encoding.update_bytes() + 16);
        let (masked, report) =
            self.mask_with(encoded, signer, &mut |piece| packed.extend_from_slice(piece))?;
        Ok((masked, MaskedUpdate { report, packed }))
    }

    /// [`Keyed::mask`] piece by piece, for updates that need not be in memory as a whole: the packed
    /// bytes go to `sink` one piece after the other. What `sink` has got may leave only once the
    /// returned state is stored.
    ///
    /// # Errors
    /// As [`Keyed::mask`]; then `sink` has got nothing.
    pub fn mask_with(
        self,
        encoded: Encoded,
        signer: &dyn Signer,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(Masked, Report), Rejection> {
        let plan = &self.session.plan.encoding;
        if encoded.plan() != plan {
            return Err(Rejection::WrongEncoding);
        }
        let streams = Streams::new(&self.seeds()?);
        let (entries, bits) = (plan.entries(), plan.bits());
        let mut hasher = UpdateHasher::new(self.agreed.version);
        let mut words = Words::zero(entries.min(PIECE_ENTRIES), bits);
        let mut packed = Vec::new();
        for first in (0..entries).step_by(PIECE_ENTRIES) {
            words.truncate(entries - first);
            encoded.fill(first..first + words.len(), &mut words);
            streams.add(&mut words, first);
            packed.clear();
            pack(&words, bits, &mut packed);
            hasher.update(&packed);
            sink(&packed);
        }
        let me = self.session.seat.me;
        let report = Report::new(self.agreed, me, hasher.finish(), signer);
        let Self { session, agreed, dealers, held, .. } = self;
        Ok((Masked { session, agreed, dealers, held }, report))
    }

    /// The seeds of all masks of this site, its own first.
    fn seeds(&self) -> Result<Vec<(Seed, Sign)>, Rejection> {
        let (session, me) = (&self.session, self.session.seat.me);
        if is_plain(&session.plan) {
            return Ok(Vec::new());
        }
        let participants = session.participants.digest();
        // All the room at once: growing would leave seeds behind in memory.
        let mut seeds = Vec::with_capacity(self.dealers.len() + 1);
        let own = [&self.dealing];
        let bound = self.bound(participants, &own);
        seeds.push((agree::self_seed(&self.secret, bound, me), Sign::Plus));
        let peers = self.dealers.iter().map(|at| usize::from(session.seat.peers[at]));
        let others: Vec<_> = peers.zip(&self.dealings).filter(|(peer, _)| *peer != me).collect();
        let keys: Vec<_> = others.iter().map(|(peer, _)| &session.keys(*peer).mask).collect();
        let agreed = self.known.agree_all(&self.mask, &session.keys(me).mask, &keys);
        for ((peer, dealing), shared) in others.into_iter().zip(agreed) {
            let shared = shared
                .ok_or_else(|| Rejection::BadKey { site: session.participants.name(peer) })?;
            let ends = if me < peer { [&self.dealing, dealing] } else { [dealing, &self.dealing] };
            let bound = self.bound(participants, &ends);
            seeds.push((agree::pair_seed(&shared, bound, me, peer), pair_sign(me, peer)));
        }
        Ok(seeds)
    }

    fn bound<'a>(&'a self, participants: &'a Digest, ends: &'a [&'a Digest]) -> Bound<'a> {
        match self.agreed.version {
            Version::Complete => Bound::Dealers(&self.agreed.digest),
            Version::Sparse => Bound::Dealings(participants, ends),
        }
    }

    /// The canonical bytes of this state, with its secrets.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let held = held_bytes(&self.session, &self.held);
        let dealings = 32 * self.dealings.len();
        let mut out = Step::Keyed.start(self.session.bytes_max() + 96 + dealings + held);
        self.session.write(&mut out);
        out.bytes(self.mask.expose()).bytes(self.secret.expose()).bytes(&self.dealing);
        write_held(&mut out, &self.agreed, &self.dealers, &self.held);
        out.bytes(self.dealings.as_flattened());
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
        let dealing = from.array("dealing")?;
        let (agreed, dealers, held) = read_held(&mut from, &session)?;
        let dealings = (0..dealers.len()).map(|_| from.array("dealing"));
        let dealings = dealings.collect::<Result<_, _>>()?;
        from.end()?;
        let known = Known::default();
        Ok(Self { session, mask, secret, dealing, agreed, dealers, dealings, held, known })
    }
}

/// The lower index adds the mask of a pair, the higher one subtracts it.
pub(crate) fn pair_sign(me: usize, other: usize) -> Sign {
    if me < other { Sign::Plus } else { Sign::Minus }
}

pub(super) fn held_bytes(session: &Session, held: &[Option<Opening>]) -> usize {
    32 + 2 * held.len().div_ceil(8) + held.len() * session.version().opening_bytes()
}

/// Writes what is agreed, the dealers, and the shares held.
pub(super) fn write_held(
    out: &mut Writer,
    agreed: &Agreed,
    dealers: &Indices,
    held: &[Option<Opening>],
) {
    out.bytes(&agreed.digest);
    dealers.write_bitmap(out, held.len());
    let of: Indices = (0..held.len()).filter(|&at| held[at].is_some()).collect();
    of.write_bitmap(out, held.len());
    for opening in held.iter().flatten() {
        out.bytes(&opening.to_bytes());
    }
}

pub(super) type Held = (Agreed, Indices, Vec<Option<Opening>>);

pub(super) fn read_held(from: &mut Reader<'_>, session: &Session) -> Result<Held, CodecError> {
    let (version, n) = (session.version(), session.seat.peers.len());
    let agreed = Agreed { version, digest: from.array("digest of what was agreed")? };
    let dealers = Indices::read_bitmap(from, n, "dealers")?;
    let of = Indices::read_bitmap(from, n, "shares held")?;
    let own = session.seat.peer(session.seat.me);
    let whole = own.is_none_or(|own| of.contains(own))
        && (version == Version::Complete || agreed == session.agreed());
    if !dealers.contains_all(&of) || !whole {
        return Err(CodecError::Value("shares held"));
    }
    let held: Result<_, _> = (0..n)
        .map(|at| of.contains(at).then(|| Opening::read(version, from)).transpose())
        .collect();
    Ok((agreed, dealers, held?))
}
