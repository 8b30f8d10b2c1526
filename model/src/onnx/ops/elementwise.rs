//! Element by element.

use super::super::node::NodeReader;
use super::Read;
use crate::onnx::tensors;
use crate::program::op::{Binary, Fold, TensorOp, Unary};
use crate::program::value::{DType, Value};

pub(super) fn read(node: &mut NodeReader<'_>) -> Read {
    if let Some(op) = unary(node)? {
        return Ok(Some(TensorOp::Unary(op)));
    }
    if let Some(op) = binary(node)? {
        return Ok(Some(TensorOp::Binary(op)));
    }
    Ok(Some(match node.op() {
        "Max" => TensorOp::Fold(Fold::Max),
        "Min" => TensorOp::Fold(Fold::Min),
        "Sum" => TensorOp::Fold(Fold::Sum),
        "Mean" => TensorOp::Fold(Fold::Mean),
        "Where" => TensorOp::Where,
        "Identity" => TensorOp::Identity,
        "Clip" => {
            for (at, name) in [(1, "min"), (2, "max")] {
                let bound = node.float_or(name, f64::NAN)?;
                if !bound.is_nan() {
                    node.constant(at, single(bound));
                }
            }
            TensorOp::Clip
        }
        "Cast" => {
            let code = node.int_or("to", 0)?;
            node.flag("saturate", true)?;
            if node.text("round_mode")?.is_some_and(|mode| mode != "up") {
                return Err(node.unsupported("its round_mode is not supported"));
            }
            TensorOp::Cast(dtype(node, code)?)
        }
        "Dropout" => {
            node.float_or("ratio", 0.5)?;
            node.int_or("seed", 0)?;
            if node.inputs.len() > 2 || node.outputs() > 1 {
                return Err(node.unsupported("dropout in training, or its mask"));
            }
            node.inputs.truncate(1);
            TensorOp::Identity
        }
        _ => return Ok(None),
    }))
}

#[expect(clippy::cast_possible_truncation, reason = "it came as single precision")]
pub(super) fn single(number: f64) -> Value {
    Value::scalar(number as f32)
}

pub(super) fn dtype(node: &NodeReader<'_>, code: i64) -> Result<DType, super::super::OnnxError> {
    let code = i32::try_from(code).unwrap_or(-1);
    tensors::dtype(code)
        .ok_or_else(|| node.unsupported(format!("{} is not supported", tensors::type_name(code))))
}

fn unary(node: &mut NodeReader<'_>) -> Result<Option<Unary>, super::super::OnnxError> {
    if let Some(plain) = without_attributes(node.op()) {
        return Ok(Some(plain));
    }
    Ok(Some(match node.op() {
        "Gelu" => match node.text("approximate")?.unwrap_or("none") {
            "none" => Unary::Gelu { tanh: false },
            "tanh" => Unary::Gelu { tanh: true },
            other => return Err(node.unsupported(format!("approximation `{other}`"))),
        },
        "Swish" => Unary::Swish { alpha: node.float_or("alpha", 1.0)? },
        "LeakyRelu" => Unary::LeakyRelu { alpha: node.float_or("alpha", 0.01)? },
        "Elu" => Unary::Elu { alpha: node.float_or("alpha", 1.0)? },
        "Celu" => Unary::Celu { alpha: node.float_or("alpha", 1.0)? },
        "Selu" => Unary::Selu {
            alpha: node.float_or("alpha", 1.673_263_192_176_818_8)?,
            gamma: node.float_or("gamma", 1.050_701_022_148_132_3)?,
        },
        "HardSigmoid" => Unary::HardSigmoid {
            alpha: node.float_or("alpha", 0.2)?,
            beta: node.float_or("beta", 0.5)?,
        },
        "ThresholdedRelu" => Unary::ThresholdedRelu { alpha: node.float_or("alpha", 1.0)? },
        "Shrink" => {
            Unary::Shrink { lambd: node.float_or("lambd", 0.5)?, bias: node.float_or("bias", 0.0)? }
        }
        "IsInf" => Unary::IsInf {
            negative: node.flag("detect_negative", true)?,
            positive: node.flag("detect_positive", true)?,
        },
        _ => return Ok(None),
    }))
}

fn without_attributes(op: &str) -> Option<Unary> {
    Some(match op {
        "Abs" => Unary::Abs,
        "Neg" => Unary::Neg,
        "Ceil" => Unary::Ceil,
        "Floor" => Unary::Floor,
        "Round" => Unary::Round,
        "Sign" => Unary::Sign,
        "Sqrt" => Unary::Sqrt,
        "Reciprocal" => Unary::Reciprocal,
        "Exp" => Unary::Exp,
        "Log" => Unary::Log,
        "Sin" => Unary::Sin,
        "Cos" => Unary::Cos,
        "Tan" => Unary::Tan,
        "Asin" => Unary::Asin,
        "Acos" => Unary::Acos,
        "Atan" => Unary::Atan,
        "Sinh" => Unary::Sinh,
        "Cosh" => Unary::Cosh,
        "Tanh" => Unary::Tanh,
        "Asinh" => Unary::Asinh,
        "Acosh" => Unary::Acosh,
        "Atanh" => Unary::Atanh,
        "Erf" => Unary::Erf,
        "Sigmoid" => Unary::Sigmoid,
        "Relu" => Unary::Relu,
        "Softplus" => Unary::Softplus,
        "Softsign" => Unary::Softsign,
        "Mish" => Unary::Mish,
        "HardSwish" => Unary::HardSwish,
        "IsNaN" => Unary::IsNan,
        "Not" => Unary::Not,
        "BitwiseNot" => Unary::BitwiseNot,
        _ => return None,
    })
}

fn binary(node: &mut NodeReader<'_>) -> Result<Option<Binary>, super::super::OnnxError> {
    Ok(Some(match node.op() {
        "Add" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Pow" => Binary::Pow,
        "Mod" => Binary::Mod { fmod: node.flag("fmod", false)? },
        "PRelu" => Binary::PRelu,
        "BitwiseAnd" => Binary::BitwiseAnd,
        "BitwiseOr" => Binary::BitwiseOr,
        "BitwiseXor" => Binary::BitwiseXor,
        "BitShift" => Binary::BitShift { left: node.text("direction")? == Some("LEFT") },
        "And" => Binary::And,
        "Or" => Binary::Or,
        "Xor" => Binary::Xor,
        "Equal" => Binary::Equal,
        "Less" => Binary::Less,
        "LessOrEqual" => Binary::LessOrEqual,
        "Greater" => Binary::Greater,
        "GreaterOrEqual" => Binary::GreaterOrEqual,
        _ => return Ok(None),
    }))
}
