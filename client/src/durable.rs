//! What a site must still know after it was killed at any moment: canonical bytes, with a version and
//! a checksum.
//!
//! The state holds the newest roster, the sessions whose keys left, what was opened with this site's
//! help, and of the session it is in: the secret state after the last step and the exact replies it
//! gave. It deliberately holds no approvals (they are in the policy file, which is the site's own), no
//! offers and no mailbox (the coordinator sends them again) and no contribution (the site computes it
//! again). State of a newer program, of another site or with a wrong checksum is refused, never
//! repaired: a site that forgot what it signed could sign twice. Start at [`Durable`].

use std::collections::{BTreeMap, BTreeSet};

use koinon_proto::{Digest, SessionId, SiteId};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::budget::Budget;
use crate::durable::heads::Heads;

pub(crate) mod heads;

/// Why a state cannot be resumed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file does not begin as a state does.
    #[error("the state is not a site's state: is this the right file?")]
    Foreign,
    /// The file ends too early.
    #[error(
        "the state is cut off after {bytes} bytes: the disk lost a part of it; join again with a new identity, or ask the consortium how to go on"
    )]
    Truncated {
        /// Bytes that are there.
        bytes: usize,
    },
    /// The checksum is wrong.
    #[error(
        "the state's checksum is wrong: the file was changed or the disk is failing; it is not used"
    )]
    Checksum,
    /// A newer program wrote it.
    #[error(
        "the state was written by a newer program (format {found}, this one reads up to {FORMAT}): install the newer program again"
    )]
    Newer {
        /// The file's format.
        found: u16,
    },
    /// It belongs to another site or consortium.
    #[error("the state belongs to site {site} of another membership: each site has its own folder")]
    OtherSite {
        /// The site it belongs to.
        site: String,
    },
    /// The ledger speaks of more than the state knows.
    #[error(
        "the state is older than the ledger, which speaks of more in session {session}: it was \
         restored from a backup, or lost. It is not resumed, because a site that forgot what it said \
         could say it differently; leave, and join again with a new identity and an empty state"
    )]
    Older {
        /// The session, shortened.
        session: String,
    },
    /// The content contradicts itself although the checksum is right.
    #[error("the state's content is not valid ({0}): this is a defect of this program")]
    Invalid(&'static str),
}

/// The questions of a session that are each answered once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Question {
    /// The invitation; the answer is the key bundle.
    Invite = 1,
    /// Who takes part; the answer is the sealed shares.
    Participants = 2,
    /// The shares of the others; the answer is the report.
    Inbox = 3,
    /// Who is in the sum; the answer is the one signature.
    Survivors = 4,
    /// Open the sum; the answer is the reveal.
    Unmask = 5,
}

impl Question {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Invite, Self::Participants, Self::Inbox, Self::Survivors, Self::Unmask]
            .into_iter()
            .find(|question| *question as u8 == byte)
    }
}

/// A question as it was asked and the exact answer that was given.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Answered {
    /// Digest of the question's content.
    pub(crate) asked: Digest,
    /// The body of the reply, as it left.
    pub(crate) reply: Vec<u8>,
}

/// The session that the site is in, from the moment its keys leave.
pub(crate) struct Active {
    pub(crate) session: SessionId,
    /// The task's manifest, verbatim.
    pub(crate) manifest: Vec<u8>,
    /// The invitation's body, verbatim.
    pub(crate) invite: Vec<u8>,
    /// What the sum is over, whatever it is called: see [`Opened`].
    pub(crate) opens: Opened,
    /// What was asked and answered so far.
    pub(crate) answered: BTreeMap<Question, Answered>,
    /// The protocol's state after the last answer.
    pub(crate) secret: Zeroizing<Vec<u8>>,
    /// Digest and length of the masked update, once there is one.
    pub(crate) vector: Option<(Digest, u64)>,
    /// Whether the coordinator confirmed the masked update.
    pub(crate) accepted: bool,
}

/// What a sum is over: a kind of round (its wire number) and the digest of the parameters' content, or
/// of the feature plan's where there are no parameters.
pub(crate) type Opened = (u8, Digest);

/// Everything that survives.
pub(crate) struct Durable {
    pub(crate) site: SiteId,
    pub(crate) consortium_key: [u8; 32],
    /// The newest roster, verbatim as signed; empty before the first.
    pub(crate) roster: Vec<u8>,
    /// Sessions whose keys left: none is ever entered again.
    pub(crate) sessions: BTreeSet<SessionId>,
    /// What was opened with this site's help.
    pub(crate) spent: BTreeSet<Opened>,
    pub(crate) active: Option<Active>,
    /// What was spent in privacy.
    pub(crate) budget: Budget,
    /// The log of posted keys, as far as the site was shown it.
    pub(crate) heads: Heads,
}

/// The format this program writes, and the newest it reads.
pub const FORMAT: u16 = 3;

/// The most sessions a site remembers: some centuries of a round an hour.
pub(crate) const SESSIONS_MAX: usize = 1 << 21;

const MAGIC: &[u8; 12] = b"koinon-site\0";
const CHECKSUM_BYTES: usize = 32;

impl Durable {
    /// The state of a site that has done nothing yet.
    pub(crate) fn new(site: SiteId, consortium_key: [u8; 32]) -> Self {
        let (sessions, spent) = (BTreeSet::new(), BTreeSet::new());
        let (active, budget, heads) = (None, Budget::default(), Heads::default());
        Self { site, consortium_key, roster: Vec::new(), sessions, spent, active, budget, heads }
    }

    /// The canonical bytes: magic, format (u16 LE), parts with their lengths, SHA-256 of all before.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // The first pass only measures, so that the second never moves secret bytes about.
        let mut measure = Writer { out: Zeroizing::new(Vec::new()), length: 0, keep: false };
        self.write(&mut measure);
        let capacity = measure.length + CHECKSUM_BYTES;
        let mut writer =
            Writer { out: Zeroizing::new(Vec::with_capacity(capacity)), length: 0, keep: true };
        self.write(&mut writer);
        let checksum = Digest::of(&writer.out);
        writer.raw(checksum.as_bytes());
        writer.out
    }

    fn write(&self, to: &mut Writer) {
        to.raw(MAGIC);
        to.raw(&FORMAT.to_le_bytes());
        to.bytes(self.site.as_str().as_bytes());
        to.raw(&self.consortium_key);
        to.bytes(&self.roster);
        to.count(self.sessions.len());
        self.sessions.iter().for_each(|session| to.raw(session.as_bytes()));
        to.count(self.spent.len());
        for (kind, digest) in &self.spent {
            to.raw(&[*kind]);
            to.raw(digest.as_bytes());
        }
        to.raw(&[u8::from(self.active.is_some())]);
        if let Some(active) = &self.active {
            active.write(to);
        }
        self.budget.write(to);
        self.heads.write(to);
    }

    /// Reads what [`Durable::to_bytes`] wrote, for this site and consortium.
    pub(crate) fn from_bytes(
        bytes: &[u8],
        site: &SiteId,
        consortium_key: &[u8; 32],
    ) -> Result<Self, StateError> {
        let head = MAGIC.len() + 2;
        if !bytes.starts_with(&MAGIC[..MAGIC.len().min(bytes.len())]) {
            return Err(StateError::Foreign);
        }
        if bytes.len() < head + CHECKSUM_BYTES {
            return Err(StateError::Truncated { bytes: bytes.len() });
        }
        let found = u16::from_le_bytes([bytes[MAGIC.len()], bytes[MAGIC.len() + 1]]);
        if found > FORMAT {
            return Err(StateError::Newer { found });
        }
        let (content, checksum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        let mut reader = Reader { rest: &content[head..] };
        // A file cut off anywhere also fails the checksum; its structure says which of the two it is.
        let read = Self::read(&mut reader, found);
        if Digest::of(content).as_bytes() != checksum {
            let cut = matches!(read, Err(StateError::Truncated { .. }));
            let bytes = bytes.len();
            return Err(if cut { StateError::Truncated { bytes } } else { StateError::Checksum });
        }
        let state = read.map_err(|_| StateError::Invalid("parts"))?;
        if !reader.rest.is_empty() {
            return Err(StateError::Invalid("bytes after the end"));
        }
        if state.site != *site || state.consortium_key != *consortium_key {
            return Err(StateError::OtherSite { site: state.site.to_string() });
        }
        Ok(state)
    }

    fn read(from: &mut Reader<'_>, format: u16) -> Result<Self, StateError> {
        let site = String::from_utf8(from.bytes()?.to_vec()).ok();
        let site = site.and_then(|name| SiteId::new(name).ok());
        let site = site.ok_or(StateError::Invalid("site"))?;
        let consortium_key = from.array()?;
        let roster = from.bytes()?.to_vec();
        let mut sessions = BTreeSet::new();
        for _ in 0..from.count()? {
            sessions.insert(Digest(from.array()?));
        }
        let mut spent = BTreeSet::new();
        for _ in 0..from.count()? {
            spent.insert((from.byte()?, Digest(from.array()?)));
        }
        let active = match from.byte()? {
            0 => None,
            1 => Some(Active::read(from)?),
            _ => return Err(StateError::Invalid("active")),
        };
        // The first format knew no privacy.
        let budget = if format < 2 { Budget::default() } else { Budget::read(from)? };
        // The second knew no posted keys.
        let heads = if format < 3 { Heads::default() } else { Heads::read(from)? };
        Ok(Self { site, consortium_key, roster, sessions, spent, active, budget, heads })
    }
}

impl Active {
    fn write(&self, to: &mut Writer) {
        to.raw(self.session.as_bytes());
        to.bytes(&self.manifest);
        to.bytes(&self.invite);
        to.raw(&[self.opens.0]);
        to.raw(self.opens.1.as_bytes());
        to.count(self.answered.len());
        for (question, answered) in &self.answered {
            to.raw(&[*question as u8]);
            to.raw(answered.asked.as_bytes());
            to.bytes(&answered.reply);
        }
        to.bytes(&self.secret);
        let (digest, length) = self.vector.unwrap_or((Digest([0; 32]), 0));
        to.raw(digest.as_bytes());
        to.raw(&length.to_le_bytes());
        to.raw(&[u8::from(self.accepted)]);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, StateError> {
        let session = Digest(from.array()?);
        let manifest = from.bytes()?.to_vec();
        let invite = from.bytes()?.to_vec();
        let opens = (from.byte()?, Digest(from.array()?));
        let mut answered = BTreeMap::new();
        for _ in 0..from.count()? {
            let question = Question::from_byte(from.byte()?);
            let question = question.ok_or(StateError::Invalid("question"))?;
            let asked = Digest(from.array()?);
            let reply = from.bytes()?.to_vec();
            answered.insert(question, Answered { asked, reply });
        }
        let secret = Zeroizing::new(from.bytes()?.to_vec());
        let (digest, length) = (Digest(from.array()?), u64::from_le_bytes(from.array()?));
        let vector = (length > 0).then_some((digest, length));
        let accepted = from.byte()? == 1;
        Ok(Self { session, manifest, invite, opens, answered, secret, vector, accepted })
    }
}

pub(crate) struct Writer {
    out: Zeroizing<Vec<u8>>,
    length: usize,
    keep: bool,
}

impl Writer {
    #[cfg(test)]
    pub(crate) fn written(write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut to = Self { out: Zeroizing::new(Vec::new()), length: 0, keep: true };
        write(&mut to);
        to.out.to_vec()
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        if self.keep {
            self.out.extend_from_slice(bytes);
        }
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.raw(&(count as u64).to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }
}

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[cfg(test)]
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], StateError> {
        let truncated = StateError::Truncated { bytes: 0 };
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        Ok(self.take(N)?.try_into().expect("take gives exactly N bytes"))
    }

    pub(crate) fn byte(&mut self) -> Result<u8, StateError> {
        Ok(self.take(1)?[0])
    }

    /// A count of things that are each at least a byte long, so that it is bounded by what is there.
    pub(crate) fn count(&mut self) -> Result<usize, StateError> {
        let count = u64::from_le_bytes(self.array()?);
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= self.rest.len())
            .ok_or(StateError::Truncated { bytes: 0 })
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], StateError> {
        let length = self.count()?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> SiteId {
        SiteId::new("hospital-05").unwrap()
    }

    fn full() -> Durable {
        let mut state = Durable::new(site(), [9; 32]);
        state.roster = vec![1, 2, 3];
        state.sessions.extend([Digest([1; 32]), Digest([2; 32])]);
        state.spent.insert((2, Digest([3; 32])));
        let answered = [
            (Question::Invite, Answered { asked: Digest([4; 32]), reply: vec![7; 9] }),
            (Question::Participants, Answered { asked: Digest([5; 32]), reply: Vec::new() }),
        ];
        state.active = Some(Active {
            session: Digest([2; 32]),
            manifest: vec![5; 40],
            invite: vec![6; 20],
            opens: (2, Digest([8; 32])),
            answered: answered.into(),
            secret: Zeroizing::new(vec![42; 77]),
            vector: Some((Digest([6; 32]), 1234)),
            accepted: true,
        });
        state
    }

    #[test]
    fn what_was_written_is_read_back() {
        let key = [9; 32];
        for state in [Durable::new(site(), key), full()] {
            let bytes = state.to_bytes();
            assert_eq!(bytes.len(), bytes.capacity(), "secret bytes were never moved");
            let read = Durable::from_bytes(&bytes, &site(), &key).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(*read.to_bytes(), *bytes);
        }
    }

    #[test]
    fn a_state_of_an_older_format_has_spent_nothing_and_was_shown_no_log() {
        let state = full();
        // What the second and the third format added: a count of nothing each, and before the last no
        // head.
        for (format, added) in [(1, 8 + 9), (2, 9)] {
            let mut bytes = state.to_bytes().to_vec();
            bytes.truncate(bytes.len() - CHECKSUM_BYTES - added);
            bytes[MAGIC.len()] = format;
            let checksum = Digest::of(&bytes);
            bytes.extend_from_slice(checksum.as_bytes());
            let read = Durable::from_bytes(&bytes, &site(), &[9; 32]);
            let read = read.unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(*read.to_bytes(), *state.to_bytes());
        }
    }

    #[test]
    fn a_file_cut_off_anywhere_is_said_to_be_cut_off() {
        let bytes = full().to_bytes();
        for length in 0..bytes.len() {
            let error = Durable::from_bytes(&bytes[..length], &site(), &[9; 32]).err();
            // Behind the last part only a piece of the checksum is missing.
            let parts = bytes.len() - CHECKSUM_BYTES;
            match error.unwrap() {
                StateError::Truncated { bytes } => assert_eq!(bytes, length),
                StateError::Checksum => assert!(length + CHECKSUM_BYTES > parts, "{length}"),
                other => panic!("{length}: {other}"),
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = full().to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Durable::from_bytes(&flipped, &site(), &[9; 32]).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn newer_and_foreign_states_are_refused() {
        let mut bytes = full().to_bytes().to_vec();
        let other = SiteId::new("hospital-06").unwrap();
        let error = Durable::from_bytes(&bytes, &other, &[9; 32]).err().unwrap();
        assert!(matches!(error, StateError::OtherSite { .. }));
        assert!(Durable::from_bytes(&bytes, &site(), &[8; 32]).is_err());
        bytes[MAGIC.len()] = 4;
        let error = Durable::from_bytes(&bytes, &site(), &[9; 32]).err().unwrap();
        assert_eq!(error, StateError::Newer { found: 4 });
        assert_eq!(
            Durable::from_bytes(&[b'x'; 100], &site(), &[9; 32]).err(),
            Some(StateError::Foreign)
        );
    }
}
