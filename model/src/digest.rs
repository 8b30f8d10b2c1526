//! Digests: a SHA-256 under a name that says what was hashed.
//!
//! Not a signature and not a MAC: a digest only says that two parties hold the same bytes. Start
//! at [`digest_of`]; hexadecimal text for people is [`hex`].

use sha2::{Digest as _, Sha256};

/// A SHA-256 value.
pub type Digest = [u8; 32];

/// SHA-256 of `bytes` under a domain.
///
/// The domain's length and name go first, so that bytes of one kind never collide with bytes of
/// another kind. Domains are constants of this project (`koinon.spec.v1`), at most 255 bytes.
///
/// ```
/// use koinon_model::digest::digest_of;
/// assert_ne!(digest_of("a", b"bc"), digest_of("ab", b"c"));
/// ```
#[must_use]
pub fn digest_of(domain: &str, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(domain);
    hasher.update(bytes);
    hasher.finish()
}

/// The same digest fed piece by piece, for values too large to copy.
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn new(domain: &str) -> Self {
        let length = u8::try_from(domain.len()).expect("domains are short constants of ours");
        let mut sha = Sha256::new();
        sha.update([length]);
        sha.update(domain.as_bytes());
        Self(sha)
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        self.0.finalize().into()
    }
}

/// Lower-case hexadecimal text of a digest.
///
/// ```
/// assert_eq!(koinon_model::digest::hex(&[0xab; 32]).len(), 64);
/// ```
#[must_use]
pub fn hex(digest: &Digest) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String never fails");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answer() {
        // printf '\x01x' | sha256sum
        let expected = "23c86a8aded0ad81f8111bb07e6ec0ffb00ce5bfef001417c07243f43fd70b2f";
        assert_eq!(hex(&digest_of("x", b"")), expected);
        assert_eq!(digest_of("x", b"ab"), {
            let mut hasher = Hasher::new("x");
            hasher.update(b"a");
            hasher.update(b"b");
            hasher.finish()
        });
    }
}
