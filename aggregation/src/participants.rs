//! Who takes part: the participants of a session in their canonical order, and the digest that
//! stands for them.
//!
//! A participant is a site whose key bundle is in the session; its index is its place in the order
//! of names. The coordinator knows all of them with their keys; a site knows the keys of those it
//! shares with, and of whose signatures count the identities. Nothing here decides who may take
//! part: the roster does (`Members`), with the floors.

use crate::codec::{CodecError, Reader, Writer};
use crate::hash::{Digest, Hasher, hash};
use crate::topology::narrow;

/// The fewest participants: with two, the sum tells each the other's update.
pub const PARTICIPANTS_MIN: usize = 3;

/// The most participants of a session where everybody shares with everybody.
pub const COMPLETE_MAX: usize = 64;

/// The most participants of any session.
pub const PARTICIPANTS_MAX: usize = 16_384;

/// One participant: its name and the keys that speak for it in this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Participant {
    pub(crate) name: String,
    /// The identity key that the roster states, Ed25519.
    pub(crate) identity: [u8; 32],
    /// Its one-time keys; none of a participant that is known by its signatures alone.
    pub(crate) keys: Option<PublicKeys>,
}

/// The one-time keys in a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicKeys {
    /// The key that shares are sealed to, X25519.
    pub(crate) channel: [u8; 32],
    /// The key that pairwise masks are agreed with, X25519.
    pub(crate) mask: [u8; 32],
}

/// The participants of a session as far as they are known here, keys checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Participants {
    n: usize,
    digest: Digest,
    /// By index, ascending.
    known: Vec<(u16, Participant)>,
}

impl Participants {
    /// All participants of a session where everybody shares with everybody, each checked, in
    /// ascending order of different names.
    pub(crate) fn complete(plan: &Digest, sites: Vec<Participant>) -> Self {
        let mut out = Writer::with_capacity(sites.len() * PARTICIPANT_BYTES_MAX);
        out.u16(narrow(sites.len()));
        for Participant { name, identity, keys } in &sites {
            let keys = keys.as_ref().expect("every participant of a complete session has keys");
            out.name(name).bytes(identity).bytes(&keys.channel).bytes(&keys.mask);
        }
        let digest = hash("koinon/1/participants", &[plan, &out.into_public()]);
        Self::all(digest, sites)
    }

    /// All participants, in ascending order of names, for whom `digest` stands.
    pub(crate) fn all(digest: Digest, sites: Vec<Participant>) -> Self {
        Self { n: sites.len(), digest, known: (0..).zip(sites).collect() }
    }

    /// `known` of `n` participants for whom `digest` stands, ascending by index.
    pub(crate) fn some(n: usize, digest: Digest, known: Vec<(u16, Participant)>) -> Self {
        Self { n, digest, known }
    }

    /// The digest over names and all keys, in order, and the plan.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(crate) fn len(&self) -> usize {
        self.n
    }

    /// The participant with that index, if it is known here.
    pub(crate) fn get(&self, index: usize) -> Option<&Participant> {
        let index = u16::try_from(index).ok()?;
        let at = match self.known.get(usize::from(index)) {
            Some((known, _)) if *known == index => usize::from(index),
            _ => self.known.binary_search_by_key(&index, |(known, _)| *known).ok()?,
        };
        Some(&self.known[at].1)
    }

    /// The one-time keys of a participant, if they are known here.
    pub(crate) fn keys(&self, index: usize) -> Option<&PublicKeys> {
        self.get(index)?.keys.as_ref()
    }

    /// The name of a participant, or its number where the name is not known.
    pub(crate) fn name(&self, index: usize) -> String {
        self.get(index).map_or_else(|| format!("participant {index}"), |p| p.name.clone())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Participant> {
        self.known.iter().map(|(_, participant)| participant)
    }

    /// All that are known, in order.
    pub(crate) fn into_sites(self) -> impl Iterator<Item = Participant> {
        self.known.into_iter().map(|(_, participant)| participant)
    }

    /// The index of a known participant.
    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        let at = self.known.binary_search_by(|(_, p)| p.name.as_str().cmp(name)).ok()?;
        Some(usize::from(self.known[at].0))
    }

    pub(crate) fn bytes_max(&self) -> usize {
        36 + self.known.len() * (3 + PARTICIPANT_BYTES_MAX)
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.u16(narrow(self.n)).bytes(&self.digest).u16(narrow(self.known.len()));
        for (index, Participant { name, identity, keys }) in &self.known {
            out.u16(*index).name(name).bytes(identity).u8(u8::from(keys.is_some()));
            if let Some(PublicKeys { channel, mask }) = keys {
                out.bytes(channel).bytes(mask);
            }
        }
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let part = "participants";
        let n = usize::from(from.u16(part)?);
        if !(PARTICIPANTS_MIN..=PARTICIPANTS_MAX).contains(&n) {
            return Err(CodecError::Value(part));
        }
        let digest = from.array("digest of the participants")?;
        let n_known = usize::from(from.u16(part)?);
        let mut known: Vec<(u16, Participant)> = Vec::with_capacity(n_known.min(n));
        for _ in 0..n_known {
            let index = from.u16(part)?;
            let name = from.name("participant's name")?;
            let identity = from.array("identity key")?;
            let keys = match from.u8("keys")? {
                0 => None,
                1 => Some(PublicKeys { channel: from.array(part)?, mask: from.array(part)? }),
                _ => return Err(CodecError::Value("keys")),
            };
            let in_order = known.last().is_none_or(|(i, last)| *i < index && last.name < name);
            if !in_order || usize::from(index) >= n {
                return Err(CodecError::Value("order of participants"));
            }
            known.push((index, Participant { name, identity, keys }));
        }
        Ok(Self { n, digest, known })
    }
}

/// Who is said to take part in a sparse session: names and identities alone, in order.
pub(crate) fn names_digest<'a>(sites: impl Iterator<Item = (&'a str, &'a [u8; 32])>) -> Digest {
    let mut hasher = Hasher::new("koinon/2/names");
    sites.for_each(|(name, identity)| {
        hasher.update(&name_len(name));
        hasher.update(name.as_bytes());
        hasher.update(identity);
    });
    hasher.finish()
}

/// The leaf of a participant in the tree over the participants of a sparse session.
pub(crate) fn participant_leaf(name: &str, identity: &[u8; 32], keys: &PublicKeys) -> Digest {
    let parts: &[&[u8]] = &[&name_len(name), name.as_bytes(), identity, &keys.channel, &keys.mask];
    hash("koinon/2/participant", parts)
}

fn name_len(name: &str) -> [u8; 1] {
    [u8::try_from(name.len()).expect("names were checked to have 1..=64 bytes")]
}

/// The digest that stands for the participants of a sparse session: `names` by [`names_digest`],
/// `root` of the tree over their leaves.
pub(crate) fn sparse_digest(plan: &Digest, n: usize, names: &Digest, root: &Digest) -> Digest {
    hash("koinon/2/participants", &[plan, &narrow(n).to_le_bytes(), names, root])
}

/// The most bytes one participant takes in canonical bytes.
const PARTICIPANT_BYTES_MAX: usize = 1 + 64 + 3 * 32;
