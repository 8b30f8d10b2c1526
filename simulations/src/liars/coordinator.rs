//! A coordinator that lies.
//!
//! Its core is the shipped one and honest; between the core and the sites stands a man in the middle
//! with the coordinator's own identity key, who replaces what one site, or some sites, are told.

use super::Pen;
use crate::checker::mail_to_site;
use crate::fault::CoordinatorLie;
use koinon_aggregation::SessionPlan;
use koinon_aggregation::client::advertise;
use koinon_aggregation::identity::Identity;
use koinon_proto::wire::{self, coordinator_frame, to_site};
use prost::Message as _;
use rand::Rng as _;
use rand::RngExt;
use std::collections::BTreeMap;

/// The coordinator's lies: every frame that leaves its honest core passes here.
pub(crate) struct CoordinatorLiar {
    lie: CoordinatorLie,
    pen: Pen,
    names: Vec<String>,
    /// The site that is lied to, where only one is.
    victim: usize,
    plan: Option<SessionPlan>,
    /// The last invitation of each site.
    invited: BTreeMap<usize, wire::Invite>,
    /// The last unmasking request of each site, with the invitation to its session.
    asked: BTreeMap<usize, (wire::Unmask, wire::Invite)>,
    /// The shares that the victim got in the session before this one.
    before: Option<wire::Inbox>,
}

impl CoordinatorLiar {
    pub(crate) fn new(lie: CoordinatorLie, mut pen: Pen, names: Vec<String>) -> CoordinatorLiar {
        let victim = pen.rng.random_range(0..names.len().max(1));
        let (invited, asked) = (BTreeMap::new(), BTreeMap::new());
        CoordinatorLiar { lie, pen, names, victim, plan: None, invited, asked, before: None }
    }

    /// What leaves instead of this frame.
    pub(crate) fn down(
        &mut self,
        site: usize,
        frame: wire::CoordinatorFrame,
    ) -> wire::CoordinatorFrame {
        let Some(message) = mail_to_site(&frame) else { return frame };
        self.remember(site, &message);
        match self.instead(site, message) {
            Some(message) => self.sealed(site, &frame, message),
            None => frame,
        }
    }

    fn remember(&mut self, site: usize, message: &to_site::Message) {
        match message {
            to_site::Message::Invite(invite) => {
                self.plan = SessionPlan::from_bytes(&invite.plan).ok();
                self.invited.insert(site, invite.clone());
            }
            to_site::Message::Unmask(unmask) => {
                if let Some(invite) = self.invited.get(&site) {
                    self.asked.insert(site, (unmask.clone(), invite.clone()));
                }
            }
            _ => {}
        }
    }

    fn instead(&mut self, site: usize, message: to_site::Message) -> Option<to_site::Message> {
        use to_site::Message;
        let victim = site == self.victim;
        match (self.lie, message) {
            (CoordinatorLie::DigestForOne, Message::Invite(invite)) if victim => {
                Some(Message::Invite(self.another_digest(invite)))
            }
            (CoordinatorLie::TwoSurvivorSets, Message::Survivors(mut m))
                if site.is_multiple_of(2) =>
            {
                m.indices.pop();
                Some(Message::Survivors(m))
            }
            // The end of the session is kept from the sites, and they are asked again, for the
            // other kind of share of the last survivor.
            (CoordinatorLie::BothKinds, Message::Outcome(_)) => {
                let mut again = self.asked.get(&site)?.0.clone();
                self.pen.flip(&mut again.request, 0);
                Some(Message::Unmask(again))
            }
            (CoordinatorLie::TinyCohort, Message::Participants(mut m)) => {
                m.bundles.truncate(2);
                Some(Message::Participants(m))
            }
            (CoordinatorLie::TinyCohort, Message::Invite(invite)) if victim => {
                Some(Message::Invite(self.lower_floor(invite)?))
            }
            (CoordinatorLie::PhantomSites, Message::Participants(m)) if victim => {
                Some(Message::Participants(self.phantoms(site, m)))
            }
            (CoordinatorLie::SwappedKey, Message::Participants(m)) if victim => {
                Some(Message::Participants(self.swapped(site, m)?))
            }
            (CoordinatorLie::OldShares, Message::Inbox(inbox)) if victim => {
                let session = inbox.session.clone();
                let before = self.before.replace(inbox).filter(|old| old.session != session)?;
                Some(Message::Inbox(wire::Inbox { session, ..before }))
            }
            (CoordinatorLie::RepeatedSignature, Message::Unmask(mut m)) if victim => {
                let signers = m.request.len() / SIGNATURE_BYTES;
                m.request = m.request.get(..SIGNATURE_BYTES)?.repeat(signers);
                Some(Message::Unmask(m))
            }
            (CoordinatorLie::AskTwice, Message::Outcome(_)) => {
                Some(Message::Invite(self.once_more(site)?))
            }
            _ => None,
        }
    }

    /// Another context, roster, version, task or statistics: one bit is enough.
    fn another_digest(&mut self, mut invite: wire::Invite) -> wire::Invite {
        match self.pen.rng.random_range(0..5u8) {
            0 => self.pen.flip(&mut invite.version, 0),
            1 => self.pen.flip(&mut invite.task, 0),
            2 => self.pen.flip(&mut invite.fitted, 0),
            kind => {
                if let Ok(mut plan) = SessionPlan::from_bytes(&invite.plan) {
                    let digest = if kind == 3 { &mut plan.context } else { &mut plan.roster };
                    self.pen.flip(digest, 0);
                    invite.plan = plan.to_bytes();
                }
            }
        }
        invite
    }

    fn lower_floor(&self, mut invite: wire::Invite) -> Option<wire::Invite> {
        let mut plan = SessionPlan::from_bytes(&invite.plan).ok()?;
        plan.n_min = 3;
        invite.plan = plan.to_bytes();
        Some(invite)
    }

    /// The victim's bundle among those of sites that do not exist.
    fn phantoms(&mut self, site: usize, mut m: wire::Participants) -> wire::Participants {
        let Some(plan) = self.plan.clone() else { return m };
        let own = self.names.get(site).cloned().unwrap_or_default();
        m.bundles.retain(|bundle| bundle.windows(own.len()).any(|w| w == own.as_bytes()));
        for phantom in 0..15 {
            let identity = Identity::generate(&mut self.pen.rng);
            let name = format!("phantom-{phantom:02}");
            if let Ok((_, bundle)) = advertise(plan.clone(), &name, &identity, &mut self.pen.rng) {
                m.bundles.push(bundle.to_bytes());
            }
        }
        m.bundles.sort();
        m
    }

    /// The victim's list with a bundle of the coordinator's own under the name of another site.
    fn swapped(&mut self, site: usize, mut m: wire::Participants) -> Option<wire::Participants> {
        let other = self.names.get((site + 1) % self.names.len())?.clone();
        let plan = self.plan.clone()?;
        let own = advertise(plan, &other, &self.pen.identity, &mut self.pen.rng).ok()?.1;
        let is_other = |bundle: &&mut Vec<u8>| {
            bundle.windows(other.len()).any(|window| window == other.as_bytes())
        };
        *m.bundles.iter_mut().find(is_other)? = own.to_bytes();
        Some(m)
    }

    /// The same parameters in a session with another name.
    fn once_more(&mut self, site: usize) -> Option<wire::Invite> {
        let mut invite = self.asked.get(&site)?.1.clone();
        let mut plan = SessionPlan::from_bytes(&invite.plan).ok()?;
        self.pen.rng.fill_bytes(&mut plan.session);
        invite.plan = plan.to_bytes();
        invite.attempt += 1;
        Some(invite)
    }

    fn sealed(
        &self,
        site: usize,
        frame: &wire::CoordinatorFrame,
        message: to_site::Message,
    ) -> wire::CoordinatorFrame {
        let mut frame = frame.clone();
        if let Some(coordinator_frame::Frame::Mail(mail)) = &mut frame.frame {
            let body = wire::ToSite { message: Some(message) }.encode_to_vec();
            let to = self.names.get(site).map_or("", String::as_str);
            mail.envelope = Some(self.pen.sealed(to, body));
        }
        frame
    }
}

/// Bytes of a survivor signature where everybody shares with everybody.
const SIGNATURE_BYTES: usize = 111;
