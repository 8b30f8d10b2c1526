//! Work to be timed by somebody else: each function does what its name says and tells how much that
//! was. No clock in here, no judgement, and no secrets: keys are made of constants. Products follow
//! [`force`](super::force) as all of this crate does; the functions that take a kernel do not.

use rand::CryptoRng;

use super::{Kernel, Sign, Stream, Unavailable, add_streams};
use crate::gf128;
use crate::ring::{add_packed, pack};
use crate::secret::Secret;
use crate::shamir::{Combiner, split};
use crate::words::{Lanes, Words};

/// Masks for a row of 32-bit words, made of constants.
pub struct Masks {
    kernel: Kernel,
    streams: Vec<Stream>,
    row: Vec<u32>,
}

impl Masks {
    /// `n_seeds` masks for a row of `entries` words.
    ///
    /// # Errors
    /// [`Unavailable`] if the CPU lacks the kernel's instructions.
    pub fn new(kernel: Kernel, n_seeds: usize, entries: usize) -> Result<Self, Unavailable> {
        if !kernel.is_available() {
            return Err(Unavailable(kernel));
        }
        let streams = (0..n_seeds as u128).map(stream).collect();
        Ok(Self { kernel, streams, row: vec![0; entries] })
    }

    /// Adds all masks to the row. Gives the bytes of key stream that this took.
    pub fn add(&mut self) -> u64 {
        let lanes = Lanes::Narrow(&mut self.row);
        add_streams(self.kernel, lanes, 0, &self.streams);
        4 * (self.row.len() * self.streams.len()) as u64
    }
}

fn stream(seed: u128) -> Stream {
    Stream::new(&seed.to_le_bytes(), [0xa5; 16], Sign::Plus)
}

/// The AES rounds of about `bytes` bytes of key stream in the registers of the CPU, without memory:
/// the kernel cannot be faster. Gives how many bytes it was; `None` if the CPU lacks the kernel's
/// instructions, and for the portable kernel, which may use any.
#[must_use]
pub fn peak(kernel: Kernel, bytes: u64) -> Option<u64> {
    let has_units = kernel.is_available() && kernel != Kernel::Portable;
    has_units.then(|| units(kernel, bytes))
}

#[cfg(target_arch = "x86_64")]
fn units(kernel: Kernel, bytes: u64) -> u64 {
    super::x86::peak(kernel, &stream(1), bytes)
}

#[cfg(not(target_arch = "x86_64"))]
fn units(_: Kernel, _: u64) -> u64 {
    0
}

/// How a kernel compared with the `aes` and `ctr` crates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Words of key stream that went into the rows compared.
    pub words: u64,
    /// Words of those rows that differed.
    pub differing: u64,
}

/// Adds at least `words` words of key stream to rows with `kernel` and with the `aes` and `ctr`
/// crates, and compares them: rows of up to 2^19 words of either width, up to 8 streams with either
/// sign, any first blocks, and counters that are about to carry as often as not.
///
/// # Errors
/// [`Unavailable`] if the CPU lacks the kernel's instructions.
pub fn compare(
    kernel: Kernel,
    words: u64,
    rng: &mut dyn CryptoRng,
) -> Result<Compared, Unavailable> {
    if !kernel.is_available() {
        return Err(Unavailable(kernel));
    }
    let mut compared = Compared { words: 0, differing: 0 };
    while compared.words < words {
        let entries = rng.next_u32() as usize >> 13;
        let first_block = rng.next_u64() >> (rng.next_u32() % 64);
        let streams: Vec<Stream> =
            (0..=rng.next_u32() % 8).map(|_| any_stream(first_block, rng)).collect();
        let bits = if rng.next_u32().is_multiple_of(2) { 32 } else { 63 };
        let [row, oracle] = [kernel, Kernel::Portable].map(|kernel| {
            let mut row = Words::zero(entries, bits);
            add_streams(kernel, row.lanes(), first_block, &streams);
            row
        });
        let differing = row.iter().zip(oracle.iter()).filter(|(word, right)| word != right);
        compared.differing += differing.count() as u64;
        compared.words += (entries * streams.len()) as u64;
    }
    Ok(compared)
}

/// A stream of any key and counter, whose low half overflows soon after `first_block` as often as
/// not.
fn any_stream(first_block: u64, rng: &mut dyn CryptoRng) -> Stream {
    let (mut key, mut counter) = ([0; 16], [0; 16]);
    rng.fill_bytes(&mut key);
    rng.fill_bytes(&mut counter);
    let draw = rng.next_u32();
    if draw.is_multiple_of(2) {
        let before = u128::from(draw >> 14) + u128::from(first_block);
        // Of the high halves, all ones as often as any: then both halves wrap.
        let high =
            if draw.is_multiple_of(4) { 0 } else { u128::from_be_bytes(counter) >> 64 << 64 };
        counter = high.wrapping_sub(before).to_be_bytes();
    }
    Stream::new(&key, counter, if draw & 4 == 0 { Sign::Plus } else { Sign::Minus })
}

/// Two rows of 32-bit words, to be added.
pub struct Rows {
    sum: Vec<u32>,
    added: Vec<u32>,
}

impl Rows {
    /// Rows of `entries` words.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        Self { sum: vec![1; entries], added: vec![2; entries] }
    }

    /// Adds one row to the other, the least that can be done with an update that came. Gives the
    /// bytes of the row that is added.
    pub fn add(&mut self) -> u64 {
        let words = self.sum.iter_mut().zip(&self.added);
        words.for_each(|(sum, added)| *sum = sum.wrapping_add(*added));
        std::hint::black_box(&mut self.sum);
        size_of_val(self.added.as_slice()) as u64
    }
}

/// A row of words and its packed bytes.
pub struct Packed {
    bits: u8,
    row: Words,
    packed: Vec<u8>,
}

impl Packed {
    /// A row of `entries` words of `bits` bits.
    ///
    /// # Panics
    /// If `bits` is not in 1..=63.
    #[must_use]
    pub fn new(entries: usize, bits: u8) -> Self {
        assert!((1..=crate::BITS_MAX).contains(&bits), "words have 1 to 63 bits");
        let mut packed = Self { bits, row: Words::zero(entries, bits), packed: Vec::new() };
        packed.pack();
        packed
    }

    /// Packs the row, as a site does. Gives the number of words.
    pub fn pack(&mut self) -> u64 {
        self.packed.clear();
        pack(&self.row, self.bits, &mut self.packed);
        self.row.len() as u64
    }

    /// Adds the packed words to the row, as a coordinator does. Gives their number.
    pub fn add(&mut self) -> u64 {
        let added = add_packed(&mut self.row, 0, &self.packed, self.bits);
        added.expect("the bytes are those of a row as long");
        self.row.len() as u64
    }
}

/// Multiplies about `count` pairs of elements of GF(2^128) and adds the products. Gives how many.
#[must_use]
pub fn products(count: u64) -> u64 {
    let elements: [u128; 512] = std::array::from_fn(|i| !(i as u128) << 3);
    let rounds = count / elements.len() as u64;
    for _ in 0..rounds {
        let elements = std::hint::black_box(&elements);
        std::hint::black_box(gf128::dot(elements, elements));
    }
    rounds * elements.len() as u64
}

/// A secret shared among some participants, and how it is put together again.
pub struct Sharing {
    t: usize,
    shares: Vec<Secret<32>>,
    combiner: Combiner,
}

impl Sharing {
    /// A secret of constants shared among `holders` participants, of whom `t` give it back.
    ///
    /// # Panics
    /// If `t` is not in 1..=`holders`.
    pub fn new(t: usize, holders: usize, rng: &mut dyn CryptoRng) -> Self {
        assert!((1..=holders).contains(&t), "t is in 1..={holders}");
        let shares = split(&Secret::new([7; 32]), t, holders, rng);
        Self { t, shares, combiner: Combiner::new(&(0..t).collect::<Vec<_>>()) }
    }

    /// Shares the secret anew.
    pub fn split(&mut self, rng: &mut dyn CryptoRng) {
        self.shares = split(&Secret::new([7; 32]), self.t, self.shares.len(), rng);
    }

    /// Finds the coefficients of the `t` holders from `first` on, from nothing.
    pub fn find_coefficients(&mut self, first: usize) {
        self.combiner = Combiner::new(&(first..first + self.t).collect::<Vec<_>>());
    }

    /// Finds the coefficients of the first `t` holders but `without`, from the ones at hand.
    pub fn adapt_coefficients(&mut self, without: usize) {
        let holders: Vec<usize> = (0..=self.t).filter(|&i| i != without).take(self.t).collect();
        self.combiner.adapt(&holders);
    }

    /// Puts the secret together with the coefficients at hand. Whether it came out right.
    ///
    /// # Panics
    /// If the coefficients at hand are those of a holder who is not there.
    #[must_use]
    pub fn combine(&self) -> bool {
        let held: Vec<_> = self.combiner.indices().iter().map(|&i| &self.shares[i]).collect();
        *self.combiner.combine(&held).expose() == [7; 32]
    }
}
