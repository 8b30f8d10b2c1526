//! A grid of losses composed with itself, and the epsilon of its tail.
//!
//! The masses are tilted by exp(theta·loss) first, with theta chosen so that the sum's mean is
//! where epsilon must lie. The rounding of the transform, which is absolute, is then small beside
//! the masses that count, however small delta is; and the window that must be transformed is a few
//! standard deviations wide. What folds into the window from outside it, and a bound on the
//! rounding, only add mass; what lies above the window counts as infinite loss. So epsilon comes
//! out too large, never too small, for any theta. Start with [`epsilon`].

use rustfft::{FftPlannerScalar, num_complex::Complex64};

use super::loss::Grid;

/// Entries of a transform at most.
const WINDOW_MAX: f64 = 1_048_576.0;
/// −log of the tilted mass outside the window, on either side.
const LOG_TAIL: f64 = 16.0;

/// Tilts tried at most, each a quarter of the one before.
const TILTS_MAX: u32 = 8;

/// Epsilon at `delta` of `steps` independent losses; None if the window would not fit, and the
/// grid must be wider.
pub(super) fn epsilon(grid: &Grid, steps: u64, delta: f64) -> Option<f64> {
    let mut theta = grid.theta(steps as f64, delta);
    let mut least = f64::INFINITY;
    for _ in 0..TILTS_MAX {
        let composed = Composed::new(grid, steps, theta)?;
        let infinite = grid.infinite * steps as f64 + composed.above;
        let (epsilon, is_inside) = composed.epsilon(delta - infinite);
        least = least.min(epsilon);
        if is_inside {
            break;
        }
        // Heavy tails and a large delta: epsilon lies below the window. Tilt less.
        theta *= 0.25;
    }
    Some(least)
}

/// Moments of the tilted step.
struct Tilted {
    log_moment: f64,
    mean: f64,
    variance: f64,
}

impl Grid {
    fn loss(&self, i: usize) -> f64 {
        (self.first + i as i64) as f64 * self.width
    }

    fn tilted(&self, theta: f64) -> Tilted {
        // The largest exponent is taken out, so that nothing overflows.
        let ends = [self.loss(0), self.loss(self.masses.len() - 1)];
        let shift = theta * if theta > 0.0 { ends[1] } else { ends[0] };
        let (mut whole, mut first, mut second) = (0.0, 0.0, 0.0);
        for (i, mass) in self.masses.iter().enumerate() {
            let loss = self.loss(i);
            let tilted = mass * libm::exp(theta * loss - shift);
            whole += tilted;
            first += tilted * loss;
            second += tilted * loss * loss;
        }
        let mean = first / whole;
        let variance = (second / whole - mean * mean).max(self.width * self.width / 4.0);
        Tilted { log_moment: libm::log(whole) + shift, mean, variance }
    }

    /// The theta of the least Chernoff bound on epsilon, by golden sections of its logarithm. The
    /// search need not be exact: any theta gives a right answer.
    fn theta(&self, steps: f64, delta: f64) -> f64 {
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        let spread = libm::sqrt(steps * self.tilted(0.0).variance);
        let bound = |log_theta: f64| {
            let theta = libm::exp(log_theta);
            (steps * self.tilted(theta).log_moment - libm::log(delta)) / theta
        };
        let (mut low, mut high) = (libm::log(0.01 / spread), libm::log(1000.0 / spread));
        let (mut a, mut b) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
        let (mut at_a, mut at_b) = (bound(a), bound(b));
        while high - low > 0.02 {
            if at_a < at_b {
                (high, b, at_b) = (b, a, at_a);
                a = high - GOLDEN * (high - low);
                at_a = bound(a);
            } else {
                (low, a, at_a) = (a, b, at_b);
                b = low + GOLDEN * (high - low);
                at_b = bound(b);
            }
        }
        libm::exp(0.5 * (low + high))
    }
}

/// Tilted masses of the summed loss in a window.
struct Composed {
    theta: f64,
    /// log of what a tilted mass at loss `mean` stands for.
    log_scale: f64,
    mean: f64,
    /// A bound on the mass above the window.
    above: f64,
    /// Loss of the first mass.
    first: f64,
    width: f64,
    /// Upper bounds.
    masses: Vec<f64>,
}

impl Composed {
    fn new(grid: &Grid, steps: u64, theta: f64) -> Option<Self> {
        let n = steps as f64;
        let one = grid.tilted(theta);
        let mean = n * one.mean;
        let deviation = libm::sqrt(n * one.variance);
        // Chernoff's bound on where the tilted sum leaves off, on either side of its mean.
        let reach = |sign: f64| {
            let by = |factor: f64| {
                let lambda = sign * factor / deviation;
                let moment = grid.tilted(theta + lambda).log_moment - one.log_moment;
                (n * moment + LOG_TAIL) / lambda.abs() - sign * mean
            };
            [2.0, 4.0, 6.0, 8.0, 10.0, 14.0, 20.0].map(by).into_iter().fold(f64::INFINITY, f64::min)
        };
        let top = n * grid.loss(grid.masses.len() - 1);
        let bottom = n * grid.loss(0);
        let (above, below) = (reach(1.0).min(top - mean), reach(-1.0).min(mean - bottom));
        let log_scale = n * one.log_moment - theta * mean;
        let beyond =
            if above < top - mean { libm::exp(log_scale - LOG_TAIL - theta * above) } else { 0.0 };
        if (above + below) / grid.width > WINDOW_MAX - 4.0 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "checked just before")]
        #[expect(clippy::cast_sign_loss, reason = "a window reaches from below to above its mean")]
        let window = (((above + below) / grid.width) as usize + 4).next_power_of_two();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most steps times the grid's points"
        )]
        let start = ((mean - below) / grid.width).floor() as i64;
        Some(Self {
            theta,
            log_scale,
            mean,
            above: beyond,
            first: start as f64 * grid.width,
            width: grid.width,
            masses: convolve(grid, steps, theta, &one, (start, window)),
        })
    }

    /// The least epsilon from 0 up at which the tail of the window is at most `delta`, and true;
    /// if that lies below the window, an upper bound and false. Infinity if `delta` is not above 0.
    fn epsilon(&self, delta: f64) -> (f64, bool) {
        if delta.is_nan() || delta <= 0.0 {
            return (f64::INFINITY, true);
        }
        let (shrink, keep) = (-libm::expm1(-self.width), libm::exp(-self.width));
        // Mass at and above the point, and delta at the point, from the top down.
        let (mut mass, mut at_point) = (0.0, 0.0);
        for (i, tilted) in self.masses.iter().enumerate().rev() {
            let loss = self.first + i as f64 * self.width;
            // Delta one point further down; between the points it is linear in exp(epsilon).
            let weight = libm::exp(self.log_scale - self.theta * (loss - self.mean));
            mass += tilted * weight;
            let below = keep * at_point + shrink * mass;
            if below > delta {
                let within = libm::log((mass - at_point) / (mass - delta));
                return ((loss - within).max(0.0), true);
            }
            if loss <= 0.0 {
                return (0.0, true);
            }
            at_point = below;
        }
        ((self.first - self.width).max(0.0), false)
    }
}

/// The tilted masses of the sum of `steps` losses at the points `start`.. of the window, each
/// raised by a bound on the rounding.
fn convolve(
    grid: &Grid,
    steps: u64,
    theta: f64,
    one: &Tilted,
    (start, window): (i64, usize),
) -> Vec<f64> {
    let mut planner = FftPlannerScalar::new();
    let mut spectrum = vec![Complex64::new(0.0, 0.0); window];
    // No mass times an overflowing tilt would be not a number.
    for (i, mass) in grid.masses.iter().enumerate().filter(|(_, mass)| **mass > 0.0) {
        let tilted = mass * libm::exp(theta * grid.loss(i) - one.log_moment);
        spectrum[i % window].re += tilted;
    }
    planner.plan_fft_forward(window).process(&mut spectrum);
    let mut magnitude = 0.0;
    for value in &mut spectrum {
        *value = power(*value, steps);
        magnitude += value.norm();
    }
    planner.plan_fft_inverse(window).process(&mut spectrum);
    // Each value of the spectrum is off by some log2(window) roundings, its power by as many times
    // the steps; the transform back averages them.
    let rounds = f64::from(window.ilog2() + 2) * (steps as f64 + 1.0);
    let error = 4.0 * f64::EPSILON * rounds * magnitude / window as f64;
    // The sum of indices that the window starts with.
    let steps = i64::try_from(steps).expect("the caller bounds the steps");
    let offset = (start - steps * grid.first).rem_euclid(window as i64);
    let offset = usize::try_from(offset).expect("the remainder is not negative");
    spectrum.rotate_left(offset);
    spectrum.iter().map(|value| (value.re / window as f64).max(0.0) + error).collect()
}

/// Power by repeated squaring.
fn power(base: Complex64, mut exponent: u64) -> Complex64 {
    let (mut result, mut square) = (Complex64::new(1.0, 0.0), base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= square;
        }
        square *= square;
        exponent >>= 1;
    }
    result
}
