//! Unmasking: the survivors sign who they are, then reveal what takes the masks off.
//!
//! Until the request leaves, the round can be abandoned and tried again. From then on the sites count
//! its parameters as spent, under any name: so after a crash this very session goes on, it is never
//! begun anew, and when it fails the task has to find other parameters (`task`). Start at
//! [`Unmasking::on_signature`].

use std::collections::BTreeMap;

use koinon_aggregation::{Rejection as Refused, Reveal, SurvivorSignature};
use koinon_proto::wire::to_site::Message;
use koinon_proto::{Millis, SiteId, wire};
use serde::Serialize;

use super::reporting::Update;
use super::{Heard, Kept, Live, Terms, Turn, repeated};
use crate::event::codes;
use crate::record::{Bytes, Change};

/// The session so far, who has signed, and who has revealed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Unmasking {
    pub(crate) bundles: BTreeMap<SiteId, Bytes>,
    pub(crate) shares: BTreeMap<SiteId, Kept>,
    pub(crate) updates: BTreeMap<SiteId, Update>,
    pub(crate) signatures: BTreeMap<SiteId, Bytes>,
    /// The signatures that were sent out with the request; none before.
    pub(crate) request: Option<Bytes>,
    pub(crate) reveals: BTreeMap<SiteId, Kept>,
}

impl Unmasking {
    /// A survivor signs the set. What comes after the quorum is right, and too late to matter.
    pub(crate) fn on_signature(
        &self,
        terms: &Terms,
        live: &mut Live,
        site: &SiteId,
        signature: Vec<u8>,
    ) -> Heard {
        if let Some(known) = self.signatures.get(site) {
            return repeated(**known == *signature, "survivor signature");
        }
        let message = SurvivorSignature::from_bytes(&signature)?;
        live.own_index(site, message.index())?;
        if self.request.is_some() {
            return Ok(None);
        }
        live.session.add_signature(message)?;
        let (task, site, signature) = (terms.task, site.clone(), signature.into());
        Ok(Some(Change::SignatureAccepted { task, site, signature }))
    }

    /// A survivor reveals.
    pub(crate) fn on_reveal(
        &self,
        terms: &Terms,
        live: &mut Live,
        site: &SiteId,
        reveal: Vec<u8>,
    ) -> Heard {
        if let Some(known) = self.reveals.get(site) {
            return repeated(known.is(&reveal), "reveal");
        }
        if self.request.is_none() {
            return Err(super::out_of_turn(codes::EARLY, "a reveal", "signatures are awaited"));
        }
        let message = Reveal::from_bytes(&reveal)?;
        live.own_index(site, message.index())?;
        live.session.add_reveal(message)?;
        let (task, site, reveal) = (terms.task, site.clone(), reveal.into());
        Ok(Some(Change::RevealAccepted { task, site, reveal }))
    }

    /// Asks for reveals as soon as a quorum has signed, opens as soon as that is possible.
    pub(crate) fn on_deadline(
        &self,
        terms: &Terms,
        declined: &BTreeMap<SiteId, String>,
        now: Millis,
        live: &mut Live,
    ) -> Turn {
        if terms.plain {
            return Turn::Open;
        }
        if self.request.is_some() {
            let gone = |site: &&SiteId| {
                self.updates.contains_key(*site) && !self.reveals.contains_key(*site)
            };
            let gone = declined.keys().filter(gone).count();
            let waiting = self.updates.len() - self.reveals.len() - gone;
            let hopeless = self.reveals.len() + waiting < live.session.threshold();
            return match live.session.can_open() {
                true => Turn::Open,
                false if hopeless || waiting == 0 => Turn::Abandon(codes::UNOPENED),
                false if now >= terms.deadline_ms => Turn::Abandon(codes::DEADLINE),
                false => Turn::Wait(terms.deadline_ms),
            };
        }
        if let Ok(signatures) = live.session.unmask_request() {
            let request = request_bytes(&signatures).into();
            return Turn::Go(Change::UnmaskStarted { task: terms.task, request });
        }
        let may = |site: &&SiteId| {
            let open = !self.signatures.contains_key(*site) && !declined.contains_key(*site);
            open && self.updates.contains_key(*site)
        };
        let waiting = live.signers.iter().filter(may).count();
        let hopeless = self.signatures.len() + waiting < live.session.signature_quorum();
        match now >= terms.cutoff_ms() {
            _ if hopeless => Turn::Abandon(codes::TOO_FEW),
            true => Turn::Abandon(codes::DEADLINE),
            false => Turn::Wait(terms.cutoff_ms()),
        }
    }

    /// Who has not signed should, as far as its signature counts; the others learn whose update is in
    /// the sum. Once there is a quorum, who has not revealed should.
    pub(super) fn mail(&self, terms: &Terms, live: &Live, site: &SiteId) -> Vec<Message> {
        let session = || Vec::from(terms.session);
        let mut mail = Vec::new();
        if terms.plain || self.reveals.contains_key(site) {
            return mail;
        }
        if !self.signatures.contains_key(site) {
            mail.push(Message::Accepted(wire::Accepted { session: session() }));
            mail.push(Message::Survivors(self.survivors(terms, live)));
        }
        if let Some(request) = &self.request {
            let request = request.to_vec();
            mail.push(Message::Unmask(wire::Unmask { session: session(), request }));
        }
        mail
    }

    fn survivors(&self, terms: &Terms, live: &Live) -> wire::Survivors {
        let session = terms.session.into();
        let indices = live.session.reported();
        if terms.complete {
            let indices = indices.into_iter().map(u32::from).collect();
            return wire::Survivors { session, indices, bitmap: Vec::new() };
        }
        let mut bitmap = vec![0_u8; self.bundles.len().div_ceil(8)];
        indices.into_iter().for_each(|index| bitmap[usize::from(index / 8)] |= 1 << (index % 8));
        wire::Survivors { session, indices: Vec::new(), bitmap }
    }

    pub(super) fn apply(mut self, change: &Change) -> Option<Self> {
        let inside = |site: &SiteId| self.updates.contains_key(site);
        let new = match change {
            Change::SignatureAccepted { site, signature, .. } => {
                inside(site) && self.signatures.insert(site.clone(), signature.clone()).is_none()
            }
            Change::UnmaskStarted { request, .. } => {
                self.request.replace(request.clone()).is_none()
            }
            Change::RevealAccepted { site, reveal, .. } => {
                inside(site)
                    && self.request.is_some()
                    && self.reveals.insert(site.clone(), Kept::new(reveal)).is_none()
            }
            _ => false,
        };
        new.then_some(self)
    }
}

/// The request for reveals: the quorum's signatures, one after the other; each has the same length.
fn request_bytes(signatures: &[SurvivorSignature]) -> Vec<u8> {
    signatures.iter().flat_map(SurvivorSignature::to_bytes).collect()
}

impl Live {
    pub(super) fn replay_unmasking(&mut self, phase: &Unmasking) -> Result<(), Refused> {
        for signature in phase.signatures.values() {
            self.session.add_signature(SurvivorSignature::from_bytes(signature)?)?;
        }
        for reveal in phase.reveals.values() {
            self.session.add_reveal(Reveal::from_bytes(reveal.bytes())?)?;
        }
        Ok(())
    }
}
