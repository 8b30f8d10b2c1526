//! What the node shows of itself: `status.json`, for `koinon client status` and for monitoring.
//!
//! Ids, counts and words only, never a value of the site's data. Written whole, by renaming; it is a
//! display and nothing reads it back. Start at [`StatusFile`].

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::files;
use super::outlet::Outlet;
use crate::participant::{Ending, Note, Participant};

/// The file's name in the site's folder.
pub const FILE: &str = "status.json";

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Whether the node runs; false in the last status of an orderly end.
    pub running: bool,
    /// Process id.
    pub pid: u32,
    /// When this was written, Unix milliseconds.
    pub written_ms: u64,
    /// Whether the coordinator answers.
    pub connected: bool,
    /// Why there is no connection.
    pub problem: Option<String>,
    /// Whether the site's operator paused it.
    pub paused: bool,
    /// The task of the round the site is in, hex.
    pub task: Option<String>,
    /// The round's number.
    pub round: u32,
    /// `idle`, `invited`, `training`, `sharing`, `reporting` or `revealing`.
    pub phase: String,
    /// The upload under way.
    pub upload: Option<UploadStatus>,
    /// The newest roster, hex.
    pub roster: Option<String>,
    /// Tasks that wait for an approval at this site, hex.
    pub awaiting_approval: Vec<String>,
    /// Bytes on the wire, below TLS, of this process.
    pub transport: TransportStatus,
    /// What this process let out. `entries` counts the whole ledger.
    pub ledger: LedgerStatus,
    /// Rounds that committed with this site taking part, since the start.
    pub rounds_done: u64,
    /// How the last session ended for this site.
    pub last_outcome: String,
    /// What this site has spent in privacy, over all starts; none before the first private round.
    #[serde(default)]
    pub privacy: Option<PrivacyStatus>,
    /// Heads of the log of posted keys that did not extend what this site took before; see
    /// `docs/operate.md`.
    #[serde(default)]
    pub key_log_contradictions: u64,
    /// The last code by which this site's policy or the coordinator said no.
    pub last_refusal: Option<String>,
}

/// What a site has spent in privacy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PrivacyStatus {
    /// In which the site's policy counts: `record` or `site`.
    pub unit: String,
    /// At most this much of it.
    pub epsilon: f64,
    /// At this delta, which is the policy's.
    pub delta: f64,
    /// The policy's limit.
    pub epsilon_total: f64,
    /// Masked updates that were accounted for.
    pub steps: u64,
}

/// A masked update on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadStatus {
    /// The session, hex.
    pub session: String,
    /// Chunks that the coordinator has.
    pub acknowledged: u32,
    /// Chunks there are.
    pub total: u32,
}

/// Bytes on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportStatus {
    /// Written to sockets.
    pub written: u64,
    /// Read from sockets.
    pub read: u64,
    /// The part of `written` that opened connections.
    pub handshake_written: u64,
    /// The part of `read` that opened connections.
    pub handshake_read: u64,
    /// Connections opened.
    pub connections: u64,
}

/// What was let out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerStatus {
    /// Entries of the ledger, over all starts.
    pub entries: u64,
    /// Encoded bytes let out by this process.
    pub bytes: u64,
    /// The same by kind.
    pub by_kind: BTreeMap<String, KindStatus>,
}

/// Messages of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindStatus {
    /// How many.
    pub messages: u64,
    /// Their encoded bytes.
    pub bytes: u64,
}

/// What was spent, computed again only where it may have changed.
fn spent(participant: &Participant, before: Option<PrivacyStatus>) -> Option<PrivacyStatus> {
    let (budget, policy) = (participant.budget(), participant.privacy_policy());
    let steps = budget.steps() as u64;
    let same = |before: &PrivacyStatus| {
        before.steps == steps
            && before.unit == policy.unit.to_string()
            && (before.delta, before.epsilon_total) == (policy.delta_total, policy.epsilon_total)
    };
    if steps == 0 || before.as_ref().is_some_and(same) {
        return before;
    }
    let (unit, delta) = (policy.unit.to_string(), policy.delta_total);
    let epsilon = budget.epsilon(policy.unit, delta, None);
    Some(PrivacyStatus { unit, epsilon, delta, epsilon_total: policy.epsilon_total, steps })
}

/// Keeps the status and writes it when it changed.
pub(super) struct StatusFile {
    path: PathBuf,
    status: NodeStatus,
    written: NodeStatus,
    counters: Counters,
    outlet: Outlet,
}

impl StatusFile {
    pub(super) fn new(path: PathBuf, counters: Counters, outlet: Outlet) -> Self {
        let status = NodeStatus { running: true, pid: std::process::id(), ..NodeStatus::default() };
        Self { path, status, written: NodeStatus::default(), counters, outlet }
    }

    /// Takes note of something the participant said.
    pub(super) fn note(&mut self, note: &Note) {
        match note {
            Note::Ended { ending, .. } => {
                self.status.rounds_done += u64::from(matches!(ending, Ending::Committed(_)));
                self.status.last_outcome = ending_word(ending);
            }
            Note::Refused { refusal, .. } => {
                self.status.last_refusal = Some(refusal.code().to_owned());
            }
            Note::Rejected { code } => self.status.last_refusal = Some(code.clone()),
            _ => {}
        }
    }

    /// The connection was lost, and why.
    pub(super) fn problem(&mut self, problem: Option<String>) {
        self.status.problem = problem;
    }

    /// Looks at everything and writes the file if anything changed.
    pub(super) fn update(&mut self, participant: &Participant) {
        let seen = participant.status();
        let status = &mut self.status;
        status.connected = seen.connected;
        status.paused = seen.paused;
        seen.phase.word().clone_into(&mut status.phase);
        status.task = seen.round.map(|(_, task, _)| task.to_string());
        status.round = seen.round.map_or(status.round, |(_, _, round)| round);
        status.upload = seen.upload.map(|upload| UploadStatus {
            session: upload.session.to_string(),
            acknowledged: upload.acknowledged,
            total: upload.total,
        });
        status.roster = seen.roster.map(|digest| digest.to_string());
        status.awaiting_approval = participant
            .offers()
            .filter(|offer| offer.refusal == Some(crate::error::Refusal::NotApproved))
            .map(|offer| offer.task.to_string())
            .collect();
        status.key_log_contradictions = participant.key_log_contradictions() as u64;
        status.privacy = spent(participant, status.privacy.take());
        self.publish();
    }

    /// Writes the last status of an orderly end.
    pub(super) fn close(&mut self) {
        self.status.running = false;
        self.status.connected = false;
        self.publish();
    }

    fn publish(&mut self) {
        let totals = self.counters.totals();
        self.status.transport = TransportStatus {
            written: totals.written,
            read: totals.read,
            handshake_written: totals.handshake_written,
            handshake_read: totals.handshake_read,
            connections: totals.connections,
        };
        let counts = self.outlet.counts();
        self.status.ledger = LedgerStatus {
            entries: self.outlet.head().entries,
            bytes: counts.values().map(|count| count.bytes).sum(),
            by_kind: counts
                .iter()
                .map(|(kind, count)| {
                    let kind_status = KindStatus { messages: count.messages, bytes: count.bytes };
                    (kind.word().to_owned(), kind_status)
                })
                .collect(),
        };
        self.status.written_ms = self.written.written_ms;
        if self.status == self.written {
            return;
        }
        self.status.written_ms = super::now_ms();
        if let Err(error) = self.write() {
            tracing::warn!(%error, "status.json cannot be written");
        }
        self.written = self.status.clone();
    }

    fn write(&self) -> io::Result<()> {
        files::publish(&self.path, &serde_json::to_vec_pretty(&self.status)?)
    }
}

fn ending_word(ending: &Ending) -> String {
    match ending {
        Ending::Committed(_) => "committed".into(),
        Ending::Abandoned(reason) => format!("abandoned: {reason}"),
        Ending::Superseded => "superseded".into(),
        Ending::Failed(code) => format!("failed: {code}"),
        Ending::Withdrawn(refusal) => format!("withdrawn: {}", refusal.code()),
    }
}
