//! Words as they are summed: modulo 2^32 in lanes of 32 bits when b ≤ 32, and modulo 2^64 in lanes
//! of 64 bits otherwise.
//!
//! 2^b divides the lane's modulus, so sums and differences may wrap in the lane as they like; only
//! packing and opening take them modulo 2^b ([`crate::ring`]). What a lane holds above its b bits
//! means nothing. Not a vector of anything else: no products, no comparison, wiped when dropped.

use std::ops::Range;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::ring::BITS_MAX;

/// A row of words, as long as it was made.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) enum Words {
    /// For 1 to 32 bits.
    Narrow(Vec<u32>),
    /// For 33 to 63 bits.
    Wide(Vec<u64>),
}

/// Entries that are worked on at a time, so that they and their packed bytes stay in a core's second
/// cache: a multiple of 16, as masks want, and of 8, as packing wants.
pub(crate) const PIECE_ENTRIES: usize = 1 << 16;

/// The largest number of bits that narrow lanes hold.
pub(crate) const NARROW_BITS_MAX: u8 = 32;

impl Words {
    /// `entries` zeros, in the lanes that words of `bits` bits take.
    pub(crate) fn zero(entries: usize, bits: u8) -> Self {
        debug_assert!((1..=BITS_MAX).contains(&bits));
        if bits <= NARROW_BITS_MAX {
            Self::Narrow(vec![0; entries])
        } else {
            Self::Wide(vec![0; entries])
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Narrow(lanes) => lanes.len(),
            Self::Wide(lanes) => lanes.len(),
        }
    }

    /// The bytes of one lane.
    pub(crate) fn lane_bytes(&self) -> usize {
        match self {
            Self::Narrow(_) => 4,
            Self::Wide(_) => 8,
        }
    }

    /// Keeps the first `entries`; what is cut off is wiped.
    pub(crate) fn truncate(&mut self, entries: usize) {
        match self {
            Self::Narrow(lanes) => {
                lanes.iter_mut().skip(entries).for_each(Zeroize::zeroize);
                lanes.truncate(entries);
            }
            Self::Wide(lanes) => {
                lanes.iter_mut().skip(entries).for_each(Zeroize::zeroize);
                lanes.truncate(entries);
            }
        }
    }

    /// The lane of an entry, not reduced: [`crate::ring::unwrap`] reads a number from it.
    pub(crate) fn get(&self, entry: usize) -> u64 {
        match self {
            Self::Narrow(lanes) => u64::from(lanes[entry]),
            Self::Wide(lanes) => lanes[entry],
        }
    }

    /// Sets an entry to `word` modulo the lane's 2^32 or 2^64.
    #[cfg(test)]
    pub(crate) fn set(&mut self, entry: usize, word: u64) {
        match self {
            Self::Narrow(lanes) => lanes[entry] = low(word),
            Self::Wide(lanes) => lanes[entry] = word,
        }
    }

    /// The lanes one after the other, not reduced.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.len()).map(|entry| self.get(entry))
    }

    /// The part of `entries` that lies in the row, and its lanes.
    pub(crate) fn part(&mut self, entries: Range<usize>) -> Option<Lanes<'_>> {
        Some(match self {
            Self::Narrow(lanes) => Lanes::Narrow(lanes.get_mut(entries)?),
            Self::Wide(lanes) => Lanes::Wide(lanes.get_mut(entries)?),
        })
    }

    /// All lanes.
    pub(crate) fn lanes(&mut self) -> Lanes<'_> {
        match self {
            Self::Narrow(lanes) => Lanes::Narrow(lanes),
            Self::Wide(lanes) => Lanes::Wide(lanes),
        }
    }

    /// A second copy, said aloud.
    #[cfg(test)]
    pub(crate) fn duplicate(&self) -> Self {
        match self {
            Self::Narrow(lanes) => Self::Narrow(lanes.clone()),
            Self::Wide(lanes) => Self::Wide(lanes.clone()),
        }
    }
}

/// Borrowed lanes of a row of words.
pub(crate) enum Lanes<'a> {
    /// Lanes of 32 bits.
    Narrow(&'a mut [u32]),
    /// Lanes of 64 bits.
    Wide(&'a mut [u64]),
}

/// The number modulo 2^32.
#[expect(clippy::cast_possible_truncation, reason = "taking the low half is the purpose")]
pub(crate) fn low(word: u64) -> u32 {
    word as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_as_wide_as_the_bits_ask() {
        assert!(matches!(Words::zero(3, 32), Words::Narrow(_)));
        assert!(matches!(Words::zero(3, 33), Words::Wide(_)));
        for bits in [1, 32, 33, 63] {
            let mut words = Words::zero(3, bits);
            words.set(1, u64::MAX);
            let full = if bits <= 32 { u64::from(u32::MAX) } else { u64::MAX };
            assert_eq!(words.iter().collect::<Vec<_>>(), [0, full, 0]);
            assert!(words.part(2..4).is_none());
            words.truncate(1);
            assert_eq!((words.len(), words.get(0)), (1, 0));
        }
    }
}
