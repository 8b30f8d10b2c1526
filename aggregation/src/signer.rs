//! Who signs, and whose signatures count: the two seams through which identities reach the
//! protocol.
//!
//! This is deliberately not the roster and not a key store: a session asks for one signature, or
//! for the key of one site, and knows nothing of files, validity or rotation. Start at [`Signer`].

use std::collections::BTreeMap;

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};

/// A site's identity key, used to sign what the site says in a session (Ed25519, RFC 8032).
pub trait Signer {
    /// The public identity key, 32 bytes as in RFC 8032, section 5.1.5.
    fn public(&self) -> [u8; 32];

    /// The signature over `message`, 64 bytes as in RFC 8032, section 5.1.6.
    fn sign(&self, message: &[u8]) -> [u8; 64];
}

/// The members of the consortium as the signed roster states them.
pub trait Members {
    /// The public identity key of `site`, or `None` when the roster has no such member that counts.
    fn key_of(&self, site: &str) -> Option<[u8; 32]>;
}

impl Signer for SigningKey {
    fn public(&self) -> [u8; 32] {
        self.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        ed25519_dalek::Signer::sign(self, message).to_bytes()
    }
}

impl Members for BTreeMap<String, [u8; 32]> {
    fn key_of(&self, site: &str) -> Option<[u8; 32]> {
        self.get(site).copied()
    }
}

/// Whether `signature` is `public`'s signature over `message`. Strict: keys and points of small
/// order and non-canonical scalars are refused, so that one signature speaks for one message.
#[must_use]
pub fn verify(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(public) else { return false };
    key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_speaks_for_one_key_and_one_message() {
        let (key, other) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let signature = Signer::sign(&key, b"message");
        assert!(verify(&key.public(), b"message", &signature));
        assert!(!verify(&other.public(), b"message", &signature));
        assert!(!verify(&key.public(), b"massage", &signature));
        assert!(
            !verify(&[0; 32], b"message", &signature),
            "a key of small order speaks for nobody"
        );
    }
}
