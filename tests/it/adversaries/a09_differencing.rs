//! A9: differencing. Two sums over the same parameters, one of them without one site, subtracted, are
//! that site's own numbers.

use koinon_aggregation::Sum;
use koinon_aggregation::planted::Weakness;
use koinon_model::contribution::RoundKind;
use koinon_proto::Digest;

use super::sites::{Round, Rounds, Task, World, audit, let_out, ready, refusal, whole_round};
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 9,
    scripts: &[
        script!(
            a_retry_with_one_site_fewer,
            "one site's update, as the difference of two sums",
            Plant::Checks(&[Weakness::Respent])
        ),
        script!(
            the_same_parameters_under_another_name,
            "the same, with the parameters in another file",
            Plant::Checks(&[Weakness::Respent])
        ),
        script!(
            statistics_of_fifteen_of_sixteen,
            "one site's column sums",
            Plant::Checks(&[Weakness::Respent])
        ),
        script!(
            figures_by_training_and_by_evaluation,
            "one site's validation figures",
            Plant::Checks(&[Weakness::Respent])
        ),
    ],
};

/// A second session without site 0 after `first` was opened with it: the second sum, if the sites go
/// along.
fn second(world: &mut World, task: &Task, round: &Round) -> Option<Sum> {
    let sites: Vec<usize> = (1..world.sites.len()).collect();
    let before = let_out(world, 1, "ready").len();
    let mut rounds = Rounds::start(world, task, round, &sites);
    if let_out(world, 1, "ready").len() == before {
        return None;
    }
    rounds.share(world);
    rounds.report(world);
    rounds.sign(world);
    rounds.unmask(world);
    Some(rounds.open(world))
}

fn differenced(n: usize, first: &Round, lie: impl FnOnce(&mut World, &Task) -> Round) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(n);
    let sites = world.all();
    let with = whole_round(&mut world, &task, first, &sites);
    let round = lie(&mut world, &task);
    if let Some(without) = second(&mut world, &task, &round) {
        let one = with.values()[0] - without.values()[0];
        outcome.goal(with.n_sites() == without.n_sites() + 1, format!("weight {one} is site 0's"));
    }
    let code = if first.kind == RoundKind::Statistics { "statistics_opened" } else { "spent" };
    for index in 1..n {
        outcome.holds(refusal(&world, index) == code, refusal(&world, index));
        audit(&mut outcome, &mut world, index);
    }
    outcome
}

fn a_retry_with_one_site_fewer(_: bool) -> Outcome {
    differenced(6, &Round::train(1), |_, _| Round::train(2))
}

fn the_same_parameters_under_another_name(_: bool) -> Outcome {
    differenced(6, &Round::train(1), |world, task| {
        let mut renamed = task.params.clone();
        let length = u64::from_le_bytes(renamed[..8].try_into().unwrap()) + 8;
        renamed[..8].copy_from_slice(&length.to_le_bytes());
        let header = usize::try_from(length).unwrap();
        renamed.splice(header..header, [b' '; 8]);
        let digest = Digest::of(&renamed);
        world.blobs.insert(digest, renamed);
        Round { version: Some(digest), number: 2, ..Round::train(2) }
    })
}

fn statistics_of_fifteen_of_sixteen(_: bool) -> Outcome {
    let statistics =
        |session| Round { kind: RoundKind::Statistics, number: 0, ..Round::train(session) };
    differenced(16, &statistics(1), |_, _| statistics(2))
}

fn figures_by_training_and_by_evaluation(_: bool) -> Outcome {
    differenced(6, &Round::train(1), |_, _| Round {
        kind: RoundKind::Evaluate,
        number: 2,
        ..Round::train(2)
    })
}

#[test]
fn repelled() {
    super::repelled(&CLASS);
}

#[test]
fn planted_is_found() {
    super::planted_is_found(&CLASS);
}
