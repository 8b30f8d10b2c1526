//! A site's machine: the shipped participant, a disk, and the site's own program.
//!
//! It starts, crashes and resumes the participant and keeps what it wants kept. What leaves the
//! machine is the world's business. It decides nothing. Start at [`Site::start`].

use crate::memory::{Disk, DiskFull};
use koinon_aggregation::ahead::Agreements;
use koinon_aggregation::identity::Identity;
use koinon_client::participant::{Effect, Event, Participant, Setup};
use koinon_client::policy::Policy;
use koinon_client::trainer::{Contribution, Trainer, WorkError};
use koinon_proto::{Millis, SessionId, SiteId};
use rand_chacha::ChaCha20Rng;
use std::collections::VecDeque;
use zeroize::Zeroizing;

/// A site's machine.
pub(crate) struct Site {
    /// The running participant; none while the machine is down.
    pub(crate) core: Option<Participant>,
    /// Counts starts; what was scheduled for an earlier life is void.
    pub(crate) life: u64,
    /// The site's end of its connection.
    pub(crate) connection: Option<u64>,
    /// When the earliest scheduled tick is due.
    pub(crate) tick_ms: Option<Millis>,
    /// The work under way: what will come of it, held back until its time.
    pub(crate) work: Option<Working>,
    /// What was agreed on ahead, held back likewise.
    pub(crate) agreed: VecDeque<(SessionId, Agreements)>,
    /// The site's own program.
    pub(crate) trainer: Box<dyn Trainer>,
    /// The site's disk.
    pub(crate) disk: Disk,
    setup: SiteSetup,
    rng: ChaCha20Rng,
}

/// Work under way.
pub(crate) struct Working {
    pub(crate) session: SessionId,
    pub(crate) result: Result<Contribution, WorkError>,
}

/// Who the site is.
#[derive(Clone)]
pub(crate) struct SiteSetup {
    pub(crate) site: SiteId,
    pub(crate) coordinator: SiteId,
    pub(crate) identity: [u8; 32],
    pub(crate) consortium_key: [u8; 32],
    pub(crate) policy: Policy,
    pub(crate) heartbeat_ms: Millis,
    pub(crate) chunk_bytes: usize,
}

impl Site {
    /// A machine with an empty disk, not started.
    pub(crate) fn new(setup: SiteSetup, trainer: Box<dyn Trainer>, rng: ChaCha20Rng) -> Site {
        Site {
            core: None,
            life: 0,
            connection: None,
            tick_ms: None,
            work: None,
            agreed: VecDeque::new(),
            trainer,
            disk: Disk::default(),
            setup,
            rng,
        }
    }

    /// The site's name.
    pub(crate) fn name(&self) -> &SiteId {
        &self.setup.site
    }

    /// The site's identity.
    pub(crate) fn identity(&self) -> Identity {
        Identity::from_secret_bytes(&self.setup.identity)
    }

    /// Starts the participant from what the disk holds. An error is a violation: a site must be able
    /// to resume whatever a crash left of its own writes.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        self.life += 1;
        self.core = Some(self.resumed()?);
        Ok(())
    }

    /// Another participant from the same disk: what a restart now would find.
    pub(crate) fn resumed(&self) -> Result<Participant, String> {
        let setup = Setup {
            site: self.setup.site.clone(),
            coordinator: self.setup.coordinator.clone(),
            identity: self.identity(),
            consortium_key: self.setup.consortium_key,
            policy: self.setup.policy.clone(),
            heartbeat_ms: self.setup.heartbeat_ms,
            chunk_bytes: self.setup.chunk_bytes,
        };
        let state = self.disk.file(STATE).map(|bytes| Zeroizing::new(bytes.to_vec()));
        let vector = self.disk.file(VECTOR).map(<[u8]>::to_vec);
        Participant::new(setup, state, vector).map_err(|e| e.to_string())
    }

    /// Lets the participant handle an event; nothing while the machine is down.
    pub(crate) fn handle(&mut self, now: Millis, event: Event) -> Vec<Effect> {
        match &mut self.core {
            Some(core) => core.handle(now, &mut self.rng, event),
            None => Vec::new(),
        }
    }

    /// Replaces the durable state; pending until synced.
    pub(crate) fn put_state(&mut self, bytes: &[u8]) -> Result<(), DiskFull> {
        self.disk.replace(STATE, bytes.to_vec())
    }

    /// Replaces the kept masked update; pending until synced.
    pub(crate) fn put_vector(&mut self, bytes: Vec<u8>) -> Result<(), DiskFull> {
        self.disk.replace(VECTOR, bytes)
    }

    /// Removes the kept masked update.
    pub(crate) fn drop_vector(&mut self) {
        self.disk.remove(VECTOR);
    }

    /// The machine stops; what was not synced is kept, lost or torn.
    pub(crate) fn crash(&mut self, rng: &mut ChaCha20Rng) {
        self.core = None;
        self.connection = None;
        self.work = None;
        self.agreed.clear();
        self.tick_ms = None;
        self.disk.crash(rng);
    }
}

const STATE: &str = "state";
const VECTOR: &str = "vector";
