//! One step of a call: a group of nodes as one kernel, or a single node.
//!
//! A group that meets other shapes or types than its kernel knows runs node by node instead. Start at
//! [`Call::step`].

use std::collections::BTreeMap;

use super::fuse::{Group, Root};
use super::held::{Held, Room};
use super::pointwise::{Along, Chain, SCRATCH};
use super::single::{self, Read};
use super::{Call, arrange, norm, product};
use crate::program::{ProgramError, ProgramNode};

/// Where a value is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Among the values of the call.
    Slot(usize),
    /// Among the constants.
    Constant(String),
    /// Nowhere: it is left out.
    Absent,
}

/// See the module.
pub(super) struct Step {
    kernel: Option<Kernel>,
    /// Its nodes, in order.
    pub(super) nodes: Vec<usize>,
    names: Vec<String>,
    inputs: Vec<Place>,
    outputs: Vec<Place>,
    /// Slots that nobody reads afterwards.
    dies: Vec<usize>,
}

struct Kernel {
    root: Root,
    chain: Chain,
    rank: usize,
    own: usize,
}

impl Step {
    /// A group as one kernel.
    pub(super) fn group(group: Group<'_>, mut place: impl FnMut(&str) -> Place) -> Self {
        let Group { root, chain, rank, nodes, inputs, own, output } = group;
        Self {
            kernel: Some(Kernel { root, chain, rank, own }),
            nodes,
            inputs: inputs.iter().map(|name| place(name)).collect(),
            names: inputs.into_iter().map(str::to_owned).collect(),
            outputs: vec![place(output)],
            dies: Vec::new(),
        }
    }

    /// A node by itself.
    pub(super) fn single(
        node: &ProgramNode,
        at: usize,
        mut place: impl FnMut(&str) -> Place,
    ) -> Self {
        Self {
            kernel: None,
            nodes: vec![at],
            inputs: node.inputs.iter().map(|name| place(name)).collect(),
            names: node.inputs.clone(),
            outputs: node.outputs.iter().map(|name| place(name)).collect(),
            dies: Vec::new(),
        }
    }
}

/// Finds for each step the slots that nobody reads after it.
pub(super) fn bury(steps: &mut [Step], leaves: &[Place], slots: usize) {
    let mut read = vec![false; slots];
    for place in leaves {
        if let Place::Slot(slot) = place {
            read[*slot] = true;
        }
    }
    for step in steps.iter_mut().rev() {
        for place in step.inputs.iter().chain(&step.outputs) {
            if let Place::Slot(slot) = place
                && !std::mem::replace(&mut read[*slot], true)
            {
                step.dies.push(*slot);
            }
        }
    }
}

impl Call<'_> {
    /// Runs one step and lets go of what nobody reads after it.
    pub(super) fn step(&mut self, step: &Step) -> Result<(), ProgramError> {
        let made = match self.moved(step).map(|held| vec![held]).or_else(|| self.kernel(step)) {
            Some(made) => made,
            None => self.nodes(step)?,
        };
        for (place, held) in step.outputs.iter().zip(made) {
            match place {
                Place::Slot(slot) => self.slots[*slot] = Some(held),
                _ => self.room.give(held),
            }
        }
        for slot in &step.dies {
            if let Some(held) = self.slots[*slot].take() {
                self.room.give(held);
            }
        }
        Ok(())
    }

    /// A value that only gets another shape and that nobody reads as it was.
    fn moved(&mut self, step: &Step) -> Option<Held> {
        let (None, &[at], Place::Slot(slot)) =
            (&step.kernel, &step.nodes[..], step.inputs.first()?)
        else {
            return None;
        };
        if !step.dies.contains(slot) || step.inputs[1..].contains(&step.inputs[0]) {
            return None;
        }
        let op = &self.of.program.program().nodes[at].op;
        let second = step.inputs.get(1).and_then(|place| self.read(place));
        let second = second.as_ref().and_then(Read::as_rows);
        let shape = arrange::reshaped(op, self.slots[*slot].as_ref()?.shape(), second)?;
        let held = self.slots[*slot].take()?.into_rows(&mut self.room);
        held.reshaped(shape).ok().map(Held::rows)
    }

    fn read(&self, place: &Place) -> Option<Read<'_>> {
        match place {
            Place::Slot(slot) => self.slots[*slot].as_ref().map(Read::Held),
            Place::Constant(name) => self.of.constant(name).map(Read::Constant),
            Place::Absent => None,
        }
    }

    fn kernel(&mut self, step: &Step) -> Option<Vec<Held>> {
        let kernel = step.kernel.as_ref()?;
        let mut room = std::mem::take(&mut self.room);
        let made = self.fused(step, kernel, &mut room);
        self.room = room;
        made.map(|held| vec![held])
    }

    fn fused(&self, step: &Step, kernel: &Kernel, room: &mut Room) -> Option<Held> {
        let held = |place: &Place| match place {
            Place::Slot(slot) => self.slots[*slot].as_ref(),
            _ => None,
        };
        let constant = |at: usize| match step.inputs.get(at)? {
            Place::Constant(name) => self.of.constant(name),
            _ => None,
        };
        let x = held(step.inputs.first()?)?;
        if kernel.rank > x.shape().len() {
            return None;
        }
        let others: Vec<&Held> =
            step.inputs[kernel.own..].iter().map(held).collect::<Option<_>>()?;
        let chain = &kernel.chain;
        match &kernel.root {
            Root::Start => start(x, chain, &others, room),
            Root::Linear { turned } => {
                product::linear(x, (constant(1)?, *turned), (chain, &others), room)
            }
            Root::Conv { filter, window } => {
                let shape = filter.shape(x, window)?;
                let period =
                    chain.period().filter(|period| *period != (Along::Channels, filter.filters()));
                if period.is_some() {
                    return None;
                }
                let y = with_images(&shape, &others, room, |others, room| {
                    filter.run(x, window, (chain, others), room)
                })?;
                Held::image(&shape, y)
            }
            Root::Norm(how) => {
                let (scale, bias) = (constant(1)?.f32s().ok()?, constant(2)?.f32s().ok()?);
                let items = x.as_rows()?.f32s().ok()?;
                let width = *x.shape().last()?;
                let fits = scale.len() == width && bias.len() == width && width > 0;
                let period = chain.period().is_none_or(|period| period == (Along::Last, width));
                if !fits || !period {
                    return None;
                }
                let others = rows_of(x.shape(), &others)?;
                let mut y = room.take(items.len());
                norm::layer(items, scale, Some(bias), *how, &mut y);
                let mut scratch = room.take(SCRATCH);
                chain.run(&mut y, 0, &others, &mut scratch);
                room.give_items(scratch);
                Held::made(x.shape(), y)
            }
        }
    }

    /// The nodes of a step, one after another.
    fn nodes(&mut self, step: &Step) -> Result<Vec<Held>, ProgramError> {
        let mut room = std::mem::take(&mut self.room);
        let made = self.nodes_in(step, &mut room);
        self.room = room;
        made
    }

    fn nodes_in(&self, step: &Step, room: &mut Room) -> Result<Vec<Held>, ProgramError> {
        let mut inner: BTreeMap<&str, Held> = BTreeMap::new();
        let mut last = Vec::new();
        for &at in &step.nodes {
            let node = &self.of.program.program().nodes[at];
            let made = {
                let find = |name: &String| {
                    if let Some(held) = inner.get(name.as_str()) {
                        return Some(Read::Held(held));
                    }
                    if let Some(at) = step.names.iter().position(|other| other == name) {
                        return self.read(&step.inputs[at]);
                    }
                    self.of.constant(name).map(Read::Constant)
                };
                let inputs: Vec<Option<Read<'_>>> = node.inputs.iter().map(find).collect();
                single::run(&node.op, &inputs, room)
                    .map_err(|error| ProgramError::Op { node: node.name.clone(), error })?
            };
            if node.outputs.len() > made.len() {
                let problem = format!("it cannot give {} values", node.outputs.len());
                return Err(ProgramError::Node { node: node.name.clone(), problem });
            }
            if Some(&at) == step.nodes.last() {
                last = made;
            } else {
                inner.extend(node.outputs.iter().map(String::as_str).zip(made));
            }
        }
        inner.into_values().for_each(|held| room.give(held));
        Ok(last)
    }
}

/// A chain by itself, in whichever order the elements lie.
fn start(x: &Held, chain: &Chain, others: &[&Held], room: &mut Room) -> Option<Held> {
    let items = x.f32s()?;
    if others.iter().any(|other| other.shape() != x.shape()) {
        return None;
    }
    let channels_last = x.is_channels_last();
    let period = match chain.period() {
        Some((Along::Last, width)) => !channels_last && x.shape().last() == Some(&width),
        Some((Along::Channels, width)) => channels_last && x.shape().get(1) == Some(&width),
        None => true,
    };
    if !period {
        return None;
    }
    let run = |others: &[&[f32]], room: &mut Room| {
        let (mut y, mut scratch) = (room.take(items.len()), room.take(SCRATCH));
        y.copy_from_slice(items);
        chain.run(&mut y, 0, others, &mut scratch);
        room.give_items(scratch);
        Some(y)
    };
    if channels_last {
        let y = with_images(x.shape(), others, room, run)?;
        return Held::image(x.shape(), y);
    }
    let y = run(&rows_of(x.shape(), others)?, room)?;
    Held::made(x.shape(), y)
}

/// The elements of values of this shape, all in row-major order.
fn rows_of<'a>(shape: &[usize], others: &[&'a Held]) -> Option<Vec<&'a [f32]>> {
    let rows = |other: &&'a Held| other.as_rows()?.f32s().ok().filter(|_| other.shape() == shape);
    others.iter().map(rows).collect()
}

/// The same with their channels last, copied where they lie otherwise.
fn with_images<T>(
    shape: &[usize],
    others: &[&Held],
    room: &mut Room,
    run: impl FnOnce(&[&[f32]], &mut Room) -> Option<T>,
) -> Option<T> {
    let mut copies: Vec<Vec<f32>> = others.iter().map(|_| Vec::new()).collect();
    let mut images: Vec<&[f32]> = Vec::with_capacity(others.len());
    for (other, copy) in others.iter().zip(&mut copies) {
        images.push(other.channels_last(copy, room).filter(|_| other.shape() == shape)?);
    }
    let made = run(&images, room);
    copies.into_iter().for_each(|copy| room.give_items(copy));
    made
}
