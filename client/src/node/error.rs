//! What stops a node or keeps it from starting, with the exit code that the program gives for it.
//!
//! Deliberately nothing that the coordinator did wrong (that is noted and survived) and nothing of
//! training (that is reported as a code). Start at [`NodeError::exit_code`].

use thiserror::Error;

use super::connect::ConnectError;

/// Why the node did not start, or stopped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A setting or a file is unusable.
    #[error("{0}")]
    Config(String),
    /// The policy, the ledger or the state of this site.
    #[error(transparent)]
    Site(#[from] crate::error::Error),
    /// Something durable cannot be read or written: nothing left after the failure.
    #[error("{0}")]
    State(String),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The other side says no.
    #[error("{0}")]
    Refused(String),
    /// The site's own egress door says no.
    #[error(transparent)]
    Egress(#[from] crate::egress::EgressError),
}

impl NodeError {
    /// The program's exit code for this error, see `docs/operate.md`.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Site(crate::error::Error::Policy(_)) => 3,
            Self::Refused(_) => 5,
            Self::Connect(_) => 6,
            Self::Egress(error) if !error.is_fatal() => 5,
            Self::Site(_) | Self::State(_) | Self::Egress(_) => 7,
        }
    }
}
