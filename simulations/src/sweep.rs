//! Many seeds over several threads, in the order of the seeds.
//!
//! Each seed is a run of its own; threads only share the scenario. What is found does not depend on
//! how many there are. Start at [`run_many`].

use crate::Simulation;
use crate::error::SimError;
use crate::report::Report;
use crate::scenario::Scenario;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

/// Runs every seed of a range on `threads` threads and gives the reports in the order of the seeds.
/// `on_report` sees each report in that same order, as soon as all before it are there.
///
/// The first error, in the order of the seeds, ends the sweep.
pub fn run_many(
    scenario: &Scenario,
    seeds: Range<u64>,
    threads: usize,
    mut on_report: impl FnMut(&Report),
) -> Result<Vec<Report>, SimError> {
    let next = AtomicU64::new(seeds.start);
    let (done, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (done, next, end) = (done.clone(), &next, seeds.end);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || done.send((seed, one(scenario, seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let mut waiting = BTreeMap::new();
        let mut reports = Vec::new();
        for (seed, result) in results {
            waiting.insert(seed, result);
            while let Some(result) = waiting.remove(&(seeds.start + reports.len() as u64)) {
                let report = result?;
                on_report(&report);
                reports.push(report);
            }
        }
        Ok(reports)
    })
}

fn one(scenario: &Scenario, seed: u64) -> Result<Report, SimError> {
    Simulation::new(scenario, seed)?.run()
}
