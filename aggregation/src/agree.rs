//! Two sites' common secrets: X25519 (RFC 7748), what is derived from it, and the sealing of
//! shares.
//!
//! Every derived key is bound to a digest that covers the plan and the participants, and to the two
//! ends, so a secret agreed on in one session says nothing in another. Keys are made for one
//! session.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Nonce, Tag};
use x25519_dalek::x25519;
use zeroize::Zeroizing;

use crate::hash::{Digest, derive};
use crate::message::shares::{NONCE_BYTES, OPENING_BYTES, Opening, SEALED_BYTES, Sealed};
use crate::planted::{Weakness, weak};
use crate::secret::Secret;
use crate::stream::Seed;

/// The public key of a private one: 32 bytes as in RFC 7748, section 5.
pub(crate) fn public(private: &Secret<32>) -> [u8; 32] {
    x25519(*private.expose(), x25519_dalek::X25519_BASEPOINT_BYTES)
}

/// The common secret, or `None` if the other's key is of small order (RFC 7748, section 6.1).
pub(crate) fn agree(private: &Secret<32>, public: &[u8; 32]) -> Option<Secret<32>> {
    let shared = Secret::new(x25519(*private.expose(), *public));
    (shared.expose().iter().fold(0, |any, byte| any | byte) != 0).then_some(shared)
}

/// Whether something secret can be agreed on with this public key at all.
pub(crate) fn is_usable(public: &[u8; 32]) -> bool {
    agree(&Secret::new([0x55; 32]), public).is_some()
}

/// The seed of the mask between two participants, the same for both.
pub(crate) fn pair_seed(shared: &Secret<32>, dealers: &Digest, a: usize, b: usize) -> Seed {
    let (low, high) = (a.min(b), a.max(b));
    let dealers = if weak(Weakness::UnboundSeed) { &[0; 32] } else { dealers };
    let seed =
        derive::<32>("koinon/1/pair", shared.expose(), &[dealers, &number(low), &number(high)]);
    Secret::new(*seed)
}

/// The seed of a participant's own mask.
pub(crate) fn self_seed(secret: &Secret<32>, dealers: &Digest, index: usize) -> Seed {
    let dealers = if weak(Weakness::UnboundSeed) { &[0; 32] } else { dealers };
    let seed = derive::<32>("koinon/1/self", secret.expose(), &[dealers, &number(index)]);
    Secret::new(*seed)
}

/// The way of one sealed message: who dealt it, to whom, in which session.
pub(crate) struct Way<'a> {
    pub(crate) participants: &'a Digest,
    pub(crate) dealer: usize,
    pub(crate) receiver: usize,
}

impl Way<'_> {
    fn cipher(&self, shared: &Secret<32>) -> Aes128Gcm {
        let parts: &[&[u8]] = &[self.participants, &number(self.dealer), &number(self.receiver)];
        let key = derive::<16>("koinon/1/seal", shared.expose(), parts);
        Aes128Gcm::new_from_slice(key.as_slice()).expect("AES-128 takes 16 bytes")
    }

    fn associated_data(&self) -> Vec<u8> {
        [&self.participants[..], &number(self.dealer), &number(self.receiver)].concat()
    }

    /// AES-128-GCM (NIST SP 800-38D): ciphertext, then the 16-byte tag.
    pub(crate) fn seal(
        &self,
        shared: &Secret<32>,
        nonce: &[u8; NONCE_BYTES],
        opening: &Opening,
    ) -> Sealed {
        let mut plain = opening.to_bytes();
        let tag = self
            .cipher(shared)
            .encrypt_inout_detached(
                &Nonce::from(*nonce),
                &self.associated_data(),
                plain.as_mut_slice().into(),
            )
            .expect("two shares are far below the limit of GCM");
        let mut sealed = [0; SEALED_BYTES];
        sealed[..OPENING_BYTES].copy_from_slice(plain.as_slice());
        sealed[OPENING_BYTES..].copy_from_slice(&tag);
        sealed
    }

    /// What was sealed, or `None` if it was not sealed for this way with this nonce.
    pub(crate) fn open(
        &self,
        shared: &Secret<32>,
        nonce: &[u8; NONCE_BYTES],
        sealed: &Sealed,
    ) -> Option<Opening> {
        let mut plain = Zeroizing::new([0; OPENING_BYTES]);
        plain.copy_from_slice(&sealed[..OPENING_BYTES]);
        let tag: [u8; 16] = sealed[OPENING_BYTES..].try_into().expect("the tag is the rest");
        self.cipher(shared)
            .decrypt_inout_detached(
                &Nonce::from(*nonce),
                &self.associated_data(),
                plain.as_mut_slice().into(),
                &Tag::from(tag),
            )
            .ok()?;
        Some(Opening::from_bytes(&plain))
    }
}

/// An index as it is hashed.
pub(crate) fn number(index: usize) -> [u8; 2] {
    u16::try_from(index).expect("indices are below 64").to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(byte: u8) -> Opening {
        Opening::from_bytes(&Zeroizing::new([byte; OPENING_BYTES]))
    }

    #[test]
    fn x25519_gives_the_known_answer_of_rfc_7748_section_52() {
        let hex = |s: &str| -> [u8; 32] {
            std::array::from_fn(|i| u8::from_str_radix(&s[2 * i..2 * i + 2], 16).unwrap())
        };
        let scalar = hex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4");
        let u = hex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
        let product = hex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
        assert_eq!(*agree(&Secret::new(scalar), &u).unwrap().expose(), product);
    }

    #[test]
    fn both_ends_agree_and_small_order_is_refused() {
        let (a, b) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let ab = agree(&a, &public(&b)).unwrap();
        let ba = agree(&b, &public(&a)).unwrap();
        assert_eq!(ab.expose(), ba.expose());
        let seed = |x, y| *pair_seed(&ab, &[7; 32], x, y).expose();
        assert_eq!(seed(3, 9), seed(9, 3));
        assert_ne!(seed(3, 9), seed(3, 8));
        assert!(!is_usable(&[0; 32]));
        let mut one = [0; 32];
        one[0] = 1;
        assert!(!is_usable(&one));
    }

    #[test]
    fn what_is_sealed_opens_on_its_way_only() {
        let shared = Secret::new([5; 32]);
        let participants = [6; 32];
        let way = |dealer, receiver| Way { participants: &participants, dealer, receiver };
        let sealed = way(1, 2).seal(&shared, &[0; 12], &opening(9));
        let opened = way(1, 2).open(&shared, &[0; 12], &sealed).unwrap();
        assert_eq!(*opened.to_bytes(), [9; OPENING_BYTES]);
        assert!(way(2, 1).open(&shared, &[0; 12], &sealed).is_none(), "reflected");
        assert!(way(1, 3).open(&shared, &[0; 12], &sealed).is_none(), "redirected");
        assert!(way(1, 2).open(&shared, &[1; 12], &sealed).is_none(), "another nonce");
        let other = Way { participants: &[7; 32], dealer: 1, receiver: 2 };
        assert!(other.open(&shared, &[0; 12], &sealed).is_none(), "replayed elsewhere");
        for bit in 0..SEALED_BYTES * 8 {
            let mut flipped = sealed;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(way(1, 2).open(&shared, &[0; 12], &flipped).is_none());
        }
    }
}
