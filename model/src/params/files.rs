//! Parameters as a safetensors file: the form in which published versions are written.
//!
//! The file is what `safetensors.torch.save_file(model.state_dict(), …)` writes: little-endian
//! `F32` tensors under their PyTorch names. Anything else in it is refused rather than skipped.

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::{Params, ParamsError};
use crate::layout::ParamLayout;
use crate::limits::PARAMETER_FILE_BYTES_MAX;

/// Why a parameter file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// More bytes than any model may have.
    #[error("the parameter file has {got} bytes, at most {PARAMETER_FILE_BYTES_MAX} are allowed")]
    TooLarge {
        /// Bytes given.
        got: usize,
    },
    /// Not a safetensors file.
    #[error("not a whole safetensors file ({0}); fetch or write it again")]
    Malformed(String),
    /// A parameter of the model is not there.
    #[error("parameter `{0}` is not in the file; it belongs to another model")]
    Missing(String),
    /// The file holds something the model does not have.
    #[error("the file holds `{0}`, which the model does not have; it belongs to another model")]
    Unknown(String),
    /// A parameter has another type or shape.
    #[error("`{name}` is {got} in the file, the model has {want}; convert it or use its own model")]
    Shape {
        /// The parameter.
        name: String,
        /// Type and shape in the file.
        got: String,
        /// Type and shape of the model.
        want: String,
    },
    /// The values themselves.
    #[error(transparent)]
    Values(#[from] ParamsError),
}

impl Params {
    /// The bytes of a safetensors file, the same for the same values.
    ///
    /// # Errors
    /// [`FileError::Values`] where the values belong to another layout.
    pub fn to_safetensors(&self, layout: &ParamLayout) -> Result<Vec<u8>, FileError> {
        self.check_layout(layout)?;
        let bytes: Vec<u8> = self.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut views = Vec::with_capacity(layout.entries().len());
        for entry in layout.entries() {
            let range = entry.range();
            let data = &bytes[range.start * 4..range.end * 4];
            let view = TensorView::new(Dtype::F32, entry.shape.clone(), data).map_err(malformed)?;
            views.push((entry.name.as_str(), view));
        }
        safetensors::serialize(views, None).map_err(malformed)
    }

    /// Reads a safetensors file for a model; every parameter once and nothing else.
    ///
    /// # Errors
    /// [`FileError`], naming the parameter where one is at fault. Never panics on any bytes.
    pub fn from_safetensors(layout: &ParamLayout, bytes: &[u8]) -> Result<Self, FileError> {
        if bytes.len() > PARAMETER_FILE_BYTES_MAX {
            return Err(FileError::TooLarge { got: bytes.len() });
        }
        let file = SafeTensors::deserialize(bytes).map_err(malformed)?;
        let mut names: Vec<&str> = file.names();
        names.sort_unstable();
        if let Some(name) = names.iter().find(|name| layout.entry(name).is_none()) {
            return Err(FileError::Unknown((*name).to_owned()));
        }
        let mut values = Vec::with_capacity(layout.len());
        for entry in layout.entries() {
            let view =
                file.tensor(&entry.name).map_err(|_| FileError::Missing(entry.name.clone()))?;
            if view.dtype() != Dtype::F32 || view.shape() != entry.shape {
                return Err(FileError::Shape {
                    name: entry.name.clone(),
                    got: format!("{:?} {:?}", view.dtype(), view.shape()),
                    want: format!("F32 {:?}", entry.shape),
                });
            }
            let (words, _) = view.data().as_chunks::<4>();
            values.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
        }
        Ok(Self::from_values(layout, values)?)
    }
}

fn malformed(error: safetensors::SafeTensorError) -> FileError {
    FileError::Malformed(error.to_string())
}
