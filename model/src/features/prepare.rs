//! Applying what was fitted: a site's table becomes a data set, with a report on what was imputed.
//!
//! The one place where means, scales and one-hot columns are applied, for training and inference
//! alike. The report is for the site's own eyes: it has `Display`, and no wire form.
//!
//! Start at [`prepare`]; inference uses [`prepare_inputs`].

use std::fmt;

use super::fitted::FittedFeatures;
use super::statistics::category_index;
use super::table::{ColumnTally, Table};
use super::{
    CategoryMissing, Column, ColumnKind, FeatureError, FeaturePlan, NumberMissing, Scaling, to_f32,
};
use crate::dataset::Dataset;

/// A data set and what was done to make it.
pub struct Prepared {
    /// Rows ready for the engine.
    pub dataset: Dataset,
    /// What was missing, clamped or dropped.
    pub report: ImputationReport,
}

/// Rows without labels, ready for inference. No `Debug`, no `Serialize`.
pub struct Inputs {
    /// `rows * width`, row-major.
    pub x: Vec<f32>,
    /// Number of rows.
    pub rows: usize,
    /// Tensor columns.
    pub width: usize,
}

/// What was missing, clamped or dropped in one table. For the site's own eyes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImputationReport {
    /// Rows seen in the file.
    pub rows_read: u64,
    /// Rows in the data set.
    pub rows_used: u64,
    /// Rows left out because a cell or the whole record cannot be read, as private training does.
    pub rows_unreadable: u64,
    /// Rows dropped because their label is missing.
    pub rows_without_label: u64,
    /// Rows whose group is missing; each is a group of its own.
    pub rows_without_group: u64,
    /// One entry per column of the plan.
    pub columns: Vec<ColumnReport>,
}

/// What happened to one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnReport {
    /// The plan's name.
    pub name: String,
    /// The site lacks this optional column.
    pub absent: bool,
    /// Cells missing.
    pub missing: u64,
    /// What missing cells became, in words.
    pub imputed: String,
    /// Numbers clamped to the public bounds.
    pub clamped: u64,
    /// Categories that the plan does not list.
    pub other: u64,
}

/// Makes the data set of a table with labels.
///
/// # Errors
/// [`FeatureError::OtherPlan`] and [`FeatureError::Unlabelled`].
pub fn prepare(
    table: &Table,
    plan: &FeaturePlan,
    fitted: &FittedFeatures,
) -> Result<Prepared, FeatureError> {
    let labels = table.labels()?;
    let (inputs, report) = prepare_inputs(table, plan, fitted)?;
    let by_class = fitted.class_weights(plan);
    let weights = labels.iter().map(|&label| by_class[label as usize]).collect();
    let y = labels.iter().map(|&label| to_f32(f64::from(label))).collect();
    let dataset = Dataset::new(inputs.width, inputs.x, y, weights, table.keys().to_vec())
        .expect("table and plan agree on rows and width");
    Ok(Prepared { dataset, report })
}

/// Makes the inputs of a table, labels or not.
///
/// # Errors
/// [`FeatureError::OtherPlan`].
pub fn prepare_inputs(
    table: &Table,
    plan: &FeaturePlan,
    fitted: &FittedFeatures,
) -> Result<(Inputs, ImputationReport), FeatureError> {
    table.belongs_to(plan)?;
    if fitted.plan_digest() != plan.digest() {
        return Err(FeatureError::OtherPlan("the fitted features"));
    }
    let encoders = encoders(plan, fitted);
    let (rows, width) = (table.rows(), plan.width());
    let mut x = Vec::with_capacity(rows * width);
    for row in 0..rows {
        for (&cell, encoder) in table.row(row).iter().zip(&encoders) {
            encoder.append(cell, &mut x);
        }
    }
    Ok((Inputs { x, rows, width }, report(table, plan)))
}

/// How one column's cells become tensor columns; made once per table.
enum Encoder<'a> {
    Number {
        settings: super::NumberSettings,
        offset: f64,
        scale: f64,
        /// The scaled value of a missing cell.
        missing: f64,
    },
    Category {
        size: usize,
        missing: &'a CategoryMissing,
        constant: usize,
    },
}

fn encoders<'a>(plan: &'a FeaturePlan, fitted: &FittedFeatures) -> Vec<Encoder<'a>> {
    let mut moments = fitted.means().iter().zip(fitted.variances());
    plan.columns()
        .iter()
        .map(|column| match (&column.kind, column.number()) {
            (ColumnKind::Category { categories, missing }, _) => {
                let constant = match missing {
                    CategoryMissing::Constant(value) => {
                        categories.iter().position(|category| category == value)
                    }
                    CategoryMissing::Other | CategoryMissing::Indicator => None,
                };
                let constant = constant.unwrap_or(categories.len());
                Encoder::Category { size: categories.len() + 1, missing, constant }
            }
            (_, Some(settings)) => {
                let (&mean, &variance) =
                    moments.next().expect("fitted features have moments for every number");
                let (offset, scale) = match settings.scaling {
                    Scaling::Standard => (mean, 1.0 / variance.sqrt()),
                    Scaling::Bounds => {
                        let (middle, half) = settings.middle_and_half();
                        (middle, 1.0 / half)
                    }
                    Scaling::None => (0.0, 1.0),
                };
                let imputed = match settings.missing {
                    NumberMissing::Constant(value) => settings.transformed(value),
                    NumberMissing::Mean | NumberMissing::Indicator => mean,
                };
                Encoder::Number { settings, offset, scale, missing: (imputed - offset) * scale }
            }
            (_, None) => unreachable!("numeric columns and flags have number settings"),
        })
        .collect()
}

impl Encoder<'_> {
    fn append(&self, cell: f64, x: &mut Vec<f32>) {
        match self {
            Self::Number { settings, offset, scale, missing } => {
                if cell.is_nan() {
                    x.push(to_f32(*missing));
                } else {
                    x.push(to_f32((settings.transformed(cell) - offset) * scale));
                }
                if settings.missing == NumberMissing::Indicator {
                    x.push(f32::from(u8::from(cell.is_nan())));
                }
            }
            Self::Category { size, missing, constant } => {
                let indicator = **missing == CategoryMissing::Indicator;
                let hot = match category_index(cell) {
                    Some(index) => index,
                    None if indicator => *size,
                    None => *constant,
                };
                let width = size + usize::from(indicator);
                x.extend((0..width).map(|index| f32::from(u8::from(index == hot))));
            }
        }
    }
}

fn report(table: &Table, plan: &FeaturePlan) -> ImputationReport {
    let tally = table.tally();
    ImputationReport {
        rows_read: tally.rows_read,
        rows_used: table.rows() as u64,
        rows_unreadable: tally.rows_unreadable,
        rows_without_label: tally.rows_without_label,
        rows_without_group: tally.rows_without_group,
        columns: plan
            .columns()
            .iter()
            .zip(&tally.columns)
            .map(|(column, &ColumnTally { absent, missing, clamped, other })| ColumnReport {
                name: column.name.clone(),
                absent,
                missing,
                imputed: rule_in_words(column),
                clamped,
                other,
            })
            .collect(),
    }
}

fn rule_in_words(column: &Column) -> String {
    match (&column.kind, column.number().map(|number| number.missing)) {
        (_, Some(NumberMissing::Mean)) => "the mean".to_owned(),
        (_, Some(NumberMissing::Indicator)) => "the mean, and flagged".to_owned(),
        (_, Some(NumberMissing::Constant(value))) => value.to_string(),
        (ColumnKind::Category { missing, .. }, None) => match missing {
            CategoryMissing::Other => "*other*".to_owned(),
            CategoryMissing::Indicator => "flagged".to_owned(),
            CategoryMissing::Constant(value) => format!("`{value}`"),
        },
        (_, None) => unreachable!("numeric columns and flags have number settings"),
    }
}

impl ImputationReport {
    /// Cells missing over all columns.
    #[must_use]
    pub fn cells_missing(&self) -> u64 {
        self.columns.iter().map(|column| column.missing).sum()
    }

    /// Whether every cell was there, known and within its bounds.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.rows_without_label + self.rows_unreadable == 0
            && self.rows_without_group == 0
            && self.columns.iter().all(|c| !c.absent && c.missing + c.clamped + c.other == 0)
    }
}

/// A summary line, then a line for each of the worst columns.
impl fmt::Display for ImputationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = self.rows_used * self.columns.len() as u64;
        let missing = self.cells_missing();
        let share = 100.0 * missing as f64 / (cells.max(1)) as f64;
        write!(
            f,
            "{} of {} rows used; {missing} of {cells} cells missing ({share:.1} %)",
            self.rows_used, self.rows_read
        )?;
        if self.rows_unreadable > 0 {
            write!(f, "; {} rows left out that cannot be read", self.rows_unreadable)?;
        }
        if self.rows_without_label > 0 {
            write!(f, "; {} rows dropped without label", self.rows_without_label)?;
        }
        if self.rows_without_group > 0 {
            write!(f, "; {} rows without group", self.rows_without_group)?;
        }
        let mut touched: Vec<&ColumnReport> = (self.columns.iter())
            .filter(|c| c.absent || c.missing + c.clamped + c.other > 0)
            .collect();
        touched.sort_by_key(|c| (!c.absent, std::cmp::Reverse(c.missing + c.clamped + c.other)));
        for column in touched.iter().take(LINES_MAX) {
            write!(f, "\n  {column}")?;
        }
        if touched.len() > LINES_MAX {
            write!(f, "\n  and {} more columns", touched.len() - LINES_MAX)?;
        }
        Ok(())
    }
}

impl fmt::Display for ColumnReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        if self.absent {
            return write!(f, "not in this table, every cell becomes {}", self.imputed);
        }
        let mut parts = Vec::new();
        if self.missing > 0 {
            parts.push(format!("{} missing became {}", self.missing, self.imputed));
        }
        if self.clamped > 0 {
            parts.push(format!("{} clamped to the bounds", self.clamped));
        }
        if self.other > 0 {
            parts.push(format!("{} not listed became *other*", self.other));
        }
        write!(f, "{}", parts.join(", "))
    }
}

/// Columns that the report shows by name.
const LINES_MAX: usize = 12;
