//! How an update becomes integers, as a task names it.
//!
//! What the numbers mean for the words of a sum is the aggregation's business. Start at
//! [`EncodingChoice`].

use serde::{Deserialize, Serialize};

use super::{ManifestError, require};

/// How an update becomes integers: clip in L2, bound each coordinate, round to fixed point. Where a
/// private task's clip is adaptive all of it is in units of the clip.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodingChoice {
    /// Largest L2 norm of one site's update, in (0, 1e6].
    pub clip_l2: f64,
    /// Largest magnitude of one coordinate of an update, in (0, 1e6].
    pub update_bound: f64,
    /// Binary digits after the point, -16 to 40.
    pub frac_bits: i8,
    /// Most rows that count for one site, 1 to 2^31 - 1; a site with more weighs as if it had these.
    pub rows_max: u32,
}

impl EncodingChoice {
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        let size = |value: f64| value > 0.0 && value <= 1e6;
        require(size(self.clip_l2), "encoding.clip_l2", "above 0, at most 1e6")?;
        require(size(self.update_bound), "encoding.update_bound", "above 0, at most 1e6")?;
        require((-16..=40).contains(&self.frac_bits), "encoding.frac_bits", "-16 to 40")?;
        let rows = (1..=i32::MAX.unsigned_abs()).contains(&self.rows_max);
        require(rows, "encoding.rows_max", "1 to 2147483647")
    }
}
