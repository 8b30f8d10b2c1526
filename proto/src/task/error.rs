//! Why something is no task manifest.
//!
//! The messages name the field and what it should be. Start at [`ManifestError`].

use thiserror::Error;

use crate::limits::MANIFEST_BYTES_MAX;

/// Why something is no task manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Longer than [`MANIFEST_BYTES_MAX`].
    #[error("the task manifest has {bytes} bytes; at most {MANIFEST_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not the JSON form; the text says where.
    #[error("the task manifest is not the JSON it should be: {0}")]
    Json(String),
    /// Not the TOML form; the text says where and what was probably meant.
    #[error("{0}")]
    Toml(String),
    /// A value out of its range, or one that does not fit the others.
    #[error("task manifest: '{field}' must be {rule}")]
    Field {
        /// The field's path in the manifest.
        field: &'static str,
        /// What it should be.
        rule: &'static str,
    },
}

pub(super) fn bounded(bytes: usize) -> Result<(), ManifestError> {
    if bytes <= MANIFEST_BYTES_MAX { Ok(()) } else { Err(ManifestError::TooLong { bytes }) }
}

pub(super) fn require(
    holds: bool,
    field: &'static str,
    rule: &'static str,
) -> Result<(), ManifestError> {
    if holds { Ok(()) } else { Err(ManifestError::Field { field, rule }) }
}
