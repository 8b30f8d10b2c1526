//! The engine: runs and trains a checked model. The only module whose children name burn.
//!
//! It opens no file, draws no randomness of its own and knows no rounds. Start at [`Engine::load`]
//! and [`Engine::forward`] for answers, [`train`] for an update.
//!
//! Two implementations lie behind this door, and nobody outside can tell them apart:
//! * `fast`: chains of linear layers and pointwise activations, in plain loops: small tables.
//! * `fused`: every operation as a kernel of its own, row by row through the cache, with matrix products
//!   by the crate `gemm`: images, norms, branches.
//!
//! Their oracle is `graph`: every operation on burn's `flex` back end with its autodiff. Tests have it
//! always; the cargo feature `burn` offers it to others as `Choice::General`.
//!
//! All give the gradient of one batch of any size at given weights; [`train`] owns the rest (order,
//! optimizer, stopping). [`clipped_sum`] gives what a step with record-level privacy takes from a site:
//! the sum of the gradients of single rows, each clipped by its own norm.
//!
//! The cargo feature `ndarray` adds burn's older back end for one test that asks for its opinion
//! (`cargo test -p koinon-model --features ndarray`); it takes minutes to compile and serves nothing
//! else.
//!
//! Same inputs, same seed, same build, same kind of processor: same bits, at any number of threads,
//! because nothing here runs on more than the caller's own. Across processors `fast` is exact up to
//! the system's `exp` and `tanh`; `fused` and `graph` pick their matrix kernels by what the processor
//! offers.
//!
//! ```
//! use koinon_model::{engine::{Engine, TrainOptions, train}, loss::TrainData, params::Params};
//! use koinon_model::{plan::TrainingPlan, spec::ModelSpec, tensor::Boundary};
//!
//! let spec = ModelSpec::from_json(br#"{"name":"line","inputs":[{"name":"x","shape":[1]}],
//!   "nodes":[{"name":"fc","op":{"linear":{"units":1}},"inputs":["x"]}]}"#)?.check()?;
//! let plan = TrainingPlan::from_json(br#"{"epochs":200,"batch_size":3,"learning_rate":0.1,
//!   "loss":"mse"}"#)?;
//! let start = Params::init(&spec, 1);
//! let data = TrainData { x: &[0.0, 1.0, 2.0], y: &[1.0, 3.0, 5.0], weights: None };
//! let options = TrainOptions { seed: 1, round: 0, stop: &|| false };
//! let outcome = train(&spec, &start, &data, &plan, &options)?;
//!
//! let next = start.stepped(spec.layout(), outcome.delta.values())?;
//! let engine = Engine::load(&spec, &next)?;
//! let answer = engine.forward(0..1, &Boundary::from_rows(&spec, &[10.0])?)?;
//! assert!((answer.tensors()[0].data()[0] - 21.0).abs() < 0.1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod compiled;
mod fast;
mod fused;
#[cfg(any(test, feature = "burn"))]
mod graph;
mod objective;
mod optimizer;
mod order;
mod rows;
mod train;

use std::ops::Range;

use crate::cut::Cut;
use crate::limits::{BATCH_ELEMENTS_MAX, CHUNK_ELEMENTS_MAX};
use crate::loss::{DataError, LossSum, TrainData};
use crate::params::{Params, ParamsError};
use crate::plan::{PlanError, TrainingPlan};
use crate::spec::{CheckedSpec, Op};
use crate::tensor::{Boundary, ShapeError};

use objective::Objective;
pub use rows::{Picked, RowSum, clipped_sum};
pub use train::{TrainOptions, TrainOutcome, train, train_by};

/// A model with its values, ready to answer. Shared between threads by reference.
pub struct Engine {
    spec: CheckedSpec,
    runner: Runner,
}

/// Which implementation computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The fastest that knows the model.
    Automatic,
    /// The general one, on burn: for comparison, with the feature `burn`.
    #[cfg(any(test, feature = "burn"))]
    General,
}

enum Runner {
    Fast(fast::Loaded),
    Fused(fused::Loaded),
    #[cfg(any(test, feature = "burn"))]
    Graph(graph::Loaded),
}

/// Raw outputs and loss of many rows.
pub struct Evaluation {
    /// Raw outputs, row by row; see [`crate::plan::Loss::positive_scores`].
    pub outputs: Vec<f32>,
    /// Their loss.
    pub loss: LossSum,
}

/// Why the engine does not do as asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Values that do not belong to the model.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// A variance below zero in a batch norm.
    #[error("`{name}` holds a negative variance; the parameter file is broken, fetch it again")]
    Variance {
        /// The buffer.
        name: String,
    },
    /// Tensors that do not belong to the cut.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A range that the model does not have.
    #[error(
        "nodes {start}..{end} are no part of a model of {n_nodes} nodes; take a cut's head or tail"
    )]
    Range {
        /// First node asked for.
        start: usize,
        /// Node after the last one asked for.
        end: usize,
        /// Nodes the model has.
        n_nodes: usize,
    },
    /// A batch whose values would not fit memory.
    #[error("{rows} rows of this model are too many at once; use at most {max}")]
    Batch {
        /// Rows asked for.
        rows: usize,
        /// Rows that are allowed.
        max: usize,
    },
    /// A plan out of its ranges.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Rows that cannot be trained on.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Training ran away.
    #[error(
        "training diverged at step {step}: a value is no finite number; use a smaller learning rate"
    )]
    Diverged {
        /// The step, counted from 1.
        step: u32,
    },
}

impl Engine {
    /// Binds values to a model.
    ///
    /// # Errors
    /// [`EngineError::Params`] where they belong to another layout, [`EngineError::Variance`].
    pub fn load(spec: &CheckedSpec, params: &Params) -> Result<Self, EngineError> {
        Self::load_by(Choice::Automatic, spec, params)
    }

    /// [`Engine::load`] by a chosen implementation.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn load_by(
        choice: Choice,
        spec: &CheckedSpec,
        params: &Params,
    ) -> Result<Self, EngineError> {
        params.check_layout(spec.layout())?;
        check_variances(spec, params)?;
        let values = params.values();
        let runner = match (choice, fast::Chain::new(spec)) {
            #[cfg(any(test, feature = "burn"))]
            (Choice::General, _) => Runner::Graph(graph::Loaded::new(spec, values)),
            (Choice::Automatic, Some(chain)) => Runner::Fast(fast::Loaded::new(chain, values)),
            (Choice::Automatic, None) => Runner::Fused(fused::Loaded::new(spec, values)),
        };
        Ok(Self { spec: spec.clone(), runner })
    }

    /// What computes: `chain`, `fused`, or `burn`.
    #[must_use]
    pub fn kernels(&self) -> &'static str {
        match self.runner {
            Runner::Fast(_) => "chain",
            Runner::Fused(_) => "fused",
            #[cfg(any(test, feature = "burn"))]
            Runner::Graph(_) => "burn",
        }
    }

    /// The model.
    #[must_use]
    pub fn spec(&self) -> &CheckedSpec {
        &self.spec
    }

    /// Runs the nodes of `range` on what crosses at its start; gives what crosses at its end.
    ///
    /// `0..n_nodes` is the whole model, [`Cut::head`] and [`Cut::tail`] are its parts. Parts one
    /// after another give the same answer as the whole.
    ///
    /// # Errors
    /// [`EngineError::Range`]; [`EngineError::Shape`] where `input` is not what crosses there;
    /// [`EngineError::Batch`]. Numbers in `input` are not judged: what is not finite passes through.
    pub fn forward(&self, range: Range<usize>, input: &Boundary) -> Result<Boundary, EngineError> {
        let Range { start, end } = range;
        let n_nodes = self.spec.n_nodes();
        let cut = Cut::at(&self.spec, start).filter(|_| start < end && end <= n_nodes);
        cut.ok_or(EngineError::Range { start, end, n_nodes })?.check(input)?;
        let max = (BATCH_ELEMENTS_MAX / self.spec.elements_max()).max(1);
        if input.batch() > max {
            return Err(EngineError::Batch { rows: input.batch(), max });
        }
        let rows = self.chunk_rows();
        if input.batch() <= rows {
            return Ok(self.run(range, input)?);
        }
        let mut parts = Vec::with_capacity(input.batch().div_ceil(rows));
        for start in (0..input.batch()).step_by(rows) {
            let part = input.rows(start..(start + rows).min(input.batch()))?;
            parts.push(self.run(range.clone(), &part)?);
        }
        Ok(Boundary::stack(&parts.iter().collect::<Vec<_>>())?)
    }

    /// Raw outputs of the whole model for rows of all inputs one after another: one
    /// [`CheckedSpec::output_width`] per row.
    ///
    /// # Errors
    /// [`EngineError::Shape`] where `x` is not a whole number of rows, at least one.
    pub fn outputs(&self, x: &[f32]) -> Result<Vec<f32>, EngineError> {
        let width = self.spec.input_width();
        let mut outputs = Vec::with_capacity(x.len() / width * self.spec.output_width());
        for rows in x.chunks(self.chunk_rows() * width) {
            let input = Boundary::from_rows(&self.spec, rows)?;
            let answer = self.run(0..self.spec.n_nodes(), &input)?;
            outputs.extend_from_slice(answer.tensors()[0].data());
        }
        if outputs.is_empty() {
            return Err(ShapeError::Rows { got: 0, want: "at least one".into() }.into());
        }
        Ok(outputs)
    }

    /// Raw outputs and loss of labelled rows, under the plan's loss and class weights.
    ///
    /// # Errors
    /// [`EngineError::Data`] and [`EngineError::Plan`] as for training.
    pub fn evaluate(
        &self,
        data: &TrainData<'_>,
        plan: &TrainingPlan,
    ) -> Result<Evaluation, EngineError> {
        plan.check()?;
        let objective = Objective::new(plan, self.spec.output_width())?;
        objective.check(data, self.spec.input_width())?;
        let outputs = self.outputs(data.x)?;
        let mut gradient = vec![0.0; outputs.len()];
        let loss = objective.batch(&outputs, data.y, data.weights, &mut gradient);
        Ok(Evaluation { outputs, loss })
    }

    /// Rows that are run together; bounds the memory of the work between two values.
    fn chunk_rows(&self) -> usize {
        (CHUNK_ELEMENTS_MAX / self.spec.work_elements()).max(1)
    }

    fn run(&self, range: Range<usize>, input: &Boundary) -> Result<Boundary, ShapeError> {
        match &self.runner {
            Runner::Fast(loaded) => loaded.forward(range, input),
            Runner::Fused(loaded) => loaded.forward(&self.spec, range, input),
            #[cfg(any(test, feature = "burn"))]
            Runner::Graph(loaded) => loaded.forward(&self.spec, range, input),
        }
    }
}

fn check_variances(spec: &CheckedSpec, params: &Params) -> Result<(), EngineError> {
    for (index, node) in spec.nodes().iter().enumerate() {
        if !matches!(node.op, Op::BatchNorm { .. }) {
            continue;
        }
        let variance = &spec.layout().entries()[spec.param_places(index)[3]];
        if params.slice(variance).iter().any(|value| *value < 0.0) {
            return Err(EngineError::Variance { name: variance.name.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
