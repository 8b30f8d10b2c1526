//! What an attacker computes from what it got: uniform or not, close or not.

/// Whether these words of `bits` bits look like anything but uniform ones: χ² over their first four
/// bits, 15 degrees of freedom, beyond what one in a million uniform rows shows.
pub(crate) fn is_not_uniform(words: &[u64], bits: u32) -> Option<f64> {
    let mut counts = [0u32; 16];
    for word in words {
        counts[usize::try_from(word >> (bits - 4) & 15).unwrap()] += 1;
    }
    let expected = words.len() as f64 / 16.0;
    let chi2: f64 = counts.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
    (chi2 > 56.5).then_some(chi2)
}

/// The difference of two words modulo 2^bits, nearest to zero.
pub(crate) fn difference(a: u64, b: u64, bits: u32) -> i64 {
    let left = 64 - bits;
    (a.wrapping_sub(b) << left).cast_signed() >> left
}
