//! A11: bad, withheld and garbled shares, false dealers, garbage for updates. Up to the assumed fraction
//! the sum is right and the culprits are named; beyond it there is a failure with a reason.

use koinon_aggregation::client::Advertised;
use koinon_aggregation::planted::Weakness;
use koinon_aggregation::{OpenError, Reveal};
use koinon_coordinator::record::Change;

use super::center;
use super::sums::{Cohort, Unmasking, cohort, resign};
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 11,
    scripts: &[
        script!(
            bad_shares_revealed,
            "no sum, or an honest dealer blamed for it",
            Plant::Checks(&[Weakness::UncheckedShare])
        ),
        script!(
            shares_withheld,
            "no sum",
            Plant::World("one more withholds than the threshold tolerates")
        ),
        script!(
            shares_of_another_key,
            "no sum, and nobody to blame for it",
            Plant::Checks(&[Weakness::UncheckedShare])
        ),
        script!(
            garbage_for_an_update,
            "a round that ends without the others' sum",
            Plant::Checks(&[Weakness::AnyUpdate])
        ),
    ],
};

/// Two of seven, where the threshold is five, turn a byte of what they reveal of site 4.
fn bad_shares_revealed(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let cohort = cohort(7, 1);
    let Unmasking { signed, mut server, signatures, .. } = cohort.signed(1, 0);
    let mut named = Vec::new();
    for (i, (state, key)) in signed.into_iter().zip(&cohort.keys).enumerate() {
        let (_, reveal) = state.reveal(&signatures, key).unwrap();
        let reveal = if i < 2 { bad_share(&cohort, &reveal, 4) } else { reveal };
        let erasures = server.add_reveal(reveal).unwrap();
        named.extend(erasures.into_iter().map(|erasure| (erasure.dealer, erasure.site)));
    }
    match server.open() {
        Ok((sum, _)) => {
            let right = sum.values() == cohort.oracle(&(0..7).collect::<Vec<_>>());
            outcome.goal(!right, "a wrong sum");
        }
        Err(error) => outcome.goal(true, error.to_string()),
    }
    let liars: Vec<_> = cohort.names[..2].iter().map(|name| (4, name.clone())).collect();
    outcome.holds(named == liars, format!("{named:?}"));
    outcome
}

/// Turns one byte of the share of `dealer` in a reveal, and signs the lie.
fn bad_share(cohort: &Cohort, reveal: &Reveal, dealer: usize) -> Reveal {
    let mut bytes = reveal.to_bytes();
    bytes[4 + 1 + 32 + 8 + 2 + 8 + dealer * 80] ^= 1;
    let key = &cohort.keys[usize::from(reveal.index())];
    resign(&mut bytes, "koinon/1/sign/reveal", key);
    Reveal::from_bytes(&bytes).unwrap()
}

fn shares_withheld(planted: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let cohort = cohort(7, 1);
    let Unmasking { signed, mut server, signatures, .. } = cohort.signed(1, 0);
    let silent = if planted { 3 } else { 2 };
    for (state, key) in signed.into_iter().zip(&cohort.keys).take(7 - silent) {
        server.add_reveal(state.reveal(&signatures, key).unwrap().1).unwrap();
    }
    match server.open() {
        Ok((sum, _)) => {
            let right = sum.values() == cohort.oracle(&(0..7).collect::<Vec<_>>());
            outcome.goal(!right, "a wrong sum");
        }
        Err(error) => {
            let named = matches!(error, OpenError::TooFewShares { have: 4, need: 5, .. });
            outcome.holds(named, "the failure has its reason");
            outcome.goal(true, error.to_string());
        }
    }
    outcome
}

/// Site 3 deals shares of another mask key than the one it offers, and is then lost.
fn shares_of_another_key(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
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
        server.add_reveal(state.reveal(&signatures, key).unwrap().1).unwrap();
    }
    match server.open() {
        Ok(_) => outcome.goal(true, "a sum of which nobody knows what it is"),
        Err(error) => outcome.goal(error.site() != Some("site-03"), format!("{error}: not named")),
    }
    outcome
}

/// A site flips a bit of each of its uploads.
fn garbage_for_an_update(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut world = center::World::new(6, 1);
    world.site(4).garbles = true;
    let task = world.submit(&center::manifest()).unwrap();
    let over = center::within(60_000, &mut world, |world| center::ended(world, &task));
    outcome.holds(over, "the others hang");
    let status = world.core.status(&task).unwrap();
    let without = status.history.iter().all(|round| round.participants == 5);
    outcome
        .goal(status.state != "done" || !without, format!("{}: its garbage counts", status.state));
    let liar = world.name(4);
    let named = world.changes().any(|change| {
        matches!(change, Change::Declined { site, code, .. } if *site == liar && code == "bad_upload")
    });
    outcome.holds(named, "the liar is not named");
    outcome
}

#[test]
fn repelled() {
    super::repelled(&CLASS);
}

#[test]
fn planted_is_found() {
    super::planted_is_found(&CLASS);
}
