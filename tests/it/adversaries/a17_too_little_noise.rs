//! A17: too little noise after drop-outs. Each honest site's share of the noise is planned for the
//! fewest honest survivors that a session may end with: whoever is lost, what is left is enough.

use koinon_aggregation::noise::NoisePlan;
use koinon_aggregation::planted::Weakness;

use super::sums::{Inputs, cohort, one_field, opened};
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 17,
    scripts: &[
        script!(
            nobody_lost,
            "a sum with less noise than was accounted",
            Plant::Checks(&[Weakness::NoNoise])
        ),
        script!(
            a_tenth_lost,
            "a sum with less noise than was accounted, after one of ten is lost",
            Plant::World("shares are planned for all ten")
        ),
        script!(
            three_tenths_lost,
            "a sum with less noise than was accounted, after three of ten are lost",
            Plant::World("shares are planned for all ten")
        ),
    ],
};

const N: usize = 10;
const ENTRIES: usize = 8_192;
/// The accounted variance, in squared units of the grid.
const TARGET: f64 = 1e6;

/// Ten sites of which `n_lost` are lost; seven must survive, and none of them is counted on to collude.
fn noise_with(n_lost: usize, counted_on: u32) -> Outcome {
    let mut outcome = Outcome::default();
    let noise = NoisePlan::share(TARGET, counted_on).unwrap();
    let plan = one_field(ENTRIES, N, 1).with_noise(noise).unwrap();
    let of = |_| vec![0.25f32; ENTRIES].into();
    let sum = opened(&cohort(N, 1), plan, 4, n_lost, &Inputs::honest(&of)).unwrap();
    let n_left = N - n_lost;
    let truth = 1024.0 * n_left as f64;
    let errors = sum.values()[1..].iter().map(|&units| (units as f64 - truth).powi(2));
    let variance = errors.sum::<f64>() / ENTRIES as f64;
    // The sample's deviation is √(2 / 8,192), 1.6 % of the variance.
    outcome.goal(variance < 0.95 * TARGET, format!("variance {variance:.0} of {TARGET}"));
    let planned = noise.variance() * n_left as f64;
    outcome.holds((variance / planned - 1.0).abs() < 0.08, format!("{variance} of {planned}"));
    outcome
}

/// The fewest survivors, all of them honest.
const FEWEST: u32 = 7;

fn nobody_lost(_: bool) -> Outcome {
    noise_with(0, FEWEST)
}

fn a_tenth_lost(planted: bool) -> Outcome {
    noise_with(1, if planted { 10 } else { FEWEST })
}

fn three_tenths_lost(planted: bool) -> Outcome {
    noise_with(3, if planted { 10 } else { FEWEST })
}

#[test]
fn repelled() {
    super::repelled(&CLASS);
}

#[test]
fn planted_is_found() {
    super::planted_is_found(&CLASS);
}
