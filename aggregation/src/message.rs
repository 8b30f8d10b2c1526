//! The five signed messages of a session, each in a file: what it says, its bytes, its signature.
//!
//! Every message carries the protocol version, its kind, and the digest of all that was agreed
//! before it: the plan for a bundle, the participants for shares, the dealers from then on; each of
//! these digests covers the one before. What is signed is a label and the body; the signature
//! follows the body on the wire. Whether a message is welcome is not decided here but by `client`
//! and `server`.

use crate::codec::{CodecError, NAME_BYTES_MAX, Reader, Writer};
use crate::hash::Digest;
use crate::merkle::PATH_MAX;
use crate::message::opening::{SEALED_BYTES, SHOWN_BYTES};
use crate::participants::{COMPLETE_MAX, PARTICIPANTS_MAX};
use crate::signer::{Claim, Signer};
use crate::topology::Version;

pub(crate) mod bundle;
pub(crate) mod notice;
pub(crate) mod opening;
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

/// What every message is bound to: the version it is written in, and the digest of what was agreed
/// before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) version: Version,
    pub(crate) digest: Digest,
}

impl Kind {
    fn label(self, version: Version) -> String {
        let name = match self {
            Self::Bundle => "bundle",
            Self::Shares => "shares",
            Self::Report => "report",
            Self::Survivors => "survivors",
            Self::Reveal => "reveal",
        };
        format!("koinon/{}/sign/{name}", version.number())
    }

    /// Starts a body: version, kind, the digest of what was agreed before.
    pub(crate) fn start(self, agreed: &Agreed, capacity: usize) -> Writer {
        let mut out = Writer::with_capacity(HEAD_BYTES + capacity);
        self.write(agreed, &mut out);
        out
    }

    /// Appends the start of a body.
    pub(crate) fn write(self, agreed: &Agreed, out: &mut Writer) {
        out.u32(agreed.version.number()).u8(self as u8).bytes(&agreed.digest);
    }

    /// Reads the start of a body.
    pub(crate) fn read(self, from: &mut Reader<'_>) -> Result<Agreed, CodecError> {
        let version = Version::from_number(from.u32("protocol version")?)?;
        if from.u8("kind of message")? != self as u8 {
            return Err(CodecError::Value("kind of message"));
        }
        Ok(Agreed { version, digest: from.array("digest of what was agreed")? })
    }

    pub(crate) fn sign(self, version: Version, body: &[u8], signer: &dyn Signer) -> Signature {
        signer.sign(&self.signed(version, body))
    }

    /// That the key `identity` signed this body.
    pub(crate) fn claim(
        self,
        version: Version,
        body: &[u8],
        signature: &Signature,
        identity: &[u8; 32],
    ) -> Claim {
        let message = self.signed(version, body);
        Claim { identity: *identity, message, signature: *signature }
    }

    /// What is signed: the label's length, the label, the body.
    fn signed(self, version: Version, body: &[u8]) -> Vec<u8> {
        let label = self.label(version);
        let len = u8::try_from(label.len()).expect("labels are short");
        [&[len], label.as_bytes(), body].concat()
    }
}

/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// The most bytes of a [`Bundle`](crate::Bundle).
pub const BUNDLE_BYTES_MAX: usize = HEAD_BYTES + 1 + NAME_BYTES_MAX + 2 * 32 + 64;

/// The most bytes of a [`Notice`](crate::Notice): of all names, and of all bundles with their paths.
pub const NOTICE_BYTES_MAX: usize =
    8 + PARTICIPANTS_MAX * (1 + NAME_BYTES_MAX + BUNDLE_BYTES_MAX + PATH_MAX * 32);

/// The most bytes of a [`Shares`](crate::Shares) message: for all others in the largest session.
pub const SHARES_BYTES_MAX: usize =
    DEALING_SPARSE_BYTES + (PARTICIPANTS_MAX - 1) * (2 * 16 + SEALED_BYTES[1]);

/// The most bytes of a [`Delivery`](crate::Delivery): of a dealer among 64 in version 1.
pub const DELIVERY_BYTES_MAX: usize = DEALING_COMPLETE_BYTES_MAX + SEALED_BYTES[0];

/// The bytes of a [`Report`](crate::Report).
pub const REPORT_BYTES: usize = HEAD_BYTES + 2 + 32 + 64;

/// The most bytes of a [`SurvivorSignature`](crate::SurvivorSignature): 111 in version 1, 135 in
/// version 2.
pub const SURVIVOR_SIGNATURE_BYTES_MAX: usize = HEAD_BYTES + 32 + 2 + 64;

/// The most bytes of a [`Reveal`](crate::Reveal): one share of each other in the largest session.
pub const REVEAL_BYTES_MAX: usize = HEAD_BYTES
    + 32
    + 2
    + 2
    + (PARTICIPANTS_MAX - 1).div_ceil(8)
    + (PARTICIPANTS_MAX - 1) * SHOWN_BYTES[1]
    + 64;

/// The signed part of shares in version 1: dealer, number, nonce, commitments, digest, signature.
const DEALING_COMPLETE_BYTES_MAX: usize =
    HEAD_BYTES + 2 + 2 + 12 + 32 + COMPLETE_MAX * 32 + 32 + 64;

/// The signed part of shares in version 2: dealer, number, nonce, commitment, root, digest,
/// signature.
const DEALING_SPARSE_BYTES: usize = HEAD_BYTES + 2 + 2 + 16 + 32 + 32 + 32 + 64;

/// Version, kind and digest at the start of every body.
const HEAD_BYTES: usize = 4 + 1 + 32;
