//! The payload of a tensor of numbers: by the codec, group by group.
//!
//! It judges nothing but whether a number can be held; lengths have been compared before. Start at
//! [`write`] and [`read`].

use half::{bf16, f16};

use super::Codec;

/// Cells a channel must have to get a group of its own.
const GROUP_CELLS_MIN: usize = 16;

/// Values that share a scale; divides the elements of a row. At least 1.
pub(super) fn size(shape: &[usize]) -> usize {
    let row: usize = shape.iter().skip(1).product();
    let cells: usize = shape.iter().skip(2).product();
    let channels = shape.len() > 2 && cells >= GROUP_CELLS_MIN;
    (if channels { cells } else { row }).max(1)
}

/// Appends values; gives the bound of the error, or `None` where a value cannot be held.
pub(super) fn write(
    codec: Codec,
    values: &[f32],
    group: usize,
    bytes: &mut Vec<u8>,
) -> Option<f32> {
    let peak = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    if values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    match codec {
        Codec::F32 => {
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            Some(0.0)
        }
        Codec::F16 => {
            for &value in values {
                let half = f16::from_f32(value);
                if !half.is_finite() {
                    return None;
                }
                bytes.extend_from_slice(&half.to_le_bytes());
            }
            Some((peak / 2048.0).max(2f32.powi(-25)))
        }
        Codec::Bf16 => {
            for &value in values {
                let half = bf16::from_f32(value);
                if !half.is_finite() {
                    return None;
                }
                bytes.extend_from_slice(&half.to_le_bytes());
            }
            Some(peak / 256.0)
        }
        Codec::Int8 => Some(write_steps(values, group, 255.0, bytes, |codes, bytes| {
            bytes.extend_from_slice(codes);
        })),
        Codec::Int4 => Some(write_steps(values, group, 15.0, bytes, |codes, bytes| {
            let pair = |pair: &[u8]| pair[0] | (pair.get(1).copied().unwrap_or(0) << 4);
            bytes.extend(codes.chunks(2).map(pair));
        })),
    }
}

/// Each group as its lowest value, its step, and codes.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant, codes are clamped")]
#[expect(clippy::cast_sign_loss, reason = "codes are clamped to 0..=255")]
fn write_steps(
    values: &[f32],
    group: usize,
    levels: f64,
    bytes: &mut Vec<u8>,
    put: impl Fn(&[u8], &mut Vec<u8>),
) -> f32 {
    let mut codes = Vec::with_capacity(group);
    let mut error = 0.0f32;
    for values in values.chunks_exact(group) {
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let step = ((f64::from(high) - f64::from(low)) / levels) as f32;
        bytes.extend_from_slice(&low.to_le_bytes());
        bytes.extend_from_slice(&step.to_le_bytes());
        let scale = if step == 0.0 { 0.0 } else { 1.0 / f64::from(step) };
        let code = |&value: &f32| {
            ((f64::from(value) - f64::from(low)) * scale).round().clamp(0.0, levels) as u8
        };
        codes.clear();
        codes.extend(values.iter().map(code));
        put(&codes, bytes);
        // Half a step, and the rounding of low, step and the result to single precision.
        error = error.max(step * 0.5 + (low.abs() + high.abs()) * 2f32.powi(-22));
    }
    error
}

/// The inverse of [`write`] on a payload of the right length.
pub(super) fn read(codec: Codec, payload: &[u8], group: usize) -> Vec<f32> {
    match codec {
        Codec::F32 => {
            payload.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
        }
        Codec::F16 => {
            payload.as_chunks().0.iter().map(|half| f16::from_le_bytes(*half).to_f32()).collect()
        }
        Codec::Bf16 => {
            payload.as_chunks().0.iter().map(|half| bf16::from_le_bytes(*half).to_f32()).collect()
        }
        Codec::Int8 => {
            let mut values = Vec::with_capacity(payload.len());
            for group in payload.chunks_exact(group + 8) {
                let (value, codes) = scale(group);
                values.extend(codes.iter().map(|&code| value(code)));
            }
            values
        }
        Codec::Int4 => {
            let mut values = Vec::with_capacity(payload.len() * 2);
            for bytes in payload.chunks_exact(group.div_ceil(2) + 8) {
                let (value, codes) = scale(bytes);
                let pairs = codes.iter().flat_map(|&pair| [pair & 15, pair >> 4]);
                values.extend(pairs.take(group).map(value));
            }
            values
        }
    }
}

/// A group's rule from codes to values, and its codes.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
fn scale(group: &[u8]) -> (impl Fn(u8) -> f32 + use<>, &[u8]) {
    let (head, codes) = group.split_at(8);
    let number =
        |at: usize| f32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (low, step) = (f64::from(number(0)), f64::from(number(4)));
    (move |code| (low + f64::from(code) * step) as f32, codes)
}
