//! The field GF(2^128) with the polynomial x^128 + x^7 + x^2 + x + 1, in constant time on any CPU.
//!
//! Bit i of the 128-bit integer is the coefficient of x^i; bytes are little-endian. This is not
//! GHASH's reflected order. No table is indexed and no branch is taken by a secret. The CPU's
//! carry-less multiplication is used where there is one; what is here gives the same without.

use zeroize::Zeroizing;

use crate::kernel::field;

/// One element, not secret by itself: whoever holds secrets in it wipes them.
pub(crate) type Element = u128;

/// The product. Addition is `^`.
pub(crate) fn mul(a: Element, b: Element) -> Element {
    field::mul(a, b).unwrap_or_else(|| portable_mul(a, b))
}

/// Every element becomes itself times its own factor, a polynomial of degree below 16, plus
/// `constant`: with points for factors, a step of Horner's rule at all of them. As many factors as
/// elements.
pub(crate) fn scale(elements: &mut [Element], factors: &[u16], constant: Element) {
    debug_assert_eq!(elements.len(), factors.len());
    if field::scale(elements, factors, constant).is_none() {
        for (value, &factor) in elements.iter_mut().zip(factors) {
            *value = portable_scale(*value, factor) ^ constant;
        }
    }
}

/// The sum of the products of pairs.
pub(crate) fn dot(a: &[Element], b: &[Element]) -> Element {
    debug_assert_eq!(a.len(), b.len());
    let portable = || a.iter().zip(b).fold(0, |sum, (&a, &b)| sum ^ portable_mul(a, b));
    field::dot(a, b).unwrap_or_else(portable)
}

/// The inverse of `a`, and zero for zero: a^(2^128 - 2) by squaring and multiplying.
pub(crate) fn invert(a: Element) -> Element {
    // The exponent's bits are 1, 127 times, and then 0: it is public, so the loop may follow it.
    let mut result = 1;
    for _ in 0..127 {
        result = mul(mul(result, result), a);
    }
    mul(result, result)
}

/// Every element becomes its inverse, none being zero: one inversion and three products each, by
/// inverting the product of all (Montgomery's trick).
pub(crate) fn invert_all(elements: &mut [Element]) {
    let mut before = Zeroizing::new(Vec::with_capacity(elements.len()));
    let mut product = 1;
    for &element in elements.iter() {
        before.push(product);
        product = mul(product, element);
    }
    debug_assert_ne!(product, 0, "zero has no inverse");
    let mut inverse = invert(product);
    for (element, before) in elements.iter_mut().zip(before.iter()).rev() {
        let own = mul(inverse, *before);
        inverse = mul(inverse, *element);
        *element = own;
    }
}

fn portable_mul(a: Element, b: Element) -> Element {
    let (low, high) = widening(a, b);
    reduce(low, high)
}

/// Bit by bit of the factor: each selects `a`, shifted, by a mask.
fn portable_scale(a: Element, factor: u16) -> Element {
    let (mut low, mut high) = (0, 0);
    for bit in 0..u16::BITS {
        let selected = a & u128::from(factor >> bit & 1).wrapping_neg();
        low ^= selected << bit;
        // In two steps, as a shift by 128 is none.
        high ^= selected >> 1 >> (127 - bit);
    }
    reduce(low, high)
}

/// The 256-bit carry-less product as (low, high), by Karatsuba over 64-bit halves.
fn widening(a: Element, b: Element) -> (u128, u128) {
    let (a0, a1) = halves(a);
    let (b0, b1) = halves(b);
    let low = carryless(a0, b0);
    let high = carryless(a1, b1);
    let middle = carryless(a0 ^ a1, b0 ^ b1) ^ low ^ high;
    (low ^ (middle << 64), high ^ (middle >> 64))
}

/// The carry-less product of two 64-bit words: each bit of `b` selects `a`, shifted, by a mask.
fn carryless(a: u64, b: u64) -> u128 {
    let a = u128::from(a);
    let mut product = 0;
    for bit in 0..64 {
        let selected = u128::from(b >> bit & 1).wrapping_neg();
        product ^= (a << bit) & selected;
    }
    product
}

/// Folds the high half: x^128 = x^7 + x^2 + x + 1, twice, as the first fold overflows by 7 bits.
fn reduce(low: u128, high: u128) -> Element {
    let over = (high >> 127) ^ (high >> 126) ^ (high >> 121);
    let fold = |x: u128| x ^ (x << 1) ^ (x << 2) ^ (x << 7);
    low ^ fold(high) ^ fold(over)
}

#[expect(clippy::cast_possible_truncation, reason = "taking the two halves is the purpose")]
fn halves(x: u128) -> (u64, u64) {
    (x as u64, (x >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Schoolbook, one bit at a time, with the branches that the real one must not have.
    fn reference(a: u128, b: u128) -> u128 {
        let mut product = 0;
        let mut shifted = a;
        for bit in 0..128 {
            if b >> bit & 1 == 1 {
                product ^= shifted;
            }
            let carry = shifted >> 127 == 1;
            shifted <<= 1;
            if carry {
                shifted ^= 0x87;
            }
        }
        product
    }

    #[test]
    fn corners_agree_with_the_reference() {
        let corners = [0, 1, 2, 0x87, 1 << 63, 1 << 64, 1 << 127, u128::MAX, u128::MAX >> 1];
        for a in corners {
            for b in corners {
                assert_eq!(mul(a, b), reference(a, b), "{a:x} {b:x}");
                assert_eq!(portable_mul(a, b), reference(a, b), "{a:x} {b:x}");
            }
        }
        assert_eq!(invert(0), 0);
        assert_eq!(mul(1 << 127, 2), 0x87);
    }

    proptest! {
        #[test]
        fn products_agree_with_the_reference(a: u128, b: u128, c: u128) {
            prop_assert_eq!(mul(a, b), reference(a, b));
            prop_assert_eq!(portable_mul(a, b), reference(a, b));
            prop_assert_eq!(mul(a, b ^ c), mul(a, b) ^ mul(a, c));
        }

        #[test]
        fn many_at_once_are_each_by_itself(
            pairs in proptest::collection::vec((1u128.., any::<u16>()), 0..20),
            constant: u128,
        ) {
            let (elements, factors): (Vec<u128>, Vec<u16>) = pairs.into_iter().unzip();
            let wide: Vec<u128> = factors.iter().map(|&f| f.into()).collect();
            let products = || elements.iter().zip(&wide).map(|(&a, &b)| reference(a, b));
            let mut scaled = elements.clone();
            scale(&mut scaled, &factors, constant);
            prop_assert!(products().map(|p| p ^ constant).eq(scaled));
            let portable = elements.iter().zip(&factors).map(|(&a, &f)| portable_scale(a, f));
            prop_assert!(products().eq(portable));
            prop_assert_eq!(dot(&elements, &wide), products().fold(0, |sum, p| sum ^ p));
            prop_assert_eq!(
                dot(&elements, &elements),
                elements.iter().fold(0, |sum, &e| sum ^ reference(e, e))
            );
            let mut inverses = elements.clone();
            invert_all(&mut inverses);
            prop_assert!(elements.iter().zip(inverses).all(|(&e, i)| reference(e, i) == 1));
        }

        #[test]
        fn inverses_undo(a in 1u128..) {
            prop_assert_eq!(mul(a, invert(a)), 1);
        }
    }
}
