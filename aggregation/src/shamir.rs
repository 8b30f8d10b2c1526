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

/// One share for each of the participants 0..n, in order; any `t` of them give `secret` back.
pub(crate) fn split(
    secret: &Secret<SHARE_BYTES>,
    t: usize,
    n: usize,
    rng: &mut dyn CryptoRng,
) -> Vec<Secret<SHARE_BYTES>> {
    split_among(secret, t, 0..n, rng)
}

/// One share for each of the participants `holders`, all different, in their order; any `t` of them
/// give `secret` back.
pub(crate) fn split_among(
    secret: &Secret<SHARE_BYTES>,
    t: usize,
    holders: impl IntoIterator<Item = usize>,
    rng: &mut dyn CryptoRng,
) -> Vec<Secret<SHARE_BYTES>> {
    let points: Vec<u16> = holders.into_iter().map(point).collect();
    debug_assert!(1 <= t && t <= points.len());
    let halves = elements(secret.expose()).map(|half| polynomial(half, t, rng));
    let [first, second] = halves.map(|polynomial| evaluate(&polynomial, &points));
    first.iter().zip(second.iter()).map(|(&first, &second)| pair([first, second])).collect()
}

/// How shares held by a certain set of participants are combined. The coefficients are the costly
/// part and serve every secret shared among the same participants.
pub(crate) struct Combiner {
    indices: Vec<usize>,
    /// By holder, the value at 0 of its basis polynomial.
    lagrange: Vec<Element>,
}

impl Combiner {
    /// For shares of the participants `indices`, all different. O(t^2) short products.
    pub(crate) fn new(indices: &[usize]) -> Self {
        let points: Vec<u16> = indices.iter().map(|&index| point(index)).collect();
        // The product over j ≠ i of x_j / (x_j - x_i) is the product of all x_j, over that of x_i
        // and the differences.
        let mut lagrange: Vec<Element> = points.iter().copied().map(Element::from).collect();
        let mut differences = vec![0; points.len()];
        for &x in &points {
            for (difference, &own) in differences.iter_mut().zip(&points) {
                *difference = if x == own { 1 } else { x ^ own };
            }
            gf128::scale(&mut lagrange, &differences, 0);
        }
        gf128::invert_all(&mut lagrange);
        let all = product(&points);
        lagrange.iter_mut().for_each(|coefficient| *coefficient = gf128::mul(*coefficient, all));
        Self { indices: indices.to_vec(), lagrange }
    }

    /// Makes this the combiner for shares of `indices`. From a set of the same size in which one
    /// participant is another, both in ascending order, O(t); otherwise anew.
    pub(crate) fn adapt(&mut self, indices: &[usize]) {
        if self.indices == indices {
            return;
        }
        match exchanged(&self.indices, indices) {
            Some((out, joined)) => self.exchange(out, joined, indices),
            None => *self = Self::new(indices),
        }
    }

    /// Puts `indices[joined]` in the place of the holder at `out`, and all in the order of
    /// `indices`.
    fn exchange(&mut self, out: usize, joined: usize, indices: &[usize]) {
        let gone = point(self.indices[out]);
        self.lagrange.remove(out);
        self.lagrange.insert(joined, 1);
        self.indices = indices.to_vec();
        let points: Vec<u16> = indices.iter().map(|&index| point(index)).collect();
        let new = points[joined];
        // For those who stay, the coefficient times x_new / x_gone, times (x_gone - x_i) /
        // (x_new - x_i); for the new one as in `new`.
        let others: Vec<u16> = points.iter().copied().filter(|&x| x != new).collect();
        let from_new: Vec<u16> = others.iter().map(|x| x ^ new).collect();
        let own = (product(&others), product(&from_new));
        let fraction = |&x: &u16| {
            if x == new { own } else { (short(new, gone ^ x), short(gone, new ^ x)) }
        };
        let (over, mut under): (Vec<Element>, Vec<Element>) = points.iter().map(fraction).unzip();
        gf128::invert_all(&mut under);
        for ((coefficient, over), inverse) in self.lagrange.iter_mut().zip(over).zip(under) {
            *coefficient = gf128::mul(*coefficient, gf128::mul(over, inverse));
        }
    }

    /// Whose shares this combines, in the order that [`Combiner::combine`] wants them.
    pub(crate) fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The secret, if the shares are as many as were dealt to need, and none is false. They are in
    /// the order of the indices.
    pub(crate) fn combine(&self, shares: &[&Secret<SHARE_BYTES>]) -> Secret<SHARE_BYTES> {
        debug_assert_eq!(shares.len(), self.lagrange.len());
        let half = |which: usize| {
            let halves = shares.iter().map(|share| elements(share.expose())[which]);
            let mut held = Zeroizing::new(Vec::with_capacity(shares.len()));
            held.extend(halves);
            gf128::dot(&held, &self.lagrange)
        };
        pair([half(0), half(1)])
    }
}

/// Where each of two ascending lists of the same length has the one entry that the other lacks:
/// `None` if it is not one.
fn exchanged(old: &[usize], new: &[usize]) -> Option<(usize, usize)> {
    if old.len() != new.len() || !old.is_sorted() || !new.is_sorted() {
        return None;
    }
    let lacks = |list: &[usize], other: &[usize]| {
        let mut places = (0..list.len()).filter(|&i| other.binary_search(&list[i]).is_err());
        places.next().filter(|_| places.next().is_none())
    };
    Some((lacks(old, new)?, lacks(new, old)?))
}

/// Where the participant's share lies: never at 0, where the secret is.
fn point(index: usize) -> u16 {
    let point = index.checked_add(1).and_then(|point| u16::try_from(point).ok());
    point.expect("indices of participants are below 16,384")
}

fn short(a: u16, b: u16) -> Element {
    gf128::mul(a.into(), b.into())
}

fn product(points: &[u16]) -> Element {
    points.iter().fold(1, |product, &x| gf128::mul(product, x.into()))
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

/// The values at all points, by Horner's rule.
fn evaluate(coefficients: &[Element], points: &[u16]) -> Zeroizing<Vec<Element>> {
    let mut values = Zeroizing::new(vec![0; points.len()]);
    for &coefficient in coefficients.iter().rev() {
        gf128::scale(&mut values, points, coefficient);
    }
    values
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

    /// Four or five of nine participants.
    fn holders() -> impl Strategy<Value = Vec<usize>> {
        proptest::sample::subsequence((0..9).collect::<Vec<_>>(), 4..=5)
    }

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

        #[test]
        fn a_combiner_adapts_to_any_holders(
            sets in proptest::collection::vec(holders(), 1..8),
        ) {
            let mut rng = ChaCha20Rng::seed_from_u64(11);
            let shares = split(&Secret::new([5; 32]), 4, 9, &mut rng);
            let mut combiner = Combiner::new(&[0, 1, 2, 3]);
            for set in sets {
                combiner.adapt(&set);
                prop_assert_eq!(&combiner.lagrange, &Combiner::new(&set).lagrange);
                let held: Vec<_> = set.iter().map(|&i| &shares[i]).collect();
                prop_assert_eq!(*combiner.combine(&held).expose(), [5; 32]);
            }
        }
    }

    #[test]
    fn one_holder_for_another_is_an_exchange() {
        assert_eq!(exchanged(&[1, 4, 6], &[1, 6, 9]), Some((1, 2)));
        assert_eq!(exchanged(&[1, 4, 6], &[1, 4, 6]), None);
        assert_eq!(exchanged(&[1, 4, 6], &[1, 8, 9]), None);
        assert_eq!(exchanged(&[1, 4, 6], &[1, 4, 6, 7]), None);
        assert_eq!(exchanged(&[4, 1, 6], &[4, 1, 7]), None);
        let mut combiner = Combiner::new(&(1..=667).collect::<Vec<_>>());
        for dealer in [2, 1, 667, 300] {
            let holders: Vec<usize> = (1..=668).filter(|&holder| holder != dealer).collect();
            combiner.adapt(&holders);
            assert_eq!(combiner.lagrange, Combiner::new(&holders).lagrange);
        }
    }

    #[test]
    fn some_participants_can_hold_all_shares() {
        let mut rng = ChaCha20Rng::seed_from_u64(8);
        let holders = [3, 900, 16_383, 7];
        let shares = split_among(&Secret::new([6; 32]), 3, holders, &mut rng);
        let held: Vec<_> = shares[1..].iter().collect();
        assert_eq!(Combiner::new(&holders[1..]).combine(&held).expose(), &[6; 32]);
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
