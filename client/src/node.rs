//! The daemon around the library: one outbound connection, one folder, one thread for the participant.
//!
//! ```text
//! join ──▶ folder ──▶ run:  rounds ─── frames ──▶ daemon ── handle ──▶ Participant
//!                             ▲                     │ state durable, then
//!                             └── connection ◀── outlet (policy, ledger, fsync)
//! ```
//!
//! It only dials out. Deliberately no logic of rounds here: that is [`crate::participant`], which
//! knows neither clock nor socket. Start at [`join::join`] and [`run_with`]; whoever wants another
//! carrier or another loop builds it around the participant as this module does.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use koinon_aggregation::roster::Role;
use koinon_proto::id::{Millis, SiteId};
use rand::rngs::StdRng;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::control::Control;
use self::counters::Counters;
use self::daemon::{Clock, Daemon, End};
use self::download::Downloads;
pub use self::error::NodeError;
use self::keystore::KeyStore;
use self::offers::OffersFolder;
use self::outlet::Outlet;
pub use self::outlet::{INFERENCE_LEDGER_FILE, LEDGER_FILE};
use self::report::ReportFile;
use self::rounds::Rounds;
use self::state::{Found, StateFolder};
use self::status::StatusFile;
use self::worker::{SendTrainer, Worker};
use crate::egress::{Transcript, TranscriptFolder};
use crate::ledger::file;
use crate::participant::{HEARTBEAT_MS, Participant, Setup};

mod backoff;
pub mod check;
pub mod config;
pub mod connect;
pub mod control;
pub mod counters;
mod daemon;
mod download;
mod error;
mod files;
#[cfg(feature = "engine")]
pub mod inference;
pub mod join;
pub mod keystore;
pub mod offers;
pub mod outlet;
#[cfg(feature = "engine")]
pub mod profile;
pub mod proxy;
pub mod report;
mod rounds;
#[cfg(feature = "engine")]
pub mod site;
mod slices;
pub mod state;
pub mod status;
pub mod worker;

/// Inputs that wait for the daemon.
const INPUTS_WAITING_MAX: usize = 256;
/// A stop waits this long for the connection to close by itself.
const CLOSING: Duration = Duration::from_secs(2);

/// What a run may be told besides the folder.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder for the plaintext of everything that leaves.
    pub transcript: Option<PathBuf>,
    /// Time between two hellos.
    pub heartbeat_ms: Millis,
}

impl Default for Options {
    fn default() -> Self {
        Self { transcript: None, heartbeat_ms: HEARTBEAT_MS }
    }
}

/// Runs a site's node with any trainer, until `shutdown` resolves or the site leaves. However
/// the process ends instead, the next start resumes from what was durable.
///
/// # Errors
/// [`NodeError`]: settings, keys, policy, state or ledger. A connection that cannot be had is no
/// error: it is tried again until it can, and `status.json` says why it cannot.
pub async fn run_with(
    dir: &Path,
    options: &Options,
    trainer: SendTrainer,
    shutdown: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let counters = Counters::default();
    let (stop, stopped) = watch::channel(false);
    let (ended, mut end) = oneshot::channel();
    let carrier = start(dir, options, trainer, &counters, (stopped, ended))?;
    let carrier = AbortOnDrop(carrier);
    tokio::pin!(shutdown);
    let ended = tokio::select! {
        ended = &mut end => ended,
        () = &mut shutdown => {
            tracing::info!("stopping");
            stop.send_replace(true);
            match tokio::time::timeout(CLOSING, &mut end).await {
                Ok(ended) => ended,
                Err(_) => {
                    // The connection takes nothing: end it, so that the daemon can.
                    carrier.0.abort();
                    end.await
                }
            }
        }
    };
    let (result, mut status) =
        ended.map_err(|_| NodeError::State("the node's thread failed; see the log".into()))?;
    let mut carrier = carrier;
    let _ = tokio::time::timeout(CLOSING, &mut carrier.0).await;
    drop(carrier);
    settle(&counters).await;
    status.close();
    if result? == End::Left {
        tracing::info!("this site has left");
    }
    Ok(())
}

/// Runs a site's node on Koinon's engine, with the rows that its settings name.
///
/// # Errors
/// As [`run_with`].
#[cfg(feature = "engine")]
pub async fn run(
    dir: &Path,
    options: &Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let trainer = site::trainer(&config::load(dir)?);
    run_with(dir, options, Box::new(trainer), shutdown).await
}

type Ended = oneshot::Sender<(Result<End, NodeError>, StatusFile)>;

/// Opens everything in the site's folder and starts the daemon's thread and the connection's task.
fn start(
    dir: &Path,
    options: &Options,
    trainer: SendTrainer,
    counters: &Counters,
    (stopped, ended): (watch::Receiver<bool>, Ended),
) -> Result<JoinHandle<()>, NodeError> {
    let (keys, coordinator) = client(dir)?;
    let config = config::load(dir)?;
    let policy = control::read_policy(&config.policy)?;
    let target = config.coordinator.target()?;
    let (state, found) = StateFolder::open(&config.state)?;
    let outlet = Outlet::open(&config.ledger, policy.clone(), transcript(options)?)?;
    let min_version = policy.protocol.min_version;
    let setup = Setup {
        site: keys.pins().name.clone(),
        coordinator: coordinator.clone(),
        identity: keys.identity()?,
        consortium_key: keys.pins().consortium_key.0,
        policy,
        heartbeat_ms: options.heartbeat_ms,
        chunk_bytes: config.chunk_bytes,
    };
    let participant = resume(setup, found, &config.ledger.join(LEDGER_FILE))?;
    let (inputs, queue) = mpsc::channel(INPUTS_WAITING_MAX);
    let (current, channel) = watch::channel(None);
    let daemon = Daemon {
        participant,
        coordinator: coordinator.clone(),
        state,
        outlet: outlet.clone(),
        worker: Worker::start(trainer, inputs.clone())?,
        downloads: Downloads {
            outlet: outlet.clone(),
            destination: coordinator.to_string(),
            current: channel,
            inputs: inputs.clone(),
        },
        status: StatusFile::new(dir.join(status::FILE), counters.clone(), outlet.clone()),
        control: Control::new(dir, &config.policy),
        offers: OffersFolder::new(dir.join(offers::FOLDER)),
        report: ReportFile::new(dir.join(report::FILE)),
        rng: rng(),
        clock: Clock::new(),
        tasks: Handle::current(),
        frames: None,
        fetching: BTreeMap::new(),
    };
    // Its own, for waiting only: the daemon ends in order whatever happens to the caller's.
    let runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|e| NodeError::State(format!("no runtime for the node: {e}")))?;
    thread::Builder::new()
        .name("node".into())
        .spawn(move || {
            let _ = ended.send(daemon.run(&runtime, queue, stopped));
        })
        .map_err(|e| NodeError::State(format!("no thread for the node: {e}")))?;
    let counters = counters.clone();
    let rounds = Rounds { target, keys, outlet, counters, min_version, inputs, current };
    Ok(tokio::spawn(rounds.run()))
}

/// The keys of a client that has joined and not left, and its coordinator's name.
fn client(dir: &Path) -> Result<(KeyStore, SiteId), NodeError> {
    let keys = KeyStore::open(dir)?;
    let pins = keys.pins();
    if pins.role != Role::Client {
        return Err(NodeError::Config(format!(
            "{} is the folder of a member of role {}, not of a client",
            dir.display(),
            pins.role
        )));
    }
    if control::has_left(dir) {
        return Err(NodeError::Refused(format!(
            "{}: this site has left; join again in a new folder with a new token",
            dir.display()
        )));
    }
    let coordinator = pins.coordinator.clone().ok_or_else(|| {
        NodeError::Config("pins.toml names no coordinator: joining is not complete".into())
    })?;
    Ok((keys, coordinator))
}

/// The participant as it was left, unless what is on the disk is a copy or older than the ledger.
fn resume(setup: Setup, found: Found, ledger: &Path) -> Result<Participant, NodeError> {
    let mut participant =
        Participant::new(setup, found.durable, found.vector).map_err(NodeError::Site)?;
    let text = file::read(ledger).map_err(|e| NodeError::Site(e.into()))?;
    participant.check_ledger(&text).map_err(NodeError::Site)?;
    if found.restored {
        tracing::warn!("the state was copied from elsewhere: its session is not resumed");
        participant.leave_session();
    }
    Ok(participant)
}

fn transcript(options: &Options) -> Result<Option<Box<dyn Transcript + Send>>, NodeError> {
    let Some(folder) = &options.transcript else { return Ok(None) };
    let transcript = TranscriptFolder::new(folder.clone())
        .map_err(|e| NodeError::Config(format!("the transcript {}: {e}", folder.display())))?;
    Ok(Some(Box::new(transcript)))
}

/// Waits until all connections said goodbye and closed, so that their last bytes are counted.
async fn settle(counters: &Counters) {
    let end = Instant::now() + CLOSING;
    while counters.open() > 0 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Ends a task with the future that holds it.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Unix milliseconds; 0 on a machine whose clock is before 1970.
fn now_ms() -> Millis {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A generator seeded by the operating system.
fn rng() -> StdRng {
    rand::make_rng()
}
