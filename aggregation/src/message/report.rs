//! A report: a site's word for the masked update it sends.

use super::{Kind, Signature};
use crate::codec::{CodecError, Reader};
use crate::hash::{Digest, hash};
use crate::signer::Signer;

/// Binds a site to the packed bytes of its masked update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub(crate) dealers: Digest,
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
    pub(crate) fn new(dealers: Digest, index: usize, packed: &[u8], signer: &dyn Signer) -> Self {
        let index = u16::try_from(index).expect("indices are below 64");
        let mut report = Self { dealers, index, update: update_digest(packed), signature: [0; 64] };
        report.signature = Kind::Report.sign(&report.body(), signer);
        report
    }

    /// The index of the reporting participant.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The digest of the packed bytes, see [`update_digest`].
    #[must_use]
    pub fn update(&self) -> &Digest {
        &self.update
    }

    pub(crate) fn is_signed_by(&self, identity: &[u8; 32]) -> bool {
        Kind::Report.verify(&self.body(), &self.signature, identity)
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Kind::Report.start(&self.dealers, 2 + 32);
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
            dealers: Kind::Report.read(&mut from)?,
            index: from.u16("index")?,
            update: from.array("update digest")?,
            signature: from.array("signature")?,
        };
        from.end()?;
        Ok(report)
    }
}

/// The digest of a masked update's packed bytes that a report binds its site to.
#[must_use]
pub fn update_digest(packed: &[u8]) -> Digest {
    hash("koinon/1/update", &[packed])
}
