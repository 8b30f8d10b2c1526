//! Pools of one image: largest or mean of each window.
//!
//! Nothing is remembered between forward and backward: where the largest was is found again, the
//! first of equals as in PyTorch. Start at [`PoolShape`].

use super::conv::pairs;

/// A pool with all its sizes.
pub(super) struct PoolShape {
    pub(super) input: [usize; 2],
    pub(super) output: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) padding: [usize; 2],
}

impl PoolShape {
    /// Place of a window's cell in an image, if it is inside.
    fn cell(&self, (oy, ox): (usize, usize), (ky, kx): (usize, usize)) -> Option<usize> {
        let inside = |at: usize, axis: usize| {
            at.checked_sub(self.padding[axis]).filter(|&at| at < self.input[axis])
        };
        let row = inside(oy * self.stride[0] + ky, 0)?;
        Some(row * self.input[1] + inside(ox * self.stride[1] + kx, 1)?)
    }

    fn pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn cells(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Largest of each window.
    pub(super) fn largest(&self, x: &[f32], y: &mut [f32]) {
        for (x, y) in x.chunks_exact(self.pixels()).zip(y.chunks_exact_mut(self.cells())) {
            if self.padding == [0, 0] {
                self.largest_inside(x, y);
                continue;
            }
            for (y, window) in y.iter_mut().zip(pairs(self.output)) {
                let cells = pairs(self.kernel).filter_map(|cell| self.cell(window, cell));
                *y = cells.map(|cell| x[cell]).fold(f32::NEG_INFINITY, f32::max);
            }
        }
    }

    /// The same without padding, a line at a time.
    fn largest_inside(&self, x: &[f32], y: &mut [f32]) {
        y.fill(f32::NEG_INFINITY);
        for (oy, y) in y.chunks_exact_mut(self.output[1]).enumerate() {
            for (ky, kx) in pairs(self.kernel) {
                let row = (oy * self.stride[0] + ky) * self.input[1];
                let line = &x[row + kx..row + self.input[1]];
                if self.stride[1] == 2 {
                    // A known step lets the compiler shuffle instead of gather.
                    let cells = line.chunks(2).map(|pair| pair[0]);
                    y.iter_mut().zip(cells).for_each(|(y, x)| *y = y.max(x));
                } else {
                    let cells = line.iter().step_by(self.stride[1]);
                    y.iter_mut().zip(cells).for_each(|(y, x)| *y = y.max(*x));
                }
            }
        }
    }

    pub(super) fn largest_backward(&self, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let (pixels, cells) = (self.pixels(), self.cells());
        let images = x.chunks_exact(pixels).zip(dx.chunks_exact_mut(pixels));
        let pairs_of_lines = self.kernel == [2, 2]
            && self.stride == [2, 2]
            && self.padding == [0, 0]
            && self.input[1] == 2 * self.output[1];
        for ((x, dx), dy) in images.zip(dy.chunks_exact(cells)) {
            if pairs_of_lines {
                self.largest_of_four(x, dy, dx);
                continue;
            }
            for (dy, window) in dy.iter().zip(pairs(self.output)) {
                if *dy == 0.0 {
                    continue;
                }
                let mut best = None;
                for cell in pairs(self.kernel).filter_map(|cell| self.cell(window, cell)) {
                    if best.is_none_or(|best: usize| x[cell] > x[best]) {
                        best = Some(cell);
                    }
                }
                if let Some(best) = best {
                    dx[best] += dy;
                }
            }
        }
    }

    /// The gradient of windows of two by two that lie side by side: the first of the largest gets it.
    fn largest_of_four(&self, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let width = self.input[1];
        let lines = x.chunks_exact(2 * width).zip(dx.chunks_exact_mut(2 * width));
        for ((x, dx), dy) in lines.zip(dy.chunks_exact(self.output[1])) {
            let ((x0, x1), (dx0, dx1)) = (x.split_at(width), dx.split_at_mut(width));
            let above = x0.as_chunks::<2>().0.iter().zip(x1.as_chunks::<2>().0);
            let below = dx0.as_chunks_mut::<2>().0.iter_mut().zip(dx1.as_chunks_mut::<2>().0);
            for (((&[a, b], &[c, d]), (first, second)), dy) in above.zip(below).zip(dy) {
                // A window takes the next cell only if it is larger.
                let (right, far) = (b > a, d > c);
                let (upper, lower) = (if right { b } else { a }, if far { d } else { c });
                let is_lower = lower > upper;
                let share = |taken: bool| if taken { *dy } else { 0.0 };
                first[0] += share(!is_lower && !right);
                first[1] += share(!is_lower && right);
                second[0] += share(is_lower && !far);
                second[1] += share(is_lower && far);
            }
        }
    }

    /// Mean of each window; there is no padding.
    pub(super) fn mean(&self, x: &[f32], y: &mut [f32]) {
        let share = self.share();
        for (x, y) in x.chunks_exact(self.pixels()).zip(y.chunks_exact_mut(self.cells())) {
            for (y, window) in y.iter_mut().zip(pairs(self.output)) {
                let cells = pairs(self.kernel).filter_map(|cell| self.cell(window, cell));
                *y = share * cells.map(|cell| x[cell]).sum::<f32>();
            }
        }
    }

    pub(super) fn mean_backward(&self, dy: &[f32], dx: &mut [f32]) {
        let share = self.share();
        for (dx, dy) in dx.chunks_exact_mut(self.pixels()).zip(dy.chunks_exact(self.cells())) {
            for (dy, window) in dy.iter().zip(pairs(self.output)) {
                for cell in pairs(self.kernel).filter_map(|cell| self.cell(window, cell)) {
                    dx[cell] += share * dy;
                }
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a window has few cells")]
    fn share(&self) -> f32 {
        1.0 / (self.kernel[0] * self.kernel[1]) as f32
    }
}
