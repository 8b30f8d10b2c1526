//! Hash trees as in RFC 9162, section 2.1: one digest for a list, and short proofs that something is
//! at a certain place in it.
//!
//! A leaf is hashed after a byte 0, a node after a byte 1, so that neither passes for the other.
//! What the leaves mean is the caller's: they are labelled digests or hold such. The tree keeps its
//! nodes, not its leaves; whoever wants a proof gives the leaves again.

use sha2::{Digest as _, Sha256};

use crate::hash::Digest;

/// A hash tree over a list of leaves, without the leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    leaves: usize,
    /// Level by level above the leaves' hashes, the root's level last. The last node of an odd level
    /// goes up as it is.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// The tree over `n` leaves, at least 2.
    pub(crate) fn new<L: AsRef<[u8]>>(n: usize, leaf: impl Fn(usize) -> L) -> Self {
        debug_assert!(n > 1);
        let mut below: Vec<Digest> = (0..n).map(|index| hash_leaf(leaf(index).as_ref())).collect();
        let mut levels = Vec::new();
        while below.len() > 1 {
            let level = below.chunks(2).map(|pair| match pair {
                [left, right] => hash_node(left, right),
                odd => odd[0],
            });
            below = level.collect();
            levels.push(below.clone());
        }
        Self { leaves: n, levels }
    }

    pub(crate) fn root(&self) -> Digest {
        self.levels.last().expect("a tree of two leaves has a level above them")[0]
    }

    /// The path that proves leaf `index`: the hashes beside it and its parents, from below.
    pub(crate) fn path<L: AsRef<[u8]>>(
        &self,
        index: usize,
        leaf: impl Fn(usize) -> L,
    ) -> impl Iterator<Item = Digest> {
        debug_assert!(index < self.leaves);
        let beside = Some(index ^ 1).filter(|beside| *beside < self.leaves);
        let first = beside.map(|beside| hash_leaf(leaf(beside).as_ref()));
        let above = (1..).zip(&self.levels);
        let above = above.filter_map(move |(height, level)| level.get((index >> height) ^ 1));
        first.into_iter().chain(above.copied())
    }
}

/// How many hashes the path of leaf `index` among `n` has.
pub(crate) fn path_len(index: usize, n: usize) -> usize {
    let (mut at, mut last, mut len) = (index, n.saturating_sub(1), 0);
    while last > 0 {
        len += usize::from(at ^ 1 <= last);
        at >>= 1;
        last >>= 1;
    }
    len
}

/// The root of the tree over `n` leaves in which `path` leads up from this one at `index`; `None` if
/// no such leaf has a path of that length.
pub(crate) fn root_from(leaf: &[u8], index: usize, n: usize, path: &[Digest]) -> Option<Digest> {
    if index >= n || path.len() != path_len(index, n) {
        return None;
    }
    let (mut at, mut last, mut hash) = (index, n - 1, hash_leaf(leaf));
    let mut path = path.iter();
    while last > 0 {
        if at ^ 1 <= last {
            let beside = path.next()?;
            hash = if at & 1 == 1 { hash_node(beside, &hash) } else { hash_node(&hash, beside) };
        }
        at >>= 1;
        last >>= 1;
    }
    Some(hash)
}

pub(crate) fn hash_leaf(leaf: &[u8]) -> Digest {
    let mut sha = Sha256::new();
    sha.update([0]);
    sha.update(leaf);
    sha.finalize().into()
}

pub(crate) fn hash_node(left: &Digest, right: &Digest) -> Digest {
    let mut sha = Sha256::new();
    sha.update([1]);
    sha.update(left);
    sha.update(right);
    sha.finalize().into()
}

/// Most hashes in a path of a tree with at most 2^14 leaves.
pub(crate) const PATH_MAX: usize = 14;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition of RFC 9162, section 2.1.1, word for word.
    fn by_definition(leaves: &[Vec<u8>]) -> Digest {
        if let [leaf] = leaves {
            return hash_leaf(leaf);
        }
        let split = leaves.len().next_power_of_two() / 2;
        hash_node(&by_definition(&leaves[..split]), &by_definition(&leaves[split..]))
    }

    fn hex(digits: &str) -> Vec<u8> {
        (0..digits.len() / 2)
            .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
            .collect()
    }

    /// The leaves and roots that implementations of certificate transparency test with.
    #[test]
    fn the_known_trees_of_certificate_transparency() {
        let leaves = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ]
        .map(hex);
        let roots = [
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (5, "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ];
        for (n, root) in roots {
            assert_eq!(Tree::new(n, |i| &leaves[i]).root().to_vec(), hex(root), "{n}");
        }
    }

    proptest! {
        #[test]
        fn paths_lead_to_the_root_of_the_definition_and_only_from_their_place(
            n in 2usize..70, index in 0usize..70, flip in 0usize..2000,
        ) {
            let index = index % n;
            let leaves: Vec<Vec<u8>> = (0..n).map(|i| vec![u8::try_from(i).unwrap(); i % 5]).collect();
            let tree = Tree::new(n, |i| &leaves[i]);
            prop_assert_eq!(tree.root(), by_definition(&leaves));
            let path: Vec<Digest> = tree.path(index, |i| &leaves[i]).collect();
            prop_assert_eq!(path.len(), path_len(index, n));
            prop_assert_eq!(root_from(&leaves[index], index, n, &path), Some(tree.root()));
            for other in (0..n).filter(|&other| other != index) {
                prop_assert_ne!(root_from(&leaves[index], other, n, &path), Some(tree.root()));
            }
            prop_assert_ne!(root_from(b"another", index, n, &path), Some(tree.root()));
            prop_assert_eq!(root_from(&leaves[index], n, n, &path), None);
            prop_assert_eq!(root_from(&leaves[index], index, n, &path[1..]), None);
            let mut bent = path;
            let place = flip % bent.len();
            bent[place][flip % 32] ^= 1;
            prop_assert_ne!(root_from(&leaves[index], index, n, &bent), Some(tree.root()));
        }
    }
}
