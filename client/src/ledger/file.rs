//! The ledger on disk: one file, append only, each line synced before the message leaves.
//!
//! A power cut may leave a part of a last line. Since a line is durable before its message leaves,
//! such a part speaks of a message that never left, and [`open`] cuts it off. Anything else that does
//! not verify is refused: this deliberately never repairs. One process owns the file at a time; the
//! node's lock sees to that. Start at [`open`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use super::{Head, Ledger, LedgerError, LedgerStore, verify};

/// An append-only file, synced after each line.
pub struct FileStore {
    file: File,
}

impl LedgerStore for FileStore {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.write_all(line)?;
        self.file.sync_data()
    }
}

/// What [`open`] found at the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Where the chain stands.
    pub head: Head,
    /// Bytes of an unfinished last line that were cut off; 0 after an orderly end.
    pub torn_bytes: u64,
}

/// Opens the ledger at `path`, makes it when there is none, and checks the whole chain.
///
/// # Errors
/// [`LedgerError::Open`] when the file cannot be read or written, and [`verify`]'s errors when its
/// content does not verify.
pub fn open(path: &Path) -> Result<(Ledger<FileStore>, Recovered), LedgerError> {
    let failed = |source| LedgerError::Open { path: path.display().to_string(), source };
    let fresh = !path.exists();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed)?;
    if fresh {
        sync_parent(path).map_err(failed)?;
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(failed)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let head = verify(&text[..whole])?;
    let torn_bytes = (text.len() - whole) as u64;
    if torn_bytes > 0 {
        file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(failed)?;
    }
    file.seek(SeekFrom::End(0)).map_err(failed)?;
    Ok((Ledger::new(head, FileStore { file }), Recovered { head, torn_bytes }))
}

/// The whole lines of the ledger at `path`, for listing, verifying and exporting. A last line that
/// has no end yet is left out: its message has not left.
///
/// # Errors
/// [`LedgerError::Open`] when the file cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, LedgerError> {
    let mut text = fs::read(path)
        .map_err(|source| LedgerError::Open { path: path.display().to_string(), source })?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    text.truncate(whole);
    Ok(text)
}

/// A new file's name is durable only when its folder is. Windows has no such call and needs none.
fn sync_parent(path: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use koinon_proto::Digest;

    use super::super::{Entries, Kind, Leaving};
    use super::*;

    fn append(ledger: &mut Ledger<FileStore>, count: u8) {
        for index in 0..count {
            let leaving =
                Leaving { kind: Kind::Hello, about: None, destination: "coordinator".to_owned() };
            let entry = ledger.entry(u64::from(index), &leaving, &[index]);
            ledger.append(&entry).unwrap();
        }
    }

    #[test]
    fn entries_survive_and_a_torn_tail_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let (mut ledger, found) = open(&path).unwrap();
        assert_eq!(found, Recovered { head: Head::EMPTY, torn_bytes: 0 });
        append(&mut ledger, 3);
        let head = ledger.head();
        drop(ledger);

        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"index\":3,\"time").unwrap();
        drop(file);
        assert_eq!(Entries::of(&read(&path).unwrap()).count(), 3);
        let (mut ledger, found) = open(&path).unwrap();
        assert_eq!(found, Recovered { head, torn_bytes: 16 });
        append(&mut ledger, 1);
        drop(ledger);
        let text = read(&path).unwrap();
        assert_eq!(verify(&text).unwrap().entries, 4);
        assert_ne!(verify(&text).unwrap().digest, Digest([0; 32]));
    }

    #[test]
    fn a_tampered_ledger_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let (mut ledger, _) = open(&path).unwrap();
        append(&mut ledger, 3);
        drop(ledger);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("\"time_ms\":1", "\"time_ms\":2", 1)).unwrap();
        assert!(matches!(open(&path), Err(LedgerError::Broken { line: 3 })));
    }
}
