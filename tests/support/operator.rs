//! An operator's calls, blocking.

use std::path::Path;
use std::time::Duration;

use koinon_client::node::connect::{self, COORDINATOR, Target};
use koinon_client::node::counters::Counters;
use koinon_client::node::keystore::KeyStore;
use koinon_proto::wire::admin_client::AdminClient;
use koinon_proto::{Digest, wire};
use tokio::runtime::{Builder, Runtime};
use tonic::Status;
use tonic::transport::Channel;

use crate::task::Task;

/// An operator with its folder.
pub struct Operator {
    runtime: Runtime,
    keys: KeyStore,
}

impl Operator {
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        // A worker of its own, so that connections are closed between calls.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime, keys: KeyStore::open(dir).unwrap() }
    }

    /// One call on a connection of its own.
    pub fn call<T, F>(&self, call: impl FnOnce(AdminClient<Channel>) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        self.runtime.block_on(async {
            let target = Target::new(&self.keys.pins().address, COORDINATOR);
            let tls = self.keys.tls().unwrap();
            let channel = connect::channel(&target, &tls, &Counters::default())
                .await
                .map_err(|e| Status::unavailable(e.to_string()))?;
            call(AdminClient::new(channel)).await.map(tonic::Response::into_inner)
        })
    }

    #[must_use]
    pub fn pending(&self) -> wire::PendingReply {
        self.call(async |mut c| c.pending(wire::PendingRequest {}).await).unwrap()
    }

    pub fn publish(&self, roster: &[u8]) -> Result<wire::RosterAccepted, Status> {
        let roster = wire::RosterUpload { roster: roster.to_vec() };
        self.call(async |mut c| c.publish_roster(roster).await)
    }

    pub fn submit(&self, task: &Task) -> Digest {
        let upload = wire::TaskUpload { manifest: task.bytes.clone(), blobs: task.blobs.clone() };
        let accepted = self.call(async |mut c| c.submit(upload).await).unwrap();
        Digest::try_from(&accepted.task[..]).unwrap()
    }

    pub fn cancel(&self, task: Digest) -> Result<wire::TaskStatus, Status> {
        self.call(async |mut c| c.cancel(wire::TaskRef { task: task.into() }).await)
    }

    pub fn status(&self, task: Digest) -> Result<wire::TaskStatus, Status> {
        let tasks = self.call(async |mut c| c.tasks(wire::TasksRequest {}).await)?;
        let found = tasks.tasks.into_iter().find(|status| status.task == task.0);
        found.ok_or_else(|| Status::not_found("no such task"))
    }

    #[must_use]
    pub fn versions(&self) -> Vec<wire::Version> {
        self.call(async |mut c| c.versions(wire::VersionsRequest {}).await).unwrap().versions
    }

    /// Waits until the task is as wanted; a coordinator that is not there is waited for.
    pub fn wait(
        &self,
        task: Digest,
        what: &str,
        limit: Duration,
        mut so: impl FnMut(&wire::TaskStatus) -> bool,
    ) -> wire::TaskStatus {
        let mut last = None;
        let start = std::time::Instant::now();
        loop {
            if let Ok(status) = self.status(task) {
                if so(&status) {
                    return status;
                }
                assert!(status.state != "failed", "the task failed: {status:?}");
                last = Some(status);
            }
            assert!(start.elapsed() < limit, "waited {limit:?} for: {what}; last {last:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn wait_done(&self, task: Digest, limit: Duration) -> wire::TaskStatus {
        self.wait(task, "the task to be done", limit, |status| status.state == "done")
    }

    /// All statuses that a watch gives, from now to the end of the task.
    pub fn watch(&self, task: Digest) -> Vec<wire::TaskStatus> {
        self.runtime.block_on(async {
            let target = Target::new(&self.keys.pins().address, COORDINATOR);
            let tls = self.keys.tls().unwrap();
            let channel = connect::channel(&target, &tls, &Counters::default()).await.unwrap();
            let task = wire::TaskRef { task: task.into() };
            let mut stream = AdminClient::new(channel).watch(task).await.unwrap().into_inner();
            let mut seen = Vec::new();
            while let Some(status) = stream.message().await.unwrap() {
                seen.push(status);
            }
            seen
        })
    }
}
