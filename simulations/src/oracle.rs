//! What a round must open: the sum of the sites' contributions, computed a second time and apart.
//!
//! It takes each site's contribution where the site's own trainer returned it, before any core
//! touched it, and works out the integers it must become by the rules of the encoding's
//! documentation, not by its code. A value that lies on the encoding's grid has exactly one integer;
//! one between two grid points may become either, because rounding is random, so a sum of such
//! values lies in a known interval. Fault runs use values on the grid ([`crate::arithmetic`]).
//!
//! It knows nothing of masks, messages and rounds. Start at [`Expected::of`].

use koinon_aggregation::EncodingPlan;
use koinon_client::trainer::Contribution;

/// The integers that one site's contribution, or a sum of several, may have become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Least and greatest of each word, the weight first.
    words: Vec<[i64; 2]>,
}

impl Expected {
    /// What this contribution must become under this plan; `None` if it does not fit the plan.
    pub(crate) fn of(plan: &EncodingPlan, contribution: &Contribution) -> Option<Expected> {
        let fields = plan.fields().get(1..)?;
        if fields.len() != contribution.values.len() {
            return None;
        }
        let weight = i64::from(contribution.weight);
        let mut words = vec![[weight, weight]];
        let noise = plan.noise().map_or(0, |noise| noise_reach(noise.variance()));
        for (field, values) in fields.iter().zip(&contribution.values) {
            if field.len != values.len() {
                return None;
            }
            let norm = values.iter().map(|x| x * x).sum::<f64>().sqrt();
            let clip = plan.clip_l2().filter(|clip| field.name == "update" && norm > *clip);
            let weight = if field.weighted { f64::from(contribution.weight) } else { 1.0 };
            let scale = f64::from(field.frac_bits).exp2();
            for x in values {
                let x = clip.map_or(*x, |clip| x * (clip / norm));
                let value = weight * x.clamp(-field.bound, field.bound) * scale;
                let [least, most] = grid_points(value, clip.is_some());
                words.push([least - noise, most + noise]);
            }
        }
        Some(Expected { words })
    }

    /// Adds another site's.
    pub(crate) fn add(&mut self, other: &Expected) {
        for (sum, word) in self.words.iter_mut().zip(&other.words) {
            sum[0] += word[0];
            sum[1] += word[1];
        }
    }

    /// The first word of an opened sum that cannot be, with what it should be.
    pub(crate) fn mismatch(&self, opened: &[i64]) -> Option<String> {
        if opened.len() != self.words.len() {
            return Some(format!("{} words opened, {} expected", opened.len(), self.words.len()));
        }
        let wrong = |(word, range): (&i64, &[i64; 2])| !(range[0]..=range[1]).contains(word);
        let place = opened.iter().zip(&self.words).position(wrong)?;
        let [low, high] = self.words[place];
        let expected = if low == high { low.to_string() } else { format!("{low}..={high}") };
        Some(format!("word {place} of the sum is {}, expected {expected}", opened[place]))
    }

    /// The least that a word may have become: at most a rounding below what it is.
    pub(crate) fn least(&self, place: usize) -> i64 {
        self.words.get(place).map_or(0, |word| word[0])
    }

    /// The word itself where there is only one possibility.
    pub(crate) fn exact(&self, place: usize) -> Option<i64> {
        self.words.get(place).filter(|word| word[0] == word[1]).map(|word| word[0])
    }

    /// The number of words.
    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }
}

/// What one site's noise of that variance does not exceed but with a chance of 10^-32.
#[expect(clippy::cast_possible_truncation, reason = "plans keep the noise far below 2^52")]
fn noise_reach(variance: f64) -> i64 {
    (12.0 * variance.sqrt()).ceil() as i64
}

/// The whole numbers that a value may be rounded to. `uncertain` values were scaled on the way, so
/// their last bits may differ from the site's.
#[expect(clippy::cast_possible_truncation, reason = "plans keep values below 2^52")]
fn grid_points(value: f64, uncertain: bool) -> [i64; 2] {
    if value.fract() == 0.0 && !uncertain {
        return [value as i64; 2];
    }
    let slack = if uncertain { value.abs() * 2f64.powi(-40) + 1e-9 } else { 0.0 };
    [(value - slack).floor() as i64, (value + slack).ceil() as i64]
}

/// The words of packed bytes: `bits` bits each, least significant first, one after the other.
///
/// A reading of the wire format apart from the one that is checked. At most `limit` words.
pub(crate) fn unpack(packed: &[u8], bits: u32, limit: usize) -> Vec<u64> {
    let mask = (1u128 << bits) - 1;
    let (mut pending, mut held) = (0u128, 0u32);
    let mut words = Vec::new();
    for byte in packed {
        if words.len() == limit {
            break;
        }
        pending |= u128::from(*byte) << held;
        held += 8;
        while held >= bits && words.len() < limit {
            words.push(u64::try_from(pending & mask).expect("words have at most 63 bits"));
            pending >>= bits;
            held -= bits;
        }
    }
    words
}

/// The packed bytes of words: the other direction of [`unpack`].
pub(crate) fn pack(words: &[u64], bits: u32) -> Vec<u8> {
    let (mut pending, mut held, mut packed) = (0u128, 0u32, Vec::new());
    for word in words {
        pending |= u128::from(*word) << held;
        held += bits;
        while held >= 8 {
            packed.push(pending.to_le_bytes()[0]);
            pending >>= 8;
            held -= 8;
        }
    }
    if held > 0 {
        packed.push(pending.to_le_bytes()[0]);
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;
    use koinon_aggregation::Field;

    fn plan(clip: Option<f64>) -> EncodingPlan {
        let update =
            Field { name: "update".into(), len: 2, bound: 4.0, frac_bits: 4, weighted: true };
        let rows = Field { name: "rows".into(), len: 1, bound: 9.0, frac_bits: 0, weighted: false };
        EncodingPlan::new(vec![update, rows], clip, 5, 100).unwrap()
    }

    fn contribution(update: [f64; 2], rows: f64) -> Contribution {
        Contribution { weight: 3, values: vec![update.to_vec(), vec![rows]] }
    }

    #[test]
    fn values_on_the_grid_are_exact_and_others_have_two_neighbours() {
        let plan = plan(None);
        let mut sum = Expected::of(&plan, &contribution([0.25, -9.0], 7.0)).unwrap();
        assert_eq!(sum.mismatch(&[3, 12, -192, 7]), None);
        assert_eq!(sum.exact(1), Some(12));
        sum.add(&Expected::of(&plan, &contribution([0.01, 0.0], 1.0)).unwrap());
        assert_eq!(sum.mismatch(&[6, 12, -192, 8]), None);
        assert_eq!(sum.mismatch(&[6, 13, -192, 8]), None);
        assert!(sum.mismatch(&[6, 14, -192, 8]).unwrap().contains("12..=13"));
        assert!(sum.mismatch(&[6, 12]).is_some());
    }

    #[test]
    fn long_updates_are_clipped_and_wrong_shapes_refused() {
        let clipped = Expected::of(&plan(Some(1.0)), &contribution([3.0, 4.0], 0.0)).unwrap();
        assert_eq!(clipped.mismatch(&[3, 29, 38, 0]), None);
        assert_eq!(clipped.exact(1), None);
        let short = Contribution { weight: 3, values: vec![vec![0.0; 2]] };
        assert_eq!(Expected::of(&plan(None), &short), None);
    }

    #[test]
    fn words_lie_bit_after_bit() {
        assert_eq!(unpack(&[0b1010_0101, 0b0000_0011], 5, 9), [0b00101, 0b11101, 0b00000]);
        assert_eq!(unpack(&[0xff; 8], 33, 9), [0x1_ffff_ffff]);
        assert_eq!(unpack(&[1, 2, 3, 4], 8, 2), [1, 2]);
        let words: Vec<u64> = (0..50).map(|i| i * 0x0123_4567_89ab % (1 << 37)).collect();
        assert_eq!(unpack(&pack(&words, 37), 37, 50), words);
    }
}
