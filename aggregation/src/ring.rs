//! Words modulo 2^b, and their dense packing on the wire.
//!
//! Words are held in lanes ([`Words`]) while they are computed with; on the wire each takes exactly
//! b bits, least significant bit first, one after the other, and zero bits fill the last byte.

use zeroize::Zeroizing;

use crate::words::{Lanes, Words, low as low32};

/// The largest number of bits of a word. One less than a lane, so that signs fit into `i64`.
pub const BITS_MAX: u8 = 63;

/// The mask that takes a 64-bit number modulo 2^bits.
pub(crate) fn modulus_mask(bits: u8) -> u64 {
    debug_assert!((1..=BITS_MAX).contains(&bits));
    (1 << bits) - 1
}

/// A signed number as a word modulo 2^bits (two's complement).
#[cfg(test)]
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
    let end = start + packed_bytes(words.len(), bits);
    let mask = modulus_mask(bits);
    match words {
        Words::Narrow(lanes) if bits == 32 => {
            out.reserve(end - start);
            out.extend(lanes.iter().flat_map(|lane| lane.to_le_bytes()));
        }
        Words::Narrow(lanes) => {
            // Room for the part of a window that the next eight overwrite.
            out.resize(end + WINDOW_NARROW, 0);
            let mut at = start;
            let (eights, rest) = lanes.as_chunks();
            let mut padded = Zeroizing::new([0; 8]);
            padded[..rest.len()].copy_from_slice(rest);
            for eight in eights.iter().chain([&*padded]) {
                let packed = pack_eight(eight, low32(mask), bits);
                out[at..at + packed.len()].copy_from_slice(&packed);
                at += usize::from(bits);
            }
        }
        Words::Wide(lanes) => {
            out.reserve(end - start + 16);
            let (mut pending, mut n_pending): (u128, u32) = (0, 0);
            for lane in lanes {
                pending |= u128::from(lane & mask) << n_pending;
                n_pending += u32::from(bits);
                if n_pending >= 64 {
                    out.extend_from_slice(&low(pending).to_le_bytes());
                    pending >>= 64;
                    n_pending -= 64;
                }
            }
            out.extend_from_slice(&pending.to_le_bytes());
        }
    }
    out.truncate(end);
}

/// Eight words of at most 31 bits in as many bytes as one has bits, and zeros.
fn pack_eight(words: &[u32; 8], mask: u32, bits: u8) -> [u8; 32] {
    let word = |i: usize| u64::from(words[i] & mask);
    let two = |i: usize| word(i) | word(i + 1) << bits;
    let four = |i: usize| u128::from(two(i)) | u128::from(two(i + 2)) << (2 * bits);
    let (first, second) = (four(0), four(4));
    let mut packed = [0; 32];
    packed[..16].copy_from_slice(&(first | second << (4 * bits)).to_le_bytes());
    packed[16..].copy_from_slice(&(second >> (128 - 4 * bits)).to_le_bytes());
    packed
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
    apply_packed::<false>(words, first_entry, packed, bits)
}

/// Subtracts what [`add_packed`] adds, or nothing where that adds nothing.
pub(crate) fn subtract_packed(
    words: &mut Words,
    first_entry: usize,
    packed: &[u8],
    bits: u8,
) -> Option<()> {
    apply_packed::<true>(words, first_entry, packed, bits)
}

fn apply_packed<const MINUS: bool>(
    words: &mut Words,
    first_entry: usize,
    packed: &[u8],
    bits: u8,
) -> Option<()> {
    let entries = packed_entries(words.len().checked_sub(first_entry)?, packed.len(), bits)?;
    let lanes = words.part(first_entry..first_entry + entries)?;
    let window = match lanes {
        Lanes::Narrow(_) => WINDOW_NARROW,
        Lanes::Wide(_) => WINDOW_WIDE,
    };
    // Eight words end with a byte. As long as a whole window is left they are read from there; the
    // few words after that are looked at first, as they may be refused.
    let windows = packed.len().checked_sub(window).map_or(0, |more| more / usize::from(bits) + 1);
    let eights = windows.min(entries / 8);
    let last = unpack(&packed[eights * usize::from(bits)..], entries - 8 * eights, bits)?;
    match lanes {
        Lanes::Narrow(lanes) => {
            let (lanes, rest) = lanes.split_at_mut(8 * eights);
            add_narrow::<MINUS>(lanes, packed, bits);
            let rest = rest.iter_mut().zip(last);
            rest.for_each(|(sum, word)| *sum = sum.wrapping_add(signed32::<MINUS>(low32(word))));
        }
        Lanes::Wide(lanes) => {
            let (lanes, rest) = lanes.split_at_mut(8 * eights);
            add_wide::<MINUS>(lanes, packed, bits);
            let rest = rest.iter_mut().zip(last);
            rest.for_each(|(sum, word)| *sum = sum.wrapping_add(signed64::<MINUS>(word)));
        }
    }
    Some(())
}

/// The bytes from which eight words can be read by eight loads of 8 bytes (narrow), of 16 (wide).
const WINDOW_NARROW: usize = 32 + 8;
const WINDOW_WIDE: usize = 64 + 16;

/// Adds eights of packed words, each with a whole window left.
fn add_narrow<const MINUS: bool>(lanes: &mut [u32], packed: &[u8], bits: u8) {
    if bits == 32 {
        let words = packed.as_chunks().0;
        let added = lanes.iter_mut().zip(words);
        let word = |w: &[u8; 4]| signed32::<MINUS>(u32::from_le_bytes(*w));
        return added.for_each(|(sum, w)| *sum = sum.wrapping_add(word(w)));
    }
    let mask = low32(modulus_mask(bits));
    let places = places(bits);
    let windows = (0..).step_by(bits.into()).map_while(|at| packed[at..].first_chunk());
    for (eight, window) in lanes.as_chunks_mut::<8>().0.iter_mut().zip(windows) {
        let window: &[u8; WINDOW_NARROW] = window;
        for (sum, (byte, shift)) in eight.iter_mut().zip(places) {
            // The byte is below 32; saying so spares the check.
            let load = window[byte % 32..].first_chunk().expect("8 bytes follow the first 32");
            let word = low32(u64::from_le_bytes(*load) >> shift) & mask;
            *sum = sum.wrapping_add(signed32::<MINUS>(word));
        }
    }
}

fn add_wide<const MINUS: bool>(lanes: &mut [u64], packed: &[u8], bits: u8) {
    let mask = modulus_mask(bits);
    let places = places(bits);
    let windows = (0..).step_by(bits.into()).map_while(|at| packed[at..].first_chunk());
    for (eight, window) in lanes.as_chunks_mut::<8>().0.iter_mut().zip(windows) {
        let window: &[u8; WINDOW_WIDE] = window;
        for (sum, (byte, shift)) in eight.iter_mut().zip(places) {
            let load = window[byte % 64..].first_chunk().expect("16 bytes follow the first 64");
            let word = low(u128::from_le_bytes(*load) >> shift) & mask;
            *sum = sum.wrapping_add(signed64::<MINUS>(word));
        }
    }
}

fn signed32<const MINUS: bool>(word: u32) -> u32 {
    if MINUS { word.wrapping_neg() } else { word }
}

fn signed64<const MINUS: bool>(word: u64) -> u64 {
    if MINUS { word.wrapping_neg() } else { word }
}

/// Where each of eight words begins: the byte, and the bit in it.
fn places(bits: u8) -> [(usize, u32); 8] {
    let bits = u32::from(bits);
    let bit: [u32; 8] = std::array::from_fn(|i| (0..i).map(|_| bits).sum());
    bit.map(|bit| (bit as usize / 8, bit % 8))
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
        fn pieces_of_eights_join_to_the_whole(
            entries in proptest::collection::vec(any::<u64>(), 0..400),
            cut in 0usize..50,
            bits in 1u8..=63) {
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
            prop_assert!(subtract_packed(&mut sum, cut, &whole[at..], bits).is_some());
            prop_assert!(subtract_packed(&mut sum, 0, &whole[..at], bits).is_some());
            prop_assert!(sum.iter().all(|sum| unwrap(sum, bits) == unwrap(7, bits)));
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
