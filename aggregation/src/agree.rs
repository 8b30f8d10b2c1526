//! Two sites' common secrets: X25519 (RFC 7748), what is derived from it, and the sealing of
//! shares.
//!
//! Every derived key is bound to a digest that covers the plan and the participants, and to the two
//! ends, so a secret agreed on in one session says nothing in another. Keys are made for one
//! session.

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Tag};
use curve25519_dalek::MontgomeryPoint;
use zeroize::Zeroizing;

use crate::codec::Reader;
use crate::hash::{Digest, derive};
use crate::kernel::ladder::{Pair, products};
use crate::message::opening::{OPENING_BYTES, Opening};
use crate::message::shares::Nonce;
use crate::planted::{Weakness, weak};
use crate::secret::Secret;
use crate::stream::Seed;
use crate::topology::{Version, narrow};

/// The public key of a private one: 32 bytes as in RFC 7748, section 5.
pub(crate) fn public(private: &Secret<32>) -> [u8; 32] {
    // By a table of the base point's multiples, in constant time like the ladder.
    MontgomeryPoint::mul_base_clamped(*private.expose()).to_bytes()
}

/// The common secret, or `None` if the other's key is of small order (RFC 7748, section 6.1).
#[cfg(test)]
pub(crate) fn agree(private: &Secret<32>, public: &[u8; 32]) -> Option<Secret<32>> {
    agree_all(&[(private, public)]).remove(0)
}

/// The common secret of each pair of a private key and another's public one, in their order; `None`
/// where that key is of small order (RFC 7748, section 6.1). Many at once are much cheaper than each
/// by itself.
pub(crate) fn agree_all(pairs: &[Pair<'_>]) -> Vec<Option<Secret<32>>> {
    let not_zero =
        |shared: &Secret<32>| shared.expose().iter().fold(0, |any, byte| any | byte) != 0;
    products(pairs).into_iter().map(|shared| Some(shared).filter(not_zero)).collect()
}

/// Whether something secret can be agreed on with this public key at all: whether it is not of
/// small order, on the curve or its twist.
pub(crate) fn is_usable(public: &[u8; 32]) -> bool {
    let mut coordinate = *public;
    coordinate[31] &= 0x7f;
    !SMALL_ORDER.contains(&coordinate)
}

/// The coordinates of all points whose order divides eight, on the curve and its twist, in every way
/// to write them: 0, 1, both of order eight, -1, and 0 and 1 with p added.
const SMALL_ORDER: [[u8; 32]; 7] = [
    small(0x00, 0x00),
    small(0x01, 0x00),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    small(0xec, 0xff),
    small(0xed, 0xff),
    small(0xee, 0xff),
];

/// A coordinate of a low byte and then the same bytes, the highest bit zero.
const fn small(low: u8, others: u8) -> [u8; 32] {
    let mut coordinate = [others; 32];
    coordinate[0] = low;
    coordinate[31] = others & 0x7f;
    coordinate
}

/// What masks are bound to beside their ends.
#[derive(Clone, Copy)]
pub(crate) enum Bound<'a> {
    /// Version 1: the digest of all dealers.
    Dealers(&'a Digest),
    /// Version 2: the participants, and what the ends dealt, by their order; one end for a mask of
    /// its own.
    Dealings(&'a Digest, &'a [&'a Digest]),
}

/// The seed of the mask between two participants, the same for both.
pub(crate) fn pair_seed(shared: &Secret<32>, bound: Bound<'_>, a: usize, b: usize) -> Seed {
    seed(["koinon/1/pair", "koinon/2/pair"], shared, bound, &[a.min(b), a.max(b)])
}

/// The seed of a participant's own mask.
pub(crate) fn self_seed(secret: &Secret<32>, bound: Bound<'_>, index: usize) -> Seed {
    seed(["koinon/1/self", "koinon/2/self"], secret, bound, &[index])
}

fn seed(labels: [&str; 2], secret: &Secret<32>, bound: Bound<'_>, ends: &[usize]) -> Seed {
    let ends: Vec<[u8; 2]> = ends.iter().map(|&index| number(index)).collect();
    let (label, mut parts): (_, Vec<&[u8]>) = match bound {
        Bound::Dealers(dealers) => (labels[0], vec![dealers]),
        Bound::Dealings(participants, dealings) => {
            let dealings = dealings.iter().map(|dealing| &dealing[..]);
            (labels[1], std::iter::once(&participants[..]).chain(dealings).collect())
        }
    };
    if weak(Weakness::UnboundSeed) {
        parts.fill(&[0; 32]);
    }
    parts.push(ends.as_flattened());
    Secret::new(*derive::<32>(label, secret.expose(), &parts))
}

/// The way of one sealed message: who dealt it, to whom, in which session.
pub(crate) struct Way<'a> {
    pub(crate) version: Version,
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

    /// The pad of version 2, which takes no tag: the commitment to the shares is one.
    fn pad(&self, shared: &Secret<32>, nonce: &Nonce) -> Zeroizing<[u8; OPENING_BYTES[1]]> {
        let (dealer, receiver) = (number(self.dealer), number(self.receiver));
        let parts: &[&[u8]] = &[self.participants, &dealer, &receiver, nonce];
        derive("koinon/2/seal", shared.expose(), parts)
    }

    /// Seals a pair of shares. In version 1 by AES-128-GCM (NIST SP 800-38D): ciphertext, then the
    /// 16-byte tag. In version 2 with a pad of its length.
    pub(crate) fn seal(&self, shared: &Secret<32>, nonce: &Nonce, opening: &Opening) -> Vec<u8> {
        let mut plain = opening.to_bytes();
        if self.version == Version::Sparse {
            let pad = self.pad(shared, nonce);
            return plain.iter().zip(pad.iter()).map(|(byte, pad)| byte ^ pad).collect();
        }
        let tag = self
            .cipher(shared)
            .encrypt_inout_detached(
                &gcm_nonce(nonce),
                &self.associated_data(),
                plain.as_mut_slice().into(),
            )
            .expect("two shares are far below the limit of GCM");
        [&plain[..], &tag[..]].concat()
    }

    /// What was sealed, or `None` if it is found not to be sealed for this way with this nonce: in
    /// version 1 by its tag, in version 2 only by the commitment.
    pub(crate) fn open(
        &self,
        shared: &Secret<32>,
        nonce: &Nonce,
        sealed: &[u8],
    ) -> Option<Opening> {
        let (body, tag) = sealed.split_at_checked(self.version.opening_bytes())?;
        let mut plain = Zeroizing::new(body.to_vec());
        if self.version == Version::Sparse {
            let pad = self.pad(shared, nonce);
            plain.iter_mut().zip(pad.iter()).for_each(|(byte, pad)| *byte ^= pad);
            return Opening::read(self.version, &mut Reader::new(&plain)).ok();
        }
        let tag: [u8; 16] = tag.try_into().ok()?;
        self.cipher(shared)
            .decrypt_inout_detached(
                &gcm_nonce(nonce),
                &self.associated_data(),
                plain.as_mut_slice().into(),
                &Tag::from(tag),
            )
            .ok()?;
        Opening::read(self.version, &mut Reader::new(&plain)).ok()
    }
}

fn gcm_nonce(nonce: &Nonce) -> aes_gcm::Nonce<U12> {
    let first: [u8; 12] = *nonce.first_chunk().expect("a nonce is longer");
    first.into()
}

/// An index as it is hashed.
pub(crate) fn number(index: usize) -> [u8; 2] {
    narrow(index).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(version: Version, byte: u8) -> Opening {
        Opening::read(version, &mut Reader::new(&[byte; 96])).unwrap()
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
        let dealings: [&[u8; 32]; 2] = [&[8; 32], &[9; 32]];
        for bound in [Bound::Dealers(&[7; 32]), Bound::Dealings(&[7; 32], &dealings)] {
            let seed = |x, y| *pair_seed(&ab, bound, x, y).expose();
            assert_eq!(seed(3, 9), seed(9, 3));
            assert_ne!(seed(3, 9), seed(3, 8));
        }
        assert!(!is_usable(&[0; 32]));
        // All points of order 1, 2, 4 and 8 of the curve and of its twist (Bernstein's list), the
        // non-canonical ones and the ignored top bit included.
        let p = |low: u8| {
            let mut point = [0xff; 32];
            (point[0], point[31]) = (low, 0x7f);
            point
        };
        let mut one = [0; 32];
        one[0] = 1;
        let eighth = [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f,
            0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16,
            0x5f, 0x49, 0xb8, 0x00,
        ];
        let other_eighth = [
            0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83,
            0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd,
            0xd0, 0x9f, 0x11, 0x57,
        ];
        // Eight times a point of small order is the neutral element, which is written as zero.
        let by_eight = |public: &[u8; 32]| {
            let eight = [true, false, false, false];
            MontgomeryPoint(*public).mul_bits_be(eight.into_iter()).to_bytes() != [0; 32]
        };
        for low in 0..=u8::MAX {
            let others = [p(low), [low; 32], small(low, 0)];
            assert!(others.iter().all(|point| is_usable(point) == by_eight(point)), "{low}");
        }
        for small in [one, p(0xec), p(0xed), p(0xee), eighth, other_eighth] {
            let mut high = small;
            high[31] |= 0x80;
            for point in [small, high] {
                assert!(!is_usable(&point), "{point:x?}");
                assert!(agree(&a, &point).is_none());
            }
        }
        assert!(is_usable(&public(&a)));
    }

    #[test]
    fn what_is_sealed_opens_on_its_way_only() {
        let (shared, version) = (Secret::new([5; 32]), Version::Complete);
        let participants = [6; 32];
        let way = |dealer, receiver| Way { version, participants: &participants, dealer, receiver };
        let sealed = way(1, 2).seal(&shared, &[0; 16], &opening(version, 9));
        let opened = way(1, 2).open(&shared, &[0; 16], &sealed).unwrap();
        assert_eq!(opened.to_bytes()[..], [9; 96]);
        assert!(way(2, 1).open(&shared, &[0; 16], &sealed).is_none(), "reflected");
        assert!(way(1, 3).open(&shared, &[0; 16], &sealed).is_none(), "redirected");
        assert!(way(1, 2).open(&shared, &[1; 16], &sealed).is_none(), "another nonce");
        let other = Way { participants: &[7; 32], ..way(1, 2) };
        assert!(other.open(&shared, &[0; 16], &sealed).is_none(), "replayed elsewhere");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(way(1, 2).open(&shared, &[0; 16], &flipped).is_none());
        }
    }
    #[test]
    fn what_is_padded_opens_on_its_way_only_and_no_pad_comes_twice() {
        let (shared, version) = (Secret::new([5; 32]), Version::Sparse);
        let participants = [6; 32];
        let way = |dealer, receiver| Way { version, participants: &participants, dealer, receiver };
        let sealed = way(1, 2).seal(&shared, &[0; 16], &opening(version, 9));
        let open =
            |way: Way<'_>, nonce| way.open(&shared, nonce, &sealed).unwrap().to_bytes().to_vec();
        assert_eq!(open(way(1, 2), &[0; 16]), [9; 64]);
        let other = Way { participants: &[7; 32], ..way(1, 2) };
        let otherwise = [
            open(way(2, 1), &[0; 16]),
            open(way(1, 3), &[0; 16]),
            open(way(1, 2), &[1; 16]),
            open(other, &[0; 16]),
        ];
        assert!(otherwise.iter().all(|opened| *opened != [9; 64]));
        assert!(way(1, 2).open(&shared, &[0; 16], &sealed[1..]).is_none());
    }
}
