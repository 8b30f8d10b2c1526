//! A8: tiny cohorts and low thresholds. The sum over one honest site and colluders is that site's own
//! update; the floor counts members, so the site's policy says how many there must be.

use koinon_aggregation::SessionPlan;
use koinon_aggregation::client::advertise;
use koinon_aggregation::planted::Weakness;
use koinon_model::contribution::RoundKind;
use koinon_proto::wire;
use koinon_proto::wire::to_site::Message as ToSite;

use super::sites::{
    Round, Rounds, Task, World, audit, fault, gained, is, ready, refusal, reported, told_invitation,
};
use super::sums::{cohort, rng};
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 8,
    scripts: &[
        script!(
            a_cohort_of_three,
            "a session of three, where the site wants five",
            Plant::World("the site's policy permits three")
        ),
        script!(
            a_plan_for_two,
            "a session of two, whose sum tells each the other's update",
            Plant::Checks(&[Weakness::AnyCohort])
        ),
        script!(
            a_short_survivor_set,
            "a signature over fewer than the floor",
            Plant::Checks(&[Weakness::NoFloor, Weakness::AnyGraph])
        ),
        script!(
            a_weight_that_outweighs_all_others,
            "a plan in which one site's rows count for more than the task says",
            Plant::Checks(&[Weakness::AnyEncoding])
        ),
        script!(
            colluders_gathered,
            "a cohort of nine with all that collude in a roster of 64, who could sign two sets",
            Plant::Checks(&[Weakness::AnyGraph])
        ),
        script!(
            a_cohort_too_small_for_the_roster,
            "keys for a session that is weak whoever of the roster takes part",
            Plant::Checks(&[Weakness::AnyGraph])
        ),
    ],
};

fn a_cohort_of_three(planted: bool) -> Outcome {
    let mut world = World::with_policy(3, |policy| {
        policy.cohort.min = if planted { 3 } else { policy.cohort.min };
    });
    let small = Task::new(|manifest| {
        manifest.cohort.min = 3;
        manifest.cohort.quorum = 3;
    });
    world.offer(&small);
    let invite = world.invite(&small, &Round { n_min: 3, ..Round::train(1) });
    told_invitation(world, invite, "keys for a session of three", "cohort_too_small")
}

fn a_plan_for_two(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let cohort = cohort(3, 1);
    let plan = SessionPlan { n_min: 2, ..cohort.plan.clone() };
    let entered = advertise(plan, "site-00", &cohort.keys[0], &mut rng(1));
    match entered {
        Ok(_) => outcome.goal(true, "the site enters"),
        Err(rejection) => outcome.holds(rejection.code() == "bad_plan", rejection.to_string()),
    }
    // The same by frames: n_min stands behind version, session, context and roster.
    let (mut world, task) = ready(6);
    let mut invite = world.invite(&task, &Round::train(1));
    invite.plan[100] = 2;
    let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Invite(invite)));
    outcome.holds(got.is_empty(), "something left");
    outcome.holds(refusal(&world, 0) == "plan_invalid", refusal(&world, 0));
    audit(&mut outcome, &mut world, 0);
    outcome
}

fn a_short_survivor_set(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(6);
    let mut rounds = reported(&mut world, &task, 1);
    let survivors = rounds.survivors(&mut world);
    let small = wire::Survivors { indices: vec![0, 1, 2], ..survivors };
    let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Survivors(small)));
    outcome.goal(got.iter().any(|body| is(body, "signature")), "three survivors are signed for");
    outcome.holds(fault(&world, 0) == "too_few", fault(&world, 0));
    audit(&mut outcome, &mut world, 0);
    outcome
}

fn a_weight_that_outweighs_all_others(_: bool) -> Outcome {
    let (world, task) = ready(6);
    let heavier = Task::new(|manifest| manifest.encoding.rows_max = 1 << 20);
    let mut plan = world.plan(&task, &Round::train(1));
    plan.encoding = heavier.encoding(RoundKind::Train);
    let mut invite = world.invite(&task, &Round::train(1));
    invite.plan = plan.to_bytes();
    told_invitation(
        world,
        invite,
        "keys for a session with another largest weight",
        "encoding_mismatch",
    )
}

/// A roster of 64 whose sites think that seven of them may collude.
fn large_roster(cohort_max: u16) -> (World, Task) {
    let mut world = World::new(64);
    let task = Task::new(|manifest| {
        (manifest.cohort.min, manifest.cohort.quorum) = (6, 6);
        manifest.cohort.max = cohort_max;
    });
    world.offer(&task);
    (world, task)
}

/// Nine withstand four colluders, and a task of up to 64 might gather enough: so it is seen when those
/// who take part are known.
fn colluders_gathered(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = large_roster(64);
    let sites: Vec<usize> = (0..9).collect();
    let mut rounds =
        Rounds::start(&mut world, &task, &Round { n_min: 6, ..Round::train(1) }, &sites);
    let participants = rounds.bundles(&mut world);
    let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Participants(participants)));
    outcome.goal(got.iter().any(|body| is(body, "shares")), "shares among nine");
    outcome.holds(refusal(&world, 0) == "graph_too_weak", refusal(&world, 0));
    audit(&mut outcome, &mut world, 0);
    outcome
}

fn a_cohort_too_small_for_the_roster(_: bool) -> Outcome {
    let (world, task) = large_roster(16);
    let invite = world.invite(&task, &Round { n_min: 6, ..Round::train(1) });
    told_invitation(world, invite, "keys for a session of at most sixteen", "graph_too_weak")
}

#[test]
fn repelled() {
    super::repelled(&CLASS);
}

#[test]
fn planted_is_found() {
    super::planted_is_found(&CLASS);
}
