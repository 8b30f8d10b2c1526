//! The versions that are served, each known by the digest of its file of values, within a bound of memory.
//!
//! Several versions, of several models, at once; each can be entered at any legal cut. Adding one never disturbs the others:
//! readers hold what they started with. One that is taken away is no longer offered but still answers for a while, so that
//! who asked for it finds its successor in peace. It reads no files: bytes come in, checked. Start at [`Models::add`].

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use koinon_model::network::{Cut, Form, Network, NetworkError};
use koinon_proto::Digest;

use crate::batcher::Micros;

/// One version, ready to run.
pub struct Served {
    /// Digest of the file of values.
    pub version: Digest,
    /// Digest of the file that says what the network is.
    pub spec: Digest,
    /// The network with its values.
    pub network: Network,
    /// Bytes that it is reckoned at.
    pub bytes: u64,
}

impl Served {
    /// The cut at a position of the topological order; the last is the output.
    #[must_use]
    pub fn cut(&self, position: u32) -> Option<&Cut> {
        self.network.cut(position)
    }
}

/// Why a version is not served.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// Its files.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The bound of memory.
    #[error(
        "it needs {needs} bytes, {used} of {max} are used: {used} + {needs} > {max}; raise `model_bytes`, or take a version away"
    )]
    Budget {
        /// Bytes that it is reckoned at.
        needs: u64,
        /// Bytes of those that are served.
        used: u64,
        /// Bytes that all may have.
        max: u64,
    },
}

/// All versions that are served.
pub struct Models {
    bytes_max: u64,
    all: RwLock<BTreeMap<Digest, Entry>>,
}

struct Entry {
    served: Arc<Served>,
    /// When it was taken away.
    retired: Option<Micros>,
}

/// Bytes that a version is reckoned at: its graph, its values, and once more its values as the engine packs them.
#[must_use]
pub fn needs(graph_bytes: u64, values_bytes: u64) -> u64 {
    values_bytes.saturating_mul(2).saturating_add(graph_bytes)
}

impl Models {
    /// None yet; all together may have so many bytes.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, all: RwLock::default() }
    }

    /// Checks and adds a version, by the bytes of its two files; adding it again only takes it back into service. Versions
    /// that were taken away make room.
    ///
    /// # Errors
    /// [`AddError`]: a file, or the bound.
    pub fn add(&self, form: Form, graph: &[u8], values: &[u8]) -> Result<Digest, AddError> {
        let version = Digest::of(values);
        if let Some(entry) = self.write().get_mut(&version) {
            entry.retired = None;
            return Ok(version);
        }
        let bytes = needs(graph.len() as u64, values.len() as u64);
        self.make_room(bytes)?;
        let network = Network::read(form, graph, values)?;
        let served = Arc::new(Served { version, spec: Digest::of(graph), network, bytes });
        self.write().entry(version).or_insert(Entry { served, retired: None });
        Ok(version)
    }

    fn make_room(&self, needs: u64) -> Result<(), AddError> {
        let mut all = self.write();
        let total = |all: &BTreeMap<Digest, Entry>, kept: bool| -> u64 {
            let counted = all.values().filter(|entry| !kept || entry.retired.is_none());
            counted.map(|entry| entry.served.bytes).sum()
        };
        let (used, max) = (total(&all, true), self.bytes_max);
        if used.saturating_add(needs) > max {
            return Err(AddError::Budget { needs, used, max });
        }
        if total(&all, false).saturating_add(needs) > max {
            all.retain(|_, entry| entry.retired.is_none());
        }
        Ok(())
    }

    /// Takes every version away that is not among these; they answer until [`Models::drop_retired`].
    pub fn keep_only(&self, now: Micros, versions: &[Digest]) {
        for (version, entry) in self.write().iter_mut() {
            match (versions.contains(version), entry.retired) {
                (true, _) => entry.retired = None,
                (false, None) => entry.retired = Some(now),
                (false, Some(_)) => {}
            }
        }
    }

    /// Ends those that were taken away before; requests in flight still finish on them. Gives their versions.
    pub fn drop_retired(&self, before: Micros) -> Vec<Digest> {
        let mut all = self.write();
        let over = |entry: &Entry| entry.retired.is_some_and(|at| at < before);
        let gone =
            all.iter().filter(|(_, entry)| over(entry)).map(|(version, _)| *version).collect();
        all.retain(|_, entry| !over(entry));
        gone
    }

    /// A version by its digest, also one that is being taken away.
    #[must_use]
    pub fn get(&self, version: &Digest) -> Option<Arc<Served>> {
        self.read().get(version).map(|entry| Arc::clone(&entry.served))
    }

    /// Every version that is offered, in the order of their digests.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Served>> {
        let all = self.read();
        let offered = all.values().filter(|entry| entry.retired.is_none());
        offered.map(|entry| Arc::clone(&entry.served)).collect()
    }

    /// Bytes that all together are reckoned at, and may have.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.read().values().map(|entry| entry.served.bytes).sum(), self.bytes_max)
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Digest, Entry>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Digest, Entry>> {
        self.all.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use koinon_model::params::Params;
    use koinon_model::spec::ModelSpec;

    fn files(seed: u64) -> (Vec<u8>, Vec<u8>) {
        let text = br#"{"name":"m","inputs":[{"name":"x","shape":[3]}],"nodes":[
            {"name":"fc","op":{"linear":{"units":4}},"inputs":["x"]}]}"#;
        let spec = ModelSpec::from_json(text).unwrap().check().unwrap();
        let values = Params::init(&spec, seed).to_safetensors(spec.layout()).unwrap();
        (spec.canonical().to_vec(), values)
    }

    #[test]
    fn a_version_that_does_not_fit_is_refused_with_the_arithmetic() {
        let (graph, values) = files(1);
        let one = needs(graph.len() as u64, values.len() as u64);
        let models = Models::new(2 * one);
        models.add(Form::Layers, &graph, &values).unwrap();
        let second = models.add(Form::Layers, &graph, &files(2).1).unwrap();
        let error = models.add(Form::Layers, &graph, &files(3).1).unwrap_err().to_string();
        assert!(error.contains(&format!("{} + {one} > {}", 2 * one, 2 * one)), "{error}");
        assert_eq!(models.bytes(), (2 * one, 2 * one));
        models.keep_only(1, &[second]);
        let third = models.add(Form::Layers, &graph, &files(3).1).unwrap();
        assert!(models.get(&second).is_some() && models.get(&third).is_some());
    }

    #[test]
    fn a_version_that_is_taken_away_answers_for_a_while_and_is_not_offered() {
        let (graph, values) = files(1);
        let models = Models::new(u64::MAX);
        let version = models.add(Form::Layers, &graph, &values).unwrap();
        models.keep_only(10, &[]);
        models.keep_only(20, &[]);
        assert!(models.all().is_empty() && models.get(&version).is_some());
        assert!(models.drop_retired(10).is_empty());
        models.keep_only(21, &[version]);
        assert_eq!(models.all().len(), 1, "it came back");
        models.keep_only(30, &[]);
        let held = models.get(&version).unwrap();
        assert_eq!(models.drop_retired(31), [version]);
        assert!(models.get(&version).is_none() && held.version == version);
    }
}
