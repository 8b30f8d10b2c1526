//! What each operation computes: the general path, in plain loops, one output after another.
//!
//! It is meant to be right, for every type and shape, and to be read; it is the oracle of faster
//! kernels and folds constants when a file is read. Start at [`apply`].

mod attention;
pub(crate) mod broadcast;
mod elementwise;
mod index;
mod layout;
mod norm;
mod product;
mod recurrent;
mod reduce;
mod resize;
mod window;

use super::op::TensorOp as Op;
use super::value::{OpError, OpResult, Value, wrong};

/// The inputs of a node; those that were left out are `None`.
pub(crate) struct Inputs<'a>(pub(crate) &'a [Option<&'a Value>]);

impl<'a> Inputs<'a> {
    fn get(&self, at: usize) -> Option<&'a Value> {
        self.0.get(at).copied().flatten()
    }

    fn need(&self, at: usize) -> OpResult<&'a Value> {
        self.get(at).ok_or_else(|| OpError::Misfit(format!("input {at} is missing")))
    }

    fn all(&self) -> OpResult<Vec<&'a Value>> {
        (0..self.0.len()).map(|at| self.need(at)).collect()
    }

    fn ints(&self, at: usize) -> OpResult<Vec<i64>> {
        self.need(at)?.to_i64s()
    }

    fn maybe_ints(&self, at: usize) -> OpResult<Option<Vec<i64>>> {
        self.get(at).map(Value::to_i64s).transpose()
    }
}

/// Runs one operation. The number of outputs is what the operation can give; a node may name fewer.
///
/// # Errors
/// [`OpError`] where inputs are missing or their types or shapes do not fit.
pub(crate) fn apply(op: &Op, x: &Inputs<'_>) -> OpResult<Vec<Value>> {
    match op {
        Op::LayerNorm { axis, eps } => {
            return norm::layer(x.need(0)?, x.need(1)?, x.get(2), *axis, *eps);
        }
        Op::TopK { axis, largest } => {
            return reduce::top_k(x.need(0)?, x.need(1)?, *axis, *largest);
        }
        Op::Split { axis, parts } => {
            return layout::split(x.need(0)?, *axis, x.maybe_ints(1)?.as_deref(), *parts);
        }
        Op::Pool { kind, kernel, window, ceil } => {
            return window::pool(x.need(0)?, *kind, kernel, window, *ceil);
        }
        Op::Recurrent(how) => return recurrent::run(x.0, how),
        Op::CrossEntropy { softmax, reduction, ignore } => {
            let how = (*softmax, *reduction, *ignore);
            return index::cross_entropy(x.need(0)?, x.need(1)?, x.get(2), how);
        }
        Op::Attention(how) => return attention::attention(x.0, how),
        _ => {}
    }
    single(op, x).map(|value| vec![value])
}

fn single(op: &Op, x: &Inputs<'_>) -> OpResult<Value> {
    match op {
        Op::Unary(op) => elementwise::unary(*op, x.need(0)?),
        Op::Binary(op) => elementwise::binary(*op, x.need(0)?, x.need(1)?),
        Op::Fold(op) => elementwise::fold(*op, &x.all()?),
        Op::Where => elementwise::choose(x.need(0)?, x.need(1)?, x.need(2)?),
        Op::Clip => elementwise::clip(x.need(0)?, x.get(1), x.get(2)),
        Op::Cast(to) => elementwise::cast(x.need(0)?, *to),
        Op::Identity => Ok(x.need(0)?.clone()),
        Op::MatMul => product::matmul(x.need(0)?, x.need(1)?),
        Op::Gemm { alpha, beta, trans_a, trans_b } => {
            let values = [x.get(0), x.get(1), x.get(2)];
            product::gemm(values, [*alpha, *beta], [*trans_a, *trans_b])
        }
        Op::Det => product::det(x.need(0)?),
        Op::Softmax { kind, axis, flat } => norm::softmax(x.need(0)?, *kind, *axis, *flat),
        Op::Reduce { kind, keep, noop_if_empty } => {
            let axes = x.maybe_ints(1)?.unwrap_or_default();
            reduce::reduce(x.need(0)?, *kind, &axes, *keep, *noop_if_empty)
        }
        Op::ArgExtreme { max, axis, keep, last } => {
            reduce::arg_extreme(x.need(0)?, *max, *axis, *keep, *last)
        }
        Op::Cumulate { product, exclusive, reverse } => {
            reduce::cumulate(x.need(0)?, x.need(1)?, *product, *exclusive, *reverse)
        }
        Op::Resize(how) => resize::resize(x.need(0)?, x.get(1), x.get(2), x.get(3), how),
        Op::Rotary(how) => attention::rotary(x.0, how),
        Op::Conv { .. }
        | Op::ConvTranspose { .. }
        | Op::GlobalPool(_)
        | Op::MaxUnpool { .. }
        | Op::BatchNorm { .. }
        | Op::InstanceNorm { .. }
        | Op::RmsNorm { .. }
        | Op::GroupNorm { .. }
        | Op::Lrn { .. }
        | Op::LpNorm { .. }
        | Op::MeanVarianceNorm { .. } => image(op, x),
        Op::Gather { .. }
        | Op::GatherElements { .. }
        | Op::GatherNd { .. }
        | Op::ScatterElements { .. }
        | Op::ScatterNd { .. }
        | Op::Compress { .. }
        | Op::OneHot { .. }
        | Op::NonZero
        | Op::Trilu { .. }
        | Op::EyeLike { .. }
        | Op::Range
        | Op::ConstantOfShape => indexed(op, x),
        _ => arranged(op, x),
    }
}

/// Windows and norms.
fn image(op: &Op, x: &Inputs<'_>) -> OpResult<Value> {
    match op {
        Op::Conv { window, groups } => {
            window::conv(x.need(0)?, x.need(1)?, x.get(2), window, *groups)
        }
        Op::ConvTranspose { window, groups, output_padding, output_shape } => {
            let (how, more) = ((window, *groups), output_shape.as_deref());
            window::conv_transpose(x.need(0)?, x.need(1)?, x.get(2), how, output_padding, more)
        }
        Op::GlobalPool(kind) => window::global(x.need(0)?, *kind),
        Op::MaxUnpool { kernel, window } => {
            window::unpool(x.need(0)?, x.need(1)?, x.get(2), kernel, window)
        }
        Op::BatchNorm { eps } => {
            let by = [x.need(1)?, x.need(2)?, x.need(3)?, x.need(4)?];
            norm::batch(x.need(0)?, by, *eps)
        }
        Op::InstanceNorm { eps } => norm::groups(x.need(0)?, x.need(1)?, x.need(2)?, None, *eps),
        Op::GroupNorm { groups, eps } => {
            norm::groups(x.need(0)?, x.need(1)?, x.need(2)?, Some(*groups), *eps)
        }
        Op::RmsNorm { axis, eps } => norm::rms(x.need(0)?, x.need(1)?, *axis, *eps),
        Op::Lrn { size, alpha, beta, bias } => norm::lrn(x.need(0)?, *size, [*alpha, *beta, *bias]),
        Op::LpNorm { axis, p } => norm::lp(x.need(0)?, *axis, *p),
        Op::MeanVarianceNorm { axes } => norm::mean_variance(x.need(0)?, axes),
        _ => wrong("not an operation on images"),
    }
}

/// By index.
fn indexed(op: &Op, x: &Inputs<'_>) -> OpResult<Value> {
    match op {
        Op::Gather { axis } => index::gather(x.need(0)?, x.need(1)?, *axis),
        Op::GatherElements { axis } => index::gather_elements(x.need(0)?, x.need(1)?, *axis),
        Op::GatherNd { batch_dims } => index::gather_nd(x.need(0)?, x.need(1)?, *batch_dims),
        Op::ScatterElements { axis, reduction } => {
            index::scatter_elements(x.need(0)?, x.need(1)?, x.need(2)?, *axis, *reduction)
        }
        Op::ScatterNd { reduction } => {
            index::scatter_nd(x.need(0)?, x.need(1)?, x.need(2)?, *reduction)
        }
        Op::Compress { axis } => index::compress(x.need(0)?, x.need(1)?, *axis),
        Op::OneHot { axis } => index::one_hot(x.need(0)?, x.need(1)?, x.need(2)?, *axis),
        Op::NonZero => index::non_zero(x.need(0)?),
        Op::Trilu { upper } => {
            let k = x.maybe_ints(1)?.and_then(|all| all.first().copied()).unwrap_or(0);
            index::trilu(x.need(0)?, k, *upper)
        }
        Op::EyeLike { dtype, k } => index::eye_like(x.need(0)?, *dtype, *k),
        Op::Range => index::range(x.need(0)?, x.need(1)?, x.need(2)?),
        Op::ConstantOfShape => index::constant_of_shape(x.need(0)?, x.need(1)?),
        _ => wrong("not an operation by index"),
    }
}

/// The same elements in another arrangement.
fn arranged(op: &Op, x: &Inputs<'_>) -> OpResult<Value> {
    match op {
        Op::Shape { start, end } => shape(x.need(0)?, *start, *end),
        Op::Size => Ok(Value::scalar(i64::try_from(x.need(0)?.len()).unwrap_or(i64::MAX))),
        Op::Reshape { zeros } => layout::reshape(x.need(0)?, &x.ints(1)?, *zeros),
        Op::Transpose { perm } => layout::transpose(x.need(0)?, perm.as_deref()),
        Op::Flatten { axis } => layout::flatten(x.need(0)?, *axis),
        Op::Squeeze => layout::squeeze(x.need(0)?, x.maybe_ints(1)?.as_deref()),
        Op::Unsqueeze => layout::unsqueeze(x.need(0)?, &x.ints(1)?),
        Op::Expand => {
            let shape =
                x.ints(1)?.into_iter().map(layout::side_of).collect::<OpResult<Vec<_>>>()?;
            elementwise::expand(x.need(0)?, &shape)
        }
        Op::Tile => layout::tile(x.need(0)?, &x.ints(1)?),
        Op::Concat { axis } => layout::concat(&x.all()?, *axis),
        Op::Slice => {
            let (axes, steps) = (x.maybe_ints(3)?, x.maybe_ints(4)?);
            layout::slice(x.need(0)?, &x.ints(1)?, &x.ints(2)?, axes.as_deref(), steps.as_deref())
        }
        Op::Pad { mode } => {
            let axes = x.maybe_ints(3)?;
            layout::pad(x.need(0)?, &x.ints(1)?, x.get(2), axes.as_deref(), *mode)
        }
        Op::CenterCropPad { axes } => layout::center(x.need(0)?, &x.ints(1)?, axes),
        Op::DepthToSpace { block, crd } => layout::depth_to_space(x.need(0)?, *block, *crd),
        Op::SpaceToDepth { block } => layout::space_to_depth(x.need(0)?, *block),
        Op::ReverseSequence { batch_axis, time_axis } => {
            layout::reverse_sequence(x.need(0)?, &x.ints(1)?, *batch_axis, *time_axis)
        }
        _ => wrong("not an operation on shapes"),
    }
}

/// The shape, from an axis to before another; axes beyond the ends are the ends.
fn shape(x: &Value, start: i64, end: Option<i64>) -> OpResult<Value> {
    let rank = i64::try_from(x.rank()).unwrap_or(i64::MAX);
    let place = |axis: i64| {
        let at = if axis < 0 { axis.saturating_add(rank) } else { axis }.clamp(0, rank);
        usize::try_from(at).unwrap_or(0)
    };
    let (first, last) = (place(start), end.map_or(x.rank(), place));
    let sides = x.shape().get(first..last.max(first)).unwrap_or_default();
    Ok(Value::integers(sides.iter().map(|&side| i64::try_from(side).unwrap_or(i64::MAX)).collect()))
}
