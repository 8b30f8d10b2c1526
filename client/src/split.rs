//! Split inference at the site: rows → head → codec → activation, and back.
//!
//! Only boundaries at cuts that the site's policy permits become activations; raw input never does.
//! Every question gets an answer: from the partition server, or, when its deadline passes, the server
//! rejects it or the connection is lost, from the whole model here, and the answer says which
//! ([`Origin`]). With `to` before the model's end the last part comes back too, so that outputs stay
//! at the site (a U-shape). It is deliberately not a connection: it makes and takes messages, and the
//! caller carries them through the egress door. Start at [`Splitter::new`].

use std::collections::BTreeMap;
use std::ops::Range;

use koinon_model::codec::{Activation, Codec, CodecError};
use koinon_model::cut::Cut;
use koinon_model::engine::{Engine, EngineError};
use koinon_model::params::{FileError, Params};
use koinon_model::spec::{CheckedSpec, ModelSpec, SpecError};
use koinon_model::tensor::{Boundary, ShapeError};
use koinon_proto::{Digest, Millis, limits, wire};
use thiserror::Error;

use crate::error::Refusal;
use crate::policy::Policy;

/// Which nodes run at the partition server, and how a boundary is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// First node of the server's range: the cut that the policy must permit.
    pub from: u32,
    /// Node after the server's last; the model's number of nodes when nothing comes back here.
    pub to: u32,
    /// How what crosses the cut is written.
    pub codec: Codec,
    /// How long an answer is waited for.
    pub deadline_ms: u32,
}

/// An answer to one question.
#[derive(Clone, PartialEq)]
pub struct Answer {
    /// The number that [`Splitter::ask`] gave.
    pub request: u64,
    /// Raw outputs of the model, row by row.
    pub outputs: Vec<f32>,
    /// Who ran the range behind the cut.
    pub origin: Origin,
}

/// Who ran the range behind the cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The partition server.
    Split,
    /// This site, because the server did not answer in time.
    LocalDeadline,
    /// This site, because the connection was lost.
    LocalDisconnected,
    /// This site, because the server rejected the question with this code.
    LocalRejected(String),
}

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
    /// A range that the model does not have.
    #[error("nodes {from}..{to} are no part of a model of {nodes} nodes behind its first layer")]
    Range {
        /// First node.
        from: u32,
        /// Node after the last.
        to: u32,
        /// The model's nodes.
        nodes: usize,
    },
    /// Too many unanswered questions.
    #[error("{0} questions are unanswered; wait for answers first")]
    Busy(usize),
    /// More rows than one message holds.
    #[error("{bytes} bytes would cross the cut; at most {bytes_max} at once: ask for fewer rows")]
    TooLarge {
        /// Bytes of the boundary.
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
    /// The spec is none.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The parameters do not belong to the spec.
    #[error(transparent)]
    Params(#[from] FileError),
    /// The rows are not the model's input.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The engine refuses.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The boundary cannot be written.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Asks a partition server for the rest of a model.
pub struct Splitter {
    spec: CheckedSpec,
    engine: Engine,
    version: Digest,
    placement: Placement,
    cut: Cut,
    back: Cut,
    next_request: u64,
    waiting: BTreeMap<u64, Waiting>,
}

/// A question on its way.
struct Waiting {
    /// The boundary at the cut, for the answer from here.
    boundary: Boundary,
    expires_ms: Millis,
}

impl Splitter {
    /// A splitter for one version: the bytes of its spec (JSON) and parameters (safetensors).
    ///
    /// # Errors
    /// [`SplitError::Forbidden`] for a cut that the policy does not permit, and what is wrong with
    /// files or range.
    pub fn new(
        spec: &[u8],
        params: &[u8],
        placement: Placement,
        policy: &Policy,
    ) -> Result<Self, SplitError> {
        let (model, version) = (Digest::of(spec), Digest::of(params));
        let spec = ModelSpec::from_json(spec)?.check()?;
        let params = Params::from_safetensors(spec.layout(), params)?;
        let Placement { from, to, .. } = placement;
        let nodes = spec.n_nodes();
        let range = SplitError::Range { from, to, nodes };
        let (Some(cut), Some(back)) = (cut_at(&spec, from), cut_at(&spec, to)) else {
            return Err(range);
        };
        if !cut.is_legal() || from >= to {
            return Err(range);
        }
        if !policy.permits_cut(&model, &version, from) {
            return Err(SplitError::Forbidden { position: from, refusal: Refusal::CutForbidden });
        }
        let engine = Engine::load(&spec, &params)?;
        let waiting = BTreeMap::new();
        Ok(Self { spec, engine, version, placement, cut, back, next_request: 1, waiting })
    }

    /// The version's digest: what the ledger's entries are about.
    #[must_use]
    pub fn version(&self) -> Digest {
        self.version
    }

    /// Runs the head on rows (all inputs of a row one after another) and gives the message for the
    /// partition server. Its `request` comes back with the answer.
    ///
    /// # Errors
    /// [`SplitError`]; nothing is waiting then.
    pub fn ask(&mut self, now: Millis, rows: &[f32]) -> Result<wire::Activation, SplitError> {
        if self.waiting.len() >= limits::ACTIVATIONS_IN_FLIGHT_MAX {
            return Err(SplitError::Busy(self.waiting.len()));
        }
        let input = Boundary::from_rows(&self.spec, rows)?;
        if let Some(at) = rows.iter().position(|value| !value.is_finite()) {
            return Err(SplitError::NotFinite { row: at / self.spec.input_width() });
        }
        let bytes = self.placement.codec.bytes_for(&self.cut, input.batch());
        if bytes > limits::BOUNDARY_BYTES_MAX {
            return Err(SplitError::TooLarge { bytes, bytes_max: limits::BOUNDARY_BYTES_MAX });
        }
        let boundary = self.engine.forward(self.cut.head(), &input)?;
        let encoded = Activation::encode(&self.cut, &boundary, self.placement.codec)?;
        let request = self.next_request;
        self.next_request += 1;
        let expires_ms = now.saturating_add(self.placement.deadline_ms.into());
        self.waiting.insert(request, Waiting { boundary, expires_ms });
        Ok(wire::Activation {
            request,
            version: self.version.into(),
            from: self.placement.from,
            to: self.placement.to,
            deadline_ms: self.placement.deadline_ms,
            boundary: encoded.into_bytes(),
        })
    }

    /// Takes the server's reply. `None` for a reply to nothing that waits: late, or never asked.
    ///
    /// # Errors
    /// [`SplitError::Engine`] when even this site cannot compute the answer.
    pub fn reply(&mut self, reply: wire::InferenceReply) -> Result<Option<Answer>, SplitError> {
        use wire::inference_reply::Result as R;
        let Some(waiting) = self.waiting.remove(&reply.request) else { return Ok(None) };
        let rows = waiting.boundary.batch();
        let boundary = match reply.result {
            Some(R::Boundary(bytes)) => Activation::decode(&bytes, &self.back, rows)
                .ok()
                .filter(|boundary| boundary.batch() == rows)
                .ok_or_else(|| "malformed".to_owned()),
            Some(R::Rejection(rejection)) => Err(rejection.code),
            None => Err("malformed".to_owned()),
        };
        match boundary {
            Ok(boundary) => {
                let outputs = self.rest(self.back.tail(), boundary)?;
                Ok(Some(Answer { request: reply.request, outputs, origin: Origin::Split }))
            }
            Err(code) => {
                let word = |c: &char| c.is_ascii_lowercase() || *c == '_';
                let code = code.chars().filter(word).take(limits::CODE_BYTES_MAX).collect();
                self.local(reply.request, waiting, Origin::LocalRejected(code)).map(Some)
            }
        }
    }

    /// Answers here what the server did not answer in time.
    ///
    /// # Errors
    /// [`SplitError::Engine`] when this site cannot compute an answer.
    pub fn expire(&mut self, now: Millis) -> Result<Vec<Answer>, SplitError> {
        let late = |waiting: &Waiting| waiting.expires_ms <= now;
        self.answer_here(late, &Origin::LocalDeadline)
    }

    /// The connection is gone: answers everything here.
    ///
    /// # Errors
    /// [`SplitError::Engine`] when this site cannot compute an answer.
    pub fn disconnected(&mut self) -> Result<Vec<Answer>, SplitError> {
        self.answer_here(|_| true, &Origin::LocalDisconnected)
    }

    /// When [`Splitter::expire`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.waiting.values().map(|waiting| waiting.expires_ms).min()
    }

    fn answer_here(
        &mut self,
        which: impl Fn(&Waiting) -> bool,
        origin: &Origin,
    ) -> Result<Vec<Answer>, SplitError> {
        let due = self.waiting.iter().filter(|(_, waiting)| which(waiting));
        let due: Vec<u64> = due.map(|(request, _)| *request).collect();
        let mut answers = Vec::with_capacity(due.len());
        for request in due {
            if let Some(waiting) = self.waiting.remove(&request) {
                answers.push(self.local(request, waiting, origin.clone())?);
            }
        }
        Ok(answers)
    }

    fn local(&self, request: u64, waiting: Waiting, origin: Origin) -> Result<Answer, SplitError> {
        let outputs = self.rest(self.cut.tail(), waiting.boundary)?;
        Ok(Answer { request, outputs, origin })
    }

    /// Runs the nodes that are left on what crosses at their start.
    fn rest(&self, range: Range<usize>, boundary: Boundary) -> Result<Vec<f32>, SplitError> {
        let end =
            if range.is_empty() { boundary } else { self.engine.forward(range, &boundary)? };
        let mut tensors = end.into_tensors();
        Ok(tensors.swap_remove(0).into_data())
    }
}

fn cut_at(spec: &CheckedSpec, position: u32) -> Option<Cut> {
    Cut::at(spec, usize::try_from(position).ok()?)
}

#[cfg(test)]
mod tests;
