//! Errors of feature plans, tables and fitted features: what is wrong, where, and what to do.
//!
//! Messages about cells quote the cell. They are for the site's own eyes; nothing here has a wire
//! form.

/// Why a plan, a table or fitted features were not accepted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// The text is not a plan (syntax, unknown key, wrong type).
    #[error("the feature plan cannot be read: {0}")]
    Read(String),
    /// A rule of feature plans is broken.
    #[error("the feature plan is not valid: {place}: {problem}")]
    Invalid {
        /// Column, label or key.
        place: String,
        /// The broken rule.
        problem: String,
    },
    /// Bytes that should be canonical are not, so their digest would say nothing.
    #[error("{0} are not in canonical form; take the bytes that were hashed, unchanged")]
    NotCanonical(&'static str),
    /// A required column is not in the site's table.
    #[error(
        "the required column `{column}` is missing{}; rename your column in the site's `rename` \
         table, or add it",
        hint(.nearest)
    )]
    ColumnMissing {
        /// The plan's name.
        column: String,
        /// The nearest name that the table has.
        nearest: Option<String>,
    },
    /// A cell does not fit its column.
    #[error("row {row}, column `{column}`: {problem}")]
    Cell {
        /// Data rows count from 1, the header not counted.
        row: u64,
        /// The plan's name of the column.
        column: String,
        /// What is wrong with the cell and what to do.
        problem: String,
    },
    /// A row does not have the agreed number of cells.
    #[error("row {row} has {found} cells where {expected} were agreed")]
    RowLength {
        /// Data rows count from 1.
        row: u64,
        /// Cells in the row.
        found: usize,
        /// Cells agreed.
        expected: usize,
    },
    /// Table, fitted features and plan do not belong together.
    #[error("{0} were made for another feature plan; make them again with this one")]
    OtherPlan(&'static str),
    /// A table read without labels was to be learned from.
    #[error("the table was read without labels; read it with `Purpose::Learn`")]
    Unlabelled,
    /// Opened sums that no honest rows can have.
    #[error("the statistics are refused: {0}")]
    Sums(String),
    /// Bytes that should be fitted features are not.
    #[error("the fitted features cannot be read: {0}")]
    Fitted(String),
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(" (the nearest name here is `{name}`)")).unwrap_or_default()
}
