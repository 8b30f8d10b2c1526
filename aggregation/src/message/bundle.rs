//! A key bundle: the two one-time public keys with which a site enters a session.

use super::{Agreed, Kind, Signature};
use crate::codec::{CodecError, Reader, Writer};
use crate::hash::Digest;
use crate::participants::PublicKeys;
use crate::signer::{Claim, Signer};

/// A site's keys for one session, signed by its identity key and bound to the session's plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The plan.
    pub(crate) agreed: Agreed,
    pub(crate) name: String,
    pub(crate) keys: PublicKeys,
    signature: Signature,
}

impl Bundle {
    pub(crate) fn new(agreed: Agreed, name: &str, keys: PublicKeys, signer: &dyn Signer) -> Self {
        let name = name.to_owned();
        let mut bundle = Self { agreed, name, keys, signature: [0; 64] };
        bundle.signature = Kind::Bundle.sign(agreed.version, &bundle.body(), signer);
        bundle
    }

    /// The site that offers these keys.
    #[must_use]
    pub fn site(&self) -> &str {
        &self.name
    }

    /// The one-time public keys: of the channel, of the mask.
    #[must_use]
    pub fn public_keys(&self) -> [&[u8; 32]; 2] {
        [&self.keys.channel, &self.keys.mask]
    }

    /// The digest of the plan these keys are for.
    #[must_use]
    pub fn plan(&self) -> &Digest {
        &self.agreed.digest
    }

    pub(crate) fn claim(&self, identity: &[u8; 32]) -> Claim {
        Kind::Bundle.claim(self.agreed.version, &self.body(), &self.signature, identity)
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Kind::Bundle.start(&self.agreed, 1 + 64 + 64);
        out.name(&self.name).bytes(&self.keys.channel).bytes(&self.keys.mask);
        out.into_public()
    }

    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.body(), self.signature.to_vec()].concat()
    }

    /// Appends the canonical bytes.
    pub(crate) fn write(&self, out: &mut Writer) {
        Kind::Bundle.write(&self.agreed, out);
        out.name(&self.name).bytes(&self.keys.channel).bytes(&self.keys.mask);
        out.bytes(&self.signature);
    }

    /// The bundle that these canonical bytes are; its signature is not checked yet.
    ///
    /// # Errors
    /// If the bytes are not a canonical bundle.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        let bundle = Self::read(&mut from)?;
        from.end()?;
        Ok(bundle)
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            agreed: Kind::Bundle.read(from)?,
            name: from.name("site's name")?,
            keys: PublicKeys { channel: from.array("channel key")?, mask: from.array("mask key")? },
            signature: from.array("signature")?,
        })
    }
}
