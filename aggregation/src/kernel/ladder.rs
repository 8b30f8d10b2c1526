//! X25519 of many pairs at once (RFC 7748, section 5): eight in the lanes of a vector where the CPU
//! multiplies 52-bit integers, one after the other elsewhere. The same bytes come out.
//!
//! Not here: what is agreed on, and which results are refused ([`crate::agree`]).

use x25519_dalek::x25519;

use super::field::is_wanted;
#[cfg(target_arch = "x86_64")]
use super::x86::ifma as cpu;
use crate::secret::Secret;

/// A private key, and somebody's public one.
pub(crate) type Pair<'a> = (&'a Secret<32>, &'a [u8; 32]);

/// The product of each pair, in their order.
pub(crate) fn products(pairs: &[Pair<'_>]) -> Vec<Secret<32>> {
    let one = |(private, public): &Pair<'_>| Secret::new(x25519(*private.expose(), **public));
    let vectors = if is_wanted() { cpu::products(pairs) } else { None };
    vectors.unwrap_or_else(|| pairs.iter().map(one).collect())
}

#[cfg(not(target_arch = "x86_64"))]
mod cpu {
    pub(super) fn products(_: &[super::Pair<'_>]) -> Option<Vec<super::Secret<32>>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_ladder(pairs: &[([u8; 32], [u8; 32])]) {
        let privates: Vec<Secret<32>> = pairs.iter().map(|pair| Secret::new(pair.0)).collect();
        let asked: Vec<Pair<'_>> =
            privates.iter().zip(pairs).map(|(s, pair)| (s, &pair.1)).collect();
        let got = products(&asked);
        assert_eq!(got.len(), pairs.len());
        for (got, (private, public)) in got.iter().zip(pairs) {
            assert_eq!(*got.expose(), x25519(*private, *public), "{private:x?} {public:x?}");
        }
    }

    /// Points of small order, of the twist, not canonical, with the ignored bit.
    fn odd_point() -> impl Strategy<Value = [u8; 32]> {
        let small = (any::<u8>(), any::<bool>(), any::<bool>()).prop_map(|(low, top, high)| {
            let mut point = if top { [0xff; 32] } else { [0; 32] };
            point[0] = low;
            point[31] = if high { point[31] | 0x80 } else { point[31] & 0x7f };
            point
        });
        prop_oneof![small, any::<[u8; 32]>()]
    }

    proptest! {
        #[test]
        fn many_at_once_are_each_by_itself(
            pairs in proptest::collection::vec((any::<[u8; 32]>(), odd_point()), 0..20),
        ) {
            is_ladder(&pairs);
        }
    }

    #[test]
    fn edges_of_the_field_and_of_the_scalars() {
        let (mut one, mut p) = ([0; 32], [0xff; 32]);
        (one[0], p[0], p[31]) = (1, 0xed, 0x7f);
        let scalars = [[0; 32], [0xff; 32], one, [0x55; 32], p];
        for low in 0..=u8::MAX {
            p[0] = low;
            is_ladder(&scalars.map(|scalar| (scalar, p)));
        }
    }

    /// RFC 7748, section 5.2: k and u of an iteration are the result and k of the one before.
    #[test]
    fn a_thousand_iterations_give_the_known_answer_of_rfc_7748_section_52() {
        let mut nine = [0; 32];
        nine[0] = 9;
        let (mut k, mut u) = (Secret::new(nine), nine);
        for _ in 0..1_000 {
            let next = products(&[(&k, &u)]).remove(0);
            u = *k.expose();
            k = next;
        }
        let digits: String = k.expose().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digits, "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
    }
}
