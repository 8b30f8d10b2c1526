//! Masks: a 32-byte seed expanded into as many words as an update has, added or subtracted.
//!
//! HKDF-Expand gives a 16-byte AES-128 key and a 16-byte first counter block; the mask is
//! AES-128-CTR with a 128-bit big-endian counter (NIST SP 800-38A, section 6.5), read as
//! little-endian lanes of 32 bits when b ≤ 32 and of 64 bits otherwise, each taken modulo 2^b.
//! [`add_streams`] is the whole door: a faster implementation may stand behind it, with the same
//! words.

use aes::Aes128;
use aes::cipher::{KeyIvInit, StreamCipher};
use zeroize::Zeroizing;

use crate::hash::derive;
use crate::ring::modulus_mask;
use crate::secret::Secret;

/// Whether a mask is added or subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Plus,
    Minus,
}

impl Sign {
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Plus => Self::Minus,
            Self::Minus => Self::Plus,
        }
    }
}

/// The seed of one mask.
pub(crate) type Seed = Secret<32>;

/// Adds the masks of `seeds`, each with its sign, to `words` modulo 2^bits.
pub(crate) fn add_streams(words: &mut [u64], bits: u8, seeds: &[(Seed, Sign)]) {
    let mask = modulus_mask(bits);
    for (seed, sign) in seeds {
        let mut cipher = keystream(seed);
        let mut block = Zeroizing::new([0; BLOCK_BYTES]);
        let lane_bytes = if bits <= 32 { 4 } else { 8 };
        for words in words.chunks_mut(BLOCK_BYTES / lane_bytes) {
            block.fill(0);
            cipher.apply_keystream(block.as_mut_slice());
            for (word, lane) in words.iter_mut().zip(block.chunks_exact(lane_bytes)) {
                let mut bytes = [0; 8];
                bytes[..lane_bytes].copy_from_slice(lane);
                let lane = u64::from_le_bytes(bytes);
                *word = match sign {
                    Sign::Plus => word.wrapping_add(lane),
                    Sign::Minus => word.wrapping_sub(lane),
                } & mask;
            }
        }
    }
}

fn keystream(seed: &Seed) -> ctr::Ctr128BE<Aes128> {
    let material = derive::<32>("koinon/1/stream", seed.expose(), &[]);
    let (key, counter) = material.split_at(16);
    ctr::Ctr128BE::new_from_slices(key, counter).expect("16 bytes of key, 16 of counter block")
}

/// Keystream bytes made at a time: small enough to stay in the first cache.
const BLOCK_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(seed: u8, bits: u8, entries: usize) -> Vec<u64> {
        let mut words = vec![0; entries];
        add_streams(&mut words, bits, &[(Seed::new([seed; 32]), Sign::Plus)]);
        words
    }

    #[test]
    fn aes_128_ctr_gives_the_known_answer_of_sp_800_38a_f51() {
        let key = 0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c_u128.to_be_bytes();
        let counter = 0xf0f1_f2f3_f4f5_f6f7_f8f9_fafb_fcfd_feff_u128.to_be_bytes();
        let mut cipher = ctr::Ctr128BE::<Aes128>::new_from_slices(&key, &counter).unwrap();
        let mut text = 0x6bc1_bee2_2e40_9f96_e93d_7e11_7393_172a_u128.to_be_bytes();
        cipher.apply_keystream(&mut text);
        assert_eq!(u128::from_be_bytes(text), 0x874d_6191_b620_e326_1bef_6864_990d_b6ce);
    }

    #[test]
    fn what_is_added_is_subtracted_again() {
        for bits in [1, 17, 32, 33, 63] {
            let mut words = stream(1, bits, 2_500);
            assert!(words.iter().all(|&w| w <= modulus_mask(bits)));
            add_streams(&mut words, bits, &[(Seed::new([1; 32]), Sign::Minus)]);
            assert!(words.iter().all(|&w| w == 0));
        }
    }

    #[test]
    fn narrow_words_are_the_low_bits_of_the_lanes() {
        let wide = stream(2, 32, 3_000);
        let narrow = stream(2, 11, 3_000);
        assert!(wide.iter().zip(&narrow).all(|(w, n)| w & 0x7ff == *n));
        let paired: Vec<u64> = wide.chunks(2).map(|p| p[0] | p[1] << 32).collect();
        let lanes = stream(2, 63, 1_500);
        assert!(paired.iter().zip(&lanes).all(|(p, l)| p & modulus_mask(63) == *l));
    }

    #[test]
    fn a_shorter_mask_is_the_start_of_a_longer_one() {
        assert_eq!(stream(3, 40, 1_025)[..600], stream(3, 40, 600));
    }
}
