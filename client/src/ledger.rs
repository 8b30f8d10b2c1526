//! The site's record of all that left it: a chain of entries, one line of JSON each.
//!
//! Every entry names the SHA-256 of the line before it, so that a line changed, inserted or taken
//! out of the middle is found by anybody with the file alone. It holds kinds, sizes, digests and
//! destinations, and deliberately no content: what a message said is in the transcript, if the site
//! keeps one. Lines cut off at the end are not visible in the file itself; compare the count and the
//! head that [`verify`] returns with those noted elsewhere. Start at [`Ledger`]; the store on disk is
//! [`file`].

use std::io;

use koinon_proto::{Digest, Millis};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub mod file;

/// What kind of message left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// The range of protocol versions of this program.
    Negotiate,
    /// Joining: admission, identity key, certificate request.
    Enrol,
    /// A request for a new certificate.
    Renew,
    /// A request for a blob by digest.
    Fetch,
    /// Heartbeat with mailbox cursors.
    Hello,
    /// The approved tasks and the roster held.
    CheckIn,
    /// The policy's no, as a code.
    Refusal,
    /// The one-time keys of a session.
    Ready,
    /// Sealed shares for the other participants.
    Shares,
    /// The announcement of a masked update: its digest and size.
    Report,
    /// A piece of a masked update.
    Chunk,
    /// The signature over a survivor set.
    SurvivorSignature,
    /// Shares that open the sum.
    Reveal,
    /// Something failed at the site, as a code.
    Failure,
    /// A boundary for a partition server.
    Activation,
    /// A question to a partition server: what it serves.
    Offered,
    /// One-time keys for sessions to come.
    PostedKeys,
}

impl Kind {
    /// The word that the ledger's lines use.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Negotiate => "negotiate",
            Self::Enrol => "enrol",
            Self::Renew => "renew",
            Self::Fetch => "fetch",
            Self::Hello => "hello",
            Self::CheckIn => "check_in",
            Self::Refusal => "refusal",
            Self::Ready => "ready",
            Self::Shares => "shares",
            Self::Report => "report",
            Self::Chunk => "chunk",
            Self::SurvivorSignature => "survivor_signature",
            Self::Reveal => "reveal",
            Self::Failure => "failure",
            Self::Activation => "activation",
            Self::Offered => "offered",
            Self::PostedKeys => "posted_keys",
        }
    }
}

/// One message that left, or was about to when the entry was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Position in the ledger, from 0.
    pub index: u64,
    /// The site's clock, Unix milliseconds.
    pub time_ms: Millis,
    /// What kind of message.
    pub kind: Kind,
    /// Session, task, version or blob that the message is about; absent where it is about none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<Digest>,
    /// Length of the encoded message, without framing and encryption of the transport.
    pub bytes: u64,
    /// SHA-256 of the encoded message.
    pub sha256: Digest,
    /// To whom: a member's name.
    pub destination: String,
    /// SHA-256 of the line before this one; 32 zero bytes for the first.
    pub previous: Digest,
}

impl Entry {
    /// The entry as it stands in the file, without the line's end.
    #[must_use]
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("an entry has only strings and integers")
    }
}

/// What is written about a message, before the ledger gives it its place.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// What kind of message.
    pub kind: Kind,
    /// What it is about.
    pub about: Option<Digest>,
    /// To whom.
    pub destination: String,
}

/// Where lines go. An implementation answers `Ok` only when the line is durable.
pub trait LedgerStore {
    /// Appends one line; `line` ends with a line feed.
    ///
    /// # Errors
    /// When the line is not known to be durable. The store must not be used again: a part of the
    /// line may have been written.
    fn append(&mut self, line: &[u8]) -> io::Result<()>;
}

impl<S: LedgerStore + ?Sized> LedgerStore for Box<S> {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        (**self).append(line)
    }
}

/// The place in the chain where the next entry goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Index of the next entry = number of entries.
    pub entries: u64,
    /// SHA-256 of the last line; zeros for an empty ledger.
    pub digest: Digest,
}

impl Head {
    /// The head of an empty ledger.
    pub const EMPTY: Self = Self { entries: 0, digest: Digest([0; 32]) };

    /// The head after `line` (without its end) was appended.
    fn after(self, line: &[u8]) -> Self {
        Self { entries: self.entries + 1, digest: Digest::of(line) }
    }
}

/// What can be wrong with a ledger.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The store did not confirm a line.
    #[error(
        "the ledger cannot be written ({0}): nothing leaves this site until it can; free space or mend the disk, then start again"
    )]
    Write(io::Error),
    /// An earlier write failed.
    #[error(
        "the ledger is closed after a failed write: start again, so that its last line is recovered"
    )]
    Closed,
    /// The file cannot be read or opened.
    #[error("the ledger {path} cannot be opened: {source}")]
    Open {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A line is not an entry.
    #[error(
        "ledger line {line}: not an entry ({reason}); the file was changed by hand or by another program"
    )]
    Malformed {
        /// Line number, from 1.
        line: u64,
        /// What the parser says.
        reason: String,
    },
    /// A line does not follow from the one before it.
    #[error(
        "ledger line {line}: does not follow from the line before it; a line was changed, inserted or removed at or before this place"
    )]
    Broken {
        /// Line number, from 1.
        line: u64,
    },
}

/// The ledger: the chain's head and the store that keeps its lines.
pub struct Ledger<S> {
    head: Head,
    store: S,
    closed: bool,
}

impl<S: LedgerStore> Ledger<S> {
    /// Goes on at `head`, which the store's content verified to.
    pub fn new(head: Head, store: S) -> Self {
        Self { head, store, closed: false }
    }

    /// The place of the next entry.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// The entry that [`Ledger::append`] would write.
    #[must_use]
    pub fn entry(&self, now: Millis, leaving: &Leaving, message: &[u8]) -> Entry {
        Entry {
            index: self.head.entries,
            time_ms: now,
            kind: leaving.kind,
            about: leaving.about,
            bytes: message.len() as u64,
            sha256: Digest::of(message),
            destination: leaving.destination.clone(),
            previous: self.head.digest,
        }
    }

    /// Writes `entry`, made by [`Ledger::entry`], and returns once it is durable.
    ///
    /// # Errors
    /// [`LedgerError::Write`] when the store fails; from then on [`LedgerError::Closed`], because the
    /// end of the store is unknown until it is recovered.
    pub fn append(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        if self.closed {
            return Err(LedgerError::Closed);
        }
        assert_eq!(entry.previous, self.head.digest, "entries are made from the head they follow");
        let mut line = entry.to_line().into_bytes();
        let head = self.head.after(&line);
        line.push(b'\n');
        if let Err(error) = self.store.append(&line) {
            self.closed = true;
            return Err(LedgerError::Write(error));
        }
        self.head = head;
        Ok(())
    }
}

/// Walks over a ledger's lines and checks each against the chain.
///
/// The iterator yields each entry, or the first error and then nothing.
pub struct Entries<'a> {
    rest: &'a [u8],
    head: Head,
    failed: bool,
}

impl<'a> Entries<'a> {
    /// The entries of `text`: whole lines, each ended by a line feed.
    #[must_use]
    pub fn of(text: &'a [u8]) -> Self {
        Self { rest: text, head: Head::EMPTY, failed: false }
    }

    /// Where the chain stands after the entries yielded so far.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    fn check(&mut self, line: &[u8]) -> Result<Entry, LedgerError> {
        let number = self.head.entries + 1;
        let malformed = |reason: String| LedgerError::Malformed { line: number, reason };
        let entry: Entry =
            serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
        if entry.to_line().as_bytes() != line {
            return Err(malformed("not in the form this program writes".to_owned()));
        }
        if entry.index != self.head.entries || entry.previous != self.head.digest {
            return Err(LedgerError::Broken { line: number });
        }
        self.head = self.head.after(line);
        Ok(entry)
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let (line, rest) = match self.rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            None => (self.rest, &[][..]),
        };
        self.rest = rest;
        let result = self.check(line);
        self.failed = result.is_err();
        Some(result)
    }
}

/// Checks a whole ledger and returns its head.
///
/// # Errors
/// The first line that is not an entry or does not follow from the one before it.
pub fn verify(text: &[u8]) -> Result<Head, LedgerError> {
    let mut entries = Entries::of(text);
    for entry in entries.by_ref() {
        entry?;
    }
    Ok(entries.head())
}

/// The entries as comma-separated text with a header, for a spreadsheet or an auditor.
///
/// # Errors
/// As [`verify`]: an export of a ledger that does not verify would look like evidence.
pub fn export_csv(text: &[u8]) -> Result<String, LedgerError> {
    let mut csv = String::from("index,time_ms,kind,about,bytes,sha256,destination\n");
    for entry in Entries::of(text) {
        let entry = entry?;
        let about = entry.about.map(|digest| digest.to_string()).unwrap_or_default();
        let destination = entry.destination.replace('"', "\"\"");
        csv.push_str(&format!(
            "{},{},{},{about},{},{},\"{destination}\"\n",
            entry.index,
            entry.time_ms,
            entry.kind.word(),
            entry.bytes,
            entry.sha256,
        ));
    }
    Ok(csv)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory {
        text: Rc<RefCell<Vec<u8>>>,
        room: Rc<RefCell<Option<usize>>>,
    }

    impl LedgerStore for Memory {
        fn append(&mut self, line: &[u8]) -> io::Result<()> {
            let mut room = self.room.borrow_mut();
            if let Some(left) = room.as_mut() {
                if *left < line.len() {
                    self.text.borrow_mut().extend_from_slice(&line[..*left]);
                    return Err(io::Error::from(io::ErrorKind::StorageFull));
                }
                *left -= line.len();
            }
            self.text.borrow_mut().extend_from_slice(line);
            Ok(())
        }
    }

    fn leaving(kind: Kind) -> Leaving {
        Leaving { kind, about: Some(Digest([7; 32])), destination: "coordinator".to_owned() }
    }

    fn filled(count: u8) -> (Memory, Ledger<Memory>) {
        let memory = Memory::default();
        let mut ledger = Ledger::new(Head::EMPTY, memory.clone());
        for index in 0..count {
            let entry = ledger.entry(u64::from(index), &leaving(Kind::Chunk), &[index; 5]);
            ledger.append(&entry).unwrap();
        }
        (memory, ledger)
    }

    #[test]
    fn a_ledger_verifies_to_its_own_head() {
        let (memory, ledger) = filled(5);
        assert_eq!(verify(&memory.text.borrow()).unwrap(), ledger.head());
        assert_eq!(verify(b"").unwrap(), Head::EMPTY);
        assert_eq!(export_csv(&memory.text.borrow()).unwrap().lines().count(), 6);
    }

    #[test]
    fn a_changed_line_is_found_at_the_next_one() {
        let (memory, _) = filled(5);
        let text = String::from_utf8(memory.text.borrow().clone()).unwrap();
        let changed = text.replacen("\"bytes\":5", "\"bytes\":4", 1);
        assert!(matches!(verify(changed.as_bytes()), Err(LedgerError::Broken { line: 2 })));
    }

    #[test]
    fn a_removed_or_repeated_line_is_found() {
        let (memory, _) = filled(4);
        let text = String::from_utf8(memory.text.borrow().clone()).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let removed = [lines[0], lines[2], lines[3]].concat();
        assert!(matches!(verify(removed.as_bytes()), Err(LedgerError::Broken { line: 2 })));
        let repeated = [lines[0], lines[0], lines[1]].concat();
        assert!(matches!(verify(repeated.as_bytes()), Err(LedgerError::Broken { line: 2 })));
        let spaced = text.replacen("\"kind\":", "\"kind\": ", 1);
        assert!(matches!(verify(spaced.as_bytes()), Err(LedgerError::Malformed { line: 1, .. })));
    }

    #[test]
    fn after_a_failed_write_the_ledger_stays_closed() {
        let (memory, mut ledger) = filled(1);
        *memory.room.borrow_mut() = Some(10);
        let entry = ledger.entry(9, &leaving(Kind::Reveal), b"reveal");
        assert!(matches!(ledger.append(&entry), Err(LedgerError::Write(_))));
        *memory.room.borrow_mut() = None;
        assert!(matches!(ledger.append(&entry), Err(LedgerError::Closed)));
    }
}
