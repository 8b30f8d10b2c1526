//! What a session is about, as digests that both sides compute by themselves and compare.
//!
//! The aggregation protocol binds every mask and signature to one context; here it gets its meaning:
//! task, kind, round, model version and fitted feature statistics. Sites that were told different
//! things compute different contexts, and their masks do not cancel.

use crate::canonical::Canonical;
use crate::id::{Digest, SessionId};
use crate::wire::RoundKind;

const CONTEXT_DOMAIN: &str = "koinon/v1/context";
const KEYS_DOMAIN: &str = "koinon/v1/context-keys";
const NAMED_DOMAIN: &str = "koinon/v1/named-keys";
const SESSION_DOMAIN: &str = "koinon/v1/session";

/// The context of a session: SHA-256 over the domain, the task manifest's digest, the round's kind
/// and number, the version's digest (empty for statistics) and the fitted statistics' digest (empty
/// where none are needed), each part with its length; and where the clip of a private task moves from
/// round to round, the bits of this round's, so that all sites of a sum clip alike.
#[must_use]
pub fn context(
    task: &Digest,
    kind: RoundKind,
    round: u32,
    version: Option<&Digest>,
    fitted: Option<&Digest>,
    clip: Option<f64>,
) -> [u8; 32] {
    let bytes = Canonical::new(CONTEXT_DOMAIN)
        .bytes(task.as_bytes())
        .bytes(&(kind as i32).to_le_bytes())
        .bytes(&round.to_le_bytes())
        .bytes(version.map_or(&[], |digest| digest.as_bytes().as_slice()))
        .bytes(fitted.map_or(&[], |digest| digest.as_bytes().as_slice()));
    let bytes = match clip {
        Some(clip) => bytes.bytes(&clip.to_le_bytes()).finish(),
        None => bytes.finish(),
    };
    Digest::of(&bytes).0
}

/// The context of a session whose invitation names keys that were posted ahead: SHA-256 over the domain,
/// what [`context`] gives, the head of the key log as it was sent, and [`named_keys`] of the rest. Sites
/// that were named different keys, or shown different logs, are not in one session.
#[must_use]
pub fn context_with_keys(context: &[u8; 32], head: &[u8], named: &Digest) -> [u8; 32] {
    let bytes = Canonical::new(KEYS_DOMAIN).bytes(context).bytes(head).bytes(named.as_bytes());
    Digest::of(&bytes.finish()).0
}

/// A digest of all pairs of keys that an invitation names, as they were sent: SHA-256 over the domain
/// and each with its length.
#[must_use]
pub fn named_keys(named: &[Vec<u8>]) -> Digest {
    let start = Canonical::new(NAMED_DOMAIN);
    Digest::of(&named.iter().fold(start, |bytes, named| bytes.bytes(named)).finish())
}

/// The id of one attempt at one round: SHA-256 over the domain, the task's digest, round, attempt and
/// 32 fresh random bytes of the coordinator, so that no two attempts ever share an id.
#[must_use]
pub fn session_id(task: &Digest, round: u32, attempt: u32, random: &[u8; 32]) -> SessionId {
    let bytes = Canonical::new(SESSION_DOMAIN)
        .bytes(task.as_bytes())
        .bytes(&round.to_le_bytes())
        .bytes(&attempt.to_le_bytes())
        .bytes(random)
        .finish();
    Digest::of(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests() -> [Digest; 3] {
        [Digest::of(b"task"), Digest::of(b"version"), Digest::of(b"fitted")]
    }

    /// Computed by a separate program from the functions' descriptions.
    #[test]
    fn the_known_answers() {
        let [task, version, fitted] = digests();
        let train = context(&task, RoundKind::Train, 7, Some(&version), Some(&fitted), None);
        let known = "69238d4a8a963b33802575a6df4a6794007b7f41aa77647b67c7035169a9234b";
        assert_eq!(Digest(train).to_string(), known);
        let statistics = context(&task, RoundKind::Statistics, 0, None, None, None);
        let known = "a93d2d245a333399aa7623f9aee0b1ff806c7db7b7ea7ee1ac07092c4dd66d40";
        assert_eq!(Digest(statistics).to_string(), known);
        let known = "63e5a5e5de777cda3a865a7f3d7c5a8fe84a174c60826d530f2265e06e06b43c";
        assert_eq!(session_id(&task, 7, 2, &[5; 32]).to_string(), known);
    }

    #[test]
    fn every_part_counts() {
        let [task, version, fitted] = digests();
        let train = RoundKind::Train;
        let all = [
            context(&task, train, 7, Some(&version), Some(&fitted), None),
            context(&version, train, 7, Some(&version), Some(&fitted), None),
            context(&task, RoundKind::Evaluate, 7, Some(&version), Some(&fitted), None),
            context(&task, train, 8, Some(&version), Some(&fitted), None),
            context(&task, train, 7, Some(&fitted), Some(&fitted), None),
            context(&task, train, 7, Some(&version), None, None),
            context(&task, train, 7, None, Some(&version), None),
            context_with_keys(&[1; 32], b"head", &named_keys(&[vec![1], vec![2]])),
            context_with_keys(&[2; 32], b"head", &named_keys(&[vec![1], vec![2]])),
            context_with_keys(&[1; 32], b"hea", &named_keys(&[vec![1], vec![2]])),
            context_with_keys(&[1; 32], b"head", &named_keys(&[vec![1, 2]])),
            context_with_keys(&[1; 32], b"head", &named_keys(&[vec![2], vec![1]])),
            session_id(&task, 7, 1, &[0; 32]).0,
            session_id(&task, 1, 7, &[0; 32]).0,
            session_id(&task, 7, 1, &[1; 32]).0,
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
