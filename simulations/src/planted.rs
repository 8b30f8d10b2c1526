//! Bugs planted on purpose, to see that the checker finds them.
//!
//! Each wraps what a core asks for, or what it is given, as a defect in that core would; the cores
//! themselves stay as shipped. No scenario can switch one on: only
//! [`Simulation::with_planted`](crate::Simulation::with_planted), which is for tests.
//!
//! Start at [`Bug`].

use crate::checker::{Checker, mail_to_coordinator, mail_to_site};
use crate::oracle::{pack, unpack};
use crate::site::Site;
use koinon_aggregation::Signer as _;
use koinon_aggregation::identity::Identity;
use koinon_client::participant::{Effect, Event};
use koinon_client::trainer::Contribution;
use koinon_coordinator::record::{Change, Record};
use koinon_proto::wire::{self, coordinator_frame, site_frame, to_coordinator, to_site};
use koinon_proto::{Digest, Millis, PROTOCOL, SessionId, SiteId, envelope};
use prost::Message as _;
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeMap;

/// A bug planted on purpose.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The coordinator's driver loses a record and lets its effects leave.
    LostWrite,
    /// One site's update is in the sum twice.
    CountedTwice,
    /// A site signs and reveals for any set of survivors, whatever it signed before.
    MissingSurvivorCheck,
    /// A site sends its encoded update as it is.
    MaskOmitted,
    /// A site that connected again uses its first mask for another update.
    MaskReused,
}

/// A planted bug at work.
pub(crate) struct Planted {
    bug: Bug,
    /// The site that has it, or whose record is lost.
    victim: usize,
    victim_name: SiteId,
    coordinator: (SiteId, Identity),
    rng: ChaCha20Rng,
    connections: u64,
    /// The first mask of each length.
    masks: BTreeMap<usize, (SessionId, Vec<u64>)>,
    asked: BTreeMap<SessionId, u8>,
}

impl Planted {
    pub(crate) fn new(
        bug: Bug,
        victim: (usize, SiteId),
        coordinator: (SiteId, Identity),
        rng: ChaCha20Rng,
    ) -> Planted {
        Planted {
            bug,
            victim: victim.0,
            victim_name: victim.1,
            coordinator,
            rng,
            connections: 0,
            masks: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Whether the coordinator's driver writes this record.
    pub(crate) fn keeps(&self, record: &Record) -> bool {
        let lost = |site: &SiteId| self.bug == Bug::LostWrite && *site == self.victim_name;
        !matches!(&record.change, Change::UpdateAccepted { site, .. } if lost(site))
    }

    /// What the core gets instead of this contribution.
    pub(crate) fn contributed(&self, site: usize, mut own: Contribution) -> Contribution {
        if self.bug == Bug::CountedTwice && site == self.victim {
            // Weighted fields double with the weight.
            own.weight *= 2;
            let weighted = if own.values.len() == TRAIN_FIELDS { 2 } else { 0 };
            own.values.iter_mut().skip(weighted).flatten().for_each(|x| *x *= 2.0);
        }
        own
    }

    /// A site has connected.
    pub(crate) fn connected(&mut self, site: usize) {
        self.connections += u64::from(site == self.victim);
    }

    /// What leaves the site instead of this frame.
    pub(crate) fn sent(
        &mut self,
        site: usize,
        mut frame: wire::SiteFrame,
        checker: &Checker,
    ) -> wire::SiteFrame {
        if let Some(site_frame::Frame::Chunk(chunk)) = &mut frame.frame
            && site == self.victim
            && chunk.total == 1
            && let Ok(session) = Digest::try_from(chunk.session.as_slice())
            && let Some((encoded, bits)) = checker.encoded(session, site)
        {
            let words = unpack(&chunk.data, bits, encoded.len());
            if let Some(words) = self.words(session, &words, &encoded, bits) {
                chunk.data = pack(&words, bits);
            }
        }
        frame
    }

    fn words(
        &mut self,
        session: SessionId,
        masked: &[u64],
        encoded: &[u64],
        bits: u32,
    ) -> Option<Vec<u64>> {
        let modulus = (1u64 << bits) - 1;
        match self.bug {
            Bug::MaskOmitted => Some(encoded.to_vec()),
            Bug::MaskReused => {
                let mask = masked.iter().zip(encoded);
                let mask = mask.map(|(y, x)| y.wrapping_sub(*x) & modulus).collect();
                let known = self.masks.entry(encoded.len()).or_insert((session, mask));
                let (first, mask) = known.clone();
                if first == session || self.connections < 2 {
                    return None;
                }
                let again = encoded.iter().zip(&mask);
                Some(again.map(|(x, m)| x.wrapping_add(*m) & modulus).collect())
            }
            _ => None,
        }
    }

    /// What a second, forgetful participant of the same site answers to another set of survivors.
    pub(crate) fn forked(
        &mut self,
        now: Millis,
        site: usize,
        machine: &Site,
        frame: &wire::CoordinatorFrame,
    ) -> Vec<wire::SiteFrame> {
        let Some(to_site::Message::Survivors(mut survivors)) = mail_to_site(frame) else {
            return Vec::new();
        };
        let ours = self.bug == Bug::MissingSurvivorCheck && site == self.victim;
        let Some(mut fork) = machine.resumed().ok().filter(|_| ours) else { return Vec::new() };
        let Ok(session) = Digest::try_from(survivors.session.as_slice()) else { return Vec::new() };
        if *self.asked.entry(session).and_modify(|n| *n += 1).or_insert(0) > 0 {
            return Vec::new();
        }
        survivors.indices.pop();
        let body = wire::ToSite { message: Some(to_site::Message::Survivors(survivors)) };
        let (name, identity) = &self.coordinator;
        let letter = envelope::seal(
            PROTOCOL.max,
            name.as_str(),
            machine.name().as_str(),
            body.encode_to_vec(),
            |m| identity.sign(m),
        );
        let welcome = wire::Welcome { coordinator_epoch: 1, received: 0 };
        let mail = wire::Mail { sequence: 1, envelope: Some(letter) };
        let heard = |frame| Event::Frame(wire::CoordinatorFrame { frame: Some(frame) });
        let events = [
            Event::Connected,
            heard(coordinator_frame::Frame::Welcome(welcome)),
            heard(coordinator_frame::Frame::Mail(mail)),
        ];
        let mut said = Vec::new();
        for event in events {
            for effect in fork.handle(now, &mut self.rng, event) {
                if let Effect::Send(frame) = effect
                    && let Some(to_coordinator::Message::SurvivorSignature(_)) =
                        mail_to_coordinator(&frame)
                {
                    said.push(frame);
                }
            }
        }
        said
    }
}

/// Update and loss, which are weighted, and five figures, which are not.
const TRAIN_FIELDS: usize = 7;
