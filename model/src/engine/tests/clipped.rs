//! Sums of clipped gradients against a loop of single rows through the ordinary way.

use super::support::{Data, OPS, busy, cnn, mlp, plan, spec};
use super::*;
use crate::engine::train::{Batch, Differentiator};

const ACTIVATIONS: [&str; 4] = ["relu", "tanh", "sigmoid", "silu"];

/// The definition: each row's own gradient, from a batch of one row, scaled down and added.
fn oracle(
    spec: &CheckedSpec,
    params: &Params,
    data: &TrainData<'_>,
    plan: &TrainingPlan,
    clip: f64,
) -> (Vec<f64>, u64) {
    let objective = Objective::new(plan, spec.output_width()).unwrap();
    let rows = data.x.len() / spec.input_width();
    let labels = data.y.len() / rows;
    let mut differentiator = Differentiator::new(Choice::Automatic, spec, 1);
    let (mut sum, mut clipped) = (vec![0.0; spec.layout().trainable()], 0);
    for row in 0..rows {
        let x = &data.x[row * spec.input_width()..][..spec.input_width()];
        let y = &data.y[row * labels..][..labels];
        let weights = data.weights.map(|weights| &weights[row..=row]);
        let batch = Batch { x, y, weights, rows: 1 };
        let mut gradient = vec![0.0f32; sum.len()];
        let loss = differentiator.gradient(params.values(), &batch, &objective, &mut gradient);
        let gradient: Vec<f64> = gradient.iter().map(|&g| f64::from(g) * loss.weight).collect();
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let factor = if norm > clip { clip / norm } else { 1.0 };
        clipped += u64::from(norm > clip);
        sum.iter_mut().zip(&gradient).for_each(|(sum, g)| *sum += factor * g);
    }
    (sum, clipped)
}

fn all(
    spec: &CheckedSpec,
    params: &Params,
    data: &TrainData<'_>,
    plan: &TrainingPlan,
    clip: f64,
) -> RowSum {
    let rows = u32::try_from(data.x.len() / spec.input_width()).unwrap();
    let mut picked = Picked { rows: &mut (0..rows), clip, stop: &|| false };
    clipped_sum(spec, params, data, plan, &mut picked).unwrap()
}

fn models() -> Vec<CheckedSpec> {
    let mut specs: Vec<CheckedSpec> = ACTIVATIONS.iter().map(|name| mlp(13, 9, name, 3)).collect();
    specs.push(mlp(255, 64, "relu", 2));
    specs.push(cnn());
    specs.extend(OPS.map(spec));
    specs
}

#[test]
fn sums_of_clipped_rows_equal_a_loop_of_single_rows() {
    for spec in models() {
        let params = busy(&spec);
        let data = Data::regression(&spec, 11);
        let weights: Vec<f32> = (0..11).map(|row| 0.25 * row as f32).collect();
        let data = TrainData { weights: Some(&weights), ..data.view() };
        let mut plan = plan("mse", "");
        plan.batch_size = 4; // two whole batches and a part
        let norms = oracle(&spec, &params, &data, &plan, f64::INFINITY).0;
        let norm = norms.iter().map(|g| g * g).sum::<f64>().sqrt();
        // Never active, active for some rows, active for all.
        for clip in [1e9, norm / 11.0, norm / 1e3] {
            let (wanted, clipped) = oracle(&spec, &params, &data, &plan, clip);
            let found = all(&spec, &params, &data, &plan, clip);
            assert_eq!((found.rows, found.clipped), (11, clipped), "{clip}");
            let scale = wanted.iter().fold(1.0f64, |scale, g| scale.max(g.abs()));
            for (found, wanted) in found.gradient.iter().zip(&wanted) {
                let error = (found - wanted).abs() / scale;
                assert!(error < 1e-6, "clip {clip}: {found} {wanted}");
            }
        }
    }
}

#[test]
fn classes_and_their_weights_are_in_the_rows_own_loss() {
    for (loss, spec) in
        [("cross_entropy", mlp(8, 5, "relu", 2)), ("binary_cross_entropy", mlp(8, 5, "tanh", 1))]
    {
        let (params, data) = (busy(&spec), Data::two_classes(8, 14));
        let plan = plan(loss, "class_weights = [0.5, 4.0]");
        for clip in [1e9, 0.7] {
            let (wanted, clipped) = oracle(&spec, &params, &data.view(), &plan, clip);
            let found = all(&spec, &params, &data.view(), &plan, clip);
            assert_eq!(found.clipped, clipped);
            for (found, wanted) in found.gradient.iter().zip(&wanted) {
                assert!((found - wanted).abs() < 1e-6 * (1.0 + wanted.abs()), "{loss} {clip}");
            }
        }
    }
}

/// What the accounting rests on: whoever else is there, one row moves the sum by no more than the clip.
#[test]
fn one_row_more_or_less_moves_the_sum_by_at_most_the_clip() {
    for spec in [mlp(13, 9, "relu", 3), cnn()] {
        let (params, data) = (busy(&spec), Data::regression(&spec, 33));
        let plan = plan("mse", "");
        let clip = 0.05;
        let sum = |rows: &mut dyn Iterator<Item = u32>| {
            let mut picked = Picked { rows, clip, stop: &|| false };
            clipped_sum(&spec, &params, &data.view(), &plan, &mut picked).unwrap().gradient
        };
        let whole = sum(&mut (0..33));
        for left_out in 0..33 {
            let without = sum(&mut (0..33).filter(|row| *row != left_out));
            let pairs = whole.iter().zip(without.iter());
            let moved = pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            assert!(moved <= clip * (1.0 + 1e-6), "{left_out}: {moved}");
        }
    }
}

#[test]
fn no_rows_and_rows_that_run_away_add_nothing() {
    let spec = mlp(4, 3, "relu", 2);
    let plan = plan("mse", "");
    let data = Data::regression(&spec, 3);
    let sum = |params: &Params, rows: &mut dyn Iterator<Item = u32>| {
        let mut picked = Picked { rows, clip: 1.0, stop: &|| false };
        clipped_sum(&spec, params, &data.view(), &plan, &mut picked).unwrap()
    };
    let nothing = sum(&busy(&spec), &mut std::iter::empty());
    assert!(nothing.rows == 0 && nothing.gradient.iter().all(|g| *g == 0.0));
    let unknown = sum(&busy(&spec), &mut [7, u32::MAX].into_iter());
    assert!(unknown.rows == 0 && unknown.gradient.iter().all(|g| *g == 0.0));
    let huge = vec![f32::MAX; spec.layout().len()];
    let huge = Params::from_values(spec.layout(), huge).unwrap();
    let away = sum(&huge, &mut (0..3));
    assert!(away.rows == 3 && away.gradient.iter().all(|g| g.is_finite()));
}

#[test]
fn the_same_rows_give_the_same_bits_in_any_thread() {
    let (spec, data) = (mlp(8, 16, "relu", 2), Data::two_classes(8, 60));
    let (params, plan) = (busy(&spec), plan("cross_entropy", ""));
    let first = all(&spec, &params, &data.view(), &plan, 0.5);
    std::thread::scope(|scope| {
        let run = || all(&spec, &params, &data.view(), &plan, 0.5).gradient;
        let runs: Vec<_> = (0..2).map(|_| scope.spawn(run)).collect();
        for run in runs {
            assert!(*run.join().unwrap() == *first.gradient);
        }
    });
    let mut picked = Picked { rows: &mut (0..60), clip: 0.5, stop: &|| true };
    assert!(clipped_sum(&spec, &params, &data.view(), &plan, &mut picked).unwrap().stopped);
}

/// The accounting compares two draws of rows, in which all others stand at other places and in other
/// batches: so a row must add the same bits wherever it stands, as what moves by a last digit in every
/// row moves the sum by as many digits as there are rows. Rows of weight zero add exact zeros, which
/// leaves the one row's part by itself.
#[test]
fn a_row_adds_the_same_at_every_place_and_in_batches_of_every_size() {
    const ROWS: usize = 13;
    for (index, spec) in models().iter().enumerate() {
        let (params, data) = (busy(spec), Data::regression(spec, ROWS));
        let part = |row: usize, batch_size: usize, picked: &mut dyn Iterator<Item = u32>| {
            let weights: Vec<f32> = (0..ROWS).map(|at| f32::from(u8::from(at == row))).collect();
            let data = TrainData { weights: Some(&weights), ..data.view() };
            let mut plan = plan("mse", "");
            plan.batch_size = u32::try_from(batch_size).unwrap();
            let mut picked = Picked { rows: picked, clip: CLIP, stop: &|| false };
            clipped_sum(spec, &params, &data, &plan, &mut picked).unwrap().gradient
        };
        for row in [0, 6, 12] {
            let alone = part(row, 1, &mut std::iter::once(u32::try_from(row).unwrap()));
            for batch_size in [1, 2, 5, 8, 13, 64] {
                let forward = part(row, batch_size, &mut (0..13));
                let backward = part(row, batch_size, &mut (0..13).rev());
                let same = *forward == *alone && *backward == *alone;
                assert!(same, "model {index}: row {row} in batches of {batch_size}");
            }
            assert!(alone.iter().any(|g| *g != 0.0), "model {index}: row {row} adds nothing");
        }
    }
}

/// Whether a step can be computed is never up to how many rows there are: else one row more would take
/// away the sum of all others.
#[test]
fn whether_a_batch_is_too_large_is_the_plans_matter_and_not_the_tables() {
    let spec = mlp(2, 4096, "relu", 2);
    let (params, data) = (busy(&spec), Data::regression(&spec, 3));
    for (batch_size, fits) in [(65_536, false), (1, true), (3, true), (4, true), (1_000, true)] {
        let mut plan = plan("mse", "");
        plan.batch_size = batch_size;
        for rows in [1, 2, 3] {
            let data = TrainData {
                x: &data.view().x[..2 * rows],
                y: &data.view().y[..2 * rows],
                weights: None,
            };
            let mut picked = Picked { rows: &mut (0..3), clip: CLIP, stop: &|| false };
            let sum = clipped_sum(&spec, &params, &data, &plan, &mut picked);
            assert_eq!(sum.is_ok(), fits, "batches of {batch_size}, {rows} rows");
        }
    }
}

/// Active for every row of these models.
const CLIP: f64 = 0.05;
