//! The coordinator: schedules rounds, keeps versions and the journal, and only ever sees sums.
//!
//! The core is pure: [`Coordinator::handle`] takes an [`Event`] and gives [`Effect`]s, with time and
//! randomness as arguments. It decides nothing by a clock of its own, opens no file and no socket,
//! and never holds more of a site than what the private sum lets it see. The shell around it (feature
//! `server`, on by default) owns the journal, the blobs, TLS and the streams; the simulator drives the
//! very same core.
//!
//! Decisions are [`record`]s: written down before anything follows from them, joined into a hash
//! chain ([`journal`]), and enough to rebuild everything that was promised to anybody
//! ([`Coordinator::recover`]). What was accepted survives `kill -9`, between any two effects.
//!
//! Deliberately not here: the cryptography of the sum (`koinon_aggregation`), models and their
//! arithmetic (`koinon_model`, without its engine), and trust in the coordinator: what it promises,
//! every site checks again.
//!
//! Start at [`event`], then [`Coordinator`], then a phase in `round/`.
//!
//! ```
//! use koinon_aggregation::identity::Identity;
//! use koinon_coordinator::{Coordinator, Effect, Event, Setup};
//! use koinon_proto::SiteId;
//! # use rand::SeedableRng;
//! # let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
//!
//! let setup = || Setup {
//!     name: SiteId::new("coordinator").unwrap(),
//!     identity: Identity::from_secret_bytes(&[1; 32]),
//!     consortium_key: [2; 32],
//! };
//! let mut coordinator = Coordinator::new(setup());
//! let mut effects = coordinator.boot(1_000, &mut rng);
//! effects.extend(coordinator.handle(1_000, &mut rng, Event::Tick));
//!
//! // The driver writes the records before it does anything else; after a crash they are enough.
//! let records = effects.into_iter().filter_map(|effect| match effect {
//!     Effect::Record(record) => Some(record),
//!     _ => None,
//! });
//! let again = Coordinator::recover(setup(), records.collect(), &|_| None).unwrap();
//! assert_eq!(again.state_digest(), coordinator.state_digest());
//! ```

pub mod cohort;
mod coordinator;
mod error;
pub mod event;
pub mod figures;
pub mod journal;
mod keys;
mod members;
pub mod optimizer;
mod places;
mod post;
pub mod record;
pub mod registry;
mod round;
#[cfg(feature = "server")]
pub mod server;
mod state;
mod task;
mod upload;

pub use coordinator::{Coordinator, Setup, named_blobs};
pub use error::ReplayError;
pub use event::{Answer, Effect, Event, Rejection};
pub use journal::{Journal, JournalError};
pub use record::Record;
pub use round::Kind;
