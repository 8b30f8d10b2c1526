//! A6: one site is told something else than the others. Either it is found before anything is shared,
//! or what opens is uniform.

use koinon_aggregation::planted::{Weakness, plant};
use koinon_aggregation::{Clipped, Encoded, SessionPlan};
use koinon_model::params::Params;
use koinon_proto::Digest;
use koinon_proto::wire::to_site::Message as ToSite;

use super::judge::is_not_uniform;
use super::sites::{Round, Rounds, audit, bundles, fault, gained, is, ready, told_invitation};
use super::sums::{cohort, dealt, one_field, rng};
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 6,
    scripts: &[
        script!(
            another_version_for_one_site,
            "the difference that other parameters make in one site's update",
            Plant::Checks(&[Weakness::AnySession])
        ),
        script!(
            a_false_name_for_the_version,
            "an update to other parameters than the session is bound to",
            Plant::Checks(&[Weakness::AnyContext])
        ),
        script!(
            a_dealer_that_deals_twice,
            "a sum of sites that were dealt different shares",
            Plant::Checks(&[Weakness::UnboundSeed])
        ),
    ],
};

fn another_version_for_one_site(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(6);
    let other = Params::init(&task.spec, 8).to_safetensors(task.spec.layout()).unwrap();
    let digest = Digest::of(&other);
    world.blobs.insert(digest, other);
    // In the second round, whose version a site cannot foresee.
    let honest = Round { number: 2, ..Round::train(1) };
    let lie = Round { version: Some(digest), ..Round { number: 2, ..Round::train(1) } };
    world.tell(0, ToSite::Invite(world.invite(&task, &lie)));
    let odd = bundles(&mut world, 0);
    let others: Vec<usize> = (1..6).collect();
    let mut rounds = Rounds::start(&mut world, &task, &honest, &others);
    let mut participants = rounds.bundles(&mut world);
    participants.bundles.splice(0..0, odd);
    for index in [0, 1] {
        let told = participants.clone();
        let got = gained(&mut world, index, |world| world.tell(index, ToSite::Participants(told)));
        outcome.goal(got.iter().any(|body| is(body, "shares")), "shares in a split session left");
        outcome.holds(fault(&world, index) == "wrong_session", fault(&world, index));
        audit(&mut outcome, &mut world, index);
    }
    outcome
}

fn a_false_name_for_the_version(_: bool) -> Outcome {
    let (mut world, task) = ready(6);
    let other = Params::init(&task.spec, 8).to_safetensors(task.spec.layout()).unwrap();
    let digest = Digest::of(&other);
    world.blobs.insert(digest, other);
    // The plan is bound to the version that all others have; the invitation names another one.
    let mut invite = world.invite(&task, &Round { number: 2, ..Round::train(1) });
    invite.version = digest.into();
    told_invitation(
        world,
        invite,
        "the site trained on other parameters for the same session",
        "context_mismatch",
    )
}

const ENTRIES: usize = 4_000;

/// A colluding dealer deals twice, and the coordinator gives the last of five sites the second dealing.
/// Its own program takes what that site reports and gives out whatever opens: these two checks are the
/// attacker's, not the site's.
fn a_dealer_that_deals_twice(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let cohort = cohort(5, 1);
    let encoding = one_field(ENTRIES, 5, 1);
    let plan = SessionPlan { encoding, ..cohort.plan.clone() };
    let (shared, mut server) = dealt(&cohort, &plan, 5, None);
    let (_, mut other) = dealt(&cohort, &plan, 5, Some(1));
    let mut masked = Vec::new();
    for (index, (site, key)) in (0..).zip(shared.into_iter().zip(&cohort.keys)) {
        let dealings = if index == 4 { &mut other } else { &mut server };
        let inbox = dealings.inbox_for(index).unwrap();
        let (site, _) = site.receive(&inbox).unwrap();
        let values = vec![vec![0.25f32; ENTRIES].into()];
        let clipped = Clipped::new(&plan.encoding, values, 1).unwrap();
        let (site, update) = site.mask(Encoded::new(clipped, &mut rng(7)), key).unwrap();
        let refused = server.add_masked(update.report.clone(), &update.packed).is_err();
        outcome.holds(refused == (index == 4), "the shipped coordinator finds the odd report");
        plant(&[Weakness::AnyReport], || server.add_masked(update.report, &update.packed)).unwrap();
        masked.push(site);
    }
    let survivors = server.fix_survivors().unwrap();
    let mut signed = Vec::new();
    for (site, key) in masked.into_iter().zip(&cohort.keys).take(4) {
        let (site, signature) = site.sign(&survivors, 3, key).unwrap();
        server.add_signature(signature.unwrap()).unwrap();
        signed.push(site);
    }
    let request = server.unmask_request().unwrap();
    for (site, key) in signed.into_iter().zip(&cohort.keys) {
        server.add_reveal(site.reveal(&request, key).unwrap().1).unwrap();
    }
    let opened = plant(&[Weakness::AnySum], || server.open()).map(|(sum, _)| sum);
    let Ok(sum) = opened else {
        outcome.holds(false, "the attacker's coordinator opens whatever there is");
        return outcome;
    };
    let within = sum.values()[1..].iter().filter(|value| value.abs() <= 5 * 4096).count();
    outcome.holds(within < ENTRIES, "the shipped coordinator would give this out");
    let words: Vec<u64> = sum.values()[1..].iter().map(|value| value.cast_unsigned()).collect();
    let chi2 = is_not_uniform(&words, u32::from(plan.encoding.bits()));
    outcome.goal(chi2.is_some(), format!("what opens is not uniform: {chi2:?}"));
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
