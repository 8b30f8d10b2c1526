//! The one door out of the site: policy, then ledger, then carrier.
//!
//! Whatever leaves, leaves through [`Door::send`]: heartbeats, shares, chunks, activations, requests
//! for blobs. The door encodes the message itself, so that the ledger's digest is of the very bytes
//! that the carrier takes. It is deliberately blind to what a message means (the participant and the
//! splitter decide that) and to sockets (a [`Carrier`] has them). When the transcript or the ledger
//! cannot be written, nothing leaves, now and until the site starts again.
//!
//! What is below a carrier (TLS, HTTP/2 framing) is not in the ledger. An entry may speak of a
//! message whose carrier then failed: the ledger says what was *let* out.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use koinon_proto::{Digest, Millis, SiteId, limits, wire};
use prost::Message;
use thiserror::Error;

use crate::ledger::{Entry, Kind, Leaving, Ledger, LedgerError, LedgerStore};
use crate::policy::{ApprovalDefault, Policy};

/// Takes a message on its way: a stream, a call, a test's queue.
pub trait Carrier<M> {
    /// Takes the message, or says why not. It may be dropped later: mail is sent again until it is
    /// receipted.
    ///
    /// # Errors
    /// When there is no connection or its queue is full.
    fn carry(&mut self, message: M) -> Result<(), CarryError>;
}

/// The carrier did not take the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CarryError {
    /// No connection.
    #[error("not connected")]
    Disconnected,
    /// The carrier's queue is full.
    #[error("the connection is slower than what it is given")]
    Full,
}

/// Keeps the plaintext of what leaves on the site's own disk, for the site's own people.
pub trait Transcript {
    /// Keeps `message`, whose ledger entry will be `entry`.
    ///
    /// # Errors
    /// When it cannot be kept; then the message does not leave.
    fn keep(&mut self, entry: &Entry, message: &[u8]) -> io::Result<()>;
}

/// A transcript in a folder: one file per ledger entry, named by index and kind. The SHA-256 of a
/// file's content is the `sha256` of its entry.
pub struct TranscriptFolder {
    folder: PathBuf,
}

impl TranscriptFolder {
    /// A transcript in `folder`, which is made when there is none.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }
}

impl Transcript for TranscriptFolder {
    fn keep(&mut self, entry: &Entry, message: &[u8]) -> io::Result<()> {
        fs::write(self.folder.join(transcript_file(entry)), message)
    }
}

/// The name of an entry's file in a transcript folder.
#[must_use]
pub fn transcript_file(entry: &Entry) -> String {
    format!("{:010}-{}.bin", entry.index, entry.kind.word())
}

/// Why a message did not leave.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EgressError {
    /// The policy permits no message of this kind.
    #[error("the site's policy lets no {} leave", .0.word())]
    Forbidden(Kind),
    /// The message is over the wire's limit.
    #[error("a message of {bytes} bytes is over the limit of {bytes_max}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The round sent as much as the policy permits.
    #[error(
        "session {}: {bytes} bytes would have left, the policy permits {bytes_max}; raise \
         tasks.round_bytes_max if that is wanted", .session.short()
    )]
    RoundFull {
        /// The session.
        session: Digest,
        /// Bytes with this message.
        bytes: u64,
        /// The policy's limit.
        bytes_max: u64,
    },
    /// The ledger cannot be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The transcript cannot be written.
    #[error("the transcript cannot be written ({0}): nothing leaves until it can")]
    Transcript(io::Error),
    /// The carrier did not take it; the ledger has an entry all the same.
    #[error(transparent)]
    Carrier(#[from] CarryError),
}

impl EgressError {
    /// Whether the site can go on: only a carrier's error mends itself.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Ledger(_) | Self::Transcript(_))
    }
}

/// Messages and bytes of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many messages.
    pub messages: u64,
    /// Their encoded bytes.
    pub bytes: u64,
}

/// The door. One per site: it owns the ledger.
pub struct Door<S> {
    policy: Policy,
    ledger: Ledger<S>,
    transcript: Option<Box<dyn Transcript + Send>>,
    counts: BTreeMap<Kind, Count>,
    /// Bytes of the session that sent last: a site is in one session at a time.
    session: Option<(Digest, u64)>,
    broken: bool,
}

impl<S: LedgerStore> Door<S> {
    /// A door that writes into `ledger`.
    pub fn new(policy: Policy, ledger: Ledger<S>) -> Self {
        let counts = BTreeMap::new();
        Self { policy, ledger, transcript: None, counts, session: None, broken: false }
    }

    /// The same door, keeping the plaintext of everything that leaves.
    #[must_use]
    pub fn with_transcript(self, transcript: Box<dyn Transcript + Send>) -> Self {
        Self { transcript: Some(transcript), ..self }
    }

    /// The policy file changed.
    pub fn adopt(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Messages and bytes let out since the start, by kind.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<Kind, Count> {
        &self.counts
    }

    /// The ledger, to read its head.
    #[must_use]
    pub fn ledger(&self) -> &Ledger<S> {
        &self.ledger
    }

    /// Lets `message` out: checks it, writes transcript and ledger, and only then hands it on.
    ///
    /// # Errors
    /// [`EgressError`]. Except for [`EgressError::Carrier`], the message has not left.
    pub fn send<M: Message>(
        &mut self,
        now: Millis,
        leaving: &Leaving,
        message: M,
        carrier: &mut dyn Carrier<M>,
    ) -> Result<(), EgressError> {
        let bytes = message.encode_to_vec();
        self.record(now, leaving, &bytes)?;
        Ok(carrier.carry(message)?)
    }

    fn record(
        &mut self,
        now: Millis,
        leaving: &Leaving,
        message: &[u8],
    ) -> Result<(), EgressError> {
        if self.broken {
            return Err(LedgerError::Closed.into());
        }
        let round = self.check(leaving, message.len())?;
        let entry = self.ledger.entry(now, leaving, message);
        if let Some(transcript) = &mut self.transcript
            && let Err(error) = transcript.keep(&entry, message)
        {
            self.broken = true;
            return Err(EgressError::Transcript(error));
        }
        if let Err(error) = self.ledger.append(&entry) {
            self.broken = true;
            return Err(error.into());
        }
        let count = self.counts.entry(leaving.kind).or_default();
        count.messages += 1;
        count.bytes += entry.bytes;
        self.session = round.or(self.session);
        Ok(())
    }

    /// The policy's part. Returns the session's bytes after this message, if it belongs to one.
    fn check(&self, leaving: &Leaving, bytes: usize) -> Result<Option<(Digest, u64)>, EgressError> {
        if bytes > limits::FRAME_BYTES_MAX {
            return Err(EgressError::TooLong { bytes, bytes_max: limits::FRAME_BYTES_MAX });
        }
        let of_session = is_of_session(leaving.kind);
        let never = self.policy.approvals.default == ApprovalDefault::Never;
        let splits = !self.policy.split.is_empty();
        if (of_session && never) || (leaving.kind == Kind::Activation && !splits) {
            return Err(EgressError::Forbidden(leaving.kind));
        }
        let Some(session) = leaving.about.filter(|_| of_session) else { return Ok(None) };
        let before = self.session.filter(|(of, _)| *of == session).map_or(0, |(_, bytes)| bytes);
        let total = before.saturating_add(bytes as u64);
        let bytes_max = self.policy.tasks.round_bytes_max;
        if total > bytes_max {
            return Err(EgressError::RoundFull { session, bytes: total, bytes_max });
        }
        Ok(Some((session, total)))
    }
}

/// Kinds that carry a site's part in a session.
fn is_of_session(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Ready
            | Kind::Shares
            | Kind::Report
            | Kind::Chunk
            | Kind::SurvivorSignature
            | Kind::Reveal
    )
}

/// What the ledger says about a frame to the coordinator.
///
/// Mail is looked into for its kind and session; a frame that this program did not make counts as a
/// failure message, so that even then its bytes are in the ledger.
#[must_use]
pub fn leaving_of(frame: &wire::SiteFrame, destination: &SiteId) -> Leaving {
    use wire::site_frame::Frame;
    let (kind, about) = match &frame.frame {
        Some(Frame::Hello(_)) | None => (Kind::Hello, None),
        Some(Frame::Chunk(chunk)) => (Kind::Chunk, Digest::try_from(&chunk.session[..]).ok()),
        Some(Frame::Mail(mail)) => mail.envelope.as_ref().map_or((Kind::Failure, None), of_mail),
    };
    Leaving { kind, about, destination: destination.to_string() }
}

fn of_mail(envelope: &wire::Envelope) -> (Kind, Option<Digest>) {
    use wire::to_coordinator::Message as M;
    let body = wire::ToCoordinator::decode(&envelope.body[..]).ok().and_then(|mail| mail.message);
    let (kind, session) = match body {
        Some(M::CheckIn(_)) => return (Kind::CheckIn, None),
        Some(M::PostedKeys(_)) => return (Kind::PostedKeys, None),
        Some(M::Refusal(message)) => (Kind::Refusal, message.session),
        Some(M::Ready(message)) => (Kind::Ready, message.session),
        Some(M::Shares(message)) => (Kind::Shares, message.session),
        Some(M::Report(message)) => (Kind::Report, message.session),
        Some(M::SurvivorSignature(message)) => (Kind::SurvivorSignature, message.session),
        Some(M::Reveal(message)) => (Kind::Reveal, message.session),
        Some(M::Failure(message)) => (Kind::Failure, message.session),
        None => return (Kind::Failure, None),
    };
    (kind, Digest::try_from(&session[..]).ok())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::ledger::{Head, verify};

    #[derive(Clone, Default)]
    struct Disk {
        text: Rc<RefCell<Vec<u8>>>,
        full: Rc<RefCell<bool>>,
    }

    impl LedgerStore for Disk {
        fn append(&mut self, line: &[u8]) -> io::Result<()> {
            if *self.full.borrow() {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            self.text.borrow_mut().extend_from_slice(line);
            Ok(())
        }
    }

    #[derive(Default)]
    struct Socket(Vec<wire::SiteFrame>);

    impl Carrier<wire::SiteFrame> for Socket {
        fn carry(&mut self, message: wire::SiteFrame) -> Result<(), CarryError> {
            self.0.push(message);
            Ok(())
        }
    }

    fn chunk(bytes: usize) -> wire::SiteFrame {
        let chunk =
            wire::UploadChunk { session: vec![7; 32], index: 0, total: 1, data: vec![1; bytes] };
        wire::SiteFrame { cursor: 3, frame: Some(wire::site_frame::Frame::Chunk(chunk)) }
    }

    fn coordinator() -> SiteId {
        SiteId::new("coordinator").unwrap()
    }

    fn through(door: &mut Door<Disk>, frame: wire::SiteFrame) -> (Result<(), EgressError>, usize) {
        let mut socket = Socket::default();
        let leaving = leaving_of(&frame, &coordinator());
        let result = door.send(5, &leaving, frame, &mut socket);
        (result, socket.0.len())
    }

    #[test]
    fn the_ledger_holds_exactly_what_left() {
        let disk = Disk::default();
        let mut door = Door::new(Policy::default(), Ledger::new(Head::EMPTY, disk.clone()));
        let frame = chunk(100);
        assert_eq!(through(&mut door, frame.clone()).1, 1);
        let text = String::from_utf8(disk.text.borrow().clone()).unwrap();
        assert!(text.contains(&Digest::of(&frame.encode_to_vec()).to_string()));
        assert!(text.contains("\"kind\":\"chunk\""), "{text}");
        let count = door.counts()[&Kind::Chunk];
        assert_eq!(count, Count { messages: 1, bytes: frame.encoded_len() as u64 });
        assert_eq!(verify(&disk.text.borrow()).unwrap(), door.ledger().head());
    }

    #[test]
    fn with_a_full_disk_nothing_leaves_until_a_restart() {
        let disk = Disk::default();
        let mut door = Door::new(Policy::default(), Ledger::new(Head::EMPTY, disk.clone()));
        *disk.full.borrow_mut() = true;
        let (result, sent) = through(&mut door, chunk(1));
        assert!(result.unwrap_err().is_fatal());
        assert_eq!(sent, 0);
        *disk.full.borrow_mut() = false;
        let (result, sent) = through(&mut door, chunk(1));
        assert!(matches!(result, Err(EgressError::Ledger(LedgerError::Closed))));
        assert_eq!(sent, 0);
    }

    #[test]
    fn without_its_transcript_nothing_leaves() {
        struct Broken;
        impl Transcript for Broken {
            fn keep(&mut self, _: &Entry, _: &[u8]) -> io::Result<()> {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
        }
        let disk = Disk::default();
        let door = Door::new(Policy::default(), Ledger::new(Head::EMPTY, disk.clone()));
        let mut door = door.with_transcript(Box::new(Broken));
        assert_eq!(through(&mut door, chunk(1)).1, 0);
        assert!(disk.text.borrow().is_empty());
    }

    #[test]
    fn a_transcript_matches_the_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let door = Door::new(Policy::default(), Ledger::new(Head::EMPTY, disk));
        let transcript = TranscriptFolder::new(folder.path().join("out")).unwrap();
        let mut door = door.with_transcript(Box::new(transcript));
        let frame = chunk(50);
        through(&mut door, frame.clone()).0.unwrap();
        let kept = fs::read(folder.path().join("out/0000000000-chunk.bin")).unwrap();
        assert_eq!(kept, frame.encode_to_vec());
    }

    #[test]
    fn the_policy_bounds_a_round_and_forbids_kinds() {
        let mut policy = Policy::default();
        policy.tasks.round_bytes_max = 250;
        let mut door = Door::new(policy.clone(), Ledger::new(Head::EMPTY, Disk::default()));
        assert_eq!(through(&mut door, chunk(100)).1, 1);
        let (result, sent) = through(&mut door, chunk(100));
        assert!(matches!(result, Err(EgressError::RoundFull { .. })) && sent == 0);
        policy.approvals.default = ApprovalDefault::Never;
        door.adopt(policy);
        let (result, sent) = through(&mut door, chunk(1));
        assert!(matches!(result, Err(EgressError::Forbidden(Kind::Chunk))) && sent == 0);
        let activation =
            Leaving { kind: Kind::Activation, about: None, destination: "edge".to_owned() };
        let result = door.send(1, &activation, chunk(1), &mut Socket::default());
        assert!(matches!(result, Err(EgressError::Forbidden(Kind::Activation))));
    }
}
