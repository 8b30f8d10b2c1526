//! A commit against the oracle: the sum, and the version made of it.
//!
//! The sum is opened a second time from the verbatim messages that the journal names, and compared
//! word by word with the sum of what the sites' trainers returned. The version must then be the one
//! before, plus that sum's mean (for the optimizer that averages; the others keep state that only
//! the coordinator's own module defines, and its tests know).

use super::Checker;
use super::round::Round;
use crate::oracle::Expected;
use koinon_aggregation::privacy::clip::{after, share};
use koinon_aggregation::{Bundle, Report, Reveal, ServerSession, Shares, SurvivorSignature};
use koinon_coordinator::Kind;
use koinon_model::contribution::UNCLIPPED;
use koinon_model::params::Params;
use koinon_proto::task::ServerOptimizer;
use koinon_proto::{Digest, Millis, SessionId, SiteId};

impl Checker {
    pub(super) fn committed(
        &mut self,
        now: Millis,
        session: SessionId,
        result: Digest,
        blob: &dyn Fn(&Digest) -> Option<Vec<u8>>,
    ) {
        let Some(round) = self.rounds.get(&session) else { return };
        let (place, kind) = (round.place(), round.kind);
        self.counts.sums_checked += 1;
        let opened = self.reopen(round, blob);
        let problem = match (self.expected_sum(session), &opened) {
            (Err(e), _) => Some(e),
            (_, Err(e)) => Some(e.clone()),
            (Ok(expected), Ok(values)) => expected
                .mismatch(values)
                .or_else(|| self.wrong_version(session, kind, values, result, blob)),
        };
        let share = opened.ok().and_then(|values| self.unclipped_share(session, &values));
        self.unclipped.extend(share);
        if let Some(problem) = problem {
            self.violation(now, place, problem);
        }
        if kind == Kind::Train {
            self.version = Some(result);
        }
    }

    fn expected_sum(&self, session: SessionId) -> Result<Expected, String> {
        let mut sum: Option<Expected> = None;
        for site in self.accepted(session) {
            let index = self.index(&site).ok_or(format!("{site} is nobody"))?;
            let own = self.expected.get(&(session, index));
            let own = own.ok_or(format!("{site}'s update is counted, but it did not work"))?;
            match &mut sum {
                Some(sum) => sum.add(own),
                None => sum = Some(own.clone()),
            }
        }
        sum.ok_or("a sum over nobody was opened".to_owned())
    }

    /// Opens the session again from what the journal holds.
    fn reopen(
        &self,
        round: &Round,
        blob: &dyn Fn(&Digest) -> Option<Vec<u8>>,
    ) -> Result<Vec<i64>, String> {
        let again = || -> Result<Vec<i64>, Box<dyn std::error::Error>> {
            let members = self.roster.clients_at(None);
            let mut server = ServerSession::new(round.plan.clone())?;
            for bundle in round.bundles.values() {
                server.add_bundle(Bundle::from_bytes(bundle)?, &members)?;
            }
            let sites: Vec<&str> = round.participants.iter().map(SiteId::as_str).collect();
            server.fix_participants(&sites, &members)?;
            for shares in round.shares.values() {
                server.add_shares(Shares::from_bytes(shares)?)?;
            }
            server.fix_dealers()?;
            for (report, update) in round.updates.values() {
                let packed = blob(update).ok_or("a counted update is not on the disk")?;
                server.add_masked(Report::from_bytes(report)?, &packed)?;
            }
            server.fix_survivors()?;
            for signature in &round.signatures {
                server.add_signature(SurvivorSignature::from_bytes(signature)?)?;
            }
            for reveal in &round.reveals {
                server.add_reveal(Reveal::from_bytes(reveal)?)?;
            }
            Ok(server.open()?.0.values().to_vec())
        };
        again().map_err(|e| format!("the journal's messages do not open the sum: {e}"))
    }

    /// The share of contributions that a round did not clip, where the next clips follow it.
    fn unclipped_share(&self, session: SessionId, values: &[i64]) -> Option<f64> {
        let privacy = self.manifest.privacy?;
        let plan = &self.rounds.get(&session)?.plan.encoding;
        let (field, range) = plan.field(UNCLIPPED)?;
        let count = values[range].first().copied()? as f64 / f64::from(field.frac_bits).exp2();
        let contributions = privacy.expected_batch().unwrap_or(values[0] as f64);
        Some(share(privacy.adaptive()?.quantile, count, contributions))
    }

    /// Why the version is not the one before plus the mean.
    fn wrong_version(
        &self,
        session: SessionId,
        kind: Kind,
        values: &[i64],
        result: Digest,
        blob: &dyn Fn(&Digest) -> Option<Vec<u8>>,
    ) -> Option<String> {
        let ServerOptimizer::Average { learning_rate } = self.manifest.server_optimizer else {
            return None;
        };
        if kind != Kind::Train {
            return None;
        }
        let plan = &self.rounds.get(&session)?.plan.encoding;
        let (field, range) = plan.field("update")?;
        // By the sites' weight; for the unit record by the rows that were to be expected.
        let batch = self.manifest.privacy.and_then(|privacy| privacy.expected_batch());
        let scale = f64::from(field.frac_bits).exp2() * batch.unwrap_or(values[0] as f64);
        let unit = match self.manifest.privacy.and_then(|privacy| privacy.adaptive()) {
            Some(rule) => after(rule.initial, rule.quantile, rule.rate, &self.unclipped)?,
            None => 1.0,
        };
        let layout = self.spec.layout();
        let read = |digest: Digest| {
            let params = Params::from_safetensors(layout, &blob(&digest)?).ok()?;
            Some(params.values().to_vec())
        };
        let (Some(before), Some(after)) = (self.version.and_then(read), read(result)) else {
            return Some("a version is not on the disk".to_owned());
        };
        let off = |((before, after), value): ((&f32, &f32), &i64)| {
            let wanted = f64::from(*before) + learning_rate * unit * *value as f64 / scale;
            (f64::from(*after) - wanted).abs() > 1e-6 * wanted.abs().max(1.0)
        };
        let place = before.iter().zip(&after).zip(&values[range]).position(off)?;
        Some(format!("parameter {place} of the version is not the old one plus the mean"))
    }
}
