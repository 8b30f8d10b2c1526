//! The scenario's `[task]` section: a task manifest without the digests and seeds.
//!
//! Its keys may come from a task file (as `koinon task submit` takes them), so that a simulation runs
//! the task that a consortium would run; keys in the scenario go before those of the file.
//! Start at [`TaskSettings::complete`].

use crate::error::SimError;
use koinon_proto::Millis;
use koinon_proto::task::{AlgorithmChoice, CohortPlan, EncodingChoice, Privacy, ServerOptimizer};
use serde::Deserialize;

/// The scenario's `[task]` section, or a task file: every key may be absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskSettings {
    /// Training rounds.
    pub rounds: Option<u32>,
    /// Floor, quorum and most sites of a round.
    pub cohort: Option<CohortPlan>,
    /// One round's deadline budget; 120,000.
    pub budget_ms: Option<Millis>,
    /// How long stragglers are waited for; 20,000.
    pub grace_ms: Option<Millis>,
    /// How the mean becomes a version; plain averaging.
    pub server_optimizer: Option<ServerOptimizer>,
    /// How an update becomes integers.
    pub encoding: Option<EncodingChoice>,
    /// How a site trains; FedAvg.
    pub algorithm: Option<AlgorithmChoice>,
    /// Early stopping on validation loss; never.
    pub patience: Option<u32>,
    /// Attempts at one round; 10.
    pub attempts_max: Option<u32>,
    /// Differential privacy; its noise is planned where it is left out. None.
    pub privacy: Option<Privacy>,
}

/// A task with every key settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Training rounds.
    pub rounds: u32,
    /// Floor, quorum and most sites of a round.
    pub cohort: CohortPlan,
    /// One round's deadline budget.
    pub budget_ms: Millis,
    /// How long stragglers are waited for.
    pub grace_ms: Millis,
    /// How the mean becomes a version.
    pub server_optimizer: ServerOptimizer,
    /// How an update becomes integers.
    pub encoding: EncodingChoice,
    /// How a site trains.
    pub algorithm: AlgorithmChoice,
    /// Early stopping on validation loss.
    pub patience: Option<u32>,
    /// Attempts at one round.
    pub attempts_max: u32,
    /// Differential privacy.
    pub privacy: Option<Privacy>,
}

impl TaskSettings {
    /// The keys of a task file that a scenario does not settle by itself.
    pub fn from_file(text: &str) -> Result<TaskSettings, String> {
        let mut table: toml::Table = toml::from_str(text).map_err(|e| e.to_string())?;
        for key in ["name", "kind", "model", "features", "training", "init_from", "seed"] {
            table.remove(key);
        }
        table.try_into().map_err(|e: toml::de::Error| e.to_string())
    }

    /// Every key settled: these first, then those of the file, then the defaults.
    ///
    /// # Errors
    /// Names the key that has no default and is in neither.
    pub fn complete(&self, file: &TaskSettings) -> Result<Task, SimError> {
        let missing = |key: &str| {
            SimError::scenario(format!(
                "task.{key} is missing: set it, or name a task file in data"
            ))
        };
        Ok(Task {
            rounds: self.rounds.or(file.rounds).ok_or_else(|| missing("rounds"))?,
            cohort: self.cohort.or(file.cohort).ok_or_else(|| missing("cohort"))?,
            budget_ms: self.budget_ms.or(file.budget_ms).unwrap_or(120_000),
            grace_ms: self.grace_ms.or(file.grace_ms).unwrap_or(20_000),
            server_optimizer: self
                .server_optimizer
                .or(file.server_optimizer)
                .unwrap_or(ServerOptimizer::Average { learning_rate: 1.0 }),
            encoding: self.encoding.or(file.encoding).ok_or_else(|| missing("encoding"))?,
            algorithm: self.algorithm.or(file.algorithm).unwrap_or(AlgorithmChoice::FedAvg),
            patience: self.patience.or(file.patience),
            attempts_max: self.attempts_max.or(file.attempts_max).unwrap_or(10),
            privacy: self.privacy.or(file.privacy),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
name = "n"
kind = "train"
model = "model.toml"
rounds = 40
cohort = { min = 8, max = 16, quorum = 12 }
encoding = { clip_l2 = 10.0, update_bound = 1.0, frac_bits = 18, rows_max = 128 }
"#;

    #[test]
    fn the_scenario_goes_before_the_file_and_the_file_before_the_defaults() {
        let file = TaskSettings::from_file(FILE).unwrap();
        let own = TaskSettings { rounds: Some(3), ..TaskSettings::default() };
        let task = own.complete(&file).unwrap();
        assert_eq!((task.rounds, task.cohort.quorum, task.attempts_max), (3, 12, 10));
        let error = own.complete(&TaskSettings::default()).unwrap_err().to_string();
        assert!(error.contains("task.cohort"), "{error}");
        assert!(TaskSettings::from_file("ruonds = 3").is_err());
    }
}
