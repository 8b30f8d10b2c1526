//! Keys ahead of time: an honest round with posted keys, and what a coordinator may try with the log.

use koinon_aggregation::ahead::{Head, Named};
use koinon_aggregation::identity::Identity;
use koinon_aggregation::parameters::{Assumptions, Sparse};
use koinon_aggregation::roster::Roster;
use koinon_aggregation::{Bundle, Signer as _, Topology};
use koinon_client::egress::leaving_of;
use koinon_client::ledger::Kind;
use koinon_client::participant::PhaseName;
use koinon_proto::Digest;
use koinon_proto::wire;
use koinon_proto::wire::to_coordinator::Message as FromSite;
use koinon_proto::wire::to_site::Message as ToSite;

use super::keys::{Hub, posted, start, with_keys};
use super::world::{Round, Rounds, Task, World, coordinator_name};

fn ready(n: usize) -> (World, Task, Hub) {
    let mut world = World::new(n);
    let task = Task::new(|_| {});
    world.offer(&task);
    let mut hub = Hub::default();
    let all = world.all();
    hub.collect(&mut world, &all);
    (world, task, hub)
}

fn finish(world: &mut World, mut rounds: Rounds) -> usize {
    rounds.share(world);
    rounds.report(world);
    rounds.sign(world);
    rounds.unmask(world);
    rounds.open(world).n_sites()
}

fn channel_keys(keys: &wire::KeysAhead) -> Vec<[u8; 32]> {
    keys.named.iter().map(|named| *Named::from_bytes(named).unwrap().channel()).collect()
}

fn bundle(world: &mut World, index: usize) -> Option<Bundle> {
    let ready = world.take(index, |message| match message {
        FromSite::Ready(ready) => Some(ready.bundle.clone()),
        _ => None,
    });
    ready.first().map(|bytes| Bundle::from_bytes(bytes).unwrap())
}

fn is_posting(frame: &wire::SiteFrame) -> bool {
    leaving_of(frame, &coordinator_name()).kind == Kind::PostedKeys
}

fn give_up(world: &mut World, session: u8) {
    for index in world.all() {
        let result = Some(wire::outcome::Result::Abandoned("given_up".into()));
        let outcome = wire::Outcome { session: vec![session; 32], result };
        world.tell(index, ToSite::Outcome(outcome));
    }
}

#[test]
fn a_round_with_posted_keys_uses_them_agrees_ahead_and_opens() {
    let (mut world, task, hub) = ready(5);
    let keys = hub.ahead(&world, 0, 0);
    let sites = world.all();
    world.sites[2].log = Some(Vec::new());
    let mut rounds = start(&mut world, &task, &Round::train(1), &sites, &keys);
    let participants = rounds.bundles(&mut world);
    let offered: Vec<[u8; 32]> = participants
        .bundles
        .iter()
        .map(|bytes| *Bundle::from_bytes(bytes).unwrap().public_keys()[0])
        .collect();
    assert_eq!(offered, channel_keys(&keys), "the keys that were named");
    let log = world.sites[2].log.take().unwrap();
    let at = |name: &str| log.iter().position(|effect| effect == name);
    assert!(at("work") < at("agree") && at("agree").is_some(), "{log:?}");
    assert!(at("agree") < at("ready"), "before anything waits: {log:?}");
    for index in sites {
        world.sites[index].log = Some(Vec::new());
        world.tell_current(index, ToSite::Participants(participants.clone()));
        let log = world.sites[index].log.take().unwrap();
        assert!(!log.iter().any(|effect| effect == "agree"), "nothing is left: {log:?}");
    }
    rounds.report(&mut world);
    rounds.sign(&mut world);
    rounds.unmask(&mut world);
    assert_eq!(rounds.open(&mut world).n_sites(), 5);
}

#[test]
fn a_site_without_a_stock_makes_fresh_keys_and_the_sum_is_the_same() {
    let (mut world, task, hub) = ready(5);
    let keys = hub.ahead(&world, 3, 0);
    let sites = world.all();
    // Keys do not outlive the program: no disk brings them back.
    world.restart(1);
    world.tell(1, ToSite::Offer(wire::Offer { manifest: task.bytes.clone() }));
    world.now += 60_000;
    let rounds = start(&mut world, &task, &Round::train(1), &sites, &keys);
    let before = world.sites[1].sent.iter().filter(|frame| is_posting(frame)).count();
    assert_eq!(before, 2, "the next rounds need others");
    let mut rounds = rounds;
    let participants = rounds.bundles(&mut world);
    let second = Bundle::from_bytes(&participants.bundles[1]).unwrap();
    assert!(!channel_keys(&keys).contains(second.public_keys()[0]));
    for index in sites {
        world.tell_current(index, ToSite::Participants(participants.clone()));
    }
    rounds.report(&mut world);
    rounds.sign(&mut world);
    rounds.unmask(&mut world);
    assert_eq!(rounds.open(&mut world).n_sites(), 5);
}

#[test]
fn keys_that_were_named_are_spent_whatever_became_of_the_session() {
    let (mut world, task, hub) = ready(5);
    let keys = hub.ahead(&world, 0, 0);
    let mut seen = std::collections::BTreeSet::new();
    // Named, offered and abandoned; then named again, in another session and after a refusal.
    for (session, known) in [(1, 0), (2, 5), (3, 5)] {
        let again = hub.ahead(&world, 0, known);
        let (_, invite) = with_keys(&world, &task, &Round::train(session), again);
        world.tell(0, ToSite::Invite(invite));
        let bundle = bundle(&mut world, 0).unwrap();
        for key in bundle.public_keys() {
            assert!(seen.insert(*key), "session {session} has keys of another");
        }
        give_up(&mut world, session);
    }
    assert!(seen.contains(&channel_keys(&keys)[0]));
    // Spent too when the invitation that names them is refused.
    let mut wrong = with_keys(&world, &task, &Round::train(4), hub.ahead(&world, 1, 5)).1;
    wrong.task = vec![9; 32];
    world.tell(0, ToSite::Invite(wrong));
    assert_eq!(world.sites[0].refusals().last(), Some(&"not_approved"));
    let again = hub.ahead(&world, 1, 5);
    world.tell(0, ToSite::Invite(with_keys(&world, &task, &Round::train(5), again.clone()).1));
    let bundle = bundle(&mut world, 0).unwrap();
    assert!(!channel_keys(&again).contains(bundle.public_keys()[0]));
}

#[test]
fn one_session_with_two_plans_is_a_named_fault_and_no_second_use() {
    let (mut world, task, hub) = ready(5);
    world.sites[0].works = false;
    let (_, invite) = with_keys(&world, &task, &Round::train(1), hub.ahead(&world, 0, 0));
    world.tell(0, ToSite::Invite(invite));
    let (_, other) = with_keys(&world, &task, &Round::train(1), hub.ahead(&world, 1, 5));
    world.tell(0, ToSite::Invite(other));
    assert_eq!(world.sites[0].faults().last(), Some(&"changed"));
    let plain = world.invite(&task, &Round::train(1));
    world.tell(0, ToSite::Invite(plain));
    assert_eq!(world.sites[0].faults().last(), Some(&"changed"));
    assert_eq!(world.sites[0].participant.status().phase, PhaseName::Training);
}

#[test]
fn the_same_invitation_again_with_another_proof_is_the_same_one() {
    let (mut world, task, hub) = ready(5);
    let (_, invite) = with_keys(&world, &task, &Round::train(1), hub.ahead(&world, 0, 0));
    world.tell(0, ToSite::Invite(invite.clone()));
    let (_, again) = with_keys(&world, &task, &Round::train(1), hub.ahead(&world, 0, 3));
    world.tell(0, ToSite::Invite(again));
    assert!(world.sites[0].faults().is_empty(), "{:?}", world.sites[0].faults());
    let mut changed = invite;
    changed.keys.as_mut().unwrap().named.pop();
    world.tell(0, ToSite::Invite(changed));
    assert_eq!(world.sites[0].faults().last(), Some(&"changed"));
}

#[test]
fn a_log_that_is_rolled_back_forked_or_unproven_is_refused_and_kept_as_evidence() {
    let (mut world, task, mut hub) = ready(5);
    let sites = world.all();
    let before = hub.clone();
    world.tell(
        0,
        ToSite::Invite(with_keys(&world, &task, &Round::train(1), hub.ahead(&world, 0, 0)).1),
    );
    give_up(&mut world, 1);
    hub.collect(&mut world, &sites);
    world.tell(
        0,
        ToSite::Invite(with_keys(&world, &task, &Round::train(2), hub.ahead(&world, 0, 5)).1),
    );
    give_up(&mut world, 2);
    assert!(world.sites[0].refusals().is_empty());
    // What was before, which this site took once; a log that extends that one and not the newest; one
    // that is longer than the newest; and the newest with a proof from an older one only.
    let mut fork = before.clone();
    fork.collect(&mut world, &[4, 3, 2, 1, 0]);
    let mut longer = fork.clone();
    longer.collect(&mut world, &[1, 2]);
    let mut grown = hub.clone();
    grown.collect(&mut world, &[3]);
    let lies = [
        ("log_rolled_back", before.ahead(&world, 1, 5)),
        ("log_forked", fork.ahead(&world, 1, 5)),
        ("log_unproven", longer.ahead(&world, 1, 10)),
        ("log_unproven", longer.ahead(&world, 1, 5)),
        ("log_unproven", grown.ahead(&world, 1, 5)),
    ];
    for (n, (code, keys)) in (3_u8..).zip(lies) {
        // Also after a restart: the newest head is durable.
        world.restart(0);
        world.tell(0, ToSite::Offer(wire::Offer { manifest: task.bytes.clone() }));
        let invite = with_keys(&world, &task, &Round::train(n), keys).1;
        world.tell(0, ToSite::Invite(invite));
        assert_eq!(world.sites[0].refusals().last(), Some(&"key_log"), "{code}");
        assert_eq!(world.sites[0].faults().last(), Some(&code));
        assert!(bundle(&mut world, 0).is_none());
    }
    assert_eq!(world.sites[0].participant.key_log_contradictions(), 4);
    world.restart(0);
    assert_eq!(world.sites[0].participant.key_log_contradictions(), 4, "evidence is durable");
    // Rounds go on with the honest log, and without any.
    world.tell(0, ToSite::Offer(wire::Offer { manifest: task.bytes.clone() }));
    let honest = with_keys(&world, &task, &Round::train(9), grown.ahead(&world, 1, 10)).1;
    world.tell(0, ToSite::Invite(honest));
    assert!(bundle(&mut world, 0).is_some());
    give_up(&mut world, 9);
    world.tell(0, ToSite::Invite(world.invite(&task, &Round::train(10))));
    assert!(bundle(&mut world, 0).is_some());
}

#[test]
fn another_keeper_has_another_log_whose_first_head_is_taken_whatever_is_proven() {
    let (mut world, task, hub) = ready(5);
    world.tell(
        0,
        ToSite::Invite(with_keys(&world, &task, &Round::train(1), hub.ahead(&world, 0, 0)).1),
    );
    assert!(bundle(&mut world, 0).is_some());
    give_up(&mut world, 1);
    let keeper = Identity::from_secret_bytes(&[3; 32]);
    let mut members = world.roster.roster().members.clone();
    members.iter_mut().find(|member| member.name == "coordinator").unwrap().key = keeper.public();
    let previous = Some(world.roster.digest());
    world.roster = Roster { version: 2, previous, members }.sign(&world.consortium).unwrap();
    world.blobs.insert(Digest(world.roster.digest()), world.roster.bytes().to_vec());
    world.all().into_iter().for_each(|index| world.announce(index));
    world.coordinator = keeper;
    let (mut hub, sites) = (Hub::default(), world.all());
    hub.collect(&mut world, &sites);
    // The coordinator goes by what the site took of the log before.
    let keys = hub.ahead(&world, 0, 3);
    assert!(!keys.consistency.is_empty());
    world.tell(0, ToSite::Invite(with_keys(&world, &task, &Round::train(2), keys.clone()).1));
    let bundle_of = bundle(&mut world, 0).unwrap();
    assert!(channel_keys(&keys).contains(bundle_of.public_keys()[0]));
    give_up(&mut world, 2);
    // From now on this log only grows.
    hub.collect(&mut world, &sites);
    for (session, known, taken) in [(3, 3, false), (4, 5, true)] {
        let keys = hub.ahead(&world, 0, known);
        world.tell(0, ToSite::Invite(with_keys(&world, &task, &Round::train(session), keys).1));
        assert_eq!(bundle(&mut world, 0).is_some(), taken, "session {session}");
        give_up(&mut world, session);
    }
}

#[test]
fn a_refused_invitation_writes_nothing_and_its_head_counts_all_the_same() {
    let (mut world, task, mut hub) = ready(5);
    world.event(0, koinon_client::Event::Pause);
    let before = world.sites[0].disk.durable.clone();
    let mut known = 0;
    for session in 1..5 {
        hub.collect(&mut world, &[1]);
        let keys = hub.ahead(&world, 0, known);
        known = hub.log.size();
        world.tell(0, ToSite::Invite(with_keys(&world, &task, &Round::train(session), keys).1));
        assert_eq!(world.sites[0].refusals().last(), Some(&"paused"));
    }
    assert!(before.is_some() && world.sites[0].disk.durable == before);
    world.event(0, koinon_client::Event::Resume);
    hub.collect(&mut world, &[2]);
    let keys = hub.ahead(&world, 1, known);
    world.tell(0, ToSite::Invite(with_keys(&world, &task, &Round::train(5), keys).1));
    assert!(bundle(&mut world, 0).is_some());
    assert!(world.sites[0].faults().is_empty(), "{:?}", world.sites[0].faults());
}

#[test]
fn every_own_pair_is_spent_whatever_else_is_wrong_with_the_invitation() {
    let (mut world, task, hub) = ready(5);
    let size = hub.log.size();
    let (batch, place) = &hub.batches["site-00"];
    let pair = |pair| batch.name(pair, &hub.log, *place, size).unwrap();
    let mut keys = hub.ahead(&world, 0, 0);
    keys.named.insert(0, b"nothing that can be read".to_vec());
    keys.named.push(pair(1).to_bytes());
    keys.head.clear();
    let mut invite = with_keys(&world, &task, &Round::train(1), keys).1;
    invite.task = b"short".to_vec();
    world.tell(0, ToSite::Invite(invite));
    assert_eq!(world.sites[0].faults(), ["malformed"]);
    for (number, spent) in [(0, true), (1, true), (2, false)] {
        let keys = hub.ahead(&world, number, size);
        let session = 2 + number;
        world.tell(0, ToSite::Invite(with_keys(&world, &task, &Round::train(session), keys).1));
        let offered = *bundle(&mut world, 0).unwrap().public_keys()[0];
        assert_eq!(offered != *pair(number).channel(), spent, "pair {number}");
        give_up(&mut world, session);
    }
}

#[test]
fn where_a_graph_is_drawn_nobody_is_named() {
    let (mut world, task, hub) = ready(5);
    let assumptions =
        Assumptions { colluding_percent: 10, dropout_percent: 10, sigma: 80, failure_bits: 20 };
    let (degree, threshold, committee, quorum) = (98, 71, 143, 95);
    let sparse = Sparse { degree, threshold, committee, quorum, assumptions };
    let keys = hub.ahead(&world, 0, 0);
    let (mut plan, mut invite) = with_keys(&world, &task, &Round::train(1), keys);
    plan.topology = Topology::Sparse(sparse);
    invite.plan = plan.to_bytes();
    world.tell(0, ToSite::Invite(invite.clone()));
    assert_eq!(world.sites[0].refusals().last(), Some(&"plan_invalid"));
    // It is not the plan alone: without keys another check is the first to refuse.
    invite.keys = None;
    plan.session = [2; 32];
    invite.plan = plan.to_bytes();
    world.tell(0, ToSite::Invite(invite));
    assert_eq!(world.sites[0].refusals().last(), Some(&"graph_too_weak"));
}

#[test]
fn what_is_named_must_be_proven_and_the_plan_bound_to_it() {
    let lie = |change: &dyn Fn(&mut wire::KeysAhead), bind: bool| {
        let (mut world, task, hub) = ready(5);
        let honest = hub.ahead(&world, 0, 0);
        let mut keys = honest.clone();
        change(&mut keys);
        let mut invite = with_keys(&world, &task, &Round::train(1), keys.clone()).1;
        if !bind {
            invite.plan = with_keys(&world, &task, &Round::train(1), honest).1.plan;
        }
        world.tell(0, ToSite::Invite(invite));
        assert!(bundle(&mut world, 0).is_none());
        (world.sites[0].refusals().last().copied(), world.sites[0].faults().last().copied())
    };
    let unproven = |fault| (Some("keys_unproven"), Some(fault));
    assert_eq!(lie(&|keys| keys.named.swap(1, 2), true), unproven("order"));
    assert_eq!(lie(&|keys| keys.named[2] = keys.named[1].clone(), true), unproven("order"));
    assert_eq!(lie(&|keys| keys.named[1][90] ^= 1, true), unproven("bad_proof"));
    assert_eq!(lie(&|keys| keys.named[1].push(0), true), unproven("malformed"));
    assert_eq!(lie(&|keys| keys.named = vec![vec![0; 9]; 65], true), unproven("oversized"));
    assert_eq!(lie(&|keys| keys.consistency = vec![vec![0; 32]; 65], true), unproven("oversized"));
    let log = |fault| (Some("key_log"), fault);
    assert_eq!(lie(&|keys| keys.consistency = vec![vec![0; 31]], true), log(None));
    assert_eq!(lie(&|keys| keys.head[9] ^= 1, true), log(Some("log_unsigned")));
    assert_eq!(lie(&|keys| keys.head.truncate(50), true), log(None));
    // One site less, rightly proven, with the plan that the others have.
    let mismatch = (Some("context_mismatch"), None);
    assert_eq!(lie(&|keys| keys.named.truncate(4), false), mismatch);
    assert_eq!(lie(&|keys| keys.named.clear(), false), mismatch);
}

#[test]
fn nobody_makes_a_site_post_more_often_than_it_wants() {
    let (mut world, _, _) = ready(3);
    let wanted = || ToSite::KeysWanted(wire::KeysWanted { waiting: 0 });
    for _ in 0..100 {
        world.now += 99;
        world.tell(0, wanted());
    }
    assert_eq!(posted(&mut world, 0).len(), 0);
    for _ in 0..100 {
        world.now += 10_000;
        world.tell(0, wanted());
    }
    assert_eq!(posted(&mut world, 0).len(), 100, "once in ten seconds, as often as hellos");
    world.event(0, koinon_client::Event::Pause);
    world.now += 60_000;
    world.tell(0, wanted());
    assert!(posted(&mut world, 0).is_empty());
}

#[test]
fn a_site_says_which_log_it_took() {
    let (mut world, task, hub) = ready(5);
    let said = |world: &mut World| -> (Vec<Option<u64>>, Vec<Vec<u8>>) {
        let hellos = world.sites[0].sent.iter().filter_map(|frame| match &frame.frame {
            Some(wire::site_frame::Frame::Hello(hello)) => Some(hello.log_size),
            _ => None,
        });
        let hellos = hellos.collect();
        let heads = world.take(0, |message| match message {
            FromSite::CheckIn(check_in) => Some(check_in.head.clone()),
            _ => None,
        });
        (hellos, heads)
    };
    let (hellos, heads) = said(&mut world);
    assert!(hellos.iter().all(|size| *size == Some(0)) && heads.iter().all(Vec::is_empty));
    let keys = hub.ahead(&world, 0, 0);
    world.tell(0, ToSite::Invite(with_keys(&world, &task, &Round::train(1), keys.clone()).1));
    world.restart(0);
    let (hellos, heads) = said(&mut world);
    assert_eq!(hellos.last(), Some(&Some(Head::from_bytes(&keys.head).unwrap().size())));
    assert_eq!(heads.last(), Some(&keys.head));
}

#[test]
fn a_round_finishes_whoever_was_named() {
    // Those that are named and do not come, and one that comes and was not named.
    let (mut world, task, mut hub) = ready(7);
    hub.batches.remove("site-03");
    let keys = hub.ahead(&world, 0, 0);
    let rounds = start(&mut world, &task, &Round::train(1), &[0, 1, 2, 3, 4], &keys);
    assert_eq!(finish(&mut world, rounds), 5);
}
