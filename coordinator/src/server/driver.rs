//! The one place where the core meets the world: the only clock and the only OS randomness.
//!
//! A thread of its own owns the [`Coordinator`]. It takes what came in since last time, lets the core
//! handle each, then keeps the law of [`Effect`]: blobs durable, records in one synced transaction,
//! and only then does anything leave. When a write fails nothing leaves and the driver ends, and the
//! process with it: starting again recovers. Deliberately no decisions here. Start at [`start`].

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use koinon_proto::id::{Digest, Millis, SiteId};
use koinon_proto::wire;
use rand::rngs::StdRng;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use super::blobs::Blobs;
use super::certificates::Issued;
use super::error::ServerError;
use super::journal::SqliteJournal;
use super::listener::Member;
use crate::Coordinator;
use crate::event::{Answer, Effect, Event, Rejection};
use crate::journal::Journal;
use crate::record::{Change, Record};

/// Commands that wait for the driver; who finds the queue full waits in turn.
const QUEUE: usize = 64;
/// Events handled before their records are written together.
const BATCH_MAX: usize = 64;

type Asked = oneshot::Sender<Result<Answer, Rejection>>;
type Look = Box<dyn FnOnce(&Coordinator) + Send>;
/// Frames to one site, as its response stream takes them: boxed, because an empty queue keeps room for
/// some dozens, and a thousand sites have a thousand queues.
pub(super) type Frames = mpsc::Sender<Box<wire::CoordinatorFrame>>;

enum Command {
    Connected {
        site: SiteId,
        connection: u64,
        frames: Frames,
        ended: oneshot::Sender<()>,
    },
    Disconnected {
        site: SiteId,
        connection: u64,
    },
    Frame {
        site: SiteId,
        connection: u64,
        frame: wire::SiteFrame,
    },
    Ask {
        event: Box<dyn FnOnce(u64) -> Event + Send>,
        asked: Asked,
    },
    Look(Look),
    Certificate {
        issued: Box<(Digest, Millis)>,
        member: Member,
        done: oneshot::Sender<()>,
    },
    /// Ends all streams; calls that are still running are answered.
    Stop,
    /// Ends the driver.
    End,
}

/// What the handlers hold. Every method fails with [`Gone`] once the driver has ended.
#[derive(Clone)]
pub(super) struct Handle {
    commands: mpsc::Sender<Command>,
    changed: watch::Receiver<u64>,
}

/// The driver has ended.
#[derive(Debug)]
pub(super) struct Gone;

impl From<Gone> for Status {
    fn from(_: Gone) -> Self {
        Self::unavailable("the coordinator is stopping")
    }
}

impl Handle {
    /// A site's stream is open. Gives what resolves when the driver ends it.
    pub(super) async fn connected(
        &self,
        site: SiteId,
        connection: u64,
        frames: Frames,
    ) -> Result<oneshot::Receiver<()>, Gone> {
        let (ended, end) = oneshot::channel();
        self.send(Command::Connected { site, connection, frames, ended }).await?;
        Ok(end)
    }

    pub(super) async fn disconnected(&self, site: SiteId, connection: u64) -> Result<(), Gone> {
        self.send(Command::Disconnected { site, connection }).await
    }

    pub(super) async fn frame(
        &self,
        site: SiteId,
        connection: u64,
        frame: wire::SiteFrame,
    ) -> Result<(), Gone> {
        self.send(Command::Frame { site, connection, frame }).await
    }

    /// Lets the core handle the event made from a reply number; the answer comes when it is durable.
    pub(super) async fn ask(
        &self,
        event: impl FnOnce(u64) -> Event + Send + 'static,
    ) -> Result<Result<Answer, Rejection>, Gone> {
        let (asked, answer) = oneshot::channel();
        self.send(Command::Ask { event: Box::new(event), asked }).await?;
        answer.await.map_err(|_| Gone)
    }

    /// Looks at the core's durable state.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Coordinator) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (seen, sight) = oneshot::channel();
        let look = Box::new(move |core: &Coordinator| {
            let _ = seen.send(look(core));
        });
        self.send(Command::Look(look)).await?;
        sight.await.map_err(|_| Gone)
    }

    /// Remembers a certificate; it counts when this returns.
    pub(super) async fn certificate(&self, issued: &Issued, member: Member) -> Result<(), Gone> {
        let (done, known) = oneshot::channel();
        let issued = Box::new((issued.fingerprint, issued.not_after_ms));
        self.send(Command::Certificate { issued, member, done }).await?;
        known.await.map_err(|_| Gone)
    }

    /// Ends all streams; the driver goes on for calls that are still running.
    pub(super) async fn stop(&self) {
        let _ = self.send(Command::Stop).await;
    }

    /// Ends the driver after what was sent to it before.
    pub(super) async fn end(&self) {
        let _ = self.send(Command::End).await;
    }

    /// Counts up whenever the durable state may have changed.
    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    async fn send(&self, command: Command) -> Result<(), Gone> {
        self.commands.send(command).await.map_err(|_| Gone)
    }
}

/// What the driver drives.
pub(super) struct Parts {
    pub(super) core: Coordinator,
    pub(super) journal: SqliteJournal,
    pub(super) blobs: Blobs,
    pub(super) keep_masked_updates: bool,
    /// Held as long as the driver may write.
    pub(super) lock: File,
}

/// Starts the driver's thread. It ends when all handles are gone, or with an error, which
/// the receiver gets.
pub(super) fn start(
    parts: Parts,
) -> Result<(Handle, oneshot::Receiver<Result<(), ServerError>>), ServerError> {
    let (commands, queue) = mpsc::channel(QUEUE);
    let (changed, seen) = watch::channel(0);
    let (done, ended) = oneshot::channel();
    // Its own, for waiting only: the driver outlives whatever happens to the server's.
    let runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|e| ServerError::Setup(e.to_string()))?;
    let clock = Clock { started: Instant::now(), started_ms: super::now_ms() };
    let driver = Driver {
        core: parts.core,
        journal: parts.journal,
        blobs: parts.blobs,
        keep_masked_updates: parts.keep_masked_updates,
        rng: super::rng(),
        clock,
        sites: BTreeMap::new(),
        asked: BTreeMap::new(),
        asked_count: 0,
        own: VecDeque::new(),
        changed,
        ended: false,
        _lock: parts.lock,
    };
    thread::Builder::new()
        .name("driver".into())
        .spawn(move || {
            let _ = done.send(driver.run(&runtime, queue));
        })
        .map_err(|e| ServerError::Setup(e.to_string()))?;
    Ok((Handle { commands, changed: seen }, ended))
}

/// Wall time that never goes back while the process lives.
struct Clock {
    started: Instant,
    started_ms: Millis,
}

impl Clock {
    fn now(&self) -> Millis {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.started_ms.saturating_add(elapsed)
    }
}

/// A site's open stream.
struct Line {
    connection: u64,
    frames: Frames,
    /// Dropped to tell the stream's reader to end.
    _ended: oneshot::Sender<()>,
}

struct Driver {
    core: Coordinator,
    journal: SqliteJournal,
    blobs: Blobs,
    keep_masked_updates: bool,
    rng: StdRng,
    clock: Clock,
    sites: BTreeMap<SiteId, Line>,
    asked: BTreeMap<u64, Asked>,
    asked_count: u64,
    /// Events that the driver itself noticed: streams that it had to end.
    own: VecDeque<Event>,
    changed: watch::Sender<u64>,
    ended: bool,
    _lock: File,
}

/// Effects of a batch, sorted by when they may happen.
#[derive(Default)]
struct Batch {
    blobs: Vec<(Digest, Vec<u8>)>,
    records: Vec<Record>,
    after: Vec<Effect>,
    looks: Vec<Look>,
}

impl Driver {
    fn run(
        mut self,
        runtime: &Runtime,
        mut queue: mpsc::Receiver<Command>,
    ) -> Result<(), ServerError> {
        let now = self.clock.now();
        if self.core.lost_key_log().is_some() {
            tracing::error!("{KEY_LOG_LOST}");
        }
        let effects = self.core.boot(now, &mut self.rng);
        let mut batch = Batch::default();
        batch.add(effects);
        self.finish(batch)?;
        while let Some(first) = runtime.block_on(self.next(&mut queue)) {
            let mut batch = Batch::default();
            let mut command = first;
            let mut handled = 0;
            loop {
                if let Some(command) = command.take() {
                    self.take(command, &mut batch)?;
                }
                while let Some(event) = self.own.pop_front() {
                    self.handle(event, &mut batch);
                }
                handled += 1;
                if handled == BATCH_MAX {
                    break;
                }
                match queue.try_recv() {
                    Ok(next) => command = Some(next),
                    Err(_) => break,
                }
            }
            if self.core.next_deadline().is_some_and(|due| due <= self.clock.now()) {
                self.handle(Event::Tick, &mut batch);
            }
            self.finish(batch)?;
            if self.ended {
                break;
            }
        }
        Ok(())
    }

    /// The next command; `Some(None)` when it is time for a tick; `None` when all handles are gone.
    async fn next(&self, queue: &mut mpsc::Receiver<Command>) -> Option<Option<Command>> {
        if !self.own.is_empty() {
            return Some(None);
        }
        let Some(due) = self.core.next_deadline() else { return queue.recv().await.map(Some) };
        let left = Duration::from_millis(due.saturating_sub(self.clock.now()));
        match tokio::time::timeout(left, queue.recv()).await {
            Ok(command) => command.map(Some),
            Err(_) => Some(None),
        }
    }

    fn take(&mut self, command: Command, batch: &mut Batch) -> Result<(), ServerError> {
        match command {
            Command::Connected { site, connection, frames, ended } => {
                self.sites.insert(site.clone(), Line { connection, frames, _ended: ended });
                self.handle(Event::Connected { site }, batch);
            }
            Command::Disconnected { site, connection } => {
                if self.is_current(&site, connection) {
                    self.sites.remove(&site);
                    self.handle(Event::Disconnected { site }, batch);
                }
            }
            Command::Frame { site, connection, frame } => {
                if self.is_current(&site, connection) {
                    self.handle(Event::Frame { site, frame }, batch);
                }
            }
            Command::Ask { event, asked } => {
                self.asked_count += 1;
                self.asked.insert(self.asked_count, asked);
                self.handle(event(self.asked_count), batch);
            }
            Command::Look(look) => batch.looks.push(look),
            Command::Certificate { issued, member, done } => {
                let (fingerprint, not_after_ms) = *issued;
                self.journal
                    .add_certificate(&fingerprint, &member, not_after_ms, self.clock.now())
                    .map_err(|e| ServerError::State(e.to_string()))?;
                let _ = done.send(());
            }
            Command::Stop => self.sites.clear(),
            Command::End => self.ended = true,
        }
        Ok(())
    }

    fn is_current(&self, site: &SiteId, connection: u64) -> bool {
        self.sites.get(site).is_some_and(|line| line.connection == connection)
    }

    fn handle(&mut self, event: Event, batch: &mut Batch) {
        let effects = self.core.handle(self.clock.now(), &mut self.rng, event);
        batch.add(effects);
    }

    /// Keeps the law: blobs, then records, then the rest.
    fn finish(&mut self, batch: Batch) -> Result<(), ServerError> {
        for (digest, bytes) in &batch.blobs {
            self.blobs.put(digest, bytes).map_err(|e| {
                ServerError::State(format!(
                    "a blob cannot be written: {e}; nothing left after this, so free space or mend the disk and start again"
                ))
            })?;
        }
        if !batch.records.is_empty() {
            self.journal.append(&batch.records).map_err(|e| {
                ServerError::State(format!(
                    "{e}; nothing left after this, so free space or mend the disk and start again"
                ))
            })?;
        }
        for effect in batch.after {
            self.release(effect);
        }
        for look in batch.looks {
            look(&self.core);
        }
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    fn release(&mut self, effect: Effect) {
        match effect {
            Effect::Send { site, frame } => self.send(&site, frame),
            Effect::Disconnect { site } => {
                if self.sites.remove(&site).is_some() {
                    tracing::info!(%site, "stream ended by the coordinator");
                    self.own.push_back(Event::Disconnected { site });
                }
            }
            Effect::Reply { reply, result } => {
                if let Some(asked) = self.asked.remove(&reply) {
                    let _ = asked.send(result);
                }
            }
            Effect::Forget { digest } => {
                // A later event of the same batch may have brought a blob of the same content.
                if !self.keep_masked_updates
                    && !self.core.needs(&digest)
                    && let Err(error) = self.blobs.remove(&digest)
                {
                    tracing::warn!(blob = %digest.short(), %error, "a blob stays although unneeded");
                }
            }
            // Batch::add keeps these two apart.
            Effect::Blob { .. } | Effect::Record(_) => {}
        }
    }

    /// Mail that does not get through is sent again after the site's next hello, so a stream that
    /// cannot take it is ended rather than waited for.
    fn send(&mut self, site: &SiteId, frame: wire::CoordinatorFrame) {
        let Some(line) = self.sites.get(site) else { return };
        if line.frames.try_send(Box::new(frame)).is_err() {
            tracing::info!(%site, "stream ended: the site takes nothing");
            self.sites.remove(site);
            self.own.push_back(Event::Disconnected { site: site.clone() });
        }
    }
}

impl Batch {
    fn add(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Blob { digest, bytes } => self.blobs.push((digest, bytes)),
                Effect::Record(record) => {
                    if let Change::KeyLogLost { .. } = record.change {
                        tracing::error!("{KEY_LOG_LOST}");
                    }
                    self.records.push(record);
                }
                other => self.after.push(other),
            }
        }
    }
}

/// Said when it is found out, and at every start from then on.
const KEY_LOG_LOST: &str = "key_log_lost: a site has a newer head of the log of posted keys, signed by \
    this coordinator, than the journal: it was restored from a backup. Rounds go on with keys made when \
    they are needed; see docs/operate.md, Backup and restore";
