//! What a node of a program may do: a closed list of tensor operations.
//!
//! Their meaning is ONNX's operator of the same name in its newest version, on values whose batch is
//! an axis like any other; what older versions said otherwise is translated when a file is read. Not
//! an open registry: a program comes from outside and is data. Start at [`TensorOp`].

mod details;

use serde::{Deserialize, Serialize};

use super::value::DType;
pub use details::{
    Attention, Binary, Cell, Coordinates, Direction, Fold, KeepAspect, LossReduction, Nearest,
    PadMode, Pads, Pool, Recurrent, Reduce, Resize, ResizeMode, Rotary, Scatter, Softmax, Unary,
    Window,
};

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
