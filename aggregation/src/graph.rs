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
    #[cfg(test)]
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::parameters::{self, Assumptions};

    #[test]
    fn the_order_is_the_known_one() {
        // By another implementation of the description above.
        assert_eq!(order(&[7; 32], 10), [2, 4, 8, 0, 1, 9, 3, 5, 6, 7]);
        let large = order(&[7; 32], 10_000);
        assert_eq!(large[..5], [3664, 3938, 9172, 3749, 6530]);
        assert_eq!(large[9_995..], [8569, 4698, 6771, 7277, 7391]);
    }

    proptest! {
        #[test]
        fn all_have_the_same_number_of_neighbours_and_reach_one_another(
            seed: [u8; 32],
            n in 3usize..300,
            half in 1usize..150,
        ) {
            let degree = (2 * half).min(n - 1);
            let graph = Graph::derive(&seed, n, degree);
            prop_assert_eq!(&graph, &Graph::derive(&seed, n, degree));
            let mut reached = vec![false; n];
            let mut open = vec![0];
            reached[0] = true;
            for site in 0..n {
                let neighbours = graph.neighbours(site);
                prop_assert_eq!(neighbours.len(), degree);
                prop_assert!(neighbours.windows(2).all(|pair| pair[0] < pair[1]));
                for other in 0..n {
                    let adjacent = neighbours.binary_search(&other).is_ok();
                    prop_assert_eq!(graph.are_neighbours(site, other), adjacent);
                    prop_assert_eq!(graph.are_neighbours(other, site), adjacent);
                }
            }
            while let Some(site) = open.pop() {
                for next in graph.neighbours(site) {
                    if !std::mem::replace(&mut reached[next], true) {
                        open.push(next);
                    }
                }
            }
            prop_assert!(reached.iter().all(|&reached| reached));
        }

        #[test]
        fn committees_are_sets_of_the_wanted_size(seed: [u8; 32], n in 1usize..400, part: u16) {
            let size = usize::from(part) % (n + 1);
            let drawn = committee(&seed, n, size);
            prop_assert_eq!(drawn.len(), size);
            prop_assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(drawn.last().is_none_or(|&last| last < n));
        }

        /// Survivors that pass the arc check with one more than nobody are connected.
        #[test]
        fn survivors_on_every_arc_keep_the_ring_together(
            seed: [u8; 32],
            alive in proptest::collection::vec(proptest::bool::weighted(0.9), 20..60),
            half in 3usize..6,
        ) {
            let graph = Graph::derive(&seed, alive.len(), 2 * half);
            prop_assume!(graph.fewest_on_an_arc(&|site| alive[site]) >= 1);
            let first = alive.iter().position(|&alive| alive).expect("an arc has one");
            let (mut reached, mut open) = (vec![false; alive.len()], vec![first]);
            reached[first] = true;
            while let Some(site) = open.pop() {
                for next in graph.neighbours(site).into_iter().filter(|&next| alive[next]) {
                    if !std::mem::replace(&mut reached[next], true) {
                        open.push(next);
                    }
                }
            }
            prop_assert_eq!(reached, alive);
        }
    }

    #[test]
    fn the_thinnest_arc_is_found_wherever_it_lies() {
        let graph = Graph::derive(&[3; 32], 50, 12);
        for gap in 0..50 {
            let lost = [gap, (gap + 1) % 50, (gap + 2) % 50, (gap + 3) % 50];
            let alive = |site: usize| !lost.contains(&usize::from(graph.place[site]));
            assert_eq!(graph.fewest_on_an_arc(&alive), 2);
        }
        let complete = Graph::derive(&[3; 32], 50, 49);
        assert_eq!(complete.fewest_on_an_arc(&|_| false), usize::MAX);
    }

    #[test]
    fn every_pair_is_equally_likely_to_be_neighbours_and_every_site_to_be_drawn() {
        const SEEDS: u32 = 20_000;
        const N: usize = 12;
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(5);
        let (mut pairs, mut drawn) = ([[0u32; N]; N], [0u32; N]);
        for _ in 0..SEEDS {
            let seed: Digest = rng.random();
            let graph = Graph::derive(&seed, N, 4);
            for (a, row) in pairs.iter_mut().enumerate() {
                graph.neighbours(a).into_iter().for_each(|b| row[b] += 1);
            }
            committee(&seed, N, 3).into_iter().for_each(|site| drawn[site] += 1);
        }
        let chi2 = |counts: &mut dyn Iterator<Item = u32>, p: f64| -> f64 {
            let (mean, variance) = (f64::from(SEEDS) * p, f64::from(SEEDS) * p * (1.0 - p));
            counts.map(|count| (f64::from(count) - mean).powi(2) / variance).sum()
        };
        // 66 pairs less what the fixed degree takes away: mean 66, standard deviation about 12.
        let of_pairs = chi2(&mut (0..N).flat_map(|a| pairs[a][a + 1..].to_vec()), 4.0 / 11.0);
        assert!((25.0..110.0).contains(&of_pairs), "{of_pairs}");
        // 12 sites: mean 12, standard deviation about 5.
        let of_sites = chi2(&mut drawn.into_iter(), 3.0 / 12.0);
        assert!((2.0..32.0).contains(&of_sites), "{of_sites}");
    }

    /// The most colluders among the neighbours of one honest site, and the most w such that two
    /// disjoint arcs have w colluders each, when the sites below `colluding` collude.
    fn worst(graph: &Graph, colluding: usize) -> (usize, usize) {
        let (n, arc) = (graph.len(), graph.degree / 2);
        let marked = |at: usize| usize::from(usize::from(graph.ring[at % n]) < colluding);
        let mut on_arc = Vec::with_capacity(n);
        let mut count: usize = (0..arc).map(marked).sum();
        for at in 0..n {
            on_arc.push(count);
            count = count + marked(at + arc) - marked(at);
        }
        let honest = (0..n).filter(|&at| marked(at) == 0);
        let around = honest.map(|at| on_arc[(at + 1) % n] + on_arc[(at + n - arc) % n]).max();
        let most = *on_arc.iter().max().expect("a ring has arcs");
        let apart =
            |from: usize, other: usize| (from.abs_diff(other)).min(n - from.abs_diff(other));
        let two = (0..=most).rev().find(|&w| {
            let full: Vec<usize> = (0..n).filter(|&at| on_arc[at] >= w).collect();
            full.iter().any(|&a| full.iter().any(|&b| apart(a, b) >= arc))
        });
        (around.unwrap_or(0), two.unwrap_or(0))
    }

    /// How many of `seeds` graphs are bad for these assumptions' parameters.
    fn bad_graphs(sigma: u8, n: usize, seeds: u64) -> u64 {
        let assumptions =
            Assumptions { colluding_percent: 10, dropout_percent: 10, sigma, failure_bits: 20 };
        let sparse = parameters::sparse(n, &assumptions).unwrap();
        let on_arc = parameters::survivors_on_an_arc(&sparse, n).unwrap();
        let (degree, threshold) = (usize::from(sparse.degree), usize::from(sparse.threshold));
        let is_bad = |key: &u64| {
            // What a colluder can vary at will is hashed into the seed.
            let seed = crate::hash::hash("koinon/2/graph", &[&key.to_le_bytes()]);
            let (around, two) = worst(&Graph::derive(&seed, n, degree), n / 10);
            around >= 2 * threshold - degree || two >= on_arc
        };
        (0..seeds).filter(is_bad).count() as u64
    }

    #[test]
    fn a_coordinator_who_grinds_keys_finds_no_bad_graph() {
        assert_eq!(bad_graphs(80, 1000, 1 << 16), 0);
        // The same search succeeds where the parameters leave it something to find: here at most
        // 2^12 · 2^-6 bad graphs are expected.
        let found = bad_graphs(6, 1000, 1 << 12);
        assert!((1..=1 << 6).contains(&found), "{found}");
    }
}
