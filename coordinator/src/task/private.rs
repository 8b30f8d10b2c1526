//! What a private task is held to when it is submitted, and how its sums become means.
//!
//! A site checks all of it again for itself. Deliberately not here: noise, which sites add, and the
//! account of what they spent, which each site keeps.

use koinon_aggregation::privacy::{Mechanism, Unit};
use koinon_aggregation::{Sum, UPDATE};
use koinon_model::features::FeaturePlan;
use koinon_model::plan::{PlanError, TrainingPlan};
use koinon_proto::TaskManifest;
use koinon_proto::task::{Privacy, PrivacyUnit};

use crate::event::{Rejection, codes};

/// The mechanism of a private task's rounds on a model of so many trainable parameters.
pub(super) fn mechanism(manifest: &TaskManifest, dimension: usize) -> Option<Mechanism> {
    let privacy = manifest.privacy.as_ref()?;
    Some(Mechanism {
        unit: match privacy.unit {
            PrivacyUnit::Record => Unit::Record,
            PrivacyUnit::Site => Unit::Site,
        },
        sampling_rate: privacy.sampling_rate,
        noise_multiplier: privacy.noise_multiplier?,
        clip: privacy.clip(&manifest.encoding),
        frac_bits: manifest.encoding.frac_bits,
        dimension: dimension as u64,
        sites_honest: u32::from(privacy.sites_honest(&manifest.cohort)),
    })
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
/// expected, since how many were drawn is secret.
pub(super) fn mean(privacy: Option<&Privacy>, sum: &Sum) -> Option<Vec<f64>> {
    let Some(batch) = privacy.and_then(Privacy::expected_batch) else { return sum.mean(UPDATE) };
    let sums = sum.field(UPDATE)?;
    Some(sums.into_iter().map(|sum| sum / batch).collect())
}
