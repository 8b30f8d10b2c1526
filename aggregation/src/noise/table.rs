//! The base law's cumulative table: the discrete Gaussian of variance 16 in 80-bit fixed point,
//! computed by the compiler from its definition.
//!
//! Not a sampler (`sampler`), and never a table of any other variance: larger ones are made of
//! this one. Start at [`THRESHOLDS`].

/// Bits of a threshold.
pub(super) const BITS: usize = 80;

/// The base law's variance.
pub(super) const VARIANCE: u32 = 16;

/// How many thresholds are below 2^80: the largest magnitude that is ever drawn.
pub(super) const LEN: usize = ALL.1;

/// Entry i is ⌈2^80 · P(|Y| ≤ i)⌉ for Y with P(Y = k) ∝ exp(-k² / 32): the magnitude of a draw is
/// the number of thresholds that an 80-bit random number reaches.
///
/// Rounding up makes the magnitude stochastically smaller than the exact law's, never larger. So
/// E exp(t·Y) ≤ exp(8 t²) holds for the drawn law as for the exact one, where it is
/// exp(8 t²) · Σ exp(-(k - 16t)² / 32) / Σ exp(-k² / 32), and whole shifts make that sum largest. Each threshold is off by less than 2^-80, so the drawn law's distance in total variation is
/// less than (41 + 2) / 2 · 2^-80 < 2^-75.
pub(super) const THRESHOLDS: [u128; LEN] = {
    let mut thresholds = [0; LEN];
    let mut i = 0;
    while i < LEN {
        thresholds[i] = ALL.0[i];
        i += 1;
    }
    thresholds
};

/// Magnitudes looked at; the thresholds reach 2^80 before.
const ROOM: usize = 64;

const ALL: ([u128; ROOM], usize) = {
    let mut weights = [0; ROOM];
    // exp(-(i+1)²/32) = exp(-i²/32) · exp(-(2i+1)/32)
    let unit = exp_minus_one_over(2 * VARIANCE as u128);
    let (mut weight, mut ratio) = (ONE, unit);
    let mut total = 0;
    let mut i = 0;
    while i < ROOM {
        weights[i] = if i == 0 { weight } else { 2 * weight };
        total += weights[i];
        weight = product(weight, ratio);
        ratio = product(ratio, product(unit, unit));
        i += 1;
    }
    let mut thresholds = [0; ROOM];
    let mut sum = 0;
    i = 0;
    while i < ROOM {
        sum += weights[i];
        let threshold = if sum < total { fraction_up(sum, total) } else { 1 << BITS };
        if threshold >> BITS != 0 {
            break;
        }
        thresholds[i] = threshold;
        i += 1;
    }
    (thresholds, i)
};

/// 1 in fixed point.
const ONE: u128 = 1 << 120;

/// The product of two numbers of at most 1, rounded down.
const fn product(a: u128, b: u128) -> u128 {
    const LOW: u128 = (1 << 60) - 1;
    let (a_high, a_low, b_high, b_low) = (a >> 60, a & LOW, b >> 60, b & LOW);
    a_high * b_high + ((a_high * b_low + a_low * b_high + ((a_low * b_low) >> 60)) >> 60)
}

/// exp(-1/x) by its series.
const fn exp_minus_one_over(x: u128) -> u128 {
    let (mut sum, mut term, mut n) = (ONE, ONE, 1);
    while term > 0 {
        term = term / x / n;
        if n % 2 == 1 {
            sum -= term;
        } else {
            sum += term;
        }
        n += 1;
    }
    sum
}

/// ⌈2^80 · part / whole⌉ for part < whole < 2^127.
const fn fraction_up(part: u128, whole: u128) -> u128 {
    let (mut rest, mut quotient, mut bit) = (part, 0, 0);
    while bit < BITS {
        rest <<= 1;
        quotient <<= 1;
        if rest >= whole {
            rest -= whole;
            quotient += 1;
        }
        bit += 1;
    }
    quotient + (rest > 0) as u128
}

/// How many of a threshold's highest bits are ones.
pub(super) const fn leading_ones(threshold: u128) -> usize {
    (threshold << (u128::BITS as usize - BITS)).leading_ones() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_those_of_exact_arithmetic() {
        // By mpmath 1.3 with 400 bits: ceil(2**80 * sum(exp(-k²/32) for |k| <= i) / sum over all k).
        let known = [
            (0, 120_572_905_828_307_803_377_612),
            (1, 354_299_440_840_672_625_652_936),
            (10, 1_198_659_415_532_745_992_023_545),
            (39, 1_208_925_819_614_629_174_706_126),
            (40, 1_208_925_819_614_629_174_706_173),
        ];
        assert_eq!(LEN, 41);
        for (i, threshold) in known {
            assert_eq!(THRESHOLDS[i], threshold, "{i}");
        }
        assert!(THRESHOLDS.is_sorted());
        assert_eq!(leading_ones(THRESHOLDS[0]), 0);
        assert_eq!(leading_ones((1 << BITS) - 2), BITS - 1);
    }
}
