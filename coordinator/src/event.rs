//! The whole interface of the coordinator: what can happen to it, and what it wants done.
//!
//! Both enums are closed. An [`Event`] is something the world says; an [`Effect`] is something the
//! driver does for the coordinator. The core never does anything by itself, so deliberately nothing
//! here is a callback, a future or a handle. Start at [`Event`], then read the driver's law at
//! [`Effect`].

use koinon_aggregation::roster::Role;
use koinon_proto::{Digest, SiteId, wire};

use crate::record::Record;

/// Something that happened outside.
#[derive(Debug, Clone)]
pub enum Event {
    /// A site opened its stream. The driver has authenticated it: the name is that of its
    /// certificate. A second stream of the same site replaces the first.
    Connected {
        /// Whose stream.
        site: SiteId,
    },
    /// A site's stream ended.
    Disconnected {
        /// Whose stream.
        site: SiteId,
    },
    /// A frame arrived on a site's stream.
    Frame {
        /// Whose stream.
        site: SiteId,
        /// The frame as decoded; nothing in it has been checked.
        frame: wire::SiteFrame,
    },
    /// Somebody wants to join.
    Enrol {
        /// The enrolment as decoded; nothing in it has been checked.
        enrolment: wire::Enrolment,
        /// Number that the answer will carry.
        reply: u64,
    },
    /// An operator hands in a roster that the consortium signed.
    PublishRoster {
        /// The signed roster, verbatim.
        bytes: Vec<u8>,
        /// Number that the answer will carry.
        reply: u64,
    },
    /// An operator hands in a task.
    Submit {
        /// The manifest as JSON, verbatim: its digest names the task.
        manifest: Vec<u8>,
        /// What the manifest names by digest, in any order. The driver adds what its blob store
        /// already holds of [`crate::named_blobs`]: the core reads no store.
        blobs: Vec<Vec<u8>>,
        /// Number that the answer will carry.
        reply: u64,
    },
    /// An operator ends a task.
    Cancel {
        /// Which task.
        task: Digest,
        /// Number that the answer will carry.
        reply: u64,
    },
    /// Time has passed: [`crate::Coordinator::next_deadline`] is here.
    Tick,
}

/// Something the driver does.
///
/// The law for the effects of one call, in which the coordinator lists them already: write every
/// [`Effect::Blob`] durably; then append all [`Effect::Record`]s in one synced transaction; only
/// then perform the rest, in order. If a write fails, nothing of the rest is performed and the
/// program stops; starting again recovers from the journal.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Keep these bytes under their digest. Writing the same blob twice is harmless.
    Blob {
        /// SHA-256 of the bytes.
        digest: Digest,
        /// What to keep.
        bytes: Vec<u8>,
    },
    /// Append to the journal.
    Record(Record),
    /// Put a frame on a site's stream; dropped when there is none.
    Send {
        /// To whom.
        site: SiteId,
        /// What.
        frame: wire::CoordinatorFrame,
    },
    /// End a site's stream.
    Disconnect {
        /// Whose stream.
        site: SiteId,
    },
    /// Answer a request that carried this number.
    Reply {
        /// The request's number.
        reply: u64,
        /// What to answer.
        result: Result<Answer, Rejection>,
    },
    /// The blob with this digest, a masked update or an old state of a server optimizer, is no longer
    /// needed. Forgetting twice, or what was never there, is harmless; so is keeping it.
    Forget {
        /// Which blob.
        digest: Digest,
    },
}

/// A request was done, and what it changed is durable.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one for a request, and moved, never kept in numbers"
)]
pub enum Answer {
    /// The identity key waits for the next roster; the driver may make a certificate.
    Enrolled {
        /// The admitted name.
        name: SiteId,
        /// The admitted role.
        role: Role,
        /// The newest roster, if one was published.
        roster: Option<Digest>,
    },
    /// The roster is in force.
    RosterPublished {
        /// Digest of its verbatim bytes.
        digest: Digest,
        /// Its version.
        version: u64,
    },
    /// The task is known and will run; also said when it was known before.
    Submitted {
        /// Digest of the manifest's verbatim bytes.
        task: Digest,
    },
    /// The task is cancelled, now or already before.
    Cancelled(wire::TaskStatus),
}

/// A peer's message or request was bad: nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Rejection {
    /// Stable and lower-case; [`codes`] lists those made here, others come from the crates below.
    pub code: &'static str,
    /// For people, with public ids and counts only.
    pub detail: String,
}

impl Rejection {
    /// A rejection with a code and a text for people.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl From<koinon_proto::WireError> for Rejection {
    fn from(error: koinon_proto::WireError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<koinon_proto::id::IdError> for Rejection {
    fn from(error: koinon_proto::id::IdError) -> Self {
        koinon_proto::WireError::from(error).into()
    }
}

impl From<&Rejection> for wire::Rejection {
    fn from(rejection: &Rejection) -> Self {
        Self { code: rejection.code.to_owned(), detail: rejection.detail.clone() }
    }
}

/// The codes of rejections, and of rounds and tasks that ended without a result.
pub mod codes {
    /// The roster does not speak for this peer: unknown, revoked, expired or of another role.
    pub const NOT_A_MEMBER: &str = "not_a_member";
    /// The message is about a session that does not exist here.
    pub const UNKNOWN_SESSION: &str = "unknown_session";
    /// The session is over, or its phase is.
    pub const LATE: &str = "late";
    /// The session has not come to this message yet.
    pub const EARLY: &str = "early";
    /// The site is not in the session's cohort, or was left out of it.
    pub const NOT_INVITED: &str = "not_invited";
    /// The site said something else before, and that counts.
    pub const EQUIVOCATION: &str = "equivocation";
    /// The aggregation refused the message.
    pub const BAD_MESSAGE: &str = "bad_message";
    /// An upload that is not what its signed report announced.
    pub const BAD_UPLOAD: &str = "bad_upload";
    /// An admission that is not the consortium's, or has expired.
    pub const BAD_ADMISSION: &str = "bad_admission";
    /// An admission that was used with another key.
    pub const ADMISSION_SPENT: &str = "admission_spent";
    /// The enrolment does not prove possession of its key, or is malformed.
    pub const BAD_ENROLMENT: &str = "bad_enrolment";
    /// More waits than may wait.
    pub const TOO_MANY: &str = "too_many";
    /// The roster is not the consortium's, or not one that can be used here.
    pub const BAD_ROSTER: &str = "bad_roster";
    /// The roster is older than the one in force, or does not follow it.
    pub const ROSTER_ROLLBACK: &str = "roster_rollback";
    /// The manifest is not one.
    pub const BAD_MANIFEST: &str = "bad_manifest";
    /// A blob that the manifest names was not handed in.
    pub const BLOB_MISSING: &str = "blob_missing";
    /// A blob is not what the manifest says it is.
    pub const BAD_BLOB: &str = "bad_blob";
    /// The start names a version that is not known here.
    pub const UNKNOWN_VERSION: &str = "unknown_version";
    /// The coordinator signed a head of its log of posted keys that the log does not have any more.
    pub const KEY_LOG_LOST: &str = "key_log_lost";
    /// No such task.
    pub const UNKNOWN_TASK: &str = "unknown_task";
    /// The task has ended.
    pub const TASK_ENDED: &str = "task_ended";

    /// Outcome: a new roster came while the sites trained; the round begins anew under it.
    pub const ROSTER_CHANGED: &str = "roster_changed";
    /// Outcome: too few sites can still answer.
    pub const TOO_FEW: &str = "too_few";
    /// Outcome: the round's budget is used up.
    pub const DEADLINE: &str = "deadline";
    /// Outcome: an operator ended the task.
    pub const CANCELLED: &str = "cancelled";
    /// Outcome: the sum could not be opened, or was not one that honest sites can make.
    pub const UNOPENED: &str = "unopened";
    /// Outcome: reveals had left for these parameters, so no honest site takes part in a second
    /// session on them, and no other parameters can be made.
    pub const SPENT: &str = "spent";
    /// Outcome: the sum was opened, but no version can be made of it.
    pub const BAD_SUM: &str = "bad_sum";
}
