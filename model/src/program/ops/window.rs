//! Sliding windows: convolutions and pools over any number of axes.
//!
//! Plain loops over cells, in double precision. Start at [`Frame::new`], which turns a window and a
//! shape into sides and paddings.

use super::super::op::{Pads, Pool, Window};
use super::super::value::{
    DType, Data, Element, OpError, OpResult, Value, elements, strides, work, wrong,
};
use super::layout::step;
use crate::limits::VALUE_ELEMENTS_MAX;

/// A window over the axes behind batch and channels, with all its numbers.
pub(super) struct Frame {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    before: Vec<usize>,
    after: Vec<usize>,
    sides: Vec<usize>,
    pub(super) out: Vec<usize>,
}

fn numbers(given: &[usize], axes: usize, default: usize) -> OpResult<Vec<usize>> {
    if let Some(number) = given.iter().find(|&&number| number > VALUE_ELEMENTS_MAX) {
        return wrong(format!("{number} cells in a window's numbers"));
    }
    match given.len() {
        0 => Ok(vec![default; axes]),
        len if len == axes => Ok(given.to_vec()),
        len => wrong(format!("{len} numbers for {axes} axes")),
    }
}

impl Frame {
    pub(super) fn new(
        sides: &[usize],
        kernel: &[usize],
        window: &Window,
        ceil: bool,
    ) -> OpResult<Self> {
        let axes = sides.len();
        let strides = numbers(&window.strides, axes, 1)?;
        let dilations = numbers(&window.dilations, axes, 1)?;
        numbers(kernel, axes, 1)?;
        if kernel.len() != axes || [&strides, &dilations].iter().any(|all| all.contains(&0)) {
            return wrong(format!("a window of {kernel:?} over sides {sides:?}"));
        }
        if kernel.contains(&0) {
            return wrong("a window without cells");
        }
        let extent: Vec<usize> = (0..axes).map(|at| (kernel[at] - 1) * dilations[at] + 1).collect();
        let (before, after) = match &window.pads {
            Pads::Explicit(pads) => {
                let pads = numbers(pads, 2 * axes, 0)?;
                (pads[..axes].to_vec(), pads[axes..].to_vec())
            }
            same => {
                let odd_before = *same == Pads::SameLower;
                let total = |at: usize| {
                    let out = sides[at].div_ceil(strides[at]);
                    (out.saturating_sub(1) * strides[at] + extent[at]).saturating_sub(sides[at])
                };
                let before = (0..axes)
                    .map(|at| (total(at) + usize::from(odd_before)) / 2)
                    .collect::<Vec<_>>();
                let after = (0..axes).map(|at| total(at) - before[at]).collect();
                (before, after)
            }
        };
        let mut out = Vec::with_capacity(axes);
        for at in 0..axes {
            let side = sides[at] + before[at] + after[at];
            let Some(rest) = side.checked_sub(extent[at]) else {
                return wrong(format!("a window of {kernel:?} is larger than sides {sides:?}"));
            };
            let mut count = if ceil { rest.div_ceil(strides[at]) } else { rest / strides[at] } + 1;
            // A window that starts in the padding behind does not count.
            if ceil && (count - 1) * strides[at] >= sides[at] + before[at] {
                count -= 1;
            }
            out.push(count);
        }
        let (kernel, sides) = (kernel.to_vec(), sides.to_vec());
        Ok(Self { kernel, strides, dilations, before, after, sides, out })
    }

    /// Whether a last window reaches beyond image and padding, as it may where it need not be whole.
    fn overhangs(&self) -> bool {
        (0..self.out.len()).any(|at| {
            let last = (self.out[at] - 1) * self.strides[at];
            let end = last + (self.kernel[at] - 1) * self.dilations[at];
            end >= self.sides[at] + self.before[at] + self.after[at]
        })
    }

    /// For each cell of the window at `at`, its place among the cells of the image, if it is one, and
    /// whether it lies within image and padding.
    fn cells(&self, at: &[usize], mut visit: impl FnMut(usize, Option<usize>, bool)) {
        let own = strides(&self.sides);
        let count: usize = self.kernel.iter().product();
        let mut cell = vec![0; self.kernel.len()];
        for k in 0..count {
            let (mut place, mut padded) = (Some(0), true);
            for axis in 0..at.len() {
                let shifted = at[axis] * self.strides[axis] + cell[axis] * self.dilations[axis];
                padded &= shifted < self.sides[axis] + self.before[axis] + self.after[axis];
                let inside =
                    shifted.checked_sub(self.before[axis]).filter(|&i| i < self.sides[axis]);
                place = place.zip(inside).map(|(sum, i)| sum + i * own[axis]);
            }
            visit(k, place, padded);
            step(&mut cell, &self.kernel);
        }
    }
}

fn spatial(x: &Value) -> OpResult<(usize, usize, &[usize])> {
    match x.shape() {
        [n, c, sides @ ..] if !sides.is_empty() => Ok((*n, *c, sides)),
        other => wrong(format!("it reads [n, c, …], got {other:?}")),
    }
}

/// Convolution.
pub(super) fn conv(
    x: &Value,
    w: &Value,
    bias: Option<&Value>,
    window: &Window,
    groups: usize,
) -> OpResult<Value> {
    let (n, c, sides) = spatial(x)?;
    let [m, depth, kernel @ ..] = w.shape() else { return wrong("weights are [m, c, …]") };
    let (m, depth) = (*m, *depth);
    if groups == 0 || depth * groups != c || !m.is_multiple_of(groups) {
        return wrong(format!("weights {:?} for {c} channels in {groups} groups", w.shape()));
    }
    let frame = Frame::new(sides, kernel, window, false)?;
    let (input, weights) = (x.f32s()?, w.f32s()?);
    let bias = bias.map(Value::f32s).transpose()?;
    if bias.is_some_and(|bias| bias.len() != m) {
        return wrong("the bias has another length than the output has channels");
    }
    let shape = [&[n, m], &frame.out[..]].concat();
    let mut out = vec![0.0f32; elements(&shape)?];
    let (cells, windows) = (sides.iter().product::<usize>(), frame.out.iter().product::<usize>());
    let taps: usize = kernel.iter().product();
    work(&[n, m, depth, taps, windows])?;
    let mut at = vec![0; frame.out.len()];
    for window in 0..windows {
        let mut places = vec![None; taps];
        frame.cells(&at, |k, place, _| places[k] = place);
        for (row, output) in (0..n).flat_map(|row| (0..m).map(move |output| (row, output))) {
            let mut sum = bias.map_or(0.0, |bias| f64::from(bias[output]));
            let first = output / (m / groups) * depth;
            for channel in 0..depth {
                let image = &input[(row * c + first + channel) * cells..][..cells];
                let weights = &weights[(output * depth + channel) * taps..][..taps];
                for (place, weight) in places.iter().zip(weights) {
                    sum += place.map_or(0.0, |at| f64::from(image[at]) * f64::from(*weight));
                }
            }
            out[(row * m + output) * windows + window] = f32::from_f64(sum);
        }
        step(&mut at, &frame.out);
    }
    Value::of(shape, out)
}

/// Transposed convolution.
pub(super) fn conv_transpose(
    x: &Value,
    w: &Value,
    bias: Option<&Value>,
    (window, groups): (&Window, usize),
    output_padding: &[usize],
    output_shape: Option<&[usize]>,
) -> OpResult<Value> {
    let (n, c, sides) = spatial(x)?;
    let axes = sides.len();
    let [same, depth, kernel @ ..] = w.shape() else { return wrong("weights are [c, m, …]") };
    if *same != c || groups == 0 || !c.is_multiple_of(groups) || kernel.len() != axes {
        return wrong(format!("weights {:?} for {c} channels in {groups} groups", w.shape()));
    }
    let strides_ = numbers(&window.strides, axes, 1)?;
    let dilations = numbers(&window.dilations, axes, 1)?;
    let more = numbers(output_padding, axes, 0)?;
    let full = |at: usize| {
        sides[at].saturating_sub(1) * strides_[at]
            + (kernel[at].max(1) - 1) * dilations[at]
            + 1
            + more[at]
    };
    let mut out = Vec::with_capacity(axes);
    let mut before = Vec::with_capacity(axes);
    for at in 0..axes {
        let wanted = match (&window.pads, output_shape) {
            (_, Some(shape)) => {
                Some(*shape.get(at).ok_or_else(|| OpError::Misfit("sides".into()))?)
            }
            (Pads::Explicit(_), None) => None,
            _ => Some(sides[at] * strides_[at]),
        };
        let (start, side) = match (wanted, &window.pads) {
            (Some(side), pads) => {
                let cut = full(at).saturating_sub(side);
                let odd_before = !matches!(pads, Pads::SameUpper);
                (if odd_before { cut - cut / 2 } else { cut / 2 }, side)
            }
            (None, Pads::Explicit(pads)) => {
                let pads = numbers(pads, 2 * axes, 0)?;
                let side = full(at).checked_sub(pads[at] + pads[axes + at]);
                (pads[at], side.ok_or_else(|| OpError::Misfit("paddings take all away".into()))?)
            }
            (None, _) => unreachable!("sides are known unless paddings are explicit"),
        };
        before.push(start);
        out.push(side);
    }
    let m = depth * groups;
    let shape = [&[n, m], &out[..]].concat();
    let mut sums = vec![0.0f64; elements(&shape)?];
    let (input, weights) = (x.f32s()?, w.f32s()?);
    let (cells, total) = (sides.iter().product::<usize>(), out.iter().product::<usize>());
    let (taps, own) = (kernel.iter().product::<usize>(), strides(&out));
    work(&[n, c, *depth, taps, cells])?;
    let mut at = vec![0; axes];
    for cell in 0..cells {
        let mut tap = vec![0; axes];
        for k in 0..taps {
            let place = (0..axes).try_fold(0, |sum, axis| {
                let shifted = at[axis] * strides_[axis] + tap[axis] * dilations[axis];
                let i = shifted.checked_sub(before[axis]).filter(|&i| i < out[axis])?;
                Some(sum + i * own[axis])
            });
            if let Some(place) = place {
                for row in 0..n {
                    for channel in 0..c {
                        let value = f64::from(input[(row * c + channel) * cells + cell]);
                        let group = channel / (c / groups);
                        for d in 0..*depth {
                            let weight = weights[(channel * depth + d) * taps + k];
                            let output = row * m + group * depth + d;
                            sums[output * total + place] += value * f64::from(weight);
                        }
                    }
                }
            }
            step(&mut tap, kernel);
        }
        step(&mut at, sides);
    }
    if let Some(bias) = bias.map(Value::f32s).transpose()? {
        if bias.len() != m {
            return wrong("the bias has another length than the output has channels");
        }
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += f64::from(bias[i / total % m]);
        }
    }
    Value::of(shape, sums.into_iter().map(f32::from_f64).collect())
}

/// One number for each window; places too where the largest is asked for.
pub(super) fn pool(
    x: &Value,
    kind: Pool,
    kernel: &[usize],
    window: &Window,
    ceil: bool,
) -> OpResult<Vec<Value>> {
    let (n, c, sides) = spatial(x)?;
    let frame = Frame::new(sides, kernel, window, ceil)?;
    if kind == (Pool::Average { count_pads: true }) && frame.overhangs() {
        let words = "its last window reaches beyond the added cells, and whether cells there count is \
                     answered differently by ONNX's text and by other programs; add cells, or do not \
                     count them";
        return Err(OpError::Unsupported(words.into()));
    }
    let cells: usize = sides.iter().product();
    let shape = [&[n, c], &frame.out[..]].concat();
    let count = elements(&shape)?;
    work(&[count, elements(kernel)?])?;
    let images = super::super::value::each!(x.data(), items => {
        items.iter().map(|item| item.to_f64()).collect::<Vec<f64>>()
    });
    let (mut out, mut places) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for image in 0..n * c {
        let pixels = &images[image * cells..(image + 1) * cells];
        let mut at = vec![0; frame.out.len()];
        for _ in 0..frame.out.iter().product() {
            let (number, place) = one(&frame, pixels, &at, kind);
            out.push(number);
            let place = place + image * cells;
            places.push(i64::try_from(place).unwrap_or(i64::MAX));
            step(&mut at, &frame.out);
        }
    }
    let pooled = super::elementwise::cast(&Value::of(shape.clone(), out)?, x.dtype())?;
    if x.dtype() != DType::F32 && !matches!(kind, Pool::Max { .. }) {
        return wrong(format!("elements are {:?}, expected F32", x.dtype()));
    }
    match kind {
        Pool::Max { column_major } => {
            if column_major {
                places.iter_mut().for_each(|place| *place = column_first(*place, sides));
            }
            Ok(vec![pooled, Value::new(shape, Data::I64(places))?])
        }
        _ => Ok(vec![pooled]),
    }
}

/// The place with the first spatial axis fastest.
fn column_first(place: i64, sides: &[usize]) -> i64 {
    let place = usize::try_from(place).unwrap_or(0);
    let cells: usize = sides.iter().product();
    let (image, mut rest) = (place / cells, place % cells);
    let mut index = vec![0; sides.len()];
    for axis in (0..sides.len()).rev() {
        index[axis] = rest % sides[axis];
        rest /= sides[axis];
    }
    let mut turned = 0;
    for axis in (0..sides.len()).rev() {
        turned = turned * sides[axis] + index[axis];
    }
    i64::try_from(image * cells + turned).unwrap_or(i64::MAX)
}

fn one(frame: &Frame, pixels: &[f64], at: &[usize], kind: Pool) -> (f64, usize) {
    let (mut best, mut place) = (f64::NEG_INFINITY, 0);
    let (mut sum, mut count) = (0.0, 0u32);
    frame.cells(at, |_, cell, padded| {
        match (kind, cell) {
            (Pool::Max { .. }, Some(cell)) if pixels[cell] > best || pixels[cell].is_nan() => {
                (best, place) = (pixels[cell], cell);
            }
            (Pool::Lp(p), Some(cell)) => sum += pixels[cell].abs().powi(p.cast_signed()),
            (Pool::Average { .. }, Some(cell)) => sum += pixels[cell],
            _ => {}
        }
        let counts = cell.is_some() || kind == Pool::Average { count_pads: true } && padded;
        count += u32::from(counts);
    });
    match kind {
        Pool::Max { .. } => (best, place),
        Pool::Average { .. } => (sum / f64::from(count), 0),
        Pool::Lp(p) => (sum.powf(1.0 / f64::from(p)), 0),
    }
}

/// One number for each channel.
pub(super) fn global(x: &Value, kind: Pool) -> OpResult<Value> {
    let (n, c, sides) = spatial(x)?;
    let window =
        Window { strides: Vec::new(), dilations: Vec::new(), pads: Pads::Explicit(Vec::new()) };
    let pooled = pool(x, kind, sides, &window, false)?;
    let shape = [vec![n, c], vec![1; sides.len()]].concat();
    pooled.into_iter().next().map_or_else(|| wrong("no result"), |value| value.reshaped(shape))
}

/// Values at the places that a pool gave, zero elsewhere.
pub(super) fn unpool(
    x: &Value,
    places: &Value,
    sides: Option<&Value>,
    kernel: &[usize],
    window: &Window,
) -> OpResult<Value> {
    let (n, c, small) = spatial(x)?;
    let axes = small.len();
    let (steps, pads) = (
        numbers(&window.strides, axes, 1)?,
        match &window.pads {
            Pads::Explicit(pads) => numbers(pads, 2 * axes, 0)?,
            _ => return wrong("paddings must be numbers"),
        },
    );
    if numbers(kernel, axes, 1)?.len() != kernel.len() {
        return wrong("the window has another number of axes");
    }
    let side = |at: usize| {
        ((small[at].max(1) - 1) * steps[at] + kernel[at]).saturating_sub(pads[at] + pads[axes + at])
    };
    let inferred = [vec![n, c], (0..axes).map(side).collect()].concat();
    let shape = match sides {
        Some(sides) => {
            let sides = sides.to_i64s()?;
            sides.iter().map(|&one| super::layout::side_of(one)).collect::<OpResult<Vec<_>>>()?
        }
        None => inferred.clone(),
    };
    let (items, places) = (x.f32s()?, places.to_i64s()?);
    let mut out = vec![0.0f32; elements(&shape)?];
    if items.len() != places.len() || shape.len() != inferred.len() {
        return wrong("values and places differ in number");
    }
    let (old, new) = (strides(&inferred), strides(&shape));
    for (item, place) in items.iter().zip(places) {
        // Places count in the pooled tensor's own input.
        let mut rest =
            usize::try_from(place).map_err(|_| OpError::Misfit("a negative place".into()))?;
        let mut at = 0;
        for axis in 0..old.len() {
            at += rest / old[axis] * new[axis];
            rest %= old[axis];
        }
        *out.get_mut(at).ok_or_else(|| OpError::Misfit(format!("place {place} is outside")))? =
            *item;
    }
    Value::of(shape, out)
}
