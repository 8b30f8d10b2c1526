//! What is written is read again, and answers the same.

use super::*;
use crate::onnx::import;
use crate::program::op::{Binary, Fold, PadMode, Pool, Reduce, Resize, Softmax, Unary, Window};
use crate::program::op::{Coordinates, KeepAspect, Nearest, Pads, ResizeMode};
use crate::program::{Constants, Data, Port, Program, ProgramNode, Role, TensorOp};

fn alone(_: &str, _: u64, _: Option<u64>) -> Result<Vec<u8>, String> {
    Err("nothing is beside it".into())
}

/// A program of one operation on a picture, with constants `a`, `b`, `c` behind it.
fn of(op: TensorOp, constants: &[Value], outputs: usize) -> CheckedProgram {
    let names = ["a", "b", "c", "d"];
    let used: Vec<String> = names[..constants.len()].iter().map(|&name| name.into()).collect();
    let inputs = std::iter::once("x".to_owned()).chain(used.iter().cloned());
    let outputs: Vec<String> = (0..outputs).map(|at| format!("y{at}")).collect();
    let program = Program {
        name: "one".into(),
        inputs: vec![Port {
            name: "x".into(),
            dtype: DType::F32,
            shape: Some(vec![None, Some(4), Some(6), Some(6)]),
            role: Role::Rows,
        }],
        nodes: vec![ProgramNode {
            name: "n".into(),
            op,
            inputs: inputs.collect(),
            outputs: outputs.clone(),
        }],
        outputs,
        states: Vec::new(),
    };
    program.check(used.into_iter().zip(constants.iter().cloned()).collect()).unwrap()
}

fn floats(shape: &[usize]) -> Value {
    let items = (0..shape.iter().product()).map(|at| (at % 5) as f32 * 0.25 - 0.3).collect();
    Value::new(shape.to_vec(), Data::F32(items)).unwrap()
}

fn ints(items: &[i64]) -> Value {
    Value::integers(items.to_vec())
}

fn again(program: &CheckedProgram) -> CheckedProgram {
    let bytes = export(program).unwrap();
    let imported = import(&bytes, &alone).unwrap();
    imported.program.check(imported.constants).unwrap()
}

fn window(pads: Pads) -> Window {
    Window { strides: vec![2, 1], dilations: vec![1, 1], pads }
}

/// Operations with the constants that they read.
fn cases() -> Vec<(TensorOp, Vec<Value>)> {
    let axis_last = ints(&[-1]);
    let resize = Resize {
        mode: ResizeMode::Nearest,
        coordinates: Coordinates::Asymmetric,
        nearest: Nearest::Floor,
        cubic_a: -0.75,
        exclude_outside: false,
        extrapolation: 0.0,
        antialias: false,
        axes: vec![2, 3],
        keep_aspect: KeepAspect::Stretch,
    };
    let padded = window(Pads::Explicit(vec![1, 0, 1, 2]));
    let pool = |kind| TensorOp::Pool {
        kind,
        kernel: vec![2, 3],
        window: window(Pads::SameUpper),
        ceil: false,
    };
    let four = || floats(&[4]);
    let shape = TensorOp::Shape { start: 1, end: Some(3) };
    vec![
        (TensorOp::Unary(Unary::Gelu { tanh: false }), vec![]),
        (TensorOp::Unary(Unary::Swish { alpha: 1.0 }), vec![]),
        (TensorOp::Unary(Unary::HardSigmoid { alpha: 0.25, beta: 0.5 }), vec![]),
        (TensorOp::Binary(Binary::Add), vec![four().reshaped(vec![4, 1, 1]).unwrap()]),
        (TensorOp::Fold(Fold::Max), vec![Value::scalar(0.1f32)]),
        (TensorOp::Clip, vec![Value::scalar(-0.5f32), Value::scalar(0.5f32)]),
        (TensorOp::Cast(DType::I32), vec![]),
        (TensorOp::MatMul, vec![floats(&[6, 3])]),
        (TensorOp::Conv { window: padded.clone(), groups: 2 }, vec![floats(&[4, 2, 3, 3]), four()]),
        (pool(Pool::Max { column_major: false }), vec![]),
        (pool(Pool::Average { count_pads: true }), vec![]),
        (TensorOp::GlobalPool(Pool::Average { count_pads: false }), vec![]),
        (
            TensorOp::BatchNorm { eps: 0.125 },
            vec![four(), four(), four(), Value::new(vec![4], Data::F32(vec![1.0; 4])).unwrap()],
        ),
        (TensorOp::LayerNorm { axis: -1, eps: 0.5 }, vec![floats(&[6]), floats(&[6])]),
        (TensorOp::RmsNorm { axis: -1, eps: 0.5 }, vec![floats(&[6])]),
        (TensorOp::GroupNorm { groups: 2, eps: 0.5 }, vec![four(), four()]),
        (TensorOp::Softmax { kind: Softmax::LogSoftmax, axis: 1, flat: false }, vec![]),
        (
            TensorOp::Reduce { kind: Reduce::L2, keep: true, noop_if_empty: false },
            vec![axis_last.clone()],
        ),
        (TensorOp::ArgExtreme { max: true, axis: 1, keep: false, last: true }, vec![]),
        (shape, vec![]),
        (TensorOp::Reshape { zeros: false }, vec![ints(&[0, -1])]),
        (TensorOp::Transpose { perm: Some(vec![0, 2, 3, 1]) }, vec![]),
        (TensorOp::Flatten { axis: 1 }, vec![]),
        (TensorOp::Unsqueeze, vec![ints(&[2])]),
        (TensorOp::Concat { axis: 1 }, vec![floats(&[2, 1, 6, 6])]),
        (TensorOp::Slice, vec![ints(&[1]), ints(&[5]), ints(&[2]), ints(&[2])]),
        (TensorOp::Pad { mode: PadMode::Reflect }, vec![ints(&[0, 0, 1, 1, 0, 0, 2, 0])]),
        (TensorOp::DepthToSpace { block: 2, crd: true }, vec![]),
        (TensorOp::Gather { axis: 1 }, vec![ints(&[2, 0])]),
        (TensorOp::Resize(resize), vec![floats(&[0]), floats(&[2])]),
        (TensorOp::Trilu { upper: false }, vec![]),
    ]
}

#[test]
fn operations_come_back_as_they_were() {
    for (op, mut constants) in cases() {
        if let TensorOp::Resize(_) = op {
            constants[1] = Value::new(vec![2], Data::F32(vec![2.0, 0.5])).unwrap();
        }
        let program = of(op.clone(), &constants, 1);
        let back = again(&program);
        assert_eq!(back.program().nodes[0].op, op, "{op:?}");
        assert_eq!(back.program().inputs, program.program().inputs);
        let x = || vec![floats(&[2, 4, 6, 6])];
        assert!(program.run(x()).unwrap() == back.run(x()).unwrap(), "{op:?}");
    }
}

#[test]
fn several_outputs_and_what_goes_into_attributes() {
    let program = of(TensorOp::Split { axis: 1, parts: 2 }, &[], 2);
    let x = || vec![floats(&[1, 4, 6, 6])];
    assert!(again(&program).run(x()).unwrap() == program.run(x()).unwrap());
    let nodes = vec![
        ProgramNode {
            name: "sides".into(),
            op: TensorOp::Shape { start: 0, end: None },
            inputs: vec!["x".into()],
            outputs: vec!["sides".into()],
        },
        ProgramNode {
            name: "full".into(),
            op: TensorOp::ConstantOfShape,
            inputs: vec!["sides".into(), "item".into()],
            outputs: vec!["full".into()],
        },
    ];
    let port = Port { name: "x".into(), dtype: DType::F32, shape: None, role: Role::Rows };
    let program = Program {
        name: "full".into(),
        inputs: vec![port],
        nodes,
        outputs: vec!["full".into()],
        states: Vec::new(),
    };
    let item = Value::new(vec![1], Data::I64(vec![7])).unwrap();
    let program = program.check(Constants::from([("item".into(), item)])).unwrap();
    let back = again(&program);
    assert!(back.run(x()).unwrap() == program.run(x()).unwrap());
    assert_eq!(back.run(x()).unwrap()[0].dtype(), DType::I64);
}

#[test]
fn what_onnx_cannot_say_is_refused_with_the_node() {
    let flat = of(TensorOp::Softmax { kind: Softmax::Softmax, axis: 1, flat: true }, &[], 1);
    let error = export(&flat).unwrap_err().to_string();
    assert!(error.starts_with("node `n`") && error.contains("version 13"), "{error}");
}
