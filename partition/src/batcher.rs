//! Which requests run together: a queue without I/O that fills batches fairly.
//!
//! Requests of the same version and range, with boundaries of the same shapes, can share one call of the engine. A batch
//! takes turns between the sites that wait, so that a site with a thousand requests delays another's single one by at most
//! one batch. A batch leaves when it is full, or when its oldest request has waited [`Limits::wait_ms`]. Time is an argument;
//! the rows themselves are the caller's and are only moved. Start at [`Batcher`].

use std::collections::{BTreeMap, VecDeque};

use koinon_proto::Millis;

/// What makes requests alike enough to run together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Digest of the parameters' file.
    pub version: [u8; 32],
    /// First node to run.
    pub from: u32,
    /// Node before which to stop.
    pub to: u32,
}

/// Bounds of the queue and of one batch.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows in one batch, at least 1. A larger single request runs alone.
    pub batch_rows: usize,
    /// How long the first request of a batch may wait for company.
    pub wait_ms: Millis,
    /// Bytes of boundaries that wait, of all sites together.
    pub queue_bytes: usize,
    /// Bytes of boundaries of one site that wait.
    pub site_bytes: usize,
}

/// One request in the queue.
pub struct Item<T> {
    /// Whose it is.
    pub site: String,
    /// Rows in its boundary.
    pub rows: usize,
    /// Bytes it holds while it waits.
    pub bytes: usize,
    /// When its answer is of no more use; `None` = never.
    pub expires: Option<Millis>,
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

struct Lane<T> {
    /// Waiting requests of each site, oldest first.
    sites: BTreeMap<String, VecDeque<Item<T>>>,
    /// Whose turn it is.
    turns: VecDeque<String>,
    /// When the oldest request that may still be waiting came in.
    since: Millis,
}

/// The queue.
pub struct Batcher<T> {
    limits: Limits,
    lanes: BTreeMap<Key, Lane<T>>,
    bytes: usize,
    site_bytes: BTreeMap<String, usize>,
}

impl<T> Batcher<T> {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, lanes: BTreeMap::new(), bytes: 0, site_bytes: BTreeMap::new() }
    }

    /// Puts a request into the queue.
    ///
    /// # Errors
    /// [`Full`], with the request, which was not taken.
    pub fn push(&mut self, now: Millis, key: Key, item: Item<T>) -> Result<(), (Full, Item<T>)> {
        let own = self.site_bytes.get(&item.site).copied().unwrap_or(0);
        if own + item.bytes > self.limits.site_bytes {
            return Err((Full::Site, item));
        }
        if self.bytes + item.bytes > self.limits.queue_bytes {
            return Err((Full::Queue, item));
        }
        self.bytes += item.bytes;
        *self.site_bytes.entry(item.site.clone()).or_insert(0) += item.bytes;
        let lane = self.lanes.entry(key).or_insert_with(|| Lane {
            sites: BTreeMap::new(),
            turns: VecDeque::new(),
            since: now,
        });
        let queue = lane.sites.entry(item.site.clone()).or_default();
        if queue.is_empty() {
            lane.turns.push_back(item.site.clone());
        }
        queue.push_back(item);
        Ok(())
    }

    /// When the next batch is due even if nothing more comes; `None` when nothing waits.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.lanes.values().map(|l| l.since + self.limits.wait_ms).min()
    }

    /// The next batch that is full or due, or `None`. Expired requests come out in it too: the caller answers them.
    pub fn take(&mut self, now: Millis) -> Option<(Key, Vec<Item<T>>)> {
        let due = |lane: &Lane<T>| lane.since + self.limits.wait_ms <= now;
        let full = |lane: &Lane<T>| rows(lane) >= self.limits.batch_rows;
        // The lane that waits longest first: no version or cut starves another.
        let key = self
            .lanes
            .iter()
            .filter(|(_, lane)| due(lane) || full(lane))
            .min_by_key(|(_, lane)| lane.since)
            .map(|(key, _)| key.clone())?;
        let lane = self.lanes.get_mut(&key)?;
        let mut batch: Vec<Item<T>> = Vec::new();
        let mut room = self.limits.batch_rows;
        while let Some(site) = lane.turns.pop_front() {
            let Some(queue) = lane.sites.get_mut(&site) else { continue };
            let fits = queue.front().is_some_and(|i| i.rows <= room || batch.is_empty());
            if !fits {
                lane.turns.push_front(site);
                break;
            }
            let Some(item) = queue.pop_front() else { continue };
            room = room.saturating_sub(item.rows);
            batch.push(item);
            if queue.is_empty() {
                lane.sites.remove(&site);
            } else {
                lane.turns.push_back(site);
            }
        }
        lane.since = now;
        if lane.sites.is_empty() {
            self.lanes.remove(&key);
        }
        for item in &batch {
            self.release(&item.site, item.bytes);
        }
        Some((key, batch))
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn release(&mut self, site: &str, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(own) = self.site_bytes.get_mut(site) {
            *own = own.saturating_sub(bytes);
            if *own == 0 {
                self.site_bytes.remove(site);
            }
        }
    }
}

fn rows<T>(lane: &Lane<T>) -> usize {
    lane.sites.values().flatten().map(|i| i.rows).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { batch_rows: 4, wait_ms: 10, queue_bytes: 100, site_bytes: 60 };

    fn key(from: u32) -> Key {
        Key { version: [1; 32], from, to: 9 }
    }

    fn item(site: &str, rows: usize, payload: u32) -> Item<u32> {
        Item { site: site.into(), rows, bytes: 10, expires: None, payload }
    }

    #[test]
    fn a_batch_leaves_when_full_or_due() {
        let mut b = Batcher::new(LIMITS);
        assert!(b.push(0, key(1), item("a", 1, 1)).is_ok());
        assert!(b.take(9).is_none());
        assert_eq!(b.next_deadline(), Some(10));
        assert_eq!(b.take(10).unwrap().1.len(), 1);
        for n in 0..4 {
            assert!(b.push(20, key(1), item("a", 1, n)).is_ok());
        }
        assert_eq!(b.take(20).unwrap().1.len(), 4);
        assert_eq!(b.next_deadline(), None);
        assert_eq!(b.bytes(), 0);
    }

    #[test]
    fn a_busy_site_delays_another_by_one_batch_at_most() {
        let mut b = Batcher::new(LIMITS);
        for n in 0..6 {
            assert!(b.push(0, key(1), item("busy", 1, n)).is_ok());
        }
        assert!(b.push(0, key(1), item("small", 1, 99)).is_ok());
        let (_, batch) = b.take(0).unwrap();
        assert!(batch.iter().any(|i| i.site == "small"));
        assert_eq!(
            batch.iter().filter(|i| i.site == "busy").map(|i| i.payload).collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }

    #[test]
    fn cuts_and_versions_never_mix_and_none_starves() {
        let mut b = Batcher::new(LIMITS);
        assert!(b.push(0, key(1), item("a", 1, 1)).is_ok());
        assert!(b.push(1, key(2), item("a", 1, 2)).is_ok());
        assert_eq!(b.take(50).unwrap().0, key(1));
        assert_eq!(b.take(50).unwrap().0, key(2));
    }

    #[test]
    fn a_full_queue_says_whose_fault_it_is() {
        let mut b = Batcher::new(LIMITS);
        for n in 0..6 {
            assert!(b.push(0, key(1), item("a", 1, n)).is_ok());
        }
        assert_eq!(b.push(0, key(1), item("a", 1, 7)).err().unwrap().0, Full::Site);
        for n in 0..4 {
            assert!(b.push(0, key(1), item("b", 1, n)).is_ok());
        }
        assert_eq!(b.push(0, key(1), item("c", 1, 7)).err().unwrap().0, Full::Queue);
        assert_eq!(b.bytes(), 100);
        assert!(b.take(0).is_some(), "a full batch makes room");
        assert!(b.push(0, key(1), item("c", 1, 7)).is_ok());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_doubled_or_out_of_its_sites_order(
            pushes in prop::collection::vec((0u32..3, 0u32..4, 1usize..6), 0..60)
        ) {
            let mut b = Batcher::new(Limits { queue_bytes: 10_000, site_bytes: 10_000, ..LIMITS });
            for (n, (lane, site, rows)) in pushes.iter().enumerate() {
                let n = u32::try_from(n).unwrap();
                prop_assert!(b.push(u64::from(n), key(*lane), item(&site.to_string(), *rows, n)).is_ok());
            }
            let mut seen = Vec::new();
            let mut last: BTreeMap<(Key, String), u32> = BTreeMap::new();
            while let Some((k, batch)) = b.take(10_000 + seen.len() as u64 * 100) {
                prop_assert!(!batch.is_empty());
                let rows: usize = batch.iter().map(|i| i.rows).sum();
                prop_assert!(rows <= LIMITS.batch_rows || batch.len() == 1);
                for i in batch {
                    if let Some(before) = last.insert((k.clone(), i.site), i.payload) {
                        prop_assert!(before < i.payload);
                    }
                    seen.push(i.payload);
                }
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..u32::try_from(pushes.len()).unwrap()).collect::<Vec<_>>());
            prop_assert_eq!(b.bytes(), 0);
        }
    }
}
