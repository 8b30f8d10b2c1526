//! Elements by index: gathered, scattered, chosen, laid out.
//!
//! Every index is checked; negative ones count from the end. Start anywhere.

use super::super::op::Scatter;
use super::super::value::{
    DType, Data, Element, OpError, OpResult, Value, Visit, axis, elements, strides, wrong,
};
use super::layout::{side_of, step};
use super::norm::lines;

/// An index of an axis of that length.
fn within(index: i64, side: usize) -> OpResult<usize> {
    let signed = i64::try_from(side).unwrap_or(i64::MAX);
    let at = if index < 0 { index + signed } else { index };
    match usize::try_from(at) {
        Ok(at) if at < side => Ok(at),
        _ => wrong(format!("index {index} of an axis of {side}")),
    }
}

/// Slices at indices of an axis.
pub(super) fn gather(x: &Value, indices: &Value, at: i64) -> OpResult<Value> {
    let at = axis(at, x.rank())?;
    let side = x.shape()[at];
    let which = indices.to_i64s()?;
    let which = which.iter().map(|&i| within(i, side)).collect::<OpResult<Vec<_>>>()?;
    let shape = [&x.shape()[..at], indices.shape(), &x.shape()[at + 1..]].concat();
    elements(&shape)?;
    let outer: usize = x.shape()[..at].iter().product();
    let inner: usize = x.shape()[at + 1..].iter().product();
    let mut data = Data::zeros(x.dtype(), 0);
    for row in 0..outer {
        for &i in &which {
            let start = (row * side + i) * inner;
            data.append(x.data(), start..start + inner);
        }
    }
    Value::new(shape, data)
}

/// For each cell of `indices`, the place in a tensor of `shape` that it points to along an axis.
fn pointed(shape: &[usize], indices: &Value, at: i64) -> OpResult<Vec<usize>> {
    let at = axis(at, shape.len())?;
    let small = indices.shape();
    let fits =
        small.len() == shape.len() && (0..shape.len()).all(|i| i == at || small[i] <= shape[i]);
    if !fits {
        return wrong(format!("indices of shape {small:?} into {shape:?}"));
    }
    let own = strides(shape);
    let mut index = vec![0; small.len()];
    let mut places = Vec::with_capacity(indices.len());
    for i in indices.to_i64s()? {
        let i = within(i, shape[at])?;
        let cell = |axis: usize| if axis == at { i } else { index[axis] };
        places.push((0..shape.len()).map(|axis| cell(axis) * own[axis]).sum());
        step(&mut index, small);
    }
    Ok(places)
}

/// Elements at indices along an axis.
pub(super) fn gather_elements(x: &Value, indices: &Value, at: i64) -> OpResult<Value> {
    let places = pointed(x.shape(), indices, at)?;
    Value::new(indices.shape().to_vec(), x.data().pick(places.into_iter()))
}

/// For each tuple of indices, the first place of its slice; and the length of slices.
fn tuples(shape: &[usize], indices: &Value, batch: usize) -> OpResult<(Vec<usize>, usize)> {
    let [outer @ .., width] = indices.shape() else { return wrong("indices need an axis") };
    if batch + width > shape.len() || outer.len() < batch || outer[..batch] != shape[..batch] {
        return wrong(format!("indices of shape {:?} into {shape:?}", indices.shape()));
    }
    let own = strides(shape);
    let slice: usize = shape[batch + width..].iter().product();
    let per: usize = outer[batch..].iter().product();
    let base: usize = shape[batch..].iter().product();
    let all = indices.to_i64s()?;
    let mut places = Vec::new();
    for row in 0..outer.iter().product::<usize>() {
        let mut place = row / per.max(1) * base;
        for (axis, &i) in all[row * width..(row + 1) * width].iter().enumerate() {
            place += within(i, shape[batch + axis])? * own[batch + axis];
        }
        places.push(place);
    }
    Ok((places, slice))
}

/// Slices at tuples of indices.
pub(super) fn gather_nd(x: &Value, indices: &Value, batch: usize) -> OpResult<Value> {
    let (places, slice) = tuples(x.shape(), indices, batch)?;
    let [outer @ .., width] = indices.shape() else { return wrong("indices need an axis") };
    let shape = [outer, &x.shape()[batch + width..]].concat();
    elements(&shape)?;
    let mut data = Data::zeros(x.dtype(), 0);
    places.iter().for_each(|&start| data.append(x.data(), start..start + slice));
    Value::new(shape, data)
}

struct Scattered<'a, I> {
    x: &'a Value,
    updates: &'a Value,
    places: I,
    reduction: Scatter,
}

impl<I: Iterator<Item = usize>> Visit for Scattered<'_, I> {
    type Out = OpResult<Data>;
    fn run<T: Element>(self) -> OpResult<Data> {
        let mut out = self.x.slice::<T>()?.to_vec();
        let add = |a: T, b: T| {
            if T::DTYPE.is_float() {
                T::from_f64(a.to_f64() + b.to_f64())
            } else {
                T::from_i128(a.to_i128() + b.to_i128())
            }
        };
        let multiply = |a: T, b: T| {
            if T::DTYPE.is_float() {
                T::from_f64(a.to_f64() * b.to_f64())
            } else {
                T::from_i128(a.to_i128().wrapping_mul(b.to_i128()))
            }
        };
        for (place, &item) in self.places.zip(self.updates.slice::<T>()?) {
            let old = out[place];
            out[place] = match self.reduction {
                Scatter::Set => item,
                Scatter::Add => add(old, item),
                Scatter::Mul => multiply(old, item),
                Scatter::Max => {
                    if item > old {
                        item
                    } else {
                        old
                    }
                }
                Scatter::Min => {
                    if item < old {
                        item
                    } else {
                        old
                    }
                }
            };
        }
        Ok(T::wrap(out))
    }
}

/// Elements put at indices along an axis.
pub(super) fn scatter_elements(
    x: &Value,
    indices: &Value,
    updates: &Value,
    at: i64,
    reduction: Scatter,
) -> OpResult<Value> {
    if indices.shape() != updates.shape() {
        return wrong("indices and updates have different shapes");
    }
    let places = pointed(x.shape(), indices, at)?.into_iter();
    let data = x.dtype().visit(Scattered { x, updates, places, reduction })?;
    Value::new(x.shape().to_vec(), data)
}

/// Slices put at tuples of indices.
pub(super) fn scatter_nd(
    x: &Value,
    indices: &Value,
    updates: &Value,
    reduction: Scatter,
) -> OpResult<Value> {
    let (starts, slice) = tuples(x.shape(), indices, 0)?;
    if updates.len() != starts.len() * slice {
        return wrong(format!("updates of shape {:?} for these indices", updates.shape()));
    }
    let places = starts.into_iter().flat_map(|start| start..start + slice);
    let data = x.dtype().visit(Scattered { x, updates, places, reduction })?;
    Value::new(x.shape().to_vec(), data)
}

/// Slices where the condition holds.
pub(super) fn compress(x: &Value, condition: &Value, at: Option<i64>) -> OpResult<Value> {
    let flat = x.clone().reshaped(vec![x.len()])?;
    let (x, at) = match at {
        Some(at) => (x, at),
        None => (&flat, 0),
    };
    let held = condition.slice::<bool>()?.iter().enumerate().filter(|(_, held)| **held);
    let which = held.map(|(i, _)| i64::try_from(i).unwrap_or(i64::MAX)).collect();
    gather(x, &Value::integers(which), at)
}

/// One axis more, `depth` long: `values[1]` at the index, `values[0]` elsewhere.
pub(super) fn one_hot(indices: &Value, depth: &Value, values: &Value, at: i64) -> OpResult<Value> {
    let depth = depth.number()?;
    if !(1.0..=1e9).contains(&depth) || values.len() != 2 {
        return wrong(format!("depth {depth}, {} values", values.len()));
    }
    let depth = side_of(f64_to_i64(depth))?;
    let at = axis(at, indices.rank() + 1)?;
    let inner: usize = indices.shape()[at..].iter().product();
    let items: Vec<f64> = super::super::value::each!(indices.data(), items => {
        items.iter().map(|item| item.to_f64()).collect()
    });
    let mut shape = indices.shape().to_vec();
    shape.insert(at, depth);
    let hit = |cell: usize| {
        let (outer, rest) = (cell / (depth * inner), cell % (depth * inner));
        let index = items[outer * inner + rest % inner];
        let index = if index < 0.0 { index + depth as f64 } else { index };
        usize::from(index == (rest / inner) as f64)
    };
    let data = values.data().pick((0..elements(&shape)?).map(hit));
    Value::new(shape, data)
}

#[expect(clippy::cast_possible_truncation, reason = "integers in the range of i64")]
fn f64_to_i64(number: f64) -> i64 {
    number as i64
}

/// Places of what is not zero.
pub(super) fn non_zero(x: &Value) -> OpResult<Value> {
    let hits: Vec<usize> = super::super::value::each!(x.data(), items => {
        (0..items.len()).filter(|&i| items[i].to_f64() != 0.0).collect()
    });
    let own = strides(x.shape());
    let mut out = Vec::with_capacity(x.rank() * hits.len());
    for (stride, side) in own.iter().zip(x.shape()) {
        let index = |&hit: &usize| i64::try_from(hit / stride % side).unwrap_or(0);
        out.extend(hits.iter().map(index));
    }
    Value::of(vec![x.rank(), hits.len()], out)
}

/// Triangle of the last two axes.
pub(super) fn trilu(x: &Value, k: i64, upper: bool) -> OpResult<Value> {
    let [.., h, w] = *x.shape() else { return wrong("it reads matrices") };
    let mut data = x.data().clone();
    data.append(&Data::zeros(x.dtype(), 1), 0..1);
    let keep = |i: usize| {
        let (row, column) = (signed(i / w % h), signed(i % w));
        let distance = column.saturating_sub(row);
        let inside = if upper { distance >= k } else { distance <= k };
        if inside { i } else { x.len() }
    };
    Value::new(x.shape().to_vec(), data.pick((0..x.len()).map(keep)))
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Ones on a diagonal.
pub(super) fn eye_like(x: &Value, dtype: Option<DType>, k: i64) -> OpResult<Value> {
    let [h, w] = *x.shape() else { return wrong("it reads a matrix") };
    let on = |i: usize| f64::from(u8::from(signed(i % w) - signed(i / w) == k));
    let eye = Value::of(vec![h, w], (0..h * w).map(on).collect::<Vec<f64>>())?;
    super::elementwise::cast(&eye, dtype.unwrap_or(x.dtype()))
}

/// From start to before limit.
pub(super) fn range(start: &Value, limit: &Value, delta: &Value) -> OpResult<Value> {
    let (first, last, by) = (start.number()?, limit.number()?, delta.number()?);
    let count = ((last - first) / by).ceil().max(0.0);
    if !count.is_finite() || count > 1e9 {
        return wrong(format!("from {first} to {last} by {by}"));
    }
    let count = side_of(f64_to_i64(count))?;
    elements(&[count])?;
    let items = (0..count).map(|i| first + i as f64 * by).collect::<Vec<f64>>();
    super::elementwise::cast(&Value::of(vec![count], items)?, start.dtype())
}

/// A shape full of one element.
pub(super) fn constant_of_shape(shape: &Value, item: &Value) -> OpResult<Value> {
    let shape = shape.to_i64s()?.into_iter().map(side_of).collect::<OpResult<Vec<_>>>()?;
    if item.len() != 1 {
        return wrong("it is filled with one element");
    }
    let data = item.data().pick(std::iter::repeat_n(0, elements(&shape)?));
    Value::new(shape, data)
}

/// Negative log-likelihood of classes along axis 1; the log-probabilities come second.
pub(super) fn cross_entropy(
    x: &Value,
    target: &Value,
    weight: Option<&Value>,
    how: (bool, super::super::op::LossReduction, Option<i64>),
) -> OpResult<Vec<Value>> {
    use super::super::op::{LossReduction, Softmax};
    let (scores, reduction, ignore) = how;
    if x.rank() < 2 {
        return wrong("it reads [n, classes, …]");
    }
    let logs =
        if scores { super::norm::softmax(x, Softmax::LogSoftmax, 1, false)? } else { x.clone() };
    let (items, targets) = (logs.f32s()?, target.to_i64s()?);
    let weights = weight.map(Value::f32s).transpose()?;
    let classes = x.shape()[1];
    if weights.is_some_and(|weights| weights.len() != classes) {
        return wrong("one weight a class is expected");
    }
    let mut losses = Vec::with_capacity(targets.len());
    let mut total = 0.0;
    for (line, &class) in lines(x.shape(), 1).zip(&targets) {
        if ignore == Some(class) {
            losses.push(0.0);
            continue;
        }
        let class = within(class, classes)?;
        let weight = weights.map_or(1.0, |weights| f64::from(weights[class]));
        total += weight;
        losses.push(-f64::from(items[line[class]]) * weight);
    }
    if losses.len() != targets.len() || target.shape().len() + 1 != x.rank() {
        return wrong(format!("targets of shape {:?} for {:?}", target.shape(), x.shape()));
    }
    let sum: f64 = losses.iter().sum();
    let loss = match reduction {
        LossReduction::None => {
            let losses = losses.into_iter().map(f32::from_f64).collect();
            Value::of::<f32>(target.shape().to_vec(), losses)?
        }
        LossReduction::Sum => Value::scalar(f32::from_f64(sum)),
        LossReduction::Mean => Value::scalar(f32::from_f64(sum / total)),
    };
    if matches!(loss.data(), Data::F32(_)) {
        Ok(vec![loss, logs])
    } else {
        Err(OpError::Misfit("type".into()))
    }
}
