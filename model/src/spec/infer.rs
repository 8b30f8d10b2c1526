//! Shape inference: from an operation and its input shapes to its output shape and parameters.
//!
//! It never looks at names or order; `check.rs` does. Every product is taken with overflow checks,
//! because the numbers come from outside.

use super::op::Op;
use crate::layout::{Init, NewParam};
use crate::limits::{
    DIM_MAX, PARAMETERS_MAX, RANK_MAX, VALUE_ELEMENTS_MAX, WINDOW_ELEMENTS_MAX, WINDOW_MAX,
};

/// What is wrong, and what to do; the caller adds the node's name.
pub(super) type Problem = String;

/// Number of elements of a shape that is within all limits.
pub(super) fn check_shape(shape: &[usize]) -> Result<usize, Problem> {
    if shape.is_empty() || shape.len() > RANK_MAX {
        return Err(format!(
            "shape {shape:?} has {} axes; use 1 to {RANK_MAX}, without the batch",
            shape.len()
        ));
    }
    if let Some(dim) = shape.iter().find(|&&dim| dim == 0 || dim > DIM_MAX) {
        return Err(format!("shape {shape:?} has an axis of {dim}; use 1 to {DIM_MAX}"));
    }
    let elements = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim));
    match elements {
        Some(elements) if elements <= VALUE_ELEMENTS_MAX => Ok(elements),
        _ => Err(format!(
            "shape {shape:?} has more than {VALUE_ELEMENTS_MAX} elements; make it smaller"
        )),
    }
}

/// Output shape of `op` for these input shapes, which are checked themselves.
pub(super) fn output_shape(op: &Op, inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
    let shape = match op {
        Op::Add => same_shapes(inputs)?,
        Op::Concat { axis } => concat(inputs, *axis)?,
        _ => {
            let [input] = inputs else {
                return Err(format!(
                    "{} reads one value, got {}; use `add` or `concat` to join values",
                    op.name(),
                    inputs.len()
                ));
            };
            unary(op, input)?
        }
    };
    check_shape(&shape)?;
    Ok(shape)
}

fn unary(op: &Op, input: &[usize]) -> Result<Vec<usize>, Problem> {
    match op {
        Op::Linear { units, .. } => {
            let [before @ .., _] = input else { unreachable!("shapes have at least one axis") };
            if input.len() > 2 {
                return Err(wrong(op, input, "[d] or [t, d]; put `flatten` before it"));
            }
            Ok([before, &[*units]].concat())
        }
        Op::Conv2d { .. } => conv(op, input),
        Op::MaxPool2d { kernel, stride, padding } => {
            let [c, h, w] = image(op, input)?;
            if (0..2).any(|i| padding[i] > kernel[i] / 2) {
                return Err(format!("padding {padding:?} is more than half the kernel {kernel:?}"));
            }
            let [h, w] = window([h, w], *kernel, *stride, *padding)?;
            Ok(vec![c, h, w])
        }
        Op::AvgPool2d { kernel, stride } => {
            let [c, h, w] = image(op, input)?;
            let [h, w] = window([h, w], *kernel, *stride, [0, 0])?;
            Ok(vec![c, h, w])
        }
        Op::GlobalAvgPool => Ok(vec![image(op, input)?[0]]),
        Op::BatchNorm { eps } | Op::LayerNorm { eps } => positive_eps(*eps).map(|()| input.into()),
        Op::GroupNorm { groups, eps } => {
            positive_eps(*eps)?;
            divides(*groups, input[0], "groups", "channels")?;
            Ok(input.into())
        }
        Op::Relu | Op::Gelu | Op::Sigmoid | Op::Tanh | Op::Silu | Op::Softmax => Ok(input.into()),
        Op::Flatten => Ok(vec![input.iter().product()]),
        Op::Reshape { shape } => {
            let (old, new) = (check_shape(input)?, check_shape(shape)?);
            if old != new {
                return Err(format!(
                    "cannot reshape {input:?} ({old} elements) to {shape:?} ({new})"
                ));
            }
            Ok(shape.clone())
        }
        Op::Add | Op::Concat { .. } => {
            unreachable!("operations with several inputs are done above")
        }
    }
}

fn conv(op: &Op, input: &[usize]) -> Result<Vec<usize>, Problem> {
    let Op::Conv2d { channels, kernel, stride, padding, groups, .. } = op else {
        unreachable!("called for convolutions only")
    };
    let [c, h, w] = image(op, input)?;
    divides(*groups, c, "groups", "input channels")?;
    divides(*groups, *channels, "groups", "output channels")?;
    if (0..2).any(|i| padding[i] >= kernel[i]) {
        return Err(format!("padding {padding:?} must be less than the kernel {kernel:?}"));
    }
    let [h, w] = window([h, w], *kernel, *stride, *padding)?;
    let cells = [c, kernel[0], kernel[1], h, w]
        .iter()
        .try_fold(1usize, |n, &dim| n.checked_mul(dim))
        .unwrap_or(usize::MAX);
    if cells > WINDOW_ELEMENTS_MAX {
        return Err(format!(
            "its windows hold {cells} cells for one row, at most {WINDOW_ELEMENTS_MAX}; use a \
             larger stride or fewer channels"
        ));
    }
    Ok(vec![*channels, h, w])
}

/// Sides after a sliding window.
fn window(
    sides: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
) -> Result<[usize; 2], Problem> {
    let mut out = [0; 2];
    for i in 0..2 {
        if kernel[i] == 0 || stride[i] == 0 || kernel[i] > WINDOW_MAX || stride[i] > WINDOW_MAX {
            return Err(format!(
                "kernel {kernel:?} and stride {stride:?} must be 1 to {WINDOW_MAX}"
            ));
        }
        let side = sides[i] + 2 * padding[i].min(WINDOW_MAX);
        if side < kernel[i] {
            return Err(format!("kernel {kernel:?} is larger than the padded image {sides:?}"));
        }
        out[i] = (side - kernel[i]) / stride[i] + 1;
    }
    Ok(out)
}

fn image(op: &Op, input: &[usize]) -> Result<[usize; 3], Problem> {
    input.try_into().map_err(|_| wrong(op, input, "[channels, height, width]; use `reshape`"))
}

fn wrong(op: &Op, got: &[usize], want: &str) -> Problem {
    format!("{} cannot read shape {got:?}; it reads {want}", op.name())
}

fn divides(part: usize, whole: usize, part_name: &str, whole_name: &str) -> Result<(), Problem> {
    if part == 0 || whole == 0 || !whole.is_multiple_of(part) {
        return Err(format!("{whole} {whole_name} cannot be split into {part} {part_name}"));
    }
    Ok(())
}

fn positive_eps(eps: f64) -> Result<(), Problem> {
    if (1e-12..=1.0).contains(&eps) {
        return Ok(());
    }
    Err(format!("eps is {eps}; use 1e-12 to 1, usually 1e-5"))
}

fn same_shapes(inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
    let [first, rest @ ..] = inputs else { return Err("it reads nothing; name its inputs".into()) };
    if rest.is_empty() {
        return Err("it reads one value; a sum needs two or more".into());
    }
    match rest.iter().find(|shape| *shape != first) {
        Some(other) => {
            Err(format!("its inputs have shapes {first:?} and {other:?}; make them equal"))
        }
        None => Ok(first.to_vec()),
    }
}

fn concat(inputs: &[&[usize]], axis: usize) -> Result<Vec<usize>, Problem> {
    let [first, rest @ ..] = inputs else { return Err("it reads nothing; name its inputs".into()) };
    if axis >= first.len() {
        return Err(format!("axis {axis} is not an axis of {first:?}; axes count from 0"));
    }
    let mut shape = first.to_vec();
    for other in rest {
        let agree = other.len() == first.len()
            && (0..first.len()).all(|i| i == axis || first[i] == other[i]);
        if !agree {
            return Err(format!(
                "shapes {first:?} and {other:?} differ outside axis {axis}; make them equal there"
            ));
        }
        shape[axis] += other[axis];
    }
    Ok(shape)
}

/// The parameters of a node that passed [`output_shape`], named under `node`.
pub(super) fn parameters(node: &str, op: &Op, input: &[usize]) -> Result<Vec<NewParam>, Problem> {
    let new = |suffix: &str, shape: Vec<usize>, init: Init, trainable: bool| NewParam {
        name: format!("{node}.{suffix}"),
        shape,
        init,
        trainable,
    };
    let mut params = Vec::new();
    match op {
        Op::Linear { units, bias } => {
            let width = input[input.len() - 1];
            params.push(new("weight", vec![*units, width], Init::FanIn(width), true));
            if *bias {
                params.push(new("bias", vec![*units], Init::FanIn(width), true));
            }
        }
        Op::Conv2d { channels, kernel, groups, bias, .. } => {
            let depth = input[0] / groups;
            let fan_in = depth * kernel[0] * kernel[1];
            let shape = vec![*channels, depth, kernel[0], kernel[1]];
            params.push(new("weight", shape, Init::FanIn(fan_in), true));
            if *bias {
                params.push(new("bias", vec![*channels], Init::FanIn(fan_in), true));
            }
        }
        Op::BatchNorm { .. } => {
            params.push(new("weight", vec![input[0]], Init::Constant(1.0), true));
            params.push(new("bias", vec![input[0]], Init::Constant(0.0), true));
            params.push(new("running_mean", vec![input[0]], Init::Constant(0.0), false));
            params.push(new("running_var", vec![input[0]], Init::Constant(1.0), false));
        }
        Op::LayerNorm { .. } | Op::GroupNorm { .. } => {
            let axis = if matches!(op, Op::LayerNorm { .. }) { input.len() - 1 } else { 0 };
            params.push(new("weight", vec![input[axis]], Init::Constant(1.0), true));
            params.push(new("bias", vec![input[axis]], Init::Constant(0.0), true));
        }
        _ => {}
    }
    for param in &params {
        let elements = param.shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim));
        if elements.is_none_or(|n| n > PARAMETERS_MAX) {
            return Err(format!(
                "`{}` of shape {:?} has more than {PARAMETERS_MAX} elements; make it smaller",
                param.name, param.shape
            ));
        }
    }
    Ok(params)
}
