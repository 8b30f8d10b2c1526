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

mod rounding;

use std::ops::Range;

use rand::CryptoRng;
use zeroize::Zeroizing;

use self::rounding::{Lane, Rounding};
use crate::encode::{EncodingPlan, Field, UPDATE, WEIGHT};
use crate::kernel::vectors::widest;
use crate::noise::Sampler;
use crate::planted::{Weakness, weak};
use crate::stream::{Seed, keystream_bytes};
use crate::words::{Lanes, Words};

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

    /// The first entry that is NaN or infinite.
    fn not_finite(&self) -> Option<usize> {
        match self {
            Self::F32(values) => first_not_finite(values),
            Self::F64(values) => first_not_finite(values),
        }
    }

    /// The L2 norm of finite values; it may be infinite.
    fn norm(&self) -> f64 {
        match self {
            // The square of no single is too large or too small for a double.
            Self::F32(values) => sum(values, |x| x * x).sqrt(),
            Self::F64(values) => {
                // Dividing by the largest entry first keeps the squares finite whatever they are.
                let largest = values.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
                if largest == 0.0 {
                    return 0.0;
                }
                largest * sum(values, |x| (x / largest).powi(2)).sqrt()
            }
        }
    }
}

fn first_not_finite<X: Copy + Into<f64>>(values: &[X]) -> Option<usize> {
    // Zero times a finite number is zero, times anything else it is NaN.
    if sum(values, |x| x * 0.0) == 0.0 {
        return None;
    }
    values.iter().position(|&x| !x.into().is_finite())
}

/// Σ f(x) in double precision, in several lanes so that no addition waits for the one before.
fn sum<X: Copy + Into<f64>>(values: &[X], f: impl Fn(f64) -> f64) -> f64 {
    let (rows, rest) = values.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for row in rows {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += f((*x).into());
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&x| f(x.into())).sum::<f64>()
}

/// A site's values, as given, and what takes them within the plan's bounds.
pub struct Clipped {
    plan: EncodingPlan,
    weight: u32,
    /// What the entries of the field `update` are multiplied by: at most 1.
    shrink: f64,
    /// All fields but the weight.
    values: Vec<Values>,
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
        let mut shrink = 1.0;
        for (field, values) in fields.iter().zip(&values) {
            if values.len() != field.len {
                let (have, need) = (values.len(), field.len);
                return Err(EncodeError::Length { field: field.name.clone(), have, need });
            }
            if let Some(entry) = values.not_finite() {
                return Err(EncodeError::NotFinite { field: field.name.clone(), entry });
            }
            if let Some(clip) = plan.clip_l2().filter(|_| field.name == UPDATE) {
                let norm = values.norm();
                if norm > clip {
                    shrink = clip / norm;
                }
            }
        }
        Ok(Self { plan: plan.clone(), weight, shrink, values })
    }

    fn rounding(&self, field: &Field) -> Rounding {
        let weight = if field.weighted { f64::from(self.weight) } else { 1.0 };
        let shrink = if field.name == UPDATE { self.shrink } else { 1.0 };
        // The scale is a power of two: this is the plan's product of weight and bound, and no entry
        // passes it.
        Rounding { shrink, bound: field.bound, factor: weight * field.scale() }
    }
}

/// A site's contribution as integers: ready to be masked, and good for nothing else.
///
/// The integers are made when they are asked for, piece by piece: held are the values alone.
pub struct Encoded {
    clipped: Clipped,
    /// Its key stream rounds: four bytes for each entry.
    rounding: Seed,
    /// This site's share of noise, if the plan has any.
    noise: Option<Sampler>,
}

impl Encoded {
    /// Rounds w · x · 2^f to an integer above or below it, at random and without bias beyond 2^-32
    /// (w is 1 for a field that is not weighted). `rng` must be the site's own source: a
    /// coordinator who knew it would know the rounding, and the noise that the plan may ask for.
    #[must_use]
    pub fn new(clipped: Clipped, rng: &mut dyn CryptoRng) -> Self {
        let rounding = Seed::random(rng);
        let noise = clipped.plan.noise().map(|noise| Sampler::new(noise, Seed::random(rng)));
        Self { clipped, rounding, noise }
    }

    /// The plan that the update was encoded for.
    pub(crate) fn plan(&self) -> &EncodingPlan {
        &self.clipped.plan
    }

    /// Writes the words of `entries` (the weight is entry 0) to `out`, whose length is theirs. The
    /// words of an entry are the same each time, however the ranges are cut.
    pub(crate) fn fill(&self, entries: Range<usize>, out: &mut Words) {
        debug_assert_eq!(entries.len(), out.len());
        match out.lanes() {
            Lanes::Narrow(lanes) => self.fill_lanes(entries.start, lanes),
            Lanes::Wide(lanes) => self.fill_lanes(entries.start, lanes),
        }
    }

    /// All words.
    #[cfg(test)]
    fn words(&self) -> Words {
        let entries = self.plan().entries();
        let mut words = Words::zero(entries, self.plan().bits());
        self.fill(0..entries, &mut words);
        words
    }

    fn fill_lanes<L: Lane>(&self, first: usize, lanes: &mut [L]) {
        self.round(first, lanes);
        if let Some(noise) = self.noise.as_ref().filter(|_| !weak(Weakness::NoNoise)) {
            let mut draws = Zeroizing::new(vec![0; BLOCK_ENTRIES.min(lanes.len())]);
            for (block, lanes) in lanes.chunks_mut(BLOCK_ENTRIES).enumerate() {
                let first = first + block * BLOCK_ENTRIES;
                let draws = &mut draws[..lanes.len()];
                noise.fill(first as u64, draws);
                let weight = usize::from(first == 0);
                for (lane, draw) in lanes.iter_mut().zip(draws).skip(weight) {
                    lane.add(*draw);
                }
            }
        }
    }

    fn round<L: Lane>(&self, first: usize, lanes: &mut [L]) {
        let fields = &self.plan().fields()[1..];
        let mut start = 1;
        let mut lanes = lanes;
        let mut next = first;
        if let Some(lane) = lanes.first_mut().filter(|_| first == 0) {
            *lane = L::lane(self.clipped.weight.into());
            lanes = &mut lanes[1..];
            next = 1;
        }
        let mut random = Zeroizing::new(vec![[0; 4]; BLOCK_ENTRIES.min(lanes.len())]);
        for (field, values) in fields.iter().zip(&self.clipped.values) {
            let end = start + field.len;
            let rounding = self.clipped.rounding(field);
            while next < end && !lanes.is_empty() {
                let n = BLOCK_ENTRIES.min(end - next).min(lanes.len());
                let (block, rest) = std::mem::take(&mut lanes).split_at_mut(n);
                let random = &mut random[..n];
                keystream_bytes(&self.rounding, random.as_flattened_mut(), 4 * next as u64);
                if weak(Weakness::RoundsDown) {
                    random.fill(i32::MAX.to_le_bytes());
                }
                let entries = next - start..next - start + n;
                widest(
                    #[inline(always)]
                    || match values {
                        Values::F32(values) => rounding.apply(&values[entries], random, block),
                        Values::F64(values) => rounding.apply(&values[entries], random, block),
                    },
                );
                (lanes, next) = (rest, next + n);
            }
            start = end;
        }
    }
}

/// Entries rounded at a time: with their random bytes they stay in the second cache.
const BLOCK_ENTRIES: usize = 8192;

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
                if !(permitted && weighty || weak(Weakness::AnySum)) {
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
    use crate::noise::NoisePlan;
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
        encoded.words().iter().map(|w| unwrap(w, plan.bits())).collect()
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
    fn words_are_the_same_however_they_are_cut() {
        let mut rng = ChaCha20Rng::seed_from_u64(9);
        let field = |name: &str, len, frac_bits, weighted| Field {
            name: name.into(),
            len,
            bound: 8.0,
            frac_bits,
            weighted,
        };
        for frac_bits in [10, 40] {
            let fields = vec![
                field("update", 20_011, frac_bits, true),
                field("loss", 1, frac_bits, false),
                field("bins", 9_001, 2, false),
            ];
            let plan = EncodingPlan::new(fields, Some(3.0), 8, 50).unwrap();
            let values = vec![
                (0..20_011).map(|i| (i as f32).sin()).collect::<Vec<_>>().into(),
                vec![0.3f64].into(),
                (0..9_001).map(|i| f64::from(i).cos()).collect::<Vec<_>>().into(),
            ];
            let encoded = Encoded::new(Clipped::new(&plan, values, 7).unwrap(), &mut rng);
            let whole: Vec<u64> = encoded.words().iter().collect();
            for cut in [1, 977, 8_192, 16_384] {
                let mut got = Vec::new();
                for first in (0..plan.entries()).step_by(cut) {
                    let range = first..plan.entries().min(first + cut);
                    let mut words = Words::zero(range.len(), plan.bits());
                    encoded.fill(range, &mut words);
                    got.extend(words.iter());
                }
                assert_eq!(got, whole, "{cut}");
            }
        }
    }

    /// A noised plan of `entries` zeros, and each site's encoded update.
    fn noised(sites: u32, entries: usize, noise: NoisePlan) -> (EncodingPlan, Vec<Encoded>) {
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        let name = UPDATE.into();
        let field = Field { name, len: entries, bound: 1.0, frac_bits: 8, weighted: false };
        let plan = EncodingPlan::new(vec![field], Some(1.0), sites, 1).unwrap();
        let plan = plan.with_noise(noise).unwrap();
        let mut encode = |_| {
            let clipped = Clipped::new(&plan, vec![vec![0.0f32; entries].into()], 1).unwrap();
            Encoded::new(clipped, &mut rng)
        };
        let encoded = (0..sites).map(&mut encode).collect();
        (plan, encoded)
    }

    #[test]
    fn noise_never_falls_below_what_was_accounted() {
        // 20 sites, at least 14 survive, 2 of them may tell their noise.
        let honest = 14 - 2;
        let target = 5_000.0;
        let share = NoisePlan::share(target, honest).unwrap();
        let entries = 400_000;
        let (plan, encoded) = noised(20, entries, share);
        let mut sums = vec![0i64; entries + 1];
        for (n_sites, site) in (1..).zip(&encoded) {
            let words = site.words();
            for (sum, word) in sums.iter_mut().zip(words.iter()) {
                *sum += unwrap(word, plan.bits());
            }
            if [14, 18, 20].contains(&n_sites) {
                let sum = Sum::new(&plan, n_sites, sums.clone()).unwrap();
                assert_eq!(sum.weight(), n_sites as u64, "no noise on the weight");
                let squares = sum.values()[1..].iter().map(|x| (x * x) as f64).sum::<f64>();
                let (variance, planned) = (squares / entries as f64, share.variance());
                let expected = n_sites as f64 * planned;
                assert!((variance / expected - 1.0).abs() < 0.01, "{n_sites}: {variance}");
                assert!(variance / n_sites as f64 * f64::from(honest) > 0.99 * target);
                assert!(expected * f64::from(honest) / n_sites as f64 >= target);
            }
        }
    }

    #[test]
    fn noise_is_each_site_s_own_and_the_same_however_it_is_cut() {
        let (plan, encoded) = noised(3, 20_000, NoisePlan::at_least(1e9).unwrap());
        let whole: Vec<u64> = encoded[0].words().iter().collect();
        assert_ne!(whole, encoded[1].words().iter().collect::<Vec<_>>());
        for cut in [777, 8_192] {
            let mut got = Vec::new();
            for first in (0..plan.entries()).step_by(cut) {
                let range = first..plan.entries().min(first + cut);
                let mut words = Words::zero(range.len(), plan.bits());
                encoded[0].fill(range, &mut words);
                got.extend(words.iter());
            }
            assert!(got == whole, "{cut}");
        }
    }

    #[test]
    fn every_draw_rounds_anew() {
        let plan = plan(None);
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut encode = || {
            let values = vec![vec![0.25f64 + 0.0005; 4].into(), vec![0.5f32; 2].into()];
            Encoded::new(Clipped::new(&plan, values, 1).unwrap(), &mut rng).words()
        };
        let draws: Vec<Vec<u64>> = (0..64).map(|_| encode().iter().collect()).collect();
        for entry in 1..7 {
            assert!(draws.iter().any(|draw| draw[entry] != draws[0][entry]), "{entry}");
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
