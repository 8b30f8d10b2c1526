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
use crate::secret::Secret;
use crate::words::{Lanes, Words};

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

/// Adds the masks of `seeds`, each with its sign, to `words`, which are the entries from
/// `first_entry` on of a longer row. `first_entry` is a multiple of 16.
pub(crate) fn add_streams(words: &mut Words, first_entry: usize, seeds: &[(Seed, Sign)]) {
    debug_assert!(first_entry.is_multiple_of(16));
    for (seed, sign) in seeds {
        match words.lanes() {
            Lanes::Narrow(lanes) => {
                let mut cipher = keystream(seed, first_entry as u64 / 4);
                let mut block = Zeroizing::new([0; BLOCK_BYTES]);
                for lanes in lanes.chunks_mut(BLOCK_BYTES / 4) {
                    block.fill(0);
                    cipher.apply_keystream(block.as_mut_slice());
                    for (lane, mask) in lanes.iter_mut().zip(block.as_chunks().0) {
                        let mask = u32::from_le_bytes(*mask);
                        *lane = match sign {
                            Sign::Plus => lane.wrapping_add(mask),
                            Sign::Minus => lane.wrapping_sub(mask),
                        };
                    }
                }
            }
            Lanes::Wide(lanes) => {
                let mut cipher = keystream(seed, first_entry as u64 / 2);
                let mut block = Zeroizing::new([0; BLOCK_BYTES]);
                for lanes in lanes.chunks_mut(BLOCK_BYTES / 8) {
                    block.fill(0);
                    cipher.apply_keystream(block.as_mut_slice());
                    for (lane, mask) in lanes.iter_mut().zip(block.as_chunks().0) {
                        let mask = u64::from_le_bytes(*mask);
                        *lane = match sign {
                            Sign::Plus => lane.wrapping_add(mask),
                            Sign::Minus => lane.wrapping_sub(mask),
                        };
                    }
                }
            }
        }
    }
}

/// The seed's key stream from byte `first_byte` on: randomness for rounding and noise. A seed
/// serves either this or a mask, never both.
pub(crate) fn keystream_bytes(seed: &Seed, out: &mut [u8], first_byte: u64) {
    let mut cipher = keystream(seed, first_byte / 16);
    let mut skipped = Zeroizing::new([0; 16]);
    let skipped = &mut skipped[..usize::try_from(first_byte % 16).expect("below 16")];
    cipher.apply_keystream(skipped);
    out.fill(0);
    cipher.apply_keystream(out);
}

/// The key stream of a seed from its block `first_block` on.
fn keystream(seed: &Seed, first_block: u64) -> ctr::Ctr128BE<Aes128> {
    let material = derive::<32>("koinon/1/stream", seed.expose(), &[]);
    let (key, counter) = material.split_at(16);
    let counter = u128::from_be_bytes(counter.try_into().expect("a half of 32 bytes has 16"));
    let counter = counter.wrapping_add(first_block.into()).to_be_bytes();
    ctr::Ctr128BE::new_from_slices(key, &counter).expect("16 bytes of key, 16 of counter block")
}

/// Keystream bytes made at a time: small enough to stay in the first cache.
const BLOCK_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(seed: u8, bits: u8, entries: usize) -> Vec<u64> {
        let mut words = Words::zero(entries, bits);
        add_streams(&mut words, 0, &[(Seed::new([seed; 32]), Sign::Plus)]);
        words.iter().collect()
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
        for bits in [32, 33] {
            let mut words = Words::zero(2_500, bits);
            add_streams(&mut words, 0, &[(Seed::new([1; 32]), Sign::Plus)]);
            assert!(words.iter().any(|w| w != 0));
            add_streams(&mut words, 0, &[(Seed::new([1; 32]), Sign::Minus)]);
            assert!(words.iter().all(|w| w == 0));
        }
    }

    #[test]
    fn wide_lanes_are_pairs_of_narrow_ones_and_both_are_the_key_stream() {
        let narrow = stream(2, 32, 3_000);
        let paired: Vec<u64> = narrow.chunks(2).map(|p| p[0] | p[1] << 32).collect();
        assert_eq!(paired, stream(2, 63, 1_500));
        let mut bytes = [0; 12_000];
        keystream_bytes(&Seed::new([2; 32]), &mut bytes, 0);
        assert_eq!(bytes.to_vec(), paired.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>());
        for first in [1, 15, 16, 17, 4_099] {
            let mut later = [0; 100];
            keystream_bytes(&Seed::new([2; 32]), &mut later, first as u64);
            assert_eq!(later, bytes[first..first + 100]);
        }
    }

    #[test]
    fn a_piece_has_the_masks_of_its_place() {
        for bits in [20, 40] {
            let whole = stream(3, bits, 1_025);
            assert_eq!(whole[..600], stream(3, bits, 600));
            for first in [16, 512, 1_024] {
                let mut piece = Words::zero(1_025 - first, bits);
                add_streams(&mut piece, first, &[(Seed::new([3; 32]), Sign::Plus)]);
                assert_eq!(piece.iter().collect::<Vec<_>>(), whole[first..]);
            }
        }
    }
}
