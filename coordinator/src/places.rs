//! Who may use what there is not enough of for everybody at once: so many places, and a queue.
//!
//! Places are given in order of asking, to those who are there. Who holds one, and does nothing with
//! it while others wait, loses it after a share of the time that is left; so does who is still not
//! done after a larger share. A silent or a trickling holder delays the others and stops nobody; who
//! lost a place waits again behind the others. Deliberately no idea of what a place is for, and no
//! clock. Start at [`Places::turn`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use koinon_proto::{Millis, SiteId};

/// Places and the queue for them.
pub(crate) struct Places {
    count: usize,
    held: BTreeMap<SiteId, Held>,
    waiting: VecDeque<SiteId>,
    /// Those in `waiting`.
    queued: BTreeSet<SiteId>,
}

struct Held {
    since_ms: Millis,
    active_ms: Millis,
}

/// What changed hands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Turned {
    /// Who lost its place, and waits again.
    pub(crate) lost: Vec<SiteId>,
    /// Who has a place now.
    pub(crate) given: Vec<SiteId>,
}

/// Shares of what is left of the time: without a sign of life, and in all.
const IDLE_SHARE: Millis = 16;
const HOLD_SHARE: Millis = 4;
/// A holder is given at least so long, and needs no longer for a sign of life.
const IDLE_MS_MIN: Millis = 250;
const IDLE_MS_MAX: Millis = 120_000;

impl Held {
    /// When the place is lost to somebody who waits, with everything to be over at `end_ms`.
    fn lapses_ms(&self, end_ms: Millis) -> Millis {
        let left_ms = |from_ms: Millis| end_ms.saturating_sub(from_ms);
        let idle_ms = (left_ms(self.active_ms) / IDLE_SHARE).clamp(IDLE_MS_MIN, IDLE_MS_MAX);
        let hold_ms = (left_ms(self.since_ms) / HOLD_SHARE).max(IDLE_MS_MIN);
        self.active_ms.saturating_add(idle_ms).min(self.since_ms.saturating_add(hold_ms))
    }
}

impl Places {
    /// So many places, at least one.
    pub(crate) fn new(count: usize) -> Self {
        let (held, waiting, queued) = (BTreeMap::new(), VecDeque::new(), BTreeSet::new());
        Self { count: count.max(1), held, waiting, queued }
    }

    /// A site wants a place; asking twice changes nothing.
    pub(crate) fn ask(&mut self, site: &SiteId) {
        if !self.held.contains_key(site) && self.queued.insert(site.clone()) {
            self.waiting.push_back(site.clone());
        }
    }

    pub(crate) fn holds(&self, site: &SiteId) -> bool {
        self.held.contains_key(site)
    }

    /// A holder did something with its place.
    pub(crate) fn active(&mut self, site: &SiteId, now: Millis) {
        if let Some(held) = self.held.get_mut(site) {
            held.active_ms = now;
        }
    }

    /// A site is done, or does not want a place any more.
    pub(crate) fn leave(&mut self, site: &SiteId) {
        self.held.remove(site);
        if self.queued.remove(site) {
            self.waiting.retain(|other| other != site);
        }
    }

    /// Gives places to those who wait and are there, also those that their holders have lost.
    pub(crate) fn turn(
        &mut self,
        now: Millis,
        end_ms: Millis,
        is_there: impl Fn(&SiteId) -> bool,
    ) -> Turned {
        let mut turned = Turned::default();
        while let Some(next) = self.waiting.iter().position(&is_there) {
            if self.held.len() >= self.count {
                let lapses =
                    |(site, held): (&SiteId, &Held)| (held.lapses_ms(end_ms), site.clone());
                let first = self.held.iter().map(lapses).min();
                let Some((_, site)) = first.filter(|(lapses_ms, _)| *lapses_ms <= now) else {
                    break;
                };
                self.held.remove(&site);
                self.ask(&site);
                turned.lost.push(site);
            }
            let Some(site) = self.waiting.remove(next) else { break };
            self.queued.remove(&site);
            self.held.insert(site.clone(), Held { since_ms: now, active_ms: now });
            turned.given.push(site);
        }
        turned
    }

    /// When the next holder loses its place, if somebody waits. A place that was lost before and is not
    /// taken waits for somebody who is there, not for a time.
    pub(crate) fn next_ms(&self, now: Millis, end_ms: Millis) -> Option<Millis> {
        if self.waiting.is_empty() {
            return None;
        }
        let lapses = self.held.values().map(|held| held.lapses_ms(end_ms));
        lapses.filter(|lapses_ms| *lapses_ms > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(n: usize) -> SiteId {
        SiteId::new(format!("site-{n}")).unwrap()
    }

    fn asked(count: usize, sites: usize) -> Places {
        let mut places = Places::new(count);
        (0..sites).for_each(|n| places.ask(&site(n)));
        places
    }

    #[test]
    fn places_are_given_in_order_of_asking_to_those_who_are_there() {
        let mut places = asked(2, 4);
        places.ask(&site(0));
        let given = places.turn(0, 16_000, |other| *other != site(1)).given;
        assert_eq!(given, [site(0), site(2)]);
        assert!(places.holds(&site(2)) && !places.holds(&site(1)));
        places.leave(&site(0));
        assert_eq!(places.turn(1, 16_000, |_| true).given, [site(1)]);
        places.leave(&site(3));
        places.leave(&site(1));
        assert_eq!(places.turn(2, 16_000, |_| true), Turned::default());
    }

    #[test]
    fn a_silent_holder_loses_its_place_to_one_who_waits_and_comes_again_later() {
        let mut places = asked(1, 2);
        assert_eq!(places.turn(0, 16_000, |_| true).given, [site(0)]);
        assert_eq!(places.next_ms(0, 16_000), Some(1_000));
        places.active(&site(0), 500);
        assert_eq!(places.turn(1_000, 16_000, |_| true), Turned::default());
        let nobody = places.turn(1_500, 16_000, |other| *other != site(1));
        assert_eq!(nobody, Turned::default(), "nobody is there who could use it");
        assert_eq!(places.next_ms(1_500, 16_000), None, "and no time changes that");
        let turned = places.turn(1_500, 16_000, |_| true);
        assert_eq!(turned, Turned { lost: vec![site(0)], given: vec![site(1)] });
        places.leave(&site(1));
        assert_eq!(places.turn(1_600, 16_000, |_| true).given, [site(0)]);
        assert_eq!(places.next_ms(1_600, 16_000), None, "nobody waits");
    }

    #[test]
    fn a_trickling_holder_is_not_for_ever() {
        let mut places = asked(1, 2);
        places.turn(0, 16_000, |_| true);
        for now in (0..4_000).step_by(100) {
            places.active(&site(0), now);
            assert_eq!(places.turn(now, 16_000, |_| true), Turned::default());
        }
        assert_eq!(places.turn(4_000, 16_000, |_| true).given, [site(1)]);
    }

    #[test]
    fn also_after_the_end_each_has_its_moment() {
        let mut places = asked(1, 3);
        assert_eq!(places.turn(9, 5, |_| true).given, [site(0)]);
        assert_eq!(places.next_ms(9, 5), Some(259));
        assert_eq!(places.turn(1_000_000, 5, |_| true).given, [site(1)]);
    }
}
