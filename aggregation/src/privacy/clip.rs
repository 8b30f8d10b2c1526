//! The clip of a round where it follows the contributions: from what earlier rounds opened alone, the
//! same bits for everybody.
//!
//! No privacy hangs on it. What is opened, the noised share of contributions that were not clipped, is
//! one entry of the same noised vector, and is accounted with it; what the noise is measured in is the
//! clip. Whoever lies about the shares makes the model worse and learns nothing more. Start at
//! [`after`].

/// The clip after rounds that opened these shares of contributions that were not clipped, in order:
/// `initial` times exp(-rate · (share - quantile)) for each of them (Andrew et al. 2021, 1905.03871,
/// section 2), after each round within a factor of [`SPAN`] of `initial`.
///
/// None for a share that is not in [`SHARES`], which no honest coordinator opens: see [`share`].
///
/// ```
/// use koinon_aggregation::privacy::clip::after;
///
/// assert_eq!(after(2.0, 0.5, 0.2, &[]), Some(2.0));
/// let grown = after(2.0, 0.5, 0.2, &[0.0]).unwrap();
/// assert!((grown / (2.0 * 0.1f64.exp()) - 1.0).abs() < 1e-15);
/// assert_eq!(after(2.0, 0.5, 0.2, &[f64::NAN]), None);
/// ```
#[must_use]
pub fn after(initial: f64, quantile: f64, rate: f64, shares: &[f64]) -> Option<f64> {
    trail(initial, quantile, rate, shares).and_then(|clips| clips.last().copied())
}

/// The clips of all rounds up to the one [`after`] the last share, one more than there are shares.
#[must_use]
pub fn trail(initial: f64, quantile: f64, rate: f64, shares: &[f64]) -> Option<Vec<f64>> {
    let mut clips = vec![initial];
    let mut clip = initial;
    for share in shares {
        if !SHARES.contains(share) {
            return None;
        }
        // Software, and so the same on every machine; the rest is exact to the last bit by IEEE 754.
        let moved = clip * libm::exp(-rate * (share - quantile));
        clip = moved.clamp(initial / SPAN, initial * SPAN);
        clips.push(clip);
    }
    Some(clips)
}

/// The share that a noised sum tells: of each contribution 1 - quantile if it was not clipped and
/// -quantile if it was, over `contributions`, expected or counted. Noise may carry it beyond 0 and 1,
/// and is cut off at the ends of [`SHARES`].
///
/// Counted from the quantile, a wrong number of expected contributions makes the clip slower or
/// faster, and leaves it where it should be.
#[must_use]
pub fn share(quantile: f64, sum: f64, contributions: f64) -> f64 {
    (quantile + sum / contributions).clamp(*SHARES.start(), *SHARES.end())
}

/// How far a clip moves from where it began, as a factor up and down.
pub const SPAN: f64 = 1024.0;

/// What a noised share may be.
pub const SHARES: std::ops::RangeInclusive<f64> = -1.0..=2.0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Within a unit in the last place of what the formula gives in 50 digits, and the same bits on
    /// every machine.
    #[test]
    fn the_known_clip() {
        let got = after(0.5, 0.5, 0.2, &[0.9, 0.8, 0.35, -0.25, 1.5]).unwrap();
        let known = 0.5 * (-0.2f64 * (0.4 + 0.3 - 0.15 - 0.75 + 1.0)).exp();
        assert!((got / known - 1.0).abs() < 1e-15, "{got} {known}");
        assert_eq!(got.to_bits(), 0.426_071_894_483_105_6_f64.to_bits(), "{got:?}");
    }

    #[test]
    fn it_stays_within_its_span_and_comes_back() {
        let low = after(1.0, 0.5, 1.0, &[2.0; 20]).unwrap();
        let high = after(1.0, 0.5, 1.0, &[-1.0; 20]).unwrap();
        assert_eq!((low, high), (1.0 / SPAN, SPAN));
        let shares: Vec<f64> = [2.0; 20].into_iter().chain([0.0; 4]).collect();
        let back = after(1.0, 0.5, 1.0, &shares).unwrap();
        assert!((back * SPAN / 2f64.exp() - 1.0).abs() < 1e-12, "{back}");
    }

    #[test]
    fn it_settles_at_the_quantile() {
        // Norms 1 to 1000 evenly: the share below a clip is the clip over 1000.
        for (quantile, expected) in [(0.5, 1000.0), (0.9, 700.0), (0.3, 1600.0)] {
            let mut shares = Vec::new();
            for _ in 0..400 {
                let clip = after(10.0, quantile, 0.2, &shares).unwrap();
                let whole = (clip / 1000.0).min(1.0);
                shares.push(share(quantile, 1000.0 * (whole - quantile), expected));
            }
            let clip = after(10.0, quantile, 0.2, &shares).unwrap();
            assert!((clip / (1000.0 * quantile) - 1.0).abs() < 0.01, "{quantile}: {clip}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_told_a_round_moves_it_by_little(
            initial in 1e-6..1e3f64,
            rate in 0.001..1.0f64,
            quantile in 0.01..0.99f64,
            shares in prop::collection::vec(-1.5..2.5f64, 0..20),
        ) {
            let told = shares.iter().all(|share| SHARES.contains(share));
            let clip = after(initial, quantile, rate, &shares);
            prop_assert_eq!(clip.is_some(), told);
            for n in 1..=shares.len() {
                let step = |n| after(initial, quantile, rate, &shares[..n]);
                if let (Some(before), Some(now)) = (step(n - 1), step(n)) {
                    prop_assert!((now / before).ln().abs() <= 2.0 * rate + 1e-12);
                    prop_assert!(now >= initial / SPAN && now <= initial * SPAN);
                }
            }
        }
    }
}
