//! Peers that mean no good: none of them harms the others.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use koinon_aggregation::roster::Role;
use koinon_client::node::connect::{self, COORDINATOR, Target, Tls};
use koinon_client::node::counters::Counters;
use koinon_client::node::join::JoinOptions;
use koinon_client::node::keystore::KeyStore;
use koinon_proto::limits::FRAME_BYTES_MAX;
use koinon_proto::wire;
use koinon_proto::wire::admin_client::AdminClient;
use koinon_proto::wire::rounds_client::RoundsClient;
use koinon_tests::cluster::join_token;
use koinon_tests::hostile::{foreign, is_closed, tls};
use koinon_tests::{Cluster, Task};
use tonic::transport::Channel;
use tonic::{Code, Status};

const LONG: Duration = Duration::from_secs(30);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

async fn channel(cluster: &Cluster, tls: &Tls) -> Channel {
    let target = Target::new(&cluster.coordinator.address(), COORDINATOR);
    connect::channel(&target, tls, &Counters::default()).await.unwrap()
}

fn anonymous(cluster: &Cluster) -> Tls {
    Tls { ca: cluster.ca(), identity: None }
}

async fn exchange(channel: Channel, frames: Vec<wire::SiteFrame>) -> Result<(), Status> {
    let mut client = RoundsClient::new(channel).max_encoding_message_size(usize::MAX);
    let mut stream = client.exchange(tokio_stream::iter(frames)).await?.into_inner();
    while stream.message().await?.is_some() {}
    Ok(())
}

#[test]
fn without_a_certificate_only_the_first_two_calls_are_answered() {
    let cluster = Cluster::start(0);
    let tls = anonymous(&cluster);
    block_on(async {
        let channel = channel(&cluster, &tls).await;
        let mut rounds = RoundsClient::new(channel.clone());
        let range = wire::VersionRange { min: 1, max: 1, program: "test".into() };
        let answer = rounds.negotiate(range.clone()).await.unwrap().into_inner();
        assert_eq!(answer.version, 1);
        let newer = wire::VersionRange { min: 900, max: 901, ..range };
        assert_eq!(rounds.negotiate(newer).await.unwrap_err().code(), Code::FailedPrecondition);
        let bad = rounds.enrol(wire::Enrolment::default()).await.unwrap_err();
        assert!(matches!(bad.code(), Code::InvalidArgument | Code::PermissionDenied), "{bad}");
        let request = wire::FetchRequest { digest: vec![0; 32], offset: 0 };
        assert_eq!(rounds.fetch(request).await.unwrap_err().code(), Code::Unauthenticated);
        let renewal = wire::Renewal::default();
        assert_eq!(rounds.renew(renewal).await.unwrap_err().code(), Code::Unauthenticated);
        let refused = exchange(channel.clone(), vec![]).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        let mut admin = AdminClient::new(channel);
        let tasks = admin.tasks(wire::TasksRequest {}).await.unwrap_err();
        assert_eq!(tasks.code(), Code::Unauthenticated);
    });
}

#[test]
fn roles_do_not_do_each_others_calls() {
    let mut cluster = Cluster::start(1);
    let token = cluster.invite("tail", Role::Partition);
    let dir = cluster.path("tail");
    let hosts = vec!["localhost".to_owned()];
    join_token(&token, &dir, &JoinOptions { hosts, ..JoinOptions::default() }).unwrap();
    let (operator, site) = (cluster.path("operator"), cluster.sites[0].dir.clone());
    block_on(async {
        for dir in [operator, dir] {
            let keys = KeyStore::open(&dir).unwrap();
            let channel = channel(&cluster, &keys.tls().unwrap()).await;
            let refused = exchange(channel, vec![]).await.unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        }
        let keys = KeyStore::open(&site).unwrap();
        let mut admin = AdminClient::new(channel(&cluster, &keys.tls().unwrap()).await);
        let pending = admin.pending(wire::PendingRequest {}).await.unwrap_err();
        assert_eq!(pending.code(), Code::PermissionDenied);
        let upload = wire::RosterUpload { roster: vec![1, 2, 3] };
        assert_eq!(admin.publish_roster(upload).await.unwrap_err().code(), Code::PermissionDenied);
    });
    // A site cannot stand in for the coordinator: its certificate names another role.
    let keys = KeyStore::open(&site_dir(&cluster)).unwrap();
    let (chain, _) = keys.tls().unwrap().identity.unwrap();
    assert!(!String::from_utf8_lossy(&chain[0]).contains("coordinator.koinon"));
}

fn site_dir(cluster: &Cluster) -> std::path::PathBuf {
    cluster.sites[0].dir.clone()
}

#[test]
fn a_certificate_of_another_ca_is_refused_in_the_handshake() {
    let cluster = Cluster::start(0);
    let address = cluster.coordinator.address();
    let mut refused = match tls(&address, cluster.ca(), Some(foreign("client.koinon"))) {
        Err(_) => return,
        Ok(stream) => stream,
    };
    // With TLS 1.3 the refusal arrives after this side's last word.
    let _ = refused.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(is_closed(&mut refused));
}

#[test]
fn a_revoked_operator_changes_nothing_any_more() {
    let mut cluster = Cluster::start(3);
    let operator = cluster.path("operator");
    cluster.revoke("operator");
    block_on(async {
        let keys = KeyStore::open(&operator).unwrap();
        let mut admin = AdminClient::new(channel(&cluster, &keys.tls().unwrap()).await);
        let held = admin.pending(wire::PendingRequest {}).await.unwrap().into_inner().roster;
        let upload = wire::RosterUpload { roster: held };
        let publish = admin.publish_roster(upload).await.unwrap_err();
        let submit = admin.submit(wire::TaskUpload::default()).await.unwrap_err();
        let cancel = admin.cancel(wire::TaskRef { task: vec![0; 32] }).await.unwrap_err();
        for refused in [publish, submit, cancel] {
            assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
            assert!(refused.message().contains("not_a_member"), "{refused}");
        }
    });
}

#[test]
fn a_revoked_member_is_heard_no_more() {
    let mut cluster = Cluster::start(6);
    cluster.start_sites();
    cluster.revoke("site-05");
    let task = cluster.operator.submit(&Task::new(5, 1, 8));
    let done = cluster.operator.wait_done(task, LONG);
    assert!(done.history.iter().all(|round| round.participants <= 5), "{done:?}");
    let keys = KeyStore::open(&cluster.sites[5].dir).unwrap();
    let request = keys.certificate_request(&[]).unwrap();
    let refused = block_on(async {
        let mut rounds = RoundsClient::new(channel(&cluster, &keys.tls().unwrap()).await);
        rounds.renew(wire::Renewal { certificate_request: request }).await.unwrap_err()
    });
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    cluster.stop();
}

#[test]
fn garbage_silence_and_greed_cost_the_others_nothing() {
    let mut cluster = Cluster::start(5);
    let address = cluster.coordinator.address();
    // Silence: connections that say nothing, or nothing after TLS, or only half a preface.
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let half: Vec<_> = (0..20)
        .filter_map(|_| {
            let mut stream = tls(&address, cluster.ca(), None).ok()?;
            stream.write_all(b"PRI * HTTP/2.0\r\n").ok()?;
            Some(stream)
        })
        .collect();
    // Garbage instead of TLS, and inside of it.
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0x16, 3, 1, 0xff, 0xff, 1]] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(12))).unwrap();
        let _ = stream.write_all(garbage);
    }
    if let Ok(mut stream) = tls(&address, cluster.ca(), None) {
        let _ = stream.write_all(&[0xaa; 10_000]);
        assert!(is_closed(&mut stream), "what is not HTTP/2 is closed");
    }
    let start = Instant::now();
    cluster.start_sites();
    let task = cluster.operator.submit(&Task::new(5, 2, 8));
    cluster.operator.wait_done(task, LONG);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    drop((silent, half));
    cluster.stop();
}

#[test]
fn frames_that_are_too_large_or_make_no_sense_end_only_their_own_stream() {
    let mut cluster = Cluster::start(6);
    // The last site's folder is in the wrong hands: its certificate is good.
    let keys = KeyStore::open(&cluster.sites[5].dir).unwrap();
    for site in &mut cluster.sites[..5] {
        site.start();
    }
    let mail = |body: Vec<u8>| {
        let envelope = wire::Envelope {
            version: 1,
            sender: "site-00".into(),
            recipient: "coordinator".into(),
            body,
            signature: vec![0; 64],
        };
        let mail = wire::Mail { sequence: 1, envelope: Some(envelope) };
        wire::SiteFrame { cursor: u64::MAX, frame: Some(wire::site_frame::Frame::Mail(mail)) }
    };
    let hello = wire::Hello { site_epoch: 7, first_sequence: 1, ..wire::Hello::default() };
    let hello = wire::SiteFrame { cursor: 0, frame: Some(wire::site_frame::Frame::Hello(hello)) };
    let chunk = wire::UploadChunk {
        session: vec![9; 32],
        index: u32::MAX,
        total: u32::MAX,
        data: vec![0; 1 << 20],
    };
    let chunk = wire::SiteFrame { cursor: 0, frame: Some(wire::site_frame::Frame::Chunk(chunk)) };
    block_on(async {
        let large = mail(vec![0; FRAME_BYTES_MAX + 1]);
        let refused =
            exchange(channel(&cluster, &keys.tls().unwrap()).await, vec![hello.clone(), large])
                .await;
        // The stream ends, as a status or as an end; what counts is that the coordinator goes on.
        drop(refused);
        let strange = vec![
            hello.clone(),
            mail(vec![0xff; 1000]),
            wire::SiteFrame::default(),
            chunk.clone(),
            mail(Vec::new()),
            hello.clone(),
        ];
        let _ = tokio::time::timeout(
            Duration::from_secs(2),
            exchange(channel(&cluster, &keys.tls().unwrap()).await, strange),
        )
        .await;
        // More streams than one member may have at a time.
        let mut many = Vec::new();
        for _ in 0..20 {
            let target = Target::new(&cluster.coordinator.address(), COORDINATOR);
            let tls = keys.tls().unwrap();
            many.push(connect::channel(&target, &tls, &Counters::default()).await.is_ok());
        }
    });
    let task = cluster.operator.submit(&Task::new(5, 1, 8));
    cluster.operator.wait_done(task, LONG);
    for site in &mut cluster.sites[..5] {
        site.stop().unwrap();
    }
    cluster.coordinator.stop().unwrap();
}
