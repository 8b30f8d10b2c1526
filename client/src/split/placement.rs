//! Where each range of a network runs: a list of (range → place).
//!
//! All here, head here and tail there, a U (the outputs stay here too), a chain of servers: the same
//! list. The first range is always here and has a node at least, so that no raw input ever crosses;
//! what leaves is between two ranges, and the site's policy must permit it. Start at [`Placement`].

use koinon_model::codec::Codec;
use koinon_model::network::Network;
use koinon_proto::Digest;

use super::SplitError;
use crate::error::Refusal;
use crate::policy::Policy;

/// Who runs a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// This site.
    Here,
    /// A partition server, by its place in the site's list.
    Server(u16),
}

/// A range of nodes: from where the one before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Node after the last.
    pub to: u32,
    /// Who runs it.
    pub place: Place,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The ranges in order; the last ends with the network.
    pub segments: Vec<Segment>,
    /// How what leaves is written.
    pub codec: Codec,
    /// How long an answer is waited for before the site gives it itself.
    pub deadline_ms: u32,
}

impl Placement {
    /// Everything here.
    #[must_use]
    pub fn here(nodes: u32) -> Self {
        Self::of(&[(nodes, Place::Here)])
    }

    /// The head here, the rest at the first server.
    #[must_use]
    pub fn tail(cut: u32, nodes: u32) -> Self {
        Self::of(&[(cut, Place::Here), (nodes, Place::Server(0))])
    }

    /// Head and last part here, the middle at the first server: labels and outputs stay here too.
    #[must_use]
    pub fn u_shape(from: u32, to: u32, nodes: u32) -> Self {
        Self::of(&[(from, Place::Here), (to, Place::Server(0)), (nodes, Place::Here)])
    }

    /// The head here, then a server for each range between the cuts.
    #[must_use]
    pub fn chain(cuts: &[u32], nodes: u32) -> Self {
        let ends = cuts.iter().copied().chain([nodes]);
        let segments = ends.enumerate().map(|(at, to)| {
            let server = at.checked_sub(1).and_then(|server| u16::try_from(server).ok());
            Segment { to, place: server.map_or(Place::Here, Place::Server) }
        });
        Self { segments: segments.collect(), ..Self::of(&[]) }
    }

    /// Ranges by their ends; exact, with a second's patience.
    #[must_use]
    pub fn of(ends: &[(u32, Place)]) -> Self {
        let segments = ends.iter().map(|&(to, place)| Segment { to, place }).collect();
        Self { segments, codec: Codec::F32, deadline_ms: 1000 }
    }

    /// The same with another codec.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    /// The same with another patience.
    #[must_use]
    pub fn with_deadline(self, deadline_ms: u32) -> Self {
        Self { deadline_ms, ..self }
    }

    /// Nodes of one of its ranges.
    #[must_use]
    pub fn range(&self, segment: usize) -> (u32, u32) {
        let from = segment.checked_sub(1).map_or(0, |before| self.segments[before].to);
        (from, self.segments[segment].to)
    }

    /// Positions at which something leaves this site for a server.
    pub fn crossings(&self) -> impl Iterator<Item = u32> {
        let remote = |at: &usize| self.segments[*at].place != Place::Here;
        (0..self.segments.len()).filter(remote).map(|at| self.range(at).0)
    }

    /// Whether nothing leaves.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.crossings().next().is_none()
    }

    /// Holds the placement to the network and to the site's policy.
    ///
    /// # Errors
    /// [`SplitError::Range`] for ranges that are none or cuts that are not legal,
    /// [`SplitError::Forbidden`] for a cut that the policy does not permit.
    pub fn check(
        &self,
        network: &Network,
        names: (&Digest, &Digest),
        policy: &Policy,
    ) -> Result<(), SplitError> {
        let nodes = network.n_nodes();
        if self.segments.is_empty() {
            return Err(SplitError::Range { from: 0, to: 0, nodes });
        }
        let first_here = self.segments.first().is_some_and(|first| first.place == Place::Here);
        let ends = self.segments.last().is_some_and(|last| last.to as usize == nodes);
        for at in 0..self.segments.len() {
            let (from, to) = self.range(at);
            let range = SplitError::Range { from, to, nodes };
            if from >= to || to as usize > nodes || !first_here || !ends {
                return Err(range);
            }
            // Every end inside the network is a cut, whichever side it is crossed from.
            let legal = |position| network.cut(position).is_some_and(|cut| cut.is_legal());
            if (at > 0 && !legal(from)) || self.segments.len() > SEGMENTS_MAX {
                return Err(range);
            }
        }
        let (model, version) = names;
        for position in self.crossings() {
            if !policy.permits_cut(model, version, position) {
                return Err(SplitError::Forbidden { position, refusal: Refusal::CutForbidden });
            }
        }
        Ok(())
    }
}

/// Ranges of one placement.
const SEGMENTS_MAX: usize = 16;
