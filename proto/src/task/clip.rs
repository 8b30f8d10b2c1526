//! What one unit's contribution is clipped to: a number, or a rule by which it follows the
//! contributions.
//!
//! Data and ranges only: how the clip moves from round to round is computed by the coordinator and by
//! each site for itself. Start at [`Clip`].

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{ManifestError, require};

/// What one unit's contribution is clipped to. In TOML a number, or a table.
///
/// ```
/// use koinon_proto::task::{AdaptiveClip, Clip};
///
/// #[derive(serde::Deserialize)]
/// struct Section { clip: Clip }
///
/// let read = |text| toml::from_str::<Section>(text).map(|section| section.clip);
/// assert_eq!(read("clip = 3"), Ok(Clip::Fixed(3.0)));
/// let adaptive = AdaptiveClip { initial: 1.0, quantile: 0.5, rate: 0.2 };
/// let text = "clip = { initial = 1.0, quantile = 0.5, rate = 0.2 }";
/// assert_eq!(read(text), Ok(Clip::Adaptive(adaptive)));
/// assert!(read("clip = { initial = 1.0 }").is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Clip {
    /// The same in every round: an L2 norm, above 0, at most 1e6.
    Fixed(f64),
    /// It follows a quantile of the contributions' norms.
    Adaptive(AdaptiveClip),
}

/// A clip that follows a quantile of the contributions' norms (Andrew et al. 2021, 1905.03871,
/// section 2): after each round it is multiplied by exp(-rate · (b - quantile)), where b is the share
/// of contributions that were not clipped, summed in private beside the update. What is encoded is
/// in units of the clip, so that integers, noise and account are the same in every round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveClip {
    /// The clip of the first round, an L2 norm, 1e-6 to 1000.
    pub initial: f64,
    /// The share of contributions that should stay as they are, 0.01 to 0.99.
    pub quantile: f64,
    /// How far the clip moves in a round, above 0, at most 1.
    pub rate: f64,
}

/// Binary digits by which a count is told more coarsely than the update: it weighs a quarter as much
/// in what one unit moves, so that it costs the update less than 1 % of noise at the median, and is
/// itself known to four times the noise multiplier.
const COUNT_COARSER_BITS: i8 = 2;

impl AdaptiveClip {
    /// Fractional bits of the count's entry, where the update has `frac_bits`.
    #[must_use]
    pub const fn count_frac_bits(frac_bits: i8) -> i8 {
        frac_bits.saturating_sub(COUNT_COARSER_BITS)
    }

    /// The longest that one unit's update, at most 1 in units of the clip, and its count, 1 - quantile
    /// if it was not clipped and -quantile if it was, are together in L2: in units of the clip, with
    /// the count as coarse as it is told.
    ///
    /// The doubles that sum contributions and divide them by the clip may be off by some 1e-9.
    #[must_use]
    pub fn sensitivity(&self) -> f64 {
        // Roots, quotients and products of doubles are the same on every machine; hypot is not.
        let count = self.quantile.max(1.0 - self.quantile) / f64::from(1u8 << COUNT_COARSER_BITS);
        (1.0 + count * count).sqrt() * (1.0 + 1e-8)
    }

    pub(super) fn check(&self) -> Result<(), ManifestError> {
        let initial = (1e-6..=1e3).contains(&self.initial);
        require(initial, "privacy.clip.initial", "0.000001 to 1000")?;
        let quantile = (0.01..=0.99).contains(&self.quantile);
        require(quantile, "privacy.clip.quantile", "0.01 to 0.99; 0.5 is the median")?;
        let rate = self.rate > 0.0 && self.rate <= 1.0;
        require(rate, "privacy.clip.rate", "above 0, at most 1; 0.2 is usual")
    }
}

impl<'de> Deserialize<'de> for Clip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrTable)
    }
}

/// Reads either form, so that what is wrong in a table is said of the table.
struct NumberOrTable;

impl<'de> Visitor<'de> for NumberOrTable {
    type Value = Clip;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a table of initial, quantile and rate")
    }

    fn visit_f64<E>(self, clip: f64) -> Result<Clip, E> {
        Ok(Clip::Fixed(clip))
    }

    fn visit_u64<E>(self, clip: u64) -> Result<Clip, E> {
        Ok(Clip::Fixed(clip as f64))
    }

    fn visit_i64<E>(self, clip: i64) -> Result<Clip, E> {
        Ok(Clip::Fixed(clip as f64))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Clip, A::Error> {
        AdaptiveClip::deserialize(MapAccessDeserializer::new(map)).map(Clip::Adaptive)
    }
}
