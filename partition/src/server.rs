//! The thin shell: tonic streams in front, threads that compute behind, the pure [`Scheduler`] between.
//!
//! A stream's own task reads and judges its requests; a wrong or slow one costs the others nothing. Who does not read his
//! answers is not read either. When it is asked to end it refuses what comes, answers what waits, closes the streams and is
//! gone. Start at [`run`].

mod compute;
mod exposition;
mod folder;
mod replies;
mod service;

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use koinon_proto::limits;
use koinon_proto::wire::inference_server::InferenceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::batcher::{Limits, Micros};
use crate::config::Config;
use crate::metrics::{Gauges, Metrics};
use crate::models::Models;
use crate::scheduler::Scheduler;
use crate::sequences::Sequences;
use compute::Compute;
use folder::Folder;
use service::{Open, Service};

/// How often the models' folder is looked at.
const RESCAN: Duration = Duration::from_secs(1);
/// How long a version that was taken away still answers who asks for it.
const RETIRED: Duration = Duration::from_secs(60);
/// What a sequence remembers is forgotten when nobody used it for so long.
const UNUSED: Duration = Duration::from_secs(600);
/// How long ending may take: what waits is answered within it, or not at all.
const DRAIN: Duration = Duration::from_secs(25);
/// Bytes that may be under way on a stream, and on a connection: above the largest activation, so that one goes in one flight.
const STREAM_WINDOW: usize = limits::INFERENCE_FRAME_BYTES_MAX;
const CONNECTION_WINDOW: usize = 2 * limits::INFERENCE_FRAME_BYTES_MAX;
/// Bytes of one HTTP/2 frame: fewer headers for large activations, and small ones still come between.
const HTTP_FRAME: u32 = 256 << 10;

/// Why the server does not start or ends.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file that is missing or broken.
    #[error("{0}")]
    File(String),
    /// TLS or the network.
    #[error("the partition server stopped: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves until `shutdown`; requests that wait are answered first. The caller brings the listener.
///
/// # Errors
/// [`ServerError`]: unusable files, broken models, or the transport's end.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError> {
    let tls = tls(&config)?;
    let models = Arc::new(Models::new(config.model_bytes));
    let mut folder = Folder::new(&config.models);
    if let Some(problem) = folder.scan(&models, 0, true).into_iter().next() {
        return Err(ServerError::File(problem));
    }
    let metrics = Arc::new(Metrics::default());
    let compute = start(&config, &metrics)?;
    let (stop, stopping) = watch::channel(false);
    let open = Arc::new(Open::new(&config));
    let (folder, request_rows) = (Arc::new(Mutex::new(folder)), config.request_rows);
    let service = Service { models, compute, metrics, open, stopping, request_rows };
    let compute = service.compute.clone();
    let mut helpers = tokio::task::JoinSet::new();
    if let Some(address) = &config.metrics {
        let listener = TcpListener::bind(address).await.map_err(|e| {
            ServerError::File(format!("`metrics`: cannot listen on {address}: {e}"))
        })?;
        let (service, folder) = (service.clone(), Arc::clone(&folder));
        helpers.spawn(exposition::serve(listener, move || text(&service, &folder)));
    }
    helpers.spawn(rescan(folder, service.clone()));
    let asked = {
        let compute = compute.clone();
        async move {
            shutdown.await;
            compute.stop();
            let _ = stop.send(true);
            stop // streams look at it until the end
        }
    };
    let served = serve(listener, tls, service, asked).await;
    compute.end();
    Ok(served?)
}

fn start(config: &Config, metrics: &Arc<Metrics>) -> Result<Compute, ServerError> {
    let limits = Limits {
        batch_rows: config.batch_rows,
        queue_bytes: config.queue_bytes,
        site_bytes: config.site_bytes,
    };
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if config.threads == 0 { cores() } else { config.threads };
    let sequences = Sequences::new(config.state_bytes, config.site_state_bytes);
    let wait: Micros = config.wait_ms.saturating_mul(1000);
    let scheduler = Scheduler::new(limits, sequences, threads, wait);
    Compute::start(scheduler, threads, Arc::clone(metrics))
        .map_err(|e| ServerError::File(format!("`threads`: {threads} cannot be started: {e}")))
}

/// Serves until asked to stop, and then until every stream ended or the time for it is over.
async fn serve(
    listener: TcpListener,
    tls: ServerTlsConfig,
    service: Service,
    asked: impl Future<Output = watch::Sender<bool>> + Send + 'static,
) -> Result<(), tonic::transport::Error> {
    let service =
        InferenceServer::new(service).max_decoding_message_size(limits::INFERENCE_FRAME_BYTES_MAX);
    let (told, mut over) = watch::channel(false);
    let server = Server::builder()
        .tls_config(tls)?
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .initial_stream_window_size(u32::try_from(STREAM_WINDOW).ok())
        .initial_connection_window_size(u32::try_from(CONNECTION_WINDOW).ok())
        .max_frame_size(HTTP_FRAME)
        .max_concurrent_streams(256)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming(listener), async move {
            let stop = asked.await;
            let _ = told.send(true);
            tokio::spawn(async move {
                tokio::time::sleep(DRAIN + Duration::from_secs(1)).await;
                drop((stop, told));
            });
        });
    let late = async {
        let _ = over.wait_for(|over| *over).await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = server => served,
        () = late => Ok(()),
    }
}

/// Connections without Nagle's delay: `serve_with_incoming` leaves that to whoever makes them.
fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(Duration::from_secs(60)))
}

fn tls(config: &Config) -> Result<ServerTlsConfig, ServerError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|e| {
            ServerError::File(format!(
                "{} cannot be read: {e}; `koinon join` makes it",
                path.display()
            ))
        })
    };
    let identity = Identity::from_pem(read(&config.certificate)?, read(&config.key)?);
    Ok(ServerTlsConfig::new()
        .identity(identity)
        .client_ca_root(Certificate::from_pem(read(&config.ca)?)))
}

fn text(service: &Service, folder: &Mutex<Folder>) -> String {
    let [sequences, state_bytes, sequences_evicted, queue_bytes] = service.compute.gauges();
    let [sites, streams] = service.open.count();
    let (model_bytes, model_bytes_max) = service.models.bytes();
    let refused = folder.lock().unwrap_or_else(PoisonError::into_inner).refused();
    let [models_refused, model_bytes_refused] = refused;
    let models = service.models.all().len() as u64;
    service.metrics.text(&Gauges {
        models,
        model_bytes,
        model_bytes_max,
        models_refused,
        model_bytes_refused,
        sequences,
        state_bytes,
        sequences_evicted,
        queue_bytes,
        streams,
        sites,
    })
}

/// Looks at the models' folder again and again, beside the tasks that serve.
async fn rescan(folder: Arc<Mutex<Folder>>, service: Service) {
    loop {
        tokio::time::sleep(RESCAN).await;
        let (folder, service) = (Arc::clone(&folder), service.clone());
        let scan = move || {
            let now = service.compute.now();
            let mut folder = folder.lock().unwrap_or_else(PoisonError::into_inner);
            for problem in folder.scan(&service.models, now, false) {
                tracing::warn!(%problem, "not served");
            }
            let retired = Micros::try_from(RETIRED.as_micros()).unwrap_or(Micros::MAX);
            for version in service.models.drop_retired(now.saturating_sub(retired)) {
                tracing::info!(version = %version.short(), "served no more");
            }
            let served =
                |version: &[u8; 32]| service.models.get(&koinon_proto::Digest(*version)).is_some();
            service.compute.retain(UNUSED, served);
        };
        if tokio::task::spawn_blocking(scan).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt as _;

    #[tokio::test]
    async fn connections_have_no_delay() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _client = tokio::net::TcpStream::connect(address).await.unwrap();
        let accepted = incoming(listener).next().await.unwrap().unwrap();
        assert!(accepted.nodelay().unwrap());
    }
}
