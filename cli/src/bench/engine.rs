//! What the engine takes to answer and to train: CPU time of one core, on random rows. Speed does not
//! depend on what the numbers are.
//!
//! It compares with nobody: `benches/peers/` runs this and other programs in turns. Start at [`run`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use koinon_model::engine::compiled::{Compiled, Weights};
use koinon_model::engine::{TrainOptions, train};
use koinon_model::loss::TrainData;
use koinon_model::onnx;
use koinon_model::params::Params;
use koinon_model::plan::TrainingPlan;
use koinon_model::program::{CheckedProgram, DType, Data, Value};
use koinon_model::spec::ModelSpec;
use serde::Serialize;

use super::cpu;

/// One figure: list of these is what a machine reads.
#[derive(Serialize)]
pub(crate) struct Measure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    limit: Option<f64>,
}

/// McMahan et al. 2017: 1,663,370 and 199,210 parameters.
const NETWORKS: [(&str, &str); 2] = [
    (
        "cnn",
        r#"{"name":"cnn","inputs":[{"name":"x","shape":[1,28,28]}],"nodes":[
        {"name":"c1","op":{"conv2d":{"channels":32,"kernel":[5,5],"padding":[2,2]}},"inputs":["x"]},
        {"name":"r1","op":"relu","inputs":["c1"]},
        {"name":"p1","op":{"max_pool2d":{"kernel":[2,2],"stride":[2,2]}},"inputs":["r1"]},
        {"name":"c2","op":{"conv2d":{"channels":64,"kernel":[5,5],"padding":[2,2]}},"inputs":["p1"]},
        {"name":"r2","op":"relu","inputs":["c2"]},
        {"name":"p2","op":{"max_pool2d":{"kernel":[2,2],"stride":[2,2]}},"inputs":["r2"]},
        {"name":"f","op":"flatten","inputs":["p2"]},
        {"name":"l1","op":{"linear":{"units":512}},"inputs":["f"]},
        {"name":"r3","op":"relu","inputs":["l1"]},
        {"name":"l2","op":{"linear":{"units":10}},"inputs":["r3"]}]}"#,
    ),
    (
        "2nn",
        r#"{"name":"2nn","inputs":[{"name":"x","shape":[784]}],"nodes":[
        {"name":"l1","op":{"linear":{"units":200}},"inputs":["x"]},
        {"name":"r1","op":"relu","inputs":["l1"]},
        {"name":"l2","op":{"linear":{"units":200}},"inputs":["r1"]},
        {"name":"r2","op":"relu","inputs":["l2"]},
        {"name":"l3","op":{"linear":{"units":10}},"inputs":["r2"]}]}"#,
    ),
];

/// Measures each file at each batch, and training of the built-in networks if it is asked for.
pub(crate) fn run(
    files: &[PathBuf],
    batches: &[usize],
    training: bool,
    each: Duration,
) -> anyhow::Result<Vec<Measure>> {
    let mut all = Vec::new();
    let mut add = |name: String, value: f64| {
        all.push(Measure { name, value, unit: "us", limit: None });
    };
    for file in files {
        let stem = file.file_stem().map_or("model".into(), |stem| stem.to_string_lossy());
        let program = read(file)?;
        let weights = Weights::new(&program);
        let whole = Compiled::new(Arc::clone(&program), 0..program.n_nodes(), &weights);
        for &batch in batches {
            let inputs = inputs(&program, batch)?;
            whole
                .run(inputs.clone())
                .with_context(|| format!("{} does not run", file.display()))?;
            let mut given = inputs.clone();
            let seconds = middle(each, || {
                let answer = whole.run(std::mem::replace(&mut given, inputs.clone()));
                drop(answer);
            });
            add(format!("infer_{stem}_b{batch}"), seconds * 1e6);
        }
    }
    if training {
        for (network, batch) in [("cnn", 10), ("cnn", 32), ("2nn", 10)] {
            add(format!("train_{network}_b{batch}_row"), train_row(network, batch, each)? * 1e6);
        }
    }
    Ok(all)
}

fn read(file: &Path) -> anyhow::Result<Arc<CheckedProgram>> {
    let bytes = std::fs::read(file).with_context(|| format!("while reading {}", file.display()))?;
    let read =
        onnx::import(&bytes, &|_, _, _| Err("tensors beside the model are not read".into()))?;
    Ok(Arc::new(read.program.check(read.constants)?))
}

/// Values for the inputs; an axis without a length is the batch.
fn inputs(program: &CheckedProgram, batch: usize) -> anyhow::Result<Vec<Value>> {
    let one = |port: &koinon_model::program::Port| {
        let shape = port.shape.as_ref().with_context(|| format!("`{}` has no shape", port.name))?;
        let shape: Vec<usize> = shape.iter().map(|side| side.unwrap_or(batch)).collect();
        let len: usize = shape.iter().product();
        let data = match port.dtype {
            DType::I64 => Data::I64((0..len).map(|i| (i * 31 % 1000) as i64).collect()),
            _ => Data::F32((0..len).map(|i| (i % 13) as f32 * 0.1 - 0.5).collect()),
        };
        Ok(Value::new(shape, data)?)
    };
    program.program().inputs.iter().map(one).collect()
}

/// The middle CPU time of a piece of work that is done again and again for so long, in seconds.
fn middle(each: Duration, mut work: impl FnMut()) -> f64 {
    work();
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 5 || start.elapsed() < each {
        times.push(cpu::timed(&mut work).1.as_secs_f64());
    }
    cpu::median(&mut times)
}

/// CPU time of training for one row, in seconds.
fn train_row(network: &str, batch: u32, each: Duration) -> anyhow::Result<f64> {
    let text = NETWORKS.iter().find(|(name, _)| *name == network).map_or("", |(_, text)| text);
    let spec = ModelSpec::from_json(text.as_bytes())?.check()?;
    let plan = format!(
        r#"{{"epochs":1,"batch_size":{batch},"learning_rate":0.01,"loss":"cross_entropy"}}"#
    );
    let plan = TrainingPlan::from_json(plan.as_bytes())?;
    let (start, rows) = (Params::init(&spec, 1), if network == "cnn" { 320 } else { 4000 });
    let x: Vec<f32> = (0..rows * 784).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
    let y: Vec<f32> = (0..rows).map(|i| (i % 10) as f32).collect();
    let data = TrainData { x: &x, y: &y, weights: None };
    let options = TrainOptions { seed: 1, round: 0, stop: &|| false };
    train(&spec, &start, &data, &plan, &options)?;
    let seconds = middle(each, || {
        let outcome = train(&spec, &start, &data, &plan, &options);
        drop(outcome);
    });
    Ok(seconds / rows as f64)
}
