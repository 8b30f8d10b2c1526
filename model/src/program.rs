//! A program: an imported network as data, tensor operation by tensor operation.
//!
//! Where a [`crate::spec::ModelSpec`] speaks of layers and rows, a program speaks of typed tensors whose
//! batch is an axis like any other; it is what an ONNX file becomes. Its operations are a closed list,
//! its constants are held by name. Here it is run by the general path; nothing is trained. Start at
//! [`Program::check`] and [`CheckedProgram::run`].

pub mod op;
mod ops;
pub(crate) mod value;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use op::TensorOp;
pub use value::{DType, Data, OpError, Value};

use crate::limits::{INPUTS_MAX, PROGRAM_NODES_MAX, RANK_TENSOR_MAX};

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Name for people.
    pub name: String,
    /// What it is called with.
    pub inputs: Vec<Port>,
    /// The operations, each after those it reads.
    pub nodes: Vec<ProgramNode>,
    /// What it gives, by name.
    pub outputs: Vec<String>,
}

/// An input: its name, type, and sides, where they are fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Name that nodes refer to.
    pub name: String,
    /// What its elements are.
    pub dtype: DType,
    /// The sides; `None` is free. No shape at all: any.
    pub shape: Option<Vec<Option<usize>>>,
}

/// One operation of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramNode {
    /// Unique name.
    pub name: String,
    /// What it does.
    pub op: TensorOp,
    /// What it reads: inputs, constants or earlier outputs; empty where an input is left out.
    pub inputs: Vec<String>,
    /// Names of what it gives; empty where nobody wants it.
    pub outputs: Vec<String>,
}

/// Constants by name: the parameters, and whatever else a file fixes.
pub type Constants = BTreeMap<String, Value>;

/// Why a program is refused or does not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The program as a whole.
    #[error("the program is not usable: {0}")]
    Program(String),
    /// What it is called with.
    #[error("input `{input}`: {problem}")]
    Input {
        /// Its name.
        input: String,
        /// What is wrong.
        problem: String,
    },
    /// One node.
    #[error("node `{node}`: {problem}")]
    Node {
        /// Its name.
        node: String,
        /// What is wrong.
        problem: String,
    },
    /// One node, for what it was given.
    #[error("node `{node}`: {error}")]
    Op {
        /// Its name.
        node: String,
        /// What is wrong.
        error: OpError,
    },
}

/// A program whose names and order are known to be good, with its constants.
pub struct CheckedProgram {
    program: Program,
    constants: Constants,
    /// For each node, the values that nobody reads after it.
    last_uses: Vec<Vec<String>>,
}

impl Program {
    /// Checks names, order and limits once. Shapes are known only when it runs.
    ///
    /// # Errors
    /// [`ProgramError`] with what is wrong first.
    pub fn check(self, constants: Constants) -> Result<CheckedProgram, ProgramError> {
        if self.nodes.len() > PROGRAM_NODES_MAX {
            let (got, max) = (self.nodes.len(), PROGRAM_NODES_MAX);
            return Err(ProgramError::Program(format!("it has {got} nodes, at most {max} go")));
        }
        let mut known: BTreeMap<&str, ()> = constants.keys().map(|k| (k.as_str(), ())).collect();
        for port in &self.inputs {
            let rank = port.shape.as_ref().map_or(0, Vec::len);
            if port.name.is_empty() || rank > RANK_TENSOR_MAX {
                let problem = format!("it has {rank} axes, at most {RANK_TENSOR_MAX} go");
                return Err(ProgramError::Input { input: port.name.clone(), problem });
            }
            known.insert(&port.name, ());
        }
        for node in &self.nodes {
            let fault = |problem: String| ProgramError::Node { node: node.name.clone(), problem };
            if node.inputs.len() > INPUTS_MAX * 16 {
                return Err(fault(format!("it reads {} values", node.inputs.len())));
            }
            let unknown = |name: &&String| !name.is_empty() && !known.contains_key(name.as_str());
            if let Some(name) = node.inputs.iter().find(unknown) {
                return Err(fault(format!("it reads `{name}`, which nothing before it gives")));
            }
            for output in node.outputs.iter().filter(|output| !output.is_empty()) {
                if known.insert(output, ()).is_some() {
                    return Err(fault(format!("it gives `{output}`, which is given already")));
                }
            }
        }
        if let Some(name) = self.outputs.iter().find(|name| !known.contains_key(name.as_str())) {
            return Err(ProgramError::Program(format!("nothing gives its output `{name}`")));
        }
        let last_uses = last_uses(&self);
        Ok(CheckedProgram { program: self, constants, last_uses })
    }
}

/// For each node, what is read there for the last time.
fn last_uses(program: &Program) -> Vec<Vec<String>> {
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, node) in program.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|name| {
            last.insert(name, at);
        });
        node.outputs.iter().for_each(|name| {
            last.entry(name).or_insert(at);
        });
    }
    let mut out = vec![Vec::new(); program.nodes.len()];
    for (name, at) in last {
        if !name.is_empty() && !program.outputs.iter().any(|output| output == name) {
            out[at].push(name.to_owned());
        }
    }
    out
}

impl CheckedProgram {
    /// The program.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Its constants.
    #[must_use]
    pub fn constants(&self) -> &Constants {
        &self.constants
    }

    /// Runs all nodes on values for the inputs, in their order; gives the outputs in theirs.
    ///
    /// # Errors
    /// [`ProgramError`] with the input or node whose type or shape does not fit.
    pub fn run(&self, inputs: Vec<Value>) -> Result<Vec<Value>, ProgramError> {
        let ports = &self.program.inputs;
        if ports.len() != inputs.len() {
            let (got, want) = (inputs.len(), ports.len());
            return Err(ProgramError::Program(format!("{got} values for {want} inputs")));
        }
        let mut made: BTreeMap<&str, Value> = BTreeMap::new();
        for (port, value) in ports.iter().zip(inputs) {
            port.check(&value)?;
            made.insert(&port.name, value);
        }
        for (node, over) in self.program.nodes.iter().zip(&self.last_uses) {
            let find = |name: &String| {
                if name.is_empty() {
                    return None;
                }
                made.get(name.as_str()).or_else(|| self.constants.get(name))
            };
            let values: Vec<Option<&Value>> = node.inputs.iter().map(find).collect();
            let fault = |problem: String| ProgramError::Node { node: node.name.clone(), problem };
            let outputs = ops::apply(&node.op, &ops::Inputs(&values))
                .map_err(|error| ProgramError::Op { node: node.name.clone(), error })?;
            if node.outputs.len() > outputs.len() {
                return Err(fault(format!("it cannot give {} values", node.outputs.len())));
            }
            for (name, value) in node.outputs.iter().zip(outputs) {
                if !name.is_empty() {
                    made.insert(name, value);
                }
            }
            over.iter().for_each(|name| {
                made.remove(name.as_str());
            });
        }
        let take =
            |name: &String| made.get(name.as_str()).or_else(|| self.constants.get(name)).cloned();
        let gone = || ProgramError::Program("an output was not made".into());
        self.program.outputs.iter().map(|name| take(name).ok_or_else(gone)).collect()
    }
}

impl Port {
    fn check(&self, value: &Value) -> Result<(), ProgramError> {
        let fault = |problem| Err(ProgramError::Input { input: self.name.clone(), problem });
        if value.dtype() != self.dtype {
            return fault(format!("elements are {:?}, expected {:?}", value.dtype(), self.dtype));
        }
        let Some(shape) = &self.shape else { return Ok(()) };
        let fits = shape.len() == value.shape().len()
            && shape.iter().zip(value.shape()).all(|(want, got)| want.is_none_or(|w| w == *got));
        if fits {
            return Ok(());
        }
        fault(format!("shape {:?}, expected {shape:?}", value.shape()))
    }
}
