//! What a private task is held to when it is submitted, and how its sums become means.
//!
//! A site checks all of it again for itself. Deliberately not here: noise, which sites add, and the
//! account of what they spent, which each site keeps.

use koinon_aggregation::privacy::{Mechanism, clip};
use koinon_aggregation::{Sum, UPDATE};
use koinon_model::contribution::UNCLIPPED;
use koinon_model::features::FeaturePlan;
use koinon_model::plan::{PlanError, TrainingPlan};
use koinon_proto::TaskManifest;
use koinon_proto::task::{AdaptiveClip, Privacy, PrivacyUnit};
use serde::Serialize;

use crate::event::{Rejection, codes};
use crate::figures::Figure;

/// The mechanism of a private task's rounds on a model of so many trainable parameters.
pub(super) fn mechanism(manifest: &TaskManifest, dimension: usize) -> Option<Mechanism> {
    manifest.noised_round(dimension, Mechanism::new)
}

/// The clip of a round that follows from the rounds before it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Adapted {
    /// What a contribution is clipped to in L2.
    pub(crate) clip: Figure,
    /// The share of contributions that were not clipped, as each round before opened it.
    unclipped: Vec<Figure>,
    /// What those rounds clipped to, and this one.
    #[serde(skip)]
    pub(super) clips: Vec<f64>,
}

impl Adapted {
    /// The clip after rounds that opened these shares.
    pub(super) fn after(rule: &AdaptiveClip, unclipped: Vec<Figure>) -> Option<Self> {
        let AdaptiveClip { initial, quantile, rate } = *rule;
        let shares: Vec<f64> = unclipped.iter().map(|share| share.0).collect();
        // What is opened is cut off to what may be told: no share is another.
        let clips = clip::trail(initial, quantile, rate, &shares)?;
        Some(Self { clip: Figure(*clips.last()?), unclipped, clips })
    }

    /// The shares as the sites are told them.
    pub(crate) fn told(&self) -> Vec<f64> {
        self.unclipped.iter().map(|share| share.0).collect()
    }
}

/// The noised share of contributions that were not clipped; none where nothing was counted.
pub(crate) fn unclipped(privacy: Option<&Privacy>, sum: &Sum) -> Option<Figure> {
    let privacy = privacy?;
    let rule = privacy.adaptive()?;
    let count = sum.field(UNCLIPPED)?.first().copied()?;
    let contributions = privacy.expected_batch().unwrap_or(sum.weight() as f64);
    Some(Figure(clip::share(rule.quantile, count, contributions)))
}

/// Refuses a private task whose noise does not keep its epsilon, or whose features need statistics.
pub(super) fn check(
    manifest: &TaskManifest,
    dimension: usize,
    features: &FeaturePlan,
) -> Result<(), Rejection> {
    let Some(privacy) = &manifest.privacy else { return Ok(()) };
    if let Some(need) = features.needs_fitting() {
        let detail = format!("a private task collects no statistics, but {need}");
        return Err(Rejection::new(codes::BAD_BLOB, detail));
    }
    let steps = privacy.steps(manifest.rounds);
    let spent = mechanism(manifest, dimension)
        .map_or(f64::INFINITY, |mechanism| mechanism.epsilon(steps, privacy.delta));
    if spent <= privacy.epsilon {
        return Ok(());
    }
    let detail = format!(
        "{steps} steps with this noise spend epsilon {spent:.3} at delta {}, the manifest says {}: \
         `koinon task check` plans the noise when noise_multiplier is left out",
        privacy.delta, privacy.epsilon
    );
    Err(Rejection::new(codes::BAD_MANIFEST, detail))
}

/// Refuses training settings that a step of record-level privacy would ignore.
pub(super) fn check_plan(manifest: &TaskManifest, plan: &TrainingPlan) -> Result<(), PlanError> {
    match &manifest.privacy {
        Some(privacy) if privacy.unit == PrivacyUnit::Record => plan.check_single_step(),
        _ => Ok(()),
    }
}

/// The mean update: over sites by weight, or for the unit record over the rows that were to be
/// expected, since how many were drawn is secret. What was told in units of `clip` is multiplied by it.
pub(super) fn mean(privacy: Option<&Privacy>, clip: Option<f64>, sum: &Sum) -> Option<Vec<f64>> {
    let mean = match privacy.and_then(Privacy::expected_batch) {
        Some(batch) => sum.field(UPDATE)?.into_iter().map(|sum| sum / batch).collect(),
        None => sum.mean(UPDATE)?,
    };
    let unit = clip.unwrap_or(1.0);
    Some(mean.into_iter().map(|value: f64| value * unit).collect())
}
