//! The tonic service: streams in, judged requests out to the compute thread.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use koinon_proto::wire::inference_server::Inference;
use koinon_proto::wire::{self, inference_reply};
use koinon_proto::{Digest, PROTOCOL, VersionRange, limits, negotiate};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::compute::{Compute, Replies};
use crate::admission;
use crate::models::Models;

/// A stream that sends nothing for so long, or does not finish a message, is closed.
const IDLE: Duration = Duration::from_secs(60);

pub(super) struct Service {
    models: Arc<Models>,
    compute: Compute,
    request_rows: usize,
}

impl Service {
    pub(super) fn new(models: Arc<Models>, compute: Compute, request_rows: usize) -> Service {
        Service { models, compute, request_rows }
    }
}

/// Who calls, by the certificate: the unit of fairness. TLS has checked it against the consortium's CA.
fn site_of<T>(request: &Request<T>) -> Result<String, Status> {
    let certificates = request.peer_certs();
    let leaf = certificates.as_ref().and_then(|c| c.first());
    let leaf =
        leaf.ok_or_else(|| Status::unauthenticated("a client certificate is needed; join first"))?;
    Ok(Digest::of(leaf).short())
}

#[tonic::async_trait]
impl Inference for Service {
    type InferStream = ReceiverStream<Result<wire::InferenceReply, Status>>;

    async fn negotiate(
        &self,
        request: Request<wire::VersionRange>,
    ) -> Result<Response<wire::Negotiated>, Status> {
        let theirs = VersionRange::try_from(request.get_ref())
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let version =
            negotiate(PROTOCOL, theirs).map_err(|e| Status::failed_precondition(e.to_string()))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let server_time_ms = u64::try_from(now.as_millis()).unwrap_or(0);
        Ok(Response::new(wire::Negotiated { version, server_time_ms }))
    }

    async fn offered(
        &self,
        request: Request<wire::OfferedRequest>,
    ) -> Result<Response<wire::OfferedReply>, Status> {
        site_of(&request)?;
        let models = self.models.all();
        let models = models.iter().map(|m| wire::OfferedModel {
            version: m.version.into(),
            spec: m.spec.into(),
            nodes: u32::try_from(m.network.n_nodes()).unwrap_or(u32::MAX),
        });
        Ok(Response::new(wire::OfferedReply { models: models.collect() }))
    }

    async fn infer(
        &self,
        request: Request<Streaming<wire::Activation>>,
    ) -> Result<Response<Self::InferStream>, Status> {
        let site = site_of(&request)?;
        let (replies, answers) = mpsc::channel(limits::ACTIVATIONS_IN_FLIGHT_MAX);
        let stream = Stream {
            site,
            models: Arc::clone(&self.models),
            compute: self.compute.clone(),
            request_rows: self.request_rows,
            replies,
        };
        tokio::spawn(stream.read(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

struct Stream {
    site: String,
    models: Arc<Models>,
    compute: Compute,
    request_rows: usize,
    replies: Replies,
}

impl Stream {
    async fn read(self, mut incoming: Streaming<wire::Activation>) {
        loop {
            match tokio::time::timeout(IDLE, incoming.message()).await {
                Ok(Ok(Some(activation))) => {
                    let request = activation.request;
                    if let Err(rejection) = self.judge(activation) {
                        let result = Some(inference_reply::Result::Rejection(rejection));
                        // Waits for this stream's own reader only.
                        if self
                            .replies
                            .send(Ok(wire::InferenceReply {
                                request,
                                result,
                                ..wire::InferenceReply::default()
                            }))
                            .await
                            .is_err()
                        {
                            break;
                        }
                    }
                }
                Ok(Ok(None)) => return, // no more requests; what waits is still answered
                Ok(Err(_)) => break,
                Err(_) => {
                    let idle = Status::deadline_exceeded(
                        "nothing came for 60 s; open a new stream when needed",
                    );
                    let _ = self.replies.try_send(Err(idle));
                    break;
                }
            }
        }
    }

    fn judge(&self, activation: wire::Activation) -> Result<(), wire::Rejection> {
        let now = self.compute.now();
        let admitted = admission::admit(&self.models, self.request_rows, now, activation)?;
        self.compute.submit(&self.site, admitted, &self.replies)
    }
}
