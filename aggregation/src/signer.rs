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

/// A signature to be verified.
pub(crate) struct Claim {
    /// Whose it should be.
    pub(crate) identity: [u8; 32],
    pub(crate) message: Vec<u8>,
    pub(crate) signature: [u8; 64],
}

impl Claim {
    pub(crate) fn holds(&self) -> bool {
        verify(&self.identity, &self.message, &self.signature)
    }
}

/// The first of these claims that does not hold.
///
/// All are verified in one go, which costs a third; only if that fails, one by one. A batch is a
/// random linear combination of the equations s·B = R + h·A. It holds if every single one does, and
/// if one is off by more than a point of small order, it fails but for a chance of 2^-128. What it
/// may accept beyond [`verify`] are signatures in which R or A has a part of small order. As keys of
/// small order are refused here too, s·B = R + h·A must still hold in the large subgroup, so whoever
/// made such a signature knew the secret of A: a member can make its own signatures crooked, and
/// then some may refuse what others took, but nobody can make one for another member, or for
/// another message.
pub(crate) fn first_false(claims: &[Claim]) -> Option<usize> {
    if claims.len() > 1 && all_hold(claims) == Some(true) {
        return None;
    }
    claims.iter().position(|claim| !claim.holds())
}

fn all_hold(claims: &[Claim]) -> Option<bool> {
    let key =
        |claim: &Claim| VerifyingKey::from_bytes(&claim.identity).ok().filter(|k| !k.is_weak());
    let keys: Vec<VerifyingKey> = claims.iter().map(key).collect::<Option<_>>()?;
    let messages: Vec<&[u8]> = claims.iter().map(|claim| &claim.message[..]).collect();
    let signatures: Vec<Signature> =
        claims.iter().map(|claim| Signature::from_bytes(&claim.signature)).collect();
    Some(ed25519_dalek::verify_batch(&messages, &signatures, &keys).is_ok())
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

    #[test]
    fn a_batch_names_the_first_false_signature() {
        let claims = |falsified: &[usize]| -> Vec<Claim> {
            (0..9u8)
                .map(|i| {
                    let key = SigningKey::from_bytes(&[i + 1; 32]);
                    let mut signature = Signer::sign(&key, &[i]);
                    signature[5] ^= u8::from(falsified.contains(&usize::from(i)));
                    Claim { identity: key.public(), message: vec![i], signature }
                })
                .collect()
        };
        assert_eq!(first_false(&claims(&[])), None);
        assert_eq!(first_false(&claims(&[6, 3])), Some(3));
        assert_eq!(first_false(&[]), None);
        let mut weak = claims(&[]);
        // The neutral element as key and as R, and s = 0: the equation holds for every message.
        weak[4].identity = [0; 32];
        weak[4].identity[0] = 1;
        weak[4].signature = [0; 64];
        weak[4].signature[0] = 1;
        assert_eq!(first_false(&weak), Some(4));
    }
}
