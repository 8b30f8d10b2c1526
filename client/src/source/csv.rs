//! CSV files as a source: every cell is text, exactly as written.
//!
//! Quotes as in RFC 4180, a header line, LF or CRLF, with or without a byte-order mark. A file that
//! breaks off is an error, never a shorter table, unless the rows that cannot be read are to be left
//! out and counted. It guesses nothing: no types, no delimiter, no encoding.
//!
//! Start at [`CsvSource::open`].

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use csv::ByteRecord;

use super::{DataError, ReadLimits, Source, batch_rows, name_of};

/// A CSV file being read.
pub struct CsvSource {
    name: String,
    limits: ReadLimits,
    columns: Vec<String>,
    selected: Vec<usize>,
    reader: csv::Reader<Watch<Box<dyn Read + Send>>>,
    record: ByteRecord,
    rows: u64,
    /// Rows left out because they cannot be read; none where such a row refuses the table.
    skipped: Option<u64>,
    /// Whether a quote without end took the rest of the file.
    ended: bool,
}

/// How a CSV file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CsvOptions {
    /// The byte between fields.
    pub delimiter: u8,
    /// What reading may cost.
    pub limits: ReadLimits,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { delimiter: b',', limits: ReadLimits::default() }
    }
}

impl CsvSource {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`DataError::Open`], or what is wrong with the header.
    pub fn open(path: &Path, options: CsvOptions) -> Result<Self, DataError> {
        let name = name_of(path);
        match File::open(path) {
            Ok(file) => Self::from_reader(name, Box::new(file), options),
            Err(error) => Err(DataError::Open { name, reason: error.to_string() }),
        }
    }

    /// Reads from anywhere; `name` is for messages.
    ///
    /// # Errors
    /// What is wrong with the header.
    pub fn from_reader(
        name: String,
        mut input: Box<dyn Read + Send>,
        options: CsvOptions,
    ) -> Result<Self, DataError> {
        let start = beginning(&mut input)
            .map_err(|error| DataError::Read { name: name.clone(), reason: error.to_string() })?;
        if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
            return Err(DataError::Encoding { name, line: 1 });
        }
        let start = start.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(start);
        let input: Box<dyn Read + Send> = Box::new(io::Cursor::new(start).chain(input));
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(options.delimiter)
            .from_reader(Watch::new(input, options.delimiter));
        let mut source = Self {
            name,
            limits: options.limits,
            columns: Vec::new(),
            selected: Vec::new(),
            reader,
            record: ByteRecord::new(),
            rows: 0,
            skipped: None,
            ended: false,
        };
        source.read_header()?;
        Ok(source)
    }

    fn read_header(&mut self) -> Result<(), DataError> {
        if !self.read_record()? {
            return Err(DataError::Empty { name: self.name.clone() });
        }
        if self.record.len() > self.limits.columns_max {
            return Err(self.over("columns", self.limits.columns_max as u64));
        }
        for field in 0..self.record.len() {
            let name = self.text(field)?.trim().to_owned();
            self.columns.push(name);
        }
        self.selected = (0..self.columns.len()).collect();
        Ok(())
    }

    /// Reads the next record; false at the end of a sound file.
    fn read_record(&mut self) -> Result<bool, DataError> {
        self.reader.get_mut().record_bytes = 0;
        let line = self.line_of(self.reader.position());
        let more = self.reader.read_byte_record(&mut self.record);
        let watch = self.reader.get_ref();
        if watch.record_bytes > RECORD_BYTES_MAX || (watch.ended && watch.state == State::Quoted) {
            return Err(DataError::Quote { name: self.name.clone(), line });
        }
        more.map_err(|error| DataError::Read { name: self.name.clone(), reason: error.to_string() })
    }

    /// Reads the next row that is one.
    fn read_row(&mut self) -> Result<bool, DataError> {
        let Some(mut skipped) = self.skipped else { return self.read_sound_row() };
        while !self.ended {
            match self.read_next() {
                Ok(false) => break,
                Ok(true) if self.is_sound() => return Ok(true),
                Err(DataError::Quote { .. }) => self.ended = true,
                Err(error) => return Err(error),
                Ok(true) => {}
            }
            skipped += 1;
            self.skipped = Some(skipped);
        }
        Ok(false)
    }

    /// Reads the next record and counts it.
    fn read_next(&mut self) -> Result<bool, DataError> {
        if !self.read_record()? {
            return Ok(false);
        }
        self.rows += 1;
        if self.rows > self.limits.rows_max {
            return Err(self.over("rows", self.limits.rows_max));
        }
        Ok(true)
    }

    fn is_sound(&self) -> bool {
        self.record.len() == self.columns.len()
            && self.selected.iter().all(|&field| self.text(field).is_ok())
    }

    /// Reads the next row and checks its number of fields.
    fn read_sound_row(&mut self) -> Result<bool, DataError> {
        if !self.read_next()? {
            return Ok(false);
        }
        let (found, expected) = (self.record.len(), self.columns.len());
        if found == expected {
            return Ok(true);
        }
        let line = self.line();
        let name = self.name.clone();
        if found < expected && !self.read_record()? {
            return Err(DataError::Truncated { name, line, found, expected });
        }
        Err(DataError::FieldCount { name, line, found, expected })
    }

    fn text(&self, field: usize) -> Result<&str, DataError> {
        let bytes = self.record.get(field).unwrap_or_default();
        if bytes.len() > self.limits.cell_bytes_max {
            return Err(self.over("bytes in one cell", self.limits.cell_bytes_max as u64));
        }
        std::str::from_utf8(bytes)
            .map_err(|_| DataError::Encoding { name: self.name.clone(), line: self.line() })
    }

    fn line(&self) -> u64 {
        self.record.position().map_or(0, |position| self.line_of(position))
    }

    /// The parser ends a record at CR and counts the line at the LF after it, which is one late.
    fn line_of(&self, position: &csv::Position) -> u64 {
        let first = self.columns.is_empty();
        position.line() + u64::from(!first && self.reader.get_ref().crlf == Some(true))
    }

    fn over(&self, what: &'static str, max: u64) -> DataError {
        DataError::Limit { name: self.name.clone(), what, max }
    }
}

impl Source for CsvSource {
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

    fn skip_unreadable(&mut self) {
        self.skipped.get_or_insert(0);
    }

    fn rows_skipped(&self) -> u64 {
        self.skipped.unwrap_or(0)
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, DataError> {
        let mut builders: Vec<StringBuilder> =
            self.selected.iter().map(|_| StringBuilder::new()).collect();
        let (mut rows, mut bytes) = (0, 0);
        while rows < batch_rows(self.columns.len()) && bytes < BATCH_BYTES && self.read_row()? {
            for (builder, &field) in builders.iter_mut().zip(&self.selected) {
                let text = self.text(field)?;
                bytes += text.len();
                builder.append_value(text);
            }
            rows += 1;
        }
        if rows == 0 {
            return Ok(None);
        }
        let fields: Vec<Field> = (self.selected.iter())
            .map(|&column| Field::new(&self.columns[column], DataType::Utf8, false))
            .collect();
        let arrays: Vec<ArrayRef> =
            builders.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef).collect();
        super::batch(&self.name, Schema::new(fields), arrays, rows).map(Some)
    }
}

/// Passes bytes on, and keeps what the parser does not tell: how long a record has become, and
/// whether the file ended inside quotes.
struct Watch<R> {
    inner: R,
    delimiter: u8,
    record_bytes: u64,
    state: State,
    ended: bool,
    /// Whether the first line ends with CR; none until it ends.
    crlf: Option<bool>,
}

/// Where in a field the last byte was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Plain,
    Quoted,
    /// After a quote inside quotes: the end of the field, or a doubled quote.
    QuoteInQuoted,
}

impl<R> Watch<R> {
    fn new(inner: R, delimiter: u8) -> Self {
        Self { inner, delimiter, record_bytes: 0, state: State::Start, ended: false, crlf: None }
    }

    fn step(&self, byte: u8) -> State {
        let quote = byte == b'"';
        match self.state {
            State::Quoted if quote => State::QuoteInQuoted,
            State::Quoted => State::Quoted,
            State::Start | State::QuoteInQuoted if quote => State::Quoted,
            _ if byte == self.delimiter || byte == b'\n' || byte == b'\r' => State::Start,
            _ => State::Plain,
        }
    }
}

impl<R: Read> Read for Watch<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.record_bytes > RECORD_BYTES_MAX {
            return Err(io::Error::other("a record without end"));
        }
        let read = self.inner.read(buffer)?;
        self.ended = read == 0 && !buffer.is_empty();
        self.record_bytes += read as u64;
        for &byte in &buffer[..read] {
            self.state = self.step(byte);
            if self.crlf.is_none() && matches!(byte, b'\r' | b'\n') && self.state == State::Start {
                self.crlf = Some(byte == b'\r');
            }
        }
        Ok(read)
    }
}

/// The first three bytes, or all of a shorter file.
fn beginning(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(3);
    input.by_ref().take(3).read_to_end(&mut start)?;
    Ok(start)
}

/// Longest record in bytes: one that is longer has lost a closing quote.
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// Text of one batch.
const BATCH_BYTES: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray as _;
    use proptest::prelude::*;

    use super::*;

    fn source(text: &[u8]) -> Result<CsvSource, DataError> {
        let input = Box::new(io::Cursor::new(text.to_vec()));
        CsvSource::from_reader("t.csv".to_owned(), input, CsvOptions::default())
    }

    fn cells(text: &[u8]) -> Result<Vec<Vec<String>>, DataError> {
        let mut source = source(text)?;
        let mut rows = vec![source.columns().to_vec()];
        while let Some(batch) = source.next_batch()? {
            for row in 0..batch.num_rows() {
                let cell = |array: &ArrayRef| array.as_string::<i32>().value(row).to_owned();
                rows.push(batch.columns().iter().map(cell).collect());
            }
        }
        Ok(rows)
    }

    #[test]
    fn quotes_line_ends_and_marks() {
        let expected = [["a", "b"], ["1", "x, \"y\"\nz"], ["", "2"]];
        for text in [
            "a,b\n1,\"x, \"\"y\"\"\nz\"\n,2\n",
            "\u{feff}\"a\",b\r\n1,\"x, \"\"y\"\"\nz\"\r\n,2",
            "a , b\n1,\"x, \"\"y\"\"\nz\"\n\n,\"2\"",
        ] {
            assert_eq!(cells(text.as_bytes()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn wrong_files_are_refused_with_the_line() {
        let cases: [(&[u8], &str); 11] = [
            (b"", "is empty"),
            (b"a,b\n1,2\n3", "the last line, 3, has 1 of 2 fields; the file is cut short"),
            (b"a,b\n1\n3,4\n", "line 2 has 1 fields, the header has 2"),
            (b"a,b\n1,2,3\n", "line 2 has 3 fields"),
            (b"a,b\r\n1,2\r\n3", "the last line, 3, has 1 of 2 fields"),
            (b"a,b\r\n1\r\n3,4", "line 2 has 1 fields"),
            (b"a,b\n1,2\n3,\"4", "quote opened on or after line 3 is never closed"),
            (b"a,b\n1,\"2\n3,4\n", "quote opened on or after line 2"),
            (b"a,b\n1,\xe9\n", "line 2 is not UTF-8"),
            (b"\xff\xfea\x00", "not UTF-8"),
            (b"a,\"b\n", "quote opened on or after line 1"),
        ];
        for (text, expected) in cases {
            let error = cells(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.starts_with("t.csv: "), "{error}");
        }
        let missing = CsvSource::open(Path::new("/nowhere/t.csv"), CsvOptions::default());
        assert!(matches!(missing, Err(DataError::Open { .. })));
    }

    #[test]
    fn a_lone_quote_inside_a_cell_is_text() {
        assert_eq!(cells(b"a,b\n5\" pipe,2\n").unwrap()[1], ["5\" pipe", "2"]);
    }

    #[test]
    fn limits_hold() {
        let limits =
            ReadLimits { rows_max: 2, columns_max: 2, cell_bytes_max: 4, ..ReadLimits::default() };
        let read = |text: &str| -> Result<(), DataError> {
            let input = Box::new(io::Cursor::new(text.as_bytes().to_vec()));
            let options = CsvOptions { limits, ..CsvOptions::default() };
            let mut source = CsvSource::from_reader("t".to_owned(), input, options)?;
            while source.next_batch()?.is_some() {}
            Ok(())
        };
        assert!(read("a,b\n1,2\n3,4\n").is_ok());
        assert!(read("a,b,c\n").unwrap_err().to_string().contains("more than 2 columns"));
        assert!(read("a\n1\n2\n3\n").unwrap_err().to_string().contains("more than 2 rows"));
        assert!(read("a\n12345\n").unwrap_err().to_string().contains("4 bytes in one cell"));
    }

    #[test]
    fn a_record_without_end_is_not_read_into_memory() {
        let start = io::Cursor::new(b"a,b\n1,\"".to_vec());
        let input = Box::new(start.chain(io::repeat(b'x')));
        let mut source =
            CsvSource::from_reader("t".to_owned(), input, CsvOptions::default()).unwrap();
        assert!(matches!(source.next_batch(), Err(DataError::Quote { line: 2, .. })));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = cells(&text);
        }

        #[test]
        fn nearly_csv_never_panics(text in "[a\",\r\n\u{feff}]{0,60}") {
            let _ = cells(text.as_bytes());
        }

        #[test]
        fn what_is_written_is_read(
            rows in prop::collection::vec(prop::collection::vec("[a-z ,\"\n]{0,5}", 2), 1..9),
        ) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(["p", "q"]).unwrap();
            rows.iter().for_each(|row| writer.write_record(row).unwrap());
            prop_assert_eq!(&cells(&writer.into_inner().unwrap()).unwrap()[1..], &rows[..]);
        }
    }
}
