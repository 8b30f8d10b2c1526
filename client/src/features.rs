//! A site's table read by a feature plan: its own column names mapped, its words for missing known,
//! every cell refused by row and column or taken.
//!
//! This joins a [`Source`] to [`koinon_model::features`]; it holds no rule about features itself, and
//! the rows it makes have no wire form. Start at [`read_table`]; what comes after it is
//! [`koinon_model::features::prepare::prepare`].
//!
//! ```
//! use koinon_client::features::{Mapping, read_table};
//! use koinon_client::source::csv::{CsvOptions, CsvSource};
//! use koinon_client::source::ReadLimits;
//! use koinon_model::features::table::Purpose;
//! use koinon_model::features::FeaturePlan;
//!
//! let plan = FeaturePlan::from_toml(r#"
//!     salt = "example-1"
//!     validation = 0.0
//!     [label]
//!     column = "relapse"
//!     kind = "binary"
//!     values = ["no", "yes"]
//!     [[columns]]
//!     name = "age"
//!     type = "numeric"
//!     bounds = [0, 120]
//! "#).unwrap();
//! let mapping: Mapping = toml::from_str(r#"rename = { Alter = "age" }"#).unwrap();
//! let text = "Alter,relapse\n61,yes\nNA,no\n";
//! let mut source =
//!     CsvSource::from_reader("rows.csv".into(), Box::new(text.as_bytes()), CsvOptions::default())
//!         .unwrap();
//! let table =
//!     read_table(&mut source, &plan, &mapping, &ReadLimits::default(), Purpose::Learn).unwrap();
//! assert_eq!((table.rows(), table.tally().columns[0].missing), (2, 1));
//! ```

mod cells;

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::RecordBatch;
use koinon_model::features::nearest::nearest;
use koinon_model::features::table::{Cell, Purpose, Table, TableBuilder};
use koinon_model::features::{FeatureError, FeaturePlan};
use serde::Deserialize;

use self::cells::ColumnCells;
use crate::source::{DataError, ReadLimits, Source};

/// How a site's table speaks: part of the site's own configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The site's name of a column → the plan's name.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
    /// Words for a missing cell, compared exactly; an empty cell is always missing.
    #[serde(default = "missing_words")]
    pub missing: BTreeSet<String>,
}

impl Default for Mapping {
    fn default() -> Self {
        Self { rename: BTreeMap::new(), missing: missing_words() }
    }
}

/// Reads a whole table by a plan.
///
/// Columns that the plan does not name are not even decoded. Memory is bounded by `limits`. For
/// [`Purpose::LearnPrivately`] a row that cannot be read is left out and counted: what another row
/// contributes must not depend on it.
///
/// # Errors
/// [`DataError`] names the table, the row, the column, and what to do.
pub fn read_table(
    source: &mut dyn Source,
    plan: &FeaturePlan,
    mapping: &Mapping,
    limits: &ReadLimits,
    purpose: Purpose,
) -> Result<Table, DataError> {
    let name = source.name().to_owned();
    let in_table = |error: FeatureError| DataError::Feature { name: name.clone(), error };
    check_renames(source, plan, mapping, purpose)?;
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, column) in source.columns().iter().enumerate() {
        let called = mapping.rename.get(column).unwrap_or(column);
        places.entry(called).or_default().push(place);
    }
    let present: BTreeSet<&str> = places.keys().copied().collect();
    let mut builder = TableBuilder::new(plan, &present, purpose).map_err(in_table)?;
    let mut selected = Vec::with_capacity(builder.inputs().len());
    for input in builder.inputs() {
        match places[input.as_str()][..] {
            [place] => selected.push(place),
            _ => return Err(DataError::Duplicate { name, column: input.clone() }),
        }
    }
    let names = builder.inputs().to_vec();
    let cells_a_row = plan.columns().len() as u64;
    source.select(&selected)?;
    if purpose.skips_rows() {
        source.skip_unreadable();
    }
    while let Some(batch) = source.next_batch()? {
        let rows = (builder.rows() + batch.num_rows()) as u64;
        if rows.saturating_mul(cells_a_row) > limits.cells_max || rows > limits.rows_max {
            let what = "rows times columns of the plan";
            return Err(DataError::Limit { name, what, max: limits.cells_max });
        }
        let cells = CellRules { mapping, limits, skip: purpose.skips_rows() };
        push_batch(&mut builder, &batch, &names, &cells).map_err(|wrong| match wrong {
            Wrong::Row(error) => in_table(error),
            Wrong::Type { column, kind } => {
                DataError::ColumnType { name: name.clone(), column, kind }
            }
            Wrong::Cell => DataError::Limit {
                name: name.clone(),
                what: "bytes in one cell",
                max: limits.cell_bytes_max as u64,
            },
        })?;
    }
    builder.leave_out(source.rows_skipped());
    let table = builder.finish();
    if table.tally().rows_read == 0 {
        return Err(DataError::NoRows { name });
    }
    Ok(table)
}

/// A renamed column that is not there is a slip of the pen, also where the plan could do without.
fn check_renames(
    source: &dyn Source,
    plan: &FeaturePlan,
    mapping: &Mapping,
    purpose: Purpose,
) -> Result<(), DataError> {
    let there: BTreeSet<&str> = source.columns().iter().map(String::as_str).collect();
    let learned = [Some(&plan.label().column), plan.split().group.as_ref()];
    let wanted: BTreeSet<&str> = (plan.columns().iter().map(|column| &column.name))
        .chain(learned.into_iter().flatten().filter(|_| purpose.learns()))
        .map(String::as_str)
        .collect();
    for (own, called) in &mapping.rename {
        if wanted.contains(called.as_str()) && !there.contains(own.as_str()) {
            return Err(DataError::Rename {
                name: source.name().to_owned(),
                column: own.clone(),
                nearest: nearest(own, there.iter().copied()).map(str::to_owned),
            });
        }
    }
    Ok(())
}

enum Wrong {
    Row(FeatureError),
    Type { column: String, kind: String },
    Cell,
}

/// How cells are taken.
struct CellRules<'a> {
    mapping: &'a Mapping,
    limits: &'a ReadLimits,
    /// Whether a row with a cell that is too long is left out.
    skip: bool,
}

fn push_batch(
    builder: &mut TableBuilder,
    batch: &RecordBatch,
    names: &[String],
    rules: &CellRules<'_>,
) -> Result<(), Wrong> {
    let CellRules { mapping, limits, skip } = *rules;
    let columns = batch
        .columns()
        .iter()
        .zip(names)
        .map(|(array, name)| {
            ColumnCells::of(array.as_ref())
                .map_err(|kind| Wrong::Type { column: name.clone(), kind })
        })
        .collect::<Result<Vec<_>, _>>()?;
    for row in 0..batch.num_rows() {
        let cells = columns
            .iter()
            .map(|column| match column.cell(row) {
                Cell::Text(text) if text.len() > limits.cell_bytes_max => Err(Wrong::Cell),
                Cell::Text(text) if mapping.missing.contains(text.trim()) => Ok(Cell::Missing),
                cell => Ok(cell),
            })
            .collect::<Result<Vec<_>, _>>();
        match cells {
            Ok(cells) => builder.push(&cells).map_err(Wrong::Row)?,
            Err(_) if skip => builder.leave_out(1),
            Err(wrong) => return Err(wrong),
        }
    }
    Ok(())
}

fn missing_words() -> BTreeSet<String> {
    ["NA", "N/A", "NaN", "nan", "null", "NULL"].map(str::to_owned).into()
}

#[cfg(test)]
mod tests;
