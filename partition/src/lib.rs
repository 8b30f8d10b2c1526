//! The partition server: runs ranges of a cut model on activations, for many sites at once.
//!
//! * [`models`]: the versions it serves, each bound to its digest.
//! * [`admission`]: what a request must be before it may wait; every refusal has a stable code.
//! * [`batcher`]: which requests run together, fairly between sites. Pure.
//! * `server` (feature `server`): the thin tonic service and one compute thread.
//!
//! What it deliberately is not: it holds no site's identity key, no journal and no raw input (position 0 is no cut), writes no
//! activation to disk, and remembers nothing of a request once it is answered. Start at [`admission`].

#[cfg(feature = "server")]
pub mod admission;
pub mod batcher;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod models;
#[cfg(feature = "server")]
pub mod server;
