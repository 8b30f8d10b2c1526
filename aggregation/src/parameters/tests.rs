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
