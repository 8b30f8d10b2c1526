//! Which protocol versions a program speaks, and which one two programs agree on.
//!
//! The range is the first message of every connection. It is not authenticated by itself: every
//! signed message carries its version again, and a site's policy sets a minimum, so that an attacker
//! who shortens the range gets refusals, not an older protocol.

use crate::error::WireError;
use crate::limits::PROGRAM_BYTES_MAX;
use crate::wire;

/// A closed range of protocol versions, `1 <= min <= max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// Oldest version spoken.
    pub min: u32,
    /// Newest version spoken.
    pub max: u32,
}

/// What this program speaks.
pub const PROTOCOL: VersionRange = VersionRange { min: 1, max: 1 };

impl VersionRange {
    /// Whether `version` is in the range.
    #[must_use]
    pub const fn contains(&self, version: u32) -> bool {
        self.min <= version && version <= self.max
    }

    /// The message that opens a connection; `program` is name and version for the other side's log.
    #[must_use]
    pub fn to_wire(self, program: &str) -> wire::VersionRange {
        let program = program.chars().filter(char::is_ascii_graphic).take(PROGRAM_BYTES_MAX);
        wire::VersionRange { min: self.min, max: self.max, program: program.collect() }
    }
}

impl TryFrom<&wire::VersionRange> for VersionRange {
    type Error = WireError;

    fn try_from(range: &wire::VersionRange) -> Result<Self, WireError> {
        let wire::VersionRange { min, max, .. } = *range;
        if min == 0 || min > max || range.program.len() > PROGRAM_BYTES_MAX {
            return Err(WireError::VersionRange { min, max });
        }
        Ok(Self { min, max })
    }
}

/// The newest version that both ranges hold.
///
/// # Errors
/// [`WireError::NoCommonVersion`] when they do not meet: one of the two programs must be upgraded.
///
/// ```
/// use koinon_proto::{VersionRange, negotiate};
/// let (mine, theirs) = (VersionRange { min: 1, max: 3 }, VersionRange { min: 2, max: 7 });
/// assert_eq!(negotiate(mine, theirs), Ok(3));
/// assert!(negotiate(mine, VersionRange { min: 4, max: 7 }).is_err());
/// ```
pub fn negotiate(mine: VersionRange, theirs: VersionRange) -> Result<u32, WireError> {
    let version = mine.max.min(theirs.max);
    if mine.contains(version) && theirs.contains(version) {
        Ok(version)
    } else {
        Err(WireError::NoCommonVersion { mine, theirs })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_from_the_wire_is_checked() {
        let read = |min, max, program: &str| {
            VersionRange::try_from(&wire::VersionRange { min, max, program: program.into() })
        };
        assert_eq!(read(1, 3, "koinon/0.1.0"), Ok(VersionRange { min: 1, max: 3 }));
        assert_eq!(read(0, 3, ""), Err(WireError::VersionRange { min: 0, max: 3 }));
        assert_eq!(read(3, 2, ""), Err(WireError::VersionRange { min: 3, max: 2 }));
        assert!(read(1, 1, &"x".repeat(PROGRAM_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn what_this_program_says_it_also_reads() {
        let said = PROTOCOL.to_wire(&format!("koinon 0.1\n{}", "x".repeat(100)));
        assert_eq!(VersionRange::try_from(&said), Ok(PROTOCOL));
        assert!(said.program.starts_with("koinon0.1xx"));
    }

    #[test]
    fn strangers_are_told_who_must_upgrade() {
        let old = VersionRange { min: 1, max: 1 };
        let new = VersionRange { min: 2, max: 3 };
        let text = negotiate(old, new).unwrap_err().to_string();
        assert!(text.contains("this side speaks 1 to 1, the other 2 to 3"), "{text}");
    }

    proptest! {
        #[test]
        fn both_sides_agree(a in 1_u32..9, b in 0_u32..9, c in 1_u32..9, d in 0_u32..9) {
            let mine = VersionRange { min: a, max: a + b };
            let theirs = VersionRange { min: c, max: c + d };
            let newest = (a..=a + b).rev().find(|version| theirs.contains(*version));
            prop_assert_eq!(negotiate(mine, theirs).ok(), newest);
            prop_assert_eq!(negotiate(theirs, mine).ok(), newest);
        }
    }
}
