//! The log: a hash tree that only grows (RFC 9162, section 2.1), with proofs that something is in it and
//! that it is what it was, and more.
//!
//! It holds hashes and no entries: 64 bytes for each entry that there ever was. Signing its state is
//! `head`'s business, and what is appended the caller's. Start at [`Log::append`]; [`extends`] checks
//! what [`Log::consistency`] proves.

use sha2::{Digest as _, Sha256};

use crate::hash::Digest;
use crate::merkle::{hash_leaf, hash_node};

/// The most entries of a log: a billion.
pub const LEAVES_MAX: u64 = 1 << 30;

/// The most hashes in a proof about a log: two for each level, and one.
pub const PROOF_MAX: usize = 61;

/// The hashes of an append-only list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// By height: the roots of the full trees of 2^height entries, from the first entry on.
    full: Vec<Vec<Digest>>,
}

impl Log {
    /// How many entries there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.full.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Appends an entry and gives its place; nothing when the log is full.
    pub fn append(&mut self, entry: &[u8]) -> Option<u64> {
        let place = self.size();
        if place >= LEAVES_MAX {
            return None;
        }
        let mut hash = hash_leaf(entry);
        for height in 0.. {
            if height == self.full.len() {
                self.full.push(Vec::new());
            }
            let level = &mut self.full[height];
            level.push(hash);
            match level[..] {
                [.., left, right] if level.len().is_multiple_of(2) => {
                    hash = hash_node(&left, &right);
                }
                _ => break,
            }
        }
        Some(place)
    }

    /// The root over the first `size` entries; none if there are fewer.
    #[must_use]
    pub fn root(&self, size: u64) -> Option<Digest> {
        (size <= self.size()).then(|| self.range(0, index(size)))
    }

    /// The path of the entry at `place` in the log of `size` entries, from below; none if it is not
    /// among them, or there are fewer.
    #[must_use]
    pub fn path(&self, place: u64, size: u64) -> Option<Vec<Digest>> {
        if place >= size || size > self.size() {
            return None;
        }
        let (mut path, place) = (Vec::new(), index(place));
        let (mut first, mut end) = (0, index(size));
        while end - first > 1 {
            let split = first + left_part(end - first);
            if place < split {
                path.push(self.range(split, end));
                end = split;
            } else {
                path.push(self.range(first, split));
                first = split;
            }
        }
        path.reverse();
        Some(path)
    }

    /// The proof that the log of `to` entries begins with that of `from`; none if there are fewer. It is
    /// empty if they are the same, or `from` is none at all.
    #[must_use]
    pub fn consistency(&self, from: u64, to: u64) -> Option<Vec<Digest>> {
        if from > to || to > self.size() {
            return None;
        }
        if from == 0 || from == to {
            return Some(Vec::new());
        }
        let (mut proof, from) = (Vec::new(), index(from));
        let (mut first, mut end, mut whole) = (0, index(to), true);
        while from != end {
            let split = first + left_part(end - first);
            if from <= split {
                proof.push(self.range(split, end));
                end = split;
            } else {
                proof.push(self.range(first, split));
                first = split;
                whole = false;
            }
        }
        if !whole {
            proof.push(self.range(first, end));
        }
        proof.reverse();
        Some(proof)
    }

    /// The root of the tree over these entries, whose first is at a multiple of the next power of two.
    fn range(&self, first: usize, end: usize) -> Digest {
        let n = end - first;
        if n == 0 {
            return Sha256::digest([]).into();
        }
        if n.is_power_of_two() {
            let height = n.trailing_zeros();
            return self.full[height as usize][first >> height];
        }
        let split = first + left_part(n);
        hash_node(&self.range(first, split), &self.range(split, end))
    }
}

/// How many of `n` entries, at least 2, are in the left part of their tree: the largest power of two
/// below `n`.
fn left_part(n: usize) -> usize {
    n.next_power_of_two() / 2
}

fn index(size: u64) -> usize {
    usize::try_from(size).expect("a log has at most 2^30 entries")
}

/// Whether `proof` shows that a log of `to.0` entries with the root `to.1` begins with the one of
/// `from.0` entries with the root `from.1` (RFC 9162, section 2.1.4.2). Every log begins with the empty
/// one, whatever root that is said to have.
pub(super) fn extends(from: (u64, &Digest), to: (u64, &Digest), proof: &[Digest]) -> bool {
    let ((from, from_root), (to, to_root)) = (from, to);
    if from == 0 || from == to {
        return proof.is_empty() && (from == 0 || from_root == to_root);
    }
    if from > to || to > LEAVES_MAX {
        return false;
    }
    let (mut node, mut last) = (from - 1, to - 1);
    while node & 1 == 1 {
        (node, last) = (node >> 1, last >> 1);
    }
    // The old log is one full tree: its root is where the proof begins, and need not be in it.
    let mut path = proof.iter();
    let begin = if node == 0 { Some(from_root) } else { path.next() };
    let Some(begin) = begin else { return false };
    let (mut old, mut new) = (*begin, *begin);
    for beside in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            (old, new) = (hash_node(beside, &old), hash_node(beside, &new));
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            new = hash_node(&new, beside);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && old == *from_root && new == *to_root
}
