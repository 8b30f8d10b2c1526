//! Every maximum of the wire in one place, related by assertions at compile time.
//!
//! A limit is what a hostile peer may cost, not what a good deployment needs; deliberately constants
//! and no configuration, so that two sides never disagree on what is too much. Lengths in bytes are
//! of the encoded form. The secure aggregation's canonical messages have limits of their own.

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// One gRPC message in either direction.
pub const FRAME_BYTES_MAX: usize = 8 * MIB;
/// What an envelope, and the frame around it, add to a body: names, signature, numbers, tags.
pub const ENVELOPE_OVERHEAD_BYTES_MAX: usize = KIB;
/// The body of one envelope.
pub const ENVELOPE_BODY_BYTES_MAX: usize = 4 * MIB;

/// Unacknowledged messages in one direction of one mailbox.
pub const MAILBOX_MAIL_MAX: usize = 1024;
/// Unacknowledged bytes in one direction of one mailbox.
pub const MAILBOX_BYTES_MAX: usize = 16 * MIB;

/// An uploaded chunk, unless the coordinator is set up otherwise.
pub const CHUNK_BYTES_DEFAULT: usize = 64 * KIB;
/// The smallest chunk that may be configured.
pub const CHUNK_BYTES_MIN: usize = KIB;
/// The largest chunk that may be configured.
pub const CHUNK_BYTES_MAX: usize = MIB;
/// Chunks of one upload.
pub const CHUNKS_MAX: u32 = 1 << 18;
/// One piece of a download.
pub const BLOB_CHUNK_BYTES: usize = 256 * KIB;
/// Anything addressed by digest: parameters, specs, plans, masked updates.
pub const BLOB_BYTES_MAX: u64 = 4 << 30;

/// A task manifest.
pub const MANIFEST_BYTES_MAX: usize = 64 * KIB;
/// Blobs handed in with a task: spec, feature plan, training plan, start parameters, fitted statistics.
pub const TASK_BLOBS_MAX: usize = 8;
/// Tasks a coordinator keeps, running or ended.
pub const TASKS_MAX: usize = 1024;
/// Rounds of one task.
pub const ROUNDS_MAX: u32 = 10_000;
/// Attempts at one round.
pub const ATTEMPTS_MAX: u32 = 100;
/// Pairs of posted keys that an invitation may name: where everybody shares with everybody.
pub const NAMED_KEYS_MAX: usize = 64;
/// What the posted keys in an invitation may take, proofs and all.
pub const NAMED_KEYS_BYTES_MAX: usize = 128 * KIB;
/// Hashes in a proof about the log of posted keys.
pub const LOG_PROOF_MAX: usize = 64;

/// One round's deadline budget: 30 days.
pub const BUDGET_MS_MAX: u64 = 30 * 24 * 3_600_000;

/// The smallest cohort that a manifest may allow: with two, each learns the other's update.
pub const COHORT_MIN: u16 = 3;
/// The largest cohort. Above 64 sites each shares with some of the others.
pub const COHORT_MAX: u16 = 16_384;
/// Members of a roster.
pub const ROSTER_MEMBERS_MAX: usize = 100_000;
/// Enrolments that wait for a roster.
pub const PENDING_MAX: usize = 1024;
/// Connections of sites at one time: the largest cohort, and some who connect again.
pub const CONNECTIONS_MAX: usize = 20_000;

/// A member's name.
pub const NAME_BYTES_MAX: usize = 64;
/// A task's name.
pub const TASK_NAME_BYTES_MAX: usize = 64;
/// A program's name and version in the first message.
pub const PROGRAM_BYTES_MAX: usize = 64;
/// A stable code: of a refusal, a failure, a rejection.
pub const CODE_BYTES_MAX: usize = 64;
/// The text beside a code.
pub const DETAIL_BYTES_MAX: usize = KIB;

/// A certificate signing request.
pub const CERTIFICATE_REQUEST_BYTES_MAX: usize = 8 * KIB;
/// The signed part of an invitation.
pub const ADMISSION_BYTES_MAX: usize = KIB;
/// Certificates in a chain.
pub const CERTIFICATE_CHAIN_MAX: usize = 8;

/// The boundary in one activation or its answer.
pub const BOUNDARY_BYTES_MAX: usize = 16 * MIB;
/// Values in it: a codec may write several in a byte.
pub const BOUNDARY_VALUES_MAX: usize = BOUNDARY_BYTES_MAX / 4;
/// One message between a site and a partition server.
pub const INFERENCE_FRAME_BYTES_MAX: usize = BOUNDARY_BYTES_MAX + MIB;
/// What a site keeps of one sequence, to make a lost server's memory of it again.
pub const SEQUENCE_BYTES_MAX: usize = 64 * MIB;
/// Unanswered activations of one connection.
pub const ACTIVATIONS_IN_FLIGHT_MAX: usize = 256;

const _: () = {
    assert!(ENVELOPE_BODY_BYTES_MAX + ENVELOPE_OVERHEAD_BYTES_MAX <= FRAME_BYTES_MAX);
    assert!(3 * NAME_BYTES_MAX + 64 < ENVELOPE_OVERHEAD_BYTES_MAX);
    assert!(ENVELOPE_BODY_BYTES_MAX + ENVELOPE_OVERHEAD_BYTES_MAX <= MAILBOX_BYTES_MAX);
    assert!(CHUNK_BYTES_MIN <= CHUNK_BYTES_DEFAULT && CHUNK_BYTES_DEFAULT <= CHUNK_BYTES_MAX);
    assert!(CHUNK_BYTES_MAX + KIB <= FRAME_BYTES_MAX && BLOB_CHUNK_BYTES + KIB <= FRAME_BYTES_MAX);
    // The largest blob can be uploaded in chunks of the usual size.
    assert!(CHUNKS_MAX as u64 * CHUNK_BYTES_DEFAULT as u64 >= BLOB_BYTES_MAX);
    assert!(MANIFEST_BYTES_MAX + KIB <= ENVELOPE_BODY_BYTES_MAX);
    // A check-in names every task by its digest.
    assert!(TASKS_MAX * 40 + KIB <= ENVELOPE_BODY_BYTES_MAX);
    assert!(NAMED_KEYS_BYTES_MAX + LOG_PROOF_MAX * 34 + KIB <= ENVELOPE_BODY_BYTES_MAX);
    assert!(COHORT_MIN >= 3 && COHORT_MIN <= COHORT_MAX);
    assert!(CONNECTIONS_MAX > COHORT_MAX as usize);
    // Who takes part: all names, and of at most 4,096 neighbours a bundle and a path of 14 digests.
    assert!(
        COHORT_MAX as usize * (NAME_BYTES_MAX + 1) + 4_096 * (300 + 14 * 32)
            < ENVELOPE_BODY_BYTES_MAX
    );
};
