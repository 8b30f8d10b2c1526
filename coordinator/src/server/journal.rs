//! The journal in SQLite, and beside it the certificates that were issued.
//!
//! WAL with `synchronous=FULL`: a transaction that committed survives a power cut. What is read at the
//! start is checked entry by entry against the hash chain, so a file that was restored in part or
//! edited is refused. The file carries its format's number, and a program refuses a newer one.
//! Deliberately dumb: one table of entries, nothing is ever changed or deleted. Start at
//! [`SqliteJournal::open`].

use std::collections::BTreeMap;
use std::path::Path;

use koinon_proto::id::{Digest, SiteId};
use rusqlite::{Connection, params};

use super::listener::Member;
use crate::journal::{Chain, Entry, Journal, JournalError, verify};
use crate::record::Record;

/// Marks the file as this program's (SQLite header, offset 68).
const APPLICATION_ID: i32 = 0x6b6f_696e;
/// Format of the tables.
const FORMAT: i32 = 1;

const SCHEMA: &str = "
    CREATE TABLE entries (
        position INTEGER PRIMARY KEY,
        previous BLOB NOT NULL,
        payload BLOB NOT NULL
    ) STRICT;
    CREATE TABLE certificates (
        fingerprint BLOB PRIMARY KEY,
        name TEXT NOT NULL,
        role TEXT NOT NULL,
        not_after_ms INTEGER NOT NULL
    ) STRICT;
";

/// The open journal: the file and the end of its chain.
pub struct SqliteJournal {
    db: Connection,
    chain: Chain,
}

impl SqliteJournal {
    /// Opens the file, making it if it is missing, and checks and reads all of it.
    ///
    /// # Errors
    /// [`JournalError`]: the store, a newer format, or a chain that does not hold.
    pub fn open(path: &Path) -> Result<(Self, Vec<Record>), JournalError> {
        let db = Connection::open(path).map_err(store)?;
        db.pragma_update(None, "journal_mode", "WAL").map_err(store)?;
        db.pragma_update(None, "synchronous", "FULL").map_err(store)?;
        prepare(&db, path)?;
        let mut journal = Self { db, chain: Chain::default() };
        let (records, chain) = verify(&journal.entries()?)?;
        journal.chain = chain;
        Ok((journal, records))
    }

    /// The end of the chain: a commitment to everything before it.
    #[must_use]
    pub fn head(&self) -> Chain {
        self.chain
    }

    /// The certificates that were issued, by fingerprint.
    ///
    /// # Errors
    /// [`JournalError::Store`].
    pub fn certificates(&self) -> Result<BTreeMap<Digest, Member>, JournalError> {
        let mut query =
            self.db.prepare("SELECT fingerprint, name, role FROM certificates").map_err(store)?;
        let rows = query
            .query_map([], |row| {
                Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
            })
            .map_err(store)?;
        let mut issued = BTreeMap::new();
        for row in rows {
            let (fingerprint, name, role) = row.map_err(store)?;
            let damaged = || JournalError::Store("the table of certificates is damaged".into());
            let fingerprint = Digest::try_from(&fingerprint[..]).map_err(|_| damaged())?;
            let name = SiteId::new(name).map_err(|_| damaged())?;
            let role = role.parse().map_err(|_| damaged())?;
            issued.insert(fingerprint, Member { name, role });
        }
        Ok(issued)
    }

    /// Remembers a certificate, durably, and drops those that ended before `now`.
    ///
    /// # Errors
    /// [`JournalError::Store`].
    pub fn add_certificate(
        &mut self,
        fingerprint: &Digest,
        member: &Member,
        not_after_ms: u64,
        now: u64,
    ) -> Result<(), JournalError> {
        let transaction = self.db.transaction().map_err(store)?;
        transaction
            .execute("DELETE FROM certificates WHERE not_after_ms < ?1", params![signed(now)])
            .map_err(store)?;
        transaction
            .execute(
                "INSERT OR REPLACE INTO certificates VALUES (?1, ?2, ?3, ?4)",
                params![
                    fingerprint.as_bytes(),
                    member.name.as_str(),
                    member.role.as_str(),
                    signed(not_after_ms)
                ],
            )
            .map_err(store)?;
        transaction.commit().map_err(store)
    }
}

impl Journal for SqliteJournal {
    fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let mut chain = self.chain;
        let transaction = self.db.transaction().map_err(store)?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO entries VALUES (?1, ?2, ?3)")
                .map_err(store)?;
            for record in records {
                let entry = chain.append(record);
                insert
                    .execute(params![signed(entry.index), entry.previous.as_bytes(), entry.payload])
                    .map_err(store)?;
            }
        }
        transaction.commit().map_err(store)?;
        self.chain = chain;
        Ok(())
    }

    fn entries(&self) -> Result<Vec<Entry>, JournalError> {
        let mut query = self
            .db
            .prepare("SELECT position, previous, payload FROM entries ORDER BY position")
            .map_err(store)?;
        let rows = query
            .query_map([], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Vec<u8>>(2)?))
            })
            .map_err(store)?;
        let mut entries = Vec::new();
        for row in rows {
            let (position, previous, payload) = row.map_err(store)?;
            let index = u64::try_from(position);
            let (Ok(index), Ok(previous)) = (index, Digest::try_from(&previous[..])) else {
                return Err(JournalError::Broken { index: entries.len() as u64 });
            };
            entries.push(Entry { index, previous, payload });
        }
        Ok(entries)
    }
}

/// Makes the tables in an empty file, and refuses a file that is not this program's or is newer.
fn prepare(db: &Connection, path: &Path) -> Result<(), JournalError> {
    let number = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, format) =
        (number("application_id").map_err(store)?, number("user_version").map_err(store)?);
    let tables: i64 =
        db.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).map_err(store)?;
    match (application, format) {
        (0, 0) if tables == 0 => db
            .execute_batch(&format!(
                "BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; COMMIT;"
            ))
            .map_err(store),
        (APPLICATION_ID, FORMAT) => Ok(()),
        (APPLICATION_ID, newer) if newer > FORMAT => Err(JournalError::Store(format!(
            "{} has format {newer} and this program knows up to {FORMAT}: it was written by a newer koinon; use that one",
            path.display()
        ))),
        _ => Err(JournalError::Store(format!("{} is not a journal of koinon", path.display()))),
    }
}

fn store(error: rusqlite::Error) -> JournalError {
    JournalError::Store(error.to_string())
}

/// SQLite's integers are signed; positions and times are far from the difference.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use koinon_aggregation::roster::Role;

    use super::*;
    use crate::record::Change;

    fn record(n: u64) -> Record {
        Record { at_ms: n, change: Change::Booted { epoch: n } }
    }

    #[test]
    fn what_was_appended_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.sqlite");
        let (mut journal, records) = SqliteJournal::open(&path).unwrap();
        assert!(records.is_empty());
        journal.append(&[record(1), record(2)]).unwrap();
        journal.append(&[record(3)]).unwrap();
        let head = journal.head();
        drop(journal);
        let (journal, records) = SqliteJournal::open(&path).unwrap();
        assert_eq!(records, [record(1), record(2), record(3)]);
        assert_eq!(journal.head(), head);
    }

    #[test]
    fn a_changed_or_lost_entry_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.sqlite");
        for sql in [
            "DELETE FROM entries WHERE position = 1",
            "UPDATE entries SET payload = x'00' WHERE position = 1",
            "UPDATE entries SET previous = zeroblob(32) WHERE position = 2",
        ] {
            let _ = std::fs::remove_file(&path);
            let (mut journal, _) = SqliteJournal::open(&path).unwrap();
            journal.append(&[record(1), record(2), record(3)]).unwrap();
            drop(journal);
            Connection::open(&path).unwrap().execute(sql, []).unwrap();
            assert!(SqliteJournal::open(&path).is_err(), "{sql}");
        }
    }

    #[test]
    fn newer_and_foreign_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.sqlite");
        drop(SqliteJournal::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
        let error = SqliteJournal::open(&path).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("newer koinon"), "{error}");
        let foreign = dir.path().join("foreign");
        Connection::open(&foreign).unwrap().execute("CREATE TABLE t (x)", []).unwrap();
        assert!(SqliteJournal::open(&foreign).is_err());
        std::fs::write(dir.path().join("text"), vec![b'x'; 4096]).unwrap();
        assert!(SqliteJournal::open(&dir.path().join("text")).is_err());
    }

    #[test]
    fn certificates_are_remembered_until_they_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.sqlite");
        let (mut journal, _) = SqliteJournal::open(&path).unwrap();
        let member = |name: &str| Member { name: SiteId::new(name).unwrap(), role: Role::Client };
        journal.add_certificate(&Digest([1; 32]), &member("a"), 100, 50).unwrap();
        journal.add_certificate(&Digest([2; 32]), &member("b"), 300, 200).unwrap();
        drop(journal);
        let issued = SqliteJournal::open(&path).unwrap().0.certificates().unwrap();
        assert_eq!(issued.into_iter().collect::<Vec<_>>(), [(Digest([2; 32]), member("b"))]);
    }
}
