//! A2: different survivor sets for different sites. With a quorum for each of two sets, the site that
//! is in one of them only loses both kinds of its shares.

use koinon_aggregation::planted::Weakness;
use koinon_proto::wire;
use koinon_proto::wire::to_site::Message as ToSite;

use super::sites::{audit, fault, gained, let_out, ready, reported, signatures};
use super::sums::{WEAK, sparse_cohort};
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 2,
    scripts: &[
        script!(
            two_sets_for_two_halves,
            "reveals for two sets, where colluders sign both",
            Plant::Checks(&[Weakness::SmallQuorum])
        ),
        script!(
            a_second_signature,
            "one honest site's signature over two sets",
            Plant::World("the site's disk goes back to before it signed")
        ),
        script!(
            forged_signatures,
            "a reveal for signatures that nobody made",
            Plant::Checks(&[Weakness::UnsignedQuorum])
        ),
        script!(
            an_arc_of_the_ring,
            "a site that helps to open the sum of one part of the graph, cut off from the rest",
            Plant::Checks(&[Weakness::AnyGraph])
        ),
    ],
};

/// Seven sites, quorum five: 0, 1 and 2 are told that all survived, 3 and 4 that the first did not; 5
/// and 6 collude and sign both.
fn two_sets_for_two_halves(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(7);
    let mut rounds = reported(&mut world, &task, 1);
    let full = rounds.survivors(&mut world);
    let fewer = wire::Survivors { indices: full.indices[1..].to_vec(), ..full.clone() };
    let disks: Vec<_> = world.sites.iter().map(|site| site.disk.clone()).collect();
    let mut signed = [Vec::new(), Vec::new()];
    for (set, (told, honest)) in [(&full, 0..3), (&fewer, 3..5)].into_iter().enumerate() {
        for site in honest.chain(5..7) {
            if site >= 5 {
                world.sites[site].disk = disks[site].clone();
                world.restart(site);
            }
            world.tell(site, ToSite::Survivors(told.clone()));
            signed[set].extend(signatures(&mut world, site));
        }
    }
    outcome.holds((signed[0].len(), signed[1].len()) == (5, 4), "five and four signatures");
    for (set, honest) in [(0, 0..3), (1, 3..5)] {
        let request = wire::Unmask { session: vec![1; 32], request: signed[set].concat() };
        honest.for_each(|site| world.tell(site, ToSite::Unmask(request.clone())));
    }
    let reveals = |site| let_out(&world, site, "reveal").len();
    outcome.goal(reveals(0) + reveals(3) == 2, "reveals for two sets left honest sites");
    outcome.holds(reveals(0) == 1, "the set with a quorum is answered");
    outcome.holds(fault(&world, 3) == "too_few", fault(&world, 3));
    (0..5).for_each(|site| audit(&mut outcome, &mut world, site));
    outcome
}

fn a_second_signature(planted: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(6);
    let mut rounds = reported(&mut world, &task, 1);
    let full = rounds.survivors(&mut world);
    let fewer = wire::Survivors { indices: full.indices[..5].to_vec(), ..full.clone() };
    let before = world.sites[0].disk.clone();
    world.tell(0, ToSite::Survivors(full));
    for restart in [false, true] {
        if planted && restart {
            world.sites[0].disk = before.clone();
        }
        if restart {
            world.restart(0);
        }
        world.tell(0, ToSite::Survivors(fewer.clone()));
        outcome.holds(fault(&world, 0) == "changed", fault(&world, 0));
    }
    let signed = let_out(&world, 0, "signature").len();
    outcome.goal(signed > 1, format!("{signed} signatures"));
    audit(&mut outcome, &mut world, 0);
    outcome
}

fn forged_signatures(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(6);
    let mut rounds = reported(&mut world, &task, 1);
    let survivors = rounds.survivors(&mut world);
    world.tell(0, ToSite::Survivors(survivors));
    let own = signatures(&mut world, 0).concat();
    // Five of them, each with another's index and the signature of the first; and one, five times.
    let index = own.len() - 64 - 2;
    let forged = (0..5u8).flat_map(|of| {
        let mut copy = own.clone();
        copy[index] = of;
        copy
    });
    for (request, code) in [(own.repeat(5), "duplicate"), (forged.collect(), "bad_signature")] {
        let lie = wire::Unmask { session: vec![1; 32], request };
        let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Unmask(lie)));
        outcome.goal(!got.is_empty(), "a reveal left");
        outcome.holds(fault(&world, 0) == code, fault(&world, 0));
    }
    audit(&mut outcome, &mut world, 0);
    outcome
}

/// In a graph the coordinator leaves a site all its neighbours, and theirs, and drops the rest: what the
/// arc is masked with cancels inside of it.
fn an_arc_of_the_ring(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let cohort = sparse_cohort(40, 1, &WEAK);
    let (mut masked, server) = cohort.masked(1, 0);
    let around = |site: u16| -> Vec<u16> {
        let inbox = server.inbox_for(site).unwrap();
        inbox.iter().map(koinon_aggregation::Delivery::dealer).collect()
    };
    let mut arc = std::collections::BTreeSet::from([0]);
    arc.extend(around(0));
    let arc: Vec<u16> = arc.into_iter().collect();
    outcome.holds(arc.len() < 40, "the graph is not complete");
    match masked.remove(0).sign(&arc, 3, &cohort.keys[0]) {
        Ok(_) => outcome.goal(true, format!("{} of 40 are enough, if they are an arc", arc.len())),
        Err(rejection) => outcome.holds(rejection.code() == "too_few", rejection.to_string()),
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
