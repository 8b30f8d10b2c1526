//! Generated histories: frames are lost, repeated and reordered, sites fall silent and come back, the
//! coordinator dies between any two effects. Whatever happened, the journal gives the same state, what
//! was accepted is counted exactly once, and the task ends.

use koinon_coordinator::record::Change;
use koinon_coordinator::{Coordinator, Record};
use koinon_proto::Digest;
use koinon_proto::task::ServerOptimizer;
use proptest::prelude::*;

use crate::site::Question;
use crate::world::{World, manifest, setup};

#[derive(Clone, Debug)]
struct History {
    seed: u64,
    sites: u32,
    trouble: u32,
    /// Effects between one crash and the next.
    crashes: Vec<usize>,
    mute: Option<(u32, Question)>,
    /// A site that starts anew after so many steps.
    restart: Option<(u32, usize)>,
    momentum: bool,
}

fn history() -> impl Strategy<Value = History> {
    let question = prop_oneof![
        Just(Question::Invite),
        Just(Question::Participants),
        Just(Question::Inbox),
        Just(Question::Survivors),
        Just(Question::Unmask),
    ];
    (
        any::<u64>(),
        5..8u32,
        prop_oneof![Just(0u32), 1..40u32],
        prop::collection::vec(0..300usize, 0..6),
        prop::option::of((0..5u32, question)),
        prop::option::of((0..5u32, 0..600usize)),
        any::<bool>(),
    )
        .prop_map(|(seed, sites, trouble, crashes, mute, restart, momentum)| History {
            seed,
            sites,
            trouble,
            crashes,
            mute,
            restart,
            momentum,
        })
}

fn live(history: &History) {
    let mut world = World::new(history.sites, history.seed);
    world.trouble = history.trouble;
    if let Some((number, question)) = history.mute {
        world.site(number).mute.insert(question);
    }
    let mut task = manifest();
    if history.momentum {
        task.server_optimizer = ServerOptimizer::Momentum { learning_rate: 1.0, beta: 0.9 };
    }
    let task = world.submit(&task).unwrap();
    let mut crashes = history.crashes.iter();
    world.crash_in = crashes.next().copied();
    for step in 0.. {
        assert!(step < 100_000, "no end in sight");
        let status = world.core.status(&task).unwrap();
        if !["waiting", "running"].contains(&status.state.as_str()) {
            break;
        }
        if history.restart.is_some_and(|(_, at)| at == step) {
            let name = world.name(history.restart.unwrap().0);
            world.disconnect(&name);
            world.sites.get_mut(&name).unwrap().restart();
            world.connect(&name);
        }
        assert!(world.step(), "stuck: {status:#?}");
        if world.crash_in.is_none() {
            world.crash_in = crashes.next().copied();
        }
        if step % 97 == 0 {
            assert_eq!(world.recovered().state_digest(), world.core.state_digest());
        }
    }
    let status = world.core.status(&task).unwrap();
    assert_eq!(status.state, "done", "{}", status.reason);
    if history.momentum {
        assert_eq!(world.recovered().state_digest(), world.core.state_digest());
    } else {
        world.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_the_journal_says_it_all(history in history()) {
        live(&history);
    }
}

#[test]
fn a_journal_from_parts_or_without_its_blobs_is_refused() {
    let mut world = World::new(5, 3);
    let task = world.submit(&manifest()).unwrap();
    world.run_until(|world| {
        let status = world.core.status(&task).unwrap();
        (status.round, status.accepted) == (1, 2)
    });
    let recover = |records: Vec<Record>, blobs: &dyn Fn(&Digest) -> Option<Vec<u8>>| {
        Coordinator::recover(setup(), records, blobs).err()
    };
    let all = |digest: &Digest| world.blobs.get(digest).cloned();
    assert_eq!(recover(world.journal.clone(), &all), None);
    // Of a round that is over only the result counts; the chain is what keeps the rest in place.
    let started = |record: &Record| matches!(record.change, Change::RoundStarted { .. });
    let running = world.journal.iter().rposition(started).unwrap();
    for (index, record) in world.journal.iter().enumerate() {
        let counts = matches!(
            record.change,
            Change::TaskSubmitted { .. } | Change::RoundStarted { .. } | Change::Committed { .. }
        );
        if !counts && index < running {
            continue;
        }
        let mut parts = world.journal.clone();
        parts.remove(index);
        let mut twice = world.journal.clone();
        twice.insert(index, record.clone());
        let same = |records| {
            let again = Coordinator::recover(setup(), records, &all);
            again.is_ok_and(|again| again.state_digest() == world.core.state_digest())
        };
        assert!(!same(parts), "{:?} left out", record.change);
        assert!(!same(twice), "{:?} twice", record.change);
    }
    let needs: Vec<&Digest> =
        world.blobs.keys().filter(|digest| world.core.needs(digest)).collect();
    assert!(needs.len() > 6);
    let mut missed = 0;
    for gone in needs {
        let without = |digest: &Digest| all(digest).filter(|_| digest != gone);
        let damaged = |digest: &Digest| {
            all(digest).map(|bytes| if digest == gone { b"damaged".to_vec() } else { bytes })
        };
        let lost = recover(world.journal.clone(), &without).is_some();
        assert_eq!(lost, recover(world.journal.clone(), &damaged).is_some());
        missed += usize::from(lost);
    }
    assert!(missed >= 6, "roster, spec, plans, version, two updates: {missed}");
}

/// A crash after each effect of one whole task, one at a time.
#[test]
fn a_crash_between_any_two_effects_loses_nothing() {
    let mut small = manifest();
    small.rounds = 1;
    let mut at = 0;
    loop {
        let mut world = World::new(4, 77);
        world.crash_in = Some(at);
        let task = world.submit(&small).unwrap();
        let status = world.run(&task);
        assert_eq!((status.state.as_str(), status.abandoned), ("done", 0), "crash after {at}");
        let accepted = world.changes().filter(|c| matches!(c, Change::UpdateAccepted { .. }));
        assert_eq!(accepted.count(), 12, "crash after {at}");
        world.check();
        if world.crashes == 0 {
            assert!(at > 300, "the whole task was gone through");
            return;
        }
        at += 7;
    }
}
