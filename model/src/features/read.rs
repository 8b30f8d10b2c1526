//! Reading a feature plan from TOML or JSON: unknown keys are refused with the nearest right one.
//!
//! Not the canonical form; that is `canonical.rs`, which writes what is read here.

use serde::{Deserialize, Serialize};

use super::nearest::with_hint;
use super::{
    Bounds, CategoryMissing, ClassWeights, Column, ColumnKind, FeatureError, FeaturePlan, Label,
    LabelKind, NumberMissing, PLAN_BYTES_MAX, Presence, RowSplit, Scaling, Transform,
};

impl FeaturePlan {
    /// Reads a plan from TOML.
    ///
    /// # Errors
    /// [`FeatureError::Read`] with line, column and the nearest right key, or
    /// [`FeatureError::Invalid`].
    pub fn from_toml(text: &str) -> Result<Self, FeatureError> {
        limited(text.len())?;
        let raw: RawPlan = toml::from_str(text)
            .map_err(|error| FeatureError::Read(with_hint(&error.to_string())))?;
        raw.into_plan()
    }

    /// Reads a plan from JSON with the same keys as the TOML form.
    ///
    /// # Errors
    /// As [`Self::from_toml`].
    pub fn from_json(text: &[u8]) -> Result<Self, FeatureError> {
        limited(text.len())?;
        let raw: RawPlan = serde_json::from_slice(text)
            .map_err(|error| FeatureError::Read(with_hint(&error.to_string())))?;
        raw.into_plan()
    }
}

fn limited(bytes: usize) -> Result<(), FeatureError> {
    if bytes > PLAN_BYTES_MAX {
        let problem = format!("it has {bytes} bytes, at most {PLAN_BYTES_MAX} are read");
        return Err(FeatureError::Read(problem));
    }
    Ok(())
}

/// The plan as written in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPlan {
    #[serde(default = "format_one")]
    pub(super) format: u32,
    pub(super) salt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<String>,
    pub(super) validation: f64,
    pub(super) label: RawLabel,
    pub(super) columns: Vec<RawColumn>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLabel {
    pub(super) column: String,
    pub(super) kind: RawLabelKind,
    pub(super) values: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) class_weights: Option<RawWeights>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawLabelKind {
    Binary,
    Classes,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "`class_weights` is \"balanced\" or a list of numbers")]
pub(super) enum RawWeights {
    Word(BalancedWord),
    Given(Vec<f64>),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum BalancedWord {
    Balanced,
}

/// One column, or several alike ones under `names`.
#[derive(Serialize, Deserialize, Clone, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct RawColumn {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) names: Option<Vec<String>>,
    #[serde(rename = "type")]
    pub(super) kind: RawKind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) unit: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) optional: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bounds: Option<[f64; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) transform: Option<RawTransform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) categories: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) missing: Option<RawMissing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) constant: Option<RawConstant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scaling: Option<RawScaling>,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawKind {
    Numeric,
    Flag,
    Category,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawTransform {
    None,
    Log1p,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawMissing {
    Mean,
    Other,
    Constant,
    Indicator,
}

#[derive(Serialize, Deserialize, Clone, PartialEq)]
#[serde(untagged, expecting = "`constant` is a number, or a category in quotes")]
pub(super) enum RawConstant {
    Number(f64),
    Category(String),
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawScaling {
    Standard,
    Bounds,
    None,
}

impl RawPlan {
    fn into_plan(self) -> Result<FeaturePlan, FeatureError> {
        if self.format != FORMAT {
            return Err(FeatureError::Read(format!(
                "it has format {}, this program reads format {FORMAT}; use a newer program",
                self.format
            )));
        }
        let mut columns = Vec::new();
        for raw in self.columns {
            raw.append_to(&mut columns)?;
        }
        let label = Label {
            column: self.label.column,
            kind: match self.label.kind {
                RawLabelKind::Binary => LabelKind::Binary,
                RawLabelKind::Classes => LabelKind::Classes,
            },
            values: self.label.values,
            class_weights: match self.label.class_weights {
                None => ClassWeights::Equal,
                Some(RawWeights::Word(BalancedWord::Balanced)) => ClassWeights::Balanced,
                Some(RawWeights::Given(weights)) => ClassWeights::Given(weights),
            },
        };
        let split =
            RowSplit { group: self.group, salt: self.salt, validation: unsigned(self.validation) };
        FeaturePlan::new(columns, label, split)
    }
}

impl RawColumn {
    fn append_to(mut self, columns: &mut Vec<Column>) -> Result<(), FeatureError> {
        let names = match (self.name.take(), self.names.take()) {
            (Some(name), None) => vec![name],
            (None, Some(names)) if !names.is_empty() => names,
            _ => {
                let number = columns.len() + 1;
                return Err(FeatureError::Invalid {
                    place: format!("column number {number}"),
                    problem: "give either `name` or a list `names`".to_owned(),
                });
            }
        };
        let kind = self.kind(&names[0])?;
        let presence = if self.optional { Presence::Optional } else { Presence::Required };
        columns.extend(names.into_iter().map(|name| Column {
            name,
            unit: self.unit.clone(),
            presence,
            kind: kind.clone(),
        }));
        Ok(())
    }

    fn kind(&self, name: &str) -> Result<ColumnKind, FeatureError> {
        let wrong = |problem: &str| FeatureError::Invalid {
            place: format!("column `{}`", name.escape_debug()),
            problem: problem.to_owned(),
        };
        let not_for = |given: bool, key: &str| match given {
            true => Err(wrong(&format!("`{key}` does not belong to this type; leave it out"))),
            false => Ok(()),
        };
        if (self.missing == Some(RawMissing::Constant)) != self.constant.is_some() {
            return Err(wrong("`missing = \"constant\"` and `constant` go together"));
        }
        match self.kind {
            RawKind::Numeric => {
                not_for(self.categories.is_some(), "categories")?;
                let [min, max] =
                    self.bounds.ok_or_else(|| wrong("a numeric column needs `bounds`"))?;
                let transform = match self.transform {
                    Some(RawTransform::Log1p) => Transform::Log1p,
                    Some(RawTransform::None) | None => Transform::None,
                };
                let scaling = self.scaling(Scaling::Standard);
                let missing = self.number_missing().map_err(wrong)?;
                let bounds = Bounds { min: unsigned(min), max: unsigned(max) };
                Ok(ColumnKind::Numeric { bounds, transform, missing, scaling })
            }
            RawKind::Flag => {
                not_for(self.categories.is_some(), "categories")?;
                not_for(self.bounds.is_some(), "bounds")?;
                not_for(self.transform.is_some(), "transform")?;
                let scaling = self.scaling(Scaling::None);
                Ok(ColumnKind::Flag { missing: self.number_missing().map_err(wrong)?, scaling })
            }
            RawKind::Category => {
                not_for(self.bounds.is_some(), "bounds")?;
                not_for(self.transform.is_some(), "transform")?;
                not_for(self.scaling.is_some(), "scaling")?;
                let categories = self
                    .categories
                    .clone()
                    .ok_or_else(|| wrong("a category column needs `categories`"))?;
                let missing = self.category_missing().map_err(wrong)?;
                Ok(ColumnKind::Category { categories, missing })
            }
        }
    }

    fn number_missing(&self) -> Result<NumberMissing, &'static str> {
        match (self.missing, &self.constant) {
            (None | Some(RawMissing::Mean), _) => Ok(NumberMissing::Mean),
            (Some(RawMissing::Indicator), _) => Ok(NumberMissing::Indicator),
            (Some(RawMissing::Constant), Some(RawConstant::Number(value))) => {
                Ok(NumberMissing::Constant(unsigned(*value)))
            }
            (Some(RawMissing::Constant), _) => Err("`constant` must be a number here"),
            (Some(RawMissing::Other), _) => Err("`missing = \"other\"` is for categories"),
        }
    }

    fn category_missing(&self) -> Result<CategoryMissing, &'static str> {
        match (self.missing, &self.constant) {
            (None | Some(RawMissing::Other), _) => Ok(CategoryMissing::Other),
            (Some(RawMissing::Indicator), _) => Ok(CategoryMissing::Indicator),
            (Some(RawMissing::Constant), Some(RawConstant::Category(value))) => {
                Ok(CategoryMissing::Constant(value.clone()))
            }
            (Some(RawMissing::Constant), _) => Err("`constant` must be a category in quotes here"),
            (Some(RawMissing::Mean), _) => Err("`missing = \"mean\"` is for numbers"),
        }
    }

    fn scaling(&self, default: Scaling) -> Scaling {
        match self.scaling {
            Some(RawScaling::Standard) => Scaling::Standard,
            Some(RawScaling::Bounds) => Scaling::Bounds,
            Some(RawScaling::None) => Scaling::None,
            None => default,
        }
    }
}

/// The one format there is.
pub(super) const FORMAT: u32 = 1;

fn format_one() -> u32 {
    FORMAT
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// `-0.0` becomes `0.0`: equal plans have equal digests.
fn unsigned(value: f64) -> f64 {
    value + 0.0
}
