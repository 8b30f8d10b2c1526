//! One number in, every stream of randomness of a run out.
//!
//! It is a tree of labels: each actor asks for its own labelled stream, so adding an actor, or a
//! draw to one of them, shifts nobody else's numbers and a seed keeps its meaning while a scenario
//! grows.
//!
//! It is not a source of secrets. The same generator feeds the sites' keys in a simulation *because*
//! a run must replay byte for byte; outside the simulator sites draw from their own entropy.
//!
//! Start at [`SeedTree::new`].

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest as _, Sha256};

const DOMAIN: &[u8] = b"koinon/simulations/v1/seeds";

/// A node of the tree of streams.
///
/// ```
/// use koinon_simulations::seeds::SeedTree;
/// use rand::Rng;
/// let tree = SeedTree::new(7);
/// let (mut a, mut b) = (tree.stream("site/0"), tree.stream("site/1"));
/// assert_ne!(a.next_u64(), b.next_u64());
/// assert_eq!(tree.stream("site/0").next_u64(), SeedTree::new(7).stream("site/0").next_u64());
/// ```
#[derive(Clone)]
pub struct SeedTree {
    node: [u8; 32],
}

impl SeedTree {
    /// The root for one seed.
    pub fn new(seed: u64) -> SeedTree {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        hash.update(seed.to_le_bytes());
        SeedTree { node: hash.finalize().into() }
    }

    /// The node below this one with this label.
    pub fn child(&self, label: &str) -> SeedTree {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        hash.update(self.node);
        hash.update((label.len() as u64).to_le_bytes());
        hash.update(label.as_bytes());
        SeedTree { node: hash.finalize().into() }
    }

    /// The stream of the child with this label, from its start.
    pub fn stream(&self, label: &str) -> ChaCha20Rng {
        ChaCha20Rng::from_seed(self.child(label).node)
    }

    /// Thirty-two bytes of the child with this label, for example a signing key's seed.
    pub fn bytes(&self, label: &str) -> [u8; 32] {
        self.child(label).node
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn labels_and_seeds_separate() {
        let tree = SeedTree::new(0);
        let first = |mut rng: ChaCha20Rng| rng.next_u64();
        let a = first(tree.stream("a"));
        assert_ne!(a, first(tree.stream("b")));
        assert_ne!(a, first(tree.child("a").stream("a")));
        assert_ne!(a, first(SeedTree::new(1).stream("a")));
        assert_ne!(first(tree.child("ab").stream("c")), first(tree.child("a").stream("bc")));
    }
}
