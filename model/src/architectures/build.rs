//! The pieces that architectures are put together from, each a few plain operations.
//!
//! Shapes are `[batch, length, width]`. A node gives one value and has its name. Start at [`Builder`].

use crate::program::op::{Binary, Softmax, Unary};
use crate::program::{Constants, DType, Data, Program, ProgramNode, TensorOp, Value};

/// Nodes and constants so far.
#[derive(Default)]
pub(crate) struct Builder {
    nodes: Vec<ProgramNode>,
    constants: Constants,
}

impl Builder {
    /// A node; gives the name of its value.
    pub(crate) fn push(&mut self, name: &str, op: TensorOp, inputs: &[&str]) -> String {
        let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
        let outputs = vec![name.to_owned()];
        self.nodes.push(ProgramNode { name: name.into(), op, inputs, outputs });
        name.to_owned()
    }

    /// Nodes so far.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A weight under its name.
    pub(crate) fn weight(&mut self, name: &str, value: Value) -> String {
        self.constants.insert(name.to_owned(), value);
        name.to_owned()
    }

    /// A list of integers, as shapes and axes are given.
    pub(crate) fn ints(&mut self, items: &[i64]) -> String {
        self.number(format!("#{items:?}"), Value::integers(items.to_vec()))
    }

    /// A single integer.
    pub(crate) fn int(&mut self, item: i64) -> String {
        self.number(format!("#{item}"), Value::scalar(item))
    }

    /// A single number.
    pub(crate) fn float(&mut self, item: f32) -> String {
        self.number(format!("#{item:?}f"), Value::scalar(item))
    }

    /// No name of a file begins like these.
    fn number(&mut self, name: String, value: Value) -> String {
        self.constants.insert(name.clone(), value);
        name
    }

    pub(crate) fn add(&mut self, name: &str, a: &str, b: &str) -> String {
        self.push(name, TensorOp::Binary(Binary::Add), &[a, b])
    }

    pub(crate) fn mul(&mut self, name: &str, a: &str, b: &str) -> String {
        self.push(name, TensorOp::Binary(Binary::Mul), &[a, b])
    }

    pub(crate) fn matmul(&mut self, name: &str, a: &str, b: &str) -> String {
        self.push(name, TensorOp::MatMul, &[a, b])
    }

    pub(crate) fn unary(&mut self, name: &str, op: Unary, x: &str) -> String {
        self.push(name, TensorOp::Unary(op), &[x])
    }

    pub(crate) fn cast(&mut self, name: &str, to: DType, x: &str) -> String {
        self.push(name, TensorOp::Cast(to), &[x])
    }

    pub(crate) fn reshape(&mut self, name: &str, x: &str, shape: &[i64]) -> String {
        let shape = self.ints(shape);
        self.push(name, TensorOp::Reshape { zeros: false }, &[x, &shape])
    }

    pub(crate) fn transpose(&mut self, name: &str, x: &str, perm: &[usize]) -> String {
        self.push(name, TensorOp::Transpose { perm: Some(perm.to_vec()) }, &[x])
    }

    pub(crate) fn unsqueeze(&mut self, name: &str, x: &str, axes: &[i64]) -> String {
        let axes = self.ints(axes);
        self.push(name, TensorOp::Unsqueeze, &[x, &axes])
    }

    /// One side of a value, as a single integer.
    pub(crate) fn side(&mut self, name: &str, x: &str, axis: i64) -> String {
        let shape = TensorOp::Shape { start: axis, end: Some(axis + 1) };
        let shape = self.push(&format!("{name}.shape"), shape, &[x]);
        self.push(name, TensorOp::Squeeze, &[&shape])
    }

    /// Scores to answers: softmax over the last axis, then the values' weighted sum.
    pub(crate) fn attend(&mut self, name: &str, scores: &str, v: &str) -> String {
        let op = TensorOp::Softmax { kind: Softmax::Softmax, axis: -1, flat: false };
        let weights = self.push(&format!("{name}.softmax"), op, &[scores]);
        self.matmul(&format!("{name}.answer"), &weights, v)
    }

    /// The program, if its names and order are good, which a test of each architecture shows.
    pub(crate) fn finish(self, program: Program) -> (Program, Constants) {
        (Program { nodes: self.nodes, ..program }, self.constants)
    }
}

/// A size as shapes are given.
pub(crate) fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// A value of single precision.
pub(crate) fn f32s(shape: Vec<usize>, items: Vec<f32>) -> Option<Value> {
    Value::new(shape, Data::F32(items)).ok()
}
