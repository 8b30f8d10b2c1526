//! The tasks whose rounds are measured: one round of training each, on a model of a wanted size.

use anyhow::Context as _;
use koinon_aggregation::plain;
use koinon_model::features::FeaturePlan;
use koinon_model::plan::TrainingPlan;
use koinon_proto::task::CohortPlan;
use koinon_proto::{Digest, TaskManifest};

use super::Options;

/// Which round is wanted.
pub(super) struct Wanted {
    sites: u16,
    parameters: u32,
    plain: bool,
    number: u16,
}

impl Wanted {
    pub(super) fn new(options: &Options, plain: bool, number: u16) -> Self {
        Self { sites: options.sites, parameters: options.parameters, plain, number }
    }

    /// The manifest and the blobs that it names.
    pub(super) fn task(&self) -> anyhow::Result<(Vec<u8>, Vec<Vec<u8>>)> {
        // Three inputs, a hidden layer, two classes: six parameters for each hidden unit.
        let hidden = (self.parameters / 6).max(1);
        let spec = format!(
            r#"{{"name":"m","inputs":[{{"name":"x","shape":[3]}}],"nodes":[
                {{"name":"fc1","op":{{"linear":{{"units":{hidden}}}}},"inputs":["x"]}},
                {{"name":"act","op":"relu","inputs":["fc1"]}},
                {{"name":"fc2","op":{{"linear":{{"units":2}}}},"inputs":["act"]}}]}}"#
        )
        .into_bytes();
        let features = FeaturePlan::from_toml(FEATURES).context("features")?.canonical_bytes();
        let training = TrainingPlan::from_toml(TRAINING).context("training")?.canonical();
        let CohortPlan { min, max, quorum, .. } = cohort(self.sites);
        let name = if self.plain { plain::NAME } else { "private-" };
        // No parameters serve two tasks: sites would refuse the second.
        let seed = 2 * self.number + u16::from(self.plain);
        let text = format!(
            r#"
name = "{name}{}"
kind = "train"
model = "{}"
features = "{}"
training = "{}"
init_from = {{ fresh = {{ seed = {seed} }} }}
rounds = 1
seed = 7
cohort = {{ min = {min}, max = {max}, quorum = {quorum} }}
budget_ms = 7200000
grace_ms = 600000
server_optimizer = {{ average = {{ learning_rate = 1.0 }} }}
encoding = {{ clip_l2 = 5.0, update_bound = 1.0, frac_bits = 14, rows_max = 64 }}
algorithm = "fed_avg"
attempts_max = 1
"#,
            self.number,
            Digest::of(&spec),
            Digest::of(&features),
            Digest::of(&training),
        );
        let manifest = TaskManifest::parse_toml(&text, "task").context("the task")?;
        Ok((manifest.to_canonical_json(), vec![spec, features, training]))
    }
}

/// Nine in ten must report.
pub(super) fn cohort(sites: u16) -> CohortPlan {
    CohortPlan::new((sites / 2).max(3), sites, sites - sites / 10)
}

const FEATURES: &str = r#"
salt = "bench"
validation = 0.2

[label]
column = "relapse"
kind = "binary"
values = ["no", "yes"]

[[columns]]
names = ["a", "b", "c"]
type = "numeric"
bounds = [-1, 1]
scaling = "none"
missing = "constant"
constant = 0
"#;

const TRAINING: &str =
    "epochs = 1\nbatch_size = 8\nlearning_rate = 0.1\nloss = \"cross_entropy\"\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_another_one_that_can_be_submitted() {
        let mut names = std::collections::BTreeSet::new();
        for (plain, number) in [(false, 0), (false, 1), (true, 1), (false, 2), (true, 2)] {
            let wanted = Wanted { sites: 16, parameters: 600, plain, number };
            let (manifest, blobs) = wanted.task().unwrap();
            assert_eq!(blobs.len(), 3);
            assert!(names.insert(manifest));
        }
    }
}
