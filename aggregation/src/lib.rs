//! Koinon's private sum: sites add up their updates so that the coordinator learns the sum and
//! nothing else. Identities and the roster, by which a site knows who the others are, live here
//! too.
//!
//! Secure aggregation after Bonawitz et al. 2017 (section 6, the variant against active
//! adversaries) on the complete graph of 3 to 64 participants, and after Bell et al. 2020 on a
//! random regular graph above, hardened against a malicious coordinator: everything agreed on goes
//! into the seeds and under the signatures, and each site checks participants, floors and survivors
//! itself. `docs/protocol.md` has every byte. What a sum may say about one record is bounded by
//! noise (`noise`) and accounted for in [`privacy`].
//!
//! Deliberately not here: clocks, sockets, files, randomness of its own, any wire format but the
//! canonical bytes of this protocol's messages. Start with the round below, then [`client`] for a
//! site, [`ServerSession`] for the coordinator, [`SessionPlan`] for what both agree on.
//!
//! A whole round of four sites, of which one is lost after the keys were shared:
//!
//! ```
//! use std::collections::BTreeMap;
//! use koinon_aggregation::*;
//! use rand::SeedableRng;
//!
//! // Outside a test: the site's own entropy, its own identity key, and a verified roster.
//! let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
//! let names = ["athens", "corinth", "sparta", "thebes"];
//! let keys = [1, 2, 3, 4].map(|seed| ed25519_dalek::SigningKey::from_bytes(&[seed; 32]));
//! let roster: BTreeMap<String, [u8; 32]> =
//!     names.iter().zip(&keys).map(|(name, key)| (name.to_string(), key.public())).collect();
//!
//! let update = Field { name: UPDATE.into(), len: 2, bound: 1.0, frac_bits: 16, weighted: true };
//! let encoding = EncodingPlan::new(vec![update], Some(1.0), 4, 1000)?;
//! let (session, context, roster_digest) = ([7; 32], [8; 32], [9; 32]);
//! let plan = SessionPlan {
//!     session, context, roster: roster_digest, encoding, n_min: 3,
//!     topology: Topology::Complete,
//! };
//! let mut server = ServerSession::new(plan.clone())?;
//!
//! let mut advertised = Vec::new();
//! for (name, key) in names.iter().zip(&keys) {
//!     let (state, bundle) = client::advertise(plan.clone(), name, key, &mut rng)?;
//!     server.add_bundle(bundle, &roster)?;
//!     advertised.push(state);
//! }
//! server.fix_participants(&names, &roster)?;
//! let mut shared = Vec::new();
//! for (index, (state, key)) in (0..).zip(advertised.into_iter().zip(&keys)) {
//!     let notice = server.notice_for(index)?;
//!     let (state, shares) = state.share(&notice, &roster, 3, key, &mut rng)?;
//!     server.add_shares(shares)?;
//!     shared.push(state);
//! }
//! server.fix_dealers()?;
//! let mut masked = Vec::new();
//! for (index, (state, key)) in (0..).zip(shared.into_iter().zip(&keys)).take(3) {
//!     let (state, _erasures) = state.receive(&server.inbox_for(index)?)?;
//!     let clipped = Clipped::new(&plan.encoding, vec![vec![0.5f32, -0.25].into()], 10)?;
//!     let (state, update) = state.mask(Encoded::new(clipped, &mut rng), key)?;
//!     server.add_masked(update.report, &update.packed)?;
//!     masked.push(state);
//! }
//! let survivors = server.fix_survivors()?; // thebes is lost
//! let mut signed = Vec::new();
//! for (state, key) in masked.into_iter().zip(&keys) {
//!     let (state, signature) = state.sign(&survivors, 3, key)?;
//!     server.add_signature(signature.expect("everybody signs"))?;
//!     signed.push(state);
//! }
//! let signatures = server.unmask_request()?;
//! for (state, key) in signed.into_iter().zip(&keys) {
//!     server.add_reveal(state.reveal(&signatures, key)?.1)?;
//! }
//! let (sum, _transcript) = server.open()?;
//! assert_eq!((sum.n_sites(), sum.weight()), (3, 30));
//! assert_eq!(sum.mean(UPDATE).unwrap(), [0.5, -0.25]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod agree;
pub mod ahead;
pub mod client;
mod codec;
mod encode;
mod error;
mod gf128;
mod graph;
mod hash;
pub mod identity;
mod indices;
pub mod invitation;
pub mod kernel;
pub mod measure;
mod merkle;
mod message;
pub mod noise;
pub mod parameters;
mod participants;
#[doc(hidden)]
pub mod plain;
mod plan;
#[doc(hidden)]
pub mod planted;
pub mod privacy;
mod ring;
pub mod roster;
mod secret;
mod server;
mod shamir;
pub mod signer;
mod stream;
mod topology;
mod transcript;
mod update;
#[cfg(test)]
mod vectors;
mod words;

pub use codec::{CodecError, NAME_BYTES_MAX, is_name};
pub use encode::{ENTRIES_MAX, EncodingPlan, FIELDS_MAX, Field, PlanError, UPDATE, WEIGHT};
pub use error::{Erasure, OpenError, Rejection};
pub use hash::Digest;
pub use indices::Indices;
pub use message::bundle::Bundle;
pub use message::notice::Notice;
pub use message::report::{MaskedUpdate, Report};
pub use message::reveal::Reveal;
pub use message::shares::{Delivery, Shares};
pub use message::survivors::SurvivorSignature;
pub use message::{
    BUNDLE_BYTES_MAX, DELIVERY_BYTES_MAX, NOTICE_BYTES_MAX, REPORT_BYTES, REVEAL_BYTES_MAX,
    SHARES_BYTES_MAX, SURVIVOR_SIGNATURE_BYTES_MAX, Signature,
};
pub use participants::{COMPLETE_MAX, PARTICIPANTS_MAX, PARTICIPANTS_MIN};
pub use plan::{PLAN_BYTES_MAX, PROTOCOL_VERSION, SessionPlan, threshold};
pub use ring::{BITS_MAX, packed_bytes, unpack};
pub use server::{ServerSession, Step};
pub use signer::{Members, Signer};
pub use topology::Topology;
pub use transcript::Transcript;
pub use update::{Clipped, EncodeError, Encoded, Sum, Values};
