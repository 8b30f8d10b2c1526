//! Parts against the whole, and values that nobody honest would send.

use proptest::prelude::*;

use super::*;
use crate::codec::{Activation, Codec};
use crate::program::op::{Binary, Softmax, TensorOp as Op, Unary};
use crate::program::{Constants, Port, Program, ProgramNode, Role};
use crate::spec::ModelSpec;

fn layers() -> Network {
    let text = br#"{"name":"m","inputs":[{"name":"x","shape":[1,6,6]}],"nodes":[
        {"name":"conv","op":{"conv2d":{"channels":3,"kernel":[3,3]}},"inputs":["x"]},
        {"name":"act","op":"relu","inputs":["conv"]},
        {"name":"flat","op":"flatten","inputs":["act"]},
        {"name":"fc","op":{"linear":{"units":2}},"inputs":["flat"]}]}"#;
    let spec = ModelSpec::from_json(text).unwrap().check().unwrap();
    Network::layers(&spec, &Params::init(&spec, 3)).unwrap()
}

fn value(shape: &[usize], from: f32) -> Value {
    let n: usize = shape.iter().product();
    let items = (0..n).map(|at| ((at as f32 + from) * 0.7).sin()).collect();
    Value::new(shape.to_vec(), Data::F32(items)).unwrap()
}

/// A block of attention without heads: what transformers are made of.
fn block() -> Network {
    let node = |name: &str, op, inputs: &[&str]| ProgramNode {
        name: name.into(),
        op,
        inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
        outputs: vec![name.into()],
    };
    let softmax = Op::Softmax { kind: Softmax::Softmax, axis: -1, flat: false };
    let nodes = vec![
        node("h", Op::MatMul, &["x", "w"]),
        node("n", Op::LayerNorm { axis: -1, eps: 1e-5 }, &["h", "g", "b"]),
        node("q", Op::MatMul, &["n", "wq"]),
        node("kt", Op::Transpose { perm: Some(vec![0, 2, 1]) }, &["n"]),
        node("s", Op::MatMul, &["q", "kt"]),
        node("m", Op::Binary(Binary::Add), &["s", "mask"]),
        node("p", softmax, &["m"]),
        node("o", Op::MatMul, &["p", "n"]),
        node("r", Op::Binary(Binary::Add), &["o", "h"]),
        node("a", Op::Unary(Unary::Gelu { tanh: false }), &["r"]),
        node("y", Op::MatMul, &["a", "wq"]),
    ];
    let port = |name: &str, role| Port { name: name.into(), dtype: DType::F32, shape: None, role };
    let program = Program {
        name: "block".into(),
        inputs: vec![port("x", Role::Rows), port("mask", Role::Mask)],
        nodes,
        outputs: vec!["y".into()],
        states: Vec::new(),
    };
    let constants = Constants::from([
        ("w".to_owned(), value(&[5, 8], 1.0)),
        ("wq".to_owned(), value(&[8, 8], 2.0)),
        ("g".to_owned(), value(&[8], 3.0)),
        ("b".to_owned(), value(&[8], 4.0)),
    ]);
    Network::program(program.check(constants).unwrap())
}

fn run(network: &Network, from: usize, to: usize, values: Vec<Value>) -> Vec<Value> {
    let at = network.crossing(from, values).unwrap();
    network.forward(to, &at, &mut network.start(from..to)).unwrap().into_values()
}

#[test]
fn parts_at_every_cut_give_what_the_whole_gives() {
    let image = vec![value(&[2, 1, 6, 6], 0.0)];
    let text = vec![value(&[2, 4, 5], 0.0), value(&[2, 1, 4], 9.0)];
    for (network, inputs) in [(layers(), image), (block(), text)] {
        let n = network.n_nodes();
        let whole = run(&network, 0, n, inputs.clone());
        let legal: Vec<usize> =
            network.cuts().iter().filter(|cut| cut.is_legal()).map(|cut| cut.position).collect();
        assert!(legal.len() >= 3, "{legal:?}");
        for &cut in &legal {
            let head = network.crossing(0, inputs.clone()).unwrap();
            let head = network.forward(cut, &head, &mut network.start(0..cut)).unwrap();
            let bytes = Activation::encode(&head, Codec::F32).unwrap().into_bytes();
            let there = Activation::decode(&bytes, 1 << 16).unwrap();
            let parts = run(&network, cut, n, there);
            for (a, b) in parts[0].to_f64s().iter().zip(whole[0].to_f64s()) {
                assert!((a - b).abs() < 1e-5, "cut {cut}: {a} {b}");
            }
        }
    }
}

#[test]
fn the_mask_may_cross_and_rows_may_not() {
    let network = block();
    assert!(network.cuts()[0].raw);
    let cut = &network.cuts()[1];
    assert_eq!(cut.live.iter().map(|live| live.name.as_str()).collect::<Vec<_>>(), ["mask", "h"]);
    assert!(cut.is_legal());
}

fn shapes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0usize..7, 0..5)
}

proptest! {
    /// Any tensors at any position: an answer or an error, never a panic.
    #[test]
    fn hostile_crossings_are_errors(
        from in 0usize..11,
        to in 0usize..12,
        tensors in prop::collection::vec(shapes(), 1..4),
        whole_numbers in any::<bool>(),
    ) {
        for network in [layers(), block()] {
            let values: Vec<Value> = tensors.iter().map(|shape| {
                let numbers = value(shape, 0.5);
                if whole_numbers {
                    Value::new(shape.clone(), Data::I64(vec![7; numbers.len()])).unwrap()
                } else {
                    numbers
                }
            }).collect();
            if let Ok(at) = network.crossing(from, values) {
                let _ = network.forward(to, &at, &mut network.start(from..to.max(from)));
            }
        }
    }
}
