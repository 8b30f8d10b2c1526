//! What a session is about, as digests that both sides compute by themselves and compare.
//!
//! The aggregation protocol binds every mask and signature to one context; here it gets its meaning:
//! task, kind, round, model version and fitted feature statistics. Sites that were told different
//! things compute different contexts, and their masks do not cancel.

use crate::canonical::Canonical;
use crate::id::{Digest, SessionId};
use crate::wire::RoundKind;

const CONTEXT_DOMAIN: &str = "koinon/v1/context";
const SESSION_DOMAIN: &str = "koinon/v1/session";

/// The context of a session: SHA-256 over the domain, the task manifest's digest, the round's kind
/// and number, the version's digest (empty for statistics) and the fitted statistics' digest (empty
/// where none are needed), each part with its length.
#[must_use]
pub fn context(
    task: &Digest,
    kind: RoundKind,
    round: u32,
    version: Option<&Digest>,
    fitted: Option<&Digest>,
) -> [u8; 32] {
    let bytes = Canonical::new(CONTEXT_DOMAIN)
        .bytes(task.as_bytes())
        .bytes(&(kind as i32).to_le_bytes())
        .bytes(&round.to_le_bytes())
        .bytes(version.map_or(&[], |digest| digest.as_bytes().as_slice()))
        .bytes(fitted.map_or(&[], |digest| digest.as_bytes().as_slice()))
        .finish();
    Digest::of(&bytes).0
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
