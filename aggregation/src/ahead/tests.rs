//! Attacks on batches, logs and heads, and the laws that proofs keep.

use std::collections::BTreeMap;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

use super::log::extends;
use super::*;
use crate::error::Rejection;
use crate::hash::Digest;
use crate::merkle::{hash_leaf, hash_node, root_from};
use crate::signer::Signer as _;

fn log_of(n: u64) -> Log {
    let mut log = Log::default();
    (0..n).for_each(|i| assert_eq!(log.append(&i.to_le_bytes()), Some(i)));
    log
}

/// The definition of RFC 9162, section 2.1.1, word for word.
fn by_definition(first: u64, end: u64) -> Digest {
    if end - first == 1 {
        return hash_leaf(&first.to_le_bytes());
    }
    let split = first + (end - first).next_power_of_two() / 2;
    hash_node(&by_definition(first, split), &by_definition(split, end))
}

#[test]
fn the_empty_log_has_the_known_root() {
    // SHA-256 of nothing: RFC 9162, section 2.1.1.
    let root = Log::default().root(0).unwrap();
    assert_eq!(root[..4], [0xe3, 0xb0, 0xc4, 0x42]);
    assert_eq!(Log::default().root(1), None);
}

/// The example of RFC 9162, section 2.1.5: a log of seven entries.
#[test]
fn proofs_are_those_of_the_example_of_rfc_9162() {
    let log = log_of(7);
    let leaf = |i: u64| hash_leaf(&i.to_le_bytes());
    let [a, b, c, d, e, f, j] = [0, 1, 2, 3, 4, 5, 6].map(leaf);
    let (g, h, i) = (hash_node(&a, &b), hash_node(&c, &d), hash_node(&e, &f));
    let (k, l) = (hash_node(&g, &h), hash_node(&i, &j));
    assert_eq!(log.root(7), Some(hash_node(&k, &l)));
    assert_eq!(log.path(0, 7).unwrap(), [b, h, l]);
    assert_eq!(log.path(3, 7).unwrap(), [c, g, l]);
    assert_eq!(log.path(4, 7).unwrap(), [f, j, k]);
    assert_eq!(log.path(6, 7).unwrap(), [i, k]);
    assert_eq!(log.consistency(3, 7).unwrap(), [c, d, g, l]);
    assert_eq!(log.consistency(4, 7).unwrap(), [l]);
    assert_eq!(log.consistency(6, 7).unwrap(), [i, j, k]);
}

proptest! {
    #[test]
    fn a_log_proves_what_is_in_it_and_nothing_else(n in 1u64..200, at in 0u64..200, size in 1u64..200) {
        let (size, log) = (1 + size % n, log_of(n));
        let at = at % size;
        let root = log.root(size).unwrap();
        prop_assert_eq!(root, by_definition(0, size));
        let path = log.path(at, size).unwrap();
        let (place, whole) = (usize::try_from(at).unwrap(), usize::try_from(size).unwrap());
        prop_assert_eq!(root_from(&at.to_le_bytes(), place, whole, &path), Some(root));
        prop_assert_ne!(root_from(b"another", place, whole, &path), Some(root));
        prop_assert_eq!(log.path(size, size), None);
        prop_assert_eq!(log.path(0, n + 1), None);
    }

    #[test]
    fn a_log_proves_that_it_grew_and_no_other_log_does(
        n in 1u64..200, from in 0u64..200, bend in 0usize..4000, forked in 0u64..200,
    ) {
        let (from, log) = (from % (n + 1), log_of(n));
        let (old, new) = (log.root(from).unwrap(), log.root(n).unwrap());
        let proof = log.consistency(from, n).unwrap();
        prop_assert!(proof.len() <= PROOF_MAX);
        prop_assert!(extends((from, &old), (n, &new), &proof));
        if from == 0 {
            return Ok(());
        }
        // Another old log, another new one, another size, a hash more or less or bent.
        prop_assert!(!extends((from, &[7; 32]), (n, &new), &proof));
        prop_assert!(!extends((from, &old), (n, &[7; 32]), &proof));
        prop_assert!(!extends((n + 1, &old), (n, &new), &proof));
        let more = [&proof[..], &[[7; 32]]].concat();
        prop_assert!(!extends((from, &old), (n, &new), &more));
        if let Some((_, less)) = proof.split_last() {
            prop_assert!(!extends((from, &old), (n, &new), less));
            let mut bent = proof.clone();
            let place = bend % bent.len();
            bent[place][bend % 32] ^= 1;
            prop_assert!(!extends((from, &old), (n, &new), &bent));
        }
        // A log that differs in one old entry proves nothing of the old root.
        let mut fork = Log::default();
        let differs = forked % from;
        (0..n).for_each(|i| {
            fork.append(&if i == differs { [9; 8] } else { i.to_le_bytes() });
        });
        let proof = fork.consistency(from, n).unwrap();
        prop_assert!(!extends((from, &old), (n, &fork.root(n).unwrap()), &proof));
    }

    #[test]
    fn garbage_is_no_message(bytes in prop::collection::vec(any::<u8>(), 0..1300)) {
        if let Ok(batch) = Batch::from_bytes(&bytes) {
            prop_assert_eq!(batch.to_bytes(), bytes.clone());
        }
        if let Ok(named) = Named::from_bytes(&bytes) {
            prop_assert_eq!(named.to_bytes(), bytes.clone());
        }
        if let Ok(head) = Head::from_bytes(&bytes) {
            prop_assert_eq!(head.to_bytes(), bytes);
        }
    }
}

struct World {
    keeper: SigningKey,
    sites: Vec<(String, SigningKey)>,
    members: BTreeMap<String, [u8; 32]>,
    stocks: Vec<Stock>,
    log: Log,
    rng: ChaCha20Rng,
}

impl World {
    /// `n` sites that have each posted a batch.
    fn new(n: u8) -> Self {
        let keeper = SigningKey::from_bytes(&[200; 32]);
        let sites: Vec<_> = (0..n)
            .map(|i| (format!("site-{i:02}"), SigningKey::from_bytes(&[i + 1; 32])))
            .collect();
        let members = sites.iter().map(|(name, key)| (name.clone(), key.public())).collect();
        let stocks = sites.iter().map(|_| Stock::default()).collect();
        let (log, rng) = (Log::default(), ChaCha20Rng::seed_from_u64(u64::from(n)));
        let mut world = Self { keeper, sites, members, stocks, log, rng };
        (0..usize::from(n)).for_each(|site| world.post(site));
        world
    }

    fn post(&mut self, site: usize) {
        let (name, key) = &self.sites[site];
        let keeper = self.keeper.public();
        let batch = self.stocks[site].make(&keeper, name, key, &mut self.rng);
        assert_eq!(batch.check(&keeper, &key.public()), Ok(()));
        self.log.append(&batch.entry(&keeper)).unwrap();
    }

    fn head(&self) -> Head {
        Head::sign(&self.log, &self.keeper)
    }

    /// One pair of each site's batch, by its place in the log.
    fn named(&self, pair: u8) -> Vec<Named> {
        let size = self.log.size();
        let batches = self.stocks.iter().map(|stock| stock.newest().unwrap());
        (0..)
            .zip(batches)
            .map(|(at, batch)| batch.name(pair, &self.log, at, size).unwrap())
            .collect()
    }

    fn check(&self, head: &Head, all: &[Named]) -> Result<(), Rejection> {
        check_named(&self.keeper.public(), head, all, &self.members)
    }
}

#[test]
fn what_is_named_is_proven_whatever_the_number_of_sites() {
    for n in [1, 2, 3, 5, 8, 13] {
        let world = World::new(n);
        let all = world.named(n % 16);
        assert_eq!(world.check(&world.head(), &all), Ok(()), "{n}");
        for named in &all {
            let bytes = named.to_bytes();
            assert!(bytes.len() <= NAMED_BYTES_MAX);
            assert_eq!(Named::from_bytes(&bytes).as_ref(), Ok(named));
        }
    }
}

#[test]
fn every_change_to_what_is_named_is_found() {
    let world = World::new(5);
    let (head, all) = (world.head(), world.named(3));
    let code = |all: &[Named]| world.check(&head, all).map_err(|rejection| rejection.code());
    let bytes = all[2].to_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(other) = Named::from_bytes(&flipped) else { continue };
        let mut others = all.clone();
        others[2] = other;
        assert!(code(&others).is_err(), "bit {bit}");
    }
    let mut swapped = all.clone();
    swapped.swap(1, 2);
    assert_eq!(code(&swapped), Err("order"));
    let repeated = [all[1].clone(), all[1].clone()];
    assert_eq!(code(&repeated), Err("order"));
    // The keys of one site under the name of another.
    let mut renamed = all.clone();
    renamed[1] = all[2].clone();
    renamed[1].name.clone_from(&all[1].name);
    assert_eq!(code(&renamed), Err("bad_proof"));
    // A batch that is signed and not in the log.
    let mut later = World::new(5);
    later.post(4);
    let size = later.log.size();
    let withheld = later.stocks[4].newest().unwrap().name(0, &later.log, 5, size).unwrap();
    assert_eq!(later.check(&later.head(), std::slice::from_ref(&withheld)), Ok(()));
    assert_eq!(code(&[withheld]), Err("bad_proof"));
    // Signed for the log of another keeper.
    let other = SigningKey::from_bytes(&[201; 32]);
    let elsewhere = Head::sign(&world.log, &other);
    let members = &world.members;
    let found = check_named(&other.public(), &elsewhere, &all, members);
    assert_eq!(found.unwrap_err().code(), "bad_proof");
    let nobody = BTreeMap::new();
    let found = check_named(&world.keeper.public(), &head, &all, &nobody);
    assert_eq!(found.unwrap_err().code(), "unknown_site");
}

#[test]
fn a_batch_with_a_key_twice_or_of_small_order_or_unsigned_is_refused() {
    let mut world = World::new(1);
    let keeper = world.keeper.public();
    let (name, key) = &world.sites[0];
    let keys: Vec<_> = (0..BATCH_KEYS).map(|_| OneTimeKeys::draw(&mut world.rng).public).collect();
    let code = |keys: Vec<_>| {
        let batch = Batch::new(&keeper, name, keys, key);
        batch.check(&keeper, &key.public()).map_err(|rejection| rejection.code())
    };
    assert_eq!(code(keys.clone()), Ok(()));
    let mut twice = keys.clone();
    twice[7] = twice[3];
    assert_eq!(code(twice), Err("duplicate"));
    let mut crossed = keys.clone();
    crossed[7].mask = crossed[3].channel;
    assert_eq!(code(crossed), Err("duplicate"));
    let mut small = keys.clone();
    small[15].mask = [0; 32];
    assert_eq!(code(small), Err("bad_key"));
    let batch = Batch::new(&keeper, name, keys, key);
    let bytes = batch.to_bytes();
    assert!(bytes.len() <= BATCH_BYTES_MAX);
    assert_eq!(Batch::from_bytes(&bytes).as_ref(), Ok(&batch));
    for bit in (0..bytes.len() * 8).step_by(7) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = Batch::from_bytes(&flipped) {
            assert!(other.check(&keeper, &key.public()).is_err(), "bit {bit}");
            assert_ne!(other.id(), batch.id());
        }
    }
    assert!(batch.check(&[9; 32], &key.public()).is_err(), "another log");
}

#[test]
fn a_head_is_taken_if_it_extends_the_newest_and_no_other() {
    let mut world = World::new(3);
    let keeper = world.keeper.public();
    let old = world.head();
    (0..3).for_each(|site| world.post(site));
    let new = world.head();
    let proof = world.log.consistency(3, 6).unwrap();
    assert_eq!(new.check_extends(Some(&old), &proof, &keeper), Ok(()));
    assert_eq!(new.check_extends(Some(&new), &[], &keeper), Ok(()));
    assert_eq!(new.check_extends(Some(&new), &proof, &keeper), Ok(()), "the same again");
    assert_eq!(new.check_extends(None, &[], &keeper), Ok(()));
    assert_eq!(new.check_extends(None, &proof, &keeper), Ok(()), "proven from what it never had");
    assert_eq!(new.check_extends(Some(&old), &[], &keeper), Err(HeadError::Unproven));
    // The old head again, after the new one was taken: also with a proof that it once was right.
    assert_eq!(old.check_extends(Some(&new), &proof, &keeper), Err(HeadError::RolledBack));
    // A fork of what was before the new head: it extends the old one, but not the new one.
    let mut fork = World::new(3);
    (0..3).rev().for_each(|site| fork.post(site));
    let other = fork.head();
    let proof = fork.log.consistency(3, 6).unwrap();
    assert_eq!(other.check_extends(Some(&old), &proof, &keeper), Ok(()));
    assert_eq!(other.check_extends(Some(&new), &proof, &keeper), Err(HeadError::Forked));
    assert_eq!(other.check_extends(Some(&new), &[], &keeper), Err(HeadError::Forked));
    (0..3).for_each(|site| fork.post(site));
    let proof = fork.log.consistency(6, 9).unwrap();
    let longer = fork.head();
    assert_eq!(longer.check_extends(Some(&new), &proof, &keeper), Err(HeadError::Unproven));
    // Signed by somebody else.
    assert_eq!(new.check_extends(None, &[], &[1; 32]), Err(HeadError::Unsigned));
    let bytes = new.to_bytes();
    assert_eq!(bytes.len(), HEAD_BYTES);
    assert_eq!(Head::from_bytes(&bytes).as_ref(), Ok(&new));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(head) = Head::from_bytes(&flipped) {
            assert_eq!(head.check(&keeper), Err(HeadError::Unsigned), "bit {bit}");
        }
    }
}

#[test]
fn keys_leave_the_stock_once() {
    let mut world = World::new(2);
    let all = world.named(4);
    assert!(world.stocks[0].take(&all[1]).is_none(), "another site's");
    assert!(world.stocks[0].take(&all[0]).is_some());
    assert!(world.stocks[0].take(&all[0]).is_none(), "taken before");
    assert_eq!(world.stocks[0].left(), BATCH_KEYS - 1);
    // What was named when the next batch was on its way is still there, once.
    let named = world.named(5).remove(0);
    world.post(0);
    assert_eq!(world.stocks[0].left(), BATCH_KEYS);
    assert!(world.stocks[0].take(&named).is_some() && world.stocks[0].take(&named).is_none());
    let named = world.stocks[0].newest().unwrap().name(0, &world.log, 2, 3).unwrap();
    world.post(0);
    world.post(0);
    assert!(world.stocks[0].take(&named).is_none(), "two batches before");
    world.stocks[0].clear();
    assert_eq!(world.stocks[0].left(), 0);
}

#[test]
fn what_is_agreed_on_ahead_is_what_would_be_agreed_on() {
    let mut world = World::new(4);
    let all = world.named(0);
    let keys: Vec<OneTimeKeys> =
        (0..4).map(|site| world.stocks[site].take(&all[site]).unwrap()).collect();
    let agreement = Agreement::with_named(&keys[1], "site-01", &all);
    assert_eq!(agreement.len(), 6);
    let known = Known(vec![Arc::new(agreement.run())]);
    let nothing = Known::default();
    let own = &keys[1];
    let stranger = OneTimeKeys::draw(&mut world.rng);
    let mask = [&keys[0].public.mask, &stranger.public.mask, &keys[3].public.mask];
    let channel = [&keys[0].public.channel, &keys[2].public.channel, &[0; 32]];
    for (private, public, others) in
        [(own.mask(), own.public.mask, mask), (own.channel(), own.public.channel, channel)]
    {
        let ahead = known.agree_all(private, &public, &others);
        let now = nothing.agree_all(private, &public, &others);
        let bytes = |found: &[Option<crate::secret::Secret<32>>]| -> Vec<Option<[u8; 32]>> {
            found.iter().map(|found| found.as_ref().map(|s| *s.expose())).collect()
        };
        assert_eq!(bytes(&ahead), bytes(&now));
    }
    assert!(known.has(&own.public.mask, &keys[0].public.mask));
    assert!(!known.has(&own.public.mask, &keys[0].public.channel), "the other kind");
    assert!(!known.has(&keys[2].public.mask, &keys[0].public.mask), "another one's");
    assert!(!known.has(&own.public.mask, &stranger.public.mask));
}
