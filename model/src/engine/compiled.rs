//! Runs a range of an imported program fast: nodes that belong together as one kernel, images with
//! their channels last, values in room that is used again.
//!
//! What it has no kernel for, for an operation or for the shapes that it meets, runs on the general path
//! ([`CheckedProgram::run_range`]), which is also its oracle: an operation that it knows gives the same
//! numbers up to rounding. Nothing is trained here, and one call runs on one thread. Start at
//! [`Compiled::new`].

mod arrange;
mod fuse;
mod graph;
mod held;
mod image;
mod math;
mod norm;
mod pointwise;
mod product;
mod single;
mod step;
mod weights;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::program::{CheckedProgram, ProgramError, Value};
use graph::Graph;
use held::{Held, Room};
use step::{Place, Step};
pub use weights::Weights;

/// A range of a program's nodes, ready to run. Shared between threads by reference.
pub struct Compiled {
    program: Arc<CheckedProgram>,
    weights: Weights,
    range: Range<usize>,
    steps: Vec<Step>,
    slots: usize,
    enters: Vec<Place>,
    leaves: Vec<Place>,
    /// Room of earlier calls; one for each call at a time.
    spare: Mutex<Vec<Room>>,
}

/// Rooms that are kept for later calls.
const SPARE_MAX: usize = 4;

impl Compiled {
    /// Prepares the nodes of a range; `weights` are those of the same program.
    #[must_use]
    pub fn new(program: Arc<CheckedProgram>, range: Range<usize>, weights: &Weights) -> Self {
        let nodes = program.n_nodes();
        let range = range.start.min(nodes)..range.end.min(nodes);
        let states = program.states_in(&range);
        let enters = program.live(range.start).into_iter();
        let enters: Vec<&str> = enters.chain(states.iter().map(|s| s.name.as_str())).collect();
        let leaves = program.live(range.end).into_iter();
        let leaves: Vec<&str> = leaves.chain(states.iter().map(|s| s.output.as_str())).collect();
        let graph = Graph::new(&program, &range, weights, &leaves);
        let mut names = Names { graph: &graph, slots: BTreeMap::new() };
        let enters = enters.iter().map(|name| names.place(name)).collect();
        let mut steps = steps(&graph, &mut names);
        let leaves: Vec<Place> = leaves.iter().map(|name| names.place(name)).collect();
        let slots = names.slots.len();
        step::bury(&mut steps, &leaves, slots);
        let weights = weights.clone();
        Self { program, weights, range, steps, slots, enters, leaves, spare: Mutex::default() }
    }

    /// The same as [`CheckedProgram::run_range`]: what is live at the start, then the states in the
    /// range, to what is live at its end, then the states' next values.
    ///
    /// # Errors
    /// As [`CheckedProgram::run_range`].
    pub fn run(&self, inputs: Vec<Value>) -> Result<Vec<Value>, ProgramError> {
        if inputs.len() != self.enters.len() {
            let (got, want) = (inputs.len(), self.enters.len());
            return Err(ProgramError::Program(format!("{got} values where {want} cross")));
        }
        let live = self.program.live(self.range.start);
        for (name, value) in live.iter().zip(&inputs) {
            let port = self.program.program().inputs.iter().find(|port| port.name == *name);
            port.map_or(Ok(()), |port| port.check(value))?;
        }
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut call = Call { of: self, slots: Vec::new(), room: spare.unwrap_or_default() };
        call.slots.resize_with(self.slots, || None);
        for (place, value) in self.enters.iter().zip(inputs) {
            if let Place::Slot(slot) = place {
                call.slots[*slot] = Some(Held::rows(value));
            }
        }
        self.steps.iter().try_for_each(|step| call.step(step))?;
        let outputs = call.outputs();
        let Call { mut room, slots, .. } = call;
        slots.into_iter().flatten().for_each(|held| room.give(held));
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MAX {
            spare.push(room);
        }
        outputs
    }

    fn constant(&self, name: &str) -> Option<&Value> {
        self.program.constants().get(name).or_else(|| self.weights.folded(name))
    }
}

/// One call: its values and its room.
struct Call<'a> {
    of: &'a Compiled,
    slots: Vec<Option<Held>>,
    room: Room,
}

impl Call<'_> {
    /// What leaves, in order.
    fn outputs(&mut self) -> Result<Vec<Value>, ProgramError> {
        let gone = || ProgramError::Program("an output was not made".into());
        let mut outputs = Vec::with_capacity(self.of.leaves.len());
        for (at, place) in self.of.leaves.iter().enumerate() {
            outputs.push(match place {
                Place::Slot(slot) if self.of.leaves[at + 1..].contains(place) => {
                    self.slots[*slot].as_ref().ok_or_else(gone)?.to_rows(&mut self.room)
                }
                Place::Slot(slot) => {
                    self.slots[*slot].take().ok_or_else(gone)?.into_rows(&mut self.room)
                }
                Place::Constant(name) => self.of.constant(name).ok_or_else(gone)?.clone(),
                Place::Absent => return Err(gone()),
            });
        }
        Ok(outputs)
    }
}

/// Slots of values by name.
struct Names<'a> {
    graph: &'a Graph<'a>,
    slots: BTreeMap<String, usize>,
}

impl Names<'_> {
    fn place(&mut self, name: &str) -> Place {
        if name.is_empty() {
            return Place::Absent;
        }
        if self.graph.constant(name).is_some() {
            return Place::Constant(name.to_owned());
        }
        let next = self.slots.len();
        Place::Slot(*self.slots.entry(name.to_owned()).or_insert(next))
    }
}

/// Groups and single nodes, each where its last node stands.
fn steps(graph: &Graph<'_>, names: &mut Names<'_>) -> Vec<Step> {
    let mut taken: BTreeSet<usize> = BTreeSet::new();
    let mut steps: Vec<(usize, Step)> = Vec::new();
    for at in graph.range() {
        if graph.is_folded(at) || taken.contains(&at) {
            continue;
        }
        let step = match fuse::group(graph, at, &taken) {
            Some(group) => Step::group(group, |name| names.place(name)),
            None => Step::single(graph.node(at), at, |name| names.place(name)),
        };
        taken.extend(&step.nodes);
        steps.push((step.nodes.last().copied().unwrap_or(at), step));
    }
    steps.sort_by_key(|(last, _)| *last);
    steps.into_iter().map(|(_, step)| step).collect()
}

#[cfg(test)]
mod tests;
