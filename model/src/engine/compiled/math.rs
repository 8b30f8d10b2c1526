//! Exponential, tanh, erf in single precision, written so that the compiler makes vectors of them.
//!
//! No branches, no tables: a fixed polynomial after a reduction of the argument, the same on every
//! processor with fused multiply-add. Bounds, tested against `libm` in double precision: [`exp`] 2 ulp and
//! 0 below e⁻⁸⁶·⁵, [`tanh`] 3e-7, [`erf`] 4e-7, [`sigmoid`] 3e-7, all but the first absolute. What is no
//! number stays none. Start at [`vectorised`].

/// Does a piece of work with the widest vectors that this processor has. See [`vector_work`].
#[inline(always)]
pub(super) fn vectorised<W: pulp::NullaryFnOnce>(work: W) -> W::Output {
    pulp::Arch::new().dispatch(work)
}

/// A type whose value is a call of a function: what [`vectorised`] does.
///
/// Function and all that it calls are marked `#[inline(always)]`: only what becomes part of the call is
/// compiled for these vectors, and a closure would be called instead.
macro_rules! vector_work {
    ($name:ident<$life:lifetime>, $function:path, $with:ty) => {
        struct $name<$life>($with);

        impl<$life> pulp::NullaryFnOnce for $name<$life> {
            type Output = ();

            #[inline(always)]
            fn call(self) {
                $function(self.0);
            }
        }
    };
}
pub(super) use vector_work;

/// `eˣ`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding it rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_145_75;
    const LN_2_LOW: f32 = 1.428_606_8e-6;
    /// Below, the result is taken for 0: it would soon have fewer bits than others.
    const LEAST: f32 = -86.5;
    let low = if x < LEAST { LEAST } else { x };
    let within = if low > 88.8 { 88.8 } else { low };
    let shifted = within.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, within));
    // Taylor's series for |r| ≤ ln 2 / 2.
    let p = r.mul_add(1.0 / 5040.0, 1.0 / 720.0);
    let p = r.mul_add(p, 1.0 / 120.0);
    let p = r.mul_add(p, 1.0 / 24.0);
    let p = r.mul_add(p, 1.0 / 6.0);
    let p = r.mul_add(p, 0.5);
    let p = r.mul_add(p, 1.0);
    let p = r.mul_add(p, 1.0);
    // 2ⁿ = 2 · 2ⁿ⁻¹, for 2¹²⁸ is no number of this type.
    let bits = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(126) << 23;
    let result = p * f32::from_bits(bits) * 2.0;
    let result = if x < LEAST { 0.0 } else { result };
    if x > 88.722_84 { f32::INFINITY } else { result }
}

/// `1 / (1 + e⁻ˣ)`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let far = 1.0 - 2.0 / (exp(2.0 * size) + 1.0);
    let square = x * x;
    let p = square.mul_add(62.0 / 2835.0, -17.0 / 315.0);
    let p = square.mul_add(p, 2.0 / 15.0);
    let p = square.mul_add(p, -1.0 / 3.0);
    let near = x * square.mul_add(p, 1.0);
    if size < 0.25 { near } else { far.copysign(x) }
}

/// The error function.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    // Taylor's series below 1: Σ (-1)ⁿ x²ⁿ⁺¹ / (n! (2n + 1)), times 2 / √π. Written out: loops over
    // constants keep the compiler from making vectors.
    let p = square.mul_add(1.0 / 76_204_800.0, -1.0 / 6_894_720.0);
    let p = square.mul_add(p, 1.0 / 685_440.0);
    let p = square.mul_add(p, -1.0 / 75_600.0);
    let p = square.mul_add(p, 1.0 / 9360.0);
    let p = square.mul_add(p, -1.0 / 1320.0);
    let p = square.mul_add(p, 1.0 / 216.0);
    let p = square.mul_add(p, -1.0 / 42.0);
    let p = square.mul_add(p, 0.1);
    let p = square.mul_add(p, -1.0 / 3.0);
    let p = square.mul_add(p, 1.0);
    let near = x * p * std::f32::consts::FRAC_2_SQRT_PI;
    // Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.
    let t = 1.0 / size.mul_add(0.327_591_1, 1.0);
    let q = t.mul_add(1.061_405_4, -1.453_152);
    let q = t.mul_add(q, 1.421_413_7);
    let q = t.mul_add(q, -0.284_496_74);
    let q = t.mul_add(q, 0.254_829_6) * t;
    let far = (1.0 - q * exp(-square)).copysign(x);
    if size < 1.0 { near } else { far }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(limit: f32, check: impl Fn(f32)) {
        (-400_000..=400_000).for_each(|i| check(limit * i as f32 / 400_000.0));
    }

    #[test]
    fn functions_are_within_their_bounds() {
        sweep(90.0, |x| {
            let want = libm::exp(f64::from(x));
            let bound = if x < -86.5 { 3e-38 } else { want * 2.0 * f64::from(f32::EPSILON) };
            let got = f64::from(exp(x));
            let over = want > f64::from(f32::MAX) && got.is_infinite();
            assert!((got - want).abs() <= bound || over, "{x} {got} {want}");
        });
        sweep(12.0, |x| {
            let far = f64::from(x);
            let close = |got: f32, want: f64, bound: f64| {
                assert!((f64::from(got) - want).abs() <= bound, "{x} {got} {want}");
            };
            close(tanh(x), libm::tanh(far), 3e-7);
            close(erf(x), libm::erf(far), 4e-7);
            close(sigmoid(x), 1.0 / (1.0 + libm::exp(-far)), 3e-7);
        });
    }

    #[test]
    fn what_is_no_number_stays_none_and_ends_are_reached() {
        for f in [exp, tanh, erf, sigmoid] {
            assert!(f(f32::NAN).is_nan());
        }
        assert_eq!((exp(f32::INFINITY), exp(f32::NEG_INFINITY)), (f32::INFINITY, 0.0));
        assert_eq!((tanh(f32::INFINITY), tanh(f32::NEG_INFINITY)), (1.0, -1.0));
        assert_eq!((sigmoid(f32::INFINITY), sigmoid(f32::NEG_INFINITY)), (1.0, 0.0));
        assert_eq!((tanh(-0.0).is_sign_negative(), exp(0.0)), (true, 1.0));
    }
}
