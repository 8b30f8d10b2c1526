//! What the released sums say about one record or one site, in numbers: the accountant, the
//! planning of a budget and the audit of a trained model.
//!
//! [`Accountant`] adds up the Rényi curves of the mechanism that really runs (integer
//! sensitivities, the noise of honest survivors, its sampler's distance from the ideal law) and
//! turns them into (epsilon, delta). [`pld`] gives the tighter figure for the Gaussian mechanism.
//! [`plan`] finds the noise for a wanted epsilon, or refuses where the noise would drown the model.
//! [`clip`] says how long a contribution may be in the next round. [`audit`] bounds epsilon from below by an attack on what was trained.
//!
//! Deliberately not here: the noise itself, clipping, the ledger file of a site. Everything is a
//! pure function of its arguments. Start with [`Step`] and [`Accountant`]; `docs/privacy.md` says
//! in words what epsilon bounds and what it does not.

mod accountant;
pub mod audit;
pub mod clip;
mod goal;
mod mechanism;
mod numeric;
pub mod pld;
pub mod rdp;
#[cfg(test)]
mod vectors;

use std::fmt;

pub use accountant::{ACCOUNTANT_BYTES, Accountant, AccountantError};
pub use goal::{Goal, Planned, Refused, plan};
pub use mechanism::{Cohort, Mechanism};

/// Whose presence epsilon hides. Two data sets are neighbours if one is the other with one unit
/// more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// One row of a site's table, or all rows of one group where rows are split by group and
    /// clipped by group.
    Record,
    /// A whole site with all its rows.
    Site,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Record => "record",
            Self::Site => "site",
        })
    }
}

/// The law of the summed noise of honest survivors, independent in every entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Noise {
    /// Normal: the continuous ideal, for comparison.
    Gaussian,
    /// Skellam: sums of Skellam shares are Skellam again, whatever the number of sites
    /// (Agarwal et al. 2021, arXiv:2110.04995).
    Skellam,
    /// The sum of `sites` discrete Gaussians of equal scale (Kairouz et al. 2021,
    /// arXiv:2102.06387), which is not quite a discrete Gaussian.
    DiscreteGaussian {
        /// Honest survivors, each of whom adds an equal share of the variance.
        sites: u32,
        /// Entries of the released vector.
        dimension: u64,
    },
}

/// One release of a noised integer sum, as the accountant sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Chance of each unit to take part, drawn in secret and independently: 0 < q <= 1. Sampling
    /// that the coordinator knows amplifies nothing: 1.
    pub sampling_rate: f64,
    /// Standard deviation of the summed noise of honest survivors, per entry, divided by `l2`.
    pub noise_multiplier: f64,
    /// Largest L2 distance that one unit makes in the integer sum, after rounding.
    pub l2: f64,
    /// Largest L1 distance that one unit makes in the integer sum, after rounding.
    pub l1: f64,
    /// The law of the noise.
    pub noise: Noise,
}

impl Step {
    /// False for figures that describe no mechanism; such a step is bounded by nothing.
    fn is_sound(&self) -> bool {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let shares = match self.noise {
            Noise::DiscreteGaussian { sites, dimension } => sites > 0 && dimension > 0,
            Noise::Gaussian | Noise::Skellam => true,
        };
        self.sampling_rate > 0.0
            && self.sampling_rate <= 1.0
            && [self.noise_multiplier, self.l2, self.l1].into_iter().all(positive)
            && shares
    }
}

/// What one unit changes in an integer sum of rounded vectors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sensitivity {
    /// In L2, integer units.
    pub l2: f64,
    /// In L1, integer units.
    pub l1: f64,
}

impl Sensitivity {
    /// The sensitivity of `floor(sum * scale + r)` (r the same for both neighbours, uniform in
    /// [0, 1) per entry) for a sum of vectors of L2 norm at most `clip` and `dimension` entries.
    ///
    /// Every entry of the difference is less than one away from `scale` times the real
    /// difference, so the L2 norm is below `scale * clip + sqrt(dimension)`, whatever r is. For
    /// an integer vector the L1 norm is at most the square of the L2 norm and at most
    /// sqrt(dimension) times it. The bound holds for the rounding of each vector as for that of a
    /// site's sum. Replacing a unit counts as twice this.
    ///
    /// The encoding's own clips enlarge nothing: scaling to an L2 norm and clamping entries are
    /// projections onto convex sets, which bring no two points further apart. Vectors must be
    /// summed, and the sum handed over, in double precision: a sum in single precision has steps of
    /// its own of up to 2^-24 of each entry.
    pub fn rounded(clip: f64, scale: f64, dimension: u64) -> Self {
        let root = (dimension as f64).sqrt();
        let l2 = clip * scale + root;
        Self { l2, l1: l2 * root.min(l2) }
    }
}
