//! Known architectures: weights that come without a graph, made into a [`Program`].
//!
//! An ONNX file brings its operations along; a folder of safetensors or a raw checkpoint brings values
//! only, and what is computed with them is written down here, in plain operations whose first axis is
//! the batch. Nothing is downloaded and no file is opened: bytes are arguments. Start at
//! [`bert::import`] and [`llama2c::import`].
//!
//! A weight keeps its name in PyTorch. Matrices of linear layers are stored as a product reads them,
//! `[in, out]`, where PyTorch has `[out, in]`.

pub mod bert;
pub(crate) mod build;
pub mod llama2c;

use std::collections::{BTreeMap, BTreeSet};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::limits::CONSTANTS_BYTES_MAX;
use crate::program::files::bytes_of;
use crate::program::{CheckedProgram, Constants, Data, Program, TensorOp, Value};

/// What is made of values and a configuration.
pub struct Built {
    /// The operations.
    pub program: Program,
    /// The weights, and the numbers that the operations need.
    pub constants: Constants,
    /// Names of weights in the file that the operations do not need.
    pub unused: Vec<String>,
}

/// Why weights are not made into a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchitectureError {
    /// The configuration: what is wrong or not supported.
    #[error("config.json: {0}")]
    Config(String),
    /// The weights' file as a whole.
    #[error("the weights: {0}")]
    File(String),
    /// One weight.
    #[error("weight `{name}`: {problem}")]
    Weight {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

/// Weights by their names in PyTorch, each taken once.
pub struct Weights(BTreeMap<String, Value>);

impl Weights {
    /// Reads a safetensors file; half precision is widened.
    ///
    /// # Errors
    /// [`ArchitectureError::File`], [`ArchitectureError::Weight`]. Never panics on any bytes.
    pub fn read(bytes: &[u8]) -> Result<Self, ArchitectureError> {
        let fault = |words: String| ArchitectureError::File(words);
        if bytes.len() > CONSTANTS_BYTES_MAX {
            return Err(fault(format!("{} bytes, at most {CONSTANTS_BYTES_MAX} go", bytes.len())));
        }
        let file = SafeTensors::deserialize(bytes).map_err(|e| fault(e.to_string()))?;
        let mut weights = BTreeMap::new();
        for (name, view) in file.iter() {
            let fault = |problem: String| ArchitectureError::Weight { name: name.into(), problem };
            let data = match view.dtype() {
                Dtype::F32 => Data::F32(words(view.data(), f32::from_le_bytes)),
                Dtype::F64 => Data::F64(words(view.data(), f64::from_le_bytes)),
                Dtype::I64 => Data::I64(words(view.data(), i64::from_le_bytes)),
                Dtype::F16 => Data::F32(words(view.data(), |b| half::f16::from_le_bytes(b).into())),
                Dtype::BF16 => {
                    Data::F32(words(view.data(), |b| half::bf16::from_le_bytes(b).into()))
                }
                other => return Err(fault(format!("its elements are {other:?}"))),
            };
            let value =
                Value::new(view.shape().to_vec(), data).map_err(|e| fault(e.to_string()))?;
            weights.insert(name.to_owned(), value);
        }
        Ok(Self(weights))
    }

    /// Whether there is one of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Gives one up, which must have that shape and single precision.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Value, ArchitectureError> {
        let fault = |problem: String| ArchitectureError::Weight { name: name.into(), problem };
        let value = self.0.remove(name).ok_or_else(|| fault("it is not in the file".into()))?;
        if !matches!(value.data(), Data::F32(_)) {
            return Err(fault(format!("its elements are {:?}, expected F32", value.dtype())));
        }
        if value.shape() != shape {
            return Err(fault(format!("its shape is {:?}, expected {shape:?}", value.shape())));
        }
        Ok(value)
    }

    /// Gives up the matrix of a linear layer, turned from `[out, in]` to `[in, out]`.
    fn take_linear(
        &mut self,
        name: &str,
        [inner, outer]: [usize; 2],
    ) -> Result<Value, ArchitectureError> {
        Ok(turned(&self.take(name, &[outer, inner])?))
    }
}

/// A program's weights as a safetensors file under their names in PyTorch: a matrix `….weight` that a
/// product reads is turned back to `[out, in]`. Numbers that have no name of their own are left out.
///
/// # Errors
/// [`ArchitectureError::File`] where the format does not hold them.
pub fn weights_of(program: &CheckedProgram) -> Result<Vec<u8>, ArchitectureError> {
    let fault = |e: safetensors::SafeTensorError| ArchitectureError::File(e.to_string());
    let products = program.program().nodes.iter().filter(|node| node.op == TensorOp::MatMul);
    let read: BTreeSet<&str> =
        products.filter_map(|node| node.inputs.get(1)).map(String::as_str).collect();
    let mut turned_back = BTreeMap::new();
    for (name, value) in program.constants().iter().filter(|(name, _)| !name.starts_with('#')) {
        let Data::F32(_) = value.data() else { continue };
        let linear = read.contains(name.as_str()) && name.ends_with(".weight");
        let own = if linear && value.shape().len() == 2 { turned(value) } else { value.clone() };
        turned_back.insert(name.as_str(), (own.shape().to_vec(), bytes_of(&own)));
    }
    let views = turned_back.iter().map(|(name, (shape, bytes))| {
        TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (*name, view))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(fault)?;
    safetensors::serialize(views, None).map_err(fault)
}

/// A matrix of single precision, transposed.
fn turned(matrix: &Value) -> Value {
    let (Data::F32(items), &[rows, columns]) = (matrix.data(), matrix.shape()) else {
        unreachable!("only matrices of weights are turned")
    };
    let mut out = vec![0.0; items.len()];
    for (row, line) in items.chunks_exact(columns.max(1)).enumerate() {
        for (column, item) in line.iter().enumerate() {
            out[column * rows + row] = *item;
        }
    }
    Value::new(vec![columns, rows], Data::F32(out)).expect("as many elements as before")
}

/// Little-endian words of a fixed size.
fn words<T, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
}
