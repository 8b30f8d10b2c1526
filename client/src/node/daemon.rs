//! The loop around the participant: the only clock and the only OS randomness of the node.
//!
//! A thread of its own takes what came in, lets the participant handle it, and executes the effects
//! strictly in order. What persists is durable before anything after it happens; when it cannot be
//! made durable, or the ledger cannot be written, the node ends and nothing leaves. Deliberately no
//! decisions here. Start at [`Daemon::run`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use koinon_aggregation::ahead::{Agreement, Agreements};
use koinon_proto::id::{Digest, Millis, SessionId, SiteId};
use koinon_proto::wire;
use rand::rngs::StdRng;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::control::{Change, Control};
use super::download::Downloads;
use super::error::NodeError;
use super::offers::OffersFolder;
use super::outlet::Outlet;
use super::report::ReportFile;
use super::state::StateFolder;
use super::status::StatusFile;
use super::worker::Worker;
use crate::participant::{Effect, Event, Note, Participant};
use crate::report::SiteReport;
use crate::trainer::{Job, Work, WorkError};

/// The files of [`super::control`] are looked at this often.
const LOOK: Duration = Duration::from_millis(500);

/// Downloads at a time; each is held in memory.
const FETCHES_MAX: usize = 16;

/// What comes in from the connection, the downloads and the trainer.
pub(super) enum Input {
    Connected { frames: mpsc::Sender<wire::SiteFrame> },
    Disconnected { problem: String },
    Frame(wire::CoordinatorFrame),
    Blob { digest: Digest, bytes: Vec<u8> },
    BlobFailed { digest: Digest },
    Worked { job: Box<Job>, result: Result<Work, WorkError> },
    Agreed { session: SessionId, agreements: Agreements },
}

/// Everything that the loop holds.
pub(super) struct Daemon {
    pub(super) participant: Participant,
    pub(super) coordinator: SiteId,
    pub(super) state: StateFolder,
    pub(super) outlet: Outlet,
    pub(super) worker: Worker,
    pub(super) downloads: Downloads,
    pub(super) status: StatusFile,
    pub(super) control: Control,
    pub(super) offers: OffersFolder,
    pub(super) report: ReportFile,
    pub(super) rng: StdRng,
    pub(super) clock: Clock,
    /// Where downloads and agreements run.
    pub(super) tasks: Handle,
    /// Where frames go while there is a connection.
    pub(super) frames: Option<mpsc::Sender<wire::SiteFrame>>,
    /// Downloads under way.
    pub(super) fetching: BTreeMap<Digest, AbortHandle>,
}

/// How the loop ended, if not by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Stopped,
    Left,
}

impl Daemon {
    /// Runs until `stop` changes or is dropped; `runtime` is for waiting only. Gives back the status file for a last word.
    pub(super) fn run(
        mut self,
        runtime: &Runtime,
        mut inputs: mpsc::Receiver<Input>,
        mut stop: watch::Receiver<bool>,
    ) -> (Result<End, NodeError>, StatusFile) {
        let end = self.turns(runtime, &mut inputs, &mut stop);
        // Dropping the rest closes the stream, stops the trainer and frees the lock.
        (end, self.status)
    }

    fn turns(
        &mut self,
        runtime: &Runtime,
        inputs: &mut mpsc::Receiver<Input>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<End, NodeError> {
        let mut looked: Option<Instant> = None;
        loop {
            if looked.is_none_or(|at| at.elapsed() >= LOOK) {
                looked = Some(Instant::now());
                for change in self.control.look() {
                    match change {
                        Change::Left => return Ok(End::Left),
                        Change::Paused(true) => self.handle(Event::Pause)?,
                        Change::Paused(false) => self.handle(Event::Resume)?,
                        Change::Policy(policy) => {
                            self.outlet.adopt((*policy).clone());
                            self.handle(Event::Policy(*policy))?;
                        }
                    }
                }
                self.show();
            }
            let wait = self.wait();
            let next = runtime.block_on(async {
                tokio::select! {
                    biased;
                    _ = stop.changed() => Err(End::Stopped),
                    input = inputs.recv() => Ok(input),
                    () = tokio::time::sleep(wait) => Ok(None),
                }
            });
            match next {
                Err(end) => return Ok(end),
                Ok(Some(input)) => self.input(input)?,
                Ok(None) => {}
            }
            if self.participant.next_deadline().is_some_and(|due| due <= self.clock.now()) {
                self.handle(Event::Tick)?;
            }
            self.show();
        }
    }

    fn wait(&mut self) -> Duration {
        let now = self.clock.now();
        let due = self.participant.next_deadline().unwrap_or(Millis::MAX);
        LOOK.min(Duration::from_millis(due.saturating_sub(now)))
    }

    fn input(&mut self, input: Input) -> Result<(), NodeError> {
        let event = match input {
            Input::Connected { frames } => {
                tracing::info!("connected");
                self.frames = Some(frames);
                self.status.problem(None);
                Event::Connected
            }
            Input::Disconnected { problem } => {
                self.status.problem(Some(problem));
                if self.frames.take().is_none() {
                    return Ok(());
                }
                Event::Disconnected
            }
            Input::Frame(frame) => Event::Frame(frame),
            Input::Blob { digest, bytes } => {
                self.fetching.remove(&digest);
                Event::Blob { digest, bytes }
            }
            Input::BlobFailed { digest } => {
                self.fetching.remove(&digest);
                Event::BlobFailed { digest }
            }
            Input::Worked { job, result } => self.worked(&job, result),
            Input::Agreed { session, agreements } => Event::Agreed { session, agreements },
        };
        self.handle(event)
    }

    /// The figures go into the site's own report, the contribution to the participant.
    fn worked(&mut self, job: &Job, result: Result<Work, WorkError>) -> Event {
        let session = job.session;
        let result = match result {
            Ok(work) => {
                self.report.write(&SiteReport {
                    task: job.task,
                    session,
                    round: job.round,
                    kind: job.kind,
                    figures: &work.figures,
                });
                Ok(work.contribution)
            }
            Err(error) => {
                tracing::warn!(session = %session.short(), code = error.code(), "no contribution");
                self.report.failure(job.round, &error);
                Err(error)
            }
        };
        Event::Worked { session, result }
    }

    fn handle(&mut self, event: Event) -> Result<(), NodeError> {
        let now = self.clock.now();
        for effect in self.participant.handle(now, &mut self.rng, event) {
            self.execute(effect)?;
        }
        Ok(())
    }

    fn execute(&mut self, effect: Effect) -> Result<(), NodeError> {
        match effect {
            Effect::Persist(bytes) => self.state.persist(&bytes)?,
            Effect::PersistVector { session, bytes } => {
                self.state.persist_vector(&session, &bytes)?;
            }
            Effect::DropVector => self.state.drop_vector()?,
            Effect::Send(frame) => self.send(frame)?,
            Effect::Fetch(digest) => {
                if self.fetching.len() >= FETCHES_MAX {
                    // An honest round needs a handful. Who asks for more has left the old ones behind.
                    tracing::warn!("too many downloads at a time: the older ones are given up");
                    std::mem::take(&mut self.fetching).values().for_each(AbortHandle::abort);
                }
                self.fetching.entry(digest).or_insert_with(|| {
                    self.tasks.spawn(self.downloads.clone().fetch(digest)).abort_handle()
                });
            }
            Effect::Work(job) => self.worker.work(job),
            Effect::StopWork { session } => self.worker.stop(&session),
            Effect::Agree { session, agreement } => self.agree(session, agreement),
            Effect::Note(note) => self.note(&note),
        }
        Ok(())
    }

    /// Nobody waits for it, and when the node stops it is dropped.
    fn agree(&self, session: SessionId, agreement: Box<Agreement>) {
        let inputs = self.downloads.inputs.clone();
        self.tasks.spawn_blocking(move || {
            let agreements = agreement.run();
            let _ = inputs.blocking_send(Input::Agreed { session, agreements });
        });
    }

    /// Lets a frame out. Without a connection it is dropped: mail is sent again after the next hello.
    fn send(&mut self, frame: wire::SiteFrame) -> Result<(), NodeError> {
        let Some(frames) = self.frames.clone().filter(|frames| !frames.is_closed()) else {
            return Ok(());
        };
        match self.outlet.let_frame_out(&self.coordinator, frame) {
            Ok(frame) => {
                // A full connection is waited for; a lost one ends the wait.
                let _ = frames.blocking_send(frame);
                Ok(())
            }
            Err(NodeError::Egress(error)) if !error.is_fatal() => {
                tracing::warn!(%error, "a message did not leave");
                self.status.problem(Some(error.to_string()));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn note(&mut self, note: &Note) {
        let id = |session: &SessionId| session.short();
        match note {
            Note::Phase { session, phase } => {
                tracing::info!(session = %id(session), phase = phase.word(), "phase");
            }
            Note::Uploaded { session, acknowledged, total } => {
                tracing::debug!(session = %id(session), acknowledged, total, "uploaded");
            }
            Note::Ended { session, ending } => {
                tracing::info!(session = %id(session), %ending, "session ended");
            }
            Note::Fault { fault, code } => {
                tracing::warn!(fault = fault.code(), code, "a message of the coordinator was bad");
            }
            other => tracing::info!("{other}"),
        }
        self.status.note(note);
        // What somebody waits for is shown at once, and not only after the whole turn.
        if matches!(note, Note::Uploaded { .. } | Note::Phase { .. }) {
            self.status.update(&self.participant);
        }
    }

    fn show(&mut self) {
        self.offers.update(&self.participant);
        self.status.update(&self.participant);
    }
}

/// Wall time that never goes back while the process lives, but follows a machine that slept.
pub(super) struct Clock {
    base: Instant,
    base_ms: Millis,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { base: Instant::now(), base_ms: super::now_ms() }
    }

    pub(super) fn now(&mut self) -> Millis {
        let elapsed = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX);
        let now = self.base_ms.saturating_add(elapsed).max(super::now_ms());
        *self = Self { base: Instant::now(), base_ms: now };
        now
    }
}
