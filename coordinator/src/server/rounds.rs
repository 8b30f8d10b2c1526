//! The service `Rounds`: what sites and other members call.
//!
//! Every handler asks first who calls ([`super::access`]) and then passes the message to the driver;
//! what it means is the core's business. A stream's reader takes one frame at a time, so a site that
//! sends faster than the coordinator works waits in its own connection. Start at [`RoundsService`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use koinon_aggregation::roster::Role;
use koinon_proto::id::{Digest, SiteId};
use koinon_proto::limits::MAILBOX_MAIL_MAX;
use koinon_proto::wire;
use koinon_proto::wire::rounds_server::Rounds;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::access::{self, Rate};
use super::blobs::Blobs;
use super::certificates::Authority;
use super::downloads::{Download, Downloads};
use super::driver::Handle;
use super::exchange::Frames;
use super::listener::{Issued, Member, lock};
use crate::event::{Answer, Event};

/// Frames that wait for a slow site: all its mail, and as many receipts.
const FRAMES_WAITING_MAX: usize = 2 * MAILBOX_MAIL_MAX;

/// What the handlers of both services share.
pub(super) struct Shared {
    pub(super) name: SiteId,
    pub(super) driver: Handle,
    pub(super) blobs: Blobs,
    pub(super) downloads: Downloads,
    pub(super) authority: Arc<Authority>,
    pub(super) issued: Issued,
    pub(super) enrolments: Rate,
    pub(super) connections: AtomicU64,
}

/// Implements the service over the driver.
#[derive(Clone)]
pub(super) struct RoundsService(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl Rounds for RoundsService {
    type ExchangeStream = ReceiverStream<Result<wire::CoordinatorFrame, Status>>;
    type FetchStream = Download;

    async fn negotiate(
        &self,
        request: Request<wire::VersionRange>,
    ) -> Result<Response<wire::Negotiated>, Status> {
        access::negotiated(request.get_ref()).map(Response::new)
    }

    async fn enrol(
        &self,
        request: Request<wire::Enrolment>,
    ) -> Result<Response<wire::Certificate>, Status> {
        let address = access::peer(&request)?.address;
        self.0.enrolments.check(address, Instant::now())?;
        let enrolment = request.into_inner();
        let csr = enrolment.certificate_request.clone();
        let answer = self.0.driver.ask(|reply| Event::Enrol { enrolment, reply }).await?;
        let Answer::Enrolled { name, role, roster } =
            answer.map_err(|rejection| access::status(&rejection))?
        else {
            return Err(Status::internal("another answer than asked for"));
        };
        tracing::info!(%name, %role, peer = %address, "enrolled");
        self.0.certificate(Member { name, role }, &csr, roster).await
    }

    async fn renew(
        &self,
        request: Request<wire::Renewal>,
    ) -> Result<Response<wire::Certificate>, Status> {
        let member = access::any_member(&request)?;
        let name = member.name.clone();
        let (revoked, roster) = self.0.driver.look(move |core| standing(core, &name)).await?;
        if revoked {
            return Err(Status::permission_denied("the roster no longer counts this member"));
        }
        tracing::info!(name = %member.name, "certificate renewed");
        self.0.certificate(member, &request.into_inner().certificate_request, roster).await
    }

    async fn exchange(
        &self,
        _: Request<Streaming<wire::SiteFrame>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        Err(Status::internal("this call has a carrier of its own"))
    }

    async fn fetch(
        &self,
        request: Request<wire::FetchRequest>,
    ) -> Result<Response<Download>, Status> {
        access::any_member(&request)?;
        self.0.fetch(request.get_ref()).await.map(Response::new)
    }
}

impl RoundsService {
    /// Opens a site's stream; gives what is to be sent on it. [`super::exchange`] carries both ways.
    pub(super) async fn open(
        &self,
        request: Request<Frames>,
    ) -> Result<mpsc::Receiver<Box<wire::CoordinatorFrame>>, Status> {
        let site = access::member(&request, Role::Client)?.name;
        let connection = self.0.connections.fetch_add(1, Ordering::Relaxed);
        let (frames, outgoing) = mpsc::channel(FRAMES_WAITING_MAX);
        let ended = self.0.driver.connected(site.clone(), connection, frames).await?;
        tracing::info!(%site, connection, "connected");
        tokio::spawn(read(self.0.driver.clone(), site, connection, request.into_inner(), ended));
        Ok(outgoing)
    }
}

/// Whether the newest roster revoked the name, and that roster's digest.
fn standing(core: &crate::Coordinator, name: &SiteId) -> (bool, Option<Digest>) {
    let Some(signed) = core.roster() else { return (false, None) };
    let revoked = signed.roster().member(name.as_str()).is_some_and(|member| member.revoked);
    (revoked, Some(Digest(signed.digest())))
}

/// Reads a site's stream until it or the driver ends it.
async fn read(
    driver: Handle,
    site: SiteId,
    connection: u64,
    mut stream: Frames,
    mut ended: oneshot::Receiver<()>,
) {
    loop {
        let message = tokio::select! {
            _ = &mut ended => break,
            message = stream.next() => message,
        };
        match message {
            Ok(Some(frame)) => {
                if driver.frame(site.clone(), connection, frame).await.is_err() {
                    return;
                }
            }
            Ok(None) => break,
            Err(status) => {
                tracing::info!(%site, connection, code = ?status.code(), "stream broken");
                break;
            }
        }
    }
    tracing::info!(%site, connection, "disconnected");
    let _ = driver.disconnected(site, connection).await;
}

impl Shared {
    /// Issues a certificate, remembers it, and answers with it.
    async fn certificate(
        &self,
        member: Member,
        request: &[u8],
        roster: Option<Digest>,
    ) -> Result<Response<wire::Certificate>, Status> {
        let issued = self
            .authority
            .issue(&member.name, member.role, request, super::now_ms())
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        self.driver.certificate(&issued, member.clone()).await?;
        lock(&self.issued).insert(issued.fingerprint, member);
        Ok(Response::new(wire::Certificate {
            chain: issued.chain,
            not_after_ms: issued.not_after_ms,
            roster: roster.map(Vec::from).unwrap_or_default(),
            coordinator: self.name.to_string(),
        }))
    }

    /// Streams a blob that is meant for members. Masked updates are not: they are kept for the
    /// coordinator's own recovery only.
    pub(super) async fn fetch(&self, request: &wire::FetchRequest) -> Result<Download, Status> {
        let digest = Digest::try_from(&request.digest[..])
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        if !self.driver.look(move |core| core.serves(&digest)).await? {
            return Err(Status::not_found(format!("no blob {}", digest.short())));
        }
        self.downloads.open(digest, request.offset).await
    }
}
