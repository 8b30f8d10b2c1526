//! An experiment in thirty lines: does averaging bear labels that are skewed between sites?
//!
//! `cargo run --release --example fedavg -p koinon-simulations`

use koinon_simulations::run_many;
use koinon_simulations::scenario::Scenario;
use std::error::Error;
use std::io::Write as _;
use std::path::Path;

const SCENARIO: &str = include_str!("../../scenarios/dirichlet.toml");

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:>6}  {:>9}  {:>6}  {:>5}", "alpha", "federated", "pooled", "alone")?;
    for alpha in [100.0, 1.0, 0.3] {
        let sets = [format!("partition.alpha={alpha}"), "task.rounds=8".to_owned()];
        let scenario = Scenario::parse(SCENARIO, "dirichlet.toml", Path::new("."), &sets)?;
        let reports = run_many(&scenario, 0..4, 2, |_| {})?;
        let scores: Vec<_> = reports.iter().filter_map(|r| r.scores.as_ref()).collect();
        let mean = |f: fn(&koinon_simulations::baselines::Scores) -> f64| {
            scores.iter().map(|s| f(s)).sum::<f64>() / scores.len() as f64
        };
        let federated = mean(|s| s.federated.value);
        let (pooled, alone) = (mean(|s| s.pooled.value), mean(|s| s.alone_median));
        writeln!(out, "{alpha:>6}  {federated:>9.3}  {pooled:>6.3}  {alone:>5.3}")?;
    }
    Ok(())
}
