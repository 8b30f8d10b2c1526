//! Finds nodes that are one kernel together: a product or convolution and what follows it element by
//! element, a norm written out.
//!
//! A group is found from its first node on; it runs where its last node stood. It takes only nodes whose
//! values nobody else wants. Start at [`group`].

use std::collections::BTreeSet;
use std::sync::Arc;

use super::graph::Graph;
use super::image::Filter;
use super::norm::Shift;
use super::pointwise::{Along, Chain, Fixed, Function, Member, Operand, is_known};
use crate::program::Value;
use crate::program::op::{Binary, Fold, Reduce, TensorOp as Op, Unary, Window};

/// Nodes in one chain at most.
const MEMBERS_MAX: usize = 24;

/// What a group computes before its chain.
pub(super) enum Root {
    /// Nothing: the chain starts from the first input.
    Start,
    /// The product with a constant, the second input, which may lie turned.
    Linear { turned: bool },
    /// A convolution.
    Conv { filter: Arc<Filter>, window: Window },
    /// A norm along the last axis; second and third input are its constants.
    Norm(Shift),
}

/// Nodes that are one kernel.
pub(super) struct Group<'a> {
    pub(super) root: Root,
    pub(super) chain: Chain,
    /// Axes that its constants have at most: the value has no fewer.
    pub(super) rank: usize,
    /// Its nodes, in order.
    pub(super) nodes: Vec<usize>,
    /// What it reads: the value it starts from, constants of the root, then the chain's others.
    pub(super) inputs: Vec<&'a str>,
    /// How many of the inputs are the root's.
    pub(super) own: usize,
    /// What it gives.
    pub(super) output: &'a str,
}

/// The group that begins with a node, if there is one; `taken` are those of earlier groups.
pub(super) fn group<'a>(
    graph: &Graph<'a>,
    at: usize,
    taken: &BTreeSet<usize>,
) -> Option<Group<'a>> {
    let (root, growth, inputs) = match graph.op(at) {
        Op::MatMul => {
            let (x, weight) = (graph.input(at, 0)?, graph.input(at, 1)?);
            constant_matrix(graph, x, weight)?;
            (Root::Linear { turned: false }, Growth::new(at, graph.output(at)?), vec![x, weight])
        }
        Op::Gemm { .. } => gemm(graph, at)?,
        Op::Conv { .. } => conv(graph, at)?,
        Op::Reduce { kind: Reduce::Mean, .. } => norm(graph, at)?,
        _ => {
            let x = (0..2).filter_map(|place| graph.input(at, place));
            let x = x.into_iter().find(|name| graph.constant(name).is_none())?;
            let mut growth = Growth { values: vec![x], rootless: true, ..Growth::default() };
            growth.join(graph, at)?;
            (Root::Start, growth, vec![x])
        }
    };
    let kept = growth.grow(graph, taken);
    let Growth { values, nodes, members, others, rank, .. } = kept;
    let chain = Chain::new(&members)?;
    let own = inputs.len();
    let inputs = [inputs, others].concat();
    Some(Group { root, chain, rank, nodes, inputs, own, output: values.last()? })
}

/// A constant matrix that something else is multiplied by.
fn constant_matrix<'g>(graph: &'g Graph<'_>, x: &str, weight: &str) -> Option<&'g Value> {
    let matrix = graph.constant(weight).filter(|_| graph.constant(x).is_none())?;
    (matrix.shape().len() == 2 && matrix.f32s().is_ok() && !matrix.is_empty()).then_some(matrix)
}

type Begun<'a> = (Root, Growth<'a>, Vec<&'a str>);

fn gemm<'a>(graph: &Graph<'a>, at: usize) -> Option<Begun<'a>> {
    let &Op::Gemm { alpha, beta, trans_a: false, trans_b } = graph.op(at) else { return None };
    let (x, weight) = (graph.input(at, 0)?, graph.input(at, 1)?);
    let matrix = constant_matrix(graph, x, weight)?;
    let width = matrix.shape()[usize::from(!trans_b)];
    let mut growth = Growth::new(at, graph.output(at)?);
    if alpha != 1.0 {
        return None;
    }
    if let Some(bias) = graph.input(at, 2) {
        let fixed = fixed(graph.constant(bias)?).filter(|_| beta == 1.0)?;
        let fits = match &fixed {
            Fixed::Number(_) => true,
            Fixed::Cells(along, cells) => *along == Along::Last && cells.len() == width,
        };
        growth.add(Member::Pair(Binary::Add, Operand::Member(0), Operand::Fixed(fixed)), fits)?;
    }
    Some((Root::Linear { turned: trans_b }, growth, vec![x, weight]))
}

fn conv<'a>(graph: &Graph<'a>, at: usize) -> Option<Begun<'a>> {
    let Op::Conv { window, groups } = graph.op(at) else { return None };
    let x = graph.input(at, 0)?;
    let constant = |at: usize, place: usize| graph.constant(graph.input(at, place)?);
    let weights = constant(at, 1)?;
    let bias = constant(at, 2);
    if graph.input(at, 2).is_some() && bias.is_none() || graph.constant(x).is_some() {
        return None;
    }
    let output = graph.output(at)?;
    let norm = graph.only_reader(output).and_then(|norm| {
        let Op::BatchNorm { eps } = graph.op(norm) else { return None };
        let of = |place: usize| constant(norm, place)?.f32s().ok();
        let statistics = [of(1)?, of(2)?, of(3)?, of(4)?];
        (graph.input(norm, 0) == Some(output)).then_some((
            norm,
            (statistics, *eps),
            graph.output(norm)?,
        ))
    });
    let key = (at, norm.as_ref().map(|norm| norm.0));
    let make = || Filter::new(weights, bias, *groups, norm.as_ref().map(|norm| norm.1));
    let filter = graph.weights().filter(key, make)?;
    let mut growth = Growth::new(at, norm.as_ref().map_or(output, |norm| norm.2));
    growth.nodes.extend(norm.map(|norm| norm.0));
    for member in filter.members() {
        growth.add(member, true)?;
    }
    Some((Root::Conv { filter, window: window.clone() }, growth, vec![x]))
}

/// `(x - mean) / √(mean((x - mean)²) + eps) · scale + bias` along the last axis, written out.
fn norm<'a>(graph: &Graph<'a>, at: usize) -> Option<Begun<'a>> {
    let x = graph.input(at, 0)?;
    let last = |at: usize| -> Option<()> {
        let Op::Reduce { kind: Reduce::Mean, keep: true, .. } = graph.op(at) else { return None };
        let axes = graph.constant(graph.input(at, 1)?)?.to_i64s().ok()?;
        (axes == [-1]).then_some(())
    };
    last(at)?;
    let mean = graph.output(at)?;
    let sub = graph.only_reader(mean)?;
    pair_of(graph, sub, Binary::Sub, x, mean)?;
    let centred = graph.output(sub)?;
    let square = graph.readers(centred).iter().copied().find(|&reader| match graph.op(reader) {
        Op::Binary(Binary::Mul) => graph.input(reader, 0) == graph.input(reader, 1),
        Op::Binary(Binary::Pow) => {
            let power = graph.input(reader, 1).and_then(|name| graph.constant(name));
            graph.input(reader, 0) == Some(centred) && power.is_some_and(|p| p.number() == Ok(2.0))
        }
        _ => false,
    })?;
    let variance = graph.only_reader(graph.output(square)?)?;
    last(variance)?;
    let added = graph.only_reader(graph.output(variance)?)?;
    let (_, eps) = number_beside(graph, added, Binary::Add, graph.output(variance)?)?;
    let root = graph.only_reader(graph.output(added)?)?;
    let divided = graph.only_reader(graph.output(root)?)?;
    let by_root = matches!(graph.op(root), Op::Unary(Unary::Sqrt));
    pair_of(graph, divided, Binary::Div, centred, graph.output(root)?).filter(|()| by_root)?;
    let scaled = graph.only_reader(graph.output(divided)?)?;
    let scale = vector_beside(graph, scaled, Binary::Mul, graph.output(divided)?)?;
    let shifted = graph.only_reader(graph.output(scaled)?)?;
    let bias = vector_beside(graph, shifted, Binary::Add, graph.output(scaled)?)?;
    let nodes = vec![at, sub, square, variance, added, root, divided, scaled, shifted];
    if graph.leaves(centred, &nodes) {
        return None;
    }
    let mut growth = Growth::new(at, graph.output(shifted)?);
    growth.nodes = nodes;
    growth.nodes.sort_unstable();
    Some((Root::Norm(Shift { centred: true, eps }), growth, vec![x, scale, bias]))
}

/// Whether a node is `op` of these two values.
fn pair_of(graph: &Graph<'_>, at: usize, op: Binary, a: &str, b: &str) -> Option<()> {
    let fits = matches!(graph.op(at), Op::Binary(other) if *other == op)
        && graph.input(at, 0) == Some(a)
        && graph.input(at, 1) == Some(b);
    fits.then_some(())
}

/// The constant beside a value in a pair whose order does not matter.
fn beside<'a>(graph: &Graph<'a>, at: usize, op: Binary, x: &str) -> Option<&'a str> {
    let (a, b) = (graph.input(at, 0)?, graph.input(at, 1)?);
    let other = if a == x { b } else { a };
    let fits = matches!(graph.op(at), Op::Binary(same) if *same == op) && (a == x || b == x);
    graph.constant(other).filter(|_| fits)?;
    Some(other)
}

fn number_beside<'a>(graph: &Graph<'a>, at: usize, op: Binary, x: &str) -> Option<(&'a str, f32)> {
    let name = beside(graph, at, op, x)?;
    match fixed(graph.constant(name)?)? {
        Fixed::Number(number) => Some((name, number)),
        Fixed::Cells(..) => None,
    }
}

fn vector_beside<'a>(graph: &Graph<'a>, at: usize, op: Binary, x: &str) -> Option<&'a str> {
    let name = beside(graph, at, op, x)?;
    let value = graph.constant(name)?;
    (value.shape().len() == 1 && value.f32s().is_ok()).then_some(name)
}

/// A constant as a chain reads it.
fn fixed(value: &Value) -> Option<Fixed> {
    let items = value.f32s().ok()?;
    if let [number] = items {
        return Some(Fixed::Number(*number));
    }
    let from_end = value.shape().iter().rev().position(|&side| side == items.len())?;
    let along = match from_end {
        0 => Along::Last,
        2 => Along::Channels,
        _ => return None,
    };
    (!items.is_empty()).then(|| Fixed::Cells(along, Arc::new(items.to_vec())))
}

/// A group while it grows.
#[derive(Clone, Default)]
struct Growth<'a> {
    /// The value that the chain starts from, then its members' values.
    values: Vec<&'a str>,
    nodes: Vec<usize>,
    members: Vec<Member>,
    others: Vec<&'a str>,
    rank: usize,
    /// Whether the value that the chain starts from is made elsewhere.
    rootless: bool,
}

impl<'a> Growth<'a> {
    fn new(root: usize, value: &'a str) -> Self {
        Self { values: vec![value], nodes: vec![root], ..Self::default() }
    }

    /// A member that is no node of its own but part of the root: its value has the root's name.
    fn add(&mut self, member: Member, fits: bool) -> Option<()> {
        let name = self.values.last().copied().filter(|_| fits)?;
        self.members.push(member);
        self.values.push(name);
        Some(())
    }

    /// Takes nodes that follow as long as one value comes of all.
    fn grow(mut self, graph: &Graph<'a>, taken: &BTreeSet<usize>) -> Self {
        let mut best = self.clone();
        let mut open: BTreeSet<usize> = BTreeSet::new();
        let within = graph.range();
        let follow = |open: &mut BTreeSet<usize>, name: &str| {
            open.extend(graph.readers(name).iter().filter(|reader| within.contains(reader)));
        };
        self.values.iter().for_each(|name| follow(&mut open, name));
        while let Some(next) = open.pop_first() {
            if self.members.len() >= MEMBERS_MAX {
                break;
            }
            if taken.contains(&next)
                || self.nodes.contains(&next)
                || self.join(graph, next).is_none()
            {
                continue;
            }
            self.values.last().into_iter().for_each(|name| follow(&mut open, name));
            if self.is_closed(graph) && Chain::new(&self.members).is_some() {
                best = self.clone();
            }
        }
        best
    }

    /// Whether only the last value is wanted by others.
    fn is_closed(&self, graph: &Graph<'_>) -> bool {
        let Some((last, inner)) = self.values.split_last() else { return false };
        inner
            .iter()
            .skip(usize::from(self.rootless))
            .filter(|name| *name != last)
            .all(|name| !graph.leaves(name, &self.nodes))
    }

    /// Adds a node as a member, if it is one.
    fn join(&mut self, graph: &Graph<'a>, at: usize) -> Option<()> {
        let output = graph.output(at)?;
        let member = match graph.op(at) {
            Op::Unary(unary) => {
                let function = Function::Unary(*unary);
                Member::Function(function, self.member(graph.input(at, 0)?)?).known()?
            }
            Op::Clip => {
                let bound = |place: usize, default: f32| match graph.input(at, place) {
                    Some(name) => number(graph.constant(name)?),
                    None => Some(default),
                };
                let (low, high) = (bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?);
                Member::Function(Function::Clip(low, high), self.member(graph.input(at, 0)?)?)
            }
            Op::Binary(Binary::Pow) => {
                let power = number(graph.constant(graph.input(at, 1)?)?)?;
                let function = match power {
                    2.0 => Function::Square,
                    3.0 => Function::Cube,
                    _ => return None,
                };
                Member::Function(function, self.member(graph.input(at, 0)?)?)
            }
            Op::Binary(op) if is_known(*op) => self.pair(graph, at, *op)?,
            Op::Fold(Fold::Sum) if graph.node(at).inputs.len() == 2 => {
                self.pair(graph, at, Binary::Add)?
            }
            _ => return None,
        };
        self.members.push(member);
        self.values.push(output);
        self.nodes.push(at);
        self.nodes.sort_unstable();
        Some(())
    }

    /// The number of a member by the last of its names.
    fn member(&self, name: &str) -> Option<usize> {
        self.values.iter().rposition(|value| *value == name)
    }

    fn pair(&mut self, graph: &Graph<'a>, at: usize, op: Binary) -> Option<Member> {
        let mut operands = Vec::with_capacity(2);
        let mut others = self.others.clone();
        let mut rank = self.rank;
        for place in 0..2 {
            let name = graph.input(at, place)?;
            operands.push(if let Some(member) = self.member(name) {
                Operand::Member(member)
            } else if let Some(value) = graph.constant(name) {
                rank = rank.max(value.shape().len());
                Operand::Fixed(fixed(value)?)
            } else {
                // Another shape than the chain's would undo it at every call.
                let first = self.values.first().copied()?;
                if graph.is_pooled(name) != graph.is_pooled(first) {
                    return None;
                }
                let place = others.iter().position(|other| *other == name).unwrap_or_else(|| {
                    others.push(name);
                    others.len() - 1
                });
                Operand::Other(place)
            });
        }
        let second = operands.pop()?;
        let member = Member::Pair(op, operands.pop()?, second);
        (self.others, self.rank) = (others, rank);
        Some(member)
    }
}

/// The only element of a constant in single precision, if it is a number.
fn number(value: &Value) -> Option<f32> {
    match value.f32s().ok()? {
        [number] if !number.is_nan() => Some(*number),
        _ => None,
    }
}

impl Member {
    /// Itself, if its function is computed by chains.
    fn known(self) -> Option<Self> {
        match &self {
            Self::Function(function, _) => function.is_known().then_some(self),
            Self::Pair(..) => Some(self),
        }
    }
}
