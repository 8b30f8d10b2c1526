//! The accountant: what was released so far, as one Rényi curve, and the bytes in which a site's
//! ledger keeps it. It composes across tasks because every curve is held at the same orders.
//!
//! It does not decide: the budget and the refusal at its limit are the policy's. Start with
//! [`Accountant::add`].

use super::Step;
use super::rdp::{self, Curve, N_ORDERS};

/// Bytes of an accountant: version, curve, the sampler's ratio and distance.
pub const ACCOUNTANT_BYTES: usize = 1 + 8 * N_NUMBERS;

const N_NUMBERS: usize = N_ORDERS + 2;

/// Names the orders and the meaning of the curve; another set of orders is another version.
const VERSION: u8 = 1;

/// Why bytes are not an accountant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountantError {
    /// Cut off, or something behind.
    #[error("the record of spent privacy has {0} bytes, {ACCOUNTANT_BYTES} are expected")]
    Length(usize),
    /// Made by another version of the accountant.
    #[error("the record of spent privacy has version {0}, this program knows {VERSION}")]
    Version(u8),
    /// Not a number, or below zero.
    #[error("entry {0} of the record of spent privacy is not a number from 0 up")]
    Entry(usize),
}

/// The privacy that a sequence of steps costs, for one unit and for all steps together. Steps may
/// be chosen in the light of earlier results (Rényi divergences compose adaptively).
#[derive(Clone, Debug, PartialEq)]
pub struct Accountant {
    curve: Curve,
    sampler_log_ratio: f64,
    sampler_distance: f64,
}

impl Default for Accountant {
    fn default() -> Self {
        Self::new()
    }
}

impl Accountant {
    /// Nothing spent.
    pub fn new() -> Self {
        Self { curve: [0.0; N_ORDERS], sampler_log_ratio: 0.0, sampler_distance: 0.0 }
    }

    /// Adds `count` equal steps. A step whose figures describe no mechanism (a rate outside
    /// (0, 1], no noise, no sensitivity, something not finite) makes epsilon infinite.
    pub fn add(&mut self, step: &Step, count: u64) {
        if count == 0 {
            return;
        }
        for (total, one) in self.curve.iter_mut().zip(rdp::curve(step)) {
            *total += count as f64 * one;
        }
    }

    /// Adds the total-variation distance of `n_samples` noise samples from their ideal law, at
    /// most `per_sample` each: all samples of honest sites in all entries and steps. A distance
    /// that is not a number from 0 up counts as infinite.
    pub fn add_sampler_distance(&mut self, per_sample: f64, n_samples: u64) {
        self.sampler_distance += all_of(per_sample, n_samples);
    }

    /// Adds the largest |log| of the ratio of probabilities of `n_samples` noise samples to those
    /// of their ideal law, at most `per_sample` each. Cheaper than the same as a distance: it adds
    /// to epsilon and is not multiplied by exp(epsilon).
    pub fn add_sampler_log_ratio(&mut self, per_sample: f64, n_samples: u64) {
        self.sampler_log_ratio += all_of(per_sample, n_samples);
    }

    /// Adds all that another accountant holds: another task over the same rows.
    pub fn compose(&mut self, other: &Self) {
        for (total, one) in self.curve.iter_mut().zip(other.curve) {
            *total += one;
        }
        self.sampler_log_ratio += other.sampler_log_ratio;
        self.sampler_distance += other.sampler_distance;
    }

    /// The least epsilon proved for `delta`; infinity where nothing is.
    ///
    /// If the ideal steps are (e, d)-private, and the probabilities of what runs are theirs within a
    /// factor exp(±r), then that is (e + 2r, exp(r)·d)-private; and what is within total variation s
    /// of it is (e + 2r, exp(r)·d + (1 + exp(e + 2r))·s)-private: s is lost once on either side.
    /// Epsilon stands on both sides of that; the least solution is the limit of the rising sequence
    /// computed here.
    pub fn epsilon(&self, delta: f64) -> f64 {
        let (ratio, distance) = (self.sampler_log_ratio, self.sampler_distance);
        let with_delta =
            |delta: f64| 2.0 * ratio + rdp::epsilon(&self.curve, delta * libm::exp(-ratio));
        let mut least = with_delta(delta);
        if distance == 0.0 {
            return least;
        }
        for _ in 0..100 {
            // A hair above the sequence, so that the last element proves itself.
            let tried = least * (1.0 + 1e-9) + 1e-12;
            let next = with_delta(delta - (1.0 + libm::exp(tried)) * distance);
            if next <= tried {
                return tried;
            }
            least = next;
        }
        f64::INFINITY
    }

    /// The canonical bytes: version, the curve in ascending orders, the sampler's log ratio and
    /// distance; numbers as IEEE 754 binary64, big-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ACCOUNTANT_BYTES);
        bytes.push(VERSION);
        for number in self.curve.iter().chain([&self.sampler_log_ratio, &self.sampler_distance]) {
            bytes.extend(number.to_bits().to_be_bytes());
        }
        bytes
    }

    /// Reads [`Self::to_bytes`].
    ///
    /// # Errors
    /// Another length, another version, a number below zero or none at all.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AccountantError> {
        let (&version, rest) = bytes.split_first().ok_or(AccountantError::Length(0))?;
        if version != VERSION {
            return Err(AccountantError::Version(version));
        }
        if bytes.len() != ACCOUNTANT_BYTES {
            return Err(AccountantError::Length(bytes.len()));
        }
        let mut numbers = [0.0; N_NUMBERS];
        for (i, (number, raw)) in numbers.iter_mut().zip(rest.as_chunks::<8>().0).enumerate() {
            *number = f64::from_bits(u64::from_be_bytes(*raw));
            // Minus zero would be a second spelling of nothing spent.
            if number.is_nan() || number.is_sign_negative() {
                return Err(AccountantError::Entry(i));
            }
        }
        let mut curve = [0.0; N_ORDERS];
        curve.copy_from_slice(&numbers[..N_ORDERS]);
        let [.., sampler_log_ratio, sampler_distance] = numbers;
        Ok(Self { curve, sampler_log_ratio, sampler_distance })
    }
}

/// What `n` samples are off by together; infinite for what is not a number from 0 up.
fn all_of(per_sample: f64, n: u64) -> f64 {
    match n {
        0 => 0.0,
        _ if per_sample >= 0.0 => per_sample * n as f64,
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Noise;
    use super::*;

    fn step(noise_multiplier: f64) -> Step {
        let noise = Noise::Skellam;
        Step { sampling_rate: 0.1, noise_multiplier, l2: 1000.0, l1: 1e5, noise }
    }

    fn spent(count: u64) -> Accountant {
        let mut accountant = Accountant::new();
        accountant.add(&step(1.5), count);
        accountant
    }

    #[test]
    fn nothing_costs_nothing_and_more_costs_more() {
        assert_eq!(Accountant::new().epsilon(1e-6), 0.0);
        assert_eq!(spent(0).epsilon(1e-6), 0.0);
        let costs: Vec<f64> = [1, 10, 100, 1000].map(|n| spent(n).epsilon(1e-6)).into();
        assert!(costs.is_sorted_by(|a, b| a < b), "{costs:?}");
        assert!(spent(100).epsilon(1e-8) > spent(100).epsilon(1e-4));
        let mut accountant = spent(100);
        accountant.add(&step(0.0), 1);
        assert_eq!(accountant.epsilon(1e-6), f64::INFINITY);
    }

    #[test]
    fn a_ledger_composes_tasks_and_survives_its_bytes() {
        let mut first = spent(40);
        first.add_sampler_distance(1e-20, 1000);
        first.add_sampler_log_ratio(1e-9, 100);
        let mut read = Accountant::from_bytes(&first.to_bytes()).unwrap();
        assert_eq!(read, first);
        let mut second = spent(60);
        second.add_sampler_distance(1e-20, 2000);
        read.compose(&second);
        let mut whole = spent(100);
        whole.add_sampler_distance(1e-20, 3000);
        whole.add_sampler_log_ratio(1e-9, 100);
        assert!((read.epsilon(1e-6) - whole.epsilon(1e-6)).abs() < 1e-9);
    }

    #[test]
    fn bytes_that_are_no_record_are_rejected() {
        let good = spent(3).to_bytes();
        assert_eq!(good.len(), ACCOUNTANT_BYTES);
        assert_eq!(Accountant::from_bytes(&[]), Err(AccountantError::Length(0)));
        let cut = Accountant::from_bytes(&good[..good.len() - 1]);
        assert_eq!(cut, Err(AccountantError::Length(ACCOUNTANT_BYTES - 1)));
        let long = [&good[..], &[0]].concat();
        assert_eq!(Accountant::from_bytes(&long), Err(AccountantError::Length(good.len() + 1)));
        let mut other = good.clone();
        other[0] = 2;
        assert_eq!(Accountant::from_bytes(&other), Err(AccountantError::Version(2)));
        for bad in [f64::NAN, -1.0, -0.0, f64::NEG_INFINITY] {
            let mut bytes = good.clone();
            bytes[1 + 8 * 5..][..8].copy_from_slice(&bad.to_bits().to_be_bytes());
            assert_eq!(Accountant::from_bytes(&bytes), Err(AccountantError::Entry(5)), "{bad}");
        }
    }

    #[test]
    fn a_samplers_distance_is_paid_for() {
        let ideal = spent(100).epsilon(1e-6);
        let with = |distance: f64| {
            let mut accountant = spent(100);
            accountant.add_sampler_distance(distance, 1000);
            accountant.epsilon(1e-6)
        };
        assert!((with(1e-30) - ideal).abs() < 1e-6);
        let larger = with(1e-12);
        assert!(larger > ideal + 1e-3 && larger < ideal + 0.1, "{ideal} {larger}");
        // What is stated holds: delta is not overdrawn.
        let delta = 1e-6 - (1.0 + larger.exp()) * 1e-9;
        assert!(delta > 0.0 && spent(100).epsilon(delta) <= larger);
        for distance in [1e-9, 1.0, f64::NAN, -1.0] {
            assert_eq!(with(distance), f64::INFINITY, "{distance}");
        }
        // A ratio costs twice itself in epsilon, and a little of delta.
        let mut accountant = spent(100);
        accountant.add_sampler_log_ratio(1e-6, 1000);
        let added = accountant.epsilon(1e-6) - ideal;
        assert!(added > 2e-3 && added < 2.3e-3, "{added}");
        accountant.add_sampler_log_ratio(f64::NAN, 1);
        assert_eq!(accountant.epsilon(1e-6), f64::INFINITY);
    }
}
