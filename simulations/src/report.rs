//! What a run found: a row per round, figures, violations, and a dense line per event for replays.
//!
//! Everything in it is a function of scenario and seed, so two runs give identical bytes; wall-clock
//! time has no place here. It prints nothing: the caller writes [`Report::csv`], [`Report::json`]
//! and the trace where it wants them. Start at [`Report`].

use crate::baselines::Scores;
use koinon_proto::{Millis, wire};
use serde_json::{Map, Value, json};
use std::fmt;

/// What one seed gave.
#[derive(Clone, Debug)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// How the task ended: `done`, `failed`, `cancelled`, or the state it was left in.
    pub state: String,
    /// Why, where there is a reason.
    pub reason: String,
    /// One row for each attempt at each round.
    pub rounds: Vec<RoundRow>,
    /// What must never happen and did.
    pub violations: Vec<Violation>,
    /// What the coordinator's status says of the task's privacy.
    pub privacy: Option<wire::Privacy>,
    /// Scores on the union of test rows, where the scenario asks for them.
    pub scores: Option<Scores>,
    /// What happened, counted.
    pub counts: Counts,
    /// Virtual milliseconds from start to end.
    pub virtual_ms: Millis,
    /// One line per event, when asked for.
    pub trace: Vec<String>,
}

/// One attempt at one round.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundRow {
    /// Round, 0 for the statistics round.
    pub round: u32,
    /// Attempt, from 1 or 0 as the coordinator counts.
    pub attempt: u32,
    /// `statistics`, `train` or `evaluate`.
    pub kind: &'static str,
    /// `committed` or the reason of the abandonment.
    pub outcome: String,
    /// Sites in the sum.
    pub participants: u32,
    /// Secure mean training loss; NaN where none.
    pub loss: f64,
    /// Validation loss of the version the round started from; NaN where none.
    pub validation_loss: f64,
    /// Validation AUC of the same; NaN where none.
    pub validation_auc: f64,
    /// Virtual start and length.
    pub started_ms: Millis,
    /// Virtual length.
    pub milliseconds: Millis,
    /// Bytes of masked updates received.
    pub bytes_up: u64,
}

/// What happened, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps of the event queue.
    pub events: u64,
    /// Frames that left a machine.
    pub frames: u64,
    /// Crashes of sites.
    pub site_crashes: u64,
    /// Crashes of the coordinator.
    pub coordinator_crashes: u64,
    /// Times a disk was full.
    pub disks_full: u64,
    /// Sums opened and compared with the oracle.
    pub sums_checked: u64,
    /// Recoveries from the journal compared with the running state.
    pub replays_checked: u64,
    /// Masked words tested for uniformity.
    pub words_tested: u64,
}

/// Something that must never happen and did: a bug in the cores, or in the simulator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule is broken, in words.
    pub what: String,
    /// Where: site, session, round.
    pub place: String,
    /// When, in virtual milliseconds of the run.
    pub at_ms: Millis,
    /// The seed.
    pub seed: u64,
    /// The command that shows it again.
    pub replay: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} at {} ms, {}: {}\n  ", self.seed, self.at_ms, self.place, self.what)?;
        f.write_str(&self.replay)
    }
}

/// The header of [`Report::csv`].
pub const CSV_HEADER: &str = "seed,round,attempt,kind,outcome,participants,loss,validation_loss,\
     validation_auc,started_ms,milliseconds,bytes_up\n";

impl Report {
    /// One line per round, with [`CSV_HEADER`]'s columns; figures that are not there are empty.
    pub fn csv(&self) -> String {
        let figure = |x: f64| if x.is_finite() { x.to_string() } else { String::new() };
        let line = |row: &RoundRow| {
            format!(
                "{},{},{},{},{},{},{},{},{},{},{},{}\n",
                self.seed,
                row.round,
                row.attempt,
                row.kind,
                row.outcome,
                row.participants,
                figure(row.loss),
                figure(row.validation_loss),
                figure(row.validation_auc),
                row.started_ms,
                row.milliseconds,
                row.bytes_up
            )
        };
        self.rounds.iter().map(line).collect()
    }

    /// The whole report but the trace as one JSON object.
    pub fn json(&self) -> Value {
        let committed = self.rounds.iter().filter(|r| r.outcome == "committed");
        let mut object = json!({
            "scenario": self.scenario,
            "seed": self.seed,
            "state": self.state,
            "reason": self.reason,
            "rounds": committed.clone().filter(|r| r.kind == "train").count(),
            "attempts": self.rounds.len(),
            "abandoned": self.rounds.len() - committed.count(),
            "virtual_ms": self.virtual_ms,
            "events": self.counts.events,
            "frames": self.counts.frames,
            "crashes": { "site": self.counts.site_crashes, "coordinator": self.counts.coordinator_crashes },
            "disks_full": self.counts.disks_full,
            "checked": {
                "sums": self.counts.sums_checked,
                "replays": self.counts.replays_checked,
                "words": self.counts.words_tested,
            },
            "violations": self.violations.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        if let Some(wire::Privacy { unit, epsilon, delta, clips, unclipped }) = &self.privacy {
            object["privacy"] = json!({ "unit": unit, "epsilon": epsilon, "delta": delta });
            if !clips.is_empty() {
                object["privacy"]["clips"] = json!(clips);
                object["privacy"]["unclipped"] = json!(unclipped);
            }
        }
        if let (Some(scores), Some(object)) = (&self.scores, object.as_object_mut()) {
            object.extend(scores.json());
        }
        object
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let committed = self.rounds.iter().filter(|r| r.outcome == "committed").count();
        let abandoned = self.rounds.len() - committed;
        let scores = self.scores.as_ref().map(Scores::line).unwrap_or_default();
        let reason =
            if self.reason.is_empty() { String::new() } else { format!(" ({})", self.reason) };
        format!(
            "seed {}: {}{reason}, {committed} committed, {abandoned} abandoned, {} violations{scores}",
            self.seed,
            self.state,
            self.violations.len()
        )
    }
}

/// The means over many seeds as one JSON object.
///
/// `below_0_97_pooled` counts the seeds whose federated AUC is below 0.97 times their pooled one.
pub fn summary(reports: &[Report]) -> Value {
    let violations: usize = reports.iter().map(|r| r.violations.len()).sum();
    let failing: Vec<u64> =
        reports.iter().filter(|r| !r.violations.is_empty()).map(|r| r.seed).collect();
    let mut object = Map::new();
    object.insert("seeds".into(), json!(reports.len()));
    object.insert("violations".into(), json!(violations));
    object.insert("failing_seeds".into(), json!(failing));
    let done = reports.iter().filter(|r| r.state == "done").count();
    object.insert("done".into(), json!(done));
    let scores: Vec<&Scores> = reports.iter().filter_map(|r| r.scores.as_ref()).collect();
    if !scores.is_empty() {
        let over = |figure: fn(&Scores) -> f64| {
            scores.iter().map(|s| figure(s)).sum::<f64>() / scores.len() as f64
        };
        let below = scores.iter().filter(|s| s.federated.value < 0.97 * s.pooled.value).count();
        object.insert("federated".into(), json!({ "auc": over(|s| s.federated.value) }));
        object.insert("pooled".into(), json!({ "auc": over(|s| s.pooled.value) }));
        object.insert(
            "alone".into(),
            json!({ "auc_median": over(|s| s.alone_median), "auc_worst": over(|s| s.alone_worst) }),
        );
        object.insert("below_0_97_pooled".into(), json!(below));
    }
    json!({ "means": object })
}

#[cfg(test)]
mod tests {
    use super::*;
    use koinon_model::metrics::auc::Interval;

    fn report(federated: f64) -> Report {
        let figure = |value| Interval { value, low: value - 0.1, high: value + 0.05 };
        Report {
            scenario: "s".into(),
            seed: 3,
            state: "done".into(),
            reason: String::new(),
            rounds: vec![RoundRow {
                round: 1,
                attempt: 1,
                kind: "train",
                outcome: "committed".into(),
                participants: 5,
                loss: 0.5,
                validation_loss: f64::NAN,
                validation_auc: 0.75,
                started_ms: 10,
                milliseconds: 20,
                bytes_up: 30,
            }],
            violations: Vec::new(),
            privacy: None,
            scores: Some(Scores {
                federated: figure(federated),
                pooled: figure(0.9),
                alone_median: 0.7,
                alone_worst: 0.5,
                alone: Vec::new(),
                test_rows: 100,
            }),
            counts: Counts::default(),
            virtual_ms: 100,
            trace: Vec::new(),
        }
    }

    #[test]
    fn rows_and_objects_hold_the_figures() {
        let report = report(0.85);
        assert_eq!(report.csv(), "3,1,1,train,committed,5,0.5,,0.75,10,20,30\n");
        assert_eq!(CSV_HEADER.split(',').count(), report.csv().split(',').count());
        let object = report.json();
        assert_eq!(object["federated"]["auc"], 0.85);
        assert_eq!(object["alone"]["auc_worst"], 0.5);
        assert_eq!(object["rounds"], 1);
    }

    #[test]
    fn means_and_the_count_of_poor_seeds() {
        let means = &summary(&[report(0.85), report(0.89)])["means"];
        assert!((means["federated"]["auc"].as_f64().unwrap() - 0.87).abs() < 1e-12);
        assert_eq!(means["below_0_97_pooled"], 1);
        assert_eq!(means["violations"], 0);
    }
}
