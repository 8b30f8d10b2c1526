//! A coordinator's log of posted keys, in the hands of a test: honest by itself, and whatever a test
//! makes of it.

use std::collections::BTreeMap;

use koinon_aggregation::SessionPlan;
use koinon_aggregation::Signer as _;
use koinon_aggregation::ahead::{Batch, Head, Log};
use koinon_proto::wire::to_coordinator::Message as FromSite;
use koinon_proto::wire::to_site::Message as ToSite;
use koinon_proto::{context_with_keys, named_keys, wire};

use super::world::{Round, Rounds, Task, World};

/// The log, and each site's batch with its place in it.
#[derive(Clone, Default)]
pub(crate) struct Hub {
    pub(crate) log: Log,
    pub(crate) batches: BTreeMap<String, (Batch, u64)>,
}

impl Hub {
    /// Asks these sites for keys, and takes what they post.
    pub(crate) fn collect(&mut self, world: &mut World, sites: &[usize]) {
        world.now += 60_000;
        for &index in sites {
            world.tell(index, ToSite::KeysWanted(wire::KeysWanted { waiting: 0 }));
            self.take(world, index);
        }
    }

    /// Takes what a site posted; says how many batches.
    pub(crate) fn take(&mut self, world: &mut World, index: usize) -> usize {
        let keeper = world.coordinator.public();
        let posted = posted(world, index);
        for bytes in &posted {
            let batch = Batch::from_bytes(bytes).unwrap();
            assert_eq!(batch.site(), world.sites[index].name.as_str());
            let place = self.log.append(&batch.entry(&keeper)).unwrap();
            self.batches.insert(batch.site().to_owned(), (batch, place));
        }
        posted.len()
    }

    /// What an invitation says: this pair of each batch, for sites that took a head of `known` entries.
    pub(crate) fn ahead(&self, world: &World, pair: u8, known: u64) -> wire::KeysAhead {
        let size = self.log.size();
        let named = self.batches.values();
        let named = named.map(|(batch, place)| batch.name(pair, &self.log, *place, size).unwrap());
        let consistency = self.log.consistency(known, size).unwrap_or_default();
        wire::KeysAhead {
            head: Head::sign(&self.log, &world.coordinator).to_bytes(),
            named: named.map(|named| named.to_bytes()).collect(),
            consistency: consistency.into_iter().map(Vec::from).collect(),
        }
    }
}

/// The batches that a site posted and nobody took yet.
pub(crate) fn posted(world: &mut World, index: usize) -> Vec<Vec<u8>> {
    world.take(index, |message| match message {
        FromSite::PostedKeys(posted) => Some(posted.batch.clone()),
        _ => None,
    })
}

/// An invitation with posted keys, its plan bound to them.
pub(crate) fn with_keys(
    world: &World,
    task: &Task,
    round: &Round,
    keys: wire::KeysAhead,
) -> (SessionPlan, wire::Invite) {
    let mut plan = world.plan(task, round);
    plan.context = context_with_keys(&plan.context, &keys.head, &named_keys(&keys.named));
    let plan_bytes = plan.to_bytes();
    let invite = wire::Invite { plan: plan_bytes, keys: Some(keys), ..world.invite(task, round) };
    (plan, invite)
}

/// A round of these sites that begins with posted keys.
pub(crate) fn start(
    world: &mut World,
    task: &Task,
    round: &Round,
    sites: &[usize],
    keys: &wire::KeysAhead,
) -> Rounds {
    let (plan, invite) = with_keys(world, task, round, keys.clone());
    for &index in sites {
        world.tell_current(index, ToSite::Invite(invite.clone()));
    }
    Rounds::of(plan, sites)
}
