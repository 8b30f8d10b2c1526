//! Convolution of one image: windows unfolded into columns, then one matrix product a group.
//!
//! A column matrix is `[c / groups · kh · kw, oh · ow]`, so the product gives `[m / groups, oh · ow]`,
//! which is the output as it lies in memory. Where each channel has its own filter (depthwise) the
//! columns would only be copies: that is done in place. Start at [`Conv::forward`].

use std::ops::Range;

use super::product::{View, multiply};

/// A convolution with all its sizes.
pub(super) struct Conv {
    pub(super) weight: Range<usize>,
    pub(super) bias: Option<Range<usize>>,
    pub(super) channels: [usize; 2],
    pub(super) groups: usize,
    pub(super) input: [usize; 2],
    pub(super) output: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) padding: [usize; 2],
}

impl Conv {
    /// Elements that one group's columns take.
    pub(super) fn columns(&self) -> usize {
        if self.is_pointwise() || self.is_depthwise() { 0 } else { self.taps() * self.cells() }
    }

    fn cells(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Terms of one sum.
    fn taps(&self) -> usize {
        self.channels[0] / self.groups * self.kernel[0] * self.kernel[1]
    }

    /// Whether the image itself is the column matrix.
    fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }

    fn is_depthwise(&self) -> bool {
        self.groups == self.channels[0] && self.channels[0] == self.channels[1]
    }

    /// The part of an image that a group reads, and of an output that it writes.
    fn parts(&self, group: usize) -> (Range<usize>, Range<usize>, Range<usize>) {
        let [c, m] = [self.channels[0] / self.groups, self.channels[1] / self.groups];
        let (pixels, taps) = (self.input[0] * self.input[1], self.taps());
        let weight = self.weight.start + group * m * taps;
        (
            group * c * pixels..(group + 1) * c * pixels,
            group * m * self.cells()..(group + 1) * m * self.cells(),
            weight..weight + m * taps,
        )
    }

    /// One image; `columns` has room for [`Conv::columns`].
    pub(super) fn forward(&self, weights: &[f32], x: &[f32], y: &mut [f32], columns: &mut [f32]) {
        let cells = self.cells();
        for (channel, y) in y.chunks_exact_mut(cells).enumerate() {
            y.fill(self.bias.as_ref().map_or(0.0, |bias| weights[bias.start + channel]));
        }
        if self.is_depthwise() {
            return self.depthwise(weights, x, y);
        }
        let m = self.channels[1] / self.groups;
        for group in 0..self.groups {
            let (image, part, weight) = self.parts(group);
            let columns = self.unfold(&x[image], columns);
            let a = View::rows(&weights[weight], self.taps());
            multiply(&mut y[part], [m, self.taps(), cells], a, View::rows(columns, cells), true);
        }
    }

    /// Adds to the gradients of weight and bias, and, if it is wanted, of the image.
    pub(super) fn backward(
        &self,
        weights: &[f32],
        (x, dy): (&[f32], &[f32]),
        dx: Option<&mut [f32]>,
        gradient: &mut [f32],
        columns: &mut [f32],
    ) {
        let cells = self.cells();
        if let Some(bias) = &self.bias {
            for (sum, dy) in gradient[bias.clone()].iter_mut().zip(dy.chunks_exact(cells)) {
                *sum += dy.iter().sum::<f32>();
            }
        }
        if self.is_depthwise() {
            return self.depthwise_backward(weights, (x, dy), dx, gradient);
        }
        let m = self.channels[1] / self.groups;
        let mut dx = dx;
        for group in 0..self.groups {
            let (image, part, weight) = self.parts(group);
            let dy = View::rows(&dy[part], cells);
            let unfolded = View::rows(self.unfold(&x[image.clone()], columns), cells);
            multiply(
                &mut gradient[weight.clone()],
                [m, cells, self.taps()],
                dy,
                unfolded.turned(),
                true,
            );
            let Some(dx) = dx.as_deref_mut() else { continue };
            let turned = View::rows(&weights[weight], self.taps()).turned();
            if self.is_pointwise() {
                multiply(&mut dx[image], [self.taps(), m, cells], turned, dy, true);
            } else {
                multiply(columns, [self.taps(), m, cells], turned, dy, false);
                self.fold(columns, &mut dx[image]);
            }
        }
    }

    /// For a column of the matrix's row `(ky, kx)` and one output line: the first and last output cell
    /// whose input cell is inside, and the input cell of the first.
    fn line(&self, kx: usize) -> (usize, usize, usize) {
        let [pad, step, width] = [self.padding[1], self.stride[1], self.input[1]];
        let first = pad.saturating_sub(kx).div_ceil(step).min(self.output[1]);
        // ox · step + kx - pad < width
        let last = (width + pad).saturating_sub(kx).div_ceil(step).clamp(first, self.output[1]);
        (first, last, (first * step + kx).saturating_sub(pad))
    }

    /// The input line of an output line, if it is inside.
    fn row(&self, oy: usize, ky: usize) -> Option<usize> {
        (oy * self.stride[0] + ky).checked_sub(self.padding[0]).filter(|&row| row < self.input[0])
    }

    fn unfold<'a>(&self, x: &'a [f32], columns: &'a mut [f32]) -> &'a [f32] {
        if self.is_pointwise() {
            return x;
        }
        let ([_, width], out) = (self.input, self.output);
        let pixels = self.input[0] * width;
        let mut lines = columns.chunks_exact_mut(out[1]);
        for x in x.chunks_exact(pixels) {
            for (ky, kx) in pairs(self.kernel) {
                let (first, last, from) = self.line(kx);
                for oy in 0..out[0] {
                    let Some(line) = lines.next() else { return columns };
                    let Some(row) = self.row(oy, ky) else {
                        line.fill(0.0);
                        continue;
                    };
                    line[..first].fill(0.0);
                    line[last..].fill(0.0);
                    let x = &x[row * width..(row + 1) * width];
                    if self.stride[1] == 1 {
                        line[first..last].copy_from_slice(&x[from..from + last - first]);
                    } else if first < last {
                        let cells = x[from..].iter().step_by(self.stride[1]);
                        line[first..last].iter_mut().zip(cells).for_each(|(to, from)| *to = *from);
                    }
                }
            }
        }
        columns
    }

    /// The other way: adds columns to the image that they were unfolded from.
    fn fold(&self, columns: &[f32], dx: &mut [f32]) {
        let ([_, width], out) = (self.input, self.output);
        let pixels = self.input[0] * width;
        let mut lines = columns.chunks_exact(out[1]);
        for dx in dx.chunks_exact_mut(pixels) {
            for (ky, kx) in pairs(self.kernel) {
                let (first, last, from) = self.line(kx);
                for oy in 0..out[0] {
                    let Some(line) = lines.next() else { return };
                    let Some(row) = self.row(oy, ky).filter(|_| first < last) else { continue };
                    let dx = &mut dx[row * width + from..(row + 1) * width];
                    let line = &line[first..last];
                    if self.stride[1] == 1 {
                        dx.iter_mut().zip(line).for_each(|(to, from)| *to += from);
                    } else {
                        let cells = dx.iter_mut().step_by(self.stride[1]);
                        cells.zip(line).for_each(|(to, from)| *to += from);
                    }
                }
            }
        }
    }

    /// Runs over every cell of every filter with the lines it connects: channel, weight's place,
    /// input and output cells of a line as ranges.
    fn connections(&self, mut visit: impl FnMut(usize, usize, Range<usize>, Range<usize>)) {
        let (pixels, width, cells) = (self.input[0] * self.input[1], self.input[1], self.cells());
        let taps = self.kernel[0] * self.kernel[1];
        for channel in 0..self.channels[0] {
            for (tap, (ky, kx)) in pairs(self.kernel).enumerate() {
                let (first, last, from) = self.line(kx);
                if first == last {
                    continue;
                }
                for oy in 0..self.output[0] {
                    let Some(row) = self.row(oy, ky) else { continue };
                    let start = channel * pixels + row * width;
                    let line = channel * cells + oy * self.output[1];
                    visit(
                        channel,
                        self.weight.start + channel * taps + tap,
                        start + from..start + width,
                        line + first..line + last,
                    );
                }
            }
        }
    }

    fn depthwise(&self, weights: &[f32], x: &[f32], y: &mut [f32]) {
        let step = self.stride[1];
        self.connections(|_, at, from, to| {
            let weight = weights[at];
            let (x, y) = (&x[from], &mut y[to]);
            if step == 1 {
                y.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x);
            } else {
                y.iter_mut().zip(x.iter().step_by(step)).for_each(|(y, x)| *y += weight * x);
            }
        });
    }

    fn depthwise_backward(
        &self,
        weights: &[f32],
        (x, dy): (&[f32], &[f32]),
        mut dx: Option<&mut [f32]>,
        gradient: &mut [f32],
    ) {
        let step = self.stride[1];
        self.connections(|_, at, from, to| {
            let dy = &dy[to];
            let cells = x[from.clone()].iter().step_by(step);
            gradient[at] += dy.iter().zip(cells).map(|(dy, x)| dy * x).sum::<f32>();
            if let Some(dx) = dx.as_deref_mut() {
                let cells = dx[from].iter_mut().step_by(step);
                cells.zip(dy).for_each(|(dx, dy)| *dx += weights[at] * dy);
            }
        });
    }
}

/// All `(y, x)` of a window, x fastest.
pub(super) fn pairs([height, width]: [usize; 2]) -> impl Iterator<Item = (usize, usize)> {
    (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)))
}
