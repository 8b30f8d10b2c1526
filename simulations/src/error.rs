//! What can go wrong before or around a run. What goes wrong *in* a run is a finding of
//! [`crate::checker`], and belongs in the report.

use thiserror::Error;

/// An error of the simulator's user or of the machine it runs on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SimError {
    /// The scenario says something that cannot be.
    #[error("scenario: {0}")]
    Scenario(String),
    /// A file named by the scenario cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// As named in the scenario.
        path: String,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// The table or what was made of it cannot be used.
    #[error("data: {0}")]
    Data(String),
    /// A core refused what the scenario asks for.
    #[error("the cores refused the scenario's {what}: {reason}")]
    Refused {
        /// Which step.
        what: &'static str,
        /// The core's own words.
        reason: String,
    },
    /// A model could not be trained or scored.
    #[error("model: {0}")]
    Model(String),
}

impl SimError {
    pub(crate) fn scenario(text: impl Into<String>) -> SimError {
        SimError::Scenario(text.into())
    }

    pub(crate) fn data(text: impl Into<String>) -> SimError {
        SimError::Data(text.into())
    }

    pub(crate) fn refused(what: &'static str, reason: impl std::fmt::Display) -> SimError {
        SimError::Refused { what, reason: reason.to_string() }
    }

    pub(crate) fn model(reason: impl std::fmt::Display) -> SimError {
        SimError::Model(reason.to_string())
    }
}

/// Refuses a share outside 0..=1.
pub(crate) fn check_share(key: &str, share: f64) -> Result<(), SimError> {
    if (0.0..=1.0).contains(&share) {
        return Ok(());
    }
    Err(SimError::scenario(format!("{key} = {share}: a share lies between 0 and 1")))
}
