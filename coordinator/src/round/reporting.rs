//! Reporting: the dealers send their masked updates, and each one accepted is in the sum.
//!
//! A site announces its update with a signed report; when there is a place for it, the packed words
//! follow in chunks, so that a broken transfer goes on where it was. *Accepted* is said when the update is durable, and never
//! taken back. Those accepted when the phase ends are the survivors. Start at
//! [`Reporting::on_report`].

use std::collections::BTreeMap;

use koinon_aggregation::Report;
use koinon_proto::wire::to_site::Message;
use koinon_proto::{Digest, Millis, SiteId, wire};
use serde::Serialize;

use super::unmasking::Unmasking;
use super::{Answers, Kept, Live, Phase, Terms, Turn, Wait, not_inside};
use crate::error::ReplayError;
use crate::event::{Rejection, codes};
use crate::record::{Bytes, Change};
use crate::upload::{Taken, Upload};

/// The session so far, and whose update is accepted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Reporting {
    pub(crate) bundles: BTreeMap<SiteId, Bytes>,
    pub(crate) shares: BTreeMap<SiteId, Kept>,
    pub(crate) updates: Answers<Update>,
}

/// An accepted masked update.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Update {
    /// The signed report, verbatim.
    pub(crate) report: Bytes,
    /// The blob with the packed words.
    pub(crate) blob: Digest,
    /// Its length.
    pub(crate) bytes: u64,
}

/// What a chunk comes to.
pub(crate) enum Chunk {
    /// Nothing to say.
    Silent,
    /// The site should send this one next.
    Wanted(u32),
    /// The update is whole and accepted.
    Whole {
        /// To be journaled.
        change: Change,
        /// The packed words.
        packed: Vec<u8>,
    },
    /// The site is declined, with this code.
    Bad(&'static str),
}

impl Reporting {
    /// A dealer announces its update; gives the chunk wanted next, or none when it is accepted or waits
    /// for its place.
    pub(crate) fn on_report(
        &self,
        terms: &Terms,
        live: &mut Live,
        site: &SiteId,
        message: wire::Report,
    ) -> Result<Option<u32>, Rejection> {
        let second = || Rejection::new(codes::EQUIVOCATION, "a second, different report");
        if let Some(known) = self.updates.of.get(site) {
            return if *known.report == message.report { Ok(None) } else { Err(second()) };
        }
        if !self.shares.contains_key(site) {
            return Err(not_inside(terms, site));
        }
        if let Some(upload) = live.uploads.get(site) {
            let same = upload.report() == message.report;
            return if same { Ok(live.wanted(site)) } else { Err(second()) };
        }
        let report = Report::from_bytes(&message.report)?;
        live.own_index(site, report.index())?;
        let bytes = live.session.plan().encoding.update_bytes();
        if message.bytes != bytes as u64 {
            let detail = format!("{} bytes announced where the plan has {bytes}", message.bytes);
            return Err(Rejection::new(codes::BAD_UPLOAD, detail));
        }
        live.uploads.insert(site.clone(), Upload::new(message.report, bytes));
        live.staging.ask(site);
        Ok(None)
    }

    /// A chunk of an announced update.
    pub(crate) fn on_chunk(
        &self,
        terms: &Terms,
        now: Millis,
        live: &mut Live,
        site: &SiteId,
        chunk: &wire::UploadChunk,
    ) -> Chunk {
        if self.updates.of.contains_key(site) {
            return Chunk::Wanted(chunk.total);
        }
        // Who has no place is not asked for chunks; those of one who lost it may still be on their way.
        let upload = live.uploads.get_mut(site).filter(|_| live.staging.holds(site));
        let Some(upload) = upload else { return Chunk::Silent };
        let packed = match upload.take(chunk) {
            Taken::Next => {
                live.staging.active(site, now);
                return Chunk::Wanted(upload.next());
            }
            Taken::Ignored => return Chunk::Silent,
            Taken::Misfit => return begin_again(upload),
            Taken::Whole(packed) => packed,
        };
        let report = upload.report().to_vec();
        let added = Report::from_bytes(&report)
            .map_err(koinon_aggregation::Rejection::from)
            .and_then(|report| live.session.add_masked(report, &packed));
        match added {
            Err(koinon_aggregation::Rejection::WrongUpdate { .. }) => begin_again(upload),
            Err(rejection) => Chunk::Bad(rejection.code()),
            Ok(()) => {
                live.end_upload(site);
                let change = Change::UpdateAccepted {
                    task: terms.task,
                    site: site.clone(),
                    report: report.into(),
                    update: Digest::of(&packed),
                    bytes: packed.len() as u64,
                };
                Chunk::Whole { change, packed }
            }
        }
    }

    /// Ends the phase when all have reported, or enough and time is up.
    pub(crate) fn on_deadline(
        &self,
        terms: &Terms,
        declined: &BTreeMap<SiteId, String>,
        now: Millis,
        live: &mut Live,
    ) -> Turn {
        let need = terms.need(self.bundles.len());
        let asked = |site: &SiteId| self.shares.contains_key(site);
        let waiting = self.updates.waiting(declined, self.shares.len(), asked);
        match self.updates.wait(terms, waiting, need, now) {
            Wait::Until(until_ms) => {
                let next_ms = live.staging.next_ms(now, terms.cutoff_ms());
                Turn::Wait(next_ms.map_or(until_ms, |next_ms| next_ms.min(until_ms)))
            }
            Wait::Hopeless(reason) => Turn::Abandon(reason),
            Wait::Over => match live.session.fix_survivors() {
                Ok(_) => Turn::Go(Change::SurvivorsFixed { task: terms.task }),
                Err(_) => Turn::Abandon(codes::TOO_FEW),
            },
        }
    }

    /// Who has not reported gets its shares; who has gets told that it counts.
    pub(super) fn mail(&self, terms: &Terms, live: &Live, site: &SiteId) -> Vec<Message> {
        let session: Vec<u8> = terms.session.into();
        if self.updates.of.contains_key(site) {
            return vec![Message::Accepted(wire::Accepted { session })];
        }
        let index = live.session.index_of(site.as_str());
        if let Some(index) = index.filter(|_| terms.plain) {
            // Who reports needs its number, which otherwise follows from what it was told before.
            let shares = vec![index.to_le_bytes().to_vec()];
            return vec![Message::Inbox(wire::Inbox { session, shares })];
        }
        let shares = index
            .and_then(|index| live.session.inbox_bytes_for(index).ok())
            .expect("a dealer of a session whose dealers are fixed has an inbox");
        vec![Message::Inbox(wire::Inbox { session, shares })]
    }

    pub(super) fn apply(mut self, terms: &Terms, at_ms: Millis, change: &Change) -> Option<Phase> {
        match change {
            Change::UpdateAccepted { site, report, update, bytes, .. } => {
                let need = terms.need(self.bundles.len());
                let accepted = Update { report: report.clone(), blob: *update, bytes: *bytes };
                let new = self.updates.add(at_ms, need, site, accepted);
                (new && self.shares.contains_key(site)).then_some(Phase::Reporting(self))
            }
            Change::SurvivorsFixed { .. } => Some(Phase::Unmasking(self.next())),
            _ => None,
        }
    }

    fn next(self) -> Unmasking {
        Unmasking {
            bundles: self.bundles,
            shares: self.shares,
            updates: self.updates.of,
            signatures: BTreeMap::new(),
            request: None,
            reveals: BTreeMap::new(),
        }
    }
}

/// One wrong upload may be an accident of the site's restart; two are not.
fn begin_again(upload: &mut Upload) -> Chunk {
    if upload.begin_again() { Chunk::Wanted(0) } else { Chunk::Bad(codes::BAD_UPLOAD) }
}

impl Live {
    pub(super) fn replay_updates(
        &mut self,
        updates: &BTreeMap<SiteId, Update>,
        blobs: &dyn Fn(&Digest) -> Option<Vec<u8>>,
        task: Digest,
    ) -> Result<(), ReplayError> {
        for (site, update) in updates {
            let what = || format!("the masked update of {site}");
            let packed = blobs(&update.blob)
                .ok_or_else(|| ReplayError::BlobMissing { digest: update.blob, what: what() })?;
            Report::from_bytes(&update.report)
                .map_err(koinon_aggregation::Rejection::from)
                .and_then(|report| self.session.add_masked(report, &packed))
                .map_err(|rejection| ReplayError::Session { task, what: rejection.to_string() })?;
        }
        Ok(())
    }
}
