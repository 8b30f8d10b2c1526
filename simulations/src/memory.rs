//! Disks of the simulated machines: what is not synced may be lost or torn by a crash.
//!
//! It holds named files and one append-only journal. A write is pending until [`Disk::sync`]; a
//! crash keeps, loses or (files only) tears each pending write. A journal transaction is there
//! whole or not at all, as the shipped store promises with its own checksums.
//!
//! It is not a file system: no directories, no permissions. Start at [`Disk::sync`] and
//! [`Disk::crash`].

use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeMap;

/// The disk of one machine.
#[derive(Default)]
pub struct Disk {
    files: BTreeMap<String, Vec<u8>>,
    journal: Vec<Vec<u8>>,
    pending: Vec<Write>,
    full: bool,
}

enum Write {
    File { name: String, bytes: Vec<u8>, whole: bool },
    Append { entries: Vec<Vec<u8>> },
    Remove { name: String },
}

/// A write found no space.
#[derive(Debug, PartialEq, Eq)]
pub struct DiskFull;

impl Disk {
    /// Writes a file in place: a crash before the sync may leave a part of it.
    pub fn put(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), DiskFull> {
        self.write(name, bytes, false)
    }

    /// Replaces a file as a rename does: a crash before the sync leaves the old or the new one.
    pub fn replace(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), DiskFull> {
        self.write(name, bytes, true)
    }

    fn write(&mut self, name: &str, bytes: Vec<u8>, whole: bool) -> Result<(), DiskFull> {
        self.room()?;
        self.pending.push(Write::File { name: name.to_owned(), bytes, whole });
        Ok(())
    }

    /// Appends one transaction to the journal. Pending until synced.
    pub fn append(&mut self, entries: Vec<Vec<u8>>) -> Result<(), DiskFull> {
        self.room()?;
        self.pending.push(Write::Append { entries });
        Ok(())
    }

    /// Removes a file. Pending until synced: after a crash it may be there again.
    pub fn remove(&mut self, name: &str) {
        self.pending.push(Write::Remove { name: name.to_owned() });
    }

    /// Makes everything pending durable.
    pub fn sync(&mut self) -> Result<(), DiskFull> {
        self.room()?;
        for write in std::mem::take(&mut self.pending) {
            self.settle(write);
        }
        Ok(())
    }

    /// The machine stops: every pending write is kept, lost or torn.
    pub fn crash(&mut self, rng: &mut ChaCha20Rng) {
        for write in std::mem::take(&mut self.pending) {
            match rng.random_range(0..3u8) {
                0 => self.settle(write),
                1 => {
                    if let Write::File { name, bytes, whole: false } = write {
                        let kept = rng.random_range(0..=bytes.len());
                        self.files.insert(name, bytes[..kept].to_vec());
                    }
                }
                _ => {}
            }
        }
    }

    /// A file as a restarted program finds it.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// The journal as a restarted program finds it.
    pub fn journal(&self) -> &[Vec<u8>] {
        &self.journal
    }

    /// From now on writes fail, or work again.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    fn room(&self) -> Result<(), DiskFull> {
        if self.full { Err(DiskFull) } else { Ok(()) }
    }

    fn settle(&mut self, write: Write) {
        match write {
            Write::File { name, bytes, .. } => {
                self.files.insert(name, bytes);
            }
            Write::Append { entries } => self.journal.extend(entries),
            Write::Remove { name } => {
                self.files.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds::SeedTree;

    #[test]
    fn synced_writes_survive_every_crash() {
        for seed in 0..50 {
            let mut disk = Disk::default();
            disk.put("state", vec![1; 100]).unwrap();
            disk.append(vec![vec![1], vec![2]]).unwrap();
            disk.sync().unwrap();
            disk.crash(&mut SeedTree::new(seed).stream("crash"));
            assert_eq!(disk.file("state"), Some(&[1u8; 100][..]));
            assert_eq!(disk.journal(), [vec![1], vec![2]]);
        }
    }

    #[test]
    fn unsynced_writes_are_kept_lost_or_torn_but_transactions_stay_whole() {
        let (mut kept, mut lost, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let mut disk = Disk::default();
            disk.put("blob", vec![1; 100]).unwrap();
            disk.append(vec![vec![1], vec![2]]).unwrap();
            disk.crash(&mut SeedTree::new(seed).stream("crash"));
            match disk.file("blob").map(<[u8]>::len) {
                Some(100) => kept += 1,
                Some(_) => torn += 1,
                None => lost += 1,
            }
            assert!([0, 2].contains(&disk.journal().len()));
        }
        assert!(kept > 30 && lost > 30 && torn > 30, "{kept} {lost} {torn}");
    }

    #[test]
    fn a_replaced_file_is_the_old_or_the_new_one() {
        for seed in 0..100 {
            let mut disk = Disk::default();
            disk.put("state", vec![1; 10]).unwrap();
            disk.sync().unwrap();
            disk.replace("state", vec![2; 20]).unwrap();
            disk.crash(&mut SeedTree::new(seed).stream("crash"));
            let now = disk.file("state").unwrap();
            assert!(now == [1; 10] || now == [2; 20]);
        }
    }

    #[test]
    fn a_removed_file_may_come_back_until_synced() {
        let (mut gone, mut back) = (0, 0);
        for seed in 0..100 {
            let mut disk = Disk::default();
            disk.put("vector", vec![1]).unwrap();
            disk.sync().unwrap();
            disk.remove("vector");
            disk.crash(&mut SeedTree::new(seed).stream("crash"));
            if disk.file("vector").is_some() { back += 1 } else { gone += 1 }
        }
        assert!(gone > 20 && back > 20);
    }

    #[test]
    fn a_full_disk_takes_nothing() {
        let mut disk = Disk::default();
        disk.set_full(true);
        assert_eq!(disk.put("a", vec![1]), Err(DiskFull));
        assert_eq!(disk.append(vec![vec![1]]), Err(DiskFull));
        disk.set_full(false);
        disk.put("a", vec![1]).unwrap();
        disk.set_full(true);
        assert_eq!(disk.sync(), Err(DiskFull));
    }
}
