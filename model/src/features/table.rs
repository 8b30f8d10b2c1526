//! Raw rows of one site, parsed once by a plan: numbers clamped, categories looked up, labels and
//! groups resolved.
//!
//! A [`Table`] is what a site's file has become before anything fitted is applied. It is not a data
//! frame and offers no way to look into it: it has neither `Debug` nor `Serialize`, so raw rows
//! have no wire form.
//!
//! ```compile_fail
//! fn leave(table: &koinon_model::features::table::Table) -> String {
//!     format!("{table:?}") // a table has no Debug
//! }
//! ```
//! ```compile_fail
//! fn leave(table: &koinon_model::features::table::Table) -> Vec<u8> {
//!     serde_json::to_vec(table).unwrap() // and no Serialize
//! }
//! ```
//!
//! Start at [`TableBuilder::new`]; file formats are the reader's business.

use std::collections::{BTreeMap, BTreeSet};

use super::nearest::nearest;
use super::{ColumnKind, FeatureError, FeaturePlan, NumberSettings, Part, Presence};
use crate::digest::Digest;

/// Rows of one site under one plan, still in the columns' units.
pub struct Table {
    plan: Digest,
    width: usize,
    /// Row-major, `rows * width`: a number, a category's index (the count for *other*), or NaN
    /// where missing.
    cells: Vec<f64>,
    /// One class per row, or none at all.
    labels: Option<Vec<u32>>,
    keys: Vec<u64>,
    tally: Tally,
}

/// What a table is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Training and evaluation: the label and the plan's group column must be there.
    Learn,
    /// Training under differential privacy: as [`Self::Learn`], but a row that cannot be read is left
    /// out and counted instead of refusing the table, so that one row decides about itself alone.
    LearnPrivately,
    /// Inference: neither is looked at.
    Infer,
}

impl Purpose {
    /// Whether label and group are read.
    #[must_use]
    pub fn learns(self) -> bool {
        self != Self::Infer
    }

    /// Whether rows that cannot be read are left out.
    #[must_use]
    pub fn skips_rows(self) -> bool {
        self == Self::LearnPrivately
    }
}

/// One cell as a reader found it.
#[derive(Clone, Copy)]
pub enum Cell<'a> {
    /// Empty, or one of the site's words for missing.
    Missing,
    /// A number of a typed file. NaN counts as missing.
    Number(f64),
    /// Text, parsed by the column's type.
    Text(&'a str),
    /// A truth value of a typed file.
    Flag(bool),
}

/// Counts of what happened while a table was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows seen.
    pub rows_read: u64,
    /// Rows left out because a cell, or the whole record, cannot be read: [`Purpose::LearnPrivately`].
    pub rows_unreadable: u64,
    /// Rows dropped because their label is missing.
    pub rows_without_label: u64,
    /// Rows kept whose group is missing; each is a group of its own.
    pub rows_without_group: u64,
    /// One entry per column of the plan.
    pub columns: Vec<ColumnTally>,
}

/// Counts of one column over the rows kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnTally {
    /// The site lacks the column; every cell counts as missing.
    pub absent: bool,
    /// Cells missing.
    pub missing: u64,
    /// Numbers outside the public bounds.
    pub clamped: u64,
    /// Categories that the plan does not list.
    pub other: u64,
}

impl Table {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.keys.len()
    }

    /// Digest of the plan the rows were parsed by.
    #[must_use]
    pub fn plan_digest(&self) -> Digest {
        self.plan
    }

    /// What happened while the table was read.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Number of rows that this plan trains on.
    #[must_use]
    pub fn rows_training(&self, plan: &FeaturePlan) -> usize {
        self.keys.iter().filter(|&&key| plan.part_of(key) == Part::Train).count()
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.cells[row * self.width..(row + 1) * self.width]
    }

    pub(super) fn labels(&self) -> Result<&[u32], FeatureError> {
        self.labels.as_deref().ok_or(FeatureError::Unlabelled)
    }

    pub(super) fn keys(&self) -> &[u64] {
        &self.keys
    }

    pub(super) fn belongs_to(&self, plan: &FeaturePlan) -> Result<(), FeatureError> {
        if self.plan == plan.digest() { Ok(()) } else { Err(FeatureError::OtherPlan("the rows")) }
    }
}

/// Takes rows one after the other and parses them by the plan.
pub struct TableBuilder {
    plan: FeaturePlan,
    purpose: Purpose,
    inputs: Vec<Input>,
    names: Vec<String>,
    parsers: Vec<Parser>,
    classes: BTreeMap<String, u32>,
    /// The row being parsed; only a whole good row enters the table.
    scratch: Vec<f64>,
    table: Table,
}

/// What a position in a row given to [`TableBuilder::push`] means.
#[derive(Clone, Copy)]
enum Input {
    Column(usize),
    Label,
    Group,
}

/// How a column's cells are parsed; made once per table.
enum Parser {
    Number(NumberSettings),
    Flag,
    Category(BTreeMap<String, usize>),
}

impl TableBuilder {
    /// A builder for rows of a table that has these columns, named as in the plan.
    ///
    /// # Errors
    /// [`FeatureError::ColumnMissing`] names the first required column that is not there, and the
    /// nearest name that is.
    pub fn new(
        plan: &FeaturePlan,
        present: &BTreeSet<&str>,
        purpose: Purpose,
    ) -> Result<Self, FeatureError> {
        let missing = |column: &str| FeatureError::ColumnMissing {
            column: column.to_owned(),
            nearest: nearest(column, present.iter().copied()).map(str::to_owned),
        };
        let mut inputs = Vec::new();
        let mut names = Vec::new();
        let mut tally = Tally::default();
        for (index, column) in plan.columns().iter().enumerate() {
            let here = present.contains(column.name.as_str());
            if here {
                inputs.push(Input::Column(index));
                names.push(column.name.clone());
            } else if column.presence == Presence::Required {
                return Err(missing(&column.name));
            }
            tally.columns.push(ColumnTally { absent: !here, ..ColumnTally::default() });
        }
        if purpose.learns() {
            let wanted = [(Input::Label, Some(&plan.label().column))]
                .into_iter()
                .chain([(Input::Group, plan.split().group.as_ref())]);
            for (input, name) in wanted.filter_map(|(input, name)| Some((input, name?))) {
                if !present.contains(name.as_str()) {
                    return Err(missing(name));
                }
                inputs.push(input);
                names.push(name.clone());
            }
        }
        let width = plan.columns().len();
        Ok(Self {
            purpose,
            inputs,
            names,
            parsers: plan.columns().iter().map(|column| Parser::of(&column.kind)).collect(),
            classes: (0..).zip(&plan.label().values).map(|(i, v)| (v.clone(), i)).collect(),
            scratch: vec![f64::NAN; width],
            table: Table {
                plan: plan.digest(),
                width,
                cells: Vec::new(),
                labels: purpose.learns().then(Vec::new),
                keys: Vec::new(),
                tally,
            },
            plan: plan.clone(),
        })
    }

    /// Names of the columns in the order in which [`Self::push`] wants a row's cells.
    #[must_use]
    pub fn inputs(&self) -> &[String] {
        &self.names
    }

    /// Rows kept so far.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.table.rows()
    }

    /// Takes one row. A refused row leaves the table as it was; for [`Purpose::LearnPrivately`] a row
    /// with a cell that cannot be read is left out and counted.
    ///
    /// # Errors
    /// [`FeatureError::Cell`] with row and column, or [`FeatureError::RowLength`].
    pub fn push(&mut self, cells: &[Cell<'_>]) -> Result<(), FeatureError> {
        match self.parse(cells) {
            Err(FeatureError::Cell { .. }) if self.purpose.skips_rows() => {
                self.leave_out(1);
                Ok(())
            }
            parsed => parsed,
        }
    }

    /// Counts rows that the reader could make no cells of.
    pub fn leave_out(&mut self, rows: u64) {
        self.table.tally.rows_read += rows;
        self.table.tally.rows_unreadable += rows;
    }

    fn parse(&mut self, cells: &[Cell<'_>]) -> Result<(), FeatureError> {
        let row = self.table.tally.rows_read + 1;
        if cells.len() != self.inputs.len() {
            let (found, expected) = (cells.len(), self.inputs.len());
            return Err(FeatureError::RowLength { row, found, expected });
        }
        let mut label = None;
        let mut group = None;
        let mut changes = Vec::new();
        self.scratch.fill(f64::NAN);
        for (position, (&input, &cell)) in self.inputs.iter().zip(cells).enumerate() {
            let parsed = match input {
                Input::Column(column) => self.parsers[column].parse(cell).map(|(value, change)| {
                    self.scratch[column] = value;
                    changes.extend(change.map(|change| (column, change)));
                }),
                Input::Label => parse_label(cell, &self.classes).map(|class| label = class),
                Input::Group => {
                    group = text_of(cell);
                    Ok(())
                }
            };
            parsed.map_err(|problem| FeatureError::Cell {
                row,
                column: self.names[position].clone(),
                problem,
            })?;
        }
        self.table.tally.rows_read = row;
        match (self.purpose.learns(), label) {
            (true, None) => self.table.tally.rows_without_label += 1,
            (_, label) => self.keep(label, group.as_deref(), &changes),
        }
        Ok(())
    }

    /// The table.
    #[must_use]
    pub fn finish(self) -> Table {
        self.table
    }

    fn keep(&mut self, label: Option<u32>, group: Option<&str>, changes: &[(usize, Change)]) {
        let table = &mut self.table;
        for (tally, value) in table.tally.columns.iter_mut().zip(&self.scratch) {
            tally.missing += u64::from(value.is_nan());
        }
        for &(column, change) in changes {
            match change {
                Change::Clamped => table.tally.columns[column].clamped += 1,
                Change::Other => table.tally.columns[column].other += 1,
            }
        }
        let key = match group {
            Some(group) => self.plan.row_key(group.as_bytes()),
            None => {
                let grouped = self.purpose.learns() && self.plan.split().group.is_some();
                table.tally.rows_without_group += u64::from(grouped);
                self.plan.row_key(&content(&self.scratch, label))
            }
        };
        table.cells.extend_from_slice(&self.scratch);
        table.keys.push(key);
        if let (Some(labels), Some(label)) = (&mut table.labels, label) {
            labels.push(label);
        }
    }
}

/// What parsing did to a value beside reading it.
#[derive(Clone, Copy)]
enum Change {
    Clamped,
    Other,
}

impl Parser {
    fn of(kind: &ColumnKind) -> Self {
        match kind {
            ColumnKind::Category { categories, .. } => {
                Self::Category(categories.iter().cloned().zip(0..).collect())
            }
            ColumnKind::Flag { .. } => Self::Flag,
            ColumnKind::Numeric { bounds, transform, missing, scaling } => {
                Self::Number(NumberSettings {
                    bounds: *bounds,
                    transform: *transform,
                    missing: *missing,
                    scaling: *scaling,
                })
            }
        }
    }

    /// The value, NaN where missing, and what was done to it.
    fn parse(&self, cell: Cell<'_>) -> Result<(f64, Option<Change>), String> {
        if is_missing(cell) {
            return Ok((f64::NAN, None));
        }
        match self {
            Self::Number(settings) => {
                let value = parse_number(cell)?;
                let clamped = value.clamp(settings.bounds.min, settings.bounds.max);
                // `+ 0.0` makes -0 into 0, so that equal rows have equal keys.
                Ok((clamped + 0.0, (clamped != value).then_some(Change::Clamped)))
            }
            Self::Flag => Ok((f64::from(u8::from(parse_flag(cell)?)), None)),
            Self::Category(categories) => Ok(match look_up(cell, categories) {
                Some(index) => (index as f64, None),
                None => (categories.len() as f64, Some(Change::Other)),
            }),
        }
    }
}

fn is_missing(cell: Cell<'_>) -> bool {
    match cell {
        Cell::Missing => true,
        Cell::Number(value) => value.is_nan(),
        Cell::Text(text) => text.trim().is_empty(),
        Cell::Flag(_) => false,
    }
}

fn parse_number(cell: Cell<'_>) -> Result<f64, String> {
    let (value, shown) = match cell {
        Cell::Number(value) => (Some(value), value.to_string()),
        Cell::Flag(value) => return Ok(f64::from(u8::from(value))),
        Cell::Text(text) => (text.trim().parse::<f64>().ok(), shown(text)),
        Cell::Missing => (None, String::new()),
    };
    match value {
        Some(value) if value.is_finite() => Ok(value),
        Some(_) => Err(format!("{shown} is not finite; mend the cell or declare it missing")),
        None if shown.replacen(',', ".", 1).trim_matches('`').parse::<f64>().is_ok() => {
            Err(format!("{shown} has a decimal comma; write a decimal point"))
        }
        None => Err(format!("{shown} is not a number; mend the cell or declare it missing")),
    }
}

fn parse_flag(cell: Cell<'_>) -> Result<bool, String> {
    let text = match cell {
        Cell::Flag(value) => return Ok(value),
        Cell::Number(value) => value.to_string(),
        Cell::Text(text) => text.trim().to_ascii_lowercase(),
        Cell::Missing => String::new(),
    };
    match text.as_str() {
        "1" | "1.0" | "true" | "t" | "yes" | "y" => Ok(true),
        "0" | "0.0" | "false" | "f" | "no" | "n" => Ok(false),
        _ => Err(format!(
            "{} is neither yes nor no (1, 0, true, false, yes, no); mend the cell or declare it \
             missing",
            shown(&text)
        )),
    }
}

fn parse_label(cell: Cell<'_>, classes: &BTreeMap<String, u32>) -> Result<Option<u32>, String> {
    if is_missing(cell) {
        return Ok(None);
    }
    if let Some(class) = look_up(cell, classes) {
        return Ok(Some(class));
    }
    let listed: Vec<String> = classes.keys().take(8).map(|value| shown(value)).collect();
    let cell = shown(&text_of(cell).unwrap_or_default());
    Err(format!(
        "{cell} is not a value of the label ({}); mend the cell or declare it missing",
        listed.join(", ")
    ))
}

/// Finds a closed value by its text, or by its number where the file says `44.0` for `44`.
fn look_up<T: Copy>(cell: Cell<'_>, values: &BTreeMap<String, T>) -> Option<T> {
    let text = text_of(cell)?;
    if let Some(&found) = values.get(&text) {
        return Some(found);
    }
    match cell {
        Cell::Text(_) => values.get(&(text.parse::<f64>().ok()? + 0.0).to_string()).copied(),
        Cell::Flag(flag) => values.get(if flag { "1" } else { "0" }).copied(),
        Cell::Number(_) | Cell::Missing => None,
    }
}

/// A cell as the text that a CSV file would have held.
fn text_of(cell: Cell<'_>) -> Option<String> {
    match cell {
        _ if is_missing(cell) => None,
        Cell::Missing => None,
        Cell::Number(value) => Some((value + 0.0).to_string()),
        Cell::Text(text) => Some(text.trim().to_owned()),
        Cell::Flag(value) => Some(value.to_string()),
    }
}

/// A cell in an error message: short, and without control characters.
fn shown(text: &str) -> String {
    let text = text.trim();
    let short: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    let more = if text.chars().nth(SHOWN_CHARS_MAX).is_some() { "…" } else { "" };
    format!("`{short}{more}`")
}

/// What identifies a row that has no group: all that the plan reads of it.
fn content(cells: &[f64], label: Option<u32>) -> Vec<u8> {
    let missing = f64::NAN.to_bits();
    let mut bytes = Vec::with_capacity(cells.len() * 8 + 5);
    bytes.push(0);
    for cell in cells {
        let bits = if cell.is_nan() { missing } else { cell.to_bits() };
        bytes.extend_from_slice(&bits.to_le_bytes());
    }
    bytes.extend_from_slice(&label.unwrap_or(u32::MAX).to_le_bytes());
    bytes
}

const SHOWN_CHARS_MAX: usize = 40;
