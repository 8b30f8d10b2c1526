//! Bytes from outside: whatever they are, decoders say yes or no, and yes means canonical.

use std::sync::OnceLock;

use koinon_aggregation::client::{Advertised, Keyed, Masked, Revealed, Shared, Signed};
use koinon_aggregation::{
    BUNDLE_BYTES_MAX, Bundle, DELIVERY_BYTES_MAX, Delivery, NAME_BYTES_MAX, Notice, REPORT_BYTES,
    REVEAL_BYTES_MAX, Report, Reveal, SHARES_BYTES_MAX, SURVIVOR_SIGNATURE_BYTES_MAX, SessionPlan,
    Shares, Signer, SurvivorSignature,
};
use proptest::prelude::*;

use crate::support::{Cohort, Unmasking, cohort, small_graph};

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
            (
                stringify!($type),
                (|b| <$type>::from_secret_bytes(b).ok().map(|s| s.to_secret_bytes().to_vec()))
                    as Decode,
            )
        };
    }
    vec![
        message!(SessionPlan),
        message!(Bundle),
        message!(Notice),
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

/// A valid example for each decoder, in the same order, in each version.
fn examples() -> [Vec<Vec<u8>>; 2] {
    static EXAMPLES: OnceLock<[Vec<Vec<u8>>; 2]> = OnceLock::new();
    let cohorts = || [cohort(3, 1), small_graph(8, 4)].map(|cohort| make_examples(&cohort));
    EXAMPLES.get_or_init(cohorts).clone()
}

/// Each decoder with each of its examples.
fn decoded() -> impl Iterator<Item = ((&'static str, Decode), Vec<u8>)> {
    examples().into_iter().flat_map(|examples| decoders().into_iter().zip(examples))
}

fn make_examples(cohort: &Cohort) -> Vec<Vec<u8>> {
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
        server.notice_for(1).unwrap().to_bytes(),
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
    for ((name, decode), bytes) in decoded() {
        assert_eq!(decode(&bytes).as_deref(), Some(&bytes[..]), "{name}");
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_none(), "{name} cut to {len}");
        }
        assert!(decode(&[&bytes[..], &[0]].concat()).is_none(), "{name} with a byte more");
    }
}

#[test]
fn messages_keep_to_their_stated_sizes() {
    let mut cohort = cohort(64, 1);
    let long = |i| format!("site-{i:02}-{}", "x".repeat(NAME_BYTES_MAX - 8));
    cohort.names = (0..64).map(long).collect();
    cohort.roster =
        cohort.names.iter().cloned().zip(cohort.keys.iter().map(Signer::public)).collect();
    assert_eq!(cohort.advertised(1).1[0].to_bytes().len(), BUNDLE_BYTES_MAX);
    let (_, shares, _) = cohort.shared(1);
    assert_eq!(shares[0].to_bytes().len(), 69 + 144 * 64);
    assert!(shares[0].to_bytes().len() <= SHARES_BYTES_MAX);
    let Unmasking { mut signed, signatures, server, .. } = cohort.signed(1, 0);
    assert_eq!(cohort.inbox(&server, 0)[0].to_bytes().len(), DELIVERY_BYTES_MAX);
    assert_eq!(signatures[0].to_bytes().len(), 111);
    assert!(signatures[0].to_bytes().len() <= SURVIVOR_SIGNATURE_BYTES_MAX);
    let (_, reveal) = signed.remove(0).reveal(&signatures, &cohort.keys[0]).unwrap();
    assert_eq!(reveal.to_bytes().len(), 119 + 80 * 64);
    assert!(reveal.to_bytes().len() <= REVEAL_BYTES_MAX);
    let small = crate::support::cohort(3, 1);
    let (mut keyed, _) = small.keyed(1);
    let (_, update) = small.mask(keyed.remove(0), 0);
    assert_eq!(update.report.to_bytes().len(), REPORT_BYTES);
    assert_eq!(update.packed.len(), small.plan.encoding.update_bytes());
}

#[test]
fn no_message_passes_for_another_kind() {
    for examples in examples() {
        for (i, (name, decode)) in decoders().into_iter().enumerate() {
            for (j, bytes) in examples.iter().enumerate().filter(|&(j, _)| j != i) {
                assert!(decode(bytes).is_none(), "{name} took example {j}");
            }
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
        for ((name, decode), mut bytes) in decoded() {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Garbled messages go in between the right ones at every step, and change nothing.
    #[test]
    fn a_server_that_is_sent_garbled_messages_opens_the_right_sum(
        at in any::<prop::sample::Index>(), value in 1u8.., sparse: bool,
    ) {
        let garble = |mut bytes: Vec<u8>| {
            let at = at.index(bytes.len());
            bytes[at] ^= value;
            bytes
        };
        let cohort = if sparse { small_graph(7, 4) } else { cohort(3, 1) };
        let (keyed, mut server) = cohort.keyed(1);
        let (_, shares, _) = cohort.shared(1);
        if let Ok(shares) = Shares::from_bytes(&garble(shares[0].to_bytes())) {
            prop_assert!(server.add_shares(shares).is_err());
        }
        let mut masked = Vec::new();
        for (i, keyed) in keyed.into_iter().enumerate() {
            let (state, update) = cohort.mask(keyed, i);
            if let Ok(report) = Report::from_bytes(&garble(update.report.to_bytes())) {
                prop_assert!(server.add_masked(report, &update.packed).is_err());
            }
            let garbled = garble(update.packed.clone());
            prop_assert!(server.add_masked(update.report.clone(), &garbled).is_err());
            server.add_masked(update.report, &update.packed).unwrap();
            masked.push(state);
        }
        let survivors = server.fix_survivors().unwrap();
        let mut signed = Vec::new();
        for (state, key) in masked.into_iter().zip(&cohort.keys) {
            let (state, signature) = state.sign(&survivors, 3, key).unwrap();
            signed.push(state);
            let Some(signature) = signature else { continue };
            if let Ok(garbled) = SurvivorSignature::from_bytes(&garble(signature.to_bytes())) {
                prop_assert!(server.add_signature(garbled).is_err());
            }
            server.add_signature(signature).unwrap();
        }
        let signatures = server.unmask_request().unwrap();
        for (state, key) in signed.into_iter().zip(&cohort.keys) {
            let (_, reveal) = state.reveal(&signatures, key).unwrap();
            if let Ok(garbled) = Reveal::from_bytes(&garble(reveal.to_bytes())) {
                prop_assert!(server.add_reveal(garbled).is_err());
            }
            server.add_reveal(reveal).unwrap();
        }
        let (sum, _) = server.open().unwrap();
        let all: Vec<usize> = (0..cohort.n()).collect();
        prop_assert_eq!(sum.values(), cohort.oracle(&all));
    }
}
