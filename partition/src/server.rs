//! The thin shell: tonic streams in front, one compute thread behind, the pure [`Batcher`] between.
//!
//! A stream's own task reads and judges its requests; a wrong or slow one costs the others nothing. Answers go through a
//! bounded queue for each stream; who does not read his answers loses his stream, not the server. Start at [`run`].

mod compute;
mod service;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use koinon_model::network::Form;
use koinon_proto::wire::inference_server::InferenceServer;
use koinon_proto::{Digest, limits};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::batcher::Limits;
use crate::config::Config;
use crate::models::Models;

/// How often the models' folder is looked at.
const RESCAN: Duration = Duration::from_secs(1);

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
    let models = Arc::new(Models::default());
    if let Some(problem) = scan(&config.models, &models).into_iter().next() {
        return Err(ServerError::File(problem));
    }
    let rescan = tokio::spawn(rescan(config.models.clone(), Arc::clone(&models)));
    let batch = Limits {
        batch_rows: config.batch_rows,
        wait_ms: config.wait_ms,
        queue_bytes: config.queue_bytes,
        site_bytes: config.site_bytes,
    };
    let compute = compute::Compute::start(batch);
    let service = service::Service::new(models, compute, config.request_rows);
    let service =
        InferenceServer::new(service).max_decoding_message_size(limits::INFERENCE_FRAME_BYTES_MAX);
    let served = Server::builder()
        .tls_config(tls)?
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .initial_stream_window_size(u32::try_from(2 * limits::BOUNDARY_BYTES_MAX).ok())
        .add_service(service)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown)
        .await;
    rescan.abort();
    Ok(served?)
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

/// Adds what the folder holds; gives what is wrong with what could not be added.
fn scan(folder: &Path, models: &Models) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut problems = Vec::new();
    for path in entries.filter_map(Result::ok).map(|e| e.path()).filter(|p| p.is_dir()) {
        for form in Form::ALL {
            let [graph, values] = form.files().map(|name| read_bounded(&path.join(name)));
            let (Ok(graph), Ok(values)) = (graph, values) else {
                continue; // still being written, or another kind of folder
            };
            if models.get(&Digest::of(&values)).is_some() {
                continue;
            }
            match models.add(form, &graph, &values) {
                Ok(version) => tracing::info!(version = %version.short(), "serving"),
                Err(e) => problems.push(format!("{}: {e}", path.display())),
            }
        }
    }
    problems
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.len() > limits::BLOB_BYTES_MAX {
        return Err(std::io::Error::other("too large"));
    }
    std::fs::read(path)
}

async fn rescan(folder: std::path::PathBuf, models: Arc<Models>) {
    let mut told: Vec<String> = Vec::new();
    loop {
        tokio::time::sleep(RESCAN).await;
        let problems = scan(&folder, &models);
        for problem in problems.iter().filter(|p| !told.contains(p)) {
            tracing::warn!(%problem, "not served");
        }
        told = problems;
    }
}
