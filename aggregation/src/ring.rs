//! Words modulo 2^b, and their dense packing on the wire.
//!
//! Words are held in lanes ([`Words`]) while they are computed with; on the wire each takes exactly
//! b bits, least significant bit first, one after the other, and zero bits fill the last byte.

use crate::words::{Lanes, Words, low as low32};

/// The largest number of bits of a word. One less than a lane, so that signs fit into `i64`.
pub const BITS_MAX: u8 = 63;

/// The mask that takes a 64-bit number modulo 2^bits.
pub(crate) fn modulus_mask(bits: u8) -> u64 {
    debug_assert!((1..=BITS_MAX).contains(&bits));
    (1 << bits) - 1
}

/// A signed number as a word modulo 2^bits (two's complement).
pub(crate) fn wrap(value: i64, bits: u8) -> u64 {
    value.cast_unsigned() & modulus_mask(bits)
}

/// The number between -2^(bits-1) and 2^(bits-1) - 1 that a word stands for.
pub(crate) fn unwrap(word: u64, bits: u8) -> i64 {
    let unused = 64 - u32::from(bits);
    (word << unused).cast_signed() >> unused
}

/// How many bytes `entries` words of `bits` bits take when packed.
#[must_use]
pub fn packed_bytes(entries: usize, bits: u8) -> usize {
    entries.saturating_mul(usize::from(bits)).div_ceil(8)
}

/// Appends the packed bytes of `words`, each taken modulo 2^bits. Zero bits fill the last byte, so
/// that pieces of a multiple of 8 entries join to the packing of the whole.
pub(crate) fn pack(words: &Words, bits: u8, out: &mut Vec<u8>) {
    let start = out.len();
    let mask = modulus_mask(bits);
    out.reserve(packed_bytes(words.len(), bits) + 16);
    let mut pending: u128 = 0;
    let mut n_pending = 0;
    for word in words.iter() {
        pending |= u128::from(word & mask) << n_pending;
        n_pending += u32::from(bits);
        if n_pending >= 64 {
            out.extend_from_slice(&pending.to_le_bytes()[..8]);
            pending >>= 64;
            n_pending -= 64;
        }
    }
    out.extend_from_slice(&pending.to_le_bytes());
    out.truncate(start + packed_bytes(words.len(), bits));
}

/// Adds packed words to the entries from `first_entry` on: as many as are left, or a piece of a
/// multiple of 8 entries. `None`, and nothing is added, if the length is neither, or a bit that
/// fills the last byte is set.
pub(crate) fn add_packed(
    words: &mut Words,
    first_entry: usize,
    packed: &[u8],
    bits: u8,
) -> Option<()> {
    let entries = packed_entries(words.len().checked_sub(first_entry)?, packed.len(), bits)?;
    let added = unpack(packed, entries, bits)?;
    match words.part(first_entry..first_entry + entries)? {
        Lanes::Narrow(lanes) => {
            lanes
                .iter_mut()
                .zip(added)
                .for_each(|(sum, word)| *sum = sum.wrapping_add(low32(word)));
        }
        Lanes::Wide(lanes) => {
            lanes.iter_mut().zip(added).for_each(|(sum, word)| *sum = sum.wrapping_add(word));
        }
    }
    Some(())
}

/// How many entries `bytes` packed bytes are, where `left` entries are left.
fn packed_entries(left: usize, bytes: usize, bits: u8) -> Option<usize> {
    if !(1..=BITS_MAX).contains(&bits) {
        return None;
    }
    if bytes == packed_bytes(left, bits) {
        return Some(left);
    }
    let eights = bytes / usize::from(bits);
    let piece = bytes.is_multiple_of(usize::from(bits)) && eights <= left / 8;
    piece.then_some(eights * 8)
}

/// The words of packed bytes, or `None` if the length is not the one of `entries` words, a bit that
/// fills the last byte is set, or `bits` is not in 1..=63.
#[must_use]
pub fn unpack(packed: &[u8], entries: usize, bits: u8) -> Option<Vec<u64>> {
    let possible = (1..=BITS_MAX).contains(&bits) && packed.len() == packed_bytes(entries, bits);
    if !possible {
        return None;
    }
    let mask = modulus_mask(bits);
    let mut words = Vec::with_capacity(entries);
    let mut pending: u128 = 0;
    let mut n_pending = 0;
    let mut chunks = packed.chunks(8);
    for _ in 0..entries {
        while n_pending < u32::from(bits) {
            let chunk = chunks.next()?;
            let mut lane = [0; 8];
            lane[..chunk.len()].copy_from_slice(chunk);
            pending |= u128::from(u64::from_le_bytes(lane)) << n_pending;
            n_pending += 64;
        }
        words.push(low(pending) & mask);
        pending >>= bits;
        n_pending -= u32::from(bits);
    }
    (pending == 0).then_some(words)
}

#[expect(clippy::cast_possible_truncation, reason = "taking the low half is the purpose")]
fn low(x: u128) -> u64 {
    x as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(entries: &[u64], bits: u8) -> Words {
        let mut words = Words::zero(entries.len(), bits);
        entries.iter().enumerate().for_each(|(i, &word)| words.set(i, word));
        words
    }

    fn packed(entries: &[u64], bits: u8) -> Vec<u8> {
        let mut packed = Vec::new();
        pack(&row(entries, bits), bits, &mut packed);
        packed
    }

    proptest! {
        #[test]
        fn packing_is_dense_and_undone(entries: Vec<u64>, bits in 1u8..=63) {
            let packed = packed(&entries, bits);
            prop_assert_eq!(packed.len(), (entries.len() * usize::from(bits)).div_ceil(8));
            let reduced: Vec<u64> = entries.iter().map(|w| w & modulus_mask(bits)).collect();
            prop_assert_eq!(unpack(&packed, entries.len(), bits), Some(reduced));
        }

        #[test]
        fn pieces_of_eights_join_to_the_whole(entries: Vec<u64>, cut in 0usize..20, bits in 1u8..=63) {
            let cut = (8 * cut).min(entries.len() / 8 * 8);
            let whole = packed(&entries, bits);
            let mut joined = packed(&entries[..cut], bits);
            pack(&row(&entries[cut..], bits), bits, &mut joined);
            prop_assert_eq!(&joined, &whole);

            let mut sum = row(&vec![7; entries.len()], bits);
            let at = packed_bytes(cut, bits);
            prop_assert!(add_packed(&mut sum, 0, &whole[..at], bits).is_some());
            prop_assert!(add_packed(&mut sum, cut, &whole[at..], bits).is_some());
            for (sum, word) in sum.iter().zip(entries) {
                prop_assert_eq!(unwrap(sum, bits), unwrap(word.wrapping_add(7), bits));
            }
        }

        #[test]
        fn what_does_not_fit_adds_nothing(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            entries in 0usize..60,
            first in 0usize..80,
            bits in 0u8..=70,
        ) {
            let mut sum = Words::zero(entries, bits.clamp(1, 63));
            if add_packed(&mut sum, first, &bytes, bits).is_none() {
                prop_assert!(sum.iter().all(|word| word == 0));
            } else {
                let rest: Vec<u64> = sum.iter().skip(first).collect();
                prop_assert!(packed(&rest, bits).starts_with(&bytes));
            }
        }

        #[test]
        fn any_bytes_unpack_to_themselves_or_to_nothing(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            entries in 0usize..60,
            bits in 1u8..=63,
        ) {
            if let Some(words) = unpack(&bytes, entries, bits) {
                prop_assert_eq!(packed(&words, bits), bytes);
            }
        }

        #[test]
        fn impossible_sizes_unpack_to_nothing(entries: usize, bits: u8) {
            prop_assert!(unpack(&[], entries.max(1), bits).is_none());
        }

        #[test]
        fn wrapping_keeps_what_fits(value: i64, bits in 1u8..=63) {
            let value = value >> (64 - u32::from(bits));
            prop_assert_eq!(unwrap(wrap(value, bits), bits), value);
        }
    }
}
