//! A1: both kinds of share of one site. The attacker is the coordinator with four of six sites; with
//! both kinds it takes off the fifth site's own mask and its pairs', and has its update.

use koinon_aggregation::planted::Weakness;
use koinon_client::Event;
use koinon_proto::wire;
use koinon_proto::wire::to_site::Message as ToSite;

use super::sites::{Disk, Task, World, audit, fault, gained, let_out, ready, reported, signatures};
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 1,
    scripts: &[
        script!(
            asked_in_one_message,
            "shares for a quorum put together from signatures over two sets",
            Plant::Checks(&[Weakness::MixedQuorum])
        ),
        script!(
            asked_in_two_messages,
            "a second reveal, for another set",
            Plant::World("between the messages the site's disk goes back by two writes")
        ),
        script!(
            asked_again_after_a_restart,
            "a second reveal of a site that forgot the first",
            Plant::World("the disk loses the last two writes before the restart")
        ),
        script!(
            asked_again_after_a_lost_reply,
            "another reveal in place of the lost one",
            Plant::World("the site does not remember what it answered")
        ),
    ],
};

/// A session whose coordinator has five signatures over each of two sets: the second set lacks the
/// last site, and the colluders 1 to 4 signed both.
struct TwoSets {
    world: World,
    fewer: wire::Survivors,
    /// Site 0 before it signed anything.
    before: Disk,
    signed: [Vec<Vec<u8>>; 2],
}

fn two_sets() -> TwoSets {
    let (mut world, task): (World, Task) = ready(6);
    let mut rounds = reported(&mut world, &task, 1);
    let full = rounds.survivors(&mut world);
    let fewer = wire::Survivors { indices: full.indices[..5].to_vec(), ..full.clone() };
    let disks: Vec<Disk> = world.sites.iter().map(|site| site.disk.clone()).collect();
    let mut signed = [Vec::new(), Vec::new()];
    for (set, told) in [&full, &fewer].into_iter().enumerate() {
        for (colluder, disk) in disks.iter().enumerate().take(5).skip(1) {
            world.sites[colluder].disk = disk.clone();
            world.restart(colluder);
            world.tell(colluder, ToSite::Survivors(told.clone()));
            signed[set].extend(signatures(&mut world, colluder));
        }
    }
    world.tell(0, ToSite::Survivors(full));
    signed[0].extend(signatures(&mut world, 0));
    TwoSets { world, fewer, before: disks[0].clone(), signed }
}

fn unmask(signatures: &[Vec<u8>]) -> ToSite {
    ToSite::Unmask(wire::Unmask { session: vec![1; 32], request: signatures.concat() })
}

fn asked_in_one_message(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let TwoSets { mut world, signed: [full, fewer], .. } = two_sets();
    // Three over one set and two over the other: five signers, and no quorum over either.
    let mixed = [&full[4..], &full[..2], &fewer[2..]].concat();
    outcome.holds(mixed.len() == 5, "five signers");
    let got = gained(&mut world, 0, |world| world.tell(0, unmask(&mixed)));
    outcome.goal(!got.is_empty(), "a reveal left for a set that no quorum signed");
    outcome.holds(fault(&world, 0) == "different_set", fault(&world, 0));
    let both = [full, fewer].concat();
    let got = gained(&mut world, 0, |world| world.tell(0, unmask(&both)));
    outcome.holds(got.is_empty(), "both lists at once were answered");
    audit(&mut outcome, &mut world, 0);
    outcome
}

/// The right question, `between`, and then the other set's.
fn second_reveal(between: impl FnOnce(&mut World, Disk)) -> Outcome {
    let mut outcome = Outcome::default();
    let TwoSets { mut world, fewer, before, signed } = two_sets();
    world.tell(0, unmask(&signed[0]));
    outcome.holds(let_out(&world, 0, "reveal").len() == 1, "the honest answer left");
    between(&mut world, before);
    world.tell(0, ToSite::Survivors(fewer));
    let mut second = signed[1].clone();
    second.extend(signatures(&mut world, 0));
    world.tell(0, unmask(&second));
    let reveals = let_out(&world, 0, "reveal").len();
    outcome.goal(reveals > 1, format!("{reveals} reveals for two sets: both kinds of site 5's"));
    outcome.goal(let_out(&world, 0, "signature").len() > 1, "two sets are signed");
    // Asked rightly, it answers by the same bytes still.
    world.tell(0, unmask(&signed[0]));
    outcome.holds(let_out(&world, 0, "reveal").len() == 1, "the answer changed");
    audit(&mut outcome, &mut world, 0);
    outcome
}

fn asked_in_two_messages(planted: bool) -> Outcome {
    second_reveal(|world, before| {
        if planted {
            world.sites[0].disk = before;
            world.restart(0);
        }
    })
}

fn asked_again_after_a_restart(planted: bool) -> Outcome {
    second_reveal(|world, before| {
        if planted {
            world.sites[0].disk = before;
        }
        world.restart(0);
    })
}

fn asked_again_after_a_lost_reply(planted: bool) -> Outcome {
    second_reveal(|world, before| {
        world.event(0, Event::Disconnected);
        world.sites[0].new_coordinator();
        if planted {
            world.sites[0].disk = before;
            world.restart(0);
        } else {
            world.event(0, Event::Connected);
        }
    })
}

#[test]
fn repelled() {
    super::repelled(&CLASS);
}

#[test]
fn planted_is_found() {
    super::planted_is_found(&CLASS);
}
