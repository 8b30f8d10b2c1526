//! A site's message that was accepted, as the state keeps it.
//!
//! While a coordinator recovers it needs the messages verbatim, to give them to the private sum again;
//! afterwards the sum has what it needs of them, the journal has them verbatim, and here a digest is
//! enough to tell the same message from another one. Shares and reveals of a large cohort are most of
//! what a round would hold twice. Start at [`Kept::is`].

use koinon_proto::Digest;
use serde::{Serialize, Serializer};

use crate::record::Bytes;

/// An accepted message: its digest, and itself until it is forgotten.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    digest: Digest,
    bytes: Bytes,
}

impl Kept {
    pub(crate) fn new(bytes: &Bytes) -> Self {
        Self { digest: bytes.digest(), bytes: bytes.clone() }
    }

    /// Whether this is that message.
    pub(crate) fn is(&self, message: &[u8]) -> bool {
        self.digest == Digest::of(message)
    }

    /// The message; empty once it is forgotten.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Keeps the digest alone.
    pub(crate) fn forget(&mut self) {
        self.bytes = Bytes::default();
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.digest.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_message_is_still_told_from_others() {
        let mut kept = Kept::new(&Bytes(b"shares".to_vec()));
        let before = kept.clone();
        kept.forget();
        assert!(kept.is(b"shares") && !kept.is(b"other shares") && kept.bytes().is_empty());
        assert!(kept == before);
        let json = |kept: &Kept| serde_json::to_string(kept).unwrap();
        assert_eq!(json(&kept), json(&before), "the state's digest does not tell");
    }
}
