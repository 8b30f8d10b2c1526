//! The versions that are served, each known by the digest of its file of values.
//!
//! Several versions, of several models, at once; each can be entered at any legal cut. Adding one never disturbs the others:
//! readers hold what they started with. It reads no files: bytes come in, checked. Start at [`Models::add`].

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use koinon_model::network::{Cut, Form, Network, NetworkError};
use koinon_proto::Digest;

/// One version, ready to run.
pub struct Served {
    /// Digest of the file of values.
    pub version: Digest,
    /// Digest of the file that says what the network is.
    pub spec: Digest,
    /// The network with its values.
    pub network: Network,
}

impl Served {
    /// The cut at a position of the topological order; the last is the output.
    #[must_use]
    pub fn cut(&self, position: u32) -> Option<&Cut> {
        self.network.cut(position)
    }
}

/// All versions that are served.
#[derive(Default)]
pub struct Models {
    served: RwLock<BTreeMap<Digest, Arc<Served>>>,
}

impl Models {
    /// Checks and adds a version, by the bytes of its two files; adding it again changes nothing.
    ///
    /// # Errors
    /// [`NetworkError`], by file.
    pub fn add(&self, form: Form, graph: &[u8], values: &[u8]) -> Result<Digest, NetworkError> {
        let version = Digest::of(values);
        let network = Network::read(form, graph, values)?;
        let served = Served { version, spec: Digest::of(graph), network };
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
