//! The kernels of x86-64: what they share, and the door to each.
//!
//! A kernel is a vector type with a handful of operations (a module each); `vector_kernel!` makes
//! the loop of it. Start with that macro.

#![expect(
    unsafe_code,
    reason = "functions that need CPU features are called after asking for them"
)]

use core::arch::x86_64::{
    __m128i, _mm_aeskeygenassist_si128, _mm_set_epi64x, _mm_shuffle_epi32, _mm_slli_si128,
    _mm_xor_si128,
};

use super::{CHUNK_BYTES, Chunk, Kernel, Sign, Stream, Width};

/// The operation and the lanes, for a loop of their own each.
const ADD_NARROW: u8 = 0;
const SUB_NARROW: u8 = 1;
const ADD_WIDE: u8 = 2;
const SUB_WIDE: u8 = 3;
const XOR: u8 = 4;

/// Makes `run` and `peak` of a module that has the type `Vector` and its operations, all with the
/// given features: `broadcast` a round key, `load` and `store`, `first_blocks` (counters, each half
/// a lane) and `counter_blocks` (the same plus a number, as bytes), the rounds, and `combine` for
/// words. `VECTORS` of them are in flight, enough to hide the latency of a round.
macro_rules! vector_kernel {
    ($features:tt) => {
        const VECTOR_BYTES: usize = size_of::<Vector>();
        const GROUP_BYTES: usize = VECTORS * VECTOR_BYTES;
        const _: () = assert!(CHUNK_BYTES.is_multiple_of(GROUP_BYTES));

        /// Combines the key stream that begins with the block of `counter` with `chunks`.
        #[target_feature(enable = $features)]
        pub(super) fn run<const OP: u8>(stream: &Stream, counter: u128, chunks: &mut [Chunk]) {
            let mut counter = counter;
            for group in chunks.as_flattened_mut().as_chunks_mut().0 {
                add_group::<OP>(stream, counter, group);
                counter = counter.wrapping_add((GROUP_BYTES / 16) as u128);
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn add_group<const OP: u8>(stream: &Stream, counter: u128, group: &mut [u8; GROUP_BYTES]) {
            if super::low_half(counter).checked_add((GROUP_BYTES / 16) as u64).is_some() {
                add_stream::<OP>(stream, counters(counter), group);
            } else {
                add_carried::<OP>(stream, counter, group);
            }
        }

        /// The low half of the counter overflows within this group: once in 2^64 blocks.
        #[cold]
        #[inline(never)]
        #[target_feature(enable = $features)]
        fn add_carried<const OP: u8>(
            stream: &Stream,
            counter: u128,
            group: &mut [u8; GROUP_BYTES],
        ) {
            let mut blocks = [0; GROUP_BYTES];
            for (block, place) in blocks.as_chunks_mut().0.iter_mut().zip(0..) {
                *block = counter.wrapping_add(place).to_be_bytes();
            }
            let mut states = counters(counter);
            for (state, blocks) in states.iter_mut().zip(blocks.as_chunks().0) {
                *state = load(blocks);
            }
            add_stream::<OP>(stream, states, group);
        }

        /// Encrypts the counter blocks `states` and combines them with the words.
        #[inline]
        #[target_feature(enable = $features)]
        fn add_stream<const OP: u8>(
            stream: &Stream,
            mut states: [Vector; VECTORS],
            group: &mut [u8; GROUP_BYTES],
        ) {
            // Opaque, so that each round key is loaded where it is used: kept in registers, all
            // eleven would push states out to the stack, where nobody wipes them.
            let keys = std::hint::black_box(&stream.round_keys);
            let key = broadcast(&keys[0]);
            for state in &mut states {
                *state = first_round(*state, key);
            }
            for key in &keys[1..10] {
                let key = broadcast(key);
                for state in &mut states {
                    *state = round(*state, key);
                }
            }
            let key = broadcast(&keys[10]);
            for (bytes, state) in group.as_chunks_mut().0.iter_mut().zip(states) {
                store(bytes, combine::<OP>(load(bytes), last_round(state, key)));
            }
        }

        /// The counter blocks of a group, whose low halves do not overflow.
        #[inline]
        #[target_feature(enable = $features)]
        fn counters(first: u128) -> [Vector; VECTORS] {
            let first = first_blocks(first);
            let mut counters = [first; VECTORS];
            for (i, counter) in counters.iter_mut().enumerate() {
                *counter = counter_blocks(first, (i * VECTOR_BYTES / 16) as i64);
            }
            counters
        }

        /// The rounds of about `bytes` bytes of key stream, in registers alone. Gives how many
        /// bytes it was.
        #[target_feature(enable = $features)]
        pub(super) fn peak(stream: &Stream, bytes: u64) -> u64 {
            let groups = bytes / GROUP_BYTES as u64;
            let key = broadcast(&stream.round_keys[1]);
            let mut states = counters(stream.counter);
            for _ in 0..10 * groups {
                for state in &mut states {
                    *state = round(*state, key);
                }
            }
            let mut seen = Zeroizing::new([0; VECTOR_BYTES]);
            for state in states {
                let both = combine::<{ super::XOR }>(load(&seen), state);
                store(&mut seen, both);
            }
            std::hint::black_box(&seen);
            groups * GROUP_BYTES as u64
        }
    };
}

mod aesni;
pub(super) mod carryless;
pub(super) mod ifma;
mod vaes256;
mod vaes512;

pub(super) fn has_vaes512() -> bool {
    has_vaes256() && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

pub(super) fn has_vaes256() -> bool {
    has_aesni() && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("vaes")
}

pub(super) fn has_aesni() -> bool {
    is_x86_feature_detected!("aes") && is_x86_feature_detected!("ssse3")
}

/// Runs a kernel that is available.
pub(super) fn run(
    kernel: Kernel,
    chunks: &mut [Chunk],
    width: Width,
    stream: &Stream,
    counter: u128,
) {
    match (width, stream.sign) {
        (Width::Narrow, Sign::Plus) => run_op::<ADD_NARROW>(kernel, chunks, stream, counter),
        (Width::Narrow, Sign::Minus) => run_op::<SUB_NARROW>(kernel, chunks, stream, counter),
        (Width::Wide, Sign::Plus) => run_op::<ADD_WIDE>(kernel, chunks, stream, counter),
        (Width::Wide, Sign::Minus) => run_op::<SUB_WIDE>(kernel, chunks, stream, counter),
        (Width::Bytes, _) => run_op::<XOR>(kernel, chunks, stream, counter),
    }
}

fn run_op<const OP: u8>(kernel: Kernel, chunks: &mut [Chunk], stream: &Stream, counter: u128) {
    assert!(kernel.is_available(), "{kernel} is asked for on a CPU without it");
    // SAFETY: the CPU has the kernel's features.
    match kernel {
        Kernel::Vaes512 => unsafe { vaes512::run::<OP>(stream, counter, chunks) },
        Kernel::Vaes256 => unsafe { vaes256::run::<OP>(stream, counter, chunks) },
        _ => unsafe { aesni::run::<OP>(stream, counter, chunks) },
    }
}

/// See [`super::measure::peak`].
pub(super) fn peak(kernel: Kernel, stream: &Stream, bytes: u64) -> u64 {
    assert!(kernel.is_available(), "{kernel} is asked for on a CPU without it");
    // SAFETY: the CPU has the kernel's features.
    match kernel {
        Kernel::Vaes512 => unsafe { vaes512::peak(stream, bytes) },
        Kernel::Vaes256 => unsafe { vaes256::peak(stream, bytes) },
        _ => unsafe { aesni::peak(stream, bytes) },
    }
}

/// Fills in the ten round keys after the first, if the CPU can.
pub(super) fn expand(round_keys: &mut [[u8; 16]; 11]) {
    if has_aesni() {
        // SAFETY: the CPU has AES-NI.
        unsafe { expand_aesni(round_keys) }
    }
}

/// The key expansion of FIPS 197, section 5.2, a round key at a time.
#[target_feature(enable = "aes,ssse3")]
fn expand_aesni(round_keys: &mut [[u8; 16]; 11]) {
    let mut key = aesni::load(&round_keys[0]);
    macro_rules! next {
        ($($place:literal: $constant:literal),*) => {$(
            // The last word, rotated, through the S-box, plus the constant; then running sums.
            let last = _mm_shuffle_epi32::<0xff>(_mm_aeskeygenassist_si128::<$constant>(key));
            key = _mm_xor_si128(key, _mm_slli_si128::<4>(key));
            key = _mm_xor_si128(key, _mm_slli_si128::<8>(key));
            key = _mm_xor_si128(key, last);
            aesni::store(&mut round_keys[$place], key);
        )*};
    }
    next!(1: 0x01, 2: 0x02, 3: 0x04, 4: 0x08, 5: 0x10);
    next!(6: 0x20, 7: 0x40, 8: 0x80, 9: 0x1b, 10: 0x36);
}

/// A 128-bit number in two lanes.
#[inline]
#[target_feature(enable = "sse2")]
fn halves(number: u128) -> __m128i {
    _mm_set_epi64x(low_half(number >> 64).cast_signed(), low_half(number).cast_signed())
}

/// The shuffle that turns a 128-bit number around: CTR counts big-endian.
#[inline]
#[target_feature(enable = "sse2")]
fn reversal() -> __m128i {
    _mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f)
}

#[expect(clippy::cast_possible_truncation, reason = "taking the low half is the purpose")]
fn low_half(number: u128) -> u64 {
    number as u64
}
