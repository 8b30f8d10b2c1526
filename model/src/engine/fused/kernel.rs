//! One node as a kernel: what it is made of, forward, backward.
//!
//! A kernel sees whole rows: inputs and output of one row or of several one after another. Gradients
//! are added to what is there, because a value may be read by several nodes. Start at [`Kernel::new`].

use std::f32::consts::{FRAC_1_SQRT_2, PI};
use std::ops::Range;

use super::conv::Conv;
use super::norm::{self, Frozen, Norm};
use super::pool::PoolShape;
use super::product::{View, multiply};
use crate::loss::sigmoid;
use crate::spec::{CheckedSpec, Op};

/// What a node does, with all its sizes.
pub(super) enum Kernel {
    Linear {
        weight: Range<usize>,
        bias: Option<Range<usize>>,
        width: usize,
    },
    Conv(Conv),
    MaxPool(PoolShape),
    /// Mean of windows; the whole image is one window for the global one.
    MeanPool(PoolShape),
    Norm(Norm),
    Frozen(Frozen),
    Pointwise(Pointwise),
    Softmax {
        run: usize,
    },
    /// The same elements: flatten, reshape.
    Keep,
    Add,
    /// Inputs side by side: lengths of their runs.
    Concat(Vec<usize>),
}

/// Element by element.
#[derive(Clone, Copy)]
pub(super) enum Pointwise {
    Relu,
    Gelu,
    Sigmoid,
    Tanh,
    Silu,
}

impl Kernel {
    /// The kernel of a node.
    pub(super) fn new(spec: &CheckedSpec, node: usize) -> Self {
        let sources = spec.sources(node);
        let shape = spec.shape(sources[0]);
        let out = spec.shape(spec.n_inputs() + node);
        let place = |i: usize| spec.layout().entries()[spec.param_places(node)[i]].range();
        let sides = |shape: &[usize]| [shape[1], shape[2]];
        let cells = |shape: &[usize]| shape[1..].iter().product::<usize>();
        match &spec.nodes()[node].op {
            Op::Linear { bias, .. } => {
                let bias = bias.then(|| place(1));
                Self::Linear { weight: place(0), bias, width: shape[shape.len() - 1] }
            }
            &Op::Conv2d { channels, kernel, stride, padding, groups, bias } => Self::Conv(Conv {
                weight: place(0),
                bias: bias.then(|| place(1)),
                channels: [shape[0], channels],
                groups,
                input: sides(shape),
                output: sides(out),
                kernel,
                stride,
                padding,
            }),
            &Op::MaxPool2d { kernel, stride, padding } => {
                let (input, output) = (sides(shape), sides(out));
                Self::MaxPool(PoolShape { input, output, kernel, stride, padding })
            }
            &Op::AvgPool2d { kernel, stride } => {
                let (input, output) = (sides(shape), sides(out));
                Self::MeanPool(PoolShape { input, output, kernel, stride, padding: [0, 0] })
            }
            Op::GlobalAvgPool => {
                let input = sides(shape);
                let whole = PoolShape {
                    input,
                    output: [1, 1],
                    kernel: input,
                    stride: [1, 1],
                    padding: [0, 0],
                };
                Self::MeanPool(whole)
            }
            &Op::BatchNorm { eps } => Self::Frozen(Frozen {
                weight: place(0),
                bias: place(1),
                mean: place(2),
                variance: place(3),
                cells: cells(shape),
                eps,
            }),
            &Op::LayerNorm { eps } => {
                let run = shape[shape.len() - 1];
                Self::Norm(Norm { weight: place(0), bias: place(1), run, each: 1, eps })
            }
            &Op::GroupNorm { groups, eps } => {
                let run = shape[0] / groups * cells(shape);
                let each = cells(shape);
                Self::Norm(Norm { weight: place(0), bias: place(1), run, each, eps })
            }
            Op::Relu => Self::Pointwise(Pointwise::Relu),
            Op::Gelu => Self::Pointwise(Pointwise::Gelu),
            Op::Sigmoid => Self::Pointwise(Pointwise::Sigmoid),
            Op::Tanh => Self::Pointwise(Pointwise::Tanh),
            Op::Silu => Self::Pointwise(Pointwise::Silu),
            Op::Softmax => Self::Softmax { run: shape[shape.len() - 1] },
            Op::Flatten | Op::Reshape { .. } => Self::Keep,
            Op::Add => Self::Add,
            Op::Concat { axis } => {
                let run = |&value: &usize| spec.shape(value)[*axis..].iter().product();
                Self::Concat(sources.iter().map(run).collect())
            }
        }
    }

    /// Elements of room that one row needs besides its values.
    pub(super) fn room(&self) -> usize {
        if let Self::Conv(conv) = self { conv.columns() } else { 0 }
    }

    /// Places of the gradient that [`Kernel::backward`] writes without reading them; all others must be
    /// zero before.
    pub(super) fn overwrites(&self) -> Range<usize> {
        if let Self::Linear { weight, .. } = self { weight.clone() } else { 0..0 }
    }

    /// Whether many rows are done better at once than one by one.
    pub(super) fn is_batched(&self) -> bool {
        matches!(self, Self::Linear { .. })
    }

    /// Rows of `inputs` to rows of `y`.
    pub(super) fn forward(
        &self,
        weights: &[f32],
        inputs: &[&[f32]],
        y: &mut [f32],
        rows: usize,
        room: &mut [f32],
    ) {
        let x = inputs[0];
        match self {
            Self::Linear { weight, bias, width } => {
                let units = weight.len() / width;
                let lines = y.len() / units;
                if let Some(bias) = bias {
                    let bias = &weights[bias.clone()];
                    y.chunks_exact_mut(units).for_each(|y| y.copy_from_slice(bias));
                }
                let turned = View::rows(&weights[weight.clone()], *width).turned();
                let size = [lines, *width, units];
                multiply(y, size, View::rows(x, *width), turned, bias.is_some());
            }
            Self::Conv(conv) => {
                let (from, to) = (x.len() / rows, y.len() / rows);
                for (x, y) in x.chunks_exact(from).zip(y.chunks_exact_mut(to)) {
                    conv.forward(weights, x, y, room);
                }
            }
            Self::MaxPool(pool) => pool.largest(x, y),
            Self::MeanPool(pool) => pool.mean(x, y),
            Self::Norm(norm) => norm.forward(weights, x, y),
            Self::Frozen(frozen) => frozen.forward(weights, x, y),
            Self::Pointwise(function) => function.forward(x, y),
            Self::Softmax { run } => norm::softmax(*run, x, y),
            Self::Keep => y.copy_from_slice(x),
            Self::Add => {
                y.copy_from_slice(x);
                for x in &inputs[1..] {
                    y.iter_mut().zip(*x).for_each(|(y, x)| *y += x);
                }
            }
            Self::Concat(runs) => {
                let total = runs.iter().sum();
                for (line, y) in y.chunks_exact_mut(total).enumerate() {
                    let mut start = 0;
                    for (x, run) in inputs.iter().zip(runs) {
                        y[start..start + run].copy_from_slice(&x[line * run..(line + 1) * run]);
                        start += run;
                    }
                }
            }
        }
    }

    /// From the gradient `dy` at the output `y` to those at the inputs (where wanted: `dx`, one for
    /// each input) and at the parameters; see [`Kernel::overwrites`].
    pub(super) fn backward(
        &self,
        weights: &[f32],
        pass: &Pass<'_>,
        dx: &mut [Option<&mut [f32]>],
        gradient: &mut [f32],
        room: &mut [f32],
    ) {
        let &Pass { inputs, y, dy, rows } = pass;
        let x = inputs[0];
        match self {
            Self::Linear { weight, bias, width } => {
                let units = weight.len() / width;
                let lines = dy.len() / units;
                if let Some(bias) = bias {
                    let sums = &mut gradient[bias.clone()];
                    for dy in dy.chunks_exact(units) {
                        sums.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
                    }
                }
                let above = View::rows(dy, units);
                let size = [units, lines, *width];
                let sums = &mut gradient[weight.clone()];
                multiply(sums, size, above.turned(), View::rows(x, *width), false);
                if let Some(dx) = dx[0].as_deref_mut() {
                    let weights = View::rows(&weights[weight.clone()], *width);
                    multiply(dx, [lines, units, *width], above, weights, true);
                }
            }
            Self::Conv(conv) => {
                let (from, to) = (x.len() / rows, dy.len() / rows);
                let mut dx = dx[0].as_deref_mut();
                let images = x.chunks_exact(from).zip(dy.chunks_exact(to));
                for (row, image) in images.enumerate() {
                    let dx = dx.as_deref_mut().map(|dx| &mut dx[row * from..(row + 1) * from]);
                    conv.backward(weights, image, dx, gradient, room);
                }
            }
            Self::Norm(norm) => {
                let mut spare = Vec::new();
                norm.backward(weights, (x, dy), wanted(&mut dx[0], x, &mut spare), gradient);
            }
            Self::Frozen(frozen) => {
                let mut spare = Vec::new();
                frozen.backward(weights, (x, dy), wanted(&mut dx[0], x, &mut spare), gradient);
            }
            Self::Concat(runs) => {
                let total: usize = runs.iter().sum();
                let mut start = 0;
                for (dx, &run) in dx.iter_mut().zip(runs) {
                    if let Some(dx) = dx {
                        let parts = dy.chunks_exact(total).map(|dy| &dy[start..start + run]);
                        dx.chunks_exact_mut(run).zip(parts).for_each(|(dx, dy)| add(dx, dy));
                    }
                    start += run;
                }
            }
            Self::Add => dx.iter_mut().flatten().for_each(|dx| add(dx, dy)),
            _ => {
                let Some(dx) = dx[0].as_deref_mut() else { return };
                match self {
                    Self::MaxPool(pool) => pool.largest_backward(x, dy, dx),
                    Self::MeanPool(pool) => pool.mean_backward(dy, dx),
                    Self::Pointwise(function) => function.backward(x, y, dy, dx),
                    Self::Softmax { run } => norm::softmax_backward(*run, y, dy, dx),
                    _ => add(dx, dy),
                }
            }
        }
    }
}

/// What a node saw on the way forward, and the gradient at its output.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) inputs: &'a [&'a [f32]],
    pub(super) y: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) rows: usize,
}

/// The gradient that is wanted, or room for one that nobody reads.
fn wanted<'a>(dx: &'a mut Option<&mut [f32]>, x: &[f32], spare: &'a mut Vec<f32>) -> &'a mut [f32] {
    match dx {
        Some(dx) => dx,
        None => {
            spare.resize(x.len(), 0.0);
            spare
        }
    }
}

fn add(sum: &mut [f32], terms: &[f32]) {
    sum.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
}

/// `Φ(x)`, the normal distribution.
fn normal(x: f32) -> f32 {
    0.5 * (1.0 + libm::erff(x * FRAC_1_SQRT_2))
}

impl Pointwise {
    fn forward(self, x: &[f32], y: &mut [f32]) {
        let map = |y: &mut [f32], f: fn(f32) -> f32| {
            y.iter_mut().zip(x).for_each(|(y, x)| *y = f(*x));
        };
        match self {
            Self::Relu => map(y, |x| x.max(0.0)),
            Self::Gelu => map(y, |x| x * normal(x)),
            Self::Sigmoid => map(y, sigmoid),
            Self::Tanh => map(y, f32::tanh),
            Self::Silu => map(y, |x| x * sigmoid(x)),
        }
    }

    fn backward(self, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
        let slope: fn(f32, f32) -> f32 = match self {
            Self::Relu => |_, y| if y > 0.0 { 1.0 } else { 0.0 },
            Self::Gelu => |x, _| normal(x) + x * (-0.5 * x * x).exp() / (2.0 * PI).sqrt(),
            Self::Sigmoid => |_, y| y * (1.0 - y),
            Self::Tanh => |_, y| 1.0 - y * y,
            Self::Silu => |x, y| {
                let s = sigmoid(x);
                s + y * (1.0 - s)
            },
        };
        for (dx, (dy, (x, y))) in dx.iter_mut().zip(dy.iter().zip(x.iter().zip(y))) {
            *dx += dy * slope(*x, *y);
        }
    }
}
