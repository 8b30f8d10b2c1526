//! What the server counts, in the text form that Prometheus reads.
//!
//! Ids and counts only: no value of an activation, no name of a person. It opens no port. Start at [`Metrics::text`].

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// How requests end: answered, or a rejection's code, or nobody waited any more.
pub const OUTCOMES: [&str; 15] = [
    "answered",
    "cancelled",
    "failed",
    "illegal_range",
    "not_finite",
    "overloaded",
    "raw_input",
    "stopping",
    "too_large",
    "too_late",
    "too_many_rows",
    "unknown_codec",
    "unknown_sequence",
    "unknown_version",
    "wrong_shape",
];

/// Seconds, for histograms of times.
const SECONDS: [f64; 14] =
    [1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Counts, for histograms of batches.
const COUNTS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0];

/// Counters and histograms; gauges are handed in when they are read.
#[derive(Default)]
pub struct Metrics {
    outcomes: [AtomicU64; OUTCOMES.len()],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    waited: Histogram<{ SECONDS.len() }>,
    ran: Histogram<{ SECONDS.len() }>,
    batch_requests: Histogram<{ COUNTS.len() }>,
    batch_rows: Histogram<{ COUNTS.len() }>,
}

struct Histogram<const N: usize> {
    counts: [AtomicU64; N],
    count: AtomicU64,
    /// Thousandths of a thousandth, so that it stays an integer.
    sum_millionths: AtomicU64,
}

/// What is there now, read when the text is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Versions that are served.
    pub models: u64,
    /// Bytes that they are reckoned at.
    pub model_bytes: u64,
    /// Bytes that they may have.
    pub model_bytes_max: u64,
    /// Versions that did not fit.
    pub models_refused: u64,
    /// Bytes that those would have needed.
    pub model_bytes_refused: u64,
    /// Sequences that are remembered.
    pub sequences: u64,
    /// Bytes of their memories.
    pub state_bytes: u64,
    /// Sequences that made room since the start.
    pub sequences_evicted: u64,
    /// Bytes that wait.
    pub queue_bytes: u64,
    /// Open streams.
    pub streams: u64,
    /// Sites with an open stream.
    pub sites: u64,
}

impl Metrics {
    /// A request ended.
    pub fn ended(&self, outcome: &str) {
        if let Ok(at) = OUTCOMES.binary_search(&outcome) {
            self.outcomes[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests that ended so.
    #[must_use]
    pub fn count(&self, outcome: &str) -> u64 {
        OUTCOMES.binary_search(&outcome).map_or(0, |at| self.outcomes[at].load(Ordering::Relaxed))
    }

    /// A boundary came in.
    pub fn came(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// An answer left.
    pub fn left(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A request waited for its batch.
    pub fn waited(&self, us: u64) {
        self.waited.add(&SECONDS, us as f64 / 1e6);
    }

    /// A batch ran.
    pub fn ran(&self, requests: usize, rows: usize, us: u64) {
        self.ran.add(&SECONDS, us as f64 / 1e6);
        self.batch_requests.add(&COUNTS, requests as f64);
        self.batch_rows.add(&COUNTS, rows as f64);
    }

    /// Everything, in Prometheus' text format 0.0.4.
    #[must_use]
    pub fn text(&self, gauges: &Gauges) -> String {
        let mut out = String::new();
        head(&mut out, "requests_total", "counter", "Requests by how they ended.");
        for (name, count) in OUTCOMES.iter().zip(&self.outcomes) {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(out, "koinon_partition_requests_total{{outcome=\"{name}\"}} {count}");
        }
        let mut one = |name: &str, kind: &str, help: &str, value: u64| {
            head(&mut out, name, kind, help);
            let _ = writeln!(out, "koinon_partition_{name} {value}");
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        one("received_bytes_total", "counter", "Boundaries that came in.", read(&self.bytes_in));
        one("sent_bytes_total", "counter", "Answers that left.", read(&self.bytes_out));
        let g = gauges;
        one("models", "gauge", "Versions served.", g.models);
        one("model_bytes", "gauge", "Bytes that served versions are reckoned at.", g.model_bytes);
        one("model_bytes_max", "gauge", "Bytes that versions may have.", g.model_bytes_max);
        one("models_refused", "gauge", "Versions that do not fit.", g.models_refused);
        one("model_bytes_refused", "gauge", "Bytes that those need.", g.model_bytes_refused);
        one("sequences", "gauge", "Sequences remembered.", g.sequences);
        one("state_bytes", "gauge", "Bytes of what they remember.", g.state_bytes);
        one("sequences_evicted_total", "counter", "Sequences that made room.", g.sequences_evicted);
        one("queue_bytes", "gauge", "Bytes that wait.", g.queue_bytes);
        one("streams", "gauge", "Open streams.", g.streams);
        one("sites", "gauge", "Sites with an open stream.", g.sites);
        let waited = "Time from a request's arrival to its batch.";
        self.waited.write(&mut out, ("wait_seconds", waited), &SECONDS);
        self.ran.write(&mut out, ("run_seconds", "Time that a batch ran."), &SECONDS);
        let requests = ("batch_requests", "Requests in a batch.");
        self.batch_requests.write(&mut out, requests, &COUNTS);
        self.batch_rows.write(&mut out, ("batch_rows", "Rows in a batch."), &COUNTS);
        out
    }
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        let counts = std::array::from_fn(|_| AtomicU64::default());
        Self { counts, count: AtomicU64::default(), sum_millionths: AtomicU64::default() }
    }
}

impl<const N: usize> Histogram<N> {
    fn add(&self, bounds: &[f64; N], value: f64) {
        if let Some(at) = bounds.iter().position(|bound| value <= *bound) {
            self.counts[at].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "times and counts, far below 2^64 millionths"
        )]
        self.sum_millionths.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }

    fn write(&self, out: &mut String, (name, help): (&str, &str), bounds: &[f64; N]) {
        head(out, name, "histogram", help);
        let mut below = 0;
        for (bound, count) in bounds.iter().zip(&self.counts) {
            below += count.load(Ordering::Relaxed);
            let _ = writeln!(out, "koinon_partition_{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        let count = self.count.load(Ordering::Relaxed).max(below);
        let _ = writeln!(out, "koinon_partition_{name}_bucket{{le=\"+Inf\"}} {count}");
        let sum = self.sum_millionths.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(out, "koinon_partition_{name}_sum {sum}");
        let _ = writeln!(out, "koinon_partition_{name}_count {count}");
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP koinon_partition_{name} {help}");
    let _ = writeln!(out, "# TYPE koinon_partition_{name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_found_by_name() {
        assert!(OUTCOMES.is_sorted());
        let metrics = Metrics::default();
        OUTCOMES.iter().for_each(|outcome| metrics.ended(outcome));
        metrics.ended("answered");
        metrics.ended("what nobody knows");
        assert_eq!(metrics.count("answered"), 2);
        assert!(OUTCOMES[1..].iter().all(|outcome| metrics.count(outcome) == 1));
    }

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let metrics = Metrics::default();
        metrics.ran(3, 40, 2_000);
        metrics.ran(3, 5_000, 9_000_000);
        metrics.waited(50);
        let text = metrics.text(&Gauges { models: 2, ..Gauges::default() });
        assert!(text.contains("koinon_partition_models 2\n"));
        assert!(text.contains("koinon_partition_batch_rows_bucket{le=\"64\"} 1\n"));
        assert!(text.contains("koinon_partition_batch_rows_bucket{le=\"+Inf\"} 2\n"));
        assert!(text.contains("koinon_partition_run_seconds_sum 9.002\n"));
        assert!(text.contains("koinon_partition_run_seconds_bucket{le=\"0.0025\"} 1\n"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(
                name.starts_with("koinon_partition_") && value.parse::<f64>().is_ok(),
                "{line}"
            );
        }
    }
}
