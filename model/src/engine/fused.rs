//! The fast path for networks with images, norms and branches: every operation as a kernel of its own,
//! matrix products by the crate `gemm`, forward and backward written out.
//!
//! Rows go through runs of nodes one at a time, so that what a node made is still in the cache when
//! the next reads it; linear layers take all rows at once. All room is taken when a model is loaded or
//! training begins. Sums have one fixed order, and one thread: same bits on the same kind of
//! processor (`gemm` has other kernels for other ones). The oracle is `graph`. Start at [`Net::new`].

mod conv;
mod kernel;
mod norm;
mod pool;
pub(super) mod product;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::objective::Objective;
use super::train::Batch;
use crate::loss::LossSum;
use crate::spec::CheckedSpec;
use crate::tensor::{Boundary, ShapeError, Tensor};
use kernel::{Kernel, Pass};

/// A model's kernels.
pub(super) struct Net {
    kernels: Vec<Kernel>,
    /// Largest room that one row of one kernel needs.
    room: usize,
}

/// Values by number, rows one after another; empty where nothing is.
type Values = Vec<Vec<f32>>;

impl Net {
    pub(super) fn new(spec: &CheckedSpec) -> Self {
        let kernels: Vec<Kernel> =
            (0..spec.n_nodes()).map(|node| Kernel::new(spec, node)).collect();
        let room = kernels.iter().map(Kernel::room).max().unwrap_or(0);
        Self { kernels, room }
    }

    /// Sets the gradient to zero where kernels add to what is there.
    fn clear(&self, gradient: &mut [f32]) {
        let mut kept: Vec<Range<usize>> = self.kernels.iter().map(Kernel::overwrites).collect();
        kept.sort_unstable_by_key(|places| places.start);
        let mut next = 0;
        for places in kept.into_iter().filter(|places| !places.is_empty()) {
            gradient[next..places.start].fill(0.0);
            next = places.end;
        }
        gradient[next..].fill(0.0);
    }

    /// Runs of nodes that are done row by row, and single ones that take all rows.
    fn runs(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for node in range {
            match runs.last_mut() {
                Some(run)
                    if !self.kernels[node].is_batched()
                        && !self.kernels[run.start].is_batched() =>
                {
                    run.end = node + 1;
                }
                _ => runs.push(node..node + 1),
            }
        }
        runs
    }

    fn forward(
        &self,
        spec: &CheckedSpec,
        range: Range<usize>,
        weights: &[f32],
        values: &mut Values,
        (rows, room): (usize, &mut [f32]),
    ) {
        for run in self.runs(range) {
            let at_once = if self.kernels[run.start].is_batched() { rows } else { 1 };
            for first in (0..rows).step_by(at_once) {
                for node in run.clone() {
                    let part = |value: usize| {
                        let width = spec.elements(value);
                        first * width..(first + at_once) * width
                    };
                    let output = spec.n_inputs() + node;
                    let mut y = std::mem::take(&mut values[output]);
                    let inputs: Vec<&[f32]> =
                        spec.sources(node).iter().map(|&v| &values[v][part(v)]).collect();
                    let y_part = &mut y[part(output)];
                    self.kernels[node].forward(weights, &inputs, y_part, at_once, room);
                    values[output] = y;
                }
            }
        }
    }

    /// From the gradient at the last value, back to all trainable parameters.
    fn backward(
        &self,
        spec: &CheckedSpec,
        weights: &[f32],
        tape: &mut Room,
        rows: usize,
        gradient: &mut [f32],
    ) {
        let Room { values, slopes, columns } = tape;
        for run in self.runs(0..self.kernels.len()).into_iter().rev() {
            let at_once = if self.kernels[run.start].is_batched() { rows } else { 1 };
            for first in (0..rows).step_by(at_once) {
                for node in run.clone().rev() {
                    let part = |value: usize| {
                        let width = spec.elements(value);
                        first * width..(first + at_once) * width
                    };
                    let (sources, output) = (spec.sources(node), spec.n_inputs() + node);
                    let inputs: Vec<&[f32]> =
                        sources.iter().map(|&v| &values[v][part(v)]).collect();
                    let above = std::mem::take(&mut slopes[output]);
                    let y = &values[output][part(output)];
                    let pass = Pass { inputs: &inputs, y, dy: &above[part(output)], rows: at_once };
                    self.back_to(spec, node, (weights, &pass), (slopes, columns), gradient, &part);
                    slopes[output] = above;
                }
            }
        }
    }

    /// One node's part of [`Net::backward`]. A value that it reads twice gets both gradients.
    fn back_to(
        &self,
        spec: &CheckedSpec,
        node: usize,
        (weights, pass): (&[f32], &Pass<'_>),
        (slopes, columns): (&mut Values, &mut Vec<f32>),
        gradient: &mut [f32],
        part: &dyn Fn(usize) -> Range<usize>,
    ) {
        let sources = spec.sources(node);
        let mut taken: Vec<(usize, Vec<f32>)> = Vec::with_capacity(sources.len());
        let mut twice = Vec::new();
        for (at, &value) in sources.iter().enumerate() {
            // Nobody asks for the gradient at a model's inputs.
            let inner = value >= spec.n_inputs();
            if sources[..at].contains(&value) {
                twice.push((at, value));
                taken.push((
                    value,
                    vec![0.0; if inner { slopes_len(spec, value, pass.rows) } else { 0 }],
                ));
            } else {
                taken.push((
                    value,
                    if inner { std::mem::take(&mut slopes[value]) } else { Vec::new() },
                ));
            }
        }
        let repeated = |at: usize| twice.iter().any(|&(other, _)| other == at);
        let mut dx: Vec<Option<&mut [f32]>> = taken
            .iter_mut()
            .enumerate()
            .map(|(at, (value, slope))| match slope.is_empty() {
                true => None,
                false if repeated(at) => Some(&mut slope[..]),
                false => Some(&mut slope[part(*value)]),
            })
            .collect();
        self.kernels[node].backward(weights, pass, &mut dx, gradient, columns);
        for (at, (value, slope)) in taken.into_iter().enumerate() {
            if slope.is_empty() {
                continue;
            }
            if repeated(at) {
                let sum = &mut slopes[value][part(value)];
                sum.iter_mut().zip(&slope).for_each(|(sum, term)| *sum += term);
            } else {
                slopes[value] = slope;
            }
        }
    }
}

fn slopes_len(spec: &CheckedSpec, value: usize, rows: usize) -> usize {
    spec.elements(value) * rows
}

/// A model with its values, ready to answer.
pub(super) struct Loaded {
    net: Net,
    weights: Vec<f32>,
    /// Room of earlier calls, so that a warm one takes none anew; one for each call at a time.
    spare: Mutex<Vec<Room>>,
}

/// Values, their gradients and unfolded windows of one call.
#[derive(Default)]
struct Room {
    values: Values,
    slopes: Values,
    columns: Vec<f32>,
}

/// Rooms that are kept for later calls.
const SPARE_MAX: usize = 4;

impl Room {
    /// Room for these values of so many rows.
    fn fit(&mut self, spec: &CheckedSpec, kept: &[bool], rows: usize, columns: usize) {
        self.values.resize_with(kept.len(), Vec::new);
        for (value, (room, kept)) in self.values.iter_mut().zip(kept).enumerate() {
            room.resize(if *kept { rows * spec.elements(value) } else { 0 }, 0.0);
        }
        self.columns.resize(columns, 0.0);
    }
}

impl Loaded {
    pub(super) fn new(spec: &CheckedSpec, values: &[f32]) -> Self {
        Self { net: Net::new(spec), weights: values.to_vec(), spare: Mutex::default() }
    }

    /// Runs some of the nodes; the boundary has been checked against the cut at `range.start`.
    pub(super) fn forward(
        &self,
        spec: &CheckedSpec,
        range: Range<usize>,
        input: &Boundary,
    ) -> Result<Boundary, ShapeError> {
        let rows = input.batch();
        let (enters, leaves) = (spec.live(range.start), spec.live(range.end));
        let mut kept = vec![false; spec.n_inputs() + spec.n_nodes()];
        let made = range.clone().map(|node| spec.n_inputs() + node);
        made.chain(enters.iter().copied()).for_each(|value| kept[value] = true);
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut room = spare.unwrap_or_default();
        room.fit(spec, &kept, rows, self.net.room);
        for (&value, tensor) in enters.iter().zip(input.tensors()) {
            room.values[value].copy_from_slice(tensor.data());
        }
        let Room { values, columns, .. } = &mut room;
        self.net.forward(spec, range, &self.weights, values, (rows, columns));
        let out = leaves.into_iter().map(|value| {
            Tensor::new([&[rows], spec.shape(value)].concat(), room.values[value].clone())
        });
        let out = Boundary::new(out.collect::<Result<_, _>>()?);
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MAX {
            spare.push(room);
        }
        out
    }
}

/// A model with room for the values and gradients of one batch.
pub(super) struct Tape<'a> {
    spec: &'a CheckedSpec,
    net: Net,
    room: Room,
}

impl<'a> Tape<'a> {
    pub(super) fn new(spec: &'a CheckedSpec) -> Self {
        Self { spec, net: Net::new(spec), room: Room::default() }
    }

    /// See [`super::train::Differentiator::gradient`].
    pub(super) fn gradient(
        &mut self,
        weights: &[f32],
        batch: &Batch<'_>,
        objective: &Objective,
        gradient: &mut [f32],
    ) -> LossSum {
        let (spec, rows) = (self.spec, batch.rows);
        let all = vec![true; spec.n_inputs() + spec.n_nodes()];
        self.room.fit(spec, &all, rows, self.net.room);
        self.room.slopes.resize_with(all.len(), Vec::new);
        for (value, slope) in self.room.slopes.iter_mut().enumerate().skip(spec.n_inputs()) {
            slope.clear();
            slope.resize(rows * spec.elements(value), 0.0);
        }
        let mut start = 0;
        for value in 0..spec.n_inputs() {
            let width = spec.elements(value);
            let places = self.room.values[value].chunks_exact_mut(width);
            for (place, row) in places.zip(batch.x.chunks_exact(spec.input_width())) {
                place.copy_from_slice(&row[start..start + width]);
            }
            start += width;
        }
        let Room { values, columns, .. } = &mut self.room;
        self.net.forward(spec, 0..spec.n_nodes(), weights, values, (rows, columns));
        let last = all.len() - 1;
        let sum = objective.batch(
            &self.room.values[last],
            batch.y,
            batch.weights,
            &mut self.room.slopes[last],
        );
        self.net.clear(gradient);
        self.net.backward(spec, weights, &mut self.room, rows, gradient);
        sum
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.values.iter_mut().for_each(Zeroize::zeroize);
        self.slopes.iter_mut().for_each(Zeroize::zeroize);
        self.columns.zeroize();
    }
}
