//! Split inference at the site: head → codec → activation, and back, range by range.
//!
//! Only what crosses at cuts that the site's policy permits becomes an activation; raw input never does.
//! Every question gets an answer: from the partition servers, or, when its deadline passes, a server
//! rejects it or the connection is lost, from another server or from this site, and the answer says
//! which ([`Origin`]). A sequence (the keys and values that attention has seen) is remembered where its
//! ranges run, and made again elsewhere when a server is lost. It is deliberately not a connection: it
//! makes and takes messages, and the caller carries them through the egress door. Start at
//! [`Splitter::new`].

mod answer;
mod error;
mod placement;
mod sequence;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::policy::Policy;
use koinon_model::codec::{Activation, Codec};
use koinon_model::crossing::Crossing;
use koinon_model::network::{Network, States};
use koinon_model::program::Value;
use koinon_proto::{Digest, Millis, limits, wire};

pub use answer::{Answer, Origin};
pub use error::SplitError;
pub use placement::{Place, Placement, Segment};
use sequence::{Held, Sequence};
pub use values::{inputs_of_rows, numbers};

/// What to do for a question.
pub enum Step {
    /// Send these to a server, in order; the last is answered.
    Send(u16, Vec<wire::Activation>),
    /// It is answered.
    Done(Answer),
}

/// Asks partition servers for the rest of a network.
pub struct Splitter {
    network: Arc<Network>,
    model: Digest,
    version: Digest,
    policy: Policy,
    placement: Arc<Placement>,
    /// Which servers are connected.
    up: Vec<bool>,
    next: u64,
    waiting: BTreeMap<u64, Question>,
    sequences: BTreeMap<u64, Sequence>,
}

/// A question on its way.
struct Question {
    number: u64,
    placement: Arc<Placement>,
    sequence: Option<u64>,
    /// The range that runs next, or runs at a server.
    segment: usize,
    /// What crosses at its start.
    at: Crossing,
    server: u16,
    /// Whether a server was given a sequence's whole past for this step.
    rebuilt: bool,
    expires_ms: Millis,
    /// Why this site answers, once it does.
    here: Option<Origin>,
}

impl Splitter {
    /// A splitter for one network, known by the digests of its two files, and so many servers.
    ///
    /// # Errors
    /// As [`Splitter::place`].
    pub fn new(
        network: Arc<Network>,
        names: (Digest, Digest),
        placement: Placement,
        n_servers: u16,
        policy: Policy,
    ) -> Result<Self, SplitError> {
        let (model, version) = names;
        let mut splitter = Self {
            network,
            model,
            version,
            policy,
            placement: Arc::new(placement.clone()),
            up: vec![false; usize::from(n_servers)],
            next: 1,
            waiting: BTreeMap::new(),
            sequences: BTreeMap::new(),
        };
        splitter.place(placement)?;
        Ok(splitter)
    }

    /// Another placement from the next question on; questions and sequences that have begun go on as
    /// they are.
    ///
    /// # Errors
    /// [`SplitError::Forbidden`], [`SplitError::Range`]; the placement is as it was then.
    pub fn place(&mut self, placement: Placement) -> Result<(), SplitError> {
        placement.check(&self.network, (&self.model, &self.version), &self.policy)?;
        self.placement = Arc::new(placement);
        Ok(())
    }

    /// The placement of the next question.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The version's digest: what the ledger's entries are about.
    #[must_use]
    pub fn version(&self) -> Digest {
        self.version
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// A server is connected. Until then it is asked nothing.
    pub fn connected(&mut self, server: u16) {
        if let Some(up) = self.up.get_mut(usize::from(server)) {
            *up = true;
        }
    }

    /// Begins a sequence under the placement of now; its number is for [`Splitter::ask`].
    pub fn begin(&mut self) -> u64 {
        let number = self.number();
        let sequence = Sequence::new(&self.network, Arc::clone(&self.placement));
        self.sequences.insert(number, sequence);
        number
    }

    /// Forgets a sequence.
    pub fn end(&mut self, sequence: u64) {
        self.sequences.remove(&sequence);
    }

    /// Asks for the outputs of inputs, as a step of a sequence or by themselves.
    ///
    /// # Errors
    /// [`SplitError`]; nothing is waiting then.
    pub fn ask(
        &mut self,
        now: Millis,
        sequence: Option<u64>,
        inputs: Vec<Value>,
    ) -> Result<(u64, Step), SplitError> {
        if self.waiting.len() >= limits::ACTIVATIONS_IN_FLIGHT_MAX {
            return Err(SplitError::Busy(self.waiting.len()));
        }
        inputs.iter().try_for_each(values::finite)?;
        let at = self.network.crossing(0, inputs)?;
        let placement = match sequence {
            None => Arc::clone(&self.placement),
            Some(number) => {
                let own = self.sequences.get_mut(&number).filter(|own| !own.busy);
                let own = own.ok_or(SplitError::NoSequence)?;
                own.busy = true;
                Arc::clone(&own.placement)
            }
        };
        let expires_ms = now.saturating_add(placement.deadline_ms.into());
        let number = self.number();
        let question = Question {
            number,
            placement,
            sequence,
            segment: 0,
            at,
            server: 0,
            rebuilt: false,
            expires_ms,
            here: None,
        };
        let step = self.advance(now, question);
        Ok((number, self.or_forget(sequence, step)?))
    }

    /// Takes a server's reply. `None` for a reply to nothing that waits: late, never asked, or an
    /// earlier step of a sequence that was made again.
    ///
    /// # Errors
    /// [`SplitError::Network`] when even this site cannot compute the answer.
    pub fn reply(
        &mut self,
        now: Millis,
        reply: wire::InferenceReply,
    ) -> Result<Option<Step>, SplitError> {
        let Some(question) = self.waiting.remove(&reply.request) else { return Ok(None) };
        let sequence = question.sequence;
        let step = self.replied(now, question, reply);
        self.or_forget(sequence, step).map(Some)
    }

    fn replied(
        &mut self,
        now: Millis,
        mut question: Question,
        reply: wire::InferenceReply,
    ) -> Result<Step, SplitError> {
        use wire::inference_reply::Result as R;
        let code = match reply.result {
            Some(R::Boundary(bytes)) => match self.received(&question, &bytes) {
                Some(at) => {
                    question.at = at;
                    question.segment += 1;
                    question.rebuilt = false;
                    return self.advance(now, question);
                }
                None => "malformed".to_owned(),
            },
            Some(R::Rejection(rejection)) => rejection.code,
            None => "malformed".to_owned(),
        };
        self.forget_held(&question);
        if code == "unknown_sequence" && !question.rebuilt && question.sequence.is_some() {
            question.rebuilt = true;
            return self.send(now, question);
        }
        let word = |c: &char| c.is_ascii_lowercase() || *c == '_';
        let code = code.chars().filter(word).take(limits::CODE_BYTES_MAX).collect();
        question.here = Some(Origin::LocalRejected(code));
        self.advance_here(now, question)
    }

    /// Answers here what was not answered in time.
    ///
    /// # Errors
    /// [`SplitError::Network`] when this site cannot compute an answer.
    pub fn expire(&mut self, now: Millis) -> Result<Vec<Answer>, SplitError> {
        let mut answers = Vec::new();
        for mut question in self.take(|question| question.expires_ms <= now) {
            self.forget_held(&question);
            question.here = Some(Origin::LocalDeadline);
            let (sequence, step) = (question.sequence, self.advance_here(now, question));
            if let Step::Done(answer) = self.or_forget(sequence, step)? {
                answers.push(answer);
            }
        }
        Ok(answers)
    }

    /// A server is gone: what waits for it goes to another one, or is answered here.
    ///
    /// # Errors
    /// [`SplitError::Network`] when this site cannot compute an answer.
    pub fn disconnected(&mut self, now: Millis, server: u16) -> Result<Vec<Step>, SplitError> {
        if let Some(up) = self.up.get_mut(usize::from(server)) {
            *up = false;
        }
        let mut steps = Vec::new();
        for question in self.take(|question| question.server == server) {
            self.forget_held(&question);
            let (sequence, step) = (question.sequence, self.send(now, question));
            steps.push(self.or_forget(sequence, step)?);
        }
        Ok(steps)
    }

    /// When [`Splitter::expire`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.waiting.values().map(|question| question.expires_ms).min()
    }

    /// A sequence of which a step failed has no next one.
    fn or_forget<T>(
        &mut self,
        sequence: Option<u64>,
        result: Result<T, SplitError>,
    ) -> Result<T, SplitError> {
        if let (Err(_), Some(number)) = (&result, sequence) {
            self.sequences.remove(&number);
        }
        result
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn take(&mut self, which: impl Fn(&Question) -> bool) -> Vec<Question> {
        let due = self.waiting.iter().filter(|(_, question)| which(question));
        let due: Vec<u64> = due.map(|(number, _)| *number).collect();
        due.iter().filter_map(|number| self.waiting.remove(number)).collect()
    }

    /// Runs ranges until a server is needed or the question is answered.
    fn advance(&mut self, now: Millis, mut question: Question) -> Result<Step, SplitError> {
        let placement = Arc::clone(&question.placement);
        while let Some(segment) = placement.segments.get(question.segment) {
            if segment.place != Place::Here {
                self.leave(&mut question)?;
                return self.send(now, question);
            }
            question.at = self.run_here(&question)?;
            question.segment += 1;
        }
        Ok(Step::Done(self.answered(question)))
    }

    /// As [`Self::advance`], without any server from here on.
    fn advance_here(&mut self, now: Millis, mut question: Question) -> Result<Step, SplitError> {
        question.at = self.run_server_part(&question)?;
        question.segment += 1;
        let placement = Arc::clone(&question.placement);
        while let Some(segment) = placement.segments.get(question.segment) {
            question.at = if segment.place == Place::Here {
                self.run_here(&question)?
            } else {
                self.leave(&mut question)?;
                self.run_server_part(&question)?
            };
            question.segment += 1;
        }
        self.advance(now, question)
    }

    /// Keeps what a sequence would send, so that its memory can be made again.
    fn leave(&mut self, question: &mut Question) -> Result<(), SplitError> {
        let Some(number) = question.sequence else { return Ok(()) };
        let bytes = Activation::encode(&question.at, question.placement.codec)?.into_bytes();
        let own = self.sequences.get_mut(&number).ok_or(SplitError::NoSequence)?;
        own.keep(question.segment, &bytes)
    }

    /// To the server of the range, or to another one that is connected; else answered here.
    fn send(&mut self, now: Millis, mut question: Question) -> Result<Step, SplitError> {
        let wanted = match question.placement.segments[question.segment].place {
            Place::Server(server) => server,
            Place::Here => return self.advance(now, question),
        };
        let n = u16::try_from(self.up.len()).unwrap_or(u16::MAX);
        let is_up = |server: &u16| self.up.get(usize::from(*server)).copied().unwrap_or(false);
        let Some(server) = std::iter::once(wanted).chain(0..n).find(is_up) else {
            question.here = Some(Origin::LocalDisconnected);
            return self.advance_here(now, question);
        };
        question.server = server;
        let activations = self.activations(now, &question, server)?;
        let last = activations.last().map_or(0, |last| last.request);
        if let Some(number) = question.sequence {
            let own = self.sequences.get_mut(&number).ok_or(SplitError::NoSequence)?;
            own.held[question.segment] = Held::Server(server, own.steps + 1);
            question.rebuilt |= activations.len() > 1;
        }
        self.waiting.insert(last, question);
        Ok(Step::Send(server, activations))
    }

    fn activations(
        &mut self,
        now: Millis,
        question: &Question,
        server: u16,
    ) -> Result<Vec<wire::Activation>, SplitError> {
        let (from, to) = question.placement.range(question.segment);
        let codec = question.placement.codec;
        let left = question.expires_ms.saturating_sub(now);
        // What comes back in the middle is written like what leaves; outputs come as they are.
        let middle = (to as usize) < self.network.n_nodes();
        let one = wire::Activation {
            version: self.version.into(),
            from,
            to,
            deadline_ms: u32::try_from(left).unwrap_or(u32::MAX).max(1),
            sequence: question.sequence.unwrap_or(0),
            answer_codec: if middle { answer_code(codec) } else { 0 },
            ..wire::Activation::default()
        };
        let steps: Vec<(u32, Vec<u8>)> = match question.sequence {
            None => vec![(0, Activation::encode(&question.at, codec)?.into_bytes())],
            Some(number) => {
                let own = self.sequences.get(&number).ok_or(SplitError::NoSequence)?;
                let steps = own.to_send(question.segment, server).into_iter();
                steps.map(|(step, bytes)| (step, bytes.to_vec())).collect()
            }
        };
        let mut activations = Vec::with_capacity(steps.len());
        for (step, boundary) in steps {
            if boundary.len() > limits::BOUNDARY_BYTES_MAX {
                let bytes_max = limits::BOUNDARY_BYTES_MAX;
                return Err(SplitError::TooLarge { bytes: boundary.len(), bytes_max });
            }
            activations.push(wire::Activation {
                request: self.number(),
                boundary,
                step,
                ..one.clone()
            });
        }
        Ok(activations)
    }

    /// A server's answer as what crosses at the end of its range.
    fn received(&self, question: &Question, bytes: &[u8]) -> Option<Crossing> {
        let (_, to) = question.placement.range(question.segment);
        let values = Activation::decode(bytes, limits::BOUNDARY_VALUES_MAX).ok()?;
        let crossing = self.network.crossing(to as usize, values).ok()?;
        (crossing.rows() == question.at.rows() || question.sequence.is_some()).then_some(crossing)
    }

    /// A range of this site's own.
    fn run_here(&mut self, question: &Question) -> Result<Crossing, SplitError> {
        let (from, to) = question.placement.range(question.segment);
        let (from, to) = (from as usize, to as usize);
        let mut fresh = self.network.start(from..to);
        let states = match question.sequence {
            None => &mut fresh,
            Some(number) => {
                let own = self.sequences.get_mut(&number).ok_or(SplitError::NoSequence)?;
                match &mut own.held[question.segment] {
                    Held::Here(states, _) => states,
                    _ => return Err(SplitError::NoSequence),
                }
            }
        };
        step_out(&self.network, to, &question.at, states)
    }

    /// A server's range, run here.
    fn run_server_part(&mut self, question: &Question) -> Result<Crossing, SplitError> {
        let (from, to) = question.placement.range(question.segment);
        let (from, to) = (from as usize, to as usize);
        match question.sequence {
            None => {
                let mut states = self.network.start(from..to);
                step_out(&self.network, to, &question.at, &mut states)
            }
            Some(number) => {
                let own = self.sequences.get_mut(&number).ok_or(SplitError::NoSequence)?;
                own.step_here(&self.network, question.segment)
            }
        }
    }

    /// The server that the question waited for can no longer be relied on for its sequence.
    fn forget_held(&mut self, question: &Question) {
        let own = question.sequence.and_then(|number| self.sequences.get_mut(&number));
        if let Some(held) = own.and_then(|own| own.held.get_mut(question.segment)) {
            *held = Held::Nobody;
        }
    }

    fn answered(&mut self, question: Question) -> Answer {
        if let Some(own) = question.sequence.and_then(|number| self.sequences.get_mut(&number)) {
            own.steps += 1;
            own.busy = false;
        }
        let all_here = question.placement.is_here();
        let origin = if all_here { Origin::Here } else { Origin::Split };
        Answer {
            request: question.number,
            outputs: question.at.into_values(),
            origin: question.here.unwrap_or(origin),
        }
    }
}

/// Runs the nodes up to `to`.
fn step_out(
    network: &Network,
    to: usize,
    at: &Crossing,
    states: &mut States,
) -> Result<Crossing, SplitError> {
    Ok(network.forward(to, at, states)?)
}

/// See `Activation.answer_codec` on the wire.
fn answer_code(codec: Codec) -> u32 {
    1 + u32::from(codec.code())
}

#[cfg(test)]
mod tests;
