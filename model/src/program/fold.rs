//! Values that follow from constants alone, made once when a program is checked.
//!
//! A turned weight or a picked row is then a constant like any other: it is not made again at each call,
//! and both sides of a cut have it. Only operations are run whose work is that of writing their answer,
//! and only so many, for a program comes from outside. Start at [`fold`].

use std::collections::BTreeMap;

use super::ops::{Inputs, apply};
use super::{Constants, Program, TensorOp, Value};
use crate::limits::FOLDED_ELEMENTS_MAX;

/// What nodes give that read constants only, by name. A node that is not folded is run like any other.
pub(super) fn fold(program: &Program, constants: &Constants) -> Constants {
    let mut folded: Constants = BTreeMap::new();
    let mut room = FOLDED_ELEMENTS_MAX;
    for node in &program.nodes {
        let read = node.inputs.iter().filter(|name| !name.is_empty());
        let known = |name: &String| constants.get(name).or_else(|| folded.get(name));
        let size: Option<usize> = read.map(|name| known(name).map(Value::len)).sum();
        let Some(size) = size.filter(|size| *size > 0 && *size <= room) else { continue };
        if !is_cheap(&node.op) {
            continue;
        }
        let values: Vec<Option<&Value>> = node.inputs.iter().map(known).collect();
        room -= size;
        let Ok(made) = apply(&node.op, &Inputs(&values)) else { continue };
        let given: usize = made.iter().map(Value::len).sum();
        if given > room {
            break;
        }
        room -= given;
        if made.len() < node.outputs.len() {
            continue;
        }
        for (name, value) in node.outputs.iter().zip(made) {
            if !name.is_empty() {
                folded.insert(name.clone(), value);
            }
        }
    }
    folded
}

/// Whether an operation's work is that of reading what it is given and writing a part of it.
fn is_cheap(op: &TensorOp) -> bool {
    matches!(
        op,
        TensorOp::Identity
            | TensorOp::Unary(_)
            | TensorOp::Binary(_)
            | TensorOp::Cast(_)
            | TensorOp::Reshape { .. }
            | TensorOp::Transpose { .. }
            | TensorOp::Flatten { .. }
            | TensorOp::Squeeze
            | TensorOp::Unsqueeze
            | TensorOp::Slice
            | TensorOp::Gather { .. }
            | TensorOp::Concat { .. }
            | TensorOp::Shape { .. }
    )
}
