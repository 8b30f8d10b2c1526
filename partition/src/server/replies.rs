//! A stream's answers on their way out, and what bounds them.
//!
//! Every request holds a ticket from when it is read until its answer was taken by the transport; without a free ticket, or
//! with too many bytes untaken, nothing more is read. So a site that does not read its answers stops itself, and HTTP/2 tells
//! it so. Start at [`line`].

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use koinon_proto::limits;
use koinon_proto::wire::{self, inference_reply};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::Stream;
use tonic::Status;

/// Requests of one stream that are read and not answered.
const TICKETS: usize = limits::ACTIVATIONS_IN_FLIGHT_MAX;
/// Bytes of answers that may wait for a slow reader before nothing more is read.
const UNTAKEN_BYTES_MAX: usize = 2 * limits::BOUNDARY_BYTES_MAX;
/// How often a reader that is over it is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The right to one answer.
pub(super) struct Ticket(#[expect(dead_code, reason = "it is held")] OwnedSemaphorePermit);

struct Sent {
    reply: Result<wire::InferenceReply, Status>,
    bytes: usize,
    _ticket: Option<Ticket>,
}

/// Where a stream's answers go.
#[derive(Clone)]
pub(super) struct Replies {
    sender: mpsc::Sender<Sent>,
    tickets: Arc<Semaphore>,
    untaken: Arc<AtomicUsize>,
}

/// Where the transport takes them.
pub(super) struct Answers {
    receiver: mpsc::Receiver<Sent>,
    untaken: Arc<AtomicUsize>,
}

/// A new stream's two ends.
pub(super) fn line() -> (Replies, Answers) {
    // One more than tickets: why the stream ends.
    let (sender, receiver) = mpsc::channel(TICKETS + 1);
    let untaken = Arc::new(AtomicUsize::new(0));
    let tickets = Arc::new(Semaphore::new(TICKETS));
    (Replies { sender, tickets, untaken: Arc::clone(&untaken) }, Answers { receiver, untaken })
}

impl Replies {
    /// Waits until another request may be read; `None` when nobody takes answers any more.
    pub(super) async fn ticket(&self) -> Option<Ticket> {
        let ready = async {
            while self.untaken.load(Ordering::Acquire) > UNTAKEN_BYTES_MAX {
                tokio::time::sleep(LOOK).await;
            }
            Arc::clone(&self.tickets).acquire_owned().await.ok().map(Ticket)
        };
        tokio::select! {
            ticket = ready => ticket,
            () = self.sender.closed() => None,
        }
    }

    /// Waits until every request was answered and taken, or nobody takes answers any more; but for so many
    /// tickets that the caller holds.
    pub(super) async fn all_taken(&self, but: usize) {
        let all = u32::try_from(TICKETS.saturating_sub(but)).unwrap_or(u32::MAX);
        tokio::select! {
            _ = self.tickets.acquire_many(all) => {}
            () = self.sender.closed() => {}
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Sends an answer, with how long its request waited and its batch ran, in microseconds.
    pub(super) fn send(
        &self,
        request: u64,
        answer: Result<Vec<u8>, wire::Rejection>,
        us: [u64; 2],
        ticket: Ticket,
    ) {
        let bytes = answer.as_ref().map_or(0, Vec::len);
        let result = Some(match answer {
            Ok(boundary) => inference_reply::Result::Boundary(boundary),
            Err(rejection) => inference_reply::Result::Rejection(rejection),
        });
        let [waited_us, ran_us] = us.map(|us| u32::try_from(us).unwrap_or(u32::MAX));
        let reply = wire::InferenceReply { request, result, waited_us, ran_us };
        self.untaken.fetch_add(bytes, Ordering::AcqRel);
        // There is room for each ticket; it fails only when nobody takes answers any more.
        let _ = self.sender.try_send(Sent { reply: Ok(reply), bytes, _ticket: Some(ticket) });
    }

    /// Says why the stream ends.
    pub(super) fn end(&self, status: Status) {
        let _ = self.sender.try_send(Sent { reply: Err(status), bytes: 0, _ticket: None });
    }
}

impl Stream for Answers {
    type Item = Result<wire::InferenceReply, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let sent = std::task::ready!(self.receiver.poll_recv(cx));
        Poll::Ready(sent.map(|sent| {
            self.untaken.fetch_sub(sent.bytes, Ordering::AcqRel);
            sent.reply
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt as _;

    #[tokio::test]
    async fn who_does_not_take_his_answers_is_not_read_any_more() {
        let (replies, mut answers) = line();
        for n in 0..TICKETS {
            let ticket = replies.ticket().await.unwrap();
            replies.send(n as u64, Ok(vec![0; 8]), [1, 2], ticket);
        }
        let more = tokio::time::timeout(Duration::from_millis(50), replies.ticket());
        assert!(more.await.is_err(), "no ticket is left");
        let first = answers.next().await.unwrap().unwrap();
        assert_eq!((first.request, first.waited_us, first.ran_us), (0, 1, 2));
        assert!(replies.ticket().await.is_some());
        drop(answers);
        assert!(replies.ticket().await.is_none());
        replies.all_taken(0).await;
    }

    #[tokio::test]
    async fn all_are_taken_when_the_last_is() {
        let (replies, mut answers) = line();
        let (held, sent) = (replies.ticket().await, replies.ticket().await.unwrap());
        replies.send(1, Ok(vec![0; 8]), [0, 0], sent);
        let early = tokio::time::timeout(Duration::from_millis(50), replies.all_taken(1));
        assert!(early.await.is_err(), "one is not taken");
        answers.next().await.unwrap().unwrap();
        replies.all_taken(1).await;
        drop(held);
        replies.all_taken(0).await;
    }

    #[tokio::test]
    async fn too_many_bytes_untaken_stop_reading_too() {
        let (replies, mut answers) = line();
        let ticket = replies.ticket().await.unwrap();
        replies.send(0, Ok(vec![0; UNTAKEN_BYTES_MAX + 1]), [0, 0], ticket);
        let more = tokio::time::timeout(Duration::from_millis(50), replies.ticket());
        assert!(more.await.is_err());
        answers.next().await.unwrap().unwrap();
        assert!(replies.ticket().await.is_some());
    }
}
