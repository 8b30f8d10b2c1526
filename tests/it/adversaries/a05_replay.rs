//! A5: replay, mixing of sessions, downgrade. What was said once is put where it does not belong.

use koinon_aggregation::planted::Weakness;
use koinon_proto::wire;
use koinon_proto::wire::to_site::Message as ToSite;

use super::center;
use super::sites::world::whole_round;
use super::sites::{
    Hub, Round, Rounds, Task, World, audit, bundles, fault, gained, give_up, is, ready, refusal,
    reported, told_participants, with_keys,
};
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 5,
    scripts: &[
        script!(
            a_whole_session_again,
            "new keys and a second masked update in a session that was left",
            Plant::Checks(&[Weakness::LeftSession])
        ),
        script!(
            a_bundle_of_another_session,
            "shares sealed to keys that another session spent",
            Plant::Checks(&[Weakness::AnySession])
        ),
        script!(
            an_older_protocol,
            "a session under a version that the site has given up",
            Plant::World("the site's policy still permits the older version")
        ),
        script!(
            posted_keys_named_until_they_are_gone,
            "one pair of posted keys in two sessions, or a site without keys",
            Plant::Checks(&[Weakness::KeyAgain])
        ),
        script!(
            old_answers_to_the_coordinator,
            "a site's answer of another session counts in this one",
            Plant::Checks(&[Weakness::AnySession])
        ),
    ],
};

/// Everything that was told is told again, after the session was given up.
fn a_whole_session_again(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(6);
    let mut rounds = reported(&mut world, &task, 1);
    rounds.survivors(&mut world);
    let result = Some(wire::outcome::Result::Abandoned("given_up".into()));
    let end = ToSite::Outcome(wire::Outcome { session: vec![1; 32], result });
    let told = world.sites[0].told.clone();
    world.tell(0, end);
    let got = gained(&mut world, 0, |world| {
        for body in told {
            world.tell_body(0, body);
        }
    });
    outcome.goal(got.iter().any(|body| is(body, "ready")), "the session was entered again");
    outcome.holds(got.is_empty(), "something left");
    outcome.holds(refusal(&world, 0) == "session_left", refusal(&world, 0));
    audit(&mut outcome, &mut world, 0);
    outcome
}

fn a_bundle_of_another_session(_: bool) -> Outcome {
    let (mut world, task) = ready(6);
    let sites = world.all();
    let mut rounds = Rounds::start(&mut world, &task, &Round::train(1), &sites);
    let old = rounds.bundles(&mut world).bundles;
    let mut rounds = Rounds::start(&mut world, &task, &Round::train(2), &sites);
    let mut participants = rounds.bundles(&mut world);
    participants.bundles[3].clone_from(&old[3]);
    told_participants(world, participants, "shares left", "wrong_session")
}

/// More sessions than a batch has keys name the same few pairs, and each is given up.
fn posted_keys_named_until_they_are_gone(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(6);
    let (mut hub, sites) = (Hub::default(), world.all());
    hub.collect(&mut world, &sites);
    let mut seen = std::collections::BTreeSet::new();
    for session in 1..=40_u8 {
        let known = if session == 1 { 0 } else { hub.log.size() };
        let keys = hub.ahead(&world, session % 16, known);
        let (_, invite) = with_keys(&world, &task, &Round::train(session), keys);
        world.tell(0, ToSite::Invite(invite));
        let said = bundles(&mut world, 0);
        outcome.holds(said.len() == 1, format!("session {session}: {} bundles", said.len()));
        let said =
            said.iter().filter_map(|bytes| koinon_aggregation::Bundle::from_bytes(bytes).ok());
        for bundle in said {
            let new = bundle.public_keys().into_iter().all(|key| seen.insert(*key));
            outcome.goal(!new, format!("session {session} has keys of another"));
        }
        give_up(&mut world, session);
    }
    audit(&mut outcome, &mut world, 0);
    outcome
}

fn an_older_protocol(planted: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let oldest = if planted { 1 } else { 2 };
    let mut world = World::with_policy(6, |policy| policy.protocol.min_version = oldest);
    let task = Task::new(|_| {});
    world.offer(&task);
    world.tell(0, ToSite::Invite(world.invite(&task, &Round::train(1))));
    outcome.goal(!bundles(&mut world, 0).is_empty(), "keys for a session of version 1");
    outcome.holds(fault(&world, 0) == "envelope", fault(&world, 0));
    audit(&mut outcome, &mut world, 0);
    // The honest sites of the same program go on.
    let (mut world, task) = ready(5);
    let sites = world.all();
    let sum = whole_round(&mut world, &task, &Round::train(1), &sites);
    outcome.holds(sum.n_sites() == 5, "others go on");
    outcome
}

/// A site says in the second round what it said in the first, under the second one's name.
fn old_answers_to_the_coordinator(_: bool) -> Outcome {
    use koinon_proto::wire::to_coordinator::Message as Say;
    use prost::Message as _;
    let mut outcome = Outcome::default();
    let mut world = center::World::new(5, 11);
    let task = world.submit(&center::manifest()).unwrap();
    world.run_until(|world| world.core.status(&task).is_some_and(|s| s.phase == "sharing"));
    let old = world.site(0).answered(center::Question::Invite).unwrap();
    world.site(0).mute.insert(center::Question::Invite);
    world.run_until(|world| world.core.status(&task).is_some_and(|s| s.round == 1));
    world.settle();
    let session = world.site(1).session();
    let name = world.name(0);
    let message = wire::ToCoordinator::decode(&old[..]).ok().and_then(|body| body.message);
    if let (Some(session), Some(Say::Ready(ready))) = (session, message) {
        let session = session.into();
        let lie = Say::Ready(wire::Ready { session, bundle: ready.bundle });
        let frame = world.site(0).say(lie);
        world.send(&name, frame);
        world.settle();
    }
    let code = world.site(0).rejections.last().cloned();
    outcome.goal(code.is_none(), "the old keys count");
    outcome.holds(code.as_deref() == Some("wrong_session"), format!("{code:?}"));
    let done = center::within(20_000, &mut world, |world| center::ended(world, &task));
    outcome.holds(done, "the others hang");
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
