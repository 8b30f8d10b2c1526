//! Compiled ranges against the general path: every fused pattern, at every split.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Compiled, Weights};
use crate::program::op::{
    Binary, Fold, Pads, Pool, Reduce, Softmax, TensorOp as Op, Unary, Window,
};
use crate::program::{
    CheckedProgram, Constants, DType, Data, Port, Program, ProgramNode, Role, Value,
};

/// A program under construction; each node is named after what it gives.
#[derive(Default)]
struct Builder {
    inputs: Vec<Port>,
    nodes: Vec<ProgramNode>,
    constants: Constants,
    seed: u64,
}

impl Builder {
    fn input(&mut self, name: &str, dtype: DType) {
        let (name, shape) = (name.to_owned(), None);
        self.inputs.push(Port { name, dtype, shape, role: Role::Rows });
    }

    fn add(&mut self, op: Op, inputs: &[&str]) -> String {
        let name = format!("v{}", self.nodes.len());
        let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
        self.nodes.push(ProgramNode {
            name: name.clone(),
            op,
            inputs,
            outputs: vec![name.clone()],
        });
        name
    }

    fn constant(&mut self, value: Value) -> String {
        let name = format!("c{}", self.constants.len());
        self.constants.insert(name.clone(), value);
        name
    }

    fn number(&mut self, number: f32) -> String {
        self.constant(Value::new(vec![], Data::F32(vec![number])).unwrap())
    }

    fn ints(&mut self, items: &[i64]) -> String {
        self.constant(Value::integers(items.to_vec()))
    }

    fn weights(&mut self, shape: &[usize]) -> String {
        self.seed += 1;
        let value = floats(shape, self.seed);
        self.constant(value)
    }

    /// Positive ones.
    fn variances(&mut self, len: usize) -> String {
        let items = (0..len).map(|i| 0.5 + (i % 3) as f32).collect();
        self.constant(Value::new(vec![len], Data::F32(items)).unwrap())
    }

    fn build(self, outputs: &[&str]) -> Arc<CheckedProgram> {
        let program = Program {
            name: "test".into(),
            inputs: self.inputs,
            states: Vec::new(),
            nodes: self.nodes,
            outputs: outputs.iter().map(|&name| name.to_owned()).collect(),
        };
        Arc::new(program.check(self.constants).unwrap())
    }
}

fn floats(shape: &[usize], seed: u64) -> Value {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let len = shape.iter().product();
    Value::new(shape.to_vec(), Data::F32((0..len).map(|_| next()).collect())).unwrap()
}

fn close(got: &[Value], want: &[Value], place: &str) {
    assert_eq!(got.len(), want.len(), "{place}");
    for (got, want) in got.iter().zip(want) {
        assert_eq!(got.shape(), want.shape(), "{place}");
        assert_eq!(got.dtype(), want.dtype(), "{place}");
        for (a, b) in got.to_f64s().into_iter().zip(want.to_f64s()) {
            let same = (a - b).abs() <= 2e-5 + 2e-5 * b.abs() || a.is_nan() && b.is_nan() || a == b;
            assert!(same, "{place}: {a} instead of {b}");
        }
    }
}

/// Whole and in two parts, twice, so that room is used again.
fn check(program: &Arc<CheckedProgram>, inputs: &[Value]) {
    let (n, weights) = (program.n_nodes(), Weights::new(program));
    let want = program.run(inputs.to_vec()).unwrap();
    for cut in 0..=n {
        let head = Compiled::new(Arc::clone(program), 0..cut, &weights);
        let tail = Compiled::new(Arc::clone(program), cut..n, &weights);
        for _ in 0..2 {
            let got = head.run(inputs.to_vec()).unwrap();
            close(&got, &program.run_range(0..cut, inputs.to_vec()).unwrap(), &format!("0..{cut}"));
            close(&tail.run(got).unwrap(), &want, &format!("{cut}..{n}"));
        }
    }
}

/// Kernels of a whole program: how many steps it takes.
fn steps(program: &Arc<CheckedProgram>) -> usize {
    let weights = Weights::new(program);
    Compiled::new(Arc::clone(program), 0..program.n_nodes(), &weights).steps.len()
}

fn window(strides: [usize; 2], pads: [usize; 4]) -> Window {
    Window { strides: strides.to_vec(), dilations: vec![], pads: Pads::Explicit(pads.to_vec()) }
}

fn conv(groups: usize, window: Window) -> Op {
    Op::Conv { window, groups }
}

/// Residuals, depthwise filters, norms, bounded and smooth activations, squeeze and excitation.
fn mobile() -> Arc<CheckedProgram> {
    let mut b = Builder::default();
    b.input("x", DType::F32);
    let (w, bias) = (b.weights(&[8, 3, 3, 3]), b.weights(&[8]));
    let y = b.add(conv(1, window([2, 2], [1, 1, 1, 1])), &["x", &w, &bias]);
    let of = [b.weights(&[8]), b.weights(&[8]), b.weights(&[8]), b.variances(8)];
    let y = b.add(Op::BatchNorm { eps: 1e-5 }, &[&y, &of[0], &of[1], &of[2], &of[3]]);
    let start = b.add(Op::Unary(Unary::Relu), &[&y]);
    let w = b.weights(&[24, 8, 1, 1]);
    let y = b.add(conv(1, window([1, 1], [0; 4])), &[&start, &w]);
    let (low, high) = (b.number(0.0), b.number(0.4));
    let y = b.add(Op::Clip, &[&y, &low, &high]);
    let (w, bias) = (b.weights(&[24, 1, 3, 3]), b.weights(&[24]));
    let y = b.add(conv(24, window([1, 1], [1, 1, 1, 1])), &[&y, &w, &bias]);
    let y = b.add(Op::Unary(Unary::HardSwish), &[&y]);
    let squeezed = b.add(Op::GlobalPool(Pool::Average { count_pads: false }), &[&y]);
    let w = b.weights(&[24, 24, 1, 1]);
    let squeezed = b.add(conv(1, window([1, 1], [0; 4])), &[&squeezed, &w]);
    let gate = Unary::HardSigmoid { alpha: 0.2, beta: 0.5 };
    let squeezed = b.add(Op::Unary(gate), &[&squeezed]);
    let y = b.add(Op::Binary(Binary::Mul), &[&y, &squeezed]);
    let (w, bias) = (b.weights(&[8, 24, 1, 1]), b.weights(&[8]));
    let y = b.add(conv(1, window([1, 1], [0; 4])), &[&y, &w, &bias]);
    let y = b.add(Op::Binary(Binary::Add), &[&start, &y]);
    let y = b.add(Op::Unary(Unary::Relu), &[&y]);
    let (kernel, how) = (vec![3, 3], window([2, 2], [1, 1, 1, 1]));
    let kind = Pool::Max { column_major: false };
    let y = b.add(Op::Pool { kind, kernel, window: how, ceil: false }, &[&y]);
    let axes = b.ints(&[-1, -2]);
    let mean = Op::Reduce { kind: Reduce::Mean, keep: false, noop_if_empty: false };
    let y = b.add(mean, &[&y, &axes]);
    let (w, bias) = (b.weights(&[5, 8]), b.weights(&[5]));
    let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let y = b.add(gemm, &[&y, &w, &bias]);
    b.build(&[&y])
}

/// Embeddings, attention, a norm and a smooth activation, all written out.
fn transformer() -> Arc<CheckedProgram> {
    let mut b = Builder::default();
    b.input("tokens", DType::I64);
    b.input("mask", DType::F32);
    let (table, positions) = (b.weights(&[11, 8]), b.weights(&[1, 5, 8]));
    let x = b.add(Op::Gather { axis: 0 }, &[&table, "tokens"]);
    let x = b.add(Op::Binary(Binary::Add), &[&x, &positions]);
    let x = layer_norm(&mut b, &x, 8);
    let heads = b.ints(&[0, -1, 2, 4]);
    let [q, k, v] = [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]].map(|perm| {
        let (w, bias) = (b.weights(&[8, 8]), b.weights(&[8]));
        let y = b.add(Op::MatMul, &[&x, &w]);
        let y = b.add(Op::Binary(Binary::Add), &[&bias, &y]);
        let y = b.add(Op::Reshape { zeros: false }, &[&y, &heads]);
        b.add(Op::Transpose { perm: Some(perm.to_vec()) }, &[&y])
    });
    let scores = b.add(Op::MatMul, &[&q, &k]);
    let root = b.number(2.0);
    let scores = b.add(Op::Binary(Binary::Div), &[&scores, &root]);
    let scores = b.add(Op::Binary(Binary::Add), &[&scores, "mask"]);
    let softmax = Op::Softmax { kind: Softmax::Softmax, axis: -1, flat: false };
    let shares = b.add(softmax, &[&scores]);
    let y = b.add(Op::MatMul, &[&shares, &v]);
    let y = b.add(Op::Transpose { perm: Some(vec![0, 2, 1, 3]) }, &[&y]);
    let flat = b.ints(&[0, 0, 8]);
    let y = b.add(Op::Reshape { zeros: false }, &[&y, &flat]);
    let (w, bias) = (b.weights(&[8, 8]), b.weights(&[8]));
    let y = b.add(Op::MatMul, &[&y, &w]);
    let y = b.add(Op::Binary(Binary::Add), &[&y, &bias]);
    let y = b.add(Op::Binary(Binary::Add), &[&y, &x]);
    let y = layer_norm(&mut b, &y, 8);
    let (w, bias) = (b.weights(&[8, 16]), b.weights(&[16]));
    let h = b.add(Op::MatMul, &[&y, &w]);
    let h = b.add(Op::Binary(Binary::Add), &[&h, &bias]);
    let h = gelu(&mut b, &h);
    let w = b.weights(&[16, 8]);
    let h = b.add(Op::MatMul, &[&h, &w]);
    let y = b.add(Op::Fold(Fold::Sum), &[&h, &y]);
    b.build(&[&y])
}

fn layer_norm(b: &mut Builder, x: &str, width: usize) -> String {
    let mean = || Op::Reduce { kind: Reduce::Mean, keep: true, noop_if_empty: false };
    let (axes, two, eps) = (b.ints(&[-1]), b.number(2.0), b.number(1e-5));
    let m = b.add(mean(), &[x, &axes]);
    let centred = b.add(Op::Binary(Binary::Sub), &[x, &m]);
    let square = b.add(Op::Binary(Binary::Pow), &[&centred, &two]);
    let variance = b.add(mean(), &[&square, &axes]);
    let added = b.add(Op::Binary(Binary::Add), &[&variance, &eps]);
    let root = b.add(Op::Unary(Unary::Sqrt), &[&added]);
    let unit = b.add(Op::Binary(Binary::Div), &[&centred, &root]);
    let (scale, bias) = (b.weights(&[width]), b.weights(&[width]));
    let scaled = b.add(Op::Binary(Binary::Mul), &[&unit, &scale]);
    b.add(Op::Binary(Binary::Add), &[&scaled, &bias])
}

fn gelu(b: &mut Builder, x: &str) -> String {
    let (root, one, half) = (b.number(2.0f32.sqrt()), b.number(1.0), b.number(0.5));
    let y = b.add(Op::Binary(Binary::Div), &[x, &root]);
    let y = b.add(Op::Unary(Unary::Erf), &[&y]);
    let y = b.add(Op::Binary(Binary::Add), &[&y, &one]);
    let y = b.add(Op::Binary(Binary::Mul), &[x, &y]);
    b.add(Op::Binary(Binary::Mul), &[&y, &half])
}

#[test]
fn a_network_of_images_is_the_same_at_every_split() {
    let program = mobile();
    check(&program, &[floats(&[2, 3, 13, 10], 7)]);
    check(&program, &[floats(&[1, 3, 6, 7], 8)]);
    // Five convolutions, two pools, gate, mean, product: whatever follows one is part of it.
    assert_eq!(steps(&program), 10);
}

#[test]
fn a_transformer_is_the_same_at_every_split() {
    let program = transformer();
    let tokens = |rows: usize| {
        let items = (0..rows * 5).map(|i| i64::try_from(i * 7 % 11).unwrap()).collect();
        Value::new(vec![rows, 5], Data::I64(items)).unwrap()
    };
    let mask = Value::new(vec![1, 1, 1, 5], Data::F32(vec![0.0, 0.0, 0.0, 0.0, -1e9])).unwrap();
    check(&program, &[tokens(3), mask.clone()]);
    check(&program, &[tokens(1), mask]);
}

#[test]
fn what_is_wrong_is_said_as_the_general_path_says_it() {
    let program = mobile();
    let weights = Weights::new(&program);
    let compiled = Compiled::new(Arc::clone(&program), 0..program.n_nodes(), &weights);
    for input in [floats(&[1, 4, 6, 6], 1), floats(&[3], 1), Value::integers(vec![1])] {
        let want = program.run(vec![input.clone()]).err().unwrap();
        assert!(compiled.run(vec![input]).err() == Some(want));
    }
    assert!(compiled.run(vec![]).is_err());
}

#[test]
fn one_call_has_the_bits_of_another() {
    let program = mobile();
    let weights = Weights::new(&program);
    let compiled = Compiled::new(Arc::clone(&program), 0..program.n_nodes(), &weights);
    let input = floats(&[2, 3, 12, 12], 3);
    let first = compiled.run(vec![input.clone()]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert!(compiled.run(vec![input.clone()]).unwrap() == first));
        }
    });
}

/// Kernel sides, strides, paddings, dilations, groups, channels in and out of each group.
fn convolutions() -> impl Strategy<Value = (Window, usize, [usize; 4], [usize; 3])> {
    let pads = prop_oneof![
        proptest::collection::vec(0usize..3, 4).prop_map(Pads::Explicit),
        Just(Pads::SameUpper),
        Just(Pads::SameLower),
    ];
    let pair = || proptest::collection::vec(1usize..3, 2);
    let window = (pair(), pair(), pads).prop_map(|(strides, dilations, pads)| Window {
        strides,
        dilations,
        pads,
    });
    (
        window,
        1usize..4,
        [1usize..6, 1usize..6, 1usize..4, 1usize..4],
        [1usize..3, 5usize..9, 5usize..9],
    )
}

/// A step of a chain: which operation, and which earlier values it reads.
fn chains() -> impl Strategy<Value = Vec<(usize, usize, usize)>> {
    proptest::collection::vec((0usize..14, 0usize..8, 0usize..8), 1..9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn convolutions_of_every_kind_are_the_same((how, groups, sides, x) in convolutions()) {
        let [m, c, height, width] = sides;
        let mut b = Builder::default();
        b.input("x", DType::F32);
        let w = b.weights(&[m * groups, c, height, width]);
        let y = b.add(conv(groups, how.clone()), &["x", &w]);
        let y = b.add(Op::Unary(Unary::Tanh), &[&y]);
        // The second one reads channels last.
        let w = b.weights(&[m * groups, m, height, width]);
        let bias = b.weights(&[m * groups]);
        let y = b.add(conv(groups, how), &[&y, &w, &bias]);
        let program = b.build(&[&y]);
        let input = floats(&[x[0], c * groups, x[1], x[2]], 5);
        if program.run(vec![input.clone()]).is_ok() {
            check(&program, &[input]);
        }
    }

    #[test]
    fn chains_of_every_kind_are_the_same(chain in chains(), root in 0usize..3, width in 1usize..7) {
        let mut b = Builder::default();
        b.input("x", DType::F32);
        let mut values = vec!["x".to_owned()];
        if root > 0 {
            let w = b.weights(&[width, width]);
            values.push(b.add(Op::MatMul, &["x", &w]));
        }
        let (number, cells) = (b.number(0.7), b.weights(&[width]));
        for (op, first, second) in chain {
            let a = values[first % values.len()].clone();
            let c = values[second % values.len()].clone();
            let unary = |unary| (Op::Unary(unary), vec![a.clone()]);
            let pair = |op, other: &String| (Op::Binary(op), vec![a.clone(), other.clone()]);
            let (op, inputs) = match op {
                0 => unary(Unary::Relu),
                1 => unary(Unary::Sigmoid),
                2 => unary(Unary::Tanh),
                3 => unary(Unary::Erf),
                4 => unary(Unary::Gelu { tanh: true }),
                5 => unary(Unary::Swish { alpha: 1.5 }),
                6 => pair(Binary::Add, &c),
                7 => pair(Binary::Mul, &c),
                8 => pair(Binary::Sub, &c),
                9 => pair(Binary::Add, &cells),
                10 => (Op::Binary(Binary::Sub), vec![cells.clone(), a.clone()]),
                11 => (Op::Binary(Binary::Div), vec![a.clone(), number.clone()]),
                12 => (Op::Binary(Binary::Sub), vec![number.clone(), a.clone()]),
                _ => (Op::Fold(Fold::Sum), vec![a.clone(), c]),
            };
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            values.push(b.add(op, &inputs));
        }
        let outputs = [values.last().unwrap().clone(), values[values.len() / 2].clone()];
        let outputs: Vec<&str> = if outputs[0] == outputs[1] || outputs[1] == "x" {
            vec![&outputs[0]]
        } else {
            vec![&outputs[0], &outputs[1]]
        };
        let program = b.build(&outputs);
        for rows in [1, 5, 300] {
            check(&program, &[floats(&[rows, width], 9)]);
        }
    }

    #[test]
    fn pools_and_transposes_are_the_same(
        pads in proptest::collection::vec(0usize..2, 4),
        [kernel, stride, side] in [2usize..4, 1usize..3, 4usize..8],
        kind in 0usize..3,
        perm in Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
    ) {
        let kind = match kind {
            0 => Pool::Max { column_major: false },
            1 => Pool::Average { count_pads: true },
            _ => Pool::Average { count_pads: false },
        };
        let how = window([stride, stride], [pads[0], pads[1], pads[2], pads[3]]);
        let mut b = Builder::default();
        b.input("x", DType::F32);
        let y = b.add(Op::Transpose { perm: Some(perm) }, &["x"]);
        let y = b.add(Op::Pool { kind, kernel: vec![kernel; 2], window: how, ceil: false }, &[&y]);
        let y = b.add(Op::Unary(Unary::Exp), &[&y]);
        let program = b.build(&[&y]);
        check(&program, &[floats(&[4, side, 5, 6], 2)]);
    }
}
