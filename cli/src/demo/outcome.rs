//! What a demo run found out: the object that `--format json` prints, and what the report draws.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A figure with its 95 % interval.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Score {
    /// Area under the ROC curve on the union of all test rows.
    pub(crate) auc: f64,
    /// Lower end of the 95 % interval.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
}

/// What each site reaches by itself.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Alone {
    /// Median over the sites.
    pub(crate) auc_median: f64,
    /// 95 % interval of the site at the median.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
    /// The worst site.
    pub(crate) auc_worst: f64,
    /// Every site's own model.
    pub(crate) by_site: BTreeMap<String, f64>,
}

/// The trained network, cut, against itself uncut.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Split {
    /// First node that runs at the partition server.
    pub(crate) cut: u32,
    /// Names of the tensors that cross.
    pub(crate) boundary: String,
    /// Rows that were answered.
    pub(crate) rows: u64,
    /// Largest difference to the uncut network's answers.
    pub(crate) max_abs_diff: f64,
    /// Activations on the wire.
    pub(crate) bytes_sent: u64,
    /// What the raw rows would have been, as 32-bit floats.
    pub(crate) raw_bytes: u64,
}

/// What left the measured site, by its own ledger.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct LedgerFigures {
    pub(crate) site: String,
    /// Payload bytes in the ledger.
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    pub(crate) by_kind: BTreeMap<String, u64>,
}

/// The site's own count of what it wrote to its sockets, TLS included.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Transport {
    pub(crate) bytes: u64,
    /// Of the bytes written, those that are TLS handshakes.
    pub(crate) handshake_bytes: u64,
    /// Share of TLS and HTTP/2 framing in the rest.
    pub(crate) framing_share: f64,
}

/// The relay's count of the same sockets.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct RelayFigures {
    pub(crate) bytes: u64,
}

/// The two faults, made on purpose.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Faults {
    pub(crate) site_kills: u32,
    pub(crate) coordinator_kills: u32,
    /// What happened, in words.
    pub(crate) notes: Vec<String>,
    /// Seconds from the start of the first round.
    #[serde(skip)]
    pub(crate) at_seconds: Vec<(f64, String)>,
}

/// One committed or abandoned round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) round: u32,
    pub(crate) kind: String,
    pub(crate) outcome: String,
    pub(crate) participants: u32,
    pub(crate) seconds: f64,
    pub(crate) started_seconds: f64,
    pub(crate) loss: Option<f64>,
    pub(crate) validation_auc: Option<f64>,
}

/// What the coordinator stored for one site beside that site's true update: counts in equal bins.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Masking {
    pub(crate) words: u64,
    pub(crate) bits: u32,
    /// The encoded update before masking, over its own range.
    pub(crate) truth: Vec<u64>,
    pub(crate) truth_range: (f64, f64),
    /// What the coordinator stored, over the whole ring.
    pub(crate) stored: Vec<u64>,
    /// Chi-square of the stored words against noise, as a z-score.
    pub(crate) stored_z: f64,
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) data: String,
    pub(crate) sites: u32,
    pub(crate) rounds: u32,
    pub(crate) federated: Score,
    pub(crate) pooled: Score,
    pub(crate) alone: Alone,
    pub(crate) split: Split,
    pub(crate) ledger: LedgerFigures,
    pub(crate) transport: Transport,
    pub(crate) relay: RelayFigures,
    pub(crate) faults: Faults,
    pub(crate) lost_versions: u32,
    pub(crate) lost_updates: u32,
    pub(crate) bytes_up_per_site_round: u64,
    pub(crate) masking: Masking,
    pub(crate) history: Vec<Round>,
    pub(crate) seconds: f64,
    /// Path of the report.
    pub(crate) report: String,
}
