//! Masks: a 32-byte seed expanded into as many words as an update has, added or subtracted.
//!
//! HKDF-Expand gives a 16-byte AES-128 key and a 16-byte first counter block; the mask is
//! AES-128-CTR with a 128-bit big-endian counter (NIST SP 800-38A, section 6.5), read as
//! little-endian lanes of 32 bits when b ≤ 32 and of 64 bits otherwise, each taken modulo 2^b.
//! The cipher itself is in [`crate::kernel`].

use zeroize::Zeroizing;

use crate::hash::derive;
pub(crate) use crate::kernel::Sign;
use crate::kernel::{self, Kernel, Stream};
use crate::secret::Secret;
use crate::words::Words;

/// The seed of one mask.
pub(crate) type Seed = Secret<32>;

/// The masks of some seeds, ready to be added piece by piece; wiped when dropped.
pub(crate) struct Streams(Vec<Stream>);

impl Streams {
    /// Derives the key of each seed's mask, and its round keys.
    pub(crate) fn new(seeds: &[(Seed, Sign)]) -> Self {
        // All the room at once: growing would leave keys behind in memory.
        let mut streams = Vec::with_capacity(seeds.len());
        streams.extend(seeds.iter().map(|(seed, sign)| stream(seed, *sign)));
        Self(streams)
    }

    /// Adds all masks, each with its sign, to `words`, which are the entries from `first_entry` on
    /// of a longer row. `first_entry` is a multiple of 16.
    pub(crate) fn add(&self, words: &mut Words, first_entry: usize) {
        debug_assert!(first_entry.is_multiple_of(16));
        let entries_per_block = 16 / words.lane_bytes();
        let first_block = (first_entry / entries_per_block) as u64;
        kernel::add_streams(Kernel::active(), words.lanes(), first_block, &self.0);
    }
}

/// Adds the masks of `seeds` once: see [`Streams::add`].
pub(crate) fn add_streams(words: &mut Words, first_entry: usize, seeds: &[(Seed, Sign)]) {
    Streams::new(seeds).add(words, first_entry);
}

/// The seed's key stream from byte `first_byte` on: randomness for rounding and noise. A seed
/// serves either this or a mask, never both.
pub(crate) fn keystream_bytes(seed: &Seed, out: &mut [u8], first_byte: u64) {
    let (stream, kernel) = (stream(seed, Sign::Plus), Kernel::active());
    out.fill(0);
    let within = usize::try_from(first_byte % 16).expect("below 16");
    let (head, rest) = out.split_at_mut(((16 - within) % 16).min(out.len()));
    let mut first_block = first_byte / 16;
    if !head.is_empty() {
        let mut block = Zeroizing::new([0; 16]);
        kernel::apply_stream(kernel, block.as_mut_slice(), first_block, &stream);
        head.copy_from_slice(&block[within..within + head.len()]);
        first_block += 1;
    }
    kernel::apply_stream(kernel, rest, first_block, &stream);
}

fn stream(seed: &Seed, sign: Sign) -> Stream {
    let material = derive::<32>("koinon/1/stream", seed.expose(), &[]);
    let ([key, counter], []) = material.as_chunks() else {
        unreachable!("32 bytes are two halves of 16");
    };
    Stream::new(key, *counter, sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(seed: u8, bits: u8, entries: usize) -> Vec<u64> {
        let mut words = Words::zero(entries, bits);
        add_streams(&mut words, 0, &[(Seed::new([seed; 32]), Sign::Plus)]);
        words.iter().collect()
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
