//! The trained decoder: a small network from what crosses back to the input, trained by the engine.
//!
//! For images whose crossing still is a map of places it is two convolutions, the second of which makes all
//! cells that one place stands for (sub-pixel convolution, Shi et al., arXiv 1609.05158); else two dense layers.
//! Its width follows from a limit on the work of one row, so that a wide crossing costs what a narrow one does.
//! Start at [`Decoder::train`].

use koinon_model::engine::{Engine, TrainOptions, train};
use koinon_model::loss::TrainData;
use koinon_model::params::Params;
use koinon_model::plan::{Loss, Optimizer, TrainingPlan};
use koinon_model::spec::{CheckedSpec, ModelSpec};
use serde_json::json;

use super::scale::Scale;
use super::{LeakageError, Method};

/// A trained decoder.
pub(super) struct Decoder {
    engine: Engine,
    shape: Shape,
}

/// What it is made of.
#[derive(Clone, Copy)]
enum Shape {
    Dense {
        width: usize,
        targets: usize,
    },
    /// `from` is what crosses, `to` the image, each `[channels, height, width]`; `factor` cells of the image
    /// to a place, each way.
    Maps {
        from: [usize; 3],
        to: [usize; 3],
        factor: usize,
    },
}

/// Multiplications of one row.
const WORK_MAX: usize = 1 << 22;
const HIDDEN_MAX: usize = 512;
const BATCH_ROWS: u32 = 16;
/// The last third of the passes takes steps of a tenth.
const STEP: f64 = 2e-3;
const STEP_DECAY: f64 = 0.1;

/// Auxiliary rows: what crossed, and what it was.
pub(super) struct Pairs<'a> {
    pub(super) x: &'a [f32],
    pub(super) y: &'a [f32],
    /// Sides of one crossing, of the only tensor that crosses; empty for several.
    pub(super) crossing: &'a [usize],
    pub(super) image: Option<[usize; 3]>,
    pub(super) rows: usize,
}

impl Pairs<'_> {
    fn shape(&self) -> Shape {
        let dense =
            Shape::Dense { width: self.x.len() / self.rows, targets: self.y.len() / self.rows };
        let (Some(to), &[channels, h, w]) = (self.image, self.crossing) else { return dense };
        let factor = to[1].checked_div(h).unwrap_or(0);
        if factor > 0 && to[1] == h * factor && to[2] == w * factor && h > 1 {
            Shape::Maps { from: [channels, h, w], to, factor }
        } else {
            dense
        }
    }

    /// The scale of what crosses: channels of maps share theirs.
    pub(super) fn scale(&self) -> Scale {
        let group = match self.shape() {
            Shape::Dense { .. } => 1,
            Shape::Maps { from: [_, h, w], .. } => h * w,
        };
        Scale::fit(self.x, self.x.len() / self.rows, group)
    }
}

impl Decoder {
    /// Trains on rows on scale.
    pub(super) fn train(pairs: &Pairs<'_>, epochs: u32, seed: u64) -> Result<Self, LeakageError> {
        let shape = pairs.shape();
        let spec = shape.spec()?;
        let y = shape.folded(pairs.y);
        let data = TrainData { x: pairs.x, y: &y, weights: None };
        let mut params = Params::init(&spec, seed);
        let coarse = epochs - epochs / 3;
        for (round, epochs) in [(0, coarse), (1, epochs - coarse)] {
            if epochs == 0 {
                continue;
            }
            let plan = plan(epochs);
            let options = TrainOptions { seed, round, stop: &|| false };
            let step = train(&spec, &params, &data, &plan, &options)?;
            params = params.stepped(spec.layout(), step.delta.values())?;
        }
        Ok(Self { engine: Engine::load(&spec, &params)?, shape })
    }

    pub(super) fn method(&self) -> Method {
        match self.shape {
            Shape::Dense { .. } => Method::Dense,
            Shape::Maps { .. } => Method::Convolutions,
        }
    }

    /// Reconstructs rows on scale.
    pub(super) fn apply(&self, x: &[f32]) -> Result<Vec<f32>, LeakageError> {
        Ok(self.shape.unfolded(&self.engine.outputs(x)?))
    }
}

impl Shape {
    fn spec(self) -> Result<CheckedSpec, LeakageError> {
        let value = match self {
            Self::Dense { width, targets } => {
                let hidden = (WORK_MAX / (width + targets)).clamp(16, HIDDEN_MAX);
                json!({"name": "decoder", "inputs": [{"name": "crossing", "shape": [width]}], "nodes": [
                    {"name": "hidden", "op": {"linear": {"units": hidden}}, "inputs": ["crossing"]},
                    {"name": "relu", "op": "relu", "inputs": ["hidden"]},
                    {"name": "input", "op": {"linear": {"units": targets}}, "inputs": ["relu"]}]})
            }
            Self::Maps { from: [channels, h, w], to, factor } => {
                let out = to[0] * factor * factor;
                let work = |hidden: &usize| h * w * 25 * hidden * (channels + out) <= WORK_MAX;
                let hidden = [64, 32, 16].into_iter().find(work).unwrap_or(8);
                let conv = |channels: usize| json!({"conv2d": {"channels": channels, "kernel": [5, 5], "padding": [2, 2]}});
                json!({"name": "decoder", "inputs": [{"name": "crossing", "shape": [channels, h, w]}], "nodes": [
                    {"name": "hidden", "op": conv(hidden), "inputs": ["crossing"]},
                    {"name": "relu", "op": "relu", "inputs": ["hidden"]},
                    {"name": "input", "op": conv(out), "inputs": ["relu"]},
                    {"name": "flat", "op": "flatten", "inputs": ["input"]}]})
            }
        };
        Ok(ModelSpec::from_json(value.to_string().as_bytes())?.check()?)
    }

    /// Images with the cells of one place as channels of it.
    fn folded(self, images: &[f32]) -> Vec<f32> {
        self.moved(images, |out, at, from| out[at] = images[from])
    }

    fn unfolded(self, places: &[f32]) -> Vec<f32> {
        self.moved(places, |out, at, from| out[from] = places[at])
    }

    /// Calls `put` with each place of the folded form and its cell in the image.
    fn moved(self, items: &[f32], put: impl Fn(&mut [f32], usize, usize)) -> Vec<f32> {
        let mut out = items.to_vec();
        let Self::Maps { from: [_, h, w], to: [channels, ..], factor } = self else { return out };
        let (wide, mut at) = (w * factor, 0);
        let plane = h * factor * wide;
        let rows = items.len() / (channels * plane);
        for image in 0..rows * channels {
            for (dy, dx) in (0..factor).flat_map(|dy| (0..factor).map(move |dx| (dy, dx))) {
                for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
                    let cell = (y * factor + dy) * wide + x * factor + dx;
                    put(&mut out, at, image * plane + cell);
                    at += 1;
                }
            }
        }
        out
    }
}

fn plan(epochs: u32) -> TrainingPlan {
    TrainingPlan {
        epochs,
        batch_size: BATCH_ROWS,
        learning_rate: STEP,
        learning_rate_decay: STEP_DECAY,
        optimizer: Optimizer::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
        loss: Loss::Mse,
        weight_decay: 0.0,
        class_weights: None,
        proximal_mu: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_images_come_back() {
        let shape = Shape::Maps { from: [5, 2, 3], to: [2, 4, 6], factor: 2 };
        let images: Vec<f32> = (0..2 * 48u8).map(f32::from).collect();
        let folded = shape.folded(&images);
        // The four cells of the first place are the first of four channels.
        assert_eq!([folded[0], folded[6], folded[12], folded[18]], [0.0, 1.0, 6.0, 7.0]);
        assert_eq!(shape.unfolded(&folded), images);
        let dense = Shape::Dense { width: 3, targets: 48 };
        assert_eq!(dense.folded(&images), images);
    }
}
