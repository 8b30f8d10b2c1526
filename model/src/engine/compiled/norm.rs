//! Norms and softmax along the last axis, and pools of images with their channels last.
//!
//! Sums run in sixteen parts that are added in a fixed order, so that they are vectors on any processor
//! and have the same bits. Start at [`softmax`], [`layer`], [`pool`].

use super::held::{Held, Room};
use super::math::{exp, vector_work, vectorised};
use crate::program::op::{Pads, Pool, Window};
use crate::program::value::{elements, work};

/// Parts of a sum.
const PARTS: usize = 16;

/// Folds a run in parts.
#[inline(always)]
fn folded(
    run: &[f32],
    start: f32,
    step: impl Fn(f32, f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut parts = [start; PARTS];
    let (whole, rest) = run.as_chunks::<PARTS>();
    for chunk in whole {
        for (part, x) in parts.iter_mut().zip(chunk) {
            *part = step(*part, *x);
        }
    }
    for (part, x) in parts.iter_mut().zip(rest) {
        *part = step(*part, *x);
    }
    let mut width = PARTS / 2;
    while width > 0 {
        for at in 0..width {
            parts[at] = join(parts[at], parts[at + width]);
        }
        width /= 2;
    }
    parts[0]
}

#[inline(always)]
fn sum(run: &[f32]) -> f32 {
    folded(run, 0.0, |sum, x| sum + x, |a, b| a + b)
}

/// `eˣ / Σ eˣ` along the last axis, in place.
pub(super) fn softmax(items: &mut [f32], width: usize) {
    vectorised(SoftmaxRuns((items, width)));
}

vector_work!(SoftmaxRuns<'a>, softmax_runs, (&'a mut [f32], usize));

#[inline(always)]
fn softmax_runs((items, width): (&mut [f32], usize)) {
    for run in items.chunks_exact_mut(width.max(1)) {
        softmax_run(run);
    }
}

#[inline(always)]
fn softmax_run(run: &mut [f32]) {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let top = folded(run, f32::NEG_INFINITY, larger, larger);
    for x in run.iter_mut() {
        *x = exp(*x - top);
    }
    let share = 1.0 / sum(run);
    run.iter_mut().for_each(|x| *x *= share);
}

/// How [`layer`] makes a run small.
#[derive(Clone, Copy)]
pub(super) struct Shift {
    /// Whether the mean is taken away.
    pub(super) centred: bool,
    /// Added to the mean square.
    pub(super) eps: f32,
}

/// Each run of the last axis over its deviation, then times `scale` plus `bias`.
pub(super) fn layer(items: &[f32], scale: &[f32], bias: Option<&[f32]>, how: Shift, y: &mut [f32]) {
    vectorised(LayerRuns((items, scale, bias, how, y)));
}

type Layer<'a> = (&'a [f32], &'a [f32], Option<&'a [f32]>, Shift, &'a mut [f32]);

vector_work!(LayerRuns<'a>, layer_runs, Layer<'a>);

#[inline(always)]
fn layer_runs((items, scale, bias, how, y): Layer<'_>) {
    let n = small(scale.len());
    let width = scale.len().max(1);
    for (x, y) in items.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let mean = if how.centred { sum(x) / n } else { 0.0 };
        y.iter_mut().zip(x).for_each(|(y, x)| *y = x - mean);
        let square = folded(y, 0.0, |sum, x| x.mul_add(x, sum), |a, b| a + b) / n;
        let inverse = 1.0 / (square + how.eps).sqrt();
        match bias {
            Some(bias) => {
                for ((y, scale), bias) in y.iter_mut().zip(scale).zip(bias) {
                    *y = (*y * inverse).mul_add(*scale, *bias);
                }
            }
            None => y.iter_mut().zip(scale).for_each(|(y, scale)| *y = *y * inverse * scale),
        }
    }
}

/// Largest or mean of each window of an image; `None` for windows that only the general path knows.
pub(super) fn pool(
    x: &Held,
    kind: Pool,
    kernel: &[usize],
    window: &Window,
    room: &mut Room,
) -> Option<Held> {
    let (&[n, c, height, width], &[kernel_y, kernel_x]) = (x.shape(), kernel) else { return None };
    let pair = |given: &[usize]| match *given {
        [] => Some([1, 1]),
        [a, b] => Some([a, b]),
        _ => None,
    };
    let (strides, dilations) = (pair(&window.strides)?, pair(&window.dilations)?);
    let Pads::Explicit(pads) = &window.pads else { return None };
    let pads = if pads.is_empty() { [0; 4] } else { *pads.first_chunk::<4>()? };
    let fits = dilations == [1, 1] && kernel_y > 0 && kernel_x > 0 && !strides.contains(&0);
    // A window that holds no cell of the image has no largest one.
    let fits =
        fits && pads.iter().zip([kernel_y, kernel_x].repeat(2)).all(|(pad, side)| *pad < side);
    if !fits || matches!(kind, Pool::Lp(_) | Pool::Max { column_major: true }) || n * c == 0 {
        return None;
    }
    let out = [
        (height + pads[0] + pads[2]).checked_sub(kernel_y)? / strides[0] + 1,
        (width + pads[1] + pads[3]).checked_sub(kernel_x)? / strides[1] + 1,
    ];
    let shape = [n, c, out[0], out[1]];
    let len = elements(&shape).ok()?;
    work(&[len, kernel_y, kernel_x]).ok()?;
    let mut copy = Vec::new();
    let items = x.channels_last(&mut copy, room)?;
    let mut y = room.take(len);
    let frame = Frame {
        input: [height, width],
        before: [pads[0], pads[1]],
        kernel: [kernel_y, kernel_x],
        strides,
    };
    let mut cells = y.chunks_exact_mut(out[0] * out[1] * c);
    for image in items.chunks_exact(height * width * c) {
        let cells = cells.next().unwrap_or_default();
        vectorised(Images((&frame, image, kind, out, cells)));
    }
    room.give_items(copy);
    Held::image(&shape, y)
}

type PoolOf<'a> = (&'a Frame, &'a [f32], Pool, [usize; 2], &'a mut [f32]);

vector_work!(Images<'a>, Frame::image, PoolOf<'a>);

struct Frame {
    input: [usize; 2],
    before: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
}

impl Frame {
    #[inline(always)]
    fn image((frame, image, kind, out, y): PoolOf<'_>) {
        let c = image.len() / (frame.input[0] * frame.input[1]);
        let mut cells = y.chunks_exact_mut(c);
        let inside = |at: usize, axis: usize| {
            let from = at * frame.strides[axis];
            let end = (from + frame.kernel[axis])
                .saturating_sub(frame.before[axis])
                .min(frame.input[axis]);
            from.saturating_sub(frame.before[axis]).min(end)..end
        };
        for (oy, ox) in (0..out[0]).flat_map(|oy| (0..out[1]).map(move |ox| (oy, ox))) {
            let Some(y) = cells.next() else { return };
            let (rows, columns) = (inside(oy, 0), inside(ox, 1));
            let count = rows.len() * columns.len();
            let mean = !matches!(kind, Pool::Max { .. });
            y.fill(if mean { 0.0 } else { f32::NEG_INFINITY });
            for (row, column) in
                rows.flat_map(|row| columns.clone().map(move |column| (row, column)))
            {
                let x = &image[(row * frame.input[1] + column) * y.len()..][..y.len()];
                if mean {
                    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
                } else {
                    // What is no number stays.
                    y.iter_mut()
                        .zip(x)
                        .for_each(|(y, x)| *y = if *x > *y || x.is_nan() { *x } else { *y });
                }
            }
            if mean {
                let all = kind == Pool::Average { count_pads: true };
                let share =
                    1.0 / small(if all { frame.kernel[0] * frame.kernel[1] } else { count });
                y.iter_mut().for_each(|y| *y *= share);
            }
        }
    }
}

/// The mean of each channel of an image.
pub(super) fn means(x: &Held, shape: &[usize], room: &mut Room) -> Option<Held> {
    let &[n, c, height, width] = x.shape() else { return None };
    let cells = height * width;
    let items = x.f32s()?;
    if n * c * cells == 0 {
        return None;
    }
    let mut y = room.take(n * c);
    vectorised(Means((items, [c, cells], x.is_channels_last(), &mut y)));
    Held::made(shape, y)
}

type MeansOf<'a> = (&'a [f32], [usize; 2], bool, &'a mut [f32]);

vector_work!(Means<'a>, means_of, MeansOf<'a>);

#[inline(always)]
fn means_of((items, [c, cells], channels_last, y): MeansOf<'_>) {
    let share = 1.0 / small(cells);
    if channels_last {
        for (x, y) in items.chunks_exact(c * cells).zip(y.chunks_exact_mut(c)) {
            y.fill(0.0);
            for x in x.chunks_exact(c) {
                y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
            }
            y.iter_mut().for_each(|y| *y *= share);
        }
    } else {
        items.chunks_exact(cells).zip(y).for_each(|(x, y)| *y = sum(x) * share);
    }
}

#[expect(clippy::cast_precision_loss, reason = "an image has far fewer than 2^24 cells")]
fn small(count: usize) -> f32 {
    count as f32
}
