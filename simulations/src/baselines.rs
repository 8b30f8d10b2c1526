//! What the same model would be worth without a federation: trained on all rows together, which
//! nobody may do, and at each site alone. And how a referee scores any of them.
//!
//! Same architecture, same training plan, same number of passes, the same rows trained on, features
//! fitted on those rows: the only difference is who sees what. Nothing here is part of a federation;
//! it needs the rows in one place. Start at [`compare`].

use crate::error::SimError;
use crate::population::{SiteRows, Table};
use koinon_model::dataset::Dataset;
use koinon_model::engine::{Engine, TrainOptions, train};
use koinon_model::features::FeaturePlan;
use koinon_model::features::fitted::FittedFeatures;
use koinon_model::features::prepare::prepare;
use koinon_model::features::statistics::local_statistics;
use koinon_model::features::table::{Cell, Purpose, Table as FeatureTable, TableBuilder};
use koinon_model::loss::TrainData;
use koinon_model::metrics::auc::{Interval, auc_interval};
use koinon_model::params::Params;
use koinon_model::plan::TrainingPlan;
use koinon_model::spec::CheckedSpec;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// What all three ways of training have in common.
#[derive(Clone, Copy)]
pub struct Recipe<'a> {
    /// The architecture.
    pub spec: &'a CheckedSpec,
    /// How columns become inputs.
    pub features: &'a FeaturePlan,
    /// How to train in one round.
    pub training: &'a TrainingPlan,
    /// Rounds; each is the plan's number of passes.
    pub rounds: u32,
    /// Initialisation and batch order.
    pub seed: u64,
}

/// A trained model with the features it was trained under.
pub struct Model {
    /// The parameters.
    pub params: Params,
    /// Means, variances and counts.
    pub fitted: FittedFeatures,
}

/// The three ways compared on the union of test rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// The federation's model.
    pub federated: Interval,
    /// All training rows together.
    pub pooled: Interval,
    /// The median of the models trained at one site.
    pub alone_median: f64,
    /// The worst of them.
    pub alone_worst: f64,
    /// Each site's own, in the order of the sites.
    pub alone: Vec<Interval>,
    /// Rows scored on.
    pub test_rows: usize,
}

impl Scores {
    /// `federated`, `pooled` and `alone` as JSON objects.
    pub fn json(&self) -> Map<String, Value> {
        let figure = |i: &Interval| json!({ "auc": i.value, "low": i.low, "high": i.high });
        let mut object = Map::new();
        object.insert("federated".into(), figure(&self.federated));
        object.insert("pooled".into(), figure(&self.pooled));
        object.insert(
            "alone".into(),
            json!({ "auc_median": self.alone_median, "auc_worst": self.alone_worst }),
        );
        object.insert("test_rows".into(), json!(self.test_rows));
        object
    }

    /// For the end of a line.
    pub fn line(&self) -> String {
        let figure = |i: &Interval| format!("{:.3} [{:.3}, {:.3}]", i.value, i.low, i.high);
        format!(
            "; AUC federated {}, pooled {}, alone median {:.3}, worst {:.3}",
            figure(&self.federated),
            figure(&self.pooled),
            self.alone_median,
            self.alone_worst
        )
    }
}

/// Scores the federation's model against the pooled one and each site's own.
pub fn compare(
    recipe: &Recipe<'_>,
    table: &Table,
    sites: &[SiteRows],
    federated: &Model,
) -> Result<Scores, SimError> {
    let union = |part: fn(&SiteRows) -> &Vec<usize>| -> Vec<usize> {
        sites.iter().flat_map(part).copied().collect()
    };
    let test = read(recipe.features, table, &union(|site| &site.test))?;
    let pooled = train_on(recipe, &read(recipe.features, table, &union(|site| &site.train))?)?;
    let mut alone = Vec::with_capacity(sites.len());
    for site in sites {
        let own = train_on(recipe, &read(recipe.features, table, &site.train)?)?;
        alone.push(score(recipe, &own, &test)?);
    }
    let mut figures: Vec<f64> = alone.iter().map(|interval| interval.value).collect();
    figures.sort_by(f64::total_cmp);
    Ok(Scores {
        federated: score(recipe, federated, &test)?,
        pooled: score(recipe, &pooled, &test)?,
        alone_median: median(&figures),
        alone_worst: figures.first().copied().unwrap_or(f64::NAN),
        alone,
        test_rows: test.rows(),
    })
}

/// Some rows of a table, parsed by the feature plan.
pub fn read(
    features: &FeaturePlan,
    table: &Table,
    rows: &[usize],
) -> Result<FeatureTable, SimError> {
    let present: BTreeSet<&str> = table.header().iter().map(String::as_str).collect();
    let wrong = |e: koinon_model::features::FeatureError| SimError::data(e.to_string());
    let mut builder = TableBuilder::new(features, &present, Purpose::Learn).map_err(wrong)?;
    let columns =
        builder.inputs().iter().map(|name| table.column(name)).collect::<Result<Vec<_>, _>>()?;
    for &row in rows {
        let cells: Vec<Cell<'_>> = columns.iter().map(|column| Cell::Text(column[row])).collect();
        builder.push(&cells).map_err(wrong)?;
    }
    Ok(builder.finish())
}

/// Trains on rows in one place: fits the features on the training rows, then as many rounds of the
/// plan as the recipe says. Validation rows are left out, as they are at a site.
pub fn train_on(recipe: &Recipe<'_>, rows: &FeatureTable) -> Result<Model, SimError> {
    let plan = recipe.features;
    let sums = local_statistics(plan, rows).map_err(SimError::model)?;
    let fitted = FittedFeatures::from_sums(plan, &sums).map_err(SimError::model)?;
    let data = dataset(plan, rows, &fitted)?.split(plan.split().validation).0;
    let mut params = Params::init(recipe.spec, recipe.seed);
    let data = TrainData { x: data.x(), y: data.y(), weights: Some(data.weights()) };
    for round in 0..recipe.rounds {
        let options = TrainOptions { seed: recipe.seed, round, stop: &|| false };
        let outcome = train(recipe.spec, &params, &data, recipe.training, &options)
            .map_err(SimError::model)?;
        params = params
            .stepped(recipe.spec.layout(), outcome.delta.values())
            .map_err(SimError::model)?;
    }
    Ok(Model { params, fitted })
}

/// The area under the ROC curve of a model on some rows.
pub fn score(
    recipe: &Recipe<'_>,
    model: &Model,
    rows: &FeatureTable,
) -> Result<Interval, SimError> {
    let data = dataset(recipe.features, rows, &model.fitted)?;
    let engine = Engine::load(recipe.spec, &model.params).map_err(SimError::model)?;
    let outputs = engine.outputs(data.x()).map_err(SimError::model)?;
    // Logits, not probabilities: those of sure answers are all 1 in single precision.
    let scores: Vec<f32> = match recipe.spec.output_width() {
        1 => outputs,
        2 => outputs.chunks_exact(2).map(|pair| pair[1] - pair[0]).collect(),
        n => return Err(SimError::model(format!("a model of {n} outputs has no single AUC"))),
    };
    auc_interval(&scores, data.y()).ok_or_else(|| {
        SimError::data("the test rows hold only one label: no AUC; take more test rows")
    })
}

fn dataset(
    plan: &FeaturePlan,
    rows: &FeatureTable,
    fitted: &FittedFeatures,
) -> Result<Dataset, SimError> {
    Ok(prepare(rows, plan, fitted).map_err(SimError::model)?.dataset)
}

/// Of sorted figures; NaN of none.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::population::{Partition, deal};
    use crate::synthetic::{Made, make};

    #[test]
    fn more_rows_are_better_and_the_federations_place_is_scored_alike() {
        let made = make(&crate::synthetic::tests::settings(), &toml::Table::new(), 3).unwrap();
        let Made { table, features, spec, training } = &made;
        let sites = deal(table, &Partition::Iid { sites: 12 }, "label", 0.3, 3).unwrap();
        let recipe = Recipe { spec, features, training, rounds: 5, seed: 3 };
        let all: Vec<usize> = sites.iter().flat_map(|s| s.train.clone()).collect();
        let pooled = train_on(&recipe, &read(features, table, &all).unwrap()).unwrap();
        let scores = compare(&recipe, table, &sites, &pooled).unwrap();
        assert_eq!(scores.federated, scores.pooled);
        assert!(scores.pooled.value > scores.alone_median, "{scores:?}");
        assert!(scores.alone_median >= scores.alone_worst);
        assert_eq!(scores.alone.len(), 12);
    }

    #[test]
    fn middles() {
        assert_eq!(median(&[1.0, 2.0, 3.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 3.0, 4.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
