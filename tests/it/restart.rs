//! Nodes that are killed in the middle of a round, and come back.

use std::time::Duration;

use koinon_client::node::NodeError;
use koinon_coordinator::server::config;
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
    // One site's connection can be cut, so that the round waits for it in Reporting.
    let settings = "chunk_bytes = 1024".to_owned();
    let mut cluster = Cluster::shaped(&Shape { sites: 5, settings, ask: false });
    let relay = Relay::start(cluster.coordinator.address());
    redirect(&cluster, 4, &relay);
    cluster.start_sites();
    let task = cluster.operator.submit(&Task::new(5, 1, 2_000));
    let site = &cluster.sites[4];
    site.wait("an upload is under way", LONG, |status| {
        status.upload.as_ref().is_some_and(|upload| upload.acknowledged >= 1)
    });
    relay.close();
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
    let settings = "chunk_bytes = 1024".to_owned();
    let mut cluster = Cluster::shaped(&Shape { sites: 5, settings, ask: false });
    cluster.start_sites();
    let task = cluster.operator.submit(&Task::new(5, 1, 2_000));
    cluster.sites[2].wait("an upload is under way", LONG, |status| {
        status
            .upload
            .as_ref()
            .is_some_and(|upload| upload.acknowledged >= 1 && upload.acknowledged < upload.total)
    });
    cluster.sites[2].kill();
    std::thread::sleep(Duration::from_millis(200));
    cluster.sites[2].start();
    let done = cluster.operator.wait_done(task, LONG);
    assert_eq!(done.abandoned, 0, "{done:?}");
    let first = done.history.iter().find(|round| round.round == 1).unwrap();
    assert_eq!(first.participants, 5);
    cluster.stop();
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
    let at = bytes
        .windows(20)
        .rposition(|w| w == b"roster_published\":{\"b" as &[u8])
        .or_else(|| bytes.windows(6).rposition(|w| w == b"at_ms\""));
    let at = at.expect("records are text");
    bytes[at + 1] ^= 1;
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
