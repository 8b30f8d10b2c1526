//! Canonical bytes for what is hashed or signed: a domain first, then every part with its length.
//!
//! Lengths and numbers are little-endian and of fixed width, so two different lists of parts never
//! give the same bytes. Deliberately not a general codec: nothing reads these bytes back.

/// Grows the canonical bytes of one statement.
pub(crate) struct Canonical(Vec<u8>);

impl Canonical {
    /// Begins with `domain`, which tells this kind of statement from every other.
    pub(crate) fn new(domain: &str) -> Self {
        Self(Vec::new()).bytes(domain.as_bytes())
    }

    /// Appends the length (u64 LE) and then the bytes.
    pub(crate) fn bytes(mut self, part: &[u8]) -> Self {
        self.0.extend_from_slice(&(part.len() as u64).to_le_bytes());
        self.0.extend_from_slice(part);
        self
    }

    /// Appends a number of fixed width (u32 LE), which needs no length.
    pub(crate) fn number(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// The finished bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_byte_between_parts_changes_the_bytes() {
        let one = Canonical::new("d").bytes(b"ab").bytes(b"c").finish();
        let other = Canonical::new("d").bytes(b"a").bytes(b"bc").finish();
        assert_ne!(one, other);
    }

    #[test]
    fn the_layout_is_fixed() {
        let bytes = Canonical::new("d").number(258).bytes(b"x").finish();
        assert_eq!(bytes, b"\x01\0\0\0\0\0\0\0d\x02\x01\0\0\x01\0\0\0\0\0\0\0x");
    }
}
