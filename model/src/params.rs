//! Parameter values: [`Params`] (a version, may be published) and [`Delta`] (what a site's training
//! changed, must not leave the site in the clear).
//!
//! Both are one flat vector of `f32` bound to a layout by its digest. `Params` is turned into bytes
//! only on purpose ([`Params::to_safetensors`]); `Delta` has no way to bytes or text at all:
//!
//! ```compile_fail
//! fn text(delta: &koinon_model::params::Delta) -> String { format!("{delta:?}") }
//! ```
//! ```compile_fail
//! fn json(delta: &koinon_model::params::Delta) -> String {
//!     serde_json::to_string(delta).unwrap()
//! }
//! ```
//! ```compile_fail
//! fn copy(delta: &koinon_model::params::Delta) -> koinon_model::params::Delta { delta.clone() }
//! ```

mod files;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use zeroize::Zeroize;

use crate::digest::{Digest, Hasher, digest_of, hex};
use crate::layout::{Init, ParamEntry, ParamLayout};
use crate::spec::CheckedSpec;

pub use files::FileError;

/// Values of all parameters of a model, buffers included. No `Debug`: values do not belong in logs.
#[derive(Clone, PartialEq)]
pub struct Params {
    layout: Digest,
    values: Vec<f32>,
}

/// What training changed: one number for each *trainable* parameter element, in layout order.
///
/// Wiped from memory when dropped. See the module's doc for what it deliberately cannot do.
pub struct Delta {
    layout: Digest,
    values: Vec<f32>,
}

/// Why values do not fit a layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// Wrong number of values.
    #[error("got {got} values, the layout has {want}; use values made for this model")]
    Length {
        /// Values given.
        got: usize,
        /// Values the layout has.
        want: usize,
    },
    /// Values of another layout.
    #[error("values belong to layout {got}, the model has {want}; use values made for this model")]
    Layout {
        /// Digest the values carry.
        got: String,
        /// Digest wanted.
        want: String,
    },
    /// A NaN or an infinity.
    #[error(
        "`{name}` holds a value that is not a finite number; the file or the training is broken"
    )]
    NotFinite {
        /// The parameter.
        name: String,
    },
}

impl Params {
    /// Fresh values for a model: the same bits for the same seed on every machine.
    ///
    /// Weights and biases of linear and convolution layers are uniform in ±1/√fan_in, which is
    /// PyTorch's default (He et al., arXiv 1502.01852, with a = √5); norms start as the identity.
    /// The stream is ChaCha20 keyed by a hash of the seed, one 32-bit word per element in layout
    /// order.
    ///
    /// ```
    /// # use koinon_model::{params::Params, spec::ModelSpec};
    /// # let spec = ModelSpec::from_json(br#"{"name":"m","inputs":[{"name":"x","shape":[3]}],
    /// #   "nodes":[{"name":"fc","op":{"linear":{"units":2}},"inputs":["x"]}]}"#)?.check()?;
    /// let params = Params::init(&spec, 7);
    /// assert_eq!(params.digest(), Params::init(&spec, 7).digest());
    /// assert!(params.values().iter().all(|w| w.abs() <= 1.0 / 3f32.sqrt()));
    /// # Ok::<(), koinon_model::spec::SpecError>(())
    /// ```
    #[must_use]
    pub fn init(spec: &CheckedSpec, seed: u64) -> Self {
        let mut rng = stream("koinon.init.v1", &[seed]);
        let layout = spec.layout();
        let mut values = Vec::with_capacity(layout.len());
        for entry in layout.entries() {
            match entry.init {
                Init::Constant(value) => values.resize(values.len() + entry.elements(), value),
                Init::FanIn(fan_in) => {
                    let bound = bound(fan_in);
                    values.extend((0..entry.elements()).map(|_| uniform(&mut rng, bound)));
                }
            }
        }
        Self { layout: layout.digest(), values }
    }

    /// Values brought from elsewhere, in layout order.
    ///
    /// # Errors
    /// [`ParamsError::Length`]; [`ParamsError::NotFinite`] with the parameter's name.
    pub fn from_values(layout: &ParamLayout, values: Vec<f32>) -> Result<Self, ParamsError> {
        if values.len() != layout.len() {
            return Err(ParamsError::Length { got: values.len(), want: layout.len() });
        }
        let params = Self { layout: layout.digest(), values };
        params.check_finite(layout)?;
        Ok(params)
    }

    /// All values, trainable ones first, in layout order.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Digest of the layout these values belong to.
    #[must_use]
    pub fn layout_digest(&self) -> Digest {
        self.layout
    }

    /// SHA-256 over the layout's digest and the values as little-endian `f32`.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("koinon.params.v1");
        hasher.update(&self.layout);
        let mut block = [0u8; 4096];
        for values in self.values.chunks(block.len() / 4) {
            for (bytes, value) in block.chunks_exact_mut(4).zip(values) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
            hasher.update(&block[..values.len() * 4]);
        }
        hasher.finish()
    }

    /// The values of one parameter, by its layout entry.
    pub(crate) fn slice(&self, entry: &ParamEntry) -> &[f32] {
        &self.values[entry.range()]
    }

    /// Adds a step to the trainable values; buffers stay. This is how a server optimizer makes the
    /// next version from a mean update.
    ///
    /// # Errors
    /// [`ParamsError`] where the step has another length than [`ParamLayout::trainable`], the
    /// layout is another one, or a result is not finite.
    pub fn stepped(&self, layout: &ParamLayout, step: &[f32]) -> Result<Self, ParamsError> {
        self.check_layout(layout)?;
        if step.len() != layout.trainable() {
            return Err(ParamsError::Length { got: step.len(), want: layout.trainable() });
        }
        let mut next = self.clone();
        for (value, step) in next.values.iter_mut().zip(step) {
            *value += step;
        }
        next.check_finite(layout)?;
        Ok(next)
    }

    /// Checks that the values belong to `layout`.
    ///
    /// # Errors
    /// [`ParamsError::Layout`] with both digests.
    pub fn check_layout(&self, layout: &ParamLayout) -> Result<(), ParamsError> {
        check_layout(&self.layout, layout)
    }

    fn check_finite(&self, layout: &ParamLayout) -> Result<(), ParamsError> {
        let bad = |entry: &&ParamEntry| self.slice(entry).iter().any(|value| !value.is_finite());
        match layout.entries().iter().find(bad) {
            Some(entry) => Err(ParamsError::NotFinite { name: entry.name.clone() }),
            None => Ok(()),
        }
    }
}

impl Delta {
    /// An update from values, for trainers other than the engine here.
    ///
    /// # Errors
    /// [`ParamsError::Length`] where there are not [`ParamLayout::trainable`] values,
    /// [`ParamsError::NotFinite`] where one is not a number.
    pub fn from_values(layout: &ParamLayout, mut values: Vec<f32>) -> Result<Self, ParamsError> {
        let got = values.len();
        if got != layout.trainable() {
            values.zeroize();
            return Err(ParamsError::Length { got, want: layout.trainable() });
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            values.zeroize();
            let entry = layout.entries().iter().find(|entry| entry.range().contains(&at));
            let name = entry.map(|entry| entry.name.clone()).unwrap_or_default();
            return Err(ParamsError::NotFinite { name });
        }
        Ok(Self { layout: layout.digest(), values })
    }

    /// `end - start`, element by element.
    ///
    /// # Errors
    /// As [`Delta::from_values`], and [`ParamsError::Layout`] where one of the two is of another
    /// layout.
    pub fn between(
        layout: &ParamLayout,
        start: &Params,
        end: &Params,
    ) -> Result<Self, ParamsError> {
        start.check_layout(layout)?;
        end.check_layout(layout)?;
        let pairs = end.values.iter().zip(&start.values).take(layout.trainable());
        Self::from_values(layout, pairs.map(|(end, start)| end - start).collect())
    }

    /// The values, for clipping and encoding on this machine. What is done with them must not leave
    /// the site unless masked.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Digest of the layout these values belong to.
    #[must_use]
    pub fn layout_digest(&self) -> Digest {
        self.layout
    }
}

impl Drop for Delta {
    fn drop(&mut self) {
        self.values.zeroize();
    }
}

fn check_layout(got: &Digest, layout: &ParamLayout) -> Result<(), ParamsError> {
    if *got == layout.digest() {
        return Ok(());
    }
    Err(ParamsError::Layout { got: hex(got), want: hex(&layout.digest()) })
}

/// A stream of its own for each domain and list of numbers.
pub(crate) fn stream(domain: &str, numbers: &[u64]) -> ChaCha20Rng {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    ChaCha20Rng::from_seed(digest_of(domain, &bytes))
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
fn bound(fan_in: usize) -> f32 {
    (1.0 / (fan_in as f64).sqrt()) as f32
}

/// Uniform in `[-bound, bound)` from the upper 24 bits of one word: exact in `f32`.
fn uniform(rng: &mut impl Rng, bound: f32) -> f32 {
    let unit = (rng.next_u32() >> 8) as f32 / 16_777_216.0;
    (2.0 * unit - 1.0) * bound
}

#[cfg(test)]
mod tests;
