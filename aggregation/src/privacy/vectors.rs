//! The stored answers of another accountant (`docs/verify/accountant_vectors.py`).

use super::{Accountant, Noise, Step, pld};

#[derive(serde::Deserialize)]
struct Case {
    q: f64,
    z: f64,
    steps: u64,
    delta: f64,
    rdp: f64,
    /// At that accountant's default width.
    pld: Option<f64>,
    pld_low: f64,
    pld_high: f64,
}

fn cases() -> Vec<Case> {
    let text = include_str!("../../tests/vectors/accountant.json");
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    assert!(cases.len() >= 50, "only {} cases", cases.len());
    cases
}

#[test]
fn renyi_epsilon_equals_the_other_accountants() {
    for case in cases() {
        let mut accountant = Accountant::new();
        let step = Step {
            sampling_rate: case.q,
            noise_multiplier: case.z,
            l2: 1.0,
            l1: 1.0,
            noise: Noise::Gaussian,
        };
        accountant.add(&step, case.steps);
        let ours = accountant.epsilon(case.delta);
        let Case { q, z, steps, delta, rdp, .. } = case;
        assert!(
            (ours - rdp).abs() <= 1e-6 * rdp,
            "q {q}, z {z}, {steps} steps, delta {delta}: {ours}, the other {rdp}"
        );
    }
}

#[test]
fn loss_distributions_are_never_below_the_truth_and_at_most_one_percent_above() {
    for case in cases() {
        let Case { q, z, steps, delta, pld_low, pld_high, .. } = case;
        let ours = pld::epsilon(q, z, steps, delta);
        // On the other accountant's finest grid as on its usual one.
        let least = case.pld.unwrap_or(pld_high).max(pld_high);
        let what = format!("q {q}, z {z}, {steps} steps, delta {delta}: {ours}");
        assert!(ours >= least - 1e-9, "{what} is below {least}");
        assert!(ours <= 1.005 * pld_low, "{what} is far above {pld_low}");
    }
}
