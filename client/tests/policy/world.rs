//! Sites with their disks, and a coordinator made of the protocol's own server session.

use std::collections::{BTreeMap, VecDeque};

use koinon_aggregation::identity::Identity;
use koinon_aggregation::privacy::clip::after;
use koinon_aggregation::roster::{Member, Role, Roster, SignedRoster};
use koinon_aggregation::{
    Bundle, EncodingPlan, Field, Report, Reveal, ServerSession, SessionPlan, Shares, Signer as _,
    Sum, SurvivorSignature, Topology,
};
use koinon_client::participant::{Ending, HEARTBEAT_MS, Note, Participant, Setup};
use koinon_client::policy::{ApprovalDefault, Policy};
use koinon_client::trainer::{Contribution, Job};
use koinon_client::{Effect, Event};
use koinon_model::contribution::{FieldChoice, RoundKind, fields};
use koinon_model::features::FeaturePlan;
use koinon_model::params::Params;
use koinon_model::plan::TrainingPlan;
use koinon_model::spec::{CheckedSpec, ModelSpec};
use koinon_proto::task::AdaptiveClip;
use koinon_proto::wire::to_coordinator::Message as FromSite;
use koinon_proto::wire::to_site::Message as ToSite;
use koinon_proto::{Digest, SiteId, TaskManifest, context, envelope, wire};
use prost::Message as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroizing;

pub(crate) const FEATURES: &str = r#"
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

pub(crate) const TRAINING: &str =
    "epochs = 1\nbatch_size = 8\nlearning_rate = 0.1\nloss = \"cross_entropy\"\n";

pub(crate) const SPEC: &[u8] = br#"{"name":"m","inputs":[{"name":"x","shape":[3]}],
    "nodes":[{"name":"fc","op":{"linear":{"units":2}},"inputs":["x"]}]}"#;

pub(crate) fn name(text: &str) -> SiteId {
    SiteId::new(text).unwrap()
}

pub(crate) fn site_name(index: usize) -> SiteId {
    name(&format!("site-{index:02}"))
}

/// A task with its blobs.
#[derive(Clone)]
pub(crate) struct Task {
    pub(crate) manifest: TaskManifest,
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) spec: CheckedSpec,
    pub(crate) features: FeaturePlan,
    pub(crate) params: Vec<u8>,
    /// The fitted features that a round names, if it names any.
    pub(crate) fitted: Option<Digest>,
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
}

impl Task {
    pub(crate) fn new(change: impl FnOnce(&mut TaskManifest)) -> Self {
        let spec = ModelSpec::from_json(SPEC).unwrap().check().unwrap();
        let features = FeaturePlan::from_toml(FEATURES).unwrap();
        let plan = features.canonical_bytes();
        let training = TrainingPlan::from_toml(TRAINING).unwrap().canonical();
        let params = Params::init(&spec, 7).to_safetensors(spec.layout()).unwrap();
        let text = format!(
            r#"
name = "relapse"
kind = "train"
model = "{}"
features = "{}"
training = "{}"
init_from = {{ fresh = {{ seed = 7 }} }}
rounds = 30
seed = 7
cohort = {{ min = 5, max = 16, quorum = 5 }}
budget_ms = 60000
grace_ms = 2000
server_optimizer = {{ average = {{ learning_rate = 1.0 }} }}
encoding = {{ clip_l2 = 5.0, update_bound = 1.0, frac_bits = 20, rows_max = 1024 }}
algorithm = "fed_avg"
attempts_max = 3
"#,
            Digest::of(SPEC),
            Digest::of(&plan),
            Digest::of(&training),
        );
        let mut manifest = TaskManifest::parse_toml(&text, "task").unwrap();
        change(&mut manifest);
        let bytes = manifest.to_canonical_json();
        let blobs = [SPEC.to_vec(), plan, training, params.clone()];
        let blobs = blobs.into_iter().map(|bytes| (Digest::of(&bytes), bytes)).collect();
        let digest = Digest::of(&bytes);
        let fitted = None;
        Self { manifest, bytes, digest, spec, features, params, fitted, blobs }
    }

    pub(crate) fn version(&self) -> Digest {
        Digest::of(&self.params)
    }

    /// The clip that follows from what a round is told of those before, where it moves.
    pub(crate) fn clip(&self, round: &Round) -> Option<f64> {
        let AdaptiveClip { initial, quantile, rate } = self.manifest.privacy?.adaptive()?;
        after(initial, quantile, rate, round.unclipped)
    }

    pub(crate) fn encoding(&self, kind: RoundKind) -> EncodingPlan {
        let choice = &self.manifest.encoding;
        let chosen = FieldChoice {
            update_bound: choice.update_bound,
            frac_bits: choice.frac_bits,
            rows_max: choice.rows_max,
            private: self.manifest.privacy.is_some(),
            count_frac_bits: self.manifest.count_frac_bits(),
        };
        let fields = fields(kind, self.spec.layout().trainable(), &self.features, &chosen);
        let fields = fields.into_iter().map(|field| Field {
            name: field.name,
            len: field.len,
            bound: field.bound,
            frac_bits: field.frac_bits,
            weighted: field.weighted,
        });
        let clip = (kind == RoundKind::Train).then_some(choice.clip_l2);
        let n_max = u32::from(self.manifest.cohort.max);
        let plan = EncodingPlan::new(fields.collect(), clip, n_max, choice.rows_max).unwrap();
        let trainable = self.spec.layout().trainable();
        match koinon_client::budget::mechanism(&self.manifest, trainable) {
            Some(mechanism) => plan.with_noise(mechanism.share().unwrap()).unwrap(),
            None => plan,
        }
    }
}

/// What one site says differently from an honest round.
pub(crate) struct Round {
    pub(crate) kind: RoundKind,
    pub(crate) number: u32,
    pub(crate) session: u8,
    pub(crate) version: Option<Digest>,
    pub(crate) n_min: u16,
    /// Shares that rounds before are said to have opened.
    pub(crate) unclipped: &'static [f64],
}

impl Round {
    pub(crate) fn train(session: u8) -> Self {
        Self { kind: RoundKind::Train, number: 1, session, version: None, n_min: 5, unclipped: &[] }
    }
}

pub(crate) fn wire_kind(kind: RoundKind) -> wire::RoundKind {
    match kind {
        RoundKind::Statistics => wire::RoundKind::Statistics,
        RoundKind::Train => wire::RoundKind::Train,
        RoundKind::Evaluate => wire::RoundKind::Evaluate,
    }
}

/// What a site's disk holds.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) durable: Option<Zeroizing<Vec<u8>>>,
    pub(crate) vector: Option<Vec<u8>>,
}

/// A site, its disk, and all it ever sent.
pub(crate) struct Site {
    pub(crate) name: SiteId,
    pub(crate) secret: [u8; 32],
    pub(crate) policy: Policy,
    pub(crate) participant: Participant,
    pub(crate) disk: Disk,
    pub(crate) rng: ChaCha20Rng,
    /// Frames that left, ever.
    pub(crate) sent: Vec<wire::SiteFrame>,
    /// Bodies of mail that left and was not looked at yet.
    pub(crate) said: VecDeque<FromSite>,
    pub(crate) notes: Vec<Note>,
    /// Effects executed, ever.
    pub(crate) effects: usize,
    /// The site is killed after so many effects.
    pub(crate) kill_after: Option<usize>,
    pub(crate) killed: bool,
    /// Bodies of the mail it was sent.
    pub(crate) told: Vec<Vec<u8>>,
    /// Names of effects, while somebody looks.
    pub(crate) log: Option<Vec<String>>,
    /// Whether jobs are done, or only kept.
    pub(crate) works: bool,
    pub(crate) job: Option<Box<Job>>,
    next_sequence: u64,
    received: u64,
    epoch: u64,
    staged: BTreeMap<Digest, Vec<u8>>,
    uploaded: BTreeMap<Digest, Vec<u8>>,
}

pub(crate) struct World {
    pub(crate) consortium: Identity,
    pub(crate) coordinator: Identity,
    pub(crate) roster: SignedRoster,
    pub(crate) sites: Vec<Site>,
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(crate) now: u64,
    /// Mail that a site should see again when it comes back.
    pub(crate) current: BTreeMap<SiteId, Vec<ToSite>>,
    pub(crate) answers_fetches: bool,
}

pub(crate) fn coordinator_name() -> SiteId {
    name("coordinator")
}

pub(crate) fn member(name: &str, role: Role, key: [u8; 32]) -> Member {
    let (valid_from_ms, valid_until_ms) = (0, u64::MAX);
    Member { name: name.to_owned(), role, key, valid_from_ms, valid_until_ms, revoked: false }
}

impl World {
    /// `n` sites that know the roster, in the state before the first invitation.
    pub(crate) fn new(n: usize) -> Self {
        Self::with_policy(n, |_| {})
    }

    pub(crate) fn with_policy(n: usize, change: impl Fn(&mut Policy)) -> Self {
        let consortium = Identity::from_secret_bytes(&[1; 32]);
        let coordinator = Identity::from_secret_bytes(&[2; 32]);
        let secrets: Vec<[u8; 32]> = (0..n).map(|index| [10 + index as u8; 32]).collect();
        let mut members = vec![member("coordinator", Role::Coordinator, coordinator.public())];
        for (index, secret) in secrets.iter().enumerate() {
            let key = Identity::from_secret_bytes(secret).public();
            members.push(member(site_name(index).as_str(), Role::Client, key));
        }
        let roster = Roster { version: 1, previous: None, members }.sign(&consortium).unwrap();
        let mut policy = Policy::default();
        policy.approvals.default = ApprovalDefault::Always;
        change(&mut policy);
        let sites = secrets
            .into_iter()
            .enumerate()
            .map(|(index, secret)| Site::new(site_name(index), secret, policy.clone()))
            .collect();
        let blobs = [(Digest(roster.digest()), roster.bytes().to_vec())].into();
        let (current, answers_fetches) = (BTreeMap::new(), true);
        let mut world = Self {
            consortium,
            coordinator,
            roster,
            sites,
            blobs,
            now: 1,
            current,
            answers_fetches,
        };
        for index in 0..n {
            world.event(index, Event::Connected);
            world.announce(index);
        }
        world
    }

    pub(crate) fn announce(&mut self, index: usize) {
        let digest = Digest(self.roster.digest()).into();
        self.tell(index, ToSite::Roster(wire::RosterNotice { digest }));
    }

    pub(crate) fn offer(&mut self, task: &Task) {
        self.blobs.extend(task.blobs.clone());
        for index in 0..self.sites.len() {
            self.tell(index, ToSite::Offer(wire::Offer { manifest: task.bytes.clone() }));
        }
    }

    pub(crate) fn plan(&self, task: &Task, round: &Round) -> SessionPlan {
        let version = self.version_of(task, round);
        SessionPlan {
            session: [round.session; 32],
            context: context(
                &task.digest,
                wire_kind(round.kind),
                round.number,
                version.as_ref(),
                task.fitted.as_ref(),
                task.clip(round),
            ),
            roster: self.roster.digest(),
            encoding: task.encoding(round.kind),
            n_min: round.n_min,
            topology: Topology::Complete,
        }
    }

    fn version_of(&self, task: &Task, round: &Round) -> Option<Digest> {
        match round.kind {
            RoundKind::Statistics => None,
            _ => Some(round.version.unwrap_or(task.version())),
        }
    }

    pub(crate) fn invite(&self, task: &Task, round: &Round) -> wire::Invite {
        wire::Invite {
            plan: self.plan(task, round).to_bytes(),
            task: task.digest.into(),
            round: round.number,
            attempt: 1,
            kind: wire_kind(round.kind).into(),
            version: self.version_of(task, round).map(Vec::from).unwrap_or_default(),
            fitted: task.fitted.map(Vec::from).unwrap_or_default(),
            budget_ms: 60_000,
            unclipped: round.unclipped.to_vec(),
            clip: task.clip(round).unwrap_or(0.0),
            keys: None,
        }
    }

    /// Sends mail as the coordinator of the roster.
    pub(crate) fn tell(&mut self, index: usize, message: ToSite) {
        let body = wire::ToSite { message: Some(message) }.encode_to_vec();
        self.tell_body(index, body);
    }

    pub(crate) fn tell_body(&mut self, index: usize, body: Vec<u8>) {
        let to = self.sites[index].name.clone();
        self.sites[index].told.push(body.clone());
        let letter = envelope::seal(1, "coordinator", to.as_str(), body, |message| {
            self.coordinator.sign(message)
        });
        self.tell_envelope(index, letter);
    }

    pub(crate) fn tell_envelope(&mut self, index: usize, letter: wire::Envelope) {
        let site = &mut self.sites[index];
        site.next_sequence += 1;
        let mail = wire::Mail { sequence: site.next_sequence, envelope: Some(letter) };
        self.frame(index, wire::coordinator_frame::Frame::Mail(mail));
    }

    /// Sends mail, and again after the site was killed and came back.
    pub(crate) fn tell_current(&mut self, index: usize, message: ToSite) {
        let site = self.sites[index].name.clone();
        let current = self.current.entry(site).or_default();
        current.retain(|old| std::mem::discriminant(old) != std::mem::discriminant(&message));
        current.push(message.clone());
        self.tell(index, message);
        while self.sites[index].killed {
            self.restart(index);
        }
    }

    pub(crate) fn frame(&mut self, index: usize, frame: wire::coordinator_frame::Frame) {
        self.event(index, Event::Frame(wire::CoordinatorFrame { frame: Some(frame) }));
    }

    /// Builds a killed site again from its disk, connects it, and says the current step again.
    pub(crate) fn restart(&mut self, index: usize) {
        let site = &mut self.sites[index];
        site.rebuild();
        self.event(index, Event::Connected);
        self.announce(index);
        let name = self.sites[index].name.clone();
        for message in self.current.get(&name).cloned().unwrap_or_default() {
            if !self.sites[index].killed {
                self.tell(index, message);
            }
        }
    }

    /// Hands an event to a site and executes what it wants, strictly in order.
    pub(crate) fn event(&mut self, index: usize, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let site = &mut self.sites[index];
            if site.killed {
                return;
            }
            let effects = site.participant.handle(self.now, &mut site.rng, event);
            for effect in effects {
                self.execute(index, effect, &mut events);
                let site = &mut self.sites[index];
                site.effects += 1;
                if site.kill_after == Some(site.effects) {
                    site.killed = true;
                    return;
                }
            }
        }
    }

    fn execute(&mut self, index: usize, effect: Effect, events: &mut VecDeque<Event>) {
        let site = &mut self.sites[index];
        if let Some(log) = &mut site.log {
            log.extend(super::said::effect_name(&effect));
        }
        match effect {
            Effect::Persist(bytes) => site.disk.durable = Some(bytes),
            Effect::PersistVector { bytes, .. } => site.disk.vector = Some(bytes.to_vec()),
            Effect::DropVector => site.disk.vector = None,
            Effect::Send(frame) => {
                site.sent.push(frame.clone());
                events.extend(site.answer(frame));
            }
            Effect::Fetch(digest) if self.answers_fetches => match self.blobs.get(&digest) {
                Some(bytes) => events.push_back(Event::Blob { digest, bytes: bytes.clone() }),
                None => events.push_back(Event::BlobFailed { digest }),
            },
            Effect::Fetch(_) | Effect::StopWork { .. } => {}
            Effect::Agree { session, agreement } => {
                events.push_back(Event::Agreed { session, agreements: agreement.run() });
            }
            Effect::Work(job) if !site.works => site.job = Some(job),
            Effect::Work(job) => {
                let result = Ok(contribution(&job));
                events.push_back(Event::Worked { session: job.session, result });
            }
            Effect::Note(note) => site.notes.push(note),
        }
    }

    /// The messages of one kind that a site said and nobody took yet.
    pub(crate) fn take<T>(
        &mut self,
        index: usize,
        pick: impl Fn(&FromSite) -> Option<T>,
    ) -> Vec<T> {
        let said = std::mem::take(&mut self.sites[index].said);
        said.iter().filter_map(pick).collect()
    }

    pub(crate) fn all(&self) -> Vec<usize> {
        (0..self.sites.len()).collect()
    }
}

impl Site {
    fn new(name: SiteId, secret: [u8; 32], policy: Policy) -> Self {
        let disk = Disk::default();
        let participant = participant(&name, &secret, &policy, &disk);
        Self {
            rng: ChaCha20Rng::from_seed([secret[0] ^ 0x5a; 32]),
            name,
            secret,
            policy,
            participant,
            disk,
            sent: Vec::new(),
            said: VecDeque::new(),
            notes: Vec::new(),
            effects: 0,
            kill_after: None,
            killed: false,
            told: Vec::new(),
            log: None,
            works: true,
            job: None,
            next_sequence: 0,
            received: 0,
            epoch: 1,
            staged: BTreeMap::new(),
            uploaded: BTreeMap::new(),
        }
    }

    pub(crate) fn rebuild(&mut self) {
        self.participant = participant(&self.name, &self.secret, &self.policy, &self.disk);
        (self.killed, self.next_sequence, self.received) = (false, 0, 0);
        self.epoch += 1;
        self.staged.clear();
    }

    /// The next mail to this site is lost.
    pub(crate) fn skip_sequence(&mut self) {
        self.next_sequence += 1;
    }

    /// The next mail to this site has a number that was used before.
    pub(crate) fn go_back(&mut self, by: u64) {
        self.next_sequence -= by;
    }

    /// The coordinator was killed and starts again: mailboxes and staged chunks are gone.
    pub(crate) fn new_coordinator(&mut self) {
        (self.epoch, self.next_sequence, self.received) = (self.epoch + 1, 0, 0);
        self.staged.clear();
    }

    /// What an honest coordinator's carrier answers to a frame: welcome, receipts, and which chunk it
    /// wants of an update that was reported.
    fn answer(&mut self, frame: wire::SiteFrame) -> Vec<Event> {
        use wire::coordinator_frame::Frame;
        use wire::site_frame::Frame as F;
        let asks = !matches!(frame.frame, Some(F::Chunk(_)) | None);
        let answer = match frame.frame {
            Some(F::Hello(hello)) => {
                self.received = self.received.max(hello.first_sequence - 1);
                let (coordinator_epoch, received) = (self.epoch, self.received);
                Frame::Welcome(wire::Welcome { coordinator_epoch, received })
            }
            Some(F::Mail(mail)) => {
                if mail.sequence == self.received + 1 {
                    self.received += 1;
                    let body = mail.envelope.unwrap().body;
                    let message = wire::ToCoordinator::decode(&body[..]).unwrap().message;
                    if let Some(FromSite::Report(report)) = &message {
                        let session = Digest::try_from(&report.session[..]).unwrap();
                        self.staged.entry(session).or_default();
                    }
                    self.said.extend(message);
                }
                Frame::Receipt(wire::Receipt { sequence: self.received, rejection: None })
            }
            Some(F::Chunk(chunk)) => {
                let session = Digest::try_from(&chunk.session[..]).unwrap();
                let length = chunk.data.len();
                let staged = self.staged.entry(session).or_default();
                let next = staged.len().div_ceil(CHUNK_BYTES);
                if chunk.index as usize == next {
                    staged.extend(chunk.data);
                    assert!(length == CHUNK_BYTES || chunk.index + 1 == chunk.total);
                    if chunk.index + 1 == chunk.total {
                        self.uploaded.insert(session, staged.clone());
                    }
                }
                let next = staged.len().div_ceil(CHUNK_BYTES) as u32;
                Frame::ChunkReceipt(wire::ChunkReceipt { session: chunk.session, next })
            }
            None => return Vec::new(),
        };
        let wanted =
            self.staged.iter().filter(|(session, _)| asks && !self.uploaded.contains_key(session));
        let receipt = |(session, staged): (&Digest, &Vec<u8>)| {
            let (session, next) = ((*session).into(), staged.len().div_ceil(CHUNK_BYTES) as u32);
            Frame::ChunkReceipt(wire::ChunkReceipt { session, next })
        };
        let frames: Vec<Frame> = std::iter::once(answer).chain(wanted.map(receipt)).collect();
        let event = |frame| Event::Frame(wire::CoordinatorFrame { frame: Some(frame) });
        frames.into_iter().map(event).collect()
    }

    pub(crate) fn refusals(&self) -> Vec<&'static str> {
        let code = |note: &Note| match note {
            Note::Refused { refusal, .. }
            | Note::Ended { ending: Ending::Withdrawn(refusal), .. } => Some(refusal.code()),
            _ => None,
        };
        self.notes.iter().filter_map(code).collect()
    }

    pub(crate) fn faults(&self) -> Vec<&'static str> {
        let code = |note: &Note| match note {
            Note::Fault { code, .. } => Some(*code),
            _ => None,
        };
        self.notes.iter().filter_map(code).collect()
    }

    /// Bodies of all session mail that ever left, with the frames' chunks: what an attacker has.
    pub(crate) fn secrets_sent(&self) -> Vec<Vec<u8>> {
        use wire::site_frame::Frame as F;
        let keep = |frame: &wire::SiteFrame| match &frame.frame {
            Some(F::Mail(mail)) => {
                let body = mail.envelope.as_ref()?.body.clone();
                match wire::ToCoordinator::decode(&body[..]).ok()?.message? {
                    FromSite::CheckIn(_) | FromSite::PostedKeys(_) => None,
                    FromSite::Refusal(_) | FromSite::Failure(_) => None,
                    _ => Some(body),
                }
            }
            Some(F::Chunk(chunk)) => Some(chunk.encode_to_vec()),
            _ => None,
        };
        self.sent.iter().filter_map(keep).collect()
    }
}

pub(crate) const CHUNK_BYTES: usize = 64;

pub(crate) fn participant(
    name: &SiteId,
    secret: &[u8; 32],
    policy: &Policy,
    disk: &Disk,
) -> Participant {
    let setup = setup(name, secret, policy);
    Participant::new(setup, disk.durable.clone(), disk.vector.clone())
        .unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn setup(name: &SiteId, secret: &[u8; 32], policy: &Policy) -> Setup {
    Setup {
        site: name.clone(),
        coordinator: coordinator_name(),
        identity: Identity::from_secret_bytes(secret),
        consortium_key: Identity::from_secret_bytes(&[1; 32]).public(),
        policy: policy.clone(),
        heartbeat_ms: HEARTBEAT_MS,
        chunk_bytes: CHUNK_BYTES,
    }
}

/// Work that depends on the job alone.
pub(crate) fn contribution(job: &Job) -> Contribution {
    let choice = &job.manifest.encoding;
    let chosen = FieldChoice {
        update_bound: choice.update_bound,
        frac_bits: choice.frac_bits,
        rows_max: choice.rows_max,
        private: job.manifest.privacy.is_some(),
        count_frac_bits: job.manifest.count_frac_bits(),
    };
    let trainable = job.spec.as_ref().map_or(0, |spec| spec.layout().trainable());
    let value = 0.25 + (job.seed % 100) as f64 / 1000.0;
    let values = fields(job.kind, trainable, &job.features, &chosen)
        .iter()
        .map(|field| vec![value.min(field.bound); field.len])
        .collect();
    Contribution { weight: 10, values }
}

/// The steps of a round as an honest coordinator takes them.
pub(crate) struct Rounds {
    pub(crate) server: ServerSession,
    pub(crate) sites: Vec<usize>,
    session: Vec<u8>,
}

impl Rounds {
    pub(crate) fn start(world: &mut World, task: &Task, round: &Round, sites: &[usize]) -> Self {
        let plan = world.plan(task, round);
        for &index in sites {
            let offer = ToSite::Offer(wire::Offer { manifest: task.bytes.clone() });
            world.tell_current(index, offer);
            let invite = world.invite(task, round);
            world.tell_current(index, ToSite::Invite(invite));
        }
        Self::of(plan, sites)
    }
    pub(crate) fn of(plan: SessionPlan, sites: &[usize]) -> Self {
        let session = plan.session.to_vec();
        Self { server: ServerSession::new(plan).unwrap(), sites: sites.to_vec(), session }
    }

    pub(crate) fn bundles(&mut self, world: &mut World) -> wire::Participants {
        let members = world.roster.clone();
        let members = members.roster().clients_at(None);
        for &index in &self.sites {
            for ready in world.take(index, |message| match message {
                FromSite::Ready(ready) => Some(ready.clone()),
                _ => None,
            }) {
                let bundle = Bundle::from_bytes(&ready.bundle).unwrap();
                self.server.add_bundle(bundle, &members).unwrap();
            }
        }
        let names: Vec<String> = self.server.advertised().map(str::to_owned).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.server.fix_participants(&names, &members).unwrap();
        let notice = self.server.notice_for(0).unwrap();
        let bundles = notice.bundles().iter().map(Bundle::to_bytes).collect();
        wire::Participants { session: self.session.clone(), bundles, notice: Vec::new() }
    }

    pub(crate) fn share(&mut self, world: &mut World) {
        let participants = self.bundles(world);
        for &index in &self.sites.clone() {
            world.tell_current(index, ToSite::Participants(participants.clone()));
        }
    }

    /// Takes the shares and gives each dealer's inbox.
    pub(crate) fn inboxes(&mut self, world: &mut World) -> BTreeMap<usize, wire::Inbox> {
        for &index in &self.sites {
            for shares in world.take(index, |message| match message {
                FromSite::Shares(shares) => Some(shares.clone()),
                _ => None,
            }) {
                self.server.add_shares(Shares::from_bytes(&shares.shares).unwrap()).unwrap();
            }
        }
        let dealers = self.server.fix_dealers().unwrap();
        let mut inboxes = BTreeMap::new();
        for &index in &self.sites {
            let Some(place) = self.server.index_of(world.sites[index].name.as_str()) else {
                continue;
            };
            if dealers.contains(&place) {
                let shares = self.server.inbox_for(place).unwrap();
                let shares = shares.iter().map(|delivery| delivery.to_bytes()).collect();
                inboxes.insert(index, wire::Inbox { session: self.session.clone(), shares });
            }
        }
        inboxes
    }

    pub(crate) fn report(&mut self, world: &mut World) {
        for (index, inbox) in self.inboxes(world) {
            world.tell_current(index, ToSite::Inbox(inbox));
        }
    }

    /// Takes the uploads and gives the survivors.
    pub(crate) fn survivors(&mut self, world: &mut World) -> wire::Survivors {
        for &index in &self.sites {
            let reports = world.take(index, |message| match message {
                FromSite::Report(report) => Some(report.clone()),
                _ => None,
            });
            let session = Digest::try_from(&self.session[..]).unwrap();
            if let (Some(report), Some(packed)) =
                (reports.first(), world.sites[index].uploaded.get(&session))
            {
                assert_eq!(report.bytes, packed.len() as u64);
                let report = Report::from_bytes(&report.report).unwrap();
                self.server.add_masked(report, packed).unwrap();
                let session = self.session.clone();
                world.tell_current(index, ToSite::Accepted(wire::Accepted { session }));
            }
        }
        let indices = self.server.fix_survivors().unwrap();
        let indices = indices.into_iter().map(u32::from).collect();
        wire::Survivors { session: self.session.clone(), indices, bitmap: Vec::new() }
    }

    pub(crate) fn sign(&mut self, world: &mut World) {
        let survivors = self.survivors(world);
        for &index in &self.sites.clone() {
            world.tell_current(index, ToSite::Survivors(survivors.clone()));
        }
    }

    pub(crate) fn request(&mut self, world: &mut World) -> wire::Unmask {
        for &index in &self.sites {
            for signature in world.take(index, |message| match message {
                FromSite::SurvivorSignature(signature) => Some(signature.clone()),
                _ => None,
            }) {
                let signature = SurvivorSignature::from_bytes(&signature.signature).unwrap();
                self.server.add_signature(signature).unwrap();
            }
        }
        let signatures = self.server.unmask_request().unwrap();
        let request = signatures.iter().flat_map(|signature| signature.to_bytes()).collect();
        wire::Unmask { session: self.session.clone(), request }
    }

    pub(crate) fn unmask(&mut self, world: &mut World) {
        let request = self.request(world);
        for &index in &self.sites.clone() {
            world.tell_current(index, ToSite::Unmask(request.clone()));
        }
    }

    pub(crate) fn open(&mut self, world: &mut World) -> Sum {
        for &index in &self.sites {
            for reveal in world.take(index, |message| match message {
                FromSite::Reveal(reveal) => Some(reveal.clone()),
                _ => None,
            }) {
                self.server.add_reveal(Reveal::from_bytes(&reveal.reveal).unwrap()).unwrap();
            }
        }
        let (sum, _) = self.server.open().unwrap();
        let outcome = wire::outcome::Result::Committed(vec![9; 32]);
        for &index in &self.sites {
            let session = self.session.clone();
            let outcome = wire::Outcome { session, result: Some(outcome.clone()) };
            world.current.clear();
            world.tell(index, ToSite::Outcome(outcome));
        }
        sum
    }
}

/// A whole honest round.
pub(crate) fn whole_round(world: &mut World, task: &Task, round: &Round, sites: &[usize]) -> Sum {
    let mut rounds = Rounds::start(world, task, round, sites);
    rounds.share(world);
    rounds.report(world);
    rounds.sign(world);
    rounds.unmask(world);
    rounds.open(world)
}
