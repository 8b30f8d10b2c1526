//! Koinon's words and wire: what crosses between a site, the coordinator, a partition server and an
//! operator, and nothing else.
//!
//! * [`wire`]: the messages of the four `.proto` files, one file per audience. With the feature
//!   `grpc` (default) also the tonic clients and servers.
//! * [`id`]: digests, names, milliseconds. [`limits`]: every maximum in one place.
//! * [`envelope`]: who says what to whom, signed. [`mailbox`]: each message once and in order over
//!   carriers that lose, repeat and reorder. [`version`]: which protocol both sides speak.
//! * [`task`]: the manifest of a task. [`mod@context`]: what a session is about, as one digest.
//!
//! What never crosses: raw rows, labels, plain updates. No message here has a field for them.
//!
//! Deliberately not here: keys and signatures (a closure signs, a closure verifies), the roster, the
//! secure aggregation's own messages (they travel as bytes with their own canonical form), sockets,
//! clocks. Start at [`wire`] for the flow and at [`envelope`] for a running example.

mod canonical;
pub mod context;
pub mod envelope;
pub mod error;
pub mod id;
pub mod limits;
pub mod mailbox;
pub mod nearest;
mod redacted;
pub mod task;
pub mod version;

pub use context::{context, context_with_keys, named_keys, session_id};
pub use error::WireError;
pub use id::{Digest, Millis, SessionId, SiteId};
pub use task::{ManifestError, TaskManifest};
pub use version::{PROTOCOL, VersionRange, negotiate};

/// The generated messages of package `koinon.v1` and, with the feature `grpc`, its services.
///
/// The comments in `proto/koinon/v1/*.proto` are the documentation; byte fields are `Vec<u8>`.
/// A decoded message is well-formed protobuf and nothing more: names, lengths and digests in it are
/// the peer's claim until [`envelope::open`], [`id`] and [`limits`] have checked them.
pub mod wire {
    #![expect(missing_docs, reason = "generated; the comments are in the .proto files")]
    #![cfg_attr(feature = "grpc", expect(clippy::allow_attributes, reason = "generated"))]
    include!(concat!(env!("OUT_DIR"), "/koinon.v1.rs"));
}
