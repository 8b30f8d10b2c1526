//! A site that is killed between any two effects, and what it says afterwards: the same bytes, or
//! nothing of that session ever again.

use koinon_client::Event;
use koinon_client::participant::{Note, Participant, PhaseName};
use koinon_proto::wire::to_site::Message as ToSite;
use koinon_proto::{Digest, wire};

use crate::said::{ledger_of, said_once};
use crate::world::{Disk, Round, Rounds, Task, World, whole_round};

/// An honest round of six sites in which site 0 is killed after its `kill_after`th effect and comes
/// back at once. Returns the number of its effects.
fn round_with_kill(kill_after: Option<usize>) -> usize {
    let mut world = World::new(6);
    let task = Task::new(|_| {});
    world.offer(&task);
    let start = world.sites[0].effects;
    world.sites[0].kill_after = kill_after.map(|after| start + after);
    let sites = world.all();
    let sum = whole_round(&mut world, &task, &Round::train(1), &sites);
    assert_eq!(sum.n_sites(), 6, "killed after {kill_after:?}");
    said_once(&world.sites[0]);
    while world.sites[0].killed {
        world.restart(0);
    }
    assert!(world.sites[0].faults().is_empty(), "{:?}", world.sites[0].faults());
    world.sites[0].effects - start
}

#[test]
fn killed_between_any_two_effects_a_site_takes_its_part_to_the_end() {
    let effects = round_with_kill(None);
    assert!(effects > 30, "{effects}");
    for kill_after in 1..=effects {
        round_with_kill(Some(kill_after));
    }
}

#[test]
fn killed_twice_in_a_row_as_well() {
    for (first, second) in [(5, 9), (12, 3), (14, 5), (18, 4), (22, 2), (26, 6), (30, 3)] {
        let mut world = World::new(6);
        let task = Task::new(|_| {});
        world.offer(&task);
        let start = world.sites[0].effects;
        world.sites[0].kill_after = Some(start + first);
        let sites = world.all();
        let mut rounds = Rounds::start(&mut world, &task, &Round::train(1), &sites);
        rounds.share(&mut world);
        let effects = world.sites[0].effects;
        world.sites[0].kill_after = Some(effects.max(start + first) + second);
        rounds.report(&mut world);
        rounds.sign(&mut world);
        rounds.unmask(&mut world);
        assert_eq!(rounds.open(&mut world).n_sites(), 6);
        said_once(&world.sites[0]);
    }
}

#[test]
fn without_its_masked_update_a_session_dies() {
    for lost in [None, Some(b"another vector".to_vec())] {
        let mut world = World::new(6);
        let task = Task::new(|_| {});
        world.offer(&task);
        let sites = world.all();
        let mut rounds = Rounds::start(&mut world, &task, &Round::train(1), &sites);
        rounds.share(&mut world);
        rounds.report(&mut world);
        assert!(world.sites[0].disk.vector.is_some());
        world.sites[0].disk.vector = lost;
        let before = world.sites[0].secrets_sent().len();
        world.restart(0);
        assert_eq!(world.sites[0].participant.status().phase, PhaseName::Idle);
        assert_eq!(world.sites[0].secrets_sent().len(), before);
        assert_eq!(world.sites[0].refusals().last(), Some(&"session_left"));
    }
}

#[test]
fn an_accepted_update_is_not_kept_nor_missed() {
    let mut world = World::new(6);
    let task = Task::new(|_| {});
    world.offer(&task);
    let sites = world.all();
    let mut rounds = Rounds::start(&mut world, &task, &Round::train(1), &sites);
    rounds.share(&mut world);
    rounds.report(&mut world);
    let survivors = rounds.survivors(&mut world);
    assert!(world.sites[0].disk.vector.is_none());
    world.restart(0);
    assert_eq!(world.sites[0].participant.status().phase, PhaseName::Reporting);
    world.tell(0, ToSite::Survivors(survivors));
    assert_eq!(world.sites[0].participant.status().phase, PhaseName::Revealing);
}

/// Killed after one acknowledged chunk and before the last; the coordinator lost what was staged.
#[test]
fn an_upload_goes_on_where_the_coordinator_wants_it_with_the_same_bytes() {
    let mut world = World::new(6);
    let task = Task::new(|_| {});
    world.offer(&task);
    let sites = world.all();
    let mut rounds = Rounds::start(&mut world, &task, &Round::train(1), &sites);
    rounds.share(&mut world);
    let inboxes = rounds.inboxes(&mut world);
    let (_, own) = inboxes.iter().next().unwrap();
    // Let the first window of chunks out, one effect at a time, until one of them is acknowledged.
    world.sites[0].kill_after = Some(world.sites[0].effects + 13);
    world.tell(0, ToSite::Inbox(own.clone()));
    assert!(world.sites[0].killed);
    let acknowledged = world.sites[0].notes.iter().rev().find_map(|note| match note {
        Note::Uploaded { acknowledged, total, .. } => Some((*acknowledged, *total)),
        _ => None,
    });
    let (acknowledged, total) = acknowledged.expect("a chunk was acknowledged");
    assert!(acknowledged >= 1 && acknowledged + 8 < total, "{acknowledged} of {total}");
    world.restart(0);
    for (index, inbox) in inboxes {
        world.tell_current(index, ToSite::Inbox(inbox));
    }
    rounds.sign(&mut world);
    rounds.unmask(&mut world);
    assert_eq!(rounds.open(&mut world).n_sites(), 6);
    said_once(&world.sites[0]);
}

/// Before anything of a session has left, a restart forgets it: new keys, new rounding.
#[test]
fn a_restart_before_the_keys_left_begins_anew() {
    let mut world = World::new(6);
    let task = Task::new(|_| {});
    world.offer(&task);
    world.answers_fetches = false;
    world.tell(0, ToSite::Invite(world.invite(&task, &Round::train(1))));
    assert_eq!(world.sites[0].participant.status().phase, PhaseName::Invited);
    world.answers_fetches = true;
    world.restart(0);
    assert_eq!(world.sites[0].participant.status().phase, PhaseName::Idle);
    world.offer(&task);
    world.tell(0, ToSite::Invite(world.invite(&task, &Round::train(1))));
    assert_eq!(world.sites[0].participant.status().phase, PhaseName::Sharing);
}

/// The order of effects is the law: what may never be said differently is durable before it leaves.
#[test]
fn every_answer_is_persisted_before_it_leaves() {
    let mut world = World::new(6);
    let task = Task::new(|_| {});
    world.offer(&task);
    let sites = world.all();
    let mut rounds = Rounds::start(&mut world, &task, &Round::train(1), &sites[1..]);
    world.sites[0].kill_after = None;
    let invite = ToSite::Invite(world.invite(&task, &Round::train(1)));
    let order = effects_of(&mut world, 0, invite);
    assert_eq!(order, ["fetch", "fetch", "fetch", "fetch", "work", "persist", "ready"]);
    rounds.sites = sites;
    let participants = ToSite::Participants(rounds.bundles(&mut world));
    for index in 1..6 {
        world.tell(index, participants.clone());
    }
    assert_eq!(effects_of(&mut world, 0, participants), ["persist", "shares", "agree"]);
    let inboxes = rounds.inboxes(&mut world);
    for (index, inbox) in inboxes.iter().skip(1) {
        world.tell(*index, ToSite::Inbox(inbox.clone()));
    }
    let order = effects_of(&mut world, 0, ToSite::Inbox(inboxes[&0].clone()));
    assert_eq!(order[..4], ["vector", "persist", "report", "chunk"]);
    let survivors = rounds.survivors(&mut world);
    for index in 1..6 {
        world.tell(index, ToSite::Survivors(survivors.clone()));
    }
    let order = effects_of(&mut world, 0, ToSite::Survivors(survivors));
    assert_eq!(order, ["persist", "signature"]);
    let request = rounds.request(&mut world);
    assert_eq!(effects_of(&mut world, 0, ToSite::Unmask(request)), ["persist", "reveal"]);
}

/// Names of the effects that a message has, in order, notes and frames without content left out.
fn effects_of(world: &mut World, index: usize, message: ToSite) -> Vec<String> {
    world.sites[index].log = Some(Vec::new());
    world.tell(index, message);
    world.sites[index].log.take().unwrap()
}

/// A state file that the disk cut off, or of a newer program, is a clear error and not a fresh start.
#[test]
fn a_damaged_state_is_not_a_fresh_start() {
    let mut world = World::new(6);
    let task = Task::new(|_| {});
    world.offer(&task);
    world.tell(0, ToSite::Invite(world.invite(&task, &Round::train(1))));
    let site = &world.sites[0];
    let bytes = site.disk.durable.clone().unwrap();
    for (damaged, reason) in [
        (bytes[..bytes.len() / 2].to_vec(), "cut off"),
        (Vec::new(), "cut off"),
        (
            {
                let mut newer = bytes.to_vec();
                newer[12] = 9;
                newer
            },
            "newer program",
        ),
        (
            {
                let mut flipped = bytes.to_vec();
                flipped[50] ^= 1;
                flipped
            },
            "checksum",
        ),
    ] {
        let setup = crate::world::setup(&site.name, &site.secret, &site.policy);
        let error = Participant::new(setup, Some(damaged.into()), None).err().unwrap();
        assert!(error.to_string().contains(reason), "{error}");
    }
    let other = crate::world::setup(&world.sites[1].name, &site.secret, &site.policy);
    let error = Participant::new(other, Some(bytes), None).err().unwrap();
    assert!(error.to_string().contains("site-00"), "{error}");
}

/// Work for a session that was left is stopped, and its late result does nothing.
#[test]
fn work_of_a_left_session_is_stopped_and_ignored() {
    let mut world = World::new(6);
    let task = Task::new(|_| {});
    world.offer(&task);
    world.sites[0].works = false;
    world.tell(0, ToSite::Invite(world.invite(&task, &Round::train(1))));
    assert_eq!(world.sites[0].participant.status().phase, PhaseName::Training);
    world.sites[0].log = Some(Vec::new());
    let reason = "cancelled".to_owned();
    let outcome = wire::Outcome {
        session: vec![1; 32],
        result: Some(wire::outcome::Result::Abandoned(reason)),
    };
    world.tell(0, ToSite::Outcome(outcome));
    assert_eq!(world.sites[0].log.take().unwrap(), ["stop"]);
    let job = world.sites[0].job.take().unwrap();
    let before = world.sites[0].secrets_sent().len();
    let result = Ok(crate::world::contribution(&job));
    world.event(0, Event::Worked { session: Digest([1; 32]), result });
    assert_eq!(world.sites[0].secrets_sent().len(), before);
    assert_eq!(world.sites[0].participant.status().phase, PhaseName::Idle);
}

/// State restored from a backup, or lost, is older than the ledger and is not resumed.
#[test]
fn a_restored_older_state_is_not_resumed() {
    let mut world = World::new(6);
    let task = Task::new(|_| {});
    world.offer(&task);
    let sites = world.all();
    let mut disks = vec![Disk::default(), world.sites[0].disk.clone()];
    let mut rounds = Rounds::start(&mut world, &task, &Round::train(1), &sites);
    disks.push(world.sites[0].disk.clone());
    rounds.share(&mut world);
    disks.push(world.sites[0].disk.clone());
    rounds.report(&mut world);
    disks.push(world.sites[0].disk.clone());
    rounds.sign(&mut world);
    disks.push(world.sites[0].disk.clone());
    rounds.unmask(&mut world);
    let newest = world.sites[0].disk.clone();
    let ledger = ledger_of(&world.sites[0].sent);
    let site = &world.sites[0];
    let check = |disk: &Disk| {
        let participant = crate::world::participant(&site.name, &site.secret, &site.policy, disk);
        participant.check_ledger(&ledger)
    };
    check(&newest).unwrap();
    for (age, disk) in disks.iter().enumerate() {
        let error = check(disk).unwrap_err().to_string();
        assert!(error.contains("older than the ledger"), "{age}: {error}");
    }
    // A session that cannot go on (its masked update is withheld from a restored state, its task may
    // be forbidden since) was still further in the ledger than in the state.
    for disk in &disks[2..] {
        let error = check(&Disk { vector: None, ..disk.clone() }).unwrap_err().to_string();
        assert!(error.contains("older than the ledger"), "{error}");
        let mut policy = site.policy.clone();
        policy.cohort.min = 60;
        let participant = crate::world::participant(&site.name, &site.secret, &policy, disk);
        assert!(participant.check_ledger(&ledger).is_err());
    }
    rounds.open(&mut world);
    let site = &world.sites[0];
    let idle = crate::world::participant(&site.name, &site.secret, &site.policy, &site.disk);
    idle.check_ledger(&ledger).unwrap();
}
