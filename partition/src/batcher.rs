//! Which requests run together: a queue without I/O that fills batches fairly.
//!
//! Requests of the same version and range, with boundaries of the same sides behind the first axis, can share one call of the
//! engine. Each site pays for what it ran: of those that wait, the one that had least comes first (start-time fair queueing,
//! Goyal et al. 1996), so a site with a thousand requests delays another's single one by no more than the batch that runs.
//! Two steps of one sequence never run together, and never out of order. There is no fixed wait: what is there when a thread is
//! free runs. Time is an argument; the tensors are the caller's and are only moved. Start at [`Batcher`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

use koinon_model::program::DType;

/// Microseconds since the server started.
pub type Micros = u64;

/// A site, by its certificate.
pub type Site = Arc<str>;

/// What makes requests alike enough to run together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The range of nodes.
    pub range: Nodes,
    /// For each tensor its type, and its sides behind the first axis.
    pub like: Vec<(DType, Vec<usize>)>,
}

/// A range of nodes of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nodes {
    /// Digest of the file of values.
    pub version: [u8; 32],
    /// First node to run.
    pub from: u32,
    /// Node before which to stop.
    pub to: u32,
}

/// A sequence of a site in a range of nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SequenceId {
    /// Whose it is.
    pub site: Site,
    /// Where.
    pub range: Nodes,
    /// The site's number for it.
    pub number: u64,
}

/// Bounds of the queue and of one batch.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows in one batch, at least 1. A larger single request runs alone.
    pub batch_rows: usize,
    /// Bytes that wait, of all sites together.
    pub queue_bytes: usize,
    /// Bytes of one site that wait.
    pub site_bytes: usize,
}

/// One request in the queue.
pub struct Item<T> {
    /// Whose it is.
    pub site: Site,
    /// Rows in its boundary.
    pub rows: usize,
    /// Bytes it holds while it waits.
    pub bytes: usize,
    /// What it is expected to cost, in microseconds of one thread.
    pub cost: Micros,
    /// When it came.
    pub since: Micros,
    /// When its answer is of no more use; `None` = never.
    pub expires: Option<Micros>,
    /// The sequence that it is a step of.
    pub sequence: Option<SequenceId>,
    /// The boundary, and where the answer goes.
    pub payload: T,
}

/// Why a request does not enter the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// This site has as much waiting as one site may.
    Site,
    /// All sites together have.
    Queue,
}

/// What came out of the queue together.
pub struct Batch<T> {
    /// What they share.
    pub key: Key,
    /// To run, no more rows than a batch may have.
    pub items: Vec<Item<T>>,
    /// Too late to run; the caller says so.
    pub late: Vec<Item<T>>,
}

struct Entry<T> {
    number: u64,
    item: Item<T>,
}

struct Queue<T> {
    waiting: BTreeMap<Key, VecDeque<Entry<T>>>,
    bytes: usize,
    cost: Micros,
    /// How much the site ran; the least comes first.
    turn: Micros,
}

/// The queue.
pub struct Batcher<T> {
    limits: Limits,
    sites: BTreeMap<Site, Queue<T>>,
    /// Sequences with a step that waits or runs, and their later steps.
    open: BTreeMap<SequenceId, VecDeque<(Key, Entry<T>)>>,
    bytes: usize,
    arrivals: u64,
    /// The turn of whoever came last: who was idle does not save up.
    clock: Micros,
}

impl<T> Batcher<T> {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let (sites, open) = (BTreeMap::new(), BTreeMap::new());
        Self { limits, sites, open, bytes: 0, arrivals: 0, clock: 0 }
    }

    /// Puts a request into the queue.
    ///
    /// # Errors
    /// [`Full`], with the payload, which was not taken.
    pub fn push(&mut self, key: Key, item: Item<T>) -> Result<(), (Full, T)> {
        let own = self.sites.get(&item.site).map_or(0, |queue| queue.bytes);
        if own.saturating_add(item.bytes) > self.limits.site_bytes {
            return Err((Full::Site, item.payload));
        }
        if self.bytes.saturating_add(item.bytes) > self.limits.queue_bytes {
            return Err((Full::Queue, item.payload));
        }
        self.bytes += item.bytes;
        self.arrivals += 1;
        let queue = self.sites.entry(item.site.clone()).or_insert_with(Queue::new);
        queue.bytes += item.bytes;
        queue.cost = queue.cost.saturating_add(item.cost);
        let entry = Entry { number: self.arrivals, item };
        if let Some(id) = &entry.item.sequence {
            if let Some(behind) = self.open.get_mut(id) {
                behind.push_back((key, entry));
                return Ok(());
            }
            self.open.insert(id.clone(), VecDeque::new());
        }
        self.ready(key, entry);
        Ok(())
    }

    /// The next batch: of the site that had least, its oldest request, and what can run with it. Requests that are late come
    /// out beside it; those that are `gone` (nobody waits for them) are dropped.
    pub fn take(&mut self, now: Micros, gone: impl Fn(&T) -> bool) -> Option<Batch<T>> {
        let key = self.first()?;
        let mut batch = Batch { key, items: Vec::new(), late: Vec::new() };
        let mut room = self.limits.batch_rows;
        let with = |(site, queue): (&Site, &Queue<T>)| {
            let first = queue.waiting.get(&batch.key)?.front()?;
            Some(Reverse((queue.turn, first.number, site.clone())))
        };
        let mut turns: BinaryHeap<_> = self.sites.iter().filter_map(with).collect();
        while let Some(Reverse((turn, _, site))) = turns.pop() {
            let Some(queue) = self.sites.get_mut(&site) else { continue };
            let Some(line) = queue.waiting.get_mut(&batch.key) else { continue };
            let Some(first) = line.front() else { continue };
            let over = gone(&first.item.payload);
            let late = first.item.expires.is_some_and(|at| at <= now);
            if !over && !late && first.item.rows > room && !batch.items.is_empty() {
                continue; // another's smaller one may still fit
            }
            let Some(Entry { item, .. }) = line.pop_front() else { continue };
            if over || late {
                // Nothing was run, so nothing is paid.
            } else {
                self.clock = self.clock.max(turn);
                queue.turn = turn.saturating_add(item.cost.max(1));
            }
            if let Some(next) = line.front() {
                turns.push(Reverse((queue.turn, next.number, site)));
            } else {
                queue.waiting.remove(&batch.key);
            }
            self.release(&item);
            if over || late {
                item.sequence.iter().for_each(|id| self.finished(id));
                batch.late.extend((!over).then_some(item));
            } else {
                room = room.saturating_sub(item.rows);
                batch.items.push(item);
            }
        }
        let clock = self.clock;
        self.sites.retain(|_, queue| queue.bytes > 0 || queue.cost > 0 || queue.turn > clock);
        Some(batch)
    }

    /// A sequence's step was answered, or will not be: its next one may run.
    pub fn finished(&mut self, id: &SequenceId) {
        let Some(behind) = self.open.get_mut(id) else { return };
        match behind.pop_front() {
            Some((key, entry)) => self.ready(key, entry),
            None => {
                self.open.remove(id);
            }
        }
    }

    /// How long a request of a site would wait if one thread ran: what each other site may run before it, no more than the
    /// site has itself.
    #[must_use]
    pub fn ahead(&self, site: &str, cost: Micros) -> Micros {
        let own = self.sites.get(site).map_or(0, |queue| queue.cost).saturating_add(cost);
        let before = self.sites.values().map(|queue| queue.cost.min(own));
        before.fold(0, Micros::saturating_add)
    }

    /// The next batch's key, how many sites have a request for it, and how many have any.
    #[must_use]
    pub fn next(&self) -> Option<(Key, usize, usize)> {
        let key = self.first()?;
        let with = self.sites.values().filter(|queue| queue.waiting.contains_key(&key)).count();
        let any = self.sites.values().filter(|queue| !queue.waiting.is_empty()).count();
        Some((key, with, any))
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sites.values().all(|queue| queue.waiting.is_empty())
            && self.open.values().all(VecDeque::is_empty)
    }

    fn first(&self) -> Option<Key> {
        let oldest = |queue: &Queue<T>| {
            let fronts = queue.waiting.iter().filter_map(|(key, line)| Some((line.front()?, key)));
            fronts.map(|(first, key)| (first.number, key)).min().map(|(n, key)| (n, key.clone()))
        };
        let all = self.sites.values();
        let turns = all.filter_map(|queue| oldest(queue).map(|(n, key)| (queue.turn, n, key)));
        turns.min().map(|(_, _, key)| key)
    }

    fn ready(&mut self, key: Key, entry: Entry<T>) {
        let clock = self.clock;
        let queue = self.sites.entry(entry.item.site.clone()).or_insert_with(Queue::new);
        if queue.waiting.is_empty() {
            queue.turn = queue.turn.max(clock);
        }
        queue.waiting.entry(key).or_default().push_back(entry);
    }

    fn release(&mut self, item: &Item<T>) {
        self.bytes -= item.bytes;
        if let Some(queue) = self.sites.get_mut(&item.site) {
            queue.bytes -= item.bytes;
            queue.cost = queue.cost.saturating_sub(item.cost);
        }
    }

    /// Drops what nobody waits for any more.
    pub fn forget(&mut self, gone: impl Fn(&T) -> bool) {
        let mut dropped: Vec<Item<T>> = Vec::new();
        for queue in self.sites.values_mut() {
            for line in queue.waiting.values_mut() {
                let (over, stay) =
                    std::mem::take(line).into_iter().partition(|e| gone(&e.item.payload));
                *line = stay;
                let over: VecDeque<Entry<T>> = over;
                dropped.extend(over.into_iter().map(|entry| entry.item));
            }
            queue.waiting.retain(|_, line| !line.is_empty());
        }
        let mut later: Vec<Item<T>> = Vec::new();
        for behind in self.open.values_mut() {
            let (over, stay): (VecDeque<_>, _) =
                std::mem::take(behind).into_iter().partition(|(_, e)| gone(&e.item.payload));
            *behind = stay;
            later.extend(over.into_iter().map(|(_, entry)| entry.item));
        }
        dropped.iter().chain(&later).for_each(|item| self.release(item));
        let ended: BTreeSet<_> = dropped.into_iter().filter_map(|item| item.sequence).collect();
        ended.iter().for_each(|id| self.finished(id));
    }
}

impl<T> Queue<T> {
    fn new() -> Self {
        Self { waiting: BTreeMap::new(), bytes: 0, cost: 0, turn: 0 }
    }
}

#[cfg(test)]
mod tests;
