//! What a dealer hands out: a share of each of its two secrets to every participant, sealed, under
//! a signed list of commitments that a receiver and later the coordinator check shares against.
//!
//! The commitment to a receiver's pair of shares is a hash over two salted hashes, one for each
//! kind of secret, so that either share can be shown, and proven, without the other (section 3 of
//! `docs/protocol.md`).

use rand::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Kind, Signature};
use crate::agree::number;
use crate::codec::{CodecError, Reader, Writer};
use crate::hash::{Digest, hash};
use crate::participants::{COMPLETE_MAX, PARTICIPANTS_MIN};
use crate::secret::Secret;
use crate::shamir::SHARE_BYTES;
use crate::signer::Signer;

/// The signed part of a dealer's message: public, and the same for all receivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dealing {
    pub(crate) participants: Digest,
    pub(crate) dealer: u16,
    pub(crate) nonce: [u8; NONCE_BYTES],
    /// Commits the dealer to its self-mask secret as a whole.
    pub(crate) secret_commitment: Digest,
    /// For each participant in order, the dealer included.
    pub(crate) commitments: Vec<Digest>,
    /// Over all that is sealed, in order.
    sealed: Digest,
    signature: Signature,
}

/// A dealer's message to the coordinator: the signed part, and a sealed pair of shares for every
/// other participant in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    pub(crate) dealing: Dealing,
    pub(crate) sealed: Vec<Sealed>,
}

/// What one receiver gets of a dealer's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub(crate) dealing: Dealing,
    pub(crate) sealed: Sealed,
}

/// A pair of shares and their salts, sealed.
pub(crate) type Sealed = [u8; SEALED_BYTES];

/// What a dealer's message says, before it is signed.
pub(crate) struct Terms {
    pub(crate) participants: Digest,
    pub(crate) dealer: usize,
    pub(crate) nonce: [u8; NONCE_BYTES],
    pub(crate) secret_commitment: Digest,
    pub(crate) commitments: Vec<Digest>,
    pub(crate) sealed: Vec<Sealed>,
}

impl Dealing {
    pub(crate) fn is_signed_by(&self, identity: &[u8; 32]) -> bool {
        Kind::Shares.verify(&self.body(), &self.signature, identity)
    }

    /// The digest that stands for this dealing in the digest of the dealers.
    pub(crate) fn digest(&self) -> Digest {
        hash("koinon/1/dealing", &[&self.body()])
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [self.body(), self.signature.to_vec()].concat()
    }

    fn body(&self) -> Vec<u8> {
        let capacity = 4 + NONCE_BYTES + 64 + 32 * self.commitments.len();
        let mut out = Kind::Shares.start(&self.participants, capacity);
        let n = u16::try_from(self.commitments.len()).expect("at most 64 participants");
        out.u16(self.dealer).u16(n).bytes(&self.nonce).bytes(&self.secret_commitment);
        for commitment in &self.commitments {
            out.bytes(commitment);
        }
        out.bytes(&self.sealed);
        out.into_public()
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let participants = Kind::Shares.read(from)?;
        let dealer = from.u16("dealer")?;
        let n = from.u16("number of commitments")?;
        let permitted = PARTICIPANTS_MIN..=COMPLETE_MAX;
        if !permitted.contains(&usize::from(n)) || dealer >= n {
            return Err(CodecError::Value("number of commitments"));
        }
        let nonce = from.array("nonce")?;
        let secret_commitment = from.array("commitment")?;
        let commitments: Vec<Digest> =
            (0..n).map(|_| from.array("commitment")).collect::<Result<_, _>>()?;
        Ok(Self {
            participants,
            dealer,
            nonce,
            secret_commitment,
            commitments,
            sealed: from.array("digest of what is sealed")?,
            signature: from.array("signature")?,
        })
    }
}

impl Shares {
    pub(crate) fn new(terms: Terms, signer: &dyn Signer) -> Self {
        let mut dealing = Dealing {
            participants: terms.participants,
            dealer: u16::try_from(terms.dealer).expect("indices are below 64"),
            nonce: terms.nonce,
            secret_commitment: terms.secret_commitment,
            commitments: terms.commitments,
            sealed: sealed_digest(&terms.sealed),
            signature: [0; 64],
        };
        dealing.signature = Kind::Shares.sign(&dealing.body(), signer);
        Self { dealing, sealed: terms.sealed }
    }

    /// Whether the dealer signed this, all that is sealed included.
    pub(crate) fn is_signed_by(&self, identity: &[u8; 32]) -> bool {
        sealed_digest(&self.sealed) == self.dealing.sealed && self.dealing.is_signed_by(identity)
    }

    /// The index of the participant that dealt these.
    #[must_use]
    pub fn dealer(&self) -> u16 {
        self.dealing.dealer
    }

    /// What `receiver` gets of this; the dealer itself gets nothing.
    pub(crate) fn delivery(&self, receiver: usize) -> Option<Delivery> {
        let dealer = usize::from(self.dealing.dealer);
        if receiver == dealer {
            return None;
        }
        let place = if receiver < dealer { receiver } else { receiver - 1 };
        let sealed = *self.sealed.get(place)?;
        Some(Delivery { dealing: self.dealing.clone(), sealed })
    }

    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.dealing.to_bytes(), self.sealed.concat()].concat()
    }

    /// The shares that these canonical bytes are; the signature is not checked yet.
    ///
    /// # Errors
    /// If the bytes are not a canonical dealer's message.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        let dealing = Dealing::read(&mut from)?;
        let sealed: Result<_, _> =
            (1..dealing.commitments.len()).map(|_| from.array("sealed shares")).collect();
        let sealed = sealed?;
        from.end()?;
        Ok(Self { dealing, sealed })
    }
}

impl Delivery {
    /// The index of the participant that dealt this.
    #[must_use]
    pub fn dealer(&self) -> u16 {
        self.dealing.dealer
    }

    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.dealing.to_bytes(), self.sealed.to_vec()].concat()
    }

    /// The delivery that these canonical bytes are; the signature is not checked yet.
    ///
    /// # Errors
    /// If the bytes are not a canonical delivery.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        let dealing = Dealing::read(&mut from)?;
        let sealed = from.array("sealed shares")?;
        from.end()?;
        Ok(Self { dealing, sealed })
    }
}

fn sealed_digest(sealed: &[Sealed]) -> Digest {
    hash("koinon/1/sealed", &[sealed.as_flattened()])
}

/// Which of a participant's two secrets a share is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretKind {
    /// The secret of its own mask: opened if its update is in the sum.
    SelfMask = 0,
    /// The private mask key: opened if its update is not.
    MaskKey = 1,
}

impl SecretKind {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::SelfMask => Self::MaskKey,
            Self::MaskKey => Self::SelfMask,
        }
    }
}

/// A receiver's pair of shares with the salts that open their commitment.
pub(crate) struct Opening {
    shares: [Secret<SHARE_BYTES>; 2],
    salts: [[u8; SALT_BYTES]; 2],
}

/// Where a share belongs: what its commitment is bound to.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) participants: &'a Digest,
    pub(crate) dealer: usize,
    pub(crate) receiver: usize,
}

/// One share, shown with what proves it against the dealer's commitment.
pub(crate) struct Shown {
    pub(crate) share: Secret<SHARE_BYTES>,
    pub(crate) salt: [u8; SALT_BYTES],
    /// The salted hash of the share that is not shown.
    pub(crate) sibling: Digest,
}

impl Opening {
    pub(crate) fn new(
        self_mask: Secret<SHARE_BYTES>,
        mask_key: Secret<SHARE_BYTES>,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let mut salts = [[0; SALT_BYTES]; 2];
        salts.iter_mut().for_each(|salt| rng.fill_bytes(salt));
        Self { shares: [self_mask, mask_key], salts }
    }

    fn leaf(&self, kind: SecretKind, place: Place<'_>) -> Digest {
        place.leaf(kind, &self.salts[kind as usize], &self.shares[kind as usize])
    }

    pub(crate) fn commitment(&self, place: Place<'_>) -> Digest {
        combine(&[SecretKind::SelfMask, SecretKind::MaskKey].map(|kind| self.leaf(kind, place)))
    }

    /// Shows the share of `kind`, and of the other only its salted hash.
    pub(crate) fn show(&self, kind: SecretKind, place: Place<'_>) -> Shown {
        Shown {
            share: self.shares[kind as usize].duplicate(),
            salt: self.salts[kind as usize],
            sibling: self.leaf(kind.other(), place),
        }
    }

    /// Both shares, then both salts, of the self-mask secret first.
    pub(crate) fn to_bytes(&self) -> Zeroizing<[u8; OPENING_BYTES]> {
        let mut bytes = Zeroizing::new([0; OPENING_BYTES]);
        let (shares, salts) = bytes.split_at_mut(2 * SHARE_BYTES);
        for (to, share) in shares.chunks_exact_mut(SHARE_BYTES).zip(&self.shares) {
            to.copy_from_slice(share.expose());
        }
        for (to, salt) in salts.chunks_exact_mut(SALT_BYTES).zip(&self.salts) {
            to.copy_from_slice(salt);
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; OPENING_BYTES]) -> Self {
        let share = |start: usize| {
            let bytes = &bytes[start..start + SHARE_BYTES];
            Secret::new(bytes.try_into().expect("the range has this length"))
        };
        let salt = |start: usize| {
            let bytes = &bytes[start..start + SALT_BYTES];
            bytes.try_into().expect("the range has this length")
        };
        let salts = 2 * SHARE_BYTES;
        Self {
            shares: [share(0), share(SHARE_BYTES)],
            salts: [salt(salts), salt(salts + SALT_BYTES)],
        }
    }
}

impl Place<'_> {
    fn leaf(
        &self,
        kind: SecretKind,
        salt: &[u8; SALT_BYTES],
        share: &Secret<SHARE_BYTES>,
    ) -> Digest {
        let (dealer, receiver) = (number(self.dealer), number(self.receiver));
        hash(
            "koinon/1/share",
            &[self.participants, &dealer, &receiver, &[kind as u8], salt, share.expose()],
        )
    }
}

impl Shown {
    /// Whether this is what the dealer committed to.
    pub(crate) fn opens(&self, kind: SecretKind, place: Place<'_>, commitment: &Digest) -> bool {
        let mut leaves = [self.sibling; 2];
        leaves[kind as usize] = place.leaf(kind, &self.salt, &self.share);
        combine(&leaves).ct_eq(commitment).into()
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.bytes(self.share.expose()).bytes(&self.salt).bytes(&self.sibling);
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let share = Secret::new(from.array("share")?);
        Ok(Self { share, salt: from.array("salt")?, sibling: from.array("sibling hash")? })
    }
}

fn combine(leaves: &[Digest; 2]) -> Digest {
    hash("koinon/1/commitment", &[&leaves[0], &leaves[1]])
}

/// The commitment to a whole self-mask secret; 256 random bits need no salt.
pub(crate) fn commit_secret(
    participants: &Digest,
    dealer: usize,
    secret: &Secret<SHARE_BYTES>,
) -> Digest {
    hash("koinon/1/self-secret", &[participants, &number(dealer), secret.expose()])
}

/// Bytes of a commitment's salt.
pub(crate) const SALT_BYTES: usize = 16;

/// Bytes of two shares and two salts.
pub(crate) const OPENING_BYTES: usize = 2 * (SHARE_BYTES + SALT_BYTES);

/// Bytes of an opening when sealed, with the tag.
pub(crate) const SEALED_BYTES: usize = OPENING_BYTES + 16;

/// Bytes of the nonce of AES-GCM.
pub(crate) const NONCE_BYTES: usize = 12;

/// Bytes of one share as it is shown.
pub(crate) const SHOWN_BYTES: usize = SHARE_BYTES + SALT_BYTES + 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_share_can_be_proven_without_the_other() {
        let participants = [1; 32];
        let place = Place { participants: &participants, dealer: 3, receiver: 4 };
        let opening = Opening::from_bytes(&std::array::from_fn(|i| u8::try_from(i).unwrap()));
        let commitment = opening.commitment(place);
        for kind in [SecretKind::SelfMask, SecretKind::MaskKey] {
            let shown = opening.show(kind, place);
            assert!(shown.opens(kind, place, &commitment));
            assert!(!shown.opens(kind.other(), place, &commitment), "the other kind");
            assert!(!shown.opens(kind, Place { receiver: 5, ..place }, &commitment));
            let false_share = Shown { share: Secret::new([0; 32]), ..opening.show(kind, place) };
            assert!(!false_share.opens(kind, place, &commitment));
        }
    }
}
