//! The one check of a model, and what is known after it.
//!
//! [`CheckedSpec`] cannot be made otherwise, so code that takes one never asks again. Values are
//! numbered: the inputs first, then the nodes' outputs.

use std::collections::BTreeMap;

use super::infer::{check_shape, output_shape, parameters};
use super::{ModelSpec, Node, SpecError};
use crate::digest::{Digest, digest_of};
use crate::layout::ParamLayout;
use crate::limits::{INPUTS_MAX, LIVE_MAX, NAME_BYTES_MAX, NODES_MAX, PARAMETERS_MAX};

/// A model known to be sound: every shape inferred, every limit held.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedSpec {
    spec: ModelSpec,
    /// Shape of each value for one row.
    shapes: Vec<Vec<usize>>,
    /// Values read by each node.
    sources: Vec<Vec<usize>>,
    /// Last position that reads each value; the number of nodes for the output.
    last_use: Vec<usize>,
    /// Entries of the layout that belong to each node, in the operation's own order.
    params: Vec<Vec<usize>>,
    layout: ParamLayout,
    canonical: Vec<u8>,
    digest: Digest,
}

impl CheckedSpec {
    pub(super) fn new(spec: ModelSpec) -> Result<Self, SpecError> {
        let mut shapes = check_inputs(&spec)?;
        let (sources, last_use) = link(&spec)?;
        let mut new_params = Vec::new();
        let mut total = 0usize;
        for (node, sources) in spec.nodes.iter().zip(&sources) {
            let inputs: Vec<&[usize]> = sources.iter().map(|&v| shapes[v].as_slice()).collect();
            let fail = |problem| SpecError::Node { node: node.name.clone(), problem };
            let shape = output_shape(&node.op, &inputs).map_err(fail)?;
            let params = parameters(&node.name, &node.op, inputs[0]).map_err(fail)?;
            for param in &params {
                total = total.saturating_add(param.shape.iter().product());
            }
            at_most("parameters", total, PARAMETERS_MAX)?;
            new_params.push(params);
            shapes.push(shape);
        }
        let names: Vec<Vec<String>> =
            new_params.iter().map(|node| node.iter().map(|p| p.name.clone()).collect()).collect();
        let layout = ParamLayout::new(new_params.into_iter().flatten().collect());
        let params = places(&layout, &names);
        let canonical =
            serde_json::to_vec(&spec).map_err(|error| SpecError::Syntax(error.to_string()))?;
        at_most("bytes of text", canonical.len(), crate::limits::SPEC_BYTES_MAX)?;
        let digest = digest_of("koinon.spec.v1", &canonical);
        let checked = Self { spec, shapes, sources, last_use, params, layout, canonical, digest };
        let live = (0..=checked.n_nodes()).map(|p| checked.live(p).len()).max().unwrap_or(0);
        at_most("values alive at one cut", live, LIVE_MAX)?;
        Ok(checked)
    }

    /// Reads the canonical bytes of another copy of this program, and checks them.
    ///
    /// # Errors
    /// [`SpecError::NotCanonical`] where the bytes are a spec but not in the one form that is
    /// hashed; else as [`ModelSpec::from_json`] and [`ModelSpec::check`].
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, SpecError> {
        let checked = ModelSpec::from_json(bytes)?.check()?;
        if checked.canonical != bytes {
            return Err(SpecError::NotCanonical);
        }
        Ok(checked)
    }

    /// The model as written, defaults filled in.
    #[must_use]
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The one form that is hashed and travels: JSON without spaces, keys in the order of the
    /// types, defaults written out.
    #[must_use]
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// SHA-256 of the canonical bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Where the parameters lie.
    #[must_use]
    pub fn layout(&self) -> &ParamLayout {
        &self.layout
    }

    /// The nodes in topological order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.spec.nodes
    }

    /// Number of nodes; positions of cuts are `0..=n_nodes`.
    #[must_use]
    pub fn n_nodes(&self) -> usize {
        self.spec.nodes.len()
    }

    /// Elements of one row: all inputs one after another.
    #[must_use]
    pub fn input_width(&self) -> usize {
        (0..self.n_inputs()).map(|value| self.elements(value)).sum()
    }

    /// Shape of the model's output for one row.
    #[must_use]
    pub fn output_shape(&self) -> &[usize] {
        &self.shapes[self.shapes.len() - 1]
    }

    /// Elements of the model's output for one row.
    #[must_use]
    pub fn output_width(&self) -> usize {
        self.output_shape().iter().product()
    }

    /// Shape, for one row, of what a node gives.
    #[must_use]
    pub fn node_shape(&self, node: usize) -> Option<&[usize]> {
        self.shapes.get(self.n_inputs() + node).map(Vec::as_slice)
    }

    pub(crate) fn n_inputs(&self) -> usize {
        self.spec.inputs.len()
    }

    pub(crate) fn shape(&self, value: usize) -> &[usize] {
        &self.shapes[value]
    }

    pub(crate) fn elements(&self, value: usize) -> usize {
        self.shapes[value].iter().product()
    }

    pub(crate) fn value_name(&self, value: usize) -> &str {
        match value.checked_sub(self.n_inputs()) {
            None => &self.spec.inputs[value].name,
            Some(node) => &self.spec.nodes[node].name,
        }
    }

    pub(crate) fn sources(&self, node: usize) -> &[usize] {
        &self.sources[node]
    }

    /// Values made before `position` and read at it or later, in their order.
    pub(crate) fn live(&self, position: usize) -> Vec<usize> {
        let made = self.n_inputs() + position;
        (0..made).filter(|&value| self.last_use[value] >= position).collect()
    }
}

/// What only the engine asks.
#[cfg(feature = "engine")]
impl CheckedSpec {
    pub(crate) fn param_places(&self, node: usize) -> &[usize] {
        &self.params[node]
    }

    /// Whether no node behind `node` reads the value.
    #[cfg(any(test, feature = "burn"))]
    pub(crate) fn is_last_use(&self, value: usize, node: usize) -> bool {
        self.last_use[value] <= node
    }

    /// Elements of the largest value for one row.
    pub(crate) fn elements_max(&self) -> usize {
        (0..self.shapes.len()).map(|value| self.elements(value)).max().unwrap_or(1)
    }

    /// Elements of all values for one row, as training keeps them.
    pub(crate) fn elements_total(&self) -> usize {
        (0..self.shapes.len()).map(|value| self.elements(value)).sum()
    }

    /// Elements that the largest step of work holds for one row: a value, or a convolution's
    /// unfolded windows.
    pub(crate) fn work_elements(&self) -> usize {
        let windows = self.spec.nodes.iter().enumerate().map(|(index, node)| match &node.op {
            super::Op::Conv2d { kernel, .. } => {
                let [_, h, w] = self.shape(self.n_inputs() + index) else { return 1 };
                self.shape(self.sources[index][0])[0] * kernel[0] * kernel[1] * h * w
            }
            _ => 1,
        });
        windows.max().unwrap_or(1).max(self.elements_max())
    }
}

fn at_most(what: &'static str, got: usize, max: usize) -> Result<(), SpecError> {
    if got > max {
        return Err(SpecError::TooLarge { what, got, max });
    }
    Ok(())
}

fn check_inputs(spec: &ModelSpec) -> Result<Vec<Vec<usize>>, SpecError> {
    check_name(&spec.name)
        .map_err(|problem| SpecError::Model(format!("its name {:?} {problem}", spec.name)))?;
    at_most("inputs", spec.inputs.len(), INPUTS_MAX)?;
    at_most("nodes", spec.nodes.len(), NODES_MAX)?;
    if spec.inputs.is_empty() || spec.nodes.is_empty() {
        return Err(SpecError::Model("it needs at least one input and one node".into()));
    }
    for input in &spec.inputs {
        check_shape(&input.shape)
            .map_err(|problem| SpecError::Input { input: input.name.clone(), problem })?;
    }
    Ok(spec.inputs.iter().map(|input| input.shape.clone()).collect())
}

/// A name is one or more words of letters, digits, `_` and `-`, joined by dots as in PyTorch.
fn check_name(name: &str) -> Result<(), String> {
    let word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    if name.len() <= NAME_BYTES_MAX && name.split('.').all(word) {
        return Ok(());
    }
    Err(format!(
        "is not a name; use letters, digits, `_`, `-`, words joined by `.`, at most \
         {NAME_BYTES_MAX} bytes"
    ))
}

type Links = (Vec<Vec<usize>>, Vec<usize>);

/// Resolves names to values, and finds where each value is read last.
fn link(spec: &ModelSpec) -> Result<Links, SpecError> {
    let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
    for input in &spec.inputs {
        let fail = |problem| SpecError::Input { input: input.name.clone(), problem };
        check_name(&input.name).map_err(|problem| fail(format!("its name {problem}")))?;
        if ids.insert(&input.name, ids.len()).is_some() {
            return Err(fail("its name is taken; choose another".into()));
        }
    }
    let mut last_use: Vec<Option<usize>> = vec![None; spec.inputs.len()];
    let mut sources = Vec::with_capacity(spec.nodes.len());
    for (position, node) in spec.nodes.iter().enumerate() {
        let fail = |problem| SpecError::Node { node: node.name.clone(), problem };
        check_name(&node.name).map_err(|problem| fail(format!("its name {problem}")))?;
        if node.inputs.is_empty() || node.inputs.len() > INPUTS_MAX {
            return Err(fail(format!(
                "it reads {} values; name 1 to {INPUTS_MAX} in `inputs`",
                node.inputs.len()
            )));
        }
        let mut read = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            let &value = ids.get(name.as_str()).ok_or_else(|| {
                fail(format!("it reads `{name}`, which no input or earlier node is called"))
            })?;
            last_use[value] = Some(position);
            read.push(value);
        }
        sources.push(read);
        if ids.insert(&node.name, ids.len()).is_some() {
            return Err(fail("its name is taken; choose another".into()));
        }
        last_use.push(None);
    }
    if let Some(output) = last_use.last_mut() {
        *output = Some(spec.nodes.len());
    }
    let last_use = last_use
        .into_iter()
        .enumerate()
        .map(|(value, last)| last.ok_or_else(|| unused(spec, value)));
    Ok((sources, last_use.collect::<Result<_, _>>()?))
}

fn unused(spec: &ModelSpec, value: usize) -> SpecError {
    let problem = "nothing reads it; remove it, or read it in a later node".to_owned();
    match value.checked_sub(spec.inputs.len()) {
        None => SpecError::Input { input: spec.inputs[value].name.clone(), problem },
        Some(node) => SpecError::Node { node: spec.nodes[node].name.clone(), problem },
    }
}

fn places(layout: &ParamLayout, names: &[Vec<String>]) -> Vec<Vec<usize>> {
    let index: BTreeMap<&str, usize> =
        layout.entries().iter().enumerate().map(|(i, entry)| (entry.name.as_str(), i)).collect();
    names.iter().map(|node| node.iter().map(|name| index[name.as_str()]).collect()).collect()
}
