//! What goes wrong on purpose, and when: crashes, full disks, slow sites, liars.
//!
//! It only decides; the world and the wrappers in [`crate::liars`] carry it out. Network faults are
//! in [`crate::network`]. Start at [`FaultPlan::draw`].

use crate::error::{SimError, check_share};
use crate::network::{check_range, draw};
use crate::seeds::SeedTree;
use koinon_proto::Millis;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha20Rng;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The scenario's `[faults]` section.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct FaultSettings {
    /// Chance of a crash before each effect of a site, 0..=1.
    pub site_crash: f64,
    /// Chance of a crash before each write, sync and effect of the coordinator, 0..=1.
    pub coordinator_crash: f64,
    /// Most crashes of one machine.
    pub crashes_max: u32,
    /// How long a crashed machine stays away, least and greatest.
    pub restart_ms: [Millis; 2],
    /// Chance, at each write, that the disk is full from now on, 0..=1.
    pub full_disk: f64,
    /// How long a disk stays full, least and greatest.
    pub full_disk_ms: [Millis; 2],
    /// Share of sites that are slow, 0..=1.
    pub slow_sites: f64,
    /// How many times as long a slow site works.
    pub slow_factor: u64,
    /// How many sites lie.
    pub lying_sites: usize,
    /// What a lying site draws its lie from.
    pub site_lies: Vec<SiteLie>,
    /// Share of seeds whose coordinator lies, 0..=1.
    pub lying_coordinator: f64,
    /// What a lying coordinator draws its lie from.
    pub coordinator_lies: Vec<CoordinatorLie>,
    /// Share of seeds in which the operator cancels the task under way, 0..=1.
    pub cancel: f64,
    /// When, least and greatest.
    pub cancel_ms: [Millis; 2],
    /// After this time of the run nothing more goes wrong.
    pub until_ms: Millis,
}

impl Default for FaultSettings {
    fn default() -> FaultSettings {
        FaultSettings {
            site_crash: 0.0,
            coordinator_crash: 0.0,
            crashes_max: 0,
            restart_ms: [100, 5_000],
            full_disk: 0.0,
            full_disk_ms: [500, 5_000],
            slow_sites: 0.0,
            slow_factor: 20,
            lying_sites: 0,
            site_lies: Vec::new(),
            lying_coordinator: 0.0,
            coordinator_lies: Vec::new(),
            cancel: 0.0,
            cancel_ms: [10_000, 60_000],
            until_ms: 600_000,
        }
    }
}

/// How a site lies.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum SiteLie {
    /// Bodies and chunks of random bytes, properly signed.
    Garbage,
    /// Sealed shares with flipped bits.
    BadShares,
    /// Too much or too little of everything that has a length.
    WrongLengths,
    /// Two different answers to one question.
    Equivocate,
    /// No signature and no shares, once everybody counts on them.
    Withhold,
}

/// How a coordinator lies.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum CoordinatorLie {
    /// Another digest in the invitation of one site.
    DigestForOne,
    /// After an unmasking request, the same with one survivor turned into a drop-out.
    BothKinds,
    /// Different survivors for different sites.
    TwoSurvivorSets,
    /// A session of two.
    TinyCohort,
    /// Participants that no roster knows.
    PhantomSites,
    /// The same parameters again in a new session with one site fewer, after a reveal.
    AskTwice,
    /// For one site a key of the coordinator's own in another's place.
    SwappedKey,
    /// For one site the shares of the session before.
    OldShares,
    /// One signature as often as a quorum takes.
    RepeatedSignature,
}

impl FaultSettings {
    /// Refuses shares outside 0..=1, ranges that run backwards, and lies without a kind.
    pub fn check(&self) -> Result<(), SimError> {
        check_share("faults.site_crash", self.site_crash)?;
        check_share("faults.coordinator_crash", self.coordinator_crash)?;
        check_share("faults.full_disk", self.full_disk)?;
        check_share("faults.slow_sites", self.slow_sites)?;
        check_share("faults.lying_coordinator", self.lying_coordinator)?;
        check_share("faults.cancel", self.cancel)?;
        check_range("faults.cancel_ms", self.cancel_ms)?;
        check_range("faults.restart_ms", self.restart_ms)?;
        check_range("faults.full_disk_ms", self.full_disk_ms)?;
        let kinds = |key: &str, lies: bool, none: bool| {
            let text = format!("{key} is set, but the list of lies is empty");
            if lies && none { Err(SimError::scenario(text)) } else { Ok(()) }
        };
        kinds("faults.lying_sites", self.lying_sites > 0, self.site_lies.is_empty())?;
        let lying = self.lying_coordinator > 0.0;
        kinds("faults.lying_coordinator", lying, self.coordinator_lies.is_empty())
    }
}

/// What goes wrong in one run.
pub struct FaultPlan {
    settings: FaultSettings,
    rng: ChaCha20Rng,
    coordinator_crashes: u32,
    site_crashes: BTreeMap<usize, u32>,
    slow: Vec<bool>,
    /// The lying sites by index.
    pub site_lies: BTreeMap<usize, SiteLie>,
    /// The coordinator's lie.
    pub coordinator_lie: Option<CoordinatorLie>,
    /// When the operator cancels the task.
    pub cancel_ms: Option<Millis>,
}

impl FaultPlan {
    /// Draws the faults of one run with `sites` sites.
    pub fn draw(settings: &FaultSettings, sites: usize, seeds: &SeedTree) -> FaultPlan {
        let mut rng = seeds.stream("faults");
        let slow = (0..sites).map(|_| rng.random_bool(settings.slow_sites)).collect();
        let mut site_lies = BTreeMap::new();
        while site_lies.len() < settings.lying_sites.min(sites) {
            if let Some(lie) = settings.site_lies.choose(&mut rng) {
                site_lies.entry(rng.random_range(0..sites)).or_insert(*lie);
            }
        }
        let lies = rng.random_bool(settings.lying_coordinator);
        let cancels = rng.random_bool(settings.cancel);
        let cancel_ms = cancels.then(|| draw(&mut rng, settings.cancel_ms));
        let coordinator_lie = settings.coordinator_lies.choose(&mut rng).copied().filter(|_| lies);
        FaultPlan {
            settings: settings.clone(),
            rng,
            coordinator_crashes: 0,
            site_crashes: BTreeMap::new(),
            slow,
            site_lies,
            coordinator_lie,
            cancel_ms,
        }
    }

    /// Whether the coordinator crashes before what it does next.
    pub fn coordinator_crashes(&mut self, now: Millis) -> bool {
        let crash = self.coordinator_crashes < self.settings.crashes_max
            && self.happens(now, self.settings.coordinator_crash);
        self.coordinator_crashes += u32::from(crash);
        crash
    }

    /// Whether this site crashes before what it does next.
    pub fn site_crashes(&mut self, now: Millis, site: usize) -> bool {
        let before = self.site_crashes.get(&site).copied().unwrap_or(0);
        let crash =
            before < self.settings.crashes_max && self.happens(now, self.settings.site_crash);
        if crash {
            self.site_crashes.insert(site, before + 1);
        }
        crash
    }

    /// Whether a disk is full from now on, and for how long.
    pub fn disk_fills(&mut self, now: Millis) -> Option<Millis> {
        self.happens(now, self.settings.full_disk)
            .then(|| draw(&mut self.rng, self.settings.full_disk_ms))
    }

    /// How long a crashed machine stays away.
    pub fn restart_delay(&mut self) -> Millis {
        draw(&mut self.rng, self.settings.restart_ms)
    }

    /// The stream that decides what a crash leaves of unsynced writes.
    pub fn rng(&mut self) -> &mut ChaCha20Rng {
        &mut self.rng
    }

    /// How many times as long as others this site works.
    pub fn slowness(&self, site: usize) -> u64 {
        if self.slow.get(site).copied().unwrap_or(false) { self.settings.slow_factor } else { 1 }
    }

    fn happens(&mut self, now: Millis, chance: f64) -> bool {
        chance > 0.0 && now < self.settings.until_ms && self.rng.random_bool(chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_stop_at_their_number_and_their_time() {
        let settings = FaultSettings {
            site_crash: 0.5,
            coordinator_crash: 0.5,
            crashes_max: 3,
            until_ms: 1_000,
            ..FaultSettings::default()
        };
        let mut plan = FaultPlan::draw(&settings, 4, &SeedTree::new(1));
        assert_eq!((0..100).filter(|_| plan.coordinator_crashes(0)).count(), 3);
        assert_eq!((0..100).filter(|_| plan.site_crashes(0, 2)).count(), 3);
        assert!(!(0..100).any(|_| plan.site_crashes(1_000, 1)));
    }

    #[test]
    fn lies_without_a_kind_are_refused() {
        let settings = FaultSettings { lying_sites: 1, ..FaultSettings::default() };
        assert!(settings.check().is_err());
        let settings =
            FaultSettings { site_lies: vec![SiteLie::Garbage], lying_sites: 9, ..settings };
        settings.check().unwrap();
        assert_eq!(FaultPlan::draw(&settings, 4, &SeedTree::new(1)).site_lies.len(), 4);
    }
}
