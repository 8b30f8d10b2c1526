//! Activation codecs: a boundary as bytes, the only form in which tensors of a cut cross a wire.
//!
//! A codec trades bytes for accuracy. It does not hide anything: what an activation tells about a
//! row, a quantized one tells too. It does no entropy coding and knows no network. Start at
//! [`Activation::encode`] and [`Activation::decode`].
//!
//! Bytes, little-endian: `KACT`, version 1, codec (1 byte), number of tensors (2), rows (4); then
//! for each tensor its elements per row (4) and its payload. Shapes are not sent: both sides have
//! the spec and name the cut by its position.
//!
//! | codec | payload | error of a value `x` |
//! |---|---|---|
//! | f32 | 4 bytes a value | none |
//! | f16 | 2 bytes a value | at most 2⁻¹¹ · abs(x), and 2⁻²⁵ near zero; above 65,504 refused |
//! | int8 | per group `low`, `step` as f32, then 1 byte a value | at most `step / 2` plus rounding, `step = (max - min) / 255` of its group |
//!
//! Groups never span rows, so a row's answer does not depend on its companions: one group for each
//! row and channel where a channel has 16 cells or more, else one for each row.
//!
//! ```
//! use koinon_model::{codec::{Activation, Codec}, cut::Cut, spec::ModelSpec};
//! use koinon_model::tensor::{Boundary, Tensor};
//!
//! let spec = ModelSpec::from_json(br#"{"name":"m","inputs":[{"name":"x","shape":[255]}],"nodes":[
//!   {"name":"fc1","op":{"linear":{"units":64}},"inputs":["x"]},
//!   {"name":"fc2","op":{"linear":{"units":2}},"inputs":["fc1"]}]}"#)?.check()?;
//! let cut = Cut::after(&spec, "fc1").expect("there is such a node");
//! let boundary = Boundary::new(vec![Tensor::new(vec![1, 64], vec![0.5; 64])?])?;
//! let activation = Activation::encode(&cut, &boundary, Codec::F16)?;
//! assert_eq!(activation.bytes().len(), 12 + 4 + 2 * 64);
//! let there = Activation::decode(activation.bytes(), &cut, 32)?;
//! assert_eq!(there.tensors()[0].data(), boundary.tensors()[0].data());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use half::f16;
use serde::{Deserialize, Serialize};

use crate::cut::{Cut, LiveTensor};
use crate::limits::{BATCH_ELEMENTS_MAX, BATCH_ROWS_MAX};
use crate::tensor::{Boundary, ShapeError, Tensor};

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// As they are.
    F32,
    /// IEEE 754 half precision, rounded to nearest even.
    F16,
    /// 256 even steps between the smallest and the largest value of a group.
    Int8,
}

/// A boundary on the wire. No `Debug`: activations do not belong in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Activation {
    bytes: Vec<u8>,
}

/// Why a boundary cannot be written, or bytes are no boundary.
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
        "`{name}` holds a value that {codec:?} cannot hold; check the input, or use another codec"
    )]
    Value {
        /// The tensor.
        name: String,
        /// The codec.
        codec: Codec,
    },
    /// The tensors do not belong to the cut.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The bytes are not an activation of this cut.
    #[error("not an activation of this cut: {0}; both sides must name the same model and cut")]
    Malformed(&'static str),
    /// More rows than the receiver takes.
    #[error("{got} rows, at most {max} are taken at once; send fewer")]
    Rows {
        /// Rows announced.
        got: usize,
        /// Rows taken.
        max: usize,
    },
}

impl Activation {
    /// Writes a boundary of `cut`.
    ///
    /// # Errors
    /// [`CodecError::Raw`], [`CodecError::Shape`], [`CodecError::Value`] for what is not finite or
    /// too large for the codec.
    pub fn encode(cut: &Cut, boundary: &Boundary, codec: Codec) -> Result<Self, CodecError> {
        if cut.is_raw() {
            return Err(CodecError::Raw { position: cut.position() });
        }
        cut.check(boundary)?;
        let rows = boundary.batch();
        let mut bytes = Vec::with_capacity(codec.bytes_for(cut, rows));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[VERSION, codec.code()]);
        bytes.extend_from_slice(&count(cut.live().len())?.to_le_bytes()[..2]);
        bytes.extend_from_slice(&count(rows)?.to_le_bytes());
        for (tensor, live) in boundary.tensors().iter().zip(cut.live()) {
            bytes.extend_from_slice(&count(live.elements())?.to_le_bytes());
            codec
                .write(tensor.data(), codec.group(live), &mut bytes)
                .map_err(|Unwritable| CodecError::Value { name: live.name.clone(), codec })?;
        }
        Ok(Self { bytes })
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

    /// Reads bytes from outside as a boundary of `cut` with at most `rows_max` rows. The length is
    /// checked against the header before anything is allocated.
    ///
    /// # Errors
    /// [`CodecError::Malformed`], [`CodecError::Rows`]. Never panics on any bytes.
    pub fn decode(bytes: &[u8], cut: &Cut, rows_max: usize) -> Result<Boundary, CodecError> {
        let mut reader = Reader(bytes);
        if reader.take(4)? != MAGIC {
            return Err(CodecError::Malformed("it does not start with KACT"));
        }
        let [version, code] = *reader.array::<2>()?;
        if version != VERSION {
            return Err(CodecError::Malformed("its version is unknown"));
        }
        let codec = Codec::from_code(code).ok_or(CodecError::Malformed("its codec is unknown"))?;
        if usize::from(u16::from_le_bytes(*reader.array()?)) != cut.live().len() {
            return Err(CodecError::Malformed("another number of tensors crosses here"));
        }
        let rows = reader.u32()? as usize;
        let max = rows_max.min(BATCH_ROWS_MAX).min(BATCH_ELEMENTS_MAX / cut.elements_per_row());
        if rows == 0 || rows > max {
            return Err(CodecError::Rows { got: rows, max });
        }
        if bytes.len() != codec.bytes_for(cut, rows) {
            return Err(CodecError::Malformed("its length is wrong"));
        }
        let mut tensors = Vec::with_capacity(cut.live().len());
        for live in cut.live() {
            if reader.u32()? as usize != live.elements() {
                return Err(CodecError::Malformed("a tensor has another size"));
            }
            let payload = reader.take(codec.payload_bytes(live, rows))?;
            let data = codec.read(payload, codec.group(live));
            if data.iter().any(|value| !value.is_finite()) {
                return Err(CodecError::Malformed("a value is no finite number"));
            }
            tensors.push(Tensor::new([&[rows], live.shape.as_slice()].concat(), data)?);
        }
        Ok(Boundary::new(tensors)?)
    }
}

const MAGIC: &[u8; 4] = b"KACT";
const VERSION: u8 = 1;
/// Bytes before the first tensor.
const HEADER_BYTES: usize = 12;
/// Cells a channel must have to get a group of its own.
const GROUP_CELLS_MIN: usize = 16;

/// A value that the codec cannot hold.
struct Unwritable;

impl Codec {
    /// Bytes of an activation of that many rows at a cut.
    #[must_use]
    pub fn bytes_for(self, cut: &Cut, rows: usize) -> usize {
        let tensors = cut.live().iter().map(|live| 4 + self.payload_bytes(live, rows));
        HEADER_BYTES + tensors.sum::<usize>()
    }

    fn payload_bytes(self, live: &LiveTensor, rows: usize) -> usize {
        let values = live.elements() * rows;
        match self {
            Self::F32 => values * 4,
            Self::F16 => values * 2,
            Self::Int8 => values + values / self.group(live) * 8,
        }
    }

    /// Values that share a scale; divides the elements of a row.
    fn group(self, live: &LiveTensor) -> usize {
        let elements = live.elements();
        let cells = elements / live.shape[0];
        if cells >= GROUP_CELLS_MIN { cells } else { elements }
    }

    fn code(self) -> u8 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Int8 => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::F32, Self::F16, Self::Int8].into_iter().find(|codec| codec.code() == code)
    }

    fn write(self, values: &[f32], group: usize, bytes: &mut Vec<u8>) -> Result<(), Unwritable> {
        if values.iter().any(|value| !value.is_finite()) {
            return Err(Unwritable);
        }
        match self {
            Self::F32 => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::F16 => {
                for &value in values {
                    let half = f16::from_f32(value);
                    if !half.is_finite() {
                        return Err(Unwritable);
                    }
                    bytes.extend_from_slice(&half.to_le_bytes());
                }
            }
            Self::Int8 => values.chunks_exact(group).for_each(|group| write_int8(group, bytes)),
        }
        Ok(())
    }

    /// The inverse of `write` on a payload of the right length.
    fn read(self, payload: &[u8], group: usize) -> Vec<f32> {
        match self {
            Self::F32 => {
                payload.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
            }
            Self::F16 => {
                let halves = payload.as_chunks::<2>().0.iter();
                halves.map(|half| f16::from_le_bytes(*half).to_f32()).collect()
            }
            Self::Int8 => payload.chunks_exact(group + 8).flat_map(read_int8).collect(),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant, codes are clamped")]
#[expect(clippy::cast_sign_loss, reason = "codes are clamped to 0..=255")]
fn write_int8(group: &[f32], bytes: &mut Vec<u8>) {
    let low = group.iter().copied().fold(f32::INFINITY, f32::min);
    let high = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let step = ((f64::from(high) - f64::from(low)) / 255.0) as f32;
    bytes.extend_from_slice(&low.to_le_bytes());
    bytes.extend_from_slice(&step.to_le_bytes());
    bytes.extend(group.iter().map(|&value| {
        if step == 0.0 {
            return 0;
        }
        let code = (f64::from(value) - f64::from(low)) / f64::from(step);
        code.round().clamp(0.0, 255.0) as u8
    }));
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
fn read_int8(group: &[u8]) -> impl Iterator<Item = f32> {
    let (head, codes) = group.split_at(8);
    let word = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
    let (low, step) = (f32::from_le_bytes(word(0)), f32::from_le_bytes(word(4)));
    let value = move |code: &u8| f64::from(low) + f64::from(*code) * f64::from(step);
    codes.iter().map(move |code| value(code) as f32)
}

fn count(n: usize) -> Result<u32, CodecError> {
    u32::try_from(n).map_err(|_| CodecError::Malformed("it is too large"))
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
