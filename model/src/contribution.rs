//! What a site contributes to a round, and the fields it is written in.
//!
//! [`fields`] is a function of the task alone, so that every site and the coordinator compute the
//! same encoding and a site can refuse any other. [`Contribution`] is one site's plain values: it has
//! neither `Debug` nor `Serialize` and leaves the site only clipped, encoded and masked. The weight
//! is no field here: the encoding always sums it first.
//!
//! Not the arithmetic of the private sum; that knows nothing of models. Start at [`fields`].
//!
//! ```compile_fail
//! fn leave(values: &koinon_model::contribution::Contribution) -> String {
//!     format!("{values:?}") // a contribution has no Debug
//! }
//! ```
//! ```compile_fail
//! fn leave(values: &koinon_model::contribution::Contribution) -> Vec<u8> {
//!     serde_json::to_vec(values).unwrap() // and no Serialize
//! }
//! ```

use crate::features::FeaturePlan;
use crate::features::statistics::{StatField, stat_fields};
use crate::metrics::evaluation::{EvaluationSums, LOSS_MAX, evaluation_fields};

/// What a round sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundKind {
    /// Sums over training rows that the feature plan is fitted from.
    Statistics,
    /// Updates, and validation figures of the version they start from.
    Train,
    /// Validation figures alone.
    Evaluate,
}

/// The task's choices for encoding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FieldChoice {
    /// Largest absolute value of one entry of an update.
    pub update_bound: f64,
    /// Fractional bits of an entry of an update.
    pub frac_bits: i8,
    /// Most rows that a site counts.
    pub rows_max: u32,
    /// Whether the sum is noised: then it holds the update and nothing else, since every opened entry
    /// is noised and accounted, or not collected.
    pub private: bool,
    /// Fractional bits of the count of contributions that were not clipped, beside a private update
    /// whose clip follows them; none where nothing is counted.
    pub count_frac_bits: Option<i8>,
}

/// A named run of entries and how it is encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldSpec {
    /// Name in the sum.
    pub name: String,
    /// Number of entries, at least 1.
    pub len: usize,
    /// Largest absolute value of one site's entry, before the weight.
    pub bound: f64,
    /// Fractional bits.
    pub frac_bits: i8,
    /// Whether the site's weight multiplies it.
    pub weighted: bool,
}

/// Values of one site in the order of [`fields`]. No `Debug`, no `Serialize`.
pub struct Contribution {
    /// How much the site's update and loss count: its rows, at least 1.
    pub weight: u32,
    /// One vector per field.
    pub values: Vec<Vec<f64>>,
}

/// The fields of a round after the weight, in order.
///
/// - train: `update` (one entry per parameter, weighted), and unless the task is private `loss` (mean
///   training loss, weighted), then the validation figures of the version received; if it is private
///   and its clip adaptive, [`UNCLIPPED`] (one entry);
/// - evaluate: the validation figures, as [`evaluation_fields`] lists them;
/// - statistics: as [`stat_fields`] lists them.
#[must_use]
pub fn fields(
    kind: RoundKind,
    params: usize,
    plan: &FeaturePlan,
    choice: &FieldChoice,
) -> Vec<FieldSpec> {
    let summed = |fields: Vec<StatField>, frac_bits: i8| {
        fields.into_iter().map(move |field| summed_field(&field, frac_bits, choice.rows_max))
    };
    match kind {
        RoundKind::Statistics => summed(stat_fields(plan), STATISTICS_FRAC_BITS).collect(),
        RoundKind::Evaluate => summed(evaluation_fields(), LOSS_FRAC_BITS_MAX).collect(),
        RoundKind::Train => {
            let loss_bits = loss_frac_bits(choice);
            let update = FieldSpec {
                name: "update".to_owned(),
                len: params,
                bound: choice.update_bound,
                frac_bits: choice.frac_bits,
                weighted: true,
            };
            if choice.private {
                let count = choice.count_frac_bits.map(|bits| count_field(choice, bits));
                return std::iter::once(update).chain(count).collect();
            }
            let loss = FieldSpec {
                name: "loss".to_owned(),
                len: 1,
                bound: LOSS_MAX,
                frac_bits: loss_bits,
                weighted: true,
            };
            [update, loss].into_iter().chain(summed(evaluation_fields(), loss_bits)).collect()
        }
    }
}

impl Contribution {
    /// What a site contributes to a round of training.
    ///
    /// `loss` is the mean loss while training, cut off at [`LOSS_MAX`]; `validation` holds figures of
    /// the version received. A weight of 0 becomes 1.
    #[must_use]
    pub fn train(weight: u32, update: &[f32], loss: f64, validation: &EvaluationSums) -> Self {
        let loss = if loss.is_nan() { LOSS_MAX } else { loss.clamp(0.0, LOSS_MAX) };
        let mut values = vec![update.iter().map(|&value| f64::from(value)).collect(), vec![loss]];
        values.extend(validation.to_vectors());
        Self { weight: weight.max(1), values }
    }

    /// What a site contributes to a private step: its update and nothing else, with weight 1.
    #[must_use]
    pub fn private(update: Vec<f64>) -> Self {
        Self { weight: 1, values: vec![update] }
    }

    /// What a site contributes to a private step whose clip follows the contributions: the update in
    /// units of `clip`, and how many of its units were and were not clipped, seen from the quantile
    /// that should not be: 1 - quantile for each that was not, -quantile for each that was.
    #[must_use]
    pub fn counted(update: Vec<f64>, clip: f64, count: f64) -> Self {
        let update = update.into_iter().map(|value| value / clip).collect();
        Self { weight: 1, values: vec![update, vec![count]] }
    }

    /// What a site without rows, or whose work failed, contributes to a private step with these
    /// fields.
    #[must_use]
    pub fn nothing(lengths: impl Iterator<Item = usize>) -> Self {
        Self { weight: 1, values: lengths.map(|len| vec![0.0; len]).collect() }
    }

    /// What a site contributes to an evaluation. The weight is its validation rows, at least 1.
    #[must_use]
    pub fn evaluate(rows: u32, validation: &EvaluationSums) -> Self {
        Self { weight: rows.max(1), values: validation.to_vectors() }
    }

    /// What a site contributes to fitting: the vectors of
    /// [`crate::features::statistics::local_statistics`]. The weight is its training rows, at least 1.
    #[must_use]
    pub fn statistics(rows: u32, sums: Vec<Vec<f64>>) -> Self {
        Self { weight: rows.max(1), values: sums }
    }

    /// Whether the values are finite and shaped like these fields.
    #[must_use]
    pub fn fits(&self, fields: &[FieldSpec]) -> bool {
        self.values.len() == fields.len()
            && self.values.iter().zip(fields).all(|(values, field)| {
                values.len() == field.len && values.iter().all(|value| value.is_finite())
            })
    }
}

/// The count beside a private update: whole numbers as large as cost no word of the update a bit.
/// More than that is cut off, which makes the clip slower and tells no more of anybody.
fn count_field(choice: &FieldChoice, frac_bits: i8) -> FieldSpec {
    let room = f64::from(choice.frac_bits.saturating_sub(frac_bits)).exp2();
    let bound = choice.update_bound * room;
    FieldSpec { name: UNCLIPPED.to_owned(), len: 1, bound, frac_bits, weighted: false }
}

/// Sums over rows are not weighted: they already count their rows. Counts are whole numbers.
fn summed_field(field: &StatField, frac_bits: i8, rows_max: u32) -> FieldSpec {
    let real = matches!(field.name, "val_loss" | "numbers.sum" | "numbers.squares");
    FieldSpec {
        name: field.name.to_owned(),
        len: field.len,
        bound: field.row_bound * f64::from(rows_max),
        frac_bits: if real { frac_bits } else { 0 },
        weighted: false,
    }
}

/// As many fractional bits for a loss as cost no word of the update a bit.
fn loss_frac_bits(choice: &FieldChoice) -> i8 {
    let scale = |bits: i8| f64::from(bits).exp2();
    let room = choice.update_bound * scale(choice.frac_bits);
    (LOSS_FRAC_BITS_MIN..=LOSS_FRAC_BITS_MAX)
        .rev()
        .find(|&bits| LOSS_MAX * scale(bits) <= room)
        .unwrap_or(LOSS_FRAC_BITS_MIN)
}

/// Name of the field that counts what was not clipped.
pub const UNCLIPPED: &str = "unclipped";
/// Rounding of 2^-20 a site is far below what a variance feels.
const STATISTICS_FRAC_BITS: i8 = 20;
/// A mean loss to four digits, whatever the update's scale.
const LOSS_FRAC_BITS_MIN: i8 = 6;
const LOSS_FRAC_BITS_MAX: i8 = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::tests::{TINY, tiny_rows};

    fn choice() -> FieldChoice {
        let (private, count_frac_bits) = (false, None);
        FieldChoice { update_bound: 1.0, frac_bits: 16, rows_max: 128, private, count_frac_bits }
    }

    #[test]
    fn a_private_round_sums_the_update_alone() {
        let plan = FeaturePlan::from_toml(TINY).unwrap();
        let choice = FieldChoice { rows_max: 1, private: true, ..choice() };
        let fields = fields(RoundKind::Train, 7, &plan, &choice);
        assert_eq!(
            fields.iter().map(|f| (f.name.as_str(), f.len)).collect::<Vec<_>>(),
            [("update", 7)]
        );
        let contribution = Contribution::private(vec![0.5; 7]);
        assert!(contribution.fits(&fields) && contribution.weight == 1);
    }

    #[test]
    fn a_count_stands_beside_a_private_update_and_costs_no_bit() {
        let plan = FeaturePlan::from_toml(TINY).unwrap();
        let choice = FieldChoice { private: true, count_frac_bits: Some(14), ..choice() };
        let fields = fields(RoundKind::Train, 7, &plan, &choice);
        let count = &fields[1];
        assert_eq!((count.name.as_str(), count.len, count.bound), (UNCLIPPED, 1, 4.0));
        assert!(!count.weighted && count.frac_bits == 14);
        let counted = Contribution::counted(vec![0.5; 7], 0.25, -1.5);
        assert!(counted.fits(&fields) && counted.weight == 1);
        assert_eq!((counted.values[0][0], counted.values[1][0]), (2.0, -1.5));
        assert!(Contribution::nothing(fields.iter().map(|field| field.len)).fits(&fields));
    }

    #[test]
    fn contributions_fit_their_fields() {
        let plan = FeaturePlan::from_toml(TINY).unwrap();
        let table = tiny_rows(&plan, 20);
        let sums = crate::features::statistics::local_statistics(&plan, &table).unwrap();
        let mut figures = EvaluationSums::new();
        figures.add_logit(0.5, 1.0);
        let made = [
            (RoundKind::Statistics, Contribution::statistics(16, sums)),
            (RoundKind::Train, Contribution::train(16, &[0.1; 7], f64::NAN, &figures)),
            (RoundKind::Evaluate, Contribution::evaluate(0, &figures)),
        ];
        for (kind, contribution) in made {
            let fields = fields(kind, 7, &plan, &choice());
            assert!(contribution.fits(&fields), "{kind:?}");
            assert!(contribution.weight >= 1);
            for (values, field) in contribution.values.iter().zip(&fields) {
                assert!(field.len > 0 && values.iter().all(|value| value.abs() <= field.bound));
            }
            assert!(!contribution.fits(&fields[1..]));
        }
    }

    #[test]
    fn figures_do_not_widen_the_words() {
        let plan = FeaturePlan::from_toml(TINY).unwrap();
        let fields = fields(RoundKind::Train, 7, &plan, &choice());
        let words = |field: &FieldSpec| {
            let weight = if field.weighted { 128.0 } else { 1.0 };
            weight * field.bound * f64::from(field.frac_bits).exp2()
        };
        assert!(fields.iter().all(|field| words(field) <= words(&fields[0])));
    }
}
