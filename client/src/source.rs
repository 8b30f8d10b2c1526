//! Where a site's rows come from: one seam, behind which files are read in bounded batches.
//!
//! A [`Source`] yields Arrow record batches of the columns it is asked for. It knows nothing of
//! feature plans and interprets no cell; that is [`crate::features`]. It never writes, and holds one
//! batch at a time. CSV and Parquet are here; databases and other formats fit behind the same seam.
//!
//! Start at [`open`].

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::Schema;

pub mod csv;
pub mod error;
#[cfg(feature = "parquet")]
pub mod parquet;

pub use error::DataError;

use self::csv::{CsvOptions, CsvSource};

/// A table that is read once, from front to back.
pub trait Source {
    /// What to call the table in messages, usually the file's name.
    fn name(&self) -> &str;

    /// The names of all columns, in the table's order.
    fn columns(&self) -> &[String];

    /// Restricts the batches to these columns, in this order. To be called before the first batch.
    ///
    /// # Errors
    /// [`DataError`] if there is no such column.
    fn select(&mut self, columns: &[usize]) -> Result<(), DataError>;

    /// From here on leaves out rows that cannot be read, where the table can be read on behind them,
    /// instead of refusing the table. A source of another kind of table may have no such rows.
    fn skip_unreadable(&mut self) {}

    /// Rows left out so far.
    fn rows_skipped(&self) -> u64 {
        0
    }

    /// The next rows, none at the end.
    ///
    /// # Errors
    /// [`DataError`] says what is wrong with the table, where, and what to do.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, DataError>;
}

/// What reading may cost at most. Site settings; the defaults suit a machine with 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Most rows of a table.
    pub rows_max: u64,
    /// Most columns of a table.
    pub columns_max: usize,
    /// Longest cell in bytes.
    pub cell_bytes_max: usize,
    /// Most cells kept in memory: rows times columns of the plan, 8 bytes each.
    pub cells_max: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            rows_max: 10_000_000,
            columns_max: 100_000,
            cell_bytes_max: 64 * 1024,
            cells_max: 1 << 27,
        }
    }
}

/// Opens a table by its file name: `.csv`, `.tsv`, `.txt`, `.parquet`, `.pq`.
///
/// # Errors
/// [`DataError::Format`] for other names, [`DataError::Open`] when the file cannot be opened, and what
/// the reader says about its beginning.
pub fn open(path: &Path, limits: ReadLimits) -> Result<Box<dyn Source>, DataError> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "csv" | "txt" => {
            Ok(Box::new(CsvSource::open(path, CsvOptions { limits, ..CsvOptions::default() })?))
        }
        "tsv" => Ok(Box::new(CsvSource::open(path, CsvOptions { delimiter: b'\t', limits })?)),
        #[cfg(feature = "parquet")]
        "parquet" | "pq" => Ok(Box::new(parquet::ParquetSource::open(path, limits)?)),
        _ => Err(DataError::Format { name: name_of(path) }),
    }
}

/// A path as it is called in messages.
fn name_of(path: &Path) -> String {
    path.display().to_string()
}

/// Rows of a batch of that many columns: about a million cells, so that memory stays bounded.
fn batch_rows(columns: usize) -> usize {
    (BATCH_CELLS / columns.max(1)).clamp(1, BATCH_ROWS_MAX)
}

fn check_selection(name: &str, columns: &[usize], there: usize) -> Result<(), DataError> {
    match columns.iter().find(|&&column| column >= there) {
        Some(column) => {
            let reason = format!("there is no column number {}", column + 1);
            Err(DataError::Read { name: name.to_owned(), reason })
        }
        None => Ok(()),
    }
}

fn batch(
    name: &str,
    schema: Schema,
    arrays: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, DataError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options)
        .map_err(|error| DataError::Read { name: name.to_owned(), reason: error.to_string() })
}

const BATCH_CELLS: usize = 1 << 20;
const BATCH_ROWS_MAX: usize = 4_096;
