//! What a node of a program may do: a closed list of tensor operations.
//!
//! Their meaning is ONNX's operator of the same name in its newest version, on values whose batch is
//! an axis like any other; what older versions said otherwise is translated when a file is read. Not
//! an open registry: a program comes from outside and is data. Start at [`TensorOp`].

use serde::{Deserialize, Serialize};

use super::value::DType;

/// One operation, with everything about it that is not a tensor. What ONNX passes as an optional
/// tensor (axes, sizes, bounds) stays an input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TensorOp {
    /// One value, element by element.
    Unary(Unary),
    /// Two values, element by element; shapes are broadcast.
    Binary(Binary),
    /// Any number of values, element by element; shapes are broadcast.
    Fold(Fold),
    /// `condition ? a : b`, broadcast.
    Where,
    /// Within `[min, max]`, each a tensor that may be left out.
    Clip,
    /// Another type of element.
    Cast(DType),
    /// The first input as it is.
    Identity,
    /// Matrix product over the last two axes; the others are broadcast.
    MatMul,
    /// `alpha · A' B' + beta · C`.
    Gemm {
        /// Factor of the product.
        alpha: f64,
        /// Factor of C.
        beta: f64,
        /// Whether A' is A transposed.
        trans_a: bool,
        /// Whether B' is B transposed.
        trans_b: bool,
    },
    /// Convolution of `[n, c, …]` with weights `[m, c / groups, …]` and an optional bias.
    Conv {
        /// How windows move.
        window: Window,
        /// Groups of channels that do not mix.
        groups: usize,
    },
    /// Its transpose: weights `[c, m / groups, …]`.
    ConvTranspose {
        /// How windows move.
        window: Window,
        /// Groups of channels that do not mix.
        groups: usize,
        /// Cells added at the end of each axis.
        output_padding: Vec<usize>,
        /// Sides of the output, which then decide the padding.
        output_shape: Option<Vec<usize>>,
    },
    /// One number for each window of `[n, c, …]`.
    Pool {
        /// Which number.
        kind: Pool,
        /// Sides of a window.
        kernel: Vec<usize>,
        /// How windows move.
        window: Window,
        /// Whether a last, incomplete window counts.
        ceil: bool,
    },
    /// One number for each channel of `[n, c, …]`.
    GlobalPool(Pool),
    /// Values at the places that [`Pool::Max`] gave, zero elsewhere.
    MaxUnpool {
        /// Sides of a window.
        kernel: Vec<usize>,
        /// How windows move.
        window: Window,
    },
    /// By given statistics for each channel: x, scale, bias, mean, variance.
    BatchNorm {
        /// Added to the variance.
        eps: f64,
    },
    /// By each channel's own statistics: x, scale, bias.
    InstanceNorm {
        /// Added to the variance.
        eps: f64,
    },
    /// By the statistics of all axes from `axis` on: x, scale, bias. Gives mean and 1/σ as well.
    LayerNorm {
        /// First axis.
        axis: i64,
        /// Added to the variance.
        eps: f64,
    },
    /// By the root mean square of all axes from `axis` on: x, scale.
    RmsNorm {
        /// First axis.
        axis: i64,
        /// Added to the mean square.
        eps: f64,
    },
    /// By the statistics of groups of channels: x, scale, bias.
    GroupNorm {
        /// Number of groups.
        groups: usize,
        /// Added to the variance.
        eps: f64,
    },
    /// By the values of neighbouring channels (Krizhevsky et al. 2012).
    Lrn {
        /// Channels that count.
        size: usize,
        /// See the paper.
        alpha: f64,
        /// See the paper.
        beta: f64,
        /// See the paper.
        bias: f64,
    },
    /// By the p-norm along an axis.
    LpNorm {
        /// The axis.
        axis: i64,
        /// 1 or 2.
        p: u8,
    },
    /// Mean 0 and variance 1 over the axes.
    MeanVarianceNorm {
        /// The axes.
        axes: Vec<i64>,
    },
    /// Softmax and its kin along an axis.
    Softmax {
        /// Which.
        kind: Softmax,
        /// The axis.
        axis: i64,
        /// Whether all axes from there on count as one, as before opset 13.
        flat: bool,
    },
    /// One number for all along the axes (second input; none: all).
    Reduce {
        /// Which.
        kind: Reduce,
        /// Whether the axes stay, with length 1.
        keep: bool,
        /// Whether no axes means none instead of all.
        noop_if_empty: bool,
    },
    /// Place of the extreme along an axis.
    ArgExtreme {
        /// The largest, else the smallest.
        max: bool,
        /// The axis.
        axis: i64,
        /// Whether the axis stays, with length 1.
        keep: bool,
        /// Whether the last of equals counts.
        last: bool,
    },
    /// Sums or products along an axis (second input).
    Cumulate {
        /// Products instead of sums.
        product: bool,
        /// Without the element itself.
        exclusive: bool,
        /// From the end.
        reverse: bool,
    },
    /// The k (second input) extremes along an axis, and their places.
    TopK {
        /// The axis.
        axis: i64,
        /// The largest, else the smallest.
        largest: bool,
    },
    /// The shape, from an axis to before another.
    Shape {
        /// First axis.
        start: i64,
        /// Axis after the last; none: all.
        end: Option<i64>,
    },
    /// Number of elements.
    Size,
    /// Other shape (second input): 0 copies unless `zeros` says they are meant, -1 is what is left.
    Reshape {
        /// Whether 0 means an empty axis.
        zeros: bool,
    },
    /// Axes in another order; none: reversed.
    Transpose {
        /// The order.
        perm: Option<Vec<usize>>,
    },
    /// Two axes: those before `axis`, and the rest.
    Flatten {
        /// First axis of the rest.
        axis: i64,
    },
    /// Without axes of length 1 (second input; none: all of these).
    Squeeze,
    /// With axes of length 1 (second input).
    Unsqueeze,
    /// Broadcast to a shape (second input).
    Expand,
    /// Repeated along each axis (second input).
    Tile,
    /// Side by side along an axis.
    Concat {
        /// The axis.
        axis: i64,
    },
    /// Apart along an axis, by lengths (second input) or into equal parts.
    Split {
        /// The axis.
        axis: i64,
        /// Parts.
        parts: usize,
    },
    /// From, to, axes, steps: inputs two to five.
    Slice,
    /// Cells around: pads, value, axes as inputs.
    Pad {
        /// What they are.
        mode: PadMode,
    },
    /// Centre cropped or padded to sides (second input).
    CenterCropPad {
        /// The axes; none: all.
        axes: Vec<i64>,
    },
    /// Channels to blocks of cells.
    DepthToSpace {
        /// Side of a block.
        block: usize,
        /// Order column, row, depth instead of depth, column, row.
        crd: bool,
    },
    /// Blocks of cells to channels.
    SpaceToDepth {
        /// Side of a block.
        block: usize,
    },
    /// Slices at indices (second input) of an axis.
    Gather {
        /// The axis.
        axis: i64,
    },
    /// Elements at indices along an axis.
    GatherElements {
        /// The axis.
        axis: i64,
    },
    /// Slices at tuples of indices.
    GatherNd {
        /// Leading axes that go together.
        batch_dims: usize,
    },
    /// Elements put at indices along an axis.
    ScatterElements {
        /// The axis.
        axis: i64,
        /// What happens to what is there.
        reduction: Scatter,
    },
    /// Slices put at tuples of indices.
    ScatterNd {
        /// What happens to what is there.
        reduction: Scatter,
    },
    /// Slices where the condition holds.
    Compress {
        /// The axis; none: the flattened tensor.
        axis: Option<i64>,
    },
    /// Indices, depth, values: one axis more.
    OneHot {
        /// Its place.
        axis: i64,
    },
    /// Places of what is not zero, `[rank, count]`.
    NonZero,
    /// Triangle of the last two axes; the second input moves the diagonal.
    Trilu {
        /// The upper one.
        upper: bool,
    },
    /// Ones on a diagonal.
    EyeLike {
        /// Type of the elements; none: the input's.
        dtype: Option<DType>,
        /// The diagonal.
        k: i64,
    },
    /// Start, limit, delta.
    Range,
    /// A shape full of one element, which is the second input here.
    ConstantOfShape,
    /// Reversed along the time axis up to each length.
    ReverseSequence {
        /// Axis of the batch.
        batch_axis: usize,
        /// Axis of the time.
        time_axis: usize,
    },
    /// Determinant of the last two axes.
    Det,
    /// Interpolated to scales or sizes (third and fourth input).
    Resize(Resize),
    /// Recurrent network.
    Recurrent(Recurrent),
    /// Negative log-likelihood of classes; gives the log-probabilities as well.
    CrossEntropy {
        /// Whether the input is scores, not log-probabilities yet.
        softmax: bool,
        /// What is done with the losses of rows.
        reduction: LossReduction,
        /// A class that does not count.
        ignore: Option<i64>,
    },
    /// Attention of several heads; see `ops/attention.rs`.
    Attention(Attention),
    /// Rotary positions (Su et al. 2021): x, cos, sin, positions.
    Rotary(Rotary),
}

/// Element by element.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are ONNX's operators and attributes")]
pub enum Unary {
    Abs,
    Neg,
    Ceil,
    Floor,
    Round,
    Sign,
    Sqrt,
    Reciprocal,
    Exp,
    Log,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Erf,
    Sigmoid,
    Relu,
    Softplus,
    Softsign,
    Mish,
    HardSwish,
    Gelu { tanh: bool },
    Swish { alpha: f64 },
    LeakyRelu { alpha: f64 },
    Elu { alpha: f64 },
    Celu { alpha: f64 },
    Selu { alpha: f64, gamma: f64 },
    HardSigmoid { alpha: f64, beta: f64 },
    ThresholdedRelu { alpha: f64 },
    Shrink { lambd: f64, bias: f64 },
    IsNan,
    IsInf { negative: bool, positive: bool },
    Not,
    BitwiseNot,
}

/// Element by element, of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are ONNX's operators and attributes")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Mod { fmod: bool },
    PRelu,
    BitwiseAnd,
    BitwiseOr,
    BitwiseXor,
    BitShift { left: bool },
    And,
    Or,
    Xor,
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Element by element, of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are ONNX's operators")]
pub enum Fold {
    Max,
    Min,
    Sum,
    Mean,
}

/// How windows move over the axes behind the channels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Steps along each axis; none: 1.
    pub strides: Vec<usize>,
    /// Distance of a window's cells along each axis; none: 1.
    pub dilations: Vec<usize>,
    /// Cells added.
    pub pads: Pads,
}

/// Cells added before and behind each axis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pads {
    /// All the numbers before, then all behind; none: 0.
    Explicit(Vec<usize>),
    /// As many that the output has ⌈side / stride⌉ cells; an odd one behind.
    SameUpper,
    /// The same; an odd one before.
    SameLower,
}

/// What a pool gives of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The largest, and its place.
    Max {
        /// Whether places count the last axis but one fastest.
        column_major: bool,
    },
    /// The mean.
    Average {
        /// Whether added cells count.
        count_pads: bool,
    },
    /// The p-norm.
    Lp(u32),
}

/// Softmax and its kin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are ONNX's operators")]
pub enum Softmax {
    Softmax,
    LogSoftmax,
    Hardmax,
}

/// What a reduction gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are ONNX's operators")]
pub enum Reduce {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L1,
    L2,
    LogSum,
    LogSumExp,
    SumSquare,
}

/// What cells around a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are ONNX's modes")]
pub enum PadMode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

/// What happens where something is scattered to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are ONNX's reductions; `Set` is its `none`")]
pub enum Scatter {
    Set,
    Add,
    Mul,
    Max,
    Min,
}

/// What is done with the losses of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are ONNX's reductions")]
pub enum LossReduction {
    None,
    Sum,
    Mean,
}

/// How a tensor is interpolated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are ONNX's attributes")]
pub struct Resize {
    pub mode: ResizeMode,
    pub coordinates: Coordinates,
    pub nearest: Nearest,
    pub cubic_a: f64,
    pub exclude_outside: bool,
    pub extrapolation: f64,
    pub antialias: bool,
    /// The axes that scales and sizes speak of; none: all.
    pub axes: Vec<i64>,
    pub keep_aspect: KeepAspect,
}

/// See [`Resize`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are ONNX's modes")]
pub enum ResizeMode {
    Nearest,
    Linear,
    Cubic,
}

/// See [`Resize`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are ONNX's modes")]
pub enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfCropAndResize,
}

/// See [`Resize`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are ONNX's modes")]
pub enum Nearest {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
}

/// See [`Resize`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are ONNX's policies")]
pub enum KeepAspect {
    Stretch,
    NotLarger,
    NotSmaller,
}

/// A recurrent network: x, weights, recurrent weights, bias, lengths, first states, peepholes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recurrent {
    /// Its kind.
    pub cell: Cell,
    /// Width of the state.
    pub hidden: usize,
    /// Forward, backward or both.
    pub direction: Direction,
    /// Whether the batch is the first axis.
    pub batch_first: bool,
}

/// See [`Recurrent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are ONNX's operators")]
pub enum Cell {
    Rnn,
    Gru { linear_before_reset: bool },
    Lstm,
}

/// See [`Recurrent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are ONNX's directions")]
pub enum Direction {
    Forward,
    Reverse,
    Bidirectional,
}

/// Attention of several heads: q, k, v, mask, past key, past value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// Heads of q, where its shape does not say.
    pub q_heads: Option<usize>,
    /// Heads of k and v, where their shape does not say.
    pub kv_heads: Option<usize>,
    /// Factor of the scores; none: 1/√width.
    pub scale: Option<f64>,
    /// Whether a position sees none behind it.
    pub causal: bool,
    /// Scores are squashed to ± this, unless 0.
    pub softcap: f64,
}

/// Rotary positions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotary {
    /// Whether neighbours are pairs, instead of halves.
    pub interleaved: bool,
    /// Heads, where the shape does not say.
    pub heads: Option<usize>,
    /// Leading elements of a head that turn; 0: all.
    pub width: usize,
}
