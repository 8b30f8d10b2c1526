//! Peers that lie: a site's frames and the coordinator's frames, changed on their way out.
//!
//! A liar holds its own identity, so its lies are properly signed; it has no other secret. The cores
//! behind it are the shipped ones and know nothing of it. What must hold nevertheless is in
//! [`crate::checker`].
//!
//! Start at [`SiteLiar::up`] and [`CoordinatorLiar::down`].

mod coordinator;
mod site;

pub(crate) use coordinator::CoordinatorLiar;
pub(crate) use site::SiteLiar;

use koinon_aggregation::Signer as _;
use koinon_aggregation::identity::Identity;
use koinon_proto::{PROTOCOL, envelope, wire};
use rand::RngExt;
use rand_chacha::ChaCha20Rng;

/// Who signs the lies.
pub(crate) struct Pen {
    pub(crate) name: String,
    pub(crate) identity: Identity,
    pub(crate) rng: ChaCha20Rng,
}

impl Pen {
    /// A body in a new envelope to the same recipient.
    fn sealed(&self, recipient: &str, body: Vec<u8>) -> wire::Envelope {
        envelope::seal(PROTOCOL.max, &self.name, recipient, body, |m| self.identity.sign(m))
    }

    fn chance(&mut self, share: f64) -> bool {
        self.rng.random_bool(share)
    }

    /// Flips one bit in the last `share` of the bytes.
    fn flip(&mut self, bytes: &mut [u8], from: usize) {
        if from < bytes.len() {
            let place = self.rng.random_range(from..bytes.len());
            bytes[place] ^= 1 << self.rng.random_range(0..8u8);
        }
    }

    /// Makes bytes shorter or longer.
    fn resize(&mut self, bytes: &mut Vec<u8>) {
        if self.chance(0.5) {
            bytes.truncate(self.rng.random_range(0..=bytes.len()));
        } else {
            let more = self.rng.random_range(1..64usize);
            bytes.resize(bytes.len() + more, 7);
        }
    }
}
