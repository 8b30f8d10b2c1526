//! What per-row clipping costs: one step's clipped sum beside one ordinary step on the same rows, in
//! turn, so that whatever else runs on the machine slows both.
//!
//! `cargo run --release -p koinon-model --example clipped_rows`

use std::hint::black_box;
use std::time::{Duration, Instant};

use koinon_model::engine::{Picked, TrainOptions, clipped_sum, train};
use koinon_model::loss::TrainData;
use koinon_model::params::Params;
use koinon_model::plan::TrainingPlan;
use koinon_model::spec::ModelSpec;

const ROWS: u32 = 64;
const TURNS: usize = 2_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (name, nodes) in [
        (
            "MLP 255-64-2",
            r#"{"name":"a","op":{"linear":{"units":64}},"inputs":["x"]},
            {"name":"r","op":"relu","inputs":["a"]},
            {"name":"b","op":{"linear":{"units":2}},"inputs":["r"]}"#,
        ),
        ("logistic 255-2", r#"{"name":"a","op":{"linear":{"units":2}},"inputs":["x"]}"#),
    ] {
        let json =
            format!(r#"{{"name":"m","inputs":[{{"name":"x","shape":[255]}}],"nodes":[{nodes}]}}"#);
        let spec = ModelSpec::from_json(json.as_bytes())?.check()?;
        let plan = TrainingPlan::from_toml(
            "epochs = 1\nbatch_size = 64\nlearning_rate = 0.1\nloss = \"cross_entropy\"\n",
        )?;
        let params = Params::init(&spec, 1);
        let x: Vec<f32> =
            (0..ROWS * 255).map(|i| ((i * 7_919) % 1_009) as f32 / 505.0 - 1.0).collect();
        let y: Vec<f32> = (0..ROWS).map(|row| (row % 2) as f32).collect();
        let data = TrainData { x: &x, y: &y, weights: None };
        let options = TrainOptions { seed: 1, round: 0, stop: &|| false };

        let (mut ordinary, mut clipped) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let start = Instant::now();
            black_box(train(&spec, &params, &data, &plan, &options)?.delta.values());
            ordinary.push(start.elapsed());
            let start = Instant::now();
            let mut picked = Picked { rows: &mut (0..ROWS), clip: 0.5, stop: &|| false };
            black_box(clipped_sum(&spec, &params, &data, &plan, &mut picked)?.gradient.as_slice());
            clipped.push(start.elapsed());
        }
        let (ordinary, clipped) = (median(ordinary), median(clipped));
        let ratio = clipped.as_secs_f64() / ordinary.as_secs_f64();
        #[expect(clippy::print_stdout, reason = "an example speaks to whoever runs it")]
        {
            println!(
                "{name}, {ROWS} rows: step {ordinary:?}, clipped sum {clipped:?}, {ratio:.2} x"
            );
        }
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
