//! Inputs that nobody's data went into, to measure with.
//!
//! A profile must send something to a server; it sends this. Shapes are the network's own, free sides
//! are the caller's. Start at [`inputs`].

use koinon_model::network::Network;
use koinon_model::program::{DType, Data, OpError, Port, Role, Value};

/// How large one question is, where the network leaves it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows: the first axis.
    pub rows: usize,
    /// Every other free axis: the words of a text.
    pub length: usize,
}

/// Inputs of that size: waves for numbers, small counts for whole numbers, ones for masks.
///
/// # Errors
/// [`OpError`] where a size is beyond what a tensor may have.
pub fn inputs(network: &Network, size: Size) -> Result<Vec<Value>, OpError> {
    if let Some(program) = network.as_program() {
        return program.program().inputs.iter().map(|port| of_port(port, size)).collect();
    }
    let live = network.cuts().first().map_or(&[][..], |cut| cut.live.as_slice());
    let shapes = live.iter().map(|live| live.shape.as_deref().unwrap_or_default());
    shapes.map(|shape| value(DType::F32, [&[size.rows], shape].concat(), false)).collect()
}

fn of_port(port: &Port, size: Size) -> Result<Value, OpError> {
    let sides = port.shape.clone().unwrap_or_else(|| vec![None]);
    let free = |axis: usize| if axis == 0 { size.rows } else { size.length };
    let shape = sides.iter().enumerate().map(|(axis, side)| side.unwrap_or_else(|| free(axis)));
    value(port.dtype, shape.collect(), port.role == Role::Mask)
}

fn value(dtype: DType, shape: Vec<usize>, mask: bool) -> Result<Value, OpError> {
    let n: usize = shape.iter().product();
    let count = |at: usize| if mask { 1 } else { u8::try_from(at % 100).unwrap_or(0) + 1 };
    let counts = (0..n).map(count);
    let data = match dtype {
        DType::F32 if mask => Data::F32(vec![1.0; n]),
        DType::F32 => Data::F32(counts.map(|at| (f32::from(at) * 0.7).sin()).collect()),
        DType::F64 => Data::F64(counts.map(f64::from).collect()),
        DType::I64 => Data::I64(counts.map(i64::from).collect()),
        DType::I32 => Data::I32(counts.map(i32::from).collect()),
        DType::I16 => Data::I16(counts.map(i16::from).collect()),
        DType::I8 => Data::I8(vec![1; n]),
        DType::U8 => Data::U8(counts.collect()),
        DType::U16 => Data::U16(counts.map(u16::from).collect()),
        DType::U32 => Data::U32(counts.map(u32::from).collect()),
        DType::U64 => Data::U64(counts.map(u64::from).collect()),
        DType::Bool => Data::Bool(vec![true; n]),
    };
    Value::new(shape, data)
}
