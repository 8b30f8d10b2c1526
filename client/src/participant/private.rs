//! What a private task promises, checked by the site itself: that nothing but noised and accounted sums
//! is opened, that the noise keeps the stated epsilon, and that this site can still pay for it.
//!
//! It decides nothing about what is enough: that is the policy's. Start at [`affordable`].

use koinon_aggregation::privacy::{Mechanism, clip};
use koinon_model::features::FeaturePlan;
use koinon_model::features::fitted::FittedFeatures;
use koinon_model::plan::TrainingPlan;
use koinon_proto::task::{AdaptiveClip, Privacy, PrivacyUnit};
use koinon_proto::wire;
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::phase::Round;
use crate::budget::{self, Budget};
use crate::error::Refusal;
use crate::policy::Policy;
use crate::trainer::{Job, RoundKind};

/// The mechanism of a private round; none for a round without privacy.
pub(super) fn mechanism(round: &Round) -> Option<Mechanism> {
    let (update, _) = round.plan.encoding.field(koinon_aggregation::UPDATE)?;
    budget::mechanism(&round.manifest, update.len)
}

/// What one unit's contribution is clipped to in the round: what the manifest says or, where the clip
/// is adaptive, what follows from it and the shares that earlier rounds are said to have opened. None
/// where nothing is private. A false share can only make the model worse: what leaves, and the noise on
/// it, are in units of the clip.
pub(super) fn clip(round: &Round) -> Result<Option<f64>, Refusal> {
    let wire::Invite { unclipped, clip, round: number, .. } = &round.invite;
    let privacy = round.manifest.privacy.as_ref();
    let Some(rule) = privacy.and_then(Privacy::adaptive) else {
        let told = !unclipped.is_empty() || *clip != 0.0;
        let fixed = privacy.map(|privacy| privacy.clip_initial(&round.manifest.encoding));
        return if told { Err(Refusal::ClipMismatch) } else { Ok(fixed) };
    };
    let AdaptiveClip { initial, quantile, rate } = rule;
    let follows = clip::after(initial, quantile, rate, unclipped);
    let before = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
    match follows {
        Some(follows) if unclipped.len() == before && follows.to_bits() == clip.to_bits() => {
            Ok(Some(follows))
        }
        _ => Err(Refusal::ClipMismatch),
    }
}

/// Whether a private round is what it says: one noised sum, under features that tell nothing of
/// anybody, with noise that keeps the manifest's word, and a loss that no row's label is outside of.
/// The encoding was compared before.
pub(super) fn sound(round: &Round, job: &Job) -> Result<(), Refusal> {
    let Some(privacy) = &round.manifest.privacy else { return Ok(()) };
    let mechanism = mechanism(round).ok_or(Refusal::PrivacyUnsound)?;
    let plan = job.training.as_deref().ok_or(Refusal::PlanInvalid)?;
    let promised = round.kind == RoundKind::Train
        && public_features(job)
        && every_label_fits(job, plan)
        && (privacy.unit == PrivacyUnit::Site || TrainingPlan::check_single_step(plan).is_ok())
        && budget::keeps_its_word(privacy, round.manifest.rounds, &mechanism);
    if promised { Ok(()) } else { Err(Refusal::PrivacyUnsound) }
}

/// Whether this site may spend one more masked update on the task. A session that is accounted for
/// already costs nothing more.
pub(super) fn affordable(round: &Round, policy: &Policy, budget: &Budget) -> Result<(), Refusal> {
    let (Some(privacy), Some(mechanism)) = (&round.manifest.privacy, mechanism(round)) else {
        return Ok(());
    };
    if budget.holds(&round.session) {
        return Ok(());
    }
    let limits = &policy.privacy;
    let total = budget.epsilon(limits.unit, limits.delta_total, Some(&mechanism));
    let task_done = budget.steps_of(&round.task) >= privacy.steps(round.manifest.rounds);
    if task_done || total > limits.epsilon_total {
        return Err(Refusal::PrivacySpent);
    }
    Ok(())
}

/// Gives the job the entropy for its secret draw of rows, where it draws any: anew for each time the
/// work is done, because what an earlier time gave has not left and never will.
pub(super) fn draw(job: &mut Job, rng: &mut dyn CryptoRng) {
    if job.manifest.privacy.is_some_and(|privacy| privacy.unit == PrivacyUnit::Record) {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        job.draw = Some(seed);
    }
}

/// Whether a row of each class can be trained on: if not, one row's label would take away what all
/// others of its site contribute.
fn every_label_fits(job: &Job, plan: &TrainingPlan) -> bool {
    let classes = job.features.label().values.len();
    job.spec.as_ref().is_some_and(|spec| plan.check_outputs(classes, spec.output_width()).is_ok())
}

/// Whether the features were fitted to nobody's rows.
fn public_features(job: &Job) -> bool {
    let plan: &FeaturePlan = &job.features;
    let public = FittedFeatures::public(plan);
    public.is_some_and(|public| job.fitted.as_ref().is_some_and(|fitted| **fitted == public))
}
