//! The referee: outside the federation, possible only in a demo. It deals the rows of an embedded table out to the sites'
//! folders, keeps the test rows to itself, and at the end scores every model on the union of them.
//!
//! It is a process of its own and talks to nobody; after dealing, nobody reads another's folder. Start at [`deal`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use koinon_model::features::fitted::FittedFeatures;
use koinon_model::metrics::auc::Interval;
use koinon_model::params::Params;
use koinon_simulations::baselines::{Model, Recipe, compare};
use koinon_simulations::population::{self, Partition, SiteRows, Table};
use serde::{Deserialize, Serialize};

use super::Data;
use super::outcome::Score as Figure;
use super::stage::Stage;
use crate::commands::task::{Example, example_files};
use crate::commands::taskfile;
use crate::commands::view::TaskView;
use crate::output::say_json;

/// Share of each site's rows that the referee keeps.
const TEST_SHARE: f64 = 0.3;

/// Deals rows out.
#[derive(Args)]
pub(crate) struct Deal {
    /// The table.
    #[arg(value_enum)]
    data: Data,
    /// Who tests on which rows.
    #[arg(long)]
    seed: u64,
    /// The demo's folder.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// Scores all models.
#[derive(Args)]
pub(crate) struct Score {
    /// The table.
    #[arg(value_enum)]
    data: Data,
    /// The demo's folder.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// What was dealt.
#[derive(Serialize, Deserialize)]
pub(crate) struct Dealt {
    pub(crate) sites: Vec<String>,
    train_rows: usize,
    test_rows: usize,
}

impl Dealt {
    /// One line for the screen.
    pub(crate) fn line(&self) -> String {
        format!(
            "possible only in a demo: dealt {} rows out to {} sites and keeps {} test rows",
            self.train_rows,
            self.sites.len(),
            self.test_rows
        )
    }
}

/// All models' figures.
#[derive(Serialize, Deserialize)]
pub(crate) struct Scores {
    pub(crate) federated: Figure,
    pub(crate) pooled: Figure,
    pub(crate) alone_median: Figure,
    pub(crate) alone_worst: f64,
    pub(crate) alone: BTreeMap<String, f64>,
}

/// The referee's memory between dealing and scoring: positions of rows in the table.
#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) name: String,
    pub(crate) train: Vec<usize>,
    pub(crate) test: Vec<usize>,
}

/// The task that a demo wants.
pub(crate) struct Wanted {
    pub(crate) data: Data,
    pub(crate) seed: u64,
    /// Of record-level privacy, if there is to be any.
    pub(crate) epsilon: Option<f64>,
}

pub(crate) struct Source {
    table: &'static str,
    site_column: &'static str,
    label: &'static str,
    example: Example,
}

pub(crate) fn source(data: Data) -> Source {
    match data {
        Data::Hospitals => Source {
            table: include_str!("../../../data/tcga-luad/table.csv"),
            site_column: "hospital",
            label: "keap1_mutated",
            example: Example::Hospitals,
        },
        Data::Banks => Source {
            table: include_str!("../../../data/sba-loans/table.csv"),
            site_column: "bank",
            label: "charged_off",
            example: Example::Banks,
        },
    }
}

impl Source {
    pub(crate) fn table(&self) -> anyhow::Result<Table> {
        Table::from_csv(self.table.as_bytes()).context("the embedded table")
    }
}

/// Runs the referee's first part as a process.
pub(crate) fn call_deal(stage: &Stage, data: Data, seed: u64) -> anyhow::Result<Dealt> {
    let printed = stage.call(&["demo-part", "deal", data.name(), "--seed", &seed.to_string()])?;
    serde_json::from_str(&printed).context("the referee is not understood")
}

/// Deals: each site's training rows into its own folder, the rest stays here.
pub(crate) fn deal(arguments: &Deal) -> anyhow::Result<()> {
    let source = source(arguments.data);
    let table = source.table()?;
    let partition = Partition::Column { column: source.site_column.into() };
    let sites = population::deal(&table, &partition, source.label, TEST_SHARE, arguments.seed)?;
    for site in &sites {
        let folder = arguments.dir.join(&site.name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("data.csv"), table.to_csv(&site.train))?;
    }
    let kept: Vec<Kept> = sites
        .iter()
        .map(|s| Kept { name: s.name.clone(), train: s.train.clone(), test: s.test.clone() })
        .collect();
    let own = arguments.dir.join("referee");
    fs::create_dir_all(&own)?;
    fs::write(own.join("rows.json"), serde_json::to_vec(&kept)?)?;
    say_json(&Dealt {
        train_rows: sites.iter().map(|s| s.train.len()).sum(),
        test_rows: sites.iter().map(|s| s.test.len()).sum(),
        sites: sites.into_iter().map(|s| s.name).collect(),
    })
}

/// Writes the task's files with this demo's seed and number of sites.
pub(crate) fn write_task(folder: &Path, wanted: &Wanted, sites: usize) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let seed = wanted.seed;
    let example = match wanted.epsilon {
        Some(_) => Example::HospitalsPrivate,
        None => source(wanted.data).example,
    };
    for (name, text) in example_files(example) {
        let lines = text.lines().map(|line| match line.split('=').next().map(str::trim) {
            Some("seed") => format!("seed = {seed}"),
            Some("epsilon") => format!("epsilon = {:?}", wanted.epsilon.unwrap_or(8.0)),
            Some("init_from") => format!("init_from = {{ fresh = {{ seed = {seed} }} }}"),
            _ => line.to_owned(),
        });
        fs::write(folder.join(name), lines.collect::<Vec<_>>().join("\n") + "\n")?;
    }
    let task = taskfile::read(folder)?;
    anyhow::ensure!(
        usize::from(task.manifest.cohort.max) >= sites,
        "the example's cohort is smaller than the number of sites"
    );
    Ok(())
}

/// Fetches the federated model as an operator may, and runs the referee's second part.
pub(crate) fn call_score(stage: &Stage, view: &TaskView, data: Data) -> anyhow::Result<Scores> {
    stage.call(&[
        "model",
        "pull",
        &view.version,
        "--dir",
        "operator",
        "--out",
        "referee/federated",
    ])?;
    let printed = stage.call(&["demo-part", "score", data.name()])?;
    serde_json::from_str(&printed).context("the referee is not understood")
}

/// Scores the federated, the pooled and every site's own model on the union of test rows.
pub(crate) fn score(arguments: &Score) -> anyhow::Result<()> {
    let own = arguments.dir.join("referee");
    let kept: Vec<Kept> = serde_json::from_slice(&fs::read(own.join("rows.json"))?)?;
    let names: Vec<String> = kept.iter().map(|k| k.name.clone()).collect();
    let rows: Vec<SiteRows> =
        kept.into_iter().map(|k| SiteRows { name: k.name, train: k.train, test: k.test }).collect();
    let table = source(arguments.data).table()?;
    let task = taskfile::read(&arguments.dir.join("operator/task"))?;
    let (Some(spec), Some(features), Some(training)) = (&task.spec, &task.features, &task.training)
    else {
        anyhow::bail!("the task names no model, features or training plan");
    };
    let model = own.join("federated");
    let params =
        Params::from_safetensors(spec.layout(), &fs::read(model.join("params.safetensors"))?)?;
    let fitted = FittedFeatures::from_canonical(features, &fs::read(model.join("fitted.json"))?)?;
    let recipe =
        Recipe { spec, features, training, rounds: task.manifest.rounds, seed: task.manifest.seed };
    let scores = compare(&recipe, &table, &rows, &Model { params, fitted })?;
    let figure = |i: &Interval| Figure { auc: i.value, low: i.low, high: i.high };
    // The interval shown for "alone" is that of the site nearest to the median.
    let middle = scores
        .alone
        .iter()
        .min_by(|a, b| {
            (a.value - scores.alone_median).abs().total_cmp(&(b.value - scores.alone_median).abs())
        })
        .context("no site was scored")?;
    say_json(&Scores {
        federated: figure(&scores.federated),
        pooled: figure(&scores.pooled),
        alone_median: Figure { auc: scores.alone_median, low: middle.low, high: middle.high },
        alone_worst: scores.alone_worst,
        alone: names.into_iter().zip(scores.alone.iter().map(|i| i.value)).collect(),
    })
}
