//! Shapes, parts, indices.

use super::super::OnnxError;
use super::super::node::NodeReader;
use super::Read;
use super::elementwise::{dtype, single};
use crate::program::op::{PadMode, Scatter, TensorOp};
use crate::program::value::Value;

pub(super) fn read(node: &mut NodeReader<'_>) -> Read {
    Ok(Some(match node.op() {
        "Shape" => TensorOp::Shape { start: node.int_or("start", 0)?, end: node.int("end")? },
        "Size" => TensorOp::Size,
        "Reshape" => {
            node.ints_as_input("shape", 1)?;
            TensorOp::Reshape { zeros: node.flag("allowzero", false)? }
        }
        "Transpose" => {
            let perm = node.sizes("perm")?;
            TensorOp::Transpose { perm: (!perm.is_empty()).then_some(perm) }
        }
        "Flatten" => TensorOp::Flatten { axis: node.int_or("axis", 1)? },
        "Squeeze" => {
            node.ints_as_input("axes", 1)?;
            TensorOp::Squeeze
        }
        "Unsqueeze" => {
            node.ints_as_input("axes", 1)?;
            TensorOp::Unsqueeze
        }
        "Expand" => TensorOp::Expand,
        "Tile" if node.opset >= 6 => TensorOp::Tile,
        "Concat" => TensorOp::Concat { axis: node.int_or("axis", 1)? },
        "Split" => {
            node.ints_as_input("split", 1)?;
            let parts = node.size("num_outputs")?.unwrap_or(node.outputs());
            TensorOp::Split { axis: node.int_or("axis", 0)?, parts }
        }
        "Slice" => {
            for (at, name) in [(1, "starts"), (2, "ends"), (3, "axes")] {
                node.ints_as_input(name, at)?;
            }
            TensorOp::Slice
        }
        "Pad" => pad(node)?,
        "CenterCropPad" => TensorOp::CenterCropPad { axes: node.ints("axes")?.unwrap_or_default() },
        "DepthToSpace" => TensorOp::DepthToSpace {
            block: node.size("blocksize")?.unwrap_or(0),
            crd: node.text("mode")?.is_some_and(|mode| mode == "CRD"),
        },
        "SpaceToDepth" => TensorOp::SpaceToDepth { block: node.size("blocksize")?.unwrap_or(0) },
        "ReverseSequence" => TensorOp::ReverseSequence {
            batch_axis: node.size("batch_axis")?.unwrap_or(1),
            time_axis: node.size("time_axis")?.unwrap_or(0),
        },
        _ => return indexed(node),
    }))
}

fn indexed(node: &mut NodeReader<'_>) -> Read {
    Ok(Some(match node.op() {
        "Gather" => TensorOp::Gather { axis: node.int_or("axis", 0)? },
        "GatherElements" => TensorOp::GatherElements { axis: node.int_or("axis", 0)? },
        "GatherND" => TensorOp::GatherNd { batch_dims: node.size("batch_dims")?.unwrap_or(0) },
        "Scatter" | "ScatterElements" => {
            TensorOp::ScatterElements { axis: node.int_or("axis", 0)?, reduction: scatter(node)? }
        }
        "ScatterND" => TensorOp::ScatterNd { reduction: scatter(node)? },
        "Compress" => TensorOp::Compress { axis: node.int("axis")? },
        "OneHot" => TensorOp::OneHot { axis: node.int_or("axis", -1)? },
        "NonZero" => TensorOp::NonZero,
        "Trilu" => TensorOp::Trilu { upper: node.flag("upper", true)? },
        "EyeLike" => {
            let code = node.int("dtype")?;
            let dtype = code.map(|code| dtype(node, code)).transpose()?;
            TensorOp::EyeLike { dtype, k: node.int_or("k", 0)? }
        }
        "Range" => TensorOp::Range,
        "ConstantOfShape" => {
            let item = node.tensor("value")?.unwrap_or_else(|| single(0.0));
            node.constant(1, item);
            TensorOp::ConstantOfShape
        }
        "Constant" => constant(node)?,
        _ => return Ok(None),
    }))
}

/// A constant is what it is, given through.
fn constant(node: &mut NodeReader<'_>) -> Result<TensorOp, OnnxError> {
    let mut value = node.tensor("value")?;
    if let Some(int) = node.int("value_int")? {
        value = Some(Value::scalar(int));
    }
    if let Some(ints) = node.ints("value_ints")? {
        value = Some(Value::integers(ints));
    }
    let float = node.float_or("value_float", f64::NAN)?;
    if !float.is_nan() {
        value = Some(single(float));
    }
    if let Some(floats) = node.floats("value_floats")? {
        let made = Value::of(vec![floats.len()], floats);
        value = Some(made.map_err(|error| node.unsupported(error.to_string()))?);
    }
    let Some(value) = value else { return Err(node.unsupported("its value is not a tensor")) };
    node.constant(0, value);
    Ok(TensorOp::Identity)
}

fn pad(node: &mut NodeReader<'_>) -> Result<TensorOp, OnnxError> {
    let mode = match node.text("mode")?.unwrap_or("constant") {
        "constant" => PadMode::Constant,
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        other => return Err(node.unsupported(format!("mode `{other}`"))),
    };
    node.ints_as_input("pads", 1)?;
    let value = node.float_or("value", f64::NAN)?;
    if !value.is_nan() {
        node.constant(2, single(value));
    }
    Ok(TensorOp::Pad { mode })
}

fn scatter(node: &mut NodeReader<'_>) -> Result<Scatter, OnnxError> {
    Ok(match node.text("reduction")?.unwrap_or("none") {
        "none" => Scatter::Set,
        "add" => Scatter::Add,
        "mul" => Scatter::Mul,
        "max" => Scatter::Max,
        "min" => Scatter::Min,
        other => return Err(node.unsupported(format!("reduction `{other}`"))),
    })
}
