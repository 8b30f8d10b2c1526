//! A notice: who takes part, as the coordinator tells one participant.

use std::sync::Arc;

use crate::codec::{CodecError, Reader, Writer};
use crate::hash::Digest;
use crate::merkle::{PATH_MAX, path_len};
use crate::message::BUNDLE_BYTES_MAX;
use crate::message::bundle::Bundle;
use crate::participants::{COMPLETE_MAX, PARTICIPANTS_MAX, PARTICIPANTS_MIN};
use crate::topology::{Version, narrow};

/// Who takes part in a session, as one participant is told. In version 1: the bundles of all. In
/// version 2: the names of all, and of the participant itself and its neighbours the bundles, each
/// with the path that leads from it to the digest of the participants.
///
/// It carries no signature of its own; what it says is checked against the bundles' signatures and
/// the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub(crate) bundles: Vec<Bundle>,
    /// In version 2.
    pub(crate) rest: Option<Rest>,
}

/// What a notice of version 2 has beside bundles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    /// Of all participants, ascending.
    pub(crate) names: Arc<Vec<String>>,
    /// Of each bundle, in the same order.
    pub(crate) paths: Vec<Vec<Digest>>,
}

impl Rest {
    /// The index of the participant of that name.
    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.names.binary_search_by(|known| known.as_str().cmp(name)).ok()
    }
}

/// The notice of version 1: all bundles, in ascending order of names.
impl From<Vec<Bundle>> for Notice {
    fn from(bundles: Vec<Bundle>) -> Self {
        Self { bundles, rest: None }
    }
}

impl Notice {
    /// The bundles in it.
    #[must_use]
    pub fn bundles(&self) -> &[Bundle] {
        &self.bundles
    }

    /// How many participants it speaks of.
    #[must_use]
    pub fn n(&self) -> usize {
        self.rest.as_ref().map_or(self.bundles.len(), |rest| rest.names.len())
    }

    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.rest {
            Some(Rest { names, paths }) => {
                let paths = paths.iter().map(|path| path.iter().copied());
                sparse_bytes(&names_bytes(names), self.bundles.iter().zip(paths))
            }
            None => {
                let n = self.bundles.len();
                let mut out = Writer::with_capacity(6 + n * BUNDLE_BYTES_MAX);
                out.u32(Version::Complete.number()).u16(narrow(n));
                self.bundles.iter().for_each(|bundle| bundle.write(&mut out));
                out.into_public()
            }
        }
    }

    /// The notice that these canonical bytes are; nothing in it is checked yet.
    ///
    /// # Errors
    /// If the bytes are not a canonical notice.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        let version = Version::from_number(from.u32("protocol version")?)?;
        let notice = match version {
            Version::Complete => {
                let n = usize::from(from.u16("bundles")?);
                if !(PARTICIPANTS_MIN..=COMPLETE_MAX).contains(&n) {
                    return Err(CodecError::Value("bundles"));
                }
                let bundles = (0..n).map(|_| Bundle::read(&mut from)).collect::<Result<_, _>>()?;
                Self { bundles, rest: None }
            }
            Version::Sparse => read_sparse(&mut from)?,
        };
        from.end()?;
        Ok(notice)
    }
}

/// The canonical bytes of a notice of version 2 that begins with [`names_bytes`], of these bundles with
/// their paths: those of a large cohort are written thousands of times, and held nowhere.
pub(crate) fn sparse_bytes<'a, P: Iterator<Item = Digest>>(
    names: &[u8],
    bundles: impl ExactSizeIterator<Item = (&'a Bundle, P)>,
) -> Vec<u8> {
    let n = bundles.len();
    let most = names.len() + 2 + n * (BUNDLE_BYTES_MAX + 32 * PATH_MAX);
    let mut out = Writer::with_capacity(most);
    out.bytes(names).u16(narrow(n));
    for (bundle, path) in bundles {
        bundle.write(&mut out);
        path.for_each(|digest| {
            out.bytes(&digest);
        });
    }
    let mut bytes = out.into_public();
    bytes.shrink_to_fit();
    bytes
}

/// What every notice of version 2 begins with: the version, and the names of all.
pub(crate) fn names_bytes(names: &[String]) -> Vec<u8> {
    let bytes: usize = names.iter().map(|name| name.len() + 1).sum();
    let mut out = Writer::with_capacity(6 + bytes);
    out.u32(Version::Sparse.number()).u16(narrow(names.len()));
    names.iter().for_each(|name| {
        out.name(name);
    });
    out.into_public()
}

fn read_sparse(from: &mut Reader<'_>) -> Result<Notice, CodecError> {
    let n = usize::from(from.u16("participants")?);
    if !(PARTICIPANTS_MIN..=PARTICIPANTS_MAX).contains(&n) {
        return Err(CodecError::Value("participants"));
    }
    let mut names: Vec<String> = Vec::with_capacity(n);
    for _ in 0..n {
        let name = from.name("participant's name")?;
        if names.last().is_some_and(|last| *last >= name) {
            return Err(CodecError::Value("order of participants"));
        }
        names.push(name);
    }
    let mut rest = Rest { names: Arc::new(names), paths: Vec::new() };
    let n_bundles = usize::from(from.u16("bundles")?);
    if n_bundles > n {
        return Err(CodecError::Value("bundles"));
    }
    let mut bundles: Vec<Bundle> = Vec::with_capacity(n_bundles);
    for _ in 0..n_bundles {
        let bundle = Bundle::read(from)?;
        if bundles.last().is_some_and(|last| last.name >= bundle.name) {
            return Err(CodecError::Value("order of bundles"));
        }
        let index = rest.index_of(&bundle.name).ok_or(CodecError::Value("bundles"))?;
        let path = (0..path_len(index, n)).map(|_| from.array("path")).collect::<Result<_, _>>()?;
        rest.paths.push(path);
        bundles.push(bundle);
    }
    Ok(Notice { bundles, rest: Some(rest) })
}
