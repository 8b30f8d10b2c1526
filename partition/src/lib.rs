//! The partition server: runs ranges of a cut model on activations, for many sites at once.
//!
//! * [`models`]: the versions it serves, each bound to its digest, within a bound of memory.
//! * [`admission`]: what a request must be before it may wait; every refusal has a stable code.
//! * [`scheduler`]: what runs next. It holds [`batcher`], which requests run together, fairly between sites, and
//!   [`sequences`], what sequences remember between their steps. Pure.
//! * [`metrics`]: what is counted.
//! * `server` (feature `server`): the thin tonic service, the threads that compute, the models' folder.
//!
//! What it deliberately is not: it holds no site's identity key, no journal and no raw input (position 0 is no cut), writes no
//! activation and no sequence's memory to disk, and remembers nothing else of a request once it is answered.
//! Start at [`admission`].

#[cfg(feature = "server")]
pub mod admission;
pub mod batcher;
#[cfg(feature = "server")]
pub mod config;
pub mod metrics;
#[cfg(feature = "server")]
pub mod models;
pub mod scheduler;
pub mod sequences;
#[cfg(feature = "server")]
pub mod server;
