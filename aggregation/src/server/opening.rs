//! The last step: secrets are put together from their shares, masks are taken off, the sum is checked.
//!
//! Costs with n dealers, of whom m are lost, and d entries: n - m expansions of self masks and
//! m · (n - m) of pair masks, d words each.

use subtle::ConstantTimeEq;

use super::{ServerSession, Step};
use crate::agree;
use crate::client::pair_sign;
use crate::error::OpenError;
use crate::message::shares::{Shown, commit_secret};
use crate::ring::unwrap;
use crate::secret::Secret;
use crate::shamir::Combiner;
use crate::stream::{Seed, Sign, add_streams};
use crate::transcript::Transcript;
use crate::update::Sum;

impl ServerSession {
    /// Opens the sum, and gives with it the record of all that was public.
    ///
    /// # Errors
    /// An [`OpenError`] as long as shares are missing, if a dealer shared out something else than its
    /// secret, or if the sum is not one that the plan permits.
    pub fn open(&self) -> Result<(Sum, Transcript), OpenError> {
        if self.step != Step::Unmasking {
            return Err(OpenError::OutOfTurn);
        }
        let mut seeds = Vec::new();
        let mut combiner: Option<Combiner> = None;
        for dealer in self.dealers.iter() {
            let secret = self.reconstruct(dealer, &mut combiner)?;
            if self.survivors.contains(dealer) {
                seeds.push(self.self_mask(dealer, &secret)?);
            } else {
                seeds.extend(self.pair_masks(dealer, &secret)?);
            }
        }
        let bits = self.plan.encoding.bits();
        let mut words = self.words.clone();
        add_streams(&mut words, bits, &seeds);
        let values = words.into_iter().map(|word| unwrap(word, bits)).collect();
        let sum = Sum::new(&self.plan.encoding, self.survivors.len(), values)
            .map_err(|(field, entry)| OpenError::OutOfRange { field, entry })?;
        Ok((sum.clone(), self.transcript(sum)))
    }

    /// The dealer's secret from the first good shares. The combiner is kept from one dealer to the
    /// next, as the same participants reveal shares of all of them.
    fn reconstruct(
        &self,
        dealer: usize,
        combiner: &mut Option<Combiner>,
    ) -> Result<Secret<32>, OpenError> {
        let (have, need) = (self.shown[dealer].len(), self.threshold());
        if have < need {
            return Err(OpenError::TooFewShares { site: self.name(dealer), have, need });
        }
        let holders: Vec<usize> = self.shown[dealer].keys().copied().take(need).collect();
        let shares: Vec<&Secret<32>> =
            self.shown[dealer].values().take(need).map(|Shown { share, .. }| share).collect();
        let combiner = match combiner {
            Some(known) if known.indices() == holders => known,
            stale => stale.insert(Combiner::new(&holders)),
        };
        Ok(combiner.combine(&shares))
    }

    /// The mask that a survivor put on by itself, to be taken off.
    fn self_mask(&self, dealer: usize, secret: &Secret<32>) -> Result<(Seed, Sign), OpenError> {
        let commitment = commit_secret(self.fixed().digest(), dealer, secret);
        let promised = &self.shares[&dealer].dealing.secret_commitment;
        if !bool::from(commitment.ct_eq(promised)) {
            return Err(OpenError::FalseDealer { site: self.name(dealer) });
        }
        Ok((agree::self_seed(secret, &self.digest, dealer), Sign::Minus))
    }

    /// The masks that the survivors put on for a site that is lost, to be taken off.
    fn pair_masks(
        &self,
        dealer: usize,
        secret: &Secret<32>,
    ) -> Result<Vec<(Seed, Sign)>, OpenError> {
        let false_dealer = || OpenError::FalseDealer { site: self.name(dealer) };
        if agree::public(secret) != self.fixed().get(dealer).mask {
            return Err(false_dealer());
        }
        self.survivors
            .iter()
            .map(|survivor| {
                let public = &self.fixed().get(survivor).mask;
                let shared = agree::agree(secret, public).ok_or_else(false_dealer)?;
                let seed = agree::pair_seed(&shared, &self.digest, survivor, dealer);
                Ok((seed, pair_sign(survivor, dealer).opposite()))
            })
            .collect()
    }

    fn name(&self, index: usize) -> String {
        self.fixed().get(index).name.clone()
    }

    fn transcript(&self, sum: Sum) -> Transcript {
        Transcript {
            plan: self.plan.clone(),
            bundles: self.bundles.values().cloned().collect(),
            identities: self.fixed().iter().map(|p| p.identity).collect(),
            shares: self.shares.values().cloned().collect(),
            reports: self.reports.values().cloned().collect(),
            masked_sum: crate::ring::pack(&self.words, self.plan.encoding.bits()),
            signatures: self.signatures.values().cloned().collect(),
            reveals: self.reveals.values().cloned().collect(),
            updates: std::collections::BTreeMap::new(),
            sum,
        }
    }
}
