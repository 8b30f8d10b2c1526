//! Rounds as they should go, and with sites that are slow, silent or away.

use koinon_coordinator::record::Change;
use koinon_proto::Digest;

use crate::site::Question;
use crate::world::{World, manifest};

#[test]
fn a_task_fits_trains_and_evaluates() {
    let mut world = World::new(6, 1);
    let task = world.submit(&manifest()).unwrap();
    let status = world.run(&task);
    assert_eq!((status.state.as_str(), status.reason.as_str()), ("done", ""));
    assert_eq!(status.history.len(), 4, "statistics, two rounds, one evaluation");
    assert!(status.history.iter().all(|round| round.outcome == "committed"));
    assert!(status.history.iter().all(|round| round.participants == 6));
    world.settle();
    let first = &status.history[1];
    assert!((first.loss - 0.25).abs() < 1e-2 && (first.validation_loss - 0.5).abs() < 1e-2);
    assert!((first.validation_auc - 1.0).abs() < 1e-9);
    assert_eq!(first.validation_rows, 60);
    assert!(first.bytes_up > 6 * 2048);
    assert!(world.sites.values().all(|site| site.rejections.is_empty()));
    assert!(world.sites.values().all(|site| site.outcomes.len() == 4));
    let versions = world.core.versions();
    assert_eq!(versions.len(), 3, "the start and two rounds");
    let last = versions.iter().find(|version| version.digest == status.version).unwrap();
    assert_eq!(last.fitted, status.fitted);
    assert!((last.validation_loss - 0.5).abs() < 1e-2);
    world.check();
}

#[test]
fn masked_updates_are_forgotten_when_their_round_is_over() {
    let mut world = World::new(5, 2);
    let task = world.submit(&manifest()).unwrap();
    world.run(&task);
    let accepted: Vec<Digest> = world
        .changes()
        .filter_map(|change| match change {
            Change::UpdateAccepted { update, .. } => Some(*update),
            _ => None,
        })
        .collect();
    assert_eq!(accepted.len(), 20);
    assert!(accepted.iter().all(|update| !world.blobs.contains_key(update)));
    assert!(accepted.iter().all(|update| !world.core.serves(update)));
    let kept = world.blobs.keys().filter(|digest| !world.core.needs(digest)).count();
    assert_eq!(kept, 0, "nothing is kept that nobody needs");
    let status = world.core.status(&task).unwrap();
    let version = Digest::try_from(&status.version[..]).unwrap();
    assert!(world.core.serves(&version) && world.blobs.contains_key(&version));
}

#[test]
fn a_silent_site_costs_grace_and_nothing_else() {
    for question in [Question::Invite, Question::Participants, Question::Inbox] {
        let mut world = World::new(6, 3);
        world.site(2).mute.insert(question);
        let task = world.submit(&manifest()).unwrap();
        let begin = world.now;
        let status = world.run(&task);
        assert_eq!(status.state, "done", "{question:?}");
        assert!(status.history.iter().all(|round| round.participants == 5), "{question:?}");
        assert!(world.now - begin <= 4 * 2_000 + 100, "{question:?}: {}", world.now - begin);
        let told = &world.site(2).outcomes;
        let late = |o: &koinon_proto::wire::Outcome| matches!(&o.result, Some(koinon_proto::wire::outcome::Result::Abandoned(code)) if code == "late");
        assert!(told.len() == 4 && told.iter().all(late), "{question:?}: {told:?}");
        world.check();
    }
}

#[test]
fn silent_survivors_are_tolerated_up_to_the_threshold() {
    for question in [Question::Survivors, Question::Unmask] {
        let mut world = World::new(6, 4);
        world.site(1).mute.insert(question);
        let task = world.submit(&manifest()).unwrap();
        let status = world.run(&task);
        assert_eq!(status.state, "done", "{question:?}: {}", status.reason);
        assert!(status.history.iter().all(|round| round.participants == 6), "{question:?}");
        world.check();
    }
}

#[test]
fn too_few_reports_abandon_at_the_deadline_and_are_tried_again() {
    let mut world = World::new(5, 5);
    for number in 0..2 {
        world.site(number).mute.insert(Question::Inbox);
    }
    let task = world.submit(&manifest()).unwrap();
    world.run_until(|world| world.core.status(&task).unwrap().abandoned == 1);
    let status = world.core.status(&task).unwrap();
    assert_eq!(status.history[0].outcome, "deadline");
    assert!(status.history[0].seconds_milli <= 60_000, "within the one budget");
    for number in 0..2 {
        world.site(number).mute.clear();
    }
    let status = world.run(&task);
    assert_eq!((status.state.as_str(), status.abandoned), ("done", 1));
    assert_eq!((status.history[1].round, status.history[1].attempt), (0, 2));
    world.check();
}

#[test]
fn a_hopeless_round_ends_at_once() {
    let mut world = World::new(4, 6);
    world.site(0).refuses = true;
    let mut task = manifest();
    task.attempts_max = 1;
    let task = world.submit(&task).unwrap();
    let begin = world.now;
    let status = world.run(&task);
    let reason = "too_few: policy at 1 site; last site-00: policy";
    assert_eq!((status.state.as_str(), status.reason.as_str()), ("failed", reason));
    assert!(world.now - begin < 60_000);
    let declined = world
        .changes()
        .any(|change| matches!(change, Change::Declined { code, .. } if code == "policy"));
    assert!(declined);
    world.check();
}

#[test]
fn a_task_that_too_few_will_ever_want_says_why_and_fails_soon() {
    let mut world = World::new(5, 6);
    (0..2).for_each(|number| world.site(number).refuses = true);
    let mut task = manifest();
    task.budget_ms = 24 * 3_600_000;
    let task = world.submit(&task).unwrap();
    let begin = world.now;
    world.run_until(|world| world.core.status(&task).unwrap().abandoned == 1);
    let status = world.core.status(&task).unwrap();
    let reason = "too_few: policy at 2 sites; last site-01: policy";
    assert_eq!((status.state.as_str(), status.reason.as_str()), ("waiting", reason));
    assert_eq!(status.waiting_for, ["site-00: policy", "site-01: policy"]);
    world.crash();
    let status = world.run(&task);
    assert_eq!((status.state.as_str(), status.reason.as_str()), ("failed", reason));
    assert_eq!(status.abandoned, 4, "all attempts");
    assert!(world.now - begin < 60_000, "nobody waits a day for each");
    world.check();
}

#[test]
fn a_site_that_declines_is_named_while_enough_others_go_on() {
    let mut world = World::new(6, 6);
    world.site(5).refuses = true;
    let task = world.submit(&manifest()).unwrap();
    let status = world.run(&task);
    assert_eq!((status.state.as_str(), status.abandoned), ("done", 0));
    let declined = world.changes().filter(|change| matches!(change, Change::Declined { .. }));
    assert_eq!(declined.count(), 1, "not asked again in every round");
    world.check();
}

#[test]
fn the_task_waits_for_enough_sites_and_says_for_whom() {
    let mut world = World::new(6, 7);
    world.settle();
    for number in 0..3 {
        let site = world.name(number);
        world.disconnect(&site);
    }
    let task = world.submit(&manifest()).unwrap();
    world.settle();
    assert!(!world.step(), "nothing to do and no deadline");
    let status = world.core.status(&task).unwrap();
    assert_eq!(status.state, "waiting");
    assert_eq!(status.waiting_for, ["site-00", "site-01", "site-02"]);
    let site = world.name(0);
    world.connect(&site);
    world.settle();
    assert_eq!(world.core.status(&task).unwrap().phase, "selection", "others may still come");
    let status = world.run(&task);
    assert_eq!(status.state, "done");
    assert!(status.history.iter().all(|round| round.participants == 4));
    world.check();
}

#[test]
fn a_broken_upload_goes_on_where_it_was() {
    let mut world = World::new(5, 8);
    let task = world.submit(&manifest()).unwrap();
    world.run_until(|world| world.core.status(&task).unwrap().round == 1);
    world.site(3).stalls = true;
    world.run_until(|world| world.core.status(&task).unwrap().accepted == 4);
    world.settle();
    let sent = world.site(3).chunks;
    assert!(sent > 2);
    let site = world.name(3);
    world.disconnect(&site);
    world.site(3).stalls = false;
    world.site(3).restart();
    world.connect(&site);
    let before = world.journal.len();
    let accepted =
        |change: &Change| matches!(change, Change::UpdateAccepted { site: s, .. } if *s == site);
    world.run_until(|world| world.changes().skip(before).any(accepted));
    assert!(world.site(3).chunks <= sent + 2, "only what was missing was sent again");
    let status = world.run(&task);
    assert!(status.history.iter().all(|round| round.participants == 5));
    world.check();
}

#[test]
fn tasks_share_the_sites_and_the_statistics_of_their_feature_plan() {
    let mut world = World::new(5, 9);
    let mut second = manifest();
    (second.name, second.seed) = ("second".into(), 10);
    second.init_from = koinon_proto::task::InitFrom::Fresh { seed: 6 };
    let tasks = [world.submit(&manifest()).unwrap(), world.submit(&second).unwrap()];
    for task in &tasks {
        assert_eq!(world.run(task).state, "done");
    }
    // One that comes when the plan was fitted long ago.
    let mut third = manifest();
    (third.name, third.seed) = ("third".into(), 11);
    third.init_from = koinon_proto::task::InitFrom::Fresh { seed: 7 };
    let third = world.submit(&third).unwrap();
    let fitted = world.core.status(&tasks[0]).unwrap().fitted;
    assert_eq!(world.core.status(&third).unwrap().fitted, fitted);
    let ended: Vec<_> = [tasks[0], tasks[1], third].iter().map(|task| world.run(task)).collect();
    // Sites open the sums behind the statistics once, so that no two can be subtracted.
    let rounds = ended.iter().map(|status| status.history.len()).collect::<Vec<_>>();
    assert_eq!(rounds, [4, 3, 3], "statistics once");
    assert!(ended.iter().all(|status| status.state == "done" && status.fitted == fitted));
    let versions = world.core.versions();
    assert!(versions.iter().all(|version| version.fitted == fitted));
    assert_eq!(world.recovered().state_digest(), world.core.state_digest());
    world.check();
}
