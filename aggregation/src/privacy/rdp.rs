//! Rényi differential privacy: bounds on the Rényi divergence, order by order, and the way from
//! such a curve to (epsilon, delta). Curves add under composition; that is all a ledger needs.
//!
//! Neighbours differ by one unit more or less. Not here: sampling without replacement, replaced
//! units. Start with [`curve`] and [`epsilon`].

use super::numeric::{log_add, log_binomial, log_erfc};
use super::{Noise, Step};

/// Orders at which every curve is held.
pub const N_ORDERS: usize = 156;

/// A bound on the Rényi divergence at each of [`orders`]; infinity where there is none.
pub type Curve = [f64; N_ORDERS];

/// Terms after which the series for a fractional order is given up.
const TERMS_MAX: u32 = 1000;

const PI_SQUARED: f64 = std::f64::consts::PI * std::f64::consts::PI;

/// The orders, ascending: 1.1 to 10.9 by tenths, 11 to 63, 128, 256, 512, 1024. The usual ones, so
/// that figures can be compared.
pub fn orders() -> [f64; N_ORDERS] {
    std::array::from_fn(|i| match u32::try_from(i).expect("there are 156 orders") {
        i @ 0..=98 => 1.0 + f64::from(i + 1) / 10.0,
        i @ 99..=151 => f64::from(i - 88),
        i => f64::from(1u32 << (i - 145)),
    })
}

/// The curve of one step. A step that describes no mechanism is bounded by nothing: infinity.
pub fn curve(step: &Step) -> Curve {
    if !step.is_sound() {
        return [f64::INFINITY; N_ORDERS];
    }
    let (q, z) = (step.sampling_rate, step.noise_multiplier);
    match step.noise {
        Noise::Gaussian => orders().map(|order| gaussian(order, q, z)),
        Noise::Skellam => sampled(q, |order| skellam(order, step)),
        Noise::DiscreteGaussian { sites, dimension } => {
            let excess = Excess::new(step, sites, dimension);
            sampled(q, |order| excess.divergence(order))
        }
    }
}

/// The least epsilon for `delta` that a curve proves, over all orders: Canonne, Kamath, Steinke
/// 2020 (arXiv:2004.00010) Proposition 12, which is Balle et al. 2020 (arXiv:1905.09982) Theorem
/// 21; and 0 where the Kullback-Leibler bound delta <= sqrt(1 − e^{−KL}) suffices (Bretagnolle and
/// Huber). Infinity if nothing is proved or delta is not in (0, 1].
pub fn epsilon(curve: &Curve, delta: f64) -> f64 {
    if !(delta > 0.0 && delta <= 1.0) {
        return f64::INFINITY;
    }
    let of_order = |order: f64, divergence: f64| {
        if delta * delta + libm::expm1(-divergence) > 0.0 {
            0.0
        } else {
            divergence + libm::log1p(-1.0 / order) - libm::log(delta * order) / (order - 1.0)
        }
    };
    let least = orders().into_iter().zip(curve).map(|(order, &at)| of_order(order, at));
    least.fold(f64::INFINITY, f64::min).max(0.0)
}

/// The divergence of the Poisson-sampled Gaussian mechanism at any order above 1 (Mironov, Talwar,
/// Zhang 2019, arXiv:1908.10530, section 3.3). At whole orders the sum is exact; at others the
/// terms of the series are added by magnitude, which is not less.
fn gaussian(order: f64, q: f64, z: f64) -> f64 {
    if q == 1.0 {
        return order / (2.0 * z * z);
    }
    let log_moment = match as_integer(order) {
        Some(order) => log_moment_whole(q, order, |k| f64::from(k) / (2.0 * z * z)),
        None => log_moment_fractional(q, z, order),
    };
    log_moment / (order - 1.0)
}

/// Some of a whole order.
fn as_integer(order: f64) -> Option<u32> {
    #[expect(clippy::cast_possible_truncation, reason = "orders are at most 1024")]
    #[expect(clippy::cast_sign_loss, reason = "orders are above 1")]
    (order.fract() == 0.0).then_some(order as u32)
}

/// log E_Q[((1 − q) + q P/Q)^order] by the binomial theorem, from the divergences D_k(P‖Q) of the
/// orders 2 to `order`, for 0 < q < 1.
///
/// This is the whole curve of the Poisson-sampled mechanism, without the factor 3 of Zhu and Wang
/// 2019 (Theorem 5): that factor covers D(Q ‖ (1−q)Q + qP), which for symmetric additive noise is
/// no larger than the divergence computed here. Mironov, Talwar, Zhang 2019, Theorem 5, needs only
/// an involution that exchanges P and Q and keeps the measure; for P = Q shifted by v and Q
/// symmetric about 0 this is x -> v − x, on the integers as on the reals. All laws of [`Noise`]
/// are symmetric.
fn log_moment_whole(q: f64, order: u32, divergence: impl Fn(u32) -> f64) -> f64 {
    let (log_q, log_rest) = (libm::log(q), libm::log1p(-q));
    let n = f64::from(order);
    let term = |k: u32| {
        let kf = f64::from(k);
        let moment = if k < 2 { 0.0 } else { (kf - 1.0) * divergence(k) };
        log_binomial(n, kf) + kf * log_q + (n - kf) * log_rest + moment
    };
    (0..=order).map(term).fold(f64::NEG_INFINITY, log_add)
}

/// log E_Q[((1 − q) + q P/Q)^order] for the Gaussian mechanism at an order that is not whole:
/// the expectation is split at z0, where both parts of the sum weigh the same, and expanded on
/// either side. Infinity if the series does not converge soon.
fn log_moment_fractional(q: f64, z: f64, order: f64) -> f64 {
    let z0 = z * z * libm::log(1.0 / q - 1.0) + 0.5;
    let (log_q, log_rest) = (libm::log(q), libm::log1p(-q));
    let width = std::f64::consts::SQRT_2 * z;
    let log_half = -std::f64::consts::LN_2;
    let (mut below, mut above) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    let (mut last_below, mut last_above) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for i in 0..TERMS_MAX {
        let i = f64::from(i);
        let j = order - i;
        let coefficient = log_binomial(order, i) + log_half;
        let term_below = coefficient
            + i * log_q
            + j * log_rest
            + i * (i - 1.0) / (2.0 * z * z)
            + log_erfc((i - z0) / width);
        let term_above = coefficient
            + j * log_q
            + i * log_rest
            + j * (j - 1.0) / (2.0 * z * z)
            + log_erfc((z0 - j) / width);
        below = log_add(below, term_below);
        above = log_add(above, term_above);
        let total = log_add(below, above);
        let falling = term_below < last_below && term_above < last_above;
        if falling && term_below.max(term_above) < total - 30.0 {
            return total;
        }
        (last_below, last_above) = (term_below, term_above);
    }
    f64::INFINITY
}

/// The curve of a Poisson-sampled mechanism from its divergences at whole orders. Between whole
/// orders (order − 1)·D is convex and it is 0 at order 1, so a chord lies above it (Wang, Balle,
/// Kasiviswanathan 2019, arXiv:1808.00087, Corollary 10).
fn sampled(q: f64, divergence: impl Fn(u32) -> f64) -> Curve {
    let log_moment = |order: u32| match order {
        1 => 0.0,
        _ if q == 1.0 => f64::from(order - 1) * divergence(order),
        _ => log_moment_whole(q, order, &divergence),
    };
    // Moments of 1 to 11, between which the fractional orders lie.
    let whole: [f64; 11] = std::array::from_fn(|i| log_moment((1..12).nth(i).unwrap_or(1)));
    orders().map(|order| {
        let moment = match as_integer(order) {
            Some(order) => log_moment(order),
            None => {
                let floor = as_integer(order.floor()).map_or(1, |n| n as usize);
                let part = order - order.floor();
                (1.0 - part) * whole[floor - 1] + part * whole[floor]
            }
        };
        moment / (order - 1.0)
    })
}

/// The Skellam mechanism at whole orders above 1 (Agarwal, Kairouz, Liu 2021, Theorem 3.5), where
/// mu is the variance of the noise per entry.
fn skellam(order: u32, step: &Step) -> f64 {
    let order = f64::from(order);
    let (l1, l2_squared) = (step.l1, step.l2 * step.l2);
    let mu = step.noise_multiplier * step.noise_multiplier * l2_squared;
    let first = ((2.0 * order - 1.0) * l2_squared + 6.0 * l1) / (4.0 * mu * mu);
    order * l2_squared / (2.0 * mu) + first.min(3.0 * l1 / (2.0 * mu))
}

/// The sum of discrete Gaussians (Kairouz, Liu, Steinke 2021, Proposition 14): close to a discrete
/// Gaussian of the summed variance, by tau per entry.
struct Excess {
    multiplier: f64,
    /// L1 sensitivity over the standard deviation of the sum.
    l1: f64,
    tau: f64,
    dimension: f64,
}

impl Excess {
    fn new(step: &Step, sites: u32, dimension: u64) -> Self {
        let std = step.noise_multiplier * step.l2;
        let variance_of_one = std * std / f64::from(sites);
        // The exponents only fall to that of k -> infinity, so a long sum is bounded by it.
        let term = |k: f64| libm::exp(-2.0 * PI_SQUARED * variance_of_one * k / (k + 1.0));
        let summed = sites.saturating_sub(1).min(1000);
        let rest = f64::from(sites - 1 - summed);
        let sum: f64 = (1..=summed).map(|k| term(f64::from(k))).sum();
        // The proposition needs a scale of at least 1/2 at every site.
        let is_covered = variance_of_one >= 0.25;
        let tau =
            if is_covered { 10.0 * (sum + rest * term(f64::from(summed))) } else { f64::INFINITY };
        Self {
            multiplier: step.noise_multiplier,
            l1: step.l1 / std,
            tau,
            dimension: dimension as f64,
        }
    }

    fn divergence(&self, order: u32) -> f64 {
        let half = f64::from(order) / 2.0;
        let l2 = 1.0 / self.multiplier;
        let (tau, d) = (self.tau, self.dimension);
        let apart = half * l2 * l2 + tau * d;
        let crossed = half * (l2 * l2 + 2.0 * self.l1 * tau + tau * tau * d);
        let root = l2 + d.sqrt() * tau;
        apart.min(crossed).min(half * root * root)
    }
}
