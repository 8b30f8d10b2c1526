//! Content-addressed files: everything that has a digest, one file each.
//!
//! A blob is durable when [`Blobs::put`] returns, so it may be named by a record written afterwards.
//! What is read is checked against its name, so a damaged disk is an error and never a wrong model.
//! Deliberately no index and no reference counts: the journal knows what is needed. Start at
//! [`Blobs::open`].

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use koinon_proto::id::Digest;
use sha2::{Digest as _, Sha256};

/// A folder of blobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    /// Opens the folder, making it if it is missing, and clears what a crash left unfinished.
    ///
    /// # Errors
    /// The system's error.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "tmp") {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { folder: folder.to_path_buf() })
    }

    /// Writes a blob durably: file, fsync, rename, fsync of the folder. An existing one stays.
    ///
    /// # Errors
    /// The system's error; the blob then does not exist.
    pub fn put(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(digest);
        // An intact copy is good enough, once it is as durable as a new one: a crash may have fallen
        // between its renaming and the folder's sync. A damaged one is replaced.
        if path.exists() && self.get(digest).is_ok_and(|old| old.is_some()) {
            File::open(&path)?.sync_all()?;
            return File::open(&self.folder)?.sync_all();
        }
        let unfinished = path.with_extension("tmp");
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        File::open(&self.folder)?.sync_all()
    }

    /// Reads a blob; `None` if there is none.
    ///
    /// # Errors
    /// The system's error, or `InvalidData` when the content is not what its name says.
    pub fn get(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(digest)) {
            Ok(bytes) if Digest::of(&bytes) == *digest => Ok(Some(bytes)),
            Ok(_) => Err(self.damaged(digest)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Opens a blob for reading, after checking all of it; `None` if there is none. Gives the file and
    /// its length.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn reader(&self, digest: &Digest) -> io::Result<Option<(File, u64)>> {
        let mut file = match File::open(self.path(digest)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let (mut hash, mut total, mut buffer) = (Sha256::new(), 0_u64, vec![0; 64 * 1024]);
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            total += n as u64;
        }
        if Digest(hash.finalize().into()) != *digest {
            return Err(self.damaged(digest));
        }
        file.rewind()?;
        Ok(Some((file, total)))
    }

    /// Removes a blob that nothing needs any more; a missing one is fine.
    ///
    /// # Errors
    /// The system's error.
    pub fn remove(&self, digest: &Digest) -> io::Result<()> {
        match fs::remove_file(self.path(digest)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }

    fn damaged(&self, digest: &Digest) -> io::Error {
        let path = self.path(digest);
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is damaged: its content is not what its name says", path.display()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read_back_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = Digest::of(b"content");
        assert!(blobs.get(&digest).unwrap().is_none());
        assert!(blobs.reader(&digest).unwrap().is_none());
        blobs.put(&digest, b"content").unwrap();
        blobs.put(&digest, b"content").unwrap();
        assert_eq!(blobs.get(&digest).unwrap().unwrap(), b"content");

        let (mut file, total) = blobs.reader(&digest).unwrap().unwrap();
        let mut all = String::new();
        file.read_to_string(&mut all).unwrap();
        assert_eq!((all.as_str(), total), ("content", 7));

        fs::write(blobs.path(&digest), b"contenT").unwrap();
        assert_eq!(blobs.get(&digest).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(blobs.reader(&digest).unwrap_err().kind(), io::ErrorKind::InvalidData);
        blobs.put(&digest, b"content").unwrap();
        assert!(blobs.get(&digest).unwrap().is_some());
        blobs.remove(&digest).unwrap();
        blobs.remove(&digest).unwrap();
        assert!(blobs.get(&digest).unwrap().is_none());
    }

    #[test]
    fn what_a_crash_left_unfinished_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let torn = dir.path().join(Digest::of(b"x").to_string()).with_extension("tmp");
        fs::write(&torn, b"half").unwrap();
        Blobs::open(dir.path()).unwrap();
        assert!(!torn.exists());
    }
}
