//! A report: a site's word for the masked update it sends.

use super::{Agreed, Kind, Signature};
use crate::codec::{CodecError, Reader};
use crate::hash::{Digest, Hasher};
use crate::signer::{Claim, Signer};
use crate::topology::{Version, narrow};

/// Binds a site to the packed bytes of its masked update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The dealers in version 1, the participants in version 2.
    pub(crate) agreed: Agreed,
    pub(crate) index: u16,
    pub(crate) update: Digest,
    signature: Signature,
}

/// A site's masked update: the signed report, and the packed words it speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskedUpdate {
    /// The site's word for the bytes.
    pub report: Report,
    /// The words, packed; see [`EncodingPlan::update_bytes`](crate::EncodingPlan::update_bytes).
    pub packed: Vec<u8>,
}

impl Report {
    /// The report of an update whose digest is given: what an [`UpdateHasher`] finds.
    pub(crate) fn new(agreed: Agreed, index: usize, update: Digest, signer: &dyn Signer) -> Self {
        let mut report = Self { agreed, index: narrow(index), update, signature: [0; 64] };
        report.signature = Kind::Report.sign(agreed.version, &report.body(), signer);
        report
    }

    /// The index of the reporting participant.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The digest of the packed bytes, see [`Report::digest_of`].
    #[must_use]
    pub fn update(&self) -> &Digest {
        &self.update
    }

    /// The digest of packed bytes, as a report of this one's version binds a site to them: SHA-256 in
    /// version 1, BLAKE3 in version 2.
    #[must_use]
    pub fn digest_of(&self, packed: &[u8]) -> Digest {
        let mut hasher = UpdateHasher::new(self.agreed.version);
        hasher.update(packed);
        hasher.finish()
    }

    pub(crate) fn claim(&self, identity: &[u8; 32]) -> Claim {
        Kind::Report.claim(self.agreed.version, &self.body(), &self.signature, identity)
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Kind::Report.start(&self.agreed, 2 + 32);
        out.u16(self.index).bytes(&self.update);
        out.into_public()
    }

    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.body(), self.signature.to_vec()].concat()
    }

    /// The report that these canonical bytes are; its signature is not checked yet.
    ///
    /// # Errors
    /// If the bytes are not a canonical report.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        let report = Self {
            agreed: Kind::Report.read(&mut from)?,
            index: from.u16("index")?,
            update: from.array("update digest")?,
            signature: from.array("signature")?,
        };
        from.end()?;
        Ok(report)
    }
}

/// Digests the packed bytes of a masked update, which may come one piece after the other.
pub(crate) enum UpdateHasher {
    /// Version 1: a labelled SHA-256.
    Sha256(Hasher),
    /// Version 2: BLAKE3, several times as fast; the label is the context string of its mode for
    /// deriving keys, so no other use of BLAKE3 gives these digests.
    Blake3(Box<blake3::Hasher>),
}

impl UpdateHasher {
    pub(crate) fn new(version: Version) -> Self {
        match version {
            Version::Complete => Self::Sha256(Hasher::new("koinon/1/update")),
            Version::Sparse => {
                Self::Blake3(Box::new(blake3::Hasher::new_derive_key("koinon/2/update")))
            }
        }
    }

    pub(crate) fn update(&mut self, piece: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(piece),
            Self::Blake3(hasher) => {
                hasher.update(piece);
            }
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => hasher.finish(),
            Self::Blake3(hasher) => hasher.finalize().into(),
        }
    }
}
