//! Small models and small data for the engine's tests.

use rand_chacha::rand_core::Rng;

use crate::loss::TrainData;
use crate::params::{Params, stream};
use crate::plan::TrainingPlan;
use crate::spec::{CheckedSpec, ModelSpec};

pub(super) fn spec(json: &str) -> CheckedSpec {
    ModelSpec::from_json(json.as_bytes()).and_then(ModelSpec::check).unwrap()
}

pub(super) fn plan(loss: &str, extra: &str) -> TrainingPlan {
    let text =
        format!("epochs = 2\nbatch_size = 8\nlearning_rate = 0.05\nloss = \"{loss}\"\n{extra}");
    TrainingPlan::from_toml(&text).unwrap()
}

pub(super) fn mlp(input: usize, hidden: usize, activation: &str, output: usize) -> CheckedSpec {
    spec(&format!(
        r#"{{"name":"mlp","inputs":[{{"name":"x","shape":[{input}]}}],"nodes":[
        {{"name":"fc1","op":{{"linear":{{"units":{hidden}}}}},"inputs":["x"]}},
        {{"name":"act1","op":"{activation}","inputs":["fc1"]}},
        {{"name":"fc2","op":{{"linear":{{"units":{output}}}}},"inputs":["act1"]}}]}}"#
    ))
}

/// Two channels of 6 x 6, a residual block, every norm, two classes.
pub(super) fn cnn() -> CheckedSpec {
    spec(
        r#"{"name":"cnn","inputs":[{"name":"x","shape":[2,6,6]}],"nodes":[
        {"name":"stem","op":{"conv2d":{"channels":4,"kernel":[3,3],"padding":[1,1]}},"inputs":["x"]},
        {"name":"gn","op":{"group_norm":{"groups":2}},"inputs":["stem"]},
        {"name":"act","op":"relu","inputs":["gn"]},
        {"name":"body","op":{"conv2d":{"channels":4,"kernel":[3,3],"padding":[1,1],"bias":false}},"inputs":["act"]},
        {"name":"bn","op":{"batch_norm":{}},"inputs":["body"]},
        {"name":"sum","op":"add","inputs":["bn","act"]},
        {"name":"pool","op":{"max_pool2d":{"kernel":[2,2],"stride":[2,2]}},"inputs":["sum"]},
        {"name":"flat","op":"flatten","inputs":["pool"]},
        {"name":"ln","op":{"layer_norm":{}},"inputs":["flat"]},
        {"name":"fc","op":{"linear":{"units":2}},"inputs":["ln"]}]}"#,
    )
}

/// Models that have every operation between them; each ends in numbers to regress.
pub(super) const OPS: [&str; 5] = [
    // Two inputs, concat of images, pools, a residual, groups.
    r#"{"name":"a","inputs":[{"name":"x","shape":[2,4,4]},{"name":"z","shape":[3]}],"nodes":[
    {"name":"c1","op":{"conv2d":{"channels":4,"kernel":[3,3],"padding":[1,1],"groups":2}},"inputs":["x"]},
    {"name":"g","op":{"group_norm":{"groups":2}},"inputs":["c1"]},
    {"name":"s","op":"silu","inputs":["g"]},
    {"name":"cat","op":{"concat":{"axis":0}},"inputs":["s","x"]},
    {"name":"avg","op":{"avg_pool2d":{"kernel":[2,2],"stride":[2,2]}},"inputs":["cat"]},
    {"name":"flat","op":"global_avg_pool","inputs":["avg"]},
    {"name":"join","op":{"concat":{"axis":0}},"inputs":["flat","z"]},
    {"name":"fc","op":{"linear":{"units":3}},"inputs":["join"]},
    {"name":"sum","op":"add","inputs":["fc","z","fc"]}]}"#,
    // Strides, frozen statistics, a pool that keeps its largest value.
    r#"{"name":"b","inputs":[{"name":"x","shape":[2,5,5]}],"nodes":[
    {"name":"c1","op":{"conv2d":{"channels":3,"kernel":[2,2],"stride":[1,2],"padding":[1,0]}},"inputs":["x"]},
    {"name":"bn","op":{"batch_norm":{}},"inputs":["c1"]},
    {"name":"t","op":"tanh","inputs":["bn"]},
    {"name":"max","op":{"max_pool2d":{"kernel":[2,2],"stride":[2,1],"padding":[1,0]}},"inputs":["t"]},
    {"name":"flat","op":"flatten","inputs":["max"]},
    {"name":"fc","op":{"linear":{"units":2}},"inputs":["flat"]}]}"#,
    // A sequence: linear over the last axis, layer norm, softmax, concat along a later axis.
    r#"{"name":"c","inputs":[{"name":"x","shape":[3,4]}],"nodes":[
    {"name":"fc1","op":{"linear":{"units":4}},"inputs":["x"]},
    {"name":"ln","op":{"layer_norm":{}},"inputs":["fc1"]},
    {"name":"ge","op":"gelu","inputs":["ln"]},
    {"name":"so","op":"softmax","inputs":["fc1"]},
    {"name":"cat","op":{"concat":{"axis":1}},"inputs":["ge","so"]},
    {"name":"re","op":{"reshape":{"shape":[2,12]}},"inputs":["cat"]},
    {"name":"fc2","op":{"linear":{"units":2,"bias":false}},"inputs":["re"]}]}"#,
    // The fast path's operations.
    r#"{"name":"d","inputs":[{"name":"x","shape":[5]}],"nodes":[
    {"name":"fc1","op":{"linear":{"units":6}},"inputs":["x"]},
    {"name":"t","op":"tanh","inputs":["fc1"]},
    {"name":"flat","op":"flatten","inputs":["t"]},
    {"name":"fc2","op":{"linear":{"units":4,"bias":false}},"inputs":["flat"]},
    {"name":"s","op":"sigmoid","inputs":["fc2"]},
    {"name":"fc3","op":{"linear":{"units":2}},"inputs":["s"]}]}"#,
    // A norm right behind the input, a sigmoid on the general engine.
    r#"{"name":"e","inputs":[{"name":"x","shape":[6]}],"nodes":[
    {"name":"gn","op":{"group_norm":{"groups":2}},"inputs":["x"]},
    {"name":"fc1","op":{"linear":{"units":4}},"inputs":["gn"]},
    {"name":"s","op":"sigmoid","inputs":["fc1"]},
    {"name":"sum","op":"add","inputs":["s","fc1"]}]}"#,
];

/// Values away from the special ones that fresh parameters have.
pub(super) fn busy(spec: &CheckedSpec) -> Params {
    let mut rng = stream("test", &[1]);
    let mut values = vec![0.0; spec.layout().len()];
    for entry in spec.layout().entries() {
        let positive = entry.name.ends_with("running_var");
        for value in &mut values[entry.range()] {
            let draw = normal(&mut rng) * 0.5;
            *value = if positive { 0.5 + draw.abs() } else { draw };
        }
    }
    Params::from_values(spec.layout(), values).unwrap()
}

/// Owned rows and labels.
pub(super) struct Data {
    pub(super) x: Vec<f32>,
    pub(super) y: Vec<f32>,
}

impl Data {
    pub(super) fn regression(spec: &CheckedSpec, rows: usize) -> Self {
        let mut rng = stream("test", &[2]);
        let mut draw = |n: usize| (0..n).map(|_| normal(&mut rng)).collect();
        Self { x: draw(rows * spec.input_width()), y: draw(rows * spec.output_width()) }
    }

    /// Two classes whose first half of the features differ in their mean.
    pub(super) fn two_classes(width: usize, rows: usize) -> Self {
        let mut rng = stream("test", &[3]);
        let y: Vec<f32> = (0..rows).map(|row| (row % 2) as f32).collect();
        let mut x = Vec::with_capacity(rows * width);
        for label in &y {
            let shift = |i: usize| if i < width / 2 { 2.0 * label - 1.0 } else { 0.0 };
            x.extend((0..width).map(|i| normal(&mut rng) + shift(i)));
        }
        Self { x, y }
    }

    pub(super) fn view(&self) -> TrainData<'_> {
        TrainData { x: &self.x, y: &self.y, weights: None }
    }
}

/// Nearly normal: the sum of twelve uniform draws.
fn normal(rng: &mut impl Rng) -> f32 {
    (0..12).map(|_| (rng.next_u32() >> 8) as f32 / 16_777_216.0).sum::<f32>() - 6.0
}
