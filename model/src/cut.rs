//! Cuts: where a model may be split, and what crosses there.
//!
//! A cut is a position in the topological order: after that many nodes. It runs nothing (that is
//! the engine's `forward(range)`), and it does not choose; the policy and the planner do. Start at
//! [`legal_cuts`].

use std::ops::Range;

use crate::spec::CheckedSpec;
use crate::tensor::{Boundary, ShapeError};

/// One value that crosses a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveTensor {
    /// Name of the node or input that made it.
    pub name: String,
    /// Shape for one row.
    pub shape: Vec<usize>,
}

impl LiveTensor {
    /// Elements of one row.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A position in the topological order with the values alive there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    position: usize,
    n_nodes: usize,
    live: Vec<LiveTensor>,
    raw: bool,
}

impl Cut {
    /// The cut after `position` nodes; 0 is the model's input, [`CheckedSpec::n_nodes`] its output.
    #[must_use]
    pub fn at(spec: &CheckedSpec, position: usize) -> Option<Self> {
        (position <= spec.n_nodes()).then(|| {
            let raw = raw_values(spec);
            let values = spec.live(position);
            let live = values.iter().map(|&value| LiveTensor {
                name: spec.value_name(value).to_owned(),
                shape: spec.shape(value).to_vec(),
            });
            Self {
                position,
                n_nodes: spec.n_nodes(),
                live: live.collect(),
                raw: values.iter().any(|&value| raw[value]),
            }
        })
    }

    /// The cut right after the node of that name.
    #[must_use]
    pub fn after(spec: &CheckedSpec, node: &str) -> Option<Self> {
        let index = spec.nodes().iter().position(|candidate| candidate.name == node)?;
        Self::at(spec, index + 1)
    }

    /// Number of nodes before the cut.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// What crosses, in the order of a [`Boundary`]'s tensors.
    #[must_use]
    pub fn live(&self) -> &[LiveTensor] {
        &self.live
    }

    /// Whether a raw input crosses: a model input, or one that no linear or convolution layer has
    /// touched since. Scaling, activations and reshaping hide nothing.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        self.raw
    }

    /// Whether a boundary may cross here: a real split that no raw input crosses.
    #[must_use]
    pub fn is_legal(&self) -> bool {
        !self.raw && self.position > 0 && self.position < self.n_nodes
    }

    /// Elements of one row that cross.
    #[must_use]
    pub fn elements_per_row(&self) -> usize {
        self.live.iter().map(LiveTensor::elements).sum()
    }

    /// Nodes before the cut.
    #[must_use]
    pub fn head(&self) -> Range<usize> {
        0..self.position
    }

    /// Nodes behind the cut.
    #[must_use]
    pub fn tail(&self) -> Range<usize> {
        self.position..self.n_nodes
    }

    /// Checks that a boundary is one of this cut.
    ///
    /// # Errors
    /// [`ShapeError::Count`], [`ShapeError::Live`] with the value's name.
    pub fn check(&self, boundary: &Boundary) -> Result<(), ShapeError> {
        let tensors = boundary.tensors();
        if tensors.len() != self.live.len() {
            return Err(ShapeError::Count { got: tensors.len(), want: self.live.len() });
        }
        for (tensor, live) in tensors.iter().zip(&self.live) {
            if tensor.shape()[1..] != live.shape {
                return Err(ShapeError::Live {
                    name: live.name.clone(),
                    got: tensor.shape()[1..].to_vec(),
                    want: live.shape.clone(),
                });
            }
        }
        Ok(())
    }
}

/// All cuts at which a boundary may leave a site, in topological order: between two nodes, with no
/// raw input alive.
///
/// That is the floor that holds for every site. How much an allowed cut still tells about the rows
/// is for measurement and for the site's own policy.
#[must_use]
pub fn legal_cuts(spec: &CheckedSpec) -> Vec<Cut> {
    (1..spec.n_nodes())
        .filter_map(|position| Cut::at(spec, position))
        .filter(Cut::is_legal)
        .collect()
}

/// For each value, whether it is a raw input or made of one without a mixing layer.
fn raw_values(spec: &CheckedSpec) -> Vec<bool> {
    let mut raw = vec![true; spec.n_inputs()];
    for (index, node) in spec.nodes().iter().enumerate() {
        let reads_raw = spec.sources(index).iter().any(|&value| raw[value]);
        raw.push(reads_raw && !node.op.mixes());
    }
    raw
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ModelSpec;

    fn residual() -> CheckedSpec {
        ModelSpec::from_toml(
            r#"
            name = "r"
            inputs = [{ name = "x", shape = [2, 4, 4] }]
            nodes = [
              { name = "scale", op = { group_norm = { groups = 1 } }, inputs = ["x"] },
              { name = "stem", op = { conv2d = { channels = 2, kernel = [3, 3], padding = [1, 1] } }, inputs = ["scale"] },
              { name = "body", op = "relu", inputs = ["stem"] },
              { name = "sum", op = "add", inputs = ["body", "stem"] },
              { name = "pool", op = "global_avg_pool", inputs = ["sum"] },
              { name = "fc", op = { linear = { units = 3 } }, inputs = ["pool"] },
            ]"#,
        )
        .and_then(ModelSpec::check)
        .expect("the example is sound")
    }

    #[test]
    fn live_values_include_the_skipped_one() {
        let spec = residual();
        let cut = Cut::after(&spec, "body").expect("there is such a node");
        let names: Vec<&str> = cut.live().iter().map(|live| live.name.as_str()).collect();
        assert_eq!(names, ["stem", "body"]);
        assert_eq!((cut.elements_per_row(), cut.head(), cut.tail()), (64, 0..3, 3..6));
    }

    #[test]
    fn raw_inputs_never_cross_a_legal_cut() {
        let spec = residual();
        let positions: Vec<usize> = legal_cuts(&spec).iter().map(Cut::position).collect();
        assert_eq!(positions, [2, 3, 4, 5]);
        assert!(Cut::after(&spec, "scale").is_some_and(|cut| cut.is_raw() && !cut.is_legal()));
        assert!(Cut::at(&spec, 0).is_some_and(|cut| cut.is_raw()));
        assert!(Cut::at(&spec, 7).is_none());
    }
}
