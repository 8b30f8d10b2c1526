//! A model as data: its inputs and its nodes in topological order.
//!
//! A spec holds no parameters and runs nothing: values live in [`crate::params`], arithmetic behind
//! `crate::engine`. Start at [`ModelSpec::from_toml`] and [`ModelSpec::check`], which gives the
//! [`CheckedSpec`] that everything else takes.
//!
//! ```
//! use koinon_model::spec::ModelSpec;
//! let spec = ModelSpec::from_toml(r#"
//!     name = "mlp"
//!     inputs = [{ name = "x", shape = [255] }]
//!     [[nodes]]
//!     name = "fc1"
//!     op = { linear = { units = 64 } }
//!     inputs = ["x"]
//!     [[nodes]]
//!     name = "act1"
//!     op = "relu"
//!     inputs = ["fc1"]
//!     [[nodes]]
//!     name = "fc2"
//!     op = { linear = { units = 2 } }
//!     inputs = ["act1"]
//! "#)?.check()?;
//! assert_eq!(spec.layout().len(), 255 * 64 + 64 + 64 * 2 + 2);
//! assert_eq!(spec.output_shape(), [2]);
//! # Ok::<(), koinon_model::spec::SpecError>(())
//! ```

pub(crate) mod check;
mod infer;
pub(crate) mod op;

use serde::{Deserialize, Serialize};

pub use check::CheckedSpec;
pub use op::Op;

use crate::limits::SPEC_BYTES_MAX;

/// A model: inputs, then nodes in topological order. The last node's output is the model's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Name for people: letters, digits, `_`, `-`, `.`.
    pub name: String,
    /// What one row consists of.
    pub inputs: Vec<Input>,
    /// The operations, each after those it reads.
    pub nodes: Vec<Node>,
}

/// One input of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name that nodes refer to.
    pub name: String,
    /// Shape for one row (no batch): `[d]`, `[t, d]` or `[c, h, w]`.
    pub shape: Vec<usize>,
}

/// One operation of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Unique name; its parameters are called `name.weight`, `name.bias`.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// Names of the inputs or earlier nodes it reads, in order.
    pub inputs: Vec<String>,
}

/// Why a spec is refused. Every message names the place and what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The text is not a spec.
    #[error("the model spec cannot be read: {0}")]
    Syntax(String),
    /// A limit of this program.
    #[error("the model has {got} {what}, at most {max} are allowed; make it smaller")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// How many there are (saturating).
        got: usize,
        /// How many there may be.
        max: usize,
    },
    /// The model as a whole.
    #[error("the model is not usable: {0}")]
    Model(String),
    /// One input.
    #[error("input `{input}`: {problem}")]
    Input {
        /// Its name.
        input: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// One node.
    #[error("node `{node}`: {problem}")]
    Node {
        /// Its name.
        node: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Bytes that were hashed elsewhere are not in the one canonical form.
    #[error("the model spec is not in canonical form; write it again with this program")]
    NotCanonical,
}

impl ModelSpec {
    /// Reads TOML; unknown keys are refused. The result still has to be checked.
    ///
    /// # Errors
    /// [`SpecError::Syntax`] with line and column, [`SpecError::TooLarge`].
    pub fn from_toml(text: &str) -> Result<Self, SpecError> {
        size(text.len())?;
        toml::from_str(text).map_err(|error| SpecError::Syntax(error.to_string()))
    }

    /// Reads JSON; unknown keys are refused. The result still has to be checked.
    ///
    /// # Errors
    /// [`SpecError::Syntax`] with line and column, [`SpecError::TooLarge`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, SpecError> {
        size(bytes.len())?;
        serde_json::from_slice(bytes).map_err(|error| SpecError::Syntax(error.to_string()))
    }

    /// Checks the whole model once: names, order, every shape, every limit.
    ///
    /// # Errors
    /// The first thing found wrong, by name.
    pub fn check(self) -> Result<CheckedSpec, SpecError> {
        CheckedSpec::new(self)
    }
}

fn size(got: usize) -> Result<(), SpecError> {
    if got > SPEC_BYTES_MAX {
        return Err(SpecError::TooLarge { what: "bytes of text", got, max: SPEC_BYTES_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
