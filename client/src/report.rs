//! The site's own figures of a round: what was imputed, how well training went here.
//!
//! They are for the people of the site and never leave it: there is no message for them, and the
//! participant never sees them. They are deliberately not metrics of the task, which are securely
//! summed. Start at [`Figures`].

use std::fmt;

use koinon_model::features::prepare::ImputationReport;
use koinon_proto::task::Privacy;
use koinon_proto::{Digest, SessionId};

use crate::trainer::RoundKind;

/// One site's figures of one round.
#[derive(Default)]
pub struct Figures {
    /// Rows trained on.
    pub rows_training: u64,
    /// Rows held out for validation.
    pub rows_validation: u64,
    /// Mean training loss of the last pass.
    pub loss: Option<f64>,
    /// Mean validation loss of the received version, on this site's rows alone.
    pub validation_loss: Option<f64>,
    /// Rows drawn for a step of record-level privacy, and how many of them were clipped.
    pub rows_clipped: Option<(u64, u64)>,
    /// What the task promises, where it is private.
    pub privacy: Option<Privacy>,
    /// What one unit's contribution was clipped to in this round, in L2, where the task is private.
    pub clip: Option<f64>,
    /// What was missing, clamped or dropped when the rows were prepared.
    pub imputation: Option<ImputationReport>,
}

/// Figures with the round they belong to, as text: a line for the round, and a line for each column
/// that was not clean.
pub struct SiteReport<'a> {
    /// The task.
    pub task: Digest,
    /// The session.
    pub session: SessionId,
    /// The round's number.
    pub round: u32,
    /// The round's kind.
    pub kind: RoundKind,
    /// The figures.
    pub figures: &'a Figures,
}

impl fmt::Display for SiteReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            RoundKind::Statistics => "statistics",
            RoundKind::Train => "train",
            RoundKind::Evaluate => "evaluate",
        };
        let Figures { rows_training, rows_validation, .. } = self.figures;
        write!(f, "task {} round {} {kind}:", self.task.short(), self.round)?;
        write!(f, " {rows_training} training rows, {rows_validation} validation rows")?;
        if let Some(loss) = self.figures.loss {
            write!(f, ", training loss {loss:.4}")?;
        }
        if let Some((drawn, clipped)) = self.figures.rows_clipped {
            write!(f, ", {drawn} drawn in secret, {clipped} of them clipped")?;
        }
        if let Some(clip) = self.figures.clip {
            let rule = self.figures.privacy.and_then(|privacy| privacy.adaptive());
            let kind = if rule.is_some() { "adaptive clip" } else { "clip" };
            write!(f, ", {kind} {clip:.4}")?;
        }
        if let Some(loss) = self.figures.validation_loss {
            write!(f, ", validation loss here {loss:.4}")?;
        }
        if let Some(Privacy { unit, epsilon, delta, .. }) = self.figures.privacy {
            write!(
                f,
                "; all its rounds tell at most epsilon {epsilon} at delta {delta} of one {unit}"
            )?;
        }
        match &self.figures.imputation {
            Some(report) if !report.is_clean() => write_imputation(f, report),
            _ => Ok(()),
        }
    }
}

fn write_imputation(f: &mut fmt::Formatter<'_>, report: &ImputationReport) -> fmt::Result {
    let dropped = report.rows_without_label;
    write!(f, "\n  {} of {} rows used", report.rows_used, report.rows_read)?;
    if report.rows_unreadable > 0 {
        write!(f, ", {} left out that cannot be read", report.rows_unreadable)?;
    }
    if dropped > 0 {
        write!(f, ", {dropped} without a label")?;
    }
    for column in &report.columns {
        if column.absent {
            write!(f, "\n  {}: absent here, {}", column.name, column.imputed)?;
        } else if column.missing > 0 {
            write!(f, "\n  {}: {} missing, {}", column.name, column.missing, column.imputed)?;
        }
        if column.clamped > 0 {
            write!(f, "\n  {}: {} clamped to the bounds", column.name, column.clamped)?;
        }
        if column.other > 0 {
            write!(f, "\n  {}: {} of an unlisted category", column.name, column.other)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use koinon_proto::task::{AdaptiveClip, Clip, PrivacyUnit};

    use super::*;

    fn line(clip: Option<Clip>) -> String {
        let privacy = Privacy {
            unit: PrivacyUnit::Site,
            epsilon: 4.0,
            delta: 1e-5,
            sampling_rate: 1.0,
            clip,
            noise_multiplier: Some(3.0),
            colluding: 6,
            expected_rows: None,
            retries: 0,
        };
        let figures = Figures { privacy: Some(privacy), clip: Some(0.25), ..Figures::default() };
        let (task, session) = (Digest([1; 32]), Digest([2; 32]));
        SiteReport { task, session, round: 3, kind: RoundKind::Train, figures: &figures }
            .to_string()
    }

    #[test]
    fn a_report_names_epsilon_delta_and_unit_and_the_rounds_clip() {
        let text = line(None);
        assert!(text.contains("at most epsilon 4 at delta 0.00001 of one site"), "{text}");
        assert!(text.contains(", clip 0.2500"), "{text}");
        let rule = AdaptiveClip { initial: 1.0, quantile: 0.5, rate: 0.2 };
        assert!(line(Some(Clip::Adaptive(rule))).contains(", adaptive clip 0.2500"));
    }
}
