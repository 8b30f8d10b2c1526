//! A12: wrap-around. A sum that wraps is a wrong sum that looks right.

use koinon_aggregation::planted::Weakness;
use koinon_aggregation::{MaskedUpdate, Report};

use super::sites::{Round, ready, told_invitation};
use super::sums::{Inputs, cohort, one_field, opened, resign};
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 12,
    scripts: &[
        script!(
            a_plan_with_too_few_bits,
            "a session whose sums wrap around",
            Plant::Checks(&[Weakness::AnyBits, Weakness::AnyEncoding])
        ),
        script!(
            half_the_ring_on_top,
            "a sum that is wrong by half the ring, given out as right",
            Plant::Checks(&[Weakness::AnySum])
        ),
    ],
};

fn a_plan_with_too_few_bits(_: bool) -> Outcome {
    let (world, task) = ready(6);
    let mut invite = world.invite(&task, &Round::train(1));
    // Behind version, session, context, roster, n_min, n_max and w_max.
    invite.plan[110] -= 8;
    told_invitation(world, invite, "keys for a session of eight bits less", "plan_invalid")
}

/// One of five sites turns the highest bit of its first entry, and signs what it sends.
fn half_the_ring_on_top(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let cohort = cohort(5, 1);
    let plan = one_field(50, 5, 1);
    let bits = usize::from(plan.bits());
    let lie = |site: usize, update: &mut MaskedUpdate| {
        if site == 3 {
            let bit = 2 * bits - 1;
            update.packed[bit / 8] ^= 1 << (bit % 8);
            let mut report = update.report.to_bytes();
            let digest = report.len() - 64 - 32;
            report[digest..digest + 32].copy_from_slice(&update.report.digest_of(&update.packed));
            resign(&mut report, "koinon/1/sign/report", &cohort.keys[3]);
            update.report = Report::from_bytes(&report).unwrap();
        }
    };
    let inputs = Inputs { values: &|_| vec![0.25f32; 50].into(), lie: &lie };
    match opened(&cohort, plan, 1, 0, &inputs) {
        Ok(sum) => outcome.goal(true, format!("{} given out", sum.values()[1])),
        Err(error) => outcome.holds(error.code() == "out_of_range", error.to_string()),
    }
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
