//! Scenarios: what is simulated, as TOML.
//!
//! [`Settings`] is the file, key by key; [`Scenario`] is the file together with the tables and plans
//! it names, read once and shared by all seeds. A wrong key is refused with its line and the nearest
//! right one; `--set key=value` changes single keys by their dotted path.
//!
//! It runs nothing: see [`crate::Simulation`]. Start at [`Scenario::load`]; [`TEMPLATE`] is a
//! scenario with every section explained.

mod sets;
mod settings;

use crate::error::SimError;
use crate::population::Table;
use crate::task::{Task, TaskSettings};
use koinon_model::features::FeaturePlan;
use koinon_model::plan::TrainingPlan;
use koinon_model::spec::{CheckedSpec, ModelSpec};
use koinon_proto::nearest::toml_error;
use sets::apply;
pub use settings::{
    ArithmeticSettings, DataSettings, ScoreOn, Settings, SiteSettings, SyntheticSettings,
    TableSettings,
};
use settings::{check, keys};
use std::path::Path;
use std::sync::Arc;

/// A scenario with every section and every default explained.
pub const TEMPLATE: &str = include_str!("template.toml");

/// A checked scenario with everything it names.
#[derive(Clone)]
pub struct Scenario {
    /// The file.
    pub settings: Settings,
    /// The task with every key settled.
    pub task: Task,
    /// What the file's paths lead to.
    pub(crate) files: Option<Arc<Files>>,
    /// The file's name and the changes to it, for the command that replays a seed.
    origin: String,
}

/// A table with its plans.
pub(crate) struct Files {
    pub(crate) table: Arc<Table>,
    pub(crate) spec: CheckedSpec,
    pub(crate) features: FeaturePlan,
    pub(crate) training: TrainingPlan,
}

impl Scenario {
    /// Reads a scenario file and what it names, with `key=value` changes by dotted path.
    pub fn load(path: &Path, sets: &[String]) -> Result<Scenario, SimError> {
        let text = read_text(path)?;
        let base = path.parent().unwrap_or(Path::new(""));
        Scenario::parse(&text, &path.display().to_string(), base, sets)
    }

    /// As [`Scenario::load`], from text; paths in it are relative to `base`, `name` is for messages.
    ///
    /// ```
    /// use koinon_simulations::scenario::{Scenario, TEMPLATE};
    /// use std::path::Path;
    /// let sets = ["task.rounds=3".to_owned()];
    /// let scenario = Scenario::parse(TEMPLATE, "template", Path::new("."), &sets).unwrap();
    /// assert_eq!(scenario.task.rounds, 3);
    /// ```
    pub fn parse(
        text: &str,
        name: &str,
        base: &Path,
        sets: &[String],
    ) -> Result<Scenario, SimError> {
        let keys = keys();
        let explain = |e: &toml::de::Error| SimError::scenario(toml_error(text, name, e, &keys));
        let mut settings: Settings = toml::from_str(text).map_err(|e| explain(&e))?;
        if !sets.is_empty() {
            let mut table: toml::Table = toml::from_str(text).map_err(|e| explain(&e))?;
            for set in sets {
                apply(&mut table, set)?;
            }
            settings = table.try_into().map_err(|e: toml::de::Error| {
                SimError::scenario(toml_error("", "--set", &e, &keys))
            })?;
        }
        check(&settings)?;
        let mut file = TaskSettings::default();
        let files = match &settings.data {
            DataSettings::Table(paths) => {
                if let Some(path) = &paths.task {
                    file = TaskSettings::from_file(&read_text(&base.join(path))?)
                        .map_err(|reason| SimError::File { path: path.clone(), reason })?;
                }
                Some(Arc::new(Files::load(paths, base, &settings.training)?))
            }
            _ => None,
        };
        let task = settings.task.complete(&file)?;
        let sets: String = sets.iter().map(|set| format!(" --set '{set}'")).collect();
        Ok(Scenario { settings, task, files, origin: format!("{name}{sets}") })
    }

    /// The command that runs one seed of this scenario again.
    pub fn command(&self, seed: u64) -> String {
        format!("koinon simulate {} --seed {seed} --trace", self.origin)
    }
}

impl Files {
    fn load(
        paths: &TableSettings,
        base: &Path,
        overrides: &toml::Table,
    ) -> Result<Files, SimError> {
        let read = |path: &str| read_text(&base.join(path));
        let wrong = |path: &str, e: &dyn std::fmt::Display| SimError::File {
            path: path.to_owned(),
            reason: e.to_string(),
        };
        let training = merged_plan(&read(&paths.training)?, overrides)
            .map_err(|e| wrong(&paths.training, &e))?;
        Ok(Files {
            table: Arc::new(Table::from_csv(read(&paths.table)?.as_bytes())?),
            spec: ModelSpec::from_toml(&read(&paths.model)?)
                .and_then(ModelSpec::check)
                .map_err(|e| wrong(&paths.model, &e))?,
            features: FeaturePlan::from_toml(&read(&paths.features)?)
                .map_err(|e| wrong(&paths.features, &e))?,
            training,
        })
    }
}

/// A training plan's text with some of its keys replaced.
pub(crate) fn merged_plan(text: &str, overrides: &toml::Table) -> Result<TrainingPlan, String> {
    let mut table: toml::Table = toml::from_str(text).map_err(|e| e.to_string())?;
    table.extend(overrides.clone());
    let merged = toml::to_string(&table).map_err(|e| e.to_string())?;
    TrainingPlan::from_toml(&merged).map_err(|e| e.to_string())
}

fn read_text(path: &Path) -> Result<String, SimError> {
    std::fs::read_to_string(path)
        .map_err(|e| SimError::File { path: path.display().to_string(), reason: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::population::Partition;

    fn parse(sets: &[&str]) -> Result<Scenario, SimError> {
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        Scenario::parse(TEMPLATE, "template.toml", Path::new("."), &sets)
    }

    #[test]
    fn sets_reach_every_depth() {
        let scenario = parse(&[
            "task.rounds=7",
            "task.cohort.quorum = 4",
            "partition={kind=\"dirichlet\",sites=4,alpha=0.5}",
            "name=other",
            "training.epochs=3",
        ]);
        let Scenario { settings, task, .. } = scenario.unwrap();
        assert_eq!((task.rounds, task.cohort.quorum), (7, 4));
        assert_eq!(settings.partition, Some(Partition::Dirichlet { sites: 4, alpha: 0.5 }));
        assert_eq!(settings.name, "other");
        assert_eq!(settings.training["epochs"].as_integer(), Some(3));
    }

    #[test]
    fn wrong_keys_are_refused_with_line_and_nearest() {
        let text = TEMPLATE.replace("duplicate =", "duplikate =");
        let error = Scenario::parse(&text, "mine.toml", Path::new("."), &[]).err().unwrap();
        let error = error.to_string();
        assert!(error.contains("mine.toml, line") && error.contains("duplicate"), "{error}");
        for (set, key) in [("task.ruonds=3", "rounds"), ("task.privacy={epsilonn=1.0}", "epsilon")]
        {
            let error = parse(&[set]).err().unwrap().to_string();
            assert!(error.contains(&format!("did you mean '{key}'")), "{error}");
        }
        for (set, part) in [
            ("task.rounds", "key=value"),
            ("=3", "key is empty"),
            ("name.x=3", "is a value"),
            ("network.drop=2", "network.drop"),
            ("network.drop=lots", "f64"),
            ("data={arithmetic={sites=4}}", "[partition]"),
        ] {
            let error = parse(&[set]).err().unwrap().to_string();
            assert!(error.contains(part), "{set}: {error}");
        }
    }
}
