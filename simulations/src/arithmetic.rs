//! A trainer without data: numbers from the job's seed that are exact in fixed point.
//!
//! For runs that look for faults, not for good models. Every value is a whole number of the
//! encoding's grid, so its encoding does not depend on the random rounding, and the sum that a round
//! must open is known to the last bit. It implements the client's own [`Trainer`] and is otherwise
//! an ordinary site program. Start at [`Arithmetic`].

use crate::seeds::SeedTree;
use koinon_client::report::Figures;
use koinon_client::trainer::{Contribution, Job, Trainer, Work, WorkError};
use koinon_model::contribution::{FieldChoice, FieldSpec, RoundKind, fields};
use rand::RngExt;
use rand_chacha::ChaCha20Rng;

/// A trainer without data.
#[derive(Default)]
pub(crate) struct Arithmetic;

impl Trainer for Arithmetic {
    fn work(&mut self, job: &Job, _stop: &dyn Fn() -> bool) -> Result<Work, WorkError> {
        let encoding = &job.manifest.encoding;
        let choice = FieldChoice {
            update_bound: encoding.update_bound,
            frac_bits: encoding.frac_bits,
            rows_max: encoding.rows_max,
            private: job.manifest.privacy.is_some(),
            count_frac_bits: job.manifest.count_frac_bits(),
        };
        let n_params = job.spec.as_ref().map_or(0, |spec| spec.layout().len());
        let mut rng = SeedTree::new(job.seed).stream("arithmetic");
        let rows = rng.random_range(2..=encoding.rows_max.clamp(2, 40)) / 2 * 2;
        let fields = fields(job.kind, n_params, &job.features, &choice);
        let values = fields.iter().map(|field| values(field, rows, &mut rng)).collect();
        let weight = if job.kind == RoundKind::Evaluate { rows / 2 } else { rows };
        let weight = if choice.private { 1 } else { weight.max(1) };
        let contribution = Contribution { weight, values };
        Ok(Work { contribution, figures: Figures::default() })
    }
}

/// Values that rows could have: half of them validate, and the columns' values are ±1/2.
fn values(field: &FieldSpec, rows: u32, rng: &mut ChaCha20Rng) -> Vec<f64> {
    let (n, half) = (f64::from(rows), f64::from(rows / 2));
    let same = |value: f64| vec![value; field.len];
    let mut one = |value: f64| {
        let mut values = vec![0.0; field.len];
        values[rng.random_range(0..field.len)] = value;
        values
    };
    match field.name.as_str() {
        "update" => {
            let grid = f64::from(field.frac_bits).exp2();
            let largest = (grid * field.bound / 16.0).floor();
            let step = |rng: &mut ChaCha20Rng| (rng.random_range(-1.0..1.0) * largest).round();
            (0..field.len).map(|_| step(rng) / grid).collect()
        }
        "loss" => same(f64::from(rng.random_range(0..128u8)) / 64.0),
        "val_loss" => same(half * f64::from(rng.random_range(0..128u8)) / 64.0),
        "rows" | "numbers.count" => same(n),
        "val_rows" => same(half),
        "val_correct" => same(f64::from(rng.random_range(0..=rows / 2))),
        "val_pos" => one((half / 2.0).floor()),
        "val_neg" => one((half / 2.0).ceil()),
        "numbers.sum" => (0..field.len)
            .map(|_| (f64::from(rng.random_range(0..=rows)) - n / 2.0).floor())
            .collect(),
        "numbers.squares" => same(n / 4.0),
        "categories.count" => same(0.0),
        "labels.count" => one(n),
        _ => same(0.0),
    }
}
