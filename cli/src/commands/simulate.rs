//! `koinon simulate`: the shipped coordinator and clients in one thread, under one seed, in virtual time.

use std::io::{IsTerminal as _, Write as _};
use std::ops::Range;
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use koinon_simulations::error::SimError;
use koinon_simulations::report::{self, Report};
use koinon_simulations::scenario::{Scenario, TEMPLATE};
use koinon_simulations::{Simulation, run_many};

use crate::exit::{Exit, OrExit as _, fail};
use crate::output::{say, say_json};

/// How the reports are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// A line a seed.
    Text,
    /// A row a round.
    Csv,
    /// An object a seed, and for several seeds one with the means.
    Json,
}

/// What to simulate.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The scenario's file (TOML).
    #[arg(required_unless_present = "template")]
    scenario: Option<PathBuf>,
    /// Run one seed.
    #[arg(long, default_value_t = 0, conflicts_with = "seeds")]
    seed: u64,
    /// Run many: FIRST..END, without END.
    #[arg(long, value_parser = seeds)]
    seeds: Option<Range<u64>>,
    /// Change a key of the scenario, as in --set task.rounds=20.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Threads for many seeds; what comes out does not depend on them. 0 = one a core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Text, a CSV row a round, or JSON.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    format: Output,
    /// With one seed: a line for every event.
    #[arg(long, conflicts_with = "seeds")]
    trace: bool,
    /// Print a scenario with every key explained, and end.
    #[arg(long)]
    template: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text.split_once("..").ok_or("expected FIRST..END, as in 0..1000")?;
    let first: u64 = first.parse().map_err(|e| format!("{first}: {e}"))?;
    let end: u64 = end.parse().map_err(|e| format!("{end}: {e}"))?;
    if first < end { Ok(first..end) } else { Err("END must be above FIRST".into()) }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.template {
        say(TEMPLATE.trim_end());
        return Ok(());
    }
    let path = arguments.scenario.as_ref().ok_or_else(|| fail(Exit::Usage, "no scenario"))?;
    let scenario = Scenario::load(path, &arguments.sets).or_code(exit_code)?;
    if arguments.format == Output::Csv {
        say(report::CSV_HEADER.trim_end());
    }
    let reports = match &arguments.seeds {
        None => {
            let mut simulation = Simulation::new(&scenario, arguments.seed).or_code(exit_code)?;
            if arguments.trace {
                simulation = simulation.traced();
            }
            let report = simulation.run().or_code(exit_code)?;
            report.trace.iter().for_each(say);
            show(&report, arguments.format)?;
            vec![report]
        }
        Some(seeds) => many(arguments, &scenario, seeds)?,
    };
    let failing: Vec<&Report> = reports.iter().filter(|r| !r.violations.is_empty()).collect();
    if failing.is_empty() {
        return Ok(());
    }
    let mut out = std::io::stderr().lock();
    for violation in failing.iter().flat_map(|r| &r.violations) {
        writeln!(out, "{violation}")?;
    }
    Err(fail(
        Exit::Verification,
        format!(
            "{} of {} seeds broke a rule; each is shown with the command that replays it",
            failing.len(),
            reports.len()
        ),
    ))
}

fn many(
    arguments: &Arguments,
    scenario: &Scenario,
    seeds: &Range<u64>,
) -> anyhow::Result<Vec<Report>> {
    let threads = match arguments.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let bar = ProgressBar::new(seeds.end - seeds.start);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{bar:34} {pos}/{len} seeds, {eta} left") {
        bar.set_style(style);
    }
    let mut trouble = Ok(());
    let reports = run_many(scenario, seeds.clone(), threads, |report| {
        bar.suspend(|| {
            if trouble.is_ok() {
                trouble = show(report, arguments.format);
            }
        });
        bar.inc(1);
    });
    bar.finish_and_clear();
    trouble?;
    let reports = reports.or_code(exit_code)?;
    match arguments.format {
        Output::Json => say_json(&report::summary(&reports))?,
        Output::Text => say(report::summary(&reports).to_string()),
        Output::Csv => {}
    }
    Ok(reports)
}

fn show(report: &Report, format: Output) -> anyhow::Result<()> {
    match format {
        Output::Text => say(report.line()),
        Output::Csv => say(report.csv().trim_end()),
        Output::Json => say_json(&report.json())?,
    }
    Ok(())
}

fn exit_code(error: &SimError) -> u8 {
    match error {
        SimError::Data(_) => Exit::Data as u8,
        _ => Exit::Config as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_seeds() {
        assert_eq!(seeds("0..1000"), Ok(0..1000));
        for wrong in ["5", "5..5", "7..5", "a..b", ".."] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
    }
}
