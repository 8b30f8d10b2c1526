//! Sums without masks: what the benchmark compares a private round with.
//!
//! Only with the feature `plain`, which `koinon-cli`'s feature of the same name switches on and no
//! shipped program has (`.ci/walls` looks). Without it [`is_plain`] is a constant `false`, [`topology`]
//! never gives one, and a plan whose graph has no edges is refused as always. With it a task whose name
//! begins with [`NAME`] runs the same code on a graph of degree 0: sites still say that they are
//! ready and report in signed letters, but there are no pairs and no masks, and since nobody deals,
//! signs or reveals, sharing and unmasking pass without a message. Start at [`is_plain`].

use crate::plan::SessionPlan;
use crate::topology::Topology;

/// What the name of a task begins with whose rounds are plain.
pub const NAME: &str = "plain-";

/// Whether nothing is masked in sessions of this plan.
#[cfg(not(feature = "plain"))]
#[must_use]
pub const fn is_plain(_: &SessionPlan) -> bool {
    false
}

/// Whether nothing is masked in sessions of this plan.
#[cfg(feature = "plain")]
#[must_use]
pub fn is_plain(plan: &SessionPlan) -> bool {
    has_no_graph(&plan.topology)
}

/// Whether nobody shares with anybody.
#[cfg(not(feature = "plain"))]
pub(crate) const fn has_no_graph(_: &Topology) -> bool {
    false
}

/// Whether nobody shares with anybody.
#[cfg(feature = "plain")]
pub(crate) fn has_no_graph(topology: &Topology) -> bool {
    matches!(topology, Topology::Sparse(sparse) if sparse.degree == 0)
}

/// Who shares with whom in rounds of a task of this name, if that is nobody.
#[cfg(not(feature = "plain"))]
#[must_use]
pub const fn topology(_: &str) -> Option<Topology> {
    None
}

/// Who shares with whom in rounds of a task of this name, if that is nobody.
#[cfg(feature = "plain")]
#[must_use]
pub fn topology(task: &str) -> Option<Topology> {
    use crate::parameters::{Assumptions, Sparse};
    let assumptions =
        Assumptions { colluding_percent: 0, dropout_percent: 0, sigma: 0, failure_bits: 0 };
    let sparse = Sparse { degree: 0, threshold: 0, committee: 0, quorum: 0, assumptions };
    task.starts_with(NAME).then_some(Topology::Sparse(sparse))
}
