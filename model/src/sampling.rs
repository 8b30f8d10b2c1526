//! Which rows a private step takes: everybody's rows with the same probability, independently, and in
//! secret (Poisson sampling; Abadi et al. 2016, 1607.00133, section 3).
//!
//! The unit is whoever a row belongs to: rows with the same key (the feature plan's group, a patient)
//! are one record, and of a record that is drawn one row is taken. So a record is in a step at most
//! once, however many rows it has. The draw must come from the site's own entropy: whoever knows who
//! was drawn takes away what the secrecy gave. Deliberately not here: gradients, noise, accounts.
//! Start at [`Records::new`] and [`Records::draw`].
//!
//! ```
//! use koinon_model::sampling::Records;
//! use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
//!
//! let records = Records::new(&[7, 3, 7, 9]); // rows 0 and 2 are of the same patient
//! assert_eq!(records.len(), 3);
//! let mut rng = ChaCha20Rng::from_seed([1; 32]);
//! assert_eq!(records.draw(1.0, &mut rng).count(), 3);
//! assert_eq!(records.draw(0.0, &mut rng).count(), 0);
//! ```

use rand_chacha::rand_core::Rng;

/// Rows by the record they belong to. No `Debug`: it tells how many rows a record has.
pub struct Records {
    /// All rows; those of one record lie together.
    rows: Vec<u32>,
    /// Where each record ends in `rows`.
    ends: Vec<u32>,
}

impl Records {
    /// The records of rows with these keys; see [`crate::dataset::Dataset::keys`].
    ///
    /// # Panics
    /// With 2^32 rows or more, which no data set here has.
    #[must_use]
    pub fn new(keys: &[u64]) -> Self {
        let mut rows: Vec<u32> = (0..place(keys.len())).collect();
        rows.sort_by_key(|&row| (keys[row as usize], row));
        let of = |at: usize| keys[rows[at] as usize];
        let last = |at: &usize| at + 1 == rows.len() || of(*at) != of(at + 1);
        let ends = (0..rows.len()).filter(last).map(|at| place(at + 1)).collect();
        Self { rows, ends }
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Draws each record with probability `rate` (0 to 1, rounded down to a multiple of 2^-63), and
    /// of a record with several rows one of them. In constant memory: rows come as they are drawn.
    pub fn draw<'a>(&'a self, rate: f64, rng: &'a mut dyn Rng) -> impl Iterator<Item = u32> + 'a {
        let threshold = threshold(rate);
        let mut start = 0;
        self.ends.iter().filter_map(move |&end| {
            let (first, n) = (start, end - start);
            start = end;
            // Both draws are made for every record, so that how much is drawn tells nothing.
            let (chosen, which) = (rng.next_u64() >> 1 < threshold, rng.next_u64());
            let offset = u32::try_from((u128::from(which) * u128::from(n)) >> 64).ok()?;
            chosen.then(|| self.rows[(first + offset) as usize])
        })
    }
}

fn place(at: usize) -> u32 {
    u32::try_from(at).expect("fewer than 2^32 rows")
}

/// `rate · 2^63`, rounded down.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the product lies in 0..=2^63"
)]
fn threshold(rate: f64) -> u64 {
    (rate.clamp(0.0, 1.0) * 9_223_372_036_854_775_808.0) as u64
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn records_are_drawn_independently_at_the_rate() {
        let keys: Vec<u64> = (0..40u64).map(|row| row * 977 % 41).collect();
        let records = Records::new(&keys);
        assert_eq!(records.len(), 40);
        let mut rng = ChaCha20Rng::from_seed([2; 32]);
        let (mut counts, mut sizes, mut squares) = ([0u32; 40], 0.0, 0.0);
        let n = 20_000;
        for _ in 0..n {
            let drawn: Vec<u32> = records.draw(0.3, &mut rng).collect();
            drawn.iter().for_each(|&row| counts[row as usize] += 1);
            sizes += drawn.len() as f64;
            squares += (drawn.len() as f64).powi(2);
        }
        let n = f64::from(n);
        assert!(counts.iter().all(|&count| (f64::from(count) / n - 0.3).abs() < 0.015));
        let mean = sizes / n;
        let variance = squares / n - mean * mean;
        // Binomial: 40 · 0.3 · 0.7 = 8.4; a fixed number of rows would have none.
        assert!((mean - 12.0).abs() < 0.1 && (variance - 8.4).abs() < 0.4, "{mean} {variance}");
    }

    #[test]
    fn a_record_is_in_a_step_at_most_once_and_with_any_of_its_rows() {
        let records = Records::new(&[5, 5, 5, 8]);
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let mut counts = [0u32; 4];
        for _ in 0..6_000 {
            let drawn: Vec<u32> = records.draw(0.5, &mut rng).collect();
            assert!(drawn.iter().filter(|&&row| row < 3).count() <= 1);
            drawn.iter().for_each(|&row| counts[row as usize] += 1);
        }
        assert!(counts[..3].iter().all(|&count| (850..1150).contains(&count)), "{counts:?}");
        assert!((2800..3200).contains(&counts[3]), "{counts:?}");
        assert!(Records::new(&[]).is_empty());
    }
}
