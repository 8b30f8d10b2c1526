//! Positive numbers far below what an `f64` reaches, such as 2^-2000: a mantissa and a power of two.
//!
//! Only additions, multiplications and divisions of IEEE 754 are used, so that every machine gets
//! the same bits: whether parameters are accepted never depends on a platform's `exp` or `log`.
//! Deliberately no general number type: it has what sums of probabilities need.

/// `mantissa · 2^exponent`, the mantissa in 1..2, or zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scaled {
    mantissa: f64,
    exponent: i64,
}

const MANTISSA_BITS: u32 = 52;
const EXPONENT_BIAS: i64 = 1023;
/// Beyond this many bits apart the smaller of two numbers does not show in the sum.
const BITS_THAT_SHOW: i64 = 64;

impl Scaled {
    pub(super) const ZERO: Self = Self { mantissa: 0.0, exponent: 0 };
    pub(super) const ONE: Self = Self { mantissa: 1.0, exponent: 0 };

    /// This number times `factor`, which is 0 or a normal positive number.
    #[must_use]
    pub(super) fn times(self, factor: f64) -> Self {
        Self { mantissa: self.mantissa * factor, exponent: self.exponent }.normal()
    }

    /// This number times another one.
    #[must_use]
    pub(super) fn product(self, other: Self) -> Self {
        Self { mantissa: self.mantissa * other.mantissa, exponent: self.exponent + other.exponent }
            .normal()
    }

    #[must_use]
    pub(super) fn plus(self, other: Self) -> Self {
        if self.mantissa == 0.0 {
            return other;
        }
        if other.mantissa == 0.0 {
            return self;
        }
        let (high, low) =
            if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        let apart = high.exponent - low.exponent;
        if apart > BITS_THAT_SHOW {
            return high;
        }
        let sum = high.mantissa + low.mantissa * power_of_two(-apart);
        Self { mantissa: sum, exponent: high.exponent }.normal()
    }

    /// Whether this number is at most 2^-bits, also after the rounding of some 10^6 operations is
    /// counted against it.
    pub(super) fn is_at_most_2_to_minus(self, bits: u32) -> bool {
        let safe = self.times(1.0 + power_of_two(-30));
        safe.mantissa == 0.0
            || safe.exponent < -i64::from(bits)
            || (safe.exponent == -i64::from(bits) && safe.mantissa <= 1.0)
    }

    /// Whether this number is below 2^-bits times `other`.
    pub(super) fn is_negligible_beside(self, other: Self, bits: i64) -> bool {
        self.mantissa == 0.0 || (other.mantissa > 0.0 && self.exponent + bits < other.exponent)
    }

    /// This number as an `f64`, 0 where it is too small for one.
    #[cfg(test)]
    pub(super) fn to_f64(self) -> f64 {
        if self.exponent < -1000 { 0.0 } else { self.mantissa * power_of_two(self.exponent) }
    }

    fn normal(self) -> Self {
        if self.mantissa == 0.0 {
            return Self::ZERO;
        }
        let bits = self.mantissa.to_bits();
        let power = i64::from(u16::try_from(bits >> MANTISSA_BITS).expect("11 bits, no sign"));
        let fraction = bits & ((1 << MANTISSA_BITS) - 1);
        let one = EXPONENT_BIAS.cast_unsigned() << MANTISSA_BITS;
        Self {
            mantissa: f64::from_bits(one | fraction),
            exponent: self.exponent + power - EXPONENT_BIAS,
        }
    }
}

/// 2^exponent for an exponent in -1022..=1023.
fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits((EXPONENT_BIAS + exponent).cast_unsigned() << MANTISSA_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_far_below_a_double_are_kept() {
        let mut tiny = Scaled::ONE;
        for _ in 0..3000 {
            tiny = tiny.times(0.5);
        }
        assert!(tiny.is_at_most_2_to_minus(2999));
        assert!(!tiny.is_at_most_2_to_minus(3000), "rounding counts against it");
        assert!(!tiny.is_at_most_2_to_minus(3001));
        let sum = tiny.plus(tiny).plus(tiny);
        assert_eq!(sum, tiny.times(3.0));
        assert!(Scaled::ZERO.plus(Scaled::ZERO).is_at_most_2_to_minus(u32::MAX));
    }

    #[test]
    fn sums_are_those_of_doubles_where_both_reach() {
        let mut sum = Scaled::ZERO;
        for i in 1..=1000 {
            sum = Scaled::ONE.times(1.0 / f64::from(i)).plus(sum);
        }
        assert!((sum.to_f64() - 7.485_470_860_550_345).abs() < 1e-12);
    }
}
