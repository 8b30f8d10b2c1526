//! A15: crashes after an answer, and disks that go back. A site that forgets what it said can be made
//! to say it differently; a coordinator that forgets can lose or double an update.

use koinon_aggregation::planted::Weakness;
use koinon_client::participant::Participant;
use koinon_coordinator::record::Change;
use koinon_proto::wire;
use koinon_proto::wire::to_site::Message as ToSite;

use super::center;
use super::sites::world::{participant, setup};
use super::sites::{
    Disk, Hub, Round, Rounds, audit, contradicts_itself, gained, give_up, ledger_of, let_out,
    ready, refusal, reported, with_keys,
};
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 15,
    scripts: &[
        script!(
            killed_at_every_step,
            "one thing said in two ways by a site that was killed",
            Plant::World("the disk loses the write before the kill")
        ),
        script!(
            an_older_state_brought_back,
            "a second signature of a site restored from a backup",
            Plant::World("the ledger is restored with it, as by a snapshot of the whole machine")
        ),
        script!(
            a_key_log_shown_in_two_histories,
            "a site that takes a log which forgets what it was shown before",
            Plant::Checks(&[Weakness::AnyHead])
        ),
        script!(
            a_coordinator_that_dies_after_accepting,
            "an update that was accepted and is gone",
            Plant::World("the journal loses the record")
        ),
    ],
};

/// Site 0 is killed after each step of a round, before the coordinator hears its answer, and asked
/// again.
fn killed_at_every_step(planted: bool) -> Outcome {
    let mut outcome = Outcome::default();
    for step in 0..4 {
        let (mut world, task) = ready(6);
        let sites = world.all();
        let mut rounds = Rounds::start(&mut world, &task, &Round::train(1), &sites);
        let mut before = world.sites[0].disk.clone();
        let kill = |world: &mut super::sites::World, at: usize, before: &Disk| {
            if at == step {
                if planted {
                    world.sites[0].disk = before.clone();
                }
                world.restart(0);
            }
        };
        let question = rounds.bundles(&mut world);
        for &index in &sites {
            world.tell_current(index, ToSite::Participants(question.clone()));
        }
        kill(&mut world, 0, &before);
        before = world.sites[0].disk.clone();
        let found = |world: &_| planted && contradicts_itself(world, 0).is_some();
        if !found(&world) {
            rounds.report(&mut world);
            kill(&mut world, 1, &before);
        }
        before = world.sites[0].disk.clone();
        if !found(&world) {
            rounds.sign(&mut world);
            kill(&mut world, 2, &before);
        }
        before = world.sites[0].disk.clone();
        if !found(&world) {
            rounds.unmask(&mut world);
            kill(&mut world, 3, &before);
        }
        let key = contradicts_itself(&world, 0);
        outcome.goal(key.is_some(), format!("{key:?} was said in two ways"));
        if !planted {
            let sum = rounds.open(&mut world);
            outcome.holds(sum.n_sites() == 6, format!("killed at {step}: it is in the sum"));
            audit(&mut outcome, &mut world, 0);
        }
    }
    outcome
}

fn an_older_state_brought_back(planted: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(6);
    let mut rounds = reported(&mut world, &task, 1);
    let full = rounds.survivors(&mut world);
    let fewer = wire::Survivors { indices: full.indices[..5].to_vec(), ..full.clone() };
    let (backup, ledger) = (world.sites[0].disk.clone(), ledger_of(&world.sites[0].sent));
    world.tell(0, ToSite::Survivors(full));
    let now = ledger_of(&world.sites[0].sent);
    let ledger = if planted { ledger } else { now };
    let site = &world.sites[0];
    let restored = participant(&site.name, &site.secret, &site.policy, &backup);
    let starts = restored.check_ledger(&ledger).is_ok();
    if starts {
        world.sites[0].disk = backup;
        world.restart(0);
        world.tell(0, ToSite::Survivors(fewer));
    }
    let signed = let_out(&world, 0, "signature").len();
    outcome.goal(signed > 1, format!("{signed} signatures"));
    outcome.holds(!starts, "the older state starts");
    // The newest state does, and a state cut in the middle does not.
    let site = &world.sites[0];
    let newest = participant(&site.name, &site.secret, &site.policy, &site.disk);
    outcome.holds(newest.check_ledger(&ledger).is_ok(), "the newest state does not start");
    let whole = site.disk.durable.clone().unwrap_or_default();
    let cut = whole[..whole.len() / 2].to_vec();
    let cut =
        Participant::new(setup(&site.name, &site.secret, &site.policy), Some(cut.into()), None);
    outcome.holds(cut.is_err(), "half a state starts");
    audit(&mut outcome, &mut world, 0);
    outcome
}

/// The log is rolled back, forked, and forked further on, each with whatever proof there is; also by
/// way of an older head that the site once took.
fn a_key_log_shown_in_two_histories(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(6);
    let (mut hub, sites) = (Hub::default(), world.all());
    hub.collect(&mut world, &sites);
    let old = hub.clone();
    hub.collect(&mut world, &sites);
    for (session, hub, known) in [(1, &old, 0), (2, &hub, 6)] {
        let (_, invite) =
            with_keys(&world, &task, &Round::train(session), hub.ahead(&world, 0, known));
        let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Invite(invite)));
        outcome.holds(got.len() == 1, "the honest log is refused");
        give_up(&mut world, session);
    }
    let mut fork = old.clone();
    fork.collect(&mut world, &[5, 4, 3, 2, 1, 0]);
    let mut further = fork.clone();
    further.collect(&mut world, &[3, 4]);
    let lies = [(&old, 6), (&fork, 6), (&fork, 12), (&further, 6), (&further, 12), (&further, 0)];
    for (session, (hub, known)) in (3_u8..).zip(lies) {
        world.restart(0);
        world.tell(0, ToSite::Offer(wire::Offer { manifest: task.bytes.clone() }));
        let (_, invite) =
            with_keys(&world, &task, &Round::train(session), hub.ahead(&world, 1, known));
        let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Invite(invite)));
        outcome.goal(!got.is_empty(), format!("session {session}: it takes part"));
        outcome.holds(refusal(&world, 0) == "key_log", refusal(&world, 0));
    }
    let evidence = world.sites[0].participant.key_log_contradictions();
    outcome.holds(evidence > 2, format!("{evidence} pairs of heads are kept"));
    audit(&mut outcome, &mut world, 0);
    outcome
}

fn a_coordinator_that_dies_after_accepting(planted: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut world = center::World::new(5, 21);
    let task = world.submit(&center::manifest()).unwrap();
    world.site(0).stalls = true;
    let accepted = |world: &center::World| world.core.status(&task).map_or(0, |s| s.accepted);
    world.run_until(|world| {
        world.core.status(&task).is_some_and(|s| s.round == 1 && s.accepted == 4)
    });
    world.settle();
    let before = accepted(&world);
    if planted {
        let last = world
            .journal
            .iter()
            .rposition(|record| matches!(record.change, Change::UpdateAccepted { .. }));
        last.map(|last| world.journal.remove(last));
    }
    world.crash();
    let after = accepted(&world);
    outcome.goal(after < before, format!("{before} accepted before, {after} after"));
    if !planted {
        world.site(0).stalls = false;
        let over = center::within(60_000, &mut world, |world| center::ended(world, &task));
        outcome.holds(over, "the round hangs");
        outcome.holds(world.core.status(&task).is_some_and(|s| s.state == "done"), "not done");
        world.check();
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
