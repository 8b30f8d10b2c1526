//! What a program's nodes make, hold and cost, for inputs of given sides.
//!
//! Sides of a program's values are known only when it runs, so it is run once, on made-up inputs, and
//! watched. No time is measured here. Start at [`CheckedProgram::figures`] and [`sample`].

use std::collections::BTreeMap;

use super::{CheckedProgram, DType, Data, Port, ProgramError, ProgramNode, Role, TensorOp, Value};

/// Sides of inputs where a program leaves them free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The first side: rows.
    pub rows: usize,
    /// Every other free side: tokens of a text, or a picture's height and width.
    pub length: usize,
}

/// Type and sides of a value.
pub type Sides = (DType, Vec<usize>);

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeFigures {
    /// Sides of what it gives, for each named output.
    pub outputs: Vec<Sides>,
    /// Numbers that it reads as constants.
    pub parameters: usize,
    /// Operations: two for each multiplication of a product or convolution with its addition, one for
    /// each element given otherwise, none where elements are only arranged.
    pub flops: u64,
}

/// All nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// In the program's order.
    pub nodes: Vec<NodeFigures>,
    sides: BTreeMap<String, Sides>,
}

impl Figures {
    /// Type and sides of an input or of what a node gives.
    #[must_use]
    pub fn sides(&self, name: &str) -> Option<&Sides> {
        self.sides.get(name)
    }

    /// Operations of the nodes before a position.
    #[must_use]
    pub fn flops_before(&self, position: usize) -> u64 {
        self.nodes.iter().take(position).map(|node| node.flops).sum()
    }
}

impl CheckedProgram {
    /// Numbers among the constants, those that stand alone (factors, bounds) not counted.
    #[must_use]
    pub fn parameters(&self) -> usize {
        let many = |value: &&Value| value.dtype().is_float() && value.len() > 1;
        let numbers = self.constants().values().filter(many);
        numbers.map(Value::len).sum()
    }

    /// Runs the program once on these inputs, and tells what each node made.
    ///
    /// # Errors
    /// As [`CheckedProgram::run`].
    pub fn figures(&self, inputs: Vec<Value>) -> Result<Figures, ProgramError> {
        let mut sides: BTreeMap<String, Sides> = BTreeMap::new();
        for (port, value) in self.program().inputs.iter().zip(&inputs) {
            sides.insert(port.name.clone(), (value.dtype(), value.shape().to_vec()));
        }
        for state in &self.program().states {
            sides.insert(state.name.clone(), (state.dtype, state.shape.clone()));
        }
        let mut nodes = Vec::new();
        self.run_seen(inputs, &mut |node, read, given| {
            let own = |value: &Value| (value.dtype(), value.shape().to_vec());
            // A node that was not run gives what is known.
            let known = |name: &String| self.constant(name).map(own);
            let outputs: Vec<Sides> = if given.is_empty() {
                node.outputs.iter().filter_map(known).collect()
            } else {
                given.iter().take(node.outputs.len()).map(own).collect()
            };
            for (name, own) in node.outputs.iter().zip(&outputs) {
                sides.insert(name.clone(), own.clone());
            }
            let constant = |name: &String| self.constants().get(name);
            let held = node.inputs.iter().filter_map(constant).filter(|v| v.dtype().is_float());
            let parameters = held.map(Value::len).sum();
            nodes.push(NodeFigures { outputs, parameters, flops: flops(node, read, given) });
        })?;
        Ok(Figures { nodes, sides })
    }
}

fn flops(node: &ProgramNode, read: &[Option<&Value>], given: &[Value]) -> u64 {
    let made = given.first().map_or(0, Value::len);
    let side = |at: usize, axis: usize| {
        read.get(at).copied().flatten().and_then(|v| v.shape().get(axis).copied()).unwrap_or(1)
    };
    let length = |at: usize| read.get(at).copied().flatten().map_or(0, Value::len);
    let rank = |at: usize| read.get(at).copied().flatten().map_or(0, Value::rank);
    let each = match &node.op {
        TensorOp::MatMul => 2 * side(0, rank(0).saturating_sub(1)),
        TensorOp::Gemm { trans_a, .. } => 2 * side(0, usize::from(!*trans_a)),
        TensorOp::Conv { .. } => 2 * length(1) / side(1, 0).max(1),
        TensorOp::ConvTranspose { .. } => {
            return 2 * (length(0) * (length(1) / side(1, 0).max(1))) as u64;
        }
        TensorOp::Recurrent(_) => {
            // Every step of every row goes through all weights.
            return (2 * side(0, 0) * side(0, 1) * (length(1) + length(2))) as u64;
        }
        TensorOp::Attention(_) => 4 * side(1, rank(1).saturating_sub(2)),
        TensorOp::Pool { kernel, .. } => kernel.iter().product(),
        TensorOp::GlobalPool(_) | TensorOp::Reduce { .. } => return length(0) as u64,
        TensorOp::Identity
        | TensorOp::Shape { .. }
        | TensorOp::Size
        | TensorOp::Reshape { .. }
        | TensorOp::Transpose { .. }
        | TensorOp::Flatten { .. }
        | TensorOp::Squeeze
        | TensorOp::Unsqueeze
        | TensorOp::Expand
        | TensorOp::Concat { .. }
        | TensorOp::Split { .. }
        | TensorOp::Slice
        | TensorOp::Gather { .. } => 0,
        _ => 1,
    };
    (made * each) as u64
}

/// Made-up values for a program's inputs: numbers within ±1 that follow from their place, small ids, and
/// masks that hide nothing.
///
/// # Errors
/// [`ProgramError::Input`] where an input would be larger than a value may be.
pub fn sample(ports: &[Port], sizes: Sizes) -> Result<Vec<Value>, ProgramError> {
    ports.iter().map(|port| made_up(port, sizes)).collect()
}

fn made_up(port: &Port, sizes: Sizes) -> Result<Value, ProgramError> {
    let free = |axis: usize| if axis == 0 { sizes.rows } else { sizes.length };
    let sides = port.shape.as_deref().unwrap_or(&[None]);
    let shape: Vec<usize> =
        sides.iter().enumerate().map(|(axis, side)| side.unwrap_or_else(|| free(axis))).collect();
    let fault = |e: super::OpError| ProgramError::Input {
        input: port.name.clone(),
        problem: e.to_string(),
    };
    let count = super::value::elements(&shape).map_err(fault)?;
    let places = 0..count;
    let data = match (port.dtype, port.role) {
        (DType::F32, Role::Rows) => Data::F32(places.map(wave).collect()),
        (DType::F64, Role::Rows) => Data::F64(places.map(|at| f64::from(wave(at))).collect()),
        (DType::I64, Role::Rows) => Data::I64((0_i64..).take(count).map(|at| 1 + at % 7).collect()),
        (DType::I32, Role::Rows) => Data::I32((0_i32..).take(count).map(|at| 1 + at % 7).collect()),
        (DType::F32, Role::Mask) => Data::F32(vec![1.0; count]),
        (DType::I64, Role::Mask) => Data::I64(vec![1; count]),
        (DType::I32, Role::Mask) => Data::I32(vec![1; count]),
        (DType::Bool, _) => Data::Bool(vec![true; count]),
        (other, _) => Data::zeros(other, count),
    };
    Value::new(shape, data).map_err(fault)
}

/// Numbers within ±1 without a pattern that a layer would meet by chance.
fn wave(at: usize) -> f32 {
    let mixed = (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    mixed as f32 / (1 << 23) as f32 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::op::{Binary, Pads, Window};
    use crate::program::{Constants, Program, ProgramNode};

    fn node(name: &str, op: TensorOp, inputs: &[&str]) -> ProgramNode {
        ProgramNode {
            name: name.into(),
            op,
            inputs: inputs.iter().map(|&i| i.to_owned()).collect(),
            outputs: vec![name.into()],
        }
    }

    #[test]
    fn products_count_twice_and_views_nothing() {
        let window = Window { strides: vec![], dilations: vec![], pads: Pads::Explicit(vec![]) };
        let program = Program {
            name: "p".into(),
            inputs: vec![Port {
                name: "x".into(),
                dtype: DType::F32,
                shape: Some(vec![None, Some(2), None, None]),
                role: Role::Rows,
            }],
            nodes: vec![
                node("conv", TensorOp::Conv { window, groups: 2 }, &["x", "k"]),
                node("flat", TensorOp::Flatten { axis: 2 }, &["conv"]),
                node("sum", TensorOp::Binary(Binary::Add), &["conv", "conv"]),
            ],
            outputs: vec!["sum".into()],
            states: vec![],
        };
        let kernel = Value::new(vec![2, 1, 3, 3], Data::F32(vec![1.0; 18])).unwrap();
        let program = program.check(Constants::from([("k".into(), kernel)])).unwrap();
        let inputs = sample(&program.program().inputs, Sizes { rows: 3, length: 5 }).unwrap();
        assert_eq!(inputs[0].shape(), [3, 2, 5, 5]);
        let figures = program.figures(inputs).unwrap();
        // Two channels of 3 × 3 cells for each of three rows, nine products for each.
        let cells = 3 * 2 * 9;
        let flops: Vec<u64> = figures.nodes.iter().map(|node| node.flops).collect();
        assert_eq!(flops, [cells * 9 * 2, 0, cells]);
        assert_eq!(figures.flops_before(2), cells * 18);
        assert_eq!(figures.nodes[0].parameters, 18);
        assert_eq!(figures.sides("flat").unwrap().1, [3 * 2, 9]);
        assert_eq!(program.parameters(), 18);
    }
}
