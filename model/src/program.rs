//! A program: an imported network as data, tensor operation by tensor operation.
//!
//! Where a [`crate::spec::ModelSpec`] speaks of layers and rows, a program speaks of typed tensors whose
//! batch is an axis like any other; it is what an ONNX file becomes. Its operations are a closed list,
//! its constants are held by name. A sequence's memory (the keys and values that attention has seen) is
//! a [`State`]: an input that takes an output's value from step to step. Here a program is run by the
//! general path; nothing is trained. Start at [`Program::check`] and [`CheckedProgram::run`];
//! [`cuts`] says what crosses a cut, [`files`] how a program is stored.

pub mod cuts;
pub mod figures;
pub mod files;
mod fold;
pub(crate) mod lanes;
pub mod op;
pub(crate) mod ops;
pub(crate) mod value;

use std::collections::BTreeMap;
use std::ops::Range;

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
    /// What a sequence remembers from step to step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<State>,
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
    /// What it tells.
    #[serde(default, skip_serializing_if = "Role::is_rows")]
    pub role: Role,
}

/// What an input tells of people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Their data: never crosses a cut as it is.
    #[default]
    Rows,
    /// Which places of a batch hold data: lengths, which the shapes of what crosses tell as well.
    Mask,
}

impl Role {
    fn is_rows(&self) -> bool {
        *self == Self::Rows
    }
}

/// A sequence's memory: an input that is not asked for at each call but kept between them.
///
/// It lives where the nodes that read it run. A sequence is one row: states have no batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Name that nodes refer to.
    pub name: String,
    /// What its elements are.
    pub dtype: DType,
    /// Sides before the first step; the axis that grows is 0.
    pub shape: Vec<usize>,
    /// The value that it has at the next step.
    pub output: String,
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

/// Told of each node that ran: what it read, and what it gave.
type Seen<'a> = dyn FnMut(&ProgramNode, &[Option<&Value>], &[Value]) + 'a;

/// A program whose names and order are known to be good, with its constants.
pub struct CheckedProgram {
    program: Program,
    constants: Constants,
    /// What follows from the constants alone.
    folded: Constants,
    lives: cuts::Lives,
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
            if known.insert(&port.name, ()).is_some() {
                let problem = "its name is given already".into();
                return Err(ProgramError::Input { input: port.name.clone(), problem });
            }
        }
        for state in &self.states {
            let fits = !state.name.is_empty() && value::elements(&state.shape).is_ok();
            if !fits || known.insert(&state.name, ()).is_some() {
                let problem = "a state needs a name of its own and sides within the limits".into();
                return Err(ProgramError::Input { input: state.name.clone(), problem });
            }
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
        let mut given = self.outputs.iter().chain(self.states.iter().map(|state| &state.output));
        if let Some(name) = given.find(|name| !known.contains_key(name.as_str())) {
            return Err(ProgramError::Program(format!("nothing gives its output `{name}`")));
        }
        let folded = fold::fold(&self, &constants);
        let lives = cuts::Lives::of(&self, [&constants, &folded]);
        Ok(CheckedProgram { program: self, constants, folded, lives })
    }
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

    /// A constant, or what follows from constants alone.
    #[must_use]
    pub fn constant(&self, name: &str) -> Option<&Value> {
        self.constants.get(name).or_else(|| self.folded.get(name))
    }

    /// Whether a node need not run: what it gives follows from constants alone, and is known.
    #[must_use]
    pub fn is_folded(&self, node: &ProgramNode) -> bool {
        let mut named = node.outputs.iter().filter(|name| !name.is_empty()).peekable();
        named.peek().is_some() && named.all(|name| self.folded.contains_key(name))
    }

    /// Runs all nodes on values for the inputs, in their order; gives the outputs in theirs. A sequence
    /// is at its start.
    ///
    /// # Errors
    /// [`ProgramError`] with the input or node whose type or shape does not fit.
    pub fn run(&self, inputs: Vec<Value>) -> Result<Vec<Value>, ProgramError> {
        self.run_seen(inputs, &mut |_, _, _| ())
    }

    fn run_seen(
        &self,
        inputs: Vec<Value>,
        seen: &mut Seen<'_>,
    ) -> Result<Vec<Value>, ProgramError> {
        let ports = &self.program.inputs;
        if ports.len() != inputs.len() {
            let (got, want) = (inputs.len(), ports.len());
            return Err(ProgramError::Program(format!("{got} values for {want} inputs")));
        }
        let mut named = BTreeMap::new();
        for (port, value) in ports.iter().zip(inputs) {
            port.check(&value)?;
            named.insert(port.name.as_str(), value);
        }
        let states = self.states_in(&(0..self.n_nodes()));
        for state in states {
            named.insert(&state.name, state.start()?);
        }
        let outputs: Vec<&str> = self.program.outputs.iter().map(String::as_str).collect();
        self.run_named(0..self.n_nodes(), named, &outputs, seen)
    }

    /// Runs the nodes of a range on what is [live](CheckedProgram::live) at its start, followed by the
    /// values of the [states](CheckedProgram::states_in) that live in it; gives what is live at its end,
    /// followed by the states' next values.
    ///
    /// # Errors
    /// As [`CheckedProgram::run`].
    pub fn run_range(
        &self,
        range: Range<usize>,
        values: Vec<Value>,
    ) -> Result<Vec<Value>, ProgramError> {
        let states = self.states_in(&range);
        let names = self.live(range.start).into_iter();
        let names: Vec<&str> = names.chain(states.iter().map(|s| s.name.as_str())).collect();
        if names.len() != values.len() || range.end > self.n_nodes() {
            let (got, want) = (values.len(), names.len());
            return Err(ProgramError::Program(format!("{got} values where {want} cross")));
        }
        let ports = &self.program.inputs;
        let named: BTreeMap<&str, Value> = names.into_iter().zip(values).collect();
        for port in ports {
            named.get(port.name.as_str()).map_or(Ok(()), |value| port.check(value))?;
        }
        let outputs = self.live(range.end).into_iter();
        let outputs: Vec<&str> = outputs.chain(states.iter().map(|s| s.output.as_str())).collect();
        self.run_named(range, named, &outputs, &mut |_, _, _| ())
    }

    fn run_named<'a>(
        &'a self,
        range: Range<usize>,
        mut made: BTreeMap<&'a str, Value>,
        outputs: &[&str],
        seen: &mut Seen<'_>,
    ) -> Result<Vec<Value>, ProgramError> {
        let last_uses = last_uses(&self.program.nodes[range.clone()], outputs);
        for (node, over) in self.program.nodes[range].iter().zip(last_uses) {
            if self.is_folded(node) {
                seen(node, &[], &[]);
                continue;
            }
            let find = |name: &String| {
                if name.is_empty() {
                    return None;
                }
                made.get(name.as_str()).or_else(|| self.constant(name))
            };
            let values: Vec<Option<&Value>> = node.inputs.iter().map(find).collect();
            let fault = |problem: String| ProgramError::Node { node: node.name.clone(), problem };
            let outputs = ops::apply(&node.op, &ops::Inputs(&values))
                .map_err(|error| ProgramError::Op { node: node.name.clone(), error })?;
            if node.outputs.len() > outputs.len() {
                return Err(fault(format!("it cannot give {} values", node.outputs.len())));
            }
            seen(node, &values, &outputs);
            for (name, value) in node.outputs.iter().zip(outputs) {
                if !name.is_empty() {
                    made.insert(name, value);
                }
            }
            over.iter().for_each(|name| {
                made.remove(name);
            });
        }
        let take = |name: &&str| made.get(name).or_else(|| self.constant(name)).cloned();
        let gone = || ProgramError::Program("an output was not made".into());
        outputs.iter().map(|name| take(name).ok_or_else(gone)).collect()
    }
}

/// For each node, the values that nobody reads after it.
fn last_uses<'a>(nodes: &'a [ProgramNode], outputs: &[&str]) -> Vec<Vec<&'a str>> {
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate() {
        node.inputs.iter().for_each(|name| {
            last.insert(name, at);
        });
        node.outputs.iter().for_each(|name| {
            last.entry(name).or_insert(at);
        });
    }
    let mut out = vec![Vec::new(); nodes.len()];
    for (name, at) in last {
        if !name.is_empty() && !outputs.contains(&name) {
            out[at].push(name);
        }
    }
    out
}

impl State {
    /// Its value before the first step.
    ///
    /// # Errors
    /// None for a state of a checked program.
    pub fn start(&self) -> Result<Value, ProgramError> {
        let fault = |error| ProgramError::Op { node: self.name.clone(), error };
        let len = value::elements(&self.shape).map_err(fault)?;
        Value::new(self.shape.clone(), Data::zeros(self.dtype, len)).map_err(fault)
    }
}

impl Port {
    pub(crate) fn check(&self, value: &Value) -> Result<(), ProgramError> {
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
