//! The registry of versions: which parameters exist, where they come from, how good they are.
//!
//! A version is named by the digest of its parameters' file and never changes; what is learned about
//! it later, its validation figures, is written once, by the first round that started from it. The
//! parameters themselves are blobs. Releases and channels are deliberately not here. Start at
//! [`Registry`].

use std::collections::BTreeMap;

use koinon_proto::{Digest, wire};
use serde::Serialize;

use crate::figures::Validation;

/// One version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Version {
    /// The version it was made from; none for a start.
    pub parent: Option<Digest>,
    /// The task that made it, or brought it.
    pub task: Digest,
    /// The round that made it; 0 for a start.
    pub round: u32,
    /// The model spec.
    pub spec: Digest,
    /// The feature plan.
    pub features: Digest,
    /// The fitted statistics that belong to it.
    pub fitted: Option<Digest>,
    /// Sites whose updates went into the step from its parent; 0 for a start.
    pub participants: u32,
    /// Figures from the sites' validation rows.
    pub measured: Option<Validation>,
}

/// All versions, by the digest of their parameters' file.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Registry(BTreeMap<Digest, Version>);

impl Registry {
    /// The version of that name.
    #[must_use]
    pub fn get(&self, digest: &Digest) -> Option<&Version> {
        self.0.get(digest)
    }

    /// All versions, in order of digest.
    pub fn iter(&self) -> impl Iterator<Item = (&Digest, &Version)> {
        self.0.iter()
    }

    /// Adds a version, unless the very same parameters are known: then what is known stays.
    pub(crate) fn add(&mut self, digest: Digest, version: Version) {
        self.0.entry(digest).or_insert(version);
    }

    /// A start that was brought without fitted statistics belongs to those of its task.
    pub(crate) fn fit(&mut self, digest: &Digest, fitted: Digest) {
        if let Some(version) = self.0.get_mut(digest) {
            version.fitted.get_or_insert(fitted);
        }
    }

    /// Notes the first figures of a version.
    pub(crate) fn measure(&mut self, digest: &Digest, validation: Validation) {
        if let Some(version) = self.0.get_mut(digest) {
            version.measured.get_or_insert(validation);
        }
    }

    /// All versions in the operators' form.
    #[must_use]
    pub fn to_wire(&self) -> Vec<wire::Version> {
        self.0.iter().map(|(digest, version)| version.to_wire(digest)).collect()
    }
}

impl Version {
    fn to_wire(&self, digest: &Digest) -> wire::Version {
        let bytes = |digest: Option<Digest>| digest.map(Vec::from).unwrap_or_default();
        let auc = self.measured.and_then(|measured| measured.auc);
        wire::Version {
            digest: (*digest).into(),
            parent: bytes(self.parent),
            task: self.task.into(),
            round: self.round,
            spec: self.spec.into(),
            features: self.features.into(),
            fitted: bytes(self.fitted),
            participants: self.participants,
            validation_auc: auc.map_or(f64::NAN, |auc| auc.0),
            validation_loss: self.measured.map_or(f64::NAN, |measured| measured.loss.0),
            privacy: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(round: u32) -> Version {
        Version {
            parent: None,
            task: Digest::of(b"task"),
            round,
            spec: Digest::of(b"spec"),
            features: Digest::of(b"features"),
            fitted: None,
            participants: 5,
            measured: None,
        }
    }

    #[test]
    fn a_version_never_changes_once_it_is_known() {
        let mut registry = Registry::default();
        let digest = Digest::of(b"parameters");
        registry.add(digest, version(1));
        registry.add(digest, version(2));
        assert_eq!(registry.get(&digest), Some(&version(1)));
        let figures = |loss: f64| Validation { rows: 10, loss: loss.into(), auc: None };
        registry.measure(&digest, figures(0.5));
        registry.measure(&digest, figures(0.4));
        registry.measure(&Digest::of(b"unknown"), figures(0.1));
        assert_eq!(registry.get(&digest).unwrap().measured, Some(figures(0.5)));
        let wire = registry.to_wire();
        assert_eq!(wire.len(), 1);
        assert!(wire[0].validation_auc.is_nan() && wire[0].parent.is_empty());
    }
}
