//! After the end: every process has stopped, and the referee opens the folders to see whether what was promised was kept.
//!
//! What left the measured site is read from that site's own ledger and compared with its own count of bytes and with the
//! relay's; what the coordinator stored for it, and whether anything accepted was lost, from the coordinator's journal. Start
//! at [`run`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context as _;
use koinon_aggregation::SessionPlan;
use koinon_client::ledger::Entries;
use koinon_client::node::status::NodeStatus;
use koinon_client::node::{INFERENCE_LEDGER_FILE, LEDGER_FILE, config as site_config, site};
use koinon_client::trainer::{Job, RoundKind, Trainer as _, job_seed};
use koinon_coordinator::record::Change;
use koinon_coordinator::server::blobs::Blobs;
use koinon_coordinator::server::journal::SqliteJournal;
use koinon_model::features::fitted::FittedFeatures;
use koinon_model::params::Params;
use koinon_proto::{Digest, SiteId};

use super::federation::{Federation, Task};
use super::follow::Followed;
use super::outcome::{LedgerFigures, Masking, RelayFigures, Transport};
use super::screen::Screen;
use super::split::Sent;
use super::stage::Stage;
use crate::commands::taskfile;

/// Bins of both histograms.
const BINS: usize = 48;
/// Kinds of message that belong to rounds, for the bytes a site sends in one.
const ROUND_KINDS: [&str; 6] =
    ["ready", "shares", "report", "chunk", "survivor_signature", "reveal"];

/// What the audit found.
pub(crate) struct Audit {
    pub(crate) ledger: LedgerFigures,
    pub(crate) transport: Transport,
    pub(crate) relay: RelayFigures,
    pub(crate) lost_versions: u32,
    pub(crate) lost_updates: u32,
    pub(crate) bytes_up_per_site_round: u64,
    pub(crate) masking: Masking,
}

/// Stops everything, then looks.
pub(crate) fn run(
    stage: &mut Stage,
    federation: &mut Federation,
    screen: &Screen,
    task: &Task,
    followed: &Followed,
    split: &Sent,
) -> anyhow::Result<Audit> {
    let site = federation.measured.clone();
    let lost_versions = lost_versions(stage, followed)?;
    stage.stop(&federation.sites)?;
    let servers = stage.names();
    stage.stop(&servers)?;
    screen.step("audit", "every process has ended; the referee opens the folders");

    let counted = federation.relay.counts()?;
    let up = |line: &str| counted.get(line).map_or(0, |seen| seen.up);
    let relay = RelayFigures { bytes: up(&site) + up("partition") };
    let status = std::fs::read_to_string(stage.path(&site).join("status.json"))?;
    let status: NodeStatus = serde_json::from_str(&status).context("status.json")?;
    let ledger = ledger(stage, &site)?;
    let written = federation.joining.written + status.transport.written + split.written;
    let handshake_bytes =
        federation.joining.handshake + status.transport.handshake_written + split.handshake;
    let payload = written.saturating_sub(handshake_bytes).max(1);
    let framing_share = 1.0 - ledger.bytes as f64 / payload as f64;
    let transport = Transport { bytes: written, handshake_bytes, framing_share };

    let journal = Journal::read(stage)?;
    let in_rounds: u64 = ROUND_KINDS.iter().filter_map(|k| ledger.by_kind.get(*k)).sum();
    let rounds = followed.view.history.len().max(1) as u64;
    Ok(Audit {
        lost_versions,
        lost_updates: journal.lost_updates(),
        bytes_up_per_site_round: in_rounds / rounds,
        masking: masking(stage, &site, task, &journal)?,
        ledger,
        transport,
        relay,
    })
}

/// Versions that were announced while the task ran and that the coordinator does not have at the end.
fn lost_versions(stage: &Stage, followed: &Followed) -> anyhow::Result<u32> {
    let listed = stage.call(&["model", "list", "--dir", "operator", "--format", "json"])?;
    let listed: Vec<serde_json::Value> = serde_json::from_str(&listed)?;
    let kept: BTreeSet<&str> = listed.iter().filter_map(|v| v["version"].as_str()).collect();
    let announced = followed.seen_versions.iter();
    let lost = announced.filter(|v| !kept.contains(v.as_str())).count();
    Ok(u32::try_from(lost)?)
}

fn ledger(stage: &Stage, site: &str) -> anyhow::Result<LedgerFigures> {
    let mut figures = LedgerFigures { site: site.into(), ..LedgerFigures::default() };
    for file in [LEDGER_FILE, INFERENCE_LEDGER_FILE] {
        let text = std::fs::read(stage.path(site).join("ledger").join(file))?;
        for entry in Entries::of(&text) {
            let entry = entry?;
            figures.bytes += entry.bytes;
            figures.entries += 1;
            *figures.by_kind.entry(entry.kind.word().into()).or_insert(0) += entry.bytes;
        }
    }
    Ok(figures)
}

/// One attempt at a round, as the journal tells it.
struct Attempt {
    train: bool,
    round: u32,
    plan: SessionPlan,
    /// Version the sites started from.
    start: Option<Digest>,
    accepted: BTreeMap<SiteId, Digest>,
    survivors: Option<BTreeSet<SiteId>>,
    committed: bool,
}

struct Journal {
    attempts: Vec<Attempt>,
    fitted: Option<Digest>,
    blobs: Blobs,
}

impl Journal {
    fn read(stage: &Stage) -> anyhow::Result<Journal> {
        let state = stage.path("coordinator/state");
        let (_, records) = SqliteJournal::open(&state.join("journal.sqlite"))?;
        let mut journal = Journal {
            attempts: Vec::new(),
            fitted: None,
            blobs: Blobs::open(&state.join("blobs"))?,
        };
        let mut version = None;
        for record in records {
            let last = journal.attempts.last_mut();
            match (record.change, last) {
                (Change::TaskSubmitted { version: start, .. }, _) => version = start,
                (Change::RoundStarted { kind, round, plan, .. }, _) => {
                    let plan = SessionPlan::from_bytes(&plan.0)
                        .context("a session plan of the journal")?;
                    let train = kind == koinon_coordinator::Kind::Train;
                    journal.attempts.push(Attempt {
                        train,
                        round,
                        plan,
                        start: version,
                        accepted: BTreeMap::new(),
                        survivors: None,
                        committed: false,
                    });
                }
                (Change::UpdateAccepted { site, update, .. }, Some(a)) => {
                    a.accepted.insert(site, update);
                }
                (Change::SurvivorsFixed { .. }, Some(a)) => {
                    a.survivors = Some(a.accepted.keys().cloned().collect());
                }
                (Change::Committed { result, .. }, Some(a)) => {
                    a.committed = true;
                    match a.start {
                        Some(_) if a.train => version = Some(result),
                        _ if journal.fitted.is_none() && a.round == 0 => {
                            journal.fitted = Some(result)
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        Ok(journal)
    }

    /// Updates that were accepted and are in no committed sum.
    fn lost_updates(&self) -> u32 {
        let lost = |a: &Attempt| match &a.survivors {
            Some(survivors) if a.committed => {
                a.accepted.keys().filter(|s| !survivors.contains(*s)).count()
            }
            _ => a.accepted.len(),
        };
        u32::try_from(self.attempts.iter().map(lost).sum::<usize>()).unwrap_or(u32::MAX)
    }
}

/// The measured site's last update: as it was at the site, and as the coordinator has it.
fn masking(stage: &Stage, site: &str, task: &Task, journal: &Journal) -> anyhow::Result<Masking> {
    let name: SiteId = site.parse().context("the site's name")?;
    let (attempt, update) = journal
        .attempts
        .iter()
        .rev()
        .filter(|a| a.train && a.committed)
        .find_map(|a| Some((a, a.accepted.get(&name)?)))
        .context("the measured site took part in no committed round")?;
    let packed = journal.blobs.get(update)?.context("the coordinator kept no masked update")?;
    let bits = attempt.plan.encoding.bits();
    let words = koinon_aggregation::unpack(&packed, attempt.plan.encoding.entries(), bits)
        .context("a stored update has another length than its plan says")?;
    let stored =
        histogram(words.iter().map(|w| *w as f64 / 2f64.powi(i32::from(bits))), (0.0, 1.0));
    let update = true_update(stage, &name, task, journal, attempt)?;
    let most = update.iter().fold(0.0f64, |m, x| m.max(x.abs())).max(1e-9);
    Ok(Masking {
        words: words.len() as u64,
        bits: u32::from(bits),
        truth: histogram(update.into_iter(), (-most, most)),
        truth_range: (-most, most),
        stored_z: chi_square_z(&stored),
        stored,
    })
}

/// Trains once more what the site trained: same version, same rows, same seed, so the same update.
fn true_update(
    stage: &Stage,
    site: &SiteId,
    task: &Task,
    journal: &Journal,
    attempt: &Attempt,
) -> anyhow::Result<Vec<f64>> {
    let files = taskfile::read(&stage.path("operator/task"))?;
    let (spec, features) =
        (files.spec.context("no model")?, files.features.context("no features")?);
    let start = attempt.start.context("no version to start from")?;
    let params = journal.blobs.get(&start)?.context("the start version is gone")?;
    let fitted = match journal.fitted {
        Some(digest) => {
            let bytes = journal.blobs.get(&digest)?.context("the fitted statistics are gone")?;
            Some(Arc::new(FittedFeatures::from_canonical(&features, &bytes)?))
        }
        None => None,
    };
    let job = Job {
        session: Digest(attempt.plan.session),
        task: task.digest.parse()?,
        kind: RoundKind::Train,
        round: attempt.round,
        seed: job_seed(files.manifest.seed, attempt.round, site),
        draw: None,
        clip: None,
        budget_ms: files.manifest.budget_ms,
        manifest: Arc::new(files.manifest),
        params: Some(Arc::new(Params::from_safetensors(spec.layout(), &params)?)),
        spec: Some(Arc::new(spec)),
        features: Arc::new(features),
        training: Some(Arc::new(files.training.context("no training plan")?)),
        fitted,
    };
    let mut trainer = site::trainer(&site_config::load(&stage.path(site.as_str()))?);
    let work = trainer.work(&job, &|| false)?;
    // The first field is the update: see `koinon_model::contribution::fields`.
    work.contribution.values.into_iter().next().context("a contribution without update")
}

fn histogram(values: impl Iterator<Item = f64>, range: (f64, f64)) -> Vec<u64> {
    let mut counts = vec![0; BINS];
    for value in values {
        let place = (value - range.0) / (range.1 - range.0) * BINS as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the bins"
        )]
        let bin = place.clamp(0.0, BINS as f64 - 1.0) as usize;
        counts[bin] += 1;
    }
    counts
}

/// Pearson's chi-square against equal bins, standardised: noise lies within a few units of 0.
fn chi_square_z(counts: &[u64]) -> f64 {
    let expected = counts.iter().sum::<u64>() as f64 / counts.len().max(1) as f64;
    let square: f64 =
        counts.iter().map(|c| (*c as f64 - expected).powi(2) / expected.max(1e-9)).sum();
    let freedom = counts.len() as f64 - 1.0;
    (square - freedom) / (2.0 * freedom).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_looks_like_noise_and_an_update_does_not() {
        let even = histogram((0..48_000).map(|i| f64::from(i) / 48_000.0), (0.0, 1.0));
        assert_eq!(even, vec![1000; BINS]);
        assert!(chi_square_z(&even) < 0.0);
        let narrow = histogram((0..48_000).map(|i| 0.5 + f64::from(i % 7) / 1000.0), (0.0, 1.0));
        assert!(chi_square_z(&narrow) > 1000.0);
    }
}
