//! The sampler: discrete Gaussians of any planned variance from a seed's key stream, in constant
//! time.
//!
//! 1024 draws are made at once, one in each bit of a row of machine words: row b holds bit b of all
//! their random numbers. A comparison with a threshold is then a majority of three for each bit,
//! which vector instructions make of many draws at once; no branch and no address depends on a
//! random bit. Not here: which variance, and what it hides ([`super`]). Start at
//! [`Sampler`].

use zeroize::Zeroizing;

use super::NoisePlan;
use super::table::{BITS, LEN, THRESHOLDS, leading_ones};
use crate::kernel::vectors::widest;
use crate::stream::{Seed, Sign, Streams};
use crate::words::{Lanes, Words};

/// Words in a row.
const WORDS: usize = 16;
/// Draws made at once.
const LANES: usize = 64 * WORDS;
/// One bit of each draw.
type Row = [u64; WORDS];
/// The rows of a base draw's random bits: its number's, the lowest first, then its sign's.
const ROWS: usize = BITS + 1;

// A draw's magnitude takes six bits and its sign the eighth of a byte.
const _: () = assert!(LEN < 64);

/// A site's noise, ready to be drawn piece by piece; wiped when dropped.
pub(crate) struct Sampler {
    /// What the base draws of each level are multiplied by.
    coefficients: Vec<i32>,
    stream: Streams,
}

impl Sampler {
    pub(crate) fn new(plan: NoisePlan, seed: Seed) -> Self {
        let coefficients = coefficients(plan.units());
        Self { coefficients, stream: Streams::new(&[(seed, Sign::Plus)]) }
    }

    /// Writes the draws `first..` to `out`: the same ones, however they are cut.
    ///
    /// Draw i takes its bits from the key stream's batch i / 1024, level by level.
    pub(crate) fn fill(&self, first: u64, out: &mut [i32]) {
        let mut random = Words::Wide(vec![0; ROWS * WORDS]);
        let mut base = Zeroizing::new([[0; WORDS]; 8]);
        let mut draws = Zeroizing::new([0; LANES]);
        let (mut batch, mut out) = (first / LANES as u64, out);
        let mut skip = usize::try_from(first % LANES as u64).expect("below the lanes");
        while !out.is_empty() {
            draws.fill(0);
            let first_level =
                usize::try_from(batch).expect("as many as draws") * self.coefficients.len();
            for (level, coefficient) in (first_level..).zip(&self.coefficients) {
                wide(&mut random).fill(0);
                self.stream.add(&mut random, level * ROWS * WORDS);
                let (rows, _) = wide(&mut random).as_chunks();
                widest(
                    #[inline(always)]
                    || {
                        base_draws(rows, &mut base);
                        add(&mut draws, &base, *coefficient);
                    },
                );
            }
            let n = out.len().min(LANES - skip);
            let (part, rest) = std::mem::take(&mut out).split_at_mut(n);
            part.copy_from_slice(&draws[skip..skip + n]);
            (out, skip, batch) = (rest, 0, batch + 1);
        }
    }
}

fn wide(words: &mut Words) -> &mut [u64] {
    match words.lanes() {
        Lanes::Wide(lanes) => lanes,
        Lanes::Narrow(_) => unreachable!("they were made wide"),
    }
}

/// Whole numbers c with Σ c² = `units` and the last one 1, so that Σ c · Y over base draws Y has
/// `units` times the base variance; each c² is at most six times the sum of the squares after it.
///
/// The largest possible number first takes more of them than need be; a few smaller ones are tried.
pub(super) fn coefficients(units: u64) -> Vec<i32> {
    let (mut rest, mut found) = (units, Vec::new());
    while rest > 1 {
        let largest = largest(rest);
        let tried = (1..=largest).rev().take(8);
        let c = tried.min_by_key(|c| n_greedily(rest - c * c)).expect("1 is possible");
        found.push(i32::try_from(c).expect("plans have at most 2^44 units"));
        rest -= c * c;
    }
    found.push(1);
    found
}

/// The largest c with c² at most six times `rest` - c².
fn largest(rest: u64) -> u64 {
    (rest / 7 * 6 + rest % 7 * 6 / 7).isqrt()
}

/// How many numbers it takes if the largest is always taken.
fn n_greedily(mut rest: u64) -> usize {
    let mut n = 1;
    while rest > 1 {
        rest -= largest(rest).pow(2);
        n += 1;
    }
    n
}

/// Thresholds that numbers are compared with together, so that a row is loaded once for all.
const GROUP: usize = 2;

/// For each group and each bit, the lowest first: all ones where a threshold has a zero. After the
/// last threshold it is repeated.
static ZEROS: [[[u64; GROUP]; BITS]; LEN.div_ceil(GROUP)] = {
    let mut zeros = [[[0; GROUP]; BITS]; LEN.div_ceil(GROUP)];
    let mut i = 0;
    while i < zeros.len() * GROUP {
        let threshold = THRESHOLDS[if i < LEN { i } else { LEN - 1 }];
        let mut bit = 0;
        while bit < BITS {
            zeros[i / GROUP][bit][i % GROUP] = if (threshold >> bit) & 1 == 0 { !0 } else { 0 };
            bit += 1;
        }
        i += 1;
    }
    zeros
};

/// Base draws in bytes: six bits of magnitude, and the sign in the highest.
#[inline(always)]
fn base_draws(random: &[Row], draws: &mut [Row; 8]) {
    let (numbers, sign) = (&random[..BITS], &random[BITS]);
    draws.as_flattened_mut().fill(0);
    let mut ones = [!0; WORDS];
    let mut n_ones = 0;
    for (group, zeros) in ZEROS.iter().enumerate() {
        // A number reaches a threshold that begins with k ones only if its own first k bits are.
        let k = leading_ones(THRESHOLDS[group * GROUP]);
        for row in &numbers[BITS - k..BITS - n_ones] {
            (0..WORDS).for_each(|word| ones[word] &= row[word]);
        }
        n_ones = k;
        // A number's low bits reach a threshold's if the higher one of the last bits is the
        // number's, or those are alike and the bits below reach the threshold's: the majority of
        // the number's bit, the threshold's inverted bit, and what was found below.
        let mut reached = [[!0; WORDS]; GROUP];
        for (row, zeros) in numbers[..BITS - k].iter().zip(zeros) {
            for (reached, zero) in reached.iter_mut().zip(zeros) {
                for (reached, bits) in reached.iter_mut().zip(row) {
                    *reached = (*reached & (bits | zero)) | (bits & zero);
                }
            }
        }
        for (i, reached) in (group * GROUP + 1..=LEN).zip(&reached) {
            // Bit j of a count c is the parity of c / 2^j: of the multiples of 2^j in 1..=c.
            for counted in &mut draws[..=i.trailing_zeros() as usize] {
                (0..WORDS).for_each(|word| counted[word] ^= reached[word] & ones[word]);
            }
        }
    }
    draws[7] = *sign;
    to_bytes(draws);
}

/// Turns eight rows of bits into rows of bytes, whose bit j was row j's: by swapping ever smaller
/// squares of bits across the diagonal (Warren, Hacker's Delight, section 7-3).
#[inline(always)]
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
#[inline(always)]
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
