//! Agreeing ahead: the X25519 products that a session will need, computed while nothing waits for them.
//!
//! A product is a function of a private and a public key, so that one found here is the one that would
//! be computed in its place; what is not found is computed. Start at [`Agreement`].

use std::sync::Arc;

use super::batch::Named;
use super::stock::OneTimeKeys;
use crate::agree::agree_all;
use crate::secret::Secret;

/// Products to be computed; worth a thread of its own. It holds private keys.
pub struct Agreement {
    own: Vec<Own>,
    /// With which of the own keys, and whose public one.
    with: Vec<(usize, [u8; 32])>,
}

/// A pair of this site's.
pub(crate) struct Own {
    pub(crate) public: [u8; 32],
    pub(crate) private: Secret<32>,
}

/// Products that were computed. Wiped when dropped.
pub struct Agreements {
    /// Own public key, the other's, and where its product is; in order.
    of: Vec<([u8; 32], [u8; 32], usize)>,
    products: Vec<Option<Secret<32>>>,
}

impl Agreement {
    /// With everybody who is named but the site itself, by its keys.
    #[must_use]
    pub fn with_named(keys: &OneTimeKeys, site: &str, all: &[Named]) -> Self {
        let own = vec![
            Own { public: keys.public.channel, private: keys.channel().duplicate() },
            Own { public: keys.public.mask, private: keys.mask().duplicate() },
        ];
        let others = all.iter().filter(|named| named.site() != site);
        let with = others.flat_map(|named| [(0, named.keys.channel), (1, named.keys.mask)]);
        Self { own, with: with.collect() }
    }

    /// Of one own key with many others.
    pub(crate) fn of(own: Own, others: impl Iterator<Item = [u8; 32]>) -> Self {
        Self { own: vec![own], with: others.map(|other| (0, other)).collect() }
    }

    /// How many products there are to compute.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with.len()
    }

    /// Whether there is nothing to compute.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.with.is_empty()
    }

    /// Computes them.
    #[must_use]
    pub fn run(&self) -> Agreements {
        let pairs: Vec<_> =
            self.with.iter().map(|(own, other)| (&self.own[*own].private, other)).collect();
        let products = agree_all(&pairs);
        let of = self.with.iter().enumerate();
        let mut of: Vec<_> =
            of.map(|(at, (own, other))| (self.own[*own].public, *other, at)).collect();
        of.sort_unstable();
        Agreements { of, products }
    }
}

impl Agreements {
    fn find(&self, own: &[u8; 32], other: &[u8; 32]) -> Option<&Secret<32>> {
        let key = (own, other);
        let at = self.of.binary_search_by(|(own, other, _)| (own, other).cmp(&key)).ok()?;
        self.products[self.of[at].2].as_ref()
    }
}

/// What was agreed on ahead, as far as a state knows of it.
#[derive(Clone, Default)]
pub(crate) struct Known(pub(crate) Vec<Arc<Agreements>>);

impl Known {
    pub(crate) fn has(&self, own: &[u8; 32], other: &[u8; 32]) -> bool {
        self.find(own, other).is_some()
    }

    fn find(&self, own: &[u8; 32], other: &[u8; 32]) -> Option<&Secret<32>> {
        self.0.iter().find_map(|agreements| agreements.find(own, other))
    }

    /// The common secret with each of these, in their order, computed where it is not known; `None`
    /// where the other's key is of small order.
    pub(crate) fn agree_all(
        &self,
        private: &Secret<32>,
        own: &[u8; 32],
        others: &[&[u8; 32]],
    ) -> Vec<Option<Secret<32>>> {
        let mut found: Vec<Option<Secret<32>>> = Vec::with_capacity(others.len());
        found.extend(others.iter().map(|other| self.find(own, other).map(Secret::duplicate)));
        let missing: Vec<usize> = (0..others.len()).filter(|&at| found[at].is_none()).collect();
        let pairs: Vec<_> = missing.iter().map(|&at| (private, others[at])).collect();
        for (at, product) in missing.into_iter().zip(agree_all(&pairs)) {
            found[at] = product;
        }
        found
    }
}
