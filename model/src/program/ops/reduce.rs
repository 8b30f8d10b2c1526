//! Many elements to one: sums, extremes, places, running sums, the k largest.
//!
//! Integers are summed exactly and wrap at the end. Start at [`reduce`].

use super::super::op::Reduce;
use super::super::value::{DType, Element, OpError, OpResult, Value, Visit, axes, axis, wrong};
use super::layout::transpose;
use super::norm::lines;

/// One number for all along the axes; none named: all, or none if `noop`.
pub(super) fn reduce(
    x: &Value,
    kind: Reduce,
    named: &[i64],
    keep: bool,
    noop: bool,
) -> OpResult<Value> {
    if named.is_empty() && noop {
        let alone = x.clone().reshaped([x.shape(), &[1]].concat())?;
        let last = i64::try_from(x.rank()).unwrap_or(i64::MAX);
        return match kind {
            // No axes: each element is a group of its own, but nothing is done to it.
            Reduce::Sum | Reduce::Mean | Reduce::Max | Reduce::Min | Reduce::Prod => Ok(x.clone()),
            _ => reduce(&alone, kind, &[last], false, false),
        };
    }
    let gone = axes(named, x.rank())?;
    let rest: Vec<usize> = (0..x.rank()).filter(|at| !gone.contains(at)).collect();
    let turned = transpose(x, Some(&[rest.clone(), gone.clone()].concat()))?;
    let width: usize = gone.iter().map(|&at| x.shape()[at]).product();
    let rows: usize = rest.iter().map(|&at| x.shape()[at]).product();
    let shape: Vec<usize> = (0..x.rank())
        .filter(|at| keep || !gone.contains(at))
        .map(|at| if gone.contains(&at) { 1 } else { x.shape()[at] })
        .collect();
    let data = x.dtype().visit(Rows { kind, x: &turned, rows, width })?;
    Value::new(shape, data)
}

struct Rows<'a> {
    kind: Reduce,
    x: &'a Value,
    rows: usize,
    width: usize,
}

impl Visit for Rows<'_> {
    type Out = OpResult<super::super::value::Data>;
    fn run<T: Element>(self) -> Self::Out {
        let Self { kind, x, rows, width } = self;
        let items = x.slice::<T>()?;
        let row = |at: usize| {
            let run = &items[at * width..(at + 1) * width];
            if T::DTYPE.is_float() {
                Ok(T::from_f64(of_floats(kind, run.iter().map(|item| item.to_f64()))))
            } else {
                of_integers::<T>(kind, run)
            }
        };
        Ok(T::wrap((0..rows).map(row).collect::<OpResult<_>>()?))
    }
}

fn of_floats(kind: Reduce, run: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let count = run.len() as f64;
    match kind {
        Reduce::Sum => run.sum(),
        Reduce::Mean => run.sum::<f64>() / count,
        Reduce::Max => run.fold(f64::NEG_INFINITY, |a, b| if a.is_nan() || a > b { a } else { b }),
        Reduce::Min => run.fold(f64::INFINITY, |a, b| if a.is_nan() || a < b { a } else { b }),
        Reduce::Prod => run.product(),
        Reduce::L1 => run.map(f64::abs).sum(),
        Reduce::L2 => run.map(|x| x * x).sum::<f64>().sqrt(),
        Reduce::LogSum => run.sum::<f64>().ln(),
        Reduce::LogSumExp => {
            let top = run.clone().fold(f64::NEG_INFINITY, f64::max);
            if top.is_infinite() {
                top
            } else {
                run.map(|x| (x - top).exp()).sum::<f64>().ln() + top
            }
        }
        Reduce::SumSquare => run.map(|x| x * x).sum(),
    }
}

fn of_integers<T: Element>(kind: Reduce, run: &[T]) -> OpResult<T> {
    let ints = run.iter().map(|item| item.to_i128());
    let exact = match kind {
        Reduce::Sum => ints.sum(),
        Reduce::Prod => ints.fold(1i128, i128::wrapping_mul),
        Reduce::L1 => ints.map(i128::abs).sum(),
        Reduce::SumSquare => ints.map(|x| x.wrapping_mul(x)).fold(0, i128::wrapping_add),
        Reduce::Max => ints.max().unwrap_or_else(|| least::<T>()),
        Reduce::Min => ints.min().unwrap_or_else(|| greatest::<T>()),
        _ if T::DTYPE == DType::Bool => return wrong("truth values have no such reduction"),
        _ => return Ok(T::from_f64(of_floats(kind, run.iter().map(|item| item.to_f64())))),
    };
    Ok(T::from_i128(exact))
}

fn least<T: Element>() -> i128 {
    if T::DTYPE == DType::Bool { 0 } else { T::from_f64(f64::NEG_INFINITY).to_i128() }
}

fn greatest<T: Element>() -> i128 {
    if T::DTYPE == DType::Bool { 1 } else { T::from_f64(f64::INFINITY).to_i128() }
}

/// Place of the extreme along an axis.
pub(super) fn arg_extreme(
    x: &Value,
    max: bool,
    at: i64,
    keep: bool,
    last: bool,
) -> OpResult<Value> {
    let at = axis(at, x.rank())?;
    if x.shape()[at] == 0 {
        return wrong("an empty axis has no extreme");
    }
    let items = numbers(x);
    let better = |a: f64, b: f64| if max { a > b } else { a < b };
    let place = |line: Vec<usize>| {
        let mut best = 0;
        for (k, &i) in line.iter().enumerate().skip(1) {
            let (new, old) = (items[i], items[line[best]]);
            if better(new, old) || last && new == old {
                best = k;
            }
        }
        i64::try_from(best).unwrap_or(i64::MAX)
    };
    let found = lines(x.shape(), at).map(place).collect();
    let mut shape = x.shape().to_vec();
    if keep {
        shape[at] = 1;
    } else {
        shape.remove(at);
    }
    Value::of(shape, found)
}

fn numbers(x: &Value) -> Vec<f64> {
    super::super::value::each!(x.data(), items => items.iter().map(|item| item.to_f64()).collect())
}

/// Running sums or products.
pub(super) fn cumulate(
    x: &Value,
    at: &Value,
    product: bool,
    exclusive: bool,
    reverse: bool,
) -> OpResult<Value> {
    let at = *at.to_i64s()?.first().ok_or_else(|| OpError::Misfit("no axis is named".into()))?;
    let at = axis(at, x.rank())?;
    let items = numbers(x);
    let mut out = vec![0.0f64; items.len()];
    for mut line in lines(x.shape(), at) {
        if reverse {
            line.reverse();
        }
        let mut running = f64::from(u8::from(product));
        for i in line {
            let next = if product { running * items[i] } else { running + items[i] };
            out[i] = if exclusive { running } else { next };
            running = next;
        }
    }
    super::elementwise::cast(&Value::of(x.shape().to_vec(), out)?, x.dtype())
}

/// The k extremes along an axis, best first, and their places.
pub(super) fn top_k(x: &Value, k: &Value, at: i64, largest: bool) -> OpResult<Vec<Value>> {
    let at = axis(at, x.rank())?;
    let k = k.to_i64s()?.first().copied().and_then(|k| usize::try_from(k).ok());
    let Some(k) = k.filter(|&k| k <= x.shape()[at]) else {
        return wrong(format!("k is more than the {} cells of the axis", x.shape()[at]));
    };
    let items = numbers(x);
    let mut shape = x.shape().to_vec();
    shape[at] = k;
    let inner: usize = shape[at + 1..].iter().product();
    let count: usize = shape.iter().product();
    let (mut from, mut places) = (vec![0; count], vec![0i64; count]);
    for (row, line) in lines(x.shape(), at).enumerate() {
        let mut order: Vec<usize> = (0..line.len()).collect();
        let by = |a: &usize, b: &usize| {
            let (a, b) = (items[line[*a]], items[line[*b]]);
            if largest { b.total_cmp(&a) } else { a.total_cmp(&b) }
        };
        order.sort_by(by);
        for (rank, &place) in order[..k].iter().enumerate() {
            let cell = (row / inner * k + rank) * inner + row % inner;
            from[cell] = line[place];
            places[cell] = i64::try_from(place).unwrap_or(i64::MAX);
        }
    }
    let best = x.data().pick(from.into_iter());
    Ok(vec![Value::new(shape.clone(), best)?, Value::of(shape, places)?])
}
