//! Who a member is: an Ed25519 key that is made where it is used and never leaves it.
//!
//! Sites, partition servers, operators, the coordinator and the consortium itself each have one.
//! Deliberately no storage and no trust: a shell keeps the 32 secret bytes in a file, and whose key
//! counts as whose is said by the signed [`roster`](crate::roster).
//!
//! ```
//! use koinon_aggregation::identity::{Identity, fingerprint, verify};
//! use koinon_aggregation::Signer;
//! # use rand::SeedableRng;
//! # let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
//!
//! let identity = Identity::generate(&mut rng);
//! let signature = identity.sign(b"ready");
//! assert!(verify(&identity.public(), b"ready", &signature));
//! assert!(!verify(&identity.public(), b"Ready", &signature));
//! println!("read this aloud: {}", fingerprint(&identity.public()));
//! ```

use std::fmt::{self, Write as _};

use ed25519_dalek::{SigningKey, VerifyingKey};
use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::hash::hash;
use crate::signer::Signer;

pub use crate::signer::verify;

const FINGERPRINT_LABEL: &str = "koinon/1/fingerprint";
/// Bytes of the hash that a fingerprint shows: a second key with the same costs 2^128 tries.
const FINGERPRINT_BYTES: usize = 16;

/// A member's secret identity key (Ed25519, RFC 8032). Wiped when dropped; there is no `Clone`, no
/// serialisation, and `Debug` shows the fingerprint only.
///
/// ```compile_fail
/// fn needs_clone<T: Clone>() {}
/// needs_clone::<koinon_aggregation::identity::Identity>();
/// ```
pub struct Identity(SigningKey);

impl Identity {
    /// A new identity from the caller's entropy.
    #[must_use]
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(secret.as_mut_slice());
        Self::from_secret_bytes(&secret)
    }

    /// The identity with this secret (RFC 8032, section 5.1.5: 32 random bytes).
    #[must_use]
    pub fn from_secret_bytes(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// The secret, for the member's own disk.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }
}

impl Signer for Identity {
    fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        Signer::sign(&self.0, message)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", fingerprint(&self.public()))
    }
}

/// A public key in a form that two people compare over the telephone: eight groups of four hex digits,
/// the first half of SHA-256 over a label and the key.
#[must_use]
pub fn fingerprint(public: &[u8; 32]) -> String {
    let digest = hash(FINGERPRINT_LABEL, &[public]);
    let mut text = String::with_capacity(5 * FINGERPRINT_BYTES / 2);
    for (at, byte) in digest[..FINGERPRINT_BYTES].iter().enumerate() {
        let gap = if at > 0 && at % 2 == 0 { " " } else { "" };
        write!(text, "{gap}{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

/// Whether these bytes are a public key that can speak for somebody: a point of the curve, not of
/// small order.
#[must_use]
pub fn is_public_key(public: &[u8; 32]) -> bool {
    VerifyingKey::from_bytes(public).is_ok_and(|key| !key.is_weak())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_bytes() {
        let identity = Identity::from_secret_bytes(&[7; 32]);
        let again = Identity::from_secret_bytes(&identity.to_secret_bytes());
        assert_eq!(identity.public(), again.public());
        assert_eq!(identity.sign(b"m"), again.sign(b"m"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let identity = Identity::from_secret_bytes(&[0xab; 32]);
        let shown = format!("{identity:?}");
        assert_eq!(shown, format!("Identity({})", fingerprint(&identity.public())));
        assert!(!shown.contains("abab"));
    }

    #[test]
    fn the_known_answer_of_rfc_8032_test_1() {
        let secret = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec,
            0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03,
            0x1c, 0xae, 0x7f, 0x60,
        ];
        let identity = Identity::from_secret_bytes(&secret);
        assert_eq!(identity.public()[..4], [0xd7, 0x5a, 0x98, 0x01]);
        assert_eq!(identity.sign(b"")[..4], [0xe5, 0x56, 0x43, 0x00]);
        assert_eq!(identity.sign(b"")[60..], [0x8e, 0x7a, 0x10, 0x0b]);
    }

    #[test]
    fn points_of_small_order_are_no_keys() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert!(!is_public_key(&neutral));
        assert!(!is_public_key(&[0; 32]));
        assert!(is_public_key(&Identity::from_secret_bytes(&[1; 32]).public()));
    }
}
