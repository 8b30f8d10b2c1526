//! Who shares with whom when a cohort is too large for everybody to share with everybody: a Harary
//! graph on a seeded order of the sites, which every site derives for itself.
//!
//! The order is a permutation of the indices 0..n. It starts as 0, 1, …, n - 1, and for i from n - 1
//! down to 1 the entries i and j are exchanged, where j is drawn from 0..=i (Fisher and Yates). Draws
//! take words of four bytes, little-endian, from the key stream of the seed (the stream that the
//! seed would give as a mask, from its first byte on), each word w once: with m = w · (i + 1), if m
//! modulo 2^32 is below 2^32 modulo i + 1 the word is dropped and the next one taken, else
//! j = floor(m / 2^32). No j is likelier than another (Lemire 2019, "Fast random integer generation
//! in an interval", section 4).
//!
//! The order closes to a ring. For an even degree k < n - 1, the neighbours of a site are the k / 2
//! next ones on either side of it (Harary 1962; Bell et al. 2020, section 3.1). For k = n - 1 all
//! others are.
//!
//! A committee of c sites is the first c entries of the order of a seed of its own.
//!
//! Deliberately not here: how many neighbours there must be (`parameters`), and where seeds come from.

use crate::hash::Digest;
use crate::secret::Secret;
use crate::stream::{Seed, keystream_bytes};

/// A graph on the participants 0..n in which all have the same number of neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Graph {
    degree: usize,
    /// By place on the ring: who is there.
    ring: Vec<u16>,
    /// By participant: its place on the ring.
    place: Vec<u16>,
}

impl Graph {
    /// The graph of `seed` on `n` participants with `degree` neighbours each.
    ///
    /// # Panics
    /// If `n` does not fit into 16 bits, or if `degree` is neither even and below `n` nor `n - 1`:
    /// `parameters::check` has refused that before.
    pub(crate) fn derive(seed: &Digest, n: usize, degree: usize) -> Self {
        assert!(is_degree(degree, n), "no graph of degree {degree} on {n} sites");
        let ring = order(seed, n);
        let mut place = vec![0; n];
        for (at, &site) in (0u16..).zip(&ring) {
            place[usize::from(site)] = at;
        }
        Self { degree, ring, place }
    }

    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    pub(crate) fn degree(&self) -> usize {
        self.degree
    }

    /// The neighbours of `site`, in ascending order; never itself.
    pub(crate) fn neighbours(&self, site: usize) -> Vec<usize> {
        let (n, at) = (self.len(), usize::from(self.place[site]));
        if self.degree + 1 == n {
            return (0..n).filter(|&other| other != site).collect();
        }
        let mut found: Vec<usize> = (1..=self.degree / 2)
            .flat_map(|step| [(at + step) % n, (at + n - step) % n])
            .map(|at| usize::from(self.ring[at]))
            .collect();
        found.sort_unstable();
        found
    }

    /// Whether two participants are neighbours; nobody is its own.
    pub(crate) fn are_neighbours(&self, a: usize, b: usize) -> bool {
        let apart = self.place[a].abs_diff(self.place[b]);
        let apart = usize::from(apart).min(self.len() - usize::from(apart));
        apart != 0 && (self.degree + 1 == self.len() || apart <= self.degree / 2)
    }

    /// The fewest of those that `is_in` accepts on any arc of degree / 2 places in a row; no limit
    /// (`usize::MAX`) when all are neighbours, as then no arc parts the others.
    ///
    /// The survivors of a session must pass this: where an arc of that length has none, the sites on
    /// its two sides share nothing, and two such arcs open the sum of those between them alone.
    pub(crate) fn fewest_on_an_arc(&self, is_in: &dyn Fn(usize) -> bool) -> usize {
        let (n, arc) = (self.len(), self.degree / 2);
        if self.degree + 1 == n {
            return usize::MAX;
        }
        let counts = |at: usize| usize::from(is_in(usize::from(self.ring[at % n])));
        let mut count: usize = (0..arc).map(counts).sum();
        let mut fewest = count;
        for at in 0..n {
            count = count + counts(at + arc) - counts(at);
            fewest = fewest.min(count);
        }
        fewest
    }
}

/// Whether a graph of this degree can be derived for `n` participants.
pub(crate) fn is_degree(degree: usize, n: usize) -> bool {
    degree > 0 && degree < n && (degree.is_multiple_of(2) || degree == n - 1)
}

/// The committee of `size` among `n` participants that the seed draws, in ascending order.
///
/// # Panics
/// If `size` is above `n`, or `n` does not fit into 16 bits.
pub(crate) fn committee(seed: &Digest, n: usize, size: usize) -> Vec<usize> {
    let order = order(seed, n);
    let mut drawn: Vec<usize> = order[..size].iter().map(|&site| usize::from(site)).collect();
    drawn.sort_unstable();
    drawn
}

/// The seeded order of 0..n: each of the n! orders is equally likely.
fn order(seed: &Digest, n: usize) -> Vec<u16> {
    let n = u16::try_from(n).expect("sessions have at most 16,384 participants");
    let mut order: Vec<u16> = (0..n).collect();
    let mut words = Words { seed: Secret::new(*seed), block: [0; BLOCK_BYTES], next: 0 };
    for i in (1..n).rev() {
        let j = words.below(u32::from(i) + 1);
        order.swap(usize::from(i), usize::from(j));
    }
    order
}

/// Key stream made at a time.
const BLOCK_BYTES: usize = 4096;

/// The words of a seed's key stream, one after the other.
struct Words {
    seed: Seed,
    block: [u8; BLOCK_BYTES],
    /// The next byte of the stream.
    next: u64,
}

impl Words {
    fn next(&mut self) -> u32 {
        let at = usize::try_from(self.next % BLOCK_BYTES as u64).expect("below a block");
        if at == 0 {
            keystream_bytes(&self.seed, &mut self.block, self.next);
        }
        self.next += 4;
        u32::from_le_bytes(self.block[at..at + 4].try_into().expect("four bytes"))
    }

    /// A number below `bound` (1..=2^16), each equally likely.
    fn below(&mut self, bound: u32) -> u16 {
        // 2^32 modulo the bound.
        let excess = bound.wrapping_neg() % bound;
        loop {
            let product = u64::from(self.next()) * u64::from(bound);
            let (high, low) = (product >> 32, product & u64::from(u32::MAX));
            if low >= u64::from(excess) {
                return u16::try_from(high).expect("below a bound of at most 2^16");
            }
        }
    }
}
