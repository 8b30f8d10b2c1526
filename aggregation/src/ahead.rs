//! Keys ahead of time: what a site can do for a session before there is one.
//!
//! A site makes one-time keys while nothing is urgent, signs them as a [`Batch`], and posts the batch.
//! The coordinator keeps all batches in one append-only [`Log`] and signs its [`Head`]. An invitation
//! names of each invited site one pair of keys, [`Named`], proven to be in the log of one head; a site
//! takes the head only if it extends the newest one that it has taken, so that nobody shows two
//! histories to it. While it trains, it agrees with everybody who is named ([`Agreement`]), and finds
//! what they agreed on ready when the round needs it.
//!
//! What counts in a session is still the [`Bundle`](crate::Bundle) that a site signs for the session's
//! plan: what is here makes rounds quicker, and is deliberately nothing that their secrecy rests on. A
//! site whose [`Stock`] is empty makes keys afresh, and who finds other keys in a bundle than were named
//! agrees with those. The stock is deliberately nothing that can be written down: keys that wait are
//! gone with the program, so that no disk that was restored brings back a key that was used.
//!
//! Start at [`Stock`] (a site), [`Log`] (the coordinator), [`check_named`] (everybody).

mod agreement;
mod batch;
mod head;
mod log;
mod stock;

pub use agreement::{Agreement, Agreements};
pub(crate) use agreement::{Known, Own};
pub use batch::{BATCH_BYTES_MAX, Batch, NAMED_BYTES_MAX, Named, check_named};
pub use head::{HEAD_BYTES, Head, HeadError};
pub use log::{LEAVES_MAX, Log, PROOF_MAX};
pub use stock::{OneTimeKeys, Stock};

/// Pairs of keys in a batch: of each the site uses one a session.
pub const BATCH_KEYS: usize = 16;

#[cfg(test)]
mod tests;
