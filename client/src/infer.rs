//! Local inference: raw rows in, probabilities out, without network.
//!
//! A version is its parameters *and* the feature plan and fitted statistics it was trained under, so
//! raw rows are all that is needed. It deliberately knows no cut and no peer; that is
//! [`crate::split`]. Start at [`LocalModel::load`].

use koinon_model::engine::{Engine, EngineError};
use koinon_model::features::fitted::FittedFeatures;
use koinon_model::features::prepare::{ImputationReport, Inputs, prepare_inputs};
use koinon_model::features::table::Table;
use koinon_model::features::{FeatureError, FeaturePlan};
use koinon_model::params::{FileError, Params};
use koinon_model::spec::{CheckedSpec, ModelSpec, SpecError};
use thiserror::Error;

/// The files of a version, as they were published.
#[derive(Clone, Copy)]
pub struct VersionFiles<'a> {
    /// The model spec, JSON.
    pub spec: &'a [u8],
    /// The parameters, safetensors.
    pub params: &'a [u8],
    /// The feature plan, JSON.
    pub features: &'a [u8],
    /// The fitted statistics, JSON.
    pub fitted: &'a [u8],
}

/// A version, ready to answer.
pub struct LocalModel {
    engine: Engine,
    features: FeaturePlan,
    fitted: FittedFeatures,
}

/// Probabilities of rows, and what was done to the cells.
pub struct Scores {
    /// The label's values; the order of each row's probabilities.
    pub classes: Vec<String>,
    /// For each row of the table one probability per class.
    pub rows: Vec<Vec<f32>>,
    /// What was missing or clamped.
    pub report: ImputationReport,
}

/// Why a version does not answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InferError {
    /// The model spec is not one.
    #[error("the version's spec: {0}")]
    Spec(#[from] SpecError),
    /// The parameters do not belong to the spec.
    #[error("the version's parameters: {0}")]
    Params(#[from] FileError),
    /// The feature plan, its statistics or the rows do not fit.
    #[error(transparent)]
    Features(#[from] FeatureError),
    /// The engine refuses.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The model's output is not one of the label's.
    #[error(
        "the model has {outputs} outputs, the label {classes} values: this is no classifier of that label"
    )]
    Outputs {
        /// The model's outputs.
        outputs: usize,
        /// The label's values.
        classes: usize,
    },
    /// The model's input is not what the feature plan makes.
    #[error(
        "the feature plan makes {made} inputs, the model takes {taken}: they are of different tasks"
    )]
    Inputs {
        /// Inputs that the plan makes.
        made: usize,
        /// Inputs that the model takes.
        taken: usize,
    },
}

impl LocalModel {
    /// Reads and checks a version.
    ///
    /// # Errors
    /// [`InferError`] names the file that does not fit.
    pub fn load(files: &VersionFiles<'_>) -> Result<Self, InferError> {
        let spec = ModelSpec::from_json(files.spec)?.check()?;
        let params = Params::from_safetensors(spec.layout(), files.params)?;
        let features = FeaturePlan::from_json(files.features)?;
        let fitted = FittedFeatures::from_canonical(&features, files.fitted)?;
        let (made, taken) = (features.width(), spec.input_width());
        if made != taken {
            return Err(InferError::Inputs { made, taken });
        }
        let (outputs, classes) = (spec.output_width(), features.label().values.len());
        if outputs != classes && (outputs, classes) != (1, 2) {
            return Err(InferError::Outputs { outputs, classes });
        }
        Ok(Self { engine: Engine::load(&spec, &params)?, features, fitted })
    }

    /// The plan by which raw rows are read.
    #[must_use]
    pub fn features(&self) -> &FeaturePlan {
        &self.features
    }

    /// The model, checked.
    #[must_use]
    pub fn spec(&self) -> &CheckedSpec {
        self.engine.spec()
    }

    /// The model's inputs for the rows of a table that was read by the version's feature plan, and
    /// what was done to the cells.
    ///
    /// # Errors
    /// [`InferError::Features`] for a table of another plan.
    pub fn inputs(&self, table: &Table) -> Result<(Inputs, ImputationReport), InferError> {
        Ok(prepare_inputs(table, &self.features, &self.fitted)?)
    }

    /// The model's raw outputs, row by row.
    ///
    /// # Errors
    /// [`InferError::Engine`].
    pub fn outputs(&self, inputs: &Inputs) -> Result<Vec<f32>, InferError> {
        Ok(self.engine.outputs(&inputs.x)?)
    }

    /// Probabilities for the rows of a table that was read by the version's feature plan.
    ///
    /// # Errors
    /// [`InferError::Features`] for a table of another plan, [`InferError::Engine`].
    pub fn scores(&self, table: &Table) -> Result<Scores, InferError> {
        let (inputs, report) = self.inputs(table)?;
        let outputs = self.outputs(&inputs)?;
        let width = self.engine.spec().output_width();
        let rows = outputs.chunks(width).map(probabilities).collect();
        Ok(Scores { classes: self.features.label().values.clone(), rows, report })
    }
}

/// Probabilities from one row's raw outputs: a logit of the second class, or one logit per class.
#[must_use]
pub fn probabilities(logits: &[f32]) -> Vec<f32> {
    if let [logit] = *logits {
        return probabilities(&[0.0, logit]);
    }
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - top).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use koinon_model::features::statistics::local_statistics;
    use koinon_model::features::table::Purpose;

    use super::*;
    use crate::features::{Mapping, read_table};
    use crate::source::ReadLimits;
    use crate::source::csv::{CsvOptions, CsvSource};

    const FEATURES: &str = "salt = \"t\"\nvalidation = 0.0\n[label]\ncolumn = \"l\"\n\
        kind = \"binary\"\nvalues = [\"no\", \"yes\"]\n[[columns]]\nname = \"a\"\n\
        type = \"numeric\"\nbounds = [0, 4]\n";

    fn table(plan: &FeaturePlan, text: &'static str, purpose: Purpose) -> Table {
        let reader = Box::new(text.as_bytes());
        let mut source =
            CsvSource::from_reader("r.csv".into(), reader, CsvOptions::default()).unwrap();
        read_table(&mut source, plan, &Mapping::default(), &ReadLimits::default(), purpose).unwrap()
    }

    fn spec(units: usize) -> Vec<u8> {
        format!(
            r#"{{"name":"m","inputs":[{{"name":"x","shape":[1]}}],"nodes":[
                {{"name":"fc","op":{{"linear":{{"units":{units}}}}},"inputs":["x"]}}]}}"#
        )
        .into_bytes()
    }

    #[test]
    fn raw_rows_get_probabilities_of_the_labels_values() {
        let plan = FeaturePlan::from_toml(FEATURES).unwrap();
        let learn = table(&plan, "a,l\n0,no\n4,yes\n2,no\n2,yes\n", Purpose::Learn);
        let sums = local_statistics(&plan, &learn).unwrap();
        let fitted = FittedFeatures::from_sums(&plan, &sums).unwrap().canonical_bytes();
        for units in [1, 2] {
            let spec = spec(units);
            let checked = ModelSpec::from_json(&spec).unwrap().check().unwrap();
            let params = Params::init(&checked, 3).to_safetensors(checked.layout()).unwrap();
            let features = plan.canonical_bytes();
            let files =
                VersionFiles { spec: &spec, params: &params, features: &features, fitted: &fitted };
            let model = LocalModel::load(&files).unwrap_or_else(|error| panic!("{error}"));
            let rows = table(model.features(), "a\n0\n\n9\n", Purpose::Infer);
            let scores = model.scores(&rows).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((scores.classes.len(), scores.rows.len()), (2, rows.rows()));
            assert!(scores.report.columns[0].clamped == 1);
            for row in scores.rows {
                assert!(row.len() == 2 && (row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            }
        }
        let (three, features) = (spec(3), plan.canonical_bytes());
        let checked = ModelSpec::from_json(&three).unwrap().check().unwrap();
        let params = Params::init(&checked, 3).to_safetensors(checked.layout()).unwrap();
        let files =
            VersionFiles { spec: &three, params: &params, features: &features, fitted: &fitted };
        assert!(matches!(LocalModel::load(&files), Err(InferError::Outputs { .. })));
    }

    #[test]
    fn extreme_logits_stay_probabilities() {
        assert_eq!(probabilities(&[1e30, -1e30]), [1.0, 0.0]);
        assert_eq!(probabilities(&[0.0]), [0.5, 0.5]);
    }
}
