//! The journal: records joined into a chain, so that none can be changed, dropped or put elsewhere
//! unnoticed.
//!
//! Every entry holds its index, the digest of the entry before it, and a record's canonical bytes.
//! Whoever keeps one digest, the head, holds a commitment to the whole history. The chain detects
//! damage and tampering by somebody who cannot also replace every copy of the head; it is no
//! signature. Deliberately no store here: [`Journal`] is the seam to one, SQLite in the server and
//! memory in the simulator. Start at [`Chain`].

use koinon_proto::Digest;
use sha2::{Digest as _, Sha256};

use crate::record::{Record, RecordError};

const DOMAIN: &[u8] = b"koinon/v1/journal";

/// One entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Place in the journal, from 0.
    pub index: u64,
    /// Digest of the entry before; of the first, 32 zero bytes.
    pub previous: Digest,
    /// The record's canonical bytes.
    pub payload: Vec<u8>,
}

impl Entry {
    /// SHA-256 over the domain, the index (u64 LE), the previous digest and the payload.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(DOMAIN);
        hasher.update(self.index.to_le_bytes());
        hasher.update(self.previous.as_bytes());
        hasher.update(&self.payload);
        Digest(hasher.finalize().into())
    }
}

/// The end of a journal: what the next entry is joined to.
///
/// ```
/// use koinon_coordinator::journal::{Chain, verify};
/// use koinon_coordinator::record::{Change, Record};
///
/// let record = Record { at_ms: 1, change: Change::Booted { epoch: 5 } };
/// let mut chain = Chain::default();
/// let entries = vec![chain.append(&record), chain.append(&record)];
/// assert_eq!(verify(&entries).unwrap(), (vec![record.clone(), record], chain));
/// assert!(verify(&entries[1..]).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// How many entries there are.
    pub length: u64,
    /// Digest of the last entry; 32 zero bytes when there is none.
    pub head: Digest,
}

impl Default for Chain {
    fn default() -> Self {
        Self { length: 0, head: Digest([0; 32]) }
    }
}

impl Chain {
    /// Joins a record to the chain and gives the entry to store.
    pub fn append(&mut self, record: &Record) -> Entry {
        let entry = Entry { index: self.length, previous: self.head, payload: record.to_bytes() };
        self.length += 1;
        self.head = entry.digest();
        entry
    }

    /// Follows the chain by one stored entry and gives its record.
    ///
    /// # Errors
    /// [`JournalError::Broken`] where the entry does not follow, [`JournalError::Record`] where its
    /// payload is no record. The chain is then unchanged.
    pub fn follow(&mut self, entry: &Entry) -> Result<Record, JournalError> {
        if entry.index != self.length || entry.previous != self.head {
            return Err(JournalError::Broken { index: self.length });
        }
        let record = Record::from_bytes(&entry.payload)
            .map_err(|source| JournalError::Record { index: entry.index, source })?;
        self.length += 1;
        self.head = entry.digest();
        Ok(record)
    }
}

/// Checks a whole journal and gives its records and its end.
///
/// # Errors
/// As [`Chain::follow`], at the first entry that does not follow.
pub fn verify(entries: &[Entry]) -> Result<(Vec<Record>, Chain), JournalError> {
    let mut chain = Chain::default();
    let records = entries.iter().map(|entry| chain.follow(entry)).collect::<Result<_, _>>()?;
    Ok((records, chain))
}

/// Where entries are kept.
pub trait Journal {
    /// Appends all `records` in one transaction: after this returns, either all are durable
    /// (`Ok`), or the caller must stop, because nobody knows.
    ///
    /// # Errors
    /// [`JournalError::Store`] when the store failed.
    fn append(&mut self, records: &[Record]) -> Result<(), JournalError>;

    /// All entries in order, as stored; the caller checks them with [`verify`].
    ///
    /// # Errors
    /// [`JournalError::Store`] when the store failed.
    fn entries(&self) -> Result<Vec<Entry>, JournalError>;
}

/// What can be wrong with a journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// An entry is missing, repeated, moved or changed.
    #[error(
        "the journal is broken at entry {index}: an entry was lost or changed; restore a backup"
    )]
    Broken {
        /// The first entry that does not follow.
        index: u64,
    },
    /// An entry holds no record.
    #[error("journal entry {index}: {source}")]
    Record {
        /// Which entry.
        index: u64,
        /// What is wrong.
        source: RecordError,
    },
    /// The store could not do it.
    #[error("the journal's store failed: {0}")]
    Store(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Change;

    fn entries(n: u64) -> Vec<Entry> {
        let mut chain = Chain::default();
        (0..n)
            .map(|n| chain.append(&Record { at_ms: n, change: Change::Booted { epoch: n } }))
            .collect()
    }

    #[test]
    fn every_change_to_a_journal_is_found_where_it_was_made() {
        let good = entries(4);
        assert_eq!(verify(&good).unwrap().0.len(), 4);
        let at = |entries: &[Entry]| match verify(entries) {
            Err(JournalError::Broken { index } | JournalError::Record { index, .. }) => Some(index),
            _ => None,
        };
        let mut lost = good.clone();
        lost.remove(1);
        assert_eq!(at(&lost), Some(1));
        let mut swapped = good.clone();
        swapped.swap(1, 2);
        assert_eq!(at(&swapped), Some(1));
        let mut repeated = good.clone();
        repeated.insert(2, good[1].clone());
        assert_eq!(at(&repeated), Some(2));
        let mut changed = good.clone();
        changed[1].payload = Record { at_ms: 9, change: Change::Booted { epoch: 9 } }.to_bytes();
        assert_eq!(at(&changed), Some(2), "the next entry no longer follows");
        let mut garbage = good.clone();
        garbage[3].payload = b"{}".to_vec();
        assert_eq!(at(&garbage), Some(3));
    }

    #[test]
    fn known_answer() {
        // printf 'koinon/v1/journal' + 8 zero bytes + 32 zero bytes + 'x', sha256sum.
        let entry = Entry { index: 0, previous: Digest([0; 32]), payload: b"x".to_vec() };
        let mut bytes = b"koinon/v1/journal".to_vec();
        bytes.extend([0; 40]);
        bytes.push(b'x');
        assert_eq!(entry.digest(), Digest::of(&bytes));
    }
}
