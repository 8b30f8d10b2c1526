//! What sequences remember between their steps, within a bound of memory.
//!
//! A memory is taken out while its step runs and put back one step on, or as it was. When there is too much of it, the site
//! that holds most loses the sequence that it used longest ago; the site finds out by `unknown_sequence` and sends its kept
//! steps again. Nothing is ever written anywhere else. No clock and no engine here. Start at [`Sequences`].

use std::collections::BTreeMap;

use crate::batcher::{Micros, SequenceId, Site};

/// What a sequence costs beside its tensors.
const OVERHEAD_BYTES: usize = 512;

/// Memories of type `S`, by sequence.
pub struct Sequences<S> {
    bytes_max: usize,
    site_bytes_max: usize,
    all: BTreeMap<SequenceId, Memory<S>>,
    sites: BTreeMap<Site, usize>,
    bytes: usize,
    evicted: u64,
}

struct Memory<S> {
    /// `None` while a step runs.
    states: Option<S>,
    step: u32,
    bytes: usize,
    used: Micros,
}

/// What a step begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin<S> {
    /// A sequence's first step: nothing yet.
    Fresh,
    /// The memory after the steps before.
    Kept(S),
}

/// Why a step cannot begin: the step that the memory is at, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown(pub Option<u32>);

impl<S> Sequences<S> {
    /// Nothing yet; bytes of all sites together and of one.
    #[must_use]
    pub fn new(bytes_max: usize, site_bytes_max: usize) -> Self {
        let (all, sites) = (BTreeMap::new(), BTreeMap::new());
        Self { bytes_max, site_bytes_max, all, sites, bytes: 0, evicted: 0 }
    }

    /// Begins a step: takes the memory out. Step 0 starts a sequence anew, whatever there was.
    ///
    /// # Errors
    /// [`Unknown`]; what is remembered stays.
    pub fn begin(&mut self, id: &SequenceId, step: u32) -> Result<Begin<S>, Unknown> {
        if step == 0 {
            self.forget(id);
            return Ok(Begin::Fresh);
        }
        let memory = self.all.get_mut(id).ok_or(Unknown(None))?;
        if memory.step != step {
            return Err(Unknown(Some(memory.step)));
        }
        memory.states.take().map(Begin::Kept).ok_or(Unknown(None))
    }

    /// Puts a memory back after a step, or as it was. Makes room by forgetting others.
    ///
    /// # Errors
    /// The bytes that one sequence may have, if this one has more: it is forgotten.
    pub fn keep(
        &mut self,
        now: Micros,
        id: &SequenceId,
        (states, step, bytes): (S, u32, usize),
    ) -> Result<(), usize> {
        self.forget(id);
        let bytes = bytes.saturating_add(OVERHEAD_BYTES);
        let most = self.bytes_max.min(self.site_bytes_max);
        if bytes > most {
            return Err(most);
        }
        while self.bytes + bytes > self.bytes_max || self.of(&id.site) + bytes > self.site_bytes_max
        {
            let own = self.of(&id.site) + bytes > self.site_bytes_max;
            let Some(victim) = self.victim(own.then_some(&id.site)) else { return Err(most) };
            self.forget(&victim);
            self.evicted += 1;
        }
        self.bytes += bytes;
        *self.sites.entry(id.site.clone()).or_insert(0) += bytes;
        self.all.insert(id.clone(), Memory { states: Some(states), step, bytes, used: now });
        Ok(())
    }

    /// Forgets a sequence.
    pub fn forget(&mut self, id: &SequenceId) {
        let Some(memory) = self.all.remove(id) else { return };
        self.bytes -= memory.bytes;
        if let Some(own) = self.sites.get_mut(&id.site) {
            *own -= memory.bytes;
            if *own == 0 {
                self.sites.remove(&id.site);
            }
        }
    }

    /// Forgets those of other versions than these, and those that were not used since.
    pub fn retain(&mut self, since: Micros, versions: impl Fn(&[u8; 32]) -> bool) {
        let over = |(id, memory): &(&SequenceId, &Memory<S>)| {
            memory.states.is_some() && (memory.used < since || !versions(&id.range.version))
        };
        let over: Vec<_> = self.all.iter().filter(over).map(|(id, _)| id.clone()).collect();
        over.iter().for_each(|id| self.forget(id));
    }

    /// Sequences that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Bytes of all.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many had to make room since the start.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn of(&self, site: &Site) -> usize {
        self.sites.get(site).copied().unwrap_or(0)
    }

    /// Of a site, else of the one that holds most, the sequence that was used longest ago and does not run.
    fn victim(&self, site: Option<&Site>) -> Option<SequenceId> {
        let idle = self.all.iter().filter(|(_, memory)| memory.states.is_some());
        let own = idle.filter(|(id, _)| site.is_none_or(|site| *site == id.site));
        let rank = |(id, memory): &(&SequenceId, &Memory<S>)| {
            (std::cmp::Reverse(self.of(&id.site)), memory.used)
        };
        own.min_by_key(rank).map(|(id, _)| id.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batcher::Nodes;
    use proptest::prelude::*;

    const KB: usize = 1000 - OVERHEAD_BYTES;

    fn id(site: &str, number: u64) -> SequenceId {
        SequenceId { site: site.into(), range: Nodes { version: [1; 32], from: 1, to: 2 }, number }
    }

    #[test]
    fn a_memory_goes_from_step_to_step_and_is_never_in_two_hands() {
        let mut all = Sequences::new(10_000, 10_000);
        let a = id("a", 1);
        assert_eq!(all.begin(&a, 1), Err(Unknown(None)));
        assert_eq!(all.begin(&a, 0), Ok(Begin::Fresh));
        assert!(all.keep(1, &a, ("one", 1, KB)).is_ok());
        assert_eq!(all.begin(&a, 2), Err(Unknown(Some(1))));
        assert_eq!(all.begin(&a, 1), Ok(Begin::Kept("one")));
        assert_eq!(all.begin(&a, 1), Err(Unknown(None)), "it runs");
        assert!(all.keep(2, &a, ("one", 1, KB)).is_ok(), "as it was, after an error");
        assert_eq!(all.begin(&a, 1), Ok(Begin::Kept("one")));
        assert!(all.keep(3, &a, ("two", 2, 2 * KB)).is_ok());
        assert_eq!(all.begin(&a, 0), Ok(Begin::Fresh), "step 0 starts anew");
        assert_eq!((all.bytes(), all.len()), (0, 0));
    }

    #[test]
    fn the_site_that_holds_most_makes_room_with_its_oldest() {
        let mut all = Sequences::new(3_000, 2_500);
        for (at, (site, number)) in [("a", 1), ("a", 2), ("b", 1)].into_iter().enumerate() {
            assert!(all.keep(at as u64, &id(site, number), ((), 1, KB)).is_ok());
        }
        assert!(all.keep(9, &id("c", 1), ((), 1, KB)).is_ok());
        assert_eq!(all.begin(&id("a", 1), 1), Err(Unknown(None)));
        assert_eq!(all.begin(&id("a", 2), 1), Ok(Begin::Kept(())), "and not the one in use");
        assert!(all.begin(&id("b", 1), 1).is_ok() && all.begin(&id("c", 1), 1).is_ok());
        assert_eq!(all.keep(9, &id("d", 1), ((), 1, KB)), Err(2_500), "all others run");
        assert_eq!(all.keep(9, &id("e", 1), ((), 1, 9_000)), Err(2_500), "never");
        assert_eq!(all.evicted(), 1);
    }

    #[test]
    fn what_nobody_uses_and_versions_that_are_gone_are_forgotten() {
        let mut all = Sequences::new(9_000, 9_000);
        for (used, number) in [(1, 1), (5, 2), (9, 3)] {
            assert!(all.keep(used, &id("a", number), ((), 1, KB)).is_ok());
        }
        all.retain(5, |_| true);
        assert_eq!(all.len(), 2);
        assert!(all.begin(&id("a", 3), 1).is_ok());
        all.retain(0, |version| *version != [1; 32]);
        assert_eq!(all.len(), 1, "one runs");
    }

    proptest! {
        #[test]
        fn the_bound_is_kept_and_bytes_add_up(
            steps in prop::collection::vec((0u64..3, 0u64..4, 0usize..900, any::<bool>()), 0..80)
        ) {
            let mut all: Sequences<()> = Sequences::new(5_000, 3_000);
            for (now, (site, number, bytes, end)) in steps.into_iter().enumerate() {
                let id = id(&site.to_string(), number);
                let step = all.all.get(&id).filter(|m| m.states.is_some()).map_or(0, |m| m.step);
                if all.begin(&id, step).is_ok() && end {
                    let _ = all.keep(now as u64, &id, ((), step + 1, bytes));
                }
                prop_assert!(all.bytes() <= 5_000);
                prop_assert!(all.sites.values().all(|bytes| *bytes <= 3_000));
                prop_assert_eq!(all.all.values().map(|m| m.bytes).sum::<usize>(), all.bytes());
                prop_assert_eq!(all.sites.values().sum::<usize>(), all.bytes());
            }
        }
    }
}
