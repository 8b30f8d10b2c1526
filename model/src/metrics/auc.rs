//! The exact area under the ROC curve, with DeLong's interval, for one model or for two on the
//! same rows.
//!
//! AUC is the probability that a positive row scores higher than a negative one, ties counting one
//! half (Mann and Whitney 1947). Variances: DeLong, DeLong and Clarke-Pearson 1988, computed from
//! mid-ranks as in Sun and Xu 2014, in O(n log n). The interval is deterministic: no bootstrap, no
//! seed.
//!
//! Not for scores that are NaN: such rows make every answer none.

/// AUC with a 95 % interval, each in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Exact AUC; `y` above one half is positive.
///
/// None when a class is absent, lengths differ or a score is NaN.
///
/// ```
/// use koinon_model::metrics::auc::auc;
/// assert_eq!(auc(&[0.1, 0.4, 0.4, 0.8], &[0.0, 0.0, 1.0, 1.0]), Some(0.875));
/// ```
#[must_use]
pub fn auc(scores: &[f32], y: &[f32]) -> Option<f64> {
    Some(Placements::of(scores, y)?.auc)
}

/// Exact AUC with DeLong's 95 % interval on the logit scale, so that it stays within [0, 1] and is
/// not falsely narrow near the ends.
///
/// None as for [`auc`]. With a single positive or negative row, or no spread at all, the interval
/// is the widest there is: [0, 1].
#[must_use]
pub fn auc_interval(scores: &[f32], y: &[f32]) -> Option<Interval> {
    let placements = Placements::of(scores, y)?;
    let value = placements.auc;
    let Some(variance) = placements.covariance(&placements) else {
        return Some(Interval { value, low: 0.0, high: 1.0 });
    };
    let spread = value * (1.0 - value);
    if variance <= 0.0 || spread <= 0.0 {
        return Some(Interval { value, low: 0.0, high: 1.0 });
    }
    let centre = (value / (1.0 - value)).ln();
    let half = Z_95 * variance.sqrt() / spread;
    Some(Interval { value, low: sigmoid(centre - half), high: sigmoid(centre + half) })
}

/// AUC of `a` less AUC of `b` on the same rows, with DeLong's paired 95 % interval.
///
/// None as for [`auc`], or when a class has a single row.
#[must_use]
pub fn auc_difference(a: &[f32], b: &[f32], y: &[f32]) -> Option<Interval> {
    let (a, b) = (Placements::of(a, y)?, Placements::of(b, y)?);
    let variance = a.covariance(&a)? + b.covariance(&b)? - 2.0 * a.covariance(&b)?;
    let value = a.auc - b.auc;
    let half = Z_95 * variance.max(0.0).sqrt();
    Some(Interval { value, low: (value - half).max(-1.0), high: (value + half).min(1.0) })
}

/// For every row, the share of the other class that it beats (Sun and Xu 2014, section III).
struct Placements {
    positives: Vec<f64>,
    negatives: Vec<f64>,
    auc: f64,
}

impl Placements {
    fn of(scores: &[f32], y: &[f32]) -> Option<Self> {
        if scores.len() != y.len() || scores.iter().any(|score| score.is_nan()) {
            return None;
        }
        let class = |positive: bool| -> Vec<f32> {
            let rows = scores.iter().zip(y).filter(|&(_, &y)| (y > 0.5) == positive);
            rows.map(|(&score, _)| score).collect()
        };
        let (positive, negative) = (class(true), class(false));
        if positive.is_empty() || negative.is_empty() {
            return None;
        }
        let (m, n) = (positive.len() as f64, negative.len() as f64);
        let all = mid_ranks(scores);
        let of_class = |positive: bool| {
            all.iter().zip(y).filter(move |&(_, &y)| (y > 0.5) == positive).map(|(&rank, _)| rank)
        };
        let positives: Vec<f64> = of_class(true)
            .zip(mid_ranks(&positive))
            .map(|(among_all, among_own)| (among_all - among_own) / n)
            .collect();
        let negatives: Vec<f64> = of_class(false)
            .zip(mid_ranks(&negative))
            .map(|(among_all, among_own)| 1.0 - (among_all - among_own) / m)
            .collect();
        let auc = positives.iter().sum::<f64>() / m;
        Some(Self { positives, negatives, auc })
    }

    /// Covariance of two AUCs on the same rows; none when a class has a single row.
    fn covariance(&self, other: &Self) -> Option<f64> {
        let positive = covariance(&self.positives, &other.positives)?;
        let negative = covariance(&self.negatives, &other.negatives)?;
        Some(positive / self.positives.len() as f64 + negative / self.negatives.len() as f64)
    }
}

/// Rank of each value from 1, equal values sharing the middle of their ranks.
fn mid_ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    // Scores are not NaN; total_cmp parts -0 from 0, so ties are found by `==` below.
    order.sort_by(|&a, &b| (values[a] + 0.0).total_cmp(&(values[b] + 0.0)));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let value = values[order[start]];
        let ties = order[start..].iter().take_while(|&&row| values[row] == value).count();
        let rank = start as f64 + (ties as f64 + 1.0) / 2.0;
        for &row in &order[start..start + ties] {
            ranks[row] = rank;
        }
        start += ties;
    }
    ranks
}

fn covariance(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    if a.len() < 2 || a.len() != b.len() {
        return None;
    }
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let sum: f64 = a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum();
    Some(sum / (n - 1.0))
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// The normal distribution's 97.5 % quantile.
const Z_95: f64 = 1.959_963_984_540_054;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_pairs(scores: &[f32], y: &[f32]) -> Option<f64> {
        let (mut wins, mut pairs) = (0.0, 0.0);
        for (a, ya) in scores.iter().zip(y).filter(|&(_, &y)| y > 0.5) {
            for (b, _) in scores.iter().zip(y).filter(|&(_, &y)| y <= 0.5) {
                wins += if a > b { 1.0 } else { f64::from(u8::from(a == b)) / 2.0 };
                pairs += f64::from(*ya);
            }
        }
        (pairs > 0.0).then(|| wins / pairs)
    }

    proptest! {
        #[test]
        fn equals_counting_pairs(rows in prop::collection::vec((0u8..12, any::<bool>()), 0..60)) {
            let scores: Vec<f32> = rows.iter().map(|r| f32::from(r.0) / 7.0).collect();
            let y: Vec<f32> = rows.iter().map(|r| f32::from(u8::from(r.1))).collect();
            match (auc(&scores, &y), by_pairs(&scores, &y)) {
                (Some(fast), Some(slow)) => prop_assert!((fast - slow).abs() < 1e-12),
                (fast, slow) => prop_assert_eq!(fast, slow),
            }
            if let Some(interval) = auc_interval(&scores, &y) {
                prop_assert!(0.0 <= interval.low && interval.high <= 1.0);
                prop_assert!(interval.low <= interval.value && interval.value <= interval.high);
            }
        }
    }

    #[test]
    fn delong_by_hand() {
        // Positives 3, 1, 4; negatives 2, 0: placements 1, 1/2, 1 and 2/3, 1.
        let scores = [3.0, 1.0, 4.0, 2.0, 0.0];
        let y = [1.0, 1.0, 1.0, 0.0, 0.0];
        let placements = Placements::of(&scores, &y).unwrap();
        assert!((placements.auc - 5.0 / 6.0).abs() < 1e-12);
        let variance = placements.covariance(&placements).unwrap();
        assert!((variance - ((1.0 / 12.0) / 3.0 + (1.0 / 18.0) / 2.0)).abs() < 1e-12);
    }

    #[test]
    fn the_same_model_does_not_differ_from_itself() {
        let scores = [0.9, 0.2, 0.6, 0.5, 0.1, 0.7];
        let y = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0];
        let zero = auc_difference(&scores, &scores, &y).unwrap();
        assert_eq!((zero.value, zero.low, zero.high), (0.0, 0.0, 0.0));
        let flipped: Vec<f32> = scores.iter().map(|score| -score).collect();
        assert!(auc_difference(&scores, &flipped, &y).unwrap().value > 0.9);
    }

    #[test]
    fn one_class_or_nan_has_no_auc() {
        assert_eq!(auc(&[0.1, 0.2], &[1.0, 1.0]), None);
        assert_eq!(auc(&[f32::NAN, 0.2], &[1.0, 0.0]), None);
        assert_eq!(auc(&[0.1], &[1.0, 0.0]), None);
        let widest = auc_interval(&[0.9, 0.2], &[1.0, 0.0]).unwrap();
        assert_eq!((widest.low, widest.high), (0.0, 1.0));
    }

    #[test]
    fn negative_zero_ties_with_zero() {
        assert_eq!(auc(&[0.0, -0.0], &[1.0, 0.0]), Some(0.5));
    }

    /// The interval covers the true AUC of two shifted uniform distributions about 95 % of times.
    #[test]
    fn the_interval_covers() {
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let shift = 0.3f32;
        let truth = 1.0 - f64::from((1.0 - shift) * (1.0 - shift)) / 2.0;
        let covered = (0..400)
            .filter(|_| {
                let y: Vec<f32> = (0..80).map(|i| f32::from(u8::from(i % 4 == 0))).collect();
                let scores: Vec<f32> = y.iter().map(|y| uniform() + y * shift).collect();
                let interval = auc_interval(&scores, &y).unwrap();
                interval.low <= truth && truth <= interval.high
            })
            .count();
        assert!((368..=396).contains(&covered), "{covered} of 400");
    }
}
