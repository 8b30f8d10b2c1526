//! Sharing: the participants get each other's keys and deal shares of their secrets.
//!
//! The coordinator only carries the shares, sealed from site to site. Those who have dealt when the
//! phase ends are the dealers, and only they may report. Start at [`Sharing::on_shares`].

use std::collections::BTreeMap;

use koinon_aggregation::{Rejection as Refused, Shares};
use koinon_proto::wire::to_site::Message;
use koinon_proto::{Millis, SiteId, wire};
use serde::Serialize;

use super::reporting::Reporting;
use super::{Answers, Heard, Kept, Live, Phase, Terms, Turn, Wait, repeated};
use crate::event::codes;
use crate::record::{Bytes, Change};

/// The participants' bundles, and who has dealt so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Sharing {
    pub(crate) bundles: BTreeMap<SiteId, Bytes>,
    pub(crate) shares: Answers<Kept>,
}

impl Sharing {
    /// A participant deals.
    pub(crate) fn on_shares(
        &self,
        terms: &Terms,
        live: &mut Live,
        site: &SiteId,
        shares: Vec<u8>,
    ) -> Heard {
        if let Some(known) = self.shares.of.get(site) {
            return repeated(known.is(&shares), "dealing of shares");
        }
        let message = Shares::from_bytes(&shares)?;
        live.own_index(site, message.dealer())?;
        live.session.add_shares(message)?;
        let (task, site, shares) = (terms.task, site.clone(), shares.into());
        Ok(Some(Change::SharesAccepted { task, site, shares }))
    }

    /// Ends the phase when all have dealt, or enough and time is up.
    pub(crate) fn on_deadline(
        &self,
        terms: &Terms,
        declined: &BTreeMap<SiteId, String>,
        now: Millis,
        live: &mut Live,
    ) -> Turn {
        let need = terms.need(self.bundles.len());
        if terms.plain {
            return self.end(terms, live);
        }
        let asked = |site: &SiteId| self.bundles.contains_key(site);
        let waiting = self.shares.waiting(declined, self.bundles.len(), asked);
        match self.shares.wait(terms, waiting, need, now) {
            Wait::Until(until_ms) => Turn::Wait(until_ms),
            Wait::Hopeless(reason) => Turn::Abandon(reason),
            Wait::Over => self.end(terms, live),
        }
    }

    fn end(&self, terms: &Terms, live: &mut Live) -> Turn {
        match live.session.fix_dealers() {
            Ok(_) => Turn::Go(Change::DealersFixed { task: terms.task }),
            Err(_) => Turn::Abandon(codes::TOO_FEW),
        }
    }

    /// Who has not dealt yet should.
    pub(super) fn mail(&self, terms: &Terms, live: &Live, site: &SiteId) -> Vec<Message> {
        if terms.plain || self.shares.of.contains_key(site) {
            return Vec::new();
        }
        let session = terms.session.into();
        let (bundles, notice) = if terms.complete {
            (self.bundles.values().map(|bundle| bundle.to_vec()).collect(), Vec::new())
        } else {
            let notice = live
                .session
                .index_of(site.as_str())
                .and_then(|index| live.session.notice_bytes_for(index).ok())
                .expect("a participant of a session whose participants are fixed has a notice");
            (Vec::new(), notice)
        };
        vec![Message::Participants(wire::Participants { session, bundles, notice })]
    }

    pub(super) fn apply(mut self, terms: &Terms, at_ms: Millis, change: &Change) -> Option<Phase> {
        match change {
            Change::SharesAccepted { site, shares, .. } => {
                let need = terms.need(self.bundles.len());
                let new = self.shares.add(at_ms, need, site, Kept::new(shares));
                (new && self.bundles.contains_key(site)).then_some(Phase::Sharing(self))
            }
            Change::DealersFixed { .. } => Some(Phase::Reporting(self.next(terms))),
            _ => None,
        }
    }

    fn next(self, terms: &Terms) -> Reporting {
        let (bundles, mut shares) = (self.bundles, self.shares.of);
        if terms.plain {
            // Nobody deals, so everybody may report.
            let nothing = Kept::new(&Bytes::default());
            shares = bundles.keys().map(|site| (site.clone(), nothing.clone())).collect();
        }
        Reporting { bundles, shares, updates: Answers::default() }
    }
}

impl Live {
    pub(super) fn replay_shares(&mut self, shares: &BTreeMap<SiteId, Kept>) -> Result<(), Refused> {
        let mut all = shares.values();
        all.try_for_each(|shares| self.session.add_shares(Shares::from_bytes(shares.bytes())?))
    }
}
