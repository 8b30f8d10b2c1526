//! How many sites take part in a round, and what is assumed about them.
//!
//! Sizes and shares only: which sites, and on what graph they share, is the coordinator's choice and
//! the aggregation's business. Start at [`CohortPlan`].

use serde::{Deserialize, Serialize};

use super::{ManifestError, require};
use crate::limits::{COHORT_MAX, COHORT_MIN};

/// How many sites take part in a round: `3 <= min <= quorum <= max <= 16,384`; and for cohorts of more
/// than 64, where each site shares with some of the others only, what is assumed about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CohortPlan {
    /// The floor: no sum of fewer sites is ever opened.
    pub min: u16,
    /// No more sites than this are chosen.
    pub max: u16,
    /// Reports that a round needs to commit.
    pub quorum: u16,
    /// At most so many of a hundred sites collude with the coordinator, 1 to 50.
    #[serde(default = "assumed_percent", skip_serializing_if = "is_assumed")]
    pub colluding_percent: u8,
    /// At most so many of a hundred sites are lost in a round, 1 to 50.
    #[serde(default = "assumed_percent", skip_serializing_if = "is_assumed")]
    pub dropout_percent: u8,
}

impl CohortPlan {
    /// A cohort of these sizes, with the usual assumptions: one site in ten colludes, one in ten is
    /// lost.
    #[must_use]
    pub const fn new(min: u16, max: u16, quorum: u16) -> Self {
        let (colluding_percent, dropout_percent) = (ASSUMED_PERCENT, ASSUMED_PERCENT);
        Self { min, max, quorum, colluding_percent, dropout_percent }
    }

    pub(super) fn check(&self) -> Result<(), ManifestError> {
        let CohortPlan { min, max, quorum, colluding_percent, dropout_percent } = *self;
        require(
            min >= COHORT_MIN,
            "cohort.min",
            "at least 3: with two, each learns the other's update",
        )?;
        require(
            min <= quorum,
            "cohort.quorum",
            "at least cohort.min: no smaller sum is ever opened",
        )?;
        require(quorum <= max, "cohort.max", "at least cohort.quorum")?;
        require(max <= COHORT_MAX, "cohort.max", "at most 16384")?;
        let percent = |percent: u8| (1..=50).contains(&percent);
        require(percent(colluding_percent), "cohort.colluding_percent", "1 to 50")?;
        require(percent(dropout_percent), "cohort.dropout_percent", "1 to 50")
    }
}

/// What is assumed where nothing else is said.
const ASSUMED_PERCENT: u8 = 10;

fn assumed_percent() -> u8 {
    ASSUMED_PERCENT
}

fn is_assumed(percent: &u8) -> bool {
    *percent == ASSUMED_PERCENT
}
