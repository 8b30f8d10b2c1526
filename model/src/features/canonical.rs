//! The one byte form of a feature plan: JSON with fixed keys in fixed order, every default written
//! out, alike neighbours grouped under `names`. Two equal plans have equal bytes.

use super::read::{
    BalancedWord, FORMAT, RawColumn, RawConstant, RawKind, RawLabel, RawLabelKind, RawMissing,
    RawPlan, RawScaling, RawTransform, RawWeights,
};
use super::{
    CategoryMissing, ClassWeights, Column, ColumnKind, FeatureError, FeaturePlan, LabelKind,
    NumberMissing, Presence, Scaling, Transform,
};

impl FeaturePlan {
    /// The bytes that are hashed and that travel.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.to_raw()).expect("a checked plan holds only finite numbers")
    }

    /// Reads [`Self::canonical_bytes`] back, and nothing else.
    ///
    /// # Errors
    /// [`FeatureError::NotCanonical`] when the bytes are a plan written differently.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, FeatureError> {
        let plan = Self::from_json(bytes)?;
        if plan.canonical_bytes() != bytes {
            return Err(FeatureError::NotCanonical("the bytes of the feature plan"));
        }
        Ok(plan)
    }

    fn to_raw(&self) -> RawPlan {
        let mut columns: Vec<RawColumn> = Vec::new();
        let mut settings: Option<RawColumn> = None;
        for column in &self.columns {
            let raw = raw_column(column);
            match columns.last_mut() {
                Some(last) if settings.as_ref() == Some(&raw) => {
                    last.names.get_or_insert_default().push(column.name.clone());
                }
                _ => {
                    let names = Some(vec![column.name.clone()]);
                    columns.push(RawColumn { names, ..raw.clone() });
                    settings = Some(raw);
                }
            }
        }
        RawPlan {
            format: FORMAT,
            salt: self.split.salt.clone(),
            group: self.split.group.clone(),
            validation: self.split.validation,
            label: RawLabel {
                column: self.label.column.clone(),
                kind: match self.label.kind {
                    LabelKind::Binary => RawLabelKind::Binary,
                    LabelKind::Classes => RawLabelKind::Classes,
                },
                values: self.label.values.clone(),
                class_weights: match &self.label.class_weights {
                    ClassWeights::Equal => None,
                    ClassWeights::Balanced => Some(RawWeights::Word(BalancedWord::Balanced)),
                    ClassWeights::Given(weights) => Some(RawWeights::Given(weights.clone())),
                },
            },
            columns,
        }
    }
}

/// A column's settings without its name.
fn raw_column(column: &Column) -> RawColumn {
    let mut raw = RawColumn {
        name: None,
        names: None,
        kind: RawKind::Numeric,
        unit: column.unit.clone(),
        optional: column.presence == Presence::Optional,
        bounds: None,
        transform: None,
        categories: None,
        missing: None,
        constant: None,
        scaling: None,
    };
    match &column.kind {
        ColumnKind::Numeric { bounds, transform, missing, scaling } => {
            raw.bounds = Some([bounds.min, bounds.max]);
            raw.transform = Some(match transform {
                Transform::None => RawTransform::None,
                Transform::Log1p => RawTransform::Log1p,
            });
            (raw.missing, raw.constant) = raw_number_missing(*missing);
            raw.scaling = Some(raw_scaling(*scaling));
        }
        ColumnKind::Flag { missing, scaling } => {
            raw.kind = RawKind::Flag;
            (raw.missing, raw.constant) = raw_number_missing(*missing);
            raw.scaling = Some(raw_scaling(*scaling));
        }
        ColumnKind::Category { categories, missing } => {
            raw.kind = RawKind::Category;
            raw.categories = Some(categories.clone());
            (raw.missing, raw.constant) = match missing {
                CategoryMissing::Other => (Some(RawMissing::Other), None),
                CategoryMissing::Indicator => (Some(RawMissing::Indicator), None),
                CategoryMissing::Constant(value) => {
                    (Some(RawMissing::Constant), Some(RawConstant::Category(value.clone())))
                }
            };
        }
    }
    raw
}

fn raw_number_missing(missing: NumberMissing) -> (Option<RawMissing>, Option<RawConstant>) {
    match missing {
        NumberMissing::Mean => (Some(RawMissing::Mean), None),
        NumberMissing::Indicator => (Some(RawMissing::Indicator), None),
        NumberMissing::Constant(value) => {
            (Some(RawMissing::Constant), Some(RawConstant::Number(value)))
        }
    }
}

fn raw_scaling(scaling: Scaling) -> RawScaling {
    match scaling {
        Scaling::Standard => RawScaling::Standard,
        Scaling::Bounds => RawScaling::Bounds,
        Scaling::None => RawScaling::None,
    }
}
