//! What the coordinator promises about a round, checked by the site itself before anything leaves.
//!
//! Two looks: [`invitation`] needs only the invitation, the manifest and the policy; [`content`] needs
//! the blobs, and computes again what the coordinator computed (the encoding, the context, the fresh
//! parameters of the first round). What cannot be verified is refused.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use koinon_aggregation::parameters::Assumptions;
use koinon_aggregation::planted::{Weakness, weak};
use koinon_aggregation::{
    COMPLETE_MAX, CodecError, EncodingPlan, Field, SessionPlan, Topology, plain, threshold,
};
use koinon_model::contribution::{FieldChoice, FieldSpec, fields};
use koinon_model::features::FeaturePlan;
use koinon_model::features::fitted::FittedFeatures;
use koinon_model::params::Params;
use koinon_model::plan::TrainingPlan;
use koinon_model::spec::{CheckedSpec, ModelSpec};
use koinon_proto::task::{InitFrom, Privacy, TaskKind};
use koinon_proto::wire::RoundKind as WireKind;
use koinon_proto::{Digest, SiteId, TaskManifest, context, context_with_keys, wire};

use super::offers::permitted;
use super::phase::Round;
use super::private;
use crate::budget;
use crate::durable::{Durable, Opened, SESSIONS_MAX};
use crate::error::Refusal;
use crate::policy::Policy;
use crate::trainer::{Job, RoundKind, job_seed};

/// A task's manifest, as bytes and as read.
pub(super) struct Task {
    pub(super) bytes: Vec<u8>,
    pub(super) manifest: Arc<TaskManifest>,
}

/// The round that an invitation is into, as far as it can be read without the blobs.
pub(super) fn read(invite: wire::Invite, task: Task) -> Result<Round, Refusal> {
    let kind = kind_of(&invite)?;
    let plan = SessionPlan::from_bytes(&invite.plan).map_err(|error| match error {
        CodecError::Version(_) => Refusal::ProtocolTooOld,
        _ => Refusal::PlanInvalid,
    })?;
    let digest = |bytes: &[u8]| Digest::optional(bytes).map_err(|_| Refusal::PlanInvalid);
    let (version, fitted) = (digest(&invite.version)?, digest(&invite.fitted)?);
    Ok(Round {
        session: Digest(plan.session),
        task: Digest::of(&task.bytes),
        manifest_bytes: task.bytes,
        manifest: task.manifest,
        invite,
        plan,
        kind,
        version,
        fitted,
    })
}

/// Whether the site takes part, as far as that can be said without the blobs.
pub(super) fn invitation(
    round: &Round,
    policy: &Policy,
    durable: &Durable,
    roster: Option<Digest>,
) -> Result<(), Refusal> {
    let Round { manifest, plan, kind, .. } = round;
    permitted(policy, &round.task, manifest)?;
    let refuse = |wrong: bool, refusal| if wrong { Err(refusal) } else { Ok(()) };
    refuse(plan.protocol_version() < policy.protocol.min_version, Refusal::ProtocolTooOld)?;
    refuse(roster != Some(Digest(plan.roster)), Refusal::RosterMismatch)?;
    refuse(!kind_fits(round), Refusal::PlanInvalid)?;
    // Where a graph is drawn, keys that are known before the session has a name would let it be chosen.
    let named = round.invite.keys.is_some();
    refuse(named && plan.protocol_version() != 1, Refusal::PlanInvalid)?;
    private::affordable(round, policy, &durable.budget)?;
    refuse(plan.n_min < round.floor(policy.cohort.min), Refusal::CohortTooSmall)?;
    refuse(!graph_is_strong(round, policy), Refusal::GraphTooWeak)?;
    let clip = private::clip(round)?;
    let adaptive = manifest.privacy.as_ref().and_then(Privacy::adaptive);
    let bound = context(
        &round.task,
        wire_kind(*kind),
        round.invite.round,
        round.version.as_ref(),
        round.fitted.as_ref(),
        clip.filter(|_| adaptive.is_some()),
    );
    let bound = match &round.invite.keys {
        Some(ahead) => {
            let named = ahead.named.first().map(|named| Digest::try_from(&named[..]));
            let named = named.and_then(Result::ok).ok_or(Refusal::PlanInvalid)?;
            context_with_keys(&bound, &ahead.head, &named)
        }
        None => bound,
    };
    refuse(plan.context != bound && !weak(Weakness::AnyContext), Refusal::ContextMismatch)?;
    let promised = match manifest.init_from {
        InitFrom::Version { digest } | InitFrom::File { digest } => Some(digest),
        InitFrom::Fresh { .. } => None,
    };
    let first = round.invite.round <= 1 && *kind != RoundKind::Statistics;
    let starts_elsewhere = promised.is_some() && round.version != promised;
    refuse(first && starts_elsewhere, Refusal::ContextMismatch)?;
    let left = durable.sessions.contains(&round.session) && !weak(Weakness::LeftSession);
    refuse(left, Refusal::SessionLeft)?;
    let full = durable.sessions.len().max(durable.spent.len()) >= SESSIONS_MAX;
    refuse(full, Refusal::StateFull)?;
    let bytes = plan.encoding.update_bytes() as u64;
    refuse(bytes > policy.tasks.round_bytes_max, Refusal::RoundTooLarge)
}

/// Whether as much is withstood as the task and the site's policy say. That the graph is as strong as
/// it claims for those who take part is checked when they are known.
fn graph_is_strong(round: &Round, policy: &Policy) -> bool {
    if plain::is_plain(&round.plan) {
        return true;
    }
    let cohort = &round.manifest.cohort;
    match (&round.plan.topology, usize::from(cohort.max) <= COMPLETE_MAX) {
        (Topology::Complete, complete) => complete,
        (Topology::Sparse(sparse), false) => {
            let Assumptions { colluding_percent, sigma, .. } = sparse.assumptions;
            let least = cohort.colluding_percent.max(policy.cohort.colluding_percent_min);
            colluding_percent >= least && sigma >= policy.cohort.sigma_min
        }
        _ => false,
    }
}

/// Whether the whole roster's colluders may be in a round of one of these numbers of participants: the
/// sum must withstand them, and in a private round the noise be counted without any of theirs.
pub(super) fn roster(
    round: &Round,
    policy: &Policy,
    sizes: RangeInclusive<usize>,
    members: usize,
) -> Result<(), Refusal> {
    let colluding = colluders(round, policy, members);
    if !withstands_roster(round, sizes, colluding) {
        return Err(Refusal::GraphTooWeak);
    }
    match &round.manifest.privacy {
        Some(privacy) if usize::from(privacy.colluding) < colluding => Err(Refusal::PrivacyTooWeak),
        _ => Ok(()),
    }
}

/// How many of a roster of so many sites are assumed to collude.
fn colluders(round: &Round, policy: &Policy, members: usize) -> usize {
    let own = policy.cohort.colluding_percent_min;
    let percent = match &round.plan.topology {
        Topology::Sparse(_) => own.max(round.manifest.cohort.colluding_percent),
        _ => own,
    };
    part(members, percent)
}

/// A share in percent, rounded up.
fn part(of: usize, percent: u8) -> usize {
    (of * usize::from(percent)).div_ceil(100)
}

/// Whether a round withstands the colluders of the whole roster at one of these numbers of
/// participants, should all of them be among those: the coordinator chooses who takes part, so a share
/// of the session alone would let it gather them.
///
/// On a graph the plan's assumptions must cover them. Where everybody shares with everybody, 2t - n of
/// them could sign two sets of survivors and so open both secrets of one site; fewer cannot (Bonawitz
/// et al. 2017, section 6), and of the t survivors at least two must be honest, or the sum less what
/// the colluders know is one site's update. (From n = 4 on the first says the second.)
fn withstands_roster(round: &Round, mut sizes: RangeInclusive<usize>, colluding: usize) -> bool {
    if plain::is_plain(&round.plan) {
        return true;
    }
    if let Topology::Sparse(sparse) = &round.plan.topology {
        return sizes.any(|n| part(n, sparse.assumptions.colluding_percent) >= colluding);
    }
    sizes.any(|n| complete_withstands(n, colluding)) || weak(Weakness::AnyGraph)
}

/// Whether `n` participants that all share with all withstand so many colluders among them.
fn complete_withstands(n: usize, colluding: usize) -> bool {
    let t = threshold(n);
    n + colluding < 2 * t && colluding + 2 <= t
}

/// What the invitation's kind may be for the manifest's, and what must come with it.
fn kind_fits(round: &Round) -> bool {
    let number = round.invite.round;
    let rounds = round.manifest.rounds;
    let has_version = round.version.is_some();
    // A private task opens noised updates and nothing else.
    if round.manifest.privacy.is_some() && round.kind != RoundKind::Train {
        return false;
    }
    match (round.manifest.kind, round.kind) {
        // Round 0 fits the features; it may be the only round of its kind.
        (TaskKind::Train | TaskKind::Evaluate, RoundKind::Statistics) => {
            number == 0 && !has_version && round.fitted.is_none()
        }
        (TaskKind::Statistics, RoundKind::Statistics) => {
            number <= 1 && !has_version && round.fitted.is_none()
        }
        (TaskKind::Train, RoundKind::Train) => (1..=rounds).contains(&number) && has_version,
        // The last version is evaluated after the last round.
        (TaskKind::Train, RoundKind::Evaluate) => {
            (1..=rounds.saturating_add(1)).contains(&number) && has_version
        }
        (TaskKind::Evaluate, RoundKind::Evaluate) => number <= 1 && has_version,
        _ => false,
    }
}

/// The work of a round, and what its sum is over: once all blobs are here.
pub(super) fn content(
    round: &Round,
    blobs: &BTreeMap<Digest, &[u8]>,
    site: &SiteId,
    durable: &Durable,
) -> Result<(Job, Opened), Refusal> {
    let job = job(round, blobs, site)?;
    let encoding = encoding(&job)?;
    if encoding != round.plan.encoding && !weak(Weakness::AnyEncoding) {
        return Err(Refusal::EncodingMismatch);
    }
    private::sound(round, &job)?;
    // By content: the same parameters or feature plan under another file's name, or in another task,
    // are the same.
    let (over, refusal) = match (&job.params, round.kind) {
        (Some(params), _) => (params.digest(), Refusal::Spent),
        (None, RoundKind::Statistics) => (job.features.digest(), Refusal::StatisticsOpened),
        (None, _) => return Err(Refusal::PlanInvalid),
    };
    let opened = (kind_byte(round.kind), Digest(over));
    let figures = round.manifest.privacy.is_none() && !withholds_figures(round);
    let figures_again = figures && figures_opened(durable, opened.1);
    if (figures_again || durable.spent.contains(&opened)) && !weak(Weakness::Respent) {
        return Err(refusal);
    }
    Ok((job, opened))
}

/// Whether validation figures over parameters of this content were opened, whatever opened them: a
/// round of training sums the figures of the version that it starts from too.
fn figures_opened(durable: &Durable, params: Digest) -> bool {
    let opened = |kind| durable.spent.contains(&(kind_byte(kind), params));
    opened(RoundKind::Train) || opened(RoundKind::Evaluate)
}

/// Whether a round of training is without validation figures: the first from a version that is given,
/// since that may have been evaluated before. The task alone says so, never what one site opened: if
/// only those sites left their figures out, the sum would be the figures of the others, or of one.
pub(super) fn withholds_figures(round: &Round) -> bool {
    let given = !matches!(round.manifest.init_from, InitFrom::Fresh { .. });
    // A private round sums no figures that could be withheld.
    given
        && round.manifest.privacy.is_none()
        && round.kind == RoundKind::Train
        && round.invite.round == 1
}

fn job(round: &Round, blobs: &BTreeMap<Digest, &[u8]>, site: &SiteId) -> Result<Job, Refusal> {
    let manifest = &round.manifest;
    let blob = |digest: &Digest| blobs.get(digest).copied().ok_or(Refusal::BlobInvalid);
    let invalid = |_| Refusal::BlobInvalid;
    let features =
        FeaturePlan::from_json(blob(&manifest.features)?).map_err(|_| Refusal::BlobInvalid)?;
    let spec = match manifest.model.filter(|_| round.kind != RoundKind::Statistics) {
        Some(digest) => {
            let spec = ModelSpec::from_json(blob(&digest)?).and_then(ModelSpec::check);
            Some(spec.map_err(invalid)?)
        }
        None => None,
    };
    let training = match manifest.training.filter(|_| round.kind == RoundKind::Train) {
        Some(digest) => {
            let plan = TrainingPlan::from_json(blob(&digest)?);
            Some(plan.map_err(|_| Refusal::BlobInvalid)?)
        }
        None => None,
    };
    let params = match (&spec, &round.version) {
        (Some(spec), Some(digest)) => Some(parameters(spec, blob(digest)?, round)?),
        _ => None,
    };
    let fitted = match &round.fitted {
        Some(digest) => {
            let fitted = FittedFeatures::from_canonical(&features, blob(digest)?);
            Some(Arc::new(fitted.map_err(|_| Refusal::BlobInvalid)?))
        }
        None => None,
    };
    Ok(Job {
        session: round.session,
        task: round.task,
        manifest: Arc::clone(manifest),
        kind: round.kind,
        round: round.invite.round,
        features: Arc::new(features),
        spec: spec.map(Arc::new),
        training: training.map(Arc::new),
        params: params.map(Arc::new),
        fitted,
        seed: job_seed(manifest.seed, round.invite.round, site),
        draw: None,
        clip: private::clip(round)?,
        budget_ms: round.invite.budget_ms,
    })
}

/// The version's parameters. Those of a fresh first round are drawn again here and compared.
fn parameters(spec: &CheckedSpec, bytes: &[u8], round: &Round) -> Result<Params, Refusal> {
    let params =
        Params::from_safetensors(spec.layout(), bytes).map_err(|_| Refusal::BlobInvalid)?;
    if let InitFrom::Fresh { seed } = round.manifest.init_from
        && round.kind == RoundKind::Train
        && round.invite.round == 1
        && params.digest() != Params::init(spec, seed).digest()
        && !weak(Weakness::AnyContext)
    {
        return Err(Refusal::ContextMismatch);
    }
    Ok(params)
}

/// The encoding that the approved task gives for a round.
fn encoding(job: &Job) -> Result<EncodingPlan, Refusal> {
    let choice = &job.manifest.encoding;
    let trainable = job.spec.as_ref().map_or(0, |spec| spec.layout().trainable());
    let chosen = FieldChoice {
        update_bound: choice.update_bound,
        frac_bits: choice.frac_bits,
        rows_max: choice.rows_max,
        private: job.manifest.privacy.is_some(),
        count_frac_bits: job.manifest.count_frac_bits(),
    };
    let field = |field: FieldSpec| Field {
        name: field.name,
        len: field.len,
        bound: field.bound,
        frac_bits: field.frac_bits,
        weighted: field.weighted,
    };
    let fields = fields(job.kind, trainable, &job.features, &chosen).into_iter().map(field);
    let clip = (job.kind == RoundKind::Train).then_some(choice.clip_l2);
    let n_max = u32::from(job.manifest.cohort.max);
    let plan = EncodingPlan::new(fields.collect(), clip, n_max, choice.rows_max)
        .map_err(|_| Refusal::PlanInvalid)?;
    let Some(mechanism) = budget::mechanism(&job.manifest, trainable) else { return Ok(plan) };
    let share = mechanism.share().map_err(|_| Refusal::PrivacyUnsound)?;
    plan.with_noise(share).map_err(|_| Refusal::PlanInvalid)
}

fn kind_of(invite: &wire::Invite) -> Result<RoundKind, Refusal> {
    match invite.kind() {
        WireKind::Statistics => Ok(RoundKind::Statistics),
        WireKind::Train => Ok(RoundKind::Train),
        WireKind::Evaluate => Ok(RoundKind::Evaluate),
        WireKind::Unspecified => Err(Refusal::PlanInvalid),
    }
}

fn wire_kind(kind: RoundKind) -> WireKind {
    match kind {
        RoundKind::Statistics => WireKind::Statistics,
        RoundKind::Train => WireKind::Train,
        RoundKind::Evaluate => WireKind::Evaluate,
    }
}

/// The kind as the durable state writes it.
fn kind_byte(kind: RoundKind) -> u8 {
    match kind {
        RoundKind::Statistics => 1,
        RoundKind::Train => 2,
        RoundKind::Evaluate => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By counting: whether `colluding` of `n` can give two sets of survivors a quorum each, when every
    /// honest site signs at most one; or a quorum needs fewer than two honest ones.
    fn can_cheat(n: usize, colluding: usize) -> bool {
        let (t, honest) = (threshold(n), n.saturating_sub(colluding));
        let two_sets = (0..=honest).any(|a| a + colluding >= t && honest - a + colluding >= t);
        colluding >= n || two_sets || t < colluding + 2
    }

    #[test]
    fn a_complete_cohort_withstands_what_counting_says() {
        for n in 3..=COMPLETE_MAX {
            for colluding in 0..=n + 1 {
                assert_eq!(
                    complete_withstands(n, colluding),
                    !can_cheat(n, colluding),
                    "{n} {colluding}"
                );
            }
            assert!(complete_withstands(n, n / 3) || n == 3, "a third is always withstood");
        }
        // Small federations at one in ten, the number rounded up: all of 3, of 5, of 16 take part.
        assert!([(3, 1), (4, 1), (5, 1), (16, 2)].iter().all(|&(n, c)| complete_withstands(n, c)));
        // Nine gathered from 64 with the seven who collude; three of whom two collude.
        assert!(!complete_withstands(9, 7) && !complete_withstands(3, 2));
    }
}
