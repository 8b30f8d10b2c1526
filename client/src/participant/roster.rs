//! The roster: announced by the coordinator, believed only when the consortium signed it and it is
//! newer than the one in force.

use koinon_aggregation::roster::{Role, SignedRoster};
use koinon_proto::{Digest, Millis, wire};

use super::{Effect, Note, Participant, RosterWanted, Turn};
use crate::error::Fault;

impl Participant {
    pub(super) fn roster_announced(&mut self, turn: &mut Turn<'_>, notice: &wire::RosterNotice) {
        let Ok(digest) = Digest::try_from(&notice.digest[..]) else {
            return turn.fault(Fault::Malformed);
        };
        if self.roster_digest() == Some(digest) {
            return;
        }
        self.roster_wanted = Some(RosterWanted { digest, fetching: false });
        self.ask_for_roster(turn);
    }

    pub(super) fn ask_for_roster(&mut self, turn: &mut Turn<'_>) {
        if let Some(wanted) = self.roster_wanted.as_mut().filter(|wanted| !wanted.fetching) {
            wanted.fetching = true;
            turn.push(Effect::Fetch(wanted.digest));
        }
    }

    pub(super) fn roster_arrived(&mut self, turn: &mut Turn<'_>, bytes: Vec<u8>) {
        self.roster_wanted = None;
        match SignedRoster::verify(&bytes, &self.setup.consortium_key) {
            Ok(roster) if self.follows(&roster) => {
                let digest = Digest(roster.digest());
                let version = roster.roster().version;
                let member = self.is_member(&roster, turn.now);
                let before = self.coordinator_key(turn.now);
                self.durable.roster = bytes;
                self.roster = Some(roster);
                if self.coordinator_key(turn.now) != before {
                    // Another coordinator keeps another log: what waits was signed for the last one.
                    self.stock.clear();
                }
                self.link.log_size = self.log_size(turn.now);
                self.persist(turn);
                turn.note(Note::Roster { version, digest, member });
                self.check_in(turn);
            }
            Ok(_) | Err(_) => turn.fault(Fault::Roster),
        }
        self.release_held(turn);
    }

    fn follows(&self, roster: &SignedRoster) -> bool {
        self.roster.as_ref().is_none_or(|held| roster.check_follows(held).is_ok())
    }

    fn is_member(&self, roster: &SignedRoster, now: Millis) -> bool {
        use koinon_aggregation::Signer as _;
        let member = roster.roster().member(self.setup.site.as_str());
        member.is_some_and(|member| {
            member.role == Role::Client
                && member.key == self.setup.identity.public()
                && member.counts_at(Some(now))
        })
    }

    pub(super) fn roster_digest(&self) -> Option<Digest> {
        self.roster.as_ref().map(|roster| Digest(roster.digest()))
    }

    /// How many sites the roster has.
    pub(super) fn members(&self, now: Millis) -> usize {
        let roster = self.roster.as_ref().map(|signed| signed.roster());
        roster.map_or(0, |roster| roster.clients_at(Some(now)).members().count())
    }

    /// The key that signs the coordinator's mail: the roster's coordinator, by the name pinned here.
    pub(super) fn coordinator_key(&self, now: Millis) -> Option<[u8; 32]> {
        let roster = self.roster.as_ref()?.roster();
        let coordinator = roster.coordinator_at(Some(now))?;
        (coordinator.name == self.setup.coordinator.as_str()).then_some(coordinator.key)
    }
}
