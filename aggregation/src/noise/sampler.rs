//! The sampler: discrete Gaussians of any planned variance from a seed's key stream, in constant
//! time.
//!
//! 1024 draws are made at once, one in each bit of a row of machine words: row b holds bit b of all
//! their random numbers. A comparison with a threshold is then one AND or OR for each bit, by the
//! bits of the *table*; no branch and no address depends on a random bit. Not here: which variance,
//! and what it hides ([`super`]). Start at [`fill`].

use zeroize::Zeroizing;

use super::NoisePlan;
use super::table::{BITS, LEN, THRESHOLDS, leading_ones};
use crate::stream::{Seed, keystream_bytes};

/// Words in a row.
const WORDS: usize = 16;
/// Draws made at once.
const LANES: usize = 64 * WORDS;
/// One bit of each draw.
type Row = [u64; WORDS];
/// One random bit for each draw, as the key stream gives them.
type RandomRow = [[u8; 8]; WORDS];
/// The random bits of a base draw: its number's, the lowest first, then its sign's.
type Random = [RandomRow; BITS + 1];

// A draw's magnitude takes six bits and its sign the eighth of a byte.
const _: () = assert!(LEN < 64);

/// Writes the draws `first..` of the seed's noise to `out`: the same ones, however they are cut.
///
/// Draw i of level j takes its bits from the key stream's batch i / 1024, level by level.
pub(crate) fn fill(plan: NoisePlan, seed: &Seed, first: u64, out: &mut [i32]) {
    let coefficients = coefficients(plan.units());
    let mut random = Zeroizing::new(vec![[[[0; 8]; WORDS]; BITS + 1]; coefficients.len()]);
    let mut draws = Zeroizing::new([0; LANES]);
    let batch_bytes = (coefficients.len() * size_of::<Random>()) as u64;
    let (mut batch, mut out) = (first / LANES as u64, out);
    let mut skip = usize::try_from(first % LANES as u64).expect("below the lanes");
    while !out.is_empty() {
        let bytes = random.as_flattened_mut().as_flattened_mut().as_flattened_mut();
        keystream_bytes(seed, bytes, batch * batch_bytes);
        draws.fill(0);
        for (random, coefficient) in random.iter().zip(&coefficients) {
            add(&mut draws, &base_draws(random), *coefficient);
        }
        let n = out.len().min(LANES - skip);
        let (part, rest) = std::mem::take(&mut out).split_at_mut(n);
        part.copy_from_slice(&draws[skip..skip + n]);
        (out, skip, batch) = (rest, 0, batch + 1);
    }
}

/// Whole numbers c with Σ c² = `units` and the last one 1, so that Σ c · Y over base draws Y has
/// `units` times the base variance; each c² is at most six times the sum of the squares after it.
pub(super) fn coefficients(units: u64) -> Vec<i32> {
    let (mut rest, mut found) = (units, Vec::new());
    while rest > 1 {
        let c = (rest / 7 * 6 + rest % 7 * 6 / 7).isqrt();
        found.push(i32::try_from(c).expect("plans have at most 2^44 units"));
        rest -= c * c;
    }
    found.push(1);
    found
}

/// Base draws in bytes: six bits of magnitude, and the sign in the highest.
fn base_draws(random: &Random) -> Zeroizing<[Row; 8]> {
    let (numbers, sign) = (&random[..BITS], &random[BITS]);
    let mut bits = Zeroizing::new([[0; WORDS]; 8]);
    let mut ones = [!0; WORDS];
    let mut n_ones = 0;
    for (i, threshold) in THRESHOLDS.iter().enumerate() {
        // A number reaches a threshold that begins with k ones only if its own first k bits are.
        let k = leading_ones(*threshold);
        for row in &numbers[BITS - k..BITS - n_ones] {
            and(&mut ones, row);
        }
        n_ones = k;
        let mut reached = ones_row();
        let mut threshold = *threshold;
        for row in &numbers[..BITS - k] {
            if threshold & 1 == 1 {
                and(&mut reached, row);
            } else {
                or(&mut reached, row);
            }
            threshold >>= 1;
        }
        // Bit j of a count c is the parity of c / 2^j: of the multiples of 2^j in 1..=c.
        for counted in &mut bits[..=(i + 1).trailing_zeros() as usize] {
            for ((bit, reached), ones) in counted.iter_mut().zip(&reached).zip(&ones) {
                *bit ^= reached & ones;
            }
        }
    }
    for (bit, sign) in bits[7].iter_mut().zip(sign) {
        *bit = u64::from_le_bytes(*sign);
    }
    to_bytes(&mut bits);
    bits
}

fn ones_row() -> Row {
    [!0; WORDS]
}

#[inline]
fn and(row: &mut Row, other: &RandomRow) {
    for (bits, other) in row.iter_mut().zip(other) {
        *bits &= u64::from_le_bytes(*other);
    }
}

#[inline]
fn or(row: &mut Row, other: &RandomRow) {
    for (bits, other) in row.iter_mut().zip(other) {
        *bits |= u64::from_le_bytes(*other);
    }
}

/// Turns eight rows of bits into rows of bytes, whose bit j was row j's: by swapping ever smaller
/// squares of bits across the diagonal (Warren, Hacker's Delight, section 7-3).
fn to_bytes(rows: &mut [Row; 8]) {
    let squares =
        [(4, 0x0f0f_0f0f_0f0f_0f0f), (2, 0x3333_3333_3333_3333), (1, 0x5555_5555_5555_5555)];
    for (size, mask) in squares {
        for pair in rows.chunks_mut(2 * size) {
            let (first, second) = pair.split_at_mut(size);
            for (a, b) in first.as_flattened_mut().iter_mut().zip(second.as_flattened_mut()) {
                let swapped = ((*a >> size) ^ *b) & mask;
                *a ^= swapped << size;
                *b ^= swapped;
            }
        }
    }
}

/// Adds `coefficient` times each draw.
fn add(sums: &mut [i32; LANES], draws: &[Row; 8], coefficient: i32) {
    let (sums, _) = sums.as_chunks_mut::<8>();
    for (sums, bytes) in sums.iter_mut().zip(draws.as_flattened()) {
        for (sum, byte) in sums.iter_mut().zip(bytes.to_le_bytes()) {
            let sign = i32::from(byte.cast_signed()) >> 7;
            let magnitude = i32::from(byte & 63);
            *sum += coefficient * ((magnitude ^ sign) - sign);
        }
    }
}
