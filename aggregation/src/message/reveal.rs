//! A reveal: for every dealer exactly one share, of the self-mask secret if the dealer's update is
//! in the sum, of its mask key if not. The format has no room for both.

use super::{Kind, Signature};
use crate::codec::{CodecError, Reader};
use crate::hash::Digest;
use crate::indices::Indices;
use crate::message::shares::{SHOWN_BYTES, SecretKind, Shown};
use crate::participants::COMPLETE_MAX;
use crate::signer::Signer;

/// One survivor's shares for the set of survivors that a quorum signed.
///
/// Meant for the coordinator alone: its `Debug` leaves the shares out.
#[derive(Clone, PartialEq, Eq)]
pub struct Reveal {
    pub(crate) dealers: Digest,
    pub(crate) survivors: Indices,
    pub(crate) index: u16,
    /// The dealers of which a share is shown: all but those whose share was bad.
    pub(crate) shown_of: Indices,
    /// One after the other for `shown_of`, [`SHOWN_BYTES`] each.
    shown: Vec<u8>,
    signature: Signature,
}

impl Reveal {
    pub(crate) fn new(
        dealers: Digest,
        survivors: Indices,
        index: usize,
        shares: Vec<(usize, Shown)>,
        signer: &dyn Signer,
    ) -> Self {
        let index = u16::try_from(index).expect("indices are below 64");
        let mut shown_of = Indices::default();
        let mut shown = crate::codec::Writer::with_capacity(shares.len() * SHOWN_BYTES);
        for (dealer, share) in &shares {
            shown_of.insert(*dealer);
            share.write(&mut shown);
        }
        let shown = shown.into_public();
        let mut reveal = Self { dealers, survivors, index, shown_of, shown, signature: [0; 64] };
        reveal.signature = Kind::Reveal.sign(&reveal.body(), signer);
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

    /// The shares with their dealers, in order.
    pub(crate) fn shares(&self) -> impl Iterator<Item = (usize, Shown)> {
        let shown = self.shown.chunks_exact(SHOWN_BYTES).map(|bytes| {
            Shown::read(&mut Reader::new(bytes)).expect("the chunk is as long as a shown share")
        });
        self.shown_of.iter().zip(shown)
    }

    pub(crate) fn is_signed_by(&self, identity: &[u8; 32]) -> bool {
        Kind::Reveal.verify(&self.body(), &self.signature, identity)
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Kind::Reveal.start(&self.dealers, 8 + 2 + 8 + self.shown.len());
        self.survivors.write(&mut out);
        out.u16(self.index);
        self.shown_of.write(&mut out);
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
        let dealers = Kind::Reveal.read(&mut from)?;
        let survivors = Indices::read(&mut from, COMPLETE_MAX, "survivors")?;
        let index = from.u16("index")?;
        let shown_of = Indices::read(&mut from, COMPLETE_MAX, "dealers")?;
        let shown = from.take(shown_of.len() * SHOWN_BYTES, "shares")?.to_vec();
        let signature = from.array("signature")?;
        from.end()?;
        Ok(Self { dealers, survivors, index, shown_of, shown, signature })
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
