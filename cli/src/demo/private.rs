//! `koinon demo --dp EPSILON`: the hospitals train under record-level privacy, and a referee tells what it
//! costs and whether it holds.
//!
//! The training is the federation's: separate processes, secret draws of patients, noise from every
//! site, each site's own account. The price at another budget and without privacy, and the audit,
//! need many models: the referee trains them with the rows in one place, with the same engine, noise
//! and optimizer (possible only in a demo). Start at [`run`] and [`price`].

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use koinon_aggregation::privacy::Mechanism;
use koinon_client::budget;
use koinon_model::dataset::Dataset;
use koinon_model::features::fitted::FittedFeatures;
use koinon_model::features::prepare::prepare;
use koinon_model::params::Params;
use koinon_proto::TaskManifest;
use koinon_simulations::baselines::{Model, Recipe, read, score};
use koinon_simulations::private::{Steps, Trials, audit, train};
use serde::{Deserialize, Serialize};

use super::federation::Federation;
use super::outcome::{Faults, Round, Score as Figure};
use super::referee::{self, Kept};
use super::screen::Screen;
use super::stage::Stage;
use super::{Arguments, Data, follow, history, report};
use crate::commands::taskfile::{self, Task};
use crate::output::{Format, say_json, thousands};

/// Tells the price of privacy and audits the mechanism.
#[derive(Args)]
pub(crate) struct Price {
    /// The demo's folder.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// Everything that a private demo found out.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) data: String,
    pub(crate) sites: u32,
    pub(crate) rounds: u32,
    /// What the task promised and its sites computed again.
    pub(crate) privacy: Promise,
    #[serde(flatten)]
    pub(crate) found: Found,
    pub(crate) faults: Faults,
    pub(crate) history: Vec<Round>,
    pub(crate) seconds: f64,
    /// Path of the report.
    pub(crate) report: String,
}

/// A bound on what a task tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Promise {
    pub(crate) unit: String,
    pub(crate) epsilon: f64,
    pub(crate) delta: f64,
}

/// What the referee found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    /// The federation's model on the test rows.
    pub(crate) federated: Figure,
    /// Mean AUC without privacy and at two budgets, over models that differ in draws and noise.
    pub(crate) price: Vec<Cost>,
    pub(crate) audit: Audited,
}

/// What a budget costs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// None: no privacy.
    pub(crate) epsilon: Option<f64>,
    pub(crate) noise_multiplier: Option<f64>,
    pub(crate) auc: f64,
    /// Standard deviation over the models.
    pub(crate) deviation: f64,
    pub(crate) models: u32,
}

/// Lower bounds on epsilon by membership inference.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Audited {
    /// What is stated.
    pub(crate) stated: f64,
    pub(crate) confidence: f64,
    /// Proved by the attack at the stated noise.
    pub(crate) bound: f64,
    pub(crate) models: u32,
    /// Proved with a tenth of the noise planted.
    pub(crate) bound_tenth: f64,
    pub(crate) models_tenth: u32,
}

/// The whole demo.
pub(crate) fn run(arguments: &Arguments, epsilon: f64) -> anyhow::Result<()> {
    let started = Instant::now();
    let screen = Screen::new(arguments.format);
    let mut stage = Stage::open(&arguments.dir, arguments.fresh)?;
    screen.step("place", stage.dir.display().to_string());
    let dealt = referee::call_deal(&stage, arguments.data, arguments.seed)?;
    screen.step("referee", dealt.line());
    let mut federation = Federation::found(&mut stage, &screen, &dealt)?;
    let wanted =
        referee::Wanted { data: arguments.data, seed: arguments.seed, epsilon: Some(epsilon) };
    let task = federation.start_task(&mut stage, &screen, &wanted)?;
    let checked = stage.call(&["task", "check", "operator/task"])?;
    for line in checked.lines().filter(|l| l.starts_with("privacy") || l.starts_with("noise")) {
        screen.line(format!("  {line}"));
    }
    let followed = follow::follow(&mut stage, &mut federation.relay, &screen, &task.digest, None)?;
    let version = &followed.view.version;
    stage.call(&["model", "pull", version, "--dir", "operator", "--out", "referee/federated"])?;
    let names = stage.names();
    stage.stop(&names)?;
    screen.step("referee", "trains many more models with the rows in one place, for the price and an audit (possible only in a demo)");
    let found: Found = serde_json::from_str(&stage.call(&["demo-part", "price"])?)
        .context("the referee is not understood")?;

    let promised = followed.view.privacy.clone().context("the task has no privacy")?;
    let report = stage.path("report.html");
    let outcome = Outcome {
        data: arguments.data.name().into(),
        sites: u32::try_from(dealt.sites.len())?,
        rounds: task.rounds,
        privacy: Promise { unit: promised.unit, epsilon: promised.epsilon, delta: promised.delta },
        found,
        faults: followed.faults,
        history: history(&followed.view),
        seconds: started.elapsed().as_secs_f64(),
        report: report.display().to_string(),
    };
    fs::write(&report, report::private_page(&outcome))?;
    match arguments.format {
        Format::Text => tell(&screen, &outcome),
        Format::Json => say_json(&outcome)?,
    }
    Ok(())
}

fn tell(screen: &Screen, o: &Outcome) {
    let Promise { unit, epsilon, delta } = &o.privacy;
    let federated = &o.found.federated;
    screen.line("");
    screen.line(format!(
        "1  together {:.3} [{:.3}–{:.3}] with epsilon at most {epsilon} at delta {delta}, unit {unit} (AUC on all test patients)",
        federated.auc, federated.low, federated.high
    ));
    let price: Vec<String> = o.found.price.iter().map(words).collect();
    screen.line(format!(
        "2  the price: {}   (AUC, mean ± deviation over {} models each)",
        price.join(" → "),
        o.found.price.first().map_or(0, |cost| cost.models)
    ));
    let audited = &o.found.audit;
    screen.line(format!(
        "3  audit: an attacker who sees every sum proves epsilon ≥ {:.2} from {} models, {} is stated",
        audited.bound,
        thousands(audited.models.into()),
        audited.stated
    ));
    screen.line(format!(
        "   with a tenth of the noise planted, the same attacker proves epsilon ≥ {:.2} from {} models{}",
        audited.bound_tenth,
        thousands(audited.models_tenth.into()),
        if audited.bound_tenth > audited.stated { ": it would have been found" } else { ": too few models to find it" }
    ));
    screen.line(format!("\nreport  {}   ({:.0} seconds)", o.report, o.seconds));
}

/// A budget and what it costs, in words.
pub(crate) fn words(cost: &Cost) -> String {
    let budget = cost.epsilon.map_or_else(|| "none".into(), |e| format!("epsilon {e}"));
    format!("{budget} {:.3} ± {:.3}", cost.auc, cost.deviation)
}

/// The referee's part.
pub(crate) fn price(arguments: &Price) -> anyhow::Result<()> {
    let own = arguments.dir.join("referee");
    let kept: Vec<Kept> = serde_json::from_slice(&fs::read(own.join("rows.json"))?)?;
    let task = taskfile::read(&arguments.dir.join("operator/task"))?;
    let bench = Bench::new(&task, &kept)?;
    let layout = bench.recipe.spec.layout();
    let file = fs::read(own.join("federated").join("params.safetensors"))?;
    let federated = bench.score(Params::from_safetensors(layout, &file)?)?;
    let privacy = task.manifest.privacy.context("the task has no privacy")?;
    let budgets = [None, Some(privacy.epsilon), Some(privacy.epsilon / 4.0)];
    let price = budgets.map(|epsilon| bench.cost(epsilon)).into_iter().collect::<Result<_, _>>()?;
    say_json(&Found { federated, price, audit: bench.audit()? })
}

/// Rows and settings for many models.
struct Bench<'a> {
    recipe: Recipe<'a>,
    manifest: &'a TaskManifest,
    train: Dataset,
    test: koinon_model::features::table::Table,
}

impl<'a> Bench<'a> {
    fn new(task: &'a Task, kept: &[Kept]) -> anyhow::Result<Self> {
        let (Some(spec), Some(features), Some(training)) =
            (&task.spec, &task.features, &task.training)
        else {
            anyhow::bail!("the task names no model, features or training plan");
        };
        let manifest = &task.manifest;
        let recipe =
            Recipe { spec, features, training, rounds: manifest.rounds, seed: manifest.seed };
        let table = referee::source(Data::Hospitals).table()?;
        let rows = |part: fn(&Kept) -> &Vec<usize>| -> Vec<usize> {
            kept.iter().flat_map(part).copied().collect()
        };
        let train = read(features, &table, &rows(|k| &k.train))?;
        let test = read(features, &table, &rows(|k| &k.test))?;
        let fitted = FittedFeatures::public(features).context("the features need fitting")?;
        let train = prepare(&train, features, &fitted)?.dataset;
        Ok(Self { recipe, manifest, train, test })
    }

    fn score(&self, params: Params) -> anyhow::Result<Figure> {
        let fitted = FittedFeatures::public(self.recipe.features);
        let fitted = fitted.context("the features need fitting")?;
        let interval = score(&self.recipe, &Model { params, fitted }, &self.test)?;
        Ok(Figure { auc: interval.value, low: interval.low, high: interval.high })
    }

    /// The task's mechanism with the noise for another epsilon.
    fn mechanism(&self, epsilon: f64) -> anyhow::Result<Mechanism> {
        let dimension = self.recipe.spec.layout().trainable();
        let mut manifest = self.manifest.clone();
        let mut privacy = manifest.privacy.context("the task has no privacy")?;
        privacy.epsilon = epsilon;
        manifest.privacy = Some(privacy);
        let planned = budget::plan_noise(&manifest, dimension).context("no privacy")??;
        privacy.noise_multiplier = Some(planned.step.noise_multiplier);
        manifest.privacy = Some(privacy);
        budget::mechanism(&manifest, dimension).context("the task has no privacy")
    }

    fn steps(&self, mechanism: Mechanism, variance: Option<f64>, batch: f64) -> Steps<'_> {
        Steps {
            spec: self.recipe.spec,
            training: self.recipe.training,
            optimizer: self.manifest.server_optimizer,
            rounds: self.manifest.rounds,
            mechanism,
            variance,
            batch,
        }
    }

    /// Models that differ in nothing but draws and noise.
    fn cost(&self, epsilon: Option<f64>) -> anyhow::Result<Cost> {
        let privacy = self.manifest.privacy.context("the task has no privacy")?;
        let planned = self.mechanism(epsilon.unwrap_or(privacy.epsilon))?;
        let steps = match epsilon {
            Some(_) => {
                // All sites add noise, not only those that count.
                let sites = f64::from(self.manifest.cohort.max);
                let variance = planned.share()?.variance() * sites;
                let batch = privacy.expected_batch().context("the unit is no record")?;
                self.steps(planned, Some(variance), batch)
            }
            None => {
                let plain = Mechanism { sampling_rate: 1.0, clip: f64::MAX, ..planned };
                self.steps(plain, None, self.train.rows() as f64)
            }
        };
        let mut figures = Vec::new();
        for seed in 0..MODELS {
            let seed = [u8::try_from(seed).unwrap_or(0); 32];
            let params = train(&steps, &self.train, seed, &mut |_, _| Ok(()))?;
            figures.push(self.score(params)?.auc);
        }
        let n = figures.len() as f64;
        let auc = figures.iter().sum::<f64>() / n;
        let deviation = (figures.iter().map(|f| (f - auc).powi(2)).sum::<f64>() / n).sqrt();
        let noise_multiplier = epsilon.map(|_| planned.noise_multiplier);
        Ok(Cost { epsilon, noise_multiplier, auc, deviation, models: MODELS })
    }

    /// At the stated noise of the sites that count, and at a tenth of it.
    fn audit(&self) -> anyhow::Result<Audited> {
        let privacy = self.manifest.privacy.context("the task has no privacy")?;
        let mechanism = self.mechanism(privacy.epsilon)?;
        let batch = privacy.expected_batch().context("the unit is no record")?;
        let honest = mechanism.share()?.variance() * f64::from(mechanism.sites_honest);
        // The bound holds for any table; a small one is quick to train on many times.
        let few = self.train.select(&(0..AUDIT_ROWS).collect::<Vec<_>>());
        let bound = |part: f64, each: u32| {
            let steps = self.steps(mechanism, Some(honest * part * part), batch);
            let (seed, delta) = (self.manifest.seed, privacy.delta);
            audit(&steps, &few, &Trials { each, seed, delta, confidence: CONFIDENCE })
        };
        let each = trials_for(privacy.epsilon);
        Ok(Audited {
            stated: privacy.epsilon,
            confidence: CONFIDENCE,
            bound: bound(1.0, AUDIT_MODELS)?.epsilon,
            models: 2 * AUDIT_MODELS,
            bound_tenth: bound(0.1, each)?.epsilon,
            models_tenth: 2 * each,
        })
    }
}

/// Trials of each kind that can prove more than `epsilon`: none of the others may be taken for a
/// member in the half that proves, and 3.7 over their number is what that shows at best.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a small number"
)]
fn trials_for(epsilon: f64) -> u32 {
    (2.0 * 3.7 * (epsilon + 0.3).exp()).clamp(2_000.0, TRIALS_MAX) as u32
}

/// Models for each budget's price.
const MODELS: u32 = 20;
/// Patients in an audited table, beside the planted record.
const AUDIT_ROWS: usize = 8;
/// Models of each kind at the stated noise.
const AUDIT_MODELS: u32 = 3_000;
/// Most models of each kind with noise that is too small.
const TRIALS_MAX: f64 = 40_000.0;
/// With which the audit's bounds hold.
const CONFIDENCE: f64 = 0.95;
