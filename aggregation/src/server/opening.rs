//! The last step: secrets are put together from their shares, masks are taken off, the sum is
//! checked.
//!
//! Costs with n dealers, of whom m are lost, k holders each and d entries: n - m expansions of self
//! masks and m · (k less the lost) of pair masks, d words each.

use std::collections::BTreeMap;

use subtle::ConstantTimeEq;

use super::{Cohort, ServerSession, Step};
use crate::agree::{self, Bound};
use crate::client::pair_sign;
use crate::error::OpenError;
use crate::hash::Digest;
use crate::message::opening::commit_secret;
use crate::plain::is_plain;
use crate::planted::{Weakness, weak};
use crate::ring::{add_packed, pack, unwrap};
use crate::secret::Secret;
use crate::shamir::Combiner;
use crate::stream::{Seed, Sign, add_streams};
use crate::topology::Version;
use crate::transcript::Transcript;
use crate::update::Sum;
use crate::words::Words;

impl ServerSession {
    /// Opens the sum, and gives with it the record of all that was public. The record takes along
    /// what the session held: afterwards nothing more can be asked of it. An error that more reveals
    /// can mend leaves the session as it is.
    ///
    /// # Errors
    /// An [`OpenError`] as long as shares are missing, if a dealer shared out something else than
    /// its secret, or if the sum is not one that the plan permits.
    pub fn open(&mut self) -> Result<(Sum, Transcript), OpenError> {
        if self.step != Step::Unmasking {
            return Err(OpenError::OutOfTurn);
        }
        let bits = self.plan.encoding.bits();
        let seeds = self.masks()?;
        // The record's form of the masked sum is the copy to go back to.
        let mut masked_sum = Vec::new();
        pack(&self.words, bits, &mut masked_sum);
        add_streams(&mut self.words, 0, &seeds);
        let values = self.words.iter().map(|word| unwrap(word, bits)).collect();
        let sum = Sum::new(&self.plan.encoding, self.survivors.len(), values);
        let sum = sum.map_err(|(field, entry)| {
            self.words = Words::zero(self.words.len(), bits);
            add_packed(&mut self.words, 0, &masked_sum, bits).expect("it was packed just now");
            OpenError::OutOfRange { field, entry }
        })?;
        let transcript = self.transcript(masked_sum, sum.clone()).ok_or(OpenError::OutOfTurn)?;
        Ok((sum, transcript))
    }

    /// The names of dealers that sealed something else than shares: more of those who revealed hold
    /// none of theirs than could be lying about it (as many as the threshold tolerates).
    #[must_use]
    pub fn false_dealers(&self) -> Vec<String> {
        let Some(cohort) = self.cohort.as_ref().filter(|_| self.step == Step::Unmasking) else {
            return Vec::new();
        };
        let named = self.dealers.iter().filter(|&dealer| {
            let holders = cohort.holders(dealer);
            let revealed = |holder: &&u16| self.reveals.contains_key(&usize::from(**holder));
            let without = holders.iter().filter(revealed).count() - self.good[dealer].len();
            without > holders.len() - cohort.rules().threshold
        });
        named.map(|dealer| cohort.participants.name(dealer)).collect()
    }

    /// All masks that are still in the sum, to be taken off.
    fn masks(&self) -> Result<Vec<(Seed, Sign)>, OpenError> {
        let cohort = self.cohort.as_ref().ok_or(OpenError::OutOfTurn)?;
        if is_plain(&self.plan) {
            return Ok(Vec::new());
        }
        let mut seeds = Vec::with_capacity(self.n_masks(cohort));
        let mut combiner: Option<Combiner> = None;
        for dealer in self.dealers.iter() {
            let secret = self.reconstruct(cohort, dealer, &mut combiner)?;
            if self.survivors.contains(dealer) {
                seeds.push(self.self_mask(cohort, dealer, &secret)?);
            } else {
                self.pair_masks(cohort, dealer, &secret, &mut seeds)?;
            }
        }
        Ok(seeds)
    }

    /// How many masks are still in the sum: all the room at once, so that no seed is left behind.
    fn n_masks(&self, cohort: &Cohort) -> usize {
        let lost = self.dealers.iter().filter(|&dealer| !self.survivors.contains(dealer));
        let pairs: usize = lost.map(|dealer| self.partners(cohort, dealer).count()).sum();
        self.survivors.len() + pairs
    }

    /// The survivors that put on a mask for a site that is lost.
    fn partners<'a>(
        &'a self,
        cohort: &'a Cohort,
        dealer: usize,
    ) -> impl Iterator<Item = usize> + 'a {
        let holders = cohort.holders(dealer).iter().map(|&holder| usize::from(holder));
        holders.filter(|&holder| self.survivors.contains(holder))
    }

    /// The dealer's secret from the first good shares. The combiner is kept from one dealer to the
    /// next: the holders at the same places often reveal for both, or all but one of them.
    fn reconstruct(
        &self,
        cohort: &Cohort,
        dealer: usize,
        combiner: &mut Option<Combiner>,
    ) -> Result<Secret<32>, OpenError> {
        let (have, need) = (self.good[dealer].len(), self.threshold());
        let too_few =
            || OpenError::TooFewShares { site: cohort.participants.name(dealer), have, need };
        if have < need {
            return Err(too_few());
        }
        let places: Vec<usize> =
            self.good[dealer][..need].iter().copied().map(usize::from).collect();
        let share = |&place: &usize| {
            let holder = usize::from(cohort.holders(dealer)[place]);
            let at = cohort.place(holder, dealer)?;
            self.reveals.get(&holder)?.share(at).map(|shown| shown.share)
        };
        let shares: Vec<Secret<32>> =
            places.iter().map(share).collect::<Option<_>>().ok_or_else(too_few)?;
        let combiner = match combiner {
            Some(known) => {
                known.adapt(&places);
                known
            }
            none => none.insert(Combiner::new(&places)),
        };
        Ok(combiner.combine(&shares.iter().collect::<Vec<_>>()))
    }

    /// The mask that a survivor put on by itself, to be taken off.
    fn self_mask(
        &self,
        cohort: &Cohort,
        dealer: usize,
        secret: &Secret<32>,
    ) -> Result<(Seed, Sign), OpenError> {
        let (version, participants) = (self.agreed.version, cohort.participants.digest());
        let commitment = commit_secret(version, participants, dealer, secret);
        let promised = &self.shares[&dealer].shares.dealing.secret_commitment;
        if !bool::from(commitment.ct_eq(promised)) {
            return Err(OpenError::FalseDealer { site: cohort.participants.name(dealer) });
        }
        let own = [&self.shares[&dealer].digest];
        let seed = agree::self_seed(secret, self.bound(cohort, &own), dealer);
        Ok((seed, Sign::Minus))
    }

    /// Adds the masks that the survivors put on for a site that is lost, to be taken off.
    fn pair_masks(
        &self,
        cohort: &Cohort,
        dealer: usize,
        secret: &Secret<32>,
        seeds: &mut Vec<(Seed, Sign)>,
    ) -> Result<(), OpenError> {
        let false_dealer = || OpenError::FalseDealer { site: cohort.participants.name(dealer) };
        let own = agree::public(secret) == cohort.bundles[dealer].keys.mask;
        if !own && !weak(Weakness::UncheckedShare) {
            return Err(false_dealer());
        }
        let partners: Vec<usize> = self.partners(cohort, dealer).collect();
        let pairs: Vec<_> = partners
            .iter()
            .map(|&survivor| (secret, &cohort.bundles[survivor].keys.mask))
            .collect();
        for (survivor, shared) in partners.into_iter().zip(agree::agree_all(&pairs)) {
            let shared = shared.ok_or_else(false_dealer)?;
            let (low, high) = (dealer.min(survivor), dealer.max(survivor));
            let ends = [&self.shares[&low].digest, &self.shares[&high].digest];
            let bound = self.bound(cohort, &ends);
            let seed = agree::pair_seed(&shared, bound, survivor, dealer);
            seeds.push((seed, pair_sign(survivor, dealer).opposite()));
        }
        Ok(())
    }

    fn bound<'a>(&'a self, cohort: &'a Cohort, ends: &'a [&'a Digest]) -> Bound<'a> {
        match self.agreed.version {
            Version::Complete => Bound::Dealers(&self.agreed.digest),
            Version::Sparse => Bound::Dealings(cohort.participants.digest(), ends),
        }
    }

    fn transcript(&mut self, masked_sum: Vec<u8>, sum: Sum) -> Option<Transcript> {
        let cohort = self.cohort.take()?;
        self.words = Words::zero(0, self.plan.encoding.bits());
        self.good = Vec::new();
        self.step = Step::Opened;
        Some(Transcript {
            plan: self.plan.clone(),
            identities: cohort.participants.iter().map(|p| p.identity).collect(),
            bundles: cohort.bundles,
            shares: std::mem::take(&mut self.shares).into_values().map(|d| d.shares).collect(),
            reports: std::mem::take(&mut self.reports).into_values().collect(),
            masked_sum,
            signatures: std::mem::take(&mut self.signatures).into_values().collect(),
            reveals: std::mem::take(&mut self.reveals).into_values().collect(),
            updates: BTreeMap::new(),
            sum,
        })
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
    use crate::message::report::Report;
    use crate::plan::SessionPlan;
    use crate::ring::modulus_mask;
    use crate::signer::Signer;
    use crate::topology::Topology;
    use crate::update::{Clipped, Encoded};
    use crate::words::PIECE_ENTRIES;

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
            believed = update.report.agreed.digest;
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
    fn bytes_that_are_not_the_reported_ones_leave_the_sum_as_it_was() {
        let mut plan = plan();
        let mut update = plan.encoding.fields()[1].clone();
        update.len = PIECE_ENTRIES + 100;
        plan.encoding = EncodingPlan::new(vec![update], None, 5, 1).unwrap();
        let bits = plan.encoding.bits();
        let mut server = ServerSession::new(plan).unwrap();
        let mut words = Words::zero(PIECE_ENTRIES + 101, bits);
        (0..words.len()).for_each(|entry| words.set(entry, 7 * entry as u64));
        let mut packed = Vec::new();
        pack(&words, bits, &mut packed);
        let key = SigningKey::from_bytes(&[1; 32]);
        let unsigned = Report::new(server.agreed, 0, [0; 32], &key);
        let digest = unsigned.digest_of(&packed);
        let report = Report::new(server.agreed, 0, digest, &key);
        assert!(!server.add_words(&unsigned, &packed));
        assert!(!server.add_words(&report, &packed[1..]));
        let mut garbled = packed.clone();
        *garbled.last_mut().unwrap() ^= 1;
        assert!(!server.add_words(&report, &garbled));
        assert!(server.words.iter().all(|word| unwrap(word, bits) == 0));
        assert!(server.add_words(&report, &packed));
        let mask = modulus_mask(bits);
        assert!(server.words.iter().zip(words.iter()).all(|(sum, word)| (sum ^ word) & mask == 0));
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
        server.good[2].remove(0);
        assert!(server.false_dealers().is_empty(), "one of five may lie");
        server.good[2].remove(0);
        assert_eq!(server.false_dealers(), ["site-2"]);
    }

    #[test]
    fn a_site_that_was_told_otherwise_leaves_noise_and_nothing_else() {
        let (mut server, believed) = session(Some(1));
        assert!(matches!(server.open(), Err(OpenError::OutOfRange { .. })));
        // The coordinator knows what it told the last site, and takes the right mask off for it.
        let bits = server.plan.encoding.bits();
        let cohort = server.cohort.as_ref().unwrap();
        let mut words = server.words.duplicate();
        add_streams(&mut words, 0, &server.masks().unwrap());
        let secret = server.reconstruct(cohort, N - 1, &mut None).unwrap();
        let seeds = [
            (agree::self_seed(&secret, Bound::Dealers(&server.agreed.digest), N - 1), Sign::Plus),
            (agree::self_seed(&secret, Bound::Dealers(&believed), N - 1), Sign::Minus),
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
