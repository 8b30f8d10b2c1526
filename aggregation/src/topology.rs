//! Who holds shares of whose secrets, how many of them open one, and whose signatures fix the
//! survivors: all that the two topologies, and with them the two versions of the protocol, answer
//! differently. What is written differently is in `message`.
//!
//! Deliberately not here: how large graphs and thresholds must be ([`crate::parameters`]), and how a
//! graph follows from a seed ([`crate::graph`]). [`Scheme`] is what the coordinator sees, [`Seat`]
//! one participant's part of it.

use crate::codec::CodecError;
use crate::encode::PlanError;
use crate::graph::{Graph, committee, is_degree};
use crate::hash::{Digest, hash};
use crate::indices::Indices;
use crate::parameters::{self, ParameterError, Sparse};
use crate::participants::COMPLETE_MAX;
use crate::plain::has_no_graph;
use crate::plan::threshold;

/// Who holds shares of whose secrets, and with it the version of the protocol.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Topology {
    /// Everybody shares with everybody: up to 64 sites, protocol version 1.
    Complete,
    /// Each shares with its neighbours in a random graph: protocol version 2.
    Sparse(Sparse),
}

/// A version of the protocol: it is in every plan and in every signed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Shares for everybody.
    Complete = 1,
    /// Shares for neighbours.
    Sparse = 2,
}

impl Version {
    pub(crate) fn number(self) -> u32 {
        self as u32
    }

    pub(crate) fn from_number(number: u32) -> Result<Self, CodecError> {
        match number {
            1 => Ok(Self::Complete),
            2 => Ok(Self::Sparse),
            other => Err(CodecError::Version(other)),
        }
    }
}

impl Topology {
    pub(crate) fn version(&self) -> Version {
        match self {
            Self::Complete => Version::Complete,
            Self::Sparse(_) => Version::Sparse,
        }
    }
}

/// How many survivors there must be on every arc of the ring, if the plan's numbers are good enough
/// for `n` participants; none where everybody shares with everybody.
///
/// # Errors
/// As [`parameters::check`].
pub(crate) fn arc_min(topology: &Topology, n: usize) -> Result<u16, ParameterError> {
    match topology {
        Topology::Complete => Ok(0),
        none if has_no_graph(none) => Ok(0),
        Topology::Sparse(sparse) => parameters::survivors_on_an_arc(sparse, n).map(narrow),
    }
}

/// How many of whom it takes, for `n` participants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) n: usize,
    /// Good shares that open a secret.
    pub(crate) threshold: usize,
    /// Whose signatures under a set of survivors count.
    pub(crate) signers: Indices,
    /// How many of them must have signed.
    pub(crate) quorum: usize,
}

/// The rules for some participants, and who holds whose shares.
pub(crate) struct Scheme {
    rules: Rules,
    /// `None`: all hold shares of all, their own included.
    graph: Option<Graph>,
}

impl Scheme {
    /// What follows for the `n` participants whose digest is given.
    ///
    /// # Errors
    /// [`PlanError::Range`] if the plan's numbers do not go with so many participants.
    pub(crate) fn new(
        topology: &Topology,
        participants: &Digest,
        n: usize,
    ) -> Result<Self, PlanError> {
        let Topology::Sparse(sparse) = topology else {
            if n > COMPLETE_MAX {
                return Err(PlanError::Range("the number of participants"));
            }
            let t = threshold(n);
            let signers = (0..n).collect();
            let rules = Rules { n, threshold: t, signers, quorum: t };
            return Ok(Self { rules, graph: None });
        };
        if has_no_graph(topology) {
            let rules = Rules { n: 0, threshold: 0, signers: Indices::default(), quorum: 0 };
            return Ok(Self { rules, graph: None });
        }
        let [degree, t, size, quorum] =
            [sparse.degree, sparse.threshold, sparse.committee, sparse.quorum].map(usize::from);
        if !is_degree(degree, n) || t < 2 || t > degree || size > n || quorum == 0 || quorum > size
        {
            return Err(PlanError::Range("the graph's degree, threshold, committee or quorum"));
        }
        let seed = hash("koinon/2/graph", &[participants]);
        let graph = Graph::derive(&seed, n, degree);
        let seed = hash("koinon/2/committee", &[participants]);
        let signers = committee(&seed, n, size).into_iter().collect();
        let rules = Rules { n, threshold: t, signers, quorum };
        Ok(Self { rules, graph: Some(graph) })
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Who holds shares of this one's secrets, in ascending order. Whoever holds shares of another
    /// has the other hold its own.
    pub(crate) fn holders(&self, dealer: usize) -> Vec<u16> {
        match &self.graph {
            None => (0..self.rules.n).map(narrow).collect(),
            Some(graph) => graph.neighbours(dealer).into_iter().map(narrow).collect(),
        }
    }

    /// The fewest of a set of participants on any arc of the ring that is as long as a
    /// neighbourhood reaches to one side; no limit where all are neighbours of all.
    pub(crate) fn fewest_on_an_arc(&self, set: &Indices) -> usize {
        self.graph
            .as_ref()
            .map_or(usize::MAX, |graph| graph.fewest_on_an_arc(&|index| set.contains(index)))
    }

    /// What the participant `me` needs to know of this.
    pub(crate) fn seat(self, me: usize) -> Seat {
        let peers = self.holders(me);
        let places = peers.iter().map(|&peer| self.place(usize::from(peer), me)).collect();
        Seat { me, peers, places, rules: self.rules }
    }

    /// At which place among the holders of `dealer` its peer `holder` is.
    fn place(&self, dealer: usize, holder: usize) -> u16 {
        match &self.graph {
            None => narrow(holder),
            Some(graph) if graph.degree() + 1 == self.rules.n => {
                narrow(holder - usize::from(holder > dealer))
            }
            Some(graph) => {
                let found = graph.neighbours(dealer).binary_search(&holder);
                narrow(found.expect("whose shares one holds, that one holds one's own"))
            }
        }
    }
}

/// One participant's place among the others.
pub(crate) struct Seat {
    /// Its index.
    pub(crate) me: usize,
    /// Who holds its shares, and whose shares it holds, in ascending order: itself too where
    /// everybody holds everybody's.
    pub(crate) peers: Vec<u16>,
    /// For each of the peers, at which place among that one's holders this participant is.
    pub(crate) places: Vec<u16>,
    pub(crate) rules: Rules,
}

impl Seat {
    /// At which place among the peers a participant is, if it is one.
    pub(crate) fn peer(&self, index: usize) -> Option<usize> {
        self.peers.binary_search(&u16::try_from(index).ok()?).ok()
    }

    /// The peers' indices with their places in the list.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.peers.iter().enumerate().map(|(at, &peer)| (at, usize::from(peer)))
    }
}

/// An index as it is held and written.
pub(crate) fn narrow(index: usize) -> u16 {
    u16::try_from(index).expect("sessions have at most 16,384 participants")
}
