//! A hostile coordinator gets nothing, and a site that is killed at any moment says the same bytes or
//! none. The coordinator of these tests is the protocol's own server session and a page of lies.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test stops at what it did not expect; its numbers are small"
)]

#[path = "policy/world.rs"]
mod world;

#[path = "policy/said.rs"]
mod said;

#[path = "policy/keys.rs"]
mod keys;

#[path = "policy/ahead.rs"]
mod ahead;

#[path = "policy/honest.rs"]
mod honest;

#[path = "policy/hostile.rs"]
mod hostile;

#[path = "policy/private.rs"]
mod private;

#[path = "policy/restart.rs"]
mod restart;

#[path = "policy/garbage.rs"]
mod garbage;

#[path = "policy/mailbox.rs"]
mod mailbox;
