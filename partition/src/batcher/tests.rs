//! The queue alone: nothing lost or doubled, order within a site, fairness, sequences.

use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { batch_rows: 4, queue_bytes: 100, site_bytes: 60 };
const WIDE: Limits = Limits { batch_rows: 4, queue_bytes: 100_000, site_bytes: 100_000 };

fn key(from: u32) -> Key {
    Key { range: Nodes { version: [1; 32], from, to: 9 }, like: vec![(DType::F32, vec![3])] }
}

fn item(site: &str, rows: usize, payload: u32) -> Item<u32> {
    Item {
        site: site.into(),
        rows,
        bytes: 10,
        cost: rows as u64 * 10,
        since: 0,
        expires: None,
        sequence: None,
        payload,
    }
}

fn step(site: &str, number: u64, payload: u32) -> Item<u32> {
    let range = key(1).range;
    let id = SequenceId { site: site.into(), range, number };
    Item { sequence: Some(id), ..item(site, 1, payload) }
}

fn take(batcher: &mut Batcher<u32>) -> Vec<u32> {
    let batch = batcher.take(0, |_| false).map(|batch| batch.items).unwrap_or_default();
    batch.into_iter().map(|item| item.payload).collect()
}

#[test]
fn what_is_there_runs_at_once_and_together() {
    let mut b = Batcher::new(LIMITS);
    assert!(b.take(0, |_| false).is_none());
    assert!(b.push(key(1), item("a", 1, 1)).is_ok());
    assert_eq!(take(&mut b), [1]);
    for n in 0..5 {
        assert!(b.push(key(1), item("a", 1, n)).is_ok());
    }
    assert_eq!(take(&mut b), [0, 1, 2, 3]);
    assert_eq!(take(&mut b), [4]);
    assert!(b.is_empty() && b.bytes() == 0);
}

#[test]
fn a_busy_site_delays_another_by_one_batch_at_most() {
    let mut b = Batcher::new(WIDE);
    for n in 0..60 {
        assert!(b.push(key(1), item("busy", 1, n)).is_ok());
    }
    take(&mut b);
    assert!(b.push(key(1), item("small", 1, 99)).is_ok());
    assert!(take(&mut b).contains(&99));
}

#[test]
fn many_cuts_do_not_buy_a_site_more_than_its_share() {
    let mut b = Batcher::new(WIDE);
    for n in 0..20 {
        assert!(b.push(key(n % 7), item("busy", 2, n)).is_ok());
    }
    assert!(b.push(key(8), item("small", 1, 99)).is_ok());
    let batches: Vec<_> = (0..2).map(|_| take(&mut b)).collect();
    assert!(batches.concat().contains(&99), "{batches:?}");
    assert_eq!(b.ahead("small", 10), 10, "others count for no more than the site's own");
    assert!(b.ahead("busy", 20) > 300);
}

#[test]
fn cuts_versions_and_shapes_never_mix() {
    let mut b = Batcher::new(WIDE);
    let other = Key { like: vec![(DType::F32, vec![4])], ..key(1) };
    for (n, key) in [key(1), key(2), other, key(1)].into_iter().enumerate() {
        assert!(b.push(key, item("a", 1, u32::try_from(n).unwrap())).is_ok());
    }
    assert_eq!(take(&mut b), [0, 3]);
    assert_eq!(take(&mut b), [1]);
    assert_eq!(take(&mut b), [2]);
}

#[test]
fn a_full_queue_says_whose_fault_it_is() {
    let mut b = Batcher::new(LIMITS);
    for n in 0..6 {
        assert!(b.push(key(1), item("a", 1, n)).is_ok());
    }
    assert_eq!(b.push(key(1), item("a", 1, 7)).err().unwrap().0, Full::Site);
    for n in 0..4 {
        assert!(b.push(key(1), item("b", 1, n)).is_ok());
    }
    assert_eq!(b.push(key(1), item("c", 1, 7)).err().unwrap().0, Full::Queue);
    assert_eq!(b.bytes(), 100);
    take(&mut b);
    assert!(b.push(key(1), item("c", 1, 7)).is_ok());
}

#[test]
fn late_ones_come_out_beside_the_batch_and_gone_ones_not_at_all() {
    let mut b = Batcher::new(LIMITS);
    assert!(b.push(key(1), Item { expires: Some(5), ..item("a", 1, 1) }).is_ok());
    assert!(b.push(key(1), item("a", 1, 2)).is_ok());
    assert!(b.push(key(1), item("b", 1, 3)).is_ok());
    let batch = b.take(5, |payload| *payload == 3).unwrap();
    assert_eq!(batch.late.iter().map(|i| i.payload).collect::<Vec<_>>(), [1]);
    assert_eq!(batch.items.iter().map(|i| i.payload).collect::<Vec<_>>(), [2]);
    assert!(b.is_empty() && b.bytes() == 0);
    for n in 0..3 {
        assert!(b.push(key(1), step("a", 1, n)).is_ok());
    }
    b.forget(|payload| *payload < 2);
    assert_eq!(take(&mut b), [2], "a sequence goes on behind the steps that were dropped");
}

#[test]
fn steps_of_one_sequence_run_one_after_another() {
    let mut b = Batcher::new(WIDE);
    for n in 0..3 {
        assert!(b.push(key(1), step("a", 1, n)).is_ok());
    }
    assert!(b.push(key(1), step("a", 2, 10)).is_ok());
    assert!(b.push(key(1), step("b", 1, 20)).is_ok());
    let id = step("a", 1, 0).sequence.unwrap();
    let mut first = take(&mut b);
    first.sort_unstable();
    assert_eq!(first, [0, 10, 20]);
    assert!(take(&mut b).is_empty(), "its next step waits for the first's end");
    b.finished(&id);
    assert_eq!(take(&mut b), [1]);
    b.finished(&id);
    assert_eq!(take(&mut b), [2]);
    b.finished(&id);
    assert!(b.push(key(1), step("a", 1, 3)).is_ok());
    assert_eq!(take(&mut b), [3]);
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_or_out_of_its_sites_order(
        pushes in prop::collection::vec((0u32..3, 0u32..4, 1usize..6, 0u64..3), 0..60),
        pauses in prop::collection::vec(any::<bool>(), 60),
    ) {
        let mut b = Batcher::new(WIDE);
        let mut seen: Vec<u32> = Vec::new();
        let mut last: BTreeMap<(Key, Site), u32> = BTreeMap::new();
        let mut steps: BTreeMap<SequenceId, u32> = BTreeMap::new();
        let mut check = |b: &mut Batcher<u32>| -> Result<bool, TestCaseError> {
            let Some(batch) = b.take(0, |_| false) else { return Ok(false) };
            prop_assert!(!batch.items.is_empty());
            let rows: usize = batch.items.iter().map(|i| i.rows).sum();
            prop_assert!(rows <= WIDE.batch_rows || batch.items.len() == 1);
            let mut within = BTreeSet::new();
            for i in batch.items {
                if let Some(id) = i.sequence {
                    prop_assert!(within.insert(id.clone()), "two steps of a sequence in one batch");
                    prop_assert!(steps.insert(id.clone(), i.payload).is_none_or(|n| n < i.payload));
                    b.finished(&id);
                } else if let Some(before) = last.insert((batch.key.clone(), i.site), i.payload) {
                    prop_assert!(before < i.payload);
                }
                seen.push(i.payload);
            }
            Ok(true)
        };
        for (n, (from, site, rows, sequence)) in pushes.iter().enumerate() {
            let payload = u32::try_from(n).unwrap();
            let new = match sequence {
                0 => item(&site.to_string(), *rows, payload),
                number => Item { rows: *rows, ..step(&site.to_string(), *number, payload) },
            };
            prop_assert!(b.push(key(*from), new).is_ok());
            if pauses[n] {
                check(&mut b)?;
            }
        }
        while check(&mut b)? {}
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..u32::try_from(pushes.len()).unwrap()).collect::<Vec<_>>());
        prop_assert!(b.is_empty() && b.bytes() == 0);
    }

    #[test]
    fn shares_are_even_while_all_wait(rows in prop::collection::vec(1usize..4, 3)) {
        let mut b = Batcher::new(WIDE);
        for (site, rows) in rows.iter().enumerate() {
            for _ in 0..60 {
                prop_assert!(b.push(key(1), item(&site.to_string(), *rows, u32::try_from(site).unwrap())).is_ok());
            }
        }
        let mut ran = [0usize; 3];
        for _ in 0..30 {
            for i in b.take(0, |_| false).unwrap().items {
                ran[i.payload as usize] += i.rows;
            }
        }
        let (least, most) = (ran.iter().min().unwrap(), ran.iter().max().unwrap());
        prop_assert!(most - least <= 12, "{:?}", ran);
    }
}
