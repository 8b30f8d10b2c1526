//! The mailbox's ends: what was sent, what was handled, and when the next hello is due.
//!
//! Numbers and epochs only; what mail says is read elsewhere. All of it is volatile: after a start
//! both sides begin a new epoch and say again what matters.

use koinon_aggregation::planted::{Weakness, weak};
use koinon_proto::mailbox::{Inbox, Outbox};
use koinon_proto::{Millis, wire};

use super::Turn;
use crate::participant::Effect;

/// The site's end of both mailboxes.
pub(super) struct Link {
    site_epoch: u64,
    /// 0 until the first welcome.
    pub(super) coordinator_epoch: u64,
    pub(super) outbox: Outbox,
    pub(super) inbox: Inbox,
    state: State,
    /// Hellos of this connection that no welcome has answered yet.
    unanswered: u64,
    /// Whether a hello of this connection named the coordinator's epoch.
    confirmed: bool,
    heartbeat_ms: Millis,
    next_hello_ms: Millis,
    /// Entries of the newest log of posted keys that the site took.
    pub(super) log_size: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Disconnected,
    /// The hello is out, the welcome is not here yet.
    Greeting,
    /// Mail goes both ways.
    Welcomed,
}

impl Link {
    pub(super) fn new(heartbeat_ms: Millis) -> Self {
        Self {
            site_epoch: 0,
            coordinator_epoch: 0,
            outbox: Outbox::new(),
            inbox: Inbox::new(),
            state: State::Disconnected,
            unanswered: 0,
            confirmed: false,
            heartbeat_ms: heartbeat_ms.max(1),
            next_hello_ms: 0,
            log_size: 0,
        }
    }

    pub(super) fn connected(&mut self, turn: &mut Turn<'_>) {
        while self.site_epoch == 0 {
            self.site_epoch = turn.rng.next_u64();
        }
        (self.state, self.unanswered, self.confirmed) = (State::Greeting, 0, false);
        self.hello(turn);
    }

    pub(super) fn disconnected(&mut self) {
        (self.state, self.unanswered) = (State::Disconnected, 0);
    }

    /// Takes a welcome as the answer to one hello; `false` when every hello has its answer. What is not
    /// receipted is said again after each welcome, so welcomes must not come as often as the
    /// coordinator likes: everything said is written into the ledger.
    pub(super) fn answers_a_hello(&mut self) -> bool {
        let left = self.unanswered.checked_sub(1);
        self.unanswered = left.unwrap_or(0);
        left.is_some() || weak(Weakness::AnyWelcome)
    }

    /// Notes a welcome and says whether the coordinator's epoch is another than before.
    pub(super) fn welcomed(&mut self, coordinator_epoch: u64) -> bool {
        self.state = State::Welcomed;
        let new = self.coordinator_epoch != coordinator_epoch;
        if new {
            self.coordinator_epoch = coordinator_epoch;
            self.inbox = Inbox::new();
        }
        new
    }

    /// Says which epoch this side's cursors are of from now on, so that the other side need not keep
    /// mail until the next heartbeat; once a connection, or new epochs would make a site talk.
    pub(super) fn confirm(&mut self, turn: &mut Turn<'_>) {
        if !std::mem::replace(&mut self.confirmed, true) {
            self.hello(turn);
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state != State::Disconnected
    }

    pub(super) fn is_welcomed(&self) -> bool {
        self.state == State::Welcomed
    }

    pub(super) fn next_hello_ms(&self) -> Option<Millis> {
        self.is_connected().then_some(self.next_hello_ms)
    }

    /// Sends a hello when one is due.
    pub(super) fn beat(&mut self, turn: &mut Turn<'_>) {
        if self.is_connected() && turn.now >= self.next_hello_ms {
            self.hello(turn);
        }
    }

    fn hello(&mut self, turn: &mut Turn<'_>) {
        self.next_hello_ms = turn.now.saturating_add(self.heartbeat_ms);
        self.unanswered += 1;
        let hello = wire::Hello {
            site_epoch: self.site_epoch,
            first_sequence: self.outbox.first_sequence(),
            coordinator_epoch: self.coordinator_epoch,
            log_size: Some(self.log_size),
        };
        self.send(turn, wire::site_frame::Frame::Hello(hello));
    }

    /// Sends a frame with the cursor as it is now.
    pub(super) fn send(&self, turn: &mut Turn<'_>, frame: wire::site_frame::Frame) {
        let cursor = self.inbox.cursor();
        turn.push(Effect::Send(wire::SiteFrame { cursor, frame: Some(frame) }));
    }

    /// Puts mail into the outbox, and sends it when the other side listens.
    pub(super) fn post(&mut self, turn: &mut Turn<'_>, envelope: wire::Envelope) -> bool {
        let Ok(sequence) = self.outbox.push(envelope.clone()) else { return false };
        if self.is_welcomed() {
            let mail = wire::Mail { sequence, envelope: Some(envelope) };
            self.send(turn, wire::site_frame::Frame::Mail(mail));
        }
        true
    }

    /// Sends again what is not receipted.
    pub(super) fn resend(&self, turn: &mut Turn<'_>) {
        let cursor = self.inbox.cursor();
        for (sequence, envelope) in self.outbox.after(0) {
            let mail = wire::Mail { sequence, envelope: Some(envelope.clone()) };
            let frame = Some(wire::site_frame::Frame::Mail(mail));
            turn.push(Effect::Send(wire::SiteFrame { cursor, frame }));
        }
    }
}
