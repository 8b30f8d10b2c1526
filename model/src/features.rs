//! Feature plans: how a site's columns become tensors, written down as data.
//!
//! A [`FeaturePlan`] says for each column its type, unit, public bounds or closed categories, what
//! to do when a cell is missing and how to scale; which column is the label; and by which column
//! rows are split into training and validation. It lies beside the model spec and is hashed with
//! it. What has to be *learned* about the columns (means, variances, counts) is in
//! [`fitted::FittedFeatures`], made from secure sums once per task.
//!
//! It is deliberately not code: nothing in a plan is evaluated, and nothing here opens a file or
//! knows a file format. Raw values live in [`table::Table`] and [`crate::dataset::Dataset`], which
//! have neither `Debug` nor `Serialize`.
//!
//! Start at [`FeaturePlan::from_toml`], then [`table::TableBuilder`], [`statistics`],
//! [`fitted::FittedFeatures::from_sums`], [`prepare::prepare`].
//!
//! ```
//! use koinon_model::features::FeaturePlan;
//!
//! let plan = FeaturePlan::from_toml(r#"
//!     salt = "example-1"
//!     group = "patient"
//!     validation = 0.2
//!
//!     [label]
//!     column = "relapse"
//!     kind = "binary"
//!     values = ["no", "yes"]
//!
//!     [[columns]]
//!     name = "age"
//!     type = "numeric"
//!     unit = "years"
//!     bounds = [0, 120]
//!     missing = "indicator"
//!
//!     [[columns]]
//!     names = ["GENE1", "GENE2"]        # alike columns share their settings
//!     type = "numeric"
//!     bounds = [0, 25]
//!
//!     [[columns]]
//!     name = "stage"
//!     type = "category"
//!     categories = ["I", "II", "III", "IV"]
//! "#).unwrap();
//! assert_eq!(plan.width(), 2 + 2 + 5); // age and its indicator, two genes, four stages and *other*
//! ```

mod canonical;
mod check;
pub mod error;
pub mod fitted;
pub mod nearest;
pub mod prepare;
mod read;
pub mod statistics;
pub mod table;
#[cfg(test)]
pub(crate) mod tests;

pub use error::FeatureError;

use crate::digest::{Digest, Hasher};

/// Most columns a plan may name.
pub const COLUMNS_MAX: usize = 65_536;
/// Most closed categories of one column.
pub const CATEGORIES_MAX: usize = 4_096;
/// Most classes of a label.
pub const CLASSES_MAX: usize = 1_000;
/// Most tensor columns that a plan may make.
pub const WIDTH_MAX: usize = 1 << 18;
/// Longest name, unit, category or salt in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// Longest plan as text in bytes.
pub const PLAN_BYTES_MAX: usize = 8 << 20;

/// How a site's columns become tensors. Immutable and always checked: an invalid plan cannot be
/// held.
#[derive(Clone, Debug, PartialEq)]
pub struct FeaturePlan {
    columns: Vec<Column>,
    label: Label,
    split: RowSplit,
    digest: Digest,
}

/// One column of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The plan's name; a site maps its own names to it.
    pub name: String,
    /// The unit for people, may be empty.
    pub unit: String,
    /// What happens when a site lacks the whole column.
    pub presence: Presence,
    /// Type with its settings.
    pub kind: ColumnKind,
}

/// What happens when a site lacks a whole column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The site's table is refused by name.
    Required,
    /// Every cell counts as missing, and the report says so.
    Optional,
}

/// A column's type with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnKind {
    /// A number between public bounds.
    Numeric {
        /// Public bounds; values outside are clamped and counted.
        bounds: Bounds,
        /// Applied after clamping.
        transform: Transform,
        /// What a missing cell becomes.
        missing: NumberMissing,
        /// Applied after the transform.
        scaling: Scaling,
    },
    /// Yes or no, as 1 and 0.
    Flag {
        /// What a missing cell becomes.
        missing: NumberMissing,
        /// Whether the 0 and 1 are standardised.
        scaling: Scaling,
    },
    /// One of closed categories or *other*; becomes one column each, 0 or 1.
    Category {
        /// The closed list, in tensor order; *other* follows.
        categories: Vec<String>,
        /// What a missing cell becomes.
        missing: CategoryMissing,
    },
}

/// Public bounds of a number, `min < max`, both finite, in the column's unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Least value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
}

/// A fixed function applied to a clamped number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// The number itself.
    None,
    /// `ln(1 + x)`, for money and counts; needs `min >= 0`.
    Log1p,
}

/// What a missing number becomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NumberMissing {
    /// The fitted mean over all sites' training rows.
    Mean,
    /// A fixed value in the column's unit, within the bounds.
    Constant(f64),
    /// The mean, and a second tensor column that is 1 where the cell was missing.
    Indicator,
}

/// What a missing category becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CategoryMissing {
    /// The category *other*.
    Other,
    /// One of the closed categories.
    Constant(String),
    /// No category, and a last tensor column that is 1 where the cell was missing.
    Indicator,
}

/// How a transformed number is scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// Less the fitted mean, divided by the fitted standard deviation.
    Standard,
    /// To [-1, 1] by the public bounds alone: nothing is learned about anybody.
    Bounds,
    /// As it is.
    None,
}

/// The column to be predicted.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// Its name in the plan.
    pub column: String,
    /// Binary or several classes.
    pub kind: LabelKind,
    /// The closed values; the index is the class. For a binary label the second is positive.
    pub values: Vec<String>,
    /// How much a row of each class counts in training.
    pub class_weights: ClassWeights,
}

/// Whether the label is yes/no or one of several classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelKind {
    /// Two values; `y` is 0 or 1.
    Binary,
    /// Two or more values; `y` is the class index.
    Classes,
}

/// How much a row of each class counts in training.
#[derive(Clone, Debug, PartialEq)]
pub enum ClassWeights {
    /// Every row counts 1.
    Equal,
    /// Weight per class, in the order of the label's values.
    Given(Vec<f64>),
    /// `rows / (classes * rows of the class)`, from the fitted label counts.
    Balanced,
}

/// How rows are divided into training and validation.
#[derive(Clone, Debug, PartialEq)]
pub struct RowSplit {
    /// Rows with the same value here stay together; without it, equal rows do.
    pub group: Option<String>,
    /// Public salt of the keyed hash: another salt, another division.
    pub salt: String,
    /// Share of the groups that validate, in `[0, 0.9]`.
    pub validation: f64,
}

/// On which side of the division a row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Trained on, and fitted on.
    Train,
    /// Only measured on.
    Validation,
}

impl FeaturePlan {
    /// A plan made in code.
    ///
    /// # Errors
    /// [`FeatureError::Invalid`] says which rule is broken and where.
    pub fn new(columns: Vec<Column>, label: Label, split: RowSplit) -> Result<Self, FeatureError> {
        check::check(&columns, &label, &split)?;
        let mut plan = Self { columns, label, split, digest: [0; 32] };
        plan.digest = crate::digest::digest_of(PLAN_DOMAIN, &plan.canonical_bytes());
        Ok(plan)
    }

    /// The columns in the order of the tensor.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The column to be predicted.
    #[must_use]
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// How rows are divided into training and validation.
    #[must_use]
    pub fn split(&self) -> &RowSplit {
        &self.split
    }

    /// SHA-256 of [`Self::canonical_bytes`] under `koinon.feature-plan.v1`.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The first setting that can only be had by fitting, in words; none for a plan that says all by
    /// itself. Such a plan needs no statistics of anybody: see [`fitted::FittedFeatures::public`].
    #[must_use]
    pub fn needs_fitting(&self) -> Option<String> {
        let column = self.columns.iter().find_map(|column| {
            let number = column.number()?;
            let name = &column.name;
            if number.scaling == Scaling::Standard {
                Some(format!("column `{name}` is scaled by its fitted mean and variance; write `scaling = \"bounds\"`"))
            } else if matches!(number.missing, NumberMissing::Mean | NumberMissing::Indicator) {
                Some(format!("a missing `{name}` becomes the fitted mean; write `missing = \"constant\"` with a `constant`"))
            } else {
                None
            }
        });
        let balanced = self.label.class_weights == ClassWeights::Balanced;
        column.or_else(|| {
            balanced.then(|| {
                "balanced class weights count the sites' rows; write a list of weights".into()
            })
        })
    }

    /// Number of tensor columns that a row becomes.
    #[must_use]
    pub fn width(&self) -> usize {
        self.columns.iter().map(Column::width).sum()
    }

    /// A name for each tensor column: `age`, `age?` (missing), `stage=II`, `stage=*` (other).
    #[must_use]
    pub fn tensor_names(&self) -> Vec<String> {
        self.columns.iter().flat_map(Column::tensor_names).collect()
    }

    /// Place of a group on the circle that [`part_of`] cuts: a keyed hash, the same today and
    /// when the data have grown.
    #[must_use]
    pub fn row_key(&self, group: &[u8]) -> u64 {
        let mut hasher = Hasher::new(ROW_DOMAIN);
        hasher.update(&(self.split.salt.len() as u64).to_le_bytes());
        hasher.update(self.split.salt.as_bytes());
        hasher.update(group);
        let [a, b, c, d, e, f, g, h, ..] = hasher.finish();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// On which side of this plan's division a row with that key lies.
    #[must_use]
    pub fn part_of(&self, key: u64) -> Part {
        part_of(key, self.split.validation)
    }
}

/// On which side a row with this key lies when `validation` of the groups validate.
#[must_use]
pub fn part_of(key: u64, validation: f64) -> Part {
    // 2^64: the top of the circle of keys.
    if (key as f64) < validation * 18_446_744_073_709_551_616.0 {
        Part::Validation
    } else {
        Part::Train
    }
}

impl Column {
    /// Number of tensor columns that this column becomes.
    #[must_use]
    pub fn width(&self) -> usize {
        match &self.kind {
            ColumnKind::Numeric { missing, .. } | ColumnKind::Flag { missing, .. } => {
                1 + usize::from(*missing == NumberMissing::Indicator)
            }
            ColumnKind::Category { categories, missing } => {
                categories.len() + 1 + usize::from(*missing == CategoryMissing::Indicator)
            }
        }
    }

    /// The settings of a numeric column or flag in one form; none for a category.
    #[must_use]
    pub fn number(&self) -> Option<NumberSettings> {
        match &self.kind {
            ColumnKind::Numeric { bounds, transform, missing, scaling } => Some(NumberSettings {
                bounds: *bounds,
                transform: *transform,
                missing: *missing,
                scaling: *scaling,
            }),
            ColumnKind::Flag { missing, scaling } => Some(NumberSettings {
                bounds: Bounds { min: 0.0, max: 1.0 },
                transform: Transform::None,
                missing: *missing,
                scaling: *scaling,
            }),
            ColumnKind::Category { .. } => None,
        }
    }

    fn tensor_names(&self) -> Vec<String> {
        let name = &self.name;
        let mut names = match &self.kind {
            ColumnKind::Category { categories, .. } => categories
                .iter()
                .map(|category| format!("{name}={category}"))
                .chain([format!("{name}=*")])
                .collect(),
            ColumnKind::Numeric { .. } | ColumnKind::Flag { .. } => vec![name.clone()],
        };
        if names.len() < self.width() {
            names.push(format!("{name}?"));
        }
        names
    }
}

/// The settings of a numeric column, or of a flag seen as a number between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NumberSettings {
    /// Public bounds.
    pub bounds: Bounds,
    /// Applied after clamping.
    pub transform: Transform,
    /// What a missing cell becomes.
    pub missing: NumberMissing,
    /// Applied after the transform.
    pub scaling: Scaling,
}

impl NumberSettings {
    /// Clamps to the bounds and transforms.
    #[must_use]
    pub fn transformed(&self, value: f64) -> f64 {
        self.transform.apply(value.clamp(self.bounds.min, self.bounds.max))
    }

    /// Middle and half-width of the transformed bounds.
    ///
    /// Rounded to `f32` on the way, so that platforms whose logarithms differ in the last bit still
    /// agree on what was fitted.
    #[must_use]
    pub fn middle_and_half(&self) -> (f64, f64) {
        let low = round_to_f32(self.transform.apply(self.bounds.min));
        let high = round_to_f32(self.transform.apply(self.bounds.max));
        ((low + high) / 2.0, (high - low) / 2.0)
    }
}

impl Transform {
    fn apply(self, value: f64) -> f64 {
        match self {
            Self::None => value,
            Self::Log1p => value.ln_1p(),
        }
    }
}

/// Rounds to the nearest `f32`: tensors are single precision.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what this does")]
pub(crate) fn to_f32(value: f64) -> f32 {
    value as f32
}

fn round_to_f32(value: f64) -> f64 {
    f64::from(to_f32(value))
}

const PLAN_DOMAIN: &str = "koinon.feature-plan.v1";
const ROW_DOMAIN: &str = "koinon.feature-plan.row.v1";
