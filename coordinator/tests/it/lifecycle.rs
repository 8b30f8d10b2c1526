//! A task's life beyond its rounds: submission, cancelling, early stopping, spent parameters.

use koinon_coordinator::record::Change;
use koinon_coordinator::{Event, Rejection};
use koinon_proto::task::{InitFrom, ServerOptimizer, TaskKind};
use koinon_proto::{Digest, wire};

use crate::site::Question;
use crate::world::{FEATURES, SPEC, TRAINING, World, manifest};

fn code<T: std::fmt::Debug>(result: Result<T, Rejection>) -> &'static str {
    result.unwrap_err().code
}

#[test]
fn a_task_is_refused_before_any_site_hears_of_it() {
    let mut world = World::new(4, 1);
    let before = world.core.state_digest();
    let blobs = || [SPEC, FEATURES, TRAINING].map(<[u8]>::to_vec).to_vec();
    assert_eq!(code(world.submit_with(&manifest(), blobs()[..2].to_vec())), "blob_missing");
    let mut wide = manifest();
    wide.encoding.frac_bits = 40;
    wide.encoding.rows_max = 1 << 30;
    assert_eq!(code(world.submit(&wide)), "bad_manifest", "a sum could overflow");
    let mut other = manifest();
    other.model = Some(Digest::of(TRAINING));
    assert_eq!(code(world.submit(&other)), "bad_blob");
    let spec = String::from_utf8(SPEC.to_vec()).unwrap().replace("[2]", "[3]").into_bytes();
    let mut narrow = manifest();
    narrow.model = Some(Digest::of(&spec));
    let blobs = vec![spec, FEATURES.to_vec(), TRAINING.to_vec()];
    assert_eq!(code(world.submit_with(&narrow, blobs)), "bad_blob");
    let mut unknown = manifest();
    unknown.init_from = InitFrom::Version { digest: Digest::of(b"nothing") };
    assert_eq!(code(world.submit(&unknown)), "blob_missing");
    let garbage =
        world.ask(|reply| Event::Submit { manifest: b"{}".to_vec(), blobs: Vec::new(), reply });
    assert_eq!(code(garbage), "bad_manifest");
    let task = Digest::of(b"no task");
    assert_eq!(code(world.ask(|reply| Event::Cancel { task, reply })), "unknown_task");
    assert_eq!(world.core.state_digest(), before);
}

#[test]
fn a_task_submitted_twice_is_one_task() {
    let mut world = World::new(4, 2);
    let one = world.submit(&manifest()).unwrap();
    let before = world.journal.len();
    assert_eq!(world.submit(&manifest()).unwrap(), one);
    assert_eq!(world.journal.len(), before);
    assert_eq!(world.core.tasks().len(), 1);
}

#[test]
fn cancelling_stops_everybody_and_is_remembered() {
    let mut world = World::new(5, 3);
    let task = world.submit(&manifest()).unwrap();
    world.run_until(|world| world.core.status(&task).unwrap().phase == "reporting");
    let answer = world.ask(|reply| Event::Cancel { task, reply });
    assert!(answer.is_ok());
    world.settle();
    let cancelled = |outcome: &wire::Outcome| matches!(&outcome.result, Some(wire::outcome::Result::Abandoned(code)) if code == "cancelled");
    assert!(world.sites.values().all(|site| site.outcomes.last().is_some_and(cancelled)));
    world.crash();
    world.settle();
    assert_eq!(world.core.status(&task).unwrap().state, "cancelled");
    let before = world.journal.len();
    assert!(world.ask(|reply| Event::Cancel { task, reply }).is_ok(), "the same answer again");
    assert_eq!(world.journal.len(), before);
    assert!(world.core.next_deadline().is_none());
    world.check();
}

#[test]
fn a_site_that_was_away_when_a_task_was_cancelled_hears_of_it_after_a_crash() {
    let mut world = World::new(5, 4);
    world.site(2).mute.insert(Question::Invite);
    let task = world.submit(&manifest()).unwrap();
    world.run_until(|world| world.core.status(&task).unwrap().ready == 4);
    let site = world.name(2);
    world.disconnect(&site);
    world.ask(|reply| Event::Cancel { task, reply }).unwrap();
    world.crash();
    world.connect(&site);
    world.settle();
    assert_eq!(world.site(2).outcomes.len(), 1);
    world.check();
}

#[test]
fn patience_ends_training_early() {
    let mut world = World::new(5, 5);
    let mut task = manifest();
    (task.rounds, task.patience) = (50, Some(2));
    let task = world.submit(&task).unwrap();
    let status = world.run(&task);
    assert_eq!(status.state, "done");
    assert!(status.reason.contains("early"), "{}", status.reason);
    // Measured alike every time: the first is the best, two more without a better one.
    let trained = status.history.iter().filter(|round| round.kind == 2).count();
    assert_eq!(trained, 3);
    assert_eq!(status.history.last().unwrap().kind, 3, "the last version is evaluated");
    let start = world.core.versions().into_iter().find(|version| version.round == 0).unwrap();
    assert_eq!(status.best_version, start.digest);
    world.check();
}

#[test]
fn statistics_and_evaluation_are_tasks_of_their_own() {
    let mut world = World::new(5, 6);
    let mut statistics = manifest();
    statistics.name = "statistics".into();
    (statistics.kind, statistics.rounds) = (TaskKind::Statistics, 1);
    (statistics.model, statistics.training) = (None, None);
    let fitted = world.submit(&statistics).unwrap();
    let status = world.run(&fitted);
    assert_eq!((status.state.as_str(), status.history.len()), ("done", 1));
    assert!(!status.fitted.is_empty() && status.version.is_empty());

    let trained = world.submit(&manifest()).unwrap();
    let version = Digest::try_from(&world.run(&trained).version[..]).unwrap();
    let mut evaluate = manifest();
    evaluate.name = "evaluation".into();
    (evaluate.kind, evaluate.rounds, evaluate.training) = (TaskKind::Evaluate, 1, None);
    evaluate.init_from = InitFrom::Version { digest: version };
    let blobs = vec![SPEC.to_vec(), FEATURES.to_vec(), world.blobs[&version].clone()];
    let task = world.submit_with(&evaluate, blobs).unwrap();
    // The training task has evaluated this version already, so its sites count it as opened.
    let status = world.run(&task);
    let reason = "too_few: spent at 2 sites; last site-01: spent";
    assert_eq!((status.state.as_str(), status.reason.as_str()), ("failed", reason));
    assert!(!status.fitted.is_empty(), "the version's statistics came with it");
    world.check();
}

/// Three of five sites sign but never reveal: the reveals of the others have left.
fn spend(world: &mut World, round: u32, task: &Digest) {
    world.run_until(|world| {
        let status = world.core.status(task).unwrap();
        (status.round, status.phase.as_str()) == (round, "reporting")
    });
    for number in 0..3 {
        world.site(number).mute.insert(Question::Unmask);
    }
    let abandoned = world.core.status(task).unwrap().abandoned;
    world.run_until(|world| world.core.status(task).unwrap().abandoned > abandoned);
    for number in 0..3 {
        world.site(number).mute.clear();
    }
}

#[test]
fn spent_parameters_end_a_task_that_has_no_other() {
    let mut world = World::new(5, 7);
    let task = world.submit(&manifest()).unwrap();
    spend(&mut world, 2, &task);
    let status = world.run(&task);
    assert_eq!((status.state.as_str(), status.reason.as_str()), ("failed", "spent"));
    assert_eq!(status.history.last().unwrap().outcome, "deadline");
    world.check();
}

#[test]
fn with_momentum_the_round_is_tried_again_on_other_parameters() {
    let mut world = World::new(5, 8);
    let mut task = manifest();
    task.server_optimizer = ServerOptimizer::Momentum { learning_rate: 1.0, beta: 0.5 };
    let task = world.submit(&task).unwrap();
    spend(&mut world, 2, &task);
    let status = world.run(&task);
    assert_eq!((status.state.as_str(), status.abandoned), ("done", 1), "{}", status.reason);
    assert!(world.changes().any(|change| matches!(change, Change::Coasted { .. })));
    assert_eq!(world.recovered().state_digest(), world.core.state_digest());
}

#[test]
fn spent_statistics_are_not_asked_for_again() {
    let mut world = World::new(5, 9);
    let task = world.submit(&manifest()).unwrap();
    spend(&mut world, 0, &task);
    let status = world.run(&task);
    assert_eq!((status.state.as_str(), status.reason.as_str()), ("failed", "spent"));
    world.check();
}

#[test]
fn a_trained_task_without_its_last_evaluation_is_done() {
    let mut world = World::new(5, 10);
    let task = world.submit(&manifest()).unwrap();
    spend(&mut world, 3, &task);
    let status = world.run(&task);
    assert_eq!(status.state, "done");
    assert!(status.reason.contains("not evaluated: spent"), "{}", status.reason);
    world.check();
}

#[test]
fn an_unmasking_goes_on_after_a_crash_with_the_very_same_session() {
    let mut world = World::new(5, 11);
    let task = world.submit(&manifest()).unwrap();
    world.run_until(|world| {
        world.changes().any(|change| matches!(change, Change::RevealAccepted { .. }))
    });
    let sessions = |world: &World| {
        let started = |change: &&Change| matches!(change, Change::RoundStarted { .. });
        world.changes().filter(started).count()
    };
    let before = sessions(&world);
    world.crash();
    world.run_until(|world| {
        world.changes().any(|change| matches!(change, Change::Committed { .. }))
    });
    assert_eq!(sessions(&world), before, "no second session was begun");
    assert_eq!(world.run(&task).abandoned, 0);
    world.check();
}

#[test]
fn the_budget_stands_still_while_the_coordinator_is_down() {
    let mut world = World::new(5, 12);
    for number in 0..3 {
        world.site(number).mute.insert(Question::Invite);
    }
    let task = world.submit(&manifest()).unwrap();
    world.run_until(|world| world.core.status(&task).unwrap().ready == 2);
    world.settle();
    let left = world.core.next_deadline().unwrap() - world.now;
    world.now += 3_600_000;
    world.crash();
    assert_eq!(world.core.next_deadline().unwrap() - world.now, left);
    world.run_until(|world| world.core.status(&task).unwrap().abandoned == 1);
    world.check();
}
