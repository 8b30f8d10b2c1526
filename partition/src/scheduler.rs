//! What runs next: queue, sequences' memories and measured speeds under one roof, without I/O.
//!
//! A request that cannot be answered before its deadline is refused when it comes, by what is ahead of it and how fast such
//! requests ran. A request that is alone never waits; where several sites answered each other's pace, the next batch waits a
//! moment, no longer than a quarter of what it takes to run, for those that were in the last one. Time is an argument.
//! Start at [`Scheduler::push`] and [`Scheduler::take`].

use std::collections::BTreeMap;

use crate::batcher::{Batcher, Full, Item, Key, Limits, Micros, Nodes, SequenceId, Site};
use crate::sequences::{Begin, Sequences};

/// Weight of the newest measurement in a speed.
const NEWEST: f64 = 0.2;

/// A request that may wait.
pub struct Ask<T> {
    /// What it can share a batch with.
    pub key: Key,
    /// Whose it is.
    pub site: Site,
    /// Rows in its boundary.
    pub rows: usize,
    /// Bytes that it holds.
    pub bytes: usize,
    /// When its answer is of no more use.
    pub expires: Option<Micros>,
    /// Which step of which sequence it is.
    pub step: Option<Step>,
    /// The boundary, and where the answer goes.
    pub payload: T,
}

/// A step of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The site's number for the sequence.
    pub sequence: u64,
    /// Steps before it.
    pub step: u32,
    /// Whether the memory may go after it.
    pub last: bool,
}

/// Why a request may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This site has too much waiting.
    Site,
    /// All sites together have.
    Queue,
    /// It would be late: microseconds until it would be answered.
    Late(Micros),
}

/// Requests that run together, and those that do not run.
pub struct Work<T, S> {
    /// What they share.
    pub key: Key,
    /// To run.
    pub jobs: Vec<Job<T, S>>,
    /// Their deadline passed.
    pub late: Vec<T>,
    /// The memory is at another step than theirs: at that one, or absent.
    pub unknown: Vec<(T, Option<u32>)>,
}

/// One request that runs.
pub struct Job<T, S> {
    /// Whose it is.
    pub site: Site,
    /// Rows in its boundary.
    pub rows: usize,
    /// How long it waited.
    pub waited: Micros,
    /// Its sequence, step, and memory.
    pub step: Option<(SequenceId, Step, Begin<S>)>,
    /// The boundary, and where the answer goes.
    pub payload: T,
}

/// What a free thread shall do.
pub enum Next<T, S> {
    /// Nothing waits.
    Idle,
    /// Look again then.
    Wait(Micros),
    /// This.
    Work(Box<Work<T, S>>),
}

#[derive(Clone, Copy, Default)]
struct Speed {
    row_us: f64,
    batch_us: f64,
    /// Sites in the last batch, and when it ended.
    company: usize,
    ended: Micros,
}

/// See the module.
pub struct Scheduler<T, S> {
    batcher: Batcher<(Option<Step>, T)>,
    sequences: Sequences<S>,
    speeds: BTreeMap<Nodes, Speed>,
    /// What the batches that run are expected to take, one thread after another.
    running_us: Micros,
    running: usize,
    threads: usize,
    wait_us: Micros,
}

impl<T, S> Scheduler<T, S> {
    /// Nothing waits yet. A batch waits for company no longer than `wait_us`.
    #[must_use]
    pub fn new(limits: Limits, sequences: Sequences<S>, threads: usize, wait_us: Micros) -> Self {
        let (batcher, speeds) = (Batcher::new(limits), BTreeMap::new());
        let threads = threads.max(1);
        Self { batcher, sequences, speeds, running_us: 0, running: 0, threads, wait_us }
    }

    /// Takes a request in.
    ///
    /// # Errors
    /// [`Refusal`], with the request.
    pub fn push(&mut self, now: Micros, ask: Ask<T>) -> Result<(), (Refusal, T)> {
        let Ask { key, site, rows, bytes, expires, step, payload } = ask;
        let speed = self.speeds.get(&key.range).copied().unwrap_or_default();
        let cost = whole(speed.row_us * rows as f64);
        let idle = self.running == 0 && self.batcher.is_empty();
        let ahead = self.batcher.ahead(&site, cost).saturating_add(self.running_us);
        let until = (ahead / self.threads as Micros)
            .saturating_add(whole(speed.batch_us.max(speed.row_us * rows as f64)));
        // What was measured once may be wrong for ever: with nothing to do, measure again.
        if !idle && expires.is_some_and(|at| now.saturating_add(until) > at) {
            return Err((Refusal::Late(until), payload));
        }
        let range = key.range;
        let sequence = step.map(|s| SequenceId { site: site.clone(), range, number: s.sequence });
        let payload = (step, payload);
        let item = Item { site, rows, bytes, cost, since: now, expires, sequence, payload };
        self.batcher.push(key, item).map_err(|(full, (_, payload))| match full {
            Full::Site => (Refusal::Site, payload),
            Full::Queue => (Refusal::Queue, payload),
        })
    }

    /// What a free thread shall do now. Requests that nobody waits for any more are `gone`.
    pub fn take(&mut self, now: Micros, stopping: bool, gone: impl Fn(&T) -> bool) -> Next<T, S> {
        let Some((key, sites, waiting)) = self.batcher.next() else { return Next::Idle };
        let speed = self.speeds.get(&key.range).copied().unwrap_or_default();
        let until = speed.ended.saturating_add(self.wait_us.min(whole(speed.batch_us / 4.0)));
        if !stopping && sites == waiting && sites < speed.company && now < until {
            return Next::Wait(until);
        }
        let Some(batch) = self.batcher.take(now, |(_, payload)| gone(payload)) else {
            return Next::Idle;
        };
        let late = batch.late.into_iter().map(|item| item.payload.1).collect();
        let mut work = Work { key: batch.key, jobs: Vec::new(), late, unknown: Vec::new() };
        for item in batch.items {
            let (step, payload) = item.payload;
            let begun = match (item.sequence, step) {
                (Some(id), Some(step)) => match self.sequences.begin(&id, step.step) {
                    Ok(begin) => Some((id, step, begin)),
                    Err(unknown) => {
                        work.unknown.push((payload, unknown.0));
                        self.batcher.finished(&id);
                        continue;
                    }
                },
                _ => None,
            };
            let waited = now.saturating_sub(item.since);
            let (site, rows) = (item.site, item.rows);
            work.jobs.push(Job { site, rows, waited, step: begun, payload });
        }
        if !work.jobs.is_empty() {
            self.running += 1;
            self.running_us = self.running_us.saturating_add(self.expected(&work));
        }
        Next::Work(Box::new(work))
    }

    /// What a piece of work is expected to take.
    #[must_use]
    pub fn expected(&self, work: &Work<T, S>) -> Micros {
        let rows: usize = work.jobs.iter().map(|job| job.rows).sum();
        whole(self.speeds.get(&work.key.range).map_or(0.0, |speed| speed.row_us) * rows as f64)
    }

    /// Work ran for `took` microseconds, which were [`Scheduler::expected`] when it was taken.
    pub fn ran(
        &mut self,
        now: Micros,
        of: (&Key, usize, usize),
        (took, expected): (Micros, Micros),
    ) {
        let (key, rows, sites) = of;
        self.running = self.running.saturating_sub(1);
        self.running_us = self.running_us.saturating_sub(expected);
        let new = !self.speeds.contains_key(&key.range);
        let speed = self.speeds.entry(key.range).or_default();
        let weight = if new { 1.0 } else { NEWEST };
        speed.row_us += weight * (took as f64 / rows.max(1) as f64 - speed.row_us);
        speed.batch_us += weight * (took as f64 - speed.batch_us);
        (speed.company, speed.ended) = (sites, now);
    }

    /// A step ended: its memory goes on (`states`, the step that it is at, its bytes), or there is none to keep.
    ///
    /// # Errors
    /// The bytes that a sequence may have, if this one has more, or all the others run.
    pub fn ended(
        &mut self,
        now: Micros,
        id: &SequenceId,
        memory: Option<(S, u32, usize)>,
    ) -> Result<(), usize> {
        let kept = match memory {
            Some(memory) => self.sequences.keep(now, id, memory),
            None => {
                self.sequences.forget(id);
                Ok(())
            }
        };
        self.batcher.finished(id);
        kept
    }

    /// Drops requests that nobody waits for.
    pub fn forget(&mut self, gone: impl Fn(&T) -> bool) {
        self.batcher.forget(|(_, payload)| gone(payload));
    }

    /// Drops what belongs to versions that are served no more, and memories that nobody used since.
    pub fn retain(&mut self, since: Micros, versions: impl Fn(&[u8; 32]) -> bool) {
        self.sequences.retain(since, &versions);
        self.speeds.retain(|range, _| versions(&range.version));
    }

    /// Whether nothing waits and nothing runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.running == 0 && self.batcher.is_empty()
    }

    /// Bytes that wait.
    #[must_use]
    pub fn queue_bytes(&self) -> usize {
        self.batcher.bytes()
    }

    /// The memories.
    #[must_use]
    pub fn sequences(&self) -> &Sequences<S> {
        &self.sequences
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floating point saturate, and times are not negative"
)]
fn whole(us: f64) -> Micros {
    us as Micros
}

#[cfg(test)]
mod tests {
    use super::*;
    use koinon_model::program::DType;

    const LIMITS: Limits = Limits { batch_rows: 8, queue_bytes: 100_000, site_bytes: 50_000 };

    type Small = Scheduler<u32, &'static str>;

    fn scheduler() -> Small {
        Scheduler::new(LIMITS, Sequences::new(10_000, 10_000), 1, 2_000)
    }

    fn ask(site: &str, payload: u32) -> Ask<u32> {
        let range = Nodes { version: [1; 32], from: 1, to: 2 };
        let key = Key { range, like: vec![(DType::F32, vec![3])] };
        let site = site.into();
        Ask { key, site, rows: 1, bytes: 10, expires: None, step: None, payload }
    }

    fn work(scheduler: &mut Small, now: Micros) -> Work<u32, &'static str> {
        match scheduler.take(now, false, |_| false) {
            Next::Work(work) => *work,
            Next::Wait(until) => panic!("waits until {until}"),
            Next::Idle => panic!("idle"),
        }
    }

    fn payloads(work: &Work<u32, &'static str>) -> Vec<u32> {
        work.jobs.iter().map(|job| job.payload).collect()
    }

    fn run(scheduler: &mut Small, now: Micros, took: Micros) -> Vec<u32> {
        let work = work(scheduler, now);
        let expected = scheduler.expected(&work);
        let sites: std::collections::BTreeSet<_> = work.jobs.iter().map(|j| &j.site).collect();
        scheduler.ran(now + took, (&work.key, work.jobs.len(), sites.len()), (took, expected));
        payloads(&work)
    }

    #[test]
    fn a_lone_request_never_waits_and_company_is_waited_for_a_moment() {
        let mut s = scheduler();
        assert!(s.push(0, ask("a", 1)).is_ok());
        assert_eq!(run(&mut s, 0, 4_000), [1]);
        for n in 0..3 {
            assert!(s.push(4_000, ask(["a", "b", "c"][n as usize], n)).is_ok());
        }
        assert_eq!(run(&mut s, 4_000, 4_000).len(), 3);
        assert!(s.push(8_000, ask("a", 1)).is_ok());
        assert!(matches!(s.take(8_000, false, |_| false), Next::Wait(9_000)), "a quarter of 4 ms");
        assert!(s.push(8_200, ask("b", 2)).is_ok());
        assert!(matches!(s.take(8_200, false, |_| false), Next::Wait(9_000)));
        assert!(matches!(s.take(8_200, true, |_| false), Next::Work(_)), "not when it ends");
        assert!(s.push(8_300, ask("b", 2)).is_ok());
        assert_eq!(run(&mut s, 9_000, 4_000), [2], "the others did not come");
        assert!(s.push(13_000, ask("a", 3)).is_ok());
        assert_eq!(run(&mut s, 13_000, 4_000), [3], "alone again");
    }

    #[test]
    fn what_would_be_late_is_refused_at_once_and_only_to_who_has_the_backlog() {
        let mut s = scheduler();
        assert!(s.push(0, ask("a", 0)).is_ok());
        run(&mut s, 0, 1_000);
        for n in 0..50 {
            assert!(s.push(1_000, ask("flood", n)).is_ok());
        }
        let late = Ask { expires: Some(20_000), ..ask("flood", 99) };
        assert!(matches!(s.push(1_000, late), Err((Refusal::Late(us), 99)) if us > 19_000));
        let quiet = Ask { expires: Some(20_000), ..ask("quiet", 7) };
        assert!(s.push(1_000, quiet).is_ok());
        assert!(payloads(&work(&mut s, 2_000)).contains(&7));
    }

    #[test]
    fn one_slow_run_does_not_refuse_for_ever() {
        let mut s = scheduler();
        assert!(s.push(0, ask("a", 0)).is_ok());
        run(&mut s, 0, 1_000_000);
        let tight = Ask { expires: Some(1_010_000), ..ask("a", 1) };
        assert!(s.push(1_000_000, tight).is_ok(), "with nothing to do it is tried");
    }

    #[test]
    fn a_step_meets_its_memory_or_is_told_which() {
        let mut s = scheduler();
        let step = |step, payload| {
            let step = Some(Step { sequence: 1, step, last: false });
            Ask { step, ..ask("a", payload) }
        };
        assert!(s.push(0, step(0, 10)).is_ok() && s.push(0, step(1, 11)).is_ok());
        let first = work(&mut s, 0);
        let (id, _, begin) = first.jobs[0].step.as_ref().unwrap();
        assert!(*begin == Begin::Fresh && first.jobs.len() == 1);
        assert!(
            matches!(s.take(0, false, |_| false), Next::Idle),
            "the second waits for the first"
        );
        s.ran(1, (&first.key, 1, 1), (1, 0));
        assert!(s.ended(1, id, Some(("one", 1, 5))).is_ok());
        let second = work(&mut s, 1);
        assert_eq!(second.jobs[0].step.as_ref().unwrap().2, Begin::Kept("one"));
        assert!(s.ended(2, id, Some(("one", 1, 5))).is_ok(), "it failed: as it was");
        assert!(s.push(2, step(2, 12)).is_ok());
        let third = work(&mut s, 2);
        assert_eq!((third.unknown, third.jobs.len()), (vec![(12, Some(1))], 0));
        assert!(s.push(2, step(1, 13)).is_ok());
        assert_eq!(payloads(&work(&mut s, 2)), [13], "and the sequence is still there");
    }
}
