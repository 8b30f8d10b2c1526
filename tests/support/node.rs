//! A coordinator and a site, each in a runtime of its own, that can be stopped or killed.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use koinon_client::node::status::{self, NodeStatus};
use koinon_client::node::{self, NodeError, Options};
use koinon_coordinator::server::{self, ServerError, config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::trainer::Steady;
use crate::{eventually, hostile};

/// A stopped node answers within this time.
const STOPS: Duration = Duration::from_secs(15);

/// Something that runs until it is stopped or killed.
struct Running<E> {
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
    ended: mpsc::Receiver<Result<(), E>>,
}

impl<E: Send + 'static> Running<E> {
    fn start<F>(make: impl FnOnce(oneshot::Receiver<()>) -> F) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = mpsc::channel();
        let future = make(stopped);
        runtime.spawn(async move {
            let _ = end.send(future.await);
        });
        Self { runtime: Some(runtime), stop: Some(stop), ended }
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    fn stop(&mut self) -> Result<(), E> {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let result = self.ended.recv_timeout(STOPS).expect("a node that is stopped ends");
        self.kill();
        result
    }
}

impl<E> Drop for Running<E> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A coordinator on loopback.
pub struct CoordinatorNode {
    pub dir: PathBuf,
    port: u16,
    running: Option<Running<ServerError>>,
}

impl CoordinatorNode {
    /// A coordinator for an existing folder, not running yet. The port is chosen now and kept.
    #[must_use]
    pub fn new(dir: PathBuf, port: u16) -> Self {
        Self { dir, port, running: None }
    }

    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn start(&mut self) {
        self.try_start().unwrap();
    }

    /// Starts, waiting for what a killed one still holds, and until it answers.
    pub fn try_start(&mut self) -> Result<(), ServerError> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let public = config::load_public(&self.dir)?;
        let ca = CertificateDer::from_pem_slice(public.ca_pem.as_bytes()).unwrap();
        loop {
            let running = self.run()?;
            let end = loop {
                if let Ok(end) = running.ended.try_recv() {
                    break end;
                }
                if hostile::tls(&self.address(), ca.clone(), None).is_ok() {
                    self.running = Some(running);
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(5));
            };
            let error = end.expect_err("a coordinator does not end by itself");
            let busy = error.to_string().contains("in use");
            if !busy || Instant::now() > deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn run(&self) -> Result<Running<ServerError>, ServerError> {
        let config = config::load(&self.dir)?;
        let address = self.address();
        // A killed one may still be letting go of the port.
        let listener = eventually("the port", Duration::from_secs(5), || {
            std::net::TcpListener::bind(&address).ok()
        });
        listener.set_nonblocking(true).unwrap();
        Ok(Running::start(move |stopped| async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let stopped = async {
                let _ = stopped.await;
            };
            server::run(config, listener, stopped).await
        }))
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
    }

    /// The end of a coordinator that ended by itself.
    pub fn ended(&mut self, limit: Duration) -> Result<(), ServerError> {
        let mut running = self.running.take().expect("the coordinator was started");
        let end = running.ended.recv_timeout(limit).expect("the coordinator ends by itself");
        running.kill();
        end
    }

    /// As SIGTERM.
    pub fn stop(&mut self) -> Result<(), ServerError> {
        self.running.take().map_or(Ok(()), |mut running| running.stop())
    }
}

/// A site's node.
pub struct SiteNode {
    pub name: String,
    pub dir: PathBuf,
    pub trainer: Steady,
    pub options: Options,
    running: Option<Running<NodeError>>,
}

impl SiteNode {
    #[must_use]
    pub fn new(name: String, dir: PathBuf, trainer: Steady) -> Self {
        let options = Options { heartbeat_ms: 1_000, ..Options::default() };
        Self { name, dir, trainer, options, running: None }
    }

    pub fn start(&mut self) {
        let (dir, trainer) = (self.dir.clone(), self.trainer.clone());
        let options = self.options.clone();
        self.running = Some(Running::start(move |stopped| async move {
            // What a killed one still holds is waited for, as a service manager would by trying again.
            let (stop, mut again) = (stopped, 0);
            let stop = std::sync::Arc::new(tokio::sync::Mutex::new(stop));
            loop {
                let stop = std::sync::Arc::clone(&stop);
                let stopped = async move {
                    let _ = (&mut *stop.lock().await).await;
                };
                match node::run_with(&dir, &options, Box::new(trainer.clone()), stopped).await {
                    Err(error) if again < 50 && error.to_string().contains("in use") => {
                        again += 1;
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    result => return result,
                }
            }
        }));
    }

    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
    }

    pub fn stop(&mut self) -> Result<(), NodeError> {
        self.running.take().map_or(Ok(()), |mut running| running.stop())
    }

    /// The end of a node that ended by itself.
    pub fn ended(&mut self, limit: Duration) -> Result<(), NodeError> {
        let running = self.running.as_mut().expect("the node was started");
        running.ended.recv_timeout(limit).expect("the node ends by itself")
    }

    #[must_use]
    pub fn status(&self) -> Option<NodeStatus> {
        read_status(&self.dir)
    }

    /// Waits until the status is as wanted.
    pub fn wait(
        &self,
        what: &str,
        limit: Duration,
        mut so: impl FnMut(&NodeStatus) -> bool,
    ) -> NodeStatus {
        eventually(&format!("{}: {what}", self.name), limit, || {
            if let Some(Ok(Err(error))) = self.running.as_ref().map(|node| node.ended.try_recv()) {
                panic!("{} ended: {error}", self.name);
            }
            self.status().filter(&mut so)
        })
    }
}

#[must_use]
pub fn read_status(dir: &Path) -> Option<NodeStatus> {
    serde_json::from_slice(&std::fs::read(dir.join(status::FILE)).ok()?).ok()
}
