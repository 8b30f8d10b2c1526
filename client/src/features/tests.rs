//! Whole tables read by a plan: renamed columns, blanked cells, every kind of refusal.

use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Int64Array, StringArray,
    TimestampSecondArray,
};
use koinon_model::features::fitted::FittedFeatures;
use koinon_model::features::prepare::prepare;
use koinon_model::features::statistics::local_statistics;
use proptest::prelude::*;

use super::*;
use crate::source::csv::{CsvOptions, CsvSource};

const PLAN: &str = r#"
    salt = "test"
    group = "patient"
    validation = 0.0
    [label]
    column = "ill"
    kind = "binary"
    values = ["0", "1"]
    [[columns]]
    name = "age"
    type = "numeric"
    bounds = [0, 120]
    [[columns]]
    name = "smoker"
    type = "flag"
    missing = "indicator"
    [[columns]]
    name = "code"
    type = "category"
    categories = ["10", "20"]
    optional = true
"#;

fn plan() -> FeaturePlan {
    FeaturePlan::from_toml(PLAN).unwrap()
}

fn read(text: &str, mapping: &str, purpose: Purpose) -> Result<Table, DataError> {
    let input = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
    let mut source = CsvSource::from_reader("t.csv".to_owned(), input, CsvOptions::default())?;
    let mapping: Mapping = toml::from_str(mapping).unwrap();
    read_table(&mut source, &plan(), &mapping, &ReadLimits::default(), purpose)
}

fn learn(text: &str) -> Result<Table, DataError> {
    read(text, "", Purpose::Learn)
}

/// Rows as the engine would get them.
fn rows(table: &Table) -> Vec<Vec<f32>> {
    let plan = plan();
    let sums = local_statistics(&plan, table).unwrap();
    let fitted = FittedFeatures::from_sums(&plan, &sums).unwrap();
    let dataset = prepare(table, &plan, &fitted).unwrap().dataset;
    (0..dataset.rows()).map(|row| dataset.row(row).to_vec()).collect()
}

#[test]
fn renamed_columns_and_other_words_for_missing_read_the_same() {
    let plain = learn("patient,ill,age,smoker,code\na,0,50,1,10\nb,1,,0,30\nc,1,70,,20\n").unwrap();
    let renamed = read(
        "kod,Alter,extra,P_ID,diag,raucht\n10,50,x,a,0,yes\n30,-9,x,b,1,no\n20,70,,c,1,?\n",
        r#"
            rename = { P_ID = "patient", diag = "ill", Alter = "age", raucht = "smoker", kod = "code" }
            missing = ["-9", "?"]
        "#,
        Purpose::Learn,
    )
    .unwrap();
    assert_eq!(rows(&plain), rows(&renamed));
    assert_eq!(plain.tally(), renamed.tally());
    assert_eq!(plain.tally().columns[0].missing, 1);
    assert_eq!(plain.tally().columns[2].other, 1);
}

#[test]
fn refusals_name_table_row_and_column() {
    let cases = [
        (
            "patient,ill,age,smoker\na,0,abc,1\n",
            "t.csv: row 1, column `age`: `abc` is not a number",
        ),
        (
            "patient,ill,smoker,agee\na,0,1,1\n",
            "column `age` is missing (the nearest name here is `agee`",
        ),
        ("patient,ill,age\na,0,1\n", "the required column `smoker` is missing"),
        ("ill,age,smoker\n0,1,1\n", "the required column `patient` is missing"),
        ("patient,ill,age,age,smoker\na,0,1,1,1\n", "two columns are called `age`"),
        ("patient,ill,age,smoker\n", "holds no rows"),
        ("patient,ill,age,smoker\na,2,1,1\n", "`2` is not a value of the label"),
        ("patient,ill,age,smoker\na,0,1,1\nb,1", "the last line, 3, has 2 of 4 fields"),
    ];
    for (text, expected) in cases {
        let error = learn(text).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let text = "patient,ill,age,smoker,alter\na,0,1,1,1\n";
    let error =
        read(text, r#"rename = { Alt = "age" }"#, Purpose::Learn).err().unwrap().to_string();
    assert!(error.contains("`rename` names the column `Alt`, which is not there"), "{error}");
    let error = read(text, r#"rename = { alter = "age" }"#, Purpose::Learn).err().unwrap();
    assert!(matches!(error, DataError::Duplicate { .. }));
    assert!(toml::from_str::<Mapping>("renames = {}").is_err());
}

#[test]
fn inference_needs_neither_label_nor_group() {
    let mapping = r#"rename = { diagnosis = "ill", years = "age" }"#;
    let table = read("years,smoker\n50,1\n", mapping, Purpose::Infer).unwrap();
    assert_eq!(table.rows(), 1);
}

#[test]
fn too_many_cells_are_refused_before_they_are_kept() {
    let input = Box::new(std::io::Cursor::new(b"patient,ill,age,smoker\na,0,1,1\nb,0,1,1\n"));
    let mut source = CsvSource::from_reader("t".to_owned(), input, CsvOptions::default()).unwrap();
    let limits = ReadLimits { cells_max: 5, ..ReadLimits::default() };
    let error = read_table(&mut source, &plan(), &Mapping::default(), &limits, Purpose::Learn);
    assert!(matches!(error, Err(DataError::Limit { max: 5, .. })));
}

/// A source in memory, so that typed columns are tested without a file format.
struct Typed {
    columns: Vec<String>,
    batch: Option<RecordBatch>,
}

impl Typed {
    fn new(columns: Vec<(&str, ArrayRef)>) -> Self {
        let names = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        Self { columns: names, batch: Some(RecordBatch::try_from_iter(columns).unwrap()) }
    }
}

impl Source for Typed {
    fn name(&self) -> &str {
        "typed"
    }

    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn select(&mut self, columns: &[usize]) -> Result<(), DataError> {
        self.batch = self.batch.take().map(|batch| batch.project(columns).unwrap());
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, DataError> {
        Ok(self.batch.take())
    }
}

fn typed(age: ArrayRef) -> Result<Table, DataError> {
    let codes: DictionaryArray<Int32Type> = [Some("10"), None, Some("20")].into_iter().collect();
    let mut source = Typed::new(vec![
        ("code", Arc::new(codes)),
        ("ill", Arc::new(BooleanArray::from(vec![false, true, true]))),
        ("smoker", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("patient", Arc::new(Int64Array::from(vec![i64::MAX - 1, i64::MAX, 3]))),
        ("age", age),
    ]);
    let mapping = Mapping::default();
    read_table(&mut source, &plan(), &mapping, &ReadLimits::default(), Purpose::Learn)
}

#[test]
fn typed_columns_read_as_their_text_does() {
    let expected =
        learn("patient,ill,age,smoker,code\na,0,50,1,10\nb,1,,0,\nc,1,70.5,,20\n").unwrap();
    let ages: [ArrayRef; 4] = [
        Arc::new(arrow_array::Float32Array::from(vec![Some(50.0), None, Some(70.5)])),
        Arc::new(arrow_array::Float64Array::from(vec![50.0, f64::NAN, 70.5])),
        Arc::new(StringArray::from(vec!["50", "NaN", " 70.5"])),
        Arc::new(
            Decimal128Array::from(vec![Some(500), None, Some(705)])
                .with_precision_and_scale(5, 1)
                .unwrap(),
        ),
    ];
    for age in ages {
        let table = typed(age).unwrap();
        assert_eq!(rows(&table), rows(&expected));
        let mut keys = table.tally().clone();
        keys.rows_read = expected.tally().rows_read;
        assert_eq!(&keys, expected.tally());
    }
    let stamps = Arc::new(TimestampSecondArray::from(vec![0, 1, 2]));
    let error = typed(stamps).err().unwrap().to_string();
    assert!(error.contains("column `age` has the type Timestamp"), "{error}");
}

#[cfg(feature = "parquet")]
#[test]
fn a_parquet_file_reads_as_its_csv_does() {
    use parquet::arrow::ArrowWriter;
    let text = "patient,ill,age,smoker,code\na,0,50,1,10\nb,1,,0,30\nc,1,70,,20\n";
    let batch = RecordBatch::try_from_iter([
        ("ill", Arc::new(Int64Array::from(vec![0, 1, 1])) as ArrayRef),
        ("patient", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
        ("unused", Arc::new(TimestampSecondArray::from(vec![0, 1, 2]))),
        ("age", Arc::new(Int64Array::from(vec![Some(50), None, Some(70)]))),
        ("smoker", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("code", Arc::new(arrow_array::Float64Array::from(vec![10.0, 30.0, 20.0]))),
    ])
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let mut source = crate::source::open(&path, ReadLimits::default()).unwrap();
    let (mapping, limits) = (Mapping::default(), ReadLimits::default());
    let table = read_table(source.as_mut(), &plan(), &mapping, &limits, Purpose::Learn).unwrap();
    assert_eq!(rows(&table), rows(&learn(text).unwrap()));
}

proptest! {
    #[test]
    fn garbage_cells_never_panic(cells in prop::collection::vec("\\PC{0,5}", 0..30)) {
        let mut text = "patient,ill,age,smoker,code\n".to_owned();
        for row in cells.chunks(5) {
            text.push_str(&row.join(","));
            text.push('\n');
        }
        let _ = learn(&text);
    }
}

/// The tables that ship with the project, with the plans beside them.
macro_rules! shipped {
    ($folder:literal, $file:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../data/", $folder, "/", $file))
    };
}

fn shipped_table(text: &str, plan: &FeaturePlan, mapping: &Mapping) -> Result<Table, DataError> {
    let input = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
    let mut source = CsvSource::from_reader("t.csv".to_owned(), input, CsvOptions::default())?;
    read_table(&mut source, plan, mapping, &ReadLimits::default(), Purpose::Learn)
}

#[test]
fn the_shipped_tables_read_cleanly_by_their_plans() {
    for (table, features, model, training, rows) in [
        (
            shipped!("tcga-luad", "table.csv"),
            shipped!("tcga-luad", "features.toml"),
            shipped!("tcga-luad", "model.toml"),
            shipped!("tcga-luad", "training.toml"),
            437,
        ),
        (
            shipped!("sba-loans", "table.csv"),
            shipped!("sba-loans", "features.toml"),
            shipped!("sba-loans", "model.toml"),
            shipped!("sba-loans", "training.toml"),
            24_000,
        ),
    ] {
        let plan = FeaturePlan::from_toml(features).unwrap();
        let spec = koinon_model::spec::ModelSpec::from_toml(model).unwrap().check().unwrap();
        assert_eq!(spec.input_width(), plan.width());
        koinon_model::plan::TrainingPlan::from_toml(training).unwrap();
        let table = shipped_table(table, &plan, &Mapping::default()).unwrap();
        let sums = local_statistics(&plan, &table).unwrap();
        let fitted = FittedFeatures::from_sums(&plan, &sums).unwrap();
        let prepared = prepare(&table, &plan, &fitted).unwrap();
        assert!(prepared.report.is_clean(), "{}", prepared.report);
        assert_eq!(prepared.dataset.rows(), rows);
    }
}

#[test]
fn a_tenth_of_the_cells_blank_and_every_column_renamed() {
    let plan = FeaturePlan::from_toml(shipped!("tcga-luad", "features.toml")).unwrap();
    let mut lines = shipped!("tcga-luad", "table.csv").lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let mut text = header.iter().map(|name| format!("our {name}")).collect::<Vec<_>>().join(";");
    let mut blanked = 0;
    for (row, line) in lines.enumerate() {
        let cells = line.split(',').enumerate().map(|(column, cell)| {
            let blank = column > 2 && (row * 257 + column * 31) % 10 == 0;
            blanked += u64::from(blank);
            if blank { ["", "NA", " "][column % 3] } else { cell }
        });
        let cells: Vec<&str> = cells.collect();
        text.push_str(&format!("\r\n{}", cells.join(";")));
    }
    let rename = header.iter().map(|name| (format!("our {name}"), (*name).to_owned())).collect();
    let mapping = Mapping { rename, ..Mapping::default() };
    let read = |text: String| -> Result<Table, DataError> {
        let input = Box::new(std::io::Cursor::new(text.into_bytes()));
        let options = CsvOptions { delimiter: b';', ..CsvOptions::default() };
        let mut source = CsvSource::from_reader("t.csv".to_owned(), input, options)?;
        read_table(&mut source, &plan, &mapping, &ReadLimits::default(), Purpose::Learn)
    };
    let table = read(text.clone()).unwrap();
    let sums = local_statistics(&plan, &table).unwrap();
    let fitted = FittedFeatures::from_sums(&plan, &sums).unwrap();
    let prepared = prepare(&table, &plan, &fitted).unwrap();
    assert_eq!(prepared.dataset.rows(), 437);
    assert_eq!(prepared.report.cells_missing(), blanked);
    assert!(prepared.report.to_string().contains("(10.0 %)"), "{}", prepared.report);

    // Cut anywhere before its last cell, the file is refused, never read as a shorter table.
    let last_row = text.rfind('\n').unwrap() + 1;
    let last_cell = text.rfind(';').unwrap();
    for length in (last_row + 1..last_cell).step_by(97) {
        let error = read(text[..length].to_owned()).err().unwrap();
        assert!(matches!(error, DataError::Truncated { line: 438, .. }), "{error}");
    }
}
