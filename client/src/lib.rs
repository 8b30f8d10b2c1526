//! Koinon's client: a site's part in rounds, its veto, its data, and the record of what left it.
//!
//! A library first: [`participant::Participant`] is the state machine of a site's part in rounds, and
//! a program that has its own transport, disk and training (a hospital's PACS, a bank's scheduler)
//! embeds it with its own [`trainer::Trainer`]; `examples/embed.rs` shows how. The daemon in `node`
//! (feature `grpc`) is one such program.
//!
//! - [`participant`]: rounds, from invitation to reveal. Touches no world.
//! - [`policy`]: what the site permits; the last word is the site's.
//! - [`egress`] and [`ledger`]: the one door out, and the record of all that passed it.
//! - [`trainer`], [`algorithm`], `engine`: local work. [`features`] and [`source`]: rows.
//! - `split` and `infer`: answers from a model, cut or whole; `plan`: where it should be cut; `leakage`: what a cut tells.
//! - [`report`]: the site's own figures.
//!
//! What never leaves a site has no wire form: contributions and data sets have neither `Debug` nor
//! `Serialize` (see [`trainer`]). Deliberately not here: an inbound port for the coordinator (sites
//! only dial out), code that comes from outside, and any decision by the coordinator's clock.

pub mod algorithm;
pub mod budget;
pub mod durable;
pub mod egress;
#[cfg(feature = "engine")]
pub mod engine;
pub mod error;
pub mod features;
#[cfg(feature = "engine")]
pub mod infer;
#[cfg(feature = "engine")]
pub mod leakage;
pub mod ledger;
#[cfg(feature = "grpc")]
pub mod node;
pub mod participant;
#[cfg(feature = "engine")]
pub mod plan;
pub mod policy;
pub mod report;
pub mod source;
#[cfg(feature = "engine")]
pub mod split;
pub mod trainer;

pub use error::{Error, Fault, Refusal};
pub use participant::{Effect, Event, Participant, Setup};
pub use policy::Policy;
