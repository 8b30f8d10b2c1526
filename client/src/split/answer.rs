//! An answer, and who gave it.
//!
//! Every question gets one; where it came from is always said. Start at [`Answer`].

use koinon_model::program::Value;

/// An answer to one question.
#[derive(Clone, PartialEq)]
pub struct Answer {
    /// The number that [`Splitter::ask`] gave.
    pub request: u64,
    /// The network's outputs.
    pub outputs: Vec<Value>,
    /// Who ran the ranges that the placement gives to servers.
    pub origin: Origin,
}

/// Who ran the ranges that the placement gives to servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// There are none: the placement keeps everything here.
    Here,
    /// The partition servers.
    Split,
    /// This site, because no answer came in time.
    LocalDeadline,
    /// This site, because no server was connected.
    LocalDisconnected,
    /// This site, because a server rejected the question with this code.
    LocalRejected(String),
}
