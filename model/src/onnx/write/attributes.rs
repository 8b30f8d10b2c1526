//! For each operation the operator of ONNX, the version that it needs, and its attributes.
//!
//! The counterpart of the readers in `onnx/ops`. Start at [`written`].

use crate::onnx::proto::{AttributeProto, kind};
use crate::onnx::tensors;
use crate::program::Value;
use crate::program::op::{
    Binary, Coordinates, Fold, KeepAspect, LossReduction, Nearest, PadMode, Pads, Pool, Reduce,
    Resize, ResizeMode, Scatter, Softmax, TensorOp as Op, Unary, Window,
};

/// See the module.
pub(super) struct Written {
    pub(super) op: &'static str,
    /// Version of the operators that has it in this form.
    pub(super) since: i64,
    pub(super) attribute: Vec<AttributeProto>,
    /// How many inputs stay inputs, if not all.
    pub(super) inputs: Option<usize>,
}

fn plain(op: &'static str) -> Written {
    with(op, Vec::new())
}

fn with(op: &'static str, attribute: Vec<AttributeProto>) -> Written {
    Written { op, since: 0, attribute, inputs: None }
}

impl Written {
    fn since(self, since: i64) -> Self {
        Self { since, ..self }
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, kind: kind::INT, ..AttributeProto::default() }
}

fn flag(name: &str, on: bool) -> AttributeProto {
    int(name, i64::from(on))
}

fn size(name: &str, size: usize) -> AttributeProto {
    int(name, i64::try_from(size).unwrap_or(i64::MAX))
}

fn sizes(name: &str, items: &[usize]) -> AttributeProto {
    ints(name, &items.iter().map(|&one| i64::try_from(one).unwrap_or(i64::MAX)).collect::<Vec<_>>())
}

fn ints(name: &str, items: &[i64]) -> AttributeProto {
    let ints = items.to_vec();
    AttributeProto { name: name.into(), ints, kind: kind::INTS, ..AttributeProto::default() }
}

#[expect(clippy::cast_possible_truncation, reason = "ONNX has single precision in attributes")]
fn float(name: &str, f: f64) -> AttributeProto {
    let f = f as f32;
    AttributeProto { name: name.into(), f, kind: kind::FLOAT, ..AttributeProto::default() }
}

fn text(name: &str, s: &str) -> AttributeProto {
    let s = s.as_bytes().to_vec();
    AttributeProto { name: name.into(), s, kind: kind::STRING, ..AttributeProto::default() }
}

/// The operator of an operation.
///
/// # Errors
/// Why ONNX has no operator of the same meaning, or it is not written.
pub(super) fn written<'a>(
    op: &Op,
    constant: &dyn Fn(usize) -> Option<&'a Value>,
) -> Result<Written, String> {
    Ok(match op {
        Op::Unary(op) => unary(*op),
        Op::Binary(op) => binary(*op),
        Op::Fold(op) => plain(match op {
            Fold::Max => "Max",
            Fold::Min => "Min",
            Fold::Sum => "Sum",
            Fold::Mean => "Mean",
        }),
        Op::Where => plain("Where"),
        Op::Clip => plain("Clip"),
        Op::Cast(to) => with("Cast", vec![int("to", tensors::code(*to).into())]),
        Op::Identity => plain("Identity"),
        Op::MatMul => plain("MatMul"),
        Op::Gemm { alpha, beta, trans_a, trans_b } => with(
            "Gemm",
            vec![
                float("alpha", *alpha),
                float("beta", *beta),
                flag("transA", *trans_a),
                flag("transB", *trans_b),
            ],
        ),
        Op::Det => plain("Det"),
        Op::Rotary(how) => with(
            "RotaryEmbedding",
            vec![
                flag("interleaved", how.interleaved),
                size("num_heads", how.heads.unwrap_or(0)),
                size("rotary_embedding_dim", how.width),
            ],
        )
        .since(23),
        Op::CrossEntropy { softmax, reduction, ignore } => {
            let name =
                if *softmax { "SoftmaxCrossEntropyLoss" } else { "NegativeLogLikelihoodLoss" };
            let reduction = match reduction {
                LossReduction::None => "none",
                LossReduction::Sum => "sum",
                LossReduction::Mean => "mean",
            };
            let ignore = ignore.map(|class| int("ignore_index", class));
            with(name, ignore.into_iter().chain([text("reduction", reduction)]).collect())
        }
        Op::Attention(how) => {
            let mut all = vec![flag("is_causal", how.causal), float("softcap", how.softcap)];
            all.extend(how.scale.map(|scale| float("scale", scale)));
            all.extend(how.q_heads.map(|heads| size("q_num_heads", heads)));
            all.extend(how.kv_heads.map(|heads| size("kv_num_heads", heads)));
            with("Attention", all).since(23)
        }
        Op::Recurrent(_) => return Err("recurrent networks are not written".into()),
        _ => match windows(op)? {
            Some(found) => found,
            None => match norms(op)? {
                Some(found) => found,
                None => arranged(op, constant)?,
            },
        },
    })
}

fn unary(op: Unary) -> Written {
    let alpha = |name, alpha| with(name, vec![float("alpha", alpha)]);
    match op {
        Unary::Gelu { tanh } => {
            with("Gelu", vec![text("approximate", if tanh { "tanh" } else { "none" })]).since(20)
        }
        Unary::Swish { alpha: own } => alpha("Swish", own).since(24),
        Unary::LeakyRelu { alpha: own } => alpha("LeakyRelu", own),
        Unary::Elu { alpha: own } => alpha("Elu", own),
        Unary::Celu { alpha: own } => alpha("Celu", own),
        Unary::ThresholdedRelu { alpha: own } => alpha("ThresholdedRelu", own),
        Unary::Selu { alpha, gamma } => {
            with("Selu", vec![float("alpha", alpha), float("gamma", gamma)])
        }
        Unary::HardSigmoid { alpha, beta } => {
            with("HardSigmoid", vec![float("alpha", alpha), float("beta", beta)])
        }
        Unary::Shrink { lambd, bias } => {
            with("Shrink", vec![float("lambd", lambd), float("bias", bias)])
        }
        Unary::IsInf { negative, positive } => with(
            "IsInf",
            vec![flag("detect_negative", negative), flag("detect_positive", positive)],
        ),
        Unary::Abs => plain("Abs"),
        Unary::Neg => plain("Neg"),
        Unary::Ceil => plain("Ceil"),
        Unary::Floor => plain("Floor"),
        Unary::Round => plain("Round"),
        Unary::Sign => plain("Sign"),
        Unary::Sqrt => plain("Sqrt"),
        Unary::Reciprocal => plain("Reciprocal"),
        Unary::Exp => plain("Exp"),
        Unary::Log => plain("Log"),
        Unary::Sin => plain("Sin"),
        Unary::Cos => plain("Cos"),
        Unary::Tan => plain("Tan"),
        Unary::Asin => plain("Asin"),
        Unary::Acos => plain("Acos"),
        Unary::Atan => plain("Atan"),
        Unary::Sinh => plain("Sinh"),
        Unary::Cosh => plain("Cosh"),
        Unary::Tanh => plain("Tanh"),
        Unary::Asinh => plain("Asinh"),
        Unary::Acosh => plain("Acosh"),
        Unary::Atanh => plain("Atanh"),
        Unary::Erf => plain("Erf"),
        Unary::Sigmoid => plain("Sigmoid"),
        Unary::Relu => plain("Relu"),
        Unary::Softplus => plain("Softplus"),
        Unary::Softsign => plain("Softsign"),
        Unary::Mish => plain("Mish"),
        Unary::HardSwish => plain("HardSwish"),
        Unary::IsNan => plain("IsNaN"),
        Unary::Not => plain("Not"),
        Unary::BitwiseNot => plain("BitwiseNot"),
    }
}

fn binary(op: Binary) -> Written {
    match op {
        Binary::Mod { fmod } => with("Mod", vec![flag("fmod", fmod)]),
        Binary::BitShift { left } => {
            with("BitShift", vec![text("direction", if left { "LEFT" } else { "RIGHT" })])
        }
        Binary::Add => plain("Add"),
        Binary::Sub => plain("Sub"),
        Binary::Mul => plain("Mul"),
        Binary::Div => plain("Div"),
        Binary::Pow => plain("Pow"),
        Binary::PRelu => plain("PRelu"),
        Binary::BitwiseAnd => plain("BitwiseAnd"),
        Binary::BitwiseOr => plain("BitwiseOr"),
        Binary::BitwiseXor => plain("BitwiseXor"),
        Binary::And => plain("And"),
        Binary::Or => plain("Or"),
        Binary::Xor => plain("Xor"),
        Binary::Equal => plain("Equal"),
        Binary::Less => plain("Less"),
        Binary::LessOrEqual => plain("LessOrEqual"),
        Binary::Greater => plain("Greater"),
        Binary::GreaterOrEqual => plain("GreaterOrEqual"),
    }
}

fn window(own: &Window) -> Vec<AttributeProto> {
    let mut all = Vec::new();
    if !own.strides.is_empty() {
        all.push(sizes("strides", &own.strides));
    }
    if !own.dilations.is_empty() {
        all.push(sizes("dilations", &own.dilations));
    }
    match &own.pads {
        Pads::Explicit(pads) if pads.is_empty() => {}
        Pads::Explicit(pads) => all.push(sizes("pads", pads)),
        Pads::SameUpper => all.push(text("auto_pad", "SAME_UPPER")),
        Pads::SameLower => all.push(text("auto_pad", "SAME_LOWER")),
    }
    all
}

fn windows(op: &Op) -> Result<Option<Written>, String> {
    Ok(Some(match op {
        Op::Conv { window: own, groups } => {
            let mut all = window(own);
            all.push(size("group", *groups));
            with("Conv", all)
        }
        Op::ConvTranspose { window: own, groups, output_padding, output_shape } => {
            let mut all = window(own);
            all.push(size("group", *groups));
            if !output_padding.is_empty() {
                all.push(sizes("output_padding", output_padding));
            }
            all.extend(output_shape.as_ref().map(|shape| sizes("output_shape", shape)));
            with("ConvTranspose", all)
        }
        Op::Pool { kind, kernel, window: own, ceil } => {
            let mut all = window(own);
            all.push(sizes("kernel_shape", kernel));
            all.push(flag("ceil_mode", *ceil));
            match kind {
                Pool::Max { column_major } => {
                    all.push(flag("storage_order", *column_major));
                    with("MaxPool", all)
                }
                Pool::Average { count_pads } => {
                    all.push(flag("count_include_pad", *count_pads));
                    with("AveragePool", all).since(19)
                }
                Pool::Lp(p) => {
                    all.push(int("p", (*p).into()));
                    with("LpPool", all)
                }
            }
        }
        Op::GlobalPool(kind) => match kind {
            Pool::Max { .. } => plain("GlobalMaxPool"),
            Pool::Average { .. } => plain("GlobalAveragePool"),
            Pool::Lp(p) => with("GlobalLpPool", vec![int("p", (*p).into())]),
        },
        Op::MaxUnpool { kernel, window: own } => {
            let mut all = window(own);
            all.push(sizes("kernel_shape", kernel));
            with("MaxUnpool", all)
        }
        Op::Resize(how) => resize(how),
        _ => return Ok(None),
    }))
}

fn resize(how: &Resize) -> Written {
    let mode = match how.mode {
        ResizeMode::Nearest => "nearest",
        ResizeMode::Linear => "linear",
        ResizeMode::Cubic => "cubic",
    };
    let coordinates = match how.coordinates {
        Coordinates::HalfPixel => "half_pixel",
        Coordinates::HalfPixelSymmetric => "half_pixel_symmetric",
        Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
        Coordinates::AlignCorners => "align_corners",
        Coordinates::Asymmetric => "asymmetric",
        Coordinates::TfCropAndResize => "tf_crop_and_resize",
    };
    let nearest = match how.nearest {
        Nearest::RoundPreferFloor => "round_prefer_floor",
        Nearest::RoundPreferCeil => "round_prefer_ceil",
        Nearest::Floor => "floor",
        Nearest::Ceil => "ceil",
    };
    let aspect = match how.keep_aspect {
        KeepAspect::Stretch => "stretch",
        KeepAspect::NotLarger => "not_larger",
        KeepAspect::NotSmaller => "not_smaller",
    };
    let mut all = vec![
        text("mode", mode),
        text("coordinate_transformation_mode", coordinates),
        text("nearest_mode", nearest),
        text("keep_aspect_ratio_policy", aspect),
        float("cubic_coeff_a", how.cubic_a),
        flag("exclude_outside", how.exclude_outside),
        float("extrapolation_value", how.extrapolation),
        flag("antialias", how.antialias),
    ];
    if !how.axes.is_empty() {
        all.push(ints("axes", &how.axes));
    }
    with("Resize", all).since(19)
}

fn norms(op: &Op) -> Result<Option<Written>, String> {
    let eps = |name, eps: f64| with(name, vec![float("epsilon", eps)]);
    let axial =
        |name, axis: i64, eps: f64| with(name, vec![int("axis", axis), float("epsilon", eps)]);
    Ok(Some(match op {
        Op::BatchNorm { eps: own } => eps("BatchNormalization", *own),
        Op::InstanceNorm { eps: own } => eps("InstanceNormalization", *own),
        Op::LayerNorm { axis, eps } => axial("LayerNormalization", *axis, *eps),
        Op::RmsNorm { axis, eps } => axial("RMSNormalization", *axis, *eps).since(23),
        Op::GroupNorm { groups, eps } => {
            with("GroupNormalization", vec![size("num_groups", *groups), float("epsilon", *eps)])
                .since(21)
        }
        Op::Lrn { size: own, alpha, beta, bias } => with(
            "LRN",
            vec![
                size("size", *own),
                float("alpha", *alpha),
                float("beta", *beta),
                float("bias", *bias),
            ],
        ),
        Op::LpNorm { axis, p } => {
            with("LpNormalization", vec![int("axis", *axis), int("p", (*p).into())])
        }
        Op::MeanVarianceNorm { axes } => {
            with("MeanVarianceNormalization", vec![ints("axes", axes)])
        }
        Op::Softmax { flat: true, .. } => {
            return Err("its softmax is that of before version 13, over several axes".into());
        }
        Op::Softmax { kind, axis, .. } => {
            let name = match kind {
                Softmax::Softmax => "Softmax",
                Softmax::LogSoftmax => "LogSoftmax",
                Softmax::Hardmax => "Hardmax",
            };
            with(name, vec![int("axis", *axis)])
        }
        Op::Reduce { kind, keep, noop_if_empty } => {
            let name = match kind {
                Reduce::Sum => "ReduceSum",
                Reduce::Mean => "ReduceMean",
                Reduce::Max => "ReduceMax",
                Reduce::Min => "ReduceMin",
                Reduce::Prod => "ReduceProd",
                Reduce::L1 => "ReduceL1",
                Reduce::L2 => "ReduceL2",
                Reduce::LogSum => "ReduceLogSum",
                Reduce::LogSumExp => "ReduceLogSumExp",
                Reduce::SumSquare => "ReduceSumSquare",
            };
            with(name, vec![flag("keepdims", *keep), flag("noop_with_empty_axes", *noop_if_empty)])
        }
        Op::ArgExtreme { max, axis, keep, last } => with(
            if *max { "ArgMax" } else { "ArgMin" },
            vec![int("axis", *axis), flag("keepdims", *keep), flag("select_last_index", *last)],
        ),
        Op::Cumulate { product: true, .. } => return Err("running products are not written".into()),
        Op::Cumulate { exclusive, reverse, .. } => {
            with("CumSum", vec![flag("exclusive", *exclusive), flag("reverse", *reverse)])
        }
        Op::TopK { axis, largest } => {
            with("TopK", vec![int("axis", *axis), flag("largest", *largest), flag("sorted", true)])
        }
        _ => return Ok(None),
    }))
}

fn scatter(op: &'static str, how: Scatter, axis: Option<i64>) -> Written {
    let reduction = match how {
        Scatter::Set => "none",
        Scatter::Add => "add",
        Scatter::Mul => "mul",
        Scatter::Max => "max",
        Scatter::Min => "min",
    };
    let axis = axis.map(|axis| int("axis", axis));
    with(op, axis.into_iter().chain([text("reduction", reduction)]).collect())
}

fn arranged<'a>(op: &Op, constant: &dyn Fn(usize) -> Option<&'a Value>) -> Result<Written, String> {
    let axial = |name, axis: i64| with(name, vec![int("axis", axis)]);
    Ok(match op {
        Op::Shape { start, end } => {
            let end = end.map(|end| int("end", end));
            with("Shape", [int("start", *start)].into_iter().chain(end).collect())
        }
        Op::Size => plain("Size"),
        Op::Reshape { zeros } => with("Reshape", vec![flag("allowzero", *zeros)]),
        Op::Transpose { perm } => {
            with("Transpose", perm.iter().map(|perm| sizes("perm", perm)).collect())
        }
        Op::Flatten { axis } => axial("Flatten", *axis),
        Op::Squeeze => plain("Squeeze"),
        Op::Unsqueeze => plain("Unsqueeze"),
        Op::Expand => plain("Expand"),
        Op::Tile => plain("Tile"),
        Op::Concat { axis } => axial("Concat", *axis),
        Op::Split { axis, parts } => {
            let mut all = vec![int("axis", *axis)];
            if constant(1).is_none() {
                all.push(size("num_outputs", *parts));
            }
            with("Split", all)
        }
        Op::Slice => plain("Slice"),
        Op::Pad { mode } => {
            let mode = match mode {
                PadMode::Constant => "constant",
                PadMode::Reflect => "reflect",
                PadMode::Edge => "edge",
                PadMode::Wrap => "wrap",
            };
            with("Pad", vec![text("mode", mode)]).since(19)
        }
        Op::CenterCropPad { axes } if axes.is_empty() => plain("CenterCropPad"),
        Op::CenterCropPad { axes } => with("CenterCropPad", vec![ints("axes", axes)]),
        Op::DepthToSpace { block, crd } => with(
            "DepthToSpace",
            vec![size("blocksize", *block), text("mode", if *crd { "CRD" } else { "DCR" })],
        ),
        Op::SpaceToDepth { block } => with("SpaceToDepth", vec![size("blocksize", *block)]),
        Op::ReverseSequence { batch_axis, time_axis } => with(
            "ReverseSequence",
            vec![size("batch_axis", *batch_axis), size("time_axis", *time_axis)],
        ),
        Op::ConstantOfShape => {
            let item = constant(1).ok_or("what it is filled with is no constant")?;
            let mut tensor = super::tensor("", item);
            tensor.dims = vec![1];
            let t = Some(tensor);
            let value = AttributeProto {
                name: "value".into(),
                t,
                kind: kind::TENSOR,
                ..AttributeProto::default()
            };
            Written { inputs: Some(1), ..with("ConstantOfShape", vec![value]) }
        }
        _ => return indexed(op).ok_or_else(|| "this operation is not written".into()),
    })
}

fn indexed(op: &Op) -> Option<Written> {
    let axial = |name, axis: i64| with(name, vec![int("axis", axis)]);
    Some(match op {
        Op::Gather { axis } => axial("Gather", *axis),
        Op::GatherElements { axis } => axial("GatherElements", *axis),
        Op::GatherNd { batch_dims } => with("GatherND", vec![size("batch_dims", *batch_dims)]),
        Op::ScatterElements { axis, reduction } => {
            scatter("ScatterElements", *reduction, Some(*axis))
        }
        Op::ScatterNd { reduction } => scatter("ScatterND", *reduction, None),
        Op::Compress { axis } => {
            with("Compress", axis.iter().map(|axis| int("axis", *axis)).collect())
        }
        Op::OneHot { axis } => axial("OneHot", *axis),
        Op::NonZero => plain("NonZero"),
        Op::Trilu { upper } => with("Trilu", vec![flag("upper", *upper)]),
        Op::EyeLike { dtype, k } => {
            let dtype = dtype.map(|dtype| int("dtype", tensors::code(dtype).into()));
            with("EyeLike", [int("k", *k)].into_iter().chain(dtype).collect())
        }
        Op::Range => plain("Range"),
        _ => return None,
    })
}
