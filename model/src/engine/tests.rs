//! Gradients against differences, cuts against the whole, known answers, training.

mod clipped;
mod fused;
mod support;

use proptest::prelude::*;

use super::train::{Batch, Differentiator};
use super::*;
use crate::cut::legal_cuts;
use crate::spec::{Input, ModelSpec, Node};
use crate::tensor::Tensor;
use support::{Data, OPS, cnn, mlp, plan, spec};

/// Gradient of one batch from a chosen implementation.
fn gradient(
    differentiator: &mut Differentiator<'_>,
    spec: &CheckedSpec,
    values: &[f32],
    data: &Data,
) -> (f64, Vec<f32>) {
    let objective = Objective::new(&plan("mse", ""), spec.output_width()).unwrap();
    let rows = data.x.len() / spec.input_width();
    let batch = Batch { x: &data.x, y: &data.y, weights: None, rows };
    let mut gradient = vec![0.0; spec.layout().trainable()];
    let loss = differentiator.gradient(values, &batch, &objective, &mut gradient);
    (loss.mean(), gradient)
}

/// Central differences of the loss, in every trainable parameter.
fn differences(spec: &CheckedSpec, values: &[f32], data: &Data) -> Vec<f64> {
    let step = 2e-3f32;
    let loss_at = |values: &[f32]| {
        let params = Params::from_values(spec.layout(), values.to_vec()).unwrap();
        let engine = Engine::load(spec, &params).unwrap();
        engine.evaluate(&data.view(), &plan("mse", "")).unwrap().loss.mean()
    };
    (0..spec.layout().trainable())
        .map(|i| {
            let mut moved = values.to_vec();
            moved[i] = values[i] + step;
            let above = loss_at(&moved);
            moved[i] = values[i] - step;
            (above - loss_at(&moved)) / f64::from(2.0 * step)
        })
        .collect()
}

#[test]
fn gradients_of_every_operation_agree_with_differences() {
    for text in OPS {
        let spec = spec(text);
        let params = support::busy(&spec);
        let data = Data::regression(&spec, 3);
        let mut differentiator = Differentiator::new(Choice::Automatic, &spec, 3);
        let (_, found) = gradient(&mut differentiator, &spec, params.values(), &data);
        let wanted = differences(&spec, params.values(), &data);
        for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            let bound = 2e-3 * (1.0 + wanted.abs());
            assert!((f64::from(*found) - wanted).abs() < bound, "{text}\n{i}: {found} {wanted}");
        }
        assert!(found.iter().any(|g| g.abs() > 1e-3), "{text}: nothing to see");
    }
}

#[test]
fn the_fast_path_agrees_with_its_oracle() {
    for activation in ["relu", "tanh", "sigmoid"] {
        for rows in [1, 3, 4, 9] {
            let spec = mlp(13, 9, activation, 3);
            let params = Params::init(&spec, 3);
            let data = Data::regression(&spec, rows);
            let mut fast = Differentiator::new(Choice::Automatic, &spec, rows);
            assert!(matches!(fast, Differentiator::Fast(_)));
            let mut graph = Differentiator::Graph(graph::Differentiator::new(&spec));
            let (loss, found) = gradient(&mut fast, &spec, params.values(), &data);
            let (oracle_loss, oracle) = gradient(&mut graph, &spec, params.values(), &data);
            assert!((loss - oracle_loss).abs() < 1e-5);
            for (found, wanted) in found.iter().zip(&oracle) {
                assert!((found - wanted).abs() < 1e-5, "{activation} {rows}: {found} {wanted}");
            }
            let input = Boundary::from_rows(&spec, &data.x).unwrap();
            let engine = Engine::load(&spec, &params).unwrap();
            let answer = engine.forward(0..spec.n_nodes(), &input).unwrap();
            let oracle = graph::Loaded::new(&spec, params.values());
            let oracle = oracle.forward(&spec, 0..spec.n_nodes(), &input).unwrap();
            for (found, wanted) in answer.tensors()[0].data().iter().zip(oracle.tensors()[0].data())
            {
                assert!((found - wanted).abs() < 1e-5, "{found} {wanted}");
            }
        }
    }
}

#[test]
fn parts_one_after_another_equal_the_whole() {
    for spec in [mlp(6, 5, "relu", 2), cnn(), spec(OPS[0])] {
        let params = support::busy(&spec);
        let engine = Engine::load(&spec, &params).unwrap();
        let data = Data::regression(&spec, 5);
        let input = Boundary::from_rows(&spec, &data.x).unwrap();
        let n = spec.n_nodes();
        let whole = engine.forward(0..n, &input).unwrap();
        for position in 1..n {
            let between = engine.forward(0..position, &input).unwrap();
            let parts = engine.forward(position..n, &between).unwrap();
            for (part, whole) in parts.tensors()[0].data().iter().zip(whole.tensors()[0].data()) {
                assert!((part - whole).abs() <= 1e-6, "cut at {position}");
            }
        }
        for cut in legal_cuts(&spec) {
            let head = engine.forward(cut.head(), &input).unwrap();
            assert!(engine.forward(cut.tail(), &head).is_ok_and(|answer| answer.batch() == 5));
        }
        let outputs = engine.outputs(&data.x).unwrap();
        assert_eq!(outputs, whole.tensors()[0].data());
    }
}

/// A row's answer has the same bits whatever rows it travels with, on the fast path.
#[test]
fn fast_answers_do_not_depend_on_the_batch() {
    let spec = mlp(37, 11, "relu", 3);
    let engine = Engine::load(&spec, &Params::init(&spec, 1)).unwrap();
    let data = Data::regression(&spec, 9);
    let together = engine.outputs(&data.x).unwrap();
    let alone: Vec<f32> = data.x.chunks(37).flat_map(|row| engine.outputs(row).unwrap()).collect();
    assert_eq!(together, alone);
}

#[test]
fn convolution_and_pools_known_answers() {
    let run = |op: &str, shape: &str, values: &[f32], x: &[f32]| {
        let text = format!(
            r#"{{"name":"m","inputs":[{{"name":"x","shape":{shape}}}],
            "nodes":[{{"name":"n","op":{op},"inputs":["x"]}}]}}"#
        );
        let spec = spec(&text);
        let params = Params::from_values(spec.layout(), values.to_vec()).unwrap();
        Engine::load(&spec, &params).unwrap().outputs(x).unwrap()
    };
    let nine: Vec<f32> = (1..=9).map(|i| i as f32).collect();
    let conv = |rest: &str| format!(r#"{{"conv2d":{{"kernel":[2,2],{rest}}}}}"#);
    // Cross-correlation, as everywhere in deep learning: the kernel is not flipped.
    let found = run(&conv(r#""channels":1"#), "[1,3,3]", &[1.0, 2.0, 3.0, 4.0, 0.5], &nine);
    assert_eq!(found, [37.5, 47.5, 67.5, 77.5]);
    let padded = conv(r#""channels":1,"padding":[1,1],"stride":[2,2],"bias":false"#);
    assert_eq!(run(&padded, "[1,3,3]", &[1.0, 2.0, 3.0, 4.0], &nine), [4.0, 18.0, 36.0, 77.0]);
    // Two groups: each output channel sees one input channel only.
    let grouped = conv(r#""channels":2,"groups":2,"bias":false"#);
    let weights = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    assert_eq!(run(&grouped, "[2,2,2]", &weights, &x), [1.0, 8.0]);
    let pool = |name: &str| format!(r#"{{"{name}":{{"kernel":[2,2],"stride":[1,1]}}}}"#);
    assert_eq!(run(&pool("max_pool2d"), "[1,3,3]", &[], &nine), [5.0, 6.0, 8.0, 9.0]);
    assert_eq!(run(&pool("avg_pool2d"), "[1,3,3]", &[], &nine), [3.0, 4.0, 6.0, 7.0]);
    let negative: Vec<f32> = nine.iter().map(|x| -x).collect();
    let padded = r#"{"max_pool2d":{"kernel":[2,2],"stride":[2,2],"padding":[1,1]}}"#;
    assert_eq!(run(padded, "[1,3,3]", &[], &negative), [-1.0, -2.0, -4.0, -5.0]);
    assert_eq!(run(r#""global_avg_pool""#, "[1,3,3]", &[], &nine), [5.0]);
}

#[test]
fn norms_and_activations_known_answers() {
    let run = |op: &str, values: &[f32], x: &[f32]| {
        let text = format!(
            r#"{{"name":"m","inputs":[{{"name":"x","shape":[4]}}],
            "nodes":[{{"name":"n","op":{op},"inputs":["x"]}}]}}"#
        );
        let spec = spec(&text);
        let params = Params::from_values(spec.layout(), values.to_vec()).unwrap();
        Engine::load(&spec, &params).unwrap().outputs(x).unwrap()
    };
    let close = |found: Vec<f32>, wanted: [f32; 4]| {
        assert!(
            found.iter().zip(wanted).all(|(f, w)| (f - w).abs() < 1e-5),
            "{found:?} {wanted:?}"
        );
    };
    let x = [-1.0, 0.0, 1.0, 2.0];
    let (ones, zeros) = ([1.0; 4], [0.0; 4]);
    let root = 1.25f32.sqrt();
    let normal = [-1.5 / root, -0.5 / root, 0.5 / root, 1.5 / root];
    close(run(r#"{"layer_norm":{"eps":1e-12}}"#, &[ones, zeros].concat(), &x), normal);
    let group = r#"{"group_norm":{"groups":1,"eps":1e-12}}"#;
    close(run(group, &[ones, zeros].concat(), &x), normal);
    let halves = r#"{"group_norm":{"groups":2,"eps":1e-12}}"#;
    close(run(halves, &[[2.0; 4], ones].concat(), &x), [-1.0, 3.0, -1.0, 3.0]);
    let frozen = [[2.0; 4], ones, ones, [4.0; 4]].concat();
    close(run(r#"{"batch_norm":{"eps":1e-12}}"#, &frozen, &x), [-1.0, 0.0, 1.0, 2.0]);
    close(run(r#""relu""#, &[], &x), [0.0, 0.0, 1.0, 2.0]);
    close(run(r#""gelu""#, &[], &x), [-0.158_655, 0.0, 0.841_345, 1.954_5]);
    close(run(r#""silu""#, &[], &x), [-0.268_941, 0.0, 0.731_059, 1.761_594]);
    close(run(r#""sigmoid""#, &[], &x), [0.268_941, 0.5, 0.731_059, 0.880_797]);
    close(run(r#""tanh""#, &[], &x), [-0.761_594, 0.0, 0.761_594, 0.964_028]);
    close(run(r#""softmax""#, &[], &x), [0.032_059, 0.087_144, 0.236_883, 0.643_914]);
}

#[test]
fn a_negative_variance_is_refused() {
    let spec = spec(
        r#"{"name":"m","inputs":[{"name":"x","shape":[1]}],
        "nodes":[{"name":"bn","op":{"batch_norm":{}},"inputs":["x"]}]}"#,
    );
    let params = Params::from_values(spec.layout(), vec![1.0, 0.0, 0.0, -1.0]).unwrap();
    let error = Engine::load(&spec, &params).err();
    assert_eq!(error, Some(EngineError::Variance { name: "bn.running_var".into() }));
}

#[test]
fn wrong_ranges_and_boundaries_are_refused() {
    let spec = mlp(3, 4, "relu", 2);
    let engine = Engine::load(&spec, &Params::init(&spec, 1)).unwrap();
    let tensor = |shape: &[usize]| {
        Boundary::new(vec![Tensor::new(shape.to_vec(), vec![0.0; shape.iter().product()]).unwrap()])
            .unwrap()
    };
    for (start, end) in [(0, 4), (3, 3), (2, 1), (5, 6), (usize::MAX - 1, usize::MAX)] {
        let error = engine.forward(Range { start, end }, &tensor(&[1, 3])).err();
        assert!(matches!(error, Some(EngineError::Range { .. })), "{error:?}");
    }
    for shape in [&[1, 4][..], &[1, 3, 1], &[2]] {
        let error = engine.forward(0..3, &tensor(shape)).err();
        assert!(matches!(error, Some(EngineError::Shape(_))), "{error:?}");
    }
    assert!(engine.outputs(&[0.0; 4]).is_err());
    assert!(engine.outputs(&[]).is_err());
    let nan = engine.outputs(&[f32::NAN, 0.0, 0.0]).unwrap();
    assert!(nan.iter().all(|value| value.is_nan() || value.is_finite()));
}

fn options(stop: &dyn Fn() -> bool) -> TrainOptions<'_> {
    TrainOptions { seed: 5, round: 0, stop }
}

fn go(spec: &CheckedSpec, data: &Data, plan: &TrainingPlan) -> TrainOutcome {
    train(spec, &Params::init(spec, 1), &data.view(), plan, &options(&|| false)).unwrap()
}

#[test]
fn networks_learn() {
    for (spec, data, extra) in [
        (mlp(8, 16, "relu", 2), Data::two_classes(8, 60), "optimizer = \"sgd\""),
        (mlp(8, 16, "tanh", 2), Data::two_classes(8, 60), "optimizer = { momentum = {} }"),
        (cnn(), Data::two_classes(2 * 6 * 6, 40), "optimizer = { adam = {} }"),
    ] {
        let mut plan = plan("cross_entropy", extra);
        plan.epochs = 12;
        plan.learning_rate = if extra.contains("adam") { 0.01 } else { 0.05 };
        let start = Params::init(&spec, 1);
        let before = Engine::load(&spec, &start).unwrap().evaluate(&data.view(), &plan).unwrap();
        let outcome = go(&spec, &data, &plan);
        let end = start.stepped(spec.layout(), outcome.delta.values()).unwrap();
        let after = Engine::load(&spec, &end).unwrap().evaluate(&data.view(), &plan).unwrap();
        let (before, after) = (before.loss.mean(), after.loss.mean());
        assert!(after < before / 3.0, "{extra}: {before} to {after}");
        let rows = u32::try_from(data.y.len()).unwrap();
        assert_eq!((outcome.rows, outcome.stopped), (rows, false));
        assert_eq!(outcome.steps, 12 * rows.div_ceil(8));
        assert!(outcome.mean_loss > after && outcome.mean_loss < before);
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_in_any_thread() {
    for (spec, data) in
        [(mlp(8, 16, "relu", 2), Data::two_classes(8, 60)), (cnn(), Data::two_classes(72, 30))]
    {
        let plan = plan("cross_entropy", "class_weights = [1.0, 2.0]");
        let first = go(&spec, &data, &plan);
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..2).map(|_| scope.spawn(|| go(&spec, &data, &plan))).collect();
            for run in runs {
                assert!(run.join().unwrap().delta.values() == first.delta.values());
            }
        });
        let other = TrainOptions { seed: 6, ..options(&|| false) };
        let start = Params::init(&spec, 1);
        let other = train(&spec, &start, &data.view(), &plan, &other).unwrap();
        assert!(other.delta.values() != first.delta.values());
    }
}

#[test]
fn stopping_is_asked_before_every_step() {
    let (spec, data) = (mlp(8, 4, "relu", 2), Data::two_classes(8, 64));
    let asked = std::cell::Cell::new(0u32);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 3
    };
    let plan = plan("cross_entropy", "");
    let start = Params::init(&spec, 1);
    let outcome = train(&spec, &start, &data.view(), &plan, &options(&stop)).unwrap();
    assert_eq!((outcome.steps, outcome.stopped), (3, true));
    let outcome = train(&spec, &start, &data.view(), &plan, &options(&|| true)).unwrap();
    assert!(outcome.stopped && outcome.delta.values().iter().all(|d| *d == 0.0));
}

#[test]
fn buffers_do_not_move_and_the_pull_back_works() {
    let (spec, data) = (cnn(), Data::two_classes(72, 16));
    let free = go(&spec, &data, &plan("cross_entropy", ""));
    assert_eq!(free.delta.values().len(), spec.layout().trainable());
    assert!(spec.layout().trainable() < spec.layout().len());
    let held = go(&spec, &data, &plan("cross_entropy", "proximal_mu = 5.0"));
    let length = |outcome: &TrainOutcome| {
        outcome.delta.values().iter().map(|d| f64::from(d * d)).sum::<f64>().sqrt()
    };
    assert!(length(&held) < 0.8 * length(&free), "{} {}", length(&held), length(&free));
}

#[test]
fn row_weights_are_repetition() {
    let spec = mlp(8, 4, "relu", 2);
    let data = Data::two_classes(8, 4);
    let mut plan = plan("cross_entropy", "");
    plan.epochs = 1;
    let weighted = TrainData { weights: Some(&[2.0, 0.0, 1.0, 1.0]), ..data.view() };
    let picked = [0usize, 0, 2, 3];
    let repeated = Data {
        x: picked.iter().flat_map(|&row| data.x[row * 8..][..8].to_vec()).collect(),
        y: picked.iter().map(|&row| data.y[row]).collect(),
    };
    let start = Params::init(&spec, 1);
    let weighted = train(&spec, &start, &weighted, &plan, &options(&|| false)).unwrap();
    let repeated = train(&spec, &start, &repeated.view(), &plan, &options(&|| false)).unwrap();
    assert!((weighted.mean_loss - repeated.mean_loss).abs() < 1e-6);
    for (a, b) in weighted.delta.values().iter().zip(repeated.delta.values()) {
        assert!((a - b).abs() < 1e-6);
    }
}

#[test]
fn divergence_is_an_error_and_no_update() {
    let (spec, data) = (mlp(8, 4, "relu", 2), Data::two_classes(8, 32));
    let mut plan = plan("mse", "");
    plan.learning_rate = 100.0;
    plan.epochs = 50;
    let y = vec![1.0; 64];
    let data = TrainData { y: &y, ..data.view() };
    let outcome = train(&spec, &Params::init(&spec, 1), &data, &plan, &options(&|| false));
    assert!(matches!(outcome.err(), Some(EngineError::Diverged { .. })));
}

#[test]
fn a_model_without_parameters_trains_to_nothing() {
    let spec = spec(
        r#"{"name":"m","inputs":[{"name":"x","shape":[2]}],
        "nodes":[{"name":"a","op":"gelu","inputs":["x"]}]}"#,
    );
    let outcome = go(&spec, &Data::two_classes(2, 4), &plan("cross_entropy", ""));
    assert!(outcome.delta.values().is_empty());
}

#[test]
fn engines_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Engine>();
}

/// Five models on burn's older back end, against the answers and gradients of what ships.
#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "being the older back end is what makes it a second opinion")]
#[test]
fn a_second_back_end_agrees() {
    for spec in [cnn(), mlp(13, 9, "tanh", 3), spec(OPS[0]), spec(OPS[1]), spec(OPS[2])] {
        let params = support::busy(&spec);
        let data = Data::regression(&spec, 4);
        let other = burn::tensor::Device::ndarray();
        let mut other = Differentiator::Graph(graph::Differentiator::on(other, &spec));
        let (loss, found) = gradient(&mut other, &spec, params.values(), &data);
        let mut own = Differentiator::new(Choice::Automatic, &spec, 4);
        let (own_loss, wanted) = gradient(&mut own, &spec, params.values(), &data);
        assert!((loss - own_loss).abs() < 1e-4);
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!((found - wanted).abs() < 1e-4 * (1.0 + wanted.abs()), "{found} {wanted}");
        }
    }
}

/// One node on an image with any small settings, good or bad.
fn any_op() -> impl Strategy<Value = Op> {
    let pair = || [1usize..4, 1usize..4];
    let padding = || [0usize..2, 0usize..2];
    let conv = (1usize..7, pair(), pair(), padding(), 1usize..3, any::<bool>());
    prop_oneof![
        conv.prop_map(|(channels, kernel, stride, padding, groups, bias)| Op::Conv2d {
            channels,
            kernel,
            stride,
            padding,
            groups,
            bias
        }),
        (pair(), pair(), pair()).prop_map(|(kernel, stride, padding)| Op::MaxPool2d {
            kernel,
            stride,
            padding
        }),
        (pair(), pair()).prop_map(|(kernel, stride)| Op::AvgPool2d { kernel, stride }),
        (1usize..4).prop_map(|groups| Op::GroupNorm { groups, eps: 1e-5 }),
        (0usize..7).prop_map(|units| Op::Linear { units, bias: true }),
        prop::sample::select(vec![
            Op::GlobalAvgPool,
            Op::BatchNorm { eps: 1e-5 },
            Op::LayerNorm { eps: 1e-5 },
            Op::Softmax,
            Op::Gelu,
            Op::Flatten,
            Op::Reshape { shape: vec![6, 4] },
        ]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// What the check lets pass runs, forward and backward, with the inferred shapes.
    #[test]
    fn checked_models_never_panic(
        ops in prop::collection::vec(any_op(), 1..4),
        shape in [1usize..5, 1usize..7, 1usize..7],
        rows in 1usize..4,
    ) {
        let mut before = "x".to_owned();
        let mut nodes = Vec::new();
        for (index, op) in ops.into_iter().enumerate() {
            let name = format!("n{index}");
            nodes.push(Node { inputs: vec![before], op, name: name.clone() });
            before = name;
        }
        let inputs = vec![Input { name: "x".into(), shape: shape.to_vec() }];
        let model = |n: usize| {
            let (inputs, nodes) = (inputs.clone(), nodes[..n].to_vec());
            ModelSpec { name: "m".into(), inputs, nodes }.check().ok()
        };
        // The longest part that is sound.
        let Some(spec) = (1..=nodes.len()).rev().find_map(model) else { return Ok(()) };
        let params = support::busy(&spec);
        let data = Data::regression(&spec, rows);
        let outputs = Engine::load(&spec, &params).unwrap().outputs(&data.x).unwrap();
        prop_assert_eq!(outputs.len(), rows * spec.output_width());
        let mut differentiator = Differentiator::new(Choice::Automatic, &spec, rows);
        let (loss, gradient) = gradient(&mut differentiator, &spec, params.values(), &data);
        prop_assert!(loss.is_finite() && gradient.iter().all(|g| g.is_finite()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Large batches are run in pieces; nobody notices.
    #[test]
    fn stacked_rows_come_apart_again(rows in 1usize..6, at in 0usize..5) {
        let spec = mlp(3, 4, "relu", 2);
        let data = Data::regression(&spec, rows);
        let whole = Boundary::from_rows(&spec, &data.x).unwrap();
        let at = at.min(rows - 1);
        let head = whole.rows(0..at + 1).unwrap();
        let stacked = match whole.rows(at + 1..rows) {
            Ok(tail) => Boundary::stack(&[&head, &tail]).unwrap(),
            Err(_) => head,
        };
        prop_assert!(stacked == whole);
    }
}
