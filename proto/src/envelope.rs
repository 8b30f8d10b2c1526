//! A message with its author: sealed by the sender, opened by the recipient, and by nobody else in
//! between read as anything but bytes.
//!
//! The signature covers protocol version, sender, recipient and body, each with its length, under a
//! domain of its own. Deliberately no keys here: a closure signs, a closure verifies, and which key
//! speaks for which name is the roster's business. No encryption: transport is mTLS, and what must be
//! hidden from the coordinator is sealed inside the body by the aggregation.
//!
//! ```
//! use koinon_proto::{Digest, envelope};
//!
//! // Stands for Ed25519 in this example only.
//! let sign = |message: &[u8]| {
//!     let digest = Digest::of(message);
//!     let mut signature = [0; 64];
//!     signature[..32].copy_from_slice(digest.as_bytes());
//!     signature
//! };
//! let letter = envelope::seal(1, "hospital-05", "coordinator", b"ready".to_vec(), sign);
//!
//! let verify = |message: &[u8], signature: &[u8; 64]| *signature == sign(message);
//! let body = envelope::open(&letter, "hospital-05", "coordinator", 1, verify).unwrap();
//! assert_eq!(body, b"ready");
//!
//! // The same bytes are worth nothing under another name.
//! assert!(envelope::open(&letter, "hospital-06", "coordinator", 1, verify).is_err());
//! ```

use crate::canonical::Canonical;
use crate::error::WireError;
use crate::limits::ENVELOPE_BODY_BYTES_MAX;
use crate::version::PROTOCOL;
use crate::wire::Envelope;

const DOMAIN: &str = "koinon/v1/envelope";

/// The bytes that an envelope's signature covers: domain, version (u32 LE), sender, recipient and
/// body, each but the version with its length (u64 LE) before it.
#[must_use]
pub fn signing_bytes(version: u32, sender: &str, recipient: &str, body: &[u8]) -> Vec<u8> {
    Canonical::new(DOMAIN)
        .number(version)
        .bytes(sender.as_bytes())
        .bytes(recipient.as_bytes())
        .bytes(body)
        .finish()
}

/// Makes an envelope from `sender` to `recipient`; `sign` gives the sender's signature (Ed25519).
#[must_use]
pub fn seal(
    version: u32,
    sender: &str,
    recipient: &str,
    body: Vec<u8>,
    sign: impl FnOnce(&[u8]) -> [u8; 64],
) -> Envelope {
    let signature = sign(&signing_bytes(version, sender, recipient, &body)).to_vec();
    Envelope {
        version,
        sender: sender.to_owned(),
        recipient: recipient.to_owned(),
        body,
        signature,
    }
}

/// The body of an envelope that really is from `sender` to `recipient`.
///
/// `version_min` is the oldest protocol version the caller accepts (a site's policy sets it);
/// `verify` says whether the signature is that of the sender's key over the bytes. It runs last, so
/// that garbage costs no signature check.
///
/// # Errors
/// A [`WireError`] that names what is wrong: version, sender, recipient, size or signature.
pub fn open<'a>(
    envelope: &'a Envelope,
    sender: &str,
    recipient: &str,
    version_min: u32,
    verify: impl FnOnce(&[u8], &[u8; 64]) -> bool,
) -> Result<&'a [u8], WireError> {
    let Envelope { version, body, .. } = envelope;
    if *version < version_min || !PROTOCOL.contains(*version) {
        return Err(WireError::Version { version: *version, version_min });
    }
    if envelope.sender != sender {
        return Err(WireError::Sender { expected: sender.to_owned() });
    }
    if envelope.recipient != recipient {
        return Err(WireError::Recipient { expected: recipient.to_owned() });
    }
    if body.len() > ENVELOPE_BODY_BYTES_MAX {
        return Err(WireError::TooLong {
            what: "the body of an envelope",
            bytes: body.len() as u64,
            bytes_max: ENVELOPE_BODY_BYTES_MAX as u64,
        });
    }
    let signature = envelope.signature.as_slice().try_into().map_err(|_| WireError::Signature)?;
    if verify(&signing_bytes(*version, sender, recipient, body), signature) {
        Ok(body)
    } else {
        Err(WireError::Signature)
    }
}
