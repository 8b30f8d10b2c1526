//! A range of a program's nodes as a graph: who reads what, and what is constant.
//!
//! Start at [`Graph::new`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::weights::Weights;
use crate::program::op::TensorOp as Op;
use crate::program::{CheckedProgram, ProgramNode, Value};

/// See the module.
pub(super) struct Graph<'a> {
    program: &'a CheckedProgram,
    weights: &'a Weights,
    range: Range<usize>,
    readers: BTreeMap<&'a str, Vec<usize>>,
    kept: BTreeSet<&'a str>,
    pooled: BTreeSet<&'a str>,
}

impl<'a> Graph<'a> {
    /// The nodes of a range; what is `kept` is wanted at its end.
    pub(super) fn new(
        program: &'a CheckedProgram,
        range: &Range<usize>,
        weights: &'a Weights,
        kept: &[&'a str],
    ) -> Self {
        let mut readers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for at in range.clone() {
            for name in program.program().nodes[at].inputs.iter().filter(|name| !name.is_empty()) {
                let all = readers.entry(name).or_default();
                if all.last() != Some(&at) {
                    all.push(at);
                }
            }
        }
        let kept = kept.iter().copied().collect();
        let (range, pooled) = (range.clone(), BTreeSet::new());
        let mut graph = Self { program, weights, range, readers, kept, pooled };
        graph.pool();
        graph
    }

    /// Finds values that are made of means alone: they are smaller than what they are combined with.
    fn pool(&mut self) {
        for at in self.range() {
            let node = self.node(at);
            let named = node.inputs.iter().map(String::as_str).filter(|name| !name.is_empty());
            let mut made = named.filter(|name| self.constant(name).is_none()).peekable();
            let pooled = match &node.op {
                Op::GlobalPool(_) | Op::Reduce { .. } => true,
                _ => made.peek().is_some() && made.all(|name| self.is_pooled(name)),
            };
            if pooled {
                self.pooled.extend(node.outputs.iter().map(String::as_str));
            }
        }
    }

    /// Whether a value is made of means of others alone.
    pub(super) fn is_pooled(&self, name: &str) -> bool {
        self.pooled.contains(name)
    }

    pub(super) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    pub(super) fn weights(&self) -> &Weights {
        self.weights
    }

    pub(super) fn node(&self, at: usize) -> &'a ProgramNode {
        &self.program.program().nodes[at]
    }

    pub(super) fn op(&self, at: usize) -> &'a Op {
        &self.node(at).op
    }

    pub(super) fn constant(&self, name: &str) -> Option<&Value> {
        self.program.constants().get(name).or_else(|| self.weights.folded(name))
    }

    /// Whether a node's values are all known already.
    pub(super) fn is_folded(&self, at: usize) -> bool {
        let mut outputs = self.node(at).outputs.iter().filter(|name| !name.is_empty());
        outputs.all(|name| self.weights.folded(name).is_some())
    }

    /// The name of a node's input, if it is there.
    pub(super) fn input(&self, at: usize, place: usize) -> Option<&'a str> {
        self.node(at).inputs.get(place).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The only output of a node.
    pub(super) fn output(&self, at: usize) -> Option<&'a str> {
        match &self.node(at).outputs[..] {
            [name] if !name.is_empty() => Some(name),
            _ => None,
        }
    }

    pub(super) fn readers(&self, name: &str) -> &[usize] {
        self.readers.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a value is wanted by others than these nodes.
    pub(super) fn leaves(&self, name: &str, nodes: &[usize]) -> bool {
        self.kept.contains(name) || self.readers(name).iter().any(|reader| !nodes.contains(reader))
    }

    /// The only node that reads a value, if nobody else wants it.
    pub(super) fn only_reader(&self, name: &str) -> Option<usize> {
        match self.readers(name) {
            &[reader] if !self.kept.contains(name) => Some(reader),
            _ => None,
        }
    }
}
