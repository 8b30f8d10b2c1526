//! The compute thread: takes batches from the [`Batcher`], stacks them, runs the engine once, and deals the answers out.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use koinon_model::crossing::Crossing;
use koinon_proto::wire::{self, inference_reply};
use koinon_proto::{Millis, limits};
use tokio::sync::mpsc::Sender;
use tonic::Status;

use crate::admission::{self, Admitted, rejection};
use crate::batcher::{Batcher, Full, Item, Key, Limits};
use crate::models::Served;

/// Where a stream's answers go.
pub(super) type Replies = Sender<Result<wire::InferenceReply, Status>>;

/// A request on its way to the thread.
struct Work {
    site: String,
    admitted: Admitted,
    replies: Replies,
}

struct Waiting {
    request: u64,
    served: Arc<Served>,
    crossing: Crossing,
    replies: Replies,
}

/// The thread's door.
#[derive(Clone)]
pub(super) struct Compute {
    work: SyncSender<Work>,
    started: Instant,
}

impl Compute {
    /// Starts the thread; it ends when the last door is dropped.
    pub(super) fn start(limits: Limits) -> Compute {
        let (work, incoming) = sync_channel(limits::ACTIVATIONS_IN_FLIGHT_MAX);
        let started = Instant::now();
        std::thread::spawn(move || run(limits, started, &incoming));
        Compute { work, started }
    }

    /// The thread's clock.
    pub(super) fn now(&self) -> Millis {
        millis(self.started)
    }

    /// Hands a request over; a server that is behind says so at once instead of piling up.
    pub(super) fn submit(
        &self,
        site: &str,
        admitted: Admitted,
        replies: &Replies,
    ) -> Result<(), wire::Rejection> {
        let work = Work { site: site.into(), admitted, replies: replies.clone() };
        self.work.try_send(work).map_err(|e| match e {
            TrySendError::Full(_) => rejection(
                "overloaded",
                "too many requests wait; try again or answer locally".into(),
            ),
            TrySendError::Disconnected(_) => {
                rejection("stopping", "the server ends; answer locally".into())
            }
        })
    }
}

fn millis(started: Instant) -> Millis {
    Millis::try_from(started.elapsed().as_millis()).unwrap_or(Millis::MAX)
}

fn run(limits: Limits, started: Instant, incoming: &Receiver<Work>) {
    let mut batcher: Batcher<Waiting> = Batcher::new(limits);
    loop {
        let work = match batcher.next_deadline() {
            None => incoming.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => {
                incoming.recv_timeout(Duration::from_millis(at.saturating_sub(millis(started))))
            }
        };
        match work {
            Ok(work) => take_in(&mut batcher, millis(started), work),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                while let Some((key, batch)) = batcher.take(Millis::MAX) {
                    answer(&key, batch, millis(started));
                }
                return;
            }
        }
        while let Ok(work) = incoming.try_recv() {
            take_in(&mut batcher, millis(started), work);
        }
        while let Some((key, batch)) = batcher.take(millis(started)) {
            answer(&key, batch, millis(started));
        }
    }
}

fn take_in(batcher: &mut Batcher<Waiting>, now: Millis, work: Work) {
    let Work { site, admitted, replies } = work;
    let Admitted { request, key, served, crossing, bytes, expires } = admitted;
    let rows = crossing.rows();
    let item = Item {
        site,
        rows,
        bytes,
        expires,
        payload: Waiting { request, served, crossing, replies },
    };
    if let Err((full, item)) = batcher.push(now, key, item) {
        let detail = match full {
            Full::Site => "this site has too much waiting; send slower",
            Full::Queue => "all sites together have too much waiting; try again or answer locally",
        };
        let result = inference_reply::Result::Rejection(rejection("overloaded", detail.into()));
        send(&item.payload, result);
    }
}

/// Runs a batch and answers each of its requests; those whose stream ended are not worth the work.
fn answer(key: &Key, mut batch: Vec<Item<Waiting>>, now: Millis) {
    batch.retain(|item| !item.payload.replies.is_closed());
    let (alive, late): (Vec<_>, Vec<_>) =
        batch.into_iter().partition(|i| i.expires.is_none_or(|at| now < at));
    for item in late {
        let late = rejection("too_late", "the request's deadline passed while it waited".into());
        send(&item.payload, inference_reply::Result::Rejection(late));
    }
    let Some(first) = alive.first() else { return };
    let served = Arc::clone(&first.payload.served);
    let parts: Vec<&Crossing> = alive.iter().map(|i| &i.payload.crossing).collect();
    let rows: Vec<usize> = alive.iter().map(|item| item.rows).collect();
    let range = key.from as usize..key.to as usize;
    let run = |at: &Crossing| {
        let out = served.network.forward(range.end, at, &mut served.network.start(range.clone()));
        out.map_err(|e| rejection("failed", e.to_string()))
    };
    let together = Crossing::stack(&parts).and_then(|whole| run(&whole).ok()?.split(&rows));
    let answers: Vec<Result<Crossing, wire::Rejection>> = match together {
        Some(answers) => answers.into_iter().map(Ok).collect(),
        None => parts.iter().map(|part| run(part)).collect(),
    };
    for (item, answer) in alive.iter().zip(answers) {
        let result = match answer.and_then(|own| admission::answer(&own)) {
            Ok(bytes) => inference_reply::Result::Boundary(bytes),
            Err(rejection) => inference_reply::Result::Rejection(rejection),
        };
        send(&item.payload, result);
    }
}

/// A stream that does not take its answers loses them; its site answers locally when the deadline passes.
fn send(waiting: &Waiting, result: inference_reply::Result) {
    let reply = wire::InferenceReply {
        request: waiting.request,
        result: Some(result),
        ..wire::InferenceReply::default()
    };
    let _ = waiting.replies.try_send(Ok(reply));
}
