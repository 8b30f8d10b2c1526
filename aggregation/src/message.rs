//! The five signed messages of a session, each in a file: what it says, its bytes, its signature.
//!
//! Every message carries the protocol version, its kind, and the digest of all that was agreed
//! before it: the plan for a bundle, the participants for shares, the dealers from then on; each of
//! these digests covers the one before. What is signed is a label and the body; the signature
//! follows the body on the wire. Whether a message is welcome is not decided here but by `client`
//! and `server`.

use crate::codec::{CodecError, NAME_BYTES_MAX, Reader, Writer};
use crate::hash::Digest;
use crate::message::shares::{NONCE_BYTES, SEALED_BYTES, SHOWN_BYTES};
use crate::participants::COMPLETE_MAX;
use crate::plan::PROTOCOL_VERSION;
use crate::signer::{Signer, verify};

pub(crate) mod bundle;
pub(crate) mod notice;
pub(crate) mod report;
pub(crate) mod reveal;
pub(crate) mod shares;
pub(crate) mod survivors;

/// The kinds of signed messages; the number is on the wire, the label under the signature.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Bundle = 1,
    Shares = 2,
    Report = 3,
    Survivors = 4,
    Reveal = 5,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Bundle => "koinon/1/sign/bundle",
            Self::Shares => "koinon/1/sign/shares",
            Self::Report => "koinon/1/sign/report",
            Self::Survivors => "koinon/1/sign/survivors",
            Self::Reveal => "koinon/1/sign/reveal",
        }
    }

    /// Starts a body: version, kind, the digest of what was agreed before.
    pub(crate) fn start(self, agreed: &Digest, capacity: usize) -> Writer {
        let mut out = Writer::with_capacity(HEAD_BYTES + capacity);
        out.u32(PROTOCOL_VERSION).u8(self as u8).bytes(agreed);
        out
    }

    /// Reads the start of a body.
    pub(crate) fn read(self, from: &mut Reader<'_>) -> Result<Digest, CodecError> {
        let version = from.u32("protocol version")?;
        if version != PROTOCOL_VERSION {
            return Err(CodecError::Version(version));
        }
        if from.u8("kind of message")? != self as u8 {
            return Err(CodecError::Value("kind of message"));
        }
        from.array("digest of what was agreed")
    }

    pub(crate) fn sign(self, body: &[u8], signer: &dyn Signer) -> Signature {
        signer.sign(&self.signed(body))
    }

    pub(crate) fn verify(self, body: &[u8], signature: &Signature, identity: &[u8; 32]) -> bool {
        verify(identity, &self.signed(body), signature)
    }

    /// What is signed: the label's length, the label, the body.
    fn signed(self, body: &[u8]) -> Vec<u8> {
        let label = self.label();
        let len = u8::try_from(label.len()).expect("labels are short constants");
        [&[len], label.as_bytes(), body].concat()
    }
}

/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// The most bytes of a [`Bundle`](crate::Bundle).
pub const BUNDLE_BYTES_MAX: usize = HEAD_BYTES + 1 + NAME_BYTES_MAX + 2 * 32 + 64;

/// The most bytes of a [`Shares`](crate::Shares) message: of a dealer among 64.
pub const SHARES_BYTES_MAX: usize = DEALING_BYTES_MAX + (COMPLETE_MAX - 1) * SEALED_BYTES;

/// The most bytes of a [`Delivery`](crate::Delivery); a site gets up to 63 of them.
pub const DELIVERY_BYTES_MAX: usize = DEALING_BYTES_MAX + SEALED_BYTES;

/// The bytes of a [`Report`](crate::Report).
pub const REPORT_BYTES: usize = HEAD_BYTES + 2 + 32 + 64;

/// The bytes of a [`SurvivorSignature`](crate::SurvivorSignature).
pub const SURVIVOR_SIGNATURE_BYTES: usize = HEAD_BYTES + 8 + 2 + 64;

/// The most bytes of a [`Reveal`](crate::Reveal): one share of each of 64 dealers.
pub const REVEAL_BYTES_MAX: usize = HEAD_BYTES + 8 + 2 + 8 + COMPLETE_MAX * SHOWN_BYTES + 64;

/// The signed part of shares: dealer, number, nonce, commitments, digest, signature.
const DEALING_BYTES_MAX: usize =
    HEAD_BYTES + 2 + 2 + NONCE_BYTES + 32 + COMPLETE_MAX * 32 + 32 + 64;

/// Version, kind and digest at the start of every body.
const HEAD_BYTES: usize = 4 + 1 + 32;
