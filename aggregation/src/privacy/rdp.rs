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

#[cfg(test)]
mod tests {
    use super::*;

    fn step(q: f64, z: f64, l2: f64, noise: Noise) -> Step {
        Step { sampling_rate: q, noise_multiplier: z, l2, l1: l2 * l2, noise }
    }

    fn at(curve: &Curve, order: f64) -> f64 {
        let index = orders().iter().position(|o| *o == order).unwrap();
        curve[index]
    }

    /// The law of a Poisson of mean `mean` at 0, 1, ...
    fn poisson(mean: f64) -> Vec<f64> {
        (0..400u32)
            .map(f64::from)
            .map(|k| (k * mean.ln() - mean - libm::lgamma(k + 1.0)).exp())
            .collect()
    }

    /// The law of X − Y on −399..=399.
    fn difference(x: &[f64], y: &[f64]) -> Vec<f64> {
        let n = x.len();
        let mut law = vec![0.0; 2 * n - 1];
        for (i, a) in x.iter().enumerate() {
            for (j, b) in y.iter().enumerate() {
                law[i + n - 1 - j] += a * b;
            }
        }
        law
    }

    /// D(P‖Q) of order `order` by its sum, where both are above 1e-200.
    fn divergence(p: &[f64], q: &[f64], order: f64) -> f64 {
        let sum: f64 = p
            .iter()
            .zip(q)
            .filter(|(p, q)| **p > 1e-200 && **q > 1e-200)
            .map(|(p, q)| (order * p.ln() + (1.0 - order) * q.ln()).exp())
            .sum();
        sum.ln() / (order - 1.0)
    }

    /// The larger direction of the sampled mechanism that adds `law` to a value of 0 or `shift`.
    fn sampled_divergence(law: &[f64], shift: usize, q: f64, order: f64) -> f64 {
        let shifted = (0..law.len()).map(|i| i.checked_sub(shift).map_or(0.0, |i| law[i]));
        let mixture: Vec<f64> =
            law.iter().zip(shifted).map(|(a, b)| (1.0 - q) * a + q * b).collect();
        divergence(&mixture, law, order).max(divergence(law, &mixture, order))
    }

    #[test]
    fn orders_are_the_usual_ones() {
        let orders = orders();
        assert!(orders.is_sorted_by(|a, b| a < b));
        assert_eq!((orders[0], orders[98], orders[99]), (1.1, 10.9, 11.0));
        assert_eq!(orders[151..], [63.0, 128.0, 256.0, 512.0, 1024.0]);
    }

    #[test]
    fn skellam_is_bounded_and_not_idly() {
        for (mu, shift, q) in
            [(4.0f64, 1u32, 1.0f64), (4.0, 2, 0.1), (30.0, 3, 1.0), (30.0, 5, 0.3), (9.0, 1, 0.01)]
        {
            let half = poisson(mu / 2.0);
            let law = difference(&half, &half);
            let l2 = f64::from(shift);
            let step = Step { l1: l2, ..step(q, mu.sqrt() / l2, l2, Noise::Skellam) };
            let curve = curve(&step);
            for order in [1.5, 2.0, 2.5, 3.0, 5.0, 10.0, 17.0] {
                let truth = sampled_divergence(&law, shift as usize, q, order);
                let bound = at(&curve, order);
                let what = format!("mu {mu}, shift {shift}, q {q}, order {order}");
                assert!(bound >= truth * (1.0 - 1e-9), "{what}: {bound} below {truth}");
                if (2.0..=5.0).contains(&order) && shift > 1 && mu > 10.0 {
                    assert!(bound < 1.6 * truth, "{what}: {bound} far above {truth}");
                }
            }
        }
    }

    #[test]
    fn sums_of_discrete_gaussians_are_bounded() {
        for (variance, sites, shift, q) in
            [(0.25f64, 2u32, 1u32, 1.0f64), (0.5, 3, 1, 0.2), (1.0, 4, 3, 1.0), (4.0, 3, 2, 0.05)]
        {
            let raw: Vec<f64> =
                (-150..=150).map(|k| (-f64::from(k * k) / (2.0 * variance)).exp()).collect();
            let total: f64 = raw.iter().sum();
            let one: Vec<f64> = raw.iter().map(|mass| mass / total).collect();
            let mut law = one.clone();
            for _ in 1..sites {
                // Symmetric, so that a difference is a sum; cut back to the same range.
                let wide = difference(&law, &one);
                law = wide[150..=450].to_vec();
            }
            let l2 = f64::from(shift);
            let z = (variance * f64::from(sites)).sqrt() / l2;
            let noise = Noise::DiscreteGaussian { sites, dimension: 1 };
            let curve = curve(&Step { l1: l2, ..step(q, z, l2, noise) });
            for order in [1.5, 2.0, 3.0, 5.0, 8.0] {
                let truth = sampled_divergence(&law, shift as usize, q, order);
                let bound = at(&curve, order);
                let what = format!("variance {variance}, {sites} sites, q {q}, order {order}");
                assert!(bound >= truth * (1.0 - 1e-9), "{what}: {bound} below {truth}");
            }
        }
    }

    #[test]
    fn discrete_gaussians_below_their_least_scale_are_bounded_by_nothing() {
        let noise = Noise::DiscreteGaussian { sites: 100, dimension: 10 };
        assert!(at(&curve(&step(1.0, 4.0, 1.0, noise)), 2.0).is_infinite());
        assert!(at(&curve(&step(1.0, 6.0, 1.0, noise)), 2.0).is_finite());
    }

    #[test]
    fn fine_integer_noise_costs_what_gaussian_noise_costs() {
        for q in [1.0, 0.1, 0.003] {
            let gaussian = curve(&step(q, 2.0, 1e6, Noise::Gaussian));
            let discrete = Noise::DiscreteGaussian { sites: 10, dimension: 1000 };
            for noise in [Noise::Skellam, discrete] {
                let step = Step { l1: 1e8, ..step(q, 2.0, 1e6, noise) };
                let ours = curve(&step);
                for order in [2.0, 3.0, 10.0, 63.0, 1024.0] {
                    let (a, b) = (at(&ours, order), at(&gaussian, order));
                    assert!(a >= b * (1.0 - 1e-9) && a < b * 1.001, "{noise:?} {order}: {a}, {b}");
                }
                // Chords between whole orders cost a little.
                assert!(at(&ours, 2.5) >= at(&gaussian, 2.5));
                assert!(at(&ours, 2.5) < 1.08 * at(&gaussian, 2.5));
            }
        }
    }

    #[test]
    fn what_is_no_mechanism_is_bounded_by_nothing() {
        let good = step(0.5, 1.0, 1.0, Noise::Skellam);
        let bad = [
            Step { sampling_rate: 0.0, ..good },
            Step { sampling_rate: 1.1, ..good },
            Step { sampling_rate: f64::NAN, ..good },
            Step { noise_multiplier: 0.0, ..good },
            Step { noise_multiplier: f64::NAN, ..good },
            Step { l2: f64::INFINITY, ..good },
            Step { l1: -1.0, ..good },
            Step { noise: Noise::DiscreteGaussian { sites: 0, dimension: 1 }, ..good },
        ];
        for step in bad {
            assert_eq!(epsilon(&curve(&step), 1e-5), f64::INFINITY, "{step:?}");
        }
        let spent = curve(&good);
        assert!(epsilon(&spent, 1e-5).is_finite());
        for delta in [0.0, -1.0, f64::NAN, 1.5] {
            assert_eq!(epsilon(&spent, delta), f64::INFINITY, "{delta}");
        }
    }
}
