//! A network that can be cut and asked, whatever it came from: layers that were trained here, or an
//! imported program.
//!
//! Split inference knows networks only: [`Network::forward`] runs the nodes from one position to
//! another, and parts one after another give what the whole gives. It does not train, and it does not
//! choose where to cut. Start at [`Network::read`].
//!
//! ```
//! use koinon_model::{network::Network, params::Params, program::{Data, Value}, spec::ModelSpec};
//!
//! let spec = ModelSpec::from_json(br#"{"name":"m","inputs":[{"name":"x","shape":[3]}],"nodes":[
//!   {"name":"fc1","op":{"linear":{"units":4}},"inputs":["x"]},
//!   {"name":"act","op":"relu","inputs":["fc1"]},
//!   {"name":"fc2","op":{"linear":{"units":1}},"inputs":["act"]}]}"#)?.check()?;
//! let params = Params::init(&spec, 1);
//! let network = Network::layers(&spec, &params)?;
//! let rows = Value::new(vec![2, 3], Data::F32(vec![0.5; 6]))?;
//!
//! let input = network.crossing(0, vec![rows])?;
//! let head = network.forward(2, &input, &mut network.start(0..2))?;
//! let parts = network.forward(3, &head, &mut network.start(2..3))?;
//! let whole = network.forward(3, &input, &mut network.start(0..3))?;
//! assert!(parts == whole);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod lanes;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::crossing::Crossing;
use crate::cut;
use crate::engine::compiled::{Compiled, Weights};
use crate::engine::{Engine, EngineError};
use crate::limits::LIVE_MAX;
use crate::params::{FileError, Params};
use crate::program::files::{self, FilesError};
use crate::program::{CheckedProgram, DType, Data, ProgramError, Value};
use crate::spec::{CheckedSpec, SpecError};
use crate::tensor::{Boundary, ShapeError, Tensor};
use lanes::Plans;

/// See the module. Shared between threads by reference.
pub struct Network {
    kind: Kind,
    cuts: Vec<Cut>,
    plans: Plans,
}

enum Kind {
    Layers(Box<Engine>),
    Program(Box<Prepared>),
}

/// A program with the ranges that were asked for of late, ready to run.
struct Prepared {
    program: Arc<CheckedProgram>,
    weights: Weights,
    /// The newest first.
    ranges: Mutex<VecDeque<(Range<usize>, Arc<Compiled>)>>,
}

/// Ranges of one program that are kept ready; another one is prepared in milliseconds.
const RANGES_MAX: usize = 32;

impl Prepared {
    fn new(program: CheckedProgram) -> Self {
        let weights = Weights::new(&program);
        Self { program: Arc::new(program), weights, ranges: Mutex::default() }
    }

    fn range(&self, range: Range<usize>) -> Arc<Compiled> {
        let mut ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        let known = ranges.iter().position(|(known, _)| *known == range);
        let entry = known.and_then(|at| ranges.remove(at)).unwrap_or_else(|| {
            let program = Arc::clone(&self.program);
            (range.clone(), Arc::new(Compiled::new(program, range, &self.weights)))
        });
        let compiled = Arc::clone(&entry.1);
        ranges.push_front(entry);
        ranges.truncate(RANGES_MAX);
        compiled
    }
}

/// How a network is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `spec.json` and `params.safetensors`: layers, as they are trained.
    Layers,
    /// `program.json` and `constants.safetensors`: an imported program.
    Program,
}

impl Form {
    /// Both, the trained one first.
    pub const ALL: [Self; 2] = [Self::Layers, Self::Program];

    /// Names of the two files: what it is, and its values.
    #[must_use]
    pub fn files(self) -> [&'static str; 2] {
        match self {
            Self::Layers => ["spec.json", "params.safetensors"],
            Self::Program => [files::PROGRAM_FILE, files::CONSTANTS_FILE],
        }
    }
}

/// A position in a network's order, with what crosses there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Nodes before it.
    pub position: usize,
    /// Name of the last node before it; empty at the start.
    pub after: String,
    /// What crosses, in order.
    pub live: Vec<Live>,
    /// Whether a raw input crosses.
    pub raw: bool,
    /// Why nothing may be cut here although nothing raw crosses.
    pub obstacle: Option<Obstacle>,
}

/// See [`Cut::obstacle`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It is the start or the end.
    End,
    /// It would separate a sequence's state from itself.
    State(String),
    /// More tensors cross than one message holds.
    Many(usize),
}

impl Cut {
    /// Whether a crossing may leave here.
    #[must_use]
    pub fn is_legal(&self) -> bool {
        !self.raw && self.obstacle.is_none()
    }
}

/// One value that crosses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Name of the input or node that made it.
    pub name: String,
    /// What its elements are; `None` where only running tells.
    pub dtype: Option<DType>,
    /// Sides for one row, without the batch; `None` where only running tells.
    pub shape: Option<Vec<usize>>,
}

/// What sequences remember in a range of nodes, between one call and the next.
#[derive(Clone, Default, PartialEq)]
pub struct States(Vec<Value>);

impl States {
    /// Bytes that they hold.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|value| value.len() * value.dtype().bytes()).sum()
    }

    /// Whether the range remembers nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why a network does not answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The file of the layers.
    #[error("spec.json: {0}")]
    Spec(#[from] SpecError),
    /// The file of their values.
    #[error("params.safetensors: {0}")]
    Params(#[from] FileError),
    /// The files of a program.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Tensors that are not what crosses.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A program that cannot run on them.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A position that the network does not have, or before the one where the values are.
    #[error("nodes {from}..{to} are no part of a network of {nodes} nodes")]
    Range {
        /// First node.
        from: usize,
        /// Node after the last.
        to: usize,
        /// Nodes it has.
        nodes: usize,
    },
    /// Values that are not what crosses there.
    #[error("at position {position}: {problem}; both sides must have the same network and cut")]
    Crossing {
        /// The position.
        position: usize,
        /// What is wrong.
        problem: String,
    },
}

impl Network {
    /// Layers with their values.
    ///
    /// # Errors
    /// [`NetworkError::Engine`].
    pub fn layers(spec: &CheckedSpec, params: &Params) -> Result<Self, NetworkError> {
        let engine = Engine::load(spec, params)?;
        let all = (0..=spec.n_nodes()).filter_map(|at| cut::Cut::at(spec, at));
        let cuts = all.map(|cut| of_layers(spec, &cut)).collect();
        Ok(Self { kind: Kind::Layers(Box::new(engine)), cuts, plans: Plans::default() })
    }

    /// An imported program.
    #[must_use]
    pub fn program(program: CheckedProgram) -> Self {
        let cuts = (0..=program.n_nodes()).map(|at| of_program(&program, at)).collect();
        let kind = Kind::Program(Box::new(Prepared::new(program)));
        Self { kind, cuts, plans: Plans::default() }
    }

    /// Reads the two files of a form: what it is, and its values.
    ///
    /// # Errors
    /// [`NetworkError`], naming the file. Never panics on any bytes.
    pub fn read(form: Form, graph: &[u8], values: &[u8]) -> Result<Self, NetworkError> {
        match form {
            Form::Layers => {
                let spec = CheckedSpec::from_canonical(graph)?;
                let params = Params::from_safetensors(spec.layout(), values)?;
                Self::layers(&spec, &params)
            }
            Form::Program => Ok(Self::program(files::read(graph, values)?)),
        }
    }

    /// Number of nodes; positions go from 0 to this.
    #[must_use]
    pub fn n_nodes(&self) -> usize {
        self.cuts.len() - 1
    }

    /// Every position from 0 to the end, also where nothing may be cut.
    #[must_use]
    pub fn cuts(&self) -> &[Cut] {
        &self.cuts
    }

    /// The cut at a position.
    #[must_use]
    pub fn cut(&self, position: u32) -> Option<&Cut> {
        self.cuts.get(usize::try_from(position).ok()?)
    }

    /// The program, if it is one.
    #[must_use]
    pub fn as_program(&self) -> Option<&CheckedProgram> {
        match &self.kind {
            Kind::Layers(_) => None,
            Kind::Program(prepared) => Some(&prepared.program),
        }
    }

    /// The spec of its layers, if it has one.
    #[must_use]
    pub fn as_layers(&self) -> Option<&CheckedSpec> {
        match &self.kind {
            Kind::Layers(engine) => Some(engine.spec()),
            Kind::Program(_) => None,
        }
    }

    /// Which kernels compute.
    #[must_use]
    pub fn kernels(&self) -> &'static str {
        match &self.kind {
            Kind::Layers(engine) => engine.kernels(),
            Kind::Program(_) => "program",
        }
    }

    /// Values as what crosses at a position: as many, and of the types and sides that are known.
    /// Position 0 takes the inputs that are not a sequence's memory.
    ///
    /// # Errors
    /// [`NetworkError::Range`], [`NetworkError::Crossing`].
    pub fn crossing(&self, position: usize, values: Vec<Value>) -> Result<Crossing, NetworkError> {
        let nodes = self.n_nodes();
        let range = NetworkError::Range { from: position, to: position, nodes };
        let cut = self.cuts.get(position).ok_or(range)?;
        let fault = |problem| NetworkError::Crossing { position, problem };
        if values.len() != cut.live.len() {
            let (got, want) = (values.len(), cut.live.len());
            return Err(fault(format!("{got} tensors where {want} cross")));
        }
        for (value, live) in values.iter().zip(&cut.live) {
            live.check(value).map_err(fault)?;
        }
        Ok(Crossing::new(position, cut.raw, values))
    }

    /// What a sequence remembers in a range before its first step; nothing for most networks.
    #[must_use]
    pub fn start(&self, range: Range<usize>) -> States {
        match &self.kind {
            Kind::Layers(_) => States::default(),
            Kind::Program(prepared) => {
                let states = prepared.program.states_in(&range).into_iter();
                States(states.filter_map(|state| state.start().ok()).collect())
            }
        }
    }

    /// Runs the nodes from where the values are to `to`; gives what crosses there. A sequence's memory
    /// in that range moves one step on.
    ///
    /// # Errors
    /// [`NetworkError`]; the memory is as it was then.
    pub fn forward(
        &self,
        to: usize,
        at: &Crossing,
        states: &mut States,
    ) -> Result<Crossing, NetworkError> {
        let (from, nodes) = (at.position(), self.n_nodes());
        if from >= to || to > nodes {
            return Err(NetworkError::Range { from, to, nodes });
        }
        let values = match &self.kind {
            Kind::Layers(engine) => {
                let tensors = at.values().iter().map(tensor).collect::<Result<_, _>>()?;
                let out = engine.forward(from..to, &Boundary::new(tensors)?)?;
                out.into_tensors().into_iter().map(value).collect::<Result<_, _>>()?
            }
            Kind::Program(prepared) => {
                let inputs = at.values().iter().chain(&states.0).cloned().collect();
                let mut outputs = prepared.range(from..to).run(inputs)?;
                let n_live = self.cuts[to].live.len();
                let next = outputs.split_off(n_live.min(outputs.len()));
                states.0 = next;
                outputs
            }
        };
        Ok(Crossing::new(to, self.cuts[to].raw, values))
    }
}

impl Live {
    fn check(&self, value: &Value) -> Result<(), String> {
        let name = &self.name;
        if self.dtype.is_some_and(|want| want != value.dtype()) {
            return Err(format!("`{name}` holds {:?}, wanted {:?}", value.dtype(), self.dtype));
        }
        match &self.shape {
            Some(want) if value.shape().get(1..) != Some(want.as_slice()) => {
                let got = value.shape();
                Err(format!("`{name}` has shape {got:?}, wanted rows of {want:?}"))
            }
            _ => Ok(()),
        }
    }
}

fn of_layers(spec: &CheckedSpec, cut: &cut::Cut) -> Cut {
    let live = cut.live().iter().map(|live| Live {
        name: live.name.clone(),
        dtype: Some(DType::F32),
        shape: Some(live.shape.clone()),
    });
    let (position, end) = (cut.position(), spec.n_nodes());
    let after = position.checked_sub(1).map_or("", |last| &spec.nodes()[last].name);
    Cut {
        position,
        after: after.to_owned(),
        live: live.collect(),
        raw: cut.is_raw(),
        obstacle: (position == 0 || position == end).then_some(Obstacle::End),
    }
}

fn of_program(program: &CheckedProgram, position: usize) -> Cut {
    let nodes = &program.program().nodes;
    let known = |name: &str| program.program().inputs.iter().find(|port| port.name == name);
    let live: Vec<Live> = program
        .live(position)
        .into_iter()
        .map(|name| Live { name: name.into(), dtype: known(name).map(|p| p.dtype), shape: None })
        .collect();
    let state = program.split_state(position).map(|state| Obstacle::State(state.name.clone()));
    let many = (live.len() > LIVE_MAX).then_some(Obstacle::Many(live.len()));
    let end = (position == 0 || position == nodes.len()).then_some(Obstacle::End);
    Cut {
        position,
        after: position.checked_sub(1).map_or(String::new(), |last| nodes[last].name.clone()),
        live,
        raw: program.is_raw(position),
        obstacle: end.or(state).or(many),
    }
}

fn tensor(value: &Value) -> Result<Tensor, ShapeError> {
    match value.data() {
        Data::F32(items) => Tensor::new(value.shape().to_vec(), items.clone()),
        other => Err(ShapeError::Elements { shape: value.shape().to_vec(), got: other.len() }),
    }
}

fn value(tensor: Tensor) -> Result<Value, ProgramError> {
    let shape = tensor.shape().to_vec();
    let fault = |e: crate::program::OpError| ProgramError::Program(e.to_string());
    Value::new(shape, Data::F32(tensor.into_data())).map_err(fault)
}

#[cfg(test)]
mod tests;
