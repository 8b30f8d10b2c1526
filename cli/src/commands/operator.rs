//! An operator's connection to the coordinator: submits tasks, watches them, publishes rosters, fetches versions.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use koinon_client::node::connect::{self, COORDINATOR, Target};
use koinon_client::node::counters::Counters;
use koinon_client::node::keystore::KeyStore;
use koinon_proto::wire::admin_client::AdminClient;
use koinon_proto::wire::rounds_client::RoundsClient;
use koinon_proto::{Digest, limits, wire};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::exit::{Exit, OrExit as _, fail};

/// Most of a blob that is asked for again after a broken download.
const FETCH_TRIES: usize = 5;

/// A member's folder, used for the admin service.
pub(crate) struct Operator {
    keys: KeyStore,
    runtime: tokio::runtime::Runtime,
}

impl Operator {
    /// Opens the folder that `koinon join` made with an operator's token.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Operator> {
        let keys = KeyStore::open(dir)
            .or_code(koinon_client::node::NodeError::exit_code)
            .with_context(|| format!("{} is no operator's folder", dir.display()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Operator { keys, runtime })
    }

    /// The coordinator's name in the roster.
    pub(crate) fn coordinator_name(&self) -> &str {
        self.keys.pins().coordinator.as_ref().map_or("coordinator", |name| name.as_str())
    }

    /// Enrolments that no roster holds yet, and the coordinator's own key.
    pub(crate) fn pending(&self) -> anyhow::Result<wire::PendingReply> {
        self.call(async |mut c| c.pending(wire::PendingRequest {}).await)
    }

    /// Publishes a signed roster.
    pub(crate) fn publish(&self, roster: &[u8]) -> anyhow::Result<wire::RosterAccepted> {
        self.call(async |mut c| {
            c.publish_roster(wire::RosterUpload { roster: roster.to_vec() }).await
        })
    }

    /// Submits a task with the blobs it names.
    pub(crate) fn submit(
        &self,
        manifest: Vec<u8>,
        blobs: Vec<Vec<u8>>,
    ) -> anyhow::Result<wire::TaskAccepted> {
        self.call(async |mut c| c.submit(wire::TaskUpload { manifest, blobs }).await)
    }

    /// Every task.
    pub(crate) fn tasks(&self) -> anyhow::Result<Vec<wire::TaskStatus>> {
        Ok(self.call(async |mut c| c.tasks(wire::TasksRequest {}).await)?.tasks)
    }

    /// Every version.
    pub(crate) fn versions(&self) -> anyhow::Result<Vec<wire::Version>> {
        Ok(self.call(async |mut c| c.versions(wire::VersionsRequest {}).await)?.versions)
    }

    /// Cancels a task.
    pub(crate) fn cancel(&self, task: Digest) -> anyhow::Result<wire::TaskStatus> {
        self.call(async |mut c| c.cancel(wire::TaskRef { task: task.into() }).await)
    }

    /// Calls `each` with the state now and after each change, until it says stop, the task ends, or `patience` passes without
    /// a connection: a coordinator that restarts is waited for.
    pub(crate) fn watch(
        &self,
        task: Digest,
        patience: Duration,
        mut each: impl FnMut(wire::TaskStatus) -> bool,
    ) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let mut last = std::time::Instant::now();
            loop {
                let error = match self.watch_once(task, &mut each, &mut last).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => fail(Exit::Network, "the coordinator closed the connection"),
                    Err(error) => error,
                };
                let final_word = crate::exit::code_of(&error) != Exit::Network as u8;
                if final_word || last.elapsed() > patience {
                    return Err(error);
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
    }

    async fn watch_once(
        &self,
        task: Digest,
        each: &mut impl FnMut(wire::TaskStatus) -> bool,
        last: &mut std::time::Instant,
    ) -> anyhow::Result<bool> {
        let mut client = self.client().await?;
        let stream = client.watch(wire::TaskRef { task: task.into() }).await;
        let mut stream = stream.map_err(|s| refused(&s))?.into_inner();
        while let Some(status) = stream.message().await.map_err(|s| refused(&s))? {
            *last = std::time::Instant::now();
            let ended = matches!(status.state.as_str(), "done" | "cancelled" | "failed");
            if !each(status) || ended {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Fetches a blob by digest; a broken download goes on where it was.
    pub(crate) fn fetch(
        &self,
        digest: Digest,
        progress: &mut dyn FnMut(u64, u64),
    ) -> anyhow::Result<Vec<u8>> {
        let mut data = Vec::new();
        for attempt in 1..=FETCH_TRIES {
            match self.runtime.block_on(self.fetch_rest(digest, &mut data, progress)) {
                Ok(()) => break,
                Err(e)
                    if attempt == FETCH_TRIES
                        || crate::exit::code_of(&e) != Exit::Network as u8 =>
                {
                    return Err(e);
                }
                Err(_) => std::thread::sleep(Duration::from_millis(300)),
            }
        }
        if Digest::of(&data) != digest {
            return Err(fail(
                Exit::Verification,
                format!("what came is not {}: its digest differs", digest.short()),
            ));
        }
        Ok(data)
    }

    async fn fetch_rest(
        &self,
        digest: Digest,
        data: &mut Vec<u8>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> anyhow::Result<()> {
        let request = wire::FetchRequest { digest: digest.into(), offset: data.len() as u64 };
        let mut client = self.client().await?;
        let mut stream = client.fetch(request).await.map_err(|s| refused(&s))?.into_inner();
        while let Some(chunk) = stream.message().await.map_err(|s| refused(&s))? {
            if chunk.total > limits::BLOB_BYTES_MAX || chunk.offset != data.len() as u64 {
                return Err(fail(
                    Exit::Refused,
                    "the coordinator sent a piece that was not asked for",
                ));
            }
            data.extend_from_slice(&chunk.data);
            progress(data.len() as u64, chunk.total);
        }
        Ok(())
    }

    async fn client(&self) -> anyhow::Result<AdminClient<Channel>> {
        let target = Target::new(&self.keys.pins().address, COORDINATOR);
        let tls = self.keys.tls().or_code(koinon_client::node::NodeError::exit_code)?;
        let channel =
            connect::channel(&target, &tls, &Counters::default()).await.or_exit(Exit::Network)?;
        self.renew(&channel).await;
        Ok(AdminClient::new(channel).max_decoding_message_size(limits::FRAME_BYTES_MAX))
    }

    /// Gets a new certificate when the end of the old one is near. What fails now is tried with the next command.
    async fn renew(&self, channel: &Channel) {
        if !self.keys.renewal_due(super::clock::now_ms()).unwrap_or(false) {
            return;
        }
        let Ok(certificate_request) = self.keys.certificate_request(&[]) else { return };
        let renewal = wire::Renewal { certificate_request };
        if let Ok(certificate) = RoundsClient::new(channel.clone()).renew(renewal).await {
            let _ = self.keys.install(certificate.get_ref());
        }
    }

    fn call<T, F>(&self, ask: impl FnOnce(AdminClient<Channel>) -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        self.runtime.block_on(async {
            let client = self.client().await?;
            Ok(ask(client).await.map_err(|s| refused(&s))?.into_inner())
        })
    }
}

/// A status from the far side, as an error with its exit code.
fn refused(status: &Status) -> anyhow::Error {
    let exit = match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => {
            Exit::Network
        }
        _ => Exit::Refused,
    };
    fail(exit, format!("the coordinator says: {}", status.message()))
}
