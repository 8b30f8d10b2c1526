//! The key stream kernel: AES-128-CTR of many keys added to one row of words, as fast as the CPU's
//! AES units go. The only place with `unsafe` code, and behind it intrinsics alone.
//!
//! A row is worked on in blocks that stay in the first cache while one stream after the other is
//! added to them, so the row passes through memory once however many streams there are. The same
//! bytes come out of every [`Kernel`]; which one runs is found out at run time ([`Kernel::best`])
//! and can be forced for tests and measurements ([`force`]).
//!
//! Constant time: keys, key streams and words reach AES instructions, additions and stores at
//! addresses that follow from lengths alone; the portable kernel stands on the `aes` crate, which
//! is constant time as well. One branch looks at a counter, for the carry between its halves. A
//! counter block is no secret of CTR mode (NIST SP 800-38A, section 6.5, asks only that none
//! repeats under a key).
//!
//! Beside it stand what else needs the CPU's own instructions: products in GF(2^128) (`field`) and
//! X25519 of many pairs (`ladder`).
//!
//! Not here: what the streams are for and how seeds become keys ([`crate::stream`]). Start with
//! [`Kernel`], then `add_streams`.

#![expect(unsafe_code, reason = "words are handed to vector instructions as bytes")]

pub(crate) mod field;
pub(crate) mod ladder;
pub mod measure;
mod portable;
#[cfg(test)]
mod tests;
pub(crate) mod vectors;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::atomic::{AtomicU8, Ordering};

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::words::Lanes;

/// One way to compute the key streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kernel {
    /// AES on four blocks at a time: VAES with AVX-512.
    Vaes512,
    /// AES on two blocks at a time: VAES with AVX2.
    Vaes256,
    /// AES on one block at a time: AES-NI.
    AesNi,
    /// The `aes` and `ctr` crates, on every CPU.
    Portable,
}

impl Kernel {
    /// Every kernel, the widest first.
    pub const ALL: [Self; 4] = [Self::Vaes512, Self::Vaes256, Self::AesNi, Self::Portable];

    /// A short lower-case name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vaes512 => "vaes-512",
            Self::Vaes256 => "vaes-256",
            Self::AesNi => "aes-ni",
            Self::Portable => "portable",
        }
    }

    /// Whether this CPU has the instructions.
    #[must_use]
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Self::Vaes512 => x86::has_vaes512(),
            Self::Vaes256 => x86::has_vaes256(),
            Self::AesNi => x86::has_aesni(),
            Self::Portable => true,
        };
        #[cfg(not(target_arch = "x86_64"))]
        return self == Self::Portable;
    }

    /// The widest kernel that this CPU has.
    #[must_use]
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|kernel| kernel.is_available()).unwrap_or(Self::Portable)
    }

    /// The kernel that is used: the forced one, or else the best.
    #[must_use]
    pub fn active() -> Self {
        let forced = usize::from(FORCED.load(Ordering::Relaxed));
        Self::ALL.get(forced).copied().unwrap_or_else(Self::best)
    }
}

impl std::fmt::Display for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A kernel that this CPU does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this CPU has no instructions for the kernel {0}; use {best}", best = Kernel::best())]
pub struct Unavailable(pub Kernel);

/// The forced kernel's place in [`Kernel::ALL`], or a place beyond it.
static FORCED: AtomicU8 = AtomicU8::new(u8::MAX);

/// Lets every later computation of this process use `kernel`, or the best one again. All kernels
/// give the same bytes; this is for comparing and measuring them.
///
/// # Errors
/// [`Unavailable`] if the CPU lacks its instructions; then nothing changes.
pub fn force(kernel: Option<Kernel>) -> Result<(), Unavailable> {
    if let Some(kernel) = kernel.filter(|kernel| !kernel.is_available()) {
        return Err(Unavailable(kernel));
    }
    let place = kernel.and_then(|kernel| Kernel::ALL.iter().position(|known| *known == kernel));
    let place = place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX);
    FORCED.store(place, Ordering::Relaxed);
    Ok(())
}

/// Whether a key stream is added or subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Plus,
    Minus,
}

impl Sign {
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Plus => Self::Minus,
            Self::Minus => Self::Plus,
        }
    }
}

/// One key stream, ready to run: wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
#[repr(C, align(16))]
pub(crate) struct Stream {
    /// The round keys (FIPS 197, section 5.2), the key itself first. The others are zeros where the
    /// CPU has no AES instructions, as nobody needs them there.
    round_keys: [[u8; 16]; 11],
    /// The first counter block, as the big-endian number that it is.
    counter: u128,
    #[zeroize(skip)]
    sign: Sign,
}

impl Stream {
    pub(crate) fn new(key: &[u8; 16], counter: [u8; 16], sign: Sign) -> Self {
        let mut stream =
            Self { round_keys: [[0; 16]; 11], counter: u128::from_be_bytes(counter), sign };
        stream.round_keys[0] = *key;
        #[cfg(target_arch = "x86_64")]
        x86::expand(&mut stream.round_keys);
        stream
    }
}

/// How bytes are read as numbers when a stream is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    /// As lanes of 32 bits.
    Narrow,
    /// As lanes of 64 bits.
    Wide,
    /// Not at all: exclusive or, whatever the sign.
    Bytes,
}

/// What a kernel works on at a time, at least: 32 AES blocks.
const CHUNK_BYTES: usize = 512;
type Chunk = [u8; CHUNK_BYTES];

/// What of a row stays in the first cache while all streams are added to it: 16 KiB.
const BLOCK_CHUNKS: usize = 32;

/// Adds streams, from their block `first_block` on, to lanes.
pub(crate) fn add_streams(kernel: Kernel, lanes: Lanes<'_>, first_block: u64, streams: &[Stream]) {
    let (start, bytes, width) = match lanes {
        Lanes::Narrow(lanes) => (lanes.as_mut_ptr().cast(), size_of_val(lanes), Width::Narrow),
        Lanes::Wide(lanes) => (lanes.as_mut_ptr().cast(), size_of_val(lanes), Width::Wide),
    };
    // SAFETY: these are the bytes of the lanes, which are borrowed for as long; integers have no
    // padding, and every value of their bytes is one of theirs.
    let bytes: &mut [u8] = unsafe { std::slice::from_raw_parts_mut(start, bytes) };
    run(kernel, bytes, width, first_block, streams);
}

/// The bytes of a stream, from its block `first_block` on, are exclusive-ored to `bytes`.
pub(crate) fn apply_stream(kernel: Kernel, bytes: &mut [u8], first_block: u64, stream: &Stream) {
    run(kernel, bytes, Width::Bytes, first_block, std::slice::from_ref(stream));
}

fn run(kernel: Kernel, bytes: &mut [u8], width: Width, first_block: u64, streams: &[Stream]) {
    assert!(kernel.is_available(), "{kernel} is asked for on a CPU without it");
    let mut from = u128::from(first_block);
    let (chunks, rest) = bytes.as_chunks_mut();
    for block in chunks.chunks_mut(BLOCK_CHUNKS) {
        run_block(kernel, block, width, from, streams);
        from += (block.len() * CHUNK_BYTES / 16) as u128;
    }
    if !rest.is_empty() {
        let mut padded = Zeroizing::new([[0; CHUNK_BYTES]]);
        padded[0][..rest.len()].copy_from_slice(rest);
        run_block(kernel, padded.as_mut_slice(), width, from, streams);
        rest.copy_from_slice(&padded[0][..rest.len()]);
    }
}

/// Adds the streams from their block `from` on, one after the other.
fn run_block(kernel: Kernel, block: &mut [Chunk], width: Width, from: u128, streams: &[Stream]) {
    for stream in streams {
        let counter = stream.counter.wrapping_add(from);
        match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Vaes512 | Kernel::Vaes256 | Kernel::AesNi => {
                x86::run(kernel, block, width, stream, counter);
            }
            _ => portable::run(block.as_flattened_mut(), width, stream, counter),
        }
    }
}
