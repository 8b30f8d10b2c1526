//! What a dealer hands out: a share of each of its two secrets to every holder, sealed, under signed
//! commitments that a receiver and later the coordinator check shares against.
//!
//! In version 1 the signed part lists the commitments to all pairs of shares, the dealer's own among
//! them. In version 2 it has the root of a tree over them: the coordinator gets all leaves, a
//! receiver the path of its own.

use super::opening::{Commitment, LEAF_BYTES, Leaf};
use super::{Agreed, Kind, Signature};
use crate::codec::{CodecError, Reader, Writer};
use crate::hash::{Digest, hash};
use crate::merkle::{PATH_MAX, Tree, path_len};
use crate::participants::{COMPLETE_MAX, PARTICIPANTS_MAX, PARTICIPANTS_MIN};
use crate::signer::{Claim, Signer};
use crate::topology::{Version, narrow};

/// The signed part of a dealer's message: public, and the same for all receivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dealing {
    /// The participants.
    pub(crate) agreed: Agreed,
    pub(crate) dealer: u16,
    pub(crate) nonce: Nonce,
    /// Commits the dealer to its self-mask secret as a whole.
    pub(crate) secret_commitment: Digest,
    pub(crate) commitments: Commitments,
    /// Over all that is sealed, in order.
    sealed: Digest,
    signature: Signature,
}

/// What a dealer signs about the shares it handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Commitments {
    /// For each participant in order, the dealer included.
    Listed(Vec<Digest>),
    /// The root of the tree over the pairs of leaves of so many holders in order.
    Tree { root: Digest, holders: u16 },
}

/// Makes every dealing another one; version 1 takes the first 12 bytes, the rest is zero.
pub(crate) type Nonce = [u8; 16];

/// A dealer's message to the coordinator: the signed part, and a sealed pair of shares for every
/// holder of them but itself, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    pub(crate) dealing: Dealing,
    /// In version 2: the commitments to the pairs, in the order of the holders.
    leaves: Vec<[Leaf; 2]>,
    /// One after the other.
    sealed: Vec<u8>,
}

/// What one receiver gets of a dealer's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub(crate) dealing: Dealing,
    pub(crate) sealed: Vec<u8>,
    /// In version 2: what leads from the receiver's leaves to the dealing's root.
    pub(crate) path: Vec<Digest>,
}

/// What a dealer's message says, before it is signed.
pub(crate) struct Terms {
    pub(crate) agreed: Agreed,
    pub(crate) dealer: usize,
    pub(crate) nonce: Nonce,
    pub(crate) secret_commitment: Digest,
    pub(crate) commitments: Committed,
    pub(crate) sealed: Vec<u8>,
}

/// The commitments to all pairs, in the order of the holders.
pub(crate) enum Committed {
    Listed(Vec<Digest>),
    Leaves(Vec<[Leaf; 2]>),
}

impl Version {
    pub(crate) fn nonce_bytes(self) -> usize {
        match self {
            Self::Complete => 12,
            Self::Sparse => 16,
        }
    }
}

impl Commitments {
    /// How many pairs of shares these are of.
    pub(crate) fn holders(&self) -> usize {
        match self {
            Self::Listed(digests) => digests.len(),
            Self::Tree { holders, .. } => usize::from(*holders),
        }
    }
}

impl Dealing {
    pub(crate) fn claim(&self, identity: &[u8; 32]) -> Claim {
        Kind::Shares.claim(self.agreed.version, &self.body(), &self.signature, identity)
    }

    /// The digest that stands for this dealing in what follows.
    pub(crate) fn digest(&self) -> Digest {
        let label = match self.agreed.version {
            Version::Complete => "koinon/1/dealing",
            Version::Sparse => "koinon/2/dealing",
        };
        hash(label, &[&self.body()])
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [self.body(), self.signature.to_vec()].concat()
    }

    fn body(&self) -> Vec<u8> {
        let listed = match &self.commitments {
            Commitments::Listed(digests) => digests.as_flattened(),
            Commitments::Tree { root, .. } => root,
        };
        let mut out = Kind::Shares.start(&self.agreed, 84 + listed.len());
        out.u16(self.dealer).u16(narrow(self.commitments.holders()));
        out.bytes(&self.nonce[..self.agreed.version.nonce_bytes()]);
        out.bytes(&self.secret_commitment).bytes(listed).bytes(&self.sealed);
        out.into_public()
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let agreed = Kind::Shares.read(from)?;
        let dealer = from.u16("dealer")?;
        let holders = from.u16("number of commitments")?;
        let permitted = match agreed.version {
            Version::Complete => PARTICIPANTS_MIN..=COMPLETE_MAX,
            Version::Sparse => 2..=PARTICIPANTS_MAX - 1,
        };
        let inside = agreed.version == Version::Sparse || dealer < holders;
        if !permitted.contains(&usize::from(holders)) || !inside {
            return Err(CodecError::Value("number of commitments"));
        }
        let mut nonce = Nonce::default();
        let nonce_bytes = agreed.version.nonce_bytes();
        nonce[..nonce_bytes].copy_from_slice(from.take(nonce_bytes, "nonce")?);
        let secret_commitment = from.array("commitment")?;
        let commitments = match agreed.version {
            Version::Complete => {
                let digests = (0..holders).map(|_| from.array("commitment"));
                Commitments::Listed(digests.collect::<Result<_, _>>()?)
            }
            Version::Sparse => Commitments::Tree { root: from.array("root")?, holders },
        };
        let sealed = from.array("digest of what is sealed")?;
        let signature = from.array("signature")?;
        Ok(Self { agreed, dealer, nonce, secret_commitment, commitments, sealed, signature })
    }
}

impl Shares {
    pub(crate) fn new(terms: Terms, signer: &dyn Signer) -> Self {
        let (commitments, leaves) = match terms.commitments {
            Committed::Listed(digests) => (Commitments::Listed(digests), Vec::new()),
            Committed::Leaves(leaves) => {
                let (root, holders) = (tree(&leaves).root(), narrow(leaves.len()));
                (Commitments::Tree { root, holders }, leaves)
            }
        };
        let version = terms.agreed.version;
        let mut dealing = Dealing {
            agreed: terms.agreed,
            dealer: narrow(terms.dealer),
            nonce: terms.nonce,
            secret_commitment: terms.secret_commitment,
            commitments,
            sealed: sealed_digest(version, &terms.sealed),
            signature: [0; 64],
        };
        dealing.signature = Kind::Shares.sign(version, &dealing.body(), signer);
        Self { dealing, leaves, sealed: terms.sealed }
    }

    /// Whether the dealer signed this, all that is sealed and all leaves included, of which `tree` is
    /// [`Shares::tree`].
    pub(crate) fn is_signed_by(&self, identity: &[u8; 32], tree: Option<&Tree>) -> bool {
        let leaves = match &self.dealing.commitments {
            Commitments::Listed(_) => true,
            Commitments::Tree { root, .. } => tree.is_some_and(|tree| tree.root() == *root),
        };
        let version = self.dealing.agreed.version;
        leaves
            && sealed_digest(version, &self.sealed) == self.dealing.sealed
            && self.dealing.claim(identity).holds()
    }

    /// The index of the participant that dealt these.
    #[must_use]
    pub fn dealer(&self) -> u16 {
        self.dealing.dealer
    }

    /// What the dealer committed to for the holder at this place.
    pub(crate) fn commitment(&self, place: usize) -> Commitment<'_> {
        match &self.dealing.commitments {
            Commitments::Listed(digests) => Commitment::Whole(&digests[place]),
            Commitments::Tree { .. } => Commitment::Pair(&self.leaves[place]),
        }
    }

    /// The nodes that [`Shares::delivery`] takes paths from, in version 2.
    pub(crate) fn tree(&self) -> Option<Tree> {
        match self.dealing.commitments {
            Commitments::Listed(_) => None,
            Commitments::Tree { .. } => Some(tree(&self.leaves)),
        }
    }

    /// What the holder at this place gets of this; the dealer itself gets nothing.
    pub(crate) fn delivery(&self, place: usize, tree: Option<&Tree>) -> Option<Delivery> {
        let sealed = self.sealed_for(place)?.to_vec();
        let path = tree.map_or_else(Vec::new, |tree| self.path(place, tree).collect());
        Some(Delivery { dealing: self.dealing.clone(), sealed, path })
    }

    /// The canonical bytes of [`Shares::delivery`] made in one go, of which `head` are those of the
    /// dealing.
    pub(crate) fn delivery_bytes(
        &self,
        place: usize,
        tree: Option<&Tree>,
        head: &[u8],
    ) -> Option<Vec<u8>> {
        let sealed = self.sealed_for(place)?;
        let n = tree.map_or(0, |_| path_len(place, self.leaves.len()));
        let mut bytes = Vec::with_capacity(head.len() + sealed.len() + 1 + 32 * n);
        bytes.extend_from_slice(head);
        bytes.extend_from_slice(sealed);
        if let Some(tree) = tree {
            bytes.push(u8::try_from(n).expect("paths are short"));
            self.path(place, tree).for_each(|digest| bytes.extend_from_slice(&digest));
        }
        Some(bytes)
    }

    fn sealed_for(&self, place: usize) -> Option<&[u8]> {
        let dealer = usize::from(self.dealing.dealer);
        let at = match self.dealing.commitments {
            Commitments::Listed(_) if place == dealer => return None,
            Commitments::Listed(_) => place - usize::from(place > dealer),
            Commitments::Tree { .. } => place,
        };
        let bytes = self.dealing.agreed.version.sealed_bytes();
        self.sealed.get(at * bytes..(at + 1) * bytes)
    }

    fn path(&self, place: usize, tree: &Tree) -> impl Iterator<Item = Digest> {
        tree.path(place, |index: usize| self.leaves[index].as_flattened())
    }

    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let leaves = self.leaves.as_flattened().as_flattened();
        [&self.dealing.to_bytes()[..], leaves, &self.sealed].concat()
    }

    /// The shares that these canonical bytes are; the signature is not checked yet.
    ///
    /// # Errors
    /// If the bytes are not a canonical dealer's message.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        let dealing = Dealing::read(&mut from)?;
        let holders = dealing.commitments.holders();
        let (n_leaves, n_sealed) = match dealing.agreed.version {
            Version::Complete => (0, holders - 1),
            Version::Sparse => (holders, holders),
        };
        let leaves = from.take(n_leaves * 2 * LEAF_BYTES, "leaves")?;
        let leaves = leaves.as_chunks::<LEAF_BYTES>().0.as_chunks::<2>().0.to_vec();
        let sealed_bytes = n_sealed * dealing.agreed.version.sealed_bytes();
        let sealed = from.take(sealed_bytes, "sealed shares")?.to_vec();
        from.end()?;
        Ok(Self { dealing, leaves, sealed })
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
        let dealing = self.dealing.to_bytes();
        let capacity = dealing.len() + self.sealed.len() + 1 + 32 * self.path.len();
        let mut out = Writer::with_capacity(capacity);
        out.bytes(&dealing).bytes(&self.sealed);
        if self.dealing.agreed.version == Version::Sparse {
            out.u8(u8::try_from(self.path.len()).expect("paths are short"));
            out.bytes(self.path.as_flattened());
        }
        out.into_public()
    }

    /// The delivery that these canonical bytes are; the signature is not checked yet.
    ///
    /// # Errors
    /// If the bytes are not a canonical delivery.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        let dealing = Dealing::read(&mut from)?;
        let version = dealing.agreed.version;
        let sealed = from.take(version.sealed_bytes(), "sealed shares")?.to_vec();
        let len = match version {
            Version::Complete => 0,
            Version::Sparse => from.u8("path")?,
        };
        if usize::from(len) > PATH_MAX {
            return Err(CodecError::Value("path"));
        }
        let path = (0..len).map(|_| from.array("path")).collect::<Result<_, _>>()?;
        from.end()?;
        Ok(Self { dealing, sealed, path })
    }
}

fn tree(leaves: &[[Leaf; 2]]) -> Tree {
    Tree::new(leaves.len(), |index| leaves[index].as_flattened())
}

fn sealed_digest(version: Version, sealed: &[u8]) -> Digest {
    let label = match version {
        Version::Complete => "koinon/1/sealed",
        Version::Sparse => "koinon/2/sealed",
    };
    hash(label, &[sealed])
}
