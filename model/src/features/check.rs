//! The rules that every feature plan keeps. [`super::FeaturePlan::new`] calls this once.

use std::collections::BTreeSet;

use super::{
    CATEGORIES_MAX, CLASSES_MAX, COLUMNS_MAX, CategoryMissing, ClassWeights, Column, ColumnKind,
    FeatureError, Label, LabelKind, NAME_BYTES_MAX, NumberMissing, RowSplit, Transform, WIDTH_MAX,
};

pub(super) fn check(
    columns: &[Column],
    label: &Label,
    split: &RowSplit,
) -> Result<(), FeatureError> {
    if columns.is_empty() || columns.len() > COLUMNS_MAX {
        let problem = format!("there must be 1 to {COLUMNS_MAX}, there are {}", columns.len());
        return Err(invalid("columns", problem));
    }
    let mut seen = BTreeSet::new();
    for column in columns {
        check_column(column)?;
        if !seen.insert(column.name.as_str()) {
            return Err(at_column(&column.name, "is named twice; keep one"));
        }
    }
    let width: usize = columns.iter().map(Column::width).sum();
    if width > WIDTH_MAX {
        let problem = format!("they make {width} tensor columns, at most {WIDTH_MAX} are allowed");
        return Err(invalid("columns", problem));
    }
    check_label(label)?;
    if seen.contains(label.column.as_str()) {
        return Err(at_column(&label.column, "is the label and cannot be a feature too"));
    }
    check_split(split)?;
    match &split.group {
        Some(group) if seen.contains(group.as_str()) || *group == label.column => {
            Err(at_column(group, "is the group and cannot be a feature or the label too"))
        }
        _ => Ok(()),
    }
}

fn check_column(column: &Column) -> Result<(), FeatureError> {
    let name = &column.name;
    check_text("columns", name)?;
    if !column.unit.is_empty() {
        check_text(&format!("unit of column `{name}`"), &column.unit)?;
    }
    match &column.kind {
        ColumnKind::Category { categories, missing } => check_categories(name, categories, missing),
        ColumnKind::Numeric { bounds, transform, .. } => {
            if !(bounds.min.is_finite() && bounds.max.is_finite() && bounds.min < bounds.max) {
                return Err(at_column(name, "`bounds` must be two finite numbers, min < max"));
            }
            if bounds.min.abs().max(bounds.max.abs()) > MAGNITUDE_MAX {
                return Err(at_column(name, "`bounds` must lie within -1e30 and 1e30"));
            }
            if *transform == Transform::Log1p && bounds.min < 0.0 {
                return Err(at_column(name, "`log1p` needs bounds from 0 upwards"));
            }
            // What is fitted is single precision: bounds must stay apart there.
            if column.number().is_some_and(|number| number.middle_and_half().1 <= 0.0) {
                return Err(at_column(name, "`bounds` are too close to each other"));
            }
            check_constant(column)
        }
        ColumnKind::Flag { .. } => check_constant(column),
    }
}

fn check_constant(column: &Column) -> Result<(), FeatureError> {
    let number = column.number().expect("only called for numeric columns and flags");
    let bounds = number.bounds;
    match number.missing {
        NumberMissing::Constant(value) if !(bounds.min..=bounds.max).contains(&value) => {
            Err(at_column(&column.name, "`constant` must lie within the bounds"))
        }
        _ => Ok(()),
    }
}

fn check_categories(
    name: &str,
    categories: &[String],
    missing: &CategoryMissing,
) -> Result<(), FeatureError> {
    if categories.is_empty() || categories.len() > CATEGORIES_MAX {
        let problem = format!("`categories` must list 1 to {CATEGORIES_MAX} values");
        return Err(at_column(name, &problem));
    }
    check_values(&format!("categories of column `{name}`"), categories)?;
    match missing {
        CategoryMissing::Constant(value) if !categories.contains(value) => {
            Err(at_column(name, "`constant` must be one of the categories"))
        }
        _ => Ok(()),
    }
}

fn check_label(label: &Label) -> Result<(), FeatureError> {
    check_text("label", &label.column)?;
    let classes = label.values.len();
    match label.kind {
        LabelKind::Binary if classes != 2 => {
            return Err(invalid("label", "a binary label has two `values`, negative first"));
        }
        LabelKind::Classes if !(2..=CLASSES_MAX).contains(&classes) => {
            return Err(invalid("label", format!("`values` must list 2 to {CLASSES_MAX} classes")));
        }
        _ => {}
    }
    check_values("label", &label.values)?;
    match &label.class_weights {
        ClassWeights::Given(weights) if weights.len() != classes => {
            Err(invalid("label", "`class_weights` needs one weight for each of the `values`"))
        }
        ClassWeights::Given(weights) if !weights.iter().all(|w| (1e-3..=1e3).contains(w)) => {
            Err(invalid("label", "`class_weights` must lie between 0.001 and 1000"))
        }
        _ => Ok(()),
    }
}

fn check_split(split: &RowSplit) -> Result<(), FeatureError> {
    check_text("salt", &split.salt)?;
    if let Some(group) = &split.group {
        check_text("group", group)?;
    }
    if !(0.0..=0.9).contains(&split.validation) {
        return Err(invalid("validation", "must be a share between 0 and 0.9"));
    }
    Ok(())
}

fn check_values(place: &str, values: &[String]) -> Result<(), FeatureError> {
    let mut seen = BTreeSet::new();
    for value in values {
        check_text(place, value)?;
        if !seen.insert(value) {
            return Err(invalid(place, format!("`{value}` is listed twice")));
        }
    }
    Ok(())
}

/// Names are compared with trimmed cells and shown on terminals.
fn check_text(place: &str, text: &str) -> Result<(), FeatureError> {
    if text.is_empty() || text.trim() != text {
        return Err(invalid(place, "names and values are not empty and have no blanks around"));
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(invalid(place, format!("names have at most {NAME_BYTES_MAX} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(place, "names and values have no control characters"));
    }
    Ok(())
}

fn at_column(name: &str, problem: &str) -> FeatureError {
    invalid(&format!("column `{}`", name.escape_debug()), problem)
}

fn invalid(place: &str, problem: impl Into<String>) -> FeatureError {
    FeatureError::Invalid { place: place.to_owned(), problem: problem.into() }
}

/// Keeps every value and its square an ordinary `f32`-convertible number after scaling.
const MAGNITUDE_MAX: f64 = 1e30;
