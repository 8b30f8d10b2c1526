//! The reliable mailbox: each envelope once and in order, over a carrier that may lose, repeat and
//! reorder frames, and across broken connections.
//!
//! The sender keeps what is not acknowledged in an [`Outbox`] and sends it again when the peer says,
//! in a hello or welcome, how far it is. The receiver counts in an [`Inbox`] and takes only the next
//! number. Deliberately no timers, no I/O and no persistence: who restarts begins a new epoch with new
//! boxes, and the roles' own state says what belongs into them.
//!
//! ```
//! use koinon_proto::mailbox::{Accept, Inbox, Outbox};
//! use koinon_proto::wire::Envelope;
//!
//! let (mut outbox, mut inbox) = (Outbox::new(), Inbox::new());
//! outbox.push(Envelope::default()).unwrap();
//! let second = outbox.push(Envelope::default()).unwrap();
//!
//! assert_eq!(inbox.accept(second), Accept::Gap); // the first was lost: nothing happens
//! for (sequence, _envelope) in outbox.after(inbox.cursor()) {
//!     assert_eq!(inbox.accept(sequence), Accept::New);
//! }
//! outbox.acknowledge(inbox.cursor()).unwrap();
//! assert!(outbox.is_empty());
//! ```

use std::collections::VecDeque;

use crate::error::WireError;
use crate::limits::{MAILBOX_BYTES_MAX, MAILBOX_MAIL_MAX};
use crate::wire::Envelope;

/// Mail that is sent but not acknowledged, oldest first. Numbers start at 1 and never repeat.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    mail: VecDeque<Envelope>,
    bytes: usize,
    acknowledged: u64,
}

impl Outbox {
    /// An empty outbox of a new epoch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts mail in and gives its sequence number.
    ///
    /// # Errors
    /// [`WireError::MailboxFull`] when the peer left too much unacknowledged; the box is unchanged.
    pub fn push(&mut self, envelope: Envelope) -> Result<u64, WireError> {
        let bytes = self.bytes.saturating_add(size(&envelope));
        if self.mail.len() >= MAILBOX_MAIL_MAX || bytes > MAILBOX_BYTES_MAX {
            return Err(WireError::MailboxFull { count: self.mail.len(), bytes: self.bytes });
        }
        self.bytes = bytes;
        self.mail.push_back(envelope);
        Ok(self.last_sequence())
    }

    /// The mail with numbers above `cursor` that is still here, in order: what to send again.
    pub fn after(&self, cursor: u64) -> impl Iterator<Item = (u64, &Envelope)> {
        let skip = cursor.saturating_sub(self.acknowledged);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        (self.first_sequence()..).zip(&self.mail).skip(skip)
    }

    /// The peer has handled everything up to `cursor`: it goes. An older cursor than the last changes
    /// nothing, because frames may arrive late.
    ///
    /// # Errors
    /// [`WireError::CursorAhead`] when that number was never given; the box is unchanged.
    pub fn acknowledge(&mut self, cursor: u64) -> Result<(), WireError> {
        let sent = self.last_sequence();
        if cursor > sent {
            return Err(WireError::CursorAhead { cursor, sent });
        }
        while self.acknowledged < cursor {
            let envelope = self.mail.pop_front().expect("numbers up to last_sequence are held");
            self.bytes -= size(&envelope);
            self.acknowledged += 1;
        }
        Ok(())
    }

    /// The lowest number that may still be sent again; with nothing in the box, the next number.
    #[must_use]
    pub const fn first_sequence(&self) -> u64 {
        self.acknowledged + 1
    }

    /// The highest number given so far; 0 before the first.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.acknowledged + self.mail.len() as u64
    }

    /// How many messages are not acknowledged.
    #[must_use]
    pub fn len(&self) -> usize {
        self.mail.len()
    }

    /// Whether everything is acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mail.is_empty()
    }
}

/// What to do with an arrived message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "only New may be handled"]
pub enum Accept {
    /// It is the next one: handle it.
    New,
    /// It was handled before: acknowledge again, change nothing.
    Duplicate,
    /// One before it is missing: drop it; the sender will send both again.
    Gap,
}

/// How far the peer's mail has been handled.
#[derive(Debug, Clone, Default)]
pub struct Inbox {
    cursor: u64,
}

impl Inbox {
    /// Nothing handled yet: the peer's epoch is new.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An inbox for a peer whose mail below `first_sequence` was handled by this side's last epoch.
    #[must_use]
    pub const fn starting_at(first_sequence: u64) -> Self {
        Self { cursor: first_sequence.saturating_sub(1) }
    }

    /// Judges the number of an arrived message; [`Accept::New`] moves the cursor to it.
    pub const fn accept(&mut self, sequence: u64) -> Accept {
        if sequence <= self.cursor {
            return Accept::Duplicate;
        }
        if sequence - self.cursor > 1 {
            return Accept::Gap;
        }
        self.cursor = sequence;
        Accept::New
    }

    /// The highest number handled; 0 before the first.
    #[must_use]
    pub const fn cursor(&self) -> u64 {
        self.cursor
    }
}

/// What an envelope weighs in the box.
fn size(envelope: &Envelope) -> usize {
    prost::Message::encoded_len(envelope)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn letter(number: u64) -> Envelope {
        Envelope { body: number.to_le_bytes().to_vec(), ..Envelope::default() }
    }

    fn filled(count: u64) -> Outbox {
        let mut outbox = Outbox::new();
        for number in 1..=count {
            assert_eq!(outbox.push(letter(number)), Ok(number));
        }
        outbox
    }

    fn numbers(outbox: &Outbox, cursor: u64) -> Vec<u64> {
        outbox.after(cursor).map(|(sequence, _)| sequence).collect()
    }

    #[test]
    fn acknowledged_mail_goes_and_the_rest_keeps_its_numbers() {
        let mut outbox = filled(5);
        assert_eq!(numbers(&outbox, 0), [1, 2, 3, 4, 5]);
        assert_eq!(numbers(&outbox, 3), [4, 5]);
        outbox.acknowledge(2).unwrap();
        assert_eq!((outbox.first_sequence(), outbox.last_sequence(), outbox.len()), (3, 5, 3));
        assert_eq!(numbers(&outbox, 0), [3, 4, 5]);
        assert_eq!(numbers(&outbox, 4), [5]);
        assert_eq!(numbers(&outbox, u64::MAX), [0; 0]);
        outbox.acknowledge(1).unwrap();
        assert_eq!(outbox.len(), 3, "a late acknowledgement changes nothing");
        outbox.acknowledge(5).unwrap();
        assert!(outbox.is_empty());
        assert_eq!((outbox.first_sequence(), outbox.push(letter(6))), (6, Ok(6)));
    }

    #[test]
    fn mail_that_was_never_sent_cannot_be_acknowledged() {
        let mut outbox = filled(2);
        let ahead = WireError::CursorAhead { cursor: u64::MAX, sent: 2 };
        assert_eq!(outbox.acknowledge(u64::MAX), Err(ahead));
        assert_eq!(outbox.len(), 2);
    }

    #[test]
    fn a_full_box_says_so_and_loses_nothing() {
        let mut outbox = filled(MAILBOX_MAIL_MAX as u64);
        assert_eq!(outbox.push(letter(0)).unwrap_err().code(), "mailbox_full");
        assert_eq!(outbox.len(), MAILBOX_MAIL_MAX);
        outbox.acknowledge(1).unwrap();
        assert_eq!(outbox.push(letter(0)), Ok(MAILBOX_MAIL_MAX as u64 + 1));

        let mut heavy = Outbox::new();
        let body = vec![0; crate::limits::ENVELOPE_BODY_BYTES_MAX];
        let heaviest = Envelope { body, ..Envelope::default() };
        let held = (0..9).filter(|_| heavy.push(heaviest.clone()).is_ok()).count();
        assert_eq!(held, MAILBOX_BYTES_MAX / size(&heaviest));
        heavy.acknowledge(held as u64).unwrap();
        assert_eq!(heavy.bytes, 0, "every byte is given back");
    }

    #[test]
    fn an_inbox_takes_only_the_next() {
        let mut inbox = Inbox::starting_at(4);
        assert_eq!(inbox.cursor(), 3);
        for (sequence, accept) in [
            (5, Accept::Gap),
            (u64::MAX, Accept::Gap),
            (3, Accept::Duplicate),
            (0, Accept::Duplicate),
            (4, Accept::New),
            (4, Accept::Duplicate),
            (5, Accept::New),
        ] {
            assert_eq!(inbox.accept(sequence), accept, "{sequence}");
        }
        assert_eq!(Inbox::starting_at(0).cursor(), 0);
        assert_eq!(Inbox::starting_at(u64::MAX).accept(u64::MAX), Accept::New);
    }

    /// One step of a hostile carrier between one outbox and one inbox.
    #[derive(Debug, Clone)]
    enum Step {
        Push,
        Deliver(prop::sample::Index),
        Repeat(prop::sample::Index),
        Lose(prop::sample::Index),
        Acknowledge,
        /// The connection broke; the receiver says how far it is, the sender sends the rest again.
        Hello,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Push),
            4 => any::<prop::sample::Index>().prop_map(Step::Deliver),
            1 => any::<prop::sample::Index>().prop_map(Step::Repeat),
            2 => any::<prop::sample::Index>().prop_map(Step::Lose),
            1 => Just(Step::Acknowledge),
            1 => Just(Step::Hello),
        ];
        prop::collection::vec(step, 0..200)
    }

    struct Carrier {
        outbox: Outbox,
        inbox: Inbox,
        /// Mail under way, in no order.
        flying: Vec<(u64, Envelope)>,
        /// Acknowledgements under way; the newest is not always the first to arrive.
        cursors: Vec<u64>,
        pushed: u64,
        handled: Vec<u64>,
    }

    impl Carrier {
        fn step(&mut self, step: Step) {
            match step {
                Step::Push => {
                    self.pushed += 1;
                    let mail = letter(self.pushed);
                    let sequence = self.outbox.push(mail.clone()).unwrap();
                    self.flying.push((sequence, mail));
                }
                Step::Deliver(at) if !self.flying.is_empty() => {
                    let at = at.index(self.flying.len());
                    let mail = self.flying.swap_remove(at);
                    self.receive(&mail);
                }
                Step::Repeat(at) if !self.flying.is_empty() => {
                    let mail = self.flying[at.index(self.flying.len())].clone();
                    self.receive(&mail);
                }
                Step::Lose(at) if !self.flying.is_empty() => {
                    self.flying.swap_remove(at.index(self.flying.len()));
                }
                Step::Acknowledge => {
                    if let Some(cursor) = self.cursors.pop() {
                        self.outbox.acknowledge(cursor).unwrap();
                    }
                }
                Step::Hello => self.hello(),
                Step::Deliver(_) | Step::Repeat(_) | Step::Lose(_) => {}
            }
        }

        fn receive(&mut self, (sequence, mail): &(u64, Envelope)) {
            if self.inbox.accept(*sequence) == Accept::New {
                self.handled.push(u64::from_le_bytes(mail.body.as_slice().try_into().unwrap()));
            }
            self.cursors.push(self.inbox.cursor());
        }

        fn hello(&mut self) {
            let cursor = self.inbox.cursor();
            self.outbox.acknowledge(cursor).unwrap();
            let again = self.outbox.after(cursor).map(|(n, mail)| (n, mail.clone()));
            self.flying.extend(again);
        }
    }

    proptest! {
        #[test]
        fn each_message_arrives_once_and_in_order(steps in steps()) {
            let mut carrier = Carrier {
                outbox: Outbox::new(),
                inbox: Inbox::new(),
                flying: Vec::new(),
                cursors: Vec::new(),
                pushed: 0,
                handled: Vec::new(),
            };
            for step in steps {
                carrier.step(step);
                let expected: Vec<u64> = (1..=carrier.handled.len() as u64).collect();
                prop_assert_eq!(&carrier.handled, &expected);
            }
            // Whatever was lost: one quiet connection brings the rest.
            carrier.flying.clear();
            carrier.hello();
            for mail in std::mem::take(&mut carrier.flying) {
                carrier.receive(&mail);
            }
            let expected: Vec<u64> = (1..=carrier.pushed).collect();
            prop_assert_eq!(carrier.handled, expected);
            carrier.outbox.acknowledge(carrier.inbox.cursor()).unwrap();
            prop_assert!(carrier.outbox.is_empty());
        }
    }
}
