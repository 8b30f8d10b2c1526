//! The privacy-loss distribution of the Poisson-sampled Gaussian mechanism: an epsilon that is
//! tight where the Rényi bound gives some 10 % away, and never below the truth.
//!
//! The loss of one step is put on an even grid so that it dominates the true one (module `loss`),
//! composed with itself by a fast Fourier transform (module `compose`), and epsilon read off its
//! tail. Both directions, a unit more and a unit less, are computed; the larger counts. Not here:
//! the integer mechanism that really runs, for which the accountant's Rényi curves stand. Start
//! with [`epsilon`].

mod compose;
mod loss;

use loss::{Direction, Loss};

/// Mass of the tails of one step that is counted as infinite loss, in parts of delta per step.
const TAIL_PART: f64 = 1e-6;

/// More steps than this are not computed.
const STEPS_MAX: u64 = 100_000_000;

/// Epsilon at `delta` of `steps` releases of the Gaussian mechanism, each on a Poisson sample.
///
/// `sampling_rate` in (0, 1]; `noise_multiplier` above 0 is the standard deviation of the noise
/// over the L2 sensitivity; `delta` in (0, 1). Never below the truth, at most 1 % above it (some
/// 0.1 % as a rule). Infinity for anything
/// else, for next to no noise (below 0.01) and for more than 10^8 steps.
pub fn epsilon(sampling_rate: f64, noise_multiplier: f64, steps: u64, delta: f64) -> f64 {
    let sound = sampling_rate > 0.0
        && sampling_rate <= 1.0
        && (1e-2..=1e6).contains(&noise_multiplier)
        && delta > 1e-100
        && delta < 1.0
        && steps <= STEPS_MAX;
    if !sound {
        return f64::INFINITY;
    }
    if steps == 0 {
        return 0.0;
    }
    let tail = delta * TAIL_PART / steps as f64;
    let of = |direction| {
        let loss = Loss::new(sampling_rate, noise_multiplier, direction);
        let mut width = loss.width();
        loop {
            if let Some(found) = compose::epsilon(&loss.on_grid(tail, width), steps, delta) {
                return found;
            }
            width *= 2.0;
        }
    };
    if sampling_rate == 1.0 {
        // The two directions mirror each other.
        return of(Direction::Less);
    }
    of(Direction::Less).max(of(Direction::More))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::{Accountant, Noise, Step};
    use proptest::prelude::*;

    /// Delta of the Gaussian mechanism whose sensitivity is `mu` deviations (Balle and Wang 2018,
    /// arXiv:1805.06530, Theorem 8).
    fn gaussian_delta(mu: f64, epsilon: f64) -> f64 {
        let above = |x: f64| super::super::numeric::normal_above(x);
        above(epsilon / mu - mu / 2.0) - libm::exp(epsilon) * above(epsilon / mu + mu / 2.0)
    }

    #[test]
    fn what_has_no_distribution_is_bounded_by_nothing() {
        for (q, z, delta) in [
            (0.0, 1.0, 1e-5),
            (1.5, 1.0, 1e-5),
            (f64::NAN, 1.0, 1e-5),
            (0.1, 0.0, 1e-5),
            (0.1, -1.0, 1e-5),
            (0.1, f64::NAN, 1e-5),
            (0.1, f64::INFINITY, 1e-5),
            (0.1, 1.0, 0.0),
            (0.1, 1.0, 1.0),
            (0.1, 1.0, f64::NAN),
        ] {
            assert_eq!(epsilon(q, z, 10, delta), f64::INFINITY, "{q} {z} {delta}");
        }
        assert_eq!(epsilon(0.1, 1.0, u64::MAX, 1e-5), f64::INFINITY);
        assert_eq!(epsilon(0.1, 1.0, 0, 1e-5), 0.0);
    }

    #[test]
    fn a_large_delta_or_hardly_a_step_costs_nothing() {
        assert_eq!(epsilon(0.01, 10.0, 1, 0.01), 0.0);
        assert_eq!(epsilon(1.0, 1000.0, 1, 1e-3), 0.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn without_sampling_it_is_just_above_the_closed_form(
            log_mu in -2.0f64..3.0, steps in 1u64..10_000, log_delta in -60.0f64..-1.0,
        ) {
            let (mu, delta) = (log_mu.exp(), log_delta.exp());
            let z = (steps as f64).sqrt() / mu;
            let found = epsilon(1.0, z, steps, delta);
            prop_assert!(gaussian_delta(mu, found) <= delta * (1.0 + 1e-9));
            let less = found * 0.99 - 1e-9;
            prop_assert!(found == 0.0 || gaussian_delta(mu, less) > delta, "{found}");
        }

        #[test]
        fn it_is_below_the_renyi_bound_and_falls_with_sampling(
            log_q in -7.0f64..0.0, log_z in -1.0f64..4.0, log2_steps in 0u32..12,
            log_delta in -25.0f64..-5.0,
        ) {
            let (q, z, delta) = (log_q.exp(), log_z.exp(), log_delta.exp());
            let steps = 1u64 << log2_steps;
            let found = epsilon(q, z, steps, delta);
            prop_assert!(found.is_finite() && found >= 0.0);
            let mut accountant = Accountant::new();
            let noise = Noise::Gaussian;
            let step = Step { sampling_rate: q, noise_multiplier: z, l2: 1.0, l1: 1.0, noise };
            accountant.add(&step, steps);
            let bound = accountant.epsilon(delta);
            prop_assert!(found <= bound * 1.01 + 1e-6, "{found} above {bound}");
            prop_assert!(found <= epsilon(1.0, z, steps, delta) * 1.01);
        }
    }
}
