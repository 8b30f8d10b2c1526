//! Training: the invited sites work, and say when they are ready.
//!
//! Long local work comes first, so that a site lost while training costs the others nothing. A site
//! that is ready sends its one-time keys; those who are ready when the phase ends are the
//! participants. Start at [`Training::on_ready`].

use std::collections::BTreeMap;

use koinon_aggregation::{Bundle, Rejection as Refused};
use koinon_proto::wire::to_site::Message;
use koinon_proto::{Millis, SiteId, wire};
use serde::Serialize;

use super::sharing::Sharing;
use super::{Answers, Heard, Live, Phase, Terms, Turn, Wait, own, repeated};
use crate::event::codes;
use crate::record::{Bytes, Change};
use crate::task::private::Adapted;

/// Who is ready so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Training {
    pub(crate) bundles: Answers<Bytes>,
}

impl Training {
    /// A site is ready and offers its keys.
    pub(crate) fn on_ready(
        &self,
        terms: &Terms,
        live: &mut Live,
        site: &SiteId,
        bundle: Vec<u8>,
    ) -> Heard {
        if let Some(known) = self.bundles.of.get(site) {
            return repeated(**known == *bundle, "key bundle");
        }
        let message = Bundle::from_bytes(&bundle)?;
        own(site, message.site())?;
        live.session.add_bundle(message, &live.members)?;
        let (task, site, bundle) = (terms.task, site.clone(), bundle.into());
        Ok(Some(Change::BundleAccepted { task, site, bundle }))
    }

    /// Ends the phase when all are ready, or enough and time is up.
    pub(crate) fn on_deadline(
        &self,
        terms: &Terms,
        declined: &BTreeMap<SiteId, String>,
        now: Millis,
        live: &mut Live,
    ) -> Turn {
        let asked = |site: &SiteId| terms.cohort.contains(site);
        let waiting = self.bundles.waiting(declined, terms.cohort.len(), asked);
        match self.bundles.wait(terms, waiting, terms.quorum, now) {
            Wait::Until(until_ms) => Turn::Wait(until_ms),
            Wait::Hopeless(reason) => Turn::Abandon(reason),
            Wait::Over => self.fix(terms, live),
        }
    }

    /// Fixes the participants: all who are ready, without anyone who offers another one's keys.
    fn fix(&self, terms: &Terms, live: &mut Live) -> Turn {
        let mut sites: Vec<SiteId> = self.bundles.of.keys().cloned().collect();
        loop {
            let names: Vec<&str> = sites.iter().map(SiteId::as_str).collect();
            if names.len() < terms.quorum {
                return Turn::Abandon(codes::TOO_FEW);
            }
            match live.session.fix_participants(&names, &live.members) {
                Ok(()) => {
                    live.note_signers(&sites.iter().collect::<Vec<_>>());
                    return Turn::Go(Change::ParticipantsFixed { task: terms.task, sites });
                }
                Err(Refused::Duplicate { site }) => sites.retain(|other| other.as_str() != site),
                Err(_) => return Turn::Abandon(codes::TOO_FEW),
            }
        }
    }

    /// Who is not ready yet should be.
    pub(super) fn mail(&self, terms: &Terms, now: Millis, site: &SiteId) -> Vec<Message> {
        if self.bundles.of.contains_key(site) {
            return Vec::new();
        }
        let bytes =
            |digest: Option<koinon_proto::Digest>| digest.map(Vec::from).unwrap_or_default();
        vec![Message::Invite(wire::Invite {
            plan: terms.plan.to_vec(),
            task: terms.task.into(),
            round: terms.round,
            attempt: terms.attempt,
            kind: terms.kind.to_wire().into(),
            version: bytes(terms.version),
            fitted: bytes(terms.fitted),
            budget_ms: terms.deadline_ms.saturating_sub(now),
            unclipped: terms.adapted.as_ref().map(Adapted::told).unwrap_or_default(),
            clip: terms.adapted.as_ref().map_or(0.0, |adapted| adapted.clip.0),
            // What proves to this site that the log grew is added where it is posted.
            keys: terms.ahead.as_ref().map(|ahead| wire::KeysAhead {
                head: ahead.head.to_vec(),
                named: ahead.named.clone(),
                consistency: Vec::new(),
            }),
        })]
    }

    pub(super) fn apply(mut self, terms: &Terms, at_ms: Millis, change: &Change) -> Option<Phase> {
        match change {
            Change::BundleAccepted { site, bundle, .. } => {
                let new = self.bundles.add(at_ms, terms.quorum, site, bundle.clone());
                new.then_some(Phase::Training(self))
            }
            Change::ParticipantsFixed { sites, .. } => self.next(sites).map(Phase::Sharing),
            _ => None,
        }
    }

    fn next(mut self, sites: &[SiteId]) -> Option<Sharing> {
        let bundles: Option<BTreeMap<SiteId, Bytes>> =
            sites.iter().map(|site| self.bundles.of.remove_entry(site)).collect();
        Some(Sharing { bundles: bundles?, shares: Answers::default() })
    }
}

impl Live {
    pub(super) fn replay_bundles(
        &mut self,
        bundles: &BTreeMap<SiteId, Bytes>,
    ) -> Result<(), Refused> {
        for bundle in bundles.values() {
            self.session.add_bundle(Bundle::from_bytes(bundle)?, &self.members)?;
        }
        Ok(())
    }

    pub(super) fn replay_participants(
        &mut self,
        bundles: &BTreeMap<SiteId, Bytes>,
    ) -> Result<(), Refused> {
        self.replay_bundles(bundles)?;
        let names: Vec<&str> = bundles.keys().map(SiteId::as_str).collect();
        self.session.fix_participants(&names, &self.members)?;
        self.note_signers(&bundles.keys().collect::<Vec<_>>());
        Ok(())
    }
}
