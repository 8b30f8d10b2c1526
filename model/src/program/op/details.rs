//! What operations are told beside their tensors: which function, which window, which mode.
//!
//! Values of a closed list and numbers; what they mean is where the operation is computed. Start at
//! [`super::TensorOp`].

use serde::{Deserialize, Serialize};

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
