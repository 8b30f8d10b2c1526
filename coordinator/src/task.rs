//! A task's life: which round comes next, which version is best, and when it is over.
//!
//! Statistics first, because a version without its fitted features answers nothing; then the training
//! rounds, each from the version before; at the end an evaluation of the last version. A round is
//! tried again with a new session until its attempts are used up, with one exception. When reveals had
//! left, every honest site counts the parameters as spent and refuses a second session on them. Then
//! the server optimizer takes a step on its momentum alone, if it has any, and the round is tried on
//! that version; else the task fails with [`codes::SPENT`]. A task that trained its rounds and only
//! lacks its last evaluation is done nevertheless.
//!
//! This is the durable part. What is derived from blobs is in [`material`]. Start at [`Task::next`].

mod declines;
pub(crate) mod material;
pub(crate) mod private;
pub(crate) mod view;

use std::collections::BTreeSet;

use koinon_proto::task::TaskKind;
use koinon_proto::{Digest, Millis, SiteId, TaskManifest};
use serde::Serialize;

use crate::event::codes;
use crate::figures::{Figure, Figures};
use crate::record::{Bytes, Change};
use crate::round::{Kind, Round};
use declines::Declines;

/// The aggregation's code of a dealer whose shares give no secret, see
/// [`koinon_aggregation::OpenError`].
pub(crate) const FALSE_DEALER: &str = "false_dealer";

/// A task as the journal knows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Task {
    /// The manifest, verbatim.
    pub(crate) bytes: Bytes,
    pub(crate) manifest: TaskManifest,
    pub(crate) end: Option<End>,
    /// The parameters that the next round starts from.
    pub(crate) version: Option<Digest>,
    /// The server optimizer's state, if it has one.
    pub(crate) optimizer: Option<Digest>,
    pub(crate) fitted: Option<Digest>,
    /// Training rounds committed.
    pub(crate) trained: u32,
    /// Attempts begun at the next round.
    attempts: u32,
    /// Why the last attempt was abandoned.
    last_failure: Option<String>,
    /// Whether the next round's parameters are spent.
    spent: bool,
    /// Why training stops before its last round.
    stopped: Option<String>,
    evaluated: bool,
    best: Option<Best>,
    pub(crate) round: Option<Round>,
    history: Vec<Summary>,
    pub(crate) abandoned: u64,
    /// What only the last round that is over needed: told to the driver again after a crash.
    pub(crate) stale: Vec<Digest>,
    /// Sites that broke a round in a way that no accident does: not asked again.
    pub(crate) banned: BTreeSet<SiteId>,
    /// Why sites did not take part.
    pub(crate) declines: Declines,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) enum End {
    Done(Option<String>),
    Failed(String),
    Cancelled,
}

/// The version with the lowest validation loss so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Best {
    version: Digest,
    loss: Figure,
    /// Measurements since, without a better one.
    since: u32,
}

/// One attempt at a round that is over.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Summary {
    kind: Kind,
    round: u32,
    attempt: u32,
    /// The reason of the abandonment; none when it committed.
    abandoned: Option<String>,
    result: Option<Digest>,
    started_ms: Millis,
    ended_ms: Millis,
    figures: Figures,
}

/// What a task without a running round does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// It has ended.
    Nothing,
    /// This round, as soon as sites are there.
    Round { kind: Kind, round: u32, attempt: u32 },
    /// A step on momentum alone, because the parameters are spent.
    Coast,
    /// The end.
    End { failure: Option<String>, note: Option<String> },
}

impl Task {
    pub(crate) fn new(
        bytes: Bytes,
        manifest: TaskManifest,
        version: Option<Digest>,
        fitted: Option<Digest>,
    ) -> Self {
        Self {
            bytes,
            manifest,
            end: None,
            version,
            optimizer: None,
            fitted,
            trained: 0,
            attempts: 0,
            last_failure: None,
            spent: false,
            stopped: None,
            evaluated: false,
            best: None,
            round: None,
            history: Vec::new(),
            abandoned: 0,
            stale: Vec::new(),
            banned: BTreeSet::new(),
            declines: Declines::default(),
        }
    }

    /// What comes next, when no round is running.
    pub(crate) fn next(&self) -> Next {
        if self.end.is_some() || self.round.is_some() {
            return Next::Nothing;
        }
        let Some((kind, round)) = self.ahead() else {
            return Next::End { failure: None, note: self.stopped.clone() };
        };
        if self.spent && kind == Kind::Train && self.attempts < self.manifest.attempts_max {
            return Next::Coast;
        }
        if self.spent || self.attempts >= self.manifest.attempts_max {
            return self.give_up(kind);
        }
        Next::Round { kind, round, attempt: self.attempts + 1 }
    }

    /// How the task ends when the round ahead cannot be had.
    pub(crate) fn give_up(&self, kind: Kind) -> Next {
        let last = self.last_failure.as_deref().unwrap_or(codes::TOO_FEW);
        let explained = || self.declines.explain(last);
        let reason = if self.spent { codes::SPENT.to_owned() } else { explained() };
        if kind == Kind::Evaluate && self.manifest.kind == TaskKind::Train {
            let note = format!("the last version was not evaluated: {reason}");
            return Next::End { failure: None, note: Some(note) };
        }
        Next::End { failure: Some(reason), note: None }
    }

    /// The kind and number of the round that is due; none when all are done.
    fn ahead(&self) -> Option<(Kind, u32)> {
        // A private task has features that need no fitting and measures nothing on rows: each opened sum
        // is a noised update.
        let private = self.manifest.privacy.is_some();
        if self.fitted.is_none() {
            return Some((Kind::Statistics, 0));
        }
        let training = self.trained < self.manifest.rounds && self.stopped.is_none();
        match self.manifest.kind {
            TaskKind::Train if training => Some((Kind::Train, self.trained + 1)),
            TaskKind::Train | TaskKind::Evaluate if !self.evaluated && !private => {
                Some((Kind::Evaluate, self.trained + 1))
            }
            _ => None,
        }
    }

    /// The clip of the next training round and what it follows from, where it moves from round to
    /// round.
    pub(crate) fn adapted(&self) -> Option<private::Adapted> {
        let rule = self.manifest.privacy.as_ref()?.adaptive()?;
        let opened = self.history.iter().filter_map(|ended| ended.figures.unclipped);
        private::Adapted::after(&rule, opened.collect())
    }

    /// Whether fitted statistics of another task would save this one a round.
    pub(crate) fn wants_fitted(&self) -> bool {
        let idle = self.end.is_none() && self.round.is_none();
        idle && self.fitted.is_none() && self.manifest.kind != TaskKind::Statistics
    }

    /// Goes on with the fitted statistics of another task, as if its own round of them had committed.
    pub(crate) fn adopt(&mut self, fitted: Digest) {
        self.fitted = Some(fitted);
        (self.attempts, self.last_failure, self.spent) = (0, None, false);
        self.declines.moved_on();
    }

    /// The version with the lowest validation loss; before any is known, the newest.
    pub(crate) fn best_version(&self) -> Option<Digest> {
        self.best.map(|best| best.version).or(self.version)
    }

    /// A round begins.
    pub(crate) fn start(&mut self, round: Round) {
        self.attempts = round.terms.attempt;
        self.round = Some(round);
    }

    /// The running round committed. `None` when there is none.
    pub(crate) fn commit(
        &mut self,
        at_ms: Millis,
        result: Digest,
        optimizer: Option<Digest>,
        figures: Figures,
    ) -> Option<Round> {
        let round = self.round.take()?;
        if let (Some(version), Some(validation)) = (round.terms.version, figures.validation) {
            self.measure(version, validation.loss);
        }
        self.stale = stale(&round);
        match round.terms.kind {
            Kind::Statistics => self.fitted = Some(result),
            Kind::Evaluate => self.evaluated = true,
            Kind::Train => {
                self.trained = round.terms.round;
                self.stale.extend(std::mem::replace(&mut self.optimizer, optimizer));
                if self.version == Some(result) {
                    // The sites will not train twice on the same parameters, and need not.
                    self.stopped = Some("training stopped early: nothing changes any more".into());
                }
                self.version = Some(result);
            }
        }
        (self.attempts, self.last_failure, self.spent) = (0, None, false);
        self.declines.moved_on();
        self.note(&round, at_ms, Ok(result), figures);
        Some(round)
    }

    /// The running round is abandoned. `None` when there is none.
    pub(crate) fn abandon(&mut self, at_ms: Millis, reason: &str) -> Option<Round> {
        let round = self.round.take()?;
        self.spent |= round.spends();
        self.stale = stale(&round);
        if reason == codes::ROSTER_CHANGED {
            // Nobody failed: members who join must not use up a task's attempts.
            self.attempts = self.attempts.saturating_sub(1);
        }
        self.last_failure = Some(reason.to_owned());
        self.abandoned += 1;
        let bytes_up = round.updates().iter().map(|update| update.bytes).sum();
        let figures = Figures { bytes_up, ..Figures::default() };
        self.note(&round, at_ms, Err(reason), figures);
        Some(round)
    }

    /// Notes who declines, and for good if it is a dealer that shared out something else than its
    /// secret: it wanted the round to fail.
    pub(crate) fn note_site(&mut self, change: &Change) {
        self.declines.note(change);
        match change {
            Change::Declined { site, code, .. } if code == FALSE_DEALER => {
                self.banned.insert(site.clone());
            }
            _ => {}
        }
    }

    /// The parameters were moved on without a sum: the round may be tried again.
    pub(crate) fn coast(&mut self, version: Digest, optimizer: Option<Digest>) {
        (self.version, self.optimizer, self.spent) = (Some(version), optimizer, false);
        self.declines.moved_on();
    }

    fn measure(&mut self, version: Digest, loss: Figure) {
        let better = self.best.is_none_or(|best| loss < best.loss);
        let since = self.best.map_or(0, |best| best.since + 1);
        self.best = match self.best {
            Some(best) if !better => Some(Best { since, ..best }),
            _ => Some(Best { version, loss, since: 0 }),
        };
        let patience = self.manifest.patience.filter(|_| !better);
        if patience.is_some_and(|patience| since >= patience) && self.stopped.is_none() {
            let note = format!("training stopped early: no better loss in {since} rounds");
            self.stopped = Some(note);
        }
    }

    fn note(
        &mut self,
        round: &Round,
        at_ms: Millis,
        outcome: Result<Digest, &str>,
        figures: Figures,
    ) {
        self.history.push(Summary {
            kind: round.terms.kind,
            round: round.terms.round,
            attempt: round.terms.attempt,
            abandoned: outcome.err().map(str::to_owned),
            result: outcome.ok(),
            started_ms: round.terms.started_ms,
            ended_ms: at_ms,
            figures,
        });
    }
}

/// The masked updates of a round.
fn stale(round: &Round) -> Vec<Digest> {
    round.updates().iter().map(|update| update.blob).collect()
}
