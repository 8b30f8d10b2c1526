//! Norms and softmax over runs of elements.
//!
//! Statistics are summed in double precision: a run may be long. Start at [`Norm`].

use std::ops::Range;

/// A norm by the statistics of runs of `run` elements; scale and shift change every `each` elements
/// and begin again after `period` of them.
pub(super) struct Norm {
    pub(super) weight: Range<usize>,
    pub(super) bias: Range<usize>,
    pub(super) run: usize,
    pub(super) each: usize,
    pub(super) eps: f64,
}

impl Norm {
    fn period(&self) -> usize {
        self.weight.len()
    }

    /// Which scale an element has.
    fn place(&self, at: usize) -> usize {
        at / self.each % self.period()
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "statistics are rounded once"
    )]
    fn statistics(&self, x: &[f32]) -> (f32, f32) {
        let n = x.len() as f64;
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        (mean as f32, (1.0 / (variance + self.eps).sqrt()) as f32)
    }

    pub(super) fn forward(&self, weights: &[f32], x: &[f32], y: &mut [f32]) {
        let (weight, bias) = (&weights[self.weight.clone()], &weights[self.bias.clone()]);
        let runs = x.chunks_exact(self.run).zip(y.chunks_exact_mut(self.run));
        for (start, (x, y)) in (0..).step_by(self.run).zip(runs) {
            let (mean, inverse) = self.statistics(x);
            for (at, (x, y)) in (start..).zip(x.iter().zip(y)) {
                let place = self.place(at);
                *y = (x - mean) * inverse * weight[place] + bias[place];
            }
        }
    }

    pub(super) fn backward(
        &self,
        weights: &[f32],
        (x, dy): (&[f32], &[f32]),
        dx: &mut [f32],
        gradient: &mut [f32],
    ) {
        let runs = x.chunks_exact(self.run).zip(dy.chunks_exact(self.run));
        let runs = runs.zip(dx.chunks_exact_mut(self.run));
        for (start, ((x, dy), dx)) in (0..).step_by(self.run).zip(runs) {
            let (mean, inverse) = self.statistics(x);
            let (mut sum, mut product) = (0.0f32, 0.0f32);
            for (at, (x, dy)) in (start..).zip(x.iter().zip(dy)) {
                let (place, unit) = (self.place(at), (x - mean) * inverse);
                gradient[self.weight.start + place] += dy * unit;
                gradient[self.bias.start + place] += dy;
                let scaled = dy * weights[self.weight.start + place];
                sum += scaled;
                product += scaled * unit;
            }
            #[expect(
                clippy::cast_precision_loss,
                reason = "a run has far fewer than 2^24 elements"
            )]
            let share = 1.0 / self.run as f32;
            for (at, ((x, dy), dx)) in (start..).zip(x.iter().zip(dy).zip(dx)) {
                let unit = (x - mean) * inverse;
                let scaled = dy * weights[self.weight.start + self.place(at)];
                *dx += inverse * (scaled - share * (sum + unit * product));
            }
        }
    }
}

/// A norm by frozen statistics: one factor and one summand for each channel of `cells` elements.
pub(super) struct Frozen {
    pub(super) weight: Range<usize>,
    pub(super) bias: Range<usize>,
    pub(super) mean: Range<usize>,
    pub(super) variance: Range<usize>,
    pub(super) cells: usize,
    pub(super) eps: f64,
}

impl Frozen {
    #[expect(clippy::cast_possible_truncation, reason = "rounded once")]
    fn inverse(&self, weights: &[f32], channel: usize) -> f32 {
        let variance = f64::from(weights[self.variance.start + channel]);
        (1.0 / (variance + self.eps).sqrt()) as f32
    }

    pub(super) fn forward(&self, weights: &[f32], x: &[f32], y: &mut [f32]) {
        let channels = x.chunks_exact(self.cells).zip(y.chunks_exact_mut(self.cells));
        for (c, (x, y)) in (0..self.weight.len()).cycle().zip(channels) {
            let factor = self.inverse(weights, c) * weights[self.weight.start + c];
            let (mean, bias) = (weights[self.mean.start + c], weights[self.bias.start + c]);
            x.iter().zip(y).for_each(|(x, y)| *y = (x - mean) * factor + bias);
        }
    }

    pub(super) fn backward(
        &self,
        weights: &[f32],
        (x, dy): (&[f32], &[f32]),
        dx: &mut [f32],
        gradient: &mut [f32],
    ) {
        let channels = x.chunks_exact(self.cells).zip(dy.chunks_exact(self.cells));
        let channels = channels.zip(dx.chunks_exact_mut(self.cells));
        for (c, ((x, dy), dx)) in (0..self.weight.len()).cycle().zip(channels) {
            let (inverse, mean) = (self.inverse(weights, c), weights[self.mean.start + c]);
            let units = x.iter().map(|x| (x - mean) * inverse);
            gradient[self.weight.start + c] +=
                dy.iter().zip(units).map(|(a, b)| a * b).sum::<f32>();
            gradient[self.bias.start + c] += dy.iter().sum::<f32>();
            let factor = inverse * weights[self.weight.start + c];
            dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += factor * dy);
        }
    }
}

/// Softmax of runs of `run` elements.
pub(super) fn softmax(run: usize, x: &[f32], y: &mut [f32]) {
    for (x, y) in x.chunks_exact(run).zip(y.chunks_exact_mut(run)) {
        let top = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        x.iter().zip(&mut *y).for_each(|(x, y)| *y = (x - top).exp());
        let sum: f32 = y.iter().sum();
        y.iter_mut().for_each(|y| *y /= sum);
    }
}

pub(super) fn softmax_backward(run: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    let runs = y.chunks_exact(run).zip(dy.chunks_exact(run)).zip(dx.chunks_exact_mut(run));
    for ((y, dy), dx) in runs {
        let dot: f32 = y.iter().zip(dy).map(|(y, dy)| y * dy).sum();
        for (dx, (y, dy)) in dx.iter_mut().zip(y.iter().zip(dy)) {
            *dx += y * (dy - dot);
        }
    }
}
