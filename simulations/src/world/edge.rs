//! What happens at the sites' machines, and on the wire.

use super::{Happening, Machine, World};
use crate::network::{Direction, draw};
use crate::site::Working;
use koinon_client::participant::{Effect, Event};
use koinon_client::trainer::Job;
use koinon_proto::{Digest, Millis, SessionId, wire};

/// The machine stopped before it had done everything.
struct Stopped(&'static str);

impl World {
    pub(super) fn site_starts(&mut self, now: Millis, site: usize) {
        self.note(now, || format!("site {site} starts"));
        match self.sites[site].start() {
            Ok(()) => {
                let life = self.sites[site].life;
                self.queue.push(now, Happening::Dial { site, life });
            }
            Err(e) => {
                let what = format!("cannot resume its own state: {e}");
                self.checker.violation(now, format!("site {site}"), what);
            }
        }
    }

    pub(super) fn dial(&mut self, now: Millis, site: usize, life: u64) {
        let machine = &self.sites[site];
        if machine.life != life || machine.core.is_none() || machine.connection.is_some() {
            return;
        }
        if self.hub.core.is_none() || !self.network.reachable(self.since_start(now), site) {
            return self.dial_later(now, site);
        }
        self.connections += 1;
        let connection = self.connections;
        let there = self.start_ms + self.network.opens(self.since_start(now), site);
        self.queue.push(there, Happening::HubConnected { site, connection });
        self.sites[site].connection = Some(connection);
        if let Some(planted) = &mut self.planted {
            planted.connected(site);
        }
        self.note(now, || format!("site {site} dials, connection {connection}"));
        self.site_event(now, site, Event::Connected);
    }

    fn dial_later(&mut self, now: Millis, site: usize) {
        let later = now.saturating_add(self.network.reconnect_delay());
        let life = self.sites[site].life;
        self.queue.push(later, Happening::Dial { site, life });
    }

    pub(super) fn site_disconnected(&mut self, now: Millis, site: usize, connection: u64) {
        if self.sites[site].connection != Some(connection) {
            return;
        }
        self.sites[site].connection = None;
        self.site_event(now, site, Event::Disconnected);
        if self.sites[site].core.is_some() {
            self.dial_later(now, site);
        }
    }

    /// Both ends notice, each in its time.
    pub(super) fn break_connection(&mut self, now: Millis, site: usize, connection: u64) {
        self.note(now, || format!("connection {connection} of site {site} breaks"));
        let (a, b) = (self.network.delay(), self.network.delay());
        self.queue.push(now.saturating_add(a), Happening::SiteDisconnected { site, connection });
        self.queue.push(now.saturating_add(b), Happening::HubDisconnected { site, connection });
    }

    pub(super) fn site_tick(&mut self, now: Millis, site: usize, life: u64) {
        let machine = &mut self.sites[site];
        if machine.life == life && machine.tick_ms.is_some_and(|due| due <= now) {
            machine.tick_ms = None;
            self.site_event(now, site, Event::Tick);
        }
    }

    pub(super) fn down(
        &mut self,
        now: Millis,
        site: usize,
        connection: u64,
        frame: wire::CoordinatorFrame,
    ) {
        if self.sites[site].connection != Some(connection) {
            return;
        }
        self.note(now, || format!("{site} < coordinator {}", crate::trace::hub_frame(&frame)));
        self.checker.reaches_site(site, &frame);
        if let Some(liar) = &mut self.site_liars[site] {
            liar.hears(&frame);
        }
        let forked = match &mut self.planted {
            Some(planted) => planted.forked(now, site, &self.sites[site], &frame),
            None => Vec::new(),
        };
        self.site_event(now, site, Event::Frame(frame));
        for frame in forked {
            self.send_up(now, site, frame);
        }
    }

    pub(super) fn worked(&mut self, now: Millis, site: usize, life: u64, session: SessionId) {
        let machine = &mut self.sites[site];
        if machine.life == life
            && let Some(work) = machine.work.take_if(|work| work.session == session)
        {
            self.site_event(now, site, Event::Worked { session, result: work.result });
        }
    }

    pub(super) fn agreed(&mut self, now: Millis, site: usize, life: u64) {
        let machine = &mut self.sites[site];
        if machine.life == life
            && let Some((session, agreements)) = machine.agreed.pop_front()
        {
            self.site_event(now, site, Event::Agreed { session, agreements });
        }
    }

    pub(super) fn fetched(&mut self, now: Millis, site: usize, life: u64, digest: Digest) {
        if self.sites[site].life != life {
            return;
        }
        let up = self.hub.core.is_some() && self.network.reachable(self.since_start(now), site);
        let event = match self.hub.blob(&digest).filter(|_| up) {
            Some(bytes) => Event::Blob { digest, bytes },
            None => Event::BlobFailed { digest },
        };
        self.site_event(now, site, event);
    }

    pub(super) fn site_event(&mut self, now: Millis, site: usize, event: Event) {
        let effects = self.sites[site].handle(now, event);
        for effect in effects {
            if self.sites[site].core.is_none() {
                return;
            }
            if self.faults.site_crashes(self.since_start(now), site) {
                return self.site_crashes(now, site, "between two effects");
            }
            if let Err(Stopped(when)) = self.site_effect(now, site, effect) {
                return self.site_crashes(now, site, when);
            }
        }
        let machine = &mut self.sites[site];
        let due = machine.core.as_ref().and_then(|core| core.next_deadline());
        if let Some(due) = due
            && machine.tick_ms.is_none_or(|tick| due < tick)
        {
            machine.tick_ms = Some(due);
            self.queue.push(due, Happening::SiteTick { site, life: machine.life });
        }
    }

    fn site_effect(&mut self, now: Millis, site: usize, effect: Effect) -> Result<(), Stopped> {
        match effect {
            Effect::Persist(bytes) => {
                self.perhaps_full(now, Machine::Site(site));
                let full = |_| Stopped("because its disk is full");
                self.sites[site].put_state(&bytes).map_err(full)?;
                self.sync(now, site)
            }
            Effect::PersistVector { bytes, .. } => {
                self.perhaps_full(now, Machine::Site(site));
                let full = |_| Stopped("because its disk is full");
                self.sites[site].put_vector(bytes.to_vec()).map_err(full)?;
                self.sync(now, site)
            }
            Effect::DropVector => {
                self.sites[site].drop_vector();
                Ok(())
            }
            Effect::Send(frame) => {
                self.send_up(now, site, frame);
                Ok(())
            }
            Effect::Fetch(digest) => {
                let there_and_back = self.network.delay() + self.network.delay();
                let life = self.sites[site].life;
                let at = now.saturating_add(there_and_back);
                self.queue.push(at, Happening::Fetched { site, life, digest });
                Ok(())
            }
            Effect::Work(job) => {
                self.work(now, site, &job);
                Ok(())
            }
            Effect::StopWork { session } => {
                self.sites[site].work.take_if(|work| work.session == session);
                Ok(())
            }
            Effect::Agree { session, agreement } => {
                let machine = &mut self.sites[site];
                machine.agreed.push_back((session, agreement.run()));
                let at = now.saturating_add(AGREE_MS);
                self.queue.push(at, Happening::Agreed { site, life: machine.life });
                Ok(())
            }
            Effect::Note(note) => {
                self.note(now, || format!("{site} notes {}", crate::trace::note(&note)));
                Ok(())
            }
        }
    }

    fn sync(&mut self, now: Millis, site: usize) -> Result<(), Stopped> {
        if self.faults.site_crashes(self.since_start(now), site) {
            return Err(Stopped("before a sync"));
        }
        self.sites[site].disk.sync().map_err(|_| Stopped("because its disk is full"))
    }

    /// The work itself takes no virtual time; its result is held back until it would be done.
    fn work(&mut self, now: Millis, site: usize, job: &Job) {
        let result = self.sites[site].trainer.work(job, &|| false).map(|work| work.contribution);
        if let Ok(contribution) = &result {
            self.checker.contribution(now, site, job.session, contribution);
        }
        let result = match &mut self.planted {
            Some(planted) => result.map(|contribution| planted.contributed(site, contribution)),
            None => result,
        };
        let session = job.session;
        let took = draw(&mut self.work_rng, self.settings.work_ms) * self.faults.slowness(site);
        self.sites[site].work = Some(Working { session, result });
        let life = self.sites[site].life;
        self.queue.push(now.saturating_add(took), Happening::Worked { site, life, session });
    }

    fn send_up(&mut self, now: Millis, site: usize, frame: wire::SiteFrame) {
        let frame = match &mut self.planted {
            Some(planted) => planted.sent(site, frame, &self.checker),
            None => frame,
        };
        let frames = match &mut self.site_liars[site] {
            Some(liar) => liar.up(frame),
            None => {
                self.checker.leaves_site(now, site, &frame);
                vec![frame]
            }
        };
        let Some(connection) = self.sites[site].connection else { return };
        for frame in frames {
            if self.network.breaks(self.since_start(now)) {
                return self.break_connection(now, site, connection);
            }
            for at in self.arrivals(now, site, Direction::Up) {
                let frame = frame.clone();
                self.queue.push(at, Happening::Up { site, connection, frame });
            }
        }
    }

    /// The network counts from the start of the run.
    pub(super) fn arrivals(&mut self, now: Millis, site: usize, way: Direction) -> Vec<Millis> {
        let since = self.since_start(now);
        let start = self.start_ms;
        self.network.arrivals(since, site, way).into_iter().map(|at| at + start).collect()
    }

    fn site_crashes(&mut self, now: Millis, site: usize, when: &str) {
        self.note(now, || format!("site {site} crashes {when}"));
        self.checker.counts.site_crashes += 1;
        if let Some(connection) = self.sites[site].connection {
            let later = now.saturating_add(self.network.delay());
            self.queue.push(later, Happening::HubDisconnected { site, connection });
        }
        self.sites[site].crash(self.faults.rng());
        let later = now.saturating_add(self.faults.restart_delay());
        self.queue.push(later, Happening::SiteStarts { site });
    }
}

/// How long a site takes to agree with the others.
const AGREE_MS: Millis = 5;
