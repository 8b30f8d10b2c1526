//! A site's stock: one-time keys that wait to be named by a session.
//!
//! Keys leave the stock once. They are in memory and nowhere else; there are no bytes of a stock, and
//! no way to print one. Start at [`Stock::make`].

use rand::CryptoRng;

use super::BATCH_KEYS;
use super::batch::{Batch, Named};
use crate::agree;
use crate::participants::PublicKeys;
use crate::planted::{Weakness, weak};
use crate::secret::Secret;
use crate::signer::Signer;

/// The private and the public keys with which a site enters one session.
pub struct OneTimeKeys {
    /// Of the channel and of the mask, in one place from the moment they are drawn.
    secret: Box<[Secret<32>; 2]>,
    pub(crate) public: PublicKeys,
}

impl OneTimeKeys {
    /// Fresh keys: 64 bytes of `rng`, the channel's first.
    pub fn draw(rng: &mut dyn CryptoRng) -> Self {
        let mut secret = Box::new([Secret::new([0; 32]), Secret::new([0; 32])]);
        secret.iter_mut().for_each(|key| key.fill(rng));
        let public =
            PublicKeys { channel: agree::public(&secret[0]), mask: agree::public(&secret[1]) };
        Self { secret, public }
    }

    /// The private channel key.
    pub(crate) fn channel(&self) -> &Secret<32> {
        &self.secret[0]
    }

    /// The private mask key.
    pub(crate) fn mask(&self) -> &Secret<32> {
        &self.secret[1]
    }
}

/// The keys that wait: of the batch posted last, and what is left of the one before, which may have
/// been named when the last was on its way.
#[derive(Default)]
pub struct Stock {
    newest: Option<Held>,
    before: Option<Held>,
}

/// What is left of a batch.
struct Held {
    batch: Batch,
    keys: Vec<Option<OneTimeKeys>>,
}

impl Stock {
    /// Makes a batch for the log of that keeper. Of the batch before the last nothing is kept.
    pub fn make(
        &mut self,
        keeper: &[u8; 32],
        site: &str,
        signer: &dyn Signer,
        rng: &mut dyn CryptoRng,
    ) -> &Batch {
        let keys: Vec<OneTimeKeys> = (0..BATCH_KEYS).map(|_| OneTimeKeys::draw(rng)).collect();
        let public = keys.iter().map(|keys| keys.public).collect();
        let batch = Batch::new(keeper, site, public, signer);
        self.before = self.newest.take();
        let keys = keys.into_iter().map(Some).collect();
        &self.newest.insert(Held { batch, keys }).batch
    }

    /// The batch made last.
    #[must_use]
    pub fn newest(&self) -> Option<&Batch> {
        self.newest.as_ref().map(|held| &held.batch)
    }

    /// How many of its keys were not taken.
    #[must_use]
    pub fn left(&self) -> usize {
        self.newest.as_ref().map_or(0, |held| held.keys.iter().flatten().count())
    }

    /// Takes the keys that are named, for good: none if they are not there, or not any more.
    pub fn take(&mut self, named: &Named) -> Option<OneTimeKeys> {
        let all = [&mut self.newest, &mut self.before];
        let mut keys = all.into_iter().flatten().flat_map(|held| &mut held.keys);
        let slot = keys.find(|slot| slot.as_ref().is_some_and(|keys| keys.public == named.keys))?;
        if weak(Weakness::KeyAgain) {
            return slot.as_ref().map(OneTimeKeys::duplicate);
        }
        slot.take()
    }

    /// Forgets everything: the site has left the log that the keys were made for.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl OneTimeKeys {
    /// The same keys twice, for tests of what notices it.
    fn duplicate(&self) -> Self {
        let secret = Box::new([self.channel().duplicate(), self.mask().duplicate()]);
        Self { secret, public: self.public }
    }
}
