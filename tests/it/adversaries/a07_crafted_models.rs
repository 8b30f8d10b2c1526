//! A7: crafted models. A model is data with a closed set of operations; what a site trains is what it
//! approved by digest, from the parameters that the task's seed gives. What an approved model's sum
//! says is for differential privacy, not for these scripts.

use koinon_aggregation::planted::Weakness;
use koinon_client::Event;
use koinon_client::policy::ApprovalDefault;
use koinon_model::params::Params;
use koinon_model::spec::ModelSpec;
use koinon_proto::Digest;
use koinon_proto::wire::to_site::Message as ToSite;

use super::sites::world::SPEC;
use super::sites::{Round, Task, World, audit, fault, gained, ready, refusal};
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 7,
    scripts: &[
        script!(
            an_imprint_layer_nobody_approved,
            "an update to a layer wide enough to hold each row by itself",
            Plant::World("the policy does whatever is offered")
        ),
        script!(
            parameters_of_the_attackers_choice,
            "an update to parameters that single out rows",
            Plant::Checks(&[Weakness::AnyContext])
        ),
        script!(
            another_file_under_the_models_name,
            "an update to another model than the approved one",
            Plant::Checks(&[Weakness::AnyBlob])
        ),
        script!(
            an_operation_of_the_attackers_own,
            "a model that runs code",
            Plant::World("the operation is one of the closed set")
        ),
    ],
};

/// A wide first layer of equal rows and rising thresholds keeps single rows apart in its gradient
/// (Fowl et al. 2022, "Robbing the Fed"). Nothing in it is forbidden: it waits for somebody to look.
fn an_imprint_layer_nobody_approved(planted: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let default = if planted { ApprovalDefault::Always } else { ApprovalDefault::Ask };
    let mut world = World::with_policy(6, |policy| policy.approvals.default = default);
    let imprint = br#"{"name":"m","inputs":[{"name":"x","shape":[3]}],"nodes":[
        {"name":"imprint","op":{"linear":{"units":256}},"inputs":["x"]},
        {"name":"steps","op":"relu","inputs":["imprint"]},
        {"name":"fc","op":{"linear":{"units":2}},"inputs":["steps"]}]}"#;
    let task = task_for(imprint);
    world.offer(&task);
    let got = gained(&mut world, 0, |world| {
        world.tell(0, ToSite::Invite(world.invite(&task, &Round::train(1))));
    });
    outcome.goal(!got.is_empty(), "the site trains it");
    outcome.holds(refusal(&world, 0) == "not_approved", refusal(&world, 0));
    audit(&mut outcome, &mut world, 0);
    outcome
}

/// The tests' task with another model.
fn task_for(json: &[u8]) -> Task {
    let spec = ModelSpec::from_json(json).unwrap().check().unwrap();
    let params = Params::init(&spec, 7).to_safetensors(spec.layout()).unwrap();
    let mut task = Task::new(|manifest| manifest.model = Some(Digest::of(json)));
    task.blobs.extend([json.to_vec(), params.clone()].map(|bytes| (Digest::of(&bytes), bytes)));
    Task { spec, params, ..task }
}

fn parameters_of_the_attackers_choice(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(6);
    let other = Params::init(&task.spec, 8).to_safetensors(task.spec.layout()).unwrap();
    let digest = Digest::of(&other);
    world.blobs.insert(digest, other);
    let lie = Round { version: Some(digest), ..Round::train(1) };
    let got = gained(&mut world, 0, |world| {
        world.tell(0, ToSite::Invite(world.invite(&task, &lie)));
    });
    outcome.goal(!got.is_empty(), "the site trains on them");
    outcome.holds(refusal(&world, 0) == "context_mismatch", refusal(&world, 0));
    audit(&mut outcome, &mut world, 0);
    outcome
}

fn another_file_under_the_models_name(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut world, task) = ready(6);
    let crafted = br#"{"name":"x","inputs":[{"name":"x","shape":[3]}],
        "nodes":[{"name":"fc","op":{"linear":{"units":2}},"inputs":["x"]}]}"#;
    world.answers_fetches = false;
    let got = gained(&mut world, 0, |world| {
        world.tell(0, ToSite::Invite(world.invite(&task, &Round::train(1))));
        for (digest, bytes) in task.blobs.clone() {
            let model = digest == Digest::of(SPEC);
            let bytes = if model { crafted.to_vec() } else { bytes };
            world.event(0, Event::Blob { digest, bytes });
        }
    });
    outcome.goal(!got.is_empty(), "the site trains the other model");
    outcome.holds(world.sites[0].faults().contains(&"digest"), fault(&world, 0));
    audit(&mut outcome, &mut world, 0);
    outcome
}

fn an_operation_of_the_attackers_own(planted: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let op = if planted { r#""relu""# } else { r#"{"python":"open('/etc/passwd')"}"# };
    let json = format!(
        r#"{{"name":"m","inputs":[{{"name":"x","shape":[3]}}],"nodes":[
        {{"name":"own","op":{op},"inputs":["x"]}},
        {{"name":"fc","op":{{"linear":{{"units":2}}}},"inputs":["own"]}}]}}"#
    );
    let (mut world, _) = ready(6);
    // The parameters are the other model's: only the operation is strange.
    let mut task = Task::new(|manifest| manifest.model = Some(Digest::of(json.as_bytes())));
    task.blobs.insert(Digest::of(json.as_bytes()), json.into_bytes());
    world.offer(&task);
    let got = gained(&mut world, 0, |world| {
        world.tell(0, ToSite::Invite(world.invite(&task, &Round::train(1))));
    });
    outcome.goal(!got.is_empty(), "the site runs it");
    outcome.holds(refusal(&world, 0) == "blob_invalid", refusal(&world, 0));
    audit(&mut outcome, &mut world, 0);
    outcome
}

#[test]
fn repelled() {
    super::repelled(&CLASS);
}

#[test]
fn planted_is_found() {
    super::planted_is_found(&CLASS);
}
