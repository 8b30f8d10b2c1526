//! A federation on this machine, from nothing: keys, coordinator, joins, roster, nodes, rounds.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use koinon_aggregation::Signer as _;
use koinon_aggregation::identity::Identity;
use koinon_aggregation::invitation::{Enrolment, Invitation, Terms};
use koinon_aggregation::roster::{Member, Role, Roster};
use koinon_client::node::join::{self, JoinOptions};
use koinon_client::node::status::{self, NodeStatus};
use koinon_client::node::{self};
use koinon_coordinator::server::config::Public;
use koinon_coordinator::server::init::{self, InitOptions};
use koinon_proto::{Digest, SiteId, wire};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::process;
use super::task::Wanted;
use super::trainer::Training;
use crate::bench::Progress;
use crate::commands::operator::Operator;

/// Joins at a time.
const JOINING: usize = 8;
/// Joins through one address: a coordinator limits how many try from one.
const JOINS_PER_ADDRESS: u32 = 100;
/// A join is tried again for so long: the coordinator may not listen yet.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);
/// Sites whose bytes are looked at.
const LOOKED_AT: usize = 16;
/// Before a round everything that the last one left to do is over.
const QUIET: Duration = Duration::from_millis(1500);

/// What a round took.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) wall_s: f64,
    /// CPU time of all sites.
    pub(super) sites_s: f64,
    pub(super) coordinator_s: f64,
    /// Bytes of one masked update, packed.
    pub(super) packed: f64,
    /// Bytes of one site, below TLS.
    pub(super) up: f64,
    pub(super) down: f64,
    /// How long each phase was seen.
    pub(super) phases: Vec<(String, f64)>,
}

/// Everything that runs. The folder goes with it.
pub(super) struct Federation {
    nodes: JoinSet<Result<(), node::NodeError>>,
    stop: watch::Sender<()>,
    operator: Operator,
    sites: Vec<PathBuf>,
    coordinator: Coordinator,
    runtime: Runtime,
    _folder: Folder,
}

/// The coordinator's process; it ends with this.
struct Coordinator(Child);

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    /// In memory where there is such a place: durable writes cost no CPU time, and waiting for a disk
    /// is not what is measured.
    fn new() -> anyhow::Result<Self> {
        let memory = Path::new("/dev/shm");
        let parent = if memory.exists() { memory.to_path_buf() } else { std::env::temp_dir() };
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let path = parent.join(format!("koinon-bench-{}-{since}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Federation {
    /// Founds it and starts all nodes.
    pub(super) fn found(n: u16, training: Training, progress: &Progress) -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        let dir = folder.0.clone();
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let consortium = Identity::generate(&mut rng());
        let (public, coordinator) = start_coordinator(&dir, &consortium)?;
        progress.phase(&format!("{n} sites join"), usize::from(n));
        let name = |index: u16| format!("site-{index:05}");
        let mut invitations = vec![invite(&consortium, &public, "operator", Role::Operator)?];
        for index in 0..n {
            invitations.push(invite(&consortium, &public, &name(index), Role::Client)?);
        }
        runtime.block_on(join_all(&dir, &public, &invitations, progress))?;
        let operator = Operator::open(&dir.join("operator"))?;
        publish(&operator, &public, &consortium, &invitations)?;
        let sites: Vec<PathBuf> = (0..n).map(|index| dir.join(name(index))).collect();
        let (stop, _) = watch::channel(());
        let mut nodes = JoinSet::new();
        for site in sites.clone() {
            let mut stopped = stop.subscribe();
            let node = async move {
                let stopped = async {
                    let _ = stopped.changed().await;
                };
                node::run_with(&site, &node::Options::default(), Box::new(training), stopped).await
            };
            nodes.spawn_on(node, runtime.handle());
        }
        Ok(Self { nodes, stop, operator, sites, coordinator, runtime, _folder: folder })
    }

    /// Runs a task of one round of training to its end, and gives what that round took.
    pub(super) fn round(&mut self, wanted: Wanted) -> anyhow::Result<Seen> {
        let (manifest, blobs) = wanted.task()?;
        std::thread::sleep(QUIET);
        let before = self.sample()?;
        let submitted = self.operator.submit(manifest, blobs)?;
        let task = Digest::try_from(&submitted.task[..])?;
        let mut watched = Watched::default();
        let mut after = None;
        self.operator.watch(task, Duration::from_secs(60), |status| {
            watched.see(&status);
            if watched.trained.is_some() && after.is_none() {
                after = Some(self.sample());
            }
            true
        })?;
        if watched.failure.is_some() {
            bail!("the round failed: {}", watched.failure.unwrap_or_default());
        }
        let (Some(after), Some(round)) = (after, watched.trained) else {
            bail!("the task ended without a round of training");
        };
        let after = after?;
        let of = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        Ok(Seen {
            wall_s: of(round.seconds_milli) / 1e3,
            sites_s: after.sites_s - before.sites_s,
            coordinator_s: after.coordinator_s - before.coordinator_s,
            packed: of(round.bytes_up / u64::from(round.participants.max(1))),
            up: after.up - before.up,
            down: after.down - before.down,
            phases: watched.phases,
        })
    }

    pub(super) fn coordinator_peak_mib(&self) -> anyhow::Result<f64> {
        process::peak_mib(self.coordinator.0.id())
    }

    /// Stops all nodes and then the coordinator.
    pub(super) fn stop(mut self) {
        self.stop.send_replace(());
        let nodes = &mut self.nodes;
        self.runtime.block_on(async {
            let all = async { while nodes.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(Duration::from_secs(60), all).await;
        });
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }

    fn sample(&self) -> anyhow::Result<Sample> {
        let looked_at: Vec<NodeStatus> =
            self.sites.iter().take(LOOKED_AT).filter_map(|site| read_status(site)).collect();
        let count = f64::from(u32::try_from(looked_at.len().max(1))?);
        let mean = |of: fn(&NodeStatus) -> u64| {
            let sum: u64 = looked_at.iter().map(of).sum();
            f64::from(u32::try_from(sum).unwrap_or(u32::MAX)) / count
        };
        Ok(Sample {
            sites_s: process::cpu_s(std::process::id())?,
            coordinator_s: process::cpu_s(self.coordinator.0.id())?,
            up: mean(|status| status.transport.written),
            down: mean(|status| status.transport.read),
        })
    }
}

struct Sample {
    sites_s: f64,
    coordinator_s: f64,
    up: f64,
    down: f64,
}

/// A task as its states come.
#[derive(Default)]
struct Watched {
    phases: Vec<(String, f64)>,
    since: Option<(String, Instant)>,
    trained: Option<wire::RoundSummary>,
    failure: Option<String>,
}

impl Watched {
    fn see(&mut self, status: &wire::TaskStatus) {
        if status.state == "failed" {
            self.failure = Some(status.reason.clone());
        }
        let train = |round: &&wire::RoundSummary| {
            round.kind() == wire::RoundKind::Train && round.outcome == "committed"
        };
        let ended = status.history.iter().find(train).cloned();
        let fits = status.history.is_empty() && status.round == 0;
        if self.trained.is_some() || fits {
            return;
        }
        let now = Instant::now();
        let phase = if ended.is_some() { "" } else { status.phase.as_str() };
        if self.since.as_ref().is_none_or(|(known, _)| known != phase)
            && let Some((before, since)) = self.since.replace((phase.to_owned(), now))
            && !before.is_empty()
        {
            self.phases.push((before, now.duration_since(since).as_secs_f64()));
        }
        self.trained = ended;
    }
}

fn read_status(site: &Path) -> Option<NodeStatus> {
    serde_json::from_slice(&fs::read(site.join(status::FILE)).ok()?).ok()
}

fn start_coordinator(dir: &Path, consortium: &Identity) -> anyhow::Result<(Public, Coordinator)> {
    let dir = dir.join("coordinator");
    // The port is free again when this listener is gone; nobody else takes it meanwhile.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let public = init::init(&InitOptions {
        dir: dir.clone(),
        name: SiteId::new("coordinator")?,
        listen: address.clone(),
        address,
        hosts: vec![],
        consortium_key: consortium.public(),
    })?;
    let process = Command::new(std::env::current_exe()?)
        .args(["coordinator", "run", "--dir"])
        .arg(&dir)
        .env("KOINON_LOG", "error")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start the coordinator")?;
    Ok((public, Coordinator(process)))
}

fn invite(
    consortium: &Identity,
    public: &Public,
    name: &str,
    role: Role,
) -> anyhow::Result<Invitation> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let terms = Terms {
        name: name.into(),
        role,
        coordinator: public.address.clone(),
        ca_certificate: CertificateDer::from_pem_slice(public.ca_pem.as_bytes())?.to_vec(),
        expires_ms: u64::try_from(now)? + 3_600_000,
    };
    Ok(Invitation::new(terms, consortium, &mut rng())?)
}

/// Everybody joins, some at a time.
async fn join_all(
    dir: &Path,
    public: &Public,
    invitations: &[Invitation],
    progress: &Progress,
) -> anyhow::Result<()> {
    let relay = relay(public.address.parse()?).await?.to_string();
    let places = Arc::new(Semaphore::new(JOINING));
    let mut joins = JoinSet::new();
    for invitation in invitations {
        let (token, folder) = (invitation.to_token(), dir.join(&invitation.terms().name));
        let (relay, address, places) = (relay.clone(), public.address.clone(), Arc::clone(&places));
        joins.spawn(async move {
            let _place = places.acquire_owned().await?;
            let options = JoinOptions { address: Some(relay.clone()), ..JoinOptions::default() };
            let started = Instant::now();
            while let Err(error) = join::join(&token, &folder, &options).await {
                if started.elapsed() > JOIN_PATIENCE {
                    return Err(error.into());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            settle_in(&folder, &relay, &address)
        });
    }
    while let Some(joined) = joins.join_next().await {
        joined??;
        progress.step(1);
    }
    Ok(())
}

/// The way to the coordinator for joining: from several addresses of this machine.
async fn relay(to: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let count = Arc::new(AtomicU32::new(0));
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let [low, high, ..] =
                (count.fetch_add(1, Ordering::Relaxed) / JOINS_PER_ADDRESS).to_le_bytes();
            let from = SocketAddr::from((Ipv4Addr::new(127, 1, high, low.saturating_add(1)), 0));
            tokio::spawn(async move {
                let Ok(socket) = TcpSocket::new_v4() else { return };
                if socket.bind(from).is_err() {
                    return;
                }
                // It may not listen yet; who joins tries again.
                let Ok(mut far) = socket.connect(to).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    Ok(address)
}

/// The node dials the coordinator itself, and does every task.
fn settle_in(dir: &Path, relay: &str, address: &str) -> anyhow::Result<()> {
    let changes = [
        ("client.toml", relay, address),
        ("pins.toml", relay, address),
        ("client.toml", "proxy = \"environment\"", "proxy = \"none\""),
        ("policy.toml", "default = \"ask\"", "default = \"always\""),
    ];
    for (file, from, to) in changes {
        let path = dir.join(file);
        if path.exists() {
            let text = fs::read_to_string(&path)?;
            fs::write(&path, text.replace(from, to))?;
        }
    }
    Ok(())
}

/// A roster of everybody who joined.
fn publish(
    operator: &Operator,
    public: &Public,
    consortium: &Identity,
    invitations: &[Invitation],
) -> anyhow::Result<()> {
    let mut members = vec![Member {
        name: "coordinator".into(),
        role: Role::Coordinator,
        key: public.identity_key.0,
        valid_from_ms: 0,
        valid_until_ms: u64::MAX,
        revoked: false,
    }];
    for enrolment in &operator.pending()?.enrolments {
        let enrolment = parts(enrolment)?;
        let admitted = invitations.iter().find_map(|i| i.admit(&enrolment, 0, u64::MAX).ok());
        members.push(admitted.context("somebody joined who was not invited")?);
    }
    let roster = Roster { version: 1, previous: None, members }.sign(consortium)?;
    operator.publish(roster.bytes())?;
    Ok(())
}

fn parts(enrolment: &wire::Enrolment) -> anyhow::Result<Enrolment> {
    let bytes32 = |field: &[u8]| Digest::try_from(field).map(|digest| digest.0);
    Ok(Enrolment {
        admission: enrolment.admission.clone(),
        identity_key: bytes32(&enrolment.identity_key)?,
        binding: bytes32(&enrolment.binding)?,
        certificate_request: enrolment.certificate_request.clone(),
        signature: enrolment.signature[..].try_into().context("a signature of another length")?,
    })
}

fn rng() -> rand::rngs::StdRng {
    rand::make_rng()
}
