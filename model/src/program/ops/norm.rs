//! Norms and softmax.
//!
//! Statistics in double precision. Start at [`by_statistics`], which most of them are.

use super::super::op::Softmax;
use super::super::value::{Element, OpResult, Value, axes, axis, wrong};
use super::broadcast::{Places, stretched};

/// By given statistics for each channel.
pub(super) fn batch(x: &Value, by: [&Value; 4], eps: f64) -> OpResult<Value> {
    let [scale, bias, mean, variance] = by;
    let channels = *x.shape().get(1).unwrap_or(&1);
    let [scale, bias, mean, variance] =
        [scale.f32s()?, bias.f32s()?, mean.f32s()?, variance.f32s()?];
    if [scale, bias, mean, variance].iter().any(|all| all.len() != channels) {
        return wrong(format!("statistics of another length than {channels} channels"));
    }
    let cells: usize = x.shape().iter().skip(2).product();
    let normal = |(i, &item): (usize, &f32)| {
        let c = i / cells.max(1) % channels.max(1);
        let deviation = (f64::from(variance[c]) + eps).sqrt();
        let unit = (f64::from(item) - f64::from(mean[c])) / deviation;
        f32::from_f64(unit * f64::from(scale[c]) + f64::from(bias[c]))
    };
    Value::of(x.shape().to_vec(), x.f32s()?.iter().enumerate().map(normal).collect())
}

/// Mean 0 and variance 1 in runs of `width` elements; gives means and 1/σ as well.
pub(super) fn by_statistics(
    items: &[f32],
    width: usize,
    eps: f64,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut out, mut means, mut inverses) = (Vec::with_capacity(items.len()), vec![], vec![]);
    for run in items.chunks(width.max(1)) {
        let n = run.len() as f64;
        let mean = run.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = run.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        let inverse = 1.0 / (variance + eps).sqrt();
        out.extend(run.iter().map(|&x| (f64::from(x) - mean) * inverse));
        means.push(mean);
        inverses.push(inverse);
    }
    (out, means, inverses)
}

/// By groups of channels (or single ones), then scale and bias for each channel or group.
pub(super) fn groups(
    x: &Value,
    scale: &Value,
    bias: &Value,
    groups: Option<usize>,
    eps: f64,
) -> OpResult<Value> {
    let [_, channels, cells @ ..] = x.shape() else { return wrong("it reads [n, c, …]") };
    let (channels, cells) = (*channels, cells.iter().product::<usize>());
    let groups = groups.unwrap_or(channels);
    if groups == 0 || !channels.is_multiple_of(groups) {
        return wrong(format!("{channels} channels cannot be split into {groups} groups"));
    }
    let (normal, _, _) = by_statistics(x.f32s()?, channels / groups * cells, eps);
    let (scale, bias) = (scale.f32s()?, bias.f32s()?);
    // Up to opset 20 scale and bias are for groups, later for channels.
    let each = match scale.len() {
        len if len == channels => 1,
        len if len == groups => channels / groups,
        len => return wrong(format!("a scale of {len} numbers for {channels} channels")),
    };
    if bias.len() != scale.len() {
        return wrong("scale and bias have different lengths");
    }
    let finish = |(i, unit): (usize, &f64)| {
        let c = i / cells.max(1) % channels / each;
        f32::from_f64(unit * f64::from(scale[c]) + f64::from(bias[c]))
    };
    Value::of(x.shape().to_vec(), normal.iter().enumerate().map(finish).collect())
}

/// By all axes from `first` on; gives mean and 1/σ as well.
pub(super) fn layer(
    x: &Value,
    scale: &Value,
    bias: Option<&Value>,
    first: i64,
    eps: f64,
) -> OpResult<Vec<Value>> {
    let first = axis(first, x.rank())?;
    let width = x.shape()[first..].iter().product();
    let (normal, means, inverses) = by_statistics(x.f32s()?, width, eps);
    let out = affine(x, &normal, scale, bias)?;
    let mut small = x.shape().to_vec();
    small[first..].fill(1);
    let single = |all: Vec<f64>| all.into_iter().map(f32::from_f64).collect();
    Ok(vec![
        out,
        Value::of::<f32>(small.clone(), single(means))?,
        Value::of::<f32>(small, single(inverses))?,
    ])
}

/// Times a scale plus a bias, both stretched to the shape of `x`.
fn affine(x: &Value, normal: &[f64], scale: &Value, bias: Option<&Value>) -> OpResult<Value> {
    let shape = x.shape();
    let fits = |value: &Value| {
        super::broadcast::broadcast(&[value.shape(), shape]).is_ok_and(|both| both == shape)
    };
    if !fits(scale) || bias.is_some_and(|bias| !fits(bias)) {
        return wrong(format!("scale or bias does not fit {shape:?}"));
    }
    let (scales, places) = (scale.f32s()?, Places::new(shape, stretched(scale.shape(), shape), 0));
    let mut out: Vec<f64> =
        normal.iter().zip(places).map(|(unit, at)| unit * f64::from(scales[at])).collect();
    if let Some(bias) = bias {
        let places = Places::new(shape, stretched(bias.shape(), shape), 0);
        let biases = bias.f32s()?;
        out.iter_mut().zip(places).for_each(|(sum, at)| *sum += f64::from(biases[at]));
    }
    Value::of(shape.to_vec(), out.into_iter().map(f32::from_f64).collect())
}

/// By the root mean square of all axes from `first` on.
pub(super) fn rms(x: &Value, scale: &Value, first: i64, eps: f64) -> OpResult<Value> {
    let first = axis(first, x.rank())?;
    let width: usize = x.shape()[first..].iter().product();
    let mut normal = Vec::with_capacity(x.len());
    for run in x.f32s()?.chunks(width.max(1)) {
        let square = run.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / run.len() as f64;
        let inverse = 1.0 / (square + eps).sqrt();
        normal.extend(run.iter().map(|&x| f64::from(x) * inverse));
    }
    affine(x, &normal, scale, None)
}

/// By neighbouring channels.
pub(super) fn lrn(x: &Value, size: usize, [alpha, beta, bias]: [f64; 3]) -> OpResult<Value> {
    let [n, c, cells @ ..] = x.shape() else { return wrong("it reads [n, c, …]") };
    let (n, c, cells) = (*n, *c, cells.iter().product::<usize>());
    if size == 0 {
        return wrong("a size of 0");
    }
    let items = x.f32s()?;
    let mut out = Vec::with_capacity(items.len());
    for (i, &item) in items.iter().enumerate() {
        let (row, channel, cell) = (i / (c * cells), i / cells % c, i % cells);
        let first = channel.saturating_sub((size - 1) / 2);
        let last = (channel + size / 2).min(c - 1);
        let squares =
            (first..=last).map(|k| f64::from(items[(row * c + k) * cells + cell]).powi(2));
        let base = bias + alpha / size as f64 * squares.sum::<f64>();
        out.push(f32::from_f64(f64::from(item) / base.powf(beta)));
    }
    debug_assert_eq!(out.len(), n * c * cells);
    Value::of(x.shape().to_vec(), out)
}

/// Runs along an axis: for each, the places of its elements.
pub(super) fn lines(shape: &[usize], at: usize) -> impl Iterator<Item = Vec<usize>> {
    let (side, inner) = (shape[at], shape[at + 1..].iter().product::<usize>());
    let outer: usize = shape[..at].iter().product();
    (0..outer).flat_map(move |o| {
        (0..inner).map(move |i| (0..side).map(|k| (o * side + k) * inner + i).collect())
    })
}

/// By the p-norm along an axis.
pub(super) fn lp(x: &Value, at: i64, p: u8) -> OpResult<Value> {
    let at = axis(at, x.rank())?;
    let items = x.f32s()?;
    let mut out = vec![0.0f32; items.len()];
    for line in lines(x.shape(), at) {
        let sum: f64 = line.iter().map(|&i| f64::from(items[i]).abs().powi(i32::from(p))).sum();
        let norm = if p == 2 { sum.sqrt() } else { sum };
        for &i in &line {
            out[i] = if norm == 0.0 { 0.0 } else { f32::from_f64(f64::from(items[i]) / norm) };
        }
    }
    Value::of(x.shape().to_vec(), out)
}

/// Mean 0 and variance 1 over axes.
pub(super) fn mean_variance(x: &Value, over: &[i64]) -> OpResult<Value> {
    let over = axes(over, x.rank())?;
    let keep: Vec<usize> = (0..x.rank()).filter(|at| !over.contains(at)).collect();
    let order = [keep.clone(), over].concat();
    let turned = super::layout::transpose(x, Some(&order))?;
    let width: usize = turned.shape()[keep.len()..].iter().product();
    let (normal, _, _) = by_statistics(turned.f32s()?, width, 1e-9);
    let shape = turned.shape().to_vec();
    let normal = Value::of(shape, normal.into_iter().map(f32::from_f64).collect())?;
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(i, &at)| back[at] = i);
    super::layout::transpose(&normal, Some(&back))
}

/// Softmax and its kin.
pub(super) fn softmax(x: &Value, kind: Softmax, at: i64, flat: bool) -> OpResult<Value> {
    let signed = i64::try_from(x.rank()).unwrap_or(i64::MAX);
    if flat && (0..=signed).contains(&(if at < 0 { at + signed } else { at })) {
        let two = super::layout::flatten(x, at)?;
        return softmax(&two, kind, 1, false)?.reshaped(x.shape().to_vec());
    }
    let at = axis(at, x.rank())?;
    let items = x.f32s()?;
    let mut out = vec![0.0f32; items.len()];
    for line in lines(x.shape(), at) {
        let top = line.iter().map(|&i| f64::from(items[i])).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = line.iter().map(|&i| (f64::from(items[i]) - top).exp()).sum();
        let mut first = true;
        for &i in &line {
            let shifted = f64::from(items[i]) - top;
            out[i] = f32::from_f64(match kind {
                Softmax::Softmax => shifted.exp() / sum,
                Softmax::LogSoftmax => shifted - sum.ln(),
                Softmax::Hardmax => {
                    let hit = first && shifted == 0.0;
                    first &= !hit;
                    f64::from(u8::from(hit))
                }
            });
        }
    }
    Value::of(x.shape().to_vec(), out)
}
