//! The carrier of split inference: activations through the egress door to partition servers, answers back.
//!
//! It carries what a [`Splitter`] makes and nothing else. A server that cannot be reached, is slow or says no costs time,
//! never an answer: another server or the splitter answers, and says so; meanwhile the server is dialled again. It has a
//! ledger file of its own, so that it may run beside the node. Start at [`Inference::open`].

mod link;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use koinon_model::network::Network;
use koinon_model::program::Value;
use koinon_proto::{Digest, Millis, limits, wire};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::AbortOnDrop;
use super::config;
use super::connect::PARTITION;
use super::control::read_policy;
use super::counters::{Counters, Totals};
use super::error::NodeError;
use super::keystore::KeyStore;
use super::outlet::{INFERENCE_LEDGER_FILE, Outlet};
use crate::ledger::Kind;
use crate::split::{Answer, Origin, Placement, SplitError, Splitter, Step};
use link::{Event, Link};

/// Questions on their way at a time.
const WINDOW: usize = 16;
/// What the ledger calls the far side: a partition server is known by its role.
const DESTINATION: &str = "partition";

/// What is asked, of whom.
pub struct Options<'a> {
    /// The site's folder.
    pub dir: &'a Path,
    /// The partition servers' addresses, `host:port`, in the order in which placements name them.
    pub servers: &'a [String],
    /// The network.
    pub network: Arc<Network>,
    /// Digests of its two files: what it is, and its values.
    pub names: (Digest, Digest),
    /// Where its ranges run.
    pub placement: Placement,
}

/// What came of it so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answers by who gave them: `split`, or why the site did.
    pub origins: BTreeMap<String, u64>,
    /// Encoded bytes of the activations that left.
    pub activation_bytes: u64,
    /// Why a server was not reached last, if one was not.
    pub problem: Option<String>,
}

/// A time that one activation took, for planning.
#[derive(Clone, Copy, Debug)]
pub struct Trip {
    /// The server.
    pub server: u16,
    /// Bytes that left, and came back.
    pub bytes: (usize, usize),
    /// From the door to the answer.
    pub whole: Duration,
    /// Of these, at the server: waiting for a batch and running.
    pub there: Duration,
}

/// Split inference under way. One at a time in a folder.
pub struct Inference {
    splitter: Splitter,
    outlet: Outlet,
    senders: Vec<Option<mpsc::UnboundedSender<wire::Activation>>>,
    again: Vec<watch::Sender<u64>>,
    /// Servers that have said neither yes nor no yet.
    unheard: Vec<bool>,
    events: mpsc::UnboundedReceiver<Event>,
    counters: Counters,
    started: Instant,
    tally: Tally,
    /// When each activation left, and how large it was.
    left: BTreeMap<u64, (Instant, usize)>,
    trips: Vec<Trip>,
    _links: Vec<AbortOnDrop>,
    _lock: File,
}

impl Inference {
    /// Opens ledger and policy, and begins to dial.
    ///
    /// # Errors
    /// [`NodeError`]: settings, policy (a cut that is not permitted), ledger. Trouble with servers is no error.
    pub fn open(options: Options<'_>) -> Result<Self, NodeError> {
        let Options { dir, servers, network, names, placement } = options;
        let keys = KeyStore::open(dir)?;
        let config = config::load(dir)?;
        let policy = read_policy(&config.policy)?;
        let n_servers = u16::try_from(servers.len())
            .map_err(|_| NodeError::Config("too many partition servers".into()))?;
        let splitter = Splitter::new(network, names, placement, n_servers, policy.clone())
            .map_err(|e| split_error(&e))?;
        let lock = lock(&config.ledger)?;
        let outlet = Outlet::open_file(&config.ledger.join(INFERENCE_LEDGER_FILE), policy, None)?;
        let counters = Counters::default();
        let (events_in, events) = mpsc::unbounded_channel();
        let (mut again, mut links) = (Vec::new(), Vec::new());
        for (number, address) in (0u16..).zip(servers) {
            let mut target = config.coordinator.target()?;
            address.clone_into(&mut target.address);
            PARTITION.clone_into(&mut target.server_name);
            let (wake, waken) = watch::channel(0);
            let link = Link {
                number,
                target,
                keys: keys.clone(),
                counters: counters.clone(),
                outlet: outlet.clone(),
                events: events_in.clone(),
                again: waken,
            };
            again.push(wake);
            let task: JoinHandle<()> = tokio::spawn(link.keep());
            links.push(AbortOnDrop(task));
        }
        Ok(Self {
            splitter,
            outlet,
            senders: vec![None; servers.len()],
            again,
            unheard: vec![true; servers.len()],
            events,
            counters,
            started: Instant::now(),
            tally: Tally::default(),
            left: BTreeMap::new(),
            trips: Vec::new(),
            _links: links,
            _lock: lock,
        })
    }

    /// Another placement from the next question on.
    ///
    /// # Errors
    /// As [`Splitter::place`].
    pub fn place(&mut self, placement: Placement) -> Result<(), NodeError> {
        self.splitter.place(placement).map_err(|e| split_error(&e))
    }

    /// The answers to questions, in their order, many on their way at once.
    ///
    /// # Errors
    /// [`NodeError`]: ledger, or inputs that are none of the network's.
    pub async fn answer(&mut self, questions: Vec<Vec<Value>>) -> Result<Vec<Answer>, NodeError> {
        let mut answers = BTreeMap::new();
        let mut open = 0usize;
        let mut next = questions.into_iter();
        self.hear().await?;
        loop {
            while open < WINDOW
                && let Some(inputs) = next.next()
            {
                let (_, step) =
                    self.splitter.ask(self.now(), None, inputs).map_err(|e| split_error(&e))?;
                open += 1;
                open -= self.take(step, &mut answers)?;
            }
            if open == 0 {
                return Ok(answers.into_values().collect());
            }
            open -= self.turn(&mut answers).await?;
        }
    }

    /// Begins a sequence: a number for [`Self::step`].
    pub fn begin(&mut self) -> u64 {
        self.splitter.begin()
    }

    /// Forgets a sequence.
    pub fn end(&mut self, sequence: u64) {
        self.splitter.end(sequence);
    }

    /// The next step of a sequence.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub async fn step(&mut self, sequence: u64, inputs: Vec<Value>) -> Result<Answer, NodeError> {
        self.hear().await?;
        let mut answers = BTreeMap::new();
        let asked = self.splitter.ask(self.now(), Some(sequence), inputs);
        let (number, step) = asked.map_err(|e| split_error(&e))?;
        self.take(step, &mut answers)?;
        loop {
            if let Some(answer) = answers.remove(&number) {
                return Ok(answer);
            }
            self.turn(&mut answers).await?;
        }
    }

    /// What came of it so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The times of activations since the last call.
    pub fn trips(&mut self) -> Vec<Trip> {
        std::mem::take(&mut self.trips)
    }

    /// Ends the connections; gives what went over the wire.
    pub async fn close(self) -> Totals {
        let counters = self.counters.clone();
        drop(self);
        super::settle(&counters).await;
        counters.totals()
    }

    /// Waits until each server that the placement needs was reached or not, at most for the patience of one question.
    async fn hear(&mut self) -> Result<(), NodeError> {
        let patience = Duration::from_millis(self.splitter.placement().deadline_ms.into());
        let end = Instant::now() + patience;
        while self.unheard.contains(&true) && !self.splitter.placement().is_here() {
            match tokio::time::timeout_at(end.into(), self.events.recv()).await {
                Ok(Some(event)) => {
                    self.event(event, &mut BTreeMap::new())?;
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// Waits for one event or deadline; gives how many questions it answered.
    async fn turn(&mut self, answers: &mut BTreeMap<u64, Answer>) -> Result<usize, NodeError> {
        let due = self.splitter.next_deadline().unwrap_or(Millis::MAX);
        let patience = Duration::from_millis(due.saturating_sub(self.now()).min(3_600_000));
        match tokio::time::timeout(patience, self.events.recv()).await {
            Ok(Some(event)) => self.event(event, answers),
            Ok(None) => Err(NodeError::State("the connections' tasks ended".into())),
            Err(_) => {
                let late = self.splitter.expire(self.now()).map_err(|e| split_error(&e))?;
                let n = late.len();
                self.suspect();
                late.into_iter().for_each(|answer| self.keep(answer, answers));
                Ok(n)
            }
        }
    }

    /// A server that let a deadline pass without a word since is dialled again; until then this site answers at once
    /// instead of waiting for each question's deadline.
    fn suspect(&mut self) {
        let patience = Duration::from_millis(self.splitter.placement().deadline_ms.into());
        let silent = self.left.values().any(|(left, _)| left.elapsed() >= patience);
        if silent {
            self.left.clear();
            self.again.iter().for_each(|again| again.send_modify(|n| *n += 1));
        }
    }

    fn event(
        &mut self,
        event: Event,
        answers: &mut BTreeMap<u64, Answer>,
    ) -> Result<usize, NodeError> {
        match event {
            Event::Up(server, sender) => {
                self.senders[usize::from(server)] = Some(sender);
                self.unheard[usize::from(server)] = false;
                self.splitter.connected(server);
                Ok(0)
            }
            Event::Down(server, reason) => {
                self.senders[usize::from(server)] = None;
                self.unheard[usize::from(server)] = false;
                self.tally.problem = Some(reason);
                let steps = self.splitter.disconnected(self.now(), server);
                let steps = steps.map_err(|e| split_error(&e))?;
                let mut n = 0;
                for step in steps {
                    n += self.take(step, answers)?;
                }
                Ok(n)
            }
            Event::Reply(server, reply, there) => {
                self.measure(server, &reply, there);
                let step = self.splitter.reply(self.now(), *reply).map_err(|e| split_error(&e))?;
                step.map_or(Ok(0), |step| self.take(step, answers))
            }
        }
    }

    fn measure(&mut self, server: u16, reply: &wire::InferenceReply, there: Instant) {
        let Some((left, bytes)) = self.left.remove(&reply.request) else { return };
        let micros = u64::from(reply.waited_us) + u64::from(reply.ran_us);
        let trip = Trip {
            server,
            bytes: (bytes, reply.encoded_len()),
            whole: there.saturating_duration_since(left),
            there: Duration::from_micros(micros),
        };
        if self.trips.len() < limits::ACTIVATIONS_IN_FLIGHT_MAX {
            self.trips.push(trip);
        }
    }

    /// Does what the splitter says; gives 1 where a question is answered.
    fn take(
        &mut self,
        step: Step,
        answers: &mut BTreeMap<u64, Answer>,
    ) -> Result<usize, NodeError> {
        match step {
            Step::Done(answer) => {
                self.keep(answer, answers);
                Ok(1)
            }
            Step::Send(server, activations) => {
                let version: Digest = self.splitter.version();
                for activation in activations {
                    let (request, bytes) = (activation.request, activation.encoded_len());
                    let about = Some(version);
                    let let_out =
                        self.outlet.let_out(Kind::Activation, about, DESTINATION, activation)?;
                    self.tally.activation_bytes += bytes as u64;
                    self.left.insert(request, (Instant::now(), bytes));
                    // A connection that is gone is told as an event of its own.
                    let sender = self.senders.get(usize::from(server)).and_then(Option::as_ref);
                    let _ = sender.map(|sender| sender.send(let_out));
                }
                Ok(0)
            }
        }
    }

    fn keep(&mut self, answer: Answer, answers: &mut BTreeMap<u64, Answer>) {
        let origin = match &answer.origin {
            Origin::Here => "here".to_owned(),
            Origin::Split => "split".to_owned(),
            Origin::LocalDeadline => "local: too late".to_owned(),
            Origin::LocalDisconnected => "local: not connected".to_owned(),
            Origin::LocalRejected(code) => format!("local: rejected as {code}"),
        };
        *self.tally.origins.entry(origin).or_insert(0) += 1;
        answers.insert(answer.request, answer);
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }
}

/// One inference at a time in a folder.
fn lock(ledger: &Path) -> Result<File, NodeError> {
    let path = ledger.join("inference.lock");
    let fail = |e: std::io::Error| NodeError::State(format!("{}: {e}", path.display()));
    std::fs::create_dir_all(ledger).map_err(fail)?;
    let file = File::create(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(NodeError::State(format!(
            "{}: another inference runs in this folder; wait for it",
            ledger.display()
        ))),
        Err(TryLockError::Error(e)) => Err(fail(e)),
    }
}

fn split_error(error: &SplitError) -> NodeError {
    match error {
        SplitError::Forbidden { .. } => NodeError::Refused(error.to_string()),
        _ => NodeError::Config(error.to_string()),
    }
}
