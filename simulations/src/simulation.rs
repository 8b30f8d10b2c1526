//! One seed of a scenario, from start to report.

use crate::baselines::{Model, Recipe, Scores, compare};
use crate::error::SimError;
use crate::material::{Material, Rows};
use crate::planted::Bug;
use crate::report::{Report, RoundRow};
use crate::scenario::{Scenario, ScoreOn};
use crate::world::World;
use crate::world::setup::Run;
use koinon_model::features::fitted::FittedFeatures;
use koinon_model::params::Params;
use koinon_proto::{Digest, Millis, wire};

/// One seed of a scenario.
pub struct Simulation {
    scenario: Scenario,
    seed: u64,
    material: Material,
    traced: bool,
    planted: Option<Bug>,
}

impl Simulation {
    /// Deals out the data and prepares the plans of this seed; nothing runs yet.
    pub fn new(scenario: &Scenario, seed: u64) -> Result<Simulation, SimError> {
        let material = Material::of(scenario, seed)?;
        let scenario = scenario.clone();
        Ok(Simulation { scenario, seed, material, traced: false, planted: None })
    }

    /// Keeps one line per event in the report.
    #[must_use]
    pub fn traced(mut self) -> Simulation {
        self.traced = true;
        self
    }

    /// Plants a bug: for tests of the checker.
    #[doc(hidden)]
    #[must_use]
    pub fn with_planted(mut self, bug: Bug) -> Simulation {
        self.planted = Some(bug);
        self
    }

    /// Runs until the task has ended. Violations are in the report; an error means that the scenario
    /// could not be run at all.
    pub fn run(self) -> Result<Report, SimError> {
        let mut world = World::new(&Run {
            settings: &self.scenario.settings,
            task: &self.scenario.task,
            material: &self.material,
            seed: self.seed,
            replay: self.scenario.command(self.seed),
            traced: self.traced,
            planted: self.planted,
        })?;
        world.run();
        let status = world.status().unwrap_or_default();
        let scores = match (&self.material.rows, self.scenario.settings.score) {
            (Some(rows), ScoreOn::Test | ScoreOn::Inner) => self.scores(&world, &status, rows)?,
            _ => None,
        };
        Ok(Report {
            scenario: self.scenario.settings.name.clone(),
            seed: self.seed,
            state: if status.state.is_empty() { "down".into() } else { status.state.clone() },
            reason: status.reason.clone(),
            rounds: status.history.iter().map(|round| row(round, world.start_ms())).collect(),
            privacy: status.privacy.clone(),
            scores,
            counts: world.checker.counts.clone(),
            virtual_ms: world.elapsed(),
            violations: std::mem::take(&mut world.checker.violations),
            trace: world.take_trace(),
        })
    }

    /// The federation's version against the baselines; none when the task made no version.
    fn scores(
        &self,
        world: &World,
        status: &wire::TaskStatus,
        rows: &Rows,
    ) -> Result<Option<Scores>, SimError> {
        let blob = |digest: &[u8]| world.hub.blob(&Digest::try_from(digest).ok()?);
        let early = self.scenario.task.patience.is_some();
        let version = if early { &status.best_version } else { &status.version };
        let (Some(params), Some(fitted)) = (blob(version), blob(&status.fitted)) else {
            return Ok(None);
        };
        let Material { spec, features, training, .. } = &self.material;
        let federated = Model {
            params: Params::from_safetensors(spec.layout(), &params).map_err(SimError::model)?,
            fitted: FittedFeatures::from_canonical(features, &fitted).map_err(SimError::model)?,
        };
        let rounds = self.scenario.task.rounds;
        let recipe = Recipe { spec, features, training, rounds, seed: self.seed };
        compare(&recipe, &rows.table, &rows.sites, &federated).map(Some)
    }
}

fn row(summary: &wire::RoundSummary, start_ms: Millis) -> RoundRow {
    let kind = match wire::RoundKind::try_from(summary.kind) {
        Ok(wire::RoundKind::Statistics) => "statistics",
        Ok(wire::RoundKind::Train) => "train",
        Ok(wire::RoundKind::Evaluate) => "evaluate",
        _ => "unknown",
    };
    RoundRow {
        round: summary.round,
        attempt: summary.attempt,
        kind,
        outcome: summary.outcome.clone(),
        participants: summary.participants,
        loss: summary.loss,
        validation_loss: summary.validation_loss,
        validation_auc: summary.validation_auc,
        started_ms: summary.started_ms.saturating_sub(start_ms),
        milliseconds: summary.seconds_milli,
        bytes_up: summary.bytes_up,
    }
}
