//! The carrier of rounds: one stream to the coordinator, dialled again whenever it is lost.
//!
//! It moves frames and knows nothing of what they say: what was lost with a connection the mailboxes
//! send again. Before a stream is opened the protocol version is negotiated and the certificate
//! renewed if its end is near, so neither needs a restart. Start at [`Rounds::run`].

use std::time::Duration;

use koinon_proto::limits::{FRAME_BYTES_MAX, PROGRAM_BYTES_MAX};
use koinon_proto::wire::rounds_client::RoundsClient;
use koinon_proto::{PROTOCOL, VersionRange, wire};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::backoff::Backoff;
use super::connect::{self, Target};
use super::counters::Counters;
use super::daemon::Input;
use super::error::NodeError;
use super::keystore::KeyStore;
use super::outlet::Outlet;
use super::slices::{SlicedChannel, sliced};
use crate::ledger::Kind;

/// Frames on their way into the connection; who sends more waits for it.
const FRAMES_WAITING_MAX: usize = 16;
/// A call that is answered with one message may take this long.
const CALL: Duration = Duration::from_secs(20);

/// The connection in use, for downloads: `None` while there is none.
pub(super) type Current = watch::Receiver<Option<Channel>>;

/// What the carrier needs.
pub(super) struct Rounds {
    pub(super) target: Target,
    pub(super) keys: KeyStore,
    pub(super) outlet: Outlet,
    pub(super) counters: Counters,
    pub(super) min_version: u32,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) current: watch::Sender<Option<Channel>>,
}

impl Rounds {
    /// Connects and exchanges frames until the daemon is gone.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            let outcome = self.connection(&mut backoff).await;
            self.current.send_replace(None);
            let problem = match outcome {
                Ok(()) => "the coordinator ended the stream".to_owned(),
                Err(error) => error.to_string(),
            };
            tracing::info!(problem, "not connected");
            if self.inputs.send(Input::Disconnected { problem }).await.is_err() {
                return;
            }
            let wait = backoff.next(&mut super::rng());
            tokio::select! {
                () = self.inputs.closed() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn connection(&self, backoff: &mut Backoff) -> Result<(), NodeError> {
        let mut channel = self.dial().await?;
        self.negotiate(&channel).await?;
        if self.keys.renewal_due(super::now_ms())? {
            self.renew(&channel).await?;
            channel = self.dial().await?;
        }
        let (frames, outgoing) = mpsc::channel(FRAMES_WAITING_MAX);
        let mut stream = client(&channel)
            .exchange(ReceiverStream::new(outgoing))
            .await
            .map_err(|status| self.refused("exchange", &status))?
            .into_inner();
        backoff.reset();
        self.current.send_replace(Some(channel));
        self.pass(Input::Connected { frames }).await?;
        loop {
            match stream.message().await {
                Ok(Some(frame)) => self.pass(Input::Frame(frame)).await?,
                Ok(None) => return Ok(()),
                Err(status) => return Err(self.refused("exchange", &status)),
            }
        }
    }

    async fn dial(&self) -> Result<Channel, NodeError> {
        Ok(connect::channel(&self.target, &self.keys.tls()?, &self.counters).await?)
    }

    async fn negotiate(&self, channel: &Channel) -> Result<(), NodeError> {
        let mine = version_range(self.min_version);
        let mine = self.outlet.let_out(Kind::Negotiate, None, self.destination(), mine)?;
        let answer = call(client(channel).negotiate(mine))
            .await
            .map_err(|status| self.refused("negotiate", &status))?;
        check_version(&answer, self.min_version)
    }

    async fn renew(&self, channel: &Channel) -> Result<(), NodeError> {
        let renewal = wire::Renewal { certificate_request: self.keys.certificate_request(&[])? };
        let renewal = self.outlet.let_out(Kind::Renew, None, self.destination(), renewal)?;
        let certificate = call(client(channel).renew(renewal))
            .await
            .map_err(|status| self.refused("renew", &status))?;
        self.keys.install(&certificate)?;
        tracing::info!(not_after_ms = certificate.not_after_ms, "certificate renewed");
        Ok(())
    }

    fn destination(&self) -> &str {
        self.keys.coordinator_name()
    }

    fn refused(&self, what: &str, status: &Status) -> NodeError {
        refused(&self.target, what, status)
    }

    async fn pass(&self, input: Input) -> Result<(), NodeError> {
        self.inputs.send(input).await.map_err(|_| NodeError::State("the node is stopping".into()))
    }
}

/// The service on a channel, with the wire's limits.
pub(super) fn client(channel: &Channel) -> RoundsClient<SlicedChannel> {
    RoundsClient::new(sliced(channel))
        .max_decoding_message_size(FRAME_BYTES_MAX)
        .max_encoding_message_size(FRAME_BYTES_MAX)
}

/// Waits for the one answer of a call, but not for ever.
pub(super) async fn call<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(CALL, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}

/// The first message: what this program speaks and the site's policy permits.
pub(super) fn version_range(min_version: u32) -> wire::VersionRange {
    let mut program = concat!("koinon ", env!("CARGO_PKG_VERSION")).to_owned();
    program.truncate(PROGRAM_BYTES_MAX);
    wire::VersionRange { min: PROTOCOL.min.max(min_version), max: PROTOCOL.max, program }
}

/// Whether the answer to the first message is a version that was offered.
pub(super) fn check_version(answer: &wire::Negotiated, min_version: u32) -> Result<(), NodeError> {
    let offered = VersionRange { min: PROTOCOL.min.max(min_version), max: PROTOCOL.max };
    if (offered.min..=offered.max).contains(&answer.version) {
        return Ok(());
    }
    Err(NodeError::Refused(format!(
        "the coordinator wants protocol version {}, and this site speaks {} to {}; upgrade the older side",
        answer.version, offered.min, offered.max
    )))
}

/// What a status says and its first cause, each once; its own text repeats the causes as a program
/// sees them.
fn in_words(status: &Status) -> String {
    let said = match status.message() {
        "" => status.code().description(),
        said => said,
    };
    let mut cause = std::error::Error::source(status);
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    match cause.map(ToString::to_string) {
        Some(cause) if !said.contains(&cause) => format!("{said}: {cause}"),
        _ => said.to_owned(),
    }
}

/// What a failed call means.
pub(super) fn refused(target: &Target, what: &str, status: &Status) -> NodeError {
    if let Some(error) = connect::refusal(target, status) {
        return error.into();
    }
    match status.code() {
        Code::Unavailable
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Internal => NodeError::Connect(connect::ConnectError::Http {
            address: target.address.clone(),
            reason: format!("{what}: {}", in_words(status)),
        }),
        _ => NodeError::Refused(format!("the coordinator refuses `{what}`: {}", status.message())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_line_is_told_in_words() {
        let io = || std::io::Error::other("connection reset by peer");
        let nested = Status::from_error(Box::new(std::io::Error::other(io())));
        for status in [nested, Status::from_error(Box::new(io()))] {
            let text = in_words(&status);
            assert_eq!(text.matches("connection reset by peer").count(), 1, "{text}");
            assert!(!text.contains("Custom") && !text.contains("source"), "{text}");
        }
        assert_eq!(in_words(&Status::unavailable("going down")), "going down");
        assert!(!in_words(&Status::unavailable("")).is_empty());
    }
}
