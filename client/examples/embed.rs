//! A hospital's own program: it embeds the participant with a trainer of its own.
//!
//! Koinon's daemon is one program around [`Participant`]; this is another one in a page. It brings
//! what a program must bring: a carrier for frames (here a queue; in a hospital whatever its proxy lets
//! through), a disk, a way to fetch blobs, and [`Trainer`], behind which the hospital's own software
//! does the work. What it must not do is in three rules, marked below: effects strictly in order,
//! durable before anything after, and nothing out but through the door.
//!
//! `cargo run -p koinon-client --example embed` runs it without a coordinator: it says hello and asks
//! for nothing, and its ledger has one entry.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs, process};

use koinon_aggregation::Signer as _;
use koinon_aggregation::identity::Identity;
use koinon_client::egress::{Carrier, CarryError, Door, leaving_of};
use koinon_client::ledger::file::{self, FileStore};
use koinon_client::participant::HEARTBEAT_MS;
use koinon_client::report::Figures;
use koinon_client::trainer::{Contribution, Job, Trainer, Work, WorkError};
use koinon_client::{Effect, Event, Participant, Policy, Setup};
use koinon_model::contribution::{FieldChoice, fields};
use koinon_proto::{SiteId, limits, wire};
use rand::rngs::SysRng;
use rand::{CryptoRng, SeedableRng as _};

/// The hospital's own training: any language, any library, as long as it fills the task's fields.
struct OwnTrainer;

impl Trainer for OwnTrainer {
    fn work(&mut self, job: &Job, stop: &dyn Fn() -> bool) -> Result<Work, WorkError> {
        if stop() {
            return Err(WorkError::Stopped);
        }
        let choice = &job.manifest.encoding;
        let choice = FieldChoice {
            update_bound: choice.update_bound,
            frac_bits: choice.frac_bits,
            rows_max: choice.rows_max,
            private: job.manifest.privacy.is_some(),
            count_frac_bits: job.manifest.count_frac_bits(),
        };
        // Here `job.params` would go out to the hospital's software, and its update come back. This
        // one learned nothing: an update of zeros.
        let trainable = job.spec.as_ref().map_or(0, |spec| spec.layout().trainable());
        let fields = fields(job.kind, trainable, &job.features, &choice);
        let values = fields.iter().map(|field| vec![0.0; field.len]).collect();
        Ok(Work { contribution: Contribution { weight: 1, values }, figures: Figures::default() })
    }
}

/// The carrier: whatever takes a frame to the coordinator. gRPC in Koinon's own daemon; a long poll, a
/// message queue or a file drop would do. It may lose and repeat, the mailbox makes up for it.
#[derive(Default)]
struct Wire {
    outgoing: VecDeque<wire::SiteFrame>,
}

impl Carrier<wire::SiteFrame> for Wire {
    fn carry(&mut self, frame: wire::SiteFrame) -> Result<(), CarryError> {
        self.outgoing.push_back(frame);
        Ok(())
    }
}

/// Everything around the participant.
struct Program<'a> {
    folder: &'a Path,
    coordinator: SiteId,
    participant: Participant,
    door: Door<FileStore>,
    wire: Wire,
    trainer: OwnTrainer,
}

impl Program<'_> {
    /// Hands an event to the participant and does what it wants. Rule 1: strictly in order.
    fn on(&mut self, rng: &mut dyn CryptoRng, event: Event) -> Result<(), Box<dyn Error>> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.participant.handle(now_ms(), rng, event) {
                events.extend(self.perform(effect)?);
            }
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) -> Result<Option<Event>, Box<dyn Error>> {
        match effect {
            // Rule 2: durable before anything after it; an error ends the program.
            Effect::Persist(state) => replace(&self.folder.join("state"), &state)?,
            Effect::PersistVector { bytes, .. } => replace(&self.folder.join("vector"), &bytes)?,
            Effect::DropVector => fs::remove_file(self.folder.join("vector"))?,
            // Rule 3: nothing leaves but through the door.
            Effect::Send(frame) => {
                let leaving = leaving_of(&frame, &self.coordinator);
                match self.door.send(now_ms(), &leaving, frame, &mut self.wire) {
                    Err(error) if error.is_fatal() => return Err(error.into()),
                    Err(error) => println!("not sent: {error}"),
                    Ok(()) => println!("sent: {}", leaving.kind.word()),
                }
            }
            // A real program asks the coordinator by `FetchRequest`, through the door as well.
            Effect::Fetch(digest) => return Ok(Some(Event::BlobFailed { digest })),
            // A real program works in a thread of its own, so that mail is answered meanwhile.
            Effect::Work(job) => {
                let result = self.trainer.work(&job, &|| false).map(|work| work.contribution);
                return Ok(Some(Event::Worked { session: job.session, result }));
            }
            Effect::StopWork { .. } => {}
            Effect::Agree { session, agreement } => {
                return Ok(Some(Event::Agreed { session, agreements: agreement.run() }));
            }
            Effect::Note(note) => println!("note: {note:?}"),
        }
        Ok(None)
    }
}

/// Replaces a file durably: a new one beside it, synced, renamed, and the folder synced.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes)?;
    fs::File::open(&beside)?.sync_all()?;
    fs::rename(&beside, path)?;
    if let (false, Some(folder)) = (cfg!(windows), path.parent()) {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::temp_dir().join(format!("koinon-embed-{}", process::id()));
    fs::create_dir_all(&folder)?;
    let mut rng = rand::rngs::StdRng::try_from_rng(&mut SysRng)?;

    // What joining leaves on the disk: an identity, the pinned consortium key, a policy.
    let identity = Identity::generate(&mut rng);
    let consortium_key = Identity::generate(&mut rng).public();
    let policy = Policy::parse(Policy::template(), "policy.toml")?;
    let setup = Setup {
        site: SiteId::new("hospital-05")?,
        coordinator: SiteId::new("coordinator")?,
        identity,
        consortium_key,
        policy: policy.clone(),
        heartbeat_ms: HEARTBEAT_MS,
        chunk_bytes: limits::CHUNK_BYTES_DEFAULT,
    };
    // After a restart: what was persisted last, or nothing.
    let state = fs::read(folder.join("state")).ok().map(Into::into);
    let vector = fs::read(folder.join("vector")).ok();

    let (ledger, recovered) = file::open(&folder.join("ledger.jsonl"))?;
    println!("ledger: {} entries", recovered.head.entries);
    let coordinator = setup.coordinator.clone();
    let participant = Participant::new(setup, state, vector)?;
    // A state from a backup is older than the ledger, and is not resumed.
    participant.check_ledger(&file::read(&folder.join("ledger.jsonl"))?)?;
    let mut program = Program {
        folder: &folder,
        coordinator,
        participant,
        door: Door::new(policy, ledger),
        wire: Wire::default(),
        trainer: OwnTrainer,
    };

    // The loop of a real program: wait for a frame, a blob, finished work or the next deadline, and
    // hand it on. This one has nobody to talk to.
    program.on(&mut rng, Event::Connected)?;
    program.on(&mut rng, Event::Tick)?;
    println!("next heartbeat at {:?}", program.participant.next_deadline());
    println!("on the wire: {} frame(s)", program.wire.outgoing.len());
    println!("ledger: {} entries", program.door.ledger().head().entries);
    program.on(&mut rng, Event::Disconnected)?;
    fs::remove_dir_all(&folder)?;
    Ok(())
}
