//! Convolutions of images that lie with their channels last.
//!
//! Each is a matrix product, `[cells, taps · channels] · [taps · channels, filters]`, of columns that are
//! unfolded for a few lines of the output at a time, so that they stay in the cache; what follows the
//! convolution is done on those lines while they are there. A filter of one cell needs no columns; one
//! for each channel (depthwise) needs no product. Start at [`Filter::new`] and [`Filter::run`].

use std::ops::Range;
use std::sync::Arc;

use super::held::{Held, Room};
use super::math::{vector_work, vectorised};
use super::pointwise::{Along, Chain, Fixed, Member, Operand, SCRATCH};
use crate::engine::fused::product::{View, multiply_into};
use crate::program::op::{Binary, Pads, Window};
use crate::program::value::{Value, elements, work};

/// Elements of columns that are unfolded at once.
const COLUMNS: usize = 1 << 17;

/// Channels up to which an image is unfolded line by line instead of cell by cell.
const FEW_CHANNELS: usize = 4;

/// The weights of a convolution as it is computed: for each group `[taps · channels, filters]`.
pub(super) struct Filter {
    weights: Vec<f32>,
    /// For each filter, where there is one.
    bias: Option<Vec<f32>>,
    groups: usize,
    /// Of a group.
    channels: usize,
    filters: usize,
    kernel: [usize; 2],
}

/// Whose work, an image, what is written, and which lines of the output.
type Lines<'a, F> = (F, &'a Frame, &'a [f32], &'a mut [f32], Range<usize>);

vector_work!(Depthwise<'a>, Filter::depthwise, Lines<'a, &'a Filter>);
vector_work!(UnfoldPlanes<'a>, Filter::unfold_planes, Lines<'a, &'a Filter>);
vector_work!(Unfold<'a>, Filter::unfold, Lines<'a, (&'a Filter, usize)>);

/// A convolution's numbers for one shape of input.
struct Frame {
    rows: usize,
    input: [usize; 2],
    output: [usize; 2],
    before: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
}

/// Statistics of a norm that follows: scale, bias, mean, variance, and what is added to the variance.
pub(super) type Statistics<'a> = ([&'a [f32]; 4], f64);

impl Filter {
    /// Of weights `[m, c / groups, h, w]`, with the norm that follows, if one does.
    pub(super) fn new(
        weights: &Value,
        bias: Option<&Value>,
        groups: usize,
        norm: Option<Statistics<'_>>,
    ) -> Option<Self> {
        let &[filters, channels, height, width] = weights.shape() else { return None };
        if groups == 0 || !filters.is_multiple_of(groups) || weights.is_empty() {
            return None;
        }
        let taps = height * width;
        let from = weights.f32s().ok()?;
        let bias = bias.map(|bias| bias.f32s().ok().filter(|bias| bias.len() == filters));
        let bias = if let Some(bias) = bias { Some(bias?) } else { None };
        let factors = norm.as_ref().map(|norm| factors(norm, filters, bias));
        let (scale, bias) = match factors {
            Some(both) => both.map(|(scale, bias)| (Some(scale), Some(bias)))?,
            None => (None, bias.map(<[f32]>::to_vec)),
        };
        let each = filters / groups;
        let mut to = vec![0.0; from.len()];
        for (filter, from) in from.chunks_exact(channels * taps).enumerate() {
            let (group, column) = (filter / each, filter % each);
            let factor = scale.as_ref().map_or(1.0, |scale| scale[filter]);
            let to = &mut to[group * each * channels * taps..];
            for (channel, from) in from.chunks_exact(taps).enumerate() {
                for (tap, weight) in from.iter().enumerate() {
                    to[(tap * channels + channel) * each + column] =
                        narrow(factor * f64::from(*weight));
                }
            }
        }
        let mut filter =
            Self { weights: to, bias, groups, channels, filters, kernel: [height, width] };
        if filter.is_depthwise() {
            // [channel, tap] to [tap, channel]
            let from = std::mem::take(&mut filter.weights);
            filter.weights =
                (0..from.len()).map(|i| from[i % filters * taps + i / filters]).collect();
        }
        Some(filter)
    }

    fn is_depthwise(&self) -> bool {
        self.channels == 1 && self.groups == self.filters && self.groups > 1
    }

    pub(super) fn filters(&self) -> usize {
        self.filters
    }

    /// The chain that adds the bias.
    pub(super) fn chain(&self) -> Option<Chain> {
        Chain::new(&self.members())
    }

    /// The first members of a chain that follows.
    pub(super) fn members(&self) -> Vec<Member> {
        let cells = |bias: &Vec<f32>| Fixed::Cells(Along::Channels, Arc::new(bias.clone()));
        let add = |bias| Member::Pair(Binary::Add, Operand::Member(0), Operand::Fixed(cells(bias)));
        self.bias.iter().map(add).collect()
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.channels
    }

    /// The shape of what [`Filter::run`] gives.
    pub(super) fn shape(&self, x: &Held, window: &Window) -> Option<Vec<usize>> {
        let frame = self.frame(x, window)?;
        Some(vec![frame.rows, self.filters, frame.output[0], frame.output[1]])
    }

    fn frame(&self, x: &Held, window: &Window) -> Option<Frame> {
        let &[rows, channels, height, width] = x.shape() else { return None };
        let pair = |given: &[usize], default: usize| match *given {
            [] => Some([default; 2]),
            [a, b] => Some([a, b]),
            _ => None,
        };
        let (strides, dilations) = (pair(&window.strides, 1)?, pair(&window.dilations, 1)?);
        let input = [height, width];
        if channels != self.channels * self.groups || strides.contains(&0) || dilations.contains(&0)
        {
            return None;
        }
        let (mut before, mut output) = ([0; 2], [0; 2]);
        for at in 0..2 {
            let extent = (self.kernel[at] - 1).checked_mul(dilations[at])?.checked_add(1)?;
            let (first, padded) = match &window.pads {
                Pads::Explicit(pads) if pads.is_empty() => (0, input[at]),
                Pads::Explicit(pads) => {
                    let &[a, b, c, d] = &pads[..] else { return None };
                    let (first, last) = ([a, b][at], [c, d][at]);
                    (first, input[at].checked_add(first)?.checked_add(last)?)
                }
                same => {
                    let out = input[at].div_ceil(strides[at]);
                    let total = (out.saturating_sub(1) * strides[at]).checked_add(extent)?;
                    let total = total.saturating_sub(input[at]);
                    let odd = usize::from(*same == Pads::SameLower);
                    ((total + odd) / 2, input[at] + total)
                }
            };
            (before[at], output[at]) = (first, padded.checked_sub(extent)? / strides[at] + 1);
        }
        Some(Frame { rows, input, output, before, strides, dilations })
    }

    /// The convolution of `x`, and then the chain, whose other values are `others` with channels last.
    pub(super) fn run(
        &self,
        x: &Held,
        window: &Window,
        (chain, others): (&Chain, &[&[f32]]),
        room: &mut Room,
    ) -> Option<Vec<f32>> {
        let frame = self.frame(x, window)?;
        let cells = frame.output[0] * frame.output[1];
        let len = elements(&[frame.rows, self.filters, frame.output[0], frame.output[1]]).ok()?;
        work(&[len, self.taps()]).ok()?;
        let mut y = room.take(len);
        let mut scratch = room.take(SCRATCH);
        let planes = self.groups == 1 && self.channels <= FEW_CHANNELS && !x.is_channels_last();
        let mut copy = Vec::new();
        let items = if planes { x.f32s()? } else { x.channels_last(&mut copy, room)? };
        if len > 0 {
            let lines = self.lines(&frame);
            let mut columns = room.take(lines * frame.output[1] * self.taps());
            let image = self.channels * self.groups * frame.input[0] * frame.input[1];
            let line = frame.output[1] * self.filters;
            for (row, y) in y.chunks_exact_mut(cells * self.filters).enumerate() {
                let x = &items[row * image..][..image];
                for (at, y) in y.chunks_mut(lines * line).enumerate() {
                    let first = at * lines;
                    let part = first..first + y.len() / line;
                    if self.is_depthwise() {
                        vectorised(Depthwise((self, &frame, x, y, part)));
                    } else {
                        self.product(&frame, (x, planes), y, part, &mut columns);
                    }
                    let start = (row * cells + first * frame.output[1]) * self.filters;
                    chain.run(y, start, others, &mut scratch);
                }
            }
            room.give_items(columns);
        }
        room.give_items(scratch);
        room.give_items(copy);
        Some(y)
    }

    /// Lines of output that are done at once.
    fn lines(&self, frame: &Frame) -> usize {
        let wide = frame.output[1] * self.taps().max(self.filters);
        (COLUMNS / wide.max(1)).clamp(1, frame.output[0].max(1))
    }

    fn product(
        &self,
        frame: &Frame,
        (x, planes): (&[f32], bool),
        y: &mut [f32],
        lines: Range<usize>,
        columns: &mut [f32],
    ) {
        let width = frame.output[1];
        let (m, taps) = (lines.len() * width, self.taps());
        let each = self.filters / self.groups;
        let plain = self.kernel == [1, 1] && frame.strides == [1, 1] && frame.input == frame.output;
        for group in 0..self.groups {
            let weights = View::rows(&self.weights[group * taps * each..][..taps * each], each);
            let a = if plain && !planes {
                let all = self.channels * self.groups;
                View::strided(&x[lines.start * width * all + group * self.channels..], all)
            } else if planes {
                let all = (self, frame, x, &mut *columns, lines.clone());
                vectorised(UnfoldPlanes(all));
                View::rows(columns, m).turned()
            } else {
                let all = ((self, group), frame, x, &mut *columns, lines.clone());
                vectorised(Unfold(all));
                View::rows(columns, taps)
            };
            multiply_into(&mut y[group * each..], self.filters, [m, taps, each], a, weights);
        }
    }

    /// Columns `[cells, taps]` of some lines of the output.
    #[inline(always)]
    fn unfold(((filter, group), frame, x, columns, lines): Lines<'_, (&Self, usize)>) {
        let ([height, width], [kernel_y, kernel_x]) = (frame.input, filter.kernel);
        let (c, all) = (filter.channels, filter.channels * filter.groups);
        let mut runs = columns.chunks_exact_mut(kernel_x * c);
        let whole = filter.groups == 1 && frame.dilations[1] == 1;
        for (oy, ox) in lines.flat_map(|oy| (0..frame.output[1]).map(move |ox| (oy, ox))) {
            for ky in 0..kernel_y {
                let Some(to) = runs.next() else { return };
                let row =
                    (oy * frame.strides[0] + ky * frame.dilations[0]).checked_sub(frame.before[0]);
                let Some(row) = row.filter(|&row| row < height) else {
                    to.fill(0.0);
                    continue;
                };
                let line = &x[row * width * all..(row + 1) * width * all];
                let from = ox * frame.strides[1];
                if whole {
                    let skip = frame.before[1].saturating_sub(from).min(kernel_x);
                    let start = (from + skip).saturating_sub(frame.before[1]).min(width);
                    let count = (kernel_x - skip).min(width - start);
                    to[..skip * c].fill(0.0);
                    to[skip * c..(skip + count) * c]
                        .copy_from_slice(&line[start * c..(start + count) * c]);
                    to[(skip + count) * c..].fill(0.0);
                    continue;
                }
                for (kx, to) in to.chunks_exact_mut(c).enumerate() {
                    let at = (from + kx * frame.dilations[1]).checked_sub(frame.before[1]);
                    match at.filter(|&at| at < width) {
                        Some(at) => to.copy_from_slice(&line[at * all + group * c..][..c]),
                        None => to.fill(0.0),
                    }
                }
            }
        }
    }

    /// Columns `[taps, cells]` of some lines of the output, from an image that lies plane by plane.
    #[inline(always)]
    fn unfold_planes((filter, frame, x, columns, lines): Lines<'_, &Self>) {
        let ([height, width], c) = (frame.input, filter.channels);
        let mut runs = columns.chunks_exact_mut(frame.output[1]);
        let step = frame.strides[1];
        for (ky, kx) in pairs(filter.kernel) {
            let shift = kx * frame.dilations[1];
            // Cells whose input is inside: before ≤ ox · step + shift < before + width.
            let first = frame.before[1].saturating_sub(shift).div_ceil(step).min(frame.output[1]);
            let last = (frame.before[1] + width).saturating_sub(shift).div_ceil(step);
            let last = last.clamp(first, frame.output[1]);
            let start = (first * step + shift).saturating_sub(frame.before[1]);
            for (channel, oy) in
                (0..c).flat_map(|channel| lines.clone().map(move |oy| (channel, oy)))
            {
                let Some(to) = runs.next() else { return };
                let row =
                    (oy * frame.strides[0] + ky * frame.dilations[0]).checked_sub(frame.before[0]);
                let Some(row) = row.filter(|&row| row < height && first < last) else {
                    to.fill(0.0);
                    continue;
                };
                let line = &x[(channel * height + row) * width..][..width];
                to[..first].fill(0.0);
                to[last..].fill(0.0);
                let to = &mut to[first..last];
                if step == 1 {
                    to.copy_from_slice(&line[start..start + to.len()]);
                } else {
                    to.iter_mut()
                        .zip(line[start..].iter().step_by(step))
                        .for_each(|(to, x)| *to = *x);
                }
            }
        }
    }

    /// Some lines of the output where each channel has a filter of its own.
    #[inline(always)]
    fn depthwise((filter, frame, x, y, lines): Lines<'_, &Self>) {
        let ([height, width], c) = (frame.input, filter.filters);
        let mut cells = y.chunks_exact_mut(c);
        for (oy, ox) in lines.flat_map(|oy| (0..frame.output[1]).map(move |ox| (oy, ox))) {
            let Some(y) = cells.next() else { return };
            y.fill(0.0);
            for (tap, (ky, kx)) in pairs(filter.kernel).enumerate() {
                let place = |at: usize, k: usize, axis: usize, side: usize| {
                    (at * frame.strides[axis] + k * frame.dilations[axis])
                        .checked_sub(frame.before[axis])
                        .filter(|&at| at < side)
                };
                let Some((row, column)) = place(oy, ky, 0, height).zip(place(ox, kx, 1, width))
                else {
                    continue;
                };
                let x = &x[(row * width + column) * c..][..c];
                let weights = &filter.weights[tap * c..][..c];
                for (y, (x, weight)) in y.iter_mut().zip(x.iter().zip(weights)) {
                    *y = x.mul_add(*weight, *y);
                }
            }
        }
    }
}

/// All `(y, x)` of a window, x fastest.
#[inline(always)]
fn pairs([height, width]: [usize; 2]) -> impl Iterator<Item = (usize, usize)> {
    (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)))
}

/// A norm after a convolution as a factor and a bias for each filter.
fn factors(
    (statistics, eps): &Statistics<'_>,
    filters: usize,
    bias: Option<&[f32]>,
) -> Option<(Vec<f64>, Vec<f32>)> {
    let [scale, shift, mean, variance] = statistics;
    if statistics.iter().any(|all| all.len() != filters) {
        return None;
    }
    let scales: Vec<f64> = scale
        .iter()
        .zip(*variance)
        .map(|(scale, variance)| f64::from(*scale) / (f64::from(*variance) + eps).sqrt())
        .collect();
    let shifted = |at: usize| {
        let bias = bias.map_or(0.0, |bias| f64::from(bias[at]));
        narrow((bias - f64::from(mean[at])) * scales[at] + f64::from(shift[at]))
    };
    let biases = (0..filters).map(shifted).collect();
    Some((scales, biases))
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
fn narrow(number: f64) -> f32 {
    number as f32
}
