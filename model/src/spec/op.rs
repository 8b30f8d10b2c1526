//! What a node may do: a closed list of operations with their hyper-parameters.
//!
//! Not an open registry: a model comes from outside and is data, so every operation is known here,
//! has one meaning, and that meaning is PyTorch's module of the same name unless said otherwise.
//! To add one, follow the compiler: [`Op`], then `spec/infer.rs`, then `engine/graph.rs`.

use serde::{Deserialize, Serialize};

/// One operation. Shapes below leave the batch out: `[d]` is a vector, `[t, d]` a sequence of
/// vectors, `[c, h, w]` an image with its channels first.
///
/// Written as `op = "relu"` where there is nothing to set, and `op = { linear = { units = 64 } }`
/// where there is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// `y = x Wᵀ + b` over the last axis: `[d]` to `[units]`, `[t, d]` to `[t, units]`.
    Linear {
        /// Width of the output, at least 1.
        units: usize,
        /// Whether there is a bias.
        #[serde(default = "yes")]
        bias: bool,
    },
    /// Convolution of `[c, h, w]`; an output side is `(side + 2 padding - kernel) / stride + 1`.
    Conv2d {
        /// Channels of the output; a multiple of `groups`.
        channels: usize,
        /// Height and width of the window.
        kernel: [usize; 2],
        /// Steps of the window.
        #[serde(default = "ones")]
        stride: [usize; 2],
        /// Zeros added on each side; less than the kernel.
        #[serde(default)]
        padding: [usize; 2],
        /// Groups of channels that do not mix; divides the input's channels.
        #[serde(default = "one")]
        groups: usize,
        /// Whether there is a bias.
        #[serde(default = "yes")]
        bias: bool,
    },
    /// Largest value of each window of `[c, h, w]`; padding never wins.
    MaxPool2d {
        /// Height and width of the window.
        kernel: [usize; 2],
        /// Steps of the window.
        stride: [usize; 2],
        /// Cells added on each side; at most half the kernel.
        #[serde(default)]
        padding: [usize; 2],
    },
    /// Mean of each window of `[c, h, w]`. It has no padding, so whether padding counts is no question.
    AvgPool2d {
        /// Height and width of the window.
        kernel: [usize; 2],
        /// Steps of the window.
        stride: [usize; 2],
    },
    /// Mean over height and width: `[c, h, w]` to `[c]`.
    GlobalAvgPool,
    /// `(x - running_mean) / sqrt(running_var + eps) · weight + bias` per channel (first axis), in
    /// training as in inference.
    ///
    /// The statistics are *frozen buffers*: they come with the start version and no training changes
    /// them, because statistics of a site's batches must not leave it outside a secure sum, and a
    /// variance with noise added may turn negative. From scratch, use [`Op::GroupNorm`].
    BatchNorm {
        /// Added to the variance.
        #[serde(default = "eps")]
        eps: f64,
    },
    /// Normalises the last axis, then scales and shifts it.
    LayerNorm {
        /// Added to the variance.
        #[serde(default = "eps")]
        eps: f64,
    },
    /// Normalises groups of channels (first axis) with all their cells, then scales and shifts each
    /// channel.
    GroupNorm {
        /// Number of groups; divides the channels.
        groups: usize,
        /// Added to the variance.
        #[serde(default = "eps")]
        eps: f64,
    },
    /// `max(x, 0)`.
    Relu,
    /// `x Φ(x)` with the error function, not its approximation by tanh.
    Gelu,
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `x · sigmoid(x)`.
    Silu,
    /// Softmax over the last axis.
    Softmax,
    /// Any shape to one axis, last axis fastest.
    Flatten,
    /// The same elements under another shape.
    Reshape {
        /// The new shape, without the batch.
        shape: Vec<usize>,
    },
    /// Sum of two or more values of one shape: the residual connection.
    Add,
    /// Values side by side along an axis; their other axes agree.
    Concat {
        /// The axis, 0 for the first one after the batch.
        axis: usize,
    },
}

impl Op {
    /// The name as written in a spec.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear",
            Self::Conv2d { .. } => "conv2d",
            Self::MaxPool2d { .. } => "max_pool2d",
            Self::AvgPool2d { .. } => "avg_pool2d",
            Self::GlobalAvgPool => "global_avg_pool",
            Self::BatchNorm { .. } => "batch_norm",
            Self::LayerNorm { .. } => "layer_norm",
            Self::GroupNorm { .. } => "group_norm",
            Self::Relu => "relu",
            Self::Gelu => "gelu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Silu => "silu",
            Self::Softmax => "softmax",
            Self::Flatten => "flatten",
            Self::Reshape { .. } => "reshape",
            Self::Add => "add",
            Self::Concat { .. } => "concat",
        }
    }

    /// Whether the operation mixes its input with learned weights, so that its output no longer is
    /// the input in other clothes. Cuts use it: see [`crate::cut::legal_cuts`].
    #[must_use]
    pub fn mixes(&self) -> bool {
        matches!(self, Self::Linear { .. } | Self::Conv2d { .. })
    }
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn ones() -> [usize; 2] {
    [1, 1]
}

fn eps() -> f64 {
    1e-5
}
