//! A16: size, slowness, wrong lengths: what costs an attacker little and the others much.

use koinon_aggregation::planted::Weakness;
use koinon_proto::wire::coordinator_frame::Frame;
use koinon_proto::wire::to_site::Message as ToSite;
use koinon_proto::{limits, wire};
use rand::RngExt as _;

use super::center;
use super::sites::{Round, Rounds, audit, contradicts_itself, fault, gained, ready, reported};
use super::sums::rng;
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 16,
    scripts: &[
        script!(
            a_letter_over_the_limit,
            "a site that reads letters of any length",
            Plant::Checks(&[Weakness::AnyLength])
        ),
        script!(
            a_site_made_to_talk,
            "a site that fills its ledger at the coordinator's will",
            Plant::Checks(&[Weakness::AnyWelcome])
        ),
        script!(
            a_flood_of_posted_keys,
            "a journal and a log that a site makes grow as fast as it can sign",
            Plant::Checks(&[Weakness::AnyPostings])
        ),
        script!(
            garbled_mail,
            "a panic, or one thing said in two ways",
            Plant::World("the disk goes back between the letters")
        ),
        script!(
            an_upload_that_never_ends,
            "a round that waits for ever",
            Plant::Checks(&[Weakness::EndlessWait])
        ),
    ],
};

fn a_letter_over_the_limit(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(6);
    let sites = world.all();
    let mut rounds = Rounds::start(&mut world, &task, &Round::train(1), &sites);
    let honest = rounds.bundles(&mut world);
    let mut large = honest.clone();
    large.bundles.push(vec![0; limits::ENVELOPE_BODY_BYTES_MAX]);
    let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Participants(large)));
    outcome.goal(fault(&world, 0) != "oversized", "it was read");
    outcome.holds(got.is_empty(), "it was answered");
    // The right one is read still.
    let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Participants(honest)));
    outcome.holds(got.len() == 1, "the right one is not answered");
    audit(&mut outcome, &mut world, 0);
    outcome
}

fn a_flood_of_posted_keys(_: bool) -> Outcome {
    use koinon_coordinator::record::Change;
    let mut outcome = Outcome::default();
    let mut world = center::World::new(5, 23);
    let task = world.submit(&center::manifest()).unwrap();
    let name = world.name(0);
    for _ in 0..60 {
        world.site(0).post_keys();
        for frame in world.site(0).take_out() {
            world.send(&name, frame);
        }
        world.settle();
    }
    let of_site =
        |change: &&Change| matches!(change, Change::KeysPosted { site, .. } if *site == name);
    let kept = world.changes().filter(of_site).count();
    outcome.goal(kept > 20, format!("{kept} of 61 batches are in the log"));
    let told = world.site(0).rejections.iter().any(|code| code == "too_many");
    outcome.holds(told, "nobody said that it is too much");
    let done = center::within(20_000, &mut world, |world| center::ended(world, &task));
    outcome.holds(done, "the others hang");
    outcome
}

fn a_site_made_to_talk(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, _) = ready(6);
    let before = world.sites[0].sent.len();
    for epoch in 10..1_010 {
        let welcome = wire::Welcome { coordinator_epoch: epoch, received: 0 };
        world.frame(0, Frame::Welcome(welcome));
    }
    let said = world.sites[0].sent.len() - before;
    outcome.goal(said > 10, format!("{said} frames for 1,000 welcomes"));
    outcome.holds(fault(&world, 0) == "out_of_step", fault(&world, 0));
    audit(&mut outcome, &mut world, 0);
    outcome
}

/// A real session's mail with bits turned, bytes lost and bytes put in, before the real one.
fn garbled_mail(planted: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(6);
    let mut rounds = reported(&mut world, &task, 1);
    rounds.sign(&mut world);
    rounds.unmask(&mut world);
    let mail = world.sites[0].told.clone();
    for seed in 0..6 {
        let mut rng = rng(seed);
        let (mut world, task) = ready(6);
        let mut before = world.sites[0].disk.clone();
        for body in &mail {
            for _ in 0..rng.random_range(0..4) {
                let mut garbled = body.clone();
                let at = rng.random_range(0..garbled.len());
                match rng.random_range(0..4) {
                    0 => garbled.truncate(at),
                    1 => garbled.insert(at, rng.random()),
                    _ => garbled[at] ^= 1 << rng.random_range(0..8),
                }
                world.tell_body(0, garbled);
            }
            world.tell_body(0, body.clone());
            if planted {
                std::mem::swap(&mut world.sites[0].disk, &mut before);
                world.restart(0);
                world.offer(&task);
                world.tell_body(0, body.clone());
            }
        }
        let twice = contradicts_itself(&world, 0);
        outcome.goal(twice.is_some(), format!("{twice:?} in two ways"));
        audit(&mut outcome, &mut world, 0);
    }
    outcome
}

/// A site sends all of its update but the last chunk, and says hello for ever.
fn an_upload_that_never_ends(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut world = center::World::new(6, 31);
    let task = world.submit(&center::manifest()).unwrap();
    world.site(5).stalls = true;
    let over = center::within(20_000, &mut world, |world| center::ended(world, &task));
    outcome.goal(!over, "the round is still open");
    let status = world.core.status(&task).unwrap();
    outcome.holds(status.state == "done", status.state.clone());
    outcome.holds(status.history.iter().all(|round| round.participants == 5), "it counts");
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
