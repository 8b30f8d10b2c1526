//! The stage for a lying coordinator: shipped participants, driven by frames.
//!
//! The world of the client's own tests, and short ways to say what the scripts say often.

#[expect(dead_code, reason = "the client's own tests use the rest")]
#[path = "../../../client/tests/policy/keys.rs"]
pub(crate) mod keys;
#[expect(dead_code, reason = "the client's own tests use the rest")]
#[path = "../../../client/tests/policy/said.rs"]
mod said;
#[expect(dead_code, reason = "the client's own tests use the rest")]
#[expect(clippy::cast_possible_truncation, reason = "a test's numbers are small")]
#[path = "../../../client/tests/policy/world.rs"]
pub(crate) mod world;

use koinon_client::ledger::{Entries, Kind, verify};
use koinon_client::participant::PhaseName;
use koinon_proto::wire;
use koinon_proto::wire::to_coordinator::Message as FromSite;
use koinon_proto::wire::to_site::Message as ToSite;
use prost::Message as _;

use super::Outcome;
pub(crate) use keys::{Hub, with_keys};
pub(crate) use said::{key_of, ledger_of};
pub(crate) use world::{Disk, Round, Rounds, Task, World, site_name, whole_round};

/// `n` sites that were offered a task which they do.
pub(crate) fn ready(n: usize) -> (World, Task) {
    let mut world = World::new(n);
    let task = Task::new(|_| {});
    world.offer(&task);
    (world, task)
}

/// Runs a lie and returns what it made the site say of its session.
pub(crate) fn gained(
    world: &mut World,
    index: usize,
    lie: impl FnOnce(&mut World),
) -> Vec<Vec<u8>> {
    let before = world.sites[index].secrets_sent().len();
    lie(world);
    world.sites[index].secrets_sent().split_off(before)
}

/// All sites' masked updates are with the coordinator.
pub(crate) fn reported(world: &mut World, task: &Task, session: u8) -> Rounds {
    let sites = world.all();
    let mut rounds = Rounds::start(world, task, &Round::train(session), &sites);
    rounds.share(world);
    rounds.report(world);
    rounds
}

/// The survivor signatures that a site said and nobody took yet.
pub(crate) fn signatures(world: &mut World, index: usize) -> Vec<Vec<u8>> {
    world.take(index, |message| match message {
        FromSite::SurvivorSignature(signature) => Some(signature.signature.clone()),
        _ => None,
    })
}

/// The key bundles that a site said and nobody took yet.
pub(crate) fn bundles(world: &mut World, index: usize) -> Vec<Vec<u8>> {
    world.take(index, |message| match message {
        FromSite::Ready(ready) => Some(ready.bundle.clone()),
        _ => None,
    })
}

/// Whether a body is of this kind.
pub(crate) fn is(body: &[u8], kind: &str) -> bool {
    key_of(body).starts_with(kind)
}

/// The different bodies of one kind that a site ever let out.
pub(crate) fn let_out(world: &World, index: usize, kind: &str) -> Vec<Vec<u8>> {
    let mut bodies = world.sites[index].secrets_sent();
    bodies.retain(|body| is(body, kind));
    bodies.sort();
    bodies.dedup();
    bodies
}

/// The last fault's code of a site.
pub(crate) fn fault(world: &World, index: usize) -> &'static str {
    world.sites[index].faults().last().copied().unwrap_or("none")
}

/// The last refusal's code of a site.
pub(crate) fn refusal(world: &World, index: usize) -> &'static str {
    world.sites[index].refusals().last().copied().unwrap_or("none")
}

/// The session that all sites are in is given up.
pub(crate) fn give_up(world: &mut World, session: u8) {
    for index in world.all() {
        let result = Some(wire::outcome::Result::Abandoned("given_up".into()));
        let outcome = wire::Outcome { session: vec![session; 32], result };
        world.tell(index, ToSite::Outcome(outcome));
    }
}

/// What should be so of an honest site after an attack: it ends when the coordinator gives the session
/// up, it never said one thing in two ways, and its ledger shows all that left.
pub(crate) fn audit(outcome: &mut Outcome, world: &mut World, index: usize) {
    let status = world.sites[index].participant.status();
    if let Some((session, ..)) = status.round {
        let session = session.0.to_vec();
        let result = Some(wire::outcome::Result::Abandoned("given_up".into()));
        world.tell(index, ToSite::Outcome(wire::Outcome { session, result }));
    }
    let site = &world.sites[index];
    let phase = site.participant.status().phase;
    outcome.holds(phase == PhaseName::Idle, format!("site {index} hangs in {phase:?}"));
    outcome.holds(site.disk.vector.is_none(), format!("site {index} keeps an update"));
    let mut said = std::collections::BTreeMap::new();
    for body in site.secrets_sent() {
        let key = key_of(&body);
        let before = said.insert(key.clone(), body.clone());
        let same = before.is_none_or(|before| before == body);
        outcome.holds(same, format!("site {index} said {key} in two ways"));
    }
    let text = ledger_of(&site.sent);
    outcome.holds(verify(&text).is_ok(), "the ledger is broken");
    let secret = [
        Kind::Ready,
        Kind::Shares,
        Kind::Report,
        Kind::Chunk,
        Kind::SurvivorSignature,
        Kind::Reveal,
    ];
    let shown = Entries::of(&text).flatten().filter(|entry| secret.contains(&entry.kind)).count();
    outcome.holds(shown == site.secrets_sent().len(), "the ledger does not show all that left");
}

/// Site 0 is told who takes part: the attacker wants its shares, and it names the fault instead.
pub(crate) fn told_participants(
    mut world: World,
    participants: wire::Participants,
    evidence: &str,
    code: &str,
) -> Outcome {
    let mut outcome = Outcome::default();
    let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Participants(participants)));
    outcome.goal(got.iter().any(|body| is(body, "shares")), evidence);
    outcome.holds(fault(&world, 0) == code, fault(&world, 0));
    audit(&mut outcome, &mut world, 0);
    outcome
}

/// Site 0 is invited: the attacker wants its keys, and it refuses with a reason instead.
pub(crate) fn told_invitation(
    mut world: World,
    invite: wire::Invite,
    evidence: &str,
    code: &str,
) -> Outcome {
    let mut outcome = Outcome::default();
    let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Invite(invite)));
    outcome.goal(!got.is_empty(), evidence);
    outcome.holds(refusal(&world, 0) == code, refusal(&world, 0));
    audit(&mut outcome, &mut world, 0);
    outcome
}

/// Whether a site said one thing in two ways.
pub(crate) fn contradicts_itself(world: &World, index: usize) -> Option<String> {
    let mut said = std::collections::BTreeMap::new();
    world.sites[index].secrets_sent().into_iter().find_map(|body| {
        let key = key_of(&body);
        let before = said.insert(key.clone(), body.clone());
        before.is_some_and(|before| before != body).then_some(key)
    })
}

/// The masked update that a site sent chunk by chunk, last.
pub(crate) fn uploaded(world: &World, index: usize) -> Vec<u8> {
    let mut packed = Vec::new();
    for body in world.sites[index].secrets_sent().iter().filter(|body| is(body, "chunk")) {
        if let Ok(chunk) = wire::UploadChunk::decode(&body[..]) {
            if chunk.index == 0 {
                packed.clear();
            }
            packed.extend(chunk.data);
        }
    }
    packed
}
