//! Koinon: secure aggregation without I/O.

pub mod signer;

pub use signer::{Members, Signer};
