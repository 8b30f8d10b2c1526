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
