//! Selection: which sites are there, want the task, and are invited.
//!
//! This phase is before the journal: nothing is promised to anybody yet, and check-ins are volatile.
//! It lasts until everybody who could come is there, or enough are and grace has passed since. Who of
//! them is chosen is a function of the task's seed and the round (`cohort`). Start at
//! [`Selection::turn`].

use std::collections::BTreeSet;

use koinon_proto::task::CohortPlan;
use koinon_proto::{Millis, SiteId};

/// A task that waits for sites.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// Since when there have been enough, without a break.
    enough_since_ms: Option<Millis>,
}

/// Who is there.
pub(crate) struct Present {
    /// Sites that can be invited now.
    pub(crate) ready: BTreeSet<SiteId>,
    /// How many sites the roster has.
    pub(crate) members: usize,
}

/// What selection comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    /// Too few are there: nothing to do until that changes.
    TooFew,
    /// Enough are there; more may come until then.
    Wait(Millis),
    /// These are the candidates.
    Candidates(Vec<SiteId>),
}

impl Selection {
    /// What is to happen at `now`: asked whenever somebody comes or goes, and at the deadline.
    pub(crate) fn turn(
        &mut self,
        plan: CohortPlan,
        grace_ms: Millis,
        present: Present,
        now: Millis,
    ) -> Selected {
        let n_ready = present.ready.len();
        if n_ready < usize::from(plan.quorum) {
            self.enough_since_ms = None;
            return Selected::TooFew;
        }
        let since_ms = *self.enough_since_ms.get_or_insert(now);
        let until_ms = since_ms.saturating_add(grace_ms);
        let full = n_ready >= usize::from(plan.max).min(present.members);
        if !full && now < until_ms {
            return Selected::Wait(until_ms);
        }
        Selected::Candidates(present.ready.into_iter().collect())
    }

    /// Until when more may come.
    pub(crate) fn waits_until(&self, grace_ms: Millis) -> Option<Millis> {
        self.enough_since_ms.map(|since_ms| since_ms.saturating_add(grace_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: CohortPlan = CohortPlan::new(3, 6, 4);

    fn present(n: usize) -> Present {
        let site = |n| SiteId::new(format!("site-{n}")).unwrap();
        Present { ready: (0..n).map(site).collect(), members: 8 }
    }

    fn candidates(n: usize) -> Selected {
        Selected::Candidates(present(n).ready.into_iter().collect())
    }

    #[test]
    fn stragglers_are_waited_for_once_and_not_in_every_round() {
        let mut selection = Selection::default();
        assert_eq!(selection.turn(PLAN, 100, present(3), 10), Selected::TooFew);
        assert_eq!(selection.turn(PLAN, 100, present(4), 20), Selected::Wait(120));
        assert_eq!(selection.turn(PLAN, 100, present(5), 60), Selected::Wait(120));
        assert_eq!(selection.turn(PLAN, 100, present(5), 120), candidates(5));
        assert_eq!(selection.turn(PLAN, 100, present(5), 500), candidates(5), "the next round");
        assert_eq!(selection.turn(PLAN, 100, present(2), 600), Selected::TooFew);
        assert_eq!(selection.turn(PLAN, 100, present(4), 700), Selected::Wait(800));
    }

    #[test]
    fn a_full_house_starts_at_once() {
        assert_eq!(Selection::default().turn(PLAN, 100, present(6), 0), candidates(6));
        let small = Present { members: 4, ..present(4) };
        assert_eq!(Selection::default().turn(PLAN, 100, small, 0), candidates(4));
    }
}
