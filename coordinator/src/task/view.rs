//! A task as operators see it. Only words and numbers; nothing is decided here.

use koinon_proto::task::Privacy;
use koinon_proto::{Digest, wire};

use super::private::Adapted;
use super::{End, Summary, Task};
use crate::round::Phase;

/// What only the running coordinator knows of a task: who is there.
pub(crate) struct Presence {
    /// Whether enough sites are there and more may come.
    pub(crate) selecting: bool,
    /// Members that are not there, or did not check in for the task.
    pub(crate) missing: Vec<String>,
}

impl Task {
    /// The operators' view; `presence` is asked only while the task waits for sites.
    pub(crate) fn to_wire(
        &self,
        digest: &Digest,
        presence: impl FnOnce() -> Presence,
    ) -> wire::TaskStatus {
        let bytes = |digest: Option<Digest>| digest.map(Vec::from).unwrap_or_default();
        let (state, reason) = self.state();
        let mut status = wire::TaskStatus {
            task: (*digest).into(),
            name: self.manifest.name.clone(),
            state: state.to_owned(),
            reason,
            round: self.ahead().map_or(self.trained, |(_, round)| round),
            rounds: self.manifest.rounds,
            phase: "idle".to_owned(),
            version: bytes(self.version),
            best_version: bytes(self.best_version()),
            fitted: bytes(self.fitted),
            history: self.history.iter().map(Summary::to_wire).collect(),
            abandoned: self.abandoned,
            privacy: self.privacy(),
            ..wire::TaskStatus::default()
        };
        match &self.round {
            None if self.end.is_none() => {
                let presence = presence();
                if presence.selecting {
                    status.phase = "selection".to_owned();
                }
                let missing = presence.missing.iter();
                status.waiting_for = missing.map(|name| self.declines.named(name)).collect();
            }
            None => {}
            Some(round) => {
                let count = |n: usize| u32::try_from(n).expect("cohorts have at most 64 sites");
                status.round = round.terms.round;
                status.phase = round.phase_name().to_owned();
                status.cohort = count(round.terms.cohort.len());
                status.ready = count(match &round.phase {
                    Phase::Training(phase) => phase.bundles.len(),
                    Phase::Sharing(phase) => phase.bundles.len(),
                    Phase::Reporting(phase) => phase.bundles.len(),
                    Phase::Unmasking(phase) => phase.bundles.len(),
                });
                status.accepted = count(round.updates().len());
            }
        }
        status
    }

    /// What the manifest promises; it was checked against the noise when the task was submitted.
    pub(crate) fn privacy(&self) -> Option<wire::Privacy> {
        let Privacy { unit, epsilon, delta, .. } = self.manifest.privacy?;
        let adapted = self.adapted();
        let unclipped = adapted.as_ref().map(Adapted::told).unwrap_or_default();
        let mut clips = adapted.map(|adapted| adapted.clips).unwrap_or_default();
        clips.truncate(unclipped.len());
        Some(wire::Privacy { unit: unit.to_string(), epsilon, delta, clips, unclipped })
    }

    fn state(&self) -> (&'static str, String) {
        match &self.end {
            Some(End::Done(note)) => ("done", note.clone().unwrap_or_default()),
            Some(End::Failed(reason)) => ("failed", reason.clone()),
            Some(End::Cancelled) => ("cancelled", String::new()),
            None if self.round.is_some() => ("running", String::new()),
            None => {
                let reason = self.last_failure.as_deref().map(|last| self.declines.explain(last));
                ("waiting", reason.unwrap_or_default())
            }
        }
    }
}

impl Summary {
    fn to_wire(&self) -> wire::RoundSummary {
        let figures = &self.figures;
        let validation = figures.validation;
        let auc = validation.and_then(|validation| validation.auc);
        wire::RoundSummary {
            round: self.round,
            attempt: self.attempt,
            outcome: self.abandoned.clone().unwrap_or_else(|| "committed".to_owned()),
            participants: figures.participants,
            seconds_milli: self.ended_ms.saturating_sub(self.started_ms),
            version: self.result.map(Vec::from).unwrap_or_default(),
            loss: figures.training_loss.map_or(f64::NAN, |loss| loss.0),
            validation_loss: validation.map_or(f64::NAN, |validation| validation.loss.0),
            validation_auc: auc.map_or(f64::NAN, |auc| auc.0),
            validation_rows: validation.map_or(0, |validation| validation.rows),
            kind: self.kind.to_wire().into(),
            bytes_up: figures.bytes_up,
            started_ms: self.started_ms,
        }
    }
}
