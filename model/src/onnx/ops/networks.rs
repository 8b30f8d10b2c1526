//! Matrix products, recurrent networks, attention, losses.

use super::super::OnnxError;
use super::super::node::NodeReader;
use super::Read;
use crate::program::op::{Attention, Cell, Direction, LossReduction, Recurrent, Rotary, TensorOp};

pub(super) fn read(node: &mut NodeReader<'_>) -> Read {
    Ok(Some(match node.op() {
        "MatMul" => TensorOp::MatMul,
        "Gemm" => TensorOp::Gemm {
            alpha: node.float_or("alpha", 1.0)?,
            beta: node.float_or("beta", 1.0)?,
            trans_a: node.flag("transA", false)?,
            trans_b: node.flag("transB", false)?,
        },
        "Det" => TensorOp::Det,
        "RNN" => recurrent(node, Cell::Rnn, &["Tanh"])?,
        "GRU" => {
            let linear_before_reset = node.flag("linear_before_reset", false)?;
            recurrent(node, Cell::Gru { linear_before_reset }, &["Sigmoid", "Tanh"])?
        }
        "LSTM" => {
            if node.flag("input_forget", false)? {
                return Err(node.unsupported("coupled input and forget gates"));
            }
            recurrent(node, Cell::Lstm, &["Sigmoid", "Tanh", "Tanh"])?
        }
        "NegativeLogLikelihoodLoss" => loss(node, false)?,
        "SoftmaxCrossEntropyLoss" => loss(node, true)?,
        "Attention" => attention(node)?,
        "RotaryEmbedding" => TensorOp::Rotary(Rotary {
            interleaved: node.flag("interleaved", false)?,
            heads: node.size("num_heads")?.filter(|&heads| heads > 0),
            width: node.size("rotary_embedding_dim")?.unwrap_or(0),
        }),
        _ => return Ok(None),
    }))
}

fn recurrent(node: &mut NodeReader<'_>, cell: Cell, usual: &[&str]) -> Result<TensorOp, OnnxError> {
    let direction = match node.text("direction")?.unwrap_or("forward") {
        "forward" => Direction::Forward,
        "reverse" => Direction::Reverse,
        "bidirectional" => Direction::Bidirectional,
        other => return Err(node.unsupported(format!("direction `{other}`"))),
    };
    if let Some(activations) = node.texts("activations")? {
        let expected = usual.iter().cycle();
        if activations.iter().zip(expected).any(|(got, want)| !got.eq_ignore_ascii_case(want)) {
            return Err(node.unsupported(format!("activations {activations:?}")));
        }
    }
    let hidden = node.size("hidden_size")?.unwrap_or(0);
    let batch_first = node.flag("layout", false)?;
    Ok(TensorOp::Recurrent(Recurrent { cell, hidden, direction, batch_first }))
}

fn loss(node: &mut NodeReader<'_>, softmax: bool) -> Result<TensorOp, OnnxError> {
    let reduction = match node.text("reduction")?.unwrap_or("mean") {
        "none" => LossReduction::None,
        "sum" => LossReduction::Sum,
        "mean" => LossReduction::Mean,
        other => return Err(node.unsupported(format!("reduction `{other}`"))),
    };
    Ok(TensorOp::CrossEntropy { softmax, reduction, ignore: node.int("ignore_index")? })
}

fn attention(node: &mut NodeReader<'_>) -> Result<TensorOp, OnnxError> {
    let scale = node.float_or("scale", f64::NAN)?;
    if node.outputs() > 3 {
        return Err(node.unsupported("scores as an output"));
    }
    if node.inputs.len() > 6 {
        return Err(node.unsupported("lengths of the cache"));
    }
    node.int_or("qk_matmul_output_mode", 0)?;
    node.int_or("softmax_precision", 1)?;
    Ok(TensorOp::Attention(Attention {
        q_heads: node.size("q_num_heads")?.filter(|&heads| heads > 0),
        kv_heads: node.size("kv_num_heads")?.filter(|&heads| heads > 0),
        scale: (!scale.is_nan()).then_some(scale),
        causal: node.flag("is_causal", false)?,
        softcap: node.float_or("softcap", 0.0)?,
    }))
}
