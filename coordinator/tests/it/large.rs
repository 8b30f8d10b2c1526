//! Cohorts of more than 64 sites, each of which shares with some of the others only.

use koinon_coordinator::event::codes;
use koinon_proto::TaskManifest;
use koinon_proto::task::CohortPlan;

use crate::site::Question;
use crate::world::{World, manifest};

fn large() -> TaskManifest {
    let mut manifest = manifest();
    (manifest.cohort, manifest.rounds) = (CohortPlan::new(80, 120, 90), 1);
    manifest.encoding.update_bound = 2.0;
    manifest
}

#[test]
fn a_hundred_sites_train_with_some_lost_at_every_step() {
    let mut world = World::new(100, 1);
    for (number, question) in
        [(3, Question::Invite), (30, Question::Participants), (60, Question::Inbox)]
    {
        world.site(number).mute.insert(question);
    }
    let task = world.submit(&large()).unwrap();
    let status = world.run(&task);
    assert_eq!((status.state.as_str(), status.reason.as_str()), ("done", ""));
    assert!(status.history.iter().all(|round| round.outcome == "committed"), "{status:#?}");
    let participants: Vec<u32> = status.history.iter().map(|r| r.participants).collect();
    assert_eq!(participants, [97, 97, 97]);
    world.settle();
    assert!(world.sites.values().all(|site| site.rejections.iter().all(|code| code == "late")));
    world.check();
}

#[test]
fn a_large_round_goes_on_after_crashes_in_every_phase() {
    let mut world = World::new(90, 2);
    let task = world.submit(&large()).unwrap();
    for phase in ["training", "sharing", "reporting", "unmasking"] {
        world.run_until(|world| world.core.status(&task).unwrap().phase == phase);
        (0..40).for_each(|_| {
            world.step();
        });
        world.crash();
    }
    let status = world.run(&task);
    assert_eq!((status.state.as_str(), status.reason.as_str()), ("done", ""));
    assert!(status.history.iter().all(|round| round.outcome == "committed"), "{status:#?}");
    world.check();
}

#[test]
fn a_cohort_that_no_graph_protects_is_refused_with_the_arithmetic() {
    let mut world = World::new(3, 3);
    let mut hopeless = large();
    (hopeless.cohort.colluding_percent, hopeless.cohort.dropout_percent) = (40, 40);
    let refused = world.submit(&hopeless).unwrap_err();
    assert_eq!(refused.code, codes::BAD_MANIFEST);
    assert!(refused.detail.contains("40 % colluding"), "{}", refused.detail);
}
