//! What stops the coordinator, with the exit code that the program gives for it.
//!
//! Deliberately nothing that a peer did: peers get rejections and gRPC statuses. Start at
//! [`ServerError::exit_code`].

use thiserror::Error;

/// Why the coordinator did not start, or stopped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The configuration or a file it names is unusable.
    #[error("{0}")]
    Config(String),
    /// The port cannot be had.
    #[error(
        "{address} cannot be listened on: {reason}; if another program has the port, stop it or set another `listen` in coordinator.toml"
    )]
    Listen {
        /// The address asked for.
        address: String,
        /// The system's answer.
        reason: String,
    },
    /// Journal, blobs or certificates cannot be read or written: nothing left after the failure.
    #[error("{0}")]
    State(String),
    /// TLS or HTTP/2 could not be set up.
    #[error("the server cannot be set up: {0}")]
    Setup(String),
}

impl ServerError {
    /// The program's exit code for this error, see `docs/operate.md`.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 3,
            Self::Listen { .. } | Self::Setup(_) => 6,
            Self::State(_) => 7,
        }
    }
}
