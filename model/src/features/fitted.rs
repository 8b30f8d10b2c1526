//! What was learned about a plan's columns over all sites' training rows: means, variances, counts.
//!
//! Fitted once per task from securely opened sums, hashed, and part of every version, so that
//! inference takes raw rows. It holds nothing of a single site. It is not the plan, and it does not
//! transform anything; that is [`super::prepare`].
//!
//! Start at [`FittedFeatures::from_sums`].

use serde::{Deserialize, Serialize};

use super::statistics::{all_fields, category_sizes, stat_fields};
use super::{ClassWeights, FeatureError, FeaturePlan, PLAN_BYTES_MAX, to_f32};
use crate::digest::{Digest, digest_of, hex};

/// Means, variances and counts under one plan.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedFeatures {
    raw: Raw,
    plan: Digest,
    digest: Digest,
}

/// The canonical form: JSON with these keys in this order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    format: u32,
    plan: String,
    rows: u64,
    /// Per numeric column or flag: rows with a value, mean and variance after the transform.
    counts: Vec<u64>,
    means: Vec<f64>,
    variances: Vec<f64>,
    /// Per category column: rows of each closed category, then of *other*.
    categories: Vec<Vec<u64>>,
    labels: Vec<u64>,
}

impl FittedFeatures {
    /// Fits from the sums over all sites, shaped as
    /// [`super::statistics::stat_fields`] says.
    ///
    /// Sums may carry the rounding of a fixed-point encoding. A column without any value gets the
    /// middle of its bounds; variances are floored at (half the bounds' width / 100)².
    ///
    /// # Errors
    /// [`FeatureError::Sums`] when no rows can have such sums.
    pub fn from_sums(plan: &FeaturePlan, sums: &[Vec<f64>]) -> Result<Self, FeatureError> {
        let [rows, count, sum, squares, categories, labels] =
            all_fields(plan, sums).ok_or_else(|| refused("they do not have the plan's shape"))?;
        let rows = whole("rows", rows[0], f64::MAX)?;
        let most = rows as f64;
        let all = |name: &str, values: &[f64]| -> Result<Vec<u64>, FeatureError> {
            values.iter().map(|&value| whole(name, value, most)).collect()
        };
        let counts = all("numbers.count", count)?;
        let categories = all("categories.count", categories)?;
        let labels = all("labels.count", labels)?;
        if (labels.iter().sum::<u64>() as f64 - most).abs() > slack(most) * labels.len() as f64 {
            return Err(refused("labels.count does not add up to rows"));
        }
        let mut means = Vec::with_capacity(counts.len());
        let mut variances = Vec::with_capacity(counts.len());
        let numbers = plan.columns().iter().filter_map(|column| column.number());
        for (number, (&n, (&sum, &squares))) in
            numbers.zip(counts.iter().zip(sum.iter().zip(squares)))
        {
            let (middle, half) = number.middle_and_half();
            let (mean, variance) = moments(n as f64, sum, squares)?;
            means.push(middle + half * mean);
            variances.push(half * half * variance);
        }
        let mut categories = categories.into_iter();
        let categories = category_sizes(plan)
            .into_iter()
            .map(|size| categories.by_ref().take(size).collect())
            .collect();
        let plan_digest = hex(&plan.digest());
        let raw = Raw {
            format: 1,
            plan: plan_digest,
            rows,
            counts,
            means,
            variances,
            categories,
            labels,
        };
        Self::checked(raw, plan)
    }

    /// What a plan is fitted to that needs no fitting: no rows, and so the middle and the width of the
    /// public bounds. None for a plan that needs statistics, see [`FeaturePlan::needs_fitting`].
    ///
    /// # Panics
    /// Never: sums of no rows fit every plan.
    #[must_use]
    pub fn public(plan: &FeaturePlan) -> Option<Self> {
        let nothing =
            stat_fields(plan).iter().map(|field| vec![0.0; field.len]).collect::<Vec<_>>();
        let fit = || Self::from_sums(plan, &nothing).expect("no rows are possible rows");
        plan.needs_fitting().is_none().then(fit)
    }

    /// Reads [`Self::canonical_bytes`] back under the plan it was fitted for.
    ///
    /// # Errors
    /// [`FeatureError::Fitted`], [`FeatureError::OtherPlan`] or [`FeatureError::NotCanonical`].
    pub fn from_canonical(plan: &FeaturePlan, bytes: &[u8]) -> Result<Self, FeatureError> {
        if bytes.len() > PLAN_BYTES_MAX {
            return Err(FeatureError::Fitted(format!("more than {PLAN_BYTES_MAX} bytes")));
        }
        let raw: Raw = serde_json::from_slice(bytes)
            .map_err(|error| FeatureError::Fitted(error.to_string()))?;
        let fitted = Self::checked(raw, plan)?;
        if fitted.canonical_bytes() != bytes {
            return Err(FeatureError::NotCanonical("the bytes of the fitted features"));
        }
        Ok(fitted)
    }

    /// The bytes that are hashed and that travel with a version.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.raw).expect("checked features hold only finite numbers")
    }

    /// SHA-256 of [`Self::canonical_bytes`] under `koinon.fitted-features.v1`.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Digest of the plan these features were fitted for.
    #[must_use]
    pub fn plan_digest(&self) -> Digest {
        self.plan
    }

    /// Training rows over all sites.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.raw.rows
    }

    /// Mean per numeric column or flag, after the transform, in the plan's order.
    #[must_use]
    pub fn means(&self) -> &[f64] {
        &self.raw.means
    }

    /// Variance per numeric column or flag, after the transform, floored, in the plan's order.
    #[must_use]
    pub fn variances(&self) -> &[f64] {
        &self.raw.variances
    }

    /// Rows with a value per numeric column or flag.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.raw.counts
    }

    /// Per category column, rows of each closed category and of *other*.
    #[must_use]
    pub fn category_counts(&self) -> &[Vec<u64>] {
        &self.raw.categories
    }

    /// Training rows per class.
    #[must_use]
    pub fn label_counts(&self) -> &[u64] {
        &self.raw.labels
    }

    /// The weight of a row of each class.
    #[must_use]
    pub fn class_weights(&self, plan: &FeaturePlan) -> Vec<f32> {
        let classes = plan.label().values.len();
        match &plan.label().class_weights {
            ClassWeights::Equal => vec![1.0; classes],
            ClassWeights::Given(weights) => weights.iter().map(|&weight| to_f32(weight)).collect(),
            ClassWeights::Balanced => (self.raw.labels.iter())
                .map(|&n| to_f32(self.raw.rows as f64 / (classes as f64 * n.max(1) as f64)))
                .collect(),
        }
    }

    fn checked(raw: Raw, plan: &FeaturePlan) -> Result<Self, FeatureError> {
        if raw.plan != hex(&plan.digest()) {
            return Err(FeatureError::OtherPlan("the fitted features"));
        }
        if raw.format != 1 {
            return Err(FeatureError::Fitted("unknown format; use a newer program".to_owned()));
        }
        let numbers: Vec<_> = plan.columns().iter().filter_map(|column| column.number()).collect();
        let sizes = category_sizes(plan);
        let shaped = raw.counts.len() == numbers.len()
            && raw.means.len() == numbers.len()
            && raw.variances.len() == numbers.len()
            && raw.labels.len() == plan.label().values.len()
            && raw.categories.len() == sizes.len()
            && raw.categories.iter().zip(&sizes).all(|(counts, &size)| counts.len() == size);
        if !shaped {
            return Err(FeatureError::Fitted("a list has the wrong length".to_owned()));
        }
        for (number, (&mean, &variance)) in numbers.iter().zip(raw.means.iter().zip(&raw.variances))
        {
            let (middle, half) = number.middle_and_half();
            let inside = (mean - middle).abs() <= half * (1.0 + 1e-9);
            let floor = VARIANCE_FLOOR * half * half;
            let range = floor * (1.0 - 1e-9)..=half * half * (1.0 + 1e-9);
            if !(inside && range.contains(&variance)) {
                let problem = "a mean or variance lies outside the column's bounds";
                return Err(FeatureError::Fitted(problem.to_owned()));
            }
        }
        let mut fitted = Self { raw, plan: plan.digest(), digest: [0; 32] };
        fitted.digest = digest_of("koinon.fitted-features.v1", &fitted.canonical_bytes());
        Ok(fitted)
    }
}

/// Mean in [-1, 1] and floored variance of values in [-1, 1] from their sums.
fn moments(n: f64, sum: f64, squares: f64) -> Result<(f64, f64), FeatureError> {
    let bound = n + slack(n);
    if !(sum.abs() <= bound && (-slack(n)..=bound).contains(&squares)) {
        return Err(refused("a sum is larger than its count allows"));
    }
    if n == 0.0 {
        return Ok((0.0, 1.0));
    }
    let mean = (sum / n).clamp(-1.0, 1.0);
    let variance = (squares / n - mean * mean).clamp(VARIANCE_FLOOR, 1.0);
    Ok((mean, variance))
}

/// A count that a fixed-point sum may have moved a little off its whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value was just checked to lie between 0 and 2^52"
)]
fn whole(name: &str, value: f64, most: f64) -> Result<u64, FeatureError> {
    let inside = value >= -slack(0.0) && value <= (most + slack(most)).min(ROWS_LIMIT);
    if !(inside && (value - value.round()).abs() <= slack(value)) {
        return Err(refused(&format!("{name} is not a possible count")));
    }
    Ok(value.round().clamp(0.0, most) as u64)
}

/// What rounding in the encoding may add to a sum over `n` rows.
fn slack(n: f64) -> f64 {
    0.25 + 1e-4 * n.abs()
}

fn refused(problem: &str) -> FeatureError {
    FeatureError::Sums(problem.to_owned())
}

/// Least variance of a value in [-1, 1]: a constant column must not blow up.
const VARIANCE_FLOOR: f64 = 1e-4;
/// 2^52: counts beyond it are not exact.
const ROWS_LIMIT: f64 = 4_503_599_627_370_496.0;
