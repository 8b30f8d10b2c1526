//! From an ONNX operator of any version to one of ours.
//!
//! Each family has a file; an operator that none of them knows is unsupported. Where versions differ,
//! the older form is turned into the newer one. Start at [`convert`].

mod elementwise;
mod layout;
mod networks;
mod norms;
mod windows;

use super::OnnxError;
use super::node::NodeReader;
use crate::program::op::TensorOp;

/// What a reader gives: an operation, or that the operator is of another family.
type Read = Result<Option<TensorOp>, OnnxError>;

/// The operation of a node; its inputs may have been added to.
///
/// # Errors
/// [`OnnxError::Unsupported`] with the node, its operator and why.
pub(super) fn convert(node: &mut NodeReader<'_>) -> Result<TensorOp, OnnxError> {
    let families: [fn(&mut NodeReader<'_>) -> Read; 5] =
        [elementwise::read, layout::read, norms::read, windows::read, networks::read];
    for family in families {
        if let Some(op) = family(node)? {
            return Ok(op);
        }
    }
    Err(node.unsupported("the operator is not known here"))
}
