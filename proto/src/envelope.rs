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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::id::Digest;

    /// Stands for a signature scheme: one key per seed, no message has two signatures.
    fn sign(seed: u8, message: &[u8]) -> [u8; 64] {
        let mut signature = [seed; 64];
        signature[..32].copy_from_slice(Digest::of(&[message, &[seed]].concat()).as_bytes());
        signature
    }

    fn letter() -> Envelope {
        seal(1, "hospital-05", "coordinator", b"ready".to_vec(), |m| sign(5, m))
    }

    fn opened(envelope: &Envelope) -> Result<&[u8], WireError> {
        open(envelope, "hospital-05", "coordinator", 1, |m, s| *s == sign(5, m))
    }

    /// Written out by a separate program from the function's description.
    #[test]
    fn the_signed_bytes_are_the_known_ones() {
        let bytes = signing_bytes(1, "hospital-05", "coordinator", b"ready");
        let known = b"\x12\0\0\0\0\0\0\0koinon/v1/envelope\x01\0\0\0\
            \x0b\0\0\0\0\0\0\0hospital-05\x0b\0\0\0\0\0\0\0coordinator\x05\0\0\0\0\0\0\0ready";
        assert_eq!(bytes, known);
        let digest = "e22d91f622d57cdc4144e3f345b41486d8121e1c77afa7995df37014fc495ca3";
        assert_eq!(Digest::of(&bytes).to_string(), digest);
    }

    #[test]
    fn what_was_sealed_is_opened() {
        assert_eq!(opened(&letter()), Ok(b"ready".as_slice()));
        let again = Envelope::decode(letter().encode_to_vec().as_slice()).unwrap();
        assert_eq!(opened(&again), Ok(b"ready".as_slice()));
    }

    #[test]
    fn every_swap_is_noticed() {
        let swapped = |change: &dyn Fn(&mut Envelope)| {
            let mut envelope = letter();
            change(&mut envelope);
            opened(&envelope).unwrap_err().code()
        };
        assert_eq!(swapped(&|e| e.sender = "hospital-06".into()), "wrong_sender");
        assert_eq!(swapped(&|e| e.recipient = "hospital-05".into()), "wrong_recipient");
        assert_eq!(swapped(&|e| e.body = b"Ready".to_vec()), "bad_signature");
        assert_eq!(swapped(&|e| e.body = Vec::new()), "bad_signature");
        assert_eq!(swapped(&|e| e.version = 2), "version_refused");
        assert_eq!(swapped(&|e| e.version = 0), "version_refused");
        assert_eq!(swapped(&|e| e.signature[3] ^= 1), "bad_signature");
        assert_eq!(swapped(&|e| e.signature.truncate(63)), "bad_signature");
        assert_eq!(swapped(&|e| e.signature.push(0)), "bad_signature");
    }

    #[test]
    fn a_letter_for_another_is_not_opened_under_its_name() {
        // Rightly signed by hospital-05 for the partition server, handed to the coordinator.
        let mut letter = seal(1, "hospital-05", "tail-1", b"x".to_vec(), |m| sign(5, m));
        assert_eq!(opened(&letter).unwrap_err().code(), "wrong_recipient");
        letter.recipient = "coordinator".into();
        assert_eq!(opened(&letter), Err(WireError::Signature));
        // The coordinator's own words, sent back to it as a site's.
        let mut echo = seal(1, "coordinator", "hospital-05", b"x".to_vec(), |m| sign(7, m));
        std::mem::swap(&mut echo.sender, &mut echo.recipient);
        assert_eq!(opened(&echo), Err(WireError::Signature));
    }

    #[test]
    fn a_downgrade_below_the_minimum_is_refused_before_the_signature() {
        let old = letter();
        let refused = open(&old, "hospital-05", "coordinator", 2, |_, _| unreachable!());
        assert_eq!(refused, Err(WireError::Version { version: 1, version_min: 2 }));
    }

    #[test]
    fn an_endless_body_is_refused_before_the_signature() {
        let mut long = letter();
        long.body = vec![0; ENVELOPE_BODY_BYTES_MAX + 1];
        let refused = open(&long, "hospital-05", "coordinator", 1, |_, _| unreachable!());
        assert_eq!(refused.unwrap_err().code(), "too_long");
    }

    #[test]
    fn rejections_carry_code_and_text() {
        let rejection = WireError::Sender { expected: "hospital-05".into() }.rejection();
        assert_eq!(rejection.code, "wrong_sender");
        assert_eq!(rejection.detail, "the envelope is not from hospital-05");
    }

    proptest! {
        #[test]
        fn two_letters_never_share_their_signed_bytes(
            a in (1_u32..3, "[a-z]{0,3}", "[a-z]{0,3}", prop::collection::vec(0_u8..2, 0..3)),
            b in (1_u32..3, "[a-z]{0,3}", "[a-z]{0,3}", prop::collection::vec(0_u8..2, 0..3)),
        ) {
            let bytes = |x: &(u32, String, String, Vec<u8>)| signing_bytes(x.0, &x.1, &x.2, &x.3);
            prop_assert_eq!(a == b, bytes(&a) == bytes(&b));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(envelope) = Envelope::decode(bytes.as_slice()) {
                prop_assert!(opened(&envelope).is_err());
            }
            for decoded in [
                crate::wire::SiteFrame::decode(bytes.as_slice()).is_ok(),
                crate::wire::CoordinatorFrame::decode(bytes.as_slice()).is_ok(),
                crate::wire::ToSite::decode(bytes.as_slice()).is_ok(),
                crate::wire::ToCoordinator::decode(bytes.as_slice()).is_ok(),
                crate::wire::TaskStatus::decode(bytes.as_slice()).is_ok(),
            ] {
                // Some garbage is well-formed protobuf; nothing here panics.
                let _ = decoded;
            }
        }
    }
}
