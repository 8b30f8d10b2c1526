//! Prepared rows as a network's inputs, and its outputs as numbers.
//!
//! Only what every caller of split inference needs; features are prepared elsewhere. Start at
//! [`inputs_of_rows`].

use koinon_model::network::{Network, NetworkError};
use koinon_model::program::{DType, Data, Value};

use super::SplitError;

/// Numbers of an input must be finite.
pub(super) fn finite(value: &Value) -> Result<(), SplitError> {
    let Data::F32(items) = value.data() else { return Ok(()) };
    let bad = items.iter().position(|item| !item.is_finite());
    let rows = value.shape().first().copied().unwrap_or(1).max(1);
    let width = (items.len() / rows).max(1);
    bad.map_or(Ok(()), |at| Err(SplitError::NotFinite { row: at / width }))
}

/// Prepared rows, all inputs of a row one after another, as the inputs of a network of layers.
///
/// # Errors
/// [`SplitError::Network`] where they are not whole rows.
pub fn inputs_of_rows(network: &Network, rows: &[f32]) -> Result<Vec<Value>, SplitError> {
    let shapes = network.cuts().first().map_or(&[][..], |cut| cut.live.as_slice());
    let shapes: Vec<&[usize]> =
        shapes.iter().map(|live| live.shape.as_deref().unwrap_or_default()).collect();
    let width: usize = shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
    let n_rows = rows.len().checked_div(width).filter(|n| n * width == rows.len() && *n > 0);
    let fault = |problem: String| NetworkError::Crossing { position: 0, problem };
    let n_rows = n_rows.ok_or_else(|| {
        fault(format!("{} numbers are no whole rows of {width}, at least one", rows.len()))
    })?;
    let mut values = Vec::with_capacity(shapes.len());
    let mut start = 0;
    for shape in shapes {
        let end = start + shape.iter().product::<usize>();
        let items = rows.chunks_exact(width).flat_map(|row| &row[start..end]).copied().collect();
        let value = Value::new([&[n_rows], shape].concat(), Data::F32(items));
        values.push(value.map_err(|error| fault(error.to_string()))?);
        start = end;
    }
    Ok(values)
}

/// The first output as numbers.
#[must_use]
pub fn numbers(outputs: &[Value]) -> &[f32] {
    match outputs.first().filter(|value| value.dtype() == DType::F32).map(Value::data) {
        Some(Data::F32(items)) => items,
        _ => &[],
    }
}
