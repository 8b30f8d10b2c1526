//! Downloads by digest that survive a lost connection.
//!
//! What has arrived stays and the rest is asked for from there, on whichever connection comes next;
//! what is complete must have the digest it was asked for by, or all of it is thrown away. Everything
//! is held in memory: parameters are. Deliberately no cache. Start at [`Downloads::fetch`].

use std::time::Duration;

use koinon_proto::id::Digest;
use koinon_proto::limits::BLOB_BYTES_MAX;
use koinon_proto::wire;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::transport::Channel;

use super::daemon::Input;
use super::error::NodeError;
use super::outlet::Outlet;
use super::rounds::{Current, client};
use crate::ledger::Kind;

/// Tries without a single new byte before a download is given up.
const FRUITLESS_MAX: u32 = 5;
/// A whole blob is not held up for longer by an end that does not come.
const END: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(250);

/// What downloads need. Cheap to clone.
#[derive(Clone)]
pub(super) struct Downloads {
    pub(super) outlet: Outlet,
    pub(super) destination: String,
    pub(super) current: Current,
    pub(super) inputs: mpsc::Sender<Input>,
}

impl Downloads {
    /// Fetches a blob and hands it to the daemon, or says that it cannot be had.
    pub(super) async fn fetch(mut self, digest: Digest) {
        let (mut bytes, mut fruitless) = (Vec::new(), 0);
        while fruitless < FRUITLESS_MAX {
            let Some(channel) = self.connected().await else { return };
            let before = bytes.len();
            match self.go_on(&channel, &digest, &mut bytes).await {
                Ok(()) if Digest::of(&bytes) == digest => {
                    return self.hand_in(Input::Blob { digest, bytes }).await;
                }
                Ok(()) => {
                    tracing::warn!(blob = %digest.short(), "a download has the wrong digest");
                    bytes.clear();
                    fruitless += 1;
                }
                Err(error) => {
                    tracing::info!(blob = %digest.short(), %error, "a download broke off");
                    if matches!(error, NodeError::Refused(_)) {
                        break;
                    }
                    fruitless = if bytes.len() > before { 0 } else { fruitless + 1 };
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.hand_in(Input::BlobFailed { digest }).await;
    }

    /// Waits for a connection; `None` when the node is stopping.
    async fn connected(&mut self) -> Option<Channel> {
        tokio::select! {
            () = self.inputs.closed() => None,
            channel = self.current.wait_for(Option::is_some) => channel.ok()?.clone(),
        }
    }

    async fn go_on(
        &self,
        channel: &Channel,
        digest: &Digest,
        bytes: &mut Vec<u8>,
    ) -> Result<(), NodeError> {
        let request = wire::FetchRequest { digest: digest.0.to_vec(), offset: bytes.len() as u64 };
        let request =
            self.outlet.let_out(Kind::Fetch, Some(*digest), &self.destination, request)?;
        let broken = |status: Status| match status.code() {
            tonic::Code::NotFound | tonic::Code::PermissionDenied | tonic::Code::DataLoss => {
                NodeError::Refused(status.message().to_owned())
            }
            _ => NodeError::State(status.to_string()),
        };
        let mut stream = client(channel).fetch(request).await.map_err(broken)?.into_inner();
        loop {
            let Some(chunk) = stream.message().await.map_err(broken)? else {
                return Err(NodeError::State("it ended before its end".into()));
            };
            let end = chunk.offset.saturating_add(chunk.data.len() as u64);
            if chunk.offset != bytes.len() as u64
                || end > chunk.total
                || chunk.total > BLOB_BYTES_MAX
            {
                bytes.clear();
                return Err(NodeError::State("its pieces do not fit".into()));
            }
            bytes.extend_from_slice(&chunk.data);
            if end == chunk.total {
                // Who hears the end of a call does not have to break it off, and says less.
                let _ = tokio::time::timeout(END, stream.message()).await;
                return Ok(());
            }
            if chunk.data.is_empty() {
                return Err(NodeError::State("a piece was empty".into()));
            }
        }
    }

    async fn hand_in(&self, input: Input) {
        let _ = self.inputs.send(input).await;
    }
}
