//! What can be wrong with a site's table. Messages say what, where and what to do; they may quote a
//! cell, so they are for the site's own eyes and have no wire form.

use koinon_model::features::FeatureError;

/// Why a site's table cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file is not there or may not be read.
    #[error("{name}: cannot be opened: {reason}")]
    Open {
        /// The table.
        name: String,
        /// The system's words.
        reason: String,
    },
    /// No reader for this kind of file.
    #[error("{name}: this program reads .csv, .tsv, .txt, .parquet and .pq; convert the file")]
    Format {
        /// The table.
        name: String,
    },
    /// Reading failed in the middle.
    #[error("{name}: cannot be read: {reason}")]
    Read {
        /// The table.
        name: String,
        /// The reader's words.
        reason: String,
    },
    /// Not a single line.
    #[error("{name}: is empty; it needs a header line with the names of the columns")]
    Empty {
        /// The table.
        name: String,
    },
    /// A header and nothing else.
    #[error("{name}: holds no rows; check that the export wrote them")]
    NoRows {
        /// The table.
        name: String,
    },
    /// Text in another encoding.
    #[error("{name}: line {line} is not UTF-8; export the file again as UTF-8")]
    Encoding {
        /// The table.
        name: String,
        /// Lines count from 1, the header being one.
        line: u64,
    },
    /// A line with too few or too many fields.
    #[error(
        "{name}: line {line} has {found} fields, the header has {expected}; look for a missing or \
         unquoted delimiter"
    )]
    FieldCount {
        /// The table.
        name: String,
        /// Lines count from 1, the header being one.
        line: u64,
        /// Fields on the line.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
    /// The last line breaks off.
    #[error(
        "{name}: the last line, {line}, has {found} of {expected} fields; the file is cut short, \
         copy or export it again"
    )]
    Truncated {
        /// The table.
        name: String,
        /// Lines count from 1, the header being one.
        line: u64,
        /// Fields on the line.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
    /// A quote without its end.
    #[error(
        "{name}: a quote opened on or after line {line} is never closed; the file is cut short, or \
         a quote inside a cell is not doubled"
    )]
    Quote {
        /// The table.
        name: String,
        /// Lines count from 1, the header being one.
        line: u64,
    },
    /// More than the site's limits permit.
    #[error("{name}: more than {max} {what}; split the file or raise the limit")]
    Limit {
        /// The table.
        name: String,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// Two columns with one name.
    #[error("{name}: two columns are called `{column}`; rename or remove one of them")]
    Duplicate {
        /// The table.
        name: String,
        /// The name, after renaming.
        column: String,
    },
    /// The site's `rename` table speaks of a column that is not there.
    #[error("{name}: `rename` names the column `{column}`, which is not there{}", hint(.nearest))]
    Rename {
        /// The table.
        name: String,
        /// The site's name.
        column: String,
        /// The nearest name that is there.
        nearest: Option<String>,
    },
    /// A column of a type that no plan can read.
    #[error(
        "{name}: column `{column}` has the type {kind}; convert it to numbers, text or truth values"
    )]
    ColumnType {
        /// The table.
        name: String,
        /// The column.
        column: String,
        /// Its type.
        kind: String,
    },
    /// The table does not fit the feature plan.
    #[error("{name}: {error}")]
    Feature {
        /// The table.
        name: String,
        /// What does not fit, with row and column.
        error: FeatureError,
    },
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; the nearest is `{name}`")).unwrap_or_default()
}
