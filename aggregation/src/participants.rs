//! Who takes part: the participants of a session in their canonical order.
//!
//! A participant is a site whose key bundle is in the session; its index is its place in the order
//! of names. Nothing here decides who may take part: the roster does (`Members`), with the floors.

use crate::codec::{CodecError, Reader, Writer};
use crate::hash::{Digest, hash};

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
        if !(PARTICIPANTS_MIN..=COMPLETE_MAX).contains(&n) {
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
