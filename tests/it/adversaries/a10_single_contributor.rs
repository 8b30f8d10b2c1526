//! A10: entries to which one site alone contributes: a category that occurs at one hospital, an
//! embedding row that only its rows move. In the sum they are that site's own numbers. What hides them
//! is the noise of a private task, which is dense: every entry has it, whoever contributes. A task
//! without privacy has no defence but its feature plan, and `docs/threat-model.md` says so.

use koinon_aggregation::noise::NoisePlan;
use koinon_aggregation::planted::Weakness;

use super::sums::{Inputs, cohort, one_field, opened};
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 10,
    scripts: &[
        script!(
            an_embedding_row_of_one_site,
            "one site's gradient of a rare word, read off the sum",
            Plant::Checks(&[Weakness::NoNoise])
        ),
        script!(
            which_rare_words_a_site_has,
            "which of the rare rows moved at all",
            Plant::Checks(&[Weakness::NoNoise])
        ),
    ],
};

const ROWS: usize = 64;
const WIDTH: usize = 8;

/// Sums of an embedding's gradient: only site 0 has the rows of even numbers, nobody the odd ones. The
/// noise's deviation is a quarter of the clip of one entry, at each of five sites.
fn rare_rows() -> Vec<f64> {
    let noise = NoisePlan::at_least((0.25f64 * 4096.0).powi(2)).unwrap();
    let plan = one_field(ROWS * WIDTH, 5, 1).with_noise(noise).unwrap();
    let of = |site: usize| {
        let value =
            |entry: usize| if site == 0 && (entry / WIDTH).is_multiple_of(2) { 0.5 } else { 0.0 };
        (0..ROWS * WIDTH).map(value).collect::<Vec<f32>>().into()
    };
    let sum = opened(&cohort(5, 1), plan, 1, 0, &Inputs::honest(&of)).unwrap();
    sum.values()[1..].iter().map(|&units| units as f64 / 4096.0).collect()
}

fn an_embedding_row_of_one_site(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let sums = rare_rows();
    let errors = sums.chunks(WIDTH).step_by(2).flatten().map(|sum| (sum - 0.5).powi(2));
    let error = (errors.sum::<f64>() / (ROWS * WIDTH / 2) as f64).sqrt();
    // Five shares: an error of 0.25 times the root of five.
    outcome.goal(error < 0.3, format!("each entry is known to within {error}"));
    outcome.holds((0.4..0.75).contains(&error), format!("the noise is {error}"));
    outcome
}

fn which_rare_words_a_site_has(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let sums = rare_rows();
    let moved = sums.chunks(WIDTH).map(|row| row.iter().any(|sum| *sum != 0.0));
    let right = moved.enumerate().filter(|(row, moved)| *moved == row.is_multiple_of(2)).count();
    // Every row has moved: the guess is right for the half that really did.
    outcome.goal(right > ROWS * 3 / 4, format!("{right} of {ROWS} rows are told apart by zeros"));
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
