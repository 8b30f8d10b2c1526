//! A task's noised rounds as numbers: from the same few of them every side computes the same step to
//! account for, the same share of the noise and the same epsilon.
//!
//! It knows no manifest and decides nothing. Start at [`Mechanism`].

use super::{Accountant, Goal, Noise, Sensitivity, Step, Unit};

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
        Noise::Skellam
    }

    /// Variance of the noise that each site adds to each entry, in integer units squared.
    #[must_use]
    pub fn site_variance(&self) -> f64 {
        let std = self.noise_multiplier * self.step().l2;
        std * std / f64::from(self.sites_honest.max(1))
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
        accountant.add_sampler_distance(self.sampler_distance(), rounds);
    }

    /// Distance of one round's noise samples from their ideal law, all entries and honest sites.
    #[must_use]
    pub fn sampler_distance(&self) -> f64 {
        0.0
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

/// By how much, relatively, a sum of doubles may be off for one row.
const ARITHMETIC_SLACK: f64 = 1e-6;
