//! Server optimizers: how the decoded mean update becomes the step from one version to the next.
//!
//! The mean update is used as a pseudo-gradient that points uphill already, so every rule *adds*
//! (Reddi et al. 2021, 2003.00295, algorithm 2, which calls it Δ). All arithmetic is in `f64`,
//! element by element and in order; state is kept in `f32`. So the same sums give the same version
//! on every machine. Deliberately not here: parameters and their layout. Start at
//! [`Optimizer::step`].

use koinon_proto::task::ServerOptimizer;

/// A rule with its state.
#[derive(Clone, PartialEq)]
pub struct Optimizer {
    rule: ServerOptimizer,
    /// First moment or velocity: m, empty for plain averaging.
    first: Vec<f32>,
    /// Second moment: v, empty where the rule has none.
    second: Vec<f32>,
}

/// Why bytes are no state of this rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the optimizer's state has {have} bytes where this rule and model need {need}")]
pub struct StateError {
    /// Bytes given.
    pub have: usize,
    /// Bytes needed.
    pub need: usize,
}

impl Optimizer {
    /// A rule before its first step on `len` parameters.
    #[must_use]
    pub fn new(rule: ServerOptimizer, len: usize) -> Self {
        let (first, second) = match rule {
            ServerOptimizer::Average { .. } => (0, 0),
            ServerOptimizer::Momentum { .. } => (len, 0),
            ServerOptimizer::Adagrad { .. } => (0, len),
            ServerOptimizer::Adam { .. } | ServerOptimizer::Yogi { .. } => (len, len),
        };
        // Algorithm 2 starts with v ≥ τ², so that the first steps are not blown up.
        let v = match rule {
            ServerOptimizer::Adagrad { epsilon, .. }
            | ServerOptimizer::Adam { epsilon, .. }
            | ServerOptimizer::Yogi { epsilon, .. } => to_f32(epsilon * epsilon),
            _ => 0.0,
        };
        Self { rule, first: vec![0.0; first], second: vec![v; second] }
    }

    /// The step for a mean update, one number for each parameter; the state moves on.
    ///
    /// # Panics
    /// When `mean` has another length than the state: both come from one model's layout.
    #[must_use]
    pub fn step(&mut self, mean: &[f64]) -> Vec<f32> {
        assert!(self.first.is_empty() || self.first.len() == mean.len(), "one model, one length");
        assert!(self.second.is_empty() || self.second.len() == mean.len(), "one model, one length");
        let rule = self.rule;
        let mut first = self.first.iter_mut();
        let mut second = self.second.iter_mut();
        mean.iter().map(|&mean| step(rule, mean, first.next(), second.next())).collect()
    }

    /// The state as little-endian `f32`, first moment before second; `None` when there is none.
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let values = || self.first.iter().chain(&self.second);
        values().next()?;
        Some(values().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// A rule in the state that [`Optimizer::to_bytes`] gave.
    ///
    /// # Errors
    /// [`StateError`] when the length is another.
    pub fn from_bytes(rule: ServerOptimizer, len: usize, bytes: &[u8]) -> Result<Self, StateError> {
        let mut optimizer = Self::new(rule, len);
        let need = 4 * (optimizer.first.len() + optimizer.second.len());
        if bytes.len() != need {
            return Err(StateError { have: bytes.len(), need });
        }
        let values = optimizer.first.iter_mut().chain(&mut optimizer.second);
        for (value, bytes) in values.zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        Ok(optimizer)
    }
}

/// One element's step; `m` and `v` are there where the rule has them.
fn step(rule: ServerOptimizer, mean: f64, m: Option<&mut f32>, v: Option<&mut f32>) -> f32 {
    let (mut no_m, mut no_v) = (0.0, 0.0);
    let (m, v) = (m.unwrap_or(&mut no_m), v.unwrap_or(&mut no_v));
    let square = mean * mean;
    let step = match rule {
        ServerOptimizer::Average { learning_rate } => learning_rate * mean,
        ServerOptimizer::Momentum { learning_rate, beta } => {
            *m = to_f32(beta * f64::from(*m) + mean);
            learning_rate * f64::from(*m)
        }
        ServerOptimizer::Adagrad { learning_rate, epsilon } => {
            *v = to_f32(f64::from(*v) + square);
            learning_rate * mean / (f64::from(*v).sqrt() + epsilon)
        }
        ServerOptimizer::Adam { learning_rate, beta1, beta2, epsilon } => {
            *m = to_f32(beta1 * f64::from(*m) + (1.0 - beta1) * mean);
            *v = to_f32(beta2 * f64::from(*v) + (1.0 - beta2) * square);
            learning_rate * f64::from(*m) / (f64::from(*v).sqrt() + epsilon)
        }
        ServerOptimizer::Yogi { learning_rate, beta1, beta2, epsilon } => {
            *m = to_f32(beta1 * f64::from(*m) + (1.0 - beta1) * mean);
            let sign = if f64::from(*v) > square { 1.0 } else { -1.0 };
            *v = to_f32(f64::from(*v) - (1.0 - beta2) * square * sign);
            learning_rate * f64::from(*m) / (f64::from(*v).sqrt() + epsilon)
        }
    };
    to_f32(step)
}

#[expect(clippy::cast_possible_truncation, reason = "parameters and state are single precision")]
fn to_f32(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values worked out by hand from the formulas of algorithm 2.
    fn check(rule: ServerOptimizer, means: &[f64], steps: &[f64]) {
        let mut optimizer = Optimizer::new(rule, 1);
        for (round, (&mean, &expected)) in means.iter().zip(steps).enumerate() {
            let got = f64::from(optimizer.step(&[mean])[0]);
            assert!(
                (got - expected).abs() < 1e-6,
                "{rule:?}, round {round}: {got}, not {expected}"
            );
        }
    }

    #[test]
    fn averaging_adds_the_scaled_mean() {
        check(
            ServerOptimizer::Average { learning_rate: 0.5 },
            &[2.0, -4.0, 0.0],
            &[1.0, -2.0, 0.0],
        );
    }

    #[test]
    fn momentum_keeps_a_velocity() {
        let rule = ServerOptimizer::Momentum { learning_rate: 0.1, beta: 0.5 };
        // velocity 1, 0.5 + 2 = 2.5, 1.25
        check(rule, &[1.0, 2.0, 0.0], &[0.1, 0.25, 0.125]);
    }

    #[test]
    fn adagrad_adds_squares_up() {
        let rule = ServerOptimizer::Adagrad { learning_rate: 1.0, epsilon: 0.5 };
        // v 0.25 + 0.75² = 0.8125, + 1 = 1.8125
        let steps = [0.75 / (0.8125f64.sqrt() + 0.5), -1.0 / (1.8125f64.sqrt() + 0.5), 0.0];
        check(rule, &[0.75, -1.0, 0.0], &steps);
    }

    #[test]
    fn adam_decays_both_moments() {
        let rule =
            ServerOptimizer::Adam { learning_rate: 0.1, beta1: 0.5, beta2: 0.75, epsilon: 0.5 };
        // m 1, v 0.75·0.25 + 0.25·4 = 1.1875; m 0.5 − 0.5 = 0, v 1.140625; m 0.5, v 1.10546875
        let steps = [0.1 / (1.1875f64.sqrt() + 0.5), 0.0, 0.05 / (1.105_468_75f64.sqrt() + 0.5)];
        check(rule, &[2.0, -1.0, 1.0], &steps);
    }

    #[test]
    fn yogi_moves_the_second_moment_by_at_most_the_square() {
        let rule =
            ServerOptimizer::Yogi { learning_rate: 0.1, beta1: 0.5, beta2: 0.75, epsilon: 0.5 };
        // v 0.25 < 4: 0.25 + 1 = 1.25; then 1.25 > 1: 1.25 − 0.25 = 1; m 1, then 1
        let steps = [0.1 / (1.25f64.sqrt() + 0.5), 0.1 / 1.5];
        check(rule, &[2.0, 1.0], &steps);
    }

    #[test]
    fn state_survives_as_bytes_and_only_its_own_length_is_read() {
        let rule =
            ServerOptimizer::Yogi { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-3 };
        let mut optimizer = Optimizer::new(rule, 3);
        let _ = optimizer.step(&[0.1, -0.2, 0.3]);
        let bytes = optimizer.to_bytes().unwrap();
        let mut again = Optimizer::from_bytes(rule, 3, &bytes).unwrap();
        assert_eq!(again.step(&[1.0; 3]), optimizer.step(&[1.0; 3]));
        let need = StateError { have: bytes.len(), need: 32 };
        assert_eq!(Optimizer::from_bytes(rule, 4, &bytes).err(), Some(need));
        let average = ServerOptimizer::Average { learning_rate: 1.0 };
        assert_eq!(Optimizer::new(average, 3).to_bytes(), None);
    }
}
