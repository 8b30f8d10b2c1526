//! The stage for lying sites: the shipped coordinator, driven by frames.
//!
//! The world of the coordinator's own tests.

#[expect(dead_code, reason = "the coordinator's own tests use the rest")]
#[path = "../../../coordinator/tests/it/site.rs"]
mod site;
#[expect(dead_code, reason = "the coordinator's own tests use the rest")]
#[path = "../../../coordinator/tests/it/world.rs"]
mod world;

pub(crate) use site::Question;
pub(crate) use world::{World, manifest};

use koinon_proto::Digest;

/// Lets the world go on until `done` or for so many steps; whether it was done.
pub(crate) fn within(steps: usize, world: &mut World, done: impl Fn(&World) -> bool) -> bool {
    (0..steps).any(|_| done(world) || !world.step() && done(world))
}

/// Whether the task has ended.
pub(crate) fn ended(world: &World, task: &Digest) -> bool {
    world.core.status(task).is_some_and(|s| s.state != "waiting" && s.state != "running")
}
