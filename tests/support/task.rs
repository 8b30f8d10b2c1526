//! A small task with all that it names.

use koinon_model::features::FeaturePlan;
use koinon_model::plan::TrainingPlan;
use koinon_model::spec::ModelSpec;
use koinon_proto::{Digest, TaskManifest};

const FEATURES: &str = r#"
salt = "test"
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

/// A manifest and the blobs that it names.
#[derive(Clone)]
pub struct Task {
    pub manifest: TaskManifest,
    pub bytes: Vec<u8>,
    pub blobs: Vec<Vec<u8>>,
}

impl Task {
    /// A training task for `sites` sites whose model has about `8 * hidden` parameters.
    #[must_use]
    pub fn new(sites: u16, rounds: u32, hidden: u32) -> Self {
        Self::with(sites, rounds, hidden, |_| {})
    }

    pub fn with(
        sites: u16,
        rounds: u32,
        hidden: u32,
        change: impl FnOnce(&mut TaskManifest),
    ) -> Self {
        let spec = format!(
            r#"{{"name":"m","inputs":[{{"name":"x","shape":[3]}}],"nodes":[
                {{"name":"fc1","op":{{"linear":{{"units":{hidden}}}}},"inputs":["x"]}},
                {{"name":"act","op":"relu","inputs":["fc1"]}},
                {{"name":"fc2","op":{{"linear":{{"units":2}}}},"inputs":["act"]}}]}}"#
        )
        .into_bytes();
        ModelSpec::from_json(&spec).unwrap().check().unwrap();
        let features = FeaturePlan::from_toml(FEATURES).unwrap().canonical_bytes();
        let training = TrainingPlan::from_toml(TRAINING).unwrap().canonical();
        let quorum = (2 * sites).div_ceil(3) + 1;
        let text = format!(
            r#"
name = "relapse"
kind = "train"
model = "{}"
features = "{}"
training = "{}"
init_from = {{ fresh = {{ seed = 7 }} }}
rounds = {rounds}
seed = 7
cohort = {{ min = {min}, max = {sites}, quorum = {quorum} }}
budget_ms = 60000
grace_ms = 20000
server_optimizer = {{ average = {{ learning_rate = 1.0 }} }}
encoding = {{ clip_l2 = 5.0, update_bound = 1.0, frac_bits = 20, rows_max = 1024 }}
algorithm = "fed_avg"
attempts_max = 5
"#,
            Digest::of(&spec),
            Digest::of(&features),
            Digest::of(&training),
            min = quorum.min(5),
        );
        let mut manifest = TaskManifest::parse_toml(&text, "task").unwrap();
        change(&mut manifest);
        manifest.check().unwrap();
        let bytes = manifest.to_canonical_json();
        Self { manifest, bytes, blobs: vec![spec, features, training] }
    }

    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}
