//! What the participant must remember over a restart: two sealed files and a lock.
//!
//! A file is sealed to its place on this disk: its header names its own inode and time of birth,
//! which no copy has. A folder restored from a backup is therefore noticed, even when the ledger was
//! restored with it, and its session is not resumed: its one-time keys may have been used since. A
//! snapshot of a whole machine cannot be noticed from inside. Deliberately no idea of what the bytes
//! mean.
//! Start at [`StateFolder::open`].

use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use koinon_proto::id::{Digest, SessionId};
use zeroize::Zeroizing;

use super::error::NodeError;
use super::files::{self, Readers};

const MAGIC: &[u8; 16] = b"koinon state v1\n";
/// Whether anything was said that must not be forgotten, the ledger knows: a start without this file
/// is refused when it was.
const PARTICIPANT_REMEDY: &str = "delete it and start again: a site that was in no round yet goes on as if it were new. If \
     the start then says that the state is older than the ledger, this site could contradict what it has said: \
     `koinon client leave --yes`, and join again in a new folder with a new token";
const VECTOR_REMEDY: &str =
    "delete it and start again: only the round that was under way goes on without this site";
const HEADER_BYTES: usize = 16 + 8 + 16 + 32;

/// The folder, locked by this process.
pub struct StateFolder {
    dir: PathBuf,
    _lock: File,
}

/// What a start found in the folder.
#[derive(Default)]
pub struct Found {
    /// The participant's state, as last persisted.
    pub durable: Option<Zeroizing<Vec<u8>>>,
    /// The masked update of the current session.
    pub vector: Option<Vec<u8>>,
    /// Whether the files were copied here from elsewhere: then no session may be resumed.
    pub restored: bool,
}

impl StateFolder {
    /// Opens and locks the folder, making it if it is missing.
    ///
    /// # Errors
    /// When another process has it, or a file cannot be read or is damaged.
    pub fn open(dir: &Path) -> Result<(Self, Found), NodeError> {
        let fail = |e: io::Error| NodeError::State(format!("{}: {e}", dir.display()));
        fs::create_dir_all(dir).map_err(fail)?;
        let lock = File::create(dir.join("lock")).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(NodeError::State(format!(
                    "{} is in use by another node; stop that one first",
                    dir.display()
                )));
            }
            Err(fs::TryLockError::Error(e)) => return Err(fail(e)),
        }
        let folder = Self { dir: dir.to_path_buf(), _lock: lock };
        let found = folder.read()?;
        Ok((folder, found))
    }

    fn read(&self) -> Result<Found, NodeError> {
        let (durable, here) = unseal(&self.participant(), PARTICIPANT_REMEDY)?;
        let (vector, vector_here) = unseal(&self.vector(), VECTOR_REMEDY)?;
        let restored = !(here && vector_here);
        Ok(Found {
            durable: durable.map(Zeroizing::new),
            vector: vector.filter(|_| !restored),
            restored,
        })
    }

    /// Replaces the participant's state, durably.
    ///
    /// # Errors
    /// When it cannot be written; then nothing that depends on it may leave.
    pub fn persist(&self, bytes: &[u8]) -> Result<(), NodeError> {
        seal(&self.participant(), bytes)
    }

    /// Keeps the masked update of a session, durably.
    ///
    /// # Errors
    /// As [`Self::persist`].
    pub fn persist_vector(&self, session: &SessionId, bytes: &[u8]) -> Result<(), NodeError> {
        tracing::debug!(session = %session.short(), bytes = bytes.len(), "masked update kept");
        seal(&self.vector(), bytes)
    }

    /// Forgets the masked update.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn drop_vector(&self) -> Result<(), NodeError> {
        remove(&self.vector())
    }

    fn participant(&self) -> PathBuf {
        self.dir.join("participant.state")
    }

    fn vector(&self) -> PathBuf {
        self.dir.join("vector.state")
    }
}

fn seal(path: &Path, bytes: &[u8]) -> Result<(), NodeError> {
    files::replace_with(path, Readers::Owner, |file| {
        let (place, birth) = place(&file.metadata()?);
        let digest = Digest::of(bytes);
        let header: [&[u8]; 4] =
            [MAGIC, &place.to_le_bytes(), &birth.to_le_bytes(), digest.as_bytes()];
        // No copy of the content: a masked update may be most of what a site holds.
        file.write_all(&header.concat())?;
        file.write_all(bytes)
    })
    .map_err(|e| NodeError::State(format!("{} cannot be written: {e}", path.display())))
}

/// The content of a sealed file, if there is one, and whether it is where it was written.
fn unseal(path: &Path, remedy: &str) -> Result<(Option<Vec<u8>>, bool), NodeError> {
    let fail = |e: io::Error| NodeError::State(format!("{} cannot be read: {e}", path.display()));
    let Some(bytes) = files::read(path).map_err(fail)?.map(Zeroizing::new) else {
        return Ok((None, true));
    };
    let damaged =
        || NodeError::State(format!("{} is damaged and is not used; {remedy}", path.display()));
    let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or_else(damaged)?;
    if !header.starts_with(MAGIC) || header[HEADER_BYTES - 32..] != Digest::of(body).0 {
        return Err(damaged());
    }
    let (place, birth) = place(&fs::metadata(path).map_err(fail)?);
    let here = header[16..24] == place.to_le_bytes() && header[24..40] == birth.to_le_bytes();
    Ok((Some(body.to_vec()), here))
}

/// What no copy of a file shares with it: inode number and time of birth in nanoseconds.
fn place(metadata: &Metadata) -> (u64, u128) {
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    let inode = 0;
    let birth = metadata
        .created()
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_nanos());
    (inode, birth)
}

fn remove(path: &Path) -> Result<(), NodeError> {
    files::remove(path)
        .map_err(|e| NodeError::State(format!("{} cannot be removed: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_persisted_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, found) = StateFolder::open(dir.path()).unwrap();
        assert!(found.durable.is_none() && found.vector.is_none() && !found.restored);
        folder.persist(b"one").unwrap();
        folder.persist(b"two").unwrap();
        folder.persist_vector(&Digest([1; 32]), b"masked").unwrap();
        drop(folder);
        let (folder, found) = StateFolder::open(dir.path()).unwrap();
        assert_eq!(found.durable.unwrap().as_slice(), b"two");
        assert_eq!(found.vector.unwrap(), b"masked");
        folder.drop_vector().unwrap();
        drop(folder);
        assert!(StateFolder::open(dir.path()).unwrap().1.vector.is_none());
    }

    #[test]
    fn a_restored_folder_is_not_resumed() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, _) = StateFolder::open(dir.path()).unwrap();
        folder.persist(b"session").unwrap();
        let backup = fs::read(folder.participant()).unwrap();
        folder.persist(b"later").unwrap();
        folder.persist_vector(&Digest([1; 32]), b"masked").unwrap();
        fs::write(dir.path().join("restored"), &backup).unwrap();
        fs::rename(dir.path().join("restored"), folder.participant()).unwrap();
        drop(folder);
        let (folder, found) = StateFolder::open(dir.path()).unwrap();
        assert!(found.restored, "also when nobody wrote since");
        assert_eq!(found.durable.unwrap().as_slice(), b"session", "what was left stays known");
        assert!(found.vector.is_none());
        folder.persist(b"without the session").unwrap();
        drop(folder);
        assert!(!StateFolder::open(dir.path()).unwrap().1.restored);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, _) = StateFolder::open(dir.path()).unwrap();
        folder.persist(b"session").unwrap();
        let path = folder.participant();
        drop(folder);
        for change in [0, 50, HEADER_BYTES] {
            flip(&path, change);
            let error = StateFolder::open(dir.path()).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains("participant.state"), "{error}");
            assert!(error.to_string().contains("client leave --yes"), "{error}");
            flip(&path, change);
        }
        assert!(StateFolder::open(dir.path()).unwrap().1.durable.is_some());
        let vector = dir.path().join("vector.state");
        fs::write(&vector, b"torn").unwrap();
        let error = StateFolder::open(dir.path()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("only the round that was under way"), "{error}");
        fs::remove_file(&vector).unwrap();
        let (_, found) = StateFolder::open(dir.path()).unwrap();
        assert!(found.durable.is_some() && !found.restored, "what it advises works");
        flip(&path, 20);
        assert!(StateFolder::open(dir.path()).unwrap().1.restored);
    }

    /// Changes a byte in place: the inode stays.
    fn flip(path: &Path, at: usize) {
        use std::io::Write;
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 1;
        fs::OpenOptions::new().write(true).open(path).unwrap().write_all(&bytes).unwrap();
    }

    #[test]
    fn two_nodes_never_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (_held, _) = StateFolder::open(dir.path()).unwrap();
        let error = StateFolder::open(dir.path()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("in use"));
        assert_eq!(error.exit_code(), 7);
    }
}
