//! Canonical bytes: how every message, plan and stored state of this crate is written and read.
//!
//! One value has exactly one encoding: fixed-width little-endian integers, byte strings whose
//! length follows from what came before, no padding, nothing left over at the end. So bytes can be
//! hashed and signed as they are. It is deliberately not a general serialiser: there are no
//! optional fields and no extension points, a new protocol version writes a new format. Start at
//! [`Reader`].

use zeroize::Zeroizing;

/// Why bytes are not the message they should be. Never holds a value that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes end inside the named part.
    #[error("the bytes end inside {0}: send the whole message")]
    Truncated(&'static str),
    /// Bytes follow after the end.
    #[error("{0} bytes follow after the end: one message at a time")]
    Trailing(usize),
    /// The named part is not one of its permitted, canonical values.
    #[error("{0} is not one of its permitted values")]
    Value(&'static str),
    /// The bytes speak another version of the protocol.
    #[error("protocol version {0} is not spoken here")]
    Version(u32),
}

/// Writes canonical bytes. The buffer is wiped when it is dropped, because states pass through here
/// too; [`Writer::into_public`] hands out what may be public.
pub(crate) struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    /// With all the room that will be needed: growing would leave copies of secrets behind.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(bytes)))
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// A float by its bits; equal plans must be equal bytes, so callers refuse NaN and negative
    /// zero.
    pub(crate) fn f64(&mut self, value: f64) -> &mut Self {
        self.u64(value.to_bits())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        if self.0.len() + bytes.len() > self.0.capacity() {
            let mut roomier =
                Zeroizing::new(Vec::with_capacity(2 * (self.0.capacity() + bytes.len())));
            roomier.extend_from_slice(&self.0);
            self.0 = roomier;
        }
        self.0.extend_from_slice(bytes);
        self
    }

    /// A name of 1..=64 bytes with its length before it.
    pub(crate) fn name(&mut self, name: &str) -> &mut Self {
        let len = u8::try_from(name.len()).expect("names were checked to have 1..=64 bytes");
        self.u8(len).bytes(name.as_bytes())
    }

    /// Bytes of varying length with a 32-bit length before them.
    pub(crate) fn chunk(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u32::try_from(bytes.len()).expect("no part of a session reaches 4 GiB");
        self.u32(len).bytes(bytes)
    }

    pub(crate) fn into_public(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.0)
    }

    pub(crate) fn into_secret(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

/// Reads canonical bytes; every read says which part it is after, and [`Reader::end`] refuses
/// rests.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, len: usize, part: &'static str) -> Result<&'a [u8], CodecError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(CodecError::Truncated(part))?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        part: &'static str,
    ) -> Result<[u8; N], CodecError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(CodecError::Truncated(part))?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self, part: &'static str) -> Result<u8, CodecError> {
        self.array(part).map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self, part: &'static str) -> Result<u16, CodecError> {
        self.array(part).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, part: &'static str) -> Result<u32, CodecError> {
        self.array(part).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, part: &'static str) -> Result<u64, CodecError> {
        self.array(part).map(u64::from_le_bytes)
    }

    pub(crate) fn f64(&mut self, part: &'static str) -> Result<f64, CodecError> {
        let value = f64::from_bits(self.u64(part)?);
        let canonical = value.is_finite() && (value != 0.0 || value.is_sign_positive());
        canonical.then_some(value).ok_or(CodecError::Value(part))
    }

    pub(crate) fn name(&mut self, part: &'static str) -> Result<String, CodecError> {
        let len = usize::from(self.u8(part)?);
        let bytes = self.take(len, part)?;
        let name = str::from_utf8(bytes).map_err(|_| CodecError::Value(part))?;
        is_name(name).then(|| name.to_owned()).ok_or(CodecError::Value(part))
    }

    /// Bytes with a 32-bit length before them, at most `len_max`.
    pub(crate) fn chunk(
        &mut self,
        len_max: usize,
        part: &'static str,
    ) -> Result<&'a [u8], CodecError> {
        let len = usize::try_from(self.u32(part)?).map_err(|_| CodecError::Value(part))?;
        if len > len_max {
            return Err(CodecError::Value(part));
        }
        self.take(len, part)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn end(self) -> Result<(), CodecError> {
        if self.0.is_empty() { Ok(()) } else { Err(CodecError::Trailing(self.0.len())) }
    }
}

/// Whether `name` may name a site: 1..=64 bytes of `a-z`, `0-9` and `-`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Longest name of a site or a field, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let mut writer = Writer::with_capacity(4);
        writer.u8(1).u16(2).u32(3).u64(4).f64(0.5).name("site-05").chunk(b"abc").bytes(&[9; 3]);
        let bytes = writer.into_public();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.u8("a").unwrap(), 1);
        assert_eq!(reader.u16("b").unwrap(), 2);
        assert_eq!(reader.u32("c").unwrap(), 3);
        assert_eq!(reader.u64("d").unwrap(), 4);
        assert!((reader.f64("e").unwrap() - 0.5).abs() < f64::EPSILON);
        assert_eq!(reader.name("f").unwrap(), "site-05");
        assert_eq!(reader.chunk(3, "g").unwrap(), b"abc");
        assert_eq!(reader.array::<2>("h").unwrap(), [9; 2]);
        assert_eq!(Reader::new(&bytes[bytes.len() - 1..]).end(), Err(CodecError::Trailing(1)));
        assert_eq!(reader.take(2, "rest"), Err(CodecError::Truncated("rest")));
    }

    #[test]
    fn floats_and_names_have_one_form() {
        for bad in [f64::NAN, f64::INFINITY, -0.0] {
            assert!(Reader::new(&bad.to_bits().to_le_bytes()).f64("x").is_err());
        }
        for bad in ["", "Site", "a b", "é", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_name("hospital-05"));
    }
}
