//! A notice: who takes part, as the coordinator tells one participant.

use crate::codec::{CodecError, Reader, Writer};
use crate::message::BUNDLE_BYTES_MAX;
use crate::message::bundle::Bundle;
use crate::participants::{COMPLETE_MAX, PARTICIPANTS_MIN};
use crate::plan::PROTOCOL_VERSION;

/// Who takes part in a session, as one participant is told: all bundles, in ascending order of
/// names. It carries no signature of its own; what it says is checked against the bundles' ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub(crate) bundles: Vec<Bundle>,
}

impl From<Vec<Bundle>> for Notice {
    fn from(bundles: Vec<Bundle>) -> Self {
        Self { bundles }
    }
}

impl Notice {
    /// The bundles in it.
    #[must_use]
    pub fn bundles(&self) -> &[Bundle] {
        &self.bundles
    }

    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(6 + self.bundles.len() * BUNDLE_BYTES_MAX);
        out.u32(PROTOCOL_VERSION);
        out.u16(u16::try_from(self.bundles.len()).expect("a notice is of at most 64 bundles"));
        self.bundles.iter().for_each(|bundle| {
            out.bytes(&bundle.to_bytes());
        });
        out.into_public()
    }

    /// The notice that these canonical bytes are; nothing in it is checked yet.
    ///
    /// # Errors
    /// If the bytes are not a canonical notice.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        let version = from.u32("protocol version")?;
        if version != PROTOCOL_VERSION {
            return Err(CodecError::Version(version));
        }
        let n = usize::from(from.u16("bundles")?);
        if !(PARTICIPANTS_MIN..=COMPLETE_MAX).contains(&n) {
            return Err(CodecError::Value("bundles"));
        }
        let bundles = (0..n).map(|_| Bundle::read(&mut from)).collect::<Result<_, _>>()?;
        from.end()?;
        Ok(Self { bundles })
    }
}
