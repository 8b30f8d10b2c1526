//! Scenarios: what is simulated, as TOML.
//!
//! [`Settings`] is the file, key by key; [`Scenario`] is the file together with the tables and plans
//! it names, read once and shared by all seeds. A wrong key is refused with its line and the nearest
//! right one; `--set key=value` changes single keys by their dotted path.
//!
//! It runs nothing: see [`crate::Simulation`]. Start at [`Scenario::load`]; [`TEMPLATE`] is a
//! scenario with every section explained.

use crate::error::{SimError, check_share};
use crate::fault::FaultSettings;
use crate::network::{NetworkSettings, check_range};
use crate::population::{Partition, Table};
use crate::task::{Task, TaskSettings};
use koinon_model::features::FeaturePlan;
use koinon_model::plan::TrainingPlan;
use koinon_model::spec::{CheckedSpec, ModelSpec};
use koinon_proto::Millis;
use koinon_proto::limits::{CHUNK_BYTES_DEFAULT, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};
use koinon_proto::nearest::{nearest, toml_error};
use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;

/// A scenario with every section and every default explained.
pub const TEMPLATE: &str = include_str!("template.toml");

/// A scenario file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// For people; also the task's name.
    pub name: String,
    /// What the sites train on.
    pub data: DataSettings,
    /// How rows become sites; absent where the data have no rows.
    #[serde(default)]
    pub partition: Option<Partition>,
    /// What the sites are asked to do.
    #[serde(default)]
    pub task: TaskSettings,
    /// Keys that replace those of the training plan.
    #[serde(default)]
    pub training: toml::Table,
    /// How long local work takes.
    #[serde(default)]
    pub sites: SiteSettings,
    /// The wire.
    #[serde(default)]
    pub network: NetworkSettings,
    /// What goes wrong on purpose.
    #[serde(default)]
    pub faults: FaultSettings,
    /// Score federated, pooled and alone on the union of test rows.
    #[serde(default)]
    pub score: ScoreOn,
    /// A run that is not over at this virtual time is a violation.
    #[serde(default = "horizon_default")]
    pub horizon_ms: Millis,
}

/// What models are scored on: `true`, `false` or `"inner"` in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "ScoreWord")]
pub enum ScoreOn {
    /// The union of test rows.
    Test,
    /// A part of each site's training rows, held out from them; the test rows stay untouched. For
    /// choosing settings.
    Inner,
    /// Nothing: no baselines are trained.
    #[default]
    Nothing,
}

/// The value as it is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum ScoreWord {
    Whether(bool),
    Word(InnerWord),
}

#[derive(Deserialize)]
enum InnerWord {
    #[serde(rename = "inner")]
    Inner,
    #[serde(rename = "test")]
    Test,
}

impl From<ScoreWord> for ScoreOn {
    fn from(word: ScoreWord) -> ScoreOn {
        match word {
            ScoreWord::Whether(false) => ScoreOn::Nothing,
            ScoreWord::Whether(true) | ScoreWord::Word(InnerWord::Test) => ScoreOn::Test,
            ScoreWord::Word(InnerWord::Inner) => ScoreOn::Inner,
        }
    }
}

/// The scenario's `[data.…]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DataSettings {
    /// A CSV table with its plans; paths are relative to the scenario's file.
    Table(TableSettings),
    /// A table made from the seed: two classes, one direction apart.
    Synthetic(SyntheticSettings),
    /// No rows at all: sites answer with numbers that are exact in fixed point, so that the sum can
    /// be checked to the last bit. For fault runs.
    Arithmetic(ArithmeticSettings),
}

/// The scenario's `[data.table]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSettings {
    /// CSV with a header line.
    pub table: String,
    /// Feature plan, TOML.
    pub features: String,
    /// Model spec, TOML.
    pub model: String,
    /// Training plan, TOML.
    pub training: String,
    /// Task file, TOML: keys of `[task]` that the scenario leaves out.
    #[serde(default)]
    pub task: Option<String>,
    /// Share of each site's rows kept for the final score.
    #[serde(default = "test_share_default")]
    pub test_share: f64,
}

/// The scenario's `[data.synthetic]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticSettings {
    /// Number of rows.
    pub rows: usize,
    /// Number of numeric columns.
    pub columns: usize,
    /// Distance between the two classes in standard deviations.
    pub distance: f64,
    /// Share of positive rows.
    #[serde(default = "half")]
    pub positives: f64,
    /// Units of the one hidden layer.
    #[serde(default = "hidden_default")]
    pub hidden: usize,
    /// Share of each site's rows kept for the final score.
    #[serde(default = "test_share_default")]
    pub test_share: f64,
}

/// The scenario's `[data.arithmetic]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArithmeticSettings {
    /// Number of sites.
    pub sites: usize,
    /// Inputs of the one linear layer with two outputs: 2·inputs + 2 parameters.
    #[serde(default = "inputs_default")]
    pub inputs: usize,
}

/// The scenario's `[sites]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SiteSettings {
    /// Virtual time that a site's local work takes, least and greatest.
    pub work_ms: [Millis; 2],
    /// How often a site says hello, which is also when lost frames are noticed.
    pub heartbeat_ms: Millis,
    /// Length of an uploaded chunk in bytes.
    pub chunk_bytes: usize,
}

impl Default for SiteSettings {
    fn default() -> SiteSettings {
        SiteSettings {
            work_ms: [500, 3_000],
            heartbeat_ms: 10_000,
            chunk_bytes: CHUNK_BYTES_DEFAULT,
        }
    }
}

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
        let explain = |e: &toml::de::Error| SimError::scenario(toml_error(text, name, e, KEYS));
        let mut settings: Settings = toml::from_str(text).map_err(|e| explain(&e))?;
        if !sets.is_empty() {
            let mut table: toml::Table = toml::from_str(text).map_err(|e| explain(&e))?;
            for set in sets {
                apply(&mut table, set)?;
            }
            settings = table.try_into().map_err(|e: toml::de::Error| {
                SimError::scenario(toml_error("", "--set", &e, KEYS))
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

/// Applies one `dotted.key=value`; the value is TOML, or a bare string.
fn apply(table: &mut toml::Table, set: &str) -> Result<(), SimError> {
    let (key, value) = set.split_once('=').ok_or_else(|| {
        SimError::scenario(format!("--set {set}: write key=value, for example task.rounds=10"))
    })?;
    let mut path: Vec<&str> = key.trim().split('.').collect();
    let last = path.pop().filter(|last| !last.is_empty());
    let last = last.ok_or_else(|| SimError::scenario(format!("--set {set}: the key is empty")))?;
    let mut here = table;
    for part in path {
        let known: Vec<String> = here.keys().cloned().collect();
        here = here
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| {
                let near = nearest(part, known.iter().map(String::as_str));
                let hint = near.map(|n| format!("; nearest: {n}")).unwrap_or_default();
                SimError::scenario(format!("--set {set}: {part} is a value, no section{hint}"))
            })?;
    }
    here.insert(last.to_owned(), toml_value(value.trim()));
    Ok(())
}

fn toml_value(text: &str) -> toml::Value {
    let parsed = toml::from_str::<toml::Table>(&format!("v = {text}"));
    let value = parsed.ok().and_then(|mut table| table.remove("v"));
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn check(settings: &Settings) -> Result<(), SimError> {
    settings.network.check()?;
    settings.faults.check()?;
    check_range("sites.work_ms", settings.sites.work_ms)?;
    if !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&settings.sites.chunk_bytes) {
        let range = format!("between {CHUNK_BYTES_MIN} and {CHUNK_BYTES_MAX}");
        return Err(SimError::scenario(format!("sites.chunk_bytes: {range}")));
    }
    let rows = match &settings.data {
        DataSettings::Table(table) => Some(table.test_share),
        DataSettings::Synthetic(made) => {
            check_share("data.synthetic.positives", made.positives)?;
            if made.columns == 0 || made.columns > 1_000 || made.rows > 10_000_000 {
                return Err(SimError::scenario(
                    "data.synthetic: 1 to 1000 columns, at most 10 million rows",
                ));
            }
            Some(made.test_share)
        }
        DataSettings::Arithmetic(_) => None,
    };
    match (rows, &settings.partition) {
        (Some(share), Some(_)) => check_share("test_share", share),
        (Some(_), None) => Err(SimError::scenario(
            "the data have rows, so the scenario needs a [partition] section: \
             kind = \"column\", \"iid\", \"dirichlet\" or \"shards\"",
        )),
        (None, Some(_)) => {
            Err(SimError::scenario("[data.arithmetic] has no rows to deal out: remove [partition]"))
        }
        (None, None) if settings.score != ScoreOn::Nothing => {
            Err(SimError::scenario("a score needs data with rows; set score = false"))
        }
        (None, None) => Ok(()),
    }
}

fn horizon_default() -> Millis {
    24 * 3_600_000
}

fn test_share_default() -> f64 {
    0.3
}

fn half() -> f64 {
    0.5
}

fn hidden_default() -> usize {
    16
}

fn inputs_default() -> usize {
    3
}

/// Every key of a scenario, for suggestions.
const KEYS: &[&str] = &[
    "name",
    "data",
    "partition",
    "task",
    "training",
    "sites",
    "network",
    "faults",
    "score",
    "horizon_ms",
    "table",
    "synthetic",
    "arithmetic",
    "features",
    "model",
    "test_share",
    "rows",
    "columns",
    "distance",
    "positives",
    "hidden",
    "inputs",
    "kind",
    "column",
    "alpha",
    "per_site",
    "rounds",
    "cohort",
    "budget_ms",
    "grace_ms",
    "server_optimizer",
    "encoding",
    "algorithm",
    "patience",
    "attempts_max",
    "min",
    "max",
    "quorum",
    "clip_l2",
    "update_bound",
    "frac_bits",
    "rows_max",
    "work_ms",
    "heartbeat_ms",
    "chunk_bytes",
    "latency_ms",
    "drop",
    "duplicate",
    "reorder",
    "reorder_ms",
    "disconnect",
    "reconnect_ms",
    "cuts",
    "cut_ms",
    "heals_ms",
    "site_crash",
    "coordinator_crash",
    "crashes_max",
    "restart_ms",
    "full_disk",
    "full_disk_ms",
    "slow_sites",
    "slow_factor",
    "lying_sites",
    "site_lies",
    "lying_coordinator",
    "coordinator_lies",
    "cancel",
    "cancel_ms",
    "until_ms",
];

#[cfg(test)]
mod tests {
    use super::*;

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
        let error = parse(&["task.ruonds=3"]).err().unwrap().to_string();
        assert!(error.contains("rounds"), "{error}");
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
