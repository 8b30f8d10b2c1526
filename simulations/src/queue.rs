//! What happens when, in virtual time.
//!
//! It is a priority queue with a total order: by time, and at equal times by the order in which
//! things were scheduled. It is not a clock: time moves only because something was taken out.
//!
//! Start at [`Queue::push`] and [`Queue::pop`].

use koinon_proto::Millis;
use std::collections::BTreeMap;

/// Events by due time, first scheduled first at equal times.
pub struct Queue<E> {
    events: BTreeMap<(Millis, u64), E>,
    scheduled: u64,
    now: Millis,
}

impl<E> Queue<E> {
    /// An empty queue at time `start_ms`.
    pub fn new(start_ms: Millis) -> Queue<E> {
        Queue { events: BTreeMap::new(), scheduled: 0, now: start_ms }
    }

    /// The time of the event taken last.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Schedules an event; one in the past happens now.
    pub fn push(&mut self, at_ms: Millis, event: E) {
        self.events.insert((at_ms.max(self.now), self.scheduled), event);
        self.scheduled += 1;
    }

    /// Takes the next event and moves time to it.
    pub fn pop(&mut self) -> Option<(Millis, E)> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some((at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_then_order_of_scheduling() {
        let mut queue = Queue::new(5);
        for (at, name) in [(20, "c"), (10, "a"), (20, "d"), (10, "b"), (1, "past")] {
            queue.push(at, name);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [(5, "past"), (10, "a"), (10, "b"), (20, "c"), (20, "d")]);
    }
}
