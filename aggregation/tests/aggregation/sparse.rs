//! Sessions on graphs of some size: losses at every step, and the bytes that it takes.

use koinon_aggregation::Topology;

use crate::case::{Case, Lost};
use crate::support::{WEAK, sparse_cohort};

#[test]
fn with_losses_at_every_step_the_sum_is_that_of_the_survivors() {
    for (n, seed) in [(65, 0), (130, 0o0707_0707), (300, u64::MAX - 8)] {
        let cohort = sparse_cohort(n, 1, &WEAK);
        let mut lost = vec![Lost::Never; n];
        for (step, share) in
            [(Lost::BeforeReporting, 40), (Lost::BeforeSigning, 25), (Lost::BeforeRevealing, 40)]
        {
            (step as usize..n).step_by(share).for_each(|i| lost[i] = step);
        }
        let mut case = Case::new(&cohort, &lost, seed);
        let (sum, summed) = case.run().unwrap();
        assert_eq!(case.refused, [""; 0]);
        let expected: Vec<usize> = (0..n).filter(|&i| lost[i] >= Lost::BeforeSigning).collect();
        assert_eq!(summed, expected);
        assert_eq!(sum.values(), cohort.oracle(&summed));
    }
}

#[test]
fn everybody_may_be_everybodys_neighbour() {
    let mut cohort = sparse_cohort(22, 1, &WEAK);
    let Topology::Sparse(sparse) = &mut cohort.plan.topology else { panic!("made sparse") };
    (sparse.degree, sparse.threshold) = (21, 15);
    let mut lost = [Lost::Never; 22];
    lost[3..7].fill(Lost::BeforeReporting);
    let (sum, summed) = Case::new(&cohort, &lost, 1).run().unwrap();
    assert_eq!(summed.len(), 18);
    assert_eq!(sum.values(), cohort.oracle(&summed));
}
