//! Frames of the coordinator: welcome, mail, receipts. Mail is opened here, once; its content goes to
//! the phase it is for.
//!
//! While a roster is being fetched, mail waits: the key that signed it may be in that roster.

use koinon_aggregation::identity::verify;
use koinon_aggregation::planted::{Weakness, weak};
use koinon_proto::mailbox::Accept;
use koinon_proto::wire::to_coordinator::Message as Reply;
use koinon_proto::wire::to_site::Message;
use koinon_proto::{PROTOCOL, envelope, limits, wire};
use prost::Message as _;

use super::{Note, Participant, Turn};
use crate::error::Fault;

/// Mail that waits for a roster; what comes beyond is sent again by the coordinator.
const HELD_MAX: usize = 256;

impl Participant {
    pub(super) fn connected(&mut self, turn: &mut Turn<'_>) {
        self.held.clear();
        self.link.log_size = self.log_size(turn.now);
        self.link.connected(turn);
        if let Some(wanted) = &mut self.roster_wanted {
            wanted.fetching = false;
        }
        self.ask_for_roster(turn);
        self.ask_for_blobs(turn);
    }

    pub(super) fn beat(&mut self, turn: &mut Turn<'_>) {
        self.link.beat(turn);
    }

    pub(super) fn frame(&mut self, turn: &mut Turn<'_>, frame: wire::CoordinatorFrame) {
        use wire::coordinator_frame::Frame;
        match frame.frame {
            Some(Frame::Welcome(welcome)) => self.welcome(turn, &welcome),
            Some(Frame::Mail(mail)) => self.mail(turn, mail),
            Some(Frame::Receipt(receipt)) => self.receipt(turn, receipt),
            Some(Frame::ChunkReceipt(receipt)) => self.chunk_receipt(turn, &receipt),
            None => turn.fault(Fault::Malformed),
        }
    }

    fn welcome(&mut self, turn: &mut Turn<'_>, welcome: &wire::Welcome) {
        if welcome.coordinator_epoch == 0 || !self.link.is_connected() {
            return turn.fault(Fault::Malformed);
        }
        if !self.link.answers_a_hello() {
            return turn.fault(Fault::OutOfStep);
        }
        if self.link.outbox.acknowledge(welcome.received).is_err() {
            return turn.fault(Fault::Receipt);
        }
        let before = self.link.is_welcomed();
        let new_epoch = self.link.welcomed(welcome.coordinator_epoch);
        if new_epoch || !before {
            turn.note(Note::Welcomed);
        }
        self.link.resend(turn);
        if new_epoch {
            self.link.confirm(turn);
            self.held.clear();
            self.check_in_anyway(turn);
            self.say_again(turn);
        }
        self.await_receipt(!before);
        self.ask_for_roster(turn);
    }

    fn receipt(&mut self, turn: &mut Turn<'_>, receipt: wire::Receipt) {
        if self.link.outbox.acknowledge(receipt.sequence).is_err() {
            return turn.fault(Fault::Receipt);
        }
        if let Some(rejection) = receipt.rejection {
            turn.note(Note::Rejected { code: short_code(&rejection.code) });
        }
    }

    fn mail(&mut self, turn: &mut Turn<'_>, mail: wire::Mail) {
        if !self.link.is_welcomed() {
            // Its number may be of an epoch that is over; after the welcome it comes again.
            return;
        }
        if self.roster_wanted.as_ref().is_some_and(|wanted| wanted.fetching) {
            if self.held.len() < HELD_MAX {
                self.held.push_back(mail);
            }
            return;
        }
        if self.link.inbox.accept(mail.sequence) != Accept::New {
            return;
        }
        match self.open(turn, mail.envelope.as_ref()) {
            Ok(message) => self.message(turn, message),
            Err(fault) => turn.fault(fault),
        }
    }

    /// Takes up the mail that waited for a roster.
    pub(super) fn release_held(&mut self, turn: &mut Turn<'_>) {
        for mail in std::mem::take(&mut self.held) {
            // A roster announced in one of them makes the rest wait again.
            self.mail(turn, mail);
        }
    }

    /// The message in an envelope that really is from the coordinator of the roster for this site.
    fn open(&self, turn: &Turn<'_>, envelope: Option<&wire::Envelope>) -> Result<Message, Fault> {
        let envelope = envelope.ok_or(Fault::Malformed)?;
        if envelope.body.len() > limits::ENVELOPE_BODY_BYTES_MAX && !weak(Weakness::AnyLength) {
            return Err(Fault::Oversized);
        }
        let key = self.coordinator_key(turn.now);
        let opened = envelope::open(
            envelope,
            self.setup.coordinator.as_str(),
            self.setup.site.as_str(),
            self.setup.policy.protocol.min_version,
            |message, signature| key.is_some_and(|key| verify(&key, message, signature)),
        );
        let message = wire::ToSite::decode(&envelope.body[..]).ok().and_then(|body| body.message);
        match (opened, message) {
            (Ok(_), Some(message)) => Ok(message),
            (Ok(_), None) => Err(Fault::Malformed),
            // A roster speaks for itself: the consortium signed it. So its announcement may be from
            // a coordinator whose key only that roster holds.
            (Err(_), Some(message @ Message::Roster(_))) => Ok(message),
            (Err(_), _) => Err(Fault::Envelope),
        }
    }

    fn message(&mut self, turn: &mut Turn<'_>, message: Message) {
        match message {
            Message::Roster(notice) => self.roster_announced(turn, &notice),
            Message::Offer(offer) => self.offered(turn, offer),
            Message::Invite(invite) => self.invite(turn, invite),
            Message::Participants(message) => self.participants(turn, message),
            Message::Inbox(message) => self.inbox(turn, message),
            Message::Accepted(message) => self.accepted(turn, &message),
            Message::Survivors(message) => self.survivors(turn, message),
            Message::Unmask(message) => self.unmask(turn, message),
            Message::Outcome(message) => self.outcome(turn, message),
            Message::KeysWanted(_) => self.keys_wanted(turn),
        }
    }

    /// Seals a message and puts it into the mailbox.
    pub(super) fn post(&mut self, turn: &mut Turn<'_>, message: Reply) {
        let body = wire::ToCoordinator { message: Some(message) }.encode_to_vec();
        self.post_body(turn, body);
    }

    /// Seals a message that is already bytes: what was said before is said in the same bytes.
    pub(super) fn post_body(&mut self, turn: &mut Turn<'_>, body: Vec<u8>) {
        use koinon_aggregation::Signer as _;
        let Self { setup, link, .. } = self;
        let (from, to) = (setup.site.as_str(), setup.coordinator.as_str());
        let letter = envelope::seal(PROTOCOL.max, from, to, body, |m| setup.identity.sign(m));
        if !link.post(turn, letter) {
            turn.note(Note::MailboxFull);
        }
    }

    /// Whether mail with this body waits for its receipt.
    pub(super) fn is_posted(&self, body: &[u8]) -> bool {
        self.link.outbox.after(0).any(|(_, envelope)| envelope.body == body)
    }
}

/// A code of the peer, safe to show.
pub(super) fn short_code(code: &str) -> String {
    let word = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_';
    code.chars().filter(word).take(limits::CODE_BYTES_MAX).collect()
}
