//! The fast path: chains of linear layers and pointwise activations, forward and backward in plain
//! loops that the compiler vectorises.
//!
//! It is not a tensor library and refuses every other model ([`Chain::new`] gives `None`). Every
//! sum has one fixed order, so a row's answer has the same bits in any batch. Its oracle is
//! `graph`: a test holds their gradients together.

mod clip;
mod kernel;

use std::ops::Range;

use super::objective::Objective;
use super::train::Batch;
use crate::loss::{LossSum, sigmoid};
use crate::spec::{CheckedSpec, Op};
use crate::tensor::{Boundary, ShapeError, Tensor};
pub(super) use clip::{Ghost, factor};
use kernel::{add_product, transpose};

/// A model of one vector input where each node reads the one before.
pub(super) struct Chain {
    steps: Vec<Step>,
}

struct Step {
    kind: Kind,
    input: usize,
    output: usize,
}

enum Kind {
    Linear { weight: Range<usize>, bias: Option<Range<usize>> },
    Relu,
    Sigmoid,
    Tanh,
    Keep,
}

impl Chain {
    /// The chain, where the model is one.
    pub(super) fn new(spec: &CheckedSpec) -> Option<Self> {
        let vectors = (0..=spec.n_nodes()).all(|value| spec.shape(value).len() == 1);
        if spec.n_inputs() != 1 || !vectors {
            return None;
        }
        let step = |(index, node): (usize, &crate::spec::Node)| {
            if spec.sources(index) != [index] {
                return None;
            }
            let place = |i: usize| spec.layout().entries()[spec.param_places(index)[i]].range();
            let kind = match &node.op {
                Op::Linear { bias, .. } => {
                    Kind::Linear { weight: place(0), bias: bias.then(|| place(1)) }
                }
                Op::Relu => Kind::Relu,
                Op::Sigmoid => Kind::Sigmoid,
                Op::Tanh => Kind::Tanh,
                Op::Flatten | Op::Reshape { .. } => Kind::Keep,
                _ => return None,
            };
            Some(Step { kind, input: spec.elements(index), output: spec.elements(index + 1) })
        };
        let steps = spec.nodes().iter().enumerate().map(step).collect::<Option<Vec<_>>>()?;
        Some(Self { steps })
    }

    fn room_for_turned(&self) -> Vec<Vec<f32>> {
        self.steps.iter().map(|step| vec![0.0; step.weight_len()]).collect()
    }
}

/// A chain with its values, ready to answer.
pub(super) struct Loaded {
    chain: Chain,
    weights: Vec<f32>,
    turned: Vec<Vec<f32>>,
}

impl Loaded {
    pub(super) fn new(chain: Chain, values: &[f32]) -> Self {
        let mut turned = chain.room_for_turned();
        for (step, turned) in chain.steps.iter().zip(&mut turned) {
            step.turn(values, turned);
        }
        Self { chain, weights: values.to_vec(), turned }
    }

    /// Runs some of the nodes; the boundary has been checked against the cut at `range.start`.
    pub(super) fn forward(
        &self,
        range: Range<usize>,
        input: &Boundary,
    ) -> Result<Boundary, ShapeError> {
        let rows = input.batch();
        let mut value = input.tensors()[0].data().to_vec();
        for (step, turned) in self.chain.steps[range.clone()].iter().zip(&self.turned[range]) {
            let mut next = vec![0.0; rows * step.output];
            step.forward(&self.weights, turned, &value, &mut next);
            value = next;
        }
        Boundary::new(vec![Tensor::new(vec![rows, value.len() / rows], value)?])
    }
}

impl Step {
    /// `turned` holds the weight the other way round, `[in, out]`, for a linear step.
    fn forward(&self, weights: &[f32], turned: &[f32], x: &[f32], y: &mut [f32]) {
        match &self.kind {
            Kind::Linear { bias, .. } => {
                for y in y.chunks_exact_mut(self.output) {
                    match bias {
                        Some(bias) => y.copy_from_slice(&weights[bias.clone()]),
                        None => y.fill(0.0),
                    }
                }
                add_product(x, turned, self.output, y);
            }
            Kind::Relu => map(x, y, |x| x.max(0.0)),
            Kind::Sigmoid => map(x, y, sigmoid),
            Kind::Tanh => map(x, y, f32::tanh),
            Kind::Keep => y.copy_from_slice(x),
        }
    }

    /// Elements of the step's weight; none without one.
    fn weight_len(&self) -> usize {
        if matches!(self.kind, Kind::Linear { .. }) { self.input * self.output } else { 0 }
    }

    fn turn(&self, weights: &[f32], turned: &mut [f32]) {
        if let Kind::Linear { weight, .. } = &self.kind {
            transpose(&weights[weight.clone()], self.input, turned);
        }
    }

    /// Turns the gradient at the output (`dy`, with the output `y`) into the one at the input, for
    /// the steps without parameters.
    fn backward_pointwise(&self, y: &[f32], dy: &mut [f32]) {
        match self.kind {
            Kind::Relu => scale(y, dy, |y| if y > 0.0 { 1.0 } else { 0.0 }),
            Kind::Sigmoid => scale(y, dy, |y| y * (1.0 - y)),
            Kind::Tanh => scale(y, dy, |y| 1.0 - y * y),
            Kind::Keep | Kind::Linear { .. } => {}
        }
    }
}

fn map(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = f(x);
    }
}

fn scale(y: &[f32], dy: &mut [f32], f: impl Fn(f32) -> f32) {
    for (dy, &y) in dy.iter_mut().zip(y) {
        *dy *= f(y);
    }
}

/// A chain with room for the values of one batch.
pub(super) struct Tape {
    chain: Chain,
    /// Output of each step.
    values: Vec<Vec<f32>>,
    /// Weight of each linear step, the other way round.
    turned: Vec<Vec<f32>>,
    /// Gradient at the present value, and room for the next one.
    here: Vec<f32>,
    next: Vec<f32>,
}

impl Tape {
    pub(super) fn new(chain: Chain, rows_max: usize) -> Self {
        let widest = chain.steps.iter().map(|step| step.input.max(step.output)).max().unwrap_or(0);
        let values = chain.steps.iter().map(|step| vec![0.0; rows_max * step.output]).collect();
        let (turned, room) = (chain.room_for_turned(), vec![0.0; rows_max * widest]);
        Self { chain, values, turned, here: room.clone(), next: room }
    }

    /// See [`super::train::Differentiator::gradient`].
    pub(super) fn gradient(
        &mut self,
        weights: &[f32],
        batch: &Batch<'_>,
        objective: &Objective,
        gradient: &mut [f32],
    ) -> LossSum {
        gradient.fill(0.0);
        self.forward(weights, batch);
        let last = self.chain.steps.len() - 1;
        let outputs = batch.rows * self.chain.steps[last].output;
        let here = &mut self.here[..outputs];
        let sum = objective.batch(&self.values[last][..outputs], batch.y, batch.weights, here);
        self.backward(weights, batch, gradient);
        sum
    }

    fn forward(&mut self, weights: &[f32], batch: &Batch<'_>) {
        for (index, step) in self.chain.steps.iter().enumerate() {
            let turned = &mut self.turned[index];
            step.turn(weights, turned);
            let (done, rest) = self.values.split_at_mut(index);
            let input = done.last().map_or(batch.x, |value| &value[..batch.rows * step.input]);
            step.forward(weights, turned, input, &mut rest[0][..batch.rows * step.output]);
        }
    }

    /// From the gradient at the output, which is in `here`.
    fn backward(&mut self, weights: &[f32], batch: &Batch<'_>, gradient: &mut [f32]) {
        let rows = batch.rows;
        for (index, step) in self.chain.steps.iter().enumerate().rev() {
            let here = &mut self.here[..rows * step.output];
            let Kind::Linear { weight, bias } = &step.kind else {
                step.backward_pointwise(&self.values[index][..rows * step.output], here);
                continue;
            };
            if let Some(bias) = bias {
                for here in here.chunks_exact(step.output) {
                    for (sum, value) in gradient[bias.clone()].iter_mut().zip(here) {
                        *sum += value;
                    }
                }
            }
            let input = match index.checked_sub(1) {
                Some(before) => &self.values[before][..rows * step.input],
                None => batch.x,
            };
            let by_unit = &mut self.next[..rows * step.output];
            transpose(here, step.output, by_unit);
            add_product(by_unit, input, step.input, &mut gradient[weight.clone()]);
            if index > 0 {
                let next = &mut self.next[..rows * step.input];
                next.fill(0.0);
                add_product(here, &weights[weight.clone()], step.input, next);
                std::mem::swap(&mut self.here, &mut self.next);
            }
        }
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.values.iter_mut().for_each(Zeroize::zeroize);
        self.turned.iter_mut().for_each(Zeroize::zeroize);
        self.here.zeroize();
        self.next.zeroize();
    }
}
