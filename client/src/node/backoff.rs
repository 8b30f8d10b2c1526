//! How long to wait before dialling again.
//!
//! Doubling with jitter, so that sites that lost their coordinator together do not come back
//! together. Pure: randomness is an argument. Start at [`Backoff::next`].

use std::time::Duration;

use rand::{CryptoRng, RngExt};

const FIRST_MS: u64 = 200;
const LAST_MS: u64 = 20_000;

/// The waits of one connection.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait: uniform in the upper half of 200 ms, 400 ms, ... 20 s.
    pub(super) fn next(&mut self, rng: &mut dyn CryptoRng) -> Duration {
        let full = (FIRST_MS << self.failures.min(16)).min(LAST_MS);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(rng.random_range(full / 2..=full))
    }

    /// A connection worked: start anew.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_start_anew() {
        let mut rng = rand_chacha::ChaCha20Rng::from_seed([1; 32]);
        let mut backoff = Backoff::default();
        let waits: Vec<u64> =
            (0..40).map(|_| u64::try_from(backoff.next(&mut rng).as_millis()).unwrap()).collect();
        assert!((100..=200).contains(&waits[0]) && (200..=400).contains(&waits[1]));
        assert!(waits[20..].iter().all(|wait| (10_000..=20_000).contains(wait)));
        backoff.reset();
        assert!(backoff.next(&mut rng) <= Duration::from_millis(200));
    }

    use rand::SeedableRng;
}
