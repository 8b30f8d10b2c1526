//! The node's hold on the one egress door: everything that leaves is let out here first.
//!
//! Streams, calls and downloads run at the same time and share one ledger, so the door stands behind
//! a lock. Letting a message out is policy, transcript, ledger; the caller then gives the very message
//! to its connection. Deliberately nothing else is shared. Start at [`Outlet::let_out`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use koinon_proto::id::{Digest, SiteId};
use koinon_proto::wire;
use prost::Message;

use super::error::NodeError;
use crate::egress::{Carrier, CarryError, Count, Door, Transcript, leaving_of};
use crate::error::Error;
use crate::ledger::file::{self, FileStore};
use crate::ledger::{Head, Kind, Leaving};
use crate::policy::Policy;

/// The ledger's file in its folder.
pub const LEDGER_FILE: &str = "ledger.jsonl";

/// The ledger of split inference, which may run beside the node: a file of its own, because a ledger
/// has one writer.
pub const INFERENCE_LEDGER_FILE: &str = "inference.jsonl";

/// The door, shared by everything in this process that sends. Cheap to clone.
#[derive(Clone)]
pub struct Outlet(Arc<Mutex<Door<FileStore>>>);

/// Takes the message out of the door again.
struct Slot<M>(Option<M>);

impl<M> Carrier<M> for Slot<M> {
    fn carry(&mut self, message: M) -> Result<(), CarryError> {
        self.0 = Some(message);
        Ok(())
    }
}

impl Outlet {
    /// Opens the ledger in `folder`, making it if it is missing, and the door in front of it. The
    /// caller holds the lock of the site's state: a ledger has one writer.
    ///
    /// # Errors
    /// When the ledger cannot be opened or does not verify.
    pub fn open(
        folder: &Path,
        policy: Policy,
        transcript: Option<Box<dyn Transcript + Send>>,
    ) -> Result<Self, NodeError> {
        Self::open_file(&folder.join(LEDGER_FILE), policy, transcript)
    }

    /// As [`Self::open`], for a ledger file of another name.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn open_file(
        path: &Path,
        policy: Policy,
        transcript: Option<Box<dyn Transcript + Send>>,
    ) -> Result<Self, NodeError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .map_err(|e| NodeError::State(format!("{}: {e}", folder.display())))?;
        let (ledger, found) = file::open(path).map_err(|e| NodeError::Site(Error::from(e)))?;
        tracing::info!(
            entries = found.head.entries,
            torn_bytes = found.torn_bytes,
            "ledger opened"
        );
        let door = Door::new(policy, ledger);
        let door = match transcript {
            Some(transcript) => door.with_transcript(transcript),
            None => door,
        };
        Ok(Self(Arc::new(Mutex::new(door))))
    }

    /// Lets a message out: it is in the ledger when this returns, and may be sent.
    ///
    /// # Errors
    /// When the policy forbids it or it cannot be recorded; then it must not be sent.
    pub fn let_out<M: Message>(
        &self,
        kind: Kind,
        about: Option<Digest>,
        destination: &str,
        message: M,
    ) -> Result<M, NodeError> {
        let leaving = Leaving { kind, about, destination: destination.to_owned() };
        self.through(&leaving, message)
    }

    /// As [`Self::let_out`], for a frame to the coordinator.
    ///
    /// # Errors
    /// As [`Self::let_out`].
    pub fn let_frame_out(
        &self,
        coordinator: &SiteId,
        frame: wire::SiteFrame,
    ) -> Result<wire::SiteFrame, NodeError> {
        self.through(&leaving_of(&frame, coordinator), frame)
    }

    fn through<M: Message>(&self, leaving: &Leaving, message: M) -> Result<M, NodeError> {
        let mut slot = Slot(None);
        self.door().send(super::now_ms(), leaving, message, &mut slot)?;
        slot.0.ok_or_else(|| NodeError::State("the door kept a message".into()))
    }

    /// The policy file changed.
    pub fn adopt(&self, policy: Policy) {
        self.door().adopt(policy);
    }

    /// Messages and bytes let out since the start, by kind.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Kind, Count> {
        self.door().counts().clone()
    }

    /// The ledger's head.
    #[must_use]
    pub fn head(&self) -> Head {
        self.door().ledger().head()
    }

    fn door(&self) -> MutexGuard<'_, Door<FileStore>> {
        // A panic under the lock leaves the door as it was: it closes itself when a write fails.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
