//! Eight ladders of X25519 side by side, by AVX-512's products of 52-bit integers.
//!
//! A number modulo p = 2^255 - 19 is five limbs of 51 bits and a little, below 2^51 + 2^14 between
//! the operations and so always below the 52 bits that a product reads; limb i weighs 2^(51·i). A
//! vector holds the same limb of eight numbers. No branch and no address depends on a number: the
//! ladder's swap is a blend by a mask of scalar bits.

#![expect(
    unsafe_code,
    reason = "vectors are loaded and stored by pointers; features are asked for before"
)]

use core::arch::x86_64::{
    __m512i, __mmask8, _mm512_add_epi64, _mm512_and_si512, _mm512_loadu_si512,
    _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_blend_epi64, _mm512_set1_epi64,
    _mm512_setzero_si512, _mm512_slli_epi64, _mm512_srli_epi64, _mm512_storeu_si512,
    _mm512_sub_epi64, _mm512_test_epi64_mask,
};

use zeroize::Zeroizing;

use crate::kernel::ladder::Pair;
use crate::secret::Secret;

/// How many ladders there are in a vector.
const LANES: usize = 8;

/// A number in each lane.
type Field = [__m512i; 5];

/// See [`crate::kernel::ladder::products`].
pub(in crate::kernel) fn products(pairs: &[Pair<'_>]) -> Option<Vec<Secret<32>>> {
    let has = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma");
    if !has {
        return None;
    }
    // All the room at once: growing would leave secrets behind in memory.
    let mut products = Vec::with_capacity(pairs.len());
    for pairs in pairs.chunks(LANES) {
        // SAFETY: the CPU has both features.
        unsafe { eight(pairs, &mut products) };
    }
    Some(products)
}

/// The products of up to eight pairs.
#[target_feature(enable = "avx512f,avx512ifma")]
fn eight(pairs: &[Pair<'_>], products: &mut Vec<Secret<32>>) {
    let (mut scalars, mut points) = (Zeroizing::new([[0; LANES]; 4]), [[0; LANES]; 5]);
    for (lane, (private, public)) in pairs.iter().enumerate() {
        let mut scalar = Zeroizing::new(*private.expose());
        // RFC 7748, section 5: decodeScalar25519.
        (scalar[0], scalar[31]) = (scalar[0] & 0xf8, scalar[31] & 0x7f | 0x40);
        for (row, word) in scalars.iter_mut().zip(scalar.as_chunks().0) {
            row[lane] = u64::from_le_bytes(*word);
        }
        for (row, limb) in points.iter_mut().zip(limbs(public)) {
            row[lane] = limb;
        }
    }
    let product =
        ladder(&scalars.each_ref().map(|row| load(row)), &points.each_ref().map(|row| load(row)));
    let mut rows = Zeroizing::new([[0; LANES]; 5]);
    for (row, vector) in rows.iter_mut().zip(product) {
        store(row, vector);
    }
    products.extend((0..pairs.len()).map(|lane| Secret::new(bytes(rows.map(|row| row[lane])))));
}

/// The limbs of a coordinate, whose highest bit is ignored.
fn limbs(bytes: &[u8; 32]) -> [u64; 5] {
    let word = |i: usize| u64::from_le_bytes(bytes.as_chunks().0[i]);
    let (a, b, c, d) = (word(0), word(1), word(2), word(3));
    [a, a >> 51 | b << 13, b >> 38 | c << 26, c >> 25 | d << 39, d >> 12].map(|limb| limb & MASK)
}

/// The bytes of a number, taken modulo p.
fn bytes(mut limbs: [u64; 5]) -> [u8; 32] {
    // Twice, as the first round may carry into the lowest limb once more.
    for _ in 0..2 {
        for i in 0..5 {
            let over = limbs[i] >> 51;
            limbs[i] &= MASK;
            limbs[(i + 1) % 5] += if i == 4 { 19 * over } else { over };
        }
    }
    // Now below 2^255 + a little: p is in it once exactly if 19 more reach 2^255.
    let over = limbs.iter().fold(19, |carry, limb| (limb + carry) >> 51);
    limbs[0] += 19 * over;
    for i in 0..4 {
        limbs[i + 1] += limbs[i] >> 51;
        limbs[i] &= MASK;
    }
    limbs[4] &= MASK;
    let [a, b, c, d, e] = limbs;
    let words = [a | b << 51, b >> 13 | c << 38, c >> 26 | d << 25, d >> 39 | e << 12];
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    bytes
}

const MASK: u64 = (1 << 51) - 1;

/// RFC 7748, section 5, step by step.
#[target_feature(enable = "avx512f,avx512ifma")]
fn ladder(scalars: &[__m512i; 4], x1: &Field) -> Field {
    let zero = [_mm512_setzero_si512(); 5];
    let mut one = zero;
    one[0] = _mm512_set1_epi64(1);
    let (mut x2, mut z2, mut x3, mut z3) = (one, zero, *x1, one);
    let mut swapped = 0;
    for at in (0..255).rev() {
        let bit = _mm512_set1_epi64(1 << (at % 64));
        let bits = _mm512_test_epi64_mask(scalars[at / 64], bit);
        swap(bits ^ swapped, &mut x2, &mut x3);
        swap(bits ^ swapped, &mut z2, &mut z3);
        swapped = bits;
        let (a, b) = (add(&x2, &z2), sub(&x2, &z2));
        let (c, d) = (add(&x3, &z3), sub(&x3, &z3));
        let (da, cb) = (mul(&d, &a), mul(&c, &b));
        let (aa, bb) = (square(&a), square(&b));
        let e = sub(&aa, &bb);
        x3 = square(&add(&da, &cb));
        z3 = mul(x1, &square(&sub(&da, &cb)));
        x2 = mul(&aa, &bb);
        z2 = mul(&e, &add(&aa, &times_a24(&e)));
    }
    swap(swapped, &mut x2, &mut x3);
    swap(swapped, &mut z2, &mut z3);
    mul(&x2, &invert(&z2))
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn swap(lanes: __mmask8, a: &mut Field, b: &mut Field) {
    for (a, b) in a.iter_mut().zip(b) {
        let (old_a, old_b) = (*a, *b);
        *a = _mm512_mask_blend_epi64(lanes, old_a, old_b);
        *b = _mm512_mask_blend_epi64(lanes, old_b, old_a);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn add(a: &Field, b: &Field) -> Field {
    let mut sum = *a;
    for (sum, b) in sum.iter_mut().zip(b) {
        *sum = _mm512_add_epi64(*sum, *b);
    }
    carry(sum)
}

/// a + 2p - b, so that no limb is negative.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn sub(a: &Field, b: &Field) -> Field {
    let mut difference = *a;
    for (i, (a, b)) in difference.iter_mut().zip(b).enumerate() {
        let limb_of_2p = _mm512_set1_epi64(if i == 0 { (1 << 52) - 38 } else { (1 << 52) - 2 });
        *a = _mm512_sub_epi64(_mm512_add_epi64(*a, limb_of_2p), *b);
    }
    carry(difference)
}

/// What a limb has above its 51 bits goes to the next one, from the last as 19 times as much to the
/// first.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn carry(limbs: Field) -> Field {
    let mask = _mm512_set1_epi64(MASK.cast_signed());
    let mut carried = limbs;
    for i in 0..5 {
        let over = _mm512_srli_epi64::<51>(limbs[(i + 4) % 5]);
        let over = if i == 0 { times_19(over) } else { over };
        carried[i] = _mm512_add_epi64(_mm512_and_si512(limbs[i], mask), over);
    }
    carried
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn times_19(x: __m512i) -> __m512i {
    let three = _mm512_add_epi64(x, _mm512_slli_epi64::<1>(x));
    _mm512_add_epi64(three, _mm512_slli_epi64::<4>(x))
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn mul(a: &Field, b: &Field) -> Field {
    let mut low = [_mm512_setzero_si512(); 9];
    let mut high = low;
    for i in 0..5 {
        for j in 0..5 {
            low[i + j] = _mm512_madd52lo_epu64(low[i + j], a[i], b[j]);
            high[i + j] = _mm512_madd52hi_epu64(high[i + j], a[i], b[j]);
        }
    }
    fold(low, high)
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn square(a: &Field) -> Field {
    let mut low = [_mm512_setzero_si512(); 9];
    let mut high = low;
    for i in 0..5 {
        for j in i + 1..5 {
            low[i + j] = _mm512_madd52lo_epu64(low[i + j], a[i], a[j]);
            high[i + j] = _mm512_madd52hi_epu64(high[i + j], a[i], a[j]);
        }
    }
    // Each product of different limbs comes twice.
    for column in low.iter_mut().chain(&mut high) {
        *column = _mm512_add_epi64(*column, *column);
    }
    for i in 0..5 {
        low[2 * i] = _mm512_madd52lo_epu64(low[2 * i], a[i], a[i]);
        high[2 * i] = _mm512_madd52hi_epu64(high[2 * i], a[i], a[i]);
    }
    fold(low, high)
}

/// The number of a product's columns. Their low 52 bits weigh 2^(51·i); the high ones 2^(51·i + 52),
/// which is twice the next column. Columns from the fifth on count 19 times, five places lower. All
/// stays below 2^61.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn fold(low: [__m512i; 9], high: [__m512i; 9]) -> Field {
    let twice = |x: __m512i| _mm512_add_epi64(x, x);
    let mut columns = [_mm512_setzero_si512(); 10];
    columns[..9].copy_from_slice(&low);
    for i in 0..9 {
        columns[i + 1] = _mm512_add_epi64(columns[i + 1], twice(high[i]));
    }
    let mut limbs = [_mm512_setzero_si512(); 5];
    for i in 0..5 {
        limbs[i] = _mm512_add_epi64(columns[i], times_19(columns[i + 5]));
    }
    carry(limbs)
}

/// 121,665 times a number.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn times_a24(a: &Field) -> Field {
    let (zero, a24) = (_mm512_setzero_si512(), _mm512_set1_epi64(121_665));
    let mut limbs = [zero; 5];
    for i in 0..5 {
        let before = _mm512_madd52hi_epu64(zero, a[(i + 4) % 5], a24);
        let before = if i == 0 { times_19(before) } else { before };
        let low = _mm512_madd52lo_epu64(zero, a[i], a24);
        limbs[i] = _mm512_add_epi64(low, _mm512_add_epi64(before, before));
    }
    carry(limbs)
}

/// a^(p - 2): the inverse, and zero of zero. The exponent is 2^255 - 21.
#[target_feature(enable = "avx512f,avx512ifma")]
fn invert(a: &Field) -> Field {
    let a2 = square(a);
    let a9 = mul(&squares(&a2, 2), a);
    let a11 = mul(&a9, &a2);
    // ones(n) is a^(2^n - 1).
    let ones5 = mul(&square(&a11), &a9);
    let ones10 = mul(&squares(&ones5, 5), &ones5);
    let ones20 = mul(&squares(&ones10, 10), &ones10);
    let ones40 = mul(&squares(&ones20, 20), &ones20);
    let ones50 = mul(&squares(&ones40, 10), &ones10);
    let ones100 = mul(&squares(&ones50, 50), &ones50);
    let ones200 = mul(&squares(&ones100, 100), &ones100);
    let ones250 = mul(&squares(&ones200, 50), &ones50);
    mul(&squares(&ones250, 5), &a11)
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn squares(a: &Field, times: usize) -> Field {
    let mut power = *a;
    for _ in 0..times {
        power = square(&power);
    }
    power
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn load(lanes: &[u64; LANES]) -> __m512i {
    // SAFETY: reads the bytes of the array, at any alignment.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn store(lanes: &mut [u64; LANES], vector: __m512i) {
    // SAFETY: writes the bytes of the array, at any alignment.
    unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), vector) }
}
