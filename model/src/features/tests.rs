//! Tests of feature plans as a whole: reading, digests, tables, fitting, preparing.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::fitted::FittedFeatures;
use super::prepare::{prepare, prepare_inputs};
use super::statistics::{local_statistics, stat_fields};
use super::table::{Cell, Purpose, Table, TableBuilder};
use super::*;

pub(crate) const TINY: &str = r#"
    salt = "tiny"
    group = "patient"
    validation = 0.25
    [label]
    column = "ill"
    kind = "binary"
    values = ["no", "yes"]
    class_weights = "balanced"
    [[columns]]
    name = "age"
    type = "numeric"
    unit = "years"
    bounds = [0, 120]
    missing = "indicator"
    [[columns]]
    names = ["income", "debt"]
    type = "numeric"
    bounds = [0, 1e6]
    transform = "log1p"
    [[columns]]
    name = "smoker"
    type = "flag"
    missing = "constant"
    constant = 0
    [[columns]]
    name = "stage"
    type = "category"
    categories = ["1", "2"]
    missing = "indicator"
    optional = true
"#;

const COLUMNS: [&str; 7] = ["age", "income", "debt", "smoker", "stage", "ill", "patient"];

fn builder(plan: &FeaturePlan) -> TableBuilder {
    TableBuilder::new(plan, &BTreeSet::from(COLUMNS), Purpose::Learn).unwrap()
}

fn push(builder: &mut TableBuilder, row: [&str; 7]) -> Result<(), FeatureError> {
    builder.push(&row.map(|text| if text.is_empty() { Cell::Missing } else { Cell::Text(text) }))
}

/// `n` rows with some cells missing, for this module and its neighbours.
pub(crate) fn tiny_rows(plan: &FeaturePlan, n: usize) -> Table {
    let mut builder = builder(plan);
    for i in 0..n {
        let age = if i % 5 == 0 { String::new() } else { (20 + i * 7 % 60).to_string() };
        let income = (i * i * 37 % 90_000).to_string();
        let row = [
            age.as_str(),
            income.as_str(),
            "1000",
            if i % 3 == 0 { "yes" } else { "no" },
            ["1", "2", "7", ""][i % 4],
            if i % 2 == 0 { "yes" } else { "no" },
            &format!("p{}", i / 2),
        ];
        push(&mut builder, row).unwrap();
    }
    builder.finish()
}

fn tiny() -> FeaturePlan {
    FeaturePlan::from_toml(TINY).unwrap()
}

fn fitted(plan: &FeaturePlan, tables: &[&Table]) -> FittedFeatures {
    FittedFeatures::from_sums(plan, &sums(plan, tables)).unwrap()
}

fn sums(plan: &FeaturePlan, tables: &[&Table]) -> Vec<Vec<f64>> {
    let mut total: Vec<Vec<f64>> =
        stat_fields(plan).iter().map(|field| vec![0.0; field.len]).collect();
    for table in tables {
        for (total, own) in total.iter_mut().zip(local_statistics(plan, table).unwrap()) {
            total.iter_mut().zip(own).for_each(|(total, own)| *total += own);
        }
    }
    total
}

#[test]
fn canonical_bytes_read_back_to_the_same_plan() {
    let plan = tiny();
    let bytes = plan.canonical_bytes();
    let again = FeaturePlan::from_canonical(&bytes).unwrap();
    assert_eq!(again, plan);
    assert_eq!(again.digest(), plan.digest());
    let spaced = [b" ", &bytes[..]].concat();
    assert!(matches!(FeaturePlan::from_canonical(&spaced), Err(FeatureError::NotCanonical(_))));
}

#[test]
fn one_column_at_a_time_is_the_same_plan_as_grouped() {
    let grouped = tiny();
    let shared = "type = \"numeric\"\nbounds = [0, 1e6]\ntransform = \"log1p\"\n";
    let apart = TINY.replace(
        "names = [\"income\", \"debt\"]",
        &format!("name = \"income\"\n{shared}[[columns]]\nname = \"debt\""),
    );
    assert_eq!(FeaturePlan::from_toml(&apart).unwrap().digest(), grouped.digest());
    let renamed = TINY.replace("\"debt\"", "\"debts\"");
    assert_ne!(FeaturePlan::from_toml(&renamed).unwrap().digest(), grouped.digest());
}

#[test]
fn tensor_columns_have_names() {
    let expected =
        ["age", "age?", "income", "debt", "smoker", "stage=1", "stage=2", "stage=*", "stage?"];
    assert_eq!(tiny().tensor_names(), expected);
    assert_eq!(tiny().width(), expected.len());
}

#[test]
fn wrong_plans_are_refused_with_place_and_way_out() {
    let cases = [
        ("unit = \"years\"", "unti = \"years\"", "did you mean `unit`?"),
        ("type = \"flag\"", "type = \"flagg\"", "did you mean `flag`?"),
        ("bounds = [0, 120]", "bounds = [120, 0]", "column `age`: `bounds` must be two finite"),
        ("bounds = [0, 120]", "", "a numeric column needs `bounds`"),
        ("bounds = [0, 120]", "bounds = [0, nan]", "two finite numbers"),
        ("bounds = [0, 1e6]", "bounds = [-1, 1e6]", "`log1p` needs bounds from 0 upwards"),
        ("[\"income\", \"debt\"]", "[\"income\", \"age\"]", "column `age`: is named twice"),
        ("\"debt\"", "\"ill\"", "column `ill`: is the label"),
        ("\"debt\"", "\"patient\"", "column `patient`: is the group"),
        ("constant = 0", "constant = 2", "`constant` must lie within the bounds"),
        ("constant = 0", "constant = \"no\"", "`constant` must be a number here"),
        ("constant = 0", "", "go together"),
        ("values = [\"no\", \"yes\"]", "values = [\"no\"]", "a binary label has two `values`"),
        ("values = [\"no\", \"yes\"]", "values = [\"no\", \"no\"]", "`no` is listed twice"),
        ("\"balanced\"", "[1]", "one weight for each"),
        ("\"balanced\"", "[1, -1]", "between 0.001 and 1000"),
        ("\"balanced\"", "\"even\"", "\"balanced\" or a list of numbers"),
        ("validation = 0.25", "validation = 1.5", "a share between 0 and 0.9"),
        ("salt = \"tiny\"", "salt = \"\"", "salt: names and values are not empty"),
        ("salt = \"tiny\"", "salt = \"tiny\"\nformat = 2", "use a newer program"),
        ("categories = [\"1\", \"2\"]", "categories = []", "must list 1 to"),
        ("categories = [\"1\", \"2\"]", "bounds = [0, 1]", "`bounds` does not belong"),
        ("name = \"age\"", "", "give either `name` or a list `names`"),
        ("name = \"age\"", "name = \"a\\u001bge\"", "no control characters"),
    ];
    for (from, to, expected) in cases {
        assert!(TINY.contains(from), "{from}");
        let error = FeaturePlan::from_toml(&TINY.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(expected), "{to}: {error}");
    }
    assert!(FeaturePlan::from_toml("columns = 3").unwrap_err().to_string().contains("line 1"));
}

#[test]
fn wrong_cells_are_refused_with_row_and_column() {
    let good = ["40", "10", "10", "yes", "1", "yes", "p1"];
    let cases = [
        (0, "abc", "row 2, column `age`: `abc` is not a number; mend the cell or declare it"),
        (0, "1,5", "column `age`: `1,5` has a decimal comma"),
        (0, "inf", "column `age`: `inf` is not finite"),
        (3, "maybe", "column `smoker`: `maybe` is neither yes nor no"),
        (5, "unsure", "column `ill`: `unsure` is not a value of the label (`no`, `yes`)"),
        (0, "\u{1b}[2J", "`\\u{1b}[2J` is not a number"),
    ];
    for (column, cell, expected) in cases {
        let plan = tiny();
        let mut builder = builder(&plan);
        push(&mut builder, good).unwrap();
        let mut row = good;
        row[column] = cell;
        let error = push(&mut builder, row).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        push(&mut builder, good).unwrap();
        assert_eq!(builder.finish().rows(), 2, "a refused row leaves nothing behind");
    }
    let error = builder(&tiny()).push(&[Cell::Missing]).unwrap_err();
    assert_eq!(error, FeatureError::RowLength { row: 1, found: 1, expected: 7 });
}

#[test]
fn a_required_column_is_refused_by_name_and_an_optional_one_imputed() {
    let plan = tiny();
    let mut present = BTreeSet::from(COLUMNS);
    present.remove("stage");
    let mut builder = TableBuilder::new(&plan, &present, Purpose::Learn).unwrap();
    builder.push(&["40", "10", "10", "yes", "yes", "p1"].map(Cell::Text)).unwrap();
    let table = builder.finish();
    let prepared = prepare(&table, &plan, &fitted(&plan, &[&table])).unwrap();
    assert_eq!(prepared.dataset.row(0)[5..], [0.0, 0.0, 0.0, 1.0]);
    assert!(prepared.report.columns[4].absent);
    assert!(prepared.report.to_string().contains("stage: not in this table"));

    for column in ["age", "ill", "patient"] {
        let mut present = BTreeSet::from(COLUMNS);
        present.remove(column);
        let typo = format!("{column}_");
        present.insert(&typo);
        let error = TableBuilder::new(&plan, &present, Purpose::Learn).err().unwrap().to_string();
        assert!(error.contains(&format!("`{column}` is missing")), "{error}");
        assert!(error.contains(&format!("`{typo}`")), "{error}");
    }
    let features = BTreeSet::from(["age", "income", "debt", "smoker"]);
    assert!(TableBuilder::new(&plan, &features, Purpose::Infer).is_ok());
}

#[test]
fn values_are_clamped_counted_and_imputed() {
    let plan = tiny();
    let mut rows = builder(&plan);
    push(&mut rows, ["200", "-5", "0", "", "9", "yes", "a"]).unwrap();
    push(&mut rows, ["", "0", "0", "1", "2.0", "no", ""]).unwrap();
    push(&mut rows, ["5", "0", "0", "1", "2", "", "b"]).unwrap();
    let table = rows.finish();
    let tally = table.tally();
    assert_eq!((tally.rows_read, tally.rows_without_label, tally.rows_without_group), (3, 1, 1));
    assert_eq!((tally.columns[0].clamped, tally.columns[0].missing), (1, 1));
    assert_eq!((tally.columns[1].clamped, tally.columns[4].other), (1, 1));
    let zero: Vec<Vec<f64>> = stat_fields(&plan).iter().map(|f| vec![0.0; f.len]).collect();
    let neutral = FittedFeatures::from_sums(&plan, &zero).unwrap();
    let prepared = prepare(&table, &plan, &neutral).unwrap();
    // Nothing fitted: the middle of the bounds is 0 and their ends are -1 and 1.
    assert_eq!(prepared.dataset.row(0), [1.0, 0.0, -1.0, -1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    assert_eq!(prepared.dataset.row(1), [0.0, 1.0, -1.0, -1.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    assert_eq!(prepared.dataset.y(), [1.0, 0.0]);
    let report = prepared.report.to_string();
    assert!(report.starts_with("2 of 3 rows used; 2 of 10 cells missing (20.0 %)"), "{report}");
    assert!(report.contains("age: 1 missing became the mean, and flagged, 1 clamped"), "{report}");
    let (inputs, _) = prepare_inputs(&table, &plan, &neutral).unwrap();
    assert_eq!(inputs.x, prepared.dataset.x());
}

#[test]
fn sums_over_sites_fit_as_pooled_rows_do() {
    let plan = tiny();
    let pooled = tiny_rows(&plan, 97);
    let mut sites = [builder(&plan), builder(&plan), builder(&plan)];
    for i in 0..97 {
        let age = if i % 5 == 0 { String::new() } else { (20 + i * 7 % 60).to_string() };
        let income = (i * i * 37 % 90_000).to_string();
        let (smoker, ill) = (if i % 3 == 0 { "yes" } else { "no" }, ["yes", "no"][i % 2]);
        let (stage, patient) = (["1", "2", "7", ""][i % 4], format!("p{}", i / 2));
        push(&mut sites[i % 3], [&age, &income, "1000", smoker, stage, ill, &patient]).unwrap();
    }
    let sites = sites.map(TableBuilder::finish);
    let together = fitted(&plan, &[&sites[0], &sites[1], &sites[2]]);
    let alone = fitted(&plan, &[&pooled]);
    assert_eq!(together.category_counts(), alone.category_counts());
    assert_eq!(together.label_counts(), alone.label_counts());
    let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6);
    assert!(close(together.means(), alone.means()));
    assert!(close(together.variances(), alone.variances()));

    // And both are what a textbook says about the training rows.
    let (train, _) = prepare(&pooled, &plan, &alone).unwrap().dataset.split(0.25);
    let ages: Vec<f64> = (0..train.rows())
        .filter(|&row| train.row(row)[1] == 0.0)
        .map(|row| f64::from(train.row(row)[0]))
        .collect();
    let mean = ages.iter().sum::<f64>() / ages.len() as f64;
    let variance = ages.iter().map(|age| age * age).sum::<f64>() / ages.len() as f64;
    assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-4, "{mean} {variance}");
    assert_eq!(alone.rows(), train.rows() as u64);
    assert_eq!(pooled.rows_training(&plan), train.rows());
}

#[test]
fn a_constant_column_does_not_blow_up() {
    let plan = tiny();
    let table = tiny_rows(&plan, 40);
    let prepared = prepare(&table, &plan, &fitted(&plan, &[&table])).unwrap();
    assert!(prepared.dataset.x().iter().all(|value| value.abs() < 300.0));
}

#[test]
fn balanced_weights_give_every_class_the_same_total() {
    let plan = tiny();
    let table = tiny_rows(&plan, 61);
    let fitted = fitted(&plan, &[&table]);
    let (train, _) = prepare(&table, &plan, &fitted).unwrap().dataset.split(0.25);
    let total = |class: f32| -> f32 {
        train.y().iter().zip(train.weights()).filter(|(y, _)| **y == class).map(|(_, w)| w).sum()
    };
    assert!((total(0.0) - total(1.0)).abs() < 1e-3);
}

#[test]
fn groups_stay_together_and_stay_where_they_are_when_data_grow() {
    let plan = tiny();
    let (small, large) = (tiny_rows(&plan, 30), tiny_rows(&plan, 300));
    assert_eq!(small.keys(), &large.keys()[..30]);
    assert!(large.keys().chunks(2).all(|pair| pair[0] == pair[1]));
    let validation = large.keys().iter().filter(|&&key| plan.part_of(key) == Part::Validation);
    assert!((30..120).contains(&validation.count()));
    let other = FeaturePlan::from_toml(&TINY.replace("\"tiny\"", "\"other\"")).unwrap();
    assert_ne!(tiny_rows(&other, 30).keys(), small.keys());
    assert_eq!(part_of(0, 0.0), Part::Train);
    assert_eq!(part_of(u64::MAX, 0.9), Part::Train);
}

#[test]
fn fitted_features_read_back_and_are_checked() {
    let plan = tiny();
    let made = fitted(&plan, &[&tiny_rows(&plan, 33)]);
    let bytes = made.canonical_bytes();
    let again = FittedFeatures::from_canonical(&plan, &bytes).unwrap();
    assert_eq!((again.digest(), &again), (made.digest(), &made));
    let text = String::from_utf8(bytes).unwrap();
    let other = FeaturePlan::from_toml(&TINY.replace("\"tiny\"", "\"other\"")).unwrap();
    let refused = FittedFeatures::from_canonical(&other, text.as_bytes());
    assert_eq!(refused.err(), Some(FeatureError::OtherPlan("the fitted features")));
    let variances = format!("\"variances\":[{}", made.variances()[0]);
    for (from, to) in [
        (variances.as_str(), "\"variances\":[0.0"),
        ("\"format\":1", "\"format\":2"),
        ("\"rows\"", "\"rowz\""),
        ("\"labels\":[", "\"labels\":[1,"),
        ("\"format\":1", "\"format\": 1"),
        ("{", "["),
    ] {
        assert!(text.contains(from), "{from}");
        let wrong = text.replacen(from, to, 1);
        assert!(FittedFeatures::from_canonical(&plan, wrong.as_bytes()).is_err(), "{to}");
    }
}

#[test]
fn impossible_sums_are_refused() {
    let plan = tiny();
    let right = sums(&plan, &[&tiny_rows(&plan, 33)]);
    assert!(FittedFeatures::from_sums(&plan, &right).is_ok());
    let mut encoded = right.clone();
    encoded.iter_mut().flatten().for_each(|value| *value += 1e-4);
    assert!(FittedFeatures::from_sums(&plan, &encoded).is_ok(), "rounding is allowed for");
    let cases: [(usize, f64); 7] =
        [(0, -1.0), (0, f64::NAN), (1, 1e9), (2, 60.0), (3, -1.0), (4, 0.5), (5, 30.0)];
    for (field, value) in cases {
        let mut wrong = right.clone();
        wrong[field][0] = value;
        let refused = FittedFeatures::from_sums(&plan, &wrong);
        assert!(matches!(refused, Err(FeatureError::Sums(_))), "{field} {value}");
    }
    assert!(FittedFeatures::from_sums(&plan, &right[1..]).is_err());
}

#[test]
fn tables_and_features_of_another_plan_are_refused() {
    let plan = tiny();
    let other = FeaturePlan::from_toml(&TINY.replace("\"tiny\"", "\"other\"")).unwrap();
    let table = tiny_rows(&plan, 10);
    let own = fitted(&plan, &[&table]);
    assert!(prepare(&table, &other, &own).is_err());
    assert!(prepare(&tiny_rows(&other, 10), &other, &own).is_err());
    assert!(local_statistics(&other, &table).is_err());
    let unlabelled = TableBuilder::new(&plan, &BTreeSet::from(COLUMNS), Purpose::Infer).unwrap();
    let error = prepare(&unlabelled.finish(), &plan, &own).err();
    assert_eq!(error, Some(FeatureError::Unlabelled));
}

proptest! {
    #[test]
    fn no_text_panics_as_a_plan(text in "[a-z\\[\\]=\"{}0-9 \n.]{0,120}") {
        let _ = FeaturePlan::from_toml(&text);
        let _ = FeaturePlan::from_json(text.as_bytes());
        let _ = FittedFeatures::from_canonical(&tiny(), text.as_bytes());
    }

    #[test]
    fn no_cell_panics_and_kept_rows_are_finite(
        rows in prop::collection::vec(prop::collection::vec("\\PC{0,6}|[0-9.e-]{0,8}", 7), 0..12),
    ) {
        let plan = tiny();
        let mut builder = builder(&plan);
        for row in &rows {
            let cells: Vec<Cell<'_>> = row.iter().map(|text| Cell::Text(text)).collect();
            let _ = builder.push(&cells);
        }
        let table = builder.finish();
        let prepared = prepare(&table, &plan, &fitted(&plan, &[&table])).unwrap();
        prop_assert_eq!(prepared.dataset.rows(), table.rows());
    }

    #[test]
    fn any_number_reads_as_it_is_or_clamped(value in any::<f64>()) {
        let plan = tiny();
        let mut builder = builder(&plan);
        let rest = ["1", "1", "no", "1", "no", "p"].map(Cell::Text);
        let row: Vec<Cell<'_>> = [Cell::Number(value)].into_iter().chain(rest).collect();
        prop_assert_eq!(builder.push(&row).is_err(), value.is_infinite());
    }
}

/// A plan that says all by itself: nothing of any site's rows is in what it makes.
#[test]
fn a_plan_with_bounds_and_constants_needs_no_statistics() {
    assert!(tiny().needs_fitting().unwrap().contains("`age`"));
    assert!(FittedFeatures::public(&tiny()).is_none());
    let public = TINY
        .replace("class_weights = \"balanced\"", "class_weights = [1.0, 2.5]")
        .replace("bounds = [0, 120]\n    missing = \"indicator\"", "bounds = [0, 120]\n    missing = \"constant\"\n    constant = 60\n    scaling = \"bounds\"")
        .replace("transform = \"log1p\"", "transform = \"log1p\"\n    scaling = \"bounds\"\n    missing = \"constant\"\n    constant = 0");
    let plan = FeaturePlan::from_toml(&public).unwrap();
    assert_eq!(FeaturePlan::from_canonical(&plan.canonical_bytes()).unwrap(), plan);
    assert_ne!(plan.digest(), tiny().digest());
    let fitted = FittedFeatures::public(&plan).unwrap();
    assert_eq!(fitted.rows(), 0);
    assert_eq!(FittedFeatures::from_canonical(&plan, &fitted.canonical_bytes()).unwrap(), fitted);
    let mut builder = builder(&plan);
    push(&mut builder, ["120", "0", "", "yes", "1", "yes", "p1"]).unwrap();
    push(&mut builder, ["", "1e6", "1e6", "", "2", "no", "p2"]).unwrap();
    let prepared = prepare(&builder.finish(), &plan, &fitted).unwrap().dataset;
    // Age, income, debt in [-1, 1]; the flag; two stages, other, missing.
    assert_eq!(prepared.row(0), [1.0, -1.0, -1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    assert_eq!(prepared.row(1), [0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    assert_eq!(prepared.weights(), [2.5, 1.0]);
}
