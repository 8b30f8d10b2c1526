//! One site's connection: its mailbox in both directions, and how much it may ask for.
//!
//! A connection begins a mailbox of its own, with an epoch of its own, filled with what the site
//! should see now; so nothing of it has to survive a crash or a broken line, and nothing piles up for
//! a site that is away. A site's mail is taken once and in order. Deliberately not here: what the
//! mail says, and keys. Start at [`Post::new`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use koinon_proto::mailbox::{Accept, Inbox, Outbox};
use koinon_proto::wire::coordinator_frame::Frame;
use koinon_proto::{Digest, Millis, SessionId, WireError, wire};

use crate::event::Rejection;

/// A site that is connected.
#[derive(Default)]
pub(crate) struct Connection {
    /// The mailbox; none before the site said hello.
    pub(crate) post: Option<Post>,
    pub(crate) allowance: Allowance,
    /// What it checked in for, and under which roster.
    pub(crate) check_in: Option<CheckIn>,
    /// Entries of the log of posted keys that the site has taken a head of; none where it posts no keys.
    pub(crate) log_size: Option<u64>,
    /// Tasks that the site declined a round of, and until when it is not asked again.
    pub(crate) pauses: BTreeMap<Digest, Millis>,
}

/// What a site says it takes part in.
pub(crate) struct CheckIn {
    pub(crate) tasks: BTreeSet<Digest>,
    /// The roster it holds; none before its first.
    pub(crate) roster: Option<Digest>,
}

/// The mailbox of one connection.
pub(crate) struct Post {
    epoch: u64,
    site_epoch: u64,
    outbox: Outbox,
    inbox: Inbox,
    /// Whether the site's cursor is one of this epoch: its last hello said so.
    counts: bool,
    /// The last sessions whose outcome was put in.
    told: VecDeque<SessionId>,
}

impl Post {
    /// A mailbox of a new epoch, for a site that says hello.
    pub(crate) fn new(epoch: u64, hello: &wire::Hello) -> Self {
        Self {
            epoch,
            site_epoch: hello.site_epoch,
            outbox: Outbox::new(),
            inbox: Inbox::starting_at(hello.first_sequence),
            counts: false,
            told: VecDeque::new(),
        }
    }

    /// A hello on the same connection: `false` when the site has started anew.
    pub(crate) fn on_hello(&mut self, hello: &wire::Hello) -> bool {
        self.counts = hello.coordinator_epoch == self.epoch;
        hello.site_epoch == self.site_epoch
    }

    /// The site has handled our mail up to `cursor`.
    pub(crate) fn on_cursor(&mut self, cursor: u64) {
        if self.counts {
            // A cursor ahead of what was sent is the site's mistake, and costs only itself.
            let _ = self.outbox.acknowledge(cursor);
        }
    }

    /// Takes the number of a site's mail.
    pub(crate) fn accept(&mut self, sequence: u64) -> Accept {
        self.inbox.accept(sequence)
    }

    /// Puts mail in and gives its frame.
    pub(crate) fn push(
        &mut self,
        envelope: wire::Envelope,
    ) -> Result<wire::CoordinatorFrame, WireError> {
        let sequence = self.outbox.push(envelope.clone())?;
        Ok(mail(sequence, envelope))
    }

    /// Whether this very body waits for the site already.
    pub(crate) fn holds(&self, body: &[u8]) -> bool {
        self.outbox.after(0).any(|(_, envelope)| envelope.body == body)
    }

    /// Notes that the outcome of a session is put in; `false` when it was before.
    pub(crate) fn tell(&mut self, session: SessionId) -> bool {
        if self.told.contains(&session) {
            return false;
        }
        if self.told.len() == TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back(session);
        true
    }

    /// The answer to a hello, and all mail that is not acknowledged.
    pub(crate) fn greeting(&self) -> Vec<wire::CoordinatorFrame> {
        let received = self.inbox.cursor();
        let welcome = wire::Welcome { coordinator_epoch: self.epoch, received };
        let unread =
            self.outbox.after(0).map(|(sequence, envelope)| mail(sequence, envelope.clone()));
        std::iter::once(frame(Frame::Welcome(welcome))).chain(unread).collect()
    }

    /// The receipt for the site's mail so far.
    pub(crate) fn receipt(&self, rejection: Option<&Rejection>) -> wire::CoordinatorFrame {
        let (sequence, rejection) = (self.inbox.cursor(), rejection.map(wire::Rejection::from));
        frame(Frame::Receipt(wire::Receipt { sequence, rejection }))
    }
}

/// Sessions that are remembered as told; a site that asks about an older one is told again.
const TOLD_MAX: usize = 16;

/// The frame that says which chunk is wanted next.
pub(crate) fn chunk_receipt(session: Vec<u8>, next: u32) -> wire::CoordinatorFrame {
    frame(Frame::ChunkReceipt(wire::ChunkReceipt { session, next }))
}

fn mail(sequence: u64, envelope: wire::Envelope) -> wire::CoordinatorFrame {
    frame(Frame::Mail(wire::Mail { sequence, envelope: Some(envelope) }))
}

fn frame(frame: Frame) -> wire::CoordinatorFrame {
    wire::CoordinatorFrame { frame: Some(frame) }
}

/// How many hellos and letters a site may send: a burst, and so many a second afterwards. What comes
/// above it is dropped unread, so that a flood costs nearly nothing; an honest site says hello again
/// and gets what it lost.
pub(crate) struct Allowance {
    left: u64,
    refilled_ms: Millis,
}

/// Frames that may come at once.
const BURST: u64 = 256;
/// Milliseconds until one more may come.
const REFILL_MS: Millis = 20;

impl Default for Allowance {
    fn default() -> Self {
        Self { left: BURST, refilled_ms: 0 }
    }
}

impl Allowance {
    /// Whether something that costs as much as so many frames may be done.
    pub(crate) fn take(&mut self, now: Millis, frames: u64) -> bool {
        let refill = now.saturating_sub(self.refilled_ms) / REFILL_MS;
        if self.left.saturating_add(refill) >= BURST {
            (self.left, self.refilled_ms) = (BURST, now);
        } else {
            self.left += refill;
            self.refilled_ms += refill * REFILL_MS;
        }
        let may = self.left >= frames;
        self.left -= if may { frames } else { 0 };
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(site_epoch: u64, coordinator_epoch: u64) -> wire::Hello {
        wire::Hello { site_epoch, first_sequence: 4, coordinator_epoch, log_size: None }
    }

    fn letter(body: &[u8]) -> wire::Envelope {
        wire::Envelope { body: body.to_vec(), ..wire::Envelope::default() }
    }

    #[test]
    fn a_cursor_counts_only_in_its_own_epoch() {
        let mut post = Post::new(77, &hello(1, 5));
        post.push(letter(b"one")).unwrap();
        post.push(letter(b"two")).unwrap();
        post.on_cursor(2);
        assert_eq!(post.greeting().len(), 3, "that cursor was of another epoch");
        assert!(post.on_hello(&hello(1, 77)));
        post.on_cursor(1);
        post.on_cursor(9);
        assert_eq!(post.greeting().len(), 2);
        assert!(post.holds(b"two") && !post.holds(b"one"));
        assert!(!post.on_hello(&hello(2, 77)), "the site started anew");
    }

    #[test]
    fn mail_is_taken_once_from_where_the_site_says() {
        let mut post = Post::new(77, &hello(1, 0));
        assert_eq!(post.accept(5), Accept::Gap);
        assert_eq!(post.accept(4), Accept::New);
        assert_eq!(post.accept(4), Accept::Duplicate);
        let receipt = post.receipt(None);
        assert!(matches!(receipt.frame, Some(Frame::Receipt(receipt)) if receipt.sequence == 4));
    }

    #[test]
    fn a_flood_is_cut_off_and_forgiven() {
        let mut allowance = Allowance::default();
        let taken = (0..10_000).filter(|_| allowance.take(1_000_000, 1)).count();
        assert_eq!(taken, 256);
        assert!(!allowance.take(1_000_019, 1));
        assert!(allowance.take(1_000_020, 1));
        assert!(!allowance.take(1_000_020, 1));
        let later = (0..10_000).filter(|_| allowance.take(2_000_000, 1)).count();
        assert_eq!(later, 256, "not more than a burst, however long it was quiet");
    }
}
