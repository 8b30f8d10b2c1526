//! What one step with record-level privacy takes from a site: the sum of the gradients of single rows,
//! each scaled down to a norm where it is longer (Abadi et al. 2016, 1607.00133, algorithm 1).
//!
//! No order, no optimizer and no noise is here: which rows are in is the caller's secret
//! ([`crate::sampling`]), the noise is the private sum's. Start at [`clipped_sum`].
//!
//! Chains of linear layers need one backward pass for a whole batch; every other model is
//! differentiated row by row, which is honest and slow.

use zeroize::Zeroizing;

use super::fast::{self, Ghost, factor};
use super::train::{Differentiator, Gather, check, check_batch};
use super::{Choice, EngineError, Objective};
use crate::loss::TrainData;
use crate::params::Params;
use crate::plan::TrainingPlan;
use crate::spec::CheckedSpec;

/// The rows that are in, and how far one may move the sum.
pub struct Picked<'a> {
    /// Their numbers, in any order; those that do not exist are left out.
    pub rows: &'a mut dyn Iterator<Item = u32>,
    /// The longest that one row's gradient may be, in L2; above 0.
    pub clip: f64,
    /// Asked before every batch.
    pub stop: &'a dyn Fn() -> bool,
}

/// The sum over rows. No `Debug`: it is as secret as the rows until noise is added.
pub struct RowSum {
    /// One number for each trainable parameter; it points uphill, as a gradient does.
    pub gradient: Zeroizing<Vec<f64>>,
    /// Rows in it.
    pub rows: u64,
    /// Those of them that were longer than the clip.
    pub clipped: u64,
    /// Whether it was stopped before the end; then the sum is not to be used.
    pub stopped: bool,
}

/// Sums the clipped gradients of the picked rows' own losses at `params`. A row's loss is multiplied
/// by its weight and its class's before it is clipped. A row whose gradient is no finite number adds
/// nothing. No rows: a sum of zeros.
///
/// Rows are taken together in batches of the plan's `batch_size`, which changes the sum only in its
/// last digits; nothing else of the plan but loss and class weights is used. Adding or leaving out
/// one row moves the sum by at most `clip · (1 + 8e-5)` in L2, rounding included, for up to 600,000
/// picked rows: each row adds the same bits wherever it stands, and n additions of sums below n clips
/// are off by at most n²·2⁻⁵³ clips, in either of two orders. Whether it can be computed at all depends
/// on model, plan and labels' range alone, never on how many rows there are.
///
/// # Errors
/// As [`super::train`], but [`EngineError::Diverged`].
pub fn clipped_sum(
    spec: &CheckedSpec,
    params: &Params,
    data: &TrainData<'_>,
    plan: &TrainingPlan,
    picked: &mut Picked<'_>,
) -> Result<RowSum, EngineError> {
    let objective = check(spec, params, plan)?;
    let rows = objective.check(data, spec.input_width())?;
    let mut adder = Adder::new(spec, plan.batch_size as usize, rows as usize)?;
    let mut sum = RowSum {
        gradient: Zeroizing::new(vec![0.0; spec.layout().trainable()]),
        rows: 0,
        clipped: 0,
        stopped: false,
    };
    let mut gather = Gather::new(data, spec.input_width(), rows);
    let mut batch = Zeroizing::new(Vec::with_capacity(adder.rows_max));
    let mut taken = picked.rows.filter(|&row| row < rows);
    loop {
        batch.clear();
        batch.extend(taken.by_ref().take(adder.rows_max));
        sum.stopped = (picked.stop)();
        if batch.is_empty() || sum.stopped {
            return Ok(sum);
        }
        let gathered = gather.pick(&batch);
        let rule = (&objective, picked.clip);
        let clipped = adder.add(params.values(), &gathered, rule, &mut sum.gradient);
        sum.rows += batch.len() as u64;
        sum.clipped += clipped as u64;
    }
}

/// Adds up batches, in either way of computing.
struct Adder<'a> {
    way: Way<'a>,
    /// Rows that are computed together.
    rows_max: usize,
}

enum Way<'a> {
    Fast { tape: fast::Tape, ghost: Ghost },
    RowByRow { differentiator: Differentiator<'a>, gradient: Zeroizing<Vec<f32>> },
}

impl<'a> Adder<'a> {
    /// Whether a batch is too large is the plan's matter alone: if it depended on how many rows there
    /// are, one row more could take away the sum of all others.
    fn new(spec: &'a CheckedSpec, batch: usize, rows: usize) -> Result<Self, EngineError> {
        if let Some(chain) = fast::Chain::new(spec) {
            check_batch(spec, batch)?;
            let rows_max = batch.min(rows);
            let tape = fast::Tape::new(chain, rows_max);
            return Ok(Self { way: Way::Fast { tape, ghost: Ghost::default() }, rows_max });
        }
        check_batch(spec, 1)?;
        let gradient = Zeroizing::new(vec![0.0; spec.layout().trainable()]);
        let differentiator = Differentiator::new(Choice::Automatic, spec, 1);
        Ok(Self { way: Way::RowByRow { differentiator, gradient }, rows_max: 1 })
    }

    fn add(
        &mut self,
        weights: &[f32],
        batch: &super::train::Batch<'_>,
        rule: (&Objective, f64),
        sum: &mut [f64],
    ) -> usize {
        match &mut self.way {
            Way::Fast { tape, ghost } => tape.add_clipped(weights, batch, rule, ghost, sum),
            Way::RowByRow { differentiator, gradient } => {
                let (objective, clip) = rule;
                let loss = differentiator.gradient(weights, batch, objective, gradient);
                // What comes back is of the mean over the row's weight.
                let squares: f64 = gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
                let norm = loss.weight * squares.sqrt();
                let scale = loss.weight * factor(norm, clip);
                if scale > 0.0 {
                    for (sum, &value) in sum.iter_mut().zip(gradient.iter()) {
                        *sum += scale * f64::from(value);
                    }
                }
                usize::from(norm > clip)
            }
        }
    }
}
