//! What the phases that wait for everybody do alike: until when they wait, and when it is hopeless.
//!
//! Deliberately not what an answer says; that is each phase's own. Start at [`Answers::wait`].

use std::collections::BTreeMap;

use koinon_aggregation::planted::{Weakness, weak};
use koinon_proto::{Millis, SiteId};
use serde::Serialize;

use super::Terms;
use crate::event::codes;

/// The answers that a phase waits for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Answers<T> {
    pub(crate) of: BTreeMap<SiteId, T>,
    /// When there were enough.
    pub(crate) quorum_ms: Option<Millis>,
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self { of: BTreeMap::new(), quorum_ms: None }
    }
}

/// What [`Answers::wait`] comes to.
pub(super) enum Wait {
    Until(Millis),
    Over,
    Hopeless(&'static str),
}

impl<T> Answers<T> {
    pub(super) fn add(&mut self, at_ms: Millis, need: usize, site: &SiteId, answer: T) -> bool {
        let new = self.of.insert(site.clone(), answer).is_none();
        if self.of.len() >= need {
            self.quorum_ms.get_or_insert(at_ms);
        }
        new
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.of.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.of.len()
    }

    /// How many may still answer, of `count` who were asked, as `asked` says: this is asked after every
    /// message, so that only those who declined are looked at one by one.
    pub(super) fn waiting(
        &self,
        declined: &BTreeMap<SiteId, String>,
        count: usize,
        asked: impl Fn(&SiteId) -> bool,
    ) -> usize {
        let gone = |site: &&SiteId| asked(site) && !self.of.contains_key(*site);
        count - self.of.len() - declined.keys().filter(gone).count()
    }

    /// Whether to go on waiting for so many sites: until all have answered, or `need` have and grace
    /// has passed, or the cutoff.
    pub(super) fn wait(&self, terms: &Terms, waiting: usize, need: usize, now: Millis) -> Wait {
        let cutoff_ms = terms.cutoff_ms();
        if self.of.len() + waiting < need {
            return Wait::Hopeless(codes::TOO_FEW);
        }
        if waiting == 0 {
            return Wait::Over;
        }
        let Some(quorum_ms) = self.quorum_ms else {
            let late = now >= cutoff_ms && !weak(Weakness::EndlessWait);
            return if late { Wait::Hopeless(codes::DEADLINE) } else { Wait::Until(cutoff_ms) };
        };
        let left_ms = cutoff_ms.saturating_sub(quorum_ms);
        let until_ms = quorum_ms.saturating_add(terms.grace_ms.min(left_ms / 4));
        if now >= until_ms && !weak(Weakness::EndlessWait) {
            Wait::Over
        } else {
            Wait::Until(until_ms)
        }
    }
}
