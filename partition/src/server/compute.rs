//! The threads that compute: each takes a batch from the [`Scheduler`], runs it, and deals the answers out.
//!
//! One batch runs on one thread, so its bits do not depend on how many there are. A fault of one request, even a panic of the
//! engine, is that request's answer and nobody else's. Start at [`Compute::start`].

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use koinon_model::codec::Codec;
use koinon_model::crossing::Crossing;
use koinon_model::network::States;
use koinon_proto::wire;

use super::replies::{Replies, Ticket};
use crate::admission::{self, Admitted, rejection};
use crate::batcher::{Micros, SequenceId, Site};
use crate::metrics::Metrics;
use crate::models::Served;
use crate::scheduler::{Ask, Job, Next, Refusal, Scheduler, Step, Work};
use crate::sequences::Begin;

/// How long a thread sleeps when nothing waits and nobody wakes it.
const NAP: Duration = Duration::from_secs(1);

/// A request that waits for its batch.
pub(super) struct Waiting {
    request: u64,
    served: Arc<Served>,
    crossing: Crossing,
    codec: Codec,
    replies: Replies,
    ticket: Ticket,
}

type Memory = Option<(States, u32, usize)>;

/// What a job gave: its answer's bytes, or why there is none, and what its sequence remembers now.
type Done = (Result<Vec<u8>, wire::Rejection>, Option<(SequenceId, Memory)>);

struct Shared {
    scheduler: Mutex<Scheduler<Waiting, States>>,
    more: Condvar,
    metrics: Arc<Metrics>,
    started: Instant,
    stopping: AtomicBool,
    over: AtomicBool,
}

/// The threads' door.
#[derive(Clone)]
pub(super) struct Compute(Arc<Shared>);

impl Compute {
    /// Starts the threads; they end with [`Compute::end`].
    pub(super) fn start(
        scheduler: Scheduler<Waiting, States>,
        threads: usize,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Compute> {
        let shared = Arc::new(Shared {
            scheduler: Mutex::new(scheduler),
            more: Condvar::new(),
            metrics,
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        for n in 0..threads {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("compute-{n}"))
                .spawn(move || shared.work())?;
        }
        Ok(Compute(shared))
    }

    /// The threads' clock.
    pub(super) fn now(&self) -> Micros {
        self.0.now()
    }

    /// Takes a request in; a server that is behind says so at once instead of piling up.
    pub(super) fn submit(
        &self,
        site: &Site,
        admitted: Admitted,
        replies: &Replies,
        ticket: Ticket,
    ) -> Result<(), (wire::Rejection, Ticket)> {
        if self.0.stopping.load(Ordering::Acquire) {
            let detail = "the server ends; ask another or answer locally";
            return Err((rejection("stopping", detail.into()), ticket));
        }
        let Admitted { request, key, served, crossing, bytes, expires, step, codec } = admitted;
        let rows = crossing.rows();
        let replies = replies.clone();
        let payload = Waiting { request, served, crossing, codec, replies, ticket };
        let ask = Ask { key, site: site.clone(), rows, bytes, expires, step, payload };
        let refused = self.0.lock().push(self.now(), ask);
        let Err((refusal, waiting)) = refused else {
            self.0.more.notify_one();
            return Ok(());
        };
        let detail = match refusal {
            Refusal::Site => "this site has too much waiting; send slower".into(),
            Refusal::Queue => {
                "all sites together have too much waiting; try again or answer locally".into()
            }
            Refusal::Late(us) => format!("it would be answered in {} ms, too late", us / 1000),
        };
        Err((rejection("overloaded", detail), waiting.ticket))
    }

    /// Drops what waits for streams that ended.
    pub(super) fn forget_closed(&self) {
        self.0.lock().forget(|waiting| waiting.replies.is_closed());
    }

    /// Drops sequences of versions that are gone, and those that nobody used for so long.
    pub(super) fn retain(&self, unused: Duration, versions: impl Fn(&[u8; 32]) -> bool) {
        let unused = Micros::try_from(unused.as_micros()).unwrap_or(Micros::MAX);
        self.0.lock().retain(self.now().saturating_sub(unused), versions);
    }

    /// From now on every request is refused; what waits is still answered.
    pub(super) fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
        self.0.more.notify_all();
    }

    /// Ends the threads once nothing waits.
    pub(super) fn end(&self) {
        self.stop();
        self.0.over.store(true, Ordering::Release);
        self.0.more.notify_all();
    }

    /// Sequences, their bytes, how many made room, and bytes that wait.
    pub(super) fn gauges(&self) -> [u64; 4] {
        let scheduler = self.0.lock();
        let all = scheduler.sequences();
        let (states, waiting) = (all.bytes(), scheduler.queue_bytes());
        [all.len() as u64, states as u64, all.evicted(), waiting as u64]
    }
}

impl Shared {
    fn now(&self) -> Micros {
        Micros::try_from(self.started.elapsed().as_micros()).unwrap_or(Micros::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Scheduler<Waiting, States>> {
        self.scheduler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut scheduler = self.lock();
        loop {
            let stopping = self.stopping.load(Ordering::Acquire);
            let nap = match scheduler.take(self.now(), stopping, |w| w.replies.is_closed()) {
                Next::Work(work) => {
                    let expected = scheduler.expected(&work);
                    drop(scheduler);
                    self.run(*work, expected);
                    scheduler = self.lock();
                    continue;
                }
                Next::Wait(until) => Duration::from_micros(until.saturating_sub(self.now())),
                Next::Idle if self.over.load(Ordering::Acquire) => return,
                Next::Idle => NAP,
            };
            let waited = self.more.wait_timeout(scheduler, nap);
            scheduler = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Runs a batch and answers each of its requests.
    fn run(&self, work: Work<Waiting, States>, expected: Micros) {
        let Work { key, jobs, late, unknown } = work;
        for waiting in late {
            let late = "the request's deadline passed while it waited";
            self.send(waiting, Err(rejection("too_late", late.into())), [0, 0]);
        }
        for (waiting, at) in unknown {
            self.send(waiting, Err(unknown_sequence(at)), [0, 0]);
        }
        if jobs.is_empty() {
            return;
        }
        let rows = jobs.iter().map(|job| job.rows).sum();
        let sites: BTreeSet<Site> = jobs.iter().map(|job| job.site.clone()).collect();
        let began = Instant::now();
        let (waitings, done) = compute(key.range.to as usize, jobs);
        let took = Micros::try_from(began.elapsed().as_micros()).unwrap_or(Micros::MAX);
        self.metrics.ran(done.len(), rows, took);
        let mut scheduler = self.lock();
        let now = self.now();
        scheduler.ran(now, (&key, rows, sites.len()), (took, expected));
        let mut answers = Vec::with_capacity(done.len());
        for (mut answer, memory) in done {
            let kept = memory.map_or(Ok(()), |(id, memory)| scheduler.ended(now, &id, memory));
            if let (Ok(_), Err(most)) = (&answer, kept) {
                let detail = format!(
                    "what the sequence remembers is over {most} bytes, or all memory is in use"
                );
                answer = Err(rejection("too_large", detail));
            }
            answers.push(answer);
        }
        let more = !scheduler.is_idle();
        drop(scheduler);
        if more {
            self.more.notify_one();
        }
        for ((waiting, waited), answer) in waitings.into_iter().zip(answers) {
            self.metrics.waited(waited);
            self.send(waiting, answer, [waited, took]);
        }
    }

    fn send(&self, waiting: Waiting, answer: Result<Vec<u8>, wire::Rejection>, us: [Micros; 2]) {
        let outcome = answer.as_ref().err().map_or("answered", |rejection| &rejection.code);
        let Waiting { request, replies, ticket, .. } = waiting;
        if replies.is_closed() {
            self.metrics.ended("cancelled");
            return;
        }
        self.metrics.ended(outcome);
        self.metrics.left(answer.as_ref().map_or(0, Vec::len));
        replies.send(request, answer, us, ticket);
    }
}

fn unknown_sequence(at: Option<u32>) -> wire::Rejection {
    let detail = match at {
        Some(step) => format!("the sequence is at step {step} here; send its steps from 0 again"),
        None => "nothing is known of the sequence here; send its steps from 0 again".into(),
    };
    rejection("unknown_sequence", detail)
}

/// The steps of jobs, with the bytes of the memory that they began with.
type Steps = Vec<Option<(SequenceId, Step, bool)>>;

fn compute(to: usize, jobs: Vec<Job<Waiting, States>>) -> (Vec<(Waiting, Micros)>, Vec<Done>) {
    let mut waitings = Vec::with_capacity(jobs.len());
    let mut states = Vec::with_capacity(jobs.len());
    let mut steps: Steps = Vec::with_capacity(jobs.len());
    for job in jobs {
        let range = job.payload.crossing.position()..to;
        let fresh = || job.payload.served.network.start(range);
        let (step, own) = match job.step {
            Some((id, step, Begin::Kept(states))) => (Some((id, step, false)), states),
            Some((id, step, Begin::Fresh)) => (Some((id, step, true)), fresh()),
            None => (None, fresh()),
        };
        states.push(own);
        steps.push(step);
        waitings.push((job.payload, job.waited));
    }
    let answers = forward(to, &waitings, &mut states);
    let done = answers.into_iter().zip(states).zip(steps).zip(&waitings);
    let done = done.map(|(((answer, states), step), (waiting, _))| {
        let answer = answer.and_then(|out| admission::answer(&out, waiting.codec));
        let memory = step.map(|(id, step, fresh)| {
            let bytes = states.bytes();
            let memory = match &answer {
                Ok(_) => (!step.last).then_some((states, step.step.saturating_add(1), bytes)),
                Err(_) => (!fresh).then_some((states, step.step, bytes)),
            };
            (id, memory)
        });
        (answer, memory)
    });
    let done = done.collect();
    (waitings, done)
}

/// Together where that works, else one by one: then the fault is found with whoever has it.
fn forward(
    to: usize,
    waitings: &[(Waiting, Micros)],
    states: &mut [States],
) -> Vec<Result<Crossing, wire::Rejection>> {
    let Some((first, _)) = waitings.first() else { return Vec::new() };
    let network = &first.served.network;
    if waitings.len() > 1 {
        let lanes: Vec<&Crossing> = waitings.iter().map(|(waiting, _)| &waiting.crossing).collect();
        let mut own: Vec<&mut States> = states.iter_mut().collect();
        let together = || network.forward_lanes(to, &lanes, &mut own).ok();
        if let Some(out) = catch_unwind(AssertUnwindSafe(together)).ok().flatten() {
            return out.into_iter().map(Ok).collect();
        }
    }
    let each = waitings.iter().zip(states).map(|((waiting, _), own)| {
        let alone = || network.forward(to, &waiting.crossing, own);
        let ran = catch_unwind(AssertUnwindSafe(alone));
        let ran = ran.unwrap_or_else(|_| {
            let problem = "the engine stopped at it; this is a defect, please report it".into();
            Err(koinon_model::network::NetworkError::Crossing { position: to, problem })
        });
        ran.map_err(|e| rejection("failed", e.to_string()))
    });
    each.collect()
}
