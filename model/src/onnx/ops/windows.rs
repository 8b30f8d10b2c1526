//! Convolutions, pools, interpolation.

use super::super::OnnxError;
use super::super::node::NodeReader;
use super::Read;
use crate::program::op::{
    Coordinates, KeepAspect, Nearest, Pads, Pool, Resize, ResizeMode, TensorOp, Window,
};
use crate::program::value::Value;

pub(super) fn read(node: &mut NodeReader<'_>) -> Read {
    Ok(Some(match node.op() {
        "Conv" => {
            node.sizes("kernel_shape")?;
            let groups = node.size("group")?.unwrap_or(1);
            TensorOp::Conv { window: window(node)?, groups }
        }
        "ConvTranspose" => {
            node.sizes("kernel_shape")?;
            let groups = node.size("group")?.unwrap_or(1);
            let shape = node.sizes("output_shape")?;
            TensorOp::ConvTranspose {
                window: window(node)?,
                groups,
                output_padding: node.sizes("output_padding")?,
                output_shape: (!shape.is_empty()).then_some(shape),
            }
        }
        "MaxPool" => {
            let column_major = node.flag("storage_order", false)?;
            pool(node, Pool::Max { column_major })?
        }
        "AveragePool" => {
            let count_pads = node.flag("count_include_pad", false)?;
            pool(node, Pool::Average { count_pads })?
        }
        "LpPool" => {
            let p = u32::try_from(node.int_or("p", 2)?).unwrap_or(0);
            if !(1..=16).contains(&p) {
                return Err(node.unsupported(format!("p = {p}")));
            }
            pool(node, Pool::Lp(p))?
        }
        "GlobalMaxPool" => TensorOp::GlobalPool(Pool::Max { column_major: false }),
        "GlobalAveragePool" => TensorOp::GlobalPool(Pool::Average { count_pads: false }),
        "GlobalLpPool" => {
            let p = u32::try_from(node.int_or("p", 2)?).unwrap_or(0);
            if !(1..=16).contains(&p) {
                return Err(node.unsupported(format!("p = {p}")));
            }
            TensorOp::GlobalPool(Pool::Lp(p))
        }
        "MaxUnpool" => {
            TensorOp::MaxUnpool { kernel: node.sizes("kernel_shape")?, window: window(node)? }
        }
        "Resize" | "Upsample" => resize(node)?,
        _ => return Ok(None),
    }))
}

fn window(node: &mut NodeReader<'_>) -> Result<Window, OnnxError> {
    let explicit = node.sizes("pads")?;
    let pads = match node.text("auto_pad")?.unwrap_or("NOTSET") {
        "NOTSET" => Pads::Explicit(explicit),
        "VALID" => Pads::Explicit(Vec::new()),
        "SAME_UPPER" => Pads::SameUpper,
        "SAME_LOWER" => Pads::SameLower,
        other => return Err(node.unsupported(format!("auto_pad `{other}`"))),
    };
    Ok(Window { strides: node.sizes("strides")?, dilations: node.sizes("dilations")?, pads })
}

fn pool(node: &mut NodeReader<'_>, kind: Pool) -> Result<TensorOp, OnnxError> {
    let kernel = node.sizes("kernel_shape")?;
    let ceil = node.flag("ceil_mode", false)?;
    Ok(TensorOp::Pool { kind, kernel, window: window(node)?, ceil })
}

fn resize(node: &mut NodeReader<'_>) -> Result<TensorOp, OnnxError> {
    let mode = match node.text("mode")?.unwrap_or("nearest") {
        "nearest" => ResizeMode::Nearest,
        "linear" | "bilinear" => ResizeMode::Linear,
        "cubic" => ResizeMode::Cubic,
        other => return Err(node.unsupported(format!("mode `{other}`"))),
    };
    let old = node.op() == "Upsample" || node.opset < 11;
    if let Some(scales) = node.floats("scales")? {
        let made = Value::of(vec![scales.len()], scales);
        let made = made.map_err(|error| node.unsupported(error.to_string()))?;
        node.constant(1, made);
    }
    if old {
        // Scales were the second input, before there was a region.
        node.inputs.insert(1, super::super::node::Source::Absent);
    }
    let coordinates = match node.text("coordinate_transformation_mode")? {
        None if old => Coordinates::Asymmetric,
        None | Some("half_pixel") => Coordinates::HalfPixel,
        Some("half_pixel_symmetric") => Coordinates::HalfPixelSymmetric,
        Some("pytorch_half_pixel") => Coordinates::PytorchHalfPixel,
        Some("align_corners") => Coordinates::AlignCorners,
        Some("asymmetric") => Coordinates::Asymmetric,
        Some("tf_crop_and_resize") => Coordinates::TfCropAndResize,
        Some(other) => return Err(node.unsupported(format!("coordinates `{other}`"))),
    };
    let nearest = match node.text("nearest_mode")? {
        None if old => Nearest::Floor,
        None | Some("round_prefer_floor") => Nearest::RoundPreferFloor,
        Some("round_prefer_ceil") => Nearest::RoundPreferCeil,
        Some("floor") => Nearest::Floor,
        Some("ceil") => Nearest::Ceil,
        Some(other) => return Err(node.unsupported(format!("nearest_mode `{other}`"))),
    };
    let keep_aspect = match node.text("keep_aspect_ratio_policy")?.unwrap_or("stretch") {
        "stretch" => KeepAspect::Stretch,
        "not_larger" => KeepAspect::NotLarger,
        "not_smaller" => KeepAspect::NotSmaller,
        other => return Err(node.unsupported(format!("policy `{other}`"))),
    };
    Ok(TensorOp::Resize(Resize {
        mode,
        coordinates,
        nearest,
        cubic_a: node.float_or("cubic_coeff_a", -0.75)?,
        exclude_outside: node.flag("exclude_outside", false)?,
        extrapolation: node.float_or("extrapolation_value", 0.0)?,
        antialias: node.flag("antialias", false)?,
        axes: node.ints("axes")?.unwrap_or_default(),
        keep_aspect,
    }))
}
