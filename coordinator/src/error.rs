//! What can be wrong when a coordinator is started again: the world's errors, not a peer's.
//!
//! Peers' faults are [`crate::Rejection`]s, our own are assertions. Start at [`ReplayError`].

use koinon_proto::Digest;

/// Why a journal and its blobs do not give a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A record that cannot follow those before it.
    #[error(
        "journal record {index} does not follow from those before it: the journal was put together \
         from parts, or written by another version; restore a backup"
    )]
    Record {
        /// Place of the record, from 0.
        index: usize,
    },
    /// A blob that a record names is not there.
    #[error("blob {digest} ({what}) is missing or damaged; restore it from a backup")]
    BlobMissing {
        /// The blob.
        digest: Digest,
        /// What it is.
        what: String,
    },
    /// A blob that is there and not what it should be.
    #[error("blob {digest} is not {what}; restore a backup")]
    BadBlob {
        /// The blob.
        digest: Digest,
        /// What it should be, and what is wrong.
        what: String,
    },
    /// An accepted message that is not acceptable now.
    #[error("the running round of task {task} cannot be continued: {what}")]
    Session {
        /// Whose round.
        task: Digest,
        /// What is wrong.
        what: String,
    },
}
