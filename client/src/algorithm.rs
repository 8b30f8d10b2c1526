//! Client algorithms: what a site does with the received version and its rows, as a rule over passes
//! of the training plan.
//!
//! An algorithm deliberately does not train itself and sees no row: it is handed `fit`, which trains
//! from the received version under a plan, and decides which plan. FedAvg hands the plan on; FedProx
//! pulls towards the received version. To add one: implement [`ClientAlgorithm`], give it a name in
//! the task manifest, and choose it in [`chosen`].

use koinon_model::params::Delta;
use koinon_model::plan::TrainingPlan;
use koinon_proto::task::AlgorithmChoice;

use crate::trainer::WorkError;

/// The outcome of local training under one plan.
pub struct Fit {
    /// What training changed.
    pub delta: Delta,
    /// Mean training loss of the last pass, over rows.
    pub loss: f64,
}

/// Trains from the received version under a plan.
pub type FitWith<'a> = dyn FnMut(&TrainingPlan) -> Result<Fit, WorkError> + 'a;

/// What a site does in a training round.
pub trait ClientAlgorithm {
    /// The update of this round, from as many calls of `fit` as the algorithm needs.
    ///
    /// # Errors
    /// Those of `fit`.
    fn update(&self, plan: &TrainingPlan, fit: &mut FitWith<'_>) -> Result<Fit, WorkError>;
}

/// Local training as the plan says (McMahan et al. 2017, arXiv 1602.05629, algorithm 1).
pub struct FedAvg;

impl ClientAlgorithm for FedAvg {
    fn update(&self, plan: &TrainingPlan, fit: &mut FitWith<'_>) -> Result<Fit, WorkError> {
        fit(plan)
    }
}

/// Local training that is held near the received version: `mu / 2 · |w − w₀|²` is added to the loss
/// (Li et al. 2020, arXiv 1812.06127, section 3.2).
pub struct FedProx {
    /// Strength of the pull, 0 to 1000; 0 is FedAvg.
    pub mu: f64,
}

impl ClientAlgorithm for FedProx {
    fn update(&self, plan: &TrainingPlan, fit: &mut FitWith<'_>) -> Result<Fit, WorkError> {
        let proximal_mu = (self.mu > 0.0).then_some(self.mu);
        fit(&TrainingPlan { proximal_mu, ..plan.clone() })
    }
}

/// The algorithm that a manifest names.
#[must_use]
pub fn chosen(choice: &AlgorithmChoice) -> Box<dyn ClientAlgorithm> {
    match choice {
        AlgorithmChoice::FedAvg => Box::new(FedAvg),
        AlgorithmChoice::FedProx { mu } => Box::new(FedProx { mu: *mu }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plans an algorithm trained under.
    fn plans(algorithm: &dyn ClientAlgorithm) -> Vec<TrainingPlan> {
        let plan = TrainingPlan::from_toml(
            "epochs = 1\nbatch_size = 8\nlearning_rate = 0.1\nloss = \"cross_entropy\"\n",
        )
        .unwrap();
        let mut seen = Vec::new();
        let stopped = algorithm.update(&plan, &mut |plan: &TrainingPlan| {
            seen.push(plan.clone());
            Err(WorkError::Stopped)
        });
        assert!(stopped.is_err());
        seen
    }

    #[test]
    fn fedprox_is_fedavg_with_a_pull() {
        let average = plans(&FedAvg);
        assert_eq!((average.len(), average[0].proximal_mu), (1, None));
        let pulled = plans(&*chosen(&AlgorithmChoice::FedProx { mu: 0.5 }));
        assert_eq!(pulled[0].proximal_mu, Some(0.5));
        assert_eq!(plans(&FedProx { mu: 0.0 }), average);
    }
}
