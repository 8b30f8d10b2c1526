//! Special functions in log space. Everything goes through `libm`, so that two machines agree on
//! an epsilon; nothing here knows about privacy.

/// log(e^a + e^b).
pub(super) fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + libm::log1p(libm::exp(low - high)) }
}

/// log of |n choose k| for real n, by the gamma function.
pub(super) fn log_binomial(n: f64, k: f64) -> f64 {
    libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0)
}

/// log(erfc(x)), also where erfc(x) is below the smallest double.
pub(super) fn log_erfc(x: f64) -> f64 {
    if x < 20.0 {
        return libm::log(libm::erfc(x));
    }
    // The asymptotic series erfc(x) = e^{-x²} / (x √π) · Σ (−1)^k (2k−1)!! / (2x²)^k (Abramowitz
    // and Stegun 7.1.23); from 20 on its eighth term is below 1e-18.
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..8 {
        term *= -f64::from(2 * k - 1) / (2.0 * x * x);
        sum += term;
    }
    -x * x - libm::log(x * std::f64::consts::PI.sqrt()) + libm::log(sum)
}

/// Mass of the standard normal law above x, and below −x.
pub(super) fn normal_above(x: f64) -> f64 {
    0.5 * libm::erfc(x * std::f64::consts::FRAC_1_SQRT_2)
}

/// Mass of the standard normal law in (a, b), computed in the tail that is nearer, so that it
/// keeps its relative precision. Either end may be infinite.
pub(super) fn normal_between(a: f64, b: f64) -> f64 {
    if a >= 0.0 {
        normal_above(a) - normal_above(b)
    } else if b <= 0.0 {
        normal_above(-b) - normal_above(-a)
    } else {
        1.0 - normal_above(-a) - normal_above(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-13 * b.abs().max(1.0)
    }

    #[test]
    fn logs_of_special_functions_have_known_values() {
        assert!(near(log_add(0.0, 0.0), std::f64::consts::LN_2));
        assert_eq!(log_add(f64::NEG_INFINITY, -3.0), -3.0);
        assert!(near(log_binomial(10.0, 3.0), 120f64.ln()));
        // |2.5 choose 5| = 2.5 · 1.5 · 0.5 · 0.5 · 1.5 / 120
        assert!(near(log_binomial(2.5, 5.0), (1.40625f64 / 120.0).ln()));
        // erfc(30) = 2.564656203756112e-393 (mpmath)
        assert!(near(log_erfc(30.0), 2.564_656_203_756_112f64.ln() - 393.0 * 10f64.ln()));
        assert!(near(log_erfc(20.0), libm::log(libm::erfc(20.0))));
        assert!(near(log_erfc(-5.0), libm::log(libm::erfc(-5.0))));
    }

    #[test]
    fn normal_mass_adds_up_and_keeps_its_tail() {
        let whole = normal_between(f64::NEG_INFINITY, -1.0)
            + normal_between(-1.0, 2.0)
            + normal_between(2.0, f64::INFINITY);
        assert!(near(whole, 1.0));
        let tail = normal_between(10.0, 11.0);
        assert!((tail / 7.619_661_958_203_048e-24 - 1.0).abs() < 1e-12);
        assert_eq!(normal_between(-11.0, -10.0), tail);
    }
}
