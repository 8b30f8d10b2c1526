//! A program written as an ONNX file.
//!
//! Each operation becomes the operator of ONNX that it came from, in the lowest version of the operators
//! that has all of them; constants become initializers. A sequence's states become inputs and outputs, for
//! ONNX keeps nothing between calls. What cannot be said so is refused with the node. Start at [`export`].

mod attributes;

use std::collections::BTreeMap;

use prost::Message as _;

use super::proto::{
    Dimension, GraphProto, ModelProto, NodeProto, OperatorSetId, ShapeProto, TensorProto,
    TensorType, TypeProto, ValueInfoProto,
};
use super::{FILE_BYTES_MAX, OnnxError, tensors};
use crate::program::figures::{Sizes, sample};
use crate::program::{CheckedProgram, DType, Value};
use attributes::{Written, written};

/// Oldest version of the operators that is written: all axes are inputs since then.
const OPSET: i64 = 18;
/// Version of the file format that these operators came with.
const IR: i64 = 8;

/// The bytes of an ONNX file.
///
/// # Errors
/// [`OnnxError::Unsupported`] with the node that has no operator of the same meaning,
/// [`OnnxError::Feature`] where the file would be larger than protobuf can hold.
pub fn export(checked: &CheckedProgram) -> Result<Vec<u8>, OnnxError> {
    let program = checked.program();
    let Operators { node, opset } = operators(checked)?;
    let read = |name: &String| {
        node.iter().any(|node| node.input.contains(name)) || program.outputs.contains(name)
    };
    let kept = checked.constants().iter().filter(|(name, _)| read(name));
    let initializer = kept.map(|(name, value)| tensor(name, value)).collect();
    let graph = GraphProto {
        name: program.name.clone(),
        initializer,
        input: inputs(checked),
        output: outputs(checked),
        node,
        sparse_initializer: Vec::new(),
    };
    // Newer operators came with newer formats.
    let ir_version = match opset {
        23.. => 11,
        21.. => 10,
        _ => IR,
    };
    let model = ModelProto {
        ir_version,
        producer_name: "koinon".into(),
        graph: Some(graph),
        opset_import: vec![OperatorSetId { domain: String::new(), version: opset }],
        functions: Vec::new(),
    };
    let bytes = model.encoded_len();
    if bytes > FILE_BYTES_MAX {
        return Err(OnnxError::Feature(format!("{bytes} bytes, more than one file holds")));
    }
    Ok(model.encode_to_vec())
}

/// The nodes, and the version of the operators that has all of them.
struct Operators {
    node: Vec<NodeProto>,
    opset: i64,
}

fn operators(checked: &CheckedProgram) -> Result<Operators, OnnxError> {
    let mut all = Operators { node: Vec::new(), opset: OPSET };
    for node in &checked.program().nodes {
        let refuse = |why: String| OnnxError::Unsupported {
            node: node.name.clone(),
            op: "of a program".into(),
            why,
        };
        let constant = |at: usize| node.inputs.get(at).and_then(|name| checked.constant(name));
        let Written { op, since, attribute, inputs } =
            written(&node.op, &constant).map_err(refuse)?;
        all.opset = all.opset.max(since);
        all.node.push(NodeProto {
            input: node.inputs.iter().take(inputs.unwrap_or(usize::MAX)).cloned().collect(),
            output: node.outputs.clone(),
            name: node.name.clone(),
            op_type: op.into(),
            attribute,
            domain: String::new(),
        });
    }
    Ok(all)
}

/// Inputs, then the states before a step.
fn inputs(checked: &CheckedProgram) -> Vec<ValueInfoProto> {
    let program = checked.program();
    let ports = program.inputs.iter().map(|port| {
        let side = |(axis, side): (usize, &Option<usize>)| dimension(*side, &port.name, axis);
        let sides = port.shape.as_ref().map(|all| all.iter().enumerate().map(side).collect());
        info(&port.name, port.dtype, sides)
    });
    let states = program.states.iter().map(|state| {
        let grows = |(axis, &side): (usize, &usize)| {
            dimension((axis > 0).then_some(side), &state.name, axis)
        };
        info(&state.name, state.dtype, Some(state.shape.iter().enumerate().map(grows).collect()))
    });
    ports.chain(states).collect()
}

/// Outputs, then the states after a step; their sides are for the reader to infer.
fn outputs(checked: &CheckedProgram) -> Vec<ValueInfoProto> {
    let program = checked.program();
    let types = types(checked);
    let given = program.outputs.iter().chain(program.states.iter().map(|state| &state.output));
    let free = |rank: usize| (0..rank).map(|_| Dimension::default()).collect();
    let output = given.map(|name| match types.get(name) {
        Some((dtype, rank)) => info(name, *dtype, Some(free(*rank))),
        None => info(name, DType::F32, None),
    });
    output.collect()
}

/// Types and numbers of axes of what is given, as one run shows them; nothing where the program does not run
/// on made-up inputs.
fn types(checked: &CheckedProgram) -> BTreeMap<String, (DType, usize)> {
    let program = checked.program();
    let inputs = sample(&program.inputs, Sizes { rows: 1, length: 32 });
    let Some(figures) = inputs.ok().and_then(|inputs| checked.figures(inputs).ok()) else {
        return BTreeMap::new();
    };
    let given = program.outputs.iter().chain(program.states.iter().map(|state| &state.output));
    let known = |name: &String| {
        figures.sides(name).map(|(dtype, shape)| (name.clone(), (*dtype, shape.len())))
    };
    given.filter_map(known).collect()
}

fn dimension(side: Option<usize>, name: &str, axis: usize) -> Dimension {
    Dimension {
        dim_value: side.and_then(|side| i64::try_from(side).ok()),
        // The batch is one and the same for all inputs.
        dim_param: side.is_none().then(|| match axis {
            0 if !name.contains('.') => "batch".into(),
            _ => format!("{name}.{axis}"),
        }),
    }
}

fn info(name: &str, dtype: DType, sides: Option<Vec<Dimension>>) -> ValueInfoProto {
    let tensor_type =
        TensorType { elem_type: tensors::code(dtype), shape: sides.map(|dim| ShapeProto { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

/// A constant with its bytes.
fn tensor(name: &str, value: &Value) -> TensorProto {
    TensorProto {
        dims: value.shape().iter().filter_map(|&side| i64::try_from(side).ok()).collect(),
        data_type: tensors::code(value.dtype()),
        name: name.into(),
        raw_data: crate::program::files::bytes_of(value),
        ..TensorProto::default()
    }
}

#[cfg(test)]
mod tests;
