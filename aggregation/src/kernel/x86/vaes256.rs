//! Two blocks a vector: VAES on the registers of AVX2.

#![expect(unsafe_code, reason = "loads and stores of vectors take pointers")]

use core::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_add_epi64, _mm256_aesenc_epi128, _mm256_aesenclast_epi128,
    _mm256_broadcastsi128_si256, _mm256_loadu_si256, _mm256_set_epi64x, _mm256_shuffle_epi8,
    _mm256_storeu_si256, _mm256_sub_epi32, _mm256_sub_epi64, _mm256_xor_si256,
};

use zeroize::Zeroizing;

use super::{ADD_NARROW, ADD_WIDE, CHUNK_BYTES, Chunk, SUB_NARROW, SUB_WIDE, Stream, halves};

type Vector = __m256i;

/// Half of the sixteen registers, so that nothing is pushed out to the stack.
const VECTORS: usize = 8;

vector_kernel!("avx2,aes,ssse3,vaes");

#[inline]
#[target_feature(enable = "avx2,aes,ssse3,vaes")]
fn broadcast(key: &[u8; 16]) -> Vector {
    _mm256_broadcastsi128_si256(super::aesni::load(key))
}

#[inline]
#[target_feature(enable = "avx2,aes,ssse3,vaes")]
fn load(bytes: &[u8; VECTOR_BYTES]) -> Vector {
    // SAFETY: reads the bytes of the array, at any alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2,aes,ssse3,vaes")]
fn store(bytes: &mut [u8; VECTOR_BYTES], vector: Vector) {
    // SAFETY: writes the bytes of the array, at any alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
}

#[inline]
#[target_feature(enable = "avx2,aes,ssse3,vaes")]
fn first_blocks(first: u128) -> Vector {
    _mm256_add_epi64(_mm256_broadcastsi128_si256(halves(first)), _mm256_set_epi64x(0, 1, 0, 0))
}

#[inline]
#[target_feature(enable = "avx2,aes,ssse3,vaes")]
fn counter_blocks(first: Vector, plus: i64) -> Vector {
    let sums = _mm256_add_epi64(first, _mm256_set_epi64x(0, plus, 0, plus));
    _mm256_shuffle_epi8(sums, _mm256_broadcastsi128_si256(super::reversal()))
}

#[inline]
#[target_feature(enable = "avx2,aes,ssse3,vaes")]
fn first_round(state: Vector, key: Vector) -> Vector {
    _mm256_xor_si256(state, key)
}

#[inline]
#[target_feature(enable = "avx2,aes,ssse3,vaes")]
fn round(state: Vector, key: Vector) -> Vector {
    _mm256_aesenc_epi128(state, key)
}

#[inline]
#[target_feature(enable = "avx2,aes,ssse3,vaes")]
fn last_round(state: Vector, key: Vector) -> Vector {
    _mm256_aesenclast_epi128(state, key)
}

#[inline]
#[target_feature(enable = "avx2,aes,ssse3,vaes")]
fn combine<const OP: u8>(words: Vector, stream: Vector) -> Vector {
    match OP {
        ADD_NARROW => _mm256_add_epi32(words, stream),
        SUB_NARROW => _mm256_sub_epi32(words, stream),
        ADD_WIDE => _mm256_add_epi64(words, stream),
        SUB_WIDE => _mm256_sub_epi64(words, stream),
        _ => _mm256_xor_si256(words, stream),
    }
}
