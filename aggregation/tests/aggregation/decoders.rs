//! Bytes from outside: whatever they are, decoders say yes or no, and yes means canonical.

use std::sync::OnceLock;

use koinon_aggregation::client::{Advertised, Keyed, Masked, Revealed, Shared, Signed};
use koinon_aggregation::{
    Bundle, Delivery, Report, Reveal, SessionPlan, Shares, SurvivorSignature,
};
use proptest::prelude::*;

use crate::support::{Unmasking, cohort};

type Decode = fn(&[u8]) -> Option<Vec<u8>>;

/// Every decoder, as: the bytes that what was read is written as again.
fn decoders() -> Vec<(&'static str, Decode)> {
    macro_rules! message {
        ($type:ty) => {
            (stringify!($type), (|b| <$type>::from_bytes(b).ok().map(|m| m.to_bytes())) as Decode)
        };
    }
    macro_rules! state {
        ($type:ty) => {
            (stringify!($type), (|b| {
                <$type>::from_secret_bytes(b).ok().map(|s| s.to_secret_bytes().to_vec())
            }) as Decode)
        };
    }
    vec![
        message!(SessionPlan),
        message!(Bundle),
        message!(Shares),
        message!(Delivery),
        message!(Report),
        message!(SurvivorSignature),
        message!(Reveal),
        state!(Advertised),
        state!(Shared),
        state!(Keyed),
        state!(Masked),
        state!(Signed),
        state!(Revealed),
    ]
}

/// A valid example for each decoder, in the same order.
fn examples() -> Vec<Vec<u8>> {
    static EXAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    EXAMPLES.get_or_init(make_examples).clone()
}

fn make_examples() -> Vec<Vec<u8>> {
    let cohort = cohort(3, 1);
    let (advertised, bundles) = cohort.advertised(1);
    let (shared, shares, server) = cohort.shared(1);
    let delivery = cohort.inbox(&server, 0).swap_remove(0);
    let (mut keyed, _) = cohort.keyed(1);
    let (masked, update) = cohort.mask(keyed.remove(0), 0);
    let Unmasking { mut signed, signatures, .. } = cohort.signed(1, 0);
    let signed_bytes = signed[1].to_secret_bytes();
    let (revealed, reveal) = signed.remove(0).reveal(&signatures, &cohort.keys[0]).unwrap();
    vec![
        cohort.plan.to_bytes(),
        bundles[0].to_bytes(),
        shares[0].to_bytes(),
        delivery.to_bytes(),
        update.report.to_bytes(),
        signatures[0].to_bytes(),
        reveal.to_bytes(),
        advertised[0].to_secret_bytes().to_vec(),
        shared[0].to_secret_bytes().to_vec(),
        keyed[0].to_secret_bytes().to_vec(),
        masked.to_secret_bytes().to_vec(),
        signed_bytes.to_vec(),
        revealed.to_secret_bytes().to_vec(),
    ]
}

#[test]
fn examples_are_read_whole_and_at_no_other_length() {
    for ((name, decode), bytes) in decoders().into_iter().zip(examples()) {
        assert_eq!(decode(&bytes).as_deref(), Some(&bytes[..]), "{name}");
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_none(), "{name} cut to {len}");
        }
        assert!(decode(&[&bytes[..], &[0]].concat()).is_none(), "{name} with a byte more");
    }
}

#[test]
fn no_message_passes_for_another_kind() {
    let examples = examples();
    for (i, (name, decode)) in decoders().into_iter().enumerate() {
        for (j, bytes) in examples.iter().enumerate().filter(|&(j, _)| j != i) {
            assert!(decode(bytes).is_none(), "{name} took example {j}");
        }
    }
}

proptest! {
    #[test]
    fn garbage_of_any_length_is_refused_calmly(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        for (_, decode) in decoders() {
            if let Some(again) = decode(&bytes) {
                prop_assert_eq!(&again, &bytes);
            }
        }
    }

    #[test]
    fn what_is_almost_right_is_canonical_or_refused(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for ((name, decode), mut bytes) in decoders().into_iter().zip(examples()) {
            for (at, value) in &flips {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            if let Some(again) = decode(&bytes) {
                prop_assert_eq!(&again, &bytes, "{}", name);
            }
        }
    }
}
