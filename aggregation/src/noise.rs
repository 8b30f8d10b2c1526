//! Noise for differential privacy: each site adds its share, as whole numbers, before masking.
//!
//! **The law.** A share is a discrete Gaussian: P(k) ∝ exp(-k² / 2V), V a multiple of
//! [`BASE_VARIANCE`]. Shifted by whole numbers it has the Rényi divergences of the normal law of
//! variance V exactly, at every whole order and with Poisson sampling too: E exp(h·k·X / V) =
//! exp(h² k² / 2V) for whole h·k, because Σ exp(-(x - m)² / 2V) over all whole x is the same for
//! every whole m (Canonne, Kamath, Steinke 2020, arXiv 2004.00010, section 2). So bounds for the
//! normal law at whole orders hold, with the L2 sensitivity of the *integers*
//! ([`crate::privacy::Sensitivity`]). The Skellam law would need bounds of its own with an L1 term,
//! and no scaled draws add up to it, so that large variances could not be drawn from one table.
//!
//! **How it is drawn.** As Σ c · Y over independent draws Y of one base law (variance 16, from a
//! table of 80 bits that is scanned whole) with whole c, Σ c² · 16 = V. Adding c · Y to a discrete
//! Gaussian of variance W gives
//! P(z) ∝ exp(-z² / 2(W + 16c²)) · Σ exp(-(x - m)² / 2τ²) over whole x, with a real m that depends
//! on z and 1/τ² = 1/16 + c²/W. By Poisson's formula that sum is √(2π) τ (1 ± d),
//! d ≤ 2.1 · exp(-2π²τ²), and c² ≤ 6W/16 keeps τ² ≥ 16/7: d < 2^-64. A share has fewer than 32
//! draws, so its probabilities are the exact law's times exp(± [`LOG_RATIO_MAX`]), up to a distance
//! of [`TOTAL_VARIATION_MAX`] for the table.
//!
//! **Sums.** The noise of S honest survivors is a discrete Gaussian of variance S · V by the same
//! formula, with τ² ≥ 8: the factor 1 ± 2^-226 is nothing, and only the shares' own distances add
//! up. For T opened sums of d entries with S sites each, (ε, δ) of the exact law becomes
//! ε + 2 T d S · 2^-59 and δ + (1 + e^ε) T d S · 2^-70.
//!
//! **Drop-out.** Each share is the wanted variance divided by the *fewest* honest survivors that the
//! plan permits ([`NoisePlan::share`]): whoever drops out, the honest noise is never below what was
//! accounted; with more survivors there is more.
//!
//! Not here: how much noise a budget needs ([`crate::privacy`]).

mod sampler;
mod table;

pub(crate) use self::sampler::Sampler;
use crate::stream::Seed;

/// Every share's variance is a whole multiple of this, in squared units of the encoded integers. A
/// plan whose noise is so small that this is coarse has too coarse a scale: each further bit of
/// `frac_bits` multiplies the variance by 4.
pub const BASE_VARIANCE: f64 = table::VARIANCE as f64;

/// The largest variance of a share.
pub const VARIANCE_MAX: f64 = BASE_VARIANCE * UNITS_MAX as f64;

/// |ln| of a share's probabilities over the exact law's is at most this.
pub const LOG_RATIO_MAX: f64 = 1.0 / (1u64 << 59) as f64;

/// A share's total variation distance to a law within [`LOG_RATIO_MAX`] of the exact one is at most
/// this: fewer than 32 draws of 2^-75.
pub const TOTAL_VARIATION_MAX: f64 = 1.0 / (1u128 << 70) as f64;

const UNITS_MAX: u64 = 1 << 44;

/// How much noise each site adds to every entry but the weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoisePlan {
    /// The share's variance in multiples of [`BASE_VARIANCE`].
    units: u64,
}

/// A noise that cannot be planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoiseError {
    /// The variance is not a positive number, or too large.
    #[error(
        "the noise's variance must be above 0 and at most {VARIANCE_MAX:e} squared units a site: \
         lower frac_bits or the noise"
    )]
    Variance,
    /// No honest site is sure to survive.
    #[error("no honest survivor is left to count on: raise the smallest cohort")]
    Survivors,
}

impl NoisePlan {
    /// The smallest share of at least `variance` (of one site's noise per entry, in squared units of
    /// the encoded integers).
    ///
    /// # Errors
    /// [`NoiseError::Variance`] if it is not in 0..=[`VARIANCE_MAX`], or zero.
    pub fn at_least(variance: f64) -> Result<Self, NoiseError> {
        if !(variance > 0.0 && variance <= VARIANCE_MAX) {
            return Err(NoiseError::Variance);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number of 1..=2^44"
        )]
        let units = (variance / BASE_VARIANCE).ceil() as u64;
        Ok(Self { units: units.max(1) })
    }

    /// The share with which the noise of `honest_survivors` sites, the fewest that a session may end
    /// with, has at least the variance `target`.
    ///
    /// # Errors
    /// A [`NoiseError`] if there is no survivor, or the share is out of range.
    pub fn share(target: f64, honest_survivors: u32) -> Result<Self, NoiseError> {
        if honest_survivors == 0 {
            return Err(NoiseError::Survivors);
        }
        Self::at_least(target / f64::from(honest_survivors))
    }

    /// The variance of one site's share, in squared units of the encoded integers.
    #[must_use]
    pub fn variance(&self) -> f64 {
        self.units as f64 * BASE_VARIANCE
    }

    /// The plan of that many units, if it is one.
    pub(crate) fn from_units(units: u64) -> Option<Self> {
        (1..=UNITS_MAX).contains(&units).then_some(Self { units })
    }

    /// The share's variance in multiples of [`BASE_VARIANCE`].
    pub(crate) fn units(self) -> u64 {
        self.units
    }

    /// What the noise of `n` sites exceeds in none of 2^26 entries, but with a probability below
    /// 2^-64: P(|X| > t) ≤ 2 exp(-t² / 2nV), which holds for the drawn law as for the exact one.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most √(2 · 2^32 · 2^48 · 64) < 2^44"
    )]
    pub(crate) fn tail(self, n: usize) -> u64 {
        let exponent = 92.0 * std::f64::consts::LN_2;
        (2.0 * n as f64 * self.variance() * exponent).sqrt().ceil() as u64
    }
}

/// Draws `out.len()` samples of the share from a seed, starting with sample `first`: for
/// measurements and tests of the law. Sites draw theirs from a seed that nobody else knows.
pub fn draw(plan: NoisePlan, seed: [u8; 32], first: u64, out: &mut [i32]) {
    Sampler::new(plan, Seed::new(seed)).fill(first, out);
}

#[cfg(test)]
mod tests;
