//! The trainer on Koinon's engine: a site's rows, prepared once per feature plan and fit, and the
//! jobs of a round computed from them.
//!
//! It holds rows in memory and nothing else; where they come from is a closure of the caller's (a
//! file read by [`crate::features::read_table`], a database). It deliberately decides nothing about
//! rounds. Start at [`SiteTrainer::new`].

use koinon_model::contribution::{Contribution, RoundKind};
use koinon_model::dataset::Dataset;
use koinon_model::digest::Digest;
use koinon_model::engine::{self, Engine, EngineError, Picked, RowSum, TrainOptions};
use koinon_model::features::prepare::{ImputationReport, prepare};
use koinon_model::features::statistics::local_statistics;
use koinon_model::features::table::{Purpose, Table};
use koinon_model::features::{FeatureError, FeaturePlan};
use koinon_model::loss::TrainData;
use koinon_model::metrics::evaluation::EvaluationSums;
use koinon_model::params::Params;
use koinon_model::plan::TrainingPlan;
use koinon_model::sampling::Records;
use koinon_model::spec::CheckedSpec;
use koinon_proto::task::{Privacy, PrivacyUnit};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

use crate::algorithm::{Fit, chosen};
use crate::report::Figures;
use crate::source::DataError;
use crate::trainer::{Job, Trainer, Work, WorkError};

/// Reads the site's table by a feature plan, for [`Purpose::Learn`] or, where the task is private,
/// [`Purpose::LearnPrivately`]. Called once per plan, fit and purpose.
pub type ReadRows = dyn FnMut(&FeaturePlan, Purpose) -> Result<Table, DataError> + Send;

/// A [`Trainer`] on the engine.
pub struct SiteTrainer {
    read: Box<ReadRows>,
    prepared: Option<Rows>,
}

/// The site's rows, ready for the engine.
struct Rows {
    /// Feature plan and fitted statistics that they were prepared by, and what for.
    key: (Digest, Digest, Purpose),
    training: Dataset,
    validation: Dataset,
    /// Whose rows the training rows are.
    records: Records,
    report: ImputationReport,
}

impl SiteTrainer {
    /// A trainer for the rows that `read` reads.
    #[must_use]
    pub fn new(read: Box<ReadRows>) -> Self {
        Self { read, prepared: None }
    }

    /// Forgets prepared rows: the next job reads the table again.
    pub fn forget(&mut self) {
        self.prepared = None;
    }

    fn table(&mut self, plan: &FeaturePlan, purpose: Purpose) -> Result<Table, WorkError> {
        (self.read)(plan, purpose).map_err(|error| WorkError::Data(error.to_string()))
    }

    fn rows(&mut self, job: &Job) -> Result<&Rows, WorkError> {
        let plan = &job.features;
        let fitted = job.fitted.as_ref();
        let fitted = fitted.ok_or(WorkError::Data("the task names no fitted features".into()))?;
        // In a private task a row that cannot be read must not take the others with it.
        let private = job.manifest.privacy.is_some();
        let purpose = if private { Purpose::LearnPrivately } else { Purpose::Learn };
        let key = (plan.digest(), fitted.digest(), purpose);
        if self.prepared.as_ref().is_none_or(|rows| rows.key != key) {
            // The old rows go first: two tables at once may be too much.
            self.prepared = None;
            let table = self.table(plan, purpose)?;
            let prepared = prepare(&table, plan, fitted).map_err(data)?;
            let (training, validation) = prepared.dataset.split(plan.split().validation);
            let report = prepared.report;
            let records = Records::new(training.keys());
            self.prepared = Some(Rows { key, training, validation, records, report });
        }
        Ok(self.prepared.as_ref().expect("they were just prepared"))
    }

    fn statistics(&mut self, job: &Job) -> Result<Work, WorkError> {
        let table = self.table(&job.features, Purpose::Learn)?;
        let rows = table.rows_training(&job.features);
        if rows == 0 {
            return Err(WorkError::NoRows);
        }
        let sums = local_statistics(&job.features, &table).map_err(data)?;
        let contribution = Contribution::statistics(counted(rows, job), sums);
        let rows_validation = (table.rows() - rows) as u64;
        let figures = Figures { rows_training: rows as u64, rows_validation, ..Figures::default() };
        Ok(Work { contribution, figures })
    }

    fn train(&mut self, job: &Job, stop: &dyn Fn() -> bool) -> Result<Work, WorkError> {
        let (spec, params) = model(job)?;
        let plan = job.training.as_deref();
        let plan = plan.ok_or(WorkError::Engine("the task names no training plan".into()))?;
        let rows = self.rows(job)?;
        if rows.training.rows() == 0 {
            return Err(WorkError::NoRows);
        }
        if let Some(privacy) = &job.manifest.privacy {
            return private(rows, job, plan, privacy, stop);
        }
        let validation = evaluate(spec, params, &rows.validation)?;
        let mut fit = |plan: &TrainingPlan| fit(&rows.training, job, plan, stop);
        let Fit { delta, loss } = chosen(&job.manifest.algorithm).update(plan, &mut fit)?;
        let mut figures = figures(rows, &validation);
        figures.loss = Some(loss);
        let weight = counted(rows.training.rows(), job);
        let contribution = Contribution::train(weight, delta.values(), loss, &validation);
        Ok(Work { contribution, figures })
    }

    fn evaluate(&mut self, job: &Job) -> Result<Work, WorkError> {
        let (spec, params) = model(job)?;
        let rows = self.rows(job)?;
        let validation = evaluate(spec, params, &rows.validation)?;
        let contribution =
            Contribution::evaluate(counted(rows.validation.rows(), job), &validation);
        Ok(Work { contribution, figures: figures(rows, &validation) })
    }
}

impl Trainer for SiteTrainer {
    fn work(&mut self, job: &Job, stop: &dyn Fn() -> bool) -> Result<Work, WorkError> {
        match job.kind {
            RoundKind::Statistics => self.statistics(job),
            RoundKind::Train => self.train(job, stop),
            RoundKind::Evaluate => self.evaluate(job),
        }
    }
}

fn model(job: &Job) -> Result<(&CheckedSpec, &Params), WorkError> {
    match (&job.spec, &job.params) {
        (Some(spec), Some(params)) => {
            let (got, want) = (job.features.width(), spec.input_width());
            if got != want {
                let text = format!("the feature plan makes {got} inputs, the model takes {want}");
                return Err(WorkError::Engine(text));
            }
            Ok((spec, params))
        }
        _ => Err(WorkError::Engine("the job names no model or no version".into())),
    }
}

/// One call of local training, from the received version.
fn fit(
    rows: &Dataset,
    job: &Job,
    plan: &TrainingPlan,
    stop: &dyn Fn() -> bool,
) -> Result<Fit, WorkError> {
    let (spec, params) = model(job)?;
    let data = TrainData { x: rows.x(), y: rows.y(), weights: Some(rows.weights()) };
    // The decay of the step size counts the rounds done before this one.
    let options = TrainOptions { seed: job.seed, round: job.round.saturating_sub(1), stop };
    let outcome = engine::train(spec, params, &data, plan, &options).map_err(engine_error)?;
    if outcome.stopped {
        return Err(WorkError::Stopped);
    }
    Ok(Fit { delta: outcome.delta, loss: outcome.mean_loss })
}

/// A round under differential privacy: the update and nothing else, not even figures.
fn private(
    rows: &Rows,
    job: &Job,
    plan: &TrainingPlan,
    privacy: &Privacy,
    stop: &dyn Fn() -> bool,
) -> Result<Work, WorkError> {
    let mut figures = figures(rows, &EvaluationSums::new());
    let clip = job.clip.ok_or(WorkError::Engine("the job brings no clip".into()))?;
    figures.privacy = Some(*privacy);
    figures.clip = Some(clip);
    // Contributions of units, and those of them that were clipped.
    let (update, units, clipped): (Vec<f64>, u64, u64) = match privacy.unit {
        PrivacyUnit::Record => {
            let sum = one_step(rows, job, plan, privacy, stop)?;
            figures.rows_clipped = Some((sum.rows, sum.clipped));
            (sum.gradient.iter().map(|slope| -slope).collect(), sum.rows, sum.clipped)
        }
        PrivacyUnit::Site => {
            let mut fit = |plan: &TrainingPlan| fit(&rows.training, job, plan, stop);
            let Fit { delta, loss } = chosen(&job.manifest.algorithm).update(plan, &mut fit)?;
            figures.loss = Some(loss);
            let update: Vec<f64> = delta.values().iter().map(|&value| f64::from(value)).collect();
            let norm = update.iter().map(|value| value * value).sum::<f64>().sqrt();
            (update, 1, u64::from(norm > clip))
        }
    };
    let contribution = match privacy.adaptive() {
        Some(rule) => {
            let count = (units - clipped) as f64 - rule.quantile * units as f64;
            Contribution::counted(update, clip, count)
        }
        None => Contribution::private(update),
    };
    Ok(Work { contribution, figures })
}

/// The clipped gradients of rows that are drawn in secret.
fn one_step(
    rows: &Rows,
    job: &Job,
    plan: &TrainingPlan,
    privacy: &Privacy,
    stop: &dyn Fn() -> bool,
) -> Result<RowSum, WorkError> {
    let (spec, params) = model(job)?;
    let clip = job.clip.ok_or(WorkError::Engine("the job brings no clip".into()))?;
    let draw = job.draw.as_ref();
    let draw = draw.ok_or(WorkError::Engine("the job brings no entropy for the draw".into()))?;
    let mut rng = ChaCha20Rng::from_seed(**draw);
    let drawn = &mut rows.records.draw(privacy.sampling_rate, &mut rng);
    let data = TrainData {
        x: rows.training.x(),
        y: rows.training.y(),
        weights: Some(rows.training.weights()),
    };
    let mut picked = Picked { rows: drawn, clip, stop };
    let sum = engine::clipped_sum(spec, params, &data, plan, &mut picked).map_err(engine_error)?;
    if sum.stopped { Err(WorkError::Stopped) } else { Ok(sum) }
}

/// Validation sums of a version on the site's own rows; empty where there are none.
fn evaluate(
    spec: &CheckedSpec,
    params: &Params,
    rows: &Dataset,
) -> Result<EvaluationSums, WorkError> {
    let mut sums = EvaluationSums::new();
    if rows.rows() == 0 {
        return Ok(sums);
    }
    let engine = Engine::load(spec, params).map_err(engine_error)?;
    let outputs = engine.outputs(rows.x()).map_err(engine_error)?;
    for (logits, &y) in outputs.chunks(spec.output_width()).zip(rows.y()) {
        match *logits {
            [logit] => sums.add_logit(logit, y),
            _ => sums.add_logits(logits, y),
        }
    }
    Ok(sums)
}

fn figures(rows: &Rows, validation: &EvaluationSums) -> Figures {
    let measured = validation.figures();
    Figures {
        rows_training: rows.training.rows() as u64,
        rows_validation: rows.validation.rows() as u64,
        loss: None,
        validation_loss: measured.map(|figures| figures.loss),
        rows_clipped: None,
        privacy: None,
        clip: None,
        imputation: Some(rows.report.clone()),
    }
}

/// The rows that count for the task: no more than it counts for one site.
fn counted(rows: usize, job: &Job) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX).min(job.manifest.encoding.rows_max)
}

fn data(error: FeatureError) -> WorkError {
    WorkError::Data(error.to_string())
}

fn engine_error(error: EngineError) -> WorkError {
    match error {
        EngineError::Diverged { .. } => WorkError::Diverged,
        EngineError::Data(error) => WorkError::Data(error.to_string()),
        other => WorkError::Engine(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
