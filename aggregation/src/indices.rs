//! Sets of participants, by index. Not ordered lists, and not multisets: an index is in a set or is
//! not.
//!
//! A set is written in one of two forms: [`Indices::write`] takes 8 bytes and holds indices below
//! 64 (protocol version 1), [`Indices::write_bitmap`] takes a bit for each of n.

use crate::codec::{CodecError, Reader, Writer};
use crate::participants::{COMPLETE_MAX, PARTICIPANTS_MAX};

const LANE_BITS: usize = 64;

/// A set of participants, by index. Bit i of lane j is participant 64 · j + i; the last lane is
/// never zero, so that equal sets are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indices(Vec<u64>);

impl Indices {
    /// The set of `indices`, or `None` if one is repeated or not below `n`.
    #[must_use]
    pub fn new(indices: &[u16], n: usize) -> Option<Self> {
        let mut set = Self::default();
        for &index in indices {
            let inside = usize::from(index) < n.min(PARTICIPANTS_MAX);
            if !inside || !set.insert(usize::from(index)) {
                return None;
            }
        }
        Some(set)
    }

    /// Adds `index` and says whether it was new.
    pub(crate) fn insert(&mut self, index: usize) -> bool {
        debug_assert!(index < PARTICIPANTS_MAX);
        let new = !self.contains(index);
        let lane = index / LANE_BITS;
        if self.0.len() <= lane {
            self.0.resize(lane + 1, 0);
        }
        self.0[lane] |= 1 << (index % LANE_BITS);
        new
    }

    /// Whether `index` is in the set.
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        self.0.get(index / LANE_BITS).is_some_and(|lane| lane >> (index % LANE_BITS) & 1 == 1)
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub fn contains_all(&self, other: &Self) -> bool {
        let lane = |at| self.0.get(at).copied().unwrap_or_default();
        other.0.iter().enumerate().all(|(at, others)| others & !lane(at) == 0)
    }

    /// How many are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|lane| lane.count_ones() as usize).sum()
    }

    /// Whether none is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many members are below `index`.
    pub(crate) fn rank(&self, index: usize) -> usize {
        let (whole, rest) = (index / LANE_BITS, index % LANE_BITS);
        let below = self.0.iter().take(whole).map(|lane| lane.count_ones() as usize).sum::<usize>();
        let part = self.0.get(whole).map_or(0, |lane| lane & ((1 << rest) - 1));
        below + part.count_ones() as usize
    }

    /// The indices, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..LANE_BITS * self.0.len()).filter(|&index| self.contains(index))
    }

    /// The indices as sixteen-bit numbers, in ascending order.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u16> {
        self.iter().map(|index| u16::try_from(index).expect("indices are below 16,384")).collect()
    }

    /// Writes a set of indices below 64 as one 64-bit integer.
    pub(crate) fn write(&self, out: &mut Writer) {
        debug_assert!(self.0.len() <= 1);
        out.u64(self.0.first().copied().unwrap_or_default());
    }

    pub(crate) fn read(
        from: &mut Reader<'_>,
        n: usize,
        part: &'static str,
    ) -> Result<Self, CodecError> {
        let bits = from.u64(part)?;
        if n < COMPLETE_MAX && bits >> n != 0 {
            return Err(CodecError::Value(part));
        }
        Ok(Self(if bits == 0 { Vec::new() } else { vec![bits] }))
    }

    /// Writes a set of indices below `n` as ⌈n/8⌉ bytes: bit i of byte j is index 8 · j + i.
    pub(crate) fn write_bitmap(&self, out: &mut Writer, n: usize) {
        let lanes = self.0.iter().copied().chain(std::iter::repeat(0));
        let mut left = n.div_ceil(8);
        for lane in lanes {
            let bytes = left.min(8);
            out.bytes(&lane.to_le_bytes()[..bytes]);
            left -= bytes;
            if left == 0 {
                return;
            }
        }
    }

    pub(crate) fn read_bitmap(
        from: &mut Reader<'_>,
        n: usize,
        part: &'static str,
    ) -> Result<Self, CodecError> {
        let bytes = from.take(n.div_ceil(8), part)?;
        let mut lanes: Vec<u64> = bytes
            .chunks(8)
            .map(|chunk| {
                let mut lane = [0; 8];
                lane[..chunk.len()].copy_from_slice(chunk);
                u64::from_le_bytes(lane)
            })
            .collect();
        if !n.is_multiple_of(LANE_BITS)
            && lanes.last().is_some_and(|last| last >> (n % LANE_BITS) != 0)
        {
            return Err(CodecError::Value(part));
        }
        while lanes.last() == Some(&0) {
            lanes.pop();
        }
        Ok(Self(lanes))
    }
}

impl FromIterator<usize> for Indices {
    fn from_iter<I: IntoIterator<Item = usize>>(indices: I) -> Self {
        let mut set = Self::default();
        indices.into_iter().for_each(|index| {
            set.insert(index);
        });
        set
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sets_refuse_repeats_and_strangers() {
        let set = Indices::new(&[5, 0, 63], 64).unwrap();
        assert_eq!(set.to_vec(), [0, 5, 63]);
        assert_eq!((set.len(), set.contains(5), set.contains(64)), (3, true, false));
        assert!(set.contains_all(&Indices::new(&[63], 64).unwrap()));
        assert!(!set.contains_all(&Indices::new(&[640], 1000).unwrap()));
        assert!(Indices::new(&[1, 1], 64).is_none());
        assert!(Indices::new(&[3], 3).is_none());
        assert!(Indices::new(&[u16::MAX], usize::MAX).is_none());
        assert!(Indices::read(&mut Reader::new(&8u64.to_le_bytes()), 3, "set").is_err());
        assert!(Indices::read(&mut Reader::new(&u64::MAX.to_le_bytes()), 64, "set").is_ok());
    }

    proptest! {
        #[test]
        fn bitmaps_are_as_long_as_n_asks_and_canonical(
            indices in proptest::collection::btree_set(0usize..300, 0..40), more in 1usize..100,
        ) {
            let set: Indices = indices.iter().copied().collect();
            let n = indices.last().copied().unwrap_or(0) + more;
            let mut out = Writer::with_capacity(64);
            set.write_bitmap(&mut out, n);
            let bytes = out.into_public();
            prop_assert_eq!(bytes.len(), n.div_ceil(8));
            prop_assert_eq!(Indices::read_bitmap(&mut Reader::new(&bytes), n, "set"), Ok(set.clone()));
            for (rank, &index) in indices.iter().enumerate() {
                prop_assert_eq!(set.rank(index), rank);
            }
            let ones = vec![0xff; n.div_ceil(8)];
            let full = Indices::read_bitmap(&mut Reader::new(&ones), n, "set");
            prop_assert_eq!(full.is_ok(), n % 8 == 0);
        }
    }
}
