//! A survivor signature: a site's one and only word on whose updates are in the sum.

use super::{Agreed, Kind, Signature};
use crate::codec::{CodecError, Reader, Writer};
use crate::hash::{Digest, hash};
use crate::indices::Indices;
use crate::participants::COMPLETE_MAX;
use crate::signer::{Claim, Signer};
use crate::topology::{Version, narrow};

/// How a message names a set of survivors: by the set itself in version 1, by its digest in
/// version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SetName {
    Listed(Indices),
    Digest(Digest),
}

impl SetName {
    /// The name of a set among `n` participants.
    pub(crate) fn of(agreed: &Agreed, set: &Indices, n: usize) -> Self {
        match agreed.version {
            Version::Complete => Self::Listed(set.clone()),
            Version::Sparse => {
                let mut bitmap = Writer::with_capacity(n.div_ceil(8));
                set.write_bitmap(&mut bitmap, n);
                Self::Digest(hash("koinon/2/survivors", &[&agreed.digest, &bitmap.into_public()]))
            }
        }
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        match self {
            Self::Listed(set) => set.write(out),
            Self::Digest(digest) => {
                out.bytes(digest);
            }
        }
    }

    pub(crate) fn read(version: Version, from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let part = "survivors";
        match version {
            Version::Complete => Indices::read(from, COMPLETE_MAX, part).map(Self::Listed),
            Version::Sparse => from.array(part).map(Self::Digest),
        }
    }
}

/// One participant's signature over one set of survivors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurvivorSignature {
    /// The dealers in version 1, the participants in version 2.
    pub(crate) agreed: Agreed,
    pub(crate) survivors: SetName,
    pub(crate) index: u16,
    signature: Signature,
}

impl SurvivorSignature {
    pub(crate) fn new(
        agreed: Agreed,
        survivors: SetName,
        index: usize,
        signer: &dyn Signer,
    ) -> Self {
        let mut signed = Self { agreed, survivors, index: narrow(index), signature: [0; 64] };
        signed.signature = Kind::Survivors.sign(agreed.version, &signed.body(), signer);
        signed
    }

    /// The index of the signing participant.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    pub(crate) fn claim(&self, identity: &[u8; 32]) -> Claim {
        Kind::Survivors.claim(self.agreed.version, &self.body(), &self.signature, identity)
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Kind::Survivors.start(&self.agreed, 32 + 2);
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
        let signed = Self::read(&mut from)?;
        from.end()?;
        Ok(signed)
    }

    /// The signatures in a request, one after the other; they are not checked yet.
    ///
    /// # Errors
    /// If the bytes are anything else, or more than `max` signatures.
    pub fn list_from_bytes(bytes: &[u8], max: usize) -> Result<Vec<Self>, CodecError> {
        let mut from = Reader::new(bytes);
        let mut list = Vec::new();
        while !from.is_empty() {
            if list.len() == max {
                return Err(CodecError::Value("number of survivor signatures"));
            }
            list.push(Self::read(&mut from)?);
        }
        Ok(list)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let agreed = Kind::Survivors.read(from)?;
        Ok(Self {
            agreed,
            survivors: SetName::read(agreed.version, from)?,
            index: from.u16("index")?,
            signature: from.array("signature")?,
        })
    }
}
