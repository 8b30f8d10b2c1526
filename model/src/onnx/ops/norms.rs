//! Reductions, norms, softmax, extremes.

use super::super::OnnxError;
use super::super::node::NodeReader;
use super::Read;
use crate::program::op::{Reduce, Softmax, TensorOp};
use crate::program::value::Value;

pub(super) fn read(node: &mut NodeReader<'_>) -> Read {
    if let Some(kind) = reduction(node.op()) {
        node.ints_as_input("axes", 1)?;
        let keep = node.flag("keepdims", true)?;
        let noop_if_empty = node.flag("noop_with_empty_axes", false)?;
        return Ok(Some(TensorOp::Reduce { kind, keep, noop_if_empty }));
    }
    Ok(Some(match node.op() {
        "ArgMax" | "ArgMin" => TensorOp::ArgExtreme {
            max: node.op() == "ArgMax",
            axis: node.int_or("axis", 0)?,
            keep: node.flag("keepdims", true)?,
            last: node.flag("select_last_index", false)?,
        },
        "CumSum" | "CumProd" => TensorOp::Cumulate {
            product: node.op() == "CumProd",
            exclusive: node.flag("exclusive", false)?,
            reverse: node.flag("reverse", false)?,
        },
        "TopK" => top_k(node)?,
        "Softmax" => softmax(node, Softmax::Softmax)?,
        "LogSoftmax" => softmax(node, Softmax::LogSoftmax)?,
        "Hardmax" => softmax(node, Softmax::Hardmax)?,
        "BatchNormalization" => {
            if node.flag("training_mode", false)? || node.outputs() > 1 || node.opset < 7 {
                return Err(node.unsupported("in training"));
            }
            node.float_or("momentum", 0.9)?;
            if !node.flag("spatial", true)? {
                return Err(node.unsupported("statistics of single cells"));
            }
            TensorOp::BatchNorm { eps: node.float_or("epsilon", 1e-5)? }
        }
        "InstanceNormalization" => TensorOp::InstanceNorm { eps: node.float_or("epsilon", 1e-5)? },
        "LayerNormalization" => {
            single_precision(node)?;
            TensorOp::LayerNorm {
                axis: node.int_or("axis", -1)?,
                eps: node.float_or("epsilon", 1e-5)?,
            }
        }
        "RMSNormalization" => {
            single_precision(node)?;
            TensorOp::RmsNorm {
                axis: node.int_or("axis", -1)?,
                eps: node.float_or("epsilon", 1e-5)?,
            }
        }
        "GroupNormalization" => {
            single_precision(node)?;
            let groups = node.size("num_groups")?.unwrap_or(0);
            TensorOp::GroupNorm { groups, eps: node.float_or("epsilon", 1e-5)? }
        }
        "LRN" => TensorOp::Lrn {
            size: node.size("size")?.unwrap_or(0),
            alpha: node.float_or("alpha", 1e-4)?,
            beta: node.float_or("beta", 0.75)?,
            bias: node.float_or("bias", 1.0)?,
        },
        "LpNormalization" => TensorOp::LpNorm {
            axis: node.int_or("axis", -1)?,
            p: match node.int_or("p", 2)? {
                1 => 1,
                2 => 2,
                other => return Err(node.unsupported(format!("p = {other}"))),
            },
        },
        "MeanVarianceNormalization" => {
            TensorOp::MeanVarianceNorm { axes: node.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]) }
        }
        _ => return Ok(None),
    }))
}

/// Norms are computed in single precision or better here, whatever is asked for.
fn single_precision(node: &mut NodeReader<'_>) -> Result<(), OnnxError> {
    match node.int_or("stash_type", 1)? {
        1 | 11 => Ok(()),
        other => Err(node.unsupported(format!("stash_type {other}"))),
    }
}

fn reduction(op: &str) -> Option<Reduce> {
    Some(match op {
        "ReduceSum" => Reduce::Sum,
        "ReduceMean" => Reduce::Mean,
        "ReduceMax" => Reduce::Max,
        "ReduceMin" => Reduce::Min,
        "ReduceProd" => Reduce::Prod,
        "ReduceL1" => Reduce::L1,
        "ReduceL2" => Reduce::L2,
        "ReduceLogSum" => Reduce::LogSum,
        "ReduceLogSumExp" => Reduce::LogSumExp,
        "ReduceSumSquare" => Reduce::SumSquare,
        _ => return None,
    })
}

fn softmax(node: &mut NodeReader<'_>, kind: Softmax) -> Result<TensorOp, OnnxError> {
    let flat = node.opset < 13;
    let axis = node.int_or("axis", if flat { 1 } else { -1 })?;
    Ok(TensorOp::Softmax { kind, axis, flat })
}

fn top_k(node: &mut NodeReader<'_>) -> Result<TensorOp, OnnxError> {
    if let Some(k) = node.int("k")? {
        node.constant(1, Value::integers(vec![k]));
    }
    // The order of what is not asked to be sorted is free, so sorted is right.
    node.flag("sorted", true)?;
    Ok(TensorOp::TopK { axis: node.int_or("axis", -1)?, largest: node.flag("largest", true)? })
}
