//! Sharing a 32-byte secret so that any `t` of `n` shares give it back and fewer say nothing about
//! it (Shamir 1979), over GF(2^128): two elements to a secret.
//!
//! Shares carry no proof of their own; commitments around them do that (`message::shares`). The
//! share of the participant with index i is the polynomial at x = i + 1.

use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::gf128::{self, Element};
use crate::secret::Secret;

/// A secret or one share of it: two field elements, the first one first, 16 bytes little-endian
/// each.
pub(crate) const SHARE_BYTES: usize = 32;

/// One share for each of the `n` participants, in order; any `t` of them give `secret` back.
pub(crate) fn split(
    secret: &Secret<SHARE_BYTES>,
    t: usize,
    n: usize,
    rng: &mut dyn CryptoRng,
) -> Vec<Secret<SHARE_BYTES>> {
    debug_assert!(1 <= t && t <= n);
    let [first, second] = elements(secret.expose());
    let polynomials = [polynomial(first, t, rng), polynomial(second, t, rng)];
    (0..n).map(|index| pair(polynomials.each_ref().map(|p| evaluate(p, point(index))))).collect()
}

/// How shares held by a certain set of participants are combined. The coefficients are the costly
/// part and serve every secret shared among the same participants.
pub(crate) struct Combiner {
    indices: Vec<usize>,
    lagrange: Vec<Element>,
}

impl Combiner {
    /// For shares of the participants `indices`, all different.
    pub(crate) fn new(indices: &[usize]) -> Self {
        let points: Vec<Element> = indices.iter().map(|&index| point(index)).collect();
        // The value at 0 of the basis polynomial of i: the product over j ≠ i of x_j / (x_j - x_i).
        let lagrange = (0..points.len())
            .map(|i| {
                let mut over = 1;
                let mut under = 1;
                for (j, &x) in points.iter().enumerate().filter(|&(j, _)| j != i) {
                    debug_assert_ne!(x, points[i], "indices {i} and {j} are the same");
                    over = gf128::mul(over, x);
                    under = gf128::mul(under, x ^ points[i]);
                }
                gf128::mul(over, gf128::invert(under))
            })
            .collect();
        Self { indices: indices.to_vec(), lagrange }
    }

    /// Whose shares this combines, in the order that [`Combiner::combine`] wants them.
    pub(crate) fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The secret, if the shares are as many as were dealt to need, and none is false.
    pub(crate) fn combine(&self, shares: &[&Secret<SHARE_BYTES>]) -> Secret<SHARE_BYTES> {
        debug_assert_eq!(shares.len(), self.lagrange.len());
        let mut sum = Zeroizing::new([0; 2]);
        for (share, &coefficient) in shares.iter().zip(&self.lagrange) {
            for (sum, element) in sum.iter_mut().zip(elements(share.expose())) {
                *sum ^= gf128::mul(element, coefficient);
            }
        }
        pair(*sum)
    }
}

/// Where the participant's share lies: never at 0, where the secret is.
fn point(index: usize) -> Element {
    index as Element + 1
}

/// Coefficients from the constant term upwards; all but the first are drawn.
fn polynomial(constant: Element, t: usize, rng: &mut dyn CryptoRng) -> Zeroizing<Vec<Element>> {
    let mut coefficients = Zeroizing::new(Vec::with_capacity(t));
    coefficients.push(constant);
    for _ in 1..t {
        let mut bytes = Zeroizing::new([0; 16]);
        rng.fill_bytes(bytes.as_mut_slice());
        coefficients.push(Element::from_le_bytes(*bytes));
    }
    coefficients
}

/// Horner's rule.
fn evaluate(coefficients: &[Element], x: Element) -> Element {
    coefficients.iter().rev().fold(0, |value, &c| gf128::mul(value, x) ^ c)
}

fn elements(bytes: &[u8; SHARE_BYTES]) -> [Element; 2] {
    let (first, second) = bytes.split_at(16);
    [first, second]
        .map(|half| Element::from_le_bytes(half.try_into().expect("a half of 32 bytes has 16")))
}

fn pair(elements: [Element; 2]) -> Secret<SHARE_BYTES> {
    let mut bytes = [0; SHARE_BYTES];
    bytes[..16].copy_from_slice(&elements[0].to_le_bytes());
    bytes[16..].copy_from_slice(&elements[1].to_le_bytes());
    Secret::new(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    use super::*;

    proptest! {
        #[test]
        fn any_t_shares_give_the_secret_and_t_minus_1_do_not(
            secret: [u8; 32], n in 2usize..=12, extra in 0usize..12, seed: u64, rotate in 0usize..12,
        ) {
            let t = 2 + extra % (n - 1);
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let shares = split(&Secret::new(secret), t, n, &mut rng);
            let mut order: Vec<usize> = (0..n).collect();
            order.rotate_left(rotate % n);
            let combine = |indices: &[usize]| {
                let held: Vec<_> = indices.iter().map(|&i| &shares[i]).collect();
                *Combiner::new(indices).combine(&held).expose()
            };
            prop_assert_eq!(combine(&order[..t]), secret);
            prop_assert_eq!(combine(&order), secret);
            prop_assert_ne!(combine(&order[..t - 1]), secret);
        }
    }

    #[test]
    fn one_false_share_gives_another_secret() {
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let mut shares = split(&Secret::new([3; 32]), 3, 4, &mut rng);
        shares[1] = Secret::new([9; 32]);
        let held: Vec<_> = shares[..3].iter().collect();
        assert_ne!(Combiner::new(&[0, 1, 2]).combine(&held).expose(), &[3; 32]);
    }
}
