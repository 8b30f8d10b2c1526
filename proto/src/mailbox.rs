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
