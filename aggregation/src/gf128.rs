//! The field GF(2^128) with the polynomial x^128 + x^7 + x^2 + x + 1, in constant time on any CPU.
//!
//! Bit i of the 128-bit integer is the coefficient of x^i; bytes are little-endian. This is not
//! GHASH's reflected order. No table is indexed and no branch is taken by a secret.

/// One element, not secret by itself: whoever holds secrets in it wipes them.
pub(crate) type Element = u128;

/// The product. Addition is `^`.
pub(crate) fn mul(a: Element, b: Element) -> Element {
    let (low, high) = widening(a, b);
    reduce(low, high)
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
            }
        }
        assert_eq!(invert(0), 0);
        assert_eq!(mul(1 << 127, 2), 0x87);
    }

    proptest! {
        #[test]
        fn products_agree_with_the_reference(a: u128, b: u128, c: u128) {
            prop_assert_eq!(mul(a, b), reference(a, b));
            prop_assert_eq!(mul(a, b ^ c), mul(a, b) ^ mul(a, c));
        }

        #[test]
        fn inverses_undo(a in 1u128..) {
            prop_assert_eq!(mul(a, invert(a)), 1);
        }
    }
}
