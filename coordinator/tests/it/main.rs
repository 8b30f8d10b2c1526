//! Whole rounds in memory: the real coordinator core, and sites that are nothing but the private
//! sum's own client sessions.
//!
//! `world` carries frames, keeps the journal and the blobs, lets time pass and crashes the
//! coordinator between any two effects; `site` is an honest site with switches. The rest are tests.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop at once")]

mod ahead;
mod hostile;
mod joining;
mod large;
mod lifecycle;
mod private;
mod replay;
mod rounds;
mod site;
mod world;
