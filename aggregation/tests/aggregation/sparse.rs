//! Sessions on graphs: the sum against the integer oracle.

use crate::support::{Unmasking, WEAK, sparse_cohort};

#[test]
fn a_sparse_session_opens_the_oracles_sum() {
    for (n, n_lost) in [(40, 0), (40, 4), (80, 8)] {
        let cohort = sparse_cohort(n, 1, &WEAK);
        println!("{n}: {:?}", cohort.plan.topology);
        let Unmasking { signed, mut server, signatures, survivors } = cohort.signed(1, n_lost);
        for (state, key) in signed.into_iter().zip(&cohort.keys) {
            assert_eq!(server.add_reveal(state.reveal(&signatures, key).unwrap().1).unwrap(), []);
        }
        let survivors: Vec<usize> = survivors.into_iter().map(usize::from).collect();
        let (sum, _) = server.open().unwrap();
        assert_eq!(sum.values(), cohort.oracle(&survivors));
    }
}
