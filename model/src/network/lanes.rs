//! Several calls of a network at once: what goes row by row runs once for all of them.
//!
//! Layers always do; what of a program does, its [`Plan`] knows. Start at [`Network::forward_lanes`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Kind, Network, NetworkError, States};
use crate::crossing::Crossing;
use crate::program::lanes::{Lane, Like, Plan};
use crate::program::{CheckedProgram, Value};

/// How lanes run together, by what they are like.
pub(super) type Plans = Mutex<BTreeMap<Like, Arc<Plan>>>;

/// Plans that are kept.
const PLANS_MAX: usize = 256;

impl Network {
    /// Runs several at once, each with its own memory: what goes row by row runs once for all of them,
    /// the rest one after another. The answers are those of [`Network::forward`], except that sums of
    /// products may be rounded otherwise.
    ///
    /// # Errors
    /// [`NetworkError`] of one of them; every memory is as it was then.
    ///
    /// # Panics
    /// If there are not as many memories as lanes.
    pub fn forward_lanes(
        &self,
        to: usize,
        lanes: &[&Crossing],
        states: &mut [&mut States],
    ) -> Result<Vec<Crossing>, NetworkError> {
        assert_eq!(lanes.len(), states.len(), "a memory for each lane");
        let Some(first) = lanes.first() else { return Ok(Vec::new()) };
        let Kind::Program(prepared) = &self.kind else { return self.layers_of(to, lanes) };
        let (from, nodes) = (first.position(), self.n_nodes());
        if from >= to || to > nodes || lanes.iter().any(|lane| lane.position() != from) {
            return Err(NetworkError::Range { from, to, nodes });
        }
        let plan = self.plan(&prepared.program, from..to, (first, &states[0].0))?;
        let own = |(lane, states): (&&Crossing, &&mut States)| Lane {
            values: lane.values().to_vec(),
            states: states.0.clone(),
        };
        let own: Vec<Lane> = lanes.iter().zip(states.iter()).map(own).collect();
        let out = plan.run(&|range, values| prepared.range(range).run(values), own)?;
        let raw = self.cuts[to].raw;
        let ends = out.into_iter().zip(states).map(|(lane, states)| {
            states.0 = lane.states;
            Crossing::new(to, raw, lane.values)
        });
        Ok(ends.collect())
    }

    fn layers_of(&self, to: usize, lanes: &[&Crossing]) -> Result<Vec<Crossing>, NetworkError> {
        let alone = |at: &Crossing| self.forward(to, at, &mut States::default());
        if let Some(whole) = Crossing::stack(lanes) {
            let rows: Vec<usize> = lanes.iter().map(|lane| lane.rows()).collect();
            if let Some(parts) = alone(&whole)?.split(&rows) {
                return Ok(parts);
            }
        }
        lanes.iter().map(|at| alone(at)).collect()
    }

    /// The plan for lanes like this one, made when it is first asked for.
    fn plan(
        &self,
        program: &CheckedProgram,
        range: Range<usize>,
        (lane, states): (&Crossing, &[Value]),
    ) -> Result<Arc<Plan>, NetworkError> {
        let behind = |value: &Value| value.shape().get(1..).unwrap_or_default().to_vec();
        let like = lane.values().iter().map(|value| (value.dtype(), behind(value))).collect();
        let like: Like = ((range.start, range.end), lane.rows(), like);
        let lock = || self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = lock().get(&like).cloned();
        if let Some(plan) = kept {
            return Ok(plan);
        }
        let plan = Arc::new(Plan::new(program, &range, lane, states)?);
        let mut plans = lock();
        if plans.len() >= PLANS_MAX {
            plans.clear();
        }
        plans.insert(like, Arc::clone(&plan));
        Ok(plan)
    }
}
