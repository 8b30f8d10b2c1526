//! The last step: secrets are put together from their shares, masks are taken off, the sum is
//! checked.
//!
//! Costs with n dealers, of whom m are lost, and d entries: n - m expansions of self masks and
//! m · (n - m) of pair masks, d words each.

use std::collections::BTreeMap;

use subtle::ConstantTimeEq;

use super::{ServerSession, Step};
use crate::agree;
use crate::client::pair_sign;
use crate::error::OpenError;
use crate::message::shares::{Shown, commit_secret};
use crate::ring::{pack, unwrap};
use crate::secret::Secret;
use crate::shamir::Combiner;
use crate::stream::{Seed, Sign, add_streams};
use crate::transcript::Transcript;
use crate::update::Sum;
use crate::words::Words;

impl ServerSession {
    /// Opens the sum, and gives with it the record of all that was public.
    ///
    /// # Errors
    /// An [`OpenError`] as long as shares are missing, if a dealer shared out something else than
    /// its secret, or if the sum is not one that the plan permits.
    pub fn open(&mut self) -> Result<(Sum, Transcript), OpenError> {
        if self.step != Step::Unmasking {
            return Err(OpenError::OutOfTurn);
        }
        let bits = self.plan.encoding.bits();
        let values = self.unmask()?.iter().map(|word| unwrap(word, bits)).collect();
        let sum = Sum::new(&self.plan.encoding, self.survivors.len(), values)
            .map_err(|(field, entry)| OpenError::OutOfRange { field, entry })?;
        Ok((sum.clone(), self.transcript(sum)))
    }

    /// The names of dealers that sealed something else than shares: more of those who revealed hold
    /// none of theirs than could be lying about it (n - t may be, as many as the threshold tolerates).
    #[must_use]
    pub fn false_dealers(&self) -> Vec<String> {
        if self.step != Step::Unmasking {
            return Vec::new();
        }
        let liars_max = self.fixed().len() - self.threshold();
        let without = |dealer: &usize| self.reveals.len() - self.shown[*dealer].len();
        let named = self.dealers.iter().filter(|dealer| without(dealer) > liars_max);
        named.map(|dealer| self.name(dealer)).collect()
    }

    /// The sum of the masked updates without the masks, modulo 2^bits.
    fn unmask(&self) -> Result<Words, OpenError> {
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
        let mut words = self.words.duplicate();
        add_streams(&mut words, 0, &seeds);
        Ok(words)
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
        let mut masked_sum = Vec::new();
        pack(&self.words, self.plan.encoding.bits(), &mut masked_sum);
        Transcript {
            plan: self.plan.clone(),
            bundles: self.bundles.values().cloned().collect(),
            identities: self.fixed().iter().map(|p| p.identity).collect(),
            shares: self.shares.values().cloned().collect(),
            reports: self.reports.values().cloned().collect(),
            masked_sum,
            signatures: self.signatures.values().cloned().collect(),
            reveals: self.reveals.values().cloned().collect(),
            updates: BTreeMap::new(),
            sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    use super::*;
    use crate::client::advertise;
    use crate::encode::{EncodingPlan, Field, UPDATE};
    use crate::plan::{SessionPlan, Topology};
    use crate::ring::{add_packed, modulus_mask};
    use crate::signer::Signer;
    use crate::update::{Clipped, Encoded};

    const N: usize = 5;
    const ENTRIES: usize = 20_000;

    fn plan() -> SessionPlan {
        let update =
            Field { name: UPDATE.into(), len: ENTRIES, bound: 1.0, frac_bits: 12, weighted: true };
        SessionPlan {
            session: [1; 32],
            context: [2; 32],
            roster: [3; 32],
            encoding: EncodingPlan::new(vec![update], None, 5, 1).unwrap(),
            n_min: 3,
            topology: Topology::Complete,
        }
    }

    /// A session in which the coordinator tells the last site that `hidden` did not deal, and takes
    /// its masked update all the same. Gives the digest that the last site believes in.
    fn session(hidden: Option<u16>) -> (ServerSession, [u8; 32]) {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let names: [String; N] = std::array::from_fn(|i| format!("site-{i}"));
        let keys: [SigningKey; N] =
            std::array::from_fn(|i| SigningKey::from_bytes(&[u8::try_from(i).unwrap() + 1; 32]));
        let roster: BTreeMap<String, [u8; 32]> =
            names.iter().cloned().zip(keys.iter().map(Signer::public)).collect();
        let mut server = ServerSession::new(plan()).unwrap();
        let mut advertised = Vec::new();
        for (name, key) in names.iter().zip(&keys) {
            let (state, bundle) = advertise(plan(), name, key, &mut rng).unwrap();
            server.add_bundle(bundle, &roster).unwrap();
            advertised.push(state);
        }
        let sites: Vec<&str> = names.iter().map(String::as_str).collect();
        server.fix_participants(&sites, &roster).unwrap();
        let notice = server.notice_for(0).unwrap();
        let mut shared = Vec::new();
        for (state, key) in advertised.into_iter().zip(&keys) {
            let (state, shares) = state.share(&notice, &roster, 3, key, &mut rng).unwrap();
            server.add_shares(shares).unwrap();
            shared.push(state);
        }
        server.fix_dealers().unwrap();
        let (mut masked, mut believed) = (Vec::new(), [0; 32]);
        for (i, (state, key)) in shared.into_iter().zip(&keys).enumerate() {
            let mut inbox = server.inbox_for(u16::try_from(i).unwrap()).unwrap();
            inbox.retain(|delivery| i != N - 1 || Some(delivery.dealer()) != hidden);
            let (state, _) = state.receive(&inbox).unwrap();
            let values = vec![vec![0.25f32; ENTRIES].into()];
            let clipped =
                Clipped::new(&plan().encoding, values, 1).unwrap_or_else(|e| panic!("{e}"));
            let (state, update) = state.mask(Encoded::new(clipped, &mut rng), key).unwrap();
            // As an honest coordinator would, but without asking whose terms these are.
            let bits = plan().encoding.bits();
            add_packed(&mut server.words, 0, &update.packed, bits).unwrap();
            believed = update.report.dealers;
            server.reports.insert(i, update.report);
            masked.push(state);
        }
        let survivors = server.fix_survivors().unwrap();
        let mut signed = Vec::new();
        for (state, key) in masked.into_iter().zip(&keys).take(N - 1) {
            let (state, signature) = state.sign(&survivors, 3, key).unwrap();
            server.add_signature(signature.unwrap()).unwrap();
            signed.push(state);
        }
        let signatures = server.unmask_request().unwrap();
        for (state, key) in signed.into_iter().zip(&keys) {
            server.add_reveal(state.reveal(&signatures, key).unwrap().1).unwrap();
        }
        (server, believed)
    }

    #[test]
    fn sites_that_were_told_alike_open_in_range() {
        let (sum, _) = session(None).0.open().unwrap();
        assert_eq!(sum.mean(UPDATE).unwrap(), vec![0.25; ENTRIES]);
    }

    #[test]
    fn a_dealer_is_false_when_more_miss_its_shares_than_could_lie() {
        let (mut server, _) = session(None);
        assert!(server.false_dealers().is_empty());
        server.shown[2].remove(&0);
        assert!(server.false_dealers().is_empty(), "one of five may lie");
        server.shown[2].remove(&1);
        assert_eq!(server.false_dealers(), ["site-2"]);
    }

    #[test]
    fn a_site_that_was_told_otherwise_leaves_noise_and_nothing_else() {
        let (mut server, believed) = session(Some(1));
        assert!(matches!(server.open(), Err(OpenError::OutOfRange { .. })));
        // The coordinator knows what it told the last site, and takes the right mask off for it.
        let bits = server.plan.encoding.bits();
        let mut words = server.unmask().unwrap();
        let secret = server.reconstruct(N - 1, &mut None).unwrap();
        let seeds = [
            (agree::self_seed(&secret, &server.digest, N - 1), Sign::Plus),
            (agree::self_seed(&secret, &believed, N - 1), Sign::Minus),
        ];
        add_streams(&mut words, 0, &seeds);
        let mut counts = [0u32; 256];
        let first_8 = |word| usize::try_from((word & modulus_mask(bits)) >> (bits - 8)).unwrap();
        words.iter().for_each(|word| counts[first_8(word)] += 1);
        let expected = words.len() as f64 / 256.0;
        let chi2: f64 = counts.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
        // 255 degrees of freedom: mean 255, standard deviation 22.6.
        assert!((140.0..390.0).contains(&chi2), "{chi2}");
    }
}
