//! From a scenario and a seed to a world: names, keys, roster, task, machines.

use super::{Happening, Operator, World};
use crate::arithmetic::Arithmetic;
use crate::checker::{Checker, CheckerSetup};
use crate::error::SimError;
use crate::fault::FaultPlan;
use crate::hub::{Hub, HubSetup};
use crate::liars::{CoordinatorLiar, Pen, SiteLiar};
use crate::material::Material;
use crate::network::Network;
use crate::planted::{Bug, Planted};
use crate::queue::Queue;
use crate::scenario::Settings;
use crate::seeds::SeedTree;
use crate::site::{Site, SiteSetup};
use crate::task::Task;
use koinon_aggregation::Signer as _;
use koinon_aggregation::identity::Identity;
use koinon_aggregation::roster::{Member, Role, Roster};
use koinon_client::budget::plan_noise;
use koinon_client::policy::{ApprovalDefault, Policy};
use koinon_proto::limits::ROUNDS_MAX;
use koinon_proto::task::{InitFrom, TaskKind};
use koinon_proto::{Digest, Millis, SiteId, TaskManifest};
use rand::RngExt;

/// What one run needs.
pub(crate) struct Run<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) task: &'a Task,
    pub(crate) material: &'a Material,
    pub(crate) seed: u64,
    pub(crate) replay: String,
    pub(crate) traced: bool,
    pub(crate) planted: Option<Bug>,
}

impl World {
    /// The world before anything has happened.
    pub(crate) fn new(run: &Run<'_>) -> Result<World, SimError> {
        let Run { settings, material, seed, .. } = run;
        let seeds = SeedTree::new(*seed);
        let names = &material.names;
        let coordinator = name(COORDINATOR)?;
        let consortium = Identity::from_secret_bytes(&seeds.bytes("consortium"));
        let roster = roster(names, &seeds);
        let signed =
            roster.clone().sign(&consortium).map_err(|e| SimError::refused("roster", e))?;
        let manifest = planned(run)?;
        manifest.check().map_err(|e| SimError::refused("task", e))?;
        let faults = FaultPlan::draw(&settings.faults, names.len(), &seeds);
        let checker = Checker::new(CheckerSetup {
            seed: *seed,
            replay: run.replay.clone(),
            start_ms: START_MS,
            hub_lies: faults.coordinator_lie.is_some(),
            sites: names.clone(),
            roster,
            manifest: manifest.clone(),
            spec: material.spec.clone(),
        });
        let hub = HubSetup {
            name: coordinator.clone(),
            identity: seeds.bytes("coordinator/identity"),
            consortium_key: consortium.public(),
        };
        let mut world = World {
            queue: Queue::new(START_MS),
            network: Network::new(&settings.network, names.len(), seeds.stream("network")),
            hub: Hub::new(hub, seeds.stream("coordinator/entropy")),
            sites: Vec::with_capacity(names.len()),
            places: names.iter().cloned().zip(0..).collect(),
            checker,
            site_liars: Vec::new(),
            hub_liar: None,
            planted: None,
            operator: Operator {
                roster: signed.bytes().to_vec(),
                manifest: manifest.to_canonical_json(),
                blobs: material.blobs(),
                published: false,
                task: None,
                cancelled: false,
                refused: None,
            },
            settings: settings.sites.clone(),
            work_rng: seeds.stream("work"),
            connections: 0,
            replay_every: replay_every(material.spec.layout().len(), names.len()),
            start_ms: START_MS,
            horizon_ms: settings.horizon_ms,
            hub_lost: false,
            ended_ms: None,
            trace: run.traced.then(Vec::new),
            faults,
        };
        world.add_sites(run, &seeds, &manifest, consortium.public())?;
        if let Some(at) = world.faults.cancel_ms {
            world.queue.push(START_MS + at, Happening::Cancel);
        }
        world.add_liars(&seeds, names);
        world.planted = run.planted.map(|bug| planted(bug, names, &coordinator, &seeds));
        Ok(world)
    }

    fn add_sites(
        &mut self,
        run: &Run<'_>,
        seeds: &SeedTree,
        manifest: &TaskManifest,
        consortium_key: [u8; 32],
    ) -> Result<(), SimError> {
        let mut dials = seeds.stream("dials");
        self.queue.push(START_MS, Happening::HubStarts);
        for (index, site) in run.material.names.iter().enumerate() {
            let setup = SiteSetup {
                site: site.clone(),
                coordinator: name(COORDINATOR)?,
                identity: seeds.bytes(&identity_label(site)),
                consortium_key,
                policy: policy(manifest),
                heartbeat_ms: run.settings.sites.heartbeat_ms,
                chunk_bytes: run.settings.sites.chunk_bytes,
            };
            let trainer = run.material.trainer(index);
            let trainer = trainer.unwrap_or_else(|| Box::new(Arithmetic));
            let entropy = seeds.stream(&format!("site/{site}/entropy"));
            self.sites.push(Site::new(setup, trainer, entropy));
            let at = START_MS + dials.random_range(0..1_000);
            self.queue.push(at, Happening::SiteStarts { site: index });
        }
        Ok(())
    }

    fn add_liars(&mut self, seeds: &SeedTree, names: &[SiteId]) {
        let pen = |name: &str, label: &str| Pen {
            name: name.to_owned(),
            identity: Identity::from_secret_bytes(&seeds.bytes(label)),
            rng: seeds.stream(&format!("{label}/lies")),
        };
        for (index, site) in names.iter().enumerate() {
            let lie = self.faults.site_lies.get(&index);
            let liar =
                lie.map(|lie| SiteLiar::new(*lie, pen(site.as_str(), &identity_label(site))));
            self.site_liars.push(liar);
        }
        let named = names.iter().map(|n| n.as_str().to_owned()).collect();
        self.hub_liar = self
            .faults
            .coordinator_lie
            .map(|lie| CoordinatorLiar::new(lie, pen(COORDINATOR, "coordinator/identity"), named));
    }
}

/// After how many records a restart is tried. It costs what the round did so far, which is a record or
/// a few from each site: for large models and many sites now and then.
fn replay_every(parameters: usize, sites: usize) -> usize {
    if parameters > 1_000 { 300 } else { sites.max(7) }
}

fn name(text: &str) -> Result<SiteId, SimError> {
    SiteId::new(text).map_err(|e| SimError::refused("name", e))
}

fn identity_label(site: &SiteId) -> String {
    format!("site/{site}/identity")
}

fn roster(names: &[SiteId], seeds: &SeedTree) -> Roster {
    let member = |name: &str, role, label: &str| Member {
        name: name.to_owned(),
        role,
        key: Identity::from_secret_bytes(&seeds.bytes(label)).public(),
        valid_from_ms: 0,
        valid_until_ms: u64::MAX,
        revoked: false,
    };
    let mut members: Vec<Member> = names
        .iter()
        .map(|site| member(site.as_str(), Role::Client, &identity_label(site)))
        .collect();
    members.push(member(COORDINATOR, Role::Coordinator, "coordinator/identity"));
    Roster { version: 1, previous: None, members }
}

fn manifest(run: &Run<'_>) -> TaskManifest {
    let Run { task, material, seed, .. } = run;
    TaskManifest {
        name: run.settings.name.clone(),
        kind: TaskKind::Train,
        model: Some(Digest::of(material.spec.canonical())),
        features: Digest::of(&material.features.canonical_bytes()),
        training: Some(Digest::of(&material.training.canonical())),
        init_from: InitFrom::Fresh { seed: *seed },
        rounds: task.rounds,
        seed: *seed,
        cohort: task.cohort,
        budget_ms: task.budget_ms,
        grace_ms: task.grace_ms,
        server_optimizer: task.server_optimizer,
        encoding: task.encoding,
        algorithm: task.algorithm,
        patience: task.patience,
        attempts_max: task.attempts_max,
        privacy: task.privacy,
    }
}

/// The manifest with its noise, planned where the scenario leaves it out.
fn planned(run: &Run<'_>) -> Result<TaskManifest, SimError> {
    let mut manifest = manifest(run);
    let dimension = run.material.spec.layout().trainable();
    if let Some(mut privacy) = manifest.privacy.filter(|privacy| privacy.noise_multiplier.is_none())
        && let Some(plan) = plan_noise(&manifest, dimension)
    {
        let planned = plan.map_err(|why| SimError::refused("the task's privacy", why))?;
        privacy.noise_multiplier = Some(planned.step.noise_multiplier);
        manifest.privacy = Some(privacy);
    }
    Ok(manifest)
}

/// A site that wants exactly what the scenario's task offers, and no less.
fn policy(manifest: &TaskManifest) -> Policy {
    let mut policy = Policy::default();
    policy.approvals.default = ApprovalDefault::Always;
    policy.cohort.min = manifest.cohort.min;
    policy.tasks.rounds_max = ROUNDS_MAX;
    policy.tasks.clip_l2_max = manifest.encoding.clip_l2;
    policy.tasks.update_bound_max = manifest.encoding.update_bound;
    policy.tasks.frac_bits_max = manifest.encoding.frac_bits;
    if let Some(privacy) = &manifest.privacy {
        policy.privacy.epsilon_max = privacy.epsilon;
        policy.privacy.delta_max = privacy.delta;
        // In the task's own unit and at its own delta the whole task is within its word.
        policy.privacy.unit = privacy.unit;
        policy.privacy.delta_total = privacy.delta;
        policy.privacy.epsilon_total = privacy.epsilon;
    }
    policy
}

fn planted(bug: Bug, names: &[SiteId], coordinator: &SiteId, seeds: &SeedTree) -> Planted {
    let victim = seeds.stream("planted/victim").random_range(0..names.len());
    let identity = Identity::from_secret_bytes(&seeds.bytes("coordinator/identity"));
    Planted::new(
        bug,
        (victim, names[victim].clone()),
        (coordinator.clone(), identity),
        seeds.stream("planted/entropy"),
    )
}

/// Any late enough moment will do; a fixed one makes runs comparable.
const START_MS: Millis = 1_700_000_000_000;
const COORDINATOR: &str = "coordinator";
