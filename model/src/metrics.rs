//! Figures of merit: exact ones for rows at hand, and sums that sites contribute in private.
//!
//! [`auc`] is the exact area under the ROC curve with a 95 % interval; [`bins`] approximates it
//! from counts that can be summed securely; [`evaluation`] is the whole vector that one site
//! contributes to an evaluation. Nothing here runs a model or draws a random number.
//!
//! Start at [`evaluation::EvaluationSums`] for federated figures, at [`auc::auc_interval`] for a
//! referee's.

pub mod auc;
pub mod bins;
pub mod evaluation;

/// Mean of `-ln p(label)` for probabilities of the positive class, and labels 0 or 1.
///
/// Probabilities are kept at least 1e-7 away from 0 and 1. None without rows or when lengths
/// differ.
#[must_use]
pub fn log_loss(probabilities: &[f32], y: &[f32]) -> Option<f64> {
    let losses = paired(probabilities, y)?.map(|(p, y)| {
        let p = f64::from(p).clamp(1e-7, 1.0 - 1e-7);
        if y > 0.5 { -p.ln() } else { -(1.0 - p).ln() }
    });
    Some(losses.sum::<f64>() / y.len() as f64)
}

/// Share of rows whose probability lies on the label's side of one half.
///
/// None without rows or when lengths differ.
#[must_use]
pub fn accuracy(probabilities: &[f32], y: &[f32]) -> Option<f64> {
    let right = paired(probabilities, y)?.filter(|&(p, y)| (p >= 0.5) == (y > 0.5)).count();
    Some(right as f64 / y.len() as f64)
}

fn paired<'a>(a: &'a [f32], b: &'a [f32]) -> Option<impl Iterator<Item = (f32, f32)> + 'a> {
    (!a.is_empty() && a.len() == b.len()).then(|| a.iter().copied().zip(b.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_loss_and_accuracy_by_hand() {
        let p = [0.5, 0.25, 1.0];
        let y = [1.0, 1.0, 0.0];
        let expected = (2f64.ln() + 4f64.ln() + (1e7f64).ln()) / 3.0;
        assert!((log_loss(&p, &y).unwrap() - expected).abs() < 1e-6);
        assert_eq!(accuracy(&p, &y), Some(1.0 / 3.0));
        assert_eq!(log_loss(&[], &[]), None);
        assert_eq!(accuracy(&[0.1], &[]), None);
    }
}
