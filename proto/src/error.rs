//! What can be wrong with a peer's message. Nothing here is this side's fault or the world's.
//!
//! Every error has a stable [`code`](WireError::code) for programs and a text for people with public
//! ids only, so that it may be logged and sent back as it is: [`WireError::rejection`].

use thiserror::Error;

use crate::id::IdError;
use crate::version::VersionRange;
use crate::wire::Rejection;

/// A peer's message was bad; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// An id in the message is none.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Bytes that are not the protobuf message they should be.
    #[error("cannot be read as {what}")]
    Decode {
        /// Which message was expected.
        what: &'static str,
    },
    /// A required field or oneof is absent.
    #[error("{what} is missing")]
    Missing {
        /// Which field.
        what: &'static str,
    },
    /// Something is longer than [`crate::limits`] allows.
    #[error("{what} has {bytes} bytes; at most {bytes_max} are allowed")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its length.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// There are more of something than [`crate::limits`] allows.
    #[error("{count} {what}; at most {count_max} are allowed")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many.
        count: u64,
        /// The limit.
        count_max: u64,
    },
    /// A range of versions that is none.
    #[error("protocol versions {min} to {max} are no range")]
    VersionRange {
        /// Claimed oldest version.
        min: u32,
        /// Claimed newest version.
        max: u32,
    },
    /// Two programs that cannot talk.
    #[error(
        "no common protocol version: this side speaks {} to {}, the other {} to {}; \
         upgrade the older program", mine.min, mine.max, theirs.min, theirs.max
    )]
    NoCommonVersion {
        /// What this side speaks.
        mine: VersionRange,
        /// What the other side speaks.
        theirs: VersionRange,
    },
    /// A signed message of a version that is too old for the policy or unknown to this program.
    #[error("protocol version {version} is not accepted here (at least {version_min} is wanted)")]
    Version {
        /// Version of the message.
        version: u32,
        /// Oldest version that would be accepted.
        version_min: u32,
    },
    /// An envelope of somebody else.
    #[error("the envelope is not from {expected}")]
    Sender {
        /// Whose envelope was expected.
        expected: String,
    },
    /// An envelope to somebody else.
    #[error("the envelope is not addressed to {expected}")]
    Recipient {
        /// Whose envelopes are read here.
        expected: String,
    },
    /// A signature that does not verify.
    #[error("the signature is not the sender's over this message")]
    Signature,
    /// A mailbox that holds as much unacknowledged mail as it may.
    #[error("the mailbox is full: {count} messages, {bytes} bytes are not acknowledged yet")]
    MailboxFull {
        /// Messages in it.
        count: usize,
        /// Bytes in it.
        bytes: usize,
    },
    /// An acknowledgement of mail that was never sent.
    #[error("message {cursor} is acknowledged, but only {sent} were sent")]
    CursorAhead {
        /// The acknowledged number.
        cursor: u64,
        /// The highest number sent.
        sent: u64,
    },
}

impl WireError {
    /// A stable, lower-case code for programs and statistics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Id(_) => "bad_id",
            Self::Decode { .. } => "undecodable",
            Self::Missing { .. } => "missing_field",
            Self::TooLong { .. } => "too_long",
            Self::TooMany { .. } => "too_many",
            Self::VersionRange { .. } => "bad_version_range",
            Self::NoCommonVersion { .. } => "no_common_version",
            Self::Version { .. } => "version_refused",
            Self::Sender { .. } => "wrong_sender",
            Self::Recipient { .. } => "wrong_recipient",
            Self::Signature => "bad_signature",
            Self::MailboxFull { .. } => "mailbox_full",
            Self::CursorAhead { .. } => "cursor_ahead",
        }
    }

    /// The answer to the peer.
    #[must_use]
    pub fn rejection(&self) -> Rejection {
        Rejection { code: self.code().to_owned(), detail: self.to_string() }
    }
}
