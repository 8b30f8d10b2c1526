//! Each attack that somebody might try, tried: a lying coordinator, lying sites, replays, crashes.

use koinon_aggregation::client::{Advertised, Keyed, Masked, Revealed, Shared, Signed, advertise};
use koinon_aggregation::{
    Bundle, CodecError, Delivery, OpenError, Rejection, Report, Reveal, ServerSession, SessionPlan,
    Shares, Signer, SurvivorSignature,
};

use crate::support::{Cohort, Unmasking, cohort, resign, rng};

fn code<T>(result: Result<T, Rejection>) -> &'static str {
    result.map(|_| ()).expect_err("must be rejected").code()
}

/// Site 0 is asked to share with these bundles.
fn share_with(cohort: &Cohort, bundles: impl FnOnce(&mut Vec<Bundle>)) -> Result<(), Rejection> {
    let (advertised, mut all) = cohort.advertised(1);
    bundles(&mut all);
    let state = advertised.into_iter().next().unwrap();
    state.share(&all.into(), &cohort.roster, 3, &cohort.keys[0], &mut rng(2)).map(|_| ())
}

#[test]
fn phantoms_and_strangers_count_towards_no_floor() {
    let real = cohort(4, 1);
    let crowd = cohort(16, 1);
    let (_, phantoms) = crowd.advertised(3);
    let rejected = share_with(&real, |b| b.extend_from_slice(&phantoms[4..]));
    assert_eq!(rejected, Err(Rejection::UnknownSite { site: "site-04".into() }));
    // The right names under keys that the coordinator made itself.
    let mut forged = cohort(4, 1);
    forged.keys.reverse();
    let (_, forged) = forged.advertised(4);
    let rejected = share_with(&real, |b| b[1] = forged[1].clone());
    assert_eq!(rejected, Err(Rejection::BadSignature { site: "site-01".into(), what: "bundle" }));
}

#[test]
fn a_swapped_key_breaks_the_signature() {
    let cohort = cohort(4, 1);
    for at in [4 + 1 + 32 + 8, 4 + 1 + 32 + 8 + 32] {
        let rejected = share_with(&cohort, |b| {
            let mut bytes = b[2].to_bytes();
            bytes[at] ^= 1;
            b[2] = Bundle::from_bytes(&bytes).unwrap();
        });
        assert_eq!(code(rejected), "bad_signature");
    }
}

#[test]
fn repeated_disordered_and_missing_bundles_are_rejected() {
    let cohort = cohort(4, 1);
    assert_eq!(code(share_with(&cohort, |b| b[2] = b[1].clone())), "duplicate");
    assert_eq!(code(share_with(&cohort, |b| b.swap(1, 2))), "order");
    assert_eq!(code(share_with(&cohort, |b| drop(b.remove(0)))), "not_included");
    assert_eq!(code(share_with(&cohort, |b| b.truncate(2))), "too_few");
    assert_eq!(code(share_with(&cohort, Vec::clear)), "too_few");
    let other_own = cohort.advertised(77).1.swap_remove(0);
    assert_eq!(code(share_with(&cohort, |b| b[0] = other_own)), "not_included");
}

#[test]
fn one_site_under_two_names_counts_once() {
    let mut cohort = cohort(4, 1);
    cohort.keys[2] = cohort.keys[1].clone();
    cohort.roster.insert("site-02".into(), cohort.keys[1].public());
    assert_eq!(share_with(&cohort, |_| ()), Err(Rejection::Duplicate { site: "site-02".into() }));
}

#[test]
fn more_than_the_plan_or_the_protocol_carries_is_rejected() {
    let crowd = cohort(65, 1);
    assert_eq!(code(share_with(&crowd, |_| ())), "too_many");
}

#[test]
fn a_key_of_small_order_is_rejected() {
    let cohort = cohort(4, 1);
    let rejected = share_with(&cohort, |b| {
        let mut bytes = b[3].to_bytes();
        let keys = bytes.len() - 64 - 32;
        bytes[keys..keys + 32].fill(0);
        resign(&mut bytes, "koinon/1/sign/bundle", &cohort.keys[3]);
        b[3] = Bundle::from_bytes(&bytes).unwrap();
    });
    assert_eq!(rejected, Err(Rejection::BadKey { site: "site-03".into() }));
}

#[test]
fn floors_hold_at_every_step() {
    let cohort = cohort(5, 1);
    let (advertised, bundles) = cohort.advertised(1);
    let state = advertised.into_iter().next().unwrap();
    let (key, roster) = (&cohort.keys[0], &cohort.roster);
    assert_eq!(code(state.share(&bundles.into(), roster, 6, key, &mut rng(2))), "too_few");
    // Dealers: five participants, threshold four, three dealt.
    let (mut shared, _, server) = cohort.shared(1);
    let inbox = cohort.inbox(&server, 0);
    assert_eq!(code(shared.remove(0).receive(&inbox[..2])), "too_few");
    // Survivors: three of five, then four where this site's floor is five.
    for (survivors, floor) in [(&[0u16, 1, 2][..], 3), (&[0, 1, 2, 3], 5)] {
        let (mut masked, _) = cohort.masked(1, 0);
        assert_eq!(code(masked.remove(0).sign(survivors, floor, key)), "too_few");
    }
}

#[test]
fn a_plan_for_two_is_refused() {
    let cohort = cohort(3, 1);
    let plan = SessionPlan { n_min: 2, ..cohort.plan.clone() };
    let refused = advertise(plan.clone(), "site-00", &cohort.keys[0], &mut rng(1));
    assert_eq!(code(refused), "bad_plan");
    assert_eq!(code(ServerSession::new(plan)), "bad_plan");
}

#[test]
fn a_site_told_another_context_is_found_before_anything_is_shared() {
    let cohort = cohort(4, 1);
    let mut context = cohort.plan.context;
    context[31] ^= 1;
    let plan = SessionPlan { context, ..cohort.plan.clone() };
    let (told_otherwise, bundle) =
        advertise(plan, "site-02", &cohort.keys[2], &mut rng(5)).unwrap();
    let expected = Err(Rejection::WrongSession { site: "site-02".into(), what: "bundle" });
    assert_eq!(share_with(&cohort, |b| b[2] = bundle.clone()), expected);
    let (_, bundles) = cohort.advertised(1);
    let (roster, key) = (&cohort.roster, &cohort.keys[2]);
    let rejected = told_otherwise.share(&bundles.into(), roster, 3, key, &mut rng(6));
    assert_eq!(code(rejected), "wrong_session");
}

#[test]
fn nothing_of_another_session_is_accepted() {
    let (now, before) = (cohort(4, 2), cohort(4, 1));
    let (_, old_bundles) = before.advertised(1);
    assert_eq!(code(share_with(&now, |b| b[1] = old_bundles[1].clone())), "wrong_session");
    let (mut shared, shares, mut server) = now.shared(1);
    let (_, old_shares, old_server) = before.shared(1);
    assert_eq!(code(server.add_shares(old_shares[1].clone())), "wrong_session");
    let mut inbox = now.inbox(&server, 0);
    inbox[0] = before.inbox(&old_server, 0)[0].clone();
    assert_eq!(code(shared.remove(0).receive(&inbox)), "wrong_session");
    // An old ciphertext under this session's signed part: an erasure with the dealer's name.
    let mut inbox = now.inbox(&server, 1);
    let mut bytes = inbox[0].to_bytes();
    let old = before.inbox(&old_server, 1)[0].to_bytes();
    let sealed = bytes.len() - 112;
    bytes[sealed..].copy_from_slice(&old[sealed..]);
    inbox[0] = Delivery::from_bytes(&bytes).unwrap();
    let (_, erasures) = shared.remove(0).receive(&inbox).unwrap();
    assert_eq!((erasures.len(), erasures[0].site.as_str()), (1, "site-00"));
    assert_eq!(shares.len(), 4);
    // Masked updates, signatures and reveals.
    let (mut keyed, _) = before.keyed(1);
    let (_, update) = before.mask(keyed.remove(0), 0);
    assert_eq!(code(server.add_masked(update.report, &update.packed)), "wrong_session");
    let old = before.signed(1, 1);
    let Unmasking { mut signed, mut server, .. } = now.signed(1, 1);
    assert_eq!(code(server.add_signature(old.signatures[0].clone())), "wrong_session");
    let rejected = signed.remove(0).reveal(&old.signatures, &now.keys[0]);
    assert_eq!(code(rejected), "wrong_session");
    let (_, old_reveal) =
        old.signed.into_iter().next().unwrap().reveal(&old.signatures, &before.keys[0]).unwrap();
    assert_eq!(code(server.add_reveal(old_reveal)), "wrong_session");
}

#[test]
fn an_older_version_is_not_spoken() {
    let cohort = cohort(3, 1);
    let (_, bundles) = cohort.advertised(1);
    let mut bytes = bundles[0].to_bytes();
    bytes[..4].fill(0);
    resign(&mut bytes, "koinon/1/sign/bundle", &cohort.keys[0]);
    assert_eq!(Bundle::from_bytes(&bytes), Err(CodecError::Version(0)));
}

#[test]
fn a_site_signs_one_set_and_answers_one_set_ever() {
    let cohort = cohort(5, 1);
    let Unmasking { mut signed, survivors, signatures, .. } = cohort.signed(1, 0);
    let smaller = [0, 1, 2, 3];
    // After a restart too, and whoever else has signed: the coordinator's friends sign both sets.
    let state = Signed::from_secret_bytes(&signed.remove(0).to_secret_bytes()).unwrap();
    assert_eq!(state.signature(&smaller), Err(Rejection::DifferentSet));
    assert_eq!(state.signature(&survivors).unwrap().as_ref(), Some(&signatures[0]));
    let (masked, _) = cohort.masked(1, 0);
    let second: Vec<SurvivorSignature> = masked
        .into_iter()
        .zip(&cohort.keys)
        .take(4)
        .map(|(state, key)| state.sign(&smaller, 3, key).unwrap().1.unwrap())
        .collect();
    let bytes = state.to_secret_bytes();
    assert_eq!(code(state.reveal(&second, &cohort.keys[0])), "different_set");
    let state = Signed::from_secret_bytes(&bytes).unwrap();
    let (revealed, reveal) = state.reveal(&signatures, &cohort.keys[0]).unwrap();
    // The reply was lost: the same bytes again, also after a restart; nothing else.
    let revealed = Revealed::from_secret_bytes(&revealed.to_secret_bytes()).unwrap();
    assert_eq!(revealed.reveal(&survivors).unwrap().to_bytes(), reveal.to_bytes());
    assert_eq!(revealed.reveal(&smaller), Err(Rejection::DifferentSet));
    assert_eq!(revealed.reveal(&[0, 0, 1, 2, 3, 4]), Err(Rejection::DifferentSet));
}

#[test]
fn no_second_quorum_exists_while_a_third_collude() {
    // Seven sites, quorum five: two colluders sign both sets, five honest sites one each.
    let honest = 5;
    let colluders = 2;
    let quorum = koinon_aggregation::threshold(honest + colluders);
    assert!((0..=honest).all(|first| {
        let second = honest - first;
        first + colluders < quorum || second + colluders < quorum
    }));
}

#[test]
fn a_quorum_is_of_different_survivors_with_valid_signatures() {
    let cohort = cohort(5, 1);
    let Unmasking { mut signed, signatures, .. } = cohort.signed(1, 0);
    let bytes = signed.remove(0).to_secret_bytes();
    let reveal = |signatures: &[SurvivorSignature]| {
        code(Signed::from_secret_bytes(&bytes).unwrap().reveal(signatures, &cohort.keys[0]))
    };
    assert_eq!(reveal(&signatures[..3]), "too_few");
    let repeated = [&signatures[..3], &signatures[..1]].concat();
    assert_eq!(reveal(&repeated), "duplicate");
    let mut forged = signatures[3].to_bytes();
    resign(&mut forged, "koinon/1/sign/survivors", &cohort.keys[4]);
    let forged = SurvivorSignature::from_bytes(&forged).unwrap();
    assert_eq!(reveal(&[&signatures[..3], &[forged]].concat()), "bad_signature");
    // A report's signature does not pass for a survivor's.
    let mut mislabelled = signatures[3].to_bytes();
    resign(&mut mislabelled, "koinon/1/sign/report", &cohort.keys[3]);
    let mislabelled = SurvivorSignature::from_bytes(&mislabelled).unwrap();
    assert_eq!(reveal(&[&signatures[..3], &[mislabelled]].concat()), "bad_signature");
}

#[test]
fn a_set_of_survivors_without_this_site_or_with_strangers_is_not_signed() {
    let cohort = cohort(5, 1);
    let sign = |survivors: &[u16]| {
        let (mut masked, _) = cohort.masked(1, 0);
        code(masked.remove(0).sign(survivors, 3, &cohort.keys[0]))
    };
    assert_eq!(sign(&[1, 2, 3, 4]), "not_included");
    assert_eq!(sign(&[0, 1, 2, 3, 5]), "unknown_index");
    assert_eq!(sign(&[0, 1, 2, 3, u16::MAX]), "unknown_index");
    assert_eq!(sign(&[0, 1, 2, 3, 3]), "duplicate");
    assert_eq!(sign(&[]), "not_included");
}

#[test]
fn states_are_of_one_step_only() {
    let cohort = cohort(3, 1);
    let (mut keyed, _) = cohort.keyed(1);
    let (masked, _) = cohort.mask(keyed.remove(0), 0);
    let bytes = masked.to_secret_bytes();
    assert!(Keyed::from_secret_bytes(&bytes).is_err(), "masking twice");
    assert!(Shared::from_secret_bytes(&bytes).is_err());
    assert!(Signed::from_secret_bytes(&bytes).is_err());
    assert!(Masked::from_secret_bytes(&bytes).is_ok());
    // The private keys are gone, and with them the digests of what was dealt: the state has become
    // shorter by them.
    assert_eq!(keyed.remove(0).to_secret_bytes().len() - bytes.len(), 2 * 32 + 4 * 32);
}

#[test]
fn a_restored_site_sends_identical_bytes() {
    let cohort = cohort(4, 1);
    let (mut keyed, _) = cohort.keyed(1);
    let state = keyed.remove(0);
    let twin = Keyed::from_secret_bytes(&state.to_secret_bytes()).unwrap();
    assert_eq!(cohort.mask(state, 0).1, cohort.mask(twin, 0).1);
}

/// Turns one byte of the share of `dealer` in a reveal, and signs the lie.
fn bad_share(cohort: &Cohort, reveal: &Reveal, dealer: usize) -> Reveal {
    let mut bytes = reveal.to_bytes();
    bytes[4 + 1 + 32 + 8 + 2 + 8 + dealer * 80] ^= 1;
    let key = &cohort.keys[usize::from(reveal.index())];
    resign(&mut bytes, "koinon/1/sign/reveal", key);
    Reveal::from_bytes(&bytes).unwrap()
}

#[test]
fn bad_shares_are_named_and_up_to_n_minus_t_do_no_harm() {
    // Seven sites, threshold five: two may lie.
    for liars in 0..=3 {
        let cohort = cohort(7, 1);
        let Unmasking { signed, mut server, signatures, .. } = cohort.signed(1, 0);
        for (i, (state, key)) in signed.into_iter().zip(&cohort.keys).enumerate() {
            let (_, reveal) = state.reveal(&signatures, key).unwrap();
            if i < liars {
                let erasures = server.add_reveal(bad_share(&cohort, &reveal, 4)).unwrap();
                assert_eq!(erasures.len(), 1);
                assert_eq!((erasures[0].dealer, &erasures[0].site), (4, &cohort.names[i]));
                assert_eq!(code(server.add_reveal(reveal)), "equivocation");
            } else {
                assert!(server.add_reveal(reveal).unwrap().is_empty());
            }
        }
        let all: Vec<usize> = (0..7).collect();
        match server.open() {
            Ok((sum, _)) if liars <= 2 => assert_eq!(sum.values(), cohort.oracle(&all)),
            Err(error) if liars == 3 => assert_eq!(
                error,
                OpenError::TooFewShares { site: "site-04".into(), have: 4, need: 5 }
            ),
            other => panic!("{liars} liars: {:?}", other.map(|(sum, _)| sum)),
        }
    }
}

#[test]
fn a_bad_sealed_share_is_an_erasure_and_the_sum_is_right() {
    let cohort = cohort(4, 1);
    let (shared, _, mut server) = cohort.shared(1);
    let mut masked = Vec::new();
    for (i, state) in shared.into_iter().enumerate() {
        let mut inbox = cohort.inbox(&server, i);
        if i == 2 {
            let mut bytes = inbox[1].to_bytes();
            *bytes.last_mut().unwrap() ^= 1;
            inbox[1] = Delivery::from_bytes(&bytes).unwrap();
        }
        let (state, erasures) = state.receive(&inbox).unwrap();
        let names: Vec<&str> = erasures.iter().map(|e| e.site.as_str()).collect();
        assert_eq!(names, if i == 2 { vec!["site-01"] } else { vec![] });
        let (state, update) = cohort.mask(state, i);
        server.add_masked(update.report, &update.packed).unwrap();
        masked.push(Masked::from_secret_bytes(&state.to_secret_bytes()).unwrap());
    }
    let survivors = server.fix_survivors().unwrap();
    let mut signed = Vec::new();
    for (state, key) in masked.into_iter().zip(&cohort.keys) {
        let (state, signature) = state.sign(&survivors, 3, key).unwrap();
        server.add_signature(signature.unwrap()).unwrap();
        signed.push(state);
    }
    let signatures = server.unmask_request().unwrap();
    for (state, key) in signed.into_iter().zip(&cohort.keys) {
        server.add_reveal(state.reveal(&signatures, key).unwrap().1).unwrap();
    }
    assert_eq!(server.open().unwrap().0.values(), cohort.oracle(&[0, 1, 2, 3]));
}

#[test]
fn a_false_dealer_is_named() {
    // Site 3 deals shares of another mask key than the one it offers, and is then lost.
    let cohort = cohort(4, 1);
    let (mut advertised, bundles) = cohort.advertised(1);
    let mut bytes = advertised.pop().unwrap().to_secret_bytes();
    *bytes.last_mut().unwrap() ^= 1;
    advertised.push(Advertised::from_secret_bytes(&bytes).unwrap());
    let (shared, _, mut server) = cohort.share(advertised, bundles, 1);
    let mut masked = Vec::new();
    for (i, state) in shared.into_iter().enumerate().take(3) {
        let (state, _) = state.receive(&cohort.inbox(&server, i)).unwrap();
        let (state, update) = cohort.mask(state, i);
        server.add_masked(update.report, &update.packed).unwrap();
        masked.push(state);
    }
    let survivors = server.fix_survivors().unwrap();
    let mut signed = Vec::new();
    for (state, key) in masked.into_iter().zip(&cohort.keys) {
        let (state, signature) = state.sign(&survivors, 3, key).unwrap();
        server.add_signature(signature.unwrap()).unwrap();
        signed.push(state);
    }
    let signatures = server.unmask_request().unwrap();
    for (state, key) in signed.into_iter().zip(&cohort.keys) {
        assert!(server.add_reveal(state.reveal(&signatures, key).unwrap().1).unwrap().is_empty());
    }
    let error = server.open().map(|_| ()).unwrap_err();
    assert_eq!(error, OpenError::FalseDealer { site: "site-03".into() });
}

#[test]
fn a_reporting_site_is_held_to_its_word() {
    let cohort = cohort(4, 1);
    let (keyed, mut server) = cohort.keyed(1);
    let updates: Vec<_> =
        keyed.into_iter().enumerate().map(|(i, keyed)| cohort.mask(keyed, i).1).collect();
    let [first, second] = [&updates[0], &updates[1]];
    let mut add = |report: &Report, packed: &[u8]| server.add_masked(report.clone(), packed);
    assert_eq!(code(add(&first.report, &second.packed)), "wrong_update");
    let length = first.packed.len();
    for packed in [&first.packed[..length - 1], &[&first.packed[..], &[0]].concat(), &[]] {
        assert_eq!(code(add(&first.report, packed)), "wrong_update");
    }
    let mut stolen = first.report.to_bytes();
    stolen[37] = 1;
    let stolen = Report::from_bytes(&stolen).unwrap();
    assert_eq!(code(add(&stolen, &first.packed)), "bad_signature");
    add(&first.report, &first.packed).unwrap();
    add(&first.report, &first.packed).unwrap();
    let mut other = first.report.to_bytes();
    other[39] ^= 1;
    resign(&mut other, "koinon/1/sign/report", &cohort.keys[0]);
    let other = Report::from_bytes(&other).unwrap();
    assert_eq!(code(add(&other, &first.packed)), "equivocation");
    assert_eq!(server.reported(), [0]);
}

#[test]
fn what_is_early_late_or_a_strangers_changes_nothing() {
    let cohort = cohort(4, 1);
    let (_, bundles) = cohort.advertised(1);
    let mut server = ServerSession::new(cohort.plan.clone()).unwrap();
    assert_eq!(code(server.fix_dealers()), "out_of_turn");
    assert_eq!(code(server.fix_survivors()), "out_of_turn");
    assert_eq!(code(server.unmask_request()), "out_of_turn");
    assert_eq!(server.open().map(|_| ()), Err(OpenError::OutOfTurn));
    let (_, shares, _) = cohort.shared(1);
    assert_eq!(code(server.add_shares(shares[0].clone())), "out_of_turn");
    for bundle in &bundles[..3] {
        server.add_bundle(bundle.clone(), &cohort.roster).unwrap();
        server.add_bundle(bundle.clone(), &cohort.roster).unwrap();
    }
    let second = cohort.advertised(9).1.swap_remove(0);
    let equivocation = Rejection::Equivocation { site: "site-00".into(), what: "bundle" };
    assert_eq!(server.add_bundle(second, &cohort.roster), Err(equivocation));
    let unknown = Rejection::UnknownSite { site: "site-03".into() };
    let all = ["site-00", "site-01", "site-02", "site-03"];
    assert_eq!(server.fix_participants(&all, &cohort.roster), Err(unknown));
    assert_eq!(code(server.fix_participants(&all[..2], &cohort.roster)), "too_few");
    let repeated = ["site-00", "site-00", "site-01"];
    assert_eq!(code(server.fix_participants(&repeated, &cohort.roster)), "duplicate");
    server.fix_participants(&all[..3], &cohort.roster).unwrap();
    assert_eq!(code(server.add_bundle(bundles[3].clone(), &cohort.roster)), "out_of_turn");
    assert_eq!(code(server.add_shares(shares[3].clone())), "unknown_index");
    assert_eq!(code(server.add_shares(shares[0].clone())), "wrong_session");
    assert_eq!(code(server.inbox_for(0)), "out_of_turn");
    let Unmasking { signed, mut server, signatures, .. } = cohort.signed(1, 1);
    assert_eq!(code(server.inbox_for(9)), "unknown_index");
    let (_, reveal) =
        signed.into_iter().next().unwrap().reveal(&signatures, &cohort.keys[0]).unwrap();
    let mut stranger = reveal.to_bytes();
    stranger[45] = 3;
    resign(&mut stranger, "koinon/1/sign/reveal", &cohort.keys[3]);
    let rejected = server.add_reveal(Reveal::from_bytes(&stranger).unwrap());
    assert_eq!(code(rejected), "unknown_index", "site 3 is lost and has nothing to reveal");
}

#[test]
fn tampered_shares_are_not_relayed() {
    let cohort = cohort(4, 1);
    let (_, shares, mut server) = cohort.shared(1);
    let mut bytes = shares[0].to_bytes();
    *bytes.last_mut().unwrap() ^= 1;
    let tampered = Shares::from_bytes(&bytes).unwrap();
    assert_eq!(code(server.add_shares(tampered)), "bad_signature");
    let (mut shared, _, server) = cohort.shared(1);
    let mut inbox = cohort.inbox(&server, 0);
    let mut bytes = inbox[0].to_bytes();
    bytes[60] ^= 1;
    inbox[0] = Delivery::from_bytes(&bytes).unwrap();
    assert_eq!(code(shared.remove(0).receive(&inbox)), "bad_signature");
    let repeated = [cohort.inbox(&server, 1), cohort.inbox(&server, 1)].concat();
    assert_eq!(code(shared.remove(0).receive(&repeated)), "duplicate");
}

#[test]
fn an_update_for_another_plan_is_not_masked() {
    let mut other = cohort(3, 1);
    let fields = other.plan.encoding.fields()[1..].to_vec();
    let encoding = koinon_aggregation::EncodingPlan::new(fields, Some(1.0), 64, 100).unwrap();
    other.plan = SessionPlan { encoding, ..other.plan };
    let cohort = cohort(3, 1);
    let (mut keyed, _) = cohort.keyed(1);
    let rejected = keyed.remove(0).mask(other.encoded(0, 1), &cohort.keys[0]);
    assert_eq!(code(rejected), "wrong_encoding");
}
