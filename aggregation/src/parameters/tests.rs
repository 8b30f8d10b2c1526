//! The parameters against a table of known ones, against simpler sums, and under attack.

use super::*;

fn assume(colluding_percent: u8, dropout_percent: u8, sigma: u8) -> Assumptions {
    Assumptions { colluding_percent, dropout_percent, sigma, failure_bits: 20 }
}

/// σ = 40, completion fails at most 2^-20. Columns: per cent of colluders and of lost sites.
const COLUMNS: [(u8, u8); 5] = [(5, 5), (10, 10), (10, 20), (10, 30), (33, 10)];
/// Per n: degree and threshold, against a coordinator who follows the protocol and one who does not.
type Row = (usize, [(u16, u16); 5], [(u16, u16); 5]);
const TABLE: [Row; 3] = [
    (
        100,
        [(12, 6), (22, 11), (28, 11), (34, 11), (42, 32)],
        [(16, 11), (32, 22), (52, 32), (72, 42), (54, 44)],
    ),
    (
        1_000,
        [(30, 17), (48, 27), (66, 31), (88, 36), (102, 72)],
        [(52, 37), (96, 67), (194, 124), (414, 247), (218, 171)],
    ),
    (
        10_000,
        [(34, 20), (54, 31), (78, 37), (108, 44), (126, 88)],
        [(62, 44), (122, 85), (280, 179), (778, 465), (310, 242)],
    ),
];

#[test]
fn the_table_of_degrees_and_thresholds_is_met() {
    for (n, semi, malicious) in TABLE {
        for (column, (colluding, lost)) in COLUMNS.into_iter().enumerate() {
            let assumptions = assume(colluding, lost, 40);
            let found = semi_honest(n, &assumptions).unwrap();
            assert_eq!(found, semi[column], "{n} sites, {colluding}/{lost}, semi-honest");
            let cohort = [Cohort::new(n, &assumptions)];
            let found = neighbourhood(&cohort, n, Setting::Malicious).unwrap();
            assert_eq!(found, malicious[column], "{n} sites, {colluding}/{lost}, malicious");
        }
    }
}

#[test]
fn the_known_committees_are_met() {
    let committee = |n, sigma| {
        let found = sparse(n, &assume(10, 10, sigma)).unwrap();
        (found.quorum, found.committee)
    };
    assert_eq!(committee(1_000, 40), (93, 144));
    assert_eq!(committee(10_000, 40), (110, 170));
}

#[test]
fn at_sigma_80_the_graph_of_a_thousand_is_the_expected_one() {
    let found = sparse(1_000, &assume(10, 10, 80)).unwrap();
    assert_eq!((found.degree, found.threshold), (120, 87));
    assert_eq!(check(&found, 1_000), Ok(()));
    // A cut is as rare as everything else only by asking for more than t - k/2 on each arc.
    let on_arc = survivors_on_an_arc(&found, 1_000).unwrap();
    assert!((28..=32).contains(&on_arc), "{on_arc}");
}

/// One less of anything is refused, and by its name.
#[test]
fn the_parameters_are_the_smallest() {
    for (n, assumptions) in [
        (65, assume(10, 10, 40)),
        (100, assume(20, 10, 80)),
        (777, assume(10, 20, 80)),
        (1_000, assume(5, 5, 60)),
        (10_000, assume(10, 10, 80)),
    ] {
        let found = sparse(n, &assumptions).unwrap();
        assert_eq!(check(&found, n), Ok(()));
        assert!(completes(&found, n));
        let weaker = Sparse { threshold: found.threshold - 1, ..found };
        let refused = check(&weaker, n);
        assert!(
            matches!(refused, Err(ParameterError::TooWeak { what: "threshold", need, .. })
                if need == usize::from(found.threshold)),
            "{refused:?}"
        );
        let weaker = Sparse { quorum: found.quorum - 1, ..found };
        assert!(matches!(check(&weaker, n), Err(ParameterError::TooWeak { what: "quorum", .. })));
        // One neighbour pair less, with the threshold that is then safe, loses too many rounds.
        let degree = found.degree - 2;
        let cohort = Cohort::new(n, &assumptions);
        let excess = cohort.colluding_neighbours(degree.into(), 1);
        let threshold = (usize::from(degree) + excess).div_ceil(2);
        let fewer = Sparse { degree, threshold: narrow(threshold), ..found };
        assert!(threshold > usize::from(degree) || !completes(&fewer, n), "{n}: {fewer:?}");
    }
}

#[test]
fn no_set_of_neighbours_fits_in_twice_and_no_two_quorums() {
    let found = sparse(1_000, &assume(10, 10, 80)).unwrap();
    let Sparse { degree: k, threshold: t, committee: c, quorum: q, .. } = found;
    assert!(2 * t > k && t < k && 2 * q > c && q < c);
    // Both kinds of share of one site need 2t holders that differ but for the colluders.
    let cohort = Cohort::new(1_000, &found.assumptions);
    let most = cohort.colluding_neighbours(k.into(), 1) - 1;
    assert!(2 * usize::from(t) > usize::from(k) + most);
    assert!(most < usize::from(t), "colluders open nothing by themselves");
    let most = cohort.colluding_members(c.into(), 1) - 1;
    assert!(2 * usize::from(q) > usize::from(c) + most);
}

#[test]
fn a_range_of_sizes_holds_at_every_size() {
    for (sizes, assumptions) in [
        (900..=1_000, assume(10, 10, 80)),
        (150..=333, assume(7, 13, 40)),
        (64..=70, assume(5, 5, 80)),
    ] {
        let found = sparse_between(sizes.clone(), &assumptions).unwrap();
        for n in sizes.clone() {
            assert_eq!(check(&found, n), Ok(()), "{n} of {sizes:?}");
            assert!(completes(&found, n), "{n} of {sizes:?}");
        }
        let most = sparse(*sizes.end(), &assumptions).unwrap();
        assert!(found.degree >= most.degree && found.committee >= most.committee);
    }
}

#[test]
fn when_everybody_is_a_neighbour_there_is_no_arc_to_cut() {
    let assumptions = assume(10, 10, 80);
    let complete = Sparse { degree: 99, threshold: 70, committee: 40, quorum: 30, assumptions };
    assert_eq!(check(&complete, 100), Ok(()));
    assert_eq!(survivors_on_an_arc(&complete, 100), Ok(0));
    assert!(check(&complete, 101).is_err(), "99 is odd and not all others");
}

#[test]
fn impossible_parameters_are_refused_by_name() {
    let good = sparse(1_000, &assume(10, 10, 40)).unwrap();
    let code = |sparse: Sparse, n| check(&sparse, n).unwrap_err().code();
    for bad in [
        Sparse { degree: 0, ..good },
        Sparse { degree: 97, ..good },
        Sparse { degree: 1_000, ..good },
        Sparse { threshold: 0, ..good },
        Sparse { threshold: good.degree + 1, ..good },
        Sparse { committee: 0, ..good },
        Sparse { committee: 1_001, ..good },
        Sparse { quorum: 0, ..good },
        Sparse { quorum: good.committee + 1, ..good },
        Sparse { assumptions: assume(51, 10, 40), ..good },
        Sparse { assumptions: assume(10, 51, 40), ..good },
        Sparse { assumptions: assume(10, 10, 0), ..good },
        Sparse { assumptions: assume(10, 10, 129), ..good },
    ] {
        assert_eq!(code(bad, 1_000), "parameter_out_of_range", "{bad:?}");
    }
    assert_eq!(code(good, 2), "parameter_out_of_range");
    assert_eq!(code(good, 65_536), "parameter_out_of_range");
    assert_eq!(code(Sparse { threshold: 49, ..good }, 1_000), "parameters_too_weak");
    // Half of the threshold's own neighbours collude: nothing can be both safe and complete.
    let refused = sparse(1_000, &assume(50, 30, 40)).unwrap_err();
    assert_eq!(refused.code(), "parameters_unattainable");
    assert!(refused.to_string().contains("1000 sites"), "{refused}");
}

/// A coordinator may ask for more work than is needed, but not for far more; what is planned here is
/// never refused.
#[test]
fn far_too_many_neighbours_are_refused_and_planned_ones_never() {
    let assumptions = assume(10, 10, 80);
    let largest = sparse(16_384, &assumptions).unwrap();
    for (n, found) in [(1_000, sparse(1_000, &assumptions).unwrap()), (16_384, largest)] {
        let with = |degree: u16| {
            let threshold = degree / 4 * 3;
            check(&Sparse { degree, threshold, ..found }, n)
        };
        assert_eq!(with(2 * largest.degree), Ok(()), "{n}");
        for wasteful in [5 * largest.degree, 5 * largest.degree + 100] {
            let refused = with(wasteful & !1).unwrap_err();
            assert!(refused.to_string().contains("what is needed"), "{n}: {refused}");
        }
    }
    // Assumptions that nothing satisfies permit no more either.
    let hopeless = Sparse { degree: 2_050, threshold: 2_050, ..largest };
    let hopeless = Sparse { assumptions: assume(50, 50, 128), ..hopeless };
    assert_eq!(check(&hopeless, 16_384).unwrap_err().code(), "parameter_out_of_range");
    for (colluding, lost) in [(1, 1), (5, 5), (1, 30), (10, 10), (10, 30), (20, 10), (30, 5)] {
        for sizes in [65..=65, 70..=100, 300..=330, 990..=1_000, 9_990..=10_000, 500..=2_000] {
            for sigma in [40, 80] {
                let assumptions = assume(colluding, lost, sigma);
                let Ok(found) = sparse_between(sizes.clone(), &assumptions) else { continue };
                for n in [*sizes.start(), *sizes.end()] {
                    assert_eq!(check(&found, n), Ok(()), "{n}: {found:?}");
                }
            }
        }
    }
}

/// Another way to the same numbers: logarithms of factorials, as the formulas are usually written.
#[test]
fn the_tails_agree_with_logarithms_of_factorials() {
    let ln_factorial = |n: usize| libm::lgamma(tails::real(n) + 1.0);
    let ln_choose = |n: usize, k: usize| ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
    for (all, marked, drawn, least) in
        [(1_000, 100, 120, 54), (10_000, 1_000, 778, 152), (10_000, 3_300, 310, 174)]
    {
        let ln = |x: usize| {
            ln_choose(marked, x) + ln_choose(all - marked, drawn - x) - ln_choose(all, drawn)
        };
        let sum: f64 = (least..=drawn.min(marked)).map(|x| libm::exp(ln(x) - ln(least))).sum();
        let bits = -(ln(least) + libm::log(sum)) / std::f64::consts::LN_2;
        let tail = Draw { all, marked, drawn }.at_least(least);
        let floor = (0..).take_while(|&bits| tail.is_at_most_2_to_minus(bits)).last().unwrap();
        assert_eq!(f64::from(floor), bits.floor(), "{all} {marked} {drawn} {least}: {bits}");
    }
}
