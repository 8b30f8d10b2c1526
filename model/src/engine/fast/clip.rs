//! Gradients of single rows, clipped and summed, in one backward pass over a batch.
//!
//! The gradient of one row at a linear layer is an outer product, so its norm is the product of two
//! norms and no row's gradient is ever written down: "ghost clipping" (Goodfellow 2015, 1510.01799;
//! Li et al. 2021, 2110.05679, section 4). The slopes at the layers' outputs are kept from the pass
//! that finds the norms, so that no second one is needed (Bu et al. 2022, 2210.00038). Norms, factors
//! and sums are double precision: what one row adds to a sum of thousands then is within 1e-8 of the
//! clip, whatever the other rows are and in whatever order they are added (2207.10635).

use super::super::objective::Objective;
use super::super::train::Batch;
use super::kernel::{add_product, transpose};
use super::{Kind, Tape};

/// Room for the slopes of one batch, beside its tape.
#[derive(Default)]
pub(in crate::engine) struct Ghost {
    /// Slope of each row's own loss at the output of each linear step; empty for the other steps.
    slopes: Vec<Vec<f32>>,
    /// Of each row: its squared norm, then the factor that clips it.
    factors: Vec<f64>,
    /// A batch's inputs of one step, and its clipped slopes, unit by unit.
    inputs: Vec<f64>,
    by_row: Vec<f64>,
    by_unit: Vec<f64>,
}

impl Tape {
    /// Adds to `sum` the gradient of each row's own loss, scaled down to the norm `clip` where it is
    /// longer. Returns how many were.
    pub(in crate::engine) fn add_clipped(
        &mut self,
        weights: &[f32],
        batch: &Batch<'_>,
        rule: (&Objective, f64),
        ghost: &mut Ghost,
        sum: &mut [f64],
    ) -> usize {
        let (objective, clip) = rule;
        self.forward(weights, batch);
        let last = self.chain.steps.len() - 1;
        let outputs = batch.rows * self.chain.steps[last].output;
        let here = &mut self.here[..outputs];
        objective.rows(&self.values[last][..outputs], batch.y, batch.weights, here);
        self.norms(weights, batch, ghost);
        let clipped = ghost.clip_squares(clip);
        self.add_weighted(batch, ghost, sum);
        clipped
    }

    /// The backward pass without gradients: slopes and squared norms.
    fn norms(&mut self, weights: &[f32], batch: &Batch<'_>, ghost: &mut Ghost) {
        let rows = batch.rows;
        let Ghost { slopes, factors, .. } = ghost;
        slopes.resize_with(self.chain.steps.len(), Vec::new);
        factors.clear();
        factors.resize(rows, 0.0);
        for (index, step) in self.chain.steps.iter().enumerate().rev() {
            let here = &mut self.here[..rows * step.output];
            let Kind::Linear { weight, bias } = &step.kind else {
                step.backward_pointwise(&self.values[index][..rows * step.output], here);
                continue;
            };
            slopes[index].clear();
            slopes[index].extend_from_slice(here);
            let input = input_of(&self.values, index, batch, rows * step.input);
            let ones = f64::from(u8::from(bias.is_some()));
            let pairs = here.chunks_exact(step.output).zip(input.chunks_exact(step.input));
            for (square, (slope, input)) in factors.iter_mut().zip(pairs) {
                *square += squares(slope) * (squares(input) + ones);
            }
            if index > 0 {
                let next = &mut self.next[..rows * step.input];
                next.fill(0.0);
                add_product(here, &weights[weight.clone()], step.input, next);
                std::mem::swap(&mut self.here, &mut self.next);
            }
        }
    }

    /// The gradients, each row by its factor.
    fn add_weighted(&self, batch: &Batch<'_>, ghost: &mut Ghost, sum: &mut [f64]) {
        let rows = batch.rows;
        let Ghost { slopes, factors, inputs, by_row, by_unit } = ghost;
        for (index, step) in self.chain.steps.iter().enumerate() {
            let Kind::Linear { weight, bias } = &step.kind else { continue };
            by_row.clear();
            for (slope, factor) in slopes[index].chunks_exact(step.output).zip(factors.iter()) {
                // A factor of zero stands for a row that is left out, whatever its numbers are.
                let scaled = slope.iter().map(|&slope| factor * f64::from(slope));
                by_row.extend(scaled.map(|value| if *factor > 0.0 { value } else { 0.0 }));
            }
            if let Some(bias) = bias {
                for row in by_row.chunks_exact(step.output) {
                    for (sum, value) in sum[bias.clone()].iter_mut().zip(row) {
                        *sum += value;
                    }
                }
            }
            let input = input_of(&self.values, index, batch, rows * step.input);
            inputs.clear();
            for (row, factor) in input.chunks_exact(step.input).zip(factors.iter()) {
                let value = |&value: &f32| if *factor > 0.0 { f64::from(value) } else { 0.0 };
                inputs.extend(row.iter().map(value));
            }
            by_unit.clear();
            by_unit.resize(rows * step.output, 0.0);
            transpose(by_row, step.output, by_unit);
            add_product(by_unit, inputs, step.input, &mut sum[weight.clone()]);
        }
    }
}

impl Ghost {
    /// Squared norms become factors. A row whose gradient is no finite number counts as nothing: an
    /// error would tell of that one row.
    fn clip_squares(&mut self, clip: f64) -> usize {
        let mut clipped = 0;
        for value in &mut self.factors {
            let norm = value.sqrt();
            clipped += usize::from(norm > clip);
            *value = factor(norm, clip);
        }
        clipped
    }
}

/// What a gradient of that norm is multiplied with.
pub(in crate::engine) fn factor(norm: f64, clip: f64) -> f64 {
    if !norm.is_finite() {
        0.0
    } else if norm > clip {
        clip / norm
    } else {
        1.0
    }
}

/// The values that a step of the chain reads.
fn input_of<'a>(
    values: &'a [Vec<f32>],
    index: usize,
    batch: &Batch<'a>,
    elements: usize,
) -> &'a [f32] {
    match index.checked_sub(1) {
        Some(before) => &values[before][..elements],
        None => batch.x,
    }
}

fn squares(values: &[f32]) -> f64 {
    let mut lanes = [0.0; 4];
    let (blocks, rest) = values.as_chunks::<4>();
    for block in blocks {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    let rest: f64 = rest.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + rest
}

impl Drop for Ghost {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.slopes.iter_mut().for_each(Zeroize::zeroize);
        self.factors.zeroize();
        self.inputs.zeroize();
        self.by_row.zeroize();
        self.by_unit.zeroize();
    }
}
