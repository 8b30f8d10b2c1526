//! A14: weak seeds and masks used twice. Two updates under one mask, subtracted, are the difference of
//! the updates.

use koinon_aggregation::planted::{Weakness, pair_seed};
use koinon_aggregation::{EncodingPlan, unpack};
use koinon_client::Event;
use koinon_model::contribution::RoundKind;
use koinon_proto::wire;
use koinon_proto::wire::coordinator_frame::Frame;
use koinon_proto::wire::to_site::Message as ToSite;

use super::judge::{difference, is_not_uniform};
use super::sites::{Round, Rounds, audit, ready, reported, uploaded};
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 14,
    scripts: &[
        script!(
            masked_again_after_a_reconnect,
            "two masked updates of one session, and with them their difference",
            Plant::World("what the site wrote of its masking is lost")
        ),
        script!(
            entropy_that_comes_again,
            "one mask in two sessions of sites whose entropy repeats",
            Plant::Checks(&[Weakness::UnboundSeed])
        ),
        script!(
            a_million_sessions,
            "two sessions of one pair with one seed",
            Plant::Checks(&[Weakness::UnboundSeed])
        ),
    ],
};

fn words(packed: &[u8], plan: &EncodingPlan) -> Vec<u64> {
    unpack(packed, plan.entries(), plan.bits()).unwrap_or_default()
}

/// The coordinator says that it lost everything while the update came, and asks again.
fn masked_again_after_a_reconnect(planted: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(6);
    let sites = world.all();
    let mut rounds = Rounds::start(&mut world, &task, &Round::train(1), &sites);
    rounds.share(&mut world);
    let inboxes = rounds.inboxes(&mut world);
    let before = world.sites[0].disk.clone();
    let inbox = inboxes.get(&0).cloned().unwrap();
    world.tell(0, ToSite::Inbox(inbox.clone()));
    let first = uploaded(&world, 0);
    world.event(0, Event::Disconnected);
    world.sites[0].new_coordinator();
    if planted {
        world.sites[0].disk = before;
        world.restart(0);
        world.offer(&task);
    } else {
        world.event(0, Event::Connected);
    }
    world.tell(0, ToSite::Inbox(inbox));
    let (session, next) = (vec![1; 32], 0);
    world.frame(0, Frame::ChunkReceipt(wire::ChunkReceipt { session, next }));
    let second = uploaded(&world, 0);
    let plan = task.encoding(RoundKind::Train);
    let pairs = words(&first, &plan).into_iter().zip(words(&second, &plan));
    let apart: Vec<i64> = pairs.map(|(a, b)| difference(a, b, u32::from(plan.bits()))).collect();
    outcome.holds(!apart.is_empty(), "both uploads came whole");
    let differ = apart.iter().any(|apart| *apart != 0);
    let small = apart.iter().all(|apart| apart.abs() <= 1 << 16);
    outcome.goal(differ, format!("two updates under one mask; their difference shows: {small}"));
    audit(&mut outcome, &mut world, 0);
    outcome
}

/// All sites' machines are restored from one image: the second session draws what the first drew. Keys
/// and secrets repeat; the session that they are bound to does not.
fn entropy_that_comes_again(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(6);
    let rngs: Vec<_> = world.sites.iter().map(|site| site.rng.clone()).collect();
    reported(&mut world, &task, 1);
    let first = uploaded(&world, 0);
    let result = Some(wire::outcome::Result::Abandoned("given_up".into()));
    for (index, rng) in rngs.into_iter().enumerate() {
        let result = result.clone();
        world.tell(index, ToSite::Outcome(wire::Outcome { session: vec![1; 32], result }));
        world.sites[index].rng = rng;
    }
    reported(&mut world, &task, 2);
    let second = uploaded(&world, 0);
    let plan = task.encoding(RoundKind::Train);
    let bits = u32::from(plan.bits());
    let pairs = words(&first, &plan).into_iter().zip(words(&second, &plan));
    let apart: Vec<u64> = pairs.map(|(a, b)| a.wrapping_sub(b)).collect();
    outcome.holds(!apart.is_empty(), "both uploads came whole");
    let chi2 = is_not_uniform(&apart, bits);
    outcome.goal(chi2.is_some(), format!("the difference is not uniform: {chi2:?}"));
    audit(&mut outcome, &mut world, 0);
    outcome
}

fn a_million_sessions(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let sessions = 1_000_000u32;
    let seed = |session: u32| {
        let mut agreed = [0; 32];
        agreed[..4].copy_from_slice(&session.to_le_bytes());
        let seed = pair_seed([7; 32], &agreed, 0, 1);
        u128::from_le_bytes(seed[..16].try_into().unwrap())
    };
    let mut seeds: Vec<u128> = (0..sessions).map(seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let same = sessions as usize - seeds.len();
    outcome.goal(same > 0, format!("{same} seeds came again"));
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
