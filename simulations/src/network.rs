//! The wire between sites and coordinator: latency, loss, duplication, reordering, cuts in time.
//!
//! It decides *when* a frame arrives, and how often. It never looks into one: what a frame says is
//! the business of the two cores, and of the liars in [`crate::liars`].
//!
//! Start at [`Network::arrivals`].

use crate::error::{SimError, check_share};
use koinon_proto::Millis;
use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The scenario's `[network]` section.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSettings {
    /// Least and greatest one-way delay of a frame.
    pub latency_ms: [Millis; 2],
    /// Share of frames that vanish, 0..=1.
    pub drop: f64,
    /// Share of frames that arrive twice, 0..=1.
    pub duplicate: f64,
    /// Share of frames that others may overtake, 0..=1.
    pub reorder: f64,
    /// Greatest extra delay of such a frame.
    pub reorder_ms: Millis,
    /// Share of connections that break at a frame, 0..=1.
    pub disconnect: f64,
    /// How long a site waits before it connects again, least and greatest.
    pub reconnect_ms: [Millis; 2],
    /// How many times a group of sites is cut off.
    pub cuts: u32,
    /// Least and greatest length of such a cut.
    pub cut_ms: [Millis; 2],
    /// After this time of the run the network behaves, so that a run can end.
    pub heals_ms: Millis,
}

impl Default for NetworkSettings {
    fn default() -> NetworkSettings {
        NetworkSettings {
            latency_ms: [5, 40],
            drop: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_ms: 500,
            disconnect: 0.0,
            reconnect_ms: [200, 2_000],
            cuts: 0,
            cut_ms: [1_000, 20_000],
            heals_ms: 600_000,
        }
    }
}

impl NetworkSettings {
    /// Refuses shares outside 0..=1 and ranges that run backwards.
    pub fn check(&self) -> Result<(), SimError> {
        check_share("network.drop", self.drop)?;
        check_share("network.duplicate", self.duplicate)?;
        check_share("network.reorder", self.reorder)?;
        check_share("network.disconnect", self.disconnect)?;
        check_range("network.latency_ms", self.latency_ms)?;
        check_range("network.reconnect_ms", self.reconnect_ms)?;
        check_range("network.cut_ms", self.cut_ms)
    }
}

/// Refuses a `[least, greatest]` pair that runs backwards.
pub(crate) fn check_range(key: &str, range: [Millis; 2]) -> Result<(), SimError> {
    if range[0] <= range[1] && range[1] <= MS_MAX {
        return Ok(());
    }
    Err(SimError::scenario(format!(
        "{key} = {range:?}: write [least, greatest], at most {MS_MAX} milliseconds"
    )))
}

/// A uniform draw from a `[least, greatest]` pair.
pub(crate) fn draw(rng: &mut ChaCha20Rng, range: [Millis; 2]) -> Millis {
    rng.random_range(range[0]..=range[1])
}

/// Which way a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Direction {
    /// From a site to the coordinator.
    Up,
    /// From the coordinator to a site.
    Down,
}

/// A time in which some sites are unreachable.
struct Cut {
    from_ms: Millis,
    until_ms: Millis,
    sites: Vec<usize>,
}

/// The network of one run.
pub struct Network {
    settings: NetworkSettings,
    rng: ChaCha20Rng,
    cuts: Vec<Cut>,
    last: BTreeMap<(usize, Direction), Millis>,
}

impl Network {
    /// The network of a run with `sites` sites; cuts are drawn now.
    pub fn new(settings: &NetworkSettings, sites: usize, mut rng: ChaCha20Rng) -> Network {
        let mut cuts = Vec::new();
        for _ in 0..settings.cuts {
            let from_ms = rng.random_range(0..=settings.heals_ms);
            let until_ms = (from_ms + draw(&mut rng, settings.cut_ms)).min(settings.heals_ms);
            let group = (0..sites).filter(|_| rng.random_bool(0.4)).collect();
            cuts.push(Cut { from_ms, until_ms, sites: group });
        }
        Network { settings: settings.clone(), rng, cuts, last: BTreeMap::new() }
    }

    /// When a frame that leaves now arrives: never, once, or twice.
    pub fn arrivals(&mut self, now: Millis, site: usize, way: Direction) -> Vec<Millis> {
        let faulty = now < self.settings.heals_ms;
        if !self.reachable(now, site) || (faulty && self.chance(self.settings.drop)) {
            return Vec::new();
        }
        let copies = if faulty && self.chance(self.settings.duplicate) { 2 } else { 1 };
        (0..copies).map(|_| self.arrival(now, site, way, faulty)).collect()
    }

    /// When the other side notices that a site has connected: before all that follows.
    pub fn opens(&mut self, now: Millis, site: usize) -> Millis {
        self.last.insert((site, Direction::Up), 0);
        self.arrival(now, site, Direction::Up, false)
    }

    /// Whether a connection of this site breaks at this frame.
    pub fn breaks(&mut self, now: Millis) -> bool {
        now < self.settings.heals_ms && self.chance(self.settings.disconnect)
    }

    /// Whether a site can be reached now.
    pub fn reachable(&self, now: Millis, site: usize) -> bool {
        !self
            .cuts
            .iter()
            .any(|cut| (cut.from_ms..cut.until_ms).contains(&now) && cut.sites.contains(&site))
    }

    /// How long a site waits before it connects again.
    pub fn reconnect_delay(&mut self) -> Millis {
        draw(&mut self.rng, self.settings.reconnect_ms)
    }

    /// A delay of one frame, for what travels beside the mailbox (downloads).
    pub fn delay(&mut self) -> Millis {
        draw(&mut self.rng, self.settings.latency_ms)
    }

    /// A stream keeps its order, except for frames drawn to be overtaken.
    fn arrival(&mut self, now: Millis, site: usize, way: Direction, faulty: bool) -> Millis {
        let at = now + draw(&mut self.rng, self.settings.latency_ms);
        if faulty && self.chance(self.settings.reorder) {
            return at + draw(&mut self.rng, [0, self.settings.reorder_ms]);
        }
        let last = self.last.entry((site, way)).or_insert(0);
        *last = at.max(*last);
        *last
    }

    fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.rng.random_bool(share)
    }
}

const MS_MAX: Millis = 30 * 24 * 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds::SeedTree;

    fn network(settings: &NetworkSettings) -> Network {
        Network::new(settings, 4, SeedTree::new(1).stream("network"))
    }

    #[test]
    fn a_quiet_network_delivers_once_and_in_order() {
        let mut net = network(&NetworkSettings::default());
        let mut last = 0;
        for now in 0..1_000 {
            let arrivals = net.arrivals(now, 0, Direction::Up);
            assert_eq!(arrivals.len(), 1);
            assert!(arrivals[0] >= last && arrivals[0] >= now + 5);
            last = arrivals[0];
        }
    }

    #[test]
    fn faults_have_about_their_share_and_end_when_it_heals() {
        let settings = NetworkSettings {
            drop: 0.2,
            duplicate: 0.1,
            heals_ms: 10_000,
            ..NetworkSettings::default()
        };
        let mut net = network(&settings);
        let counts: Vec<usize> =
            (0..10_000).map(|now| net.arrivals(now, 1, Direction::Down).len()).collect();
        let dropped = counts.iter().filter(|&&n| n == 0).count();
        let twice = counts.iter().filter(|&&n| n == 2).count();
        assert!((1_800..2_200).contains(&dropped), "{dropped}");
        assert!((650..950).contains(&twice), "{twice}");
        assert!((10_000..11_000).all(|now| net.arrivals(now, 1, Direction::Down).len() == 1));
    }

    #[test]
    fn a_cut_silences_its_sites_only_for_its_time() {
        let settings = NetworkSettings { cuts: 3, ..NetworkSettings::default() };
        let net = network(&settings);
        let silent = (0..settings.heals_ms).step_by(100).filter(|&t| !net.reachable(t, 0)).count();
        assert!(net.cuts.iter().any(|c| c.sites.contains(&0)) == (silent > 0));
        assert!((0..4).all(|site| net.reachable(settings.heals_ms, site)));
    }

    #[test]
    fn nonsense_is_refused() {
        let bad = NetworkSettings { drop: 1.5, ..NetworkSettings::default() };
        assert!(bad.check().is_err_and(|e| e.to_string().contains("network.drop")));
        let bad = NetworkSettings { latency_ms: [9, 1], ..NetworkSettings::default() };
        assert!(bad.check().is_err_and(|e| e.to_string().contains("latency_ms")));
    }
}
