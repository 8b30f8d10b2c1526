//! The tonic service: streams in, judged requests out to the threads that compute.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use koinon_proto::wire::inference_server::Inference;
use koinon_proto::{Digest, PROTOCOL, VersionRange, negotiate, wire};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::compute::Compute;
use super::replies::{self, Answers, Replies, Ticket};
use crate::admission::{self, rejection};
use crate::batcher::Site;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::models::Models;

/// A stream that sends nothing for so long, or does not finish a message, is closed.
const IDLE: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(super) struct Service {
    pub(super) models: Arc<Models>,
    pub(super) compute: Compute,
    pub(super) metrics: Arc<Metrics>,
    pub(super) open: Arc<Open>,
    /// Becomes true when the server ends.
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) request_rows: usize,
}

/// How many streams each site has open, within limits.
pub(super) struct Open {
    sites_max: usize,
    streams_max: usize,
    sites: Mutex<BTreeMap<Site, usize>>,
}

/// One open stream; closed when dropped.
struct Seat {
    open: Arc<Open>,
    site: Site,
}

impl Open {
    pub(super) fn new(config: &Config) -> Self {
        let (sites_max, streams_max) = (config.sites, config.site_streams);
        Self { sites_max, streams_max, sites: Mutex::default() }
    }

    /// Sites with a stream, and streams.
    pub(super) fn count(&self) -> [u64; 2] {
        let sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        [sites.len() as u64, sites.values().sum::<usize>() as u64]
    }

    fn enter(self: &Arc<Self>, site: &Site) -> Result<Seat, Status> {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |what: String| Err(Status::resource_exhausted(what));
        let (now, own) = (sites.len(), sites.get(site).copied().unwrap_or(0));
        if own == 0 && now >= self.sites_max {
            return full(format!("{now} sites are served already; ask another server"));
        }
        if own >= self.streams_max {
            return full(format!("this site has {own} streams open; use one of them"));
        }
        sites.insert(site.clone(), own + 1);
        Ok(Seat { open: Arc::clone(self), site: site.clone() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut sites = self.open.sites.lock().unwrap_or_else(PoisonError::into_inner);
        match sites.get_mut(&self.site) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                sites.remove(&self.site);
            }
        }
    }
}

/// Who calls, by the certificate: the unit of fairness. TLS has checked it against the consortium's CA.
fn site_of<T>(request: &Request<T>) -> Result<Site, Status> {
    let certificates = request.peer_certs();
    let leaf = certificates.as_ref().and_then(|c| c.first());
    let leaf =
        leaf.ok_or_else(|| Status::unauthenticated("a client certificate is needed; join first"))?;
    Ok(Digest::of(leaf).short().into())
}

#[tonic::async_trait]
impl Inference for Service {
    type InferStream = Answers;

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
        let seat = self.open.enter(&site)?;
        let (replies, answers) = replies::line();
        let stream = Stream { service: self.clone(), site, replies };
        tokio::spawn(async move {
            stream.read(request.into_inner()).await;
            drop(seat);
        });
        Ok(Response::new(answers))
    }
}

struct Stream {
    service: Service,
    site: Site,
    replies: Replies,
}

impl Stream {
    /// Reads until the site ends, or the server does.
    async fn read(self, mut incoming: Streaming<wire::Activation>) {
        let mut stopping = self.service.stopping.clone();
        loop {
            let next = async {
                let ticket = self.replies.ticket().await?;
                Some((ticket, tokio::time::timeout(IDLE, incoming.message()).await))
            };
            let ends = async {
                let _ = stopping.wait_for(|stopping| *stopping).await;
            };
            let next = tokio::select! {
                next = next => Some(next),
                () = self.replies.closed() => Some(None),
                () = ends => None,
            };
            let Some(next) = next else { return self.drain(incoming).await };
            match next {
                Some((ticket, Ok(Ok(Some(activation))))) => self.take_in(activation, ticket),
                // No more requests; what waits is still answered.
                Some((ticket, Ok(Ok(None)))) => {
                    drop(ticket);
                    return self.replies.all_taken(0).await;
                }
                Some((_, Err(_))) => {
                    let idle = "nothing came for 60 s; open a new stream when needed";
                    self.replies.end(Status::deadline_exceeded(idle));
                    break;
                }
                Some((_, Ok(Err(_)))) | None => break,
            }
        }
        drop(incoming);
        if self.replies.is_closed() {
            self.service.compute.forget_closed();
        }
    }

    /// The server ends: refuses what still comes until everything before it was answered.
    async fn drain(&self, mut incoming: Streaming<wire::Activation>) {
        loop {
            let next = async {
                let ticket = self.replies.ticket().await?;
                Some((ticket, incoming.message().await.ok()??))
            };
            tokio::select! {
                biased;
                next = next => match next {
                    Some((ticket, activation)) => self.take_in(activation, ticket),
                    None => return self.replies.all_taken(0).await,
                },
                // Reading holds one.
                () = self.replies.all_taken(1) => return,
            }
        }
    }

    fn take_in(&self, activation: wire::Activation, ticket: Ticket) {
        let request = activation.request;
        let service = &self.service;
        service.metrics.came(activation.boundary.len());
        let now = service.compute.now();
        let admitted = if *service.stopping.borrow() {
            let detail = "the server ends; ask another or answer locally";
            Err(rejection("stopping", detail.into()))
        } else {
            admission::admit(&service.models, service.request_rows, now, activation)
        };
        let refused = match admitted {
            Ok(admitted) => {
                service.compute.submit(&self.site, admitted, &self.replies, ticket).err()
            }
            Err(rejection) => Some((rejection, ticket)),
        };
        if let Some((rejection, ticket)) = refused {
            service.metrics.ended(&rejection.code);
            self.replies.send(request, Err(rejection), [0, 0], ticket);
        }
    }
}
