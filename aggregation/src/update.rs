//! An update on its way into the sum, each stage a type: values → [`Clipped`] → [`Encoded`] →
//! masked (by [`client::Keyed::mask`](crate::client::Keyed::mask)) → [`Sum`].
//!
//! Only what is masked can be written. The stages before have no bytes, no `Debug`, no `Clone`:
//!
//! ```compile_fail,E0277
//! fn debug<T: std::fmt::Debug>() {}
//! debug::<koinon_aggregation::Clipped>();
//! ```
//! ```compile_fail,E0277
//! fn debug<T: std::fmt::Debug>() {}
//! debug::<koinon_aggregation::Encoded>();
//! ```
//! ```compile_fail,E0277
//! fn serialize<T: serde::Serialize>() {}
//! serialize::<koinon_aggregation::Clipped>();
//! ```
//! ```compile_fail,E0277
//! fn serialize<T: serde::Serialize>() {}
//! serialize::<koinon_aggregation::Encoded>();
//! ```
//! ```compile_fail,E0599
//! fn written(encoded: koinon_aggregation::Encoded) -> Vec<u8> { encoded.to_bytes() }
//! ```
//!
//! Clipping and encoding bind honest sites only; what a lying site puts in, no sum can tell.

use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::encode::{EncodingPlan, Field, UPDATE, WEIGHT};
use crate::ring::wrap;

/// One field's values as a site computed them; wiped when dropped.
pub enum Values {
    /// Single precision.
    F32(Zeroizing<Vec<f32>>),
    /// Double precision.
    F64(Zeroizing<Vec<f64>>),
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        Self::F32(values.into())
    }
}

impl From<Vec<f64>> for Values {
    fn from(values: Vec<f64>) -> Self {
        Self::F64(values.into())
    }
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    fn append_to(&self, entries: &mut Vec<f64>) {
        match self {
            Self::F32(values) => entries.extend(values.iter().copied().map(f64::from)),
            Self::F64(values) => entries.extend(values.iter()),
        }
    }
}

/// A site's values within the plan's bounds.
pub struct Clipped {
    plan: EncodingPlan,
    weight: u32,
    /// All fields but the weight, one after the other.
    entries: Zeroizing<Vec<f64>>,
}

/// Why a site's own values do not fit the plan. Holds names and counts, never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Values for more or fewer fields than the plan has beside the weight.
    #[error("values for {have} fields where the plan has {need} beside the weight")]
    Fields {
        /// Fields given.
        have: usize,
        /// Fields planned.
        need: usize,
    },
    /// A field of another length than planned.
    #[error("field {field:?} has {have} entries where the plan has {need}")]
    Length {
        /// The field's name.
        field: String,
        /// Entries given.
        have: usize,
        /// Entries planned.
        need: usize,
    },
    /// NaN or an infinity: training diverged, or a feature was not checked.
    #[error("field {field:?}, entry {entry} is not a finite number")]
    NotFinite {
        /// The field's name.
        field: String,
        /// Which entry of the field.
        entry: usize,
    },
    /// A weight that the plan does not permit.
    #[error("the weight is not in 1..={w_max}")]
    Weight {
        /// The plan's largest weight.
        w_max: u32,
    },
}

impl Clipped {
    /// Clips `values`, one item for each field of the plan after the weight and in its order: first
    /// the L2 norm of the field `update`, by scaling it, then every entry to its field's bound.
    ///
    /// # Errors
    /// An [`EncodeError`] if lengths, numbers or the weight are not as planned.
    pub fn new(plan: &EncodingPlan, values: Vec<Values>, weight: u32) -> Result<Self, EncodeError> {
        let fields = &plan.fields()[1..];
        if values.len() != fields.len() {
            return Err(EncodeError::Fields { have: values.len(), need: fields.len() });
        }
        if weight == 0 || weight > plan.w_max() {
            return Err(EncodeError::Weight { w_max: plan.w_max() });
        }
        let mut entries = Zeroizing::new(Vec::with_capacity(plan.entries()));
        for (field, values) in fields.iter().zip(&values) {
            if values.len() != field.len {
                let (have, need) = (values.len(), field.len);
                return Err(EncodeError::Length { field: field.name.clone(), have, need });
            }
            let start = entries.len();
            values.append_to(&mut entries);
            let own = &mut entries[start..];
            if let Some(entry) = own.iter().position(|x| !x.is_finite()) {
                return Err(EncodeError::NotFinite { field: field.name.clone(), entry });
            }
            if let Some(clip) = plan.clip_l2().filter(|_| field.name == UPDATE) {
                clip_l2(own, clip);
            }
            own.iter_mut().for_each(|x| *x = x.clamp(-field.bound, field.bound));
        }
        Ok(Self { plan: plan.clone(), weight, entries })
    }
}

/// Scales `entries` so that their L2 norm is at most `clip`, up to rounding of the last place.
fn clip_l2(entries: &mut [f64], clip: f64) {
    // Dividing by the largest entry first keeps the squares finite whatever the entries are.
    let largest = entries.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    if largest == 0.0 {
        return;
    }
    let norm = largest * entries.iter().map(|x| (x / largest).powi(2)).sum::<f64>().sqrt();
    if norm > clip {
        entries.iter_mut().for_each(|x| *x *= clip / norm);
    }
}

/// A site's contribution as integers: ready to be masked, and good for nothing else.
pub struct Encoded {
    pub(crate) plan: EncodingPlan,
    /// Words modulo 2^bits, the weight first.
    pub(crate) words: Zeroizing<Vec<u64>>,
}

impl Encoded {
    /// Rounds w · x · 2^f to an integer above or below it, at random and without bias (w is 1 for a
    /// field that is not weighted). `rng` must be the site's own source: a coordinator who knew it
    /// would know the rounding.
    #[must_use]
    pub fn new(clipped: Clipped, rng: &mut dyn CryptoRng) -> Self {
        let plan = clipped.plan.clone();
        let bits = plan.bits();
        let mut words = Zeroizing::new(Vec::with_capacity(plan.entries()));
        words.push(u64::from(clipped.weight));
        let mut entries = clipped.entries.iter();
        for field in &plan.fields()[1..] {
            let weight = if field.weighted { f64::from(clipped.weight) } else { 1.0 };
            for x in entries.by_ref().take(field.len) {
                // Weight times bound first, as the plan did: then no product passes the plan's.
                let value = weight * x * field.scale();
                words.push(wrap(round(value, rng.next_u64()), bits));
            }
        }
        Self { plan, words }
    }
}

/// The integer below `value`, or the one above it with the probability of the fraction: adding the
/// fraction's bit instead of flooring a sum keeps whole numbers whole at every size.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "plans keep values below 2^52; 53 random bits are exact in a double"
)]
fn round(value: f64, random: u64) -> i64 {
    let below = value.floor();
    let threshold = (random >> 11) as f64 / (1u64 << 53) as f64;
    below as i64 + i64::from(threshold < value - below)
}

/// What a session opens: the sum over the survivors, and nothing about any one of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Sum {
    plan: EncodingPlan,
    n_sites: usize,
    values: Vec<i64>,
}

impl Sum {
    /// Checks every entry against what `n_sites` sites may have contributed.
    ///
    /// `Err` names the field and the entry that is outside: something other than honest, cancelling
    /// masks went in.
    pub(crate) fn new(
        plan: &EncodingPlan,
        n_sites: usize,
        values: Vec<i64>,
    ) -> Result<Self, (String, usize)> {
        let mut entries = values.iter();
        for field in plan.fields() {
            let sum_max = plan.sum_max(field, n_sites);
            for (entry, value) in entries.by_ref().take(field.len).enumerate() {
                let permitted = value.unsigned_abs() <= sum_max;
                let weighty = field.name != WEIGHT || *value >= n_sites as i64;
                if !(permitted && weighty) {
                    return Err((field.name.clone(), entry));
                }
            }
        }
        Ok(Self { plan: plan.clone(), n_sites, values })
    }

    /// How many sites' contributions are in the sum.
    #[must_use]
    pub fn n_sites(&self) -> usize {
        self.n_sites
    }

    /// The integers as opened, the weight first.
    #[must_use]
    pub fn values(&self) -> &[i64] {
        &self.values
    }

    /// The sum of the sites' weights, at least one for each site.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.values[0].unsigned_abs()
    }

    /// The summed entries of a field, in the field's own unit: Σ x, or Σ w · x of a weighted one.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Vec<f64>> {
        let (field, range) = self.plan.field(name)?;
        Some(self.values[range].iter().map(|&v| decode(v, field)).collect())
    }

    /// The mean of a weighted field over the sites by weight, Σ w · x / Σ w. `None` if there is no
    /// such field, or it is not weighted.
    #[must_use]
    pub fn mean(&self, name: &str) -> Option<Vec<f64>> {
        let (field, range) = self.plan.field(name).filter(|(field, _)| field.weighted)?;
        let weight = self.values[0] as f64;
        Some(self.values[range].iter().map(|&v| decode(v, field) / weight).collect())
    }
}

fn decode(value: i64, field: &Field) -> f64 {
    value as f64 / field.scale()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    use super::*;
    use crate::ring::unwrap;

    fn plan(clip_l2: Option<f64>) -> EncodingPlan {
        let field = |name: &str, len, bound, frac_bits, weighted| Field {
            name: name.into(),
            len,
            bound,
            frac_bits,
            weighted,
        };
        let fields = vec![field("update", 4, 2.0, 10, true), field("bins", 2, 1000.0, 0, false)];
        EncodingPlan::new(fields, clip_l2, 8, 50).unwrap()
    }

    fn integers(plan: &EncodingPlan, values: Vec<Values>, weight: u32) -> Vec<i64> {
        let clipped = Clipped::new(plan, values, weight).unwrap_or_else(|e| panic!("{e}"));
        let encoded = Encoded::new(clipped, &mut ChaCha20Rng::seed_from_u64(1));
        encoded.words.iter().map(|&w| unwrap(w, plan.bits())).collect()
    }

    #[test]
    fn whole_numbers_are_exact_and_bounds_hold() {
        let plan = plan(None);
        let update = vec![0.5f32, -1.25, 9.0, -9.0];
        let got = integers(&plan, vec![update.into(), vec![3.0f64, 7.0].into()], 50);
        assert_eq!(got, [50, 25_600, -64_000, 102_400, -102_400, 3, 7]);
    }

    #[test]
    fn l2_is_clipped_before_weighting_and_whatever_the_size() {
        let plan = plan(Some(1.0));
        let got = integers(
            &plan,
            vec![vec![3e300f64, 4e300, 0.0, 0.0].into(), vec![0.0f64; 2].into()],
            10,
        );
        assert!((got[1] - 6144).abs() <= 1 && (got[2] - 8192).abs() <= 1, "{got:?}");
    }

    #[test]
    fn rounding_has_no_bias() {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let n = 40_000;
        for value in [0.25, -0.25, 7.9, -1000.125] {
            let sum: i64 = (0..n).map(|_| round(value, rand::Rng::next_u64(&mut rng))).sum();
            let error = sum as f64 / f64::from(n) - value;
            assert!(error.abs() < 0.015, "{value}: {error}");
        }
        for (whole, exact) in [(0.0, 0), (-3.0, -3), (2f64.powi(52), 1 << 52)] {
            assert_eq!(round(whole, u64::MAX), exact);
            assert_eq!(round(whole, 0), exact);
        }
    }

    #[test]
    fn values_that_do_not_fit_the_plan_are_named() {
        let plan = plan(None);
        let bins = || Values::from(vec![0.0f64; 2]);
        let refused = |values, weight| Clipped::new(&plan, values, weight).err().expect("refused");
        let update = || Values::from(vec![0.0f32; 4]);
        assert_eq!(refused(vec![bins()], 1), EncodeError::Fields { have: 1, need: 2 });
        let e = EncodeError::Length { field: "update".into(), have: 2, need: 4 };
        assert_eq!(refused(vec![bins(), bins()], 1), e);
        let e = EncodeError::NotFinite { field: "update".into(), entry: 3 };
        assert_eq!(refused(vec![vec![0.0, 1.0, 2.0, f32::NAN].into(), bins()], 1), e);
        for weight in [0, 51] {
            assert_eq!(refused(vec![update(), bins()], weight), EncodeError::Weight { w_max: 50 });
        }
    }

    #[test]
    fn sums_outside_the_plan_are_refused() {
        let plan = plan(None);
        let good = vec![60, 2048, -2048, 0, 0, 5, 6];
        let sum = Sum::new(&plan, 3, good.clone()).unwrap();
        assert_eq!(sum.field("update").unwrap(), [2.0, -2.0, 0.0, 0.0]);
        assert_eq!(sum.mean("update").unwrap()[0], 2.0 / 60.0);
        assert_eq!(sum.field("bins").unwrap(), [5.0, 6.0]);
        assert_eq!((sum.weight(), sum.mean("bins"), sum.field("none")), (60, None, None));
        for (entry, value) in [(0, 2), (0, 151), (1, 3 * 102_400 + 1), (6, -3001)] {
            let mut values = good.clone();
            values[entry] = value;
            assert!(Sum::new(&plan, 3, values).is_err(), "{entry} {value}");
        }
    }
}
