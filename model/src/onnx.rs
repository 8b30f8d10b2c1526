//! ONNX files: read into a [`Program`], tensors as well, and written from one.
//!
//! The reader takes opset 7 to the newest and refuses by name what it does not know: an operator, a
//! type, an attribute. Nothing of a file is passed over in silence. It opens no file itself: tensors
//! that lie beside the model come through [`External`]. Start at [`import`] and
//! [`export`].

mod node;
mod ops;
mod proto;
mod tensors;
mod write;

use prost::Message as _;

use crate::program::{Constants, Port, Program, ProgramNode, Role, Value};
use node::{NodeReader, Source, label};
pub use write::export;

/// Reads a range of a file beside the model: name, first byte, number of bytes or all that follow.
pub type External<'a> = dyn Fn(&str, u64, Option<u64>) -> Result<Vec<u8>, String> + 'a;

/// Bytes of an ONNX file, tensors beside it not counted: protobuf cannot hold more.
pub const FILE_BYTES_MAX: usize = (1 << 31) - 1;

/// Oldest version of ONNX's operators that is read.
pub const OPSET_MIN: i64 = 7;

/// Newest version of ONNX's operators that is read.
pub const OPSET_MAX: i64 = 27;

/// Why a file is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// Not ONNX at all.
    #[error("this is no ONNX file: {0}")]
    Format(String),
    /// A version that is too old, or newer than this program.
    #[error("the model uses version {0} of ONNX's operators; {OPSET_MIN} to {OPSET_MAX} are read")]
    Opset(i64),
    /// Something that is valid and not supported.
    #[error("node `{node}` ({op}): {why}")]
    Unsupported {
        /// The node's name.
        node: String,
        /// Its operator.
        op: String,
        /// What is not supported about it.
        why: String,
    },
    /// Something else that is valid and not supported.
    #[error("the model has {0}, which is not supported")]
    Feature(String),
    /// An attribute of the wrong type.
    #[error("node `{node}` ({op}): its attribute `{name}` has another type than it should")]
    Attribute {
        /// The node's name.
        node: String,
        /// Its operator.
        op: String,
        /// The attribute.
        name: String,
    },
    /// A tensor that cannot be read.
    #[error("tensor `{name}`: {problem}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

impl OnnxError {
    /// Whether the file may be valid, but asks for what is not supported here.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        match self {
            Self::Unsupported { .. } | Self::Feature(_) | Self::Opset(_) => true,
            Self::Tensor { problem, .. } => problem.contains("not supported"),
            Self::Format(_) | Self::Attribute { .. } => false,
        }
    }
}

/// A program and its constants, as read.
pub struct Imported {
    /// The operations.
    pub program: Program,
    /// The tensors they need.
    pub constants: Constants,
}

/// Reads a model.
///
/// # Errors
/// [`OnnxError`], with the node and its operator where one of them is the reason.
pub fn import(bytes: &[u8], external: &External<'_>) -> Result<Imported, OnnxError> {
    let model = proto::ModelProto::decode(bytes).map_err(|e| OnnxError::Format(e.to_string()))?;
    let graph = model.graph.ok_or_else(|| OnnxError::Format("it has no graph".into()))?;
    let opset = opset(&model.opset_import)?;
    if let Some(function) = model.functions.first() {
        return Err(OnnxError::Feature(format!("a function `{}` of its own", function.name)));
    }
    if !graph.sparse_initializer.is_empty() {
        return Err(OnnxError::Feature("sparse tensors".into()));
    }
    let mut constants = Constants::new();
    for tensor in &graph.initializer {
        constants.insert(tensor.name.clone(), tensors::value(tensor, external)?);
    }
    let inputs = graph.input.iter().filter(|input| !constants.contains_key(&input.name));
    let inputs = inputs.map(port).collect::<Result<_, _>>()?;
    let outputs = graph.output.iter().map(|output| output.name.clone()).collect();
    let mut nodes = Vec::with_capacity(graph.node.len());
    for (at, node) in graph.node.iter().enumerate() {
        nodes.push(read_node(node, at, opset, external, &mut constants)?);
    }
    let name = if graph.name.is_empty() { "model".into() } else { graph.name };
    Ok(Imported {
        program: Program { name, inputs, nodes, outputs, states: Vec::new() },
        constants,
    })
}

/// Everything that makes a file unreadable here, node by node; nothing if [`import`] reads it.
#[must_use]
pub fn faults(bytes: &[u8], external: &External<'_>) -> Vec<OnnxError> {
    let Some(first) = import(bytes, external).err() else { return Vec::new() };
    let Ok(model) = proto::ModelProto::decode(bytes) else { return vec![first] };
    let (Some(graph), Ok(opset)) = (model.graph, opset(&model.opset_import)) else {
        return vec![first];
    };
    let mut unused = Constants::new();
    let nodes = graph.node.iter().enumerate();
    let all: Vec<OnnxError> = nodes
        .filter_map(|(at, node)| read_node(node, at, opset, external, &mut unused).err())
        .collect();
    if all.contains(&first) { all } else { [vec![first], all].concat() }
}

/// One tensor of a file of its own, as ONNX's test data are stored.
///
/// # Errors
/// [`OnnxError::Format`], [`OnnxError::Tensor`].
pub fn read_tensor(bytes: &[u8]) -> Result<Value, OnnxError> {
    let tensor = proto::TensorProto::decode(bytes).map_err(|e| OnnxError::Format(e.to_string()))?;
    tensors::value(&tensor, &|_, _, _| Err("there is no file beside it".into()))
}

fn opset(imports: &[proto::OperatorSetId]) -> Result<i64, OnnxError> {
    let main = |one: &&proto::OperatorSetId| one.domain.is_empty() || one.domain == "ai.onnx";
    let version = imports.iter().find(main).map_or(1, |one| one.version);
    if (OPSET_MIN..=OPSET_MAX).contains(&version) {
        Ok(version)
    } else {
        Err(OnnxError::Opset(version))
    }
}

fn port(input: &proto::ValueInfoProto) -> Result<Port, OnnxError> {
    let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let feature =
        |what: String| OnnxError::Feature(format!("an input `{}` that is {what}", input.name));
    let tensor = tensor.ok_or_else(|| feature("no tensor".into()))?;
    let dtype = tensors::dtype(tensor.elem_type)
        .ok_or_else(|| feature(format!("of {}", tensors::type_name(tensor.elem_type))))?;
    let side = |dim: &proto::Dimension| dim.dim_value.and_then(|side| usize::try_from(side).ok());
    let shape = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(side).collect());
    Ok(Port { name: input.name.clone(), dtype, shape, role: Role::Rows })
}

fn read_node(
    node: &proto::NodeProto,
    at: usize,
    opset: i64,
    external: &External<'_>,
    constants: &mut Constants,
) -> Result<ProgramNode, OnnxError> {
    let mut reader = NodeReader::new(node, opset, external);
    if !node.domain.is_empty() && node.domain != "ai.onnx" {
        return Err(reader.unsupported(format!("operators of `{}`", node.domain)));
    }
    let op = ops::convert(&mut reader)?;
    let mut inputs = Vec::new();
    for (place, source) in reader.finish()?.into_iter().enumerate() {
        inputs.push(match source {
            Source::Named(name) => name,
            Source::Absent => String::new(),
            Source::Constant(value) => {
                // No name of a file begins so.
                let name = format!("#{at}.{place}");
                constants.insert(name.clone(), value);
                name
            }
        });
    }
    let label = label(node);
    let name = if label.is_empty() { format!("#{at}") } else { label };
    let last = node.output.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    Ok(ProgramNode { name, op, inputs, outputs: node.output[..last].to_vec() })
}

#[cfg(test)]
mod tests;
