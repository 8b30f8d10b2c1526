//! Lanes against one by one: the same bits on the general path, and what may run together.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::network::{Network, States};
use crate::program::{Constants, Data, Program};

const WIDTH: usize = 4;

fn floats(shape: &[usize], seed: usize) -> Value {
    let len = shape.iter().product();
    let items = (0..len).map(|at| ((at * 7 + seed * 13) % 11) as f32 / 7.0 - 0.7).collect();
    Value::new(shape.to_vec(), Data::F32(items)).unwrap()
}

fn ints(items: &[i64]) -> Value {
    Value::integers(items.to_vec())
}

fn program(nodes: serde_json::Value, states: serde_json::Value, constants: Constants) -> Network {
    let text = json!({
        "name": "p",
        "inputs": [{"name": "x", "dtype": "f32", "shape": null}],
        "nodes": nodes, "outputs": ["y"], "states": states,
    });
    let program: Program = serde_json::from_value(text).unwrap();
    Network::program(program.check(constants).unwrap())
}

fn node(name: &str, op: serde_json::Value, inputs: &[&str]) -> serde_json::Value {
    json!({"name": name, "op": op, "inputs": inputs, "outputs": [name]})
}

/// A decoder's layer: keys and values of the tokens before are remembered.
fn decoder() -> Network {
    let nodes = json!([
        node("h", json!("mat_mul"), &["x", "w0"]),
        node("q", json!("mat_mul"), &["h", "wq"]),
        node("k", json!("mat_mul"), &["h", "wk"]),
        node("v", json!("mat_mul"), &["h", "wv"]),
        node("keys", json!({"concat": {"axis": 0}}), &["k_past", "k"]),
        node("values", json!({"concat": {"axis": 0}}), &["v_past", "v"]),
        node("turned", json!({"transpose": {"perm": [1, 0]}}), &["keys"]),
        node("scores", json!("mat_mul"), &["q", "turned"]),
        node(
            "weights",
            json!({"softmax": {"kind": "softmax", "axis": -1, "flat": false}}),
            &["scores"]
        ),
        node("seen", json!("mat_mul"), &["weights", "values"]),
        node("out", json!("mat_mul"), &["seen", "wo"]),
        node("sum", json!({"binary": "add"}), &["out", "h"]),
        node("y", json!("mat_mul"), &["sum", "w1"]),
    ]);
    let state = |name: &str, output: &str| json!({"name": name, "dtype": "f32", "shape": [0, WIDTH], "output": output});
    let states = json!([state("k_past", "keys"), state("v_past", "values")]);
    let names = ["w0", "wq", "wk", "wv", "wo", "w1"].into_iter().enumerate();
    let constants = names.map(|(at, name)| (name.into(), floats(&[WIDTH, WIDTH], at))).collect();
    program(nodes, states, constants)
}

fn plan_of(network: &Network, lane: &Crossing, states: &[Value]) -> Plan {
    let program = network.as_program().unwrap();
    Plan::new(program, &(lane.position()..program.n_nodes()), lane, states).unwrap()
}

fn crossing(network: &Network, value: Value) -> Crossing {
    network.crossing(0, vec![value]).unwrap()
}

#[test]
fn a_decoders_weights_are_read_once_and_its_attention_runs_for_each() {
    let network = decoder();
    let lane = crossing(&network, floats(&[1, WIDTH], 1));
    let starts: Vec<Value> =
        network.as_program().unwrap().program().states.iter().map(|s| s.start().unwrap()).collect();
    let plan = plan_of(&network, &lane, &starts);
    assert_eq!(plan.together(), [0..4, 10..13]);
}

#[test]
fn a_program_of_images_runs_once_for_all() {
    let window = json!({"strides": [], "dilations": [], "pads": {"explicit": []}});
    let conv = json!({"conv": {"window": window, "groups": 1}});
    let nodes = json!([
        node("c", conv, &["x", "w"]),
        node("r", json!({"unary": "relu"}), &["c"]),
        node("f", json!({"flatten": {"axis": 1}}), &["r"]),
        node(
            "y",
            json!({"gemm": {"alpha": 1.0, "beta": 1.0, "trans_a": false, "trans_b": false}}),
            &["f", "v", "b"]
        ),
    ]);
    let constants = [
        ("w".to_owned(), floats(&[2, 1, 2, 2], 1)),
        ("v".to_owned(), floats(&[8, 3], 2)),
        ("b".to_owned(), floats(&[3], 3)),
    ];
    let network = program(nodes, json!([]), constants.into_iter().collect());
    let lane = crossing(&network, floats(&[1, 1, 3, 3], 1));
    assert!(plan_of(&network, &lane, &[]).is_together());
}

/// What mixes rows, or takes the first axis for something else, is not run together.
#[test]
fn a_first_axis_that_is_no_batch_is_never_stacked() {
    let constants = || -> Constants {
        [
            ("w".to_owned(), floats(&[2, 2], 1)),
            ("column".to_owned(), floats(&[2, 1], 1)),
            ("zero".to_owned(), ints(&[0])),
            ("whole".to_owned(), ints(&[1, -1])),
        ]
        .into_iter()
        .collect()
    };
    let mixes = [
        node(
            "m",
            json!({"reduce": {"kind": "sum", "keep": true, "noop_if_empty": false}}),
            &["x", "zero"],
        ),
        node("m", json!({"softmax": {"kind": "softmax", "axis": 0, "flat": false}}), &["x"]),
        node("m", json!({"transpose": {"perm": [1, 0]}}), &["x"]),
        node("m", json!({"transpose": {"perm": null}}), &["x"]),
        node("m", json!({"reshape": {"zeros": false}}), &["x", "whole"]),
        node("m", json!("mat_mul"), &["column", "x"]),
        node("m", json!("mat_mul"), &["x", "x"]),
        node("m", json!({"concat": {"axis": 0}}), &["x", "x"]),
        node("m", json!({"binary": "add"}), &["x", "column"]),
        node("m", json!({"layer_norm": {"axis": 0, "eps": 1e-5}}), &["x", "w"]),
        node(
            "m",
            json!({"gemm": {"alpha": 1.0, "beta": 1.0, "trans_a": true, "trans_b": false}}),
            &["x", "w"],
        ),
    ];
    let mut tried = 0;
    for mix in mixes {
        let nodes = json!([mix, node("y", json!({"unary": "relu"}), &["m"])]);
        let network = program(nodes, json!([]), constants());
        let lanes = [floats(&[2, 2], 1), floats(&[2, 2], 2)].map(|value| crossing(&network, value));
        let alone = lanes.each_ref().map(|at| network.forward(2, at, &mut States::default()));
        let Ok(alone) = alone.into_iter().collect::<Result<Vec<_>, _>>() else { continue };
        tried += 1;
        let program = network.as_program().unwrap();
        let plan = Plan::new(program, &(0..2), &lanes[0], &[]).unwrap();
        assert!(!plan.is_together(), "{mix}");
        let (mut a, mut b) = (States::default(), States::default());
        let together = network.forward_lanes(2, &[&lanes[0], &lanes[1]], &mut [&mut a, &mut b]);
        assert!(together.unwrap() == alone, "{mix}");
    }
    assert!(tried >= 9, "{tried} of the programs ran at all");
}

#[test]
fn an_error_leaves_every_memory_as_it_was() {
    let network = decoder();
    let good = crossing(&network, floats(&[1, WIDTH], 1));
    let bad = crossing(&network, floats(&[1, WIDTH + 1], 1));
    let mut states = [network.start(0..13), network.start(0..13)];
    let [a, b] = &mut states;
    assert!(network.forward(13, &good, a).is_ok());
    let before = (a.clone(), b.clone());
    assert!(network.forward_lanes(13, &[&good, &bad], &mut [a, b]).is_err());
    assert!((states[0].clone(), states[1].clone()) == before);
}

proptest! {
    #[test]
    fn lanes_answer_as_one_by_one_bit_for_bit_on_the_general_path(
        steps in prop::collection::vec(prop::collection::vec((1usize..4, 0usize..50), 1..5), 1..5),
        first in prop::collection::vec(0usize..4, 4),
        from in prop::sample::select(vec![0usize, 1]),
    ) {
        let network = decoder();
        let program = network.as_program().unwrap();
        let starts = || program.states_in(&(from..13)).iter().map(|s| s.start().unwrap()).collect();
        let run = |range: Range<usize>, values: Vec<Value>| program.run_range(range, values);
        let alone = |value: Value, states: &[Value]| {
            let mut values = run(from..13, [&[value], states].concat()).unwrap();
            let states = values.split_off(1);
            Lane { values, states }
        };
        // Sequences of different lengths meet.
        let mut memories: Vec<Vec<Value>> = (0..4).map(|_| starts()).collect();
        for (at, tokens) in first.iter().enumerate().filter(|(_, tokens)| **tokens > 0) {
            memories[at] = alone(floats(&[*tokens, WIDTH], at), &memories[at]).states;
        }
        for step in steps {
            let value = |&(rows, seed): &(usize, usize)| floats(&[rows, WIDTH], seed);
            let own = step.iter().zip(&memories);
            let want: Vec<Lane> = own.clone().map(|(step, states)| alone(value(step), states)).collect();
            let lanes: Vec<Lane> = own
                .map(|(step, states)| Lane { values: vec![value(step)], states: states.clone() })
                .collect();
            let at = network.crossing(from, lanes[0].values.clone()).unwrap();
            let plan = Plan::new(program, &(from..13), &at, &lanes[0].states).unwrap();
            let got = plan.run(&run, lanes).unwrap();
            prop_assert!(got == want);
            memories.iter_mut().zip(got).for_each(|(own, lane)| *own = lane.states);
        }
    }

    #[test]
    fn a_networks_lanes_answer_as_one_by_one_but_for_rounding(
        step in prop::collection::vec((1usize..4, 0usize..50), 1..5),
    ) {
        let network = decoder();
        let own = |&(rows, seed): &(usize, usize)| crossing(&network, floats(&[rows, WIDTH], seed));
        let lanes: Vec<Crossing> = step.iter().map(own).collect();
        let mut laned: Vec<States> = lanes.iter().map(|_| network.start(0..13)).collect();
        let mut refs: Vec<&mut States> = laned.iter_mut().collect();
        let got = network.forward_lanes(13, &lanes.iter().collect::<Vec<_>>(), &mut refs).unwrap();
        for (lane, got) in lanes.iter().zip(got) {
            let want = network.forward(13, lane, &mut network.start(0..13)).unwrap();
            let (got, want) = (got.values()[0].f32s().unwrap(), want.values()[0].f32s().unwrap());
            prop_assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + b.abs())));
        }
    }
}
