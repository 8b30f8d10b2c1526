//! A task's noised rounds as numbers: from the same few of them every side computes the same step to
//! account for, the same share of the noise and the same epsilon.
//!
//! It knows no manifest and decides nothing. Start at [`Mechanism`].

use super::{Accountant, Goal, Noise, Sensitivity, Step, Unit};
use crate::noise::{LOG_RATIO_MAX, NoiseError, NoisePlan, TOTAL_VARIATION_MAX};

/// What a private task does in each of its rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mechanism {
    /// Whose presence is hidden.
    pub unit: Unit,
    /// Chance of each record to be in a round; 1 for the unit site.
    pub sampling_rate: f64,
    /// Standard deviation of the noise of the honest sites together, over the sensitivity.
    pub noise_multiplier: f64,
    /// The longest that one unit's contribution is, in L2, above 0.
    pub clip: f64,
    /// Fractional bits of the grid that a site's sum is rounded to.
    pub frac_bits: i8,
    /// Entries of the released vector.
    pub dimension: u64,
    /// Sites whose noise counts.
    pub sites_honest: u32,
}

impl Mechanism {
    /// The mechanism of these numbers, in the order of the fields: sampling rate, noise multiplier and
    /// clip are the three together.
    #[must_use]
    pub fn new(
        whole_site: bool,
        [sampling_rate, noise_multiplier, clip]: [f64; 3],
        frac_bits: i8,
        dimension: u64,
        sites_honest: u32,
    ) -> Self {
        let unit = if whole_site { Unit::Site } else { Unit::Record };
        Self { unit, sampling_rate, noise_multiplier, clip, frac_bits, dimension, sites_honest }
    }

    /// One round, as the accountant sees it.
    #[must_use]
    pub fn step(&self) -> Step {
        // Sums and norms of clipped rows are doubles: a row moves a sum by its clip and a little.
        let clip = self.clip * (1.0 + ARITHMETIC_SLACK);
        let Sensitivity { l2, l1 } = Sensitivity::rounded(clip, self.scale(), self.dimension);
        let Self { sampling_rate, noise_multiplier, .. } = *self;
        Step { sampling_rate, noise_multiplier, l2, l1, noise: self.law() }
    }

    /// The law of the noise of the honest sites together.
    #[must_use]
    pub fn law(&self) -> Noise {
        Noise::DiscreteGaussian { sites: self.sites_honest, dimension: self.dimension }
    }

    /// Each site's share of the noise: the honest ones together reach the noise multiplier.
    ///
    /// # Errors
    /// A [`NoiseError`] if no site is honest, or the share is out of range.
    pub fn share(&self) -> Result<NoisePlan, NoiseError> {
        let std = self.noise_multiplier * self.step().l2;
        NoisePlan::share(std * std, self.sites_honest)
    }

    /// What so many rounds spend at `delta`: infinite where they hide nothing.
    #[must_use]
    pub fn epsilon(&self, rounds: u64, delta: f64) -> f64 {
        let mut accountant = Accountant::new();
        self.account(&mut accountant, rounds);
        accountant.epsilon(delta)
    }

    /// Adds so many rounds to an account.
    pub fn account(&self, accountant: &mut Accountant, rounds: u64) {
        accountant.add(&self.step(), rounds);
        accountant.add_sampler_log_ratio(self.sampler_log_ratio(), rounds);
        accountant.add_sampler_distance(self.sampler_distance(), rounds);
    }

    /// By what factor one round's noise samples, all entries and honest sites, are off their ideal
    /// law: its logarithm.
    #[must_use]
    pub fn sampler_log_ratio(&self) -> f64 {
        self.samples() * LOG_RATIO_MAX
    }

    /// Distance of one round's noise samples, all entries and honest sites, from a law within
    /// [`Self::sampler_log_ratio`] of their ideal one.
    #[must_use]
    pub fn sampler_distance(&self) -> f64 {
        self.samples() * TOTAL_VARIATION_MAX
    }

    fn samples(&self) -> f64 {
        self.dimension as f64 * f64::from(self.sites_honest)
    }

    /// The goal of planning this mechanism's noise multiplier, whatever it is now.
    #[must_use]
    pub fn goal(&self, epsilon: f64, delta: f64, steps: u64, cohort: Cohort) -> Goal {
        Goal {
            unit: self.unit,
            epsilon,
            delta,
            sampling_rate: self.sampling_rate,
            steps,
            sites: cohort.sites,
            sites_honest: self.sites_honest,
            rows: cohort.rows,
            clip: self.clip * (1.0 + ARITHMETIC_SLACK),
            scale: self.scale(),
            dimension: self.dimension,
            noise: self.law(),
            sampler_log_ratio: self.sampler_log_ratio() * steps as f64,
            sampler_distance: self.sampler_distance() * steps as f64,
            noise_over_clip_max: 1.0,
        }
    }

    /// 2 to the fractional bits, exact.
    fn scale(&self) -> f64 {
        f64::from(self.frac_bits).exp2()
    }
}

/// Who is in a sum, for the arithmetic of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cohort {
    /// Most sites that add noise to a sum.
    pub sites: u32,
    /// Rows of all sites, for the unit record.
    pub rows: u64,
}

/// By how much, relatively, doubles may be off for one row. Two sums of up to n clipped rows: 2 n² 2^-53
/// clips, below 8e-5 up to n = 600,000. The contribution's own L2 clip of R clips over d entries: its norm
/// is off by d 2^-53, twice, which is below 1e-5 up to d R = 4e10.
const ARITHMETIC_SLACK: f64 = 1e-4;

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::*;

    fn mechanism(unit: Unit) -> Mechanism {
        Mechanism {
            unit,
            sampling_rate: 0.5,
            noise_multiplier: 2.0,
            clip: 0.5,
            frac_bits: 16,
            dimension: 257,
            sites_honest: 10,
        }
    }

    #[test]
    fn shares_of_honest_sites_add_up_to_the_accounted_noise() {
        let mechanism = mechanism(Unit::Record);
        let step = mechanism.step();
        // 0.5 · 2^16 and the root of 257, and one in ten thousand.
        assert!(step.l2 > 32_787.0 && step.l2 < 32_788.0, "{}", step.l2);
        let std = (10.0 * mechanism.share().unwrap().variance()).sqrt();
        assert!(std >= 2.0 * step.l2 && std < 2.0 * step.l2 + 1.0, "{std}");
        let alone = Mechanism { sites_honest: 0, ..mechanism };
        assert_eq!(alone.share(), Err(NoiseError::Survivors));
        assert!(alone.epsilon(1, 1e-5).is_infinite());
    }

    #[test]
    fn the_slack_covers_what_doubles_can_be_off() {
        let half_ulp = f64::EPSILON / 2.0;
        let (rows, entries, clips) = (600_000f64, 1e6, 40_000.0);
        let sums = 2.0 * rows * rows * half_ulp;
        let clipping = 2.0 * entries * clips * half_ulp;
        assert!(sums + clipping < ARITHMETIC_SLACK, "{sums} {clipping}");
    }

    #[test]
    fn a_planned_multiplier_keeps_the_goal_and_a_smaller_one_does_not() {
        let mut mechanism = mechanism(Unit::Record);
        let goal = mechanism.goal(8.0, 1e-4, 33, Cohort { sites: 16, rows: 300 });
        mechanism.noise_multiplier = plan(&goal).unwrap().step.noise_multiplier;
        assert!(mechanism.epsilon(33, 1e-4) <= 8.0);
        assert!(mechanism.epsilon(33, 1e-4) > 7.99);
        mechanism.noise_multiplier *= 0.99;
        assert!(mechanism.epsilon(33, 1e-4) > 8.0);
    }
}
