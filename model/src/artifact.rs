//! A model as two files: the spec's canonical JSON and the parameters as safetensors.
//!
//! Bytes in, bytes out: who reads or writes files is not decided here. Start at [`Model::read`]; a
//! reader that knows which version it wants passes the digests and gets that version or an error.

use crate::digest::{Digest, digest_of, hex};
use crate::params::{FileError, Params, ParamsError};
use crate::spec::{CheckedSpec, SpecError};

/// A checked spec with values of its layout.
#[derive(Clone, PartialEq)]
pub struct Model {
    spec: CheckedSpec,
    params: Params,
}

/// The bytes of the two files.
pub struct ModelFiles {
    /// `spec.json`: canonical, so its SHA-256 under the spec's domain is the spec's digest.
    pub spec: Vec<u8>,
    /// `params.safetensors`.
    pub params: Vec<u8>,
}

/// What a version is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelDigests {
    /// Digest of the spec, [`CheckedSpec::digest`].
    pub spec: Digest,
    /// Digest of the values, [`Params::digest`].
    pub params: Digest,
}

impl ModelDigests {
    /// One digest over both.
    #[must_use]
    pub fn combined(&self) -> Digest {
        digest_of("koinon.model.v1", &[self.spec, self.params].concat())
    }
}

/// Why two files are not the model that is wanted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// The first file.
    #[error("spec.json: {0}")]
    Spec(#[from] SpecError),
    /// The second file.
    #[error("params.safetensors: {0}")]
    Params(#[from] FileError),
    /// Values of another model.
    #[error(transparent)]
    Layout(#[from] ParamsError),
    /// A whole model, but another one.
    #[error(
        "{file}: its digest is {got}, wanted {want}; fetch it again from where it was published"
    )]
    Digest {
        /// Which file.
        file: &'static str,
        /// Digest of what was read.
        got: String,
        /// Digest wanted.
        want: String,
    },
}

impl Model {
    /// Binds values to a spec.
    ///
    /// # Errors
    /// [`ArtifactError::Layout`] where they belong to another one.
    pub fn new(spec: CheckedSpec, params: Params) -> Result<Self, ArtifactError> {
        params.check_layout(spec.layout())?;
        Ok(Self { spec, params })
    }

    /// Reads the two files; with `wanted`, only that model.
    ///
    /// The spec is compared before the parameters are looked at.
    ///
    /// # Errors
    /// [`ArtifactError`], naming the file. Never panics on any bytes.
    pub fn read(files: &ModelFiles, wanted: Option<&ModelDigests>) -> Result<Self, ArtifactError> {
        let spec = CheckedSpec::from_canonical(&files.spec)?;
        same("spec.json", spec.digest(), wanted.map(|wanted| wanted.spec))?;
        let params = Params::from_safetensors(spec.layout(), &files.params)?;
        same("params.safetensors", params.digest(), wanted.map(|wanted| wanted.params))?;
        Ok(Self { spec, params })
    }

    /// The two files, the same bytes for the same model.
    ///
    /// # Errors
    /// [`ArtifactError::Params`] where the values are too large for the format.
    pub fn write(&self) -> Result<ModelFiles, ArtifactError> {
        let params = self.params.to_safetensors(self.spec.layout())?;
        Ok(ModelFiles { spec: self.spec.canonical().to_vec(), params })
    }

    /// The spec.
    #[must_use]
    pub fn spec(&self) -> &CheckedSpec {
        &self.spec
    }

    /// The values.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Both digests.
    #[must_use]
    pub fn digests(&self) -> ModelDigests {
        ModelDigests { spec: self.spec.digest(), params: self.params.digest() }
    }
}

fn same(file: &'static str, got: Digest, want: Option<Digest>) -> Result<(), ArtifactError> {
    match want {
        Some(want) if want != got => {
            Err(ArtifactError::Digest { file, got: hex(&got), want: hex(&want) })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ModelSpec;
    use proptest::prelude::*;

    fn model() -> Model {
        let text = br#"{"name":"m","inputs":[{"name":"x","shape":[3]}],"nodes":[{"name":"fc",
            "op":{"linear":{"units":2}},"inputs":["x"]}]}"#;
        let spec = ModelSpec::from_json(text).unwrap().check().unwrap();
        let params = Params::init(&spec, 1);
        Model::new(spec, params).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let model = model();
        let files = model.write().unwrap();
        assert!(Model::read(&files, Some(&model.digests())).is_ok_and(|read| read == model));
        assert!(model.write().is_ok_and(|again| again.params == files.params));
    }

    #[test]
    fn another_model_is_refused_by_file() {
        let (model, files) = (model(), model().write().unwrap());
        for (wanted, file) in [
            (ModelDigests { spec: [0; 32], ..model.digests() }, "spec.json"),
            (ModelDigests { params: [0; 32], ..model.digests() }, "params.safetensors"),
        ] {
            let error = Model::read(&files, Some(&wanted)).err().unwrap();
            assert!(error.to_string().starts_with(file), "{error}");
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = model().write().unwrap();
        for end in 0..whole.params.len() {
            let files =
                ModelFiles { spec: whole.spec.clone(), params: whole.params[..end].to_vec() };
            assert!(Model::read(&files, None).is_err(), "parameters cut at {end}");
        }
        for end in 0..whole.spec.len() {
            let files =
                ModelFiles { spec: whole.spec[..end].to_vec(), params: whole.params.clone() };
            assert!(Model::read(&files, None).is_err(), "spec cut at {end}");
        }
    }

    proptest! {
        /// Any flipped byte is found: by the format, or by a digest.
        #[test]
        fn corruption_never_passes(at in any::<prop::sample::Index>(), flip in 1u8..) {
            let model = model();
            let mut files = model.write().unwrap();
            let spec_bytes = files.spec.len();
            let at = at.index(spec_bytes + files.params.len());
            match at.checked_sub(spec_bytes) {
                None => files.spec[at] ^= flip,
                Some(at) => files.params[at] ^= flip,
            }
            let read = Model::read(&files, Some(&model.digests()));
            // Only padding of the header may change without changing the model.
            prop_assert!(read.is_err() || read.is_ok_and(|read| read == model), "byte {at}");
        }

        #[test]
        fn garbage_never_panics(spec in any::<Vec<u8>>(), params in any::<Vec<u8>>()) {
            let mut files = ModelFiles { spec, params };
            prop_assert!(Model::read(&files, None).is_err());
            files.spec = model().write().unwrap().spec;
            prop_assert!(Model::read(&files, None).is_err());
        }
    }
}
