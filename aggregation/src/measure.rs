//! Work to be timed by somebody else: the public-key parts of a session that no implementation can do
//! without, one by one. What they cost is what a whole session is judged against.
//!
//! As in [`kernel::measure`](crate::kernel::measure), where key streams, rows and shares are: each
//! function does what its name says; no clock in here, no judgement, and no secrets.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

/// Agrees `count` times on a common secret (X25519, RFC 7748). Gives how often it was.
#[must_use]
pub fn agreements(count: u64) -> u64 {
    let base = x25519_dalek::X25519_BASEPOINT_BYTES;
    let mut secret = [0x55; 32];
    for _ in 0..count {
        // One answer is the next question, so that none can be left out.
        secret = x25519_dalek::x25519(secret, base);
    }
    std::hint::black_box(secret);
    count
}

/// Signatures of as many different keys (Ed25519, RFC 8032), as one side of a session makes and the
/// other verifies them.
pub struct Signatures {
    keys: Vec<SigningKey>,
    public: Vec<VerifyingKey>,
    messages: Vec<[u8; 128]>,
    signatures: Vec<Signature>,
}

impl Signatures {
    /// `count` signatures.
    #[must_use]
    pub fn new(count: u16) -> Self {
        let key = |i: u16| {
            SigningKey::from_bytes(&[i.to_le_bytes(); 16].concat().try_into().expect("32"))
        };
        let keys: Vec<SigningKey> = (0..count).map(key).collect();
        let mut all = Self {
            public: keys.iter().map(SigningKey::verifying_key).collect(),
            messages: (0..count).map(|i| [i.to_le_bytes()[0]; 128]).collect(),
            signatures: Vec::new(),
            keys,
        };
        all.sign();
        all
    }

    /// Signs all anew. Gives their number.
    pub fn sign(&mut self) -> u64 {
        let messages = self.keys.iter().zip(&self.messages);
        self.signatures = messages.map(|(key, message)| key.sign(message)).collect();
        self.signatures.len() as u64
    }

    /// Verifies all in one batch. Gives their number.
    ///
    /// # Panics
    /// If one does not hold, which cannot be.
    pub fn verify(&self) -> u64 {
        let messages: Vec<&[u8]> = self.messages.iter().map(<[u8; 128]>::as_slice).collect();
        ed25519_dalek::verify_batch(&messages, &self.signatures, &self.public)
            .expect("they were made for these messages");
        self.signatures.len() as u64
    }
}

/// Hashes `bytes` (SHA-256). Gives how many they were.
#[must_use]
pub fn hashed(bytes: &[u8]) -> u64 {
    std::hint::black_box(Sha256::digest(bytes));
    bytes.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done_as_often_as_said() {
        assert_eq!(agreements(2), 2);
        let mut signatures = Signatures::new(5);
        assert_eq!((signatures.sign(), signatures.verify()), (5, 5));
        signatures.messages[3][0] ^= 1;
        assert!(std::panic::catch_unwind(|| signatures.verify()).is_err());
        assert_eq!(hashed(&[1; 100]), 100);
    }
}
