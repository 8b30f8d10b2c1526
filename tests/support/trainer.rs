//! A trainer without data, and a gate in front of it.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use koinon_client::report::Figures;
use koinon_client::trainer::{Contribution, Job, Trainer, Work, WorkError};
use koinon_model::contribution::{FieldChoice, FieldSpec, RoundKind, fields};

const ROWS: f64 = 40.0;
const VALIDATION: f64 = 10.0;

/// Holds training rounds until it is opened, so that a test knows where a round is.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    closed: bool,
    waiting: usize,
    stopped: usize,
}

impl Gate {
    pub fn close(&self) {
        self.0.0.lock().unwrap().closed = true;
    }

    pub fn open(&self) {
        self.0.0.lock().unwrap().closed = false;
        self.0.1.notify_all();
    }

    /// How many trainers wait here.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.0.lock().unwrap().waiting
    }

    /// How many were told to stop while they waited.
    #[must_use]
    pub fn stopped(&self) -> usize {
        self.0.0.lock().unwrap().stopped
    }

    fn pass(&self, stop: &dyn Fn() -> bool) -> Result<(), WorkError> {
        let mut state = self.0.0.lock().unwrap();
        state.waiting += 1;
        while state.closed && !stop() {
            state = self.0.1.wait_timeout(state, Duration::from_millis(20)).unwrap().0;
        }
        state.waiting -= 1;
        if stop() {
            state.stopped += 1;
            return Err(WorkError::Stopped);
        }
        Ok(())
    }
}

/// Contributes the same figures in every round: an update of one small step everywhere.
#[derive(Clone, Default)]
pub struct Steady {
    pub gate: Gate,
}

/// The step that [`Steady`] takes in every parameter: exact in fixed point.
pub const STEP: f64 = 1.0 / 1024.0;

impl Trainer for Steady {
    fn work(&mut self, job: &Job, stop: &dyn Fn() -> bool) -> Result<Work, WorkError> {
        if job.kind == RoundKind::Train {
            self.gate.pass(stop)?;
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
        let contribution = Contribution {
            weight: if job.kind == RoundKind::Evaluate { 10 } else { 40 },
            values: fields.iter().map(|field| values(field, rows)).collect(),
        };
        Ok(Work { contribution, figures: Figures::default() })
    }
}

fn values(field: &FieldSpec, rows: f64) -> Vec<f64> {
    let first = |value: f64| {
        let mut values = vec![0.0; field.len];
        values[0] = value;
        values
    };
    match field.name.as_str() {
        "update" => vec![STEP; field.len],
        "loss" => vec![0.5; field.len],
        "val_loss" => vec![VALIDATION * 0.5; field.len],
        "rows" | "numbers.count" => vec![rows; field.len],
        "numbers.squares" => vec![rows / 4.0; field.len],
        "labels.count" => first(rows),
        "val_rows" => vec![VALIDATION; field.len],
        "val_correct" => vec![6.0; field.len],
        "val_pos" => first(4.0),
        "val_neg" => first(6.0),
        _ => vec![0.0; field.len],
    }
}
