//! A whole round of many sites over real gRPC and mutual TLS: time, memory and bytes.
//!
//! The coordinator is a process of its own; all sites are in this one, each with its own node,
//! folder and connection. `cargo run --release -p koinon-tests --example round -- SITES PARAMETERS`.
//! Training is a sleep of one second. Deliberately no limits and no verdict: figures only.

#![expect(clippy::print_stdout, reason = "figures are what this is run for")]
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on should stop at once")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use koinon_aggregation::Signer as _;
use koinon_aggregation::identity::Identity;
use koinon_aggregation::invitation::{Enrolment, Invitation, Terms};
use koinon_aggregation::roster::{Member, Role, Roster};
use koinon_client::node::join::{self, JoinOptions};
use koinon_client::node::{self, Options};
use koinon_client::trainer::{Job, Trainer, Work, WorkError};
use koinon_coordinator::server::config::Public;
use koinon_coordinator::server::init::{self, InitOptions};
use koinon_coordinator::server::{self, config};
use koinon_proto::task::{CohortPlan, TaskKind};
use koinon_proto::{Digest, SiteId, wire};
use koinon_tests::cluster::{now_ms, rng};
use koinon_tests::{Operator, Steady, Task};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// Trains by sleeping.
struct Sleeper(Steady);

/// Time that a site trains.
const TRAINING: Duration = Duration::from_secs(1);

impl Trainer for Sleeper {
    fn work(&mut self, job: &Job, stop: &dyn Fn() -> bool) -> Result<Work, WorkError> {
        std::thread::sleep(TRAINING);
        self.0.work(job, stop)
    }
}

fn main() {
    koinon_tests::logs();
    let arguments: Vec<String> = std::env::args().collect();
    if arguments[1] == "coordinator" {
        return coordinate(Path::new(&arguments[2]));
    }
    let (sites, parameters) = (arguments[1].parse().unwrap(), arguments[2].parse().unwrap());
    // Durable writes cost no CPU time, and their waiting is not what is measured.
    let memory = Path::new("/dev/shm");
    let dir = if memory.exists() { memory.to_path_buf() } else { std::env::temp_dir() };
    let dir = tempfile::tempdir_in(dir).unwrap();
    measure(dir.path(), sites, parameters);
}

fn coordinate(dir: &Path) {
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = config::load(dir).unwrap();
        let listener = TcpListener::bind(&config.listen).await.unwrap();
        server::run(config, listener, std::future::pending()).await.unwrap();
    });
}

/// A process that ends with this one.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// CPU time so far, user and system.
    fn cpu_s(&self) -> f64 {
        cpu_s(&format!("/proc/{}/stat", self.0.id()))
    }

    /// The most memory it ever held, in MiB.
    fn peak_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

/// Fields 14 and 15 of `stat`, in ticks of 10 ms.
fn cpu_s(path: &str) -> f64 {
    let text = fs::read_to_string(path).unwrap();
    let rest = text.rsplit(')').next().unwrap();
    let ticks = |at: usize| rest.split_whitespace().nth(at).unwrap().parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

fn measure(dir: &Path, sites: u16, parameters: u32) {
    let started = Instant::now();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let consortium = Identity::generate(&mut rng());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let public = init::init(&InitOptions {
        dir: dir.join("coordinator"),
        name: SiteId::new("coordinator").unwrap(),
        listen: address.clone(),
        address: address.clone(),
        hosts: vec![],
        consortium_key: consortium.public(),
    })
    .unwrap();
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new(this);
    command.arg("coordinator").arg(dir.join("coordinator"));
    let coordinator = Process(command.spawn().unwrap());
    let folders = found(&runtime, dir, &consortium, &public, sites);
    println!("{sites} sites joined after {:.1} s", started.elapsed().as_secs_f64());

    let (stop, _) = watch::channel(());
    for folder in folders.clone() {
        let mut stopped = stop.subscribe();
        let options = Options { heartbeat_ms: 60_000, ..Options::default() };
        runtime.spawn(async move {
            let stopped = async {
                let _ = stopped.changed().await;
            };
            let trainer = Box::new(Sleeper(Steady::default()));
            node::run_with(&folder, &options, trainer, stopped).await.unwrap();
        });
    }
    let operator = Operator::open(&dir.join("operator"));
    println!("{:.0} MiB at the coordinator before the task", coordinator.peak_mib());
    let task = Task::with(sites, 1, parameters / 6, |manifest| {
        manifest.kind = TaskKind::Train;
        manifest.cohort = CohortPlan::new(sites * 2 / 3, sites, sites - sites / 10);
        (manifest.encoding.frac_bits, manifest.encoding.rows_max) = (14, 64);
        (manifest.budget_ms, manifest.grace_ms) = (900_000, 300_000);
    });
    let digest = operator.submit(&task);
    watch_rounds(&coordinator, &operator, digest, &folders[0], f64::from(sites));
    drop(stop);
    runtime.shutdown_timeout(Duration::from_secs(5));
}

/// Prints what each of the three rounds took: statistics, training, evaluation.
fn watch_rounds(coordinator: &Process, operator: &Operator, digest: Digest, site: &Path, n: f64) {
    let mut last = sample(coordinator, site);
    for round in 1..=3 {
        operator.wait(digest, "a round", Duration::from_secs(900), |status| {
            status.history.len() >= round
        });
        let now = sample(coordinator, site);
        let status = operator.status(digest).unwrap();
        let seen = &status.history[round - 1];
        println!(
            "round {}: {} {}, {:.2} s wall, {:.2} ms CPU a site (sites) + {:.2} (coordinator), \
             {} bytes up, {} down at one site, {:.0} MiB peak at the coordinator, \
             {} bytes packed in all",
            seen.round,
            seen.outcome,
            seen.participants,
            (now.at - last.at).as_secs_f64(),
            (now.sites_s - last.sites_s) * 1e3 / n,
            (now.coordinator_s - last.coordinator_s) * 1e3 / n,
            now.bytes.0 - last.bytes.0,
            now.bytes.1 - last.bytes.1,
            coordinator.peak_mib(),
            seen.bytes_up,
        );
        last = now;
    }
}

struct Sample {
    at: Instant,
    sites_s: f64,
    coordinator_s: f64,
    bytes: (u64, u64),
}

fn sample(coordinator: &Process, site: &Path) -> Sample {
    let status = koinon_tests::node::read_status(site);
    let bytes = status.map_or((0, 0), |s| (s.transport.written, s.transport.read));
    let (sites_s, coordinator_s) = (cpu_s("/proc/self/stat"), coordinator.cpu_s());
    Sample { at: Instant::now(), sites_s, coordinator_s, bytes }
}

/// Everybody joins and is in the roster; gives the sites' folders.
fn found(
    runtime: &Runtime,
    dir: &Path,
    consortium: &Identity,
    public: &Public,
    sites: u16,
) -> Vec<PathBuf> {
    let mut invitations = vec![invite(consortium, public, "operator", Role::Operator)];
    let name = |index: u16| format!("site-{index:05}");
    invitations.extend((0..sites).map(|i| invite(consortium, public, &name(i), Role::Client)));
    let folder = |invitation: &Invitation| dir.join(&invitation.terms().name);
    let relay = runtime.block_on(relay(public.address.parse().unwrap()));
    for invitation in &invitations {
        let (token, folder) = (invitation.to_token().to_string(), folder(invitation));
        let options = JoinOptions { address: Some(relay.to_string()), ..JoinOptions::default() };
        let joined = || runtime.block_on(join::join(&token, &folder, &options));
        let started = Instant::now();
        while let Err(error) = joined() {
            assert!(started.elapsed() < Duration::from_secs(20), "{error}");
            std::thread::sleep(Duration::from_millis(50));
        }
        settle_in(&folder, &relay.to_string(), &public.address);
    }
    let operator = Operator::open(&dir.join("operator"));
    let mut members = vec![Member {
        name: "coordinator".into(),
        role: Role::Coordinator,
        key: public.identity_key.0,
        valid_from_ms: 0,
        valid_until_ms: u64::MAX,
        revoked: false,
    }];
    for enrolment in &operator.pending().enrolments {
        let enrolment = parts(enrolment);
        let admitted = invitations.iter().find_map(|i| i.admit(&enrolment, 0, u64::MAX).ok());
        members.push(admitted.unwrap());
    }
    let roster = Roster { version: 1, previous: None, members }.sign(consortium).unwrap();
    operator.publish(roster.bytes()).unwrap();
    invitations[1..].iter().map(folder).collect()
}

/// The way to the coordinator for joining: from a few addresses of this machine, since each may
/// enrol only so many members at once.
async fn relay(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU32::new(0));
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let count = count.fetch_add(1, Ordering::Relaxed);
            let [low, high, ..] = (count / 100).to_le_bytes();
            let from = Ipv4Addr::new(127, 1, high, low + 1);
            tokio::spawn(async move {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(SocketAddr::from((from, 0))).unwrap();
                // It may not listen yet; who joins tries again.
                let Ok(mut far) = socket.connect(to).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    address
}

fn invite(consortium: &Identity, public: &Public, name: &str, role: Role) -> Invitation {
    let terms = Terms {
        name: name.into(),
        role,
        coordinator: public.address.clone(),
        ca_certificate: CertificateDer::from_pem_slice(public.ca_pem.as_bytes()).unwrap().to_vec(),
        expires_ms: now_ms() + 3_600_000,
    };
    Invitation::new(terms, consortium, &mut rng()).unwrap()
}

/// The node dials the coordinator itself, and does every task.
fn settle_in(dir: &Path, relay: &str, address: &str) {
    let change = |file: &str, from: &str, to: &str| {
        let path = dir.join(file);
        if let Ok(text) = fs::read_to_string(&path) {
            fs::write(&path, text.replace(from, to)).unwrap();
        }
    };
    change("client.toml", relay, address);
    change("pins.toml", relay, address);
    change("client.toml", "proxy = \"environment\"", "proxy = \"none\"");
    change("policy.toml", "default = \"ask\"", "default = \"always\"");
}

fn parts(enrolment: &wire::Enrolment) -> Enrolment {
    let bytes32 = |field: &[u8]| Digest::try_from(field).unwrap().0;
    Enrolment {
        admission: enrolment.admission.clone(),
        identity_key: bytes32(&enrolment.identity_key),
        binding: bytes32(&enrolment.binding),
        certificate_request: enrolment.certificate_request.clone(),
        signature: enrolment.signature[..].try_into().unwrap(),
    }
}
