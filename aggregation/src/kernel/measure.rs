//! Work to be timed by somebody else: each function does what its name says and tells how much that
//! was. No clock in here, no judgement, and no secrets: keys are made of constants.

use super::{Kernel, Sign, Stream, Unavailable, add_streams};
use crate::words::Lanes;

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
/// The rounds of about `bytes` bytes of key stream in the registers of the CPU, without memory: no
/// kernel can be faster. Gives how many bytes it was.
///
/// # Errors
/// [`Unavailable`] if the CPU lacks the kernel's instructions.
pub fn peak(kernel: Kernel, bytes: u64) -> Result<u64, Unavailable> {
    if !kernel.is_available() || kernel == Kernel::Portable {
        return Err(Unavailable(kernel));
    }
    #[cfg(target_arch = "x86_64")]
    return Ok(super::x86::peak(kernel, &stream(1), bytes / 512));
    #[cfg(not(target_arch = "x86_64"))]
    return Err(Unavailable(kernel));
}
