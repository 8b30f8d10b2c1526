//! How real numbers become words of a private sum: fields, bounds, dyadic scales, and the number of
//! bits that no permitted sum can overflow.
//!
//! A plan is arithmetic and nothing else: it says what is summed, not who takes part (`plan`) and
//! not how a site's values are clipped and rounded (`update`). Start at [`EncodingPlan::new`].

use crate::codec::{CodecError, NAME_BYTES_MAX, Reader, Writer};
use crate::noise::NoisePlan;
use crate::participants::PARTICIPANTS_MAX;
use crate::planted::{Weakness, weak};
use crate::ring::{BITS_MAX, packed_bytes};

/// One named run of entries that share a scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// 1..=64 bytes of `a-z`, `0-9`, `-`, `_` and `.`, different from every other field's.
    pub name: String,
    /// How many entries, at least 1.
    pub len: usize,
    /// The largest absolute value of one site's entry before it is multiplied by the weight.
    pub bound: f64,
    /// An entry x is summed as the integer nearest x · 2^`frac_bits`, rounded at random.
    pub frac_bits: i8,
    /// Whether a site's entries are multiplied by its weight before they are summed.
    pub weighted: bool,
}

impl Field {
    /// The largest absolute integer that one site may contribute to an entry.
    fn site_max(&self, w_max: u32) -> f64 {
        let weight = if self.weighted { f64::from(w_max) } else { 1.0 };
        (weight * self.bound * self.scale()).ceil()
    }

    /// 2^`frac_bits`, exact.
    pub(crate) fn scale(&self) -> f64 {
        f64::from(self.frac_bits).exp2()
    }
}

/// What is summed and how it is written: agreed on before a session, hashed into everything in it.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodingPlan {
    fields: Vec<Field>,
    clip_l2: Option<f64>,
    n_max: u32,
    w_max: u32,
    noise: Option<NoisePlan>,
    bits: u8,
}

/// Why a plan is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A field's name is malformed, taken or reserved.
    #[error("field name {0:?} is malformed, repeated or reserved: use 1..=64 of a-z 0-9 - _ .")]
    Name(String),
    /// A field is empty, or all together are longer than a session carries.
    #[error("field {0:?} is empty or makes the update too long: at most {ENTRIES_MAX} entries")]
    Length(String),
    /// A bound or scale is not a positive number that a sum can be written with.
    #[error("field {0:?}: bound times scale is not in 1..=2^52: change bound or frac_bits")]
    Scale(String),
    /// A sum could pass 2^62.
    #[error("field {0:?}: n_max · w_max · bound · 2^frac_bits overflows: lower one of them")]
    Overflow(String),
    /// The L2 clip is not a positive number, or there is no field to clip.
    #[error("clip_l2 must be positive and needs a field named {UPDATE:?}")]
    Clip,
    /// `n_max`, `n_min` or `w_max` is out of range.
    #[error("{0} is out of range")]
    Range(&'static str),
}

impl EncodingPlan {
    /// A plan for up to `n_max` sites (3..=64) with weights of 1..=`w_max`.
    ///
    /// A field [`WEIGHT`] of one entry is put first. `clip_l2` bounds the L2 norm of the field
    /// [`UPDATE`], before weighting. The bits per word are the fewest that hold every permitted
    /// sum: a sign and the bits of n_max · ⌈w_max · bound · 2^frac_bits⌉ of the largest field.
    ///
    /// # Errors
    /// A [`PlanError`] if a permitted sum could overflow, or a part is out of range.
    pub fn new(
        fields: Vec<Field>,
        clip_l2: Option<f64>,
        n_max: u32,
        w_max: u32,
    ) -> Result<Self, PlanError> {
        if !(3..=PARTICIPANTS_MAX as u64).contains(&u64::from(n_max)) {
            return Err(PlanError::Range("n_max"));
        }
        if w_max == 0 {
            return Err(PlanError::Range("w_max"));
        }
        let weight =
            Field { name: WEIGHT.into(), len: 1, bound: 1.0, frac_bits: 0, weighted: true };
        let fields: Vec<Field> = std::iter::once(weight).chain(fields).collect();
        if fields.len() > FIELDS_MAX {
            return Err(PlanError::Range("the number of fields"));
        }
        let clip_valid = |clip: f64| clip.is_finite() && clip > 0.0;
        if clip_l2.is_some_and(|c| !clip_valid(c) || fields.iter().all(|f| f.name != UPDATE)) {
            return Err(PlanError::Clip);
        }
        let mut entries: usize = 0;
        for (position, field) in fields.iter().enumerate() {
            if !is_field_name(&field.name)
                || fields[..position].iter().any(|f| f.name == field.name)
            {
                return Err(PlanError::Name(field.name.clone()));
            }
            entries = entries.saturating_add(field.len);
            if field.len == 0 || entries > ENTRIES_MAX {
                return Err(PlanError::Length(field.name.clone()));
            }
        }
        Self { fields, clip_l2, n_max, w_max, noise: None, bits: 0 }.with_bits()
    }

    /// The same plan with each site's share of noise on every entry but the weight. The bits per
    /// word grow by what the noise of n_max sites needs: that a sum of honest sites wraps around has
    /// a probability below 2^-64, all entries together.
    ///
    /// # Errors
    /// [`PlanError::Overflow`] if a sum with its noise could pass 2^62.
    pub fn with_noise(self, noise: NoisePlan) -> Result<Self, PlanError> {
        Self { noise: Some(noise), ..self }.with_bits()
    }

    /// The plan with the fewest bits that hold every permitted sum.
    fn with_bits(self) -> Result<Self, PlanError> {
        let n_max = usize::try_from(self.n_max).map_err(|_| PlanError::Range("n_max"))?;
        let mut bits = 2;
        for field in &self.fields {
            let value = field.bound * field.scale();
            // Above 2^52 a double has no fraction left to round, and the expectation would be lost.
            if !(value >= 1.0 && field.site_max(self.w_max) <= 2f64.powi(52)) {
                return Err(PlanError::Scale(field.name.clone()));
            }
            let sum_max = self.sum_max(field, n_max);
            if sum_max >> (BITS_MAX - 1) != 0 {
                return Err(PlanError::Overflow(field.name.clone()));
            }
            let magnitude_bits = 64 - sum_max.leading_zeros();
            bits = bits.max(u8::try_from(magnitude_bits + 1).expect("at most 63"));
        }
        Ok(Self { bits, ..self })
    }

    /// All fields, [`WEIGHT`] first.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The bound on the L2 norm of the field [`UPDATE`], before weighting.
    #[must_use]
    pub fn clip_l2(&self) -> Option<f64> {
        self.clip_l2
    }

    /// The most sites whose sum is sure to fit.
    #[must_use]
    pub fn n_max(&self) -> u32 {
        self.n_max
    }

    /// Each site's share of noise on every entry but the weight.
    #[must_use]
    pub fn noise(&self) -> Option<NoisePlan> {
        self.noise
    }

    /// The largest weight.
    #[must_use]
    pub fn w_max(&self) -> u32 {
        self.w_max
    }

    /// Bits per word, 2..=63.
    #[must_use]
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Words per update.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.fields.iter().map(|f| f.len).sum()
    }

    /// Bytes of one masked update on the wire.
    #[must_use]
    pub fn update_bytes(&self) -> usize {
        packed_bytes(self.entries(), self.bits)
    }

    /// The field of that name and the range of its entries.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<(&Field, std::ops::Range<usize>)> {
        let mut start = 0;
        for field in &self.fields {
            if field.name == name {
                return Some((field, start..start + field.len));
            }
            start += field.len;
        }
        None
    }

    /// The largest absolute integer that `n` sites together may contribute to an entry of `field`,
    /// with their noise.
    pub(crate) fn sum_max(&self, field: &Field, n: usize) -> u64 {
        let noise = self.noise.filter(|_| field.name != WEIGHT).map_or(0, |noise| noise.tail(n));
        integer(field.site_max(self.w_max)).saturating_mul(n as u64).saturating_add(noise)
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.u32(self.n_max).u32(self.w_max).u8(self.bits);
        let has_noise = if self.noise.is_some() { HAS_NOISE } else { 0 };
        match self.clip_l2 {
            None => out.u8(has_noise),
            Some(clip) => out.u8(HAS_CLIP | has_noise).f64(clip),
        };
        if let Some(noise) = self.noise {
            out.u64(noise.units());
        }
        let n_fields = u16::try_from(self.fields.len() - 1).expect("at most FIELDS_MAX");
        out.u16(n_fields);
        for field in &self.fields[1..] {
            let len = u32::try_from(field.len).expect("at most ENTRIES_MAX");
            out.name(&field.name).u32(len).f64(field.bound);
            out.u8(field.frac_bits.cast_unsigned()).u8(u8::from(field.weighted));
        }
    }

    /// The most that [`EncodingPlan::write`] writes for this plan.
    pub(crate) fn bytes_max(&self) -> usize {
        32 + self.fields.len() * (NAME_BYTES_MAX + 16)
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let n_max = from.u32("n_max")?;
        let w_max = from.u32("w_max")?;
        let bits = from.u8("bits")?;
        let has = from.u8("clip_l2")?;
        if has & !(HAS_CLIP | HAS_NOISE) != 0 {
            return Err(CodecError::Value("clip_l2"));
        }
        let clip_l2 = (has & HAS_CLIP != 0).then(|| from.f64("clip_l2")).transpose()?;
        let noise = (has & HAS_NOISE != 0).then(|| from.u64("noise")).transpose()?;
        let noise =
            noise.map(|units| NoisePlan::from_units(units).ok_or(CodecError::Value("noise")));
        let n_fields = usize::from(from.u16("fields")?);
        if n_fields >= FIELDS_MAX {
            return Err(CodecError::Value("fields"));
        }
        let mut fields = Vec::with_capacity(n_fields);
        for _ in 0..n_fields {
            fields.push(read_field(from)?);
        }
        let plan = Self::new(fields, clip_l2, n_max, w_max);
        let plan = match noise.transpose()? {
            Some(noise) => plan.and_then(|plan| plan.with_noise(noise)),
            None => plan,
        };
        let plan = plan.map_err(|_| CodecError::Value("encoding plan"))?;
        // The stated bits are redundant on purpose: both sides must have computed the same.
        if plan.bits == bits || weak(Weakness::AnyBits) {
            Ok(Self { bits, ..plan })
        } else {
            Err(CodecError::Value("bits"))
        }
    }
}

fn read_field(from: &mut Reader<'_>) -> Result<Field, CodecError> {
    let len = usize::from(from.u8("field name")?);
    let name = str::from_utf8(from.take(len, "field name")?)
        .map_err(|_| CodecError::Value("field name"))?
        .to_owned();
    Ok(Field {
        name,
        len: usize::try_from(from.u32("field length")?)
            .map_err(|_| CodecError::Value("field length"))?,
        bound: from.f64("field bound")?,
        frac_bits: from.u8("field scale")?.cast_signed(),
        weighted: match from.u8("field weighting")? {
            0 => false,
            1 => true,
            _ => return Err(CodecError::Value("field weighting")),
        },
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "callers pass whole numbers of 0..=2^52"
)]
fn integer(value: f64) -> u64 {
    value as u64
}

fn is_field_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}

/// What follows in a plan's bytes: bits of one byte.
const HAS_CLIP: u8 = 1;
const HAS_NOISE: u8 = 2;

/// The field that holds a site's weight: always there, always first, always one entry.
pub const WEIGHT: &str = "weight";

/// The field that `clip_l2` clips.
pub const UPDATE: &str = "update";

/// The most entries of an update, all fields together.
pub const ENTRIES_MAX: usize = 1 << 26;

/// The most fields, [`WEIGHT`] included.
pub const FIELDS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{unwrap, wrap};

    fn field(name: &str, bound: f64, frac_bits: i8) -> Field {
        Field { name: name.into(), len: 3, bound, frac_bits, weighted: true }
    }

    #[test]
    fn the_bits_are_the_fewest_that_hold_every_sum() {
        // 16 sites · ⌈10 · 1.0 · 2^8⌉ = 40,960 < 2^16: 16 bits and a sign.
        let plan = EncodingPlan::new(vec![field("update", 1.0, 8)], None, 16, 10).unwrap();
        assert_eq!((plan.bits(), plan.entries(), plan.update_bytes()), (17, 4, 9));
        // 4 · 16,384 = 2^16 does not fit below 2^16.
        let plan = EncodingPlan::new(vec![field("update", 64.0, 8)], None, 4, 1).unwrap();
        assert_eq!(plan.bits(), 18);
    }

    #[test]
    fn plans_that_could_overflow_or_make_no_sense_are_refused() {
        let refused = |f: Field, clip, n_max, w_max| {
            EncodingPlan::new(vec![f], clip, n_max, w_max).expect_err("refused")
        };
        let update = || field("update", 1.0, 8);
        let name = || "update".to_owned();
        assert_eq!(refused(update(), None, 2, 1), PlanError::Range("n_max"));
        let too_many = u32::try_from(PARTICIPANTS_MAX + 1).unwrap();
        assert_eq!(refused(update(), None, too_many, 1), PlanError::Range("n_max"));
        assert_eq!(refused(update(), None, 3, 0), PlanError::Range("w_max"));
        assert_eq!(refused(update(), Some(0.0), 3, 1), PlanError::Clip);
        assert_eq!(refused(field("loss", 1.0, 8), Some(1.0), 3, 1), PlanError::Clip);
        for (bound, frac_bits) in [(1.0, 53), (f64::NAN, 0), (-1.0, 8), (0.4, 1), (1e300, 100)] {
            let e = refused(field("update", bound, frac_bits), None, 3, 1);
            assert_eq!(e, PlanError::Scale(name()), "{bound} {frac_bits}");
        }
        let e = EncodingPlan::new(vec![field("update", 1.0, 52)], None, 64, 1);
        assert!(e.is_ok(), "64 · 2^52 = 2^58 fits");
        assert_eq!(refused(Field { len: 0, ..update() }, None, 3, 1), PlanError::Length(name()));
        let long = Field { len: ENTRIES_MAX, ..update() };
        assert_eq!(refused(long, None, 3, 1), PlanError::Length(name()));
        for bad in ["weight", "", "Update", "a b"] {
            assert_eq!(refused(field(bad, 1.0, 8), None, 3, 1), PlanError::Name(bad.into()));
        }
    }

    #[test]
    fn no_permitted_sum_wraps() {
        for (n_max, w_max, bound) in [(3, 1, 1.0), (3, 1, 1.5), (4, 2, 2.0), (64, 7, 3.3)] {
            let plan =
                EncodingPlan::new(vec![field("update", bound, 1)], None, n_max, w_max).unwrap();
            let n = usize::try_from(n_max).unwrap();
            let sum_max = plan.fields().iter().map(|f| plan.sum_max(f, n)).max().unwrap();
            let sum_max = i64::try_from(sum_max).unwrap();
            let bits = plan.bits();
            assert!((-sum_max..=sum_max).all(|sum| unwrap(wrap(sum, bits), bits) == sum));
            assert!(sum_max >= 1 << (bits - 2), "one bit less would wrap");
        }
    }

    #[test]
    fn bytes_are_canonical() {
        let fields = vec![field("update", 0.5, 20), field("bins", 1e6, 0)];
        let plan = EncodingPlan::new(fields, Some(2.0), 16, 1000).unwrap();
        let mut writer = Writer::with_capacity(plan.bytes_max());
        plan.write(&mut writer);
        let mut bytes = writer.into_public();
        assert_eq!(EncodingPlan::read(&mut Reader::new(&bytes)).unwrap(), plan);
        bytes[8] += 1;
        let wrong_bits = EncodingPlan::read(&mut Reader::new(&bytes));
        assert_eq!(wrong_bits, Err(CodecError::Value("bits")));
    }

    #[test]
    fn noise_widens_the_words_and_is_in_the_bytes() {
        let quiet = EncodingPlan::new(vec![field("update", 1.0, 8)], Some(2.0), 16, 10).unwrap();
        let noise = NoisePlan::at_least(1e6).unwrap();
        let plan = quiet.clone().with_noise(noise).unwrap();
        // 40,960 + ⌈√(2 · 16 · 10^6 · 92 ln 2)⌉ = 40,960 + 45,174 < 2^17.
        assert_eq!((quiet.bits(), plan.bits(), plan.noise()), (17, 18, Some(noise)));
        let (update, weight) = (&plan.fields()[1], &plan.fields()[0]);
        assert_eq!(plan.sum_max(update, 16), 40_960 + 45_174);
        assert_eq!(plan.sum_max(weight, 16), quiet.sum_max(weight, 16), "weights have none");
        for (plan, has) in [(&quiet, 1), (&plan, 3)] {
            let mut writer = Writer::with_capacity(plan.bytes_max());
            plan.write(&mut writer);
            let mut bytes = writer.into_public();
            assert_eq!(bytes[9], has);
            assert_eq!(EncodingPlan::read(&mut Reader::new(&bytes)).as_ref(), Ok(plan));
            bytes[9] |= 4;
            let unknown = EncodingPlan::read(&mut Reader::new(&bytes));
            assert_eq!(unknown, Err(CodecError::Value("clip_l2")));
        }
        let mut writer = Writer::with_capacity(plan.bytes_max());
        plan.write(&mut writer);
        let mut bytes = writer.into_public();
        bytes[18..26].fill(0);
        let none = EncodingPlan::read(&mut Reader::new(&bytes));
        assert_eq!(none, Err(CodecError::Value("noise")));
        let full = field("update", 1.0, 52);
        let full = EncodingPlan::new(vec![full], None, 64, 1).unwrap();
        let loud = NoisePlan::at_least(crate::noise::VARIANCE_MAX).unwrap();
        assert!(full.with_noise(loud).is_ok(), "2^58 + 2^31 fits");
    }
}
