//! Tensors as they are handed over: a shape and its elements, no arithmetic.
//!
//! [`Tensor`] and [`Boundary`] hold rows of people, so they have neither `Debug` nor a form on the
//! wire; only [`crate::codec::Activation`] turns a boundary into bytes.
//!
//! ```compile_fail
//! fn text(tensor: &koinon_model::tensor::Tensor) -> String { format!("{tensor:?}") }
//! ```
//! ```compile_fail
//! fn json(boundary: &koinon_model::tensor::Boundary) -> String {
//!     serde_json::to_string(boundary).unwrap()
//! }
//! ```

use crate::limits::{BATCH_ROWS_MAX, LIVE_MAX};
use crate::spec::CheckedSpec;

/// Elements in row-major order under a shape whose first axis is the batch.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

/// The tensors that cross a cut, in the order of [`crate::cut::Cut::live`], with one batch size.
#[derive(Clone, PartialEq)]
pub struct Boundary {
    tensors: Vec<Tensor>,
}

/// Why elements and shapes do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// Number of elements and shape disagree.
    #[error("shape {shape:?} does not hold {got} elements; check rows and columns")]
    Elements {
        /// The shape given.
        shape: Vec<usize>,
        /// The number of elements given.
        got: usize,
    },
    /// Rows of unequal number, none, or too many.
    #[error("{got} rows, want {want}; give every tensor of one call the same rows, at least one")]
    Rows {
        /// Rows found.
        got: usize,
        /// Rows wanted, in words.
        want: String,
    },
    /// The list of tensors has another length than the cut.
    #[error("{got} tensors, the cut has {want}; the two sides use different models or cuts")]
    Count {
        /// Tensors given.
        got: usize,
        /// Tensors wanted.
        want: usize,
    },
    /// A tensor has another shape than the cut says.
    #[error("`{name}` has shape {got:?} per row, the model has {want:?}; use the model's own cut")]
    Live {
        /// The value's name in the spec.
        name: String,
        /// Shape found, without the batch.
        got: Vec<usize>,
        /// Shape wanted, without the batch.
        want: Vec<usize>,
    },
}

impl Tensor {
    /// A tensor of that shape, batch first.
    ///
    /// # Errors
    /// [`ShapeError::Elements`] where the product of the shape is not the number of elements.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Result<Self, ShapeError> {
        let elements = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim));
        if shape.is_empty() || elements != Some(data.len()) {
            return Err(ShapeError::Elements { shape, got: data.len() });
        }
        Ok(Self { shape, data })
    }

    /// The shape, batch first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, last axis fastest.
    #[must_use]
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Gives the elements up.
    #[must_use]
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }
}

impl Boundary {
    /// Tensors with the same number of rows each.
    ///
    /// # Errors
    /// [`ShapeError::Count`] for none or too many, [`ShapeError::Rows`] where batches differ, are
    /// empty or too large.
    pub fn new(tensors: Vec<Tensor>) -> Result<Self, ShapeError> {
        if tensors.is_empty() || tensors.len() > LIVE_MAX {
            return Err(ShapeError::Count { got: tensors.len(), want: 1 });
        }
        let rows = tensors[0].shape[0];
        if rows == 0 || rows > BATCH_ROWS_MAX {
            return Err(ShapeError::Rows { got: rows, want: format!("1 to {BATCH_ROWS_MAX}") });
        }
        if let Some(other) = tensors.iter().find(|tensor| tensor.shape[0] != rows) {
            return Err(ShapeError::Rows { got: other.shape[0], want: rows.to_string() });
        }
        Ok(Self { tensors })
    }

    /// The model's input from rows: each row holds all inputs one after another.
    ///
    /// # Errors
    /// [`ShapeError`] where the length is not a whole number of rows.
    pub fn from_rows(spec: &CheckedSpec, rows: &[f32]) -> Result<Self, ShapeError> {
        let width = spec.input_width();
        let n_rows = rows.len() / width;
        if n_rows * width != rows.len() {
            return Err(ShapeError::Elements { shape: vec![n_rows, width], got: rows.len() });
        }
        let mut tensors = Vec::with_capacity(spec.n_inputs());
        let mut start = 0;
        for value in 0..spec.n_inputs() {
            let end = start + spec.elements(value);
            let data = rows.chunks_exact(width).flat_map(|row| &row[start..end]).copied().collect();
            tensors.push(Tensor::new([&[n_rows], spec.shape(value)].concat(), data)?);
            start = end;
        }
        Self::new(tensors)
    }

    /// Number of rows.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.tensors[0].shape[0]
    }

    /// The tensors in order.
    #[must_use]
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Gives the tensors up.
    #[must_use]
    pub fn into_tensors(self) -> Vec<Tensor> {
        self.tensors
    }

    /// Rows `range` of every tensor, for batching several boundaries and taking them apart again.
    ///
    /// # Errors
    /// [`ShapeError::Rows`] where the range is empty or beyond the batch.
    pub fn rows(&self, range: std::ops::Range<usize>) -> Result<Self, ShapeError> {
        if range.is_empty() || range.end > self.batch() {
            return Err(ShapeError::Rows {
                got: range.end.saturating_sub(range.start),
                want: format!("a part of {}", self.batch()),
            });
        }
        let take = |tensor: &Tensor| {
            let width = tensor.data.len() / tensor.shape[0];
            let mut shape = tensor.shape.clone();
            shape[0] = range.len();
            Tensor::new(shape, tensor.data[range.start * width..range.end * width].to_vec())
        };
        Self::new(self.tensors.iter().map(take).collect::<Result<_, _>>()?)
    }

    /// Boundaries of one cut one under another: the batch of a partition server.
    ///
    /// # Errors
    /// [`ShapeError`] where there are none or their shapes differ.
    pub fn stack(parts: &[&Self]) -> Result<Self, ShapeError> {
        let [first, ..] = parts else { return Err(ShapeError::Count { got: 0, want: 1 }) };
        let rows = parts.iter().map(|part| part.batch()).sum();
        let mut tensors = Vec::with_capacity(first.tensors.len());
        for (i, model) in first.tensors.iter().enumerate() {
            let mut shape = model.shape.clone();
            shape[0] = rows;
            let mut data = Vec::with_capacity(shape.iter().product());
            for part in parts {
                let tensor =
                    part.tensors.get(i).filter(|_| part.tensors.len() == first.tensors.len());
                let tensor = tensor.ok_or(ShapeError::Count {
                    got: part.tensors.len(),
                    want: first.tensors.len(),
                })?;
                if tensor.shape[1..] != model.shape[1..] {
                    return Err(ShapeError::Elements { shape, got: tensor.data.len() });
                }
                data.extend_from_slice(&tensor.data);
            }
            tensors.push(Tensor::new(shape, data)?);
        }
        Self::new(tensors)
    }
}
