//! A survivor signature: a site's one and only word on whose updates are in the sum.

use super::{Kind, Signature};
use crate::codec::{CodecError, Reader};
use crate::hash::Digest;
use crate::indices::Indices;
use crate::participants::COMPLETE_MAX;
use crate::signer::Signer;

/// One participant's signature over one set of survivors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurvivorSignature {
    pub(crate) dealers: Digest,
    pub(crate) survivors: Indices,
    pub(crate) index: u16,
    signature: Signature,
}

impl SurvivorSignature {
    pub(crate) fn new(
        dealers: Digest,
        survivors: Indices,
        index: usize,
        signer: &dyn Signer,
    ) -> Self {
        let index = u16::try_from(index).expect("indices are below 64");
        let mut signed = Self { dealers, survivors, index, signature: [0; 64] };
        signed.signature = Kind::Survivors.sign(&signed.body(), signer);
        signed
    }

    /// The index of the signing participant.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The set that is signed.
    #[must_use]
    pub fn survivors(&self) -> &Indices {
        &self.survivors
    }

    pub(crate) fn is_signed_by(&self, identity: &[u8; 32]) -> bool {
        Kind::Survivors.verify(&self.body(), &self.signature, identity)
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Kind::Survivors.start(&self.dealers, 8 + 2);
        self.survivors.write(&mut out);
        out.u16(self.index);
        out.into_public()
    }

    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.body(), self.signature.to_vec()].concat()
    }

    /// The signature that these canonical bytes are; it is not checked yet.
    ///
    /// # Errors
    /// If the bytes are not a canonical survivor signature.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        let signed = Self {
            dealers: Kind::Survivors.read(&mut from)?,
            survivors: Indices::read(&mut from, COMPLETE_MAX, "survivors")?,
            index: from.u16("index")?,
            signature: from.array("signature")?,
        };
        from.end()?;
        Ok(signed)
    }
}
