//! Training under record-level privacy with all rows in one place, by the same engine, noise and server
//! optimizer as the federation's: for the price of privacy, and for an audit of what was trained.
//!
//! As in [`crate::baselines`], nothing here is part of a federation. Start at [`train`], then
//! [`audit`].

use koinon_aggregation::noise::{NoisePlan, draw};
use koinon_aggregation::privacy::Mechanism;
use koinon_aggregation::privacy::audit::{Audit, epsilon_from_scores};
use koinon_coordinator::optimizer::Optimizer;
use koinon_model::dataset::Dataset;
use koinon_model::engine::{Picked, clipped_sum};
use koinon_model::loss::TrainData;
use koinon_model::params::Params;
use koinon_model::plan::TrainingPlan;
use koinon_model::sampling::Records;
use koinon_model::spec::CheckedSpec;
use koinon_proto::task::ServerOptimizer;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

use crate::error::SimError;

/// A task's rounds as steps on rows in one place.
#[derive(Clone, Copy)]
pub struct Steps<'a> {
    /// The architecture.
    pub spec: &'a CheckedSpec,
    /// Loss and class weights.
    pub training: &'a TrainingPlan,
    /// How the mean becomes a version.
    pub optimizer: ServerOptimizer,
    /// Rounds.
    pub rounds: u32,
    /// Sampling, clip and grid; of its noise only what the next field says.
    pub mechanism: Mechanism,
    /// Variance of the noise on each entry of a sum, in squared units of the grid; none: no noise.
    pub variance: Option<f64>,
    /// What a sum is divided by.
    pub batch: f64,
}

/// What an opened sum shows to whoever follows the training: the version it was made at, and the sum
/// of clipped gradients with its noise.
pub type See<'a> = dyn FnMut(&Params, &[f64]) -> Result<(), SimError> + 'a;

/// Trains on all rows of `data` from fresh parameters; `see` is shown every sum.
///
/// # Errors
/// [`SimError`] of the model, when rows or settings do not fit it.
pub fn train(
    steps: &Steps<'_>,
    data: &Dataset,
    seed: [u8; 32],
    see: &mut See<'_>,
) -> Result<Params, SimError> {
    let layout = steps.spec.layout();
    let mut rng = ChaCha20Rng::from_seed(seed);
    let mut params = Params::init(steps.spec, rng.next_u64());
    let mut optimizer = Optimizer::new(steps.optimizer, layout.trainable());
    let records = Records::new(data.keys());
    let mut noise = noise(steps, &mut rng)?;
    for _ in 0..steps.rounds {
        let rows: Vec<u32> = records.draw(steps.mechanism.sampling_rate, &mut rng).collect();
        let clean = sum(steps, &params, data, &mut rows.into_iter())?;
        let opened = noised(steps, clean, noise.next(), &mut rng);
        see(&params, &opened)?;
        let mean: Vec<f64> = opened.iter().map(|sum| -sum / steps.batch).collect();
        let step = optimizer.step(&mean);
        params = params.stepped(layout, &step).map_err(SimError::model)?;
    }
    Ok(params)
}

/// The sum of clipped gradients of these rows.
fn sum(
    steps: &Steps<'_>,
    params: &Params,
    data: &Dataset,
    rows: &mut dyn Iterator<Item = u32>,
) -> Result<Vec<f64>, SimError> {
    let data = TrainData { x: data.x(), y: data.y(), weights: Some(data.weights()) };
    let mut picked = Picked { rows, clip: steps.mechanism.clip, stop: &|| false };
    let sum = clipped_sum(steps.spec, params, &data, steps.training, &mut picked);
    Ok(sum.map_err(SimError::model)?.gradient.to_vec())
}

/// The noise of each round. All of it is drawn at once, which is how the sampler is fast.
fn noise(
    steps: &Steps<'_>,
    rng: &mut ChaCha20Rng,
) -> Result<impl Iterator<Item = Vec<i32>> + use<>, SimError> {
    let dimension = steps.spec.layout().trainable();
    let mut samples = Vec::new();
    if let Some(variance) = steps.variance {
        let plan = NoisePlan::at_least(variance).map_err(SimError::model)?;
        samples.resize(dimension * steps.rounds as usize, 0);
        draw(plan, rng.random(), 0, &mut samples);
    }
    let rounds: Vec<Vec<i32>> = samples.chunks(dimension.max(1)).map(<[i32]>::to_vec).collect();
    Ok(rounds.into_iter())
}

/// Rounded to the grid, with noise; as it is without.
fn noised(
    steps: &Steps<'_>,
    mut sum: Vec<f64>,
    noise: Option<Vec<i32>>,
    rng: &mut ChaCha20Rng,
) -> Vec<f64> {
    let scale = f64::from(steps.mechanism.frac_bits).exp2();
    for (value, noise) in sum.iter_mut().zip(noise.unwrap_or_default()) {
        let below: f64 = (*value * scale + rng.random::<f64>()).floor();
        *value = (below + f64::from(noise)) / scale;
    }
    sum
}

/// How a trained model is audited.
#[derive(Clone, Copy, Debug)]
pub struct Trials {
    /// Models trained with the planted record, and as many without.
    pub each: u32,
    /// Governs everything.
    pub seed: u64,
    /// Of the bound that is stated.
    pub delta: f64,
    /// With which the audit's bound holds.
    pub confidence: f64,
}

/// A lower bound on epsilon by membership inference: many models are trained on `rows`, half of them
/// with one more record, and an attacker who follows every opened sum, knows all other rows and the
/// record, and lacks only the secret draws and the noise, says which (the worst case that the
/// guarantee is about; Nasr et al. 2023, 2302.07956). Each model has a record of its own: a row of
/// random signs, so that nothing in the table looks like it.
///
/// # Errors
/// As [`train`].
pub fn audit(steps: &Steps<'_>, rows: &Dataset, trials: &Trials) -> Result<Audit, SimError> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let each = trials.each as usize;
    let mut scores = vec![0.0; 2 * each];
    let share = scores.len().div_ceil(workers).max(1);
    std::thread::scope(|scope| {
        let runs: Vec<_> = (scores.chunks_mut(share).enumerate())
            .map(|(part, scores)| {
                scope.spawn(move || {
                    for (at, score) in scores.iter_mut().enumerate() {
                        let number = part * share + at;
                        *score = attack(steps, rows, trials.seed, number as u64, number < each)?;
                    }
                    Ok(())
                })
            })
            .collect();
        runs.into_iter().try_for_each(|run| {
            run.join().map_err(|_| SimError::model("an audit's thread panicked"))?
        })
    })?;
    let (members, others) = scores.split_at(each);
    Ok(epsilon_from_scores(members, others, trials.delta, trials.confidence))
}

/// One model and what the attacker makes of it: the higher, the more likely the record was in.
fn attack(
    steps: &Steps<'_>,
    rows: &Dataset,
    seed: u64,
    number: u64,
    member: bool,
) -> Result<f64, SimError> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&number.to_le_bytes());
    let mut rng = ChaCha20Rng::from_seed(key);
    let signs: Vec<f32> =
        (0..rows.width()).map(|_| if rng.random() { 1.0 } else { -1.0 }).collect();
    let planted = Dataset::new(rows.width(), signs, vec![1.0], vec![1.0], vec![rng.next_u64()]);
    let planted = planted.map_err(SimError::model)?;
    let joined = Dataset::concat(&[rows, &planted]);
    let data = joined.as_ref().filter(|_| member).unwrap_or(rows);
    let rate = steps.mechanism.sampling_rate;
    let count = u32::try_from(rows.rows()).map_err(SimError::model)?;
    let mut score = 0.0;
    let mut own = Vec::new();
    train(steps, data, rng.random(), &mut |params, opened| {
        if own.is_empty() {
            // Where the record pulls at the start; on a linear model it pulls there to the end.
            own = sum(steps, params, &planted, &mut (0..1))?;
        }
        let known = sum(steps, params, rows, &mut (0..count))?;
        let rest = opened.iter().zip(&known).map(|(opened, known)| opened - rate * known);
        score += rest.zip(&own).map(|(rest, own)| rest * own).sum::<f64>();
        Ok(())
    })?;
    Ok(score)
}

#[cfg(test)]
mod tests {
    use koinon_aggregation::privacy::Unit;
    use koinon_model::spec::ModelSpec;

    use super::*;

    /// Logistic regression on 16 inputs, and eight rows.
    fn small() -> (CheckedSpec, TrainingPlan, Dataset) {
        let spec = br#"{"name":"m","inputs":[{"name":"x","shape":[16]}],
            "nodes":[{"name":"fc","op":{"linear":{"units":1}},"inputs":["x"]}]}"#;
        let spec = ModelSpec::from_json(spec).unwrap().check().unwrap();
        let plan =
            "epochs = 1\nbatch_size = 64\nlearning_rate = 1.0\nloss = \"binary_cross_entropy\"";
        let plan = TrainingPlan::from_toml(plan).unwrap();
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let x = (0..8 * 16).map(|_| rng.random::<f32>() - 0.5).collect();
        let y = (0..8).map(|row| f32::from(row % 2 == 0)).collect();
        let data = Dataset::new(16, x, y, vec![1.0; 8], (0..8).collect()).unwrap();
        (spec, plan, data)
    }

    fn mechanism(noise_multiplier: f64) -> Mechanism {
        Mechanism {
            unit: Unit::Record,
            sampling_rate: 0.5,
            noise_multiplier,
            clip: 1.0,
            frac_bits: 12,
            dimension: 17,
            sites_honest: 1,
        }
    }

    /// At the stated noise the bound stays below what is stated; with a tenth of it, above.
    #[test]
    fn the_audit_finds_too_little_noise_and_only_that() {
        let (spec, training, data) = small();
        let mechanism = mechanism(2.0);
        let (rounds, delta) = (6, 1e-4);
        let stated = mechanism.epsilon(u64::from(rounds), delta);
        assert!(stated > 1.5 && stated < 6.0, "{stated}");
        let bound = |part: f64| {
            let variance = mechanism.share().unwrap().variance() * part * part;
            let optimizer = ServerOptimizer::Average { learning_rate: 1.0 };
            let (spec, training) = (&spec, &training);
            let steps = Steps {
                spec,
                training,
                optimizer,
                rounds,
                mechanism,
                variance: Some(variance),
                batch: 20.0,
            };
            // Enough to prove more than an epsilon below 6.
            let each = if part < 1.0 { 6_000 } else { 1_000 };
            let trials = Trials { each, seed: 3, delta, confidence: 0.95 };
            audit(&steps, &data, &trials).unwrap().epsilon
        };
        let (honest, planted) = (bound(1.0), bound(0.1));
        assert!(honest < stated && honest > 0.1, "{honest} of {stated}");
        assert!(planted > stated, "{planted}, stated {stated}");
    }

    #[test]
    fn the_same_seed_trains_the_same_model() {
        let (spec, training, data) = small();
        let optimizer = ServerOptimizer::Average { learning_rate: 1.0 };
        let mechanism = mechanism(1.0);
        let variance = Some(mechanism.share().unwrap().variance());
        let steps = Steps {
            spec: &spec,
            training: &training,
            optimizer,
            rounds: 3,
            mechanism,
            variance,
            batch: 4.0,
        };
        let run = |seed| train(&steps, &data, [seed; 32], &mut |_, _| Ok(())).unwrap();
        assert_eq!(run(1).values(), run(1).values());
        assert_ne!(run(1).values(), run(2).values());
    }
}
