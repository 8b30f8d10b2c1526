//! What a site contributes so that a plan can be fitted: sums over its training rows.
//!
//! These vectors are plain statistics of one site and leave it only inside a secure sum. Every
//! entry is a sum over rows in which one row counts at most [`StatField::row_bound`], so a site
//! with at most `rows_max` rows stays within `row_bound * rows_max`. Turning opened sums into means
//! and variances is [`super::fitted`]'s business.
//!
//! Start at [`stat_fields`] and [`local_statistics`].

use super::table::Table;
use super::{ColumnKind, FeatureError, FeaturePlan, Part};

/// A named vector of sums.
#[derive(Clone, Debug, PartialEq)]
pub struct StatField {
    /// What is summed.
    pub name: &'static str,
    /// Number of entries.
    pub len: usize,
    /// Most that one row adds to or takes from an entry.
    pub row_bound: f64,
}

/// The vectors a site contributes, in order; the same at every site for the same plan.
///
/// Fields without entries are left out. With N numeric columns and flags: `rows` (1), `numbers.count`, `numbers.sum`, `numbers.squares`
/// (N each), `categories.count` (all closed lists, each with *other*), `labels.count` (classes).
/// The sum is over `(x - middle) / half` of the transformed value, so it lies in [-1, 1] a row.
#[must_use]
pub fn stat_fields(plan: &FeaturePlan) -> Vec<StatField> {
    FIELD_NAMES
        .into_iter()
        .zip(lengths(plan))
        .filter(|&(_, len)| len > 0)
        .map(|(name, len)| StatField { name, len, row_bound: 1.0 })
        .collect()
}

/// This site's sums over its training rows, shaped as [`stat_fields`] says.
///
/// # Errors
/// [`FeatureError::OtherPlan`] and [`FeatureError::Unlabelled`].
pub fn local_statistics(plan: &FeaturePlan, table: &Table) -> Result<Vec<Vec<f64>>, FeatureError> {
    table.belongs_to(plan)?;
    let labels = table.labels()?;
    let mut fields = lengths(plan).map(|len| vec![0.0; len]);
    let [rows, count, sum, squares, categories, classes] = &mut fields;
    let settings: Vec<_> = plan
        .columns()
        .iter()
        .map(|column| column.number().map(|number| (number, number.middle_and_half())))
        .collect();
    for (row, &label) in labels.iter().enumerate() {
        if plan.part_of(table.keys()[row]) == Part::Validation {
            continue;
        }
        rows[0] += 1.0;
        classes[label as usize] += 1.0;
        let (mut number, mut category) = (0, 0);
        for ((cell, settings), column) in table.row(row).iter().zip(&settings).zip(plan.columns()) {
            match (settings, &column.kind) {
                (Some((settings, (middle, half))), _) => {
                    if !cell.is_nan() {
                        let unit = (settings.transformed(*cell) - middle) / half;
                        let unit = unit.clamp(-1.0, 1.0);
                        count[number] += 1.0;
                        sum[number] += unit;
                        squares[number] += unit * unit;
                    }
                    number += 1;
                }
                (None, ColumnKind::Category { categories: closed, .. }) => {
                    if let Some(index) = category_index(*cell) {
                        categories[category + index] += 1.0;
                    }
                    category += closed.len() + 1;
                }
                (None, _) => unreachable!("numeric columns and flags have number settings"),
            }
        }
    }
    Ok(fields.into_iter().filter(|field| !field.is_empty()).collect())
}

/// Vectors shaped as [`stat_fields`] says, with the empty ones put back; none if they are not.
pub(super) fn all_fields<'a>(
    plan: &FeaturePlan,
    vectors: &'a [Vec<f64>],
) -> Option<[&'a [f64]; FIELDS]> {
    let mut given = vectors.iter();
    let mut fields: [&[f64]; FIELDS] = [&[]; FIELDS];
    for (field, len) in fields.iter_mut().zip(lengths(plan)) {
        if len > 0 {
            *field = given.next().filter(|vector| vector.len() == len)?;
        }
    }
    given.next().is_none().then_some(fields)
}

fn lengths(plan: &FeaturePlan) -> [usize; FIELDS] {
    let numbers = plan.columns().iter().filter(|column| column.number().is_some()).count();
    let categories = category_sizes(plan).iter().sum();
    [1, numbers, numbers, numbers, categories, plan.label().values.len()]
}

/// Entries of each category column: its closed list and *other*.
pub(super) fn category_sizes(plan: &FeaturePlan) -> Vec<usize> {
    plan.columns()
        .iter()
        .filter_map(|column| match &column.kind {
            ColumnKind::Category { categories, .. } => Some(categories.len() + 1),
            _ => None,
        })
        .collect()
}

/// The index that a table's cell holds, none where missing.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tables hold a category as a small whole number"
)]
pub(super) fn category_index(cell: f64) -> Option<usize> {
    (!cell.is_nan()).then_some(cell as usize)
}

const FIELDS: usize = 6;
const FIELD_NAMES: [&str; FIELDS] =
    ["rows", "numbers.count", "numbers.sum", "numbers.squares", "categories.count", "labels.count"];
