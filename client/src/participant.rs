//! The participant: a site's part in rounds, as a state machine that touches no world.
//!
//! [`Participant::handle`] takes what happened and returns what to do, in order:
//!
//! ```text
//! Idle → Invited → Training → Sharing → Reporting → Revealing → Idle
//! ```
//!
//! One file a phase. A new invitation that passes the site's checks supersedes from any phase. Before
//! something that may never be said differently leaves (keys, shares, the masked update, the one
//! survivor signature, the one reveal), [`Effect::Persist`] stands in front of it; a site that was
//! killed and is built again from what was persisted says the same bytes or nothing.
//!
//! It is deliberately not a client of anything: no socket, clock, file or thread. The caller executes
//! the effects strictly in order, and stops for good when one that persists fails. `now` is the
//! site's own clock in Unix milliseconds; from it come heartbeats and the validity of identities.
//! Start at [`Setup`], [`Event`] and [`Effect`]; `examples/embed.rs` shows the loop.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use koinon_aggregation::ahead::{Agreement, Agreements, Stock};
use koinon_aggregation::identity::Identity;
use koinon_aggregation::planted::{Weakness, weak};
use koinon_aggregation::roster::SignedRoster;
use koinon_proto::{Digest, Millis, SessionId, SiteId, wire};
use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::durable::Durable;
use crate::error::{Error, Fault, Refusal};
use crate::policy::Policy;
use crate::trainer::{Contribution, Job, WorkError};

mod ahead;
mod answers;
mod check;
mod frames;
mod gather;
mod invited;
mod link;
mod note;
mod offers;
mod phase;
mod private;
mod reporting;
mod resume;
mod revealing;
mod roster;
mod sharing;
mod training;
mod view;

pub use view::{Offered, PhaseName, Status, Upload};

use ahead::Ahead;
use link::Link;
use offers::Offer;
use phase::Phase;

/// Who the site is and what it holds to.
pub struct Setup {
    /// The site's name in the roster.
    pub site: SiteId,
    /// The coordinator's name in the roster.
    pub coordinator: SiteId,
    /// The site's identity key.
    pub identity: Identity,
    /// The consortium's public key, pinned when the site joined.
    pub consortium_key: [u8; 32],
    /// The site's policy.
    pub policy: Policy,
    /// How often a hello is sent; [`HEARTBEAT_MS`] unless there is a reason.
    pub heartbeat_ms: Millis,
    /// Length of the chunks of an upload; [`koinon_proto::limits::CHUNK_BYTES_DEFAULT`] unless there
    /// is a reason. An upload under way goes on with the length it began with.
    pub chunk_bytes: usize,
}

/// The usual time between two hellos.
pub const HEARTBEAT_MS: Millis = 10_000;

/// What happened.
pub enum Event {
    /// The carrier to the coordinator is up: a new stream, on which nothing was sent yet.
    Connected,
    /// The carrier is gone. Fetches under way are forgotten and asked for again.
    Disconnected,
    /// A frame came from the coordinator.
    Frame(wire::CoordinatorFrame),
    /// A blob that was asked for by [`Effect::Fetch`].
    Blob {
        /// The digest it was asked for by.
        digest: Digest,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A blob cannot be had.
    BlobFailed {
        /// The digest it was asked for by.
        digest: Digest,
    },
    /// The work of [`Effect::Work`] ended.
    Worked {
        /// The job's session.
        session: SessionId,
        /// The contribution, or why there is none.
        result: Result<Contribution, WorkError>,
    },
    /// The products of [`Effect::Agree`] are computed.
    Agreed {
        /// The session they are for.
        session: SessionId,
        /// The products.
        agreements: Agreements,
    },
    /// The policy file changed.
    Policy(Policy),
    /// The site's operator pauses it: no new rounds; one that is under way is finished.
    Pause,
    /// The site's operator lets it go on.
    Resume,
    /// Time passed.
    Tick,
}

/// What to do, in order.
pub enum Effect {
    /// Replace the durable state by these bytes, durably, before anything after this.
    Persist(Zeroizing<Vec<u8>>),
    /// Replace the kept masked update by these bytes, durably, before anything after this.
    PersistVector {
        /// The session it belongs to.
        session: SessionId,
        /// The packed masked words: they may leave, and will. Shared with the upload, because they may
        /// be most of what a site holds.
        bytes: Arc<Vec<u8>>,
    },
    /// The kept masked update is not needed any more.
    DropVector,
    /// Let this frame out, through the egress door.
    Send(wire::SiteFrame),
    /// Get the blob with this digest.
    Fetch(Digest),
    /// Do this work; stop other work first.
    Work(Box<Job>),
    /// Stop the work for this session; its result is not wanted.
    StopWork {
        /// The session.
        session: SessionId,
    },
    /// Run this on a thread of its own and hand in [`Event::Agreed`]: nothing waits for it, and what is
    /// not there when it is needed is computed then.
    Agree {
        /// The session it is for.
        session: SessionId,
        /// What to compute.
        agreement: Box<Agreement>,
    },
    /// Something the site's people may want to know: ids and counts only.
    Note(Note),
}

/// Something the site's people may want to know. Never holds a value of the site's data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// The coordinator answered; the mailbox works.
    Welcomed,
    /// A newer roster is in force.
    Roster {
        /// Its version.
        version: u64,
        /// Its digest.
        digest: Digest,
        /// Whether this site is in it as a client that counts.
        member: bool,
    },
    /// A task waits for somebody at the site to approve its digest.
    AwaitingApproval {
        /// The manifest's digest.
        task: Digest,
    },
    /// The site's policy said no to an offered task, or to an invitation into a session.
    Refused {
        /// The task, where it is known.
        task: Option<Digest>,
        /// The session; none when the task was only offered.
        session: Option<SessionId>,
        /// Why.
        refusal: Refusal,
    },
    /// A phase of a session began.
    Phase {
        /// The session.
        session: SessionId,
        /// The phase.
        phase: PhaseName,
    },
    /// The coordinator has so many chunks of the masked update.
    Uploaded {
        /// The session.
        session: SessionId,
        /// Chunks it has.
        acknowledged: u32,
        /// Chunks there are.
        total: u32,
    },
    /// The coordinator confirmed that the masked update is durable there.
    Accepted {
        /// The session.
        session: SessionId,
    },
    /// A session ended, and how.
    Ended {
        /// The session.
        session: SessionId,
        /// How.
        ending: Ending,
    },
    /// A message of the coordinator was bad: nothing changed.
    Fault {
        /// What was wrong.
        fault: Fault,
        /// The protocol's own code, where it has one.
        code: &'static str,
    },
    /// The coordinator rejected a message of this site.
    Rejected {
        /// Its code, cut to the wire's limit.
        code: String,
    },
    /// The work of a private round failed; noise alone is sent, so that nobody learns of it.
    Nothing {
        /// The session.
        session: SessionId,
        /// Why: the code that would have left the site in another round.
        code: &'static str,
    },
    /// Too much mail is not receipted; a message was left out and is sent again later.
    MailboxFull,
}

/// How a session ended for this site.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// The round committed; the digest is of the new version or of the fitted statistics.
    Committed(Digest),
    /// The round was given up, with the coordinator's reason.
    Abandoned(String),
    /// Another session took its place.
    Superseded,
    /// This site could not go on; the code is what the coordinator was told.
    Failed(&'static str),
    /// This site's policy does not permit it any more.
    Withdrawn(Refusal),
}

/// A site's part in rounds.
pub struct Participant {
    setup: Setup,
    durable: Durable,
    roster: Option<SignedRoster>,
    /// A newer roster that was announced.
    roster_wanted: Option<RosterWanted>,
    link: Link,
    /// Mail that waits for the roster that is being fetched.
    held: VecDeque<wire::Mail>,
    offers: BTreeMap<Digest, Offer>,
    /// The last check-in of this epoch, without a head.
    checked_in: Option<wire::CheckIn>,
    /// Keys that wait for a session. They are nowhere else.
    stock: Stock,
    /// When keys were posted last.
    posted_ms: Option<Millis>,
    /// What was done ahead for the session that the site is in.
    ahead: Option<Ahead>,
    phase: Phase,
    paused: bool,
    /// The session of the state as it was read, before anything of it was dropped.
    found: Option<resume::Found>,
}

struct RosterWanted {
    digest: Digest,
    /// Whether an [`Effect::Fetch`] for it is unanswered.
    fetching: bool,
}

/// One call of [`Participant::handle`]: its arguments, and the effects so far.
struct Turn<'a> {
    now: Millis,
    rng: &'a mut dyn CryptoRng,
    out: Vec<Effect>,
}

impl Turn<'_> {
    fn push(&mut self, effect: Effect) {
        self.out.push(effect);
    }

    fn note(&mut self, note: Note) {
        self.push(Effect::Note(note));
    }

    fn fault(&mut self, fault: Fault) {
        self.note(Note::Fault { fault, code: fault.code() });
    }
}

impl Participant {
    /// A site with what it persisted last: the durable state and the masked update kept beside it.
    /// Both are `None` for a site that has just joined.
    ///
    /// # Errors
    /// When the state cannot be resumed; see [`crate::durable::StateError`].
    pub fn new(
        setup: Setup,
        durable: Option<Zeroizing<Vec<u8>>>,
        vector: Option<Vec<u8>>,
    ) -> Result<Self, Error> {
        resume::resume(setup, durable, vector)
    }

    /// Takes what happened at `now` (Unix milliseconds) and returns what to do, in order. `rng` is the
    /// site's own entropy: keys, shares and rounding come from it.
    pub fn handle(&mut self, now: Millis, rng: &mut dyn CryptoRng, event: Event) -> Vec<Effect> {
        let mut turn = Turn { now, rng, out: Vec::new() };
        match event {
            Event::Connected => self.connected(&mut turn),
            Event::Disconnected => self.link.disconnected(),
            Event::Frame(frame) => self.frame(&mut turn, frame),
            Event::Blob { digest, bytes } => self.blob(&mut turn, digest, bytes),
            Event::BlobFailed { digest } => self.blob_failed(&mut turn, digest),
            Event::Worked { session, result } => self.worked(&mut turn, session, result),
            Event::Agreed { session, agreements } => self.agreed(session, agreements),
            Event::Policy(policy) => self.adopt_policy(&mut turn, policy),
            Event::Pause => self.pause(&mut turn, true),
            Event::Resume => self.pause(&mut turn, false),
            Event::Tick => {}
        }
        self.beat(&mut turn);
        turn.out
    }

    /// When [`Participant::handle`] wants a [`Event::Tick`], if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.link.next_hello_ms()
    }

    fn blob(&mut self, turn: &mut Turn<'_>, digest: Digest, bytes: Vec<u8>) {
        if Digest::of(&bytes) != digest && !weak(Weakness::AnyBlob) {
            turn.fault(Fault::Digest);
            return self.blob_failed(turn, digest);
        }
        if self.roster_wanted.as_ref().is_some_and(|wanted| wanted.digest == digest) {
            return self.roster_arrived(turn, bytes);
        }
        self.blob_arrived(turn, digest, bytes);
    }

    fn blob_failed(&mut self, turn: &mut Turn<'_>, digest: Digest) {
        if let Some(wanted) = self.roster_wanted.as_mut().filter(|wanted| wanted.digest == digest) {
            // It is asked for again with the next welcome; until then mail is read as it can be.
            wanted.fetching = false;
            return self.release_held(turn);
        }
        self.blob_missing(turn, digest);
    }

    fn adopt_policy(&mut self, turn: &mut Turn<'_>, policy: Policy) {
        self.setup.policy = policy;
        if let Some(round) = self.phase.round()
            && let Err(refusal) =
                offers::permitted(&self.setup.policy, &round.task, &round.manifest).and_then(|()| {
                    private::affordable(round, &self.setup.policy, &self.durable.budget)
                })
        {
            self.withdraw(turn, refusal);
        }
        self.check_in(turn);
    }

    fn pause(&mut self, turn: &mut Turn<'_>, paused: bool) {
        self.paused = paused;
        self.check_in(turn);
    }
}
