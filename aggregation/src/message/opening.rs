//! One receiver's pair of shares: what commits the dealer to it, and how one of the two is shown,
//! and proven, without the other.
//!
//! In version 1 a share is hashed with a salt of its own, the two hashes are hashed together, and
//! showing a share means showing its salt and the other hash. In version 2 each share stands for
//! itself: it has 256 random bits and needs no salt, so sixteen bytes of its hash are the commitment.

use rand::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::agree::number;
use crate::codec::{CodecError, Reader, Writer};
use crate::hash::{Digest, hash};
use crate::secret::Secret;
use crate::shamir::SHARE_BYTES;
use crate::topology::Version;

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

/// Where a share belongs: what its commitment is bound to.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) participants: &'a Digest,
    pub(crate) dealer: usize,
    pub(crate) receiver: usize,
}

/// A receiver's pair of shares, with the salts that open their commitment in version 1.
pub(crate) struct Opening {
    shares: [Secret<SHARE_BYTES>; 2],
    salts: Option<Salts>,
}

type Salts = [[u8; SALT_BYTES]; 2];

/// What commits a dealer to one share in version 2.
pub(crate) type Leaf = [u8; LEAF_BYTES];

/// What commits a dealer to a pair of shares.
#[derive(Clone, Copy)]
pub(crate) enum Commitment<'a> {
    /// One digest over both, salted.
    Whole(&'a Digest),
    /// One for each.
    Pair(&'a [Leaf; 2]),
}

impl Opening {
    pub(crate) fn new(
        version: Version,
        self_mask: Secret<SHARE_BYTES>,
        mask_key: Secret<SHARE_BYTES>,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let salts = (version == Version::Complete).then(|| {
            let mut salts = Salts::default();
            salts.iter_mut().for_each(|salt| rng.fill_bytes(salt));
            salts
        });
        Self { shares: [self_mask, mask_key], salts }
    }

    /// The commitment of version 1.
    pub(crate) fn commitment(&self, place: Place<'_>) -> Digest {
        combine(&KINDS.map(|kind| self.salted(kind, place)))
    }

    /// The commitments of version 2.
    pub(crate) fn leaves(&self, place: Place<'_>) -> [Leaf; 2] {
        KINDS.map(|kind| place.leaf(kind, &self.shares[kind as usize]))
    }

    fn salted(&self, kind: SecretKind, place: Place<'_>) -> Digest {
        let salts = self.salts.unwrap_or_default();
        place.salted(kind, &salts[kind as usize], &self.shares[kind as usize])
    }

    /// Shows the share of `kind`, and of the other at most its salted hash.
    pub(crate) fn show(&self, kind: SecretKind, place: Place<'_>) -> Shown {
        Shown {
            share: self.shares[kind as usize].duplicate(),
            proof: self.salts.map(|salts| Proof {
                salt: salts[kind as usize],
                sibling: self.salted(kind.other(), place),
            }),
        }
    }

    /// Both shares, then both salts where there are any, of the self-mask secret first.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(OPENING_BYTES[0]));
        self.shares.iter().for_each(|share| bytes.extend_from_slice(share.expose()));
        self.salts.iter().flatten().for_each(|salt| bytes.extend_from_slice(salt));
        bytes
    }

    pub(crate) fn read(version: Version, from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let part = "shares";
        let shares = [Secret::new(from.array(part)?), Secret::new(from.array(part)?)];
        let salts = match version {
            Version::Complete => Some([from.array(part)?, from.array(part)?]),
            Version::Sparse => None,
        };
        Ok(Self { shares, salts })
    }
}

impl Place<'_> {
    fn salted(
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

    fn leaf(&self, kind: SecretKind, share: &Secret<SHARE_BYTES>) -> Leaf {
        let (dealer, receiver) = (number(self.dealer), number(self.receiver));
        let parts: &[&[u8]] =
            &[self.participants, &dealer, &receiver, &[kind as u8], share.expose()];
        *hash("koinon/2/share", parts).first_chunk().expect("a digest has 32 bytes")
    }
}

/// One share, shown with what proves it against the dealer's commitment.
pub(crate) struct Shown {
    pub(crate) share: Secret<SHARE_BYTES>,
    /// In version 1.
    proof: Option<Proof>,
}

struct Proof {
    salt: [u8; SALT_BYTES],
    /// The salted hash of the share that is not shown.
    sibling: Digest,
}

impl Shown {
    /// Whether this is what the dealer committed to.
    pub(crate) fn opens(
        &self,
        kind: SecretKind,
        place: Place<'_>,
        commitment: Commitment<'_>,
    ) -> bool {
        match (commitment, &self.proof) {
            (Commitment::Whole(digest), Some(Proof { salt, sibling })) => {
                let mut hashes = [*sibling; 2];
                hashes[kind as usize] = place.salted(kind, salt, &self.share);
                combine(&hashes).ct_eq(digest).into()
            }
            (Commitment::Pair(leaves), None) => {
                place.leaf(kind, &self.share).ct_eq(&leaves[kind as usize]).into()
            }
            _ => false,
        }
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.bytes(self.share.expose());
        if let Some(Proof { salt, sibling }) = &self.proof {
            out.bytes(salt).bytes(sibling);
        }
    }

    pub(crate) fn read(version: Version, from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let share = Secret::new(from.array("share")?);
        let proof = match version {
            Version::Complete => {
                Some(Proof { salt: from.array("salt")?, sibling: from.array("sibling hash")? })
            }
            Version::Sparse => None,
        };
        Ok(Self { share, proof })
    }
}

fn combine(hashes: &[Digest; 2]) -> Digest {
    hash("koinon/1/commitment", &[&hashes[0], &hashes[1]])
}

/// The commitment to a whole self-mask secret; 256 random bits need no salt.
pub(crate) fn commit_secret(
    version: Version,
    participants: &Digest,
    dealer: usize,
    secret: &Secret<SHARE_BYTES>,
) -> Digest {
    let label = match version {
        Version::Complete => "koinon/1/self-secret",
        Version::Sparse => "koinon/2/self-secret",
    };
    hash(label, &[participants, &number(dealer), secret.expose()])
}

const KINDS: [SecretKind; 2] = [SecretKind::SelfMask, SecretKind::MaskKey];

/// Bytes of a commitment's salt.
const SALT_BYTES: usize = 16;

/// Bytes of the commitment to one share in version 2: to find another share for it costs 2^128
/// tries. A dealer can make two shares with one commitment in 2^64; that tells nothing of anybody,
/// and a secret that they give is held against the dealer's commitment to the whole.
pub(crate) const LEAF_BYTES: usize = 16;

/// Bytes of an opening in versions 1 and 2.
pub(crate) const OPENING_BYTES: [usize; 2] = [2 * (SHARE_BYTES + SALT_BYTES), 2 * SHARE_BYTES];

/// Bytes of an opening when sealed, in version 1 with a tag.
pub(crate) const SEALED_BYTES: [usize; 2] = [OPENING_BYTES[0] + 16, OPENING_BYTES[1]];

/// Bytes of one share as it is shown.
pub(crate) const SHOWN_BYTES: [usize; 2] = [SHARE_BYTES + SALT_BYTES + 32, SHARE_BYTES];

impl Version {
    pub(crate) fn opening_bytes(self) -> usize {
        OPENING_BYTES[self as usize - 1]
    }

    pub(crate) fn sealed_bytes(self) -> usize {
        SEALED_BYTES[self as usize - 1]
    }

    pub(crate) fn shown_bytes(self) -> usize {
        SHOWN_BYTES[self as usize - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_share_can_be_proven_without_the_other() {
        let participants = [1; 32];
        let place = Place { participants: &participants, dealer: 3, receiver: 4 };
        let bytes: [u8; 96] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        for version in [Version::Complete, Version::Sparse] {
            let opening = Opening::read(version, &mut Reader::new(&bytes)).unwrap();
            assert_eq!(opening.to_bytes()[..], bytes[..version.opening_bytes()]);
            let (whole, pair) = (opening.commitment(place), opening.leaves(place));
            let (commitment, foreign) = match version {
                Version::Complete => (Commitment::Whole(&whole), Commitment::Pair(&pair)),
                Version::Sparse => (Commitment::Pair(&pair), Commitment::Whole(&whole)),
            };
            for kind in KINDS {
                let shown = opening.show(kind, place);
                assert!(shown.opens(kind, place, commitment));
                assert!(!shown.opens(kind, place, foreign), "another version's");
                assert!(!shown.opens(kind.other(), place, commitment), "the other kind");
                assert!(!shown.opens(kind, Place { receiver: 5, ..place }, commitment));
                let share = Secret::new([0; 32]);
                assert!(
                    !Shown { share, ..opening.show(kind, place) }.opens(kind, place, commitment)
                );
            }
        }
    }
}
