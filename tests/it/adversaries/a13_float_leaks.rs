//! A13: what floating point says. An update becomes whole numbers inside the site, at random and
//! without bias; what opens says nothing finer than the grid.
//!
//! Time is not tried here: secrets go through constant-time code by construction (`aggregation`'s
//! field, tables and curve), clipping and training do not, and `docs/threat-model.md` says so.

use koinon_aggregation::planted::Weakness;

use super::sums::{Inputs, cohort, one_field, opened};
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 13,
    scripts: &[
        script!(
            the_low_bits_of_an_update,
            "to tell two updates apart that differ by less than the grid",
            Plant::World("sites add their updates up as doubles")
        ),
        script!(
            a_bias_in_the_rounding,
            "a sum that is off by what rounding lost, entry by entry",
            Plant::Checks(&[Weakness::RoundsDown])
        ),
    ],
};

const ENTRIES: usize = 4_096;

/// Five sites' sum of an entry, in units of the grid.
fn units(value: f64, seed: u64) -> Vec<i64> {
    let of = |_| vec![value; ENTRIES].into();
    let plan = one_field(ENTRIES, 5, 1);
    let sum = opened(&cohort(5, 1), plan, seed, 0, &Inputs::honest(&of)).unwrap();
    sum.values()[1..].to_vec()
}

/// Two updates of which one has a trace more, as one more row would leave it.
fn the_low_bits_of_an_update(planted: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let trace = 1.0 / (1u64 << 40) as f64;
    let [plain, traced] = [0.25, 0.25 + trace];
    let shown = |value: f64, seed| -> Vec<i64> {
        if planted {
            let sum: f64 = std::iter::repeat_n(value, 5).sum();
            return vec![sum.to_bits().cast_signed(); ENTRIES];
        }
        units(value, seed)
    };
    let (one, other) = (shown(plain, 1), shown(traced, 2));
    outcome.goal(one != other, "the sums differ in bits that the grid does not have");
    outcome
}

/// A quarter of the grid in every entry: on the average that is what should be there.
fn a_bias_in_the_rounding(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let units = units((1000.0 + 0.25) / 4096.0, 3);
    let near = units.iter().all(|sum| (5 * 1000..=5 * 1001).contains(sum));
    outcome.holds(near, "an entry was rounded further than to its neighbours");
    let mean = units.iter().sum::<i64>() as f64 / ENTRIES as f64 - 5000.0;
    // 5 · 4,096 draws of variance 3/16: the mean's deviation is 0.0151.
    outcome.goal((mean - 1.25).abs() > 0.08, format!("{mean} where 1.25 is right"));
    let second = units.iter().map(|sum| (*sum as f64 - 5001.25).powi(2)).sum::<f64>();
    let variance = second / ENTRIES as f64;
    outcome.holds((variance - 0.9375).abs() < 0.12 || mean == 0.0, format!("variance {variance}"));
    outcome
}

#[test]
fn repelled() {
    super::repelled(&CLASS);
}

#[test]
fn planted_is_found() {
    super::planted_is_found(&CLASS);
}
