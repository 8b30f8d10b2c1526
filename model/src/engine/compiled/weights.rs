//! What is computed from constants alone, once: nodes that read nothing else, and filters as they are used.
//!
//! Shared by all ranges of a program, so that another cut costs nothing. Start at [`Weights::new`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::image::Filter;
use crate::limits::VALUE_ELEMENTS_MAX;
use crate::program::op::TensorOp as Op;
use crate::program::ops::{self, Inputs};
use crate::program::{CheckedProgram, Value};

/// See the module. For one program only.
#[derive(Clone)]
pub struct Weights(Arc<Shared>);

/// A convolution's node, and the norm's that follows it.
type FilterKey = (usize, Option<usize>);

struct Shared {
    folded: BTreeMap<String, Value>,
    filters: Mutex<BTreeMap<FilterKey, Arc<Filter>>>,
}

/// Elements that an expensive operation may read where it is done in advance.
const SMALL: usize = 1 << 12;

impl Weights {
    /// Computes what depends on constants only. What cannot be computed is left for the call, which says
    /// why.
    #[must_use]
    pub fn new(program: &CheckedProgram) -> Self {
        let mut folded: BTreeMap<String, Value> = BTreeMap::new();
        let mut room = VALUE_ELEMENTS_MAX;
        for node in &program.program().nodes {
            let find = |name: &String| program.constants().get(name).or_else(|| folded.get(name));
            let named = || node.inputs.iter().filter(|name| !name.is_empty());
            if named().next().is_none() || named().any(|name| find(name).is_none()) {
                continue;
            }
            let values: Vec<Option<&Value>> = node.inputs.iter().map(find).collect();
            let read: usize = values.iter().flatten().map(|value| value.len()).sum();
            if read > if is_plain(&node.op) { room } else { SMALL } {
                continue;
            }
            let Ok(made) = ops::apply(&node.op, &Inputs(&values)) else { continue };
            let size: usize = made.iter().map(Value::len).sum();
            if size > room || made.len() < node.outputs.len() {
                continue;
            }
            room -= size;
            let named = node.outputs.iter().cloned().zip(made);
            folded.extend(named.filter(|(name, _)| !name.is_empty()));
        }
        Self(Arc::new(Shared { folded, filters: Mutex::default() }))
    }

    pub(super) fn folded(&self, name: &str) -> Option<&Value> {
        self.0.folded.get(name)
    }

    /// The filter of a node, with the norm of another.
    pub(super) fn filter(
        &self,
        key: FilterKey,
        make: impl FnOnce() -> Option<Filter>,
    ) -> Option<Arc<Filter>> {
        let mut filters = self.0.filters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(filter) = filters.get(&key) {
            return Some(Arc::clone(filter));
        }
        let filter = Arc::new(make()?);
        filters.insert(key, Arc::clone(&filter));
        Some(filter)
    }
}

/// Whether it takes no more time than its values are long.
fn is_plain(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_)
            | Op::Binary(_)
            | Op::Fold(_)
            | Op::Where
            | Op::Clip
            | Op::Cast(_)
            | Op::Identity
            | Op::Shape { .. }
            | Op::Size
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Flatten { .. }
            | Op::Squeeze
            | Op::Unsqueeze
            | Op::Concat { .. }
            | Op::Slice
            | Op::Gather { .. }
    )
}
