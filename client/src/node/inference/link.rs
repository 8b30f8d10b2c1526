//! One partition server's connection: dialled, kept, dialled again, measured.
//!
//! It carries and decides nothing: what arrives goes to one queue of events, what leaves has passed the
//! door before. Start at [`keep`].

use std::time::{Duration, Instant};

use koinon_proto::wire::inference_client::InferenceClient;
use koinon_proto::{limits, wire};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

use super::super::backoff::Backoff;
use super::super::connect::{self, Target};
use super::super::counters::Counters;
use super::super::error::NodeError;
use super::super::keystore::KeyStore;
use super::super::outlet::Outlet;
use super::super::rounds::{call, check_version, refused, version_range};
use super::DESTINATION;
use crate::ledger::Kind;

/// A server that is away is dialled at least this often: remote answers are back within seconds.
const DIAL_AGAIN_MAX: Duration = Duration::from_secs(2);
/// One attempt may take this long.
const DIAL: Duration = Duration::from_secs(3);

/// What happened on a connection.
pub(super) enum Event {
    /// It is there; activations go in here.
    Up(u16, mpsc::UnboundedSender<wire::Activation>),
    /// An answer, and when it was there.
    Reply(u16, Box<wire::InferenceReply>, Instant),
    /// It is gone, or could not be made.
    Down(u16, String),
}

/// What a connection is made with.
pub(super) struct Link {
    pub(super) number: u16,
    pub(super) target: Target,
    pub(super) keys: KeyStore,
    pub(super) counters: Counters,
    pub(super) outlet: Outlet,
    pub(super) events: mpsc::UnboundedSender<Event>,
    /// Counted up when the connection is to be given up and dialled again.
    pub(super) again: watch::Receiver<u64>,
}

impl Link {
    /// Keeps the connection until nobody wants its events.
    pub(super) async fn keep(mut self) {
        let mut backoff = Backoff::default();
        let mut rng = super::super::rng();
        loop {
            let dialled = tokio::time::timeout(DIAL, self.dial()).await;
            let dialled = dialled.unwrap_or_else(|_| {
                let seconds = DIAL.as_secs();
                Err(NodeError::Refused(format!("the server did not answer within {seconds} s")))
            });
            let reason = match dialled {
                Ok((sender, replies)) => {
                    backoff.reset();
                    if self.events.send(Event::Up(self.number, sender)).is_err() {
                        return;
                    }
                    self.listen(replies).await
                }
                Err(e) => e.to_string(),
            };
            if self.events.send(Event::Down(self.number, reason)).is_err() {
                return;
            }
            tokio::time::sleep(backoff.next(&mut rng).min(DIAL_AGAIN_MAX)).await;
        }
    }

    async fn dial(
        &self,
    ) -> Result<(mpsc::UnboundedSender<wire::Activation>, Streaming<wire::InferenceReply>), NodeError>
    {
        let channel = connect::channel(&self.target, &self.keys.tls()?, &self.counters).await?;
        let mut client = InferenceClient::new(channel)
            .max_decoding_message_size(limits::INFERENCE_FRAME_BYTES_MAX)
            .max_encoding_message_size(limits::INFERENCE_FRAME_BYTES_MAX);
        let range = self.outlet.let_out(Kind::Negotiate, None, DESTINATION, version_range(0))?;
        let answer = call(client.negotiate(range)).await;
        check_version(&answer.map_err(|s| refused(&self.target, "negotiate", &s))?, 0)?;
        let (sender, questions) = mpsc::unbounded_channel();
        let replies = call(client.infer(UnboundedReceiverStream::new(questions))).await;
        Ok((sender, replies.map_err(|s| refused(&self.target, "infer", &s))?))
    }

    /// Hands answers on until the stream ends or is given up; gives the reason.
    async fn listen(&mut self, mut replies: Streaming<wire::InferenceReply>) -> String {
        self.again.mark_unchanged();
        loop {
            let message = tokio::select! {
                message = replies.message() => message,
                _ = self.again.changed() => return "the server was silent for too long".to_owned(),
            };
            match message {
                Ok(Some(reply)) => {
                    let event = Event::Reply(self.number, Box::new(reply), Instant::now());
                    if self.events.send(event).is_err() {
                        return String::new();
                    }
                }
                Ok(None) => return "the partition server ended the stream".to_owned(),
                Err(status) => return status.message().to_owned(),
            }
        }
    }
}
