//! One block a vector: AES-NI.

#![expect(unsafe_code, reason = "loads and stores of vectors take pointers")]

use core::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_add_epi64, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_loadu_si128,
    _mm_set_epi64x, _mm_shuffle_epi8, _mm_storeu_si128, _mm_sub_epi32, _mm_sub_epi64,
    _mm_xor_si128,
};

use zeroize::Zeroizing;

use super::{ADD_NARROW, ADD_WIDE, CHUNK_BYTES, Chunk, SUB_NARROW, SUB_WIDE, Stream, halves};

type Vector = __m128i;

/// Half of the sixteen registers, so that nothing is pushed out to the stack.
const VECTORS: usize = 8;

vector_kernel!("aes,ssse3");

#[inline]
#[target_feature(enable = "aes,ssse3")]
fn broadcast(key: &[u8; 16]) -> Vector {
    load(key)
}

#[inline]
#[target_feature(enable = "aes,ssse3")]
pub(super) fn load(bytes: &[u8; VECTOR_BYTES]) -> Vector {
    // SAFETY: reads the bytes of the array, at any alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "aes,ssse3")]
pub(super) fn store(bytes: &mut [u8; VECTOR_BYTES], vector: Vector) {
    // SAFETY: writes the bytes of the array, at any alignment.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), vector) }
}

#[inline]
#[target_feature(enable = "aes,ssse3")]
fn first_blocks(first: u128) -> Vector {
    halves(first)
}

#[inline]
#[target_feature(enable = "aes,ssse3")]
fn counter_blocks(first: Vector, plus: i64) -> Vector {
    let sums = _mm_add_epi64(first, _mm_set_epi64x(0, plus));
    _mm_shuffle_epi8(sums, super::reversal())
}

#[inline]
#[target_feature(enable = "aes,ssse3")]
fn first_round(state: Vector, key: Vector) -> Vector {
    _mm_xor_si128(state, key)
}

#[inline]
#[target_feature(enable = "aes,ssse3")]
fn round(state: Vector, key: Vector) -> Vector {
    _mm_aesenc_si128(state, key)
}

#[inline]
#[target_feature(enable = "aes,ssse3")]
fn last_round(state: Vector, key: Vector) -> Vector {
    _mm_aesenclast_si128(state, key)
}

#[inline]
#[target_feature(enable = "aes,ssse3")]
fn combine<const OP: u8>(words: Vector, stream: Vector) -> Vector {
    match OP {
        ADD_NARROW => _mm_add_epi32(words, stream),
        SUB_NARROW => _mm_sub_epi32(words, stream),
        ADD_WIDE => _mm_add_epi64(words, stream),
        SUB_WIDE => _mm_sub_epi64(words, stream),
        _ => _mm_xor_si128(words, stream),
    }
}
