//! Any arrival order, any tolerated loss at every step, restarts: exactly the oracle's sum, or a
//! named reason.

use koinon_aggregation::{Sum, threshold};
use proptest::prelude::*;

use crate::case::{Case, Lost, Outcome, STEPS};
use crate::support::{Cohort, cohort, rng, small_graph};

/// A whole session; the error is the code of the reason it ended with.
fn run(cohort: &Cohort, lost: &[Lost], seed: u64) -> Outcome<Sum> {
    let mut case = Case::new(cohort, lost, seed);
    let (sum, summed) = case.run()?;
    assert_eq!(case.refused, [""; 0]);
    assert_eq!(sum.n_sites(), summed.len());
    Ok(sum)
}

/// What must come of it.
fn expected(cohort: &Cohort, lost: &[Lost]) -> Outcome<Vec<i64>> {
    let left =
        |step: Lost| -> Vec<usize> { (0..cohort.n()).filter(|&i| lost[i] >= step).collect() };
    let n = left(Lost::BeforeSharing).len();
    if n < 3 {
        return Err("too_few");
    }
    let t = threshold(n);
    for step in [Lost::BeforeReporting, Lost::BeforeSigning, Lost::BeforeRevealing] {
        if left(step).len() < t {
            return Err("too_few");
        }
    }
    if left(Lost::Never).len() < t {
        return Err("too_few_shares");
    }
    Ok(cohort.oracle(&left(Lost::BeforeSigning)))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_order_and_any_loss_give_the_sum_or_a_reason(
        lost in proptest::collection::vec(prop_oneof![
            2 => proptest::sample::select(STEPS.to_vec()),
            5 => Just(Lost::Never),
        ], sizes(3, 9)),
        seed: u32,
    ) {
        let cohort = cohort(lost.len(), 1);
        let got = run(&cohort, &lost, u64::from(seed)).map(|sum| sum.values().to_vec());
        prop_assert_eq!(got, expected(&cohort, &lost));
    }
}

/// The sizes of cohorts between `fewest` and the number for few cases; smaller for many.
fn sizes(fewest: usize, few_cases: usize) -> std::ops::RangeInclusive<usize> {
    let given = std::env::var_os("PROPTEST_CASES").is_some();
    fewest..=if given { fewest + 3 } else { few_cases }
}

/// More cases by the environment, as usual: PROPTEST_CASES=10000 takes about a minute.
fn cases() -> ProptestConfig {
    let given = std::env::var_os("PROPTEST_CASES").is_some();
    if given { ProptestConfig::default() } else { ProptestConfig::with_cases(48) }
}

proptest! {
    #![proptest_config(cases())]

    /// On a graph, a site may refuse a set that leaves it too few neighbours, and is lost then; what
    /// opens is right all the same, and where nobody is lost it opens.
    #[test]
    fn on_a_graph_any_order_and_any_loss_give_the_sum_or_a_reason(
        lost in proptest::collection::vec(prop_oneof![
            1 => proptest::sample::select(STEPS.to_vec()),
            14 => Just(Lost::Never),
        ], sizes(7, 13)),
        degree in proptest::sample::select(vec![4u16, 6]),
        seed: u32,
    ) {
        let cohort = small_graph(lost.len(), degree);
        let mut case = Case::new(&cohort, &lost, u64::from(seed));
        match case.run() {
            Ok((sum, summed)) => {
                let expected: Vec<usize> =
                    (0..cohort.n()).filter(|&i| lost[i] >= Lost::BeforeSigning).collect();
                prop_assert!(summed.iter().all(|i| expected.contains(i)));
                prop_assert_eq!(sum.values(), cohort.oracle(&summed));
                if case.refused.is_empty() {
                    prop_assert_eq!(summed, expected);
                }
            }
            Err(code) => {
                prop_assert!(lost.iter().any(|&lost| lost != Lost::Never), "{}", code);
                let named = ["too_few", "too_few_shares", "parameter_out_of_range"];
                prop_assert!(named.contains(&code), "{}", code);
            }
        }
        prop_assert!(case.refused.iter().all(|code| *code == "too_few"), "{:?}", case.refused);
    }
}

#[test]
fn the_largest_cohort_opens_with_a_third_lost() {
    let cohort = cohort(64, 1);
    let mut lost = [Lost::Never; 64];
    lost[3..24].fill(Lost::BeforeSigning);
    assert_eq!(64 - 21, threshold(64));
    let sum = run(&cohort, &lost, 9).unwrap();
    assert_eq!(sum.values(), expected(&cohort, &lost).unwrap());
    lost[24] = Lost::BeforeSigning;
    assert_eq!(run(&cohort, &lost, 9), Err("too_few"));
}

#[test]
fn masked_words_minus_the_encoded_are_uniform() {
    use koinon_aggregation::{Clipped, Encoded, EncodingPlan, Field, SessionPlan, UPDATE};
    // ⌈8191/4096 · 2^12⌉ · 4 = 32,764 < 2^15: words of 16 bits, which pack into two bytes each.
    let len = 40_000;
    let field =
        Field { name: UPDATE.into(), len, bound: 8191.0 / 4096.0, frac_bits: 12, weighted: false };
    let encoding = EncodingPlan::new(vec![field], None, 4, 1).unwrap();
    assert_eq!(encoding.bits(), 16);
    let mut cohort = cohort(3, 1);
    cohort.plan = SessionPlan { encoding: encoding.clone(), ..cohort.plan };
    let (keyed, _) = cohort.keyed(1);
    for (keyed, key) in keyed.into_iter().zip(&cohort.keys) {
        let clipped = Clipped::new(&encoding, vec![vec![1.0f32; len].into()], 1).unwrap();
        let (_, update) = keyed.mask(Encoded::new(clipped, &mut rng(2)), key).unwrap();
        let mut counts = [0u32; 256];
        for pair in update.packed[2..].chunks_exact(2) {
            let word = u16::from_le_bytes([pair[0], pair[1]]).wrapping_sub(4096);
            counts[usize::from(word >> 8)] += 1;
            counts[usize::from(word & 255)] += 1;
        }
        let expected = 2.0 * len as f64 / 256.0;
        let chi2: f64 = counts.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
        // 255 degrees of freedom: mean 255, standard deviation 22.6.
        assert!((140.0..390.0).contains(&chi2), "{chi2}");
    }
}
