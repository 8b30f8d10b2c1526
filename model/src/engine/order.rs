//! The order of rows in an epoch: a permutation from a seed, the same on every machine.

use rand_chacha::rand_core::Rng;

use crate::params::stream;

/// A permutation of `0..rows` for one epoch of one round.
pub(super) fn order(seed: u64, round: u32, epoch: u32, rows: u32) -> Vec<u32> {
    let mut rng = stream("koinon.order.v1", &[seed, u64::from(round), u64::from(epoch)]);
    let mut order: Vec<u32> = (0..rows).collect();
    for last in (1..rows).rev() {
        order.swap(last as usize, below(&mut rng, last + 1) as usize);
    }
    order
}

/// Uniform below `bound` without bias (Lemire, "Fast random integer generation in an interval",
/// 2019, section 4).
fn below(rng: &mut impl Rng, bound: u32) -> u32 {
    let threshold = bound.wrapping_neg() % bound;
    loop {
        let product = u64::from(rng.next_u32()) * u64::from(bound);
        let (high, low) = ((product >> 32) as u32, (product & 0xffff_ffff) as u32);
        if low >= threshold {
            return high;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_once_and_another_order_each_time() {
        let first = order(1, 0, 0, 50);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        assert_eq!(first, order(1, 0, 0, 50));
        for other in [order(2, 0, 0, 50), order(1, 1, 0, 50), order(1, 0, 1, 50)] {
            assert_ne!(first, other);
        }
        assert_eq!(order(1, 0, 0, 1), [0]);
    }

    #[test]
    fn all_permutations_are_about_as_frequent() {
        let mut seen = std::collections::BTreeMap::new();
        for seed in 0..6000 {
            *seen.entry(order(seed, 0, 0, 3)).or_insert(0u32) += 1;
        }
        assert_eq!(seen.len(), 6);
        // Mean 1000, standard deviation 29.
        assert!(seen.values().all(|&count| (850..1150).contains(&count)), "{seen:?}");
    }
}
