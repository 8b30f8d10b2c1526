//! The fused kernels against burn, and against themselves.

use super::support::{self, Data, OPS, cnn, spec};
use super::{gradient, *};
use crate::engine::fused;
use crate::engine::train::Differentiator;

/// Every operation, in models of several shapes, against burn: answers and gradients.
#[test]
fn the_fused_path_agrees_with_its_oracle() {
    for text in OPS {
        let spec = spec(text);
        let params = support::busy(&spec);
        for rows in [1, 2, 5] {
            let data = Data::regression(&spec, rows);
            let mut fused = Differentiator::Fused(fused::Tape::new(&spec));
            let mut graph = Differentiator::new(Choice::General, &spec, rows);
            let (loss, found) = gradient(&mut fused, &spec, params.values(), &data);
            let (oracle_loss, oracle) = gradient(&mut graph, &spec, params.values(), &data);
            assert!((loss - oracle_loss).abs() < 1e-4 * (1.0 + loss), "{loss} {oracle_loss}");
            for (found, wanted) in found.iter().zip(&oracle) {
                assert!((found - wanted).abs() < 2e-5 * (1.0 + wanted.abs()), "{found} {wanted}");
            }
            let input = Boundary::from_rows(&spec, &data.x).unwrap();
            let oracle = Engine::load_by(Choice::General, &spec, &params).unwrap();
            let fused = fused::Loaded::new(&spec, params.values());
            for cut in 1..spec.n_nodes() {
                let head = fused.forward(&spec, 0..cut, &input).unwrap();
                let wanted = oracle.forward(0..cut, &input).unwrap();
                for (found, wanted) in head.tensors().iter().zip(wanted.tensors()) {
                    for (found, wanted) in found.data().iter().zip(wanted.data()) {
                        assert!((found - wanted).abs() < 1e-5 * (1.0 + wanted.abs()));
                    }
                }
            }
        }
    }
}

/// A second call finds the room of the first one, whatever the batch, and gives the same bits.
#[test]
fn fused_answers_do_not_depend_on_earlier_calls() {
    let spec = cnn();
    let engine = Engine::load(&spec, &support::busy(&spec)).unwrap();
    assert_eq!(engine.kernels(), "fused");
    let few = Data::regression(&spec, 2);
    let many = Data::regression(&spec, 9);
    let first = engine.outputs(&few.x).unwrap();
    let _ = engine.outputs(&many.x).unwrap();
    assert_eq!(engine.outputs(&few.x).unwrap(), first);
}
