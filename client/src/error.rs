//! What the client says when it will not or cannot: refusals, peer faults, and errors of this site.
//!
//! Three faults have three answers. The site's own veto is a [`Refusal`]: it has a stable code and
//! may be told to the coordinator. A bad message of a peer is a [`Fault`]: nothing changes and it is
//! only noted here. Everything of this site's own world (files, data, state) is an [`Error`]. This is
//! deliberately not a place for free text that leaves the site: only codes do. Start at [`Refusal`].

use thiserror::Error;

use crate::durable::StateError;
use crate::ledger::LedgerError;
use crate::policy::PolicyError;

/// An error of this site: nothing that a peer did.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The policy file is unusable.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The durable state cannot be resumed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The ledger cannot be written or does not verify.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal, $text:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* #[error($text)] $variant,)*
        }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable word that the wire and the documentation use.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }
        }
    };
}

codes! {
    /// Why the site's policy says no to a task or to a round. The code may leave the site.
    Refusal {
        /// The operator of the site paused it.
        Paused = "paused", "the site is paused";
        /// Nobody at the site approved this task's digest.
        NotApproved = "not_approved", "the task is not approved at this site";
        /// The task's kind is not in `tasks.kinds` of the policy.
        KindForbidden = "kind_forbidden", "the policy does not permit this kind of task";
        /// The manifest is not one this program can check.
        ManifestInvalid = "manifest_invalid", "the task's manifest does not pass its checks";
        /// Who shares with whom withstands fewer colluding sites than the policy or the task says.
        GraphTooWeak = "graph_too_weak", "the cohort withstands fewer colluding sites than the policy asks for";
        /// The smallest cohort is under the policy's floor.
        CohortTooSmall = "cohort_too_small", "the smallest cohort is under the policy's floor";
        /// The clip or the bound is over the policy's limit.
        BoundTooLarge = "bound_too_large", "the clip or the bound of an update is over the policy's limit";
        /// The encoding keeps more fractional bits than the policy permits.
        TooManyBits = "too_many_bits", "the encoding keeps more bits than the policy permits";
        /// The task wants more rounds than the policy permits.
        TooManyRounds = "too_many_rounds", "the task wants more rounds than the policy permits";
        /// A round sends more bytes than the policy permits.
        RoundTooLarge = "round_too_large", "a round would send more bytes than the policy permits";
        /// The session speaks an older protocol than the policy permits.
        ProtocolTooOld = "protocol_too_old", "the session's protocol version is under the policy's minimum";
        /// The session's roster is not the newest that this site verified.
        RosterMismatch = "roster_mismatch", "the session does not use the newest roster this site verified";
        /// The plan of the session is malformed or contradicts itself.
        PlanInvalid = "plan_invalid", "the plan of the session does not pass its checks";
        /// The plan is not bound to what the invitation names.
        ContextMismatch = "context_mismatch", "the plan is not bound to the task, round and version it names";
        /// The encoding differs from what the approved task gives.
        EncodingMismatch = "encoding_mismatch", "the encoding differs from what the approved task gives";
        /// A file named by digest is missing or malformed.
        BlobInvalid = "blob_invalid", "a file that the task names is missing or malformed";
        /// These parameters were already opened in another session.
        Spent = "spent", "a sum over these parameters was already opened with this site's help";
        /// Statistics under this feature plan were already opened, in this task or in another.
        StatisticsOpened = "statistics_opened", "the statistics under this feature plan were already opened";
        /// This session was left; its keys are single-use.
        SessionLeft = "session_left", "this session was left before and is never entered again";
        /// The state holds as many sessions as it can.
        StateFull = "state_full", "the site remembers as many sessions as it can";
        /// The policy asks for differential privacy, and the task has none.
        PrivacyRequired = "privacy_required", "the policy permits only tasks with differential privacy";
        /// Epsilon, delta or the unit promise less than the policy asks for.
        PrivacyTooWeak = "privacy_too_weak", "the task's epsilon, delta, unit or colluding sites promise less than the policy asks for";
        /// The noise does not keep what the manifest says, or something would be opened without noise.
        PrivacyUnsound = "privacy_unsound", "the task's noise does not keep the epsilon it states";
        /// The clip does not follow from the task and from what earlier rounds are said to have opened.
        ClipMismatch = "clip_mismatch", "the round's clip does not follow from the task and the shares it names";
        /// The task, or this site over its life, has spent what it may.
        PrivacySpent = "privacy_spent", "what this site may spend in privacy is spent";
        /// The log of posted keys is not the one, or not as long as the one, that this site took before.
        KeyLog = "key_log", "the log of posted keys does not extend the one that this site took before";
        /// What the invitation names of posted keys is not the members', or not in the log.
        KeysUnproven = "keys_unproven", "the posted keys that the invitation names are not proven";
        /// The cut is not among the permitted ones.
        CutForbidden = "cut_forbidden", "the policy does not permit this cut of this model";
    }
}

codes! {
    /// What was wrong with a message of a peer. Nothing changed; it is noted at the site only.
    Fault {
        /// Not signed by the coordinator of the roster, or not addressed to this site.
        Envelope = "envelope", "mail is not signed by the coordinator of the roster for this site";
        /// The body cannot be decoded or is empty.
        Malformed = "malformed", "the message cannot be decoded";
        /// The message or a part of it is over its limit.
        Oversized = "oversized", "the message is over its limit";
        /// The message does not fit the step the session is in.
        OutOfStep = "out_of_step", "the message does not fit the step the session is in";
        /// The message is for a session this site is not in.
        UnknownSession = "unknown_session", "the message is for a session this site is not in";
        /// The same question was asked before with other content.
        Changed = "changed", "the same question was asked before with other content";
        /// The participants, shares, survivors or the request do not verify.
        Unverified = "unverified", "the protocol's own checks refused the message";
        /// A receipt for something that was never sent.
        Receipt = "receipt", "a receipt names something that was never sent";
        /// The published roster does not verify or is not newer.
        Roster = "roster", "the roster does not verify against the consortium key or is not newer";
        /// Bytes that do not have the digest they were asked for by.
        Digest = "digest", "bytes do not have the digest they were asked for by";
        /// The log of posted keys was rolled back or forked, or is not proven to have only grown.
        KeyLog = "key_log", "the log of posted keys does not extend the one that this site took before";
        /// Too many offers, more than the site keeps.
        TooMany = "too_many", "more offers than the site keeps";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_distinct_words() {
        let codes: Vec<&str> = Refusal::ALL.iter().map(|refusal| refusal.code()).collect();
        let distinct: BTreeSet<&str> = codes.iter().copied().collect();
        assert_eq!(codes.len(), distinct.len());
        for code in codes.into_iter().chain(Fault::ALL.iter().map(|fault| fault.code())) {
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
        }
    }
}
