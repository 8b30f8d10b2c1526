//! The privacy section of a manifest: what one opened task may tell of one record or of one site.
//!
//! Numbers only. That they keep their promise is checked by whoever can account for it: the program
//! that submits, the coordinator, and each site for itself. Start at [`Privacy`].

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    AlgorithmChoice, CohortPlan, EncodingChoice, ManifestError, TaskKind, TaskManifest, require,
};

/// Differential privacy of a training task. Everything its rounds open is noised and accounted, or
/// not collected: the sum of the updates is all there is, and each site weighs 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    /// Whose presence is hidden.
    pub unit: PrivacyUnit,
    /// At most this much for the whole task, in (0, 1000].
    pub epsilon: f64,
    /// In (0, 1); for the unit record below 1 / `expected_rows`.
    pub delta: f64,
    /// Chance of each record to be in a step, in (0, 1]; 1 for the unit site, where the cohort is known.
    #[serde(default = "one")]
    pub sampling_rate: f64,
    /// Unit record: the longest that one row's gradient may be, in L2, above 0. Left out for the unit
    /// site, whose bound is the encoding's `clip_l2`.
    #[serde(default)]
    pub clip: Option<f64>,
    /// Standard deviation of the noise of all sites that count as honest, over the clip; 0.001 to 1e6.
    /// May be left out in TOML: then it is planned, and written into the canonical form.
    #[serde(default)]
    pub noise_multiplier: Option<f64>,
    /// How many sites of a sum are not trusted to add their noise. The others of the smallest cohort
    /// carry all of it.
    pub colluding: u16,
    /// Unit record: training rows of all sites, roughly and in public. `sampling_rate` times this is
    /// what a sum is divided by.
    #[serde(default)]
    pub expected_rows: Option<u64>,
    /// Masked updates that may be lost to rounds that are tried again, 0 to 1000: they count as spent.
    #[serde(default)]
    pub retries: u32,
}

/// Whose presence epsilon hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrivacyUnit {
    /// One row of a table, or all rows of one group where the feature plan names a group.
    Record,
    /// A whole site.
    Site,
}

impl fmt::Display for PrivacyUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Record => "record",
            Self::Site => "site",
        })
    }
}

impl Privacy {
    /// Noised sums that the task's epsilon pays for: its rounds and its retries.
    #[must_use]
    pub fn steps(&self, rounds: u32) -> u64 {
        u64::from(rounds) + u64::from(self.retries)
    }

    /// How many sites of the smallest cohort carry the noise.
    #[must_use]
    pub fn sites_honest(&self, cohort: &CohortPlan) -> u16 {
        cohort.min.saturating_sub(self.colluding)
    }

    /// What one unit's contribution is clipped to in L2.
    #[must_use]
    pub fn clip(&self, encoding: &EncodingChoice) -> f64 {
        self.clip.unwrap_or(encoding.clip_l2)
    }

    /// What an opened sum of record level is divided by to be a mean: a plain constant, since the
    /// number of rows that were drawn is secret.
    #[must_use]
    pub fn expected_batch(&self) -> Option<f64> {
        self.expected_rows.map(|rows| self.sampling_rate * rows as f64)
    }

    pub(super) fn check(&self, task: &TaskManifest) -> Result<(), ManifestError> {
        require(task.kind == TaskKind::Train, "privacy", "left out unless the kind is train")?;
        let epsilon = self.epsilon > 0.0 && self.epsilon <= 1e3;
        require(epsilon, "privacy.epsilon", "above 0, at most 1000")?;
        let delta = self.delta > 0.0 && self.delta < 1.0;
        require(delta, "privacy.delta", "above 0, below 1")?;
        let rate = self.sampling_rate > 0.0 && self.sampling_rate <= 1.0;
        require(rate, "privacy.sampling_rate", "above 0, at most 1")?;
        let noise = self.noise_multiplier.is_none_or(|z| (1e-3..=1e6).contains(&z));
        require(noise, "privacy.noise_multiplier", "0.001 to 1000000, or left out to be planned")?;
        require(self.retries <= 1_000, "privacy.retries", "at most 1000")?;
        match self.unit {
            PrivacyUnit::Record => self.check_record(task)?,
            PrivacyUnit::Site => {
                let known = "1 for the unit site: sampling sites hides nothing from a coordinator who knows the cohort";
                require(self.sampling_rate >= 1.0, "privacy.sampling_rate", known)?;
                let clip = "left out for the unit site, whose clip is encoding.clip_l2";
                require(self.clip.is_none(), "privacy.clip", clip)?;
                let rows = "left out for the unit site";
                require(self.expected_rows.is_none(), "privacy.expected_rows", rows)?;
            }
        }
        let CohortPlan { min, quorum, .. } = task.cohort;
        let same =
            "equal to cohort.quorum in a private task: its noise is counted on so many sites";
        require(min == quorum, "cohort.min", same)?;
        require(
            self.colluding < min,
            "privacy.colluding",
            "below cohort.min: somebody's noise must count",
        )?;
        let weight = "1 in a private task: each site weighs the same";
        require(task.encoding.rows_max == 1, "encoding.rows_max", weight)?;
        let patience = "left out in a private task, which measures nothing on validation rows";
        require(task.patience.is_none(), "patience", patience)
    }

    fn check_record(&self, task: &TaskManifest) -> Result<(), ManifestError> {
        let clip = self.clip.is_some_and(|clip| clip > 0.0 && clip <= 1e6);
        require(clip, "privacy.clip", "above 0, at most 1e6: the bound of one row's gradient")?;
        let rows = self.expected_rows.unwrap_or(0);
        require(
            (1..=1 << 40).contains(&rows),
            "privacy.expected_rows",
            "1 to 2^40: about how many training rows all sites have together",
        )?;
        let below = "below 1 / expected_rows: at that delta one whole record could be published";
        require(self.delta * (rows as f64) < 1.0, "privacy.delta", below)?;
        let plain = task.algorithm == AlgorithmChoice::FedAvg;
        require(plain, "algorithm", "fed_avg for the unit record: a round is one step")
    }
}

fn one() -> f64 {
    1.0
}
