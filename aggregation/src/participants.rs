//! Who takes part: the participants of a session in their canonical order, and sets of them.
//!
//! A participant is a site whose key bundle is in the session; its index is its place in the order
//! of names. Nothing here decides who may take part: the roster does (`Members`), with the floors.

use crate::codec::{CodecError, Reader, Writer};
use crate::hash::{Digest, hash};

/// The fewest participants: with two, the sum tells each the other's update.
pub const PARTICIPANTS_MIN: usize = 3;

/// The most participants of a session where everybody shares with everybody.
pub const PARTICIPANTS_MAX: usize = 64;

/// A set of participants, by index; bit i of the 64-bit integer is participant i.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Indices(u64);

impl Indices {
    /// The set of `indices`, or `None` if one is repeated or not below `n` (at most 64).
    #[must_use]
    pub fn new(indices: &[u16], n: usize) -> Option<Self> {
        let mut set = Self::default();
        for &index in indices {
            let inside = usize::from(index) < n.min(PARTICIPANTS_MAX);
            if !inside || !set.insert(usize::from(index)) {
                return None;
            }
        }
        Some(set)
    }

    /// Adds `index` (below 64) and says whether it was new.
    pub(crate) fn insert(&mut self, index: usize) -> bool {
        let new = !self.contains(index);
        self.0 |= 1 << index;
        new
    }

    /// Whether `index` is in the set.
    #[must_use]
    pub fn contains(self, index: usize) -> bool {
        index < PARTICIPANTS_MAX && self.0 >> index & 1 == 1
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// How many are in the set.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether none is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The indices, in ascending order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..PARTICIPANTS_MAX).filter(move |&index| self.contains(index))
    }

    /// The indices as sixteen-bit numbers, in ascending order.
    #[must_use]
    pub fn to_vec(self) -> Vec<u16> {
        (0..64u16).filter(|&index| self.contains(usize::from(index))).collect()
    }

    pub(crate) fn write(self, out: &mut Writer) {
        out.u64(self.0);
    }

    pub(crate) fn read(
        from: &mut Reader<'_>,
        n: usize,
        part: &'static str,
    ) -> Result<Self, CodecError> {
        let bits = from.u64(part)?;
        if n < PARTICIPANTS_MAX && bits >> n != 0 {
            return Err(CodecError::Value(part));
        }
        Ok(Self(bits))
    }
}

/// One participant: its name and the keys that speak for it in this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Participant {
    pub(crate) name: String,
    /// The identity key that the roster states, Ed25519.
    pub(crate) identity: [u8; 32],
    /// The key that shares are sealed to, X25519.
    pub(crate) channel: [u8; 32],
    /// The key that pairwise masks are agreed with, X25519.
    pub(crate) mask: [u8; 32],
}

/// The participants of a session: 3..=64, in ascending order of names, keys checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Participants {
    sites: Vec<Participant>,
    digest: Digest,
}

impl Participants {
    /// Takes participants that were each checked, in ascending order of different names.
    pub(crate) fn new(plan: &Digest, sites: Vec<Participant>) -> Self {
        let mut out = Writer::with_capacity(sites.len() * PARTICIPANT_BYTES_MAX);
        write_sites(&sites, &mut out);
        let digest = hash("koinon/1/participants", &[plan, &out.into_public()]);
        Self { sites, digest }
    }

    /// The digest over names and all keys, in order, and the plan.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(crate) fn len(&self) -> usize {
        self.sites.len()
    }

    pub(crate) fn get(&self, index: usize) -> &Participant {
        &self.sites[index]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Participant> {
        self.sites.iter()
    }

    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.sites.binary_search_by(|p| p.name.as_str().cmp(name)).ok()
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        write_sites(&self.sites, out);
    }

    pub(crate) fn read(from: &mut Reader<'_>, plan: &Digest) -> Result<Self, CodecError> {
        let n = usize::from(from.u16("participants")?);
        if !(PARTICIPANTS_MIN..=PARTICIPANTS_MAX).contains(&n) {
            return Err(CodecError::Value("participants"));
        }
        let mut sites: Vec<Participant> = Vec::with_capacity(n);
        for _ in 0..n {
            let site = Participant {
                name: from.name("participant's name")?,
                identity: from.array("identity key")?,
                channel: from.array("channel key")?,
                mask: from.array("mask key")?,
            };
            if sites.last().is_some_and(|last| last.name >= site.name) {
                return Err(CodecError::Value("order of participants"));
            }
            sites.push(site);
        }
        Ok(Self::new(plan, sites))
    }
}

fn write_sites(sites: &[Participant], out: &mut Writer) {
    out.u16(u16::try_from(sites.len()).expect("at most 64 participants"));
    for site in sites {
        out.name(&site.name).bytes(&site.identity).bytes(&site.channel).bytes(&site.mask);
    }
}

/// The most bytes one participant takes in canonical bytes.
pub(crate) const PARTICIPANT_BYTES_MAX: usize = 1 + 64 + 3 * 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_refuse_repeats_and_strangers() {
        let set = Indices::new(&[5, 0, 63], 64).unwrap();
        assert_eq!(set.to_vec(), [0, 5, 63]);
        assert_eq!((set.len(), set.contains(5), set.contains(64)), (3, true, false));
        assert!(set.contains_all(Indices::new(&[63], 64).unwrap()));
        assert!(Indices::new(&[1, 1], 64).is_none());
        assert!(Indices::new(&[3], 3).is_none());
        assert!(Indices::new(&[64], 1000).is_none());
        assert!(Indices::read(&mut Reader::new(&8u64.to_le_bytes()), 3, "set").is_err());
        assert!(Indices::read(&mut Reader::new(&u64::MAX.to_le_bytes()), 64, "set").is_ok());
    }
}
