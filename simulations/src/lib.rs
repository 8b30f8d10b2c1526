//! Koinon's simulator: the shipped coordinator and the shipped clients in one thread, from one seed.
//!
//! A [`scenario::Scenario`] says what the sites train on, how rows become sites, what the task is,
//! how the network behaves and what goes wrong on purpose. A [`Simulation`] runs one seed of it in
//! virtual time and gives a [`report::Report`]: a row per round, scores where asked for, and every
//! violation of the rules in `checker`. Same scenario, same seed: same bytes.
//!
//! ```
//! use koinon_simulations::{Simulation, scenario::{Scenario, TEMPLATE}};
//! use std::path::Path;
//!
//! let sets = ["task.rounds=2".to_owned(), "score=false".to_owned()];
//! let scenario = Scenario::parse(TEMPLATE, "template", Path::new("."), &sets)?;
//! let report = Simulation::new(&scenario, 7)?.run()?;
//! assert_eq!(report.state, "done");
//! assert!(report.violations.is_empty());
//! let rounds: Vec<&str> = report.rounds.iter().map(|row| row.kind).collect();
//! assert_eq!(rounds, ["statistics", "train", "train", "evaluate"]);
//! # Ok::<(), koinon_simulations::error::SimError>(())
//! ```
//!
//! It reimplements nothing: no second protocol, no "if simulated" in a core. It is deliberately not
//! a benchmark (virtual time says nothing about real seconds) and not a proof (it finds what its
//! seeds reach). There is no socket and no async runtime below it.
//!
//! Start at [`scenario::TEMPLATE`], the example `fedavg`, and `world` for how it works inside.

mod arithmetic;
pub mod baselines;
mod checker;
pub mod error;
pub mod fault;
mod hub;
mod liars;
mod material;
pub mod memory;
pub mod network;
mod oracle;
mod planted;
pub mod population;
pub mod private;
pub mod queue;
pub mod report;
pub mod scenario;
pub mod seeds;
mod simulation;
mod site;
mod sweep;
pub mod synthetic;
pub mod task;
mod trace;
pub mod uniform;
mod world;

#[doc(hidden)]
pub use planted::Bug;
pub use simulation::Simulation;
pub use sweep::run_many;
