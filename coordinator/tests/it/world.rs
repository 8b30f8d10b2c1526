//! The world of a test: frames in flight, time, a journal and blobs that survive, and faults.

use std::collections::{BTreeMap, VecDeque};

use koinon_aggregation::Signer;
use koinon_aggregation::identity::Identity;
use koinon_aggregation::roster::{Member, Role, Roster, SignedRoster};
use koinon_coordinator::journal::{Chain, verify};
use koinon_coordinator::record::Change;
use koinon_coordinator::{Answer, Coordinator, Effect, Event, Record, Rejection, Setup};
use koinon_model::params::Params;
use koinon_model::spec::{CheckedSpec, ModelSpec};
use koinon_proto::task::{
    AlgorithmChoice, CohortPlan, EncodingChoice, InitFrom, ServerOptimizer, TaskKind,
};
use koinon_proto::{Digest, Millis, SiteId, TaskManifest, wire};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::site::{Blobs, Site};

pub(crate) const SPEC: &[u8] = br#"{"name":"m","inputs":[{"name":"x","shape":[2]}],
    "nodes":[{"name":"fc","op":{"linear":{"units":300}},"inputs":["x"]}]}"#;
pub(crate) const FEATURES: &[u8] = br#"{"salt":"test-0001","validation":0.2,
    "label":{"column":"y","kind":"binary","values":["no","yes"]},
    "columns":[{"names":["a","b"],"type":"numeric","bounds":[0,1]}]}"#;
pub(crate) const TRAINING: &[u8] =
    br#"{"epochs":1,"batch_size":8,"learning_rate":0.1,"loss":"cross_entropy"}"#;

pub(crate) fn consortium() -> Identity {
    Identity::from_secret_bytes(&[1; 32])
}

pub(crate) fn setup() -> Setup {
    Setup {
        name: SiteId::new("coordinator").unwrap(),
        identity: Identity::from_secret_bytes(&[2; 32]),
        consortium_key: consortium().public(),
    }
}

/// A training task on the test's model; tests change what they are about.
pub(crate) fn manifest() -> TaskManifest {
    TaskManifest {
        name: "test".into(),
        kind: TaskKind::Train,
        model: Some(Digest::of(SPEC)),
        features: Digest::of(FEATURES),
        training: Some(Digest::of(TRAINING)),
        init_from: InitFrom::Fresh { seed: 5 },
        rounds: 2,
        seed: 9,
        cohort: CohortPlan::new(3, 8, 4),
        budget_ms: 60_000,
        grace_ms: 2_000,
        server_optimizer: ServerOptimizer::Average { learning_rate: 1.0 },
        encoding: EncodingChoice {
            clip_l2: 100.0,
            update_bound: 1.0,
            frac_bits: 20,
            rows_max: 1024,
        },
        algorithm: AlgorithmChoice::FedAvg,
        patience: None,
        attempts_max: 4,
        privacy: None,
    }
}

pub(crate) fn row(name: &str, role: Role, identity: &dyn Signer) -> Member {
    Member {
        name: name.into(),
        role,
        key: identity.public(),
        valid_from_ms: 0,
        valid_until_ms: 1 << 50,
        revoked: false,
    }
}

pub(crate) struct World {
    pub(crate) core: Coordinator,
    pub(crate) rng: ChaCha20Rng,
    pub(crate) now: Millis,
    pub(crate) journal: Vec<Record>,
    pub(crate) blobs: Blobs,
    pub(crate) sites: BTreeMap<SiteId, Site>,
    pub(crate) replies: BTreeMap<u64, Result<Answer, Rejection>>,
    pub(crate) forgotten: Vec<Digest>,
    pub(crate) roster: Option<SignedRoster>,
    connected: BTreeMap<SiteId, bool>,
    up: VecDeque<(SiteId, wire::SiteFrame)>,
    down: VecDeque<(SiteId, wire::CoordinatorFrame)>,
    next_reply: u64,
    /// Frames that are lost, repeated or put behind the next, in a thousand each.
    pub(crate) trouble: u32,
    lost: bool,
    /// The coordinator dies when so many effects have been performed.
    pub(crate) crash_in: Option<usize>,
    pub(crate) crashes: usize,
}

impl World {
    /// A coordinator, a roster of `n` sites, all of them connected.
    pub(crate) fn new(n: u32, seed: u64) -> Self {
        let mut world = Self {
            core: Coordinator::new(setup()),
            rng: ChaCha20Rng::seed_from_u64(seed),
            now: 1_000_000,
            journal: Vec::new(),
            blobs: Blobs::new(),
            sites: (0..n).map(Site::new).map(|site| (site.name.clone(), site)).collect(),
            replies: BTreeMap::new(),
            forgotten: Vec::new(),
            roster: None,
            connected: BTreeMap::new(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            next_reply: 0,
            trouble: 0,
            lost: false,
            crash_in: None,
            crashes: 0,
        };
        let effects = world.core.boot(world.now, &mut world.rng);
        world.perform(effects);
        let roster = world.first_roster();
        world.publish(roster).unwrap();
        world.connect_all();
        world
    }

    pub(crate) fn first_roster(&self) -> SignedRoster {
        let mut members = vec![row("coordinator", Role::Coordinator, &setup().identity)];
        let sites = self.sites.values();
        members.extend(sites.map(|site| row(site.name.as_str(), Role::Client, &site.identity)));
        Roster { version: 1, previous: None, members }.sign(&consortium()).unwrap()
    }

    /// The roster in force, changed, as its successor.
    pub(crate) fn next_roster(&self, change: impl FnOnce(&mut Vec<Member>)) -> SignedRoster {
        let held = self.roster.as_ref().unwrap();
        let mut roster = held.roster().clone();
        roster.version += 1;
        roster.previous = Some(held.digest());
        change(&mut roster.members);
        roster.sign(&consortium()).unwrap()
    }

    pub(crate) fn publish(&mut self, roster: SignedRoster) -> Result<Answer, Rejection> {
        let bytes = roster.bytes().to_vec();
        let answer = self.ask(|reply| Event::PublishRoster { bytes, reply });
        if answer.is_ok() {
            self.roster = Some(roster);
        }
        answer
    }

    pub(crate) fn submit(&mut self, manifest: &TaskManifest) -> Result<Digest, Rejection> {
        let blobs = [SPEC, FEATURES, TRAINING].map(<[u8]>::to_vec).to_vec();
        self.submit_with(manifest, blobs)
    }

    pub(crate) fn submit_with(
        &mut self,
        manifest: &TaskManifest,
        blobs: Vec<Vec<u8>>,
    ) -> Result<Digest, Rejection> {
        let manifest = manifest.to_canonical_json();
        match self.ask(|reply| Event::Submit { manifest, blobs, reply })? {
            Answer::Submitted { task } => Ok(task),
            other => panic!("{other:?}"),
        }
    }

    /// Asks and waits for the answer; a coordinator that dies meanwhile is asked again.
    pub(crate) fn ask(&mut self, event: impl FnOnce(u64) -> Event) -> Result<Answer, Rejection> {
        self.next_reply += 1;
        let reply = self.next_reply;
        let event = event(reply);
        loop {
            self.handle(event.clone());
            if let Some(answer) = self.replies.remove(&reply) {
                return answer;
            }
        }
    }

    pub(crate) fn connect_all(&mut self) {
        let names: Vec<SiteId> = self.sites.keys().cloned().collect();
        names.iter().for_each(|site| self.connect(site));
    }

    pub(crate) fn connect(&mut self, site: &SiteId) {
        self.connected.insert(site.clone(), true);
        let hello = self.sites[site].hello();
        self.handle(Event::Connected { site: site.clone() });
        self.up.push_back((site.clone(), hello));
    }

    pub(crate) fn disconnect(&mut self, site: &SiteId) {
        self.cut(site);
        self.handle(Event::Disconnected { site: site.clone() });
    }

    fn cut(&mut self, site: &SiteId) {
        self.connected.insert(site.clone(), false);
        self.up.retain(|(of, _)| of != site);
        self.down.retain(|(of, _)| of != site);
    }

    pub(crate) fn handle(&mut self, event: Event) {
        let effects = self.core.handle(self.now, &mut self.rng, event);
        self.perform(effects);
    }

    /// The driver's law, with a crash wherever the test wants one.
    fn perform(&mut self, effects: Vec<Effect>) {
        let mut before = 0;
        for effect in effects {
            if let Some(left) = &mut self.crash_in {
                if *left == 0 {
                    self.crash_in = None;
                    return self.crash();
                }
                *left -= 1;
            }
            let rank = match &effect {
                Effect::Blob { .. } => 0,
                Effect::Record(_) => 1,
                _ => 2,
            };
            assert!(before <= rank, "blobs before records before everything else");
            before = rank;
            match effect {
                Effect::Blob { digest, bytes } => {
                    assert_eq!(Digest::of(&bytes), digest);
                    self.blobs.insert(digest, bytes);
                }
                Effect::Record(record) => self.journal.push(record),
                Effect::Send { site, frame } => self.down.push_back((site, frame)),
                Effect::Disconnect { site } => self.cut(&site),
                Effect::Reply { reply, result } => {
                    self.replies.insert(reply, result);
                }
                Effect::Forget { digest } => {
                    self.blobs.remove(&digest);
                    self.forgotten.push(digest);
                }
            }
        }
    }

    /// `kill -9`, and a new start from what is durable. All connections break.
    pub(crate) fn crash(&mut self) {
        self.crashes += 1;
        self.core = self.recovered();
        self.up.clear();
        self.down.clear();
        self.now += 500;
        let effects = self.core.boot(self.now, &mut self.rng);
        self.perform(effects);
        let names: Vec<SiteId> = self.connected.keys().cloned().collect();
        for site in names {
            if self.connected[&site] {
                self.connect(&site);
            }
        }
    }

    /// A coordinator from the journal and the blobs.
    pub(crate) fn recovered(&self) -> Coordinator {
        let mut chain = Chain::default();
        let entries: Vec<_> = self.journal.iter().map(|record| chain.append(record)).collect();
        let (records, _) = verify(&entries).unwrap();
        let blobs = |digest: &Digest| self.blobs.get(digest).cloned();
        Coordinator::recover(setup(), records, &blobs).unwrap()
    }

    /// Delivers one frame, or lets time pass. `false` when nothing will ever happen again.
    pub(crate) fn step(&mut self) -> bool {
        if let Some((site, frame)) = self.next_up() {
            self.handle(Event::Frame { site, frame });
            return true;
        }
        if let Some((site, frame)) = self.next_down() {
            let blobs = &self.blobs;
            let frames = self.sites.get_mut(&site).unwrap().on_frame(frame, blobs);
            self.up.extend(frames.into_iter().map(|frame| (site.clone(), frame)));
            return true;
        }
        if std::mem::take(&mut self.lost) {
            // A heartbeat brings back what was lost.
            for (site, _) in self.connected.iter().filter(|(_, connected)| **connected) {
                self.up.push_back((site.clone(), self.sites[site].hello()));
            }
            return true;
        }
        let Some(deadline) = self.core.next_deadline() else { return false };
        self.now = self.now.max(deadline);
        self.handle(Event::Tick);
        true
    }

    fn next_up(&mut self) -> Option<(SiteId, wire::SiteFrame)> {
        let fate = self.fate();
        fly(&mut self.up, fate, &mut self.lost)
    }

    fn next_down(&mut self) -> Option<(SiteId, wire::CoordinatorFrame)> {
        let fate = self.fate();
        fly(&mut self.down, fate, &mut self.lost)
    }

    fn fate(&mut self) -> u32 {
        self.rng.random_range(0..1000u32).checked_div(self.trouble).unwrap_or(4)
    }

    /// Runs until the task has ended.
    pub(crate) fn run(&mut self, task: &Digest) -> wire::TaskStatus {
        self.run_until(|world| {
            let status = world.core.status(task).unwrap();
            status.state != "waiting" && status.state != "running"
        });
        self.core.status(task).unwrap()
    }

    pub(crate) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..200_000 {
            if done(self) {
                return;
            }
            assert!(self.step(), "nothing will happen any more: {:#?}", self.core.tasks());
        }
        panic!("no end in sight: {:#?}", self.core.tasks());
    }

    /// Runs until everything in flight has arrived, without letting time pass.
    pub(crate) fn settle(&mut self) {
        while !self.up.is_empty() || !self.down.is_empty() {
            self.step();
        }
    }

    pub(crate) fn send(&mut self, site: &SiteId, frame: wire::SiteFrame) {
        self.up.push_back((site.clone(), frame));
    }

    pub(crate) fn site(&mut self, number: u32) -> &mut Site {
        self.sites.values_mut().find(|site| site.number == number).unwrap()
    }

    pub(crate) fn name(&self, number: u32) -> SiteId {
        Site::new(number).name
    }

    pub(crate) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.journal.iter().map(|record| &record.change)
    }

    /// Checks that a new start from the journal gives the same durable state, and that every version
    /// is its parent and the mean of exactly the accepted updates, each once.
    pub(crate) fn check(&self) {
        assert_eq!(self.recovered().state_digest(), self.core.state_digest());
        let spec = spec();
        let params =
            |digest: &Digest| Params::from_safetensors(spec.layout(), &self.blobs[digest]).unwrap();
        let mut versions: BTreeMap<Digest, Option<Digest>> = BTreeMap::new();
        let mut accepted: BTreeMap<Digest, Vec<&Site>> = BTreeMap::new();
        let mut training = false;
        for change in self.changes() {
            match change {
                Change::TaskSubmitted { manifest, version, .. } => {
                    versions.insert(manifest.digest(), *version);
                }
                Change::RoundStarted { task, kind, .. } => {
                    training = *kind == koinon_coordinator::Kind::Train;
                    accepted.insert(*task, Vec::new());
                }
                Change::UpdateAccepted { task, site, .. } => {
                    let sites = accepted.get_mut(task).unwrap();
                    assert!(sites.iter().all(|known| known.name != *site), "counted once");
                    sites.push(&self.sites[site]);
                }
                Change::Coasted { task, version, .. } => {
                    versions.insert(*task, Some(*version));
                }
                Change::Committed { task, result, figures, .. } => {
                    let sites = &accepted[task];
                    assert_eq!(figures.participants as usize, sites.len());
                    if training {
                        let before = params(&versions[task].unwrap());
                        let weight: f64 = sites.iter().map(|s| f64::from(s.weight())).sum();
                        let sum: f64 =
                            sites.iter().map(|s| f64::from(s.weight()) * s.update()).sum();
                        let after = params(result);
                        for (x, y) in before.values().iter().zip(after.values()) {
                            let step = f64::from(*y) - f64::from(*x);
                            assert!((step - sum / weight).abs() < 1e-4, "{step} {}", sum / weight);
                        }
                        versions.insert(*task, Some(*result));
                    }
                }
                _ => {}
            }
        }
    }
}

pub(crate) fn spec() -> CheckedSpec {
    ModelSpec::from_json(SPEC).unwrap().check().unwrap()
}

/// Takes the first frame, unless fate has it lost, repeated or put behind the next one.
fn fly<T: Clone>(queue: &mut VecDeque<T>, fate: u32, lost: &mut bool) -> Option<T> {
    match fate {
        0 => {
            *lost |= queue.pop_front().is_some();
            queue.pop_front()
        }
        1 => queue.front().cloned(),
        2 if queue.len() > 1 => {
            *lost = true;
            queue.swap(0, 1);
            queue.pop_front()
        }
        _ => queue.pop_front(),
    }
}
