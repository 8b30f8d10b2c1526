//! Several calls of a program at once: what goes row by row runs once, on the rows of all of them; the
//! rest runs for each.
//!
//! An operation goes row by row if it gives for stacked inputs the stacked outputs, whatever the rows
//! are: a product with a constant matrix does, attention over what a sequence remembers does not. That is
//! known from the operation and the ranks of what it reads ([`rowwise`]), so nothing is ever stacked on
//! trust. A program of images is one such part; a step of a text's decoding is some of them, with each
//! sequence's attention in between. What to run on is the caller's. Start at [`Plan::new`] and
//! [`Plan::run`].

mod rowwise;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::{CheckedProgram, DType, ProgramError, TensorOp, Value, ops};
use crate::crossing::Crossing;

/// A range of nodes in parts.
pub(crate) struct Plan {
    parts: Vec<Part>,
}

/// One call: its live values and its states, as [`CheckedProgram::run_range`] takes them.
#[derive(Clone, PartialEq)]
pub(crate) struct Lane {
    pub(crate) values: Vec<Value>,
    pub(crate) states: Vec<Value>,
}

/// Nodes one after another that run alike.
struct Part {
    range: Range<usize>,
    /// Once for all, else for each.
    together: bool,
    /// Places in [`CheckedProgram::live`] at its start of what its nodes read.
    read: Vec<usize>,
    /// For each value live at its end, its place at the start, if it was there.
    passed: Vec<Option<usize>>,
    /// Places of its states among those of the whole range.
    states: Vec<usize>,
}

/// What a plan holds for: range, rows of a lane, and for each value its type and sides behind the first.
pub(crate) type Like = ((usize, usize), usize, Vec<(DType, Vec<usize>)>);

/// What is known of a value besides itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The same for all lanes.
    Fixed,
    /// Rows that may be stacked.
    Rows,
    /// Of a shape that other lanes may not have.
    Own,
}

/// Runs nodes of a range, as [`CheckedProgram::run_range`] does.
pub(crate) trait Run:
    Fn(Range<usize>, Vec<Value>) -> Result<Vec<Value>, ProgramError>
{
}
impl<F: Fn(Range<usize>, Vec<Value>) -> Result<Vec<Value>, ProgramError>> Run for F {}

impl Plan {
    /// Looks for what goes row by row in a range, by running it on one lane, twice where sequences
    /// remember something: what has other sides one step later is no one's but its lane's.
    ///
    /// # Errors
    /// [`ProgramError`] where the lane does not run.
    pub(crate) fn new(
        program: &CheckedProgram,
        range: &Range<usize>,
        lane: &Crossing,
        states: &[Value],
    ) -> Result<Self, ProgramError> {
        let first = walk(program, range, lane.values(), states)?;
        let all = program.states_in(range);
        let next = all.iter().map(|state| first.get(state.output.as_str()).cloned());
        let next: Option<Vec<Value>> = next.collect();
        let second = match next {
            Some(next) if !next.is_empty() => walk(program, range, lane.values(), &next)?,
            _ => BTreeMap::new(),
        };
        let stays = |name: &str, value: &Value| {
            second.get(name).is_none_or(|later| later.shape() == value.shape())
        };
        let kinds = kinds(program, range, (&first, lane.rows()), stays);
        Ok(Self { parts: parts(program, range, kinds) })
    }

    /// Runs lanes; gives for each what [`CheckedProgram::run_range`] gives.
    ///
    /// # Errors
    /// [`ProgramError`] of any of them.
    pub(crate) fn run(
        &self,
        run: &impl Run,
        mut lanes: Vec<Lane>,
    ) -> Result<Vec<Lane>, ProgramError> {
        for part in &self.parts {
            if part.together && part.run_together(run, &mut lanes)?.is_some() {
                continue;
            }
            for Lane { values, states } in &mut lanes {
                let mut inputs = std::mem::take(values);
                inputs.extend(part.states.iter().map(|&at| states[at].clone()));
                let mut out = run(part.range.clone(), inputs)?;
                let next = out.split_off(part.passed.len().min(out.len()));
                part.states.iter().zip(next).for_each(|(&at, next)| states[at] = next);
                *values = out;
            }
        }
        Ok(lanes)
    }

    /// Whether all of it runs once for all lanes.
    #[cfg(test)]
    pub(crate) fn is_together(&self) -> bool {
        matches!(&self.parts[..], [part] if part.together)
    }

    /// Nodes that run once for all lanes.
    #[cfg(test)]
    pub(crate) fn together(&self) -> Vec<Range<usize>> {
        let parts = self.parts.iter().filter(|part| part.together);
        parts.map(|part| part.range.clone()).collect()
    }
}

impl Part {
    /// `None`, and nothing is changed, where the lanes' values cannot be stacked.
    fn run_together(&self, run: &impl Run, lanes: &mut [Lane]) -> Result<Option<()>, ProgramError> {
        let Some(first) = lanes.first() else { return Ok(None) };
        let own = |lane: &Lane| {
            let read = self.read.iter().filter_map(|&at| lane.values.get(at).cloned());
            Crossing::new(self.range.start, false, read.collect())
        };
        let own: Vec<Crossing> = lanes.iter().map(own).collect();
        let rows: Vec<usize> = own.iter().map(Crossing::rows).collect();
        let Some(stacked) = Crossing::stack(&own.iter().collect::<Vec<_>>()) else {
            return Ok(None);
        };
        // What nobody reads here is only carried past: each lane keeps its own.
        let mut values = first.values.clone();
        for (&at, value) in self.read.iter().zip(stacked.into_values()) {
            values[at] = value;
        }
        let out = run(self.range.clone(), values)?;
        let made = out.into_iter().zip(&self.passed).filter(|(_, passed)| passed.is_none());
        let made: Vec<Value> = made.map(|(value, _)| value).collect();
        let Some(made) = Crossing::new(self.range.end, false, made).split(&rows) else {
            return Ok(None);
        };
        for (lane, made) in lanes.iter_mut().zip(made) {
            let mut made = made.into_values().into_iter();
            let before = std::mem::take(&mut lane.values);
            let out = self.passed.iter().map(|passed| match passed {
                Some(at) => before.get(*at).cloned(),
                None => made.next(),
            });
            lane.values.extend(out.flatten());
        }
        Ok(Some(()))
    }
}

/// Runs a range on one lane and keeps everything that was made.
fn walk<'a>(
    program: &'a CheckedProgram,
    range: &Range<usize>,
    values: &[Value],
    states: &[Value],
) -> Result<BTreeMap<&'a str, Value>, ProgramError> {
    let live = program.live(range.start).into_iter().zip(values.iter().cloned());
    let own = program.states_in(range).into_iter().map(|state| state.name.as_str());
    let mut made: BTreeMap<&str, Value> = live.chain(own.zip(states.iter().cloned())).collect();
    for node in &program.program().nodes[range.clone()] {
        let find =
            |name: &String| made.get(name.as_str()).or_else(|| program.constants().get(name));
        let inputs: Vec<Option<&Value>> = node.inputs.iter().map(find).collect();
        let outputs = ops::apply(&node.op, &ops::Inputs(&inputs))
            .map_err(|error| ProgramError::Op { node: node.name.clone(), error })?;
        for (name, value) in node.outputs.iter().zip(outputs) {
            made.insert(name, value);
        }
    }
    Ok(made)
}

/// For each node: fixed, by rows, or each lane's own.
fn kinds(
    program: &CheckedProgram,
    range: &Range<usize>,
    (made, rows): (&BTreeMap<&str, Value>, usize),
    stays: impl Fn(&str, &Value) -> bool,
) -> Vec<Kind> {
    let stacks = |name: &str| {
        made.get(name).is_some_and(|v| v.shape().first() == Some(&rows) && stays(name, v))
    };
    let of = |name: &str| if stacks(name) { Kind::Rows } else { Kind::Own };
    let live = program.live(range.start).into_iter();
    let mut known: BTreeMap<&str, Kind> = live.map(|name| (name, of(name))).collect();
    let states = program.states_in(range).into_iter();
    known.extend(states.map(|state| (state.name.as_str(), Kind::Own)));
    let mut kinds = Vec::with_capacity(range.len());
    for node in &program.program().nodes[range.clone()] {
        let input = |name: &String| {
            let value = made.get(name.as_str()).or_else(|| program.constants().get(name))?;
            let kind = known.get(name.as_str()).copied().unwrap_or(Kind::Fixed);
            Some(rowwise::Input { value, fixed: kind == Kind::Fixed, own: kind == Kind::Own })
        };
        let inputs: Vec<Option<rowwise::Input<'_>>> = node.inputs.iter().map(input).collect();
        let all = |test: fn(&rowwise::Input<'_>) -> bool| inputs.iter().flatten().all(test);
        let mut outputs = node.outputs.iter().filter(|name| !name.is_empty());
        let kind = if all(|input| input.fixed) {
            Kind::Fixed
        } else if all(|input| !input.own)
            && outputs.all(|name| stacks(name))
            && rowwise::is(&node.op, &inputs)
        {
            Kind::Rows
        } else {
            Kind::Own
        };
        for name in &node.outputs {
            known.insert(name, if kind == Kind::Own { of(name) } else { kind });
        }
        kinds.push(kind);
    }
    kinds
}

/// Whether an operation is worth running once for all: it reads weights.
fn is_heavy(op: &TensorOp) -> bool {
    matches!(
        op,
        TensorOp::MatMul
            | TensorOp::Gemm { .. }
            | TensorOp::Conv { .. }
            | TensorOp::ConvTranspose { .. }
    )
}

fn parts(program: &CheckedProgram, range: &Range<usize>, mut kinds: Vec<Kind>) -> Vec<Part> {
    // A state is not separated from itself.
    for position in range.start + 1..range.end {
        if program.split_state(position).is_some() {
            kinds[position - 1 - range.start] = Kind::Own;
            kinds[position - range.start] = Kind::Own;
        }
    }
    let mut runs: Vec<(Range<usize>, bool)> = Vec::new();
    for (at, kind) in range.clone().zip(kinds) {
        let together = match (kind, runs.last()) {
            (Kind::Fixed, Some((_, together))) => *together,
            (kind, _) => kind != Kind::Own,
        };
        match runs.last_mut() {
            Some((nodes, same)) if *same == together => nodes.end = at + 1,
            _ => runs.push((at..at + 1, together)),
        }
    }
    let heavy = |nodes: &Range<usize>| {
        program.program().nodes[nodes.clone()].iter().any(|node| is_heavy(&node.op))
    };
    let mut merged: Vec<(Range<usize>, bool)> = Vec::new();
    let lone = runs.len() == 1;
    for (nodes, together) in runs {
        let together = together && (lone || heavy(&nodes));
        match merged.last_mut() {
            Some((last, same)) if *same == together => last.end = nodes.end,
            _ => merged.push((nodes, together)),
        }
    }
    let all = program.states_in(range);
    let part = |(nodes, together): (Range<usize>, bool)| {
        let (from, to) = (program.live(nodes.start), program.live(nodes.end));
        let own = &program.program().nodes[nodes.clone()];
        let read: BTreeSet<&str> =
            own.iter().flat_map(|node| &node.inputs).map(String::as_str).collect();
        // At the end of a program an input may be an output.
        let passed = to.iter().map(|name| from.iter().position(|before| before == name));
        let place = |state: &super::State| all.iter().position(|other| other.name == state.name);
        Part {
            together,
            read: (0..from.len()).filter(|&at| read.contains(from[at])).collect(),
            passed: passed.collect(),
            states: program.states_in(&nodes).into_iter().filter_map(place).collect(),
            range: nodes,
        }
    };
    merged.into_iter().map(part).collect()
}

#[cfg(test)]
mod tests;
