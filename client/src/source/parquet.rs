//! Parquet files as a source: only the columns asked for are decoded.
//!
//! Types stay as the file has them; [`crate::features`] reads numbers, text, truth values and
//! dictionaries of text. Uncompressed and Snappy files are read.
//!
//! Start at [`ParquetSource::open`].

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arrow_array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::{DataError, ReadLimits, Source, batch_rows, name_of};

/// A Parquet file being read.
pub struct ParquetSource {
    name: String,
    limits: ReadLimits,
    columns: Vec<String>,
    selected: Vec<usize>,
    stage: Stage,
    rows: u64,
}

/// A selection can be made until the first batch is read.
enum Stage {
    Opened(Box<ParquetRecordBatchReaderBuilder<File>>),
    Reading(Box<ParquetRecordBatchReader>),
    Ended,
}

impl ParquetSource {
    /// Opens a file and reads its schema.
    ///
    /// # Errors
    /// [`DataError::Open`], or [`DataError::Read`] when it is not a whole Parquet file.
    pub fn open(path: &Path, limits: ReadLimits) -> Result<Self, DataError> {
        let name = name_of(path);
        let file = File::open(path)
            .map_err(|error| DataError::Open { name: name.clone(), reason: error.to_string() })?;
        let builder = guarded(&name, || {
            ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| error.to_string())
        })?;
        let columns: Vec<String> =
            builder.schema().fields().iter().map(|field| field.name().trim().to_owned()).collect();
        if columns.len() > limits.columns_max {
            return Err(DataError::Limit { name, what: "columns", max: limits.columns_max as u64 });
        }
        Ok(Self {
            name,
            limits,
            selected: (0..columns.len()).collect(),
            columns,
            stage: Stage::Opened(Box::new(builder)),
            rows: 0,
        })
    }

    /// The reader of the selected columns; none after the end.
    fn reader(&mut self) -> Result<Option<Box<ParquetRecordBatchReader>>, DataError> {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Ended => Ok(None),
            Stage::Reading(reader) => Ok(Some(reader)),
            Stage::Opened(builder) => {
                let roots = self.selected.iter().copied();
                let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
                let rows = batch_rows(self.selected.len());
                let reader = guarded(&self.name, || {
                    let builder = builder.with_projection(mask).with_batch_size(rows);
                    builder.build().map_err(|error| error.to_string())
                })?;
                Ok(Some(Box::new(reader)))
            }
        }
    }
}

impl Source for ParquetSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn select(&mut self, columns: &[usize]) -> Result<(), DataError> {
        super::check_selection(&self.name, columns, self.columns.len())?;
        self.selected = columns.to_vec();
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, DataError> {
        let Some(mut reader) = self.reader()? else { return Ok(None) };
        let batch =
            guarded(&self.name, || reader.next().transpose().map_err(|error| error.to_string()))?;
        let Some(batch) = batch else { return Ok(None) };
        self.stage = Stage::Reading(reader);
        self.rows += batch.num_rows() as u64;
        if self.rows > self.limits.rows_max {
            let (name, max) = (self.name.clone(), self.limits.rows_max);
            return Err(DataError::Limit { name, what: "rows", max });
        }
        // The reader keeps the file's order; a selection may have another, or repeat itself.
        let mut in_order = self.selected.clone();
        in_order.sort_unstable();
        in_order.dedup();
        let places: Vec<usize> = (self.selected.iter())
            .filter_map(|column| in_order.binary_search(column).ok())
            .collect();
        batch
            .project(&places)
            .map(Some)
            .map_err(|error| DataError::Read { name: self.name.clone(), reason: error.to_string() })
    }
}

/// A damaged file must not bring the client down, even where the decoder asserts.
fn guarded<T>(name: &str, read: impl FnOnce() -> Result<T, String>) -> Result<T, DataError> {
    let result = catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err("the file is damaged".to_owned()));
    result.map_err(|reason| DataError::Read { name: name.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::cast::AsArray as _;
    use arrow_array::types::{Float64Type, Int64Type};
    use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray};
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn written(n: i64) -> Vec<u8> {
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from_iter_values(0..n)) as ArrayRef),
            ("name", Arc::new(StringArray::from_iter_values((0..n).map(|i| format!("n{i}"))))),
            ("age", Arc::new(Float64Array::from_iter((0..n).map(|i| (i % 3 > 0).then_some(0.5))))),
        ])
        .unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        bytes
    }

    fn source(bytes: &[u8], limits: ReadLimits) -> Result<ParquetSource, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        std::fs::write(&path, bytes).unwrap();
        ParquetSource::open(&path, limits)
    }

    #[test]
    fn selected_columns_come_in_the_order_asked_for() {
        let mut source = source(&written(9_000), ReadLimits::default()).unwrap();
        assert_eq!(source.columns(), ["id", "name", "age"]);
        source.select(&[2, 0]).unwrap();
        let mut rows = 0;
        while let Some(batch) = source.next_batch().unwrap() {
            let ids = batch.column(1).as_primitive::<Int64Type>();
            assert_eq!(ids.value(0), rows);
            assert_eq!(batch.column(0).as_primitive::<Float64Type>().len(), ids.len());
            rows += i64::try_from(batch.num_rows()).unwrap();
        }
        assert_eq!(rows, 9_000);
        assert!(source.next_batch().unwrap().is_none());
        assert!(source.select(&[3]).is_err());
    }

    #[test]
    fn limits_hold() {
        let limits = ReadLimits { rows_max: 5, ..ReadLimits::default() };
        let error = source(&written(6), limits).unwrap().next_batch().unwrap_err();
        assert!(error.to_string().contains("more than 5 rows"));
        let limits = ReadLimits { columns_max: 2, ..ReadLimits::default() };
        assert!(source(&written(6), limits).is_err());
    }

    /// Every shortened file and many damaged ones: an error or other values, never a panic.
    #[test]
    fn damaged_files_are_errors() {
        let good = written(20);
        let read_all = |bytes: &[u8]| -> Result<(), DataError> {
            let mut source = source(bytes, ReadLimits::default())?;
            while source.next_batch()?.is_some() {}
            Ok(())
        };
        read_all(&good).unwrap();
        for length in (0..good.len()).step_by(7) {
            assert!(read_all(&good[..length]).is_err(), "{length}");
        }
        for place in (0..good.len()).step_by(5) {
            let mut damaged = good.clone();
            damaged[place] ^= 0xff;
            let _ = read_all(&damaged);
        }
    }
}
