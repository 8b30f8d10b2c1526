//! Products in GF(2^128) by PCLMULQDQ; for the field and its order of bits see [`crate::gf128`].

#![expect(
    unsafe_code,
    reason = "functions that need CPU features are called after asking for them"
)]

use core::arch::x86_64::{
    __m128i, _mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_setzero_si128,
    _mm_slli_si128, _mm_srli_si128, _mm_unpackhi_epi64, _mm_xor_si128,
};

use super::halves;
use crate::gf128::Element;

fn is_available() -> bool {
    is_x86_feature_detected!("pclmulqdq")
}

/// See [`crate::kernel::field::mul`].
pub(in crate::kernel) fn mul(a: Element, b: Element) -> Option<Element> {
    // SAFETY: the CPU has the instruction.
    is_available().then(|| unsafe { mul_clmul(a, b) })
}

/// See [`crate::kernel::field::scale`].
pub(in crate::kernel) fn scale(
    elements: &mut [Element],
    factors: &[u16],
    constant: Element,
) -> Option<()> {
    // SAFETY: the CPU has the instruction.
    is_available().then(|| unsafe { scale_clmul(elements, factors, constant) })
}

/// See [`crate::kernel::field::dot`].
pub(in crate::kernel) fn dot(a: &[Element], b: &[Element]) -> Option<Element> {
    // SAFETY: the CPU has the instruction.
    is_available().then(|| unsafe { dot_clmul(a, b) })
}

#[target_feature(enable = "pclmulqdq,sse2")]
fn mul_clmul(a: Element, b: Element) -> Element {
    let [low, middle, high] = product(halves(a), halves(b));
    element(reduce(low, middle, high))
}

#[target_feature(enable = "pclmulqdq,sse2")]
fn scale_clmul(elements: &mut [Element], factors: &[u16], constant: Element) {
    let constant = halves(constant);
    let tail = _mm_set_epi64x(0, TAIL);
    for (value, &factor) in elements.iter_mut().zip(factors) {
        let (x, factor) = (halves(*value), _mm_set_epi64x(0, factor.into()));
        let low = _mm_clmulepi64_si128::<0x00>(x, factor);
        let high = _mm_clmulepi64_si128::<0x01>(x, factor);
        // At most 15 bits are over x^127, so folding them once is enough.
        let fold = _mm_clmulepi64_si128::<0x01>(high, tail);
        let sum = _mm_xor_si128(_mm_xor_si128(low, _mm_slli_si128::<8>(high)), fold);
        *value = element(_mm_xor_si128(sum, constant));
    }
}

#[target_feature(enable = "pclmulqdq,sse2")]
fn dot_clmul(a: &[Element], b: &[Element]) -> Element {
    let mut sums = [_mm_setzero_si128(); 3];
    for (&a, &b) in a.iter().zip(b) {
        let parts = product(halves(a), halves(b));
        for (sum, part) in sums.iter_mut().zip(parts) {
            *sum = _mm_xor_si128(*sum, part);
        }
    }
    element(reduce(sums[0], sums[1], sums[2]))
}

/// What x^128 is congruent to: x^7 + x^2 + x + 1.
const TAIL: i64 = 0x87;

/// The carry-less product in three parts, at x^0, x^64 and x^128.
#[inline]
#[target_feature(enable = "pclmulqdq,sse2")]
fn product(a: __m128i, b: __m128i) -> [__m128i; 3] {
    let across = _mm_clmulepi64_si128::<0x01>(a, b);
    let back = _mm_clmulepi64_si128::<0x10>(a, b);
    let (low, high) = (_mm_clmulepi64_si128::<0x00>(a, b), _mm_clmulepi64_si128::<0x11>(a, b));
    [low, _mm_xor_si128(across, back), high]
}

/// The element that a product in three parts is.
#[inline]
#[target_feature(enable = "pclmulqdq,sse2")]
fn reduce(low: __m128i, middle: __m128i, high: __m128i) -> __m128i {
    let tail = _mm_set_epi64x(0, TAIL);
    let low = _mm_xor_si128(low, _mm_slli_si128::<8>(middle));
    let high = _mm_xor_si128(high, _mm_srli_si128::<8>(middle));
    // The upper half first: what it folds to reaches 7 bits into the lower half of `high`.
    let fold = _mm_clmulepi64_si128::<0x01>(high, tail);
    let high = _mm_xor_si128(high, _mm_srli_si128::<8>(fold));
    let low = _mm_xor_si128(low, _mm_slli_si128::<8>(fold));
    _mm_xor_si128(low, _mm_clmulepi64_si128::<0x00>(high, tail))
}

#[inline]
#[target_feature(enable = "sse2")]
fn element(vector: __m128i) -> Element {
    let low = _mm_cvtsi128_si64(vector).cast_unsigned();
    let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(vector, vector)).cast_unsigned();
    u128::from(low) | u128::from(high) << 64
}
