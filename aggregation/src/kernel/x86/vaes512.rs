//! Four blocks a vector: VAES on the registers of AVX-512.

#![expect(unsafe_code, reason = "loads and stores of vectors take pointers")]

use core::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_add_epi64, _mm512_aesenc_epi128, _mm512_aesenclast_epi128,
    _mm512_broadcast_i32x4, _mm512_loadu_si512, _mm512_set_epi64, _mm512_shuffle_epi8,
    _mm512_storeu_si512, _mm512_sub_epi32, _mm512_sub_epi64, _mm512_xor_si512,
};

use zeroize::Zeroizing;

use super::{ADD_NARROW, ADD_WIDE, CHUNK_BYTES, Chunk, SUB_NARROW, SUB_WIDE, Stream, halves};

type Vector = __m512i;

/// Two rounds begin in a cycle and each takes four.
const VECTORS: usize = 8;

vector_kernel!("avx512f,avx512bw,avx2,aes,ssse3,vaes");

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx2,aes,ssse3,vaes")]
fn broadcast(key: &[u8; 16]) -> Vector {
    _mm512_broadcast_i32x4(super::aesni::load(key))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx2,aes,ssse3,vaes")]
fn load(bytes: &[u8; VECTOR_BYTES]) -> Vector {
    // SAFETY: reads the bytes of the array, at any alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx2,aes,ssse3,vaes")]
fn store(bytes: &mut [u8; VECTOR_BYTES], vector: Vector) {
    // SAFETY: writes the bytes of the array, at any alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx2,aes,ssse3,vaes")]
fn first_blocks(first: u128) -> Vector {
    _mm512_add_epi64(
        _mm512_broadcast_i32x4(halves(first)),
        _mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0),
    )
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx2,aes,ssse3,vaes")]
fn counter_blocks(first: Vector, plus: i64) -> Vector {
    let sums = _mm512_add_epi64(first, _mm512_set_epi64(0, plus, 0, plus, 0, plus, 0, plus));
    _mm512_shuffle_epi8(sums, _mm512_broadcast_i32x4(super::reversal()))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx2,aes,ssse3,vaes")]
fn first_round(state: Vector, key: Vector) -> Vector {
    _mm512_xor_si512(state, key)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx2,aes,ssse3,vaes")]
fn round(state: Vector, key: Vector) -> Vector {
    _mm512_aesenc_epi128(state, key)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx2,aes,ssse3,vaes")]
fn last_round(state: Vector, key: Vector) -> Vector {
    _mm512_aesenclast_epi128(state, key)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx2,aes,ssse3,vaes")]
fn combine<const OP: u8>(words: Vector, stream: Vector) -> Vector {
    match OP {
        ADD_NARROW => _mm512_add_epi32(words, stream),
        SUB_NARROW => _mm512_sub_epi32(words, stream),
        ADD_WIDE => _mm512_add_epi64(words, stream),
        SUB_WIDE => _mm512_sub_epi64(words, stream),
        _ => _mm512_xor_si512(words, stream),
    }
}
