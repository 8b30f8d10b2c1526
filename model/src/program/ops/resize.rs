//! Interpolation: nearest, linear, cubic, along each axis on its own.
//!
//! A resized tensor is a product of matrices, one an axis, which [`weights`] gives row by row.

use super::super::op::{Coordinates, KeepAspect, Nearest, Resize, ResizeMode};
use super::super::value::{Data, OpError, OpResult, Value, axis, elements, work, wrong};
use super::layout::side_of;
use super::norm::lines;

/// What one axis becomes.
struct Axis {
    from: usize,
    to: usize,
    scale: f64,
    roi: (f64, f64),
}

/// Interpolated to scales or sizes.
pub(super) fn resize(
    x: &Value,
    roi: Option<&Value>,
    scales: Option<&Value>,
    sizes: Option<&Value>,
    how: &Resize,
) -> OpResult<Value> {
    let named = if how.axes.is_empty() {
        (0..x.rank()).collect()
    } else {
        how.axes.iter().map(|&one| axis(one, x.rank())).collect::<OpResult<Vec<_>>>()?
    };
    let plan = plan(x, roi, scales, sizes, (how, &named))?;
    let mut out = super::elementwise::cast(x, super::super::value::DType::F64)?;
    for (&at, axis) in named.iter().zip(&plan) {
        if axis.from != axis.to
            || axis.scale != 1.0
            || how.coordinates == Coordinates::TfCropAndResize
        {
            out = along(&out, at, axis, how)?;
        }
    }
    super::elementwise::cast(&out, x.dtype())
}

fn plan(
    x: &Value,
    roi: Option<&Value>,
    scales: Option<&Value>,
    sizes: Option<&Value>,
    (how, named): (&Resize, &[usize]),
) -> OpResult<Vec<Axis>> {
    let n = named.len();
    let side = |i: usize| x.shape()[named[i]];
    let mut out: Vec<(usize, f64)> = match (scales, sizes) {
        (Some(scales), None) => {
            let scales = scales.f32s()?;
            if scales.len() != n || scales.iter().any(|s| !(*s > 0.0 && *s <= 1e6)) {
                return wrong(format!("{} scales for {n} axes", scales.len()));
            }
            let to = |i: usize| (side(i) as f64 * f64::from(scales[i])).floor();
            (0..n)
                .map(|i| Ok((side_of(to_i64(to(i)))?, f64::from(scales[i]))))
                .collect::<OpResult<_>>()?
        }
        (None, Some(sizes)) => {
            let sizes = sizes.to_i64s()?;
            if sizes.len() != n {
                return wrong(format!("{} sizes for {n} axes", sizes.len()));
            }
            let to = sizes.iter().map(|&one| side_of(one)).collect::<OpResult<Vec<_>>>()?;
            (0..n).map(|i| (to[i], to[i] as f64 / side(i) as f64)).collect()
        }
        _ => return wrong("it reads either scales or sizes"),
    };
    if sizes.is_some() && how.keep_aspect != KeepAspect::Stretch {
        let scales = out.iter().map(|(_, scale)| *scale);
        let scale = if how.keep_aspect == KeepAspect::NotLarger {
            scales.fold(f64::INFINITY, f64::min)
        } else {
            scales.fold(0.0, f64::max)
        };
        for (i, (to, s)) in out.iter_mut().enumerate() {
            *to = side_of(to_i64((side(i) as f64 * scale).round()))?;
            *s = scale;
        }
    }
    let roi = match roi {
        Some(roi) if how.coordinates == Coordinates::TfCropAndResize => {
            let roi = super::elementwise::cast(roi, super::super::value::DType::F64)?;
            roi.slice::<f64>()?.to_vec()
        }
        _ => [vec![0.0; n], vec![1.0; n]].concat(),
    };
    if roi.len() != 2 * n {
        return wrong(format!("a region of {} numbers for {n} axes", roi.len()));
    }
    let whole = |(i, (to, scale)): (usize, &(usize, f64))| side(i) as f64 * scale == *to as f64;
    if how.coordinates == Coordinates::AlignCorners
        && scales.is_some()
        && !out.iter().enumerate().all(whole)
    {
        let words = "corners are aligned by scales that give no whole sides, and where the last \
                     corner lies then is answered differently by ONNX's text and by other programs; \
                     give sizes";
        return Err(OpError::Unsupported(words.into()));
    }
    let axis = |(i, (to, scale)): (usize, (usize, f64))| Axis {
        from: side(i),
        to,
        scale,
        roi: (roi[i], roi[n + i]),
    };
    Ok(out.into_iter().enumerate().map(axis).collect())
}

#[expect(clippy::cast_possible_truncation, reason = "saturates; sides are checked afterwards")]
fn to_i64(number: f64) -> i64 {
    number as i64
}

fn along(x: &Value, at: usize, axis: &Axis, how: &Resize) -> OpResult<Value> {
    if axis.from == 0 {
        return wrong("an empty axis cannot be interpolated");
    }
    let mut shape = x.shape().to_vec();
    shape[at] = axis.to;
    work(&[axis.to, axis.from])?;
    let mut out = vec![0.0f64; elements(&shape)?];
    let rows: Vec<Row> = (0..axis.to).map(|i| weights(i, axis, how)).collect();
    let items = x.slice::<f64>()?;
    for (from, to) in lines(x.shape(), at).zip(lines(&shape, at)) {
        for (row, &cell) in rows.iter().zip(&to) {
            out[cell] = match row {
                Row::Outside => how.extrapolation,
                Row::Sum(terms) => terms.iter().map(|&(i, w)| items[from[i]] * w).sum(),
            };
        }
    }
    Value::new(shape, Data::F64(out))
}

/// Where one element comes from.
enum Row {
    Outside,
    Sum(Vec<(usize, f64)>),
}

fn weights(i: usize, axis: &Axis, how: &Resize) -> Row {
    let (from, to, place) = (axis.from as f64, axis.to as f64, i as f64);
    let last = from - 1.0;
    let x = match how.coordinates {
        Coordinates::HalfPixel => (place + 0.5) / axis.scale - 0.5,
        Coordinates::HalfPixelSymmetric => {
            let adjust = to / (from * axis.scale);
            let offset = from / 2.0 * (1.0 - adjust);
            offset + (place + 0.5) / axis.scale - 0.5
        }
        Coordinates::PytorchHalfPixel if axis.to == 1 => 0.0,
        Coordinates::PytorchHalfPixel => (place + 0.5) / axis.scale - 0.5,
        Coordinates::AlignCorners if axis.to == 1 => 0.0,
        Coordinates::AlignCorners => place * last / (to - 1.0),
        Coordinates::Asymmetric => place / axis.scale,
        Coordinates::TfCropAndResize => {
            let (start, end) = axis.roi;
            if axis.to > 1 {
                start * last + place * (end - start) * last / (to - 1.0)
            } else {
                0.5 * (start + end) * last
            }
        }
    };
    if how.coordinates == Coordinates::TfCropAndResize && !(0.0..=last).contains(&x) {
        return Row::Outside;
    }
    let clamp = |i: f64| usize::try_from(to_i64(i.clamp(0.0, last))).unwrap_or(0);
    if how.mode == ResizeMode::Nearest {
        let nearest = match how.nearest {
            Nearest::RoundPreferFloor => (x - 0.5).ceil(),
            Nearest::RoundPreferCeil => (x + 0.5).floor(),
            Nearest::Floor => x.floor(),
            Nearest::Ceil => x.ceil(),
        };
        return Row::Sum(vec![(clamp(nearest), 1.0)]);
    }
    // Smaller with antialiasing: the kernel is as wide as the cells that become one.
    let stretch = if how.antialias { axis.scale.min(1.0) } else { 1.0 };
    let reach = if how.mode == ResizeMode::Linear { 1.0 } else { 2.0 };
    let first = (x - reach / stretch).floor() + 1.0;
    let mut terms = Vec::new();
    let mut k = first;
    while k < x + reach / stretch {
        let distance = ((x - k) * stretch).abs();
        let weight = match how.mode {
            ResizeMode::Linear => (1.0 - distance).max(0.0),
            _ => cubic(distance, how.cubic_a),
        };
        let outside = !(0.0..=last).contains(&k);
        if !(how.exclude_outside && outside) {
            terms.push((clamp(k), weight));
        }
        k += 1.0;
    }
    if how.exclude_outside || how.antialias {
        let sum: f64 = terms.iter().map(|(_, weight)| weight).sum();
        terms.iter_mut().for_each(|(_, weight)| *weight /= sum);
    }
    Row::Sum(terms)
}

/// Keys 1981, with parameter a.
fn cubic(x: f64, a: f64) -> f64 {
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}
