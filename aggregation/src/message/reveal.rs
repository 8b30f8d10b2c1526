//! A reveal: of each dealer exactly one share, of the self-mask secret if the dealer's update is in
//! the sum, of its mask key if not. The format has no room for both.

use super::opening::{SecretKind, Shown};
use super::survivors::SetName;
use super::{Agreed, Kind, Signature};
use crate::codec::{CodecError, Reader, Writer};
use crate::indices::Indices;
use crate::participants::{COMPLETE_MAX, PARTICIPANTS_MAX};
use crate::signer::{Claim, Signer};
use crate::topology::{Version, narrow};

/// One survivor's shares for the set of survivors that a quorum signed.
///
/// Meant for the coordinator alone: its `Debug` leaves the shares out.
#[derive(Clone, PartialEq, Eq)]
pub struct Reveal {
    /// The dealers in version 1, the participants in version 2.
    pub(crate) agreed: Agreed,
    pub(crate) survivors: SetName,
    pub(crate) index: u16,
    /// How many dealers there may be: all participants in version 1, neighbours in version 2.
    peers: u16,
    /// Of which of them a share is shown, by their places in order: all dealers but those whose
    /// share was bad.
    pub(crate) shown_of: Indices,
    /// One after the other for `shown_of`.
    shown: Vec<u8>,
    signature: Signature,
}

/// What a reveal says, before it is signed.
pub(crate) struct Shares {
    pub(crate) agreed: Agreed,
    pub(crate) survivors: SetName,
    pub(crate) index: usize,
    pub(crate) peers: usize,
    /// By place among the peers.
    pub(crate) shown: Vec<(usize, Shown)>,
}

impl Reveal {
    pub(crate) fn new(shares: Shares, signer: &dyn Signer) -> Self {
        let version = shares.agreed.version;
        let mut shown = Writer::with_capacity(shares.shown.len() * version.shown_bytes());
        shares.shown.iter().for_each(|(_, share)| share.write(&mut shown));
        let mut reveal = Self {
            agreed: shares.agreed,
            survivors: shares.survivors,
            index: narrow(shares.index),
            peers: narrow(shares.peers),
            shown_of: shares.shown.iter().map(|(place, _)| *place).collect(),
            shown: shown.into_public(),
            signature: [0; 64],
        };
        reveal.signature = Kind::Reveal.sign(version, &reveal.body(), signer);
        reveal
    }

    /// The index of the revealing participant.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Which of a dealer's secrets is opened, given who survived.
    pub(crate) fn kind_of(survivors: &Indices, dealer: usize) -> SecretKind {
        if survivors.contains(dealer) { SecretKind::SelfMask } else { SecretKind::MaskKey }
    }

    /// Whether it speaks of so many peers.
    pub(crate) fn has_peers(&self, peers: usize) -> bool {
        self.agreed.version == Version::Complete || usize::from(self.peers) == peers
    }

    /// The share of the dealer at this place among the peers.
    pub(crate) fn share(&self, place: usize) -> Option<Shown> {
        if !self.shown_of.contains(place) {
            return None;
        }
        let bytes = self.agreed.version.shown_bytes();
        let start = self.shown_of.rank(place) * bytes;
        let mut from = Reader::new(self.shown.get(start..start + bytes)?);
        Shown::read(self.agreed.version, &mut from).ok()
    }

    pub(crate) fn claim(&self, identity: &[u8; 32]) -> Claim {
        Kind::Reveal.claim(self.agreed.version, &self.body(), &self.signature, identity)
    }

    fn body(&self) -> Vec<u8> {
        let peers = usize::from(self.peers);
        let capacity = 32 + 4 + 8 + peers.div_ceil(8) + self.shown.len();
        let mut out = Kind::Reveal.start(&self.agreed, capacity);
        self.survivors.write(&mut out);
        out.u16(self.index);
        match self.agreed.version {
            Version::Complete => self.shown_of.write(&mut out),
            Version::Sparse => {
                out.u16(self.peers);
                self.shown_of.write_bitmap(&mut out, peers);
            }
        }
        out.bytes(&self.shown);
        out.into_public()
    }

    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.body(), self.signature.to_vec()].concat()
    }

    /// The reveal that these canonical bytes are; neither signature nor shares are checked yet.
    ///
    /// # Errors
    /// If the bytes are not a canonical reveal.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        let agreed = Kind::Reveal.read(&mut from)?;
        let survivors = SetName::read(agreed.version, &mut from)?;
        let index = from.u16("index")?;
        let (peers, shown_of) = match agreed.version {
            Version::Complete => (0, Indices::read(&mut from, COMPLETE_MAX, "dealers")?),
            Version::Sparse => {
                let peers = from.u16("peers")?;
                if !(2..PARTICIPANTS_MAX).contains(&usize::from(peers)) {
                    return Err(CodecError::Value("peers"));
                }
                (peers, Indices::read_bitmap(&mut from, usize::from(peers), "dealers")?)
            }
        };
        let bytes = shown_of.len() * agreed.version.shown_bytes();
        let shown = from.take(bytes, "shares")?.to_vec();
        let signature = from.array("signature")?;
        from.end()?;
        Ok(Self { agreed, survivors, index, peers, shown_of, shown, signature })
    }
}

impl std::fmt::Debug for Reveal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reveal")
            .field("index", &self.index)
            .field("survivors", &self.survivors)
            .field("shown_of", &self.shown_of)
            .finish_non_exhaustive()
    }
}
