//! Keys that sites post ahead of their sessions: the log of all batches, what waits of each site, and
//! what an invitation names of it.
//!
//! All of it follows from the journal. The log grows by 64 bytes for each batch, and of each site no
//! more than one batch is kept. A site may replace its batch when it is nearly used up, and beside that
//! some times after restarts ([`REPLACEMENTS`]), so that neither a site nor a thief of its keys can make
//! the log grow faster than rounds do. Deliberately not here: who may post (the roster), and what counts
//! in a session (the bundle that a site signs for it). Start at [`Keys::check`] and [`Keys::name`].

use std::collections::BTreeMap;

use koinon_aggregation::Signer;
use koinon_aggregation::ahead::{BATCH_BYTES_MAX, BATCH_KEYS, Batch, Head, LEAVES_MAX, Log};
use koinon_aggregation::planted::{Weakness, weak};
use koinon_proto::{Digest, Millis, SiteId, context_with_keys, named_keys};
use serde::{Serialize, Serializer};

use crate::event::{Rejection, codes};
use crate::record::{Bytes, Change};

/// With so many keys of its batch left a site should post the next one.
pub(crate) const FEW: usize = 4;

/// Batches that a site may replace although more than [`FEW`] of their keys are left.
const REPLACEMENTS: u64 = 8;

/// All keys of a batch.
const SPENT: u8 = 16;
const _: () = assert!(SPENT as usize == BATCH_KEYS);

/// So often it may replace one more.
const REPLACEMENT_MS: Millis = 15 * 60_000;

/// The log, and what waits.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Keys {
    /// The identity key whose log it is: with another one the coordinator begins another log.
    keeper: Option<Digest>,
    #[serde(serialize_with = "size_and_root")]
    log: Log,
    waiting: BTreeMap<SiteId, Waiting>,
    /// A head that this keeper signed of a log that is not this one.
    lost: Option<Bytes>,
}

/// A site's batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Waiting {
    batch: Bytes,
    /// The identity key that signed it.
    identity: Digest,
    /// Where it is in the log.
    place: u64,
    /// How many of its pairs were named, from the first on: they are spent.
    spent: u8,
    /// Replacements that are left, as they were then.
    replacements: u64,
    at_ms: Millis,
}

/// What an invitation names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ahead {
    /// The head of the log, as it was signed.
    pub(crate) head: Bytes,
    /// In ascending order of sites.
    pub(crate) named: Vec<Vec<u8>>,
}

impl Ahead {
    /// The session's context, bound to what is named.
    pub(crate) fn bind(&self, context: &[u8; 32]) -> [u8; 32] {
        context_with_keys(context, &self.head, &named_keys(&self.named))
    }
}

impl Keys {
    /// Checks a batch that a site posts; `None` when it is the one that waits already.
    pub(crate) fn check(
        &self,
        site: &SiteId,
        bytes: Vec<u8>,
        (identity, keeper): (&[u8; 32], &[u8; 32]),
        now: Millis,
    ) -> Result<Option<Change>, Rejection> {
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(Rejection::new(codes::BAD_MESSAGE, "the batch of keys is too long"));
        }
        let same_log = self.is_of(keeper);
        if self.lost(keeper).is_some() {
            let detail = "the log of posted keys was rolled back: it takes no more";
            return Err(Rejection::new(codes::KEY_LOG_LOST, detail));
        }
        let waiting = self.waiting.get(site).filter(|_| same_log);
        if waiting.is_some_and(|waiting| *waiting.batch == *bytes) {
            return Ok(None);
        }
        let left = waiting.map_or(0, Waiting::left);
        let free = waiting.is_none_or(|waiting| waiting.replacements_at(now) > 0);
        let flood = left > FEW && !free && !weak(Weakness::AnyPostings);
        if flood || (same_log && self.log.size() >= LEAVES_MAX) {
            let detail = format!("{left} keys wait already; post more when they are used");
            return Err(Rejection::new(codes::TOO_MANY, detail));
        }
        let batch = Batch::from_bytes(&bytes)?;
        if batch.site() != site.as_str() {
            let detail = "the message speaks for another site";
            return Err(Rejection::new(codes::BAD_MESSAGE, detail));
        }
        batch.check(keeper, identity)?;
        let (identity, keeper) = (Digest(*identity), Digest(*keeper));
        let (site, batch) = (site.clone(), bytes.into());
        Ok(Some(Change::KeysPosted { site, identity, keeper, batch }))
    }

    /// A site that took a head of a log which this one does not begin with: the change that says so.
    /// Only a head that this keeper signed says anything.
    pub(crate) fn contradicted_by(&self, head: &[u8], keeper: &[u8; 32]) -> Option<Change> {
        let signed = Head::from_bytes(head).ok().filter(|head| head.check(keeper).is_ok())?;
        let same_log = self.is_of(keeper);
        let known = same_log && self.log.root(signed.size()) == Some(*signed.root());
        (self.lost(keeper).is_none() && !known && signed.size() > 0)
            .then(|| Change::KeyLogLost { keeper: Digest(*keeper), head: head.to_vec().into() })
    }

    /// The head of a log that this keeper signed and does not have any more.
    pub(crate) fn lost(&self, keeper: &[u8; 32]) -> Option<&Bytes> {
        self.lost.as_ref().filter(|_| self.is_of(keeper))
    }

    /// The log's head as it is now, signed; none when there is nothing that can be named.
    pub(crate) fn head(&self, keeper: &dyn Signer) -> Option<Bytes> {
        let usable = self.is_of(&keeper.public()) && self.lost.is_none();
        (usable && self.log.size() > 0).then(|| Head::sign(&self.log, keeper).to_bytes().into())
    }

    /// What an invitation of this cohort names under this head of the log as it is now; none when that
    /// is less than two sites' keys, with which nobody could do anything.
    pub(crate) fn name(&self, cohort: &[SiteId], head: &Bytes) -> Option<Ahead> {
        let of = |site: &SiteId| {
            let waiting = self.waiting.get(site).filter(|waiting| waiting.left() > 0)?;
            let batch = Batch::from_bytes(&waiting.batch).ok()?;
            let named = batch.name(waiting.spent, &self.log, waiting.place, self.log.size())?;
            Some(named.to_bytes())
        };
        let named: Vec<Vec<u8>> = cohort.iter().filter_map(of).collect();
        (named.len() > 1).then(|| Ahead { head: head.clone(), named })
    }

    /// How many keys of a site wait.
    pub(crate) fn left(&self, site: &SiteId, keeper: &[u8; 32]) -> usize {
        self.waiting.get(site).filter(|_| self.is_of(keeper)).map_or(0, Waiting::left)
    }

    /// The proof that the log of `to` entries begins with that of `from`.
    pub(crate) fn consistency(&self, from: u64, to: u64) -> Vec<Vec<u8>> {
        let proof = self.log.consistency(from, to).unwrap_or_default();
        proof.into_iter().map(Vec::from).collect()
    }

    fn is_of(&self, keeper: &[u8; 32]) -> bool {
        self.keeper.is_some_and(|own| own.0 == *keeper)
    }

    /// Begins the log of this keeper, if it is not the one there is.
    fn begin(&mut self, keeper: Digest) {
        if self.keeper != Some(keeper) {
            *self = Self { keeper: Some(keeper), ..Self::default() };
        }
    }

    /// Does what [`Change::KeysPosted`] says.
    pub(crate) fn apply_posted(&mut self, at_ms: Millis, change: &Change) -> Option<()> {
        let Change::KeysPosted { site, identity, keeper, batch } = change else { return None };
        self.begin(*keeper);
        let place = self.log.append(&Batch::from_bytes(batch).ok()?.entry(&keeper.0))?;
        let before = self.waiting.get(site);
        let replacements = before.map_or(REPLACEMENTS, |before| {
            let early = u64::from(before.left() > FEW);
            before.replacements_at(at_ms).saturating_sub(early)
        });
        // What counts towards the next replacement goes on counting.
        let at_ms = before.map_or(at_ms, |before| before.counted_ms(at_ms));
        let (batch, identity) = (batch.clone(), *identity);
        let waiting = Waiting { batch, identity, place, spent: 0, replacements, at_ms };
        self.waiting.insert(site.clone(), waiting);
        Some(())
    }

    /// Whose keys were signed by another key than the roster has for the site now: nobody would take them.
    pub(crate) fn stale(&self, key_of: impl Fn(&SiteId) -> Option<[u8; 32]>) -> Vec<SiteId> {
        let stale = |site: &&SiteId| self.is_stale(site, key_of(site));
        self.waiting.keys().filter(stale).cloned().collect()
    }

    /// Whether what waits of a site was signed by another key than this one, the site's now.
    pub(crate) fn is_stale(&self, site: &SiteId, key: Option<[u8; 32]>) -> bool {
        let waiting = self.waiting.get(site).filter(|waiting| waiting.left() > 0);
        waiting.is_some_and(|waiting| key != Some(waiting.identity.0))
    }

    /// Does what [`Change::KeysDropped`] says: as if all were used.
    pub(crate) fn apply_dropped(&mut self, site: &SiteId) {
        if let Some(waiting) = self.waiting.get_mut(site) {
            (waiting.spent, waiting.batch) = (SPENT, Bytes::default());
        }
    }

    /// Does what [`Change::KeyLogLost`] says.
    pub(crate) fn apply_lost(&mut self, keeper: Digest, head: &Bytes) {
        self.begin(keeper);
        self.lost.get_or_insert_with(|| head.clone());
    }

    /// What a round that began under this head names; it is spent from now on.
    pub(crate) fn take(&mut self, cohort: &[SiteId], head: &Bytes) -> Option<Ahead> {
        let ahead = self.name(cohort, head)?;
        for site in cohort {
            if let Some(waiting) = self.waiting.get_mut(site).filter(|waiting| waiting.left() > 0) {
                waiting.spent += 1;
            }
        }
        Some(ahead)
    }
}

impl Waiting {
    fn left(&self) -> usize {
        BATCH_KEYS - usize::from(self.spent)
    }

    fn replacements_at(&self, now: Millis) -> u64 {
        let more = now.saturating_sub(self.at_ms) / REPLACEMENT_MS;
        self.replacements.saturating_add(more).min(REPLACEMENTS)
    }

    /// From when on it counts towards the next replacement.
    fn counted_ms(&self, now: Millis) -> Millis {
        now - now.saturating_sub(self.at_ms) % REPLACEMENT_MS
    }
}

/// The log in a digest of the state: its root says all of it.
fn size_and_root<S: Serializer>(log: &Log, serializer: S) -> Result<S::Ok, S::Error> {
    let size = log.size();
    (size, log.root(size).map(Digest)).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use koinon_aggregation::ahead::{Named, Stock, check_named};
    use koinon_aggregation::identity::Identity;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha20Rng;

    use super::*;

    struct World {
        keys: Keys,
        keeper: Identity,
        rng: ChaCha20Rng,
        now: Millis,
    }

    fn site(number: u8) -> (SiteId, Identity) {
        let name = SiteId::new(format!("site-{number:02}")).unwrap();
        (name, Identity::from_secret_bytes(&[number + 1; 32]))
    }

    impl World {
        fn new() -> Self {
            let keeper = Identity::from_secret_bytes(&[99; 32]);
            let rng = ChaCha20Rng::seed_from_u64(3);
            Self { keys: Keys::default(), keeper, rng, now: 1_000_000 }
        }

        fn batch(&mut self, number: u8) -> Vec<u8> {
            let (name, identity) = site(number);
            let keeper = self.keeper.public();
            let mut stock = Stock::default();
            stock.make(&keeper, name.as_str(), &identity, &mut self.rng).to_bytes()
        }

        fn check(&self, number: u8, batch: &[u8]) -> Result<Option<Change>, &'static str> {
            let (name, identity) = site(number);
            let both = (&identity.public(), &self.keeper.public());
            let checked = self.keys.check(&name, batch.to_vec(), both, self.now);
            checked.map_err(|rejection| rejection.code)
        }

        fn post(&mut self, number: u8) -> Result<Vec<u8>, &'static str> {
            let batch = self.batch(number);
            match self.check(number, &batch)? {
                Some(change @ Change::KeysPosted { .. }) => {
                    self.keys.apply_posted(self.now, &change).unwrap();
                }
                other => panic!("{other:?}"),
            }
            Ok(batch)
        }

        fn begin(&mut self, sites: &[u8]) -> Option<Ahead> {
            let cohort: Vec<SiteId> = sites.iter().map(|number| site(*number).0).collect();
            let head = self.keys.head(&self.keeper)?;
            let named = self.keys.name(&cohort, &head);
            let taken = self.keys.take(&cohort, &head);
            assert_eq!(named, taken, "what is said before is what is done");
            taken
        }
    }

    #[test]
    fn what_a_round_names_is_proven_and_never_named_again() {
        let mut world = World::new();
        assert!(world.begin(&[0, 1]).is_none(), "nobody posted");
        world.post(0).unwrap();
        assert!(world.begin(&[0, 1]).is_none(), "one alone has nobody to agree with");
        world.post(2).unwrap();
        let members =
            (0..3).map(site).map(|(name, key)| (name.to_string(), key.public())).collect();
        let members: BTreeMap<String, [u8; 32]> = members;
        let mut seen = std::collections::BTreeSet::new();
        for round in 0..BATCH_KEYS {
            let Ahead { head, named } = world.begin(&[0, 1, 2]).unwrap();
            let head = Head::from_bytes(&head).unwrap();
            let named: Vec<Named> = named.iter().map(|n| Named::from_bytes(n).unwrap()).collect();
            let keeper = world.keeper.public();
            assert!(head.check(&keeper).is_ok());
            assert_eq!(check_named(&keeper, &head, &named, &members), Ok(()), "round {round}");
            assert_eq!(named.len(), 2);
            assert!(named.iter().all(|named| seen.insert(*named.channel())), "round {round}");
        }
        assert!(world.begin(&[0, 1, 2]).is_none(), "all are spent");
        assert_eq!(world.keys.left(&site(0).0, &world.keeper.public()), 0);
    }

    #[test]
    fn the_same_again_changes_nothing_and_a_flood_is_stopped() {
        let mut world = World::new();
        let batch = world.post(0).unwrap();
        assert_eq!(world.check(0, &batch), Ok(None));
        assert_eq!(world.check(1, &batch), Err(codes::BAD_MESSAGE), "another site's");
        assert_eq!(
            world.check(0, &[batch.clone(), vec![0; 999]].concat()),
            Err(codes::BAD_MESSAGE)
        );
        let mut bent = batch;
        bent[40] ^= 1;
        assert!(world.check(0, &bent).is_err());
        // After restarts, some times; then only as time passes.
        let mut taken = 0;
        while world.post(0).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, REPLACEMENTS);
        assert_eq!(world.post(0).err(), Some(codes::TOO_MANY));
        world.now += REPLACEMENT_MS - 1;
        assert_eq!(world.post(0).err(), Some(codes::TOO_MANY));
        world.now += 1;
        assert!(world.post(0).is_ok() && world.post(0).is_err());
        world.now += 1_000 * REPLACEMENT_MS;
        let later = (0..100).filter(|_| world.post(0).is_ok()).count() as u64;
        assert_eq!(later, REPLACEMENTS, "not more, however long it was quiet");
        // Who used its keys posts more at once.
        world.post(1).unwrap();
        for _ in 0..BATCH_KEYS - FEW {
            assert!(world.post(0).is_err());
            world.begin(&[0, 1]).unwrap();
        }
        assert!(world.post(0).is_ok());
        assert!(world.post(0).is_err());
    }

    #[test]
    fn a_log_that_was_rolled_back_is_found_out_by_its_own_head() {
        let mut world = World::new();
        world.post(0).unwrap();
        let backup = world.keys.clone();
        world.post(1).unwrap();
        let head = world.keys.head(&world.keeper).unwrap();
        let keeper = world.keeper.public();
        assert_eq!(world.keys.contradicted_by(&head, &keeper), None, "as it is");
        let older = backup.head(&world.keeper).unwrap();
        assert_eq!(world.keys.contradicted_by(&older, &keeper), None, "as it was");
        let stranger = Identity::from_secret_bytes(&[98; 32]);
        let mut forged = head.to_vec();
        forged[0] ^= 7;
        assert_eq!(backup.contradicted_by(&forged, &keeper), None, "nobody signed it");
        assert_eq!(backup.contradicted_by(b"garbage", &keeper), None);
        // Restored, empty, and gone on with other entries: each is found out.
        let mut other = backup.clone();
        let (batch, (site, key)) = (world.batch(2).into(), site(2));
        let (identity, keeper_id) = (Digest(key.public()), Digest(keeper));
        let posted = Change::KeysPosted { site, identity, keeper: keeper_id, batch };
        other.apply_posted(7, &posted).unwrap();
        for restored in [backup, Keys::default(), other] {
            let change = restored.contradicted_by(&head, &keeper).unwrap();
            let Change::KeyLogLost { keeper: of, head: kept } = change else { panic!() };
            let mut restored = World { keys: restored, ..World::new() };
            restored.keys.apply_lost(of, &kept);
            assert_eq!(restored.keys.lost(&keeper), Some(&head));
            assert_eq!(restored.keys.contradicted_by(&head, &keeper), None, "said once");
            assert_eq!(restored.keys.head(&restored.keeper), None, "no round names keys");
            assert_eq!(restored.post(3).err(), Some(codes::KEY_LOG_LOST));
            // Another identity keeps another log, which begins anew.
            restored.keeper = Identity::from_secret_bytes(&[97; 32]);
            assert!(restored.keys.lost(&restored.keeper.public()).is_none());
            restored.post(3).unwrap();
            restored.post(4).unwrap();
            assert!(restored.begin(&[3, 4]).is_some());
        }
        assert_eq!(world.keys.contradicted_by(&head, &stranger.public()), None);
    }

    #[test]
    fn keys_of_an_identity_that_the_roster_has_no_more_are_named_no_more() {
        let mut world = World::new();
        (0..3).for_each(|number| drop(world.post(number).unwrap()));
        let now = |name: &SiteId| {
            let (_, key) = if *name == site(1).0 { site(40) } else { site(0) };
            Some(key.public()).filter(|_| *name != site(2).0)
        };
        let (a, b) = (&site(0).0, &site(9).0);
        assert!(!world.keys.is_stale(a, now(a)) && !world.keys.is_stale(b, None), "none waits");
        let stale = world.keys.stale(now);
        assert_eq!(stale, [site(1).0, site(2).0], "another key, and no member");
        stale.iter().for_each(|site| world.keys.apply_dropped(site));
        assert!(world.keys.stale(now).is_empty());
        assert!(world.begin(&[0, 1, 2]).is_none(), "one alone is left");
        world.post(1).unwrap();
        assert_eq!(world.begin(&[0, 1, 2]).unwrap().named.len(), 2);
    }

    #[test]
    fn the_digest_of_the_state_says_all_of_the_log() {
        let (mut a, mut b) = (World::new(), World::new());
        a.post(0).unwrap();
        b.post(0).unwrap();
        let json = |world: &World| serde_json::to_string(&world.keys).unwrap();
        assert_eq!(json(&a), json(&b));
        a.post(1).unwrap();
        assert_ne!(json(&a), json(&b));
    }
}
