//! The versions that are served, each known by the digest of its parameters' file.
//!
//! Several versions, of several models, at once; each can be entered at any legal cut. Adding one never disturbs the others:
//! readers hold what they started with. It reads no files: bytes come in, checked. Start at [`Models::add`].

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use koinon_model::cut::Cut;
use koinon_model::engine::{Engine, EngineError};
use koinon_model::params::{FileError, Params};
use koinon_model::spec::{CheckedSpec, SpecError};
use koinon_proto::Digest;

/// One version, ready to run.
pub struct Served {
    /// Digest of the parameters' file.
    pub version: Digest,
    /// Digest of the spec's bytes.
    pub spec: Digest,
    /// The model with its values.
    pub engine: Engine,
    /// Every position from 0 to the end.
    cuts: Vec<Cut>,
}

impl Served {
    /// The cut at a position of the topological order; the last is the output.
    #[must_use]
    pub fn cut(&self, position: u32) -> Option<&Cut> {
        self.cuts.get(usize::try_from(position).ok()?)
    }
}

/// Why a model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The spec's file.
    #[error("spec.json: {0}")]
    Spec(#[from] SpecError),
    /// The parameters' file.
    #[error("params.safetensors: {0}")]
    Params(#[from] FileError),
    /// They do not go together.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// All versions that are served.
#[derive(Default)]
pub struct Models {
    served: RwLock<BTreeMap<Digest, Arc<Served>>>,
}

impl Models {
    /// Checks and adds a version; adding it again changes nothing.
    ///
    /// # Errors
    /// [`ModelError`], by file.
    pub fn add(&self, spec: &[u8], params: &[u8]) -> Result<Digest, ModelError> {
        let version = Digest::of(params);
        let checked = CheckedSpec::from_canonical(spec)?;
        let values = Params::from_safetensors(checked.layout(), params)?;
        let engine = Engine::load(&checked, &values)?;
        let cuts = (0..=checked.n_nodes()).filter_map(|at| Cut::at(&checked, at)).collect();
        let served = Served { version, spec: Digest::of(spec), engine, cuts };
        let mut all = self.served.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(version).or_insert_with(|| Arc::new(served));
        Ok(version)
    }

    /// A version by its digest.
    #[must_use]
    pub fn get(&self, version: &Digest) -> Option<Arc<Served>> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).get(version).cloned()
    }

    /// Every version, in the order of their digests.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Served>> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
