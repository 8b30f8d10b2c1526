//! `koinon demo`: the main job, as real separate processes on this machine.
//!
//! One coordinator, a client node per site, a partition server and a counting relay, all started with the same commands that a
//! person would type; a referee that exists only in a demo deals the rows out and keeps the score. Start at [`run`]: it reads
//! like the programme of an evening.

mod audit;
mod federation;
mod follow;
mod outcome;
mod private;
mod referee;
mod relay;
mod report;
mod screen;
mod split;
mod stage;
mod story;

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};

use crate::exit::{Exit, fail};
use crate::output::Format;
use federation::Federation;
use follow::FaultPlan;
use outcome::{Alone, Outcome, Round};
use referee::Scores;
use screen::Screen;
use stage::Stage;

/// What to run, and where.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder for everything the demo makes; refused if it exists.
    #[arg(long, default_value = "koinon-demo")]
    dir: PathBuf,
    /// Replace the folder of an earlier demo.
    #[arg(long)]
    fresh: bool,
    /// Which federation: sixteen hospitals (lung tumours, keap1_mutated) or twelve banks (loans, charged_off).
    #[arg(long, value_enum, default_value_t = Data::Hospitals)]
    data: Data,
    /// Governs who tests on which rows, initialisation and batch order; never keys or masks.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Train under differential privacy of each patient with this epsilon (hospitals; at most 10, which is what a site's
    /// policy permits unless it says otherwise), show its price in AUC and audit it. Nobody is killed.
    #[arg(long, value_name = "EPSILON", value_parser = epsilon)]
    dp: Option<f64>,
    /// Kill nobody.
    #[arg(long)]
    no_faults: bool,
    /// Text for people, or one JSON object on standard output (progress on standard error).
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// The embedded tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Data {
    /// TCGA-LUAD: 437 patients of 16 hospitals.
    Hospitals,
    /// SBA: 24,000 loans of 12 banks.
    Banks,
}

impl Data {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Data::Hospitals => "hospitals",
            Data::Banks => "banks",
        }
    }
}

/// Parts of the demo that are processes of their own.
#[derive(Subcommand)]
pub(crate) enum Part {
    /// Count and pass on the bytes of lines, each NAME=ADDRESS:PORT.
    Relay {
        /// The lines.
        lines: Vec<relay::Line>,
    },
    /// Possible only in a demo: the referee deals rows out to the sites' folders and keeps the test rows.
    Deal(referee::Deal),
    /// Possible only in a demo: the referee scores all models on the union of test rows.
    Score(referee::Score),
    /// Possible only in a demo: the referee trains many models with the rows in one place.
    Price(private::Price),
}

/// Runs one part.
pub(crate) fn part(part: Part) -> anyhow::Result<()> {
    match part {
        Part::Relay { lines } => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(relay::run(lines)),
        Part::Deal(arguments) => referee::deal(&arguments),
        Part::Score(arguments) => referee::score(&arguments),
        Part::Price(arguments) => private::price(&arguments),
    }
}

/// The whole demo.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(epsilon) = arguments.dp {
        if arguments.data != Data::Hospitals {
            return Err(fail(Exit::Usage, "--dp trains the hospitals' model; leave --data out"));
        }
        return private::run(arguments, epsilon);
    }
    let started = Instant::now();
    let screen = Screen::new(arguments.format);
    let mut stage = Stage::open(&arguments.dir, arguments.fresh)?;
    screen.step("place", stage.dir.display().to_string());

    let dealt = referee::call_deal(&stage, arguments.data, arguments.seed)?;
    screen.step("referee", dealt.line());
    let mut federation = Federation::found(&mut stage, &screen, &dealt)?;
    let wanted = referee::Wanted { data: arguments.data, seed: arguments.seed, epsilon: None };
    let task = federation.start_task(&mut stage, &screen, &wanted)?;

    let plan =
        (!arguments.no_faults).then(|| fault_plan(arguments.data, &dealt.sites, task.rounds));
    let followed = follow::follow(&mut stage, &mut federation.relay, &screen, &task.digest, plan)?;

    screen.step("referee", "scores all models on the test rows it kept (possible only in a demo)");
    let scores = referee::call_score(&stage, &followed.view, arguments.data)?;
    let (split, sent) = split::run(&mut stage, &mut federation, &screen, &followed.view)?;
    let audit = audit::run(&mut stage, &mut federation, &screen, &task, &followed, &sent)?;

    let report = stage.path("report.html");
    let outcome = Outcome {
        data: arguments.data.name().into(),
        sites: u32::try_from(dealt.sites.len())?,
        rounds: task.rounds,
        federated: scores.federated,
        pooled: scores.pooled,
        alone: alone(&scores),
        split,
        ledger: audit.ledger,
        transport: audit.transport,
        relay: audit.relay,
        lost_versions: audit.lost_versions,
        lost_updates: audit.lost_updates,
        bytes_up_per_site_round: audit.bytes_up_per_site_round,
        masking: audit.masking,
        history: history(&followed.view),
        faults: followed.faults,
        seconds: started.elapsed().as_secs_f64(),
        report: report.display().to_string(),
    };
    let checks = story::checks(&arguments.dir, &outcome);
    std::fs::write(&report, report::page(&outcome, &checks))?;
    match arguments.format {
        Format::Text => story::tell(&screen, &outcome, &checks),
        Format::Json => crate::output::say_json(&outcome)?,
    }
    Ok(())
}

fn epsilon(text: &str) -> Result<f64, String> {
    let epsilon: f64 = text.parse().map_err(|_| "a number above 0, at most 10".to_owned())?;
    if epsilon > 0.0 && epsilon <= 10.0 { Ok(epsilon) } else { Err("above 0, at most 10".into()) }
}

/// One site dies a third of the way, the coordinator at two thirds. The measured site is left alone, so that its counts span
/// one process from start to end.
fn fault_plan(data: Data, sites: &[String], rounds: u32) -> FaultPlan {
    let victim = sites[sites.len() * 2 / 3].clone();
    let slow = sites[sites.len() - 1].clone();
    // About three seconds for an upload of either table.
    let slow_line = match data {
        Data::Hospitals => 24_000,
        Data::Banks => 3_000,
    };
    let site = (victim, (rounds / 3).max(1));
    FaultPlan { site, coordinator: ((rounds * 2 / 3).max(1), slow), slow_line }
}

fn alone(scores: &Scores) -> Alone {
    Alone {
        auc_median: scores.alone_median.auc,
        low: scores.alone_median.low,
        high: scores.alone_median.high,
        auc_worst: scores.alone_worst,
        by_site: scores.alone.clone(),
    }
}

fn history(view: &crate::commands::view::TaskView) -> Vec<Round> {
    let origin = view.history.first().map_or(0, |r| r.started_ms);
    view.history
        .iter()
        .map(|r| Round {
            round: r.round,
            kind: r.kind.clone(),
            outcome: r.outcome.clone(),
            participants: r.participants,
            seconds: r.seconds,
            started_seconds: r.started_ms.saturating_sub(origin) as f64 / 1000.0,
            loss: r.loss,
            validation_auc: r.validation_auc,
        })
        .collect()
}
