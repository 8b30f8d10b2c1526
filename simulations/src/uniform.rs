//! Do these words look like a mask? Pearson's chi-square test over the words' ends.
//!
//! What a site sent, minus what it encoded, must be uniform in the ring. The test looks at the four
//! lowest and the four highest bits of each word; a mask that is missing, small, constant or reused
//! as a difference shows there at once. It cannot tell a bad generator from a good one: that is the
//! business of the known-answer vectors.
//!
//! Start at [`Uniformity::add`].

/// Counts of the lowest and highest four bits of many words.
#[derive(Clone, Default)]
pub struct Uniformity {
    low: [u64; CELLS],
    high: [u64; CELLS],
    words: u64,
}

impl Uniformity {
    /// Counts one word of a ring of `2^bits`, 4 ≤ bits ≤ 64.
    pub fn add(&mut self, word: u64, bits: u32) {
        self.low[(word % 16) as usize] += 1;
        self.high[(word >> (bits - 4) & 15) as usize] += 1;
        self.words += 1;
    }

    /// Counts what another counter counted.
    pub fn merge(&mut self, other: &Uniformity) {
        for cell in 0..CELLS {
            self.low[cell] += other.low[cell];
            self.high[cell] += other.high[cell];
        }
        self.words += other.words;
    }

    /// The larger of the two statistics when it is beyond [`BOUND`]; too few words say nothing.
    pub fn violation(&self) -> Option<f64> {
        if self.words < WORDS_MIN {
            return None;
        }
        let expected = self.words as f64 / CELLS as f64;
        let statistic = |cells: &[u64; CELLS]| -> f64 {
            cells.iter().map(|&n| (n as f64 - expected).powi(2) / expected).sum()
        };
        Some(statistic(&self.low).max(statistic(&self.high))).filter(|&worst| worst > BOUND)
    }
}

const CELLS: usize = 16;

/// Eight expected in each cell: enough for the chi-square approximation this far from its centre.
const WORDS_MIN: u64 = 8 * CELLS as u64;

/// False alarms are below 1e-15 a test: with k = 15 degrees of freedom and t = 36, Laurent and
/// Massart (2000, lemma 1) bound the chance of exceeding k + 2·sqrt(k·t) + 2·t by e^-t. A run makes
/// some hundred tests, so all seeds of an evening together stay below 1e-9.
pub const BOUND: f64 = 15.0 + 2.0 * 23.24 + 72.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds::SeedTree;
    use rand::{Rng, RngExt};

    #[test]
    fn random_words_pass() {
        for seed in 0..2_000 {
            let mut rng = SeedTree::new(seed).stream("uniform");
            let mut test = Uniformity::default();
            (0..150).for_each(|_| test.add(rng.next_u64() >> 24, 40));
            assert_eq!(test.violation(), None);
        }
    }

    #[test]
    fn missing_and_small_masks_fail() {
        let mut rng = SeedTree::new(1).stream("uniform");
        let mut none = Uniformity::default();
        let mut small = Uniformity::default();
        for _ in 0..WORDS_MIN {
            none.add(0, 40);
            small.add(rng.random_range(0..1 << 30), 40);
        }
        assert!(none.violation().is_some() && small.violation().is_some());
    }

    #[test]
    fn few_words_say_nothing_and_merging_adds_up() {
        let mut few = Uniformity::default();
        (0..WORDS_MIN / 2).for_each(|_| few.add(0, 40));
        assert_eq!(few.violation(), None);
        let mut both = few.clone();
        both.merge(&few);
        assert!(both.violation().is_some());
    }
}
