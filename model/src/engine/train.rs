//! Local training: epochs over seeded batches, one step each, to an update.
//!
//! It owns order, optimizer and stopping; the gradient of a batch comes from `fast` or `graph`.

use zeroize::Zeroizing;

#[cfg(any(test, feature = "burn"))]
use super::graph;
use super::objective::Objective;
use super::optimizer::Stepper;
use super::order::order;
use super::{Choice, EngineError, check_variances, fast, fused};
use crate::limits::BATCH_ELEMENTS_MAX;
use crate::loss::{LossSum, TrainData};
use crate::params::{Delta, Params};
use crate::plan::TrainingPlan;
use crate::spec::CheckedSpec;

/// What training needs besides model, rows and plan.
pub struct TrainOptions<'a> {
    /// Decides the order of the rows.
    pub seed: u64,
    /// Rounds done before this one: for the decay of the step size, and for the order.
    pub round: u32,
    /// Asked before every step; true ends training after the step before.
    pub stop: &'a dyn Fn() -> bool,
}

/// What came out of training. No `Debug`: it holds the update.
pub struct TrainOutcome {
    /// The update, `end - start`, not clipped.
    pub delta: Delta,
    /// Weighted mean over all steps of the loss before the step.
    pub mean_loss: f64,
    /// Training rows of the site.
    pub rows: u32,
    /// Steps taken.
    pub steps: u32,
    /// Whether `stop` ended it early.
    pub stopped: bool,
}

/// The gradient of one batch, from either implementation.
pub(super) enum Differentiator<'a> {
    Fast(fast::Tape),
    Fused(fused::Tape<'a>),
    #[cfg(any(test, feature = "burn"))]
    Graph(graph::Differentiator<'a>),
}

/// Some rows with their labels and weights, checked before.
pub(super) struct Batch<'a> {
    pub(super) x: &'a [f32],
    pub(super) y: &'a [f32],
    pub(super) weights: Option<&'a [f32]>,
    pub(super) rows: usize,
}

impl<'a> Differentiator<'a> {
    pub(super) fn new(choice: Choice, spec: &'a CheckedSpec, rows_max: usize) -> Self {
        match (choice, fast::Chain::new(spec)) {
            #[cfg(any(test, feature = "burn"))]
            (Choice::General, _) => Self::Graph(graph::Differentiator::new(spec)),
            (Choice::Automatic, Some(chain)) => Self::Fast(fast::Tape::new(chain, rows_max)),
            (Choice::Automatic, None) => Self::Fused(fused::Tape::new(spec)),
        }
    }

    /// Writes to `gradient` the derivative of the batch's mean loss at `weights` (all parameters)
    /// with respect to the trainable ones.
    pub(super) fn gradient(
        &mut self,
        weights: &[f32],
        batch: &Batch<'_>,
        objective: &Objective,
        gradient: &mut [f32],
    ) -> LossSum {
        match self {
            Self::Fast(tape) => tape.gradient(weights, batch, objective, gradient),
            Self::Fused(tape) => tape.gradient(weights, batch, objective, gradient),
            #[cfg(any(test, feature = "burn"))]
            Self::Graph(graph) => graph.gradient(weights, batch, objective, gradient),
        }
    }
}

/// Trains from `start` on a site's rows: `plan.epochs` passes in an order drawn from the seed.
///
/// # Errors
/// [`EngineError`]: values of another model, a plan that does not fit the model, rows that do not
/// fit the plan (by row), a batch too large for the model, or [`EngineError::Diverged`].
pub fn train(
    spec: &CheckedSpec,
    start: &Params,
    data: &TrainData<'_>,
    plan: &TrainingPlan,
    options: &TrainOptions<'_>,
) -> Result<TrainOutcome, EngineError> {
    train_by(Choice::Automatic, spec, start, data, plan, options)
}

/// [`train`] by a chosen implementation.
///
/// # Errors
/// As [`train`].
pub fn train_by(
    choice: Choice,
    spec: &CheckedSpec,
    start: &Params,
    data: &TrainData<'_>,
    plan: &TrainingPlan,
    options: &TrainOptions<'_>,
) -> Result<TrainOutcome, EngineError> {
    let objective = check(spec, start, plan)?;
    let rows = objective.check(data, spec.input_width())?;
    let batch_rows = plan.batch_size.min(rows) as usize;
    check_batch(spec, batch_rows)?;

    let trainable = spec.layout().trainable();
    let mut differentiator = Differentiator::new(choice, spec, batch_rows);
    let mut stepper = Stepper::new(plan, options.round, trainable);
    let mut weights = Zeroizing::new(start.values().to_vec());
    let mut gradient = Zeroizing::new(vec![0.0; trainable]);
    let mut gather = Gather::new(data, spec.input_width(), rows);
    let mut sum = LossSum::default();
    let (mut steps, mut stopped) = (0u32, false);
    'epochs: for epoch in 0..plan.epochs {
        for picked in order(options.seed, options.round, epoch, rows).chunks(batch_rows) {
            if (options.stop)() {
                stopped = true;
                break 'epochs;
            }
            let batch = gather.pick(picked);
            let loss = differentiator.gradient(&weights, &batch, &objective, &mut gradient);
            steps = steps.saturating_add(1);
            if !loss.loss.is_finite() {
                return Err(EngineError::Diverged { step: steps });
            }
            sum.add(loss);
            if loss.weight > 0.0 {
                stepper.step(&mut weights[..trainable], start.values(), &mut gradient);
            }
        }
    }
    let values = weights.iter().zip(start.values()).take(trainable).map(|(w, w0)| w - w0).collect();
    let delta = Delta::from_values(spec.layout(), values)
        .map_err(|_| EngineError::Diverged { step: steps })?;
    Ok(TrainOutcome { delta, mean_loss: sum.mean(), rows, steps, stopped })
}

pub(super) fn check(
    spec: &CheckedSpec,
    start: &Params,
    plan: &TrainingPlan,
) -> Result<Objective, EngineError> {
    start.check_layout(spec.layout())?;
    check_variances(spec, start)?;
    plan.check()?;
    Ok(Objective::new(plan, spec.output_width())?)
}

pub(super) fn check_batch(spec: &CheckedSpec, rows: usize) -> Result<(), EngineError> {
    let max = BATCH_ELEMENTS_MAX / spec.elements_total().max(spec.work_elements());
    if rows > max.max(1) {
        return Err(EngineError::Batch { rows, max: max.max(1) });
    }
    Ok(())
}

/// Copies picked rows together, into buffers that are used again for the next batch.
pub(super) struct Gather<'a> {
    data: &'a TrainData<'a>,
    width: usize,
    labels: usize,
    x: Vec<f32>,
    y: Vec<f32>,
    weights: Vec<f32>,
}

impl<'a> Gather<'a> {
    pub(super) fn new(data: &'a TrainData<'a>, width: usize, rows: u32) -> Self {
        let labels = data.y.len() / rows as usize;
        Self { data, width, labels, x: Vec::new(), y: Vec::new(), weights: Vec::new() }
    }

    pub(super) fn pick(&mut self, rows: &[u32]) -> Batch<'_> {
        self.x.clear();
        self.y.clear();
        self.weights.clear();
        for &row in rows {
            let row = row as usize;
            self.x.extend_from_slice(&self.data.x[row * self.width..][..self.width]);
            self.y.extend_from_slice(&self.data.y[row * self.labels..][..self.labels]);
            if let Some(weights) = self.data.weights {
                self.weights.push(weights[row]);
            }
        }
        let weights = self.data.weights.map(|_| self.weights.as_slice());
        Batch { x: &self.x, y: &self.y, weights, rows: rows.len() }
    }
}
