//! How far one record moves a sum of *integers*: what the accountant sets against the noise.
//!
//! Clipping bounds real numbers; what is summed was scaled and rounded. Not a bound on what a lying
//! site puts in. Start at [`sensitivity`].

/// The largest distance between the encoded integers with and without one record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sensitivity {
    /// In the L1 norm, in units of the encoded integers.
    pub l1: f64,
    /// In the L2 norm, in units of the encoded integers.
    pub l2: f64,
}

/// The sensitivity of a field of `dimension` entries to adding or removing one record whose own
/// vector has an L2 norm of at most `clip`, with weight 1 and the scale 2^`frac_bits`.
///
/// A site sums the vectors of its records and rounds the sum once. Given the random bits of the
/// rounding, which do not depend on the records, an entry that moves by v before moves by at most
/// |v| + 1 after. So L2 ≤ clip · 2^f + √d, and L1 ≤ √d · L2. Replacing a record counts as twice
/// this. With a record for each site, the unit is the site.
///
/// The plan's own clips enlarge nothing: scaling to an L2 norm and clamping entries are projections
/// onto convex sets, and those bring no two points further apart. The records' vectors must be
/// summed, and the sum handed over, in double precision: a sum in single precision has steps of its
/// own of up to 2^-24 of each entry.
#[must_use]
pub fn sensitivity(clip: f64, frac_bits: i8, dimension: usize) -> Sensitivity {
    let root = (dimension as f64).sqrt();
    // The margin covers sums and norms in double precision.
    let l2 = (clip * f64::from(frac_bits).exp2() + root) * (1.0 + 2f64.powi(-30));
    Sensitivity { l1: root * l2, l2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaled_and_rounded_once() {
        let Sensitivity { l1, l2 } = sensitivity(0.5, 10, 256);
        assert!((l2 - 528.0).abs() < 1e-6 && (l1 - 16.0 * 528.0).abs() < 1e-4, "{l1} {l2}");
        assert!(l2 > 528.0, "never below");
    }
}
