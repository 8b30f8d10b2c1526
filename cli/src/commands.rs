//! The sub-commands, one file each. They parse, call a role's library and say what came out.

#[cfg(feature = "client")]
pub(crate) mod client;
pub(crate) mod consortium;
#[cfg(feature = "coordinator")]
pub(crate) mod coordinator;
#[cfg(feature = "client")]
pub(crate) mod infer;
#[cfg(feature = "client")]
pub(crate) mod join;
#[cfg(feature = "client")]
pub(crate) mod ledger;
#[cfg(feature = "client")]
pub(crate) mod model;
#[cfg(feature = "client")]
pub(crate) mod operator;
#[cfg(feature = "partition")]
pub(crate) mod partition;
pub(crate) mod roster;
#[cfg(feature = "simulate")]
pub(crate) mod simulate;
#[cfg(feature = "client")]
pub(crate) mod task;
#[cfg(feature = "client")]
pub(crate) mod view;
