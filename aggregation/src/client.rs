//! A site's side of a session, one type for each step; each step consumes the one before.
//!
//! [`advertise`] → [`Advertised::share`] → [`Shared::receive`] → [`Keyed::mask`] → [`Masked::sign`]
//! → [`Signed::reveal`] → [`Revealed`]. A step gives the next state and the message that it owes. A
//! rejection ends the step and gives no state: what was stored before still holds.
//!
//! **Write ahead.** Each state has canonical bytes ([`Advertised::to_secret_bytes`] and its
//! sisters) that hold secrets. Store the new state together with its message, durably and in place
//! of the old one, before a byte of the message leaves; after a crash, resume from what is stored
//! and send the stored message again. A state from a backup, older than one whose message may have
//! left, must never be resumed: masking or signing twice would undo the protection.
//!
//! A step cannot be taken twice:
//! ```compile_fail,E0382
//! fn twice(keyed: koinon_aggregation::client::Keyed, a: koinon_aggregation::Encoded,
//!          b: koinon_aggregation::Encoded, signer: &dyn koinon_aggregation::Signer) {
//!     let first = keyed.mask(a, signer);
//!     let second = keyed.mask(b, signer); // masks used twice would cancel: y - y' = x - x'
//! }
//! ```
//!
//! Deliberately not here: clocks, sockets, files, and the site's policy. The caller decides whether
//! a plan is acceptable before it calls [`advertise`], and passes its own floor.

mod admission;
mod advertised;
mod keyed;
mod masked;
mod session;
mod shared;

pub(crate) use admission::{check_bundle, check_different, sparse_participants};
pub use advertised::{Advertised, advertise, advertise_posted};
pub use keyed::Keyed;
pub(crate) use keyed::pair_sign;
pub use masked::{Masked, Revealed, Signed};
pub(crate) use session::after_dealing;
pub use shared::Shared;
