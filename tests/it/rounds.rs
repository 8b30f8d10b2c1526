//! Whole rounds over real gRPC and mutual TLS.

use std::fs;
use std::time::Duration;

use koinon_aggregation::roster::Role;
use koinon_client::ledger::verify;
use koinon_client::node::join::JoinOptions;
use koinon_client::node::keystore::KeyStore;
use koinon_client::node::{check, control};
use koinon_proto::{Digest, wire};
use koinon_tests::cluster::{join_token, now_ms};
use koinon_tests::{Cluster, Relay, Shape, Task, eventually};
use tonic::Code;

const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_task_is_trained_to_its_end_and_every_byte_is_accounted_for() {
    let mut cluster = Cluster::start(5);
    // One site goes through a relay that counts outside of it.
    let relay = Relay::start(cluster.coordinator.address());
    let settings = cluster.sites[0].dir.join("client.toml");
    let text = fs::read_to_string(&settings).unwrap();
    let text = text.replace(&cluster.coordinator.address(), &relay.address());
    fs::write(&settings, text).unwrap();
    cluster.sites[0].options.transcript = Some(cluster.path("transcript"));
    cluster.start_sites();
    let task = Task::new(5, 3, 400);
    let digest = cluster.operator.submit(&task);
    assert_eq!(digest, task.digest());
    let seen = cluster.operator.watch(digest);
    let done = seen.last().unwrap();
    assert_eq!(done.state, "done", "{done:?}");
    assert_eq!(done.round, 3);
    assert!(seen.len() > 3, "a watch shows progress");
    assert_eq!(done.history.iter().filter(|round| round.outcome == "committed").count(), 5);
    let versions = cluster.operator.versions();
    assert!(versions.iter().any(|version| version.digest == done.version));
    for site in &cluster.sites {
        site.wait("all rounds committed", LONG, |status| status.rounds_done == 5);
    }
    cluster.stop();

    let status = cluster.sites[0].status().unwrap();
    assert!(!status.running && !status.connected);
    eventually("the relay to read what is on its way", LONG, || {
        (relay.up() >= status.transport.written && relay.down() >= status.transport.read)
            .then_some(())
    });
    assert_eq!(status.transport.written, relay.up(), "the node counts what the wire carries");
    // Who closes first does not read the other's goodbye.
    assert!((0..200).contains(&(relay.down() - status.transport.read)));
    let framing =
        status.transport.written - status.transport.handshake_written - status.ledger.bytes;
    let share = framing as f64 / status.transport.written as f64;
    assert!(share < 0.25, "framing is {share} of a small task's bytes");
    for kind in ["negotiate", "hello", "check_in", "fetch", "ready", "shares", "report", "chunk"] {
        assert!(status.ledger.by_kind.contains_key(kind), "{kind} is in the ledger");
    }
    let ledger = fs::read(cluster.sites[0].dir.join("ledger/ledger.jsonl")).unwrap();
    let head = verify(&ledger).unwrap();
    assert_eq!(head.entries, status.ledger.entries);
    // The transcript holds what the node said since its start: all but joining.
    let kept = fs::read_dir(cluster.path("transcript")).unwrap().count() as u64;
    assert_eq!(kept + 2, head.entries);
}

#[test]
fn a_cancelled_task_stops_training_within_seconds() {
    let mut cluster = Cluster::start(5);
    cluster.gate.close();
    cluster.start_sites();
    let task = cluster.operator.submit(&Task::new(5, 3, 8));
    eventually("all train", LONG, || (cluster.gate.waiting() == 5).then_some(()));
    let status = cluster.operator.cancel(task).unwrap();
    assert_eq!(status.state, "cancelled");
    eventually("all stop", Duration::from_secs(5), || (cluster.gate.stopped() == 5).then_some(()));
    cluster.gate.open();
    for site in &cluster.sites {
        site.wait("idle", LONG, |status| status.phase == "idle");
    }
    cluster.stop();
}

#[test]
fn a_site_that_asks_takes_part_once_somebody_approves_and_not_while_it_is_paused() {
    let mut cluster = Cluster::shaped(&Shape { sites: 5, ask: true, ..Shape::default() });
    cluster.start_sites();
    let task = Task::new(5, 1, 8);
    let digest = cluster.operator.submit(&task);
    for site in &cluster.sites {
        let hex = digest.to_string();
        site.wait("the task waits", LONG, |status| status.awaiting_approval.contains(&hex));
        let offer = fs::read(site.dir.join(format!("offers/{hex}.json"))).unwrap();
        assert_eq!(Digest::of(&offer), digest, "the offer is the manifest verbatim");
    }
    control::pause(&cluster.sites[4].dir).unwrap();
    cluster.sites[4].wait("paused", LONG, |status| status.paused);
    for site in &cluster.sites {
        control::approve(&site.dir.join("policy.toml"), &digest, "relapse").unwrap();
    }
    let waiting = cluster
        .operator
        .wait(digest, "four are ready", LONG, |status| status.waiting_for.len() == 1);
    assert_eq!(waiting.state, "waiting");
    control::resume(&cluster.sites[4].dir).unwrap();
    cluster.operator.wait_done(digest, LONG);
    control::leave(&cluster.sites[3].dir).unwrap();
    cluster.sites[3].ended(LONG).unwrap();
    cluster.sites[3].start();
    let again = cluster.sites[3].ended(LONG).unwrap_err();
    assert_eq!(again.exit_code(), 5, "{again}");
}

#[test]
fn joining_again_changes_nothing_and_a_foreign_folder_is_refused() {
    let mut cluster = Cluster::start(0);
    let token = cluster.invite("late", Role::Client);
    let dir = cluster.path("late");
    let first = join_token(&token, &dir, &JoinOptions::default()).unwrap();
    assert!(!first.already && first.transport.written > 0);
    let before = fs::read(dir.join("tls.pem")).unwrap();
    let again = join_token(&token, &dir, &JoinOptions::default()).unwrap();
    assert!(again.already);
    assert_eq!(before, fs::read(dir.join("tls.pem")).unwrap());

    // The answer was lost: the same keys enrol again.
    fs::remove_file(dir.join("tls.pem")).unwrap();
    let third = join_token(&token, &dir, &JoinOptions::default()).unwrap();
    assert_eq!(third.identity_key, first.identity_key);

    // The token was used: with other keys it is worth nothing.
    let stolen = join_token(&token, &cluster.path("thief"), &JoinOptions::default()).unwrap_err();
    assert_eq!(stolen.exit_code(), 5, "{stolen}");

    let other = cluster.invite("other", Role::Client);
    let error = join_token(&other, &dir, &JoinOptions::default()).unwrap_err();
    assert!(error.to_string().contains("another membership"), "{error}");
    let error = join_token(&other, &cluster.coordinator.dir, &JoinOptions::default()).unwrap_err();
    assert!(error.to_string().contains("coordinator.toml"), "{error}");
    cluster.sign_pending();
}

#[test]
fn a_check_finds_a_good_site_good_and_tells_faults_apart() {
    let cluster = Cluster::start(1);
    let dir = &cluster.sites[0].dir;
    let findings = checked(dir);
    let bad: Vec<_> = findings.iter().filter(|finding| !finding.ok).collect();
    assert_eq!(bad.len(), 1, "{findings:?}");
    assert_eq!(bad[0].area, check::Area::Data);

    let settings = dir.join("client.toml");
    let good = fs::read_to_string(&settings).unwrap();
    let with = |address: &str| good.replace(&cluster.coordinator.address(), address);
    let area = |text: String| {
        fs::write(&settings, text).unwrap();
        let findings = checked(dir);
        let first = findings.iter().find(|f| !f.ok && f.area != check::Area::Data);
        first.map(|finding| finding.area)
    };
    assert_eq!(area(with("no-such-host.invalid:1")), Some(check::Area::Dns));
    assert_eq!(area(with("127.0.0.1:1")), Some(check::Area::Connection));
    let proxied = good.replace("proxy = \"none\"", "proxy = \"http://127.0.0.1:1\"");
    assert_eq!(area(proxied), Some(check::Area::Proxy));
    let elsewhere = Cluster::start(0);
    assert_eq!(area(with(&elsewhere.coordinator.address())), Some(check::Area::Interception));
    fs::write(&settings, &good).unwrap();
    fs::write(dir.join("policy.toml"), "[cohort]\nmun = 3\n").unwrap();
    let findings = checked(dir);
    let policy = findings.iter().find(|f| f.area == check::Area::Policy).unwrap();
    assert!(!policy.ok && policy.text.contains("did you mean 'min'"), "{policy:?}");
}

#[test]
fn a_certificate_is_renewed_while_the_node_runs() {
    let mut cluster = Cluster::start(1);
    let path = cluster.sites[0].dir.join("tls.pem");
    let before = fs::read_to_string(&path).unwrap();
    let (_, certificate) = before.split_once('\n').unwrap();
    let soon = now_ms() + 24 * 3_600_000;
    fs::write(&path, format!("valid until (Unix ms): {soon}\n{certificate}")).unwrap();
    cluster.start_sites();
    let site = &cluster.sites[0];
    let status = site.wait("it is connected", LONG, |status| status.connected);
    assert_eq!(status.ledger.by_kind["renew"].messages, 1);
    let keys = KeyStore::open(&site.dir).unwrap();
    assert!(!keys.renewal_due(now_ms()).unwrap());
    let after = fs::read_to_string(&path).unwrap();
    assert!(!after.contains(certificate.trim()), "it is another certificate for the same key");
    // The new one is as good as the old one after a restart of the coordinator.
    cluster.coordinator.stop().unwrap();
    cluster.coordinator.start();
    cluster.sites[0].wait("it is back", LONG, |status| status.transport.connections == 3);
    cluster.stop();
}

#[test]
fn a_download_goes_on_from_where_it_was() {
    let mut cluster = Cluster::start(5);
    let task = Task::new(5, 1, 30_000);
    cluster.start_sites();
    let digest = cluster.operator.submit(&task);
    let done = cluster.operator.wait_done(digest, LONG);
    let fetch = |digest: Vec<u8>, offset: u64| {
        cluster.operator.call(async |mut c| {
            let mut stream = c.fetch(wire::FetchRequest { digest, offset }).await?.into_inner();
            let mut bytes = Vec::new();
            while let Some(chunk) = stream.message().await? {
                assert_eq!(chunk.offset, offset + bytes.len() as u64);
                bytes.extend(chunk.data);
            }
            Ok(tonic::Response::new(bytes))
        })
    };
    let all = fetch(done.version.clone(), 0).unwrap();
    assert!(all.len() > 512 * 1024, "several pieces");
    assert_eq!(Digest::of(&all).0, done.version[..]);
    let rest = fetch(done.version.clone(), 300_000).unwrap();
    assert_eq!(rest, all[300_000..]);
    assert!(fetch(done.version.clone(), all.len() as u64).unwrap().is_empty());
    let behind = fetch(done.version.clone(), all.len() as u64 + 1).unwrap_err();
    assert_eq!(behind.code(), Code::OutOfRange);
    assert_eq!(fetch(vec![7; 32], 0).unwrap_err().code(), Code::NotFound);
    assert_eq!(fetch(vec![7; 3], 0).unwrap_err().code(), Code::InvalidArgument);
    cluster.stop();
}

fn checked(dir: &std::path::Path) -> Vec<check::Finding> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(check::check(dir))
}
