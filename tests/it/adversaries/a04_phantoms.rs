//! A4: phantom sites and swapped keys. With fifteen sites of its own making, a coordinator opens the
//! sixteenth's sum.

use koinon_aggregation::ahead::Stock;
use koinon_aggregation::client::advertise;
use koinon_aggregation::identity::Identity;
use koinon_aggregation::planted::Weakness;
use koinon_aggregation::roster::{Member, Role, Roster};
use koinon_aggregation::{Bundle, SessionPlan, Signer as _};
use koinon_proto::wire::to_site::Message as ToSite;
use koinon_proto::{Digest, wire};

use super::sites::world::member;
use super::sites::{
    Hub, Round, Rounds, World, audit, bundles, gained, is, ready, refusal, site_name,
    told_participants, with_keys,
};
use super::sums::rng;
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 4,
    scripts: &[
        script!(
            fifteen_invented_sites,
            "shares to fifteen sites of the coordinator's own making",
            Plant::Checks(&[Weakness::UnsignedRoster])
        ),
        script!(
            a_man_in_the_middle,
            "shares sealed to a key that the coordinator put in another's place",
            Plant::Checks(&[Weakness::UnsignedBundle])
        ),
        script!(
            posted_keys_of_the_coordinators_own,
            "agreement with keys that the coordinator posted in another's name",
            Plant::Checks(&[Weakness::UnprovenKeys])
        ),
        script!(
            an_expired_identity,
            "shares to a member whose time is over",
            Plant::Checks(&[Weakness::AnyMember])
        ),
        script!(
            a_revoked_identity,
            "a session under the roster from before a revocation",
            Plant::Checks(&[Weakness::OlderRoster])
        ),
    ],
};

fn bundle_of(plan: &SessionPlan, name: &str, key: &Identity) -> Bundle {
    advertise(plan.clone(), name, key, &mut rng(u64::from(key.public()[0]))).unwrap().1
}

/// Puts a roster in force that `signer` signed, as far as the sites believe it.
fn announce(world: &mut World, members: Vec<Member>, signer: &Identity) {
    let held = world.roster.clone();
    let version = held.roster().version + 1;
    let roster = Roster { version, previous: Some(held.digest()), members };
    world.roster = roster.sign(signer).unwrap();
    let bytes = world.roster.bytes().to_vec();
    world.blobs.insert(Digest(world.roster.digest()), bytes);
    (0..world.sites.len()).for_each(|index| world.announce(index));
}

/// The coordinator signs a batch in the name of site 1, puts it into its log and names it, rightly
/// proven to be there; and another one that is nowhere in the log.
fn posted_keys_of_the_coordinators_own(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    for in_the_log in [true, false] {
        let (mut world, task) = ready(6);
        let (mut hub, sites) = (Hub::default(), world.all());
        hub.collect(&mut world, &sites);
        let keeper = Identity::from_secret_bytes(&world.coordinator.to_secret_bytes());
        let name = site_name(1).to_string();
        let signer =
            if in_the_log { keeper } else { Identity::from_secret_bytes(&world.sites[1].secret) };
        let mut own = Stock::default();
        let public = world.coordinator.public();
        let batch = own.make(&public, &name, &signer, &mut rng(5)).clone();
        let place = if in_the_log { hub.log.append(&batch.entry(&public)).unwrap() } else { 1 };
        hub.batches.insert(name, (batch, place));
        let keys = hub.ahead(&world, 0, 0);
        let (_, invite) = with_keys(&world, &task, &Round::train(1), keys);
        let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Invite(invite)));
        outcome.goal(!got.is_empty(), format!("keys for it, in the log: {in_the_log}"));
        outcome.holds(refusal(&world, 0) == "keys_unproven", refusal(&world, 0));
        audit(&mut outcome, &mut world, 0);
    }
    outcome
}

fn fifteen_invented_sites(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(1);
    let puppets: Vec<Identity> =
        (0..15u8).map(|index| Identity::from_secret_bytes(&[100 + index; 32])).collect();
    let names: Vec<String> = (0..15).map(|index| format!("ward-{index:02}")).collect();
    let mut members = world.roster.roster().members.clone();
    let rows = names.iter().zip(&puppets);
    members.extend(rows.map(|(name, key)| member(name, Role::Client, key.public())));
    let coordinator = Identity::from_secret_bytes(&world.coordinator.to_secret_bytes());
    let before = world.sites[0].participant.status().roster;
    announce(&mut world, members, &coordinator);
    outcome.holds(world.sites[0].participant.status().roster == before, "the roster was believed");
    let round = Round::train(1);
    let got = gained(&mut world, 0, |world| {
        world.tell(0, ToSite::Invite(world.invite(&task, &round)));
        let plan = world.plan(&task, &round);
        let mut all = bundles(world, 0);
        all.extend(names.iter().zip(&puppets).map(|(n, key)| bundle_of(&plan, n, key).to_bytes()));
        let session = plan.session.to_vec();
        world.tell(
            0,
            ToSite::Participants(wire::Participants {
                session,
                bundles: all,
                ..wire::Participants::default()
            }),
        );
    });
    outcome.goal(got.iter().any(|body| is(body, "shares")), "all shares are the coordinator's");
    outcome.holds(got.is_empty(), "something left");
    outcome.holds(refusal(&world, 0) == "roster_mismatch", refusal(&world, 0));
    audit(&mut outcome, &mut world, 0);
    outcome
}

fn a_man_in_the_middle(_: bool) -> Outcome {
    let (mut world, task) = ready(6);
    let sites = world.all();
    let round = Round::train(1);
    let mut rounds = Rounds::start(&mut world, &task, &round, &sites);
    let mut participants = rounds.bundles(&mut world);
    let name = site_name(1);
    let own = bundle_of(&world.plan(&task, &round), name.as_str(), &world.coordinator);
    participants.bundles[1] = own.to_bytes();
    told_participants(world, participants, "shares sealed to the coordinator", "bad_signature")
}

fn an_expired_identity(_: bool) -> Outcome {
    let (mut world, task) = ready(6);
    let mut members = world.roster.roster().members.clone();
    let name = site_name(5);
    members.iter_mut().filter(|m| m.name == name.as_str()).for_each(|m| m.valid_until_ms = 1_000);
    let consortium = Identity::from_secret_bytes(&world.consortium.to_secret_bytes());
    announce(&mut world, members, &consortium);
    let sites = world.all();
    let mut rounds = Rounds::start(&mut world, &task, &Round::train(1), &sites);
    let participants = rounds.bundles(&mut world);
    world.now = 1_000;
    told_participants(world, participants, "shares for the expired site left", "unknown_site")
}

fn a_revoked_identity(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(6);
    let old = world.roster.clone();
    let mut members = old.roster().members.clone();
    let name = site_name(5);
    members.iter_mut().filter(|m| m.name == name.as_str()).for_each(|m| m.revoked = true);
    let consortium = Identity::from_secret_bytes(&world.consortium.to_secret_bytes());
    announce(&mut world, members, &consortium);
    let new = Digest(world.roster.digest());
    outcome.holds(world.sites[0].participant.status().roster == Some(new), "the new one counts");
    world.roster = old;
    let got = gained(&mut world, 0, |world| {
        world.announce(0);
        world.tell(0, ToSite::Invite(world.invite(&task, &Round::train(1))));
    });
    outcome.goal(!got.is_empty(), "keys for a session in which the revoked site counts");
    outcome.holds(refusal(&world, 0) == "roster_mismatch", refusal(&world, 0));
    audit(&mut outcome, &mut world, 0);
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
