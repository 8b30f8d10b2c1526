//! Losses and their gradients at the model's output, in plain arithmetic.
//!
//! One implementation serves both ways of computing, so that a loss means the same on them. It
//! knows no parameters: they carry [`Objective::batch`]'s gradient back through the model.

use crate::loss::{DataError, LossSum, TrainData, sigmoid};
use crate::plan::{Loss, TrainingPlan};

/// A loss with its class weights, for a model of a known output width.
pub(super) struct Objective {
    loss: Loss,
    class_weights: Vec<f32>,
    width: usize,
}

impl Objective {
    /// Checks that the model's output fits the plan's loss.
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
    pub(super) fn new(plan: &TrainingPlan, width: usize) -> Result<Self, DataError> {
        let class_weights: Vec<f32> =
            plan.class_weights.iter().flatten().map(|&weight| weight as f32).collect();
        let fail = |want: String| Err(DataError::Outputs { loss: plan.loss, width, want });
        if plan.loss == Loss::CrossEntropy {
            if width < 2 {
                return fail("two or more".into());
            }
            if !class_weights.is_empty() && class_weights.len() != width {
                return fail(class_weights.len().to_string());
            }
        }
        Ok(Self { loss: plan.loss, class_weights, width })
    }

    /// Checks all rows once; returns their number.
    pub(super) fn check(&self, data: &TrainData<'_>, input_width: usize) -> Result<u32, DataError> {
        let n_rows = data.x.len() / input_width;
        let rows = u32::try_from(n_rows).ok().filter(|&rows| rows > 0);
        let rows = rows.ok_or(DataError::Rows(n_rows))?;
        let length = |what, got, want| {
            if got == want { Ok(()) } else { Err(DataError::Length { what, got, want }) }
        };
        length("features", data.x.len(), n_rows * input_width)?;
        let labels = self.loss.labels_per_row(self.width);
        length("labels", data.y.len(), n_rows * labels)?;
        if let Some(weights) = data.weights {
            length("row weights", weights.len(), n_rows)?;
            let bad = |weight: &f32| !weight.is_finite() || *weight < 0.0;
            if let Some(row) = weights.iter().position(bad) {
                return Err(DataError::NotFinite { row, what: "weights" });
            }
        }
        if let Some(at) = data.x.iter().position(|value| !value.is_finite()) {
            return Err(DataError::NotFinite { row: at / input_width, what: "features" });
        }
        match data.y.iter().position(|&label| !self.is_label(label)) {
            Some(at) => Err(DataError::Label { row: at / labels, want: self.label_words() }),
            None => Ok(rows),
        }
    }

    fn is_label(&self, label: f32) -> bool {
        match self.loss {
            Loss::BinaryCrossEntropy => (0.0..=1.0).contains(&label),
            Loss::CrossEntropy => label >= 0.0 && label.fract() == 0.0 && label < self.width as f32,
            Loss::Mse => label.is_finite(),
        }
    }

    fn label_words(&self) -> String {
        match self.loss {
            Loss::BinaryCrossEntropy => "between 0 and 1".into(),
            Loss::CrossEntropy => format!("a class 0 to {}", self.width - 1),
            Loss::Mse => "a finite number".into(),
        }
    }

    /// Loss of one batch of checked rows, and the gradient of its weighted *mean* with respect to
    /// `outputs`, written to `gradient`. All weights zero: no gradient.
    pub(super) fn batch(
        &self,
        outputs: &[f32],
        y: &[f32],
        weights: Option<&[f32]>,
        gradient: &mut [f32],
    ) -> LossSum {
        let sum = self.rows(outputs, y, weights, gradient);
        let scale = if sum.weight > 0.0 { 1.0 / sum.weight } else { 0.0 };
        #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
        let scale = scale as f32;
        for value in gradient {
            *value *= scale;
        }
        sum
    }

    /// Loss of checked rows, and the gradient of each row's own weighted loss with respect to its
    /// `outputs`, written to `gradient`: nothing in a row's part depends on another row.
    pub(super) fn rows(
        &self,
        outputs: &[f32],
        y: &[f32],
        weights: Option<&[f32]>,
        gradient: &mut [f32],
    ) -> LossSum {
        let labels = self.loss.labels_per_row(self.width);
        let rows = outputs
            .chunks_exact(self.width)
            .zip(y.chunks_exact(labels))
            .zip(gradient.chunks_exact_mut(self.width));
        let mut sum = LossSum::default();
        for (row, ((outputs, y), gradient)) in rows.enumerate() {
            let weight = weights.map_or(1.0, |weights| weights[row]);
            let part = match self.loss {
                Loss::BinaryCrossEntropy => self.binary_row(outputs, y, weight, gradient),
                Loss::CrossEntropy => self.cross_entropy_row(outputs, y[0], weight, gradient),
                Loss::Mse => squared_row(outputs, y, weight, gradient),
            };
            sum.add(part);
        }
        sum
    }

    fn binary_row(&self, z: &[f32], y: &[f32], weight: f32, gradient: &mut [f32]) -> LossSum {
        let share = 1.0 / z.len() as f32;
        let mut sum = LossSum::default();
        for ((&z, &y), gradient) in z.iter().zip(y).zip(gradient) {
            let class = match self.class_weights[..] {
                [negative, positive] => y * positive + (1.0 - y) * negative,
                _ => 1.0,
            };
            let weight = weight * class * share;
            let loss = z.max(0.0) - z * y + (-z.abs()).exp().ln_1p();
            *gradient = weight * (sigmoid(z) - y);
            sum.add(LossSum { loss: f64::from(weight * loss), weight: f64::from(weight) });
        }
        sum
    }

    fn cross_entropy_row(&self, z: &[f32], y: f32, weight: f32, gradient: &mut [f32]) -> LossSum {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked label"
        )]
        let class = y as usize;
        let weight = weight * self.class_weights.get(class).copied().unwrap_or(1.0);
        let top = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut total = 0.0;
        for (gradient, &z) in gradient.iter_mut().zip(z) {
            *gradient = (z - top).exp();
            total += *gradient;
        }
        let loss = total.ln() - (z[class] - top);
        for value in gradient.iter_mut() {
            *value *= weight / total;
        }
        gradient[class] -= weight;
        LossSum { loss: f64::from(weight * loss), weight: f64::from(weight) }
    }
}

fn squared_row(z: &[f32], y: &[f32], weight: f32, gradient: &mut [f32]) -> LossSum {
    let share = 1.0 / z.len() as f32;
    let mut loss = 0.0;
    for ((&z, &y), gradient) in z.iter().zip(y).zip(gradient) {
        let difference = z - y;
        loss += difference * difference * share;
        *gradient = 2.0 * weight * share * difference;
    }
    LossSum { loss: f64::from(weight * loss), weight: f64::from(weight) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(loss: &str, extra: &str) -> TrainingPlan {
        let text =
            format!("epochs = 1\nbatch_size = 1\nlearning_rate = 0.1\nloss = \"{loss}\"\n{extra}");
        TrainingPlan::from_toml(&text).unwrap()
    }

    /// (loss, class weights, outputs, labels)
    fn cases() -> Vec<(TrainingPlan, Vec<f32>, Vec<f32>)> {
        let z = vec![0.3, -1.2, 2.0, 0.1, 0.4, -0.5];
        vec![
            (plan("mse", ""), z.clone(), vec![1.0, 0.0, 2.0, -1.0, 0.5, 0.0]),
            (plan("cross_entropy", "class_weights = [1.0, 3.0, 0.5]"), z.clone(), vec![1.0, 0.0]),
            (
                plan("binary_cross_entropy", "class_weights = [1.0, 4.0]"),
                z,
                vec![1.0, 0.0, 0.5, 1.0, 0.0, 0.0],
            ),
        ]
    }

    #[test]
    fn gradients_agree_with_differences() {
        for (plan, mut z, y) in cases() {
            let objective = Objective::new(&plan, 3).unwrap();
            let weights = [2.0, 0.5];
            let mut gradient = vec![0.0; z.len()];
            objective.batch(&z, &y, Some(&weights), &mut gradient);
            for i in 0..z.len() {
                let mut at = |delta: f32| {
                    let kept = z[i];
                    z[i] += delta;
                    let sum = objective.batch(&z, &y, Some(&weights), &mut vec![0.0; z.len()]);
                    z[i] = kept;
                    sum.mean()
                };
                let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!((f64::from(gradient[i]) - difference).abs() < 1e-3, "{:?} {i}", plan.loss);
            }
        }
    }

    #[test]
    fn known_answers() {
        let two = (2.0f64).ln();
        for (plan, z, y, want) in [
            (plan("cross_entropy", ""), vec![0.0, 0.0], vec![1.0], two),
            (plan("cross_entropy", ""), vec![200.0, -200.0], vec![0.0], 0.0),
            (plan("cross_entropy", ""), vec![200.0, -200.0], vec![1.0], 400.0),
            (plan("binary_cross_entropy", ""), vec![0.0], vec![1.0], two),
            (plan("binary_cross_entropy", ""), vec![-500.0], vec![1.0], 500.0),
            (plan("mse", ""), vec![1.0, 5.0], vec![0.0, 2.0], 5.0),
        ] {
            let objective = Objective::new(&plan, z.len()).unwrap();
            let mut gradient = vec![0.0; z.len()];
            let sum = objective.batch(&z, &y, None, &mut gradient);
            assert!((sum.mean() - want).abs() < 1e-5, "{:?}: {}", plan.loss, sum.mean());
            assert!(gradient.iter().all(|value| value.is_finite()));
        }
    }

    #[test]
    fn bad_rows_are_named() {
        let objective = Objective::new(&plan("cross_entropy", ""), 2).unwrap();
        let check = |x: &[f32], y: &[f32], weights| {
            objective.check(&TrainData { x, y, weights }, 2).map_err(|error| error.to_string())
        };
        assert_eq!(check(&[0.0; 4], &[0.0, 1.0], None), Ok(2));
        assert!(check(&[0.0; 4], &[0.0, 2.0], None).unwrap_err().contains("row 1"));
        assert!(check(&[0.0; 4], &[0.5, 1.0], None).unwrap_err().contains("class 0 to 1"));
        assert!(
            check(&[0.0, 0.0, 0.0, f32::NAN], &[0.0, 1.0], None).unwrap_err().contains("row 1")
        );
        assert!(check(&[0.0; 4], &[0.0, 1.0], Some(&[1.0, -1.0])).is_err());
        assert!(check(&[0.0; 5], &[0.0, 1.0], None).is_err());
        assert!(check(&[], &[], None).is_err());
        assert!(Objective::new(&plan("cross_entropy", ""), 1).is_err());
    }
}
