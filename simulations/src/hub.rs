//! The coordinator's machine: the shipped core, a disk, and the law between them.
//!
//! It starts, crashes and recovers the core and writes what the core wants written, in the order the
//! core's [`Effect`] demands. What leaves the machine is the world's business. It decides nothing.
//! Start at [`Hub::start`] and [`Hub::write`].

use crate::memory::{Disk, DiskFull};
use koinon_aggregation::identity::Identity;
use koinon_coordinator::event::Effect;
use koinon_coordinator::journal::{Chain, Entry};
use koinon_coordinator::record::Record;
use koinon_coordinator::{Coordinator, Setup};
use koinon_proto::{Digest, Millis, SiteId};
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeMap;

/// The coordinator's machine.
pub(crate) struct Hub {
    /// The running core; none while the machine is down.
    pub(crate) core: Option<Coordinator>,
    /// The connection that counts, by site.
    pub(crate) connections: BTreeMap<usize, u64>,
    /// When the earliest scheduled tick is due.
    pub(crate) tick_ms: Option<Millis>,
    /// A restart is next tried on paper at so many records.
    pub(crate) replay_at: usize,
    /// The journal's records, each read back from the disk when it was durable.
    journal: Vec<Record>,
    name: SiteId,
    identity: [u8; 32],
    consortium_key: [u8; 32],
    chain: Chain,
    disk: Disk,
    rng: ChaCha20Rng,
}

/// Where a write may be interrupted.
pub(crate) enum Interrupted {
    /// The machine stops here.
    Crash,
    /// The disk takes no more.
    Full,
    /// What was written cannot be read back.
    Unreadable(String),
}

impl From<DiskFull> for Interrupted {
    fn from(_: DiskFull) -> Interrupted {
        Interrupted::Full
    }
}

/// Who the coordinator is.
pub(crate) struct HubSetup {
    pub(crate) name: SiteId,
    pub(crate) identity: [u8; 32],
    pub(crate) consortium_key: [u8; 32],
}

impl Hub {
    /// A machine with an empty disk, not started.
    pub(crate) fn new(setup: HubSetup, rng: ChaCha20Rng) -> Hub {
        Hub {
            core: None,
            connections: BTreeMap::new(),
            tick_ms: None,
            replay_at: 0,
            journal: Vec::new(),
            name: setup.name,
            identity: setup.identity,
            consortium_key: setup.consortium_key,
            chain: Chain::default(),
            disk: Disk::default(),
            rng,
        }
    }

    /// Starts the core from what the disk holds. With the first effects come the records that were
    /// being written when the machine stopped and turned out to be kept. Errors are violations: a
    /// coordinator that cannot read its own journal has lost what it promised.
    pub(crate) fn start(&mut self, now: Millis) -> Result<(Vec<Effect>, Vec<Record>), String> {
        let seen = self.journal.len();
        (self.journal, self.chain) = (Vec::new(), Chain::default());
        self.read_on()?;
        let kept = self.journal.get(seen..).unwrap_or_default().to_vec();
        self.tick_ms = None;
        let core = self.recovered()?;
        let effects = self.core.insert(core).boot(now, &mut self.rng);
        Ok((effects, kept))
    }

    /// Lets the core handle an event; nothing while the machine is down.
    pub(crate) fn handle(
        &mut self,
        now: Millis,
        event: koinon_coordinator::event::Event,
    ) -> Vec<Effect> {
        match &mut self.core {
            Some(core) => core.handle(now, &mut self.rng, event),
            None => Vec::new(),
        }
    }

    /// Keeps the law's first half: blobs durable, then all records in one synced transaction.
    /// `interrupt` is asked before every write and every sync; `keep` says which records are
    /// written, which is all of them but for planted bugs.
    pub(crate) fn write(
        &mut self,
        effects: &[Effect],
        interrupt: &mut dyn FnMut() -> bool,
        keep: &dyn Fn(&Record) -> bool,
    ) -> Result<Vec<Record>, Interrupted> {
        let mut check = || if interrupt() { Err(Interrupted::Crash) } else { Ok(()) };
        for effect in effects {
            if let Effect::Blob { digest, bytes } = effect {
                check()?;
                self.disk.put(&digest.to_string(), bytes.clone())?;
                check()?;
                self.disk.sync()?;
            }
        }
        let records = effects.iter().filter_map(|effect| match effect {
            Effect::Record(record) if keep(record) => Some(record),
            _ => None,
        });
        let mut chain = self.chain;
        let entries: Vec<Vec<u8>> = records.map(|record| stored(&chain.append(record))).collect();
        let before = self.journal.len();
        if !entries.is_empty() {
            check()?;
            self.disk.append(entries)?;
            check()?;
            self.disk.sync()?;
            self.read_on().map_err(Interrupted::Unreadable)?;
        }
        Ok(self.journal[before..].to_vec())
    }

    /// How many records are durable.
    pub(crate) fn written(&self) -> usize {
        self.journal.len()
    }

    /// The machine stops; what was not synced is kept, lost or torn.
    pub(crate) fn crash(&mut self, rng: &mut ChaCha20Rng) {
        self.core = None;
        self.connections.clear();
        self.disk.crash(rng);
    }

    /// Removes a blob.
    pub(crate) fn forget(&mut self, digest: &Digest) {
        self.disk.remove(&digest.to_string());
    }

    /// A blob as it lies on the disk.
    pub(crate) fn blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.disk.file(&digest.to_string()).map(<[u8]>::to_vec)
    }

    /// The disk, to fill it or to make room.
    pub(crate) fn disk(&mut self) -> &mut Disk {
        &mut self.disk
    }

    /// The durable state's digest as a restart now would find it.
    pub(crate) fn replayed(&self) -> Result<Digest, String> {
        Ok(self.recovered()?.state_digest())
    }

    /// Reads the entries of the journal that were not read yet.
    fn read_on(&mut self) -> Result<(), String> {
        for bytes in &self.disk.journal()[self.journal.len()..] {
            let entry = loaded(bytes).ok_or("a journal entry cannot be read")?;
            self.journal.push(self.chain.follow(&entry).map_err(|e| e.to_string())?);
        }
        Ok(())
    }

    fn recovered(&self) -> Result<Coordinator, String> {
        let setup = Setup {
            name: self.name.clone(),
            identity: Identity::from_secret_bytes(&self.identity),
            consortium_key: self.consortium_key,
        };
        if self.journal.is_empty() {
            return Ok(Coordinator::new(setup));
        }
        let records = self.journal.clone();
        Coordinator::recover(setup, records, &|digest| self.blob(digest)).map_err(|e| e.to_string())
    }
}

/// An entry as bytes: index, previous digest, payload.
fn stored(entry: &Entry) -> Vec<u8> {
    let index = entry.index.to_le_bytes();
    [&index[..], entry.previous.as_bytes(), &entry.payload].concat()
}

fn loaded(bytes: &[u8]) -> Option<Entry> {
    let (index, rest) = bytes.split_first_chunk::<8>()?;
    let (previous, payload) = rest.split_first_chunk::<32>()?;
    let index = u64::from_le_bytes(*index);
    Some(Entry { index, previous: Digest(*previous), payload: payload.to_vec() })
}
