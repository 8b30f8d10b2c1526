//! Tensors of an ONNX file: typed fields, raw bytes, or a range of a file beside it.
//!
//! Start at [`value`].

use super::proto::TensorProto;
use super::{External, OnnxError};
use crate::program::value::{DType, Data, Element, Value, Visit};

/// `TensorProto.DataType`, of the types that are supported.
pub(super) fn dtype(code: i32) -> Option<DType> {
    Some(match code {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        _ => return None,
    })
}

/// The counterpart of [`dtype`].
pub(super) fn code(own: DType) -> i32 {
    (1..=13).find(|&code| dtype(code) == Some(own)).unwrap_or(0)
}

/// What a type is called in ONNX, for messages.
pub(super) fn type_name(code: i32) -> String {
    let named = match code {
        8 => "string",
        10 => "float16",
        14 => "complex64",
        15 => "complex128",
        16 => "bfloat16",
        17..=20 => "an 8-bit float",
        21 | 22 => "a 4-bit integer",
        23 => "a 4-bit float",
        _ => return format!("type {code}"),
    };
    named.to_owned()
}

/// The tensor.
///
/// # Errors
/// [`OnnxError::Tensor`] with its name: a type that is not supported, a wrong length, a file beside
/// the model that cannot be read.
pub(super) fn value(tensor: &TensorProto, external: &External<'_>) -> Result<Value, OnnxError> {
    let fault = |problem: String| OnnxError::Tensor { name: tensor.name.clone(), problem };
    let dtype = dtype(tensor.data_type).ok_or_else(|| {
        fault(format!("its elements are {}, which is not supported", type_name(tensor.data_type)))
    })?;
    if tensor.segment.is_some() {
        return Err(fault("it is stored in segments, which is not supported".into()));
    }
    let side = |&dim: &i64| usize::try_from(dim).map_err(|_| fault(format!("a side of {dim}")));
    let shape = tensor.dims.iter().map(side).collect::<Result<Vec<_>, _>>()?;
    let elements =
        crate::program::value::elements(&shape).map_err(|error| fault(error.to_string()))?;
    let bytes;
    let raw = if tensor.data_location == 1 {
        bytes = beside(tensor, external).map_err(fault)?;
        Some(&bytes[..])
    } else {
        (!tensor.raw_data.is_empty()).then_some(&tensor.raw_data[..])
    };
    let data = match raw {
        Some(raw) => dtype.visit(Raw { raw, elements }).map_err(fault)?,
        None => typed(tensor, dtype),
    };
    Value::new(shape, data).map_err(|error| fault(error.to_string()))
}

/// The bytes of a range of a file beside the model.
fn beside(tensor: &TensorProto, external: &External<'_>) -> Result<Vec<u8>, String> {
    let entry = |key: &str| {
        tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    };
    let number = |key: &str| -> Result<Option<u64>, String> {
        entry(key).map(|n| n.parse().map_err(|_| format!("{key} `{n}` is no number"))).transpose()
    };
    let location = entry("location").ok_or("it lies in another file, which is not named")?;
    let inside = !location.is_empty()
        && !location.contains('\\')
        && std::path::Path::new(location)
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
    if !inside {
        return Err(format!("its file `{location}` is not beside the model"));
    }
    external(location, number("offset")?.unwrap_or(0), number("length")?)
}

struct Raw<'a> {
    raw: &'a [u8],
    elements: usize,
}

impl Visit for Raw<'_> {
    type Out = Result<Data, String>;
    fn run<T: Element>(self) -> Self::Out {
        let size = if T::DTYPE == DType::Bool { 1 } else { size_of::<T>() };
        if self.raw.len() != self.elements.saturating_mul(size) {
            let (got, want) = (self.raw.len(), self.elements);
            return Err(format!("{got} bytes do not hold {want} elements of {size}"));
        }
        Ok(T::wrap(self.raw.chunks_exact(size).map(number::<T>).collect()))
    }
}

/// One little-endian element.
fn number<T: Element>(bytes: &[u8]) -> T {
    let mut wide = [0u8; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(wide);
    match T::DTYPE {
        DType::F32 => {
            let mut narrow = [0u8; 4];
            narrow.copy_from_slice(&wide[..4]);
            T::from_f64(f64::from(f32::from_le_bytes(narrow)))
        }
        DType::F64 => T::from_f64(f64::from_bits(bits)),
        _ => T::from_i128(i128::from(bits)),
    }
}

/// Elements from the field of their type; small ones share `int32_data`.
fn typed(tensor: &TensorProto, dtype: DType) -> Data {
    struct Cast<'a>(&'a [i32]);
    impl Visit for Cast<'_> {
        type Out = Data;
        fn run<T: Element>(self) -> Data {
            T::wrap(self.0.iter().map(|&item| T::from_i128(i128::from(item))).collect())
        }
    }
    match dtype {
        DType::F32 => Data::F32(tensor.float_data.clone()),
        DType::F64 => Data::F64(tensor.double_data.clone()),
        DType::I64 => Data::I64(tensor.int64_data.clone()),
        DType::U64 => Data::U64(tensor.uint64_data.clone()),
        DType::U32 => {
            let narrow = |&item: &u64| u32::from_i128(i128::from(item));
            Data::U32(tensor.uint64_data.iter().map(narrow).collect())
        }
        _ => dtype.visit(Cast(&tensor.int32_data)),
    }
}
