//! Training: local work is under way, and nothing of this session has left the site.
//!
//! Long work comes before keys are offered, so that a site lost here costs the others nothing. With the
//! result the one-time keys are offered, fresh ones if none were posted ahead: the first thing that must
//! not be said differently.

use koinon_aggregation::client::advertise_posted;
use koinon_aggregation::{Clipped, EncodeError, Encoded, EncodingPlan, Signer};
use koinon_model::metrics::evaluation::evaluation_fields;
use koinon_proto::wire::to_coordinator::Message as Reply;
use koinon_proto::{SessionId, wire};
use rand::CryptoRng;

use super::invited::invite_digest;
use super::phase::Round;
use super::sharing::Sharing;
use super::{Note, Participant, Phase, Turn, check};
use crate::durable::{Active, Opened, Question};
use crate::trainer::{Contribution, WorkError};

/// See the module.
pub(super) struct Training {
    pub(super) round: Round,
    /// What the sum is over.
    pub(super) opens: Opened,
}

impl Participant {
    pub(super) fn worked(
        &mut self,
        turn: &mut Turn<'_>,
        session: SessionId,
        result: Result<Contribution, WorkError>,
    ) {
        let working = self.phase.is_working();
        let Some(round) = self.phase.round().filter(|round| working && round.session == session)
        else {
            return; // Work for a session that was left.
        };
        let private = round.manifest.privacy.is_some();
        let encoded = match result {
            Ok(mut contribution) => {
                if check::withholds_figures(round) {
                    withhold_figures(&mut contribution);
                }
                encode(&round.plan.encoding, contribution, turn.rng)
            }
            // Whether the work of a private round can be done depends on the rows: that is told to
            // nobody, and the site's word is noise alone. Who asked it to stop knows that already.
            Err(error) if private && !matches!(error, WorkError::Stopped) => {
                turn.note(Note::Nothing { session, code: error.code() });
                nothing(&round.plan.encoding, turn.rng)
            }
            Err(error) => return self.fail(turn, error.code()),
        };
        let encoded = match encoded {
            Err(_) if private => {
                turn.note(Note::Nothing { session, code: "contribution" });
                nothing(&round.plan.encoding, turn.rng)
            }
            encoded => encoded,
        };
        match (encoded, &self.phase) {
            (Err(_), _) => self.fail(turn, "contribution"),
            (Ok(encoded), Phase::Training(_)) => self.advertise(turn, encoded),
            (Ok(encoded), _) => self.worked_again(turn, encoded),
        }
    }

    fn advertise(&mut self, turn: &mut Turn<'_>, encoded: Encoded) {
        let Phase::Training(Training { round, opens }) =
            std::mem::replace(&mut self.phase, Phase::Idle)
        else {
            unreachable!("worked() looked at the phase");
        };
        let keys = self.keys_for(turn, &round.session);
        let signer: &dyn Signer = &self.setup.identity;
        let site = self.setup.site.as_str();
        let advertised = advertise_posted(round.plan.clone(), site, &keys, signer);
        let (state, bundle) = advertised.expect("the plan was checked when it was read");
        let asked = invite_digest(&round.invite);
        self.durable.sessions.insert(round.session);
        self.durable.active = Some(Active::new(&round, opens));
        let session = round.session.into();
        let message = Reply::Ready(wire::Ready { session, bundle: bundle.to_bytes() });
        let secret = state.to_secret_bytes();
        self.move_to(turn, Phase::Sharing(Sharing::new(round, encoded)));
        self.answer(turn, Question::Invite, asked, Some(message), secret);
    }
}

/// Makes the figures at the end of a contribution to training those of no rows. Two sums of figures
/// over the same parameters would, subtracted, be the figures of the sites that are in one of them.
fn withhold_figures(contribution: &mut Contribution) {
    let figures = evaluation_fields().len();
    for values in contribution.values.iter_mut().rev().take(figures) {
        values.fill(0.0);
    }
}

/// A private contribution of no rows.
fn nothing(plan: &EncodingPlan, rng: &mut dyn CryptoRng) -> Result<Encoded, EncodeError> {
    // All fields but the weight.
    let lengths = plan.fields().iter().skip(1).map(|field| field.len);
    encode(plan, Contribution::nothing(lengths), rng)
}

/// Clips and rounds a contribution into the plan's integers.
pub(super) fn encode(
    plan: &EncodingPlan,
    contribution: Contribution,
    rng: &mut dyn CryptoRng,
) -> Result<Encoded, EncodeError> {
    // A site with more rows than the task counts weighs as if it had as many as it counts.
    let weight = contribution.weight.clamp(1, plan.w_max());
    let values = contribution.values.into_iter().map(Into::into).collect();
    Ok(Encoded::new(Clipped::new(plan, values, weight)?, rng))
}
