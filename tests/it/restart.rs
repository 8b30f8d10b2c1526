//! Nodes that are killed in the middle of a round, and come back.

use std::time::{Duration, Instant};

use koinon_client::node::NodeError;
use koinon_coordinator::server::config;
use koinon_proto::{Digest, wire};
use koinon_tests::{Cluster, CoordinatorNode, Relay, Shape, Task, eventually};

const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_coordinator_killed_while_sites_train_goes_on_with_the_same_round() {
    let mut cluster = Cluster::start(5);
    cluster.gate.close();
    cluster.start_sites();
    let task = cluster.operator.submit(&Task::new(5, 2, 8));
    eventually("all train", LONG, || (cluster.gate.waiting() == 5).then_some(()));
    cluster.coordinator.kill();
    cluster.gate.open();
    cluster.coordinator.start();
    let done = cluster.operator.wait_done(task, LONG);
    assert_eq!(done.abandoned, 0, "the round that was running is the one that commits: {done:?}");
    cluster.stop();
}

#[test]
fn a_coordinator_killed_while_reporting_loses_nothing_that_it_accepted() {
    let (mut cluster, relay, task) = uploading(4);
    let before = cluster.operator.wait(task, "the other four are accepted", LONG, |status| {
        status.phase == "reporting" && status.accepted == 4
    });
    assert_eq!(before.round, 1);
    cluster.coordinator.kill();
    cluster.coordinator.start();
    let after = cluster.operator.wait(task, "it is there again", LONG, |_| true);
    assert_eq!((after.phase.as_str(), after.accepted), ("reporting", 4), "{after:?}");
    relay.open();
    let done = cluster.operator.wait_done(task, LONG);
    assert_eq!(done.abandoned, 0, "{done:?}");
    let first = done.history.iter().find(|round| round.round == 1).unwrap();
    assert_eq!(first.participants, 5, "the site that was cut off is counted too");
    cluster.stop();
}

#[test]
fn a_site_killed_in_the_middle_of_its_upload_goes_on_where_it_was() {
    let (mut cluster, relay, task) = uploading(2);
    cluster.sites[2].kill();
    relay.open();
    cluster.sites[2].start();
    let done = cluster.operator.wait_done(task, LONG);
    assert_eq!(done.abandoned, 0, "{done:?}");
    let first = done.history.iter().find(|round| round.round == 1).unwrap();
    assert_eq!(first.participants, 5);
    cluster.stop();
}

#[test]
fn a_site_whose_folder_was_copied_sits_the_round_out_and_goes_on_with_the_next() {
    let (mut cluster, relay, task) = uploading(2);
    cluster.sites[2].kill();
    relay.open();
    // The same bytes in new files: what a backup gives back.
    let state = cluster.sites[2].dir.join("state");
    for name in ["participant.state", "vector.state"] {
        let bytes = std::fs::read(state.join(name)).unwrap();
        std::fs::write(state.join("copy"), bytes).unwrap();
        std::fs::rename(state.join("copy"), state.join(name)).unwrap();
    }
    cluster.sites[2].start();
    let before =
        cluster.operator.wait(task, "the others are accepted", LONG, |status| status.accepted == 4);
    assert_eq!(before.phase, "reporting");
    cluster.sites[2].wait("it is back and in no round", LONG, |status| {
        status.connected && status.phase == "idle"
    });
    cluster.sites[2].stop().unwrap();
    cluster.coordinator.stop().unwrap();
}

/// A cluster in the middle of round 1, in which one site's upload is held back after its first
/// chunks.
fn uploading(site: usize) -> (Cluster, Relay, Digest) {
    let shape = Shape { sites: 5, chunk_bytes: Some(1024), ..Shape::default() };
    let mut cluster = Cluster::shaped(&shape);
    let relay = Relay::start(cluster.coordinator.address());
    redirect(&cluster, site, &relay);
    cluster.gate.close();
    cluster.start_sites();
    let task = cluster.operator.submit(&Task::new(5, 1, 2_000));
    eventually("all train", LONG, || (cluster.gate.waiting() == 5).then_some(()));
    relay.hold_after(24_000);
    cluster.gate.open();
    cluster.sites[site].wait("an upload is under way", LONG, |status| {
        let upload = status.upload.as_ref();
        upload.is_some_and(|u| u.acknowledged >= 1 && u.acknowledged < u.total)
    });
    (cluster, relay, task)
}

#[test]
fn a_coordinator_that_is_stopped_says_goodbye_and_goes_on_later() {
    let mut cluster = Cluster::start(5);
    cluster.gate.close();
    cluster.start_sites();
    let task = cluster.operator.submit(&Task::new(5, 1, 8));
    eventually("all train", LONG, || (cluster.gate.waiting() == 5).then_some(()));
    let start = Instant::now();
    cluster.coordinator.stop().unwrap();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    for site in &cluster.sites {
        site.wait("it says why", LONG, |status| !status.connected && status.problem.is_some());
    }
    cluster.gate.open();
    cluster.coordinator.start();
    let done = cluster.operator.wait_done(task, LONG);
    assert_eq!(done.abandoned, 0, "{done:?}");
    cluster.stop();
}

#[test]
fn a_coordinator_that_cannot_write_answers_nothing_more_and_ends() {
    let mut cluster = Cluster::start(0);
    let blobs = cluster.coordinator.dir.join("state/blobs");
    let aside = cluster.coordinator.dir.join("state/aside");
    std::fs::rename(&blobs, &aside).unwrap();
    let task = Task::new(5, 1, 8);
    let upload = wire::TaskUpload { manifest: task.bytes.clone(), blobs: task.blobs.clone() };
    let answer = cluster.operator.call(async |mut c| c.submit(upload).await);
    assert!(answer.is_err(), "what is not durable is not confirmed: {answer:?}");
    let error = cluster.coordinator.ended(LONG).unwrap_err();
    assert_eq!(error.exit_code(), 7, "{error}");
    std::fs::rename(&aside, &blobs).unwrap();
    cluster.coordinator.start();
    assert!(cluster.operator.status(task.digest()).is_err(), "it never happened");
    assert_eq!(cluster.operator.submit(&task), task.digest());
}

#[test]
fn a_site_that_cannot_write_its_state_says_nothing_and_ends() {
    let mut cluster = Cluster::start(5);
    cluster.gate.close();
    cluster.start_sites();
    let task = cluster.operator.submit(&Task::new(5, 1, 8));
    eventually("all train", LONG, || (cluster.gate.waiting() == 5).then_some(()));
    let state = cluster.sites[1].dir.join("state");
    std::fs::rename(&state, cluster.sites[1].dir.join("aside")).unwrap();
    cluster.gate.open();
    let error = cluster.sites[1].ended(LONG).unwrap_err();
    assert_eq!(error.exit_code(), 7, "{error}");
    let status = cluster.operator.status(task).unwrap();
    assert!(status.ready <= 4, "the site's keys never left: {status:?}");
}

#[test]
fn two_coordinators_never_share_a_folder_and_two_nodes_neither() {
    let mut cluster = Cluster::start(1);
    let mut second = CoordinatorNode::new(cluster.coordinator.dir.clone(), free_port());
    let error = second.try_start().unwrap_err();
    assert_eq!(error.exit_code(), 7, "{error}");
    assert!(error.to_string().contains("in use"));

    let mut taken = config::load(&cluster.coordinator.dir).unwrap();
    taken.listen = cluster.coordinator.address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(koinon_coordinator::server::bind(&taken)).unwrap_err();
    assert_eq!(error.exit_code(), 6);
    assert!(error.to_string().contains("another program has the port"), "{error}");

    cluster.start_sites();
    cluster.sites[0].wait("it runs", LONG, |status| status.connected);
    let (dir, options) = (cluster.sites[0].dir.clone(), cluster.sites[0].options.clone());
    let trainer = Box::new(cluster.sites[0].trainer.clone());
    let second = runtime.block_on(koinon_client::node::run_with(
        &dir,
        &options,
        trainer,
        std::future::pending(),
    ));
    assert!(matches!(second, Err(NodeError::State(_))), "{second:?}");
    cluster.stop();
}

#[test]
fn a_damaged_journal_is_refused_with_its_place() {
    let mut cluster = Cluster::start(0);
    cluster.coordinator.stop().unwrap();
    let state = cluster.coordinator.dir.join("state");
    let path = state.join("journal.sqlite");
    let mut bytes = std::fs::read(&path).unwrap();
    // The first digit of the first epoch: still a record, but not the one that the next entry names.
    let name = b"\"epoch\":";
    let at = bytes.windows(name.len()).rposition(|window| window == name).unwrap() + name.len();
    bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
    std::fs::write(&path, bytes).unwrap();
    let error = cluster.coordinator.try_start().unwrap_err();
    assert_eq!(error.exit_code(), 7, "{error}");
}

fn redirect(cluster: &Cluster, site: usize, relay: &Relay) {
    let path = cluster.sites[site].dir.join("client.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace(&cluster.coordinator.address(), &relay.address());
    std::fs::write(path, text).unwrap();
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
