//! The carrier of split inference: activations through the egress door to a partition server, answers back.
//!
//! It carries what a [`Splitter`] makes and nothing else. A server that cannot be reached, is slow or says no costs time,
//! never an answer: the splitter answers here and says so. It has a ledger file of its own, so that it may run beside the
//! node. Start at [`run`].

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use koinon_proto::wire::inference_client::InferenceClient;
use koinon_proto::{Digest, Millis, limits, wire};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::config::{self, Config};
use super::connect::{self, PARTITION};
use super::control::read_policy;
use super::counters::{Counters, Totals};
use super::error::NodeError;
use super::keystore::KeyStore;
use super::outlet::{INFERENCE_LEDGER_FILE, Outlet};
use super::rounds::{call, check_version, refused, version_range};
use crate::ledger::Kind;
use crate::split::{Answer, Origin, Placement, SplitError, Splitter};

/// Questions on their way at a time.
const WINDOW: usize = 16;
/// What the ledger calls the far side: a partition server is known by its role.
const DESTINATION: &str = "partition";

/// What is asked.
pub struct Request<'a> {
    /// The partition server's address, `host:port`.
    pub address: &'a str,
    /// Where the model is cut.
    pub placement: Placement,
    /// The spec's bytes, JSON.
    pub spec: &'a [u8],
    /// The parameters' bytes, safetensors.
    pub params: &'a [u8],
    /// Prepared rows, all inputs of a row one after another.
    pub rows: &'a [f32],
    /// Inputs of a row.
    pub width: usize,
    /// Rows in one message.
    pub batch: usize,
}

/// What came of it.
pub struct Inferred {
    /// Raw outputs in the order of the rows.
    pub outputs: Vec<f32>,
    /// Messages by who answered them: `split`, or why the site did.
    pub origins: BTreeMap<String, u64>,
    /// Encoded bytes of the activations that left.
    pub activation_bytes: u64,
    /// Bytes on the wire.
    pub transport: Totals,
    /// Why the server was not reached, if it was not.
    pub problem: Option<String>,
}

/// Asks the partition server for every row; answers here what it does not.
///
/// # Errors
/// [`NodeError`]: settings, policy (a cut that is not permitted), ledger. Trouble with the server is no error.
pub async fn run(dir: &Path, request: &Request<'_>) -> Result<Inferred, NodeError> {
    let keys = KeyStore::open(dir)?;
    let config = config::load(dir)?;
    let policy = read_policy(&config.policy)?;
    let splitter = Splitter::new(request.spec, request.params, request.placement, &policy)
        .map_err(|e| split_error(&e))?;
    let _lock = lock(&config.ledger)?;
    let outlet = Outlet::open_file(&config.ledger.join(INFERENCE_LEDGER_FILE), policy, None)?;
    let counters = Counters::default();
    let mut asker = Asker {
        started: Instant::now(),
        answers: BTreeMap::new(),
        origins: BTreeMap::new(),
        activation_bytes: 0,
        outlet,
        splitter,
    };
    let batches: Vec<&[f32]> =
        request.rows.chunks(request.batch.max(1) * request.width.max(1)).collect();
    let problem = match asker.connect(&keys, &config, request.address, &counters).await {
        Ok((sender, replies)) => asker.carry(&batches, sender, replies).await?,
        Err(NodeError::Connect(e)) => Some(e.to_string()),
        Err(e) => return Err(e),
    };
    asker.rest_here(&batches)?;
    super::settle(&counters).await;
    Ok(Inferred {
        outputs: asker.answers.into_values().flatten().collect(),
        origins: asker.origins,
        activation_bytes: asker.activation_bytes,
        transport: counters.totals(),
        problem,
    })
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

struct Asker {
    started: Instant,
    /// Outputs by the number of their question, which is the order of the rows.
    answers: BTreeMap<u64, Vec<f32>>,
    origins: BTreeMap<String, u64>,
    activation_bytes: u64,
    outlet: Outlet,
    splitter: Splitter,
}

type Stream = (mpsc::Sender<wire::Activation>, Streaming<wire::InferenceReply>);

impl Asker {
    async fn connect(
        &self,
        keys: &KeyStore,
        config: &Config,
        address: &str,
        counters: &Counters,
    ) -> Result<Stream, NodeError> {
        let mut target = config.coordinator.target()?;
        address.clone_into(&mut target.address);
        PARTITION.clone_into(&mut target.server_name);
        let channel = connect::channel(&target, &keys.tls()?, counters).await?;
        let mut client = InferenceClient::new(channel)
            .max_decoding_message_size(limits::FRAME_BYTES_MAX)
            .max_encoding_message_size(limits::FRAME_BYTES_MAX);
        let range = self.outlet.let_out(Kind::Negotiate, None, DESTINATION, version_range(0))?;
        let answer = call(client.negotiate(range)).await;
        check_version(&answer.map_err(|s| refused(&target, "negotiate", &s))?, 0)?;
        let (sender, questions) = mpsc::channel(WINDOW);
        let replies = call(client.infer(ReceiverStream::new(questions))).await;
        Ok((sender, replies.map_err(|s| refused(&target, "infer", &s))?))
    }

    /// Sends questions and takes answers until all are answered or the stream ends; gives the reason of its end.
    async fn carry(
        &mut self,
        batches: &[&[f32]],
        sender: mpsc::Sender<wire::Activation>,
        mut replies: Streaming<wire::InferenceReply>,
    ) -> Result<Option<String>, NodeError> {
        let mut next = batches.iter();
        let mut sender = Some(sender);
        let mut waiting = 0usize;
        loop {
            while waiting < WINDOW
                && let Some(open) = &sender
            {
                let Some(rows) = next.next() else {
                    sender = None; // the server sees the end of the questions
                    break;
                };
                let activation = self.ask(rows)?;
                waiting += 1;
                if open.send(activation).await.is_err() {
                    sender = None;
                }
            }
            if waiting == 0 {
                return Ok(None);
            }
            let due = self.splitter.next_deadline().unwrap_or(Millis::MAX);
            let patience = Duration::from_millis(due.saturating_sub(self.now()).min(3_600_000));
            match tokio::time::timeout(patience, replies.message()).await {
                Ok(Ok(Some(reply))) => {
                    let answer = self.splitter.reply(reply).map_err(|e| split_error(&e))?;
                    waiting -= self.keep(answer.into_iter().collect());
                }
                Ok(Ok(None)) => return Ok(Some("the partition server ended the stream".into())),
                Ok(Err(status)) => return Ok(Some(status.message().to_owned())),
                Err(_) => {
                    let late = self.splitter.expire(self.now()).map_err(|e| split_error(&e))?;
                    waiting -= self.keep(late);
                }
            }
        }
    }

    fn ask(&mut self, rows: &[f32]) -> Result<wire::Activation, NodeError> {
        let activation = self.splitter.ask(self.now(), rows).map_err(|e| split_error(&e))?;
        self.activation_bytes += activation.encoded_len() as u64;
        let version: Digest = self.splitter.version();
        self.outlet.let_out(Kind::Activation, Some(version), DESTINATION, activation)
    }

    /// Answers here what the server did not, and what it was never asked.
    fn rest_here(&mut self, batches: &[&[f32]]) -> Result<(), NodeError> {
        let lost = self.splitter.disconnected().map_err(|e| split_error(&e))?;
        self.keep(lost);
        let asked = self.answers.len();
        for rows in batches.iter().skip(asked) {
            self.splitter.ask(self.now(), rows).map_err(|e| split_error(&e))?;
            let here = self.splitter.disconnected().map_err(|e| split_error(&e))?;
            self.keep(here);
        }
        Ok(())
    }

    fn keep(&mut self, answers: Vec<Answer>) -> usize {
        let n = answers.len();
        for answer in answers {
            let origin = match answer.origin {
                Origin::Split => "split".to_owned(),
                Origin::LocalDeadline => "local: too late".to_owned(),
                Origin::LocalDisconnected => "local: not connected".to_owned(),
                Origin::LocalRejected(code) => format!("local: rejected as {code}"),
            };
            *self.origins.entry(origin).or_insert(0) += 1;
            self.answers.insert(answer.request, answer.outputs);
        }
        n
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }
}

fn split_error(error: &SplitError) -> NodeError {
    match error {
        SplitError::Forbidden { .. } => NodeError::Refused(error.to_string()),
        _ => NodeError::Config(error.to_string()),
    }
}
