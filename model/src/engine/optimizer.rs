//! Local optimizers on the flat vector, the same for every engine.
//!
//! They see weights and one gradient; batches and learning-rate schedules belong to `train`.

use crate::plan::{Optimizer, TrainingPlan};

/// One optimizer with its state, which lives as long as the round.
pub(super) struct Stepper {
    kind: Optimizer,
    rate: f64,
    weight_decay: f32,
    proximal_mu: f32,
    first: Vec<f32>,
    second: Vec<f32>,
    steps: u32,
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
impl Stepper {
    /// An optimizer for `len` elements in round `round` (for the decay of the step size).
    pub(super) fn new(plan: &TrainingPlan, round: u32, len: usize) -> Self {
        let state = |wanted: bool| vec![0.0; if wanted { len } else { 0 }];
        Self {
            kind: plan.optimizer,
            rate: plan.learning_rate * plan.learning_rate_decay.powf(f64::from(round)),
            weight_decay: plan.weight_decay as f32,
            proximal_mu: plan.proximal_mu.unwrap_or(0.0) as f32,
            first: state(plan.optimizer != Optimizer::Sgd),
            second: state(matches!(plan.optimizer, Optimizer::Adam { .. })),
            steps: 0,
        }
    }

    /// One step from `gradient`, which is used up. `start` holds the round's first weights.
    pub(super) fn step(&mut self, weights: &mut [f32], start: &[f32], gradient: &mut [f32]) {
        self.steps = self.steps.saturating_add(1);
        if self.weight_decay != 0.0 {
            for (g, w) in gradient.iter_mut().zip(&*weights) {
                *g += self.weight_decay * w;
            }
        }
        if self.proximal_mu != 0.0 {
            for ((g, w), w0) in gradient.iter_mut().zip(&*weights).zip(start) {
                *g += self.proximal_mu * (w - w0);
            }
        }
        let rate = self.rate as f32;
        match self.kind {
            Optimizer::Sgd => {
                for (w, g) in weights.iter_mut().zip(&*gradient) {
                    *w -= rate * g;
                }
            }
            Optimizer::Momentum { momentum } => {
                let momentum = momentum as f32;
                for ((w, v), g) in weights.iter_mut().zip(&mut self.first).zip(&*gradient) {
                    *v = momentum * *v + g;
                    *w -= rate * *v;
                }
            }
            Optimizer::Adam { beta1, beta2, eps } => {
                self.adam(weights, gradient, [beta1, beta2, eps]);
            }
        }
    }

    fn adam(&mut self, weights: &mut [f32], gradient: &[f32], [beta1, beta2, eps]: [f64; 3]) {
        let t = f64::from(self.steps);
        let rate = (self.rate / (1.0 - beta1.powf(t))) as f32;
        let root = (1.0 / (1.0 - beta2.powf(t)).sqrt()) as f32;
        let (beta1, beta2, eps) = (beta1 as f32, beta2 as f32, eps as f32);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((w, (m, v)), g) in weights.iter_mut().zip(moments).zip(gradient) {
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *w -= rate * *m / (v.sqrt() * root + eps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(extra: &str, round: u32, gradients: &[f32]) -> f32 {
        let text =
            format!("epochs = 1\nbatch_size = 1\nlearning_rate = 0.1\nloss = \"mse\"\n{extra}");
        let plan = TrainingPlan::from_toml(&text).unwrap();
        let mut stepper = Stepper::new(&plan, round, 1);
        let mut w = [1.0];
        for g in gradients {
            stepper.step(&mut w, &[1.0], &mut [*g]);
        }
        w[0]
    }

    /// By hand, and equal to what `torch.optim` gives.
    #[test]
    fn known_answers() {
        let close = |got: f32, want: f32| assert!((got - want).abs() < 1e-6, "{got} {want}");
        close(run("", 0, &[1.0, 2.0]), 0.7);
        close(run("learning_rate_decay = 0.5", 2, &[1.0]), 0.975);
        close(run("weight_decay = 0.5", 0, &[0.0]), 0.95);
        close(run("proximal_mu = 1.0", 0, &[1.0, 0.0]), 0.9 + 0.1 * 0.1);
        close(run("optimizer = { momentum = {} }", 0, &[1.0, 1.0]), 1.0 - 0.1 - 0.19);
        // Adam's first step has length `rate` whatever the gradient; equal gradients keep it.
        close(run("optimizer = { adam = {} }", 0, &[3.0]), 0.9);
        close(run("optimizer = { adam = {} }", 0, &[1e-3, 1e-3]), 0.8);
    }
}
