//! Planning: from a wanted (epsilon, delta) to the least noise that gives it, and from the noise
//! to what it does to the mean that is released. A plan whose noise drowns its signal is refused
//! with the arithmetic.
//!
//! It assumes nothing about the data but the clip. Whether the model still learns is for a trial
//! to show; this only refuses what cannot. Start with [`Goal`] and [`plan`].

use super::{Accountant, Noise, Sensitivity, Step, Unit};

/// Noise multipliers above this are out of reach: no model survives them.
const MULTIPLIER_MAX: f64 = 1e6;
const MULTIPLIER_MIN: f64 = 1e-3;

/// What a task wants to guarantee, and the mechanism that it would run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// Whose presence is hidden.
    pub unit: Unit,
    /// At most this much in the whole task; above 0.
    pub epsilon: f64,
    /// In (0, 1), below 1 / `rows` for the unit record.
    pub delta: f64,
    /// Chance of each row to take part in a step; 1 for the unit site.
    pub sampling_rate: f64,
    /// Noised releases in the whole task, at least 1.
    pub steps: u64,
    /// Sites whose updates and noise a sum contains.
    pub sites: u32,
    /// Of these, at least so many are honest: only their noise is counted. 1 to `sites`.
    pub sites_honest: u32,
    /// Rows of all sites together. Ignored for the unit site.
    pub rows: u64,
    /// Largest L2 norm of one unit's contribution, above 0.
    pub clip: f64,
    /// Integer units per unit of the update: 2 to the fractional bits.
    pub scale: f64,
    /// Entries of the released vector.
    pub dimension: u64,
    /// The law of the noise of honest sites.
    pub noise: Noise,
    /// |log| of the ratio of probabilities of all noise samples of the task to their ideal law's,
    /// added up (see [`Accountant::add_sampler_log_ratio`]).
    pub sampler_log_ratio: f64,
    /// Total-variation distance of all noise samples of the task from their ideal law, added up
    /// (see [`Accountant::add_sampler_distance`]).
    pub sampler_distance: f64,
    /// Refuse if the L2 norm of the noise on the mean exceeds this many clips: 1 by default.
    pub noise_over_clip_max: f64,
}

/// The noise that reaches a goal, and what it does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planned {
    /// The step to account, `steps` times.
    pub step: Step,
    /// What the task spends, at most the goal's.
    pub epsilon: f64,
    /// Variance of the noise that each site adds to each entry, in integer units squared.
    pub site_variance: f64,
    /// Standard deviation of the noise on each entry of the released mean, in units of the update.
    pub mean_std: f64,
    /// L2 norm of the noise on the released mean (root of the expected square), same units.
    pub mean_l2: f64,
    /// `mean_l2` over the clip: below 1, the noise is smaller than one unit's contribution could
    /// be at most.
    pub noise_over_clip: f64,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refused {
    /// The goal contradicts itself.
    #[error("the privacy goal makes no sense: {0}")]
    Goal(String),
    /// No noise gives this epsilon.
    #[error(
        "no noise gives epsilon {epsilon} at delta {delta} over {steps} steps: raise epsilon or \
         delta, lower the number of steps, or use a finer scale (more fractional bits)"
    )]
    OutOfReach {
        /// The goal's.
        epsilon: f64,
        /// The goal's.
        delta: f64,
        /// The goal's.
        steps: u64,
    },
    /// The noise would drown the model; the text has the arithmetic.
    #[error("{text}")]
    Swamped {
        /// The plan that is refused.
        planned: Box<Planned>,
        /// In plain words, with figures and what to change.
        text: String,
    },
}

/// The least noise for `goal` (its multiplier rounded up to five digits).
///
/// # Errors
/// A goal that contradicts itself or is out of reach; a plan whose noise exceeds
/// `noise_over_clip_max`.
pub fn plan(goal: &Goal) -> Result<Planned, Refused> {
    check(goal).map_err(|why| Refused::Goal(why.into()))?;
    let out_of_reach =
        Refused::OutOfReach { epsilon: goal.epsilon, delta: goal.delta, steps: goal.steps };
    let multiplier = least_multiplier(goal).ok_or(out_of_reach)?;
    let step = step(goal, multiplier);
    let honest_std = multiplier * step.l2;
    // Every site adds the share that the honest ones need, so all of them together add more.
    let surplus = f64::from(goal.sites) / f64::from(goal.sites_honest);
    let mean_std = honest_std * surplus.sqrt() / goal.scale / units_per_step(goal);
    let mean_l2 = mean_std * (goal.dimension as f64).sqrt();
    let planned = Planned {
        step,
        epsilon: spent(goal, multiplier),
        site_variance: honest_std * honest_std / f64::from(goal.sites_honest),
        mean_std,
        mean_l2,
        noise_over_clip: mean_l2 / goal.clip,
    };
    if planned.noise_over_clip <= goal.noise_over_clip_max {
        return Ok(planned);
    }
    let text = explain(goal, &planned);
    Err(Refused::Swamped { planned: Box::new(planned), text })
}

/// Units that a mean is taken over.
fn units_per_step(goal: &Goal) -> f64 {
    match goal.unit {
        Unit::Record => goal.sampling_rate * goal.rows as f64,
        Unit::Site => f64::from(goal.sites),
    }
}

fn check(goal: &Goal) -> Result<(), &'static str> {
    let positive = |x: f64| x.is_finite() && x > 0.0;
    if !positive(goal.epsilon) {
        return Err("epsilon must be above 0");
    }
    if !(goal.delta > 0.0 && goal.delta < 1.0) {
        return Err("delta must lie between 0 and 1");
    }
    if !(goal.sampling_rate > 0.0 && goal.sampling_rate <= 1.0) {
        return Err("the sampling rate must be above 0 and at most 1");
    }
    if goal.steps == 0 || goal.dimension == 0 {
        return Err("a task has at least one step and one entry");
    }
    if goal.sites_honest == 0 || goal.sites_honest > goal.sites {
        return Err("between one and all of the sites are counted as honest");
    }
    if ![goal.clip, goal.scale, goal.noise_over_clip_max].into_iter().all(positive) {
        return Err("clip, scale and the largest noise over the clip must be above 0");
    }
    if !(goal.sampler_log_ratio >= 0.0 && 2.0 * goal.sampler_log_ratio < goal.epsilon) {
        return Err("the ratio of the noise samples to their law uses up epsilon");
    }
    if !(goal.sampler_distance >= 0.0 && goal.sampler_distance < goal.delta) {
        return Err("the distance of the noise samples from their law uses up delta");
    }
    match goal.unit {
        Unit::Site if goal.sampling_rate < 1.0 => {
            Err("sampling sites hides nothing from a coordinator who knows the cohort: for the \
                 unit site the sampling rate is 1")
        }
        Unit::Record if goal.rows == 0 => Err("the sites have at least one row together"),
        Unit::Record if goal.delta * goal.rows as f64 >= 1.0 => {
            Err("delta must be below 1 / rows: at that delta one whole record could be published")
        }
        _ => Ok(()),
    }
}

fn step(goal: &Goal, noise_multiplier: f64) -> Step {
    let Sensitivity { l2, l1 } = Sensitivity::rounded(goal.clip, goal.scale, goal.dimension);
    Step { sampling_rate: goal.sampling_rate, noise_multiplier, l2, l1, noise: goal.noise }
}

fn spent(goal: &Goal, noise_multiplier: f64) -> f64 {
    let mut accountant = Accountant::new();
    accountant.add(&step(goal, noise_multiplier), goal.steps);
    accountant.add_sampler_log_ratio(goal.sampler_log_ratio, 1);
    accountant.add_sampler_distance(goal.sampler_distance, 1);
    accountant.epsilon(goal.delta)
}

/// Bisection; epsilon falls as the noise grows.
fn least_multiplier(goal: &Goal) -> Option<f64> {
    let reaches = |multiplier: f64| spent(goal, multiplier) <= goal.epsilon;
    let (mut low, mut high) = (MULTIPLIER_MIN, 2.0 * MULTIPLIER_MIN);
    while !reaches(high) {
        (low, high) = (high, 2.0 * high);
        if high > MULTIPLIER_MAX {
            return None;
        }
    }
    while high > low * (1.0 + 1e-6) {
        let middle = (low * high).sqrt();
        if reaches(middle) { high = middle } else { low = middle }
    }
    // Five significant digits, rounded up.
    let unit = libm::pow(10.0, libm::log10(high).floor() - 4.0);
    let mut rounded = (high / unit).ceil() * unit;
    while !reaches(rounded) {
        rounded += unit;
    }
    Some(rounded)
}

fn explain(goal: &Goal, planned: &Planned) -> String {
    let ratio = planned.noise_over_clip;
    let excess = ratio / goal.noise_over_clip_max;
    let units = units_per_step(goal);
    let (counted, more) = match goal.unit {
        Unit::Record => ("rows a step", "rows"),
        Unit::Site => ("sites", "sites"),
    };
    let surplus = if goal.sites_honest < goal.sites {
        format!(
            " x sqrt({} sites, all adding noise / {} counted as honest)",
            goal.sites, goal.sites_honest
        )
    } else {
        String::new()
    };
    let instead = match goal.unit {
        Unit::Site => "the unit record instead of site, ",
        Unit::Record => "",
    };
    let dimension = goal.dimension as f64;
    format!(
        "the noise would drown the model. Unit {}, epsilon {} at delta {} over {} steps needs noise \
         of {} x the clip on the sum, in each of {} entries; on the mean that is {} x sqrt({} \
         entries){surplus} / {} {counted} = {} x the clip, and at most {} x is allowed. What helps: \
         {instead}at least {} {more} at the same noise, a released vector of at most {} entries, a \
         larger epsilon, or fewer steps.",
        goal.unit,
        figure(goal.epsilon),
        goal.delta,
        grouped(goal.steps as f64),
        figure(planned.step.noise_multiplier),
        grouped(dimension),
        figure(planned.step.noise_multiplier),
        grouped(dimension),
        grouped(units),
        figure(ratio),
        figure(goal.noise_over_clip_max),
        grouped((units * excess).ceil()),
        grouped((dimension / (excess * excess)).floor()),
    )
}

/// Three digits, or all digits before the point.
fn figure(x: f64) -> String {
    match x {
        _ if x >= 1e3 => grouped(x),
        _ if x >= 100.0 => format!("{x:.0}"),
        _ if x == x.round() => format!("{x}"),
        _ if x >= 10.0 => format!("{x:.1}"),
        _ if x >= 0.01 => format!("{x:.2}"),
        _ => format!("{x:.1e}"),
    }
}

/// A whole number with its thousands apart.
fn grouped(x: f64) -> String {
    let digits = format!("{x:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 30 rounds of 16 sites, of which 11 are counted as honest.
    fn site_level() -> Goal {
        Goal {
            unit: Unit::Site,
            epsilon: 8.0,
            delta: 1e-5,
            sampling_rate: 1.0,
            steps: 30,
            sites: 16,
            sites_honest: 11,
            rows: 0,
            clip: 1.0,
            scale: 65536.0,
            dimension: 16_514,
            noise: Noise::Skellam,
            sampler_log_ratio: 0.0,
            sampler_distance: 0.0,
            noise_over_clip_max: 1.0,
        }
    }

    fn record_level() -> Goal {
        Goal { unit: Unit::Record, rows: 306, dimension: 257, ..site_level() }
    }

    #[test]
    fn site_level_noise_over_sixteen_sites_is_refused_with_the_arithmetic() {
        let Err(Refused::Swamped { planned, text }) = plan(&site_level()) else {
            panic!("a drowned plan was accepted");
        };
        assert!((28.0..36.0).contains(&planned.noise_over_clip), "{}", planned.noise_over_clip);
        for part in [
            "Unit site, epsilon 8 at delta 0.00001 over 30 steps",
            "x sqrt(16,514 entries)",
            "sqrt(16 sites, all adding noise / 11 counted as honest) / 16 sites",
            "at most 1 x is allowed",
            "the unit record instead of site",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
        // The arithmetic holds: as many sites as it asks for are enough, if all are honest.
        let ratio = planned.noise_over_clip;
        let n = (16.0 * ratio).ceil();
        let by_hand =
            planned.step.noise_multiplier * 16_514f64.sqrt() * (16f64 / 11.0).sqrt() / 16.0;
        // Rounding adds one unit per entry at most to the sensitivity.
        assert!((ratio / by_hand - 1.0).abs() < 0.003, "{ratio} {by_hand}");
        assert!(text.contains(&format!("at least {n} sites")), "{text}");
    }

    #[test]
    fn record_level_noise_over_306_rows_is_accepted() {
        let planned = plan(&record_level()).unwrap();
        assert!((0.15..0.3).contains(&planned.noise_over_clip), "{planned:?}");
        assert!(planned.epsilon <= 8.0 && planned.epsilon > 7.99, "{}", planned.epsilon);
        let honest = planned.step.noise_multiplier * planned.step.l2;
        assert!((planned.site_variance * 11.0 / (honest * honest) - 1.0).abs() < 1e-12);
        let entries = planned.mean_std * 257f64.sqrt();
        assert!((planned.mean_l2 / entries - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_noise_is_the_least_that_reaches_the_goal() {
        for noise in
            [Noise::Skellam, Noise::Gaussian, Noise::DiscreteGaussian { sites: 11, dimension: 257 }]
        {
            for (epsilon, sampling_rate) in [(1.0, 0.1), (8.0, 1.0)] {
                let rows = 5000;
                let goal = Goal { epsilon, sampling_rate, rows, noise, ..record_level() };
                let planned = plan(&goal).unwrap();
                let multiplier = planned.step.noise_multiplier;
                assert!(spent(&goal, multiplier) <= epsilon);
                assert!(spent(&goal, multiplier * 0.999) > epsilon, "{noise:?}: {multiplier}");
            }
        }
    }

    #[test]
    fn sampling_and_sampler_distance_change_the_plan_the_right_way() {
        let rows = 10_000;
        let whole = plan(&Goal { rows, ..record_level() }).unwrap();
        let sampled = plan(&Goal { rows, sampling_rate: 0.1, ..record_level() }).unwrap();
        assert!(sampled.step.noise_multiplier < whole.step.noise_multiplier);
        let sampler = plan(&Goal { rows, sampler_distance: 1e-9, ..record_level() }).unwrap();
        assert!(sampler.step.noise_multiplier > whole.step.noise_multiplier);
    }

    #[test]
    fn goals_that_make_no_sense_are_refused_by_name() {
        let good = record_level();
        let bad = [
            (Goal { epsilon: 0.0, ..good }, "epsilon"),
            (Goal { epsilon: f64::NAN, ..good }, "epsilon"),
            (Goal { delta: 0.0, ..good }, "delta"),
            (Goal { delta: 0.01, ..good }, "delta must be below 1 / rows"),
            (Goal { rows: 0, ..good }, "at least one row"),
            (Goal { sampling_rate: 0.0, ..good }, "sampling rate"),
            (Goal { steps: 0, ..good }, "step"),
            (Goal { dimension: 0, ..good }, "entry"),
            (Goal { sites_honest: 0, ..good }, "honest"),
            (Goal { sites_honest: 17, ..good }, "honest"),
            (Goal { clip: f64::INFINITY, ..good }, "clip"),
            (Goal { sampler_distance: 1e-5, ..good }, "uses up delta"),
            (Goal { sampler_log_ratio: 4.0, ..good }, "uses up epsilon"),
            (Goal { sampler_log_ratio: f64::NAN, ..good }, "uses up epsilon"),
            (Goal { sampling_rate: 0.5, ..site_level() }, "sampling sites hides nothing"),
        ];
        for (goal, word) in bad {
            let Err(Refused::Goal(why)) = plan(&goal) else { panic!("accepted: {goal:?}") };
            assert!(why.contains(word), "{why}");
        }
        // The distance alone uses up delta at this epsilon.
        let goal = Goal { sampler_distance: 9e-6, ..good };
        assert!(matches!(plan(&goal), Err(Refused::OutOfReach { .. })));
    }

    #[test]
    fn figures_are_readable() {
        assert_eq!(grouped(16_514.0), "16,514");
        assert_eq!(grouped(306.0), "306");
        assert_eq!(grouped(1_000_000.0), "1,000,000");
        let shown = [8.0, 0.5, 3.168, 31.42, 1234.5, 123.4, 0.0012].map(figure);
        assert_eq!(shown, ["8", "0.50", "3.17", "31.4", "1,234", "123", "1.2e-3"]);
    }
}
