//! A batch of one-time keys, as a site posts it, and one pair of it, as an invitation names it.
//!
//! A batch is signed for one log. Its signature covers the root of the tree over its pairs, so that one
//! pair can be shown with four hashes and not with all the others. Start at [`Batch`] and
//! [`check_named`].

use super::BATCH_KEYS;
use super::head::Head;
use super::log::Log;
use crate::agree::is_usable;
use crate::codec::{CodecError, NAME_BYTES_MAX, Reader, Writer};
use crate::error::Rejection;
use crate::hash::{Digest, hash};
use crate::merkle::{Tree, hash_leaf, path_len, root_from};
use crate::participants::PublicKeys;
use crate::planted::{Weakness, weak};
use crate::signer::{Claim, Members, Signer, first_false};

/// The most bytes of a [`Batch`].
pub const BATCH_BYTES_MAX: usize = 1 + NAME_BYTES_MAX + BATCH_KEYS * 64 + 64;

/// The most bytes of a [`Named`].
pub const NAMED_BYTES_MAX: usize = 1 + NAME_BYTES_MAX + 1 + 64 + 4 * 32 + 64 + 8 + 1 + 30 * 32;

/// The hashes beside a pair in the tree over its batch.
const BESIDE: usize = BATCH_KEYS.ilog2() as usize;

const WHAT: &str = "key batch";

/// One-time keys of a site for the sessions to come, signed by its identity key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    name: String,
    keys: Vec<PublicKeys>,
    signature: [u8; 64],
}

impl Batch {
    /// Signs [`BATCH_KEYS`] pairs for the log of this keeper.
    pub(super) fn new(
        keeper: &[u8; 32],
        site: &str,
        keys: Vec<PublicKeys>,
        signer: &dyn Signer,
    ) -> Self {
        debug_assert_eq!(keys.len(), BATCH_KEYS);
        let signature = signer.sign(&signed(keeper, site, &tree(&keys).root()));
        Self { name: site.to_owned(), keys, signature }
    }

    /// The site that offers these keys.
    #[must_use]
    pub fn site(&self) -> &str {
        &self.name
    }

    /// The batch's name: a digest over all of it.
    #[must_use]
    pub fn id(&self) -> Digest {
        hash("koinon/keys/id", &[&self.to_bytes()])
    }

    /// Whether a site of that identity signed this batch for the log of that keeper, with keys that can
    /// be used, each of them once.
    ///
    /// # Errors
    /// A [`Rejection`] with what is wrong.
    pub fn check(&self, keeper: &[u8; 32], identity: &[u8; 32]) -> Result<(), Rejection> {
        let site = || self.name.clone();
        let all = || self.keys.iter().flat_map(|pair| [&pair.channel, &pair.mask]);
        if !all().all(is_usable) {
            return Err(Rejection::BadKey { site: site() });
        }
        if all().collect::<std::collections::BTreeSet<_>>().len() < 2 * BATCH_KEYS {
            return Err(Rejection::Duplicate { site: site() });
        }
        let message = signed(keeper, &self.name, &tree(&self.keys).root());
        let claim = Claim { identity: *identity, message, signature: self.signature };
        if claim.holds() {
            return Ok(());
        }
        Err(Rejection::BadSignature { site: site(), what: WHAT })
    }

    /// What is appended to the log of that keeper for this batch.
    #[must_use]
    pub fn entry(&self, keeper: &[u8; 32]) -> Vec<u8> {
        entry(&signed(keeper, &self.name, &tree(&self.keys).root()), &self.signature)
    }

    /// One pair of this batch, which is at `place` in the log, proven to be in it as it is at `size`;
    /// none if there is no such pair, or it is not in there.
    #[must_use]
    pub fn name(&self, pair: u8, log: &Log, place: u64, size: u64) -> Option<Named> {
        let keys = *self.keys.get(usize::from(pair))?;
        let beside: Vec<Digest> =
            tree(&self.keys).path(usize::from(pair), |at| leaf(&self.keys[at])).collect();
        let (name, signature) = (self.name.clone(), self.signature);
        let path = log.path(place, size)?;
        let beside = beside.try_into().expect("the tree over a batch is full");
        Some(Named { name, pair, keys, beside, signature, place, path })
    }

    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(BATCH_BYTES_MAX);
        out.name(&self.name);
        self.keys.iter().for_each(|pair| {
            out.bytes(&leaf(pair));
        });
        out.bytes(&self.signature);
        out.into_public()
    }

    /// The batch that these canonical bytes are; its signature is not checked yet.
    ///
    /// # Errors
    /// If the bytes are not a canonical batch.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        let name = from.name("site's name")?;
        let keys = (0..BATCH_KEYS).map(|_| read_keys(&mut from)).collect::<Result<_, _>>()?;
        let signature = from.array("signature")?;
        from.end()?;
        Ok(Self { name, keys, signature })
    }
}

/// One pair of a site's posted keys, proven to be in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub(super) name: String,
    /// Which pair of its batch.
    pair: u8,
    pub(super) keys: PublicKeys,
    /// The hashes beside it in the tree over the batch.
    beside: [Digest; BESIDE],
    /// Under the batch.
    signature: [u8; 64],
    /// Where the batch is in the log.
    place: u64,
    path: Vec<Digest>,
}

impl Named {
    /// Whose keys they are.
    #[must_use]
    pub fn site(&self) -> &str {
        &self.name
    }

    /// The public channel key: what tells the pair from every other.
    #[must_use]
    pub fn channel(&self) -> &[u8; 32] {
        &self.keys.channel
    }

    fn body(&self, keeper: &[u8; 32]) -> Option<Vec<u8>> {
        let root = root_from(&leaf(&self.keys), usize::from(self.pair), BATCH_KEYS, &self.beside)?;
        Some(signed(keeper, &self.name, &root))
    }

    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(NAMED_BYTES_MAX);
        out.name(&self.name).u8(self.pair).bytes(&leaf(&self.keys));
        out.bytes(self.beside.as_flattened()).bytes(&self.signature).u64(self.place);
        out.u8(u8::try_from(self.path.len()).expect("a log has at most 2^30 entries"));
        out.bytes(self.path.as_flattened());
        out.into_public()
    }

    /// The pair that these canonical bytes name; nothing of it is checked yet.
    ///
    /// # Errors
    /// If the bytes are not canonical.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.len() > NAMED_BYTES_MAX {
            return Err(CodecError::Value("path"));
        }
        let mut from = Reader::new(bytes);
        let name = from.name("site's name")?;
        let pair = from.u8("pair")?;
        let keys = read_keys(&mut from)?;
        let mut beside = [[0; 32]; BESIDE];
        for hash in &mut beside {
            *hash = from.array("hashes of the batch")?;
        }
        let (signature, place) = (from.array("signature")?, from.u64("place in the log")?);
        let n_path = from.u8("path")?;
        let path = (0..n_path).map(|_| from.array("path")).collect::<Result<_, _>>()?;
        from.end()?;
        Ok(Self { name, pair, keys, beside, signature, place, path })
    }
}

/// Checks all that an invitation names, of different sites in ascending order: that each pair is a
/// member's, signed for the log of this keeper, usable, and in the log of `head`. The head itself is
/// checked elsewhere.
///
/// # Errors
/// A [`Rejection`] with the site whose pair is not what it should be.
pub fn check_named(
    keeper: &[u8; 32],
    head: &Head,
    all: &[Named],
    members: &dyn Members,
) -> Result<(), Rejection> {
    let mut claims = Vec::with_capacity(all.len());
    let mut last: Option<&str> = None;
    for named in all {
        let site = || named.name.clone();
        if last.is_some_and(|last| *last >= *named.name) {
            return Err(Rejection::Order { site: site() });
        }
        last = Some(&named.name);
        let identity =
            members.key_of(&named.name).ok_or_else(|| Rejection::UnknownSite { site: site() })?;
        if !is_usable(&named.keys.channel) || !is_usable(&named.keys.mask) {
            return Err(Rejection::BadKey { site: site() });
        }
        let bad_proof = || Rejection::BadProof { site: site() };
        let body = named.body(keeper).ok_or_else(bad_proof)?;
        if !is_in(&entry(&body, &named.signature), named, head) && !weak(Weakness::UnprovenKeys) {
            return Err(bad_proof());
        }
        claims.push(Claim { identity, message: body, signature: named.signature });
    }
    match first_false(&claims) {
        Some(at) if !weak(Weakness::UnprovenKeys) => {
            Err(Rejection::BadSignature { site: all[at].name.clone(), what: WHAT })
        }
        _ => Ok(()),
    }
}

/// Whether the entry is where it is said to be in the log of this head.
fn is_in(entry: &[u8], named: &Named, head: &Head) -> bool {
    let (Ok(place), Ok(size)) = (usize::try_from(named.place), usize::try_from(head.size())) else {
        return false;
    };
    if size == 1 {
        return place == 0 && named.path.is_empty() && hash_leaf(entry) == *head.root();
    }
    place < size
        && named.path.len() == path_len(place, size)
        && root_from(entry, place, size, &named.path) == Some(*head.root())
}

fn tree(keys: &[PublicKeys]) -> Tree {
    Tree::new(keys.len(), |at| leaf(&keys[at]))
}

fn leaf(pair: &PublicKeys) -> [u8; 64] {
    let mut leaf = [0; 64];
    leaf[..32].copy_from_slice(&pair.channel);
    leaf[32..].copy_from_slice(&pair.mask);
    leaf
}

fn read_keys(from: &mut Reader<'_>) -> Result<PublicKeys, CodecError> {
    Ok(PublicKeys { channel: from.array("channel key")?, mask: from.array("mask key")? })
}

/// What is signed of a batch: the label's length, the label, the log's keeper, the site, the root over
/// the pairs.
fn signed(keeper: &[u8; 32], site: &str, root: &Digest) -> Vec<u8> {
    let label = "koinon/keys/batch/1";
    let byte = |len: usize| [u8::try_from(len).expect("labels and names are short")];
    let (label_len, site_len) = (byte(label.len()), byte(site.len()));
    [&label_len[..], label.as_bytes(), keeper, &site_len, site.as_bytes(), root].concat()
}

/// What stands in the log for a batch: what is signed, and the signature.
fn entry(signed: &[u8], signature: &[u8; 64]) -> Vec<u8> {
    [signed, signature].concat()
}
