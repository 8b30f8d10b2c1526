//! Keys posted ahead: who is asked, what invitations name, and what becomes of the log after crashes
//! and restored backups.

use std::collections::BTreeSet;

use koinon_aggregation::Signer as _;
use koinon_aggregation::identity::Identity;
use koinon_coordinator::record::Change;
use koinon_proto::TaskManifest;
use koinon_proto::task::InitFrom;

use crate::world::{World, manifest};

fn posted(world: &World) -> usize {
    world.changes().filter(|change| matches!(change, Change::KeysPosted { .. })).count()
}

/// For each round that began, whether its invitation named keys.
fn named(world: &World) -> Vec<bool> {
    let of = |change: &Change| match change {
        Change::RoundStarted { keys, .. } => Some(keys.is_some()),
        _ => None,
    };
    world.changes().filter_map(of).collect()
}

#[test]
fn rounds_name_posted_keys_each_of_them_once() {
    let mut world = World::new(5, 31);
    let mut manifest = manifest();
    manifest.rounds = 20;
    let task = world.submit(&manifest).unwrap();
    assert_eq!(world.run(&task).state, "done");
    let named = named(&world);
    assert!(named.iter().filter(|named| **named).count() >= 19, "{named:?}");
    // Sixteen keys are a batch, and the next one is asked for before they are used up.
    assert_eq!(posted(&world), 10);
    let mut seen = BTreeSet::new();
    for number in 0..5 {
        for key in &world.site(number).named {
            assert!(seen.insert(*key), "site {number}: a key was named twice");
        }
    }
    assert!(seen.len() >= 5 * 19);
    world.check();
}

#[test]
fn a_site_that_joins_anew_does_not_stop_the_others() {
    let mut world = World::new(5, 35);
    let mut manifest = manifest();
    manifest.rounds = 6;
    let task = world.submit(&manifest).unwrap();
    world.run_until(|world| world.core.status(&task).is_some_and(|status| status.round == 2));
    let name = world.name(2);
    world.disconnect(&name);
    world.site(2).identity = Identity::from_secret_bytes(&[77; 32]);
    let key = world.site(2).identity.public();
    let roster = world.next_roster(|members| {
        let row = members.iter_mut().find(|row| row.name == name.as_str()).unwrap();
        row.key = key;
    });
    world.publish(roster).unwrap();
    world.site(2).restart();
    world.connect(&name);
    let before = named(&world).len();
    assert_eq!(world.run(&task).state, "done");
    let dropped = |change: &&Change| matches!(change, Change::KeysDropped { .. });
    assert_eq!(world.changes().filter(dropped).count(), 1);
    assert!(named(&world)[before..].iter().any(|named| *named), "the others' keys are named");
    world.check();
}

#[test]
fn a_crash_between_a_roster_and_what_follows_from_it_names_no_stale_keys() {
    let mut world = World::new(5, 36);
    let mut manifest = manifest();
    manifest.rounds = 6;
    let task = world.submit(&manifest).unwrap();
    world.run_until(|world| world.core.status(&task).is_some_and(|status| status.round == 2));
    let name = world.name(2);
    world.disconnect(&name);
    world.site(2).identity = Identity::from_secret_bytes(&[78; 32]);
    let key = world.site(2).identity.public();
    let roster = world.next_roster(|members| {
        let row = members.iter_mut().find(|row| row.name == name.as_str()).unwrap();
        row.key = key;
    });
    world.publish(roster).unwrap();
    // The journal ends behind the roster, and behind the round that it ended.
    let kept = |change: &Change| {
        matches!(change, Change::RosterPublished { .. } | Change::Abandoned { .. })
    };
    let end = world.journal.iter().rposition(|record| kept(&record.change)).unwrap();
    world.journal.truncate(end + 1);
    world.journal.retain(|record| !matches!(record.change, Change::KeysDropped { .. }));
    let dropped = |world: &World| {
        world.changes().filter(|change| matches!(change, Change::KeysDropped { .. })).count()
    };
    assert_eq!(dropped(&world), 0);
    world.crash();
    world.site(2).restart();
    world.connect(&name);
    let before = named(&world).len();
    // A site that is named a pair that does not hold stops the test.
    assert_eq!(world.run(&task).state, "done");
    assert_eq!(dropped(&world), 1, "decided before it would be named");
    assert!(named(&world)[before..].iter().any(|named| *named), "the others' keys are named");
    assert_eq!(world.recovered().state_digest(), world.core.state_digest());
    world.check();
}

#[test]
fn one_site_of_an_older_program_and_no_round_names_keys() {
    let mut world = World::new(5, 32);
    let name = world.name(3);
    world.disconnect(&name);
    world.site(3).posts = false;
    world.connect(&name);
    let task = world.submit(&manifest()).unwrap();
    assert_eq!(world.run(&task).state, "done");
    assert!(named(&world).iter().all(|named| !named));
    assert!(world.site(0).named.is_empty());
}

#[test]
fn a_flood_of_postings_grows_neither_journal_nor_log() {
    let mut world = World::new(5, 33);
    let task = world.submit(&manifest()).unwrap();
    let name = world.name(0);
    for _ in 0..60 {
        world.site(0).post_keys();
        for frame in world.site(0).take_out() {
            world.send(&name, frame);
        }
        world.settle();
    }
    let of_site = world
        .changes()
        .filter(|change| matches!(change, Change::KeysPosted { site, .. } if *site == name));
    assert!(of_site.count() <= 12, "a few after restarts, and what rounds used up");
    assert!(world.site(0).rejections.iter().any(|code| code == "too_many"));
    assert_eq!(world.run(&task).state, "done");
}

#[test]
fn a_journal_restored_from_a_backup_says_so_and_rounds_go_on_without_posted_keys() {
    let mut world = World::new(5, 34);
    let first = manifest();
    world.submit(&first).unwrap();
    world.run_until(|world| world.sites.values().all(|site| site.head.is_some()));
    // What was there before anybody posted.
    let posting = world.journal.iter().position(|r| matches!(r.change, Change::KeysPosted { .. }));
    world.journal.truncate(posting.unwrap());
    assert!(world.site(1).head.is_some());
    world.crash();
    // Another one, because the sites have opened what the first one would begin with again.
    let again = TaskManifest { init_from: InitFrom::Fresh { seed: 77 }, ..first };
    let task = world.submit(&again).unwrap();
    let status = world.run(&task);
    assert_eq!(status.state, "done", "{status:?}");
    let lost = world.changes().filter(|change| matches!(change, Change::KeyLogLost { .. }));
    assert_eq!(lost.count(), 1, "said once, in the journal");
    assert!(world.core.lost_key_log().is_some());
    assert_eq!(posted(&world), 0, "and no second log is begun under the same name");
    assert!(named(&world).iter().all(|named| !named));
}
