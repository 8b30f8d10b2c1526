//! The parameter layout: where each named parameter lies in the one flat vector of `f32`.
//!
//! It holds no values; those are [`crate::params::Params`]. Names, shapes and orientation are those
//! of a PyTorch `state_dict` (`fc1.weight` is `[out, in]`). Start at [`ParamLayout`].

use crate::digest::{Digest, digest_of};

/// One parameter: its name, shape and place.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamEntry {
    /// Name as in a PyTorch `state_dict`, `fc1.weight`.
    pub name: String,
    /// Shape, last axis fastest.
    pub shape: Vec<usize>,
    /// Index of its first element in the flat vector.
    pub offset: usize,
    /// Whether training changes it. Buffers (frozen statistics) are not trainable.
    pub trainable: bool,
    /// How a fresh value is drawn.
    pub(crate) init: Init,
}

impl ParamEntry {
    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its place in the flat vector.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.elements()
    }
}

/// How a fresh parameter is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Init {
    /// Uniform in `[-1/sqrt(fan_in), 1/sqrt(fan_in))`.
    FanIn(usize),
    /// The same value everywhere.
    Constant(f32),
}

/// All parameters of a model in their order.
///
/// Trainable parameters come first, in topological order; buffers follow. An update therefore is
/// the first [`ParamLayout::trainable`] elements of the vector and never touches a buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamLayout {
    entries: Vec<ParamEntry>,
    len: usize,
    trainable: usize,
    digest: Digest,
}

/// A parameter before it has a place.
pub(crate) struct NewParam {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) init: Init,
    pub(crate) trainable: bool,
}

impl ParamLayout {
    /// Lays parameters out; the caller has checked that their total fits.
    pub(crate) fn new(params: Vec<NewParam>) -> Self {
        let (kept, buffers): (Vec<_>, Vec<_>) = params.into_iter().partition(|p| p.trainable);
        let mut entries = Vec::with_capacity(kept.len() + buffers.len());
        let (mut len, mut trainable) = (0, 0);
        for param in kept.into_iter().chain(buffers) {
            let entry = ParamEntry {
                name: param.name,
                shape: param.shape,
                offset: len,
                trainable: param.trainable,
                init: param.init,
            };
            len += entry.elements();
            if entry.trainable {
                trainable = len;
            }
            entries.push(entry);
        }
        let digest = digest_of("koinon.layout.v1", canonical(&entries).as_bytes());
        Self { entries, len, trainable, digest }
    }

    /// The parameters in order of their offsets.
    #[must_use]
    pub fn entries(&self) -> &[ParamEntry] {
        &self.entries
    }

    /// The entry of that name.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&ParamEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Elements of the flat vector, buffers included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the model has no parameters at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Elements that training changes: the length of an update.
    #[must_use]
    pub fn trainable(&self) -> usize {
        self.trainable
    }

    /// SHA-256 over names, shapes, order and kind.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// One line per parameter: `name shape kind`. Names hold neither spaces nor line ends.
fn canonical(entries: &[ParamEntry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let shape: Vec<String> = entry.shape.iter().map(usize::to_string).collect();
        let kind = if entry.trainable { "parameter" } else { "buffer" };
        text.push_str(&format!("{} {} {kind}\n", entry.name, shape.join("x")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(name: &str, shape: &[usize], trainable: bool) -> NewParam {
        NewParam { name: name.into(), shape: shape.into(), init: Init::Constant(0.0), trainable }
    }

    #[test]
    fn buffers_lie_behind_all_parameters() {
        let layout = ParamLayout::new(vec![
            param("bn.weight", &[2], true),
            param("bn.running_mean", &[2], false),
            param("fc.weight", &[3, 2], true),
        ]);
        let names: Vec<&str> = layout.entries().iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["bn.weight", "fc.weight", "bn.running_mean"]);
        assert_eq!((layout.trainable(), layout.len()), (8, 10));
        assert_eq!(layout.entry("bn.running_mean").map(ParamEntry::range), Some(8..10));
    }

    #[test]
    fn digest_sees_names_shapes_and_kind() {
        let base = ParamLayout::new(vec![param("a", &[2, 3], true)]);
        for other in
            [param("b", &[2, 3], true), param("a", &[3, 2], true), param("a", &[2, 3], false)]
        {
            assert_ne!(base.digest(), ParamLayout::new(vec![other]).digest());
        }
    }
}
