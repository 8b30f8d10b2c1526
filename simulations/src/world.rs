//! The world around the cores: virtual time, machines, the wire between them.
//!
//! One loop takes the next event from the queue, hands it to the shipped core it is for, and carries
//! out what the core asks for: writes to that machine's disk in the order the core's law demands,
//! then frames into the network. Between any two of these steps a machine may crash. After every
//! step the [`crate::checker`] looks.
//!
//! It holds no rule of the protocol and reimplements nothing of the roles: it is a carrier, a disk
//! and a clock. Start at [`World::run`].

mod center;
mod edge;
pub(crate) mod setup;

use crate::checker::Checker;
use crate::fault::FaultPlan;
use crate::hub::Hub;
use crate::liars::{CoordinatorLiar, SiteLiar};
use crate::network::Network;
use crate::planted::Planted;
use crate::queue::Queue;
use crate::scenario::SiteSettings;
use crate::site::Site;
use koinon_client::participant::PhaseName;
use koinon_coordinator::event::{Answer, codes};
use koinon_proto::{Digest, Millis, SessionId, SiteId, wire};
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeMap;

/// Everything of one run.
pub(crate) struct World {
    pub(crate) queue: Queue<Happening>,
    pub(crate) network: Network,
    pub(crate) faults: FaultPlan,
    pub(crate) hub: Hub,
    pub(crate) sites: Vec<Site>,
    /// Where each of the sites is among them.
    places: BTreeMap<SiteId, usize>,
    pub(crate) checker: Checker,
    site_liars: Vec<Option<SiteLiar>>,
    hub_liar: Option<CoordinatorLiar>,
    planted: Option<Planted>,
    operator: Operator,
    settings: SiteSettings,
    work_rng: ChaCha20Rng,
    connections: u64,
    /// A restart is tried on paper after so many records.
    replay_every: usize,
    start_ms: Millis,
    horizon_ms: Millis,
    /// The coordinator cannot start any more.
    hub_lost: bool,
    /// When the task's end was first seen.
    ended_ms: Option<Millis>,
    trace: Option<Vec<String>>,
}

/// What can happen.
pub(crate) enum Happening {
    /// The coordinator's machine starts.
    HubStarts,
    /// The coordinator's deadline.
    HubTick,
    /// The operator does the next thing that is not done yet.
    Operate,
    /// The operator wants the task cancelled.
    Cancel,
    /// A connection reaches the coordinator.
    HubConnected { site: usize, connection: u64 },
    /// The coordinator notices that a connection is gone.
    HubDisconnected { site: usize, connection: u64 },
    /// A frame reaches the coordinator.
    Up { site: usize, connection: u64, frame: wire::SiteFrame },
    /// A disk has room again.
    Room(Machine),
    /// A site's machine starts.
    SiteStarts { site: usize },
    /// A site dials.
    Dial { site: usize, life: u64 },
    /// A site notices that its connection is gone.
    SiteDisconnected { site: usize, connection: u64 },
    /// A site's deadline.
    SiteTick { site: usize, life: u64 },
    /// A frame reaches a site.
    Down { site: usize, connection: u64, frame: wire::CoordinatorFrame },
    /// A site's work is done.
    Worked { site: usize, life: u64, session: SessionId },
    /// A site has computed what it agreed on ahead.
    Agreed { site: usize, life: u64 },
    /// A download ends.
    Fetched { site: usize, life: u64, digest: Digest },
}

/// One of the machines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    Hub,
    Site(usize),
}

/// The operator: publishes the roster, submits the task, and asks again until it is told yes.
struct Operator {
    roster: Vec<u8>,
    manifest: Vec<u8>,
    blobs: Vec<Vec<u8>>,
    published: bool,
    task: Option<Digest>,
    cancelled: bool,
    refused: Option<String>,
}

impl World {
    /// Runs until the task has ended and everybody heard of it, or the horizon is reached.
    pub(crate) fn run(&mut self) {
        while let Some((now, happening)) = self.queue.pop() {
            self.checker.counts.events += 1;
            self.happens(now, happening);
            self.checker.time_if_up(now, self.hub.core.is_some());
            if self.over(now) {
                break;
            }
        }
        let now = self.queue.now();
        self.checker.finish(now);
        self.everybody_heard(now);
    }

    /// Long after the end no site may still wait for something. A coordinator that lies can keep
    /// the end from its sites; that is its right to stop a round.
    fn everybody_heard(&mut self, now: Millis) {
        if self.hub_liar.is_some() {
            return;
        }
        for site in 0..self.sites.len() {
            // A liar's own questions never reached the coordinator as such.
            let honest = self.site_liars[site].is_none();
            let Some(core) = self.sites[site].core.as_ref().filter(|_| honest) else { continue };
            let status = core.status();
            if status.connected && status.phase != PhaseName::Idle {
                let (name, phase) = (self.sites[site].name().to_string(), status.phase.word());
                let what = format!("is still {phase} long after the task has ended");
                self.checker.violation(now, name, what);
            }
        }
    }

    /// The machines' clocks when the run began.
    pub(crate) fn start_ms(&self) -> Millis {
        self.start_ms
    }

    /// The time of the run.
    pub(crate) fn elapsed(&self) -> Millis {
        self.queue.now().saturating_sub(self.start_ms)
    }

    /// Whether faults of the scenario may still happen: its times count from the start.
    fn since_start(&self, now: Millis) -> Millis {
        now.saturating_sub(self.start_ms)
    }

    fn happens(&mut self, now: Millis, happening: Happening) {
        match happening {
            Happening::HubStarts => self.hub_starts(now),
            Happening::HubTick => self.hub_tick(now),
            Happening::Operate => self.operate(now),
            Happening::Cancel => self.cancel(now),
            Happening::HubConnected { site, connection } => {
                self.hub_connected(now, site, connection);
            }
            Happening::HubDisconnected { site, connection } => {
                self.hub_disconnected(now, site, connection);
            }
            Happening::Up { site, connection, frame } => self.up(now, site, connection, frame),
            Happening::Room(machine) => self.disk_of(machine).set_full(false),
            Happening::SiteStarts { site } => self.site_starts(now, site),
            Happening::Dial { site, life } => self.dial(now, site, life),
            Happening::SiteDisconnected { site, connection } => {
                self.site_disconnected(now, site, connection);
            }
            Happening::SiteTick { site, life } => self.site_tick(now, site, life),
            Happening::Down { site, connection, frame } => self.down(now, site, connection, frame),
            Happening::Worked { site, life, session } => self.worked(now, site, life, session),
            Happening::Agreed { site, life } => self.agreed(now, site, life),
            Happening::Fetched { site, life, digest } => self.fetched(now, site, life, digest),
        }
    }

    /// The task has ended, and since then everybody had time to hear of it.
    fn over(&mut self, now: Millis) -> bool {
        if let Some(reason) = &self.operator.refused {
            let what = format!("the coordinator refused the operator: {reason}");
            self.checker.violation(now, "operator", what);
            return true;
        }
        if self.since_start(now) >= self.horizon_ms {
            self.checker.violation(now, "run", "the task had not ended at the horizon");
            return true;
        }
        if self.ended_ms.is_none() && self.status().is_some_and(|s| is_end(&s.state)) {
            self.ended_ms = Some(now);
        }
        let settled = self.ended_ms.is_some_and(|ended| now >= ended.saturating_add(SETTLE_MS));
        settled && (self.hub.core.is_some() || self.hub_lost)
    }

    /// The task as the coordinator sees it, while it is up.
    pub(crate) fn status(&self) -> Option<wire::TaskStatus> {
        let task = self.operator.task?;
        self.hub.core.as_ref()?.status(&task)
    }

    fn disk_of(&mut self, machine: Machine) -> &mut crate::memory::Disk {
        match machine {
            Machine::Hub => self.hub.disk(),
            Machine::Site(site) => &mut self.sites[site].disk,
        }
    }

    /// The disk may be full from here on.
    fn perhaps_full(&mut self, now: Millis, machine: Machine) {
        if let Some(length) = self.faults.disk_fills(self.since_start(now)) {
            self.checker.counts.disks_full += 1;
            self.disk_of(machine).set_full(true);
            self.queue.push(now.saturating_add(length), Happening::Room(machine));
        }
    }

    fn note(&mut self, now: Millis, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9} {}", now.saturating_sub(self.start_ms), line()));
        }
    }

    /// The trace, if one was kept.
    pub(crate) fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }

    /// What the coordinator answered the operator.
    fn answered(&mut self, answer: Result<Answer, koinon_coordinator::event::Rejection>) {
        match answer {
            Ok(Answer::RosterPublished { .. }) => self.operator.published = true,
            Ok(Answer::Submitted { task }) => self.operator.task = Some(task),
            Ok(Answer::Cancelled(_)) => self.operator.cancelled = true,
            Ok(_) => {}
            // The task was over before the operator's word came.
            Err(rejection) if rejection.code == codes::TASK_ENDED => self.operator.cancelled = true,
            Err(rejection) => self.operator.refused = Some(rejection.to_string()),
        }
    }
}

/// Whether a task in this state goes no further.
pub(crate) fn is_end(state: &str) -> bool {
    matches!(state, "done" | "failed" | "cancelled")
}

/// Time for the last mail to arrive.
const SETTLE_MS: Millis = 30_000;
