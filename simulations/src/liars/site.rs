//! A site that lies.

use super::Pen;
use crate::checker::{mail_to_coordinator, mail_to_site};
use crate::fault::SiteLie;
use koinon_aggregation::SessionPlan;
use koinon_aggregation::client::advertise;
use koinon_proto::wire::{self, site_frame, to_coordinator, to_site};
use prost::Message as _;
use rand::Rng as _;

/// A site's lies: every frame that leaves its honest core passes here.
pub(crate) struct SiteLiar {
    lie: SiteLie,
    pen: Pen,
    /// The plan of the session it was last invited to.
    plan: Option<SessionPlan>,
    /// What it said in another session.
    before: Option<to_coordinator::Message>,
}

impl SiteLiar {
    pub(crate) fn new(lie: SiteLie, pen: Pen) -> SiteLiar {
        SiteLiar { lie, pen, plan: None, before: None }
    }

    /// What its honest core hears.
    pub(crate) fn hears(&mut self, frame: &wire::CoordinatorFrame) {
        if let Some(to_site::Message::Invite(invite)) = mail_to_site(frame) {
            self.plan = SessionPlan::from_bytes(&invite.plan).ok();
        }
    }

    /// What leaves instead of this frame.
    pub(crate) fn up(&mut self, frame: wire::SiteFrame) -> Vec<wire::SiteFrame> {
        match &frame.frame {
            Some(site_frame::Frame::Chunk(chunk)) => vec![self.chunk(&frame, chunk.clone())],
            Some(site_frame::Frame::Mail(_)) => match mail_to_coordinator(&frame) {
                Some(message) => self.mail(frame, message),
                None => vec![frame],
            },
            _ => vec![frame],
        }
    }

    fn chunk(&mut self, frame: &wire::SiteFrame, mut chunk: wire::UploadChunk) -> wire::SiteFrame {
        match self.lie {
            SiteLie::Garbage => self.pen.rng.fill_bytes(&mut chunk.data),
            SiteLie::WrongLengths if self.pen.chance(0.5) => self.pen.resize(&mut chunk.data),
            SiteLie::WrongLengths => chunk.total = chunk.total.wrapping_add(1),
            SiteLie::Equivocate if self.pen.chance(0.5) => self.pen.flip(&mut chunk.data, 0),
            _ => {}
        }
        wire::SiteFrame { cursor: frame.cursor, frame: Some(site_frame::Frame::Chunk(chunk)) }
    }

    fn mail(
        &mut self,
        frame: wire::SiteFrame,
        message: to_coordinator::Message,
    ) -> Vec<wire::SiteFrame> {
        use to_coordinator::Message;
        // Honest about joining in: a liar that is never invited harms nobody.
        if matches!(message, Message::CheckIn(_) | Message::Refusal(_)) {
            return vec![frame];
        }
        match self.lie {
            SiteLie::Garbage => {
                let mut body = vec![0; 200];
                self.pen.rng.fill_bytes(&mut body);
                vec![self.instead(&frame, body)]
            }
            SiteLie::BadShares => match message {
                Message::Shares(mut shares) => {
                    // The sealed shares come last: whoever opens them finds them broken.
                    let from = shares.shares.len() / 2;
                    for _ in 0..3 {
                        self.pen.flip(&mut shares.shares, from);
                    }
                    vec![self.message(&frame, Message::Shares(shares))]
                }
                Message::Reveal(mut reveal) => {
                    self.pen.flip(&mut reveal.reveal, 0);
                    vec![self.message(&frame, Message::Reveal(reveal))]
                }
                _ => vec![frame],
            },
            SiteLie::WrongLengths => vec![self.wrong_length(&frame, message)],
            SiteLie::Withhold => match message {
                Message::SurvivorSignature(wire::SurvivorSignature { session, .. })
                | Message::Reveal(wire::Reveal { session, .. }) => {
                    let code = "withheld".to_owned();
                    let failure = Message::Failure(wire::Failure { session, code });
                    vec![self.message(&frame, failure)]
                }
                _ => vec![frame],
            },
            SiteLie::Equivocate => self.twice(frame, message),
        }
    }

    fn wrong_length(
        &mut self,
        frame: &wire::SiteFrame,
        mut message: to_coordinator::Message,
    ) -> wire::SiteFrame {
        use to_coordinator::Message;
        match &mut message {
            Message::Ready(m) => self.pen.resize(&mut m.bundle),
            Message::Shares(m) => self.pen.resize(&mut m.shares),
            Message::Report(m) if self.pen.chance(0.5) => m.bytes = m.bytes.wrapping_sub(1),
            Message::Report(m) => m.bytes = u64::MAX,
            Message::SurvivorSignature(m) => self.pen.resize(&mut m.signature),
            Message::Reveal(m) => self.pen.resize(&mut m.reveal),
            _ => {}
        }
        self.message(frame, message)
    }

    /// The honest answer and another one, in either order; of keys, another properly signed pair.
    fn twice(
        &mut self,
        frame: wire::SiteFrame,
        message: to_coordinator::Message,
    ) -> Vec<wire::SiteFrame> {
        use to_coordinator::Message;
        let mut other = self.before.clone().unwrap_or_else(|| message.clone());
        self.before = Some(message.clone());
        if let (Message::Ready(ready), Some(plan)) = (&message, &self.plan)
            && let Ok((_, bundle)) =
                advertise(plan.clone(), &self.pen.name, &self.pen.identity, &mut self.pen.rng)
        {
            let session = ready.session.clone();
            other = Message::Ready(wire::Ready { session, bundle: bundle.to_bytes() });
        }
        let other = self.message(&frame, other);
        if self.pen.chance(0.5) { vec![frame, other] } else { vec![other, frame] }
    }

    fn message(
        &self,
        frame: &wire::SiteFrame,
        message: to_coordinator::Message,
    ) -> wire::SiteFrame {
        self.instead(frame, wire::ToCoordinator { message: Some(message) }.encode_to_vec())
    }

    /// The same frame with another body, signed.
    fn instead(&self, frame: &wire::SiteFrame, body: Vec<u8>) -> wire::SiteFrame {
        let mut frame = frame.clone();
        if let Some(site_frame::Frame::Mail(mail)) = &mut frame.frame {
            let to = mail.envelope.as_ref().map(|e| e.recipient.clone()).unwrap_or_default();
            mail.envelope = Some(self.pen.sealed(&to, body));
        }
        frame
    }
}
