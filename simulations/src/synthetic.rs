//! Tables made from a seed, with the plans that go with them: a quick experiment without any file.
//!
//! Two classes, normal in every column, apart along one direction. It is no stand-in for real data:
//! what separates federated from pooled there is skew between sites, and that comes from the
//! partition. Start at [`make`].

use crate::error::SimError;
use crate::population::{Table, normal};
use crate::scenario::{ArithmeticSettings, SyntheticSettings, merged_plan};
use crate::seeds::SeedTree;
use koinon_model::features::FeaturePlan;
use koinon_model::plan::TrainingPlan;
use koinon_model::spec::{CheckedSpec, ModelSpec};
use rand::RngExt;
use std::fmt::Write as _;

/// A table and the plans that go with it.
pub struct Made {
    /// Columns `x0`, `x1`, … and `label`.
    pub table: Table,
    /// Every column numeric and standardised.
    pub features: FeaturePlan,
    /// One hidden layer, two outputs.
    pub spec: CheckedSpec,
    /// Plain SGD.
    pub training: TrainingPlan,
}

/// Makes table and plans; `overrides` replaces keys of the training plan.
pub fn make(
    settings: &SyntheticSettings,
    overrides: &toml::Table,
    seed: u64,
) -> Result<Made, SimError> {
    let mut rng = SeedTree::new(seed).stream("synthetic");
    let columns = settings.columns;
    let direction: Vec<f64> = (0..columns).map(|_| normal(&mut rng)).collect();
    let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    let mut header: Vec<String> = (0..columns).map(|c| format!("x{c}")).collect();
    header.push("label".into());
    let mut rows = Vec::with_capacity(settings.rows);
    for _ in 0..settings.rows {
        let positive = rng.random_bool(settings.positives);
        let side = if positive { 0.5 } else { -0.5 } * settings.distance / length;
        let mut row: Vec<String> =
            direction.iter().map(|d| format!("{:.4}", normal(&mut rng) + side * d)).collect();
        row.push(u8::from(positive).to_string());
        rows.push(row);
    }
    let training = merged_plan(TRAINING, overrides).map_err(SimError::scenario)?;
    let spec = mlp(columns, Some(settings.hidden))?;
    Ok(Made { table: Table::new(header, rows)?, features: features(columns)?, spec, training })
}

/// Plans without a table, for runs whose sites answer with arithmetic alone.
pub fn plans(
    settings: &ArithmeticSettings,
) -> Result<(CheckedSpec, FeaturePlan, TrainingPlan), SimError> {
    let training = TrainingPlan::from_toml(TRAINING).map_err(SimError::model)?;
    Ok((mlp(settings.inputs, None)?, features(settings.inputs)?, training))
}

fn features(columns: usize) -> Result<FeaturePlan, SimError> {
    let mut text = String::from(FEATURES);
    for column in 0..columns {
        let _ = write!(
            text,
            "\n[[columns]]\nname = \"x{column}\"\ntype = \"numeric\"\nbounds = [-20, 20]\n"
        );
    }
    FeaturePlan::from_toml(&text).map_err(SimError::model)
}

fn mlp(inputs: usize, hidden: Option<usize>) -> Result<CheckedSpec, SimError> {
    let mut text =
        format!("name = \"synthetic\"\ninputs = [{{ name = \"x\", shape = [{inputs}] }}]\n");
    let mut from = "x";
    if let Some(units) = hidden {
        let _ = write!(
            text,
            "[[nodes]]\nname = \"hidden\"\nop = {{ linear = {{ units = {units} }} }}\n\
             inputs = [\"x\"]\n[[nodes]]\nname = \"relu\"\nop = \"relu\"\ninputs = [\"hidden\"]\n"
        );
        from = "relu";
    }
    let _ = write!(
        text,
        "[[nodes]]\nname = \"out\"\nop = {{ linear = {{ units = 2 }} }}\ninputs = [\"{from}\"]\n"
    );
    ModelSpec::from_toml(&text).and_then(ModelSpec::check).map_err(SimError::model)
}

const TRAINING: &str =
    "epochs = 1\nbatch_size = 16\nlearning_rate = 0.1\nloss = \"cross_entropy\"\n";

const FEATURES: &str = r#"
salt = "synthetic"
validation = 0.2
[label]
column = "label"
kind = "binary"
values = ["0", "1"]
"#;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn settings() -> SyntheticSettings {
        SyntheticSettings {
            rows: 600,
            columns: 6,
            distance: 1.5,
            positives: 0.4,
            hidden: 8,
            test_share: 0.3,
        }
    }

    #[test]
    fn a_seed_makes_the_same_table_and_about_the_share_of_positives() {
        let labels = |seed| {
            let made = make(&settings(), &toml::Table::new(), seed).unwrap();
            let labels = made.table.column("label").unwrap().join("");
            assert_eq!(made.spec.input_width(), made.features.width());
            labels
        };
        assert_eq!(labels(1), labels(1));
        assert_ne!(labels(1), labels(2));
        let positives = labels(1).matches('1').count();
        assert!((200..280).contains(&positives), "{positives}");
    }

    #[test]
    fn training_keys_can_be_replaced_and_wrong_ones_are_refused() {
        let replaced: toml::Table = toml::from_str("epochs = 4").unwrap();
        assert_eq!(make(&settings(), &replaced, 1).unwrap().training.epochs, 4);
        let wrong: toml::Table = toml::from_str("epoch = 4").unwrap();
        assert!(make(&settings(), &wrong, 1).err().unwrap().to_string().contains("epoch"));
    }
}
