//! The privacy section of a manifest: what one opened task may tell of one record or of one site.
//!
//! Numbers only. That they keep their promise is checked by whoever can account for it: the program
//! that submits, the coordinator, and each site for itself. Start at [`Privacy`].

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    AdaptiveClip, AlgorithmChoice, Clip, CohortPlan, EncodingChoice, ManifestError, TaskKind,
    TaskManifest, require,
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
    /// Unit record: the longest that one row's gradient may be. Unit site: left out, and the bound is
    /// the encoding's `clip_l2`, or adaptive. With an adaptive clip the encoding is in units of it.
    #[serde(default)]
    pub clip: Option<Clip>,
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

impl TaskManifest {
    /// Hands the numbers of a private task's rounds on a model of so many trainable parameters to
    /// whoever accounts for them. None where nothing is private, or no noise is planned yet.
    ///
    /// `make` is given: whether the unit is a whole site; sampling rate, noise multiplier and the
    /// longest that one unit's contribution is in L2, in the unit that is encoded; the encoding's
    /// fractional bits; entries of the noised vector; how many sites' noise counts.
    pub fn noised_round<M>(
        &self,
        parameters: usize,
        make: impl FnOnce(bool, [f64; 3], i8, u64, u32) -> M,
    ) -> Option<M> {
        let privacy = self.privacy.as_ref()?;
        let adaptive = privacy.adaptive();
        let clip = adaptive
            .map_or_else(|| privacy.clip_initial(&self.encoding), |clip| clip.sensitivity());
        let numbers = [privacy.sampling_rate, privacy.noise_multiplier?, clip];
        let entries = parameters as u64 + u64::from(adaptive.is_some());
        let whole_site = privacy.unit == PrivacyUnit::Site;
        let honest = u32::from(privacy.sites_honest(&self.cohort));
        Some(make(whole_site, numbers, self.encoding.frac_bits, entries, honest))
    }

    /// Fractional bits of the count of contributions that were not clipped; none where nothing is
    /// counted.
    #[must_use]
    pub fn count_frac_bits(&self) -> Option<i8> {
        let counted = self.privacy.as_ref().and_then(Privacy::adaptive);
        counted.map(|_| AdaptiveClip::count_frac_bits(self.encoding.frac_bits))
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

    /// The rule of the clip, where it moves from round to round.
    #[must_use]
    pub fn adaptive(&self) -> Option<AdaptiveClip> {
        match self.clip {
            Some(Clip::Adaptive(adaptive)) => Some(adaptive),
            Some(Clip::Fixed(_)) | None => None,
        }
    }

    /// What one unit's contribution is clipped to in L2 in the first round, and in every round where
    /// the clip is fixed.
    #[must_use]
    pub fn clip_initial(&self, encoding: &EncodingChoice) -> f64 {
        match self.clip {
            Some(Clip::Fixed(clip)) => clip,
            Some(Clip::Adaptive(AdaptiveClip { initial, .. })) => initial,
            None => encoding.clip_l2,
        }
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
                let clip =
                    "left out for the unit site, whose clip is encoding.clip_l2, or adaptive";
                let fixed = matches!(self.clip, Some(Clip::Fixed(_)));
                require(!fixed, "privacy.clip", clip)?;
                let rows = "left out for the unit site";
                require(self.expected_rows.is_none(), "privacy.expected_rows", rows)?;
            }
        }
        self.adaptive().map_or(Ok(()), |adaptive| self.check_adaptive(&adaptive, task))?;
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

    /// With an adaptive clip the encoding is in its units: what holds for one clip holds for all.
    fn check_adaptive(
        &self,
        adaptive: &AdaptiveClip,
        task: &TaskManifest,
    ) -> Result<(), ManifestError> {
        adaptive.check()?;
        let EncodingChoice { clip_l2, update_bound, frac_bits, .. } = task.encoding;
        if self.unit == PrivacyUnit::Site {
            let whole = "1 where the clip is adaptive: a site's update is in units of its clip";
            require(clip_l2.to_bits() == 1f64.to_bits(), "encoding.clip_l2", whole)?;
        }
        let room =
            "at least 0.25 where the clip is adaptive: the count beside the update needs room";
        require(update_bound >= 0.25, "encoding.update_bound", room)?;
        let fine = "at least 8 where the clip is adaptive: it is told in units of the clip";
        require(frac_bits >= 8, "encoding.frac_bits", fine)
    }

    fn check_record(&self, task: &TaskManifest) -> Result<(), ManifestError> {
        let clip = match self.clip {
            Some(Clip::Fixed(clip)) => clip > 0.0 && clip <= 1e6,
            Some(Clip::Adaptive(_)) => true,
            None => false,
        };
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
