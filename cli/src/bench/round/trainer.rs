//! A trainer without rows that takes a stated time.

use std::time::{Duration, Instant};

use koinon_client::report::Figures;
use koinon_client::trainer::{Contribution, Job, Trainer, Work, WorkError};
use koinon_model::contribution::{FieldChoice, FieldSpec, RoundKind, fields};
use rustix::time::{ClockId, clock_gettime};

/// What a site does while it trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Manner {
    /// It sleeps: as if each site had a machine of its own.
    #[default]
    Sleep,
    /// It computes, and takes that much of this machine's CPU time.
    Work,
}

impl Manner {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Sleep => "asleep",
            Self::Work => "computing, all sites on this machine's cores",
        }
    }
}

/// A stand-in for training.
#[derive(Clone, Copy)]
pub(super) struct Training {
    pub(super) ms: u64,
    pub(super) manner: Manner,
}

impl Training {
    fn take(self, stop: &dyn Fn() -> bool) {
        let time = Duration::from_millis(self.ms);
        match self.manner {
            Manner::Sleep => {
                let end = Instant::now() + time;
                while !stop() && Instant::now() < end {
                    let left = end.saturating_duration_since(Instant::now());
                    std::thread::sleep(left.min(Duration::from_millis(500)));
                }
            }
            Manner::Work => {
                let end = thread_time() + time;
                while !stop() && thread_time() < end {
                    std::hint::black_box((0..100_000_u64).fold(0, |a, b| a ^ b));
                }
            }
        }
    }
}

/// CPU time of the present thread.
fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

impl Trainer for Training {
    fn work(&mut self, job: &Job, stop: &dyn Fn() -> bool) -> Result<Work, WorkError> {
        if job.kind == RoundKind::Train {
            self.take(stop);
        }
        let encoding = &job.manifest.encoding;
        let choice = FieldChoice {
            update_bound: encoding.update_bound,
            frac_bits: encoding.frac_bits,
            rows_max: encoding.rows_max,
            private: job.manifest.privacy.is_some(),
            count_frac_bits: job.manifest.count_frac_bits(),
        };
        let parameters = job.spec.as_ref().map_or(0, |spec| spec.layout().trainable());
        let fields = fields(job.kind, parameters, &job.features, &choice);
        let rows = if job.kind == RoundKind::Evaluate { VALIDATION } else { ROWS };
        let values = fields.iter().map(|field| values(field, f64::from(rows))).collect();
        let contribution = Contribution { weight: rows, values };
        Ok(Work { contribution, figures: Figures::default() })
    }
}

/// Rows that a site says it has, to train and to validate.
const ROWS: u32 = 40;
const VALIDATION: u32 = 10;

/// Sums as so many rows might have them.
fn values(field: &FieldSpec, rows: f64) -> Vec<f64> {
    let validation = f64::from(VALIDATION);
    let first = |value: f64| {
        let mut values = vec![0.0; field.len];
        values.iter_mut().take(1).for_each(|first| *first = value);
        values
    };
    let all = |value: f64| vec![value; field.len];
    match field.name.as_str() {
        "update" => all(1.0 / 1024.0),
        "loss" => all(0.5),
        "val_loss" => all(validation / 2.0),
        "rows" | "numbers.count" => all(rows),
        "numbers.squares" => all(rows / 4.0),
        "labels.count" => first(rows),
        "val_rows" => all(validation),
        "val_correct" => all(6.0),
        "val_pos" => first(4.0),
        "val_neg" => first(6.0),
        _ => all(0.0),
    }
}
