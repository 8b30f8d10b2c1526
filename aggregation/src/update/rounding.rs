//! Rounding at random without bias: real numbers to whole ones, many at a time.
//!
//! The arithmetic is the same for every number, so that nothing branches on a value and compilers
//! make vectors of it. No source of randomness: the caller brings 32 random bits for each number.

use crate::words::low;

/// How the numbers of one field become whole.
pub(super) struct Rounding {
    /// What an entry is multiplied by first: below 1 if the field's norm was too large.
    pub(super) shrink: f64,
    /// The entry's largest absolute value after that.
    pub(super) bound: f64,
    /// Weight times scale, at most 2^52 / `bound`.
    pub(super) factor: f64,
}

impl Rounding {
    /// Sets each lane to the whole number below or above its entry, clipped and scaled.
    ///
    /// With f the fraction between the number below and the entry, and r 32 random bits, the number
    /// above is taken if r < f · 2^32: with probability ⌈f · 2^32⌉ / 2^32, which is f but for less
    /// than 2^-32. A whole number stays what it is. For a given r this is a step up after each
    /// k + r / 2^32, so entries that differ by v become whole numbers that differ by at most
    /// |v| + 1: [`crate::privacy::Sensitivity`] builds on that.
    #[inline(always)]
    pub(super) fn apply<X: Copy + Into<f64>, L: Lane>(
        &self,
        entries: &[X],
        random: &[[u8; 4]],
        lanes: &mut [L],
    ) {
        for ((entry, random), lane) in entries.iter().zip(random).zip(lanes) {
            let clipped = ((*entry).into() * self.shrink).clamp(-self.bound, self.bound);
            *lane = L::lane(round(clipped * self.factor, i32::from_le_bytes(*random)));
        }
    }
}

/// `value`, at most 2^52 in absolute value, rounded at random.
#[inline(always)]
pub(super) fn round(value: f64, random: i32) -> i64 {
    // From 2^52 to 2^53 doubles are the whole numbers: adding 2^52 rounds to the nearest and leaves
    // it in the low bits, without an instruction that only newer processors have.
    const SHIFT: f64 = (1u64 << 52) as f64;
    const HALF: f64 = (1u64 << 31) as f64;
    let shifted = value.abs() + SHIFT;
    let nearest = (shifted - SHIFT).copysign(value);
    // In -1/2 ..= 1/2, exact; times 2^32 and compared with a number that is uniform over 2^32.
    let above = (value - nearest) * (2.0 * HALF);
    let random = f64::from(random);
    let up = i64::from(random < above - HALF);
    let down = i64::from(random >= above + HALF);
    let magnitude = shifted.to_bits().cast_signed() - SHIFT.to_bits().cast_signed();
    let sign = value.to_bits().cast_signed() >> 63;
    (magnitude ^ sign) - sign + up - down
}

/// A lane of a sum: a signed number modulo 2^32 or 2^64.
pub(super) trait Lane: Copy {
    /// The number modulo the lane's modulus.
    fn lane(value: i64) -> Self;

    /// Adds a number modulo the lane's modulus.
    fn add(&mut self, value: i32);
}

impl Lane for u32 {
    #[inline(always)]
    fn lane(value: i64) -> Self {
        low(value.cast_unsigned())
    }

    #[inline]
    fn add(&mut self, value: i32) {
        *self = self.wrapping_add_signed(value);
    }
}

impl Lane for u64 {
    #[inline(always)]
    fn lane(value: i64) -> Self {
        value.cast_unsigned()
    }

    #[inline]
    fn add(&mut self, value: i32) {
        *self = self.wrapping_add_signed(value.into());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    use super::*;

    fn random(rng: &mut ChaCha20Rng) -> i32 {
        rng.next_u32().cast_signed()
    }

    #[test]
    fn rounding_has_no_bias() {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let n = 40_000;
        for value in [0.25, -0.25, 7.9, -1000.125, 0.5, -1.5] {
            let sum: i64 = (0..n).map(|_| round(value, random(&mut rng))).sum();
            let error = sum as f64 / f64::from(n) - value;
            assert!(error.abs() < 0.015, "{value}: {error}");
        }
    }

    #[test]
    fn each_fraction_goes_up_as_often_as_it_should() {
        let mut rng = ChaCha20Rng::seed_from_u64(4);
        let n = 20_000;
        let mut chi2 = 0.0;
        for cell in 1..64 {
            let fraction = f64::from(cell) / 64.0;
            let ups = (0..n).filter(|_| round(5.0 + fraction, random(&mut rng)) == 6).count();
            let expected = f64::from(n) * fraction;
            chi2 += (ups as f64 - expected).powi(2) / (expected * (1.0 - fraction));
        }
        // 63 degrees of freedom: mean 63, standard deviation 11.2.
        assert!((20.0..130.0).contains(&chi2), "{chi2}");
    }

    #[test]
    fn the_smallest_step_of_the_random_bits_decides() {
        let step = 2f64.powi(-32);
        assert_eq!(round(step, i32::MIN), 1, "one of 2^32 draws goes up");
        assert_eq!(round(step, i32::MIN + 1), 0);
        assert_eq!(round(1.0 - step, i32::MAX), 0, "one of 2^32 draws goes down");
        assert_eq!(round(1.0 - step, i32::MAX - 1), 1);
        assert_eq!((round(0.5, -1), round(0.5, 0)), (1, 0));
        assert_eq!((round(-0.5, -1), round(-0.5, 0)), (0, -1));
    }

    proptest! {
        #[test]
        fn whole_numbers_stay_whole(value in -(1i64 << 52)..=1 << 52, random: i32) {
            prop_assert_eq!(round(value as f64, random), value);
        }

        #[test]
        fn what_differs_by_v_is_rounded_to_what_differs_by_at_most_v_and_one(
            value in -10.0..10.0f64,
            v in 0.0..3.0f64,
            random: i32,
        ) {
            let step = round(value + v, random) - round(value, random);
            prop_assert!(step >= 0 && step as f64 <= v + 1.0 + 1e-9);
        }

        #[test]
        fn a_neighbour_is_taken(value in -4.6e15..4.6e15f64, small in -100.0..100.0f64, random: i32) {
            for value in [value.clamp(-2f64.powi(52), 2f64.powi(52)), small] {
                let rounded = round(value, random) as f64;
                prop_assert!(rounded == value.floor() || rounded == value.ceil());
            }
        }
    }
}
