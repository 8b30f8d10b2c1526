//! The service `Admin`: what operators call.
//!
//! Every call but the first needs a certificate of role `operator`, and one that changes something
//! also a place in the roster: a certificate outlives a revocation. Handlers translate and pass on;
//! what may be done is the core's decision. Start at [`AdminService`].

use std::sync::Arc;
use std::time::Duration;

use koinon_aggregation::roster::Role;
use koinon_proto::id::Digest;
use koinon_proto::limits::TASK_BLOBS_MAX;
use koinon_proto::wire;
use koinon_proto::wire::admin_server::Admin;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::access;
use super::downloads::Download;
use super::listener::Member;
use super::rounds::Shared;
use crate::event::{Answer, Event, Rejection, codes};

/// A watch is told what changed at most so often.
const WATCH_PAUSE: Duration = Duration::from_millis(50);

/// Implements the service over the driver.
pub(super) struct AdminService(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl Admin for AdminService {
    type WatchStream = ReceiverStream<Result<wire::TaskStatus, Status>>;
    type FetchStream = Download;

    async fn negotiate(
        &self,
        request: Request<wire::VersionRange>,
    ) -> Result<Response<wire::Negotiated>, Status> {
        access::negotiated(request.get_ref()).map(Response::new)
    }

    async fn pending(
        &self,
        request: Request<wire::PendingRequest>,
    ) -> Result<Response<wire::PendingReply>, Status> {
        access::member(&request, Role::Operator)?;
        Ok(Response::new(self.0.driver.look(|core| core.pending()).await?))
    }

    async fn publish_roster(
        &self,
        request: Request<wire::RosterUpload>,
    ) -> Result<Response<wire::RosterAccepted>, Status> {
        let operator = access::member(&request, Role::Operator)?;
        let bytes = request.into_inner().roster;
        let (name, roster) = (operator.name.clone(), bytes.clone());
        let look =
            self.0.driver.look(move |core| core.may_publish(&name, &roster, super::now_ms()));
        if !look.await? {
            return Err(no_member(&operator));
        }
        match self.ask(|reply| Event::PublishRoster { bytes, reply }).await? {
            Answer::RosterPublished { digest, version } => {
                tracing::info!(by = %operator.name, version, "roster published");
                Ok(Response::new(wire::RosterAccepted { digest: digest.into(), version }))
            }
            _ => Err(other_answer()),
        }
    }

    async fn submit(
        &self,
        request: Request<wire::TaskUpload>,
    ) -> Result<Response<wire::TaskAccepted>, Status> {
        let operator = self.operator(&request).await?;
        let wire::TaskUpload { manifest, mut blobs } = request.into_inner();
        if blobs.len() > TASK_BLOBS_MAX {
            return Err(Status::invalid_argument(format!("more than {TASK_BLOBS_MAX} blobs")));
        }
        self.add_stored(&manifest, &mut blobs).await?;
        match self.ask(|reply| Event::Submit { manifest, blobs, reply }).await? {
            Answer::Submitted { task } => {
                tracing::info!(by = %operator.name, task = %task.short(), "task submitted");
                Ok(Response::new(wire::TaskAccepted { task: task.into() }))
            }
            _ => Err(other_answer()),
        }
    }

    async fn tasks(
        &self,
        request: Request<wire::TasksRequest>,
    ) -> Result<Response<wire::TasksReply>, Status> {
        access::member(&request, Role::Operator)?;
        let tasks = self.0.driver.look(|core| core.tasks()).await?;
        Ok(Response::new(wire::TasksReply { tasks }))
    }

    async fn watch(
        &self,
        request: Request<wire::TaskRef>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        access::member(&request, Role::Operator)?;
        let task = task_of(request.get_ref())?;
        let shared = Arc::clone(&self.0);
        let mut changed = shared.driver.changed();
        let mut last = shared
            .driver
            .look(move |core| core.status(&task))
            .await?
            .ok_or_else(|| Status::not_found(format!("no task {}", task.short())))?;
        let (statuses, outgoing) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut ended = is_final(&last);
            if statuses.send(Ok(last.clone())).await.is_err() {
                return;
            }
            while !ended {
                tokio::select! {
                    () = statuses.closed() => return,
                    change = changed.changed() => if change.is_err() { return },
                }
                // In a large round something changes all the time, and looking takes the driver's time.
                tokio::time::sleep(WATCH_PAUSE).await;
                let Ok(Some(now)) = shared.driver.look(move |core| core.status(&task)).await else {
                    return;
                };
                if same(&now, &last) {
                    continue;
                }
                ended = is_final(&now);
                last = now.clone();
                if statuses.send(Ok(now)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn cancel(
        &self,
        request: Request<wire::TaskRef>,
    ) -> Result<Response<wire::TaskStatus>, Status> {
        let operator = self.operator(&request).await?;
        let task = task_of(request.get_ref())?;
        match self.ask(move |reply| Event::Cancel { task, reply }).await? {
            Answer::Cancelled(status) => {
                tracing::info!(by = %operator.name, task = %task.short(), "task cancelled");
                Ok(Response::new(status))
            }
            _ => Err(other_answer()),
        }
    }

    async fn versions(
        &self,
        request: Request<wire::VersionsRequest>,
    ) -> Result<Response<wire::VersionsReply>, Status> {
        access::any_member(&request)?;
        let versions = self.0.driver.look(|core| core.versions()).await?;
        Ok(Response::new(wire::VersionsReply { versions }))
    }

    async fn fetch(
        &self,
        request: Request<wire::FetchRequest>,
    ) -> Result<Response<Download>, Status> {
        access::any_member(&request)?;
        self.0.fetch(request.get_ref()).await.map(Response::new)
    }
}

impl AdminService {
    /// The operator behind a call, if the roster in force counts it now.
    async fn operator<T>(&self, request: &Request<T>) -> Result<Member, Status> {
        let operator = access::member(request, Role::Operator)?;
        let name = operator.name.clone();
        let counts =
            self.0.driver.look(move |core| core.is_operator(&name, super::now_ms())).await?;
        if counts { Ok(operator) } else { Err(no_member(&operator)) }
    }

    async fn ask(
        &self,
        event: impl FnOnce(u64) -> Event + Send + 'static,
    ) -> Result<Answer, Status> {
        self.0.driver.ask(event).await?.map_err(|rejection| access::status(&rejection))
    }

    /// Adds the blobs that the manifest names and that are here already: the core reads no store.
    async fn add_stored(&self, manifest: &[u8], blobs: &mut Vec<Vec<u8>>) -> Result<(), Status> {
        let named = crate::named_blobs(manifest);
        let given: Vec<Digest> = blobs.iter().map(|bytes| Digest::of(bytes)).collect();
        for digest in named.into_iter().filter(|digest| !given.contains(digest)) {
            let store = self.0.blobs.clone();
            let stored = tokio::task::spawn_blocking(move || store.get(&digest))
                .await
                .map_err(|e| Status::internal(e.to_string()))?;
            // A damaged or missing one is missing to the core, which says so by name.
            if let Ok(Some(bytes)) = stored {
                blobs.push(bytes);
            }
        }
        Ok(())
    }
}

/// Equal as encoded: a figure that is not a number equals itself.
fn same(a: &wire::TaskStatus, b: &wire::TaskStatus) -> bool {
    use prost::Message;
    a.encode_to_vec() == b.encode_to_vec()
}

fn is_final(status: &wire::TaskStatus) -> bool {
    matches!(status.state.as_str(), "done" | "cancelled" | "failed")
}

fn task_of(task: &wire::TaskRef) -> Result<Digest, Status> {
    Digest::try_from(&task.task[..]).map_err(|e| Status::invalid_argument(e.to_string()))
}

fn no_member(operator: &Member) -> Status {
    let detail = format!(
        "the roster names no operator `{}` now; the consortium signs one, or somebody else does this",
        operator.name
    );
    access::status(&Rejection::new(codes::NOT_A_MEMBER, detail))
}

fn other_answer() -> Status {
    Status::internal("another answer than asked for")
}
