//! A hostile coordinator gets nothing, and a site that is killed at any moment says the same bytes or
//! none. The coordinator of these tests is the protocol's own server session and a page of lies.

#[path = "policy/world.rs"]
mod world;

#[path = "policy/honest.rs"]
mod honest;

#[path = "policy/hostile.rs"]
mod hostile;

#[path = "policy/restart.rs"]
mod restart;

#[path = "policy/mailbox.rs"]
mod mailbox;
