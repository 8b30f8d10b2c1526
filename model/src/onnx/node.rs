//! One node as it is read: its attributes, each asked for by name, and its inputs.
//!
//! Nothing of a node is passed over: an attribute that no reader asked for makes the node
//! unsupported, for it would change what the node computes. Start at [`NodeReader`].

use super::proto::{AttributeProto, NodeProto, kind};
use super::{External, OnnxError, tensors};
use crate::program::value::Value;

/// See the module.
pub(super) struct NodeReader<'a> {
    node: &'a NodeProto,
    /// Where the model is in the history of ONNX's operators.
    pub(super) opset: i64,
    asked: Vec<bool>,
    external: &'a External<'a>,
    /// What the node reads; readers may add to it. Empty: left out.
    pub(super) inputs: Vec<Source>,
}

/// What a node reads.
pub(super) enum Source {
    /// A value by name.
    Named(String),
    /// Nothing.
    Absent,
    /// A constant that an older version kept in an attribute.
    Constant(Value),
}

impl<'a> NodeReader<'a> {
    pub(super) fn new(node: &'a NodeProto, opset: i64, external: &'a External<'a>) -> Self {
        let source = |name: &String| {
            if name.is_empty() { Source::Absent } else { Source::Named(name.clone()) }
        };
        let inputs = node.input.iter().map(source).collect();
        Self { node, opset, asked: vec![false; node.attribute.len()], external, inputs }
    }

    pub(super) fn op(&self) -> &'a str {
        &self.node.op_type
    }

    /// How many outputs are named, the last of them not empty.
    pub(super) fn outputs(&self) -> usize {
        self.node.output.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1)
    }

    pub(super) fn unsupported(&self, why: impl Into<String>) -> OnnxError {
        OnnxError::Unsupported { node: label(self.node), op: self.op().into(), why: why.into() }
    }

    fn attribute(
        &mut self,
        name: &str,
        kind: i32,
    ) -> Result<Option<&'a AttributeProto>, OnnxError> {
        let Some(at) = self.node.attribute.iter().position(|one| one.name == name) else {
            return Ok(None);
        };
        self.asked[at] = true;
        let found = &self.node.attribute[at];
        if !found.ref_attr_name.is_empty() || found.kind != kind {
            return Err(OnnxError::Attribute {
                node: label(self.node),
                op: self.op().into(),
                name: name.into(),
            });
        }
        Ok(Some(found))
    }

    pub(super) fn int(&mut self, name: &str) -> Result<Option<i64>, OnnxError> {
        Ok(self.attribute(name, kind::INT)?.map(|one| one.i))
    }

    pub(super) fn int_or(&mut self, name: &str, default: i64) -> Result<i64, OnnxError> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    pub(super) fn flag(&mut self, name: &str, default: bool) -> Result<bool, OnnxError> {
        Ok(self.int_or(name, i64::from(default))? != 0)
    }

    pub(super) fn size(&mut self, name: &str) -> Result<Option<usize>, OnnxError> {
        let bad = |_| self.unsupported(format!("`{name}` is negative"));
        match self.node.attribute.iter().any(|one| one.name == name) {
            false => Ok(None),
            true => {
                let size =
                    self.node.attribute.iter().find(|one| one.name == name).map_or(0, |a| a.i);
                let size = usize::try_from(size).map_err(bad)?;
                self.int(name)?;
                Ok(Some(size))
            }
        }
    }

    pub(super) fn float_or(&mut self, name: &str, default: f64) -> Result<f64, OnnxError> {
        Ok(self.attribute(name, kind::FLOAT)?.map_or(default, |one| f64::from(one.f)))
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<&'a str>, OnnxError> {
        let Some(found) = self.attribute(name, kind::STRING)? else { return Ok(None) };
        let text = std::str::from_utf8(&found.s);
        text.map(Some).map_err(|_| self.unsupported(format!("`{name}` is no text")))
    }

    pub(super) fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, OnnxError> {
        let Some(found) = self.attribute(name, kind::STRINGS)? else { return Ok(None) };
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        Ok(Some(found.strings.iter().map(text).collect()))
    }

    pub(super) fn ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, OnnxError> {
        Ok(self.attribute(name, kind::INTS)?.map(|one| one.ints.clone()))
    }

    pub(super) fn floats(&mut self, name: &str) -> Result<Option<Vec<f32>>, OnnxError> {
        Ok(self.attribute(name, kind::FLOATS)?.map(|one| one.floats.clone()))
    }

    /// Integers none of which may be negative; none given: none.
    pub(super) fn sizes(&mut self, name: &str) -> Result<Vec<usize>, OnnxError> {
        let ints = self.ints(name)?.unwrap_or_default();
        let sizes = ints.iter().map(|&one| usize::try_from(one)).collect::<Result<_, _>>();
        sizes.map_err(|_| self.unsupported(format!("`{name}` is negative")))
    }

    pub(super) fn tensor(&mut self, name: &str) -> Result<Option<Value>, OnnxError> {
        let Some(found) = self.attribute(name, kind::TENSOR)? else { return Ok(None) };
        found.t.as_ref().map(|tensor| tensors::value(tensor, self.external)).transpose()
    }

    /// Puts a constant at the place of an input, where older versions had an attribute.
    pub(super) fn constant(&mut self, at: usize, value: Value) {
        while self.inputs.len() <= at {
            self.inputs.push(Source::Absent);
        }
        self.inputs[at] = Source::Constant(value);
    }

    /// An attribute of integers of an older version as the input that it became.
    pub(super) fn ints_as_input(&mut self, name: &str, at: usize) -> Result<(), OnnxError> {
        if let Some(ints) = self.ints(name)? {
            self.constant(at, Value::integers(ints));
        }
        Ok(())
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`OnnxError::Unsupported`] with the first attribute that nobody asked for.
    pub(super) fn finish(self) -> Result<Vec<Source>, OnnxError> {
        match self.asked.iter().position(|asked| !asked) {
            None => Ok(self.inputs),
            Some(at) => {
                let name = &self.node.attribute[at].name;
                Err(self.unsupported(format!("its attribute `{name}` is not supported")))
            }
        }
    }
}

/// What a node is called in messages: its name, or that of its first output.
pub(super) fn label(node: &NodeProto) -> String {
    if node.name.is_empty() {
        node.output.first().cloned().unwrap_or_default()
    } else {
        node.name.clone()
    }
}
