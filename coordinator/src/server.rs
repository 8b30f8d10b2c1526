//! The shell around the core: one port, one folder, one thread that owns the coordinator.
//!
//! ```text
//! listener ── TLS, who is there ──▶ rounds, admin ── commands ──▶ driver ── handle ──▶ Coordinator
//!                                        ▲                          │ blobs, then journal
//!                                        └──── frames, answers ─────┘ and only then anything leaves
//! ```
//!
//! The caller brings the listener and the moment to stop; [`init`] makes the folder. Deliberately no
//! logic of rounds here: that is the core, which knows neither clock nor socket. Start at [`run`].

use std::fs::{self, File};
use std::future::Future;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use koinon_proto::id::Millis;
use koinon_proto::limits::FRAME_BYTES_MAX;
use koinon_proto::wire::admin_server::AdminServer;
use koinon_proto::wire::rounds_server::RoundsServer;
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Server;

use self::admin::AdminService;
use self::blobs::Blobs;
use self::config::Config;
use self::downloads::Downloads;
use self::driver::Parts;
pub use self::error::ServerError;
use self::exchange::Carrier;
use self::journal::SqliteJournal;
use self::listener::Port;
use self::rounds::{RoundsService, Shared};
use crate::{Coordinator, Setup};

mod access;
mod admin;
pub mod blobs;
pub mod certificates;
pub mod config;
mod downloads;
mod driver;
mod error;
mod exchange;
pub mod init;
pub mod journal;
pub mod listener;
mod rounds;

/// A stop waits this long for calls that are still running.
const DRAIN: Duration = Duration::from_secs(5);
/// A silent connection is asked for a sign of life this often, and given up after the same time.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// What a site may send before any of it is read: the chunks that it has on their way at a time, twice.
const WINDOW_BYTES: u32 = 1 << 20;
/// Calls at a time on one connection.
const STREAMS_MAX: u32 = 32;

/// Opens the port that a configuration names.
///
/// # Errors
/// [`ServerError::Listen`], for example when another program has the port.
pub async fn bind(config: &Config) -> Result<TcpListener, ServerError> {
    TcpListener::bind(&config.listen)
        .await
        .map_err(|e| ServerError::Listen { address: config.listen.clone(), reason: e.to_string() })
}

/// Runs a coordinator on `listener` until `shutdown` resolves, then ends streams, lets running calls
/// finish and returns. However the process ends instead, the next start recovers from the journal.
///
/// # Errors
/// [`ServerError`]; after [`ServerError::State`] nothing left that is not durable.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let (identity, authority) = init::secrets(&config)?;
    let lock = lock_folder(&config.state)?;
    let state = |e: String| ServerError::State(format!("{}: {e}", config.state.display()));
    let blobs = Blobs::open(&config.state.join("blobs")).map_err(|e| state(e.to_string()))?;
    let (journal, records) = SqliteJournal::open(&config.state.join("journal.sqlite"))
        .map_err(|e| state(e.to_string()))?;
    let issued = Arc::new(Mutex::new(journal.certificates().map_err(|e| state(e.to_string()))?));
    tracing::info!(
        entries = journal.head().length,
        head = %journal.head().head.short(),
        "journal verified"
    );
    let setup =
        Setup { name: config.name.clone(), identity, consortium_key: config.consortium_key.0 };
    let core = Coordinator::recover(setup, records, &|digest| blobs.get(digest).ok().flatten())
        .map_err(|e| state(e.to_string()))?;
    let parts = Parts {
        core,
        journal,
        blobs: blobs.clone(),
        keep_masked_updates: config.keep_masked_updates,
        lock,
    };
    let (driver, mut driver_ended) = driver::start(parts)?;
    let authority = Arc::new(authority);
    let shared = Arc::new(Shared {
        name: config.name.clone(),
        driver: driver.clone(),
        downloads: Downloads::new(blobs.clone()),
        blobs,
        authority: Arc::clone(&authority),
        issued: Arc::clone(&issued),
        enrolments: access::Rate::default(),
        connections: AtomicU64::new(1),
    });
    let port = Port { name: config.name, hosts: config.hosts, authority, issued };
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = serve(listener, port, shared, async {
        let _ = stopped.await;
    })?;
    tokio::pin!(serving, shutdown);
    tokio::select! {
        ended = &mut driver_ended => return Err(driver_failure(ended)),
        served = &mut serving => return served,
        () = &mut shutdown => {}
    }
    tracing::info!("stopping");
    let _ = stop.send(());
    driver.stop().await;
    let _ = tokio::time::timeout(DRAIN, &mut serving).await;
    driver.end().await;
    match driver_ended.await {
        Ok(result) => result,
        ended => Err(driver_failure(ended)),
    }
}

fn serve(
    listener: TcpListener,
    port: Port,
    shared: Arc<Shared>,
    stopped: impl Future<Output = ()>,
) -> Result<impl Future<Output = Result<(), ServerError>>, ServerError> {
    let rounds = RoundsService(Arc::clone(&shared));
    let general = RoundsServer::new(rounds.clone())
        .max_decoding_message_size(FRAME_BYTES_MAX)
        .max_encoding_message_size(FRAME_BYTES_MAX);
    let rounds = Carrier { rounds, general };
    let admin = AdminServer::new(AdminService(shared))
        .max_decoding_message_size(FRAME_BYTES_MAX)
        .max_encoding_message_size(FRAME_BYTES_MAX);
    let address = listener.local_addr().map(|a| a.to_string()).unwrap_or_default();
    let incoming = listener::incoming(listener, port)?;
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .add_service(rounds)
        .add_service(admin)
        .serve_with_incoming_shutdown(incoming, stopped);
    tracing::info!(address, "listening");
    Ok(async move { serving.await.map_err(|e| ServerError::Setup(e.to_string())) })
}

fn driver_failure(
    ended: Result<Result<(), ServerError>, oneshot::error::RecvError>,
) -> ServerError {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) => ServerError::State("the coordinator ended by itself".into()),
        Err(_) => ServerError::State("the coordinator's thread failed; see the log above".into()),
    }
}

/// Locks the folder, so that two coordinators never share a journal.
fn lock_folder(folder: &Path) -> Result<File, ServerError> {
    let fail = |e: std::io::Error| ServerError::State(format!("{}: {e}", folder.display()));
    fs::create_dir_all(folder).map_err(fail)?;
    let lock = File::create(folder.join("lock")).map_err(fail)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(ServerError::State(format!(
            "{} is in use by another coordinator; stop that one first",
            folder.display()
        ))),
        Err(fs::TryLockError::Error(e)) => Err(fail(e)),
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

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rng().fill_bytes(&mut bytes);
    bytes
}
