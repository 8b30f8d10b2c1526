//! What the coordinator says must be durable when it says so.

use super::round::{End, Round};
use super::{Checker, Invited};
use koinon_aggregation::SessionPlan;
use koinon_proto::wire::to_site::Message;
use koinon_proto::{Digest, Millis, wire};
use prost::Message as _;

/// The message in a coordinator's mail frame, where it is one.
pub(crate) fn mail_to_site(frame: &wire::CoordinatorFrame) -> Option<Message> {
    let Some(wire::coordinator_frame::Frame::Mail(mail)) = &frame.frame else { return None };
    wire::ToSite::decode(mail.envelope.as_ref()?.body.as_slice()).ok()?.message
}

impl Checker {
    /// A frame leaves the coordinator's core for this site.
    pub(crate) fn leaves_coordinator(
        &mut self,
        now: Millis,
        site: usize,
        frame: &wire::CoordinatorFrame,
    ) {
        self.counts.frames += 1;
        let Some(message) = mail_to_site(frame) else { return };
        if let Some(claim) = self.undurable(site, &message) {
            let name = self.sites.get(site).map_or("?", |s| s.as_str()).to_owned();
            self.violation(now, name, format!("was told {claim} before it was durable"));
        }
    }

    /// A frame arrives at a site, perhaps changed on the way by a coordinator that lies.
    pub(crate) fn reaches_site(&mut self, site: usize, frame: &wire::CoordinatorFrame) {
        let Some(Message::Invite(invite)) = mail_to_site(frame) else { return };
        let Ok(plan) = SessionPlan::from_bytes(&invite.plan) else { return };
        let over = if invite.version.is_empty() { invite.task } else { invite.version };
        let invited = Invited { kind: invite.kind, over, plan };
        // The first one counts: a site never takes up a session a second time.
        self.plans.entry((Digest(invited.plan.session), site)).or_insert(invited);
    }

    /// What this message claims, if the journal does not say it.
    fn undurable(&self, site: usize, message: &Message) -> Option<&'static str> {
        let round = |session: &[u8]| self.rounds.get(&Digest::try_from(session).ok()?);
        let claim = |session: &[u8], true_of: &dyn Fn(&Round) -> bool, what: &'static str| {
            (!round(session).is_some_and(true_of)).then_some(what)
        };
        match message {
            Message::Roster(_) | Message::KeysWanted(_) => None,
            Message::Offer(_) => (!self.submitted).then_some("of a task"),
            Message::Invite(invite) => {
                let plan = SessionPlan::from_bytes(&invite.plan).ok();
                let known = plan.is_some_and(|p| self.rounds.contains_key(&Digest(p.session)));
                (!known).then_some("of a session")
            }
            Message::Participants(m) => {
                claim(&m.session, &|r| !r.participants.is_empty(), "who takes part")
            }
            Message::Inbox(m) => claim(&m.session, &|r| r.dealers_fixed, "who dealt"),
            Message::Accepted(m) => {
                let name = self.sites.get(site)?;
                claim(&m.session, &|r| r.updates.contains_key(name), "that its update is accepted")
            }
            Message::Survivors(m) => claim(&m.session, &|r| r.survivors_fixed, "who survived"),
            Message::Unmask(m) => claim(&m.session, &|r| r.unmasking, "to unmask"),
            Message::Outcome(m) => match &m.result {
                Some(wire::outcome::Result::Committed(digest)) => {
                    let same = |end: &End| matches!(end, End::Committed(d) if d.0 == **digest);
                    let true_of = |r: &Round| r.end.as_ref().is_some_and(same);
                    claim(&m.session, &true_of, "of a commit")
                }
                _ => {
                    let name = self.sites.get(site)?;
                    // Of a session that it never began the coordinator may say that it is none.
                    let round = round(&m.session)?;
                    let over = round.end.is_some() || round.left_out(name);
                    (!over).then_some("of an end")
                }
            },
        }
    }
}
