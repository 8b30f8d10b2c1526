//! Where a program may be cut, and what crosses there.
//!
//! A position is a number of nodes: those before it run on one side, the rest on the other. What is
//! read behind it and made before it crosses; constants are on both sides, and a sequence's state lives
//! where it is read, so a cut may not separate a state from itself. Nothing is run here, and nothing is
//! chosen. Start at [`CheckedProgram::live`].

use std::collections::BTreeMap;
use std::ops::Range;

use super::op::{Binary, Fold};
use super::{CheckedProgram, Constants, Program, Role, State, TensorOp};

/// When a value comes to be, when it was read last, and what it tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Life {
    /// Nodes that have run when it is there.
    made: usize,
    /// The last position at which it is still needed.
    needed: usize,
    /// Whether it is a row's data, or was made of them without learned weights.
    raw: bool,
    /// Whether it is a constant, or follows from constants alone and is known.
    constant: bool,
    /// Whether rows' data went through a product with learned weights to make it.
    mixed: bool,
}

/// Values that are no constants of the file, in the order in which they are made.
pub(super) struct Lives {
    order: Vec<(String, Life)>,
    /// For each state, the first and the last node that it belongs to.
    states: Vec<Range<usize>>,
}

impl Lives {
    pub(super) fn of(program: &Program, constants: [&Constants; 2]) -> Self {
        let mut raw_states = vec![false; program.states.len()];
        // A state is raw if what it takes over is; that may make more states raw, never fewer.
        loop {
            let lives = walk(program, constants, &raw_states);
            let raw = |state: &State| lives.get(state.output.as_str()).is_some_and(|life| life.raw);
            let again: Vec<bool> = program.states.iter().map(raw).collect();
            if again == raw_states {
                return Self::sorted(program, constants, &lives);
            }
            raw_states = raw_states.iter().zip(again).map(|(old, new)| *old || new).collect();
        }
    }

    fn sorted(program: &Program, constants: [&Constants; 2], lives: &BTreeMap<&str, Life>) -> Self {
        let ports = program.inputs.iter().map(|port| &port.name);
        let nodes = program.nodes.iter().flat_map(|node| &node.outputs);
        let named = ports.chain(nodes).filter(|name| !name.is_empty());
        let own = named.filter(|name| !constants.iter().any(|known| known.contains_key(*name)));
        let order = own.filter_map(|name| Some((name.clone(), *lives.get(name.as_str())?)));
        let states = program.states.iter().map(|state| range_of(program, state)).collect();
        Self { order: order.collect(), states }
    }
}

/// The nodes that read a state or give its next value.
fn range_of(program: &Program, state: &State) -> Range<usize> {
    let touches = |node: &super::ProgramNode| {
        node.inputs.contains(&state.name) || node.outputs.contains(&state.output)
    };
    let first = program.nodes.iter().position(touches).unwrap_or(0);
    let last = program.nodes.iter().rposition(touches).unwrap_or(first);
    first..last + 1
}

fn walk<'a>(
    program: &'a Program,
    constants: [&'a Constants; 2],
    raw_states: &[bool],
) -> BTreeMap<&'a str, Life> {
    let end = program.nodes.len();
    let constant = Life { constant: true, ..Life::default() };
    let mut lives: BTreeMap<&str, Life> =
        constants[0].keys().map(|name| (name.as_str(), constant)).collect();
    for port in &program.inputs {
        lives.insert(&port.name, Life { raw: port.role == Role::Rows, ..Life::default() });
    }
    for (state, &raw) in program.states.iter().zip(raw_states) {
        lives.insert(&state.name, Life { raw, ..Life::default() });
    }
    for (at, node) in program.nodes.iter().enumerate() {
        for name in &node.inputs {
            if let Some(life) = lives.get_mut(name.as_str()) {
                life.needed = at;
            }
        }
        let read: Vec<Life> =
            node.inputs.iter().filter_map(|name| lives.get(name.as_str()).copied()).collect();
        let hidden = hides(&node.op, &read);
        let raw = read.iter().any(|life| life.raw) && !hidden && !veils(&node.op, &read);
        let told = !matches!(node.op, TensorOp::Shape { .. } | TensorOp::Size);
        let mixed = told && read.iter().any(|life| life.mixed || (life.raw && hidden));
        for name in node.outputs.iter().filter(|name| !name.is_empty()) {
            let constant = constants[1].contains_key(name);
            lives.insert(name, Life { made: at + 1, needed: at, raw, constant, mixed });
        }
    }
    for name in &program.outputs {
        if let Some(life) = lives.get_mut(name.as_str()) {
            life.needed = end;
        }
    }
    lives
}

/// Whether what comes out no longer is what went in, in other clothes: a product with learned weights,
/// or nothing but a shape. That is the floor for every site; how much is still told is for measurement.
fn hides(op: &TensorOp, read: &[Life]) -> bool {
    match op {
        TensorOp::Shape { .. } | TensorOp::Size => true,
        TensorOp::MatMul
        | TensorOp::Gemm { .. }
        | TensorOp::Conv { .. }
        | TensorOp::ConvTranspose { .. }
        | TensorOp::Recurrent(_) => read.iter().take(2).any(|life| life.constant),
        _ => false,
    }
}

/// Whether a sum puts what learned weights made of the rows on top of what they did not touch: a
/// residual connection. Neither summand can be told from the sum alone.
fn veils(op: &TensorOp, read: &[Life]) -> bool {
    matches!(op, TensorOp::Binary(Binary::Add) | TensorOp::Fold(Fold::Sum))
        && read.iter().any(|life| life.mixed && !life.raw)
}

impl CheckedProgram {
    /// Number of nodes; positions go from 0 to this.
    #[must_use]
    pub fn n_nodes(&self) -> usize {
        self.program.nodes.len()
    }

    /// Names of what crosses at a position, in the order in which it is made; the program's outputs, in
    /// their order, at the end.
    #[must_use]
    pub fn live(&self, position: usize) -> Vec<&str> {
        if position >= self.n_nodes() {
            return self.program.outputs.iter().map(String::as_str).collect();
        }
        self.crossing(position).map(|(name, _)| name).collect()
    }

    /// Whether something raw crosses: an input that is people's data, or made of one without a product
    /// with learned weights since. At the end nothing counts as raw.
    #[must_use]
    pub fn is_raw(&self, position: usize) -> bool {
        position < self.n_nodes() && self.crossing(position).any(|(_, life)| life.raw)
    }

    /// The state that a cut would separate from itself, if there is one.
    #[must_use]
    pub fn split_state(&self, position: usize) -> Option<&State> {
        let within = |nodes: &Range<usize>| nodes.start < position && position < nodes.end;
        let at = self.lives.states.iter().position(within)?;
        self.program.states.get(at)
    }

    /// The states that live in a range of nodes, in the program's order.
    #[must_use]
    pub fn states_in(&self, range: &Range<usize>) -> Vec<&State> {
        let all = self.program.states.iter().zip(&self.lives.states);
        let own = all.filter(|(_, nodes)| range.start <= nodes.start && nodes.end <= range.end);
        own.map(|(state, _)| state).collect()
    }

    fn crossing(&self, position: usize) -> impl Iterator<Item = (&str, Life)> {
        let alive =
            move |life: &Life| life.made <= position && position <= life.needed && !life.constant;
        let order = self.lives.order.iter();
        order.filter(move |(_, life)| alive(life)).map(|(name, life)| (name.as_str(), *life))
    }
}
