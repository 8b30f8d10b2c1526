//! Scenarios from the folder `scenarios`, run for fewer seeds than a release is.

use koinon_simulations::report::{Report, summary};
use koinon_simulations::scenario::Scenario;
use koinon_simulations::{Bug, Simulation, run_many};
use std::path::PathBuf;

fn scenario(name: &str, sets: &[&str]) -> Scenario {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name);
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    Scenario::load(&path, &sets).unwrap()
}

fn run(scenario: &Scenario, seed: u64) -> Report {
    Simulation::new(scenario, seed).unwrap().traced().run().unwrap()
}

/// Panics with the trace's end: what to look at first.
fn assert_clean(report: &Report) {
    let shown: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
    let tail = report.trace.len().saturating_sub(60);
    assert!(shown.is_empty(), "{}\n{}", shown.join("\n"), report.trace[tail..].join("\n"));
}

#[test]
fn a_quiet_task_goes_through() {
    let report = run(&scenario("smoke.toml", &[]), 0);
    assert_clean(&report);
    assert_eq!(report.state, "done", "{}\n{}", report.reason, report.trace.join("\n"));
    let kinds: Vec<&str> = report.rounds.iter().map(|row| row.kind).collect();
    assert_eq!(kinds, ["statistics", "train", "train", "evaluate"]);
    assert!(report.rounds.iter().all(|row| row.participants == 6 && row.outcome == "committed"));
    assert_eq!(report.counts.sums_checked, 4);
    assert!(report.counts.words_tested > 4 * 6 * 10 && report.counts.replays_checked > 3);
}
