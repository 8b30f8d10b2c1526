//! What happens at the coordinator's machine.

use super::{Happening, Machine, SETTLE_MS, World};
use crate::hub::Interrupted;
use crate::network::Direction;
use koinon_coordinator::event::{Effect, Event};
use koinon_coordinator::record::Record;
use koinon_proto::{Millis, wire};

impl World {
    pub(super) fn hub_starts(&mut self, now: Millis) {
        self.note(now, || "coordinator starts".to_owned());
        match self.hub.start(now) {
            Ok((effects, kept)) => {
                self.records_durable(now, &kept);
                self.hub_effects(now, effects);
            }
            Err(e) => {
                let what = format!("cannot recover from its own journal: {e}");
                self.checker.violation(now, "coordinator", what);
                // Nothing can go on from here.
                self.hub_lost = true;
                self.ended_ms = Some(now.saturating_sub(SETTLE_MS));
            }
        }
        self.queue.push(now, Happening::Operate);
    }

    pub(super) fn hub_tick(&mut self, now: Millis) {
        if self.hub.tick_ms.is_some_and(|due| due <= now) {
            self.hub.tick_ms = None;
            self.hub_event(now, Event::Tick);
        }
    }

    pub(super) fn operate(&mut self, now: Millis) {
        if self.hub.core.is_none() || self.operator.task.is_some() {
            return;
        }
        let event = if self.operator.published {
            let (manifest, blobs) = (self.operator.manifest.clone(), self.operator.blobs.clone());
            Event::Submit { manifest, blobs, reply: 2 }
        } else {
            Event::PublishRoster { bytes: self.operator.roster.clone(), reply: 1 }
        };
        self.hub_event(now, event);
        self.queue.push(now.saturating_add(OPERATE_MS), Happening::Operate);
    }

    pub(super) fn cancel(&mut self, now: Millis) {
        if self.operator.cancelled || self.ended_ms.is_some() {
            return;
        }
        if let (Some(task), Some(_)) = (self.operator.task, &self.hub.core) {
            self.note(now, || "operator cancels".to_owned());
            self.hub_event(now, Event::Cancel { task, reply: 3 });
        }
        self.queue.push(now.saturating_add(OPERATE_MS), Happening::Cancel);
    }

    pub(super) fn hub_connected(&mut self, now: Millis, site: usize, connection: u64) {
        if self.hub.core.is_none() {
            return;
        }
        self.note(now, || format!("coordinator has connection {connection} of site {site}"));
        self.hub.connections.insert(site, connection);
        let name = self.sites[site].name().clone();
        self.hub_event(now, Event::Connected { site: name });
    }

    pub(super) fn hub_disconnected(&mut self, now: Millis, site: usize, connection: u64) {
        if self.hub.connections.get(&site) == Some(&connection) {
            self.hub.connections.remove(&site);
            let name = self.sites[site].name().clone();
            self.hub_event(now, Event::Disconnected { site: name });
        }
    }

    pub(super) fn up(&mut self, now: Millis, site: usize, connection: u64, frame: wire::SiteFrame) {
        if self.hub.connections.get(&site) == Some(&connection) {
            self.note(now, || format!("coordinator < {site} {}", crate::trace::site_frame(&frame)));
            let name = self.sites[site].name().clone();
            self.hub_event(now, Event::Frame { site: name, frame });
        }
    }

    pub(super) fn hub_event(&mut self, now: Millis, event: Event) {
        let effects = self.hub.handle(now, event);
        self.hub_effects(now, effects);
    }

    /// The driver's law: blobs, then records, both durable; then the rest, in order.
    fn hub_effects(&mut self, now: Millis, effects: Vec<Effect>) {
        if self.hub.core.is_none() {
            return;
        }
        let writes = |e: &Effect| matches!(e, Effect::Blob { .. } | Effect::Record(_));
        if effects.iter().any(writes) {
            self.perhaps_full(now, Machine::Hub);
        }
        let since = self.since_start(now);
        let faults = &mut self.faults;
        let planted = &self.planted;
        let keep = |record: &Record| planted.as_ref().is_none_or(|p| p.keeps(record));
        match self.hub.write(&effects, &mut || faults.coordinator_crashes(since), &keep) {
            Ok(records) => self.records_durable(now, &records),
            Err(Interrupted::Crash) => return self.hub_crashes(now, "while writing"),
            Err(Interrupted::Full) => return self.hub_crashes(now, "because its disk is full"),
            Err(Interrupted::Unreadable(e)) => {
                let what = format!("the journal cannot be read back: {e}");
                return self.checker.violation(now, "coordinator", what);
            }
        }
        for effect in effects {
            if self.faults.coordinator_crashes(self.since_start(now)) {
                return self.hub_crashes(now, "between two effects");
            }
            self.hub_effect(now, effect);
        }
        self.look_at_hub(now);
    }

    fn records_durable(&mut self, now: Millis, records: &[Record]) {
        for record in records {
            self.note(now, || format!("journal {}", crate::trace::record(record)));
        }
        let hub = &self.hub;
        self.checker.records(now, records, &|digest| hub.blob(digest));
    }

    fn hub_effect(&mut self, now: Millis, effect: Effect) {
        match effect {
            Effect::Blob { .. } | Effect::Record(_) => {}
            Effect::Send { site, frame } => {
                if let Some(site) = self.places.get(&site).copied() {
                    self.send_down(now, site, frame);
                }
            }
            Effect::Disconnect { site } => {
                if let Some(site) = self.places.get(&site).copied()
                    && let Some(connection) = self.hub.connections.get(&site).copied()
                {
                    self.queue.push(now, Happening::HubDisconnected { site, connection });
                    let later = now.saturating_add(self.network.delay());
                    self.queue.push(later, Happening::SiteDisconnected { site, connection });
                }
            }
            Effect::Reply { result, .. } => self.answered(result),
            Effect::Forget { digest } => self.hub.forget(&digest),
        }
    }

    fn send_down(&mut self, now: Millis, site: usize, frame: wire::CoordinatorFrame) {
        self.checker.leaves_coordinator(now, site, &frame);
        let Some(connection) = self.hub.connections.get(&site).copied() else { return };
        let frame = match &mut self.hub_liar {
            Some(liar) => liar.down(site, frame),
            None => frame,
        };
        if self.network.breaks(self.since_start(now)) {
            return self.break_connection(now, site, connection);
        }
        for at in self.arrivals(now, site, Direction::Down) {
            let frame = frame.clone();
            self.queue.push(at, Happening::Down { site, connection, frame });
        }
    }

    pub(super) fn hub_crashes(&mut self, now: Millis, when: &str) {
        self.note(now, || format!("coordinator crashes {when}"));
        self.checker.counts.coordinator_crashes += 1;
        for (site, connection) in std::mem::take(&mut self.hub.connections) {
            let later = now.saturating_add(self.network.delay());
            self.queue.push(later, Happening::SiteDisconnected { site, connection });
        }
        self.hub.crash(self.faults.rng());
        let later = now.saturating_add(self.faults.restart_delay());
        self.queue.push(later, Happening::HubStarts);
    }

    /// After a step: when the core wants to be asked again, and whether a restart would agree.
    fn look_at_hub(&mut self, now: Millis) {
        let Some(core) = &self.hub.core else { return };
        if let Some(due) = core.next_deadline()
            && self.hub.tick_ms.is_none_or(|tick| due < tick)
        {
            self.hub.tick_ms = Some(due);
            self.queue.push(due, Happening::HubTick);
        }
        if self.hub.written() >= self.hub.replay_at {
            let running = core.state_digest();
            let replayed = self.hub.replayed();
            self.checker.replayed(now, replayed, running);
            self.hub.replay_at = self.hub.written() + self.replay_every;
        }
    }
}

/// The operator asks again after so long.
const OPERATE_MS: Millis = 2_000;
