//! Keys posted ahead, at the coordinator's end: who is asked for them, and what is told of the log.
//!
//! Nothing of a round waits for any of it. Start at [`Coordinator::keys_ahead`].

use koinon_aggregation::ahead::Head;
use koinon_aggregation::{COMPLETE_MAX, Signer as _, plain};
use koinon_proto::wire::to_site::Message;
use koinon_proto::{SiteId, TaskManifest, wire};

use super::{Coordinator, Out};
use crate::event::Rejection;
use crate::keys::{Ahead, FEW};
use crate::record::Change;

impl Coordinator {
    /// What the invitation of a round names of posted keys. Only where everybody shares with everybody
    /// is anybody's neighbour known before the participants are; and only where all who are invited
    /// know what it means.
    pub(super) fn keys_ahead(&self, manifest: &TaskManifest, cohort: &[SiteId]) -> Option<Ahead> {
        let knows =
            |site: &SiteId| self.connections.get(site).is_some_and(|c| c.log_size.is_some());
        if !can_name(manifest) || !cohort.iter().all(knows) {
            return None;
        }
        let head = self.state.keys.head(&self.setup.identity)?;
        self.state.keys.name(cohort, &head)
    }

    /// Drops keys that these sites signed with an identity which is not theirs now: one pair that nobody
    /// can take would cost the whole round. Asked before keys are named, because a roster that was
    /// published just before a crash, or whose time came, drops nothing by itself.
    pub(super) fn drop_stale_keys(&mut self, out: &mut Out, cohort: &[SiteId]) {
        let stale = |site: &&SiteId| self.state.keys.is_stale(site, self.key_of(site));
        for site in cohort.iter().filter(stale).cloned().collect::<Vec<_>>() {
            self.decide(out, Change::KeysDropped { site });
        }
    }

    /// A site posts keys.
    pub(super) fn on_posted_keys(
        &mut self,
        out: &mut Out,
        site: &SiteId,
        (identity, batch): ([u8; 32], Vec<u8>),
    ) -> Result<(), Rejection> {
        let keeper = self.setup.identity.public();
        let change = self.state.keys.check(site, batch, (&identity, &keeper), self.now)?;
        change.into_iter().for_each(|change| self.decide(out, change));
        Ok(())
    }

    /// A site shows the head of the log that it took last.
    pub(super) fn on_log_head(&mut self, out: &mut Out, site: &SiteId, head: &[u8]) {
        let keeper = self.setup.identity.public();
        if let Some(change) = self.state.keys.contradicted_by(head, &keeper) {
            self.decide(out, change);
        }
        let size = Head::from_bytes(head).ok().filter(|head| head.check(&keeper).is_ok());
        let connection = self.connections.get_mut(site);
        if let (Some(head), Some(known)) = (size, connection.and_then(|c| c.log_size.as_mut())) {
            // Never less: an invitation may be on its way that the site did not know when it said so,
            // and a site that has no head of this keeper takes any.
            *known = head.size().max(*known);
        }
    }

    /// Asks a site for keys, if few of its keys wait and some task may need them.
    pub(super) fn want_keys(&mut self, out: &mut Out, site: &SiteId) {
        let Some(connection) = self.connections.get(site) else { return };
        let tasks = connection.check_in.iter().flat_map(|check_in| &check_in.tasks);
        let open = |task| self.state.tasks.get(task).filter(|task| task.end.is_none());
        let useful = tasks.filter_map(open).any(|task| can_name(&task.manifest));
        let (keys, keeper) = (&self.state.keys, self.setup.identity.public());
        let left = keys.left(site, &keeper);
        if useful && connection.log_size.is_some() && left <= FEW && keys.lost(&keeper).is_none() {
            let waiting = u32::try_from(left).expect("a batch is small");
            self.post(out, site, Message::KeysWanted(wire::KeysWanted { waiting }));
        }
    }

    /// Adds to an invitation what shows this very site that the log has only grown; says how many
    /// entries the site knows of once it has read it.
    pub(super) fn prove_log(&self, site: &SiteId, message: &mut Message) -> Option<u64> {
        let Message::Invite(wire::Invite { keys: Some(ahead), .. }) = message else { return None };
        let head = Head::from_bytes(&ahead.head).ok()?;
        let known = self.connections.get(site)?.log_size.unwrap_or_default();
        ahead.consistency = self.state.keys.consistency(known, head.size());
        Some(head.size())
    }

    /// A head of the log of posted keys that this coordinator signed and does not have any more: its
    /// journal was restored from a backup. Rounds go on without posted keys until the coordinator gets
    /// another identity.
    #[must_use]
    pub fn lost_key_log(&self) -> Option<&[u8]> {
        self.state.keys.lost(&self.setup.identity.public()).map(|head| &head[..])
    }
}

fn can_name(manifest: &TaskManifest) -> bool {
    usize::from(manifest.cohort.max) <= COMPLETE_MAX && plain::topology(&manifest.name).is_none()
}
