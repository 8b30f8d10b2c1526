//! What can be wrong with a peer's message, and why a session cannot be opened.
//!
//! A [`Rejection`] is a peer's fault and has a stable code; it names sites, indices and counts, and
//! never holds a value. Our own faults are assertions, not errors.

use crate::codec::CodecError;
use crate::encode::PlanError;
use crate::parameters::ParameterError;

/// A peer's message was not accepted; what was known before still holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The bytes are not a message of this protocol.
    #[error("malformed message: {0}")]
    Malformed(#[from] CodecError),
    /// The plan's parts do not fit together.
    #[error("session plan refused: {0}")]
    Plan(#[from] PlanError),
    /// The plan's graph, threshold, committee or quorum are too weak for those who take part.
    #[error("session parameters refused: {0}")]
    Parameters(#[from] ParameterError),
    /// What a participant is told does not prove what it says.
    #[error("the proof that {site:?} takes part, with these keys, does not hold")]
    BadProof {
        /// Whose bundle it is.
        site: String,
    },
    /// A notice that shows other bundles than those of the receiver and its neighbours.
    #[error("the notice is not of this participant and its neighbours: {site:?} is {what}")]
    WrongNeighbours {
        /// Who is missing or too much.
        site: String,
        /// Which of the two.
        what: &'static str,
    },
    /// A message of another session, plan, set of participants or set of dealers.
    #[error("{what} of {site:?} belongs to another session or to other terms")]
    WrongSession {
        /// Who is said to have sent it.
        site: String,
        /// The kind of message.
        what: &'static str,
    },
    /// The roster has no such member.
    #[error("{site:?} is not in the roster: it counts towards no floor")]
    UnknownSite {
        /// The name offered.
        site: String,
    },
    /// The index names no one who could have sent this.
    #[error("{what} with index {index}, which is not one of those awaited")]
    UnknownIndex {
        /// The index offered.
        index: u16,
        /// The kind of message.
        what: &'static str,
    },
    /// The signature is not the named site's.
    #[error("the signature under {what} is not that of {site:?}")]
    BadSignature {
        /// Whose signature it should be.
        site: String,
        /// The kind of message.
        what: &'static str,
    },
    /// A public key of small order, with which nothing secret can be agreed.
    #[error("{site:?} offers a public key of small order")]
    BadKey {
        /// Whose key it is.
        site: String,
    },
    /// The same site or key twice where all must differ.
    #[error("{site:?} appears twice, by its name or by one of its keys")]
    Duplicate {
        /// The second one's name.
        site: String,
    },
    /// Participants out of the canonical order of names.
    #[error("{site:?} is out of order: participants are in ascending order of names")]
    Order {
        /// The first name that is out of order.
        site: String,
    },
    /// A set that the receiver should be in, without it.
    #[error("this site is not among the {what}")]
    NotIncluded {
        /// Which set.
        what: &'static str,
    },
    /// Fewer than the floor or the threshold.
    #[error("{have} {what} where at least {need} are needed")]
    TooFew {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        have: usize,
        /// How many there must be.
        need: usize,
    },
    /// More than a session or its plan carries.
    #[error("{have} {what} where at most {max} are possible")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        have: usize,
        /// How many there may be.
        max: usize,
    },
    /// Two different messages where a site may send one.
    #[error("{site:?} sent a second, different {what}")]
    Equivocation {
        /// Who did.
        site: String,
        /// The kind of message.
        what: &'static str,
    },
    /// A message for a step that is not the present one.
    #[error("{what} cannot be taken at this step of the session")]
    OutOfTurn {
        /// The kind of message.
        what: &'static str,
    },
    /// An update that is not the one reported, or not of the planned length.
    #[error("the masked update of {site:?} is not the one it reported, or not as long as planned")]
    WrongUpdate {
        /// Whose update.
        site: String,
    },
    /// Another survivor set than the one this site has signed or answered.
    #[error("another set of survivors than the one already answered: one set per session, ever")]
    DifferentSet,
    /// The site's own update was encoded for another plan.
    #[error("the update was encoded for another plan than the session's")]
    WrongEncoding,
}

impl Rejection {
    /// A code that does not change between versions.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Plan(_) => "bad_plan",
            Self::Parameters(error) => error.code(),
            Self::BadProof { .. } => "bad_proof",
            Self::WrongNeighbours { .. } => "wrong_neighbours",
            Self::WrongSession { .. } => "wrong_session",
            Self::UnknownSite { .. } => "unknown_site",
            Self::UnknownIndex { .. } => "unknown_index",
            Self::BadSignature { .. } => "bad_signature",
            Self::BadKey { .. } => "bad_key",
            Self::Duplicate { .. } => "duplicate",
            Self::Order { .. } => "order",
            Self::NotIncluded { .. } => "not_included",
            Self::TooFew { .. } => "too_few",
            Self::TooMany { .. } => "too_many",
            Self::Equivocation { .. } => "equivocation",
            Self::OutOfTurn { .. } => "out_of_turn",
            Self::WrongUpdate { .. } => "wrong_update",
            Self::DifferentSet => "different_set",
            Self::WrongEncoding => "wrong_encoding",
        }
    }

    /// The site that the message is said to come from, where that is known.
    #[must_use]
    pub fn site(&self) -> Option<&str> {
        match self {
            Self::WrongSession { site, .. }
            | Self::UnknownSite { site }
            | Self::BadProof { site }
            | Self::WrongNeighbours { site, .. }
            | Self::BadSignature { site, .. }
            | Self::BadKey { site }
            | Self::Duplicate { site }
            | Self::Order { site }
            | Self::Equivocation { site, .. }
            | Self::WrongUpdate { site } => Some(site),
            _ => None,
        }
    }
}

/// A share that could not be used; the session goes on without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// Index of the participant whose secret the share is of.
    pub dealer: u16,
    /// The name of the participant whose message held the bad share: the dealer while sharing, the
    /// revealing site afterwards. A relay that garbled a sealed share looks like its dealer.
    pub site: String,
}

/// Why a session does not open. Whoever is at fault is named where it can be known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Not as far yet.
    #[error("the session is not at its last step yet")]
    OutOfTurn,
    /// Too few good shares of one site's secret have come in.
    #[error("{have} good shares of the secret of {site:?} where {need} are needed")]
    TooFewShares {
        /// Whose secret.
        site: String,
        /// How many there are.
        have: usize,
        /// How many there must be.
        need: usize,
    },
    /// The shares are as committed to, but what they give is not the secret that was promised.
    #[error("{site:?} dealt shares of something else than its secret")]
    FalseDealer {
        /// Who dealt them.
        site: String,
    },
    /// The opened sum is outside what the plan permits: a site broke its bounds, or masks did not
    /// cancel because sites were told different things.
    #[error("entry {entry} of field {field:?} of the opened sum is outside the plan's range")]
    OutOfRange {
        /// The field.
        field: String,
        /// Which entry of the field.
        entry: usize,
    },
}

impl OpenError {
    /// A code that does not change between versions.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::OutOfTurn => "out_of_turn",
            Self::TooFewShares { .. } => "too_few_shares",
            Self::FalseDealer { .. } => "false_dealer",
            Self::OutOfRange { .. } => "out_of_range",
        }
    }

    /// The site that the session fails on, where that is known.
    #[must_use]
    pub fn site(&self) -> Option<&str> {
        match self {
            Self::TooFewShares { site, .. } | Self::FalseDealer { site } => Some(site),
            Self::OutOfTurn | Self::OutOfRange { .. } => None,
        }
    }
}
