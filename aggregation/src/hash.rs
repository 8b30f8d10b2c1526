//! Hashes and derived keys, each under a label of its own, so that no value made for one purpose
//! can stand in for another. Not a place for policy: what is hashed is said by the caller.

use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// SHA-256 over the label's length (one byte), the label and the parts, one after the other. The
/// parts of one label have fixed lengths or carry them, so no two inputs share a string of bytes.
pub(crate) fn hash(label: &str, parts: &[&[u8]]) -> Digest {
    let mut hasher = Hasher::new(label);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finish()
}

/// [`hash`] for parts that come one after the other.
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn new(label: &str) -> Self {
        let mut sha = Sha256::new();
        sha.update([u8::try_from(label.len()).expect("labels are short constants")]);
        sha.update(label);
        Self(sha)
    }

    pub(crate) fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    pub(crate) fn finish(self) -> Digest {
        self.0.finalize().into()
    }
}

/// HKDF-SHA256 (RFC 5869): the label is the salt, the parts in a row are the info.
pub(crate) fn derive<const N: usize>(
    label: &str,
    secret: &[u8],
    parts: &[&[u8]],
) -> Zeroizing<[u8; N]> {
    let mut out = Zeroizing::new([0; N]);
    Hkdf::<Sha256>::new(Some(label.as_bytes()), secret)
        .expand_multi_info(parts, out.as_mut_slice())
        .expect("at most 64 bytes are asked for, HKDF gives 8,160");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_and_parts_are_told_apart() {
        assert_eq!(hash("a", &[b"bc"]), hash("a", &[b"b", b"c"]));
        assert_ne!(hash("a", &[b"bc"]), hash("ab", &[b"c"]));
        assert_eq!(*derive::<32>("a", b"s", &[b"bc"]), *derive::<32>("a", b"s", &[b"b", b"c"]));
        assert_ne!(*derive::<32>("a", b"s", &[b"bc"]), *derive::<32>("ab", b"s", &[b"c"]));
    }

    #[test]
    fn hkdf_gives_the_known_answer_of_rfc_5869_appendix_a1() {
        let ikm = [0x0b; 22];
        let salt: Vec<u8> = (0..13).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let mut okm = [0; 42];
        Hkdf::<Sha256>::new(Some(&salt), &ikm).expand(&info, &mut okm).unwrap();
        assert_eq!(okm[..8], [0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a]);
        assert_eq!(okm[34..], [0x34, 0x00, 0x72, 0x08, 0xd5, 0xb8, 0x87, 0x18, 0x58, 0x65][2..]);
    }
}
