//! A sequence on its way through a placement: what each range remembers, and what was sent to it.
//!
//! Where a range runs at a server, its memory is there. The site keeps, in memory only, what it sent for
//! every step; from that the memory can be made again, at another server or here, step by step as it
//! came to be, so that the continuation is the same to the last bit. Start at [`Sequence`].

use std::sync::Arc;

use koinon_model::codec::Activation;
use koinon_model::network::{Network, States};
use koinon_proto::limits;

use super::placement::{Place, Placement};
use super::{SplitError, step_out};
use koinon_model::crossing::Crossing;

/// Who has a range's memory, and after how many steps.
#[derive(Clone, Default)]
pub(super) enum Held {
    /// Nobody is known to.
    #[default]
    Nobody,
    /// A server.
    Server(u16, u32),
    /// This site.
    Here(States, u32),
}

/// See the module.
pub(super) struct Sequence {
    pub(super) placement: Arc<Placement>,
    /// Steps that were answered.
    pub(super) steps: u32,
    /// Whether a step is on its way.
    pub(super) busy: bool,
    /// By range.
    pub(super) held: Vec<Held>,
    /// By range of a server: what was sent at each step.
    sent: Vec<Vec<Vec<u8>>>,
    bytes: usize,
}

impl Sequence {
    pub(super) fn new(network: &Network, placement: Arc<Placement>) -> Self {
        let n = placement.segments.len();
        let held = (0..n).map(|at| {
            let (from, to) = placement.range(at);
            match placement.segments[at].place {
                Place::Here => Held::Here(network.start(from as usize..to as usize), 0),
                Place::Server(_) => Held::Nobody,
            }
        });
        let held = held.collect();
        Self { placement, steps: 0, busy: false, held, sent: vec![Vec::new(); n], bytes: 0 }
    }

    /// Keeps what is sent at the step that is on its way.
    pub(super) fn keep(&mut self, segment: usize, bytes: &[u8]) -> Result<(), SplitError> {
        self.bytes += bytes.len();
        if self.bytes > limits::SEQUENCE_BYTES_MAX {
            return Err(SplitError::Long { bytes_max: limits::SEQUENCE_BYTES_MAX });
        }
        self.sent[segment].push(bytes.to_vec());
        Ok(())
    }

    /// The steps that a server must be given so that the last of them can be answered: only that one
    /// if it has the memory, else all from the start.
    pub(super) fn to_send(&self, segment: usize, server: u16) -> Vec<(u32, &[u8])> {
        let all = (0u32..).zip(self.sent[segment].iter().map(Vec::as_slice));
        let last = self.steps;
        let has = matches!(self.held[segment], Held::Server(s, n) if s == server && n == last);
        all.filter(|(step, _)| !has || *step == last).collect()
    }

    /// Takes a step of a server's range here, after making the memory again if it is not here.
    pub(super) fn step_here(
        &mut self,
        network: &Network,
        segment: usize,
    ) -> Result<Crossing, SplitError> {
        let (from, to) = self.placement.range(segment);
        let (from, to) = (from as usize, to as usize);
        let (mut states, known) = match std::mem::take(&mut self.held[segment]) {
            Held::Here(states, steps) => (states, steps),
            _ => (network.start(from..to), 0),
        };
        let mut out = None;
        for bytes in self.sent[segment].iter().skip(known as usize) {
            let values = Activation::decode(bytes, limits::BOUNDARY_VALUES_MAX)?;
            let at = network.crossing(from, values)?;
            out = Some(step_out(network, to, &at, &mut states)?);
        }
        let steps = u32::try_from(self.sent[segment].len()).unwrap_or(u32::MAX);
        self.held[segment] = Held::Here(states, steps);
        out.ok_or(SplitError::NoSequence)
    }
}
