//! Names of things: digests, member names, milliseconds.
//!
//! Everything immutable is named by the SHA-256 of its verbatim bytes, everybody by a short name from
//! the roster. Deliberately no registry and no meaning: an id says which, not what.
//! Start at [`Digest::of`] and [`SiteId::new`].

use std::borrow::Borrow;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::limits::NAME_BYTES_MAX;

/// Unix milliseconds, or a duration in milliseconds; the variable's name says which.
pub type Millis = u64;

/// The id of one attempt at a round, see [`crate::session_id`].
pub type SessionId = Digest;

/// SHA-256 (FIPS 180-4) of some verbatim bytes: the name of everything immutable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes` as they are; nothing is normalised first.
    ///
    /// ```
    /// use koinon_proto::Digest;
    /// let digest = Digest::of(b"abc");
    /// assert_eq!(digest.short(), "ba7816bf8f01");
    /// assert_eq!(digest.to_string().parse(), Ok(digest));
    /// ```
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hex digits: enough for people, not for decisions.
    #[must_use]
    pub fn short(&self) -> String {
        hex(&self.0[..6])
    }

    /// Reads a wire field that may be absent: empty is `None`.
    ///
    /// # Errors
    /// [`IdError::DigestLength`] unless there are 0 or 32 bytes.
    pub fn optional(bytes: &[u8]) -> Result<Option<Self>, IdError> {
        if bytes.is_empty() { Ok(None) } else { Self::try_from(bytes).map(Some) }
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = IdError;

    fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
        bytes.try_into().map(Self).map_err(|_| IdError::DigestLength { bytes: bytes.len() })
    }
}

impl From<Digest> for Vec<u8> {
    fn from(digest: Digest) -> Self {
        digest.0.to_vec()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(IdError::DigestText { characters: text.chars().count() });
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Through String: a borrowed &str would refuse escaped text.
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The name of a member of the roster: a site, a partition server, an operator or the coordinator.
///
/// 1 to 64 characters of `a-z`, `0-9` and `-`, no `-` at either end: safe in file names, certificates,
/// logs and command lines, and the same for every reader.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SiteId(String);

impl SiteId {
    /// Checks a name.
    ///
    /// # Errors
    /// [`IdError::Name`] when the rule above is broken.
    ///
    /// ```
    /// use koinon_proto::SiteId;
    /// assert_eq!(SiteId::new("hospital-05").unwrap().as_str(), "hospital-05");
    /// assert!(SiteId::new("../etc").is_err());
    /// ```
    pub fn new(name: impl Into<String>) -> Result<Self, IdError> {
        let name = name.into();
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let good = (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(legal)
            && !name.starts_with('-')
            && !name.ends_with('-');
        if good { Ok(Self(name)) } else { Err(IdError::Name { name: printable(&name) }) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteId({})", self.0)
    }
}

impl FromStr for SiteId {
    type Err = IdError;

    fn from_str(name: &str) -> Result<Self, IdError> {
        Self::new(name)
    }
}

impl TryFrom<String> for SiteId {
    type Error = IdError;

    fn try_from(name: String) -> Result<Self, IdError> {
        Self::new(name)
    }
}

impl From<SiteId> for String {
    fn from(site: SiteId) -> Self {
        site.0
    }
}

impl AsRef<str> for SiteId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Lets a `BTreeMap<SiteId, _>` be asked with a `&str`.
impl Borrow<str> for SiteId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Why something is not an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdError {
    /// A digest field of the wrong length.
    #[error("a digest has 32 bytes, not {bytes}")]
    DigestLength {
        /// Length of the field.
        bytes: usize,
    },
    /// A written digest of the wrong length.
    #[error("a digest is written as 64 hex digits, not {characters} characters")]
    DigestText {
        /// Length of the text.
        characters: usize,
    },
    /// A written digest with a character that is no lower-case hex digit.
    #[error("a digest is written in the hex digits 0-9 and a-f (lower case)")]
    DigestDigit,
    /// A name that breaks the rule of [`SiteId`].
    #[error(
        "'{name}' is no member name: use 1 to {NAME_BYTES_MAX} characters of a-z, 0-9 and -, \
         no - at either end"
    )]
    Name {
        /// The name, shortened and with control characters replaced, so that it is safe to log.
        name: String,
    },
}

/// Lower-case hex, two digits a byte.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

fn nibble(digit: u8) -> Result<u8, IdError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(IdError::DigestDigit),
    }
}

/// At most 80 printable ASCII characters of a peer's text, for messages and logs.
fn printable(text: &str) -> String {
    let safe = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.chars().take(80).map(safe).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_known_answer_of_fips_180_4() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), known);
    }

    #[test]
    fn digests_have_one_text() {
        let text = Digest::of(b"abc").to_string();
        assert_eq!(text.to_uppercase().parse::<Digest>(), Err(IdError::DigestDigit));
        assert_eq!(text[1..].parse::<Digest>(), Err(IdError::DigestText { characters: 63 }));
        // 64 bytes, but not 64 digits.
        assert_eq!("é".repeat(32).parse::<Digest>(), Err(IdError::DigestDigit));
        assert_eq!("".parse::<Digest>(), Err(IdError::DigestText { characters: 0 }));
    }

    #[test]
    fn wire_fields_are_absent_or_whole() {
        let digest = Digest::of(b"abc");
        assert_eq!(Digest::optional(&[]), Ok(None));
        assert_eq!(Digest::optional(digest.as_bytes()), Ok(Some(digest)));
        assert_eq!(Digest::optional(&[0; 31]), Err(IdError::DigestLength { bytes: 31 }));
        assert_eq!(Digest::try_from(&[][..]), Err(IdError::DigestLength { bytes: 0 }));
        assert_eq!(Vec::from(digest), digest.as_bytes());
    }

    #[test]
    fn names_are_safe_everywhere() {
        for good in ["a", "hospital-05", "0", &"x".repeat(64)] {
            assert_eq!(SiteId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a b", "a/b", "a.b", "ä", "a\n", &"x".repeat(65)] {
            assert!(SiteId::new(bad).is_err(), "{bad}");
        }
        let shown = SiteId::new("\u{1b}[2J").unwrap_err().to_string();
        assert!(shown.starts_with("'?[2J' is no member name"), "{shown}");
    }

    #[test]
    fn ids_are_strings_in_json() {
        let site: SiteId = serde_json::from_str("\"hospital-05\"").unwrap();
        assert_eq!(serde_json::to_string(&site).unwrap(), "\"hospital-05\"");
        assert!(serde_json::from_str::<SiteId>("\"../etc\"").is_err());
        let digest = Digest::of(b"abc");
        let text = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
        assert!(serde_json::from_str::<Digest>("\"abc\"").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,80}") {
            prop_assert!(text.parse::<Digest>().is_err());
            if let Ok(site) = SiteId::new(text.clone()) {
                prop_assert_eq!(site.as_str(), text);
            }
        }

        #[test]
        fn digests_survive_their_text(bytes: [u8; 32]) {
            prop_assert_eq!(Digest(bytes).to_string().parse(), Ok(Digest(bytes)));
        }
    }
}
