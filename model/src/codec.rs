//! Activation codecs: what crosses a cut as bytes, the only form in which it crosses a wire.
//!
//! A codec trades bytes for accuracy. It does not hide anything: what an activation tells about a
//! row, a quantized one tells too. It knows no network and keeps nothing. Start at
//! [`Activation::encode`] and [`Activation::decode`].
//!
//! Bytes, little-endian: `KACT`, version 2, packing (1 byte), number of tensors (2); then for each tensor its
//! type (1), its codec (1), its number of axes (1), a zero (1), its sides (4 each), the length of its
//! payload (4) and the payload. Integers and truth values are written as they are, whatever the codec.
//!
//! | codec | payload | error of a value `x` |
//! |---|---|---|
//! | f32 | 4 bytes a value | none |
//! | f16 | 2 bytes a value | at most 2⁻¹¹ · abs(x), and 2⁻²⁵ near zero; above 65,504 refused |
//! | bf16 | 2 bytes a value | at most 2⁻⁸ · abs(x) |
//! | int8 | per group `low`, `step` as f32, then 1 byte a value | at most `step / 2` plus rounding, `step = (max - min) / 255` of its group |
//! | int4 | the same with half a byte | the same with `step = (max - min) / 15` |
//!
//! Groups never span rows, so a row's answer does not depend on its companions: one group for each
//! row and channel (the second axis: a channel of an image, a place of a text) where a channel has 16
//! cells or more, else one for each row. Groups of fewer than four values are written as f32.
//!
//! ```
//! use koinon_model::codec::{Activation, Codec};
//! use koinon_model::{network::Network, params::Params, program::{Data, Value}, spec::ModelSpec};
//!
//! let spec = ModelSpec::from_json(br#"{"name":"m","inputs":[{"name":"x","shape":[255]}],"nodes":[
//!   {"name":"fc1","op":{"linear":{"units":64}},"inputs":["x"]},
//!   {"name":"fc2","op":{"linear":{"units":2}},"inputs":["fc1"]}]}"#)?.check()?;
//! let network = Network::layers(&spec, &Params::init(&spec, 1))?;
//! let values = vec![Value::new(vec![1, 64], Data::F32(vec![0.5; 64]))?];
//! let crossing = network.crossing(1, values)?;
//! let activation = Activation::encode(&crossing, Codec::F16)?;
//! assert_eq!(activation.bytes().len(), 8 + 4 + 2 * 4 + 4 + 2 * 64);
//! let there = Activation::decode(activation.bytes(), 1 << 20)?;
//! assert!(there[0] == crossing.values()[0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod groups;

use serde::{Deserialize, Serialize};

use crate::crossing::Crossing;
use crate::limits::{LIVE_MAX, RANK_TENSOR_MAX};
use crate::program::value::{Element, Visit, each};
use crate::program::{DType, Data, Value};

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// As they are.
    F32,
    /// IEEE 754 half precision, rounded to nearest even.
    F16,
    /// The upper half of single precision, rounded to nearest even.
    Bf16,
    /// 256 even steps between the smallest and the largest value of a group.
    Int8,
    /// 16 even steps between the smallest and the largest value of a group.
    Int4,
}

/// A crossing on the wire. No `Debug`: activations do not belong in logs.
#[derive(Clone, PartialEq)]
pub struct Activation {
    bytes: Vec<u8>,
    error_max: f32,
}

/// Why a crossing cannot be written, or bytes are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// A raw input would cross.
    #[error(
        "a raw input would cross the cut at {position}; cut behind a linear or convolution layer"
    )]
    Raw {
        /// Position of the cut.
        position: usize,
    },
    /// A value that the codec cannot write.
    #[error(
        "tensor {tensor} holds a value that {codec:?} cannot hold; check the input, or use another codec"
    )]
    Value {
        /// The tensor, from 0, in the order in which they cross.
        tensor: usize,
        /// The codec.
        codec: Codec,
    },
    /// The bytes are no activation.
    #[error("not an activation: {0}")]
    Malformed(&'static str),
    /// More values than the receiver takes.
    #[error("more than {max} values, send fewer rows at once")]
    Large {
        /// Values taken.
        max: usize,
    },
}

impl Codec {
    /// All of them, the most exact first.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Int8, Self::Int4];

    /// Its name, as in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }

    /// Bytes of an activation of tensors of these types and shapes.
    #[must_use]
    pub fn bytes_for<'a>(self, tensors: impl IntoIterator<Item = (DType, &'a [usize])>) -> usize {
        let bytes = tensors.into_iter().map(|(dtype, shape)| {
            let payload = match dtype {
                DType::F32 => self.suited(shape).payload_bytes(shape),
                _ => shape.iter().product::<usize>() * dtype.bytes(),
            };
            TENSOR_BYTES + shape.len() * 4 + payload
        });
        HEADER_BYTES + bytes.sum::<usize>()
    }

    /// This codec, or f32 where groups are so small that their scales would cost more.
    fn suited(self, shape: &[usize]) -> Self {
        let grouped = matches!(self, Self::Int8 | Self::Int4);
        if grouped && groups::size(shape) < GROUP_VALUES_MIN { Self::F32 } else { self }
    }

    fn payload_bytes(self, shape: &[usize]) -> usize {
        let (values, group) = (shape.iter().product::<usize>(), groups::size(shape));
        let groups = values / group;
        match self {
            Self::F32 => values * 4,
            Self::F16 | Self::Bf16 => values * 2,
            Self::Int8 => values + groups * 8,
            Self::Int4 => groups * (group.div_ceil(2) + 8),
        }
    }

    /// Its number on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Int8 => 2,
            Self::Bf16 => 3,
            Self::Int4 => 4,
        }
    }
}

impl Activation {
    /// Writes a crossing.
    ///
    /// # Errors
    /// [`CodecError::Raw`], [`CodecError::Value`] for what is not finite or too large for the codec.
    pub fn encode(crossing: &Crossing, codec: Codec) -> Result<Self, CodecError> {
        if crossing.is_raw() {
            return Err(CodecError::Raw { position: crossing.position() });
        }
        let values = crossing.values();
        let shapes = values.iter().map(|value| (value.dtype(), value.shape()));
        let mut bytes = Vec::with_capacity(codec.bytes_for(shapes));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[VERSION, PLAIN]);
        let count = u16::try_from(values.len()).ok().filter(|&n| usize::from(n) <= LIVE_MAX);
        let count = count.ok_or(CodecError::Malformed("too many tensors cross at once"))?;
        bytes.extend_from_slice(&count.to_le_bytes());
        let mut error_max = 0.0f32;
        for (tensor, value) in values.iter().enumerate() {
            let error = write_tensor(value, codec, &mut bytes)?;
            error_max = error_max.max(error.ok_or(CodecError::Value { tensor, codec })?);
        }
        Ok(Self { bytes, error_max })
    }

    /// The bytes to send.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives the bytes up.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// No number that is read back differs by more from what was written.
    #[must_use]
    pub fn error_max(&self) -> f32 {
        self.error_max
    }

    /// Reads bytes from outside, with at most `values_max` values in all. Lengths are compared with
    /// sides before anything is allocated; what belongs where is for `network::Network::crossing`.
    ///
    /// # Errors
    /// [`CodecError::Malformed`], [`CodecError::Large`]. Never panics on any bytes.
    pub fn decode(bytes: &[u8], values_max: usize) -> Result<Vec<Value>, CodecError> {
        let mut reader = Reader(bytes);
        if reader.take(4)? != MAGIC {
            return Err(CodecError::Malformed("it does not start with KACT"));
        }
        let [version, packing] = *reader.array::<2>()?;
        if version != VERSION || packing != PLAIN {
            return Err(CodecError::Malformed("its version is unknown"));
        }
        let count = usize::from(u16::from_le_bytes(*reader.array()?));
        if count > LIVE_MAX {
            return Err(CodecError::Malformed("too many tensors"));
        }
        let mut left = values_max;
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            let value = read_tensor(&mut reader, left)?;
            left = left.checked_sub(value.len()).ok_or(CodecError::Large { max: values_max })?;
            values.push(value);
        }
        if !reader.0.is_empty() {
            return Err(CodecError::Malformed("bytes follow its last tensor"));
        }
        Ok(values)
    }
}

const MAGIC: &[u8; 4] = b"KACT";
const VERSION: u8 = 2;
/// The only packing yet: payloads as they are.
const PLAIN: u8 = 0;
/// Bytes before the first tensor.
const HEADER_BYTES: usize = 8;
/// Bytes of a tensor beside its sides and payload.
const TENSOR_BYTES: usize = 8;
/// Values that a group must have to be worth a scale.
const GROUP_VALUES_MIN: usize = 4;

/// Types in the order of their codes.
const DTYPES: [DType; 11] = [
    DType::F32,
    DType::F64,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::Bool,
];

/// Appends a tensor; gives the error bound, or `None` for a number that the codec cannot hold.
fn write_tensor(
    value: &Value,
    codec: Codec,
    bytes: &mut Vec<u8>,
) -> Result<Option<f32>, CodecError> {
    let shape = value.shape();
    let code = DTYPES.iter().position(|&dtype| dtype == value.dtype());
    let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX);
    let own = if value.dtype() == DType::F32 { codec.suited(shape) } else { Codec::F32 };
    let rank = u8::try_from(shape.len()).map_err(|_| CodecError::Malformed("too many axes"))?;
    bytes.extend_from_slice(&[code, own.code(), rank, 0]);
    for &side in shape {
        bytes.extend_from_slice(&word(side)?);
    }
    let payload = match value.dtype() {
        DType::F32 => own.payload_bytes(shape),
        dtype => value.len() * dtype.bytes(),
    };
    bytes.extend_from_slice(&word(payload)?);
    match value.data() {
        Data::F32(items) => Ok(groups::write(own, items, groups::size(shape), bytes)),
        data => {
            each!(data, items => items.iter().for_each(|item| item.put(bytes)));
            Ok(Some(0.0))
        }
    }
}

fn read_tensor(reader: &mut Reader<'_>, values_max: usize) -> Result<Value, CodecError> {
    let [code, codec, rank, zero] = *reader.array::<4>()?;
    let dtype = DTYPES.get(usize::from(code));
    let dtype = *dtype.ok_or(CodecError::Malformed("a type is unknown"))?;
    let codec = Codec::ALL.into_iter().find(|own| own.code() == codec);
    let codec = codec.ok_or(CodecError::Malformed("a codec is unknown"))?;
    if usize::from(rank) > RANK_TENSOR_MAX || zero != 0 {
        return Err(CodecError::Malformed("a tensor has too many axes"));
    }
    let shape: Vec<usize> =
        (0..rank).map(|_| reader.u32().map(|side| side as usize)).collect::<Result<_, _>>()?;
    let elements = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
    let elements = elements.filter(|&n| n <= values_max);
    let elements = elements.ok_or(CodecError::Large { max: values_max })?;
    let bytes = reader.u32()? as usize;
    let want = match dtype {
        DType::F32 if codec.suited(&shape) == codec => codec.payload_bytes(&shape),
        DType::F32 => return Err(CodecError::Malformed("a codec does not suit its tensor")),
        _ => elements * dtype.bytes(),
    };
    if bytes != want {
        return Err(CodecError::Malformed("a tensor's length is wrong"));
    }
    let payload = reader.take(bytes)?;
    let data = if dtype == DType::F32 {
        let items = groups::read(codec, payload, groups::size(&shape));
        if items.iter().any(|item| !item.is_finite()) {
            return Err(CodecError::Malformed("a value is no finite number"));
        }
        Data::F32(items)
    } else {
        dtype.visit(Plain(payload))
    };
    Value::new(shape, data).map_err(|_| CodecError::Malformed("a tensor is too large"))
}

/// Reads elements as they are.
struct Plain<'a>(&'a [u8]);

impl Visit for Plain<'_> {
    type Out = Data;
    fn run<T: Element>(self) -> Data {
        T::wrap(self.0.chunks_exact(size_of::<T>()).map(T::get).collect())
    }
}

fn word(n: usize) -> Result<[u8; 4], CodecError> {
    u32::try_from(n).map(u32::to_le_bytes).map_err(|_| CodecError::Malformed("it is too large"))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], CodecError> {
        let (head, rest) =
            self.0.split_at_checked(n).ok_or(CodecError::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], CodecError> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("take gives as many bytes as asked for"))
    }

    fn u32(&mut self) -> Result<u32, CodecError> {
        Ok(u32::from_le_bytes(*self.array()?))
    }
}

#[cfg(test)]
mod tests;
