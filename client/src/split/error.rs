//! Why a question cannot be asked.
//!
//! Trouble with a server is none of these: then another one answers, or the site. Start at
//! [`SplitError`].

use koinon_model::codec::CodecError;
use koinon_model::network::NetworkError;
use thiserror::Error;

use crate::error::Refusal;

/// Why a question cannot be asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SplitError {
    /// The policy does not permit the cut.
    #[error(
        "cut {position} of this model: {refusal}; add it to [[split]] in the policy if it should be"
    )]
    Forbidden {
        /// The cut.
        position: u32,
        /// The refusal, with its code.
        refusal: Refusal,
    },
    /// A range that the network does not have, or that does not begin at a legal cut.
    #[error(
        "nodes {from}..{to} cannot be placed: the network has {nodes} nodes, ranges follow each other \
         to its end, the first is here, and each begins where `koinon model cuts` shows a cut"
    )]
    Range {
        /// First node.
        from: u32,
        /// Node after the last.
        to: u32,
        /// The network's nodes.
        nodes: usize,
    },
    /// Too many unanswered questions.
    #[error("{0} questions are unanswered; wait for answers first")]
    Busy(usize),
    /// More than one message holds.
    #[error("{bytes} bytes would cross the cut; at most {bytes_max} at once: ask for fewer rows")]
    TooLarge {
        /// Bytes of the activation.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A row holds NaN or an infinity, of which layers may make a number that means nothing.
    #[error("row {row} holds a value that is no finite number; prepare rows by the feature plan")]
    NotFinite {
        /// The row, from 0.
        row: usize,
    },
    /// A sequence that is not, or has a step on its way.
    #[error("there is no such sequence, or its last step is not answered yet")]
    NoSequence,
    /// A sequence of which the site would have to keep too much.
    #[error("the sequence has sent more than {bytes_max} bytes; begin another")]
    Long {
        /// The limit.
        bytes_max: usize,
    },
    /// The network refuses.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// What crosses cannot be written.
    #[error(transparent)]
    Codec(#[from] CodecError),
}
