//! The site's veto: what this site permits, in a TOML file that only the site writes.
//!
//! What the coordinator promises (smallest cohort, clip, bits, rounds) is checked here again, and the
//! last word is the site's. It is deliberately not where the protocol's own checks live (signatures,
//! digests, survivor sets): those hold whatever this file says. Start at [`Policy::template`], the
//! commented file that a site begins with, and at [`Policy::check_task`].
//!
//! ```
//! use koinon_client::policy::Policy;
//!
//! let policy = Policy::parse(Policy::template(), "policy.toml")?;
//! assert_eq!(policy.cohort.min, 5);
//! let error = Policy::parse("[cohort]\nmun = 3\n", "policy.toml").unwrap_err();
//! assert!(error.to_string().starts_with("policy.toml, line 2: unknown key 'mun'; did you mean 'min'?"));
//! # Ok::<(), koinon_client::policy::PolicyError>(())
//! ```

use std::collections::BTreeSet;

use koinon_aggregation::COMPLETE_MAX;
use koinon_proto::nearest::toml_error;
use koinon_proto::task::{PrivacyUnit, TaskKind, TaskManifest};
use koinon_proto::{Digest, limits};
use serde::Deserialize;
use thiserror::Error;

use crate::error::Refusal;

pub mod approve;

/// What this site permits. Every table may be left out; what is left out has the template's value.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Which protocol versions are spoken.
    pub protocol: ProtocolPolicy,
    /// How many sites must be in a sum.
    pub cohort: CohortPolicy,
    /// Which tasks are done.
    pub approvals: Approvals,
    /// What a task may ask for.
    pub tasks: TaskPolicy,
    /// What a task may tell of one record or of this site, and all tasks together.
    pub privacy: PrivacyPolicy,
    /// Where models may be cut for split inference; none when empty.
    pub split: Vec<CutPolicy>,
}

/// Which protocol versions are spoken.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProtocolPolicy {
    /// The oldest version that is accepted, from 1.
    pub min_version: u32,
}

/// How many sites must be in a sum.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CohortPolicy {
    /// The smallest number of sites whose sum this site helps to open, at least 3.
    pub min: u16,
    /// In cohorts of more than 64, how rare a weak graph must be: 2^-this, at least 80.
    pub sigma_min: u8,
    /// Says in words that weaker graphs are accepted: then `sigma_min` may be down to 40. For trying
    /// things out.
    pub accept_sigma_below_80: bool,
    /// The share of the roster's sites, in percent, whose collusion every cohort must withstand, should all
    /// of them be in it. In private tasks none of these sites may be counted on for noise.
    pub colluding_percent_min: u8,
}

/// Which tasks are done.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Approvals {
    /// What happens with a task that is not in `approved`.
    pub default: ApprovalDefault,
    /// Digests of the manifests that somebody at the site approved.
    pub approved: BTreeSet<Digest>,
}

/// What happens with a task that nobody at the site approved yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalDefault {
    /// It waits until somebody approves its digest.
    Ask,
    /// It is done, within the limits below.
    Always,
    /// It is not done, whatever is approved: the site takes part in nothing.
    Never,
}

/// What a task may ask for.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskPolicy {
    /// The kinds of task that are done.
    pub kinds: BTreeSet<Kind>,
    /// Most rounds of one task.
    pub rounds_max: u32,
    /// Largest L2 norm to which an update may be clipped: the most this site can move a sum. This and
    /// the next two are in units of the clip where a private task's clip is adaptive.
    pub clip_l2_max: f64,
    /// Largest bound of one coordinate of an update.
    pub update_bound_max: f64,
    /// Most fractional bits of an encoded coordinate: the finest grid a sum is told in.
    pub frac_bits_max: i8,
    /// Most bytes that leave for one session, all its messages together.
    pub round_bytes_max: u64,
}

/// What a task may tell of one record or of this site, and all tasks together.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrivacyPolicy {
    /// Whether only training under differential privacy is done, and nothing else.
    pub require: bool,
    /// The unit in which this site counts: `record` takes part in private tasks of either unit, `site`
    /// only in those that hide the whole site.
    pub unit: PrivacyUnit,
    /// The largest epsilon of one task, in the task's unit.
    pub epsilon_max: f64,
    /// The largest delta of one task.
    pub delta_max: f64,
    /// The largest epsilon of all tasks together, over this site's life, in the unit above.
    pub epsilon_total: f64,
    /// The delta at which that total is counted.
    pub delta_total: f64,
}

/// A kind of task, as the policy names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Train a model.
    Train,
    /// Score a model on validation rows.
    Evaluate,
    /// Sums of the columns, to fit a feature plan.
    Statistics,
}

impl From<TaskKind> for Kind {
    fn from(kind: TaskKind) -> Self {
        match kind {
            TaskKind::Train => Self::Train,
            TaskKind::Evaluate => Self::Evaluate,
            TaskKind::Statistics => Self::Statistics,
        }
    }
}

/// Cuts that are permitted for one model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutPolicy {
    /// Digest of the model's spec, or of one version's parameters to permit that version alone.
    pub model: Digest,
    /// Positions in the topological order: the nodes before the position run at the site. Never 0,
    /// which would send the raw input.
    pub cuts: BTreeSet<u32>,
}

impl Default for ProtocolPolicy {
    fn default() -> Self {
        Self { min_version: 1 }
    }
}

impl Default for CohortPolicy {
    fn default() -> Self {
        let (min, sigma_min) = (COHORT_MIN_DEFAULT, SIGMA_MIN);
        Self { min, sigma_min, accept_sigma_below_80: false, colluding_percent_min: 10 }
    }
}

impl Default for Approvals {
    fn default() -> Self {
        Self { default: ApprovalDefault::Ask, approved: BTreeSet::new() }
    }
}

impl Default for TaskPolicy {
    fn default() -> Self {
        Self {
            kinds: [Kind::Train, Kind::Evaluate, Kind::Statistics].into(),
            rounds_max: 200,
            clip_l2_max: 100.0,
            update_bound_max: 100.0,
            frac_bits_max: 24,
            round_bytes_max: 64 << 20,
        }
    }
}

impl Default for PrivacyPolicy {
    fn default() -> Self {
        Self {
            require: false,
            unit: PrivacyUnit::Record,
            epsilon_max: 10.0,
            delta_max: 1e-3,
            epsilon_total: 20.0,
            delta_total: 1e-4,
        }
    }
}

impl PrivacyPolicy {
    /// What the manifest says is within this policy; whether it is true is seen with the model.
    fn check_task(&self, manifest: &TaskManifest, colluding_percent: u8) -> Result<(), Refusal> {
        let Some(privacy) = &manifest.privacy else {
            return if self.require { Err(Refusal::PrivacyRequired) } else { Ok(()) };
        };
        // Colluders add no noise. As many of them as of any cohort are the least; those of the roster,
        // should all be gathered, are compared once it is known who may take part.
        let cohort = &manifest.cohort;
        let percent = u32::from(cohort.colluding_percent.max(colluding_percent));
        let colluding = (u32::from(cohort.min) * percent).div_ceil(100);
        if u32::from(privacy.colluding) < colluding {
            return Err(Refusal::PrivacyTooWeak);
        }
        let within = privacy.epsilon <= self.epsilon_max
            && privacy.delta <= self.delta_max
            && privacy.unit >= self.unit;
        if within { Ok(()) } else { Err(Refusal::PrivacyTooWeak) }
    }
}

impl Policy {
    /// The commented file that a site begins with. It says the same as an empty file.
    #[must_use]
    pub fn template() -> &'static str {
        TEMPLATE
    }

    /// Reads and checks a policy; `path` is the file's name for the message.
    ///
    /// # Errors
    /// [`PolicyError`] with line and reason: unknown keys, wrong types, values out of range.
    pub fn parse(text: &str, path: &str) -> Result<Self, PolicyError> {
        let policy: Self = toml::from_str(text)
            .map_err(|error| PolicyError::Syntax(toml_error(text, path, &error, KEYS)))?;
        policy.check()?;
        Ok(policy)
    }

    fn check(&self) -> Result<(), PolicyError> {
        let range = |key, allowed| Err(PolicyError::Range { key, allowed });
        if !koinon_proto::PROTOCOL.contains(self.protocol.min_version) {
            return range("protocol.min_version", "a version this program speaks, from 1");
        }
        if self.cohort.min < limits::COHORT_MIN || self.cohort.min > limits::COHORT_MAX {
            return range(
                "cohort.min",
                "3 to 16384; with two sites each learns the other's update",
            );
        }
        let least = if self.cohort.accept_sigma_below_80 { SIGMA_ACCEPTED } else { SIGMA_MIN };
        if !(least..=128).contains(&self.cohort.sigma_min) {
            return range(
                "cohort.sigma_min",
                "80 to 128, since keys can be tried offline; from 40 with accept_sigma_below_80 = true",
            );
        }
        if self.cohort.colluding_percent_min > 50 {
            return range("cohort.colluding_percent_min", "0 to 50");
        }
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if !positive(self.tasks.clip_l2_max) {
            return range("tasks.clip_l2_max", "a number above 0");
        }
        if !positive(self.tasks.update_bound_max) {
            return range("tasks.update_bound_max", "a number above 0");
        }
        if !positive(self.privacy.epsilon_max) || !positive(self.privacy.epsilon_total) {
            return range("privacy.epsilon_max and epsilon_total", "numbers above 0");
        }
        let small = |delta: f64| delta > 0.0 && delta < 1.0;
        if !small(self.privacy.delta_max) || !small(self.privacy.delta_total) {
            return range("privacy.delta_max and delta_total", "above 0 and below 1");
        }
        if self.split.iter().any(|cut| cut.cuts.contains(&0)) {
            return range("split.cuts", "positions from 1; a cut at 0 would send the raw input");
        }
        Ok(())
    }

    /// Whether somebody at the site, or the default, permits the task with this digest.
    #[must_use]
    pub fn approves(&self, task: &Digest) -> bool {
        match self.approvals.default {
            ApprovalDefault::Never => false,
            ApprovalDefault::Always => true,
            ApprovalDefault::Ask => self.approvals.approved.contains(task),
        }
    }

    /// Whether a task stays within this site's limits, whoever approved it.
    ///
    /// # Errors
    /// The first [`Refusal`] that applies.
    pub fn check_task(&self, manifest: &TaskManifest) -> Result<(), Refusal> {
        let tasks = &self.tasks;
        let refuse = |wrong: bool, refusal| if wrong { Err(refusal) } else { Ok(()) };
        refuse(!tasks.kinds.contains(&manifest.kind.into()), Refusal::KindForbidden)?;
        refuse(manifest.cohort.min < self.cohort.min, Refusal::CohortTooSmall)?;
        refuse(manifest.cohort.quorum < self.cohort.min, Refusal::CohortTooSmall)?;
        let large = usize::from(manifest.cohort.max) > COMPLETE_MAX;
        let weak = manifest.cohort.colluding_percent < self.cohort.colluding_percent_min;
        refuse(large && weak, Refusal::GraphTooWeak)?;
        refuse(manifest.rounds > tasks.rounds_max, Refusal::TooManyRounds)?;
        let encoding = &manifest.encoding;
        let within = |value: f64, limit: f64| value <= limit;
        refuse(!within(encoding.clip_l2, tasks.clip_l2_max), Refusal::BoundTooLarge)?;
        refuse(!within(encoding.update_bound, tasks.update_bound_max), Refusal::BoundTooLarge)?;
        refuse(encoding.frac_bits > tasks.frac_bits_max, Refusal::TooManyBits)?;
        self.privacy.check_task(manifest, self.cohort.colluding_percent_min)
    }

    /// Whether a model may be cut at `position`: by its spec's digest or by its version's.
    #[must_use]
    pub fn permits_cut(&self, spec: &Digest, version: &Digest, position: u32) -> bool {
        let named = |cut: &&CutPolicy| cut.model == *spec || cut.model == *version;
        position > 0 && self.split.iter().filter(named).any(|cut| cut.cuts.contains(&position))
    }
}

/// The smallest cohort of a site that wrote no other number.
pub const COHORT_MIN_DEFAULT: u16 = 5;

/// How rare a weak graph must be in production: a coordinator tries key after key without asking
/// anybody.
const SIGMA_MIN: u8 = 80;
/// The least that may be accepted in words.
const SIGMA_ACCEPTED: u8 = 40;

/// Why a policy file is unusable.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not TOML, an unknown key, or a value of another type.
    #[error("{0}")]
    Syntax(String),
    /// A value that this program does not accept.
    #[error("policy key {key}: must be {allowed}")]
    Range {
        /// The key, with its table.
        key: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The approval could not be written into the file's text.
    #[error("policy: {0}")]
    Approve(&'static str),
}

/// Every key of the file, for suggestions.
const KEYS: &[&str] = &[
    "protocol",
    "min_version",
    "cohort",
    "min",
    "sigma_min",
    "accept_sigma_below_80",
    "colluding_percent_min",
    "approvals",
    "default",
    "approved",
    "tasks",
    "kinds",
    "rounds_max",
    "clip_l2_max",
    "update_bound_max",
    "frac_bits_max",
    "round_bytes_max",
    "privacy",
    "require",
    "unit",
    "epsilon_max",
    "delta_max",
    "epsilon_total",
    "delta_total",
    "split",
    "model",
    "cuts",
];

const TEMPLATE: &str = r#"# What this site permits. Only this site writes this file; the coordinator never sees it.
# Every value below is the default: delete a line and nothing changes.

[protocol]
# The oldest protocol version this site speaks.
min_version = 1

[cohort]
# This site helps to open a sum only if it is over at least so many sites. The fewer there are, the
# more the others' sum says about this site. 3 is the least that can be written here.
min = 5
# In a cohort of more than 64 each site shares its secrets with some of the others only, on a graph
# that is drawn anew in every round. A weak graph is drawn once in 2^80 rounds, as long as not more
# than so many of a hundred sites of the roster collude with the coordinator, which chooses who takes
# part: a cohort of any size that would not withstand all of them is refused. In private tasks none of
# them may be counted on for noise either: the task's `privacy.colluding` covers so many of the roster.
sigma_min = 80
# Only where this says true may sigma_min be less than 80, and never less than 40: for trying things out.
accept_sigma_below_80 = false
colluding_percent_min = 10

[approvals]
# What happens with a task that is not listed below: "ask" = it waits for `koinon client approve`,
# "always" = it is done within the limits of this file, "never" = nothing is done, listed or not.
default = "ask"
# Digests of approved tasks. A task that changes in anything has another digest and asks again.
approved = [
]

[tasks]
# Kinds of task this site does.
kinds = ["train", "evaluate", "statistics"]
# The most rounds of one task.
rounds_max = 200
# The largest clip (L2 norm of an update) and the largest bound of one of its coordinates.
clip_l2_max = 100.0
update_bound_max = 100.0
# The finest grid in which an update is encoded, in fractional bits.
frac_bits_max = 24
# The most bytes that leave for one round.
round_bytes_max = 67108864

[privacy]
# true: this site takes part in nothing but training under differential privacy.
require = false
# Whose presence is to be hidden: "record" (one row, or one group's rows), or "site".
unit = "record"
# The most that one task may tell, by its own statement, which this site computes again.
epsilon_max = 10.0
delta_max = 0.001
# The most that all private tasks together may tell, over this site's life, at this delta.
epsilon_total = 20.0
delta_total = 0.0001

# Where a model may be cut for split inference: the nodes before the position run here, what crosses
# the cut leaves. Without an entry nothing leaves and inference is local. `model` is the digest of the
# model's spec, or of one version to permit that version alone.
# [[split]]
# model = "0000000000000000000000000000000000000000000000000000000000000000"
# cuts = [2]
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_says_what_an_empty_file_says() {
        let template = Policy::parse(Policy::template(), "p").unwrap();
        assert_eq!(template, Policy::parse("", "p").unwrap());
        let uncommented = TEMPLATE.replace("# [[split]]", "[[split]]");
        let uncommented = uncommented.replace("# model =", "model =").replace("# cuts", "cuts");
        assert_eq!(Policy::parse(&uncommented, "p").unwrap().split.len(), 1);
    }

    #[test]
    fn bad_files_are_refused_with_place_and_reason() {
        for (text, wanted) in [
            ("[cohort]\nmin = 2\n", "cohort.min"),
            ("\n[cohort]\nminimum = 5\n", "line 3"),
            ("[cohort]\nsigma_min = 79\n", "accept_sigma_below_80 = true"),
            ("[cohort]\naccept_sigma_below_80 = true\nsigma_min = 39\n", "sigma_min"),
            ("[tasks]\nclip_l2_max = nan\n", "clip_l2_max"),
            ("[tasks]\nclip_l2_max = -1.0\n", "clip_l2_max"),
            ("[tasks]\nkinds = [\"train\", \"steal\"]\n", "line 2"),
            ("[protocol]\nmin_version = 99\n", "min_version"),
            ("[privacy]\nepsilon_total = nan\n", "epsilon_total"),
            ("[privacy]\ndelta_max = 0.0\n", "delta_max"),
            ("[privacy]\nunit = \"row\"\n", "line 2"),
            ("[approvals]\napproved = [\"abc\"]\n", "line 2"),
            (
                "[[split]]\nmodel = \"00000000000000000000000000000000000000000000000000000000000000ff\"\ncuts = [0]\n",
                "raw input",
            ),
        ] {
            let error = Policy::parse(text, "p").unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn a_weaker_graph_is_accepted_in_words_only() {
        let text = "[cohort]\naccept_sigma_below_80 = true\nsigma_min = 40\n";
        assert_eq!(Policy::parse(text, "p").unwrap().cohort.sigma_min, 40);
        assert_eq!(Policy::default().cohort.sigma_min, 80);
    }

    #[test]
    fn never_means_never() {
        let task = Digest([1; 32]);
        let mut policy = Policy::default();
        assert!(!policy.approves(&task));
        policy.approvals.approved.insert(task);
        assert!(policy.approves(&task));
        policy.approvals.default = ApprovalDefault::Never;
        assert!(!policy.approves(&task));
    }

    #[test]
    fn a_cut_is_permitted_by_spec_or_version_and_never_at_the_input() {
        let (spec, version) = (Digest([1; 32]), Digest([2; 32]));
        let mut policy = Policy::default();
        assert!(!policy.permits_cut(&spec, &version, 2));
        policy.split.push(CutPolicy { model: version, cuts: [0, 2].into() });
        assert!(policy.permits_cut(&spec, &version, 2));
        assert!(!policy.permits_cut(&spec, &version, 0), "even if the list was made by hand");
        assert!(!policy.permits_cut(&spec, &Digest([3; 32]), 2));
    }
}
