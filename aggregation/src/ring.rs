//! Words modulo 2^b, and their dense packing on the wire.
//!
//! Words are held in 64-bit lanes while they are computed with; on the wire each takes exactly b
//! bits, least significant bit first, one after the other, and zero bits fill the last byte.

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

/// The packed bytes of words, each already below 2^bits.
pub(crate) fn pack(words: &[u64], bits: u8) -> Vec<u8> {
    let mut packed = Vec::with_capacity(packed_bytes(words.len(), bits) + 16);
    let mut pending: u128 = 0;
    let mut n_pending = 0;
    for &word in words {
        pending |= u128::from(word) << n_pending;
        n_pending += u32::from(bits);
        if n_pending >= 64 {
            packed.extend_from_slice(&pending.to_le_bytes()[..8]);
            pending >>= 64;
            n_pending -= 64;
        }
    }
    packed.extend_from_slice(&pending.to_le_bytes());
    packed.truncate(packed_bytes(words.len(), bits));
    packed
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

    proptest! {
        #[test]
        fn packing_is_dense_and_undone(words: Vec<u64>, bits in 1u8..=63) {
            let words: Vec<u64> = words.iter().map(|w| w & modulus_mask(bits)).collect();
            let packed = pack(&words, bits);
            prop_assert_eq!(packed.len(), (words.len() * usize::from(bits)).div_ceil(8));
            prop_assert_eq!(unpack(&packed, words.len(), bits), Some(words));
        }

        #[test]
        fn any_bytes_unpack_to_themselves_or_to_nothing(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            entries in 0usize..60,
            bits in 1u8..=63,
        ) {
            if let Some(words) = unpack(&bytes, entries, bits) {
                prop_assert_eq!(pack(&words, bits), bytes);
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
