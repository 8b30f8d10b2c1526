//! A scenario's file, key by key, with the defaults.
//!
//! It names other files and reads none: see [`super::Scenario`]. Start at [`Settings`].

use crate::error::{SimError, check_share};
use crate::fault::FaultSettings;
use crate::network::{NetworkSettings, check_range};
use crate::population::Partition;
use crate::task::TaskSettings;
use koinon_proto::Millis;
use koinon_proto::limits::{CHUNK_BYTES_DEFAULT, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};
use serde::Deserialize;

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

/// Refuses what no run could be made of, by its key.
pub(super) fn check(settings: &Settings) -> Result<(), SimError> {
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

/// Every key of a scenario, for suggestions: its own and those of a task.
pub(super) fn keys() -> Vec<&'static str> {
    [KEYS, koinon_proto::task::KEYS].concat()
}

const KEYS: &[&str] = &[
    "data",
    "partition",
    "task",
    "sites",
    "network",
    "faults",
    "score",
    "horizon_ms",
    "table",
    "synthetic",
    "arithmetic",
    "test_share",
    "rows",
    "columns",
    "distance",
    "positives",
    "hidden",
    "inputs",
    "column",
    "alpha",
    "per_site",
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
