//! The drawn law against the exact one: probabilities by convolution, draws by chi-square.

use proptest::prelude::*;

use super::sampler::coefficients;
use super::*;

/// The discrete Gaussian of that variance at k.
fn exact(variance: f64, k: i64) -> f64 {
    // Above a variance of 16 the sum over all whole numbers is the integral but for 2^-450.
    (-(k * k) as f64 / (2.0 * variance)).exp() / (2.0 * std::f64::consts::PI * variance).sqrt()
}

fn draws(units: u64, n: usize) -> Vec<i32> {
    let mut out = vec![0; n];
    draw(NoisePlan { units }, [7; 32], 0, &mut out);
    out
}

#[test]
fn draws_follow_the_exact_law() {
    let n = 1_000_000;
    for units in [1u64, 2, 7, 100, 65_536, 1 << 30] {
        let variance = units as f64 * BASE_VARIANCE;
        // Cells of one number each, or of the size that gives some 50 of them.
        let deviation = (units * 16).isqrt().cast_signed();
        let width = (deviation / 6).max(1);
        let reach = 7 * deviation / 2 / width;
        let cells = 2 * reach + 1;
        let mut counts = vec![0u32; usize::try_from(cells + 2).unwrap()];
        for x in draws(units, n) {
            let cell = (i64::from(x) + width / 2).div_euclid(width).clamp(-reach - 1, reach + 1);
            counts[usize::try_from(cell + reach + 1).unwrap()] += 1;
        }
        let probability = |cell: i64| -> f64 {
            let first = cell * width - width / 2;
            // By Simpson's rule where the cell is wide, or else exactly.
            if width < 1000 {
                return (first..first + width).map(|k| exact(variance, k)).sum();
            }
            let step = width / 100;
            let (low, rest) = (first as f64 - 0.5, width - 100 * step);
            let h = (width - rest) as f64 / 100.0 + rest as f64 / 100.0;
            let at = |i: u32| {
                let x = low + f64::from(i) * h;
                (-x * x / (2.0 * variance)).exp() / (2.0 * std::f64::consts::PI * variance).sqrt()
            };
            let weight = |i| if i == 0 || i == 100 { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
            (0..=100).map(|i| weight(i) * at(i)).sum::<f64>() * h / 3.0
        };
        let mut probabilities: Vec<f64> = (-reach..=reach).map(probability).collect();
        let tail = (1.0 - probabilities.iter().sum::<f64>()) / 2.0;
        probabilities.insert(0, tail);
        probabilities.push(tail);
        let chi2: f64 = counts
            .iter()
            .zip(&probabilities)
            .map(|(&count, p)| (f64::from(count) - p * n as f64).powi(2) / (p * n as f64))
            .sum();
        let freedom = (cells + 1) as f64;
        let z = (chi2 - freedom) / (2.0 * freedom).sqrt();
        assert!(z.abs() < 4.0, "{units} units: chi-square {chi2} of {freedom}");
    }
}

#[test]
fn moments_and_tails_are_the_exact_law_s() {
    let n = 1_000_000;
    for units in [1, 7, 1000, 1 << 20, UNITS_MAX] {
        let deviation = (units as f64 * BASE_VARIANCE).sqrt();
        let xs: Vec<f64> = draws(units, n).into_iter().map(|x| f64::from(x) / deviation).collect();
        let moment = |power| xs.iter().map(|x| x.powi(power)).sum::<f64>() / n as f64;
        assert!(moment(1).abs() < 0.005, "{units}: mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.007, "{units}: variance {}", moment(2));
        assert!(moment(3).abs() < 0.02, "{units}: third moment {}", moment(3));
        assert!((moment(4) - 3.0).abs() < 0.05, "{units}: fourth moment {}", moment(4));
        // Beyond 4 deviations: 63 of a million by the normal law, 50 to 83 with the whole numbers.
        let beyond = xs.iter().filter(|x| x.abs() > 4.0).count();
        assert!((25..120).contains(&beyond), "{units}: {beyond} beyond 4");
        assert!(xs.iter().all(|x| x.abs() < 7.0));
    }
}

#[test]
fn sums_of_base_draws_have_the_probabilities_that_are_claimed() {
    // The base law as the table has it, convolved with doubles.
    let mut base = vec![0.0; 2 * table::LEN + 1];
    let mut below = 0;
    for i in 0..=table::LEN {
        let reached = table::THRESHOLDS.get(i).copied().unwrap_or(1 << 80);
        let both = (reached - below) as f64 / 2f64.powi(80);
        let p = if i == 0 { both } else { both / 2.0 };
        (base[table::LEN - i], base[table::LEN + i]) = (p, p);
        below = reached;
    }
    for units in [1, 2, 3, 6, 7, 43, 300] {
        let mut law = vec![1.0];
        for c in coefficients(units) {
            let c = usize::try_from(c).unwrap();
            let mut wider = vec![0.0; law.len() + c * (base.len() - 1)];
            for (i, p) in law.iter().enumerate() {
                for (j, q) in base.iter().enumerate() {
                    wider[i + c * j] += p * q;
                }
            }
            law = wider;
        }
        let middle = i64::try_from(law.len() / 2).unwrap();
        let variance = units as f64 * BASE_VARIANCE;
        for (i, p) in law.iter().enumerate() {
            let claimed = exact(variance, i64::try_from(i).unwrap() - middle);
            assert!((p - claimed).abs() < 1e-15, "{units} units at {i}: {p} for {claimed}");
            if claimed > 1e-3 / variance {
                assert!((p / claimed - 1.0).abs() < 1e-12, "{units} units at {i}");
            }
        }
    }
}

#[test]
fn a_coefficient_too_large_would_be_seen() {
    // What the condition on c² guards against: with c = 40 the sum is no discrete Gaussian.
    let law =
        |z: i64| -> f64 { (-41..=41).map(|y| exact(16.0, y) * exact(16.0, z - 40 * y)).sum() };
    let variance = 16.0 * 1601.0;
    assert!((law(20) / exact(variance, 20) - 1.0).abs() > 0.5);
}

#[test]
fn draws_are_the_same_however_they_are_cut() {
    for units in [1, 1 << 20] {
        let plan = NoisePlan { units };
        let whole = draws(units, 5_000);
        for cut in [1, 1000, 1024, 3000] {
            let mut got = vec![0; 5_000];
            for (i, part) in got.chunks_mut(cut).enumerate() {
                draw(plan, [7; 32], (i * cut) as u64, part);
            }
            assert!(got == whole, "{units} {cut}");
        }
        let mut other = vec![0; 5_000];
        draw(plan, [8; 32], 0, &mut other);
        let same = other.iter().zip(&whole).filter(|(a, b)| a == b).count();
        assert!(same < 500, "another seed, other noise: {same} alike");
    }
}

#[test]
fn neighbours_and_batches_do_not_hang_together() {
    let xs: Vec<f64> = draws(7, 1 << 20).into_iter().map(f64::from).collect();
    let variance = 7.0 * BASE_VARIANCE;
    for lag in [1, 8, 64, 512, 1024, 2048] {
        let products = xs.iter().zip(&xs[lag..]).map(|(x, y)| x * y).sum::<f64>();
        let correlation = products / (xs.len() - lag) as f64 / variance;
        assert!(correlation.abs() < 0.005, "{lag}: {correlation}");
    }
}

#[test]
fn shares_are_planned_for_the_fewest_survivors() {
    // 20 sites, a quorum of 14, of which 4 may collude: ten are counted on.
    let honest = 14 - 4;
    let target = 1e6;
    let plan = NoisePlan::share(target, honest).unwrap();
    assert!(f64::from(honest) * plan.variance() >= target);
    assert!(plan.variance() < target / f64::from(honest) + BASE_VARIANCE);
    assert_eq!(NoisePlan::share(target, 0), Err(NoiseError::Survivors));
    assert_eq!(NoisePlan::at_least(0.1).unwrap().variance(), BASE_VARIANCE);
    assert_eq!(NoisePlan::at_least(VARIANCE_MAX).unwrap().units(), UNITS_MAX);
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 2.0 * VARIANCE_MAX] {
        assert_eq!(NoisePlan::at_least(bad), Err(NoiseError::Variance), "{bad}");
    }
    assert!(NoisePlan::from_units(0).is_none() && NoisePlan::from_units(UNITS_MAX + 1).is_none());
}

proptest! {
    #[test]
    fn coefficients_are_as_the_proof_asks(bits in 0u32..=44, low: u64) {
        let units = (1 << bits) + (low & ((1 << bits) - 1));
        let units = units.min(UNITS_MAX);
        let found = coefficients(units);
        prop_assert!(found.len() < 32 && found.last() == Some(&1));
        let mut sum: u64 = 0;
        for c in found.iter().rev().map(|&c| u64::try_from(c).unwrap()) {
            prop_assert!(sum == 0 || c * c <= 6 * sum, "{units}: {c}");
            sum += c * c;
        }
        prop_assert_eq!(sum, units);
        let reach: i64 = found.iter().map(|&c| i64::from(c) * table::LEN as i64).sum();
        prop_assert!(i32::try_from(reach).is_ok());
    }
}
