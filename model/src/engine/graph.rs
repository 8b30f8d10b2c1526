//! Every operation on burn: forward over any range, and gradients by its autodiff.
//!
//! Each value is a burn tensor `[batch, elements]`, whatever its shape in the spec; an operation
//! gives it the shape it needs and flattens the result again, which costs nothing as rows stay
//! contiguous. Each parameter is a flat tensor under its place in the layout. burn panics on shapes
//! that do not fit: nothing here runs on a spec, values or a boundary that were not checked.

mod ops;

use std::ops::Range;

use burn::tensor::{Device, Tensor as BurnTensor, TensorData};

use super::objective::Objective;
use super::train::Batch;
use crate::loss::LossSum;
use crate::spec::CheckedSpec;
use crate::tensor::{Boundary, ShapeError, Tensor};

/// Parameters as burn tensors, in layout order.
pub(super) struct Loaded {
    params: Vec<BurnTensor<1>>,
    device: Device,
}

impl Loaded {
    pub(super) fn new(spec: &CheckedSpec, values: &[f32]) -> Self {
        Self::on(Device::flex(), spec, values)
    }

    /// The same on a device of the caller's choice.
    pub(super) fn on(device: Device, spec: &CheckedSpec, values: &[f32]) -> Self {
        let place = |entry: &crate::layout::ParamEntry| vector(&values[entry.range()], &device);
        let params = spec.layout().entries().iter().map(place).collect();
        Self { params, device }
    }

    /// Runs some of the nodes; the boundary has been checked against the cut at `range.start`.
    pub(super) fn forward(
        &self,
        spec: &CheckedSpec,
        range: Range<usize>,
        input: &Boundary,
    ) -> Result<Boundary, ShapeError> {
        let rows = input.batch();
        let mut values = Values::new(spec, rows);
        for (&value, tensor) in spec.live(range.start).iter().zip(input.tensors()) {
            values.put(value, matrix(tensor.data(), rows, &self.device));
        }
        values.run(range.clone(), &self.params);
        let out = spec.live(range.end).into_iter().map(|value| {
            let data = read(values.get(value));
            Tensor::new([&[rows], spec.shape(value)].concat(), data)
        });
        Boundary::new(out.collect::<Result<_, _>>()?)
    }
}

/// The values alive during one pass.
struct Values<'a> {
    spec: &'a CheckedSpec,
    rows: usize,
    slots: Vec<Option<BurnTensor<2>>>,
}

impl<'a> Values<'a> {
    fn new(spec: &'a CheckedSpec, rows: usize) -> Self {
        Self { spec, rows, slots: vec![None; spec.n_inputs() + spec.n_nodes()] }
    }

    fn put(&mut self, value: usize, tensor: BurnTensor<2>) {
        self.slots[value] = Some(tensor);
    }

    fn get(&self, value: usize) -> BurnTensor<2> {
        self.slots[value].clone().expect("a checked spec reads only values made before")
    }

    fn run(&mut self, range: Range<usize>, params: &[BurnTensor<1>]) {
        for node in range {
            let sources = self.spec.sources(node);
            let inputs = sources.iter().map(|&value| self.get(value)).collect();
            let shapes: Vec<&[usize]> =
                sources.iter().map(|&value| self.spec.shape(value)).collect();
            let own: Vec<BurnTensor<1>> =
                self.spec.param_places(node).iter().map(|&place| params[place].clone()).collect();
            let call = ops::Call { rows: self.rows, inputs, shapes, params: own };
            let output = call.run(&self.spec.nodes()[node].op);
            self.put(self.spec.n_inputs() + node, output);
            for &value in sources {
                if self.spec.is_last_use(value, node) {
                    self.slots[value] = None;
                }
            }
        }
    }
}

/// Gradients by burn's autodiff.
pub(super) struct Differentiator<'a> {
    spec: &'a CheckedSpec,
    device: Device,
}

impl<'a> Differentiator<'a> {
    pub(super) fn new(spec: &'a CheckedSpec) -> Self {
        Self::on(Device::flex(), spec)
    }

    /// The same on a device of the caller's choice.
    pub(super) fn on(device: Device, spec: &'a CheckedSpec) -> Self {
        Self { spec, device: device.autodiff() }
    }

    /// See [`super::train::Differentiator::gradient`].
    pub(super) fn gradient(
        &mut self,
        weights: &[f32],
        batch: &Batch<'_>,
        objective: &Objective,
        gradient: &mut [f32],
    ) -> LossSum {
        let spec = self.spec;
        let loaded = Loaded::on(self.device.clone(), spec, weights);
        let entries = spec.layout().entries();
        let params: Vec<BurnTensor<1>> = loaded
            .params
            .into_iter()
            .zip(entries)
            .map(|(param, entry)| if entry.trainable { param.require_grad() } else { param })
            .collect();
        let mut values = Values::new(spec, batch.rows);
        let mut start = 0;
        for value in 0..spec.n_inputs() {
            let end = start + spec.elements(value);
            let rows = batch.x.chunks_exact(spec.input_width());
            let part: Vec<f32> = rows.flat_map(|row| &row[start..end]).copied().collect();
            values.put(value, matrix(&part, batch.rows, &self.device));
            start = end;
        }
        values.run(0..spec.n_nodes(), &params);
        let output = values.get(spec.n_inputs() + spec.n_nodes() - 1);
        let outputs = read(output.clone());
        let mut slope = vec![0.0; outputs.len()];
        let sum = objective.batch(&outputs, batch.y, batch.weights, &mut slope);
        gradient.fill(0.0);
        if !output.is_tracked() {
            return sum; // a model without parameters
        }
        // The loss is not part of burn's graph: the derivative of Σ output · slope with respect to
        // the parameters is the chain rule's other half.
        let slope = matrix(&slope, batch.rows, &self.device);
        let mut gradients = (output * slope).sum().backward();
        for (param, entry) in params.iter().zip(entries).filter(|(_, entry)| entry.trainable) {
            if let Some(found) = param.grad_remove(&mut gradients) {
                gradient[entry.range()].copy_from_slice(&read(found));
            }
        }
        sum
    }
}

fn vector(values: &[f32], device: &Device) -> BurnTensor<1> {
    BurnTensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

fn matrix(values: &[f32], rows: usize, device: &Device) -> BurnTensor<2> {
    let data = TensorData::new(values.to_vec(), [rows, values.len() / rows]);
    BurnTensor::from_data(data, device)
}

fn read<const D: usize>(tensor: BurnTensor<D>) -> Vec<f32> {
    let data = tensor.into_data();
    data.as_slice::<f32>().expect("all tensors here are f32 on the processor").to_vec()
}
