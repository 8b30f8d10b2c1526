//! What this site's rows have paid in privacy, and what is left: an account of every masked update that
//! was allowed to leave under differential privacy.
//!
//! It is append-only and each entry holds the digest of all before it. An entry is written ahead,
//! with the durable state, before the masked update that it stands for can leave; the same session is
//! never counted twice, and one whose sum was never opened stays counted, because others could have
//! opened it. Epsilon is computed here again from the mechanism, whatever a manifest states.
//! Deliberately not here: the limits, which are the policy's, and the egress ledger, which is of
//! bytes. Start at [`Budget::epsilon`].

use koinon_aggregation::privacy::{
    Accountant, Cohort, Mechanism, Planned, Refused, Step, Unit, plan,
};
use koinon_proto::task::{Privacy, PrivacyUnit};
use koinon_proto::{Digest, SessionId, TaskManifest};
use sha2::{Digest as _, Sha256};

use crate::durable::{Reader, StateError, Writer};

/// What a site has spent. The order of the entries is that in which they were written.
#[derive(Clone, Default)]
pub struct Budget {
    entries: Vec<Entry>,
}

/// One masked update under differential privacy.
#[derive(Clone, Copy, PartialEq)]
struct Entry {
    session: SessionId,
    task: Digest,
    mechanism: Mechanism,
    /// SHA-256 of a domain, the entry before and this one.
    chain: [u8; 32],
}

/// The mechanism of a private task's rounds on a model of so many trainable parameters. None where
/// the manifest has no privacy, or no noise yet.
#[must_use]
pub fn mechanism(manifest: &TaskManifest, dimension: usize) -> Option<Mechanism> {
    manifest.noised_round(dimension, Mechanism::new)
}

/// The least noise that keeps what a private task says, whatever noise it names; for those who write
/// tasks. None for a task without privacy.
///
/// # Errors
/// [`Refused`] when none does, or when it would drown the model.
pub fn plan_noise(manifest: &TaskManifest, dimension: usize) -> Option<Result<Planned, Refused>> {
    let mut task = manifest.clone();
    let privacy = task.privacy.as_mut()?;
    privacy.noise_multiplier = Some(1.0);
    let privacy = *privacy;
    let mechanism = mechanism(&task, dimension)?;
    let cohort =
        Cohort { sites: u32::from(task.cohort.max), rows: privacy.expected_rows.unwrap_or(0) };
    let steps = privacy.steps(task.rounds);
    Some(plan(&mechanism.goal(privacy.epsilon, privacy.delta, steps, cohort)))
}

/// Whether the noise of a mechanism keeps the word of a manifest's privacy section, retries included.
#[must_use]
pub fn keeps_its_word(privacy: &Privacy, rounds: u32, mechanism: &Mechanism) -> bool {
    mechanism.epsilon(privacy.steps(rounds), privacy.delta) <= privacy.epsilon
}

impl Budget {
    /// Whether the masked update of this session is accounted for.
    #[must_use]
    pub fn holds(&self, session: &SessionId) -> bool {
        self.entries.iter().any(|entry| entry.session == *session)
    }

    /// Masked updates accounted for.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.entries.len()
    }

    /// Masked updates of one task.
    #[must_use]
    pub fn steps_of(&self, task: &Digest) -> u64 {
        self.entries.iter().filter(|entry| entry.task == *task).count() as u64
    }

    /// What all of it, and `next` if there is one, tells at most about one record or about the site, at
    /// `delta`. Noise for records says nothing about a site: then it is infinite.
    #[must_use]
    pub fn epsilon(&self, of: PrivacyUnit, delta: f64, next: Option<&Mechanism>) -> f64 {
        let mut kinds: Vec<(Mechanism, u64)> = Vec::new();
        for mechanism in self.entries.iter().map(|entry| &entry.mechanism).chain(next) {
            match kinds.iter_mut().find(|(kind, _)| kind == mechanism) {
                Some((_, count)) => *count += 1,
                None => kinds.push((*mechanism, 1)),
            }
        }
        let mut total = Accountant::new();
        for (mechanism, count) in kinds {
            match (of, mechanism.unit) {
                (PrivacyUnit::Record, Unit::Record) | (PrivacyUnit::Site, Unit::Site) => {
                    mechanism.account(&mut total, count);
                }
                // A record can turn a site's update round: twice the clip.
                (PrivacyUnit::Record, Unit::Site) => {
                    let step = mechanism.step();
                    let twice = Step {
                        noise_multiplier: step.noise_multiplier / 2.0,
                        l2: 2.0 * step.l2,
                        l1: 2.0 * step.l1,
                        ..step
                    };
                    total.add(&twice, count);
                    total.add_sampler_log_ratio(mechanism.sampler_log_ratio(), count);
                    total.add_sampler_distance(mechanism.sampler_distance(), count);
                }
                (PrivacyUnit::Site, Unit::Record) => return f64::INFINITY,
            }
        }
        total.epsilon(delta)
    }

    /// Epsilon of one task's masked updates so far, in the task's own unit.
    #[must_use]
    pub fn epsilon_of(&self, task: &Digest, delta: f64) -> f64 {
        let mut total = Accountant::new();
        for entry in self.entries.iter().filter(|entry| entry.task == *task) {
            entry.mechanism.account(&mut total, 1);
        }
        total.epsilon(delta)
    }

    /// Accounts for the masked update of a session, once however often it is called.
    pub(crate) fn spend(&mut self, session: SessionId, task: Digest, mechanism: Mechanism) {
        if self.holds(&session) {
            return;
        }
        let mut entry = Entry { session, task, mechanism, chain: [0; 32] };
        entry.chain = entry.link(self.entries.last());
        self.entries.push(entry);
    }

    pub(crate) fn write(&self, to: &mut Writer) {
        to.count(self.entries.len());
        for entry in &self.entries {
            to.raw(&entry.content());
            to.raw(&entry.chain);
        }
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, StateError> {
        let mut entries: Vec<Entry> = Vec::new();
        for _ in 0..from.count()? {
            let mut entry = Entry::read(from)?;
            entry.chain = from.array()?;
            if entry.chain != entry.link(entries.last()) {
                return Err(StateError::Invalid("the chain of what was spent"));
            }
            entries.push(entry);
        }
        Ok(Self { entries })
    }
}

impl Entry {
    /// The canonical bytes: session, task, unit, rate, noise, clip, fractional bits, entries, honest sites.
    fn content(&self) -> Vec<u8> {
        let m = &self.mechanism;
        let mut out = Vec::with_capacity(ENTRY_BYTES);
        out.extend_from_slice(self.session.as_bytes());
        out.extend_from_slice(self.task.as_bytes());
        out.push(u8::from(m.unit == Unit::Site));
        out.extend_from_slice(&m.sampling_rate.to_le_bytes());
        out.extend_from_slice(&m.noise_multiplier.to_le_bytes());
        out.extend_from_slice(&m.clip.to_le_bytes());
        out.extend_from_slice(&m.frac_bits.to_le_bytes());
        out.extend_from_slice(&m.dimension.to_le_bytes());
        out.extend_from_slice(&m.sites_honest.to_le_bytes());
        out
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, StateError> {
        let (session, task) = (Digest(from.array()?), Digest(from.array()?));
        let unit = match from.byte()? {
            0 => Unit::Record,
            1 => Unit::Site,
            _ => return Err(StateError::Invalid("the unit of what was spent")),
        };
        let mechanism = Mechanism {
            unit,
            sampling_rate: f64::from_le_bytes(from.array()?),
            noise_multiplier: f64::from_le_bytes(from.array()?),
            clip: f64::from_le_bytes(from.array()?),
            frac_bits: i8::from_le_bytes(from.array()?),
            dimension: u64::from_le_bytes(from.array()?),
            sites_honest: u32::from_le_bytes(from.array()?),
        };
        Ok(Self { session, task, mechanism, chain: [0; 32] })
    }

    fn link(&self, before: Option<&Self>) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"koinon/v1/privacy-spent");
        hash.update(before.map_or([0; 32], |entry| entry.chain));
        hash.update(self.content());
        hash.finalize().into()
    }
}

/// Bytes of an entry without its chain.
const ENTRY_BYTES: usize = 32 + 32 + 1 + 3 * 8 + 1 + 8 + 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn mechanism(unit: Unit) -> Mechanism {
        Mechanism {
            unit,
            sampling_rate: if unit == Unit::Site { 1.0 } else { 0.5 },
            noise_multiplier: 2.0,
            clip: 0.5,
            frac_bits: 16,
            dimension: 257,
            sites_honest: 10,
        }
    }

    fn session(number: u8) -> SessionId {
        Digest([number; 32])
    }

    #[test]
    fn a_session_counts_once_and_all_of_them_compose() {
        let mut budget = Budget::default();
        let (task, m) = (Digest([9; 32]), mechanism(Unit::Record));
        assert!(budget.epsilon(PrivacyUnit::Record, 1e-5, None) < 1e-9);
        let ahead = budget.epsilon(PrivacyUnit::Record, 1e-5, Some(&m));
        budget.spend(session(1), task, m);
        budget.spend(session(1), task, m);
        assert_eq!((budget.steps(), budget.steps_of(&task)), (1, 1));
        assert_eq!(budget.epsilon(PrivacyUnit::Record, 1e-5, None), ahead);
        assert_eq!(budget.epsilon_of(&task, 1e-5), ahead);
        for number in 2..=8 {
            budget.spend(session(number), Digest([number; 32]), m);
        }
        let eight = budget.epsilon(PrivacyUnit::Record, 1e-5, None);
        assert!((eight / m.epsilon(8, 1e-5) - 1.0).abs() < 1e-12);
        assert!(budget.epsilon(PrivacyUnit::Site, 1e-5, None).is_infinite());
    }

    #[test]
    fn noise_for_a_site_protects_its_records_half_as_well() {
        let mut budget = Budget::default();
        budget.spend(session(1), session(1), mechanism(Unit::Site));
        let (site, record) = (
            budget.epsilon(PrivacyUnit::Site, 1e-5, None),
            budget.epsilon(PrivacyUnit::Record, 1e-5, None),
        );
        assert!(record > 1.9 * site && record < 2.5 * site, "{record} {site}");
    }

    #[test]
    fn what_was_written_is_read_and_no_entry_can_be_taken_out() {
        let mut budget = Budget::default();
        for number in 1..=3 {
            budget.spend(session(number), Digest([9; 32]), mechanism(Unit::Record));
        }
        let bytes = Writer::written(|to| budget.write(to));
        let read = Budget::read(&mut Reader::new(&bytes)).unwrap_or_else(|e| panic!("{e}"));
        assert!(read.entries == budget.entries);
        // Leave out the first entry, or the second.
        let entry = ENTRY_BYTES + 32;
        for start in [8, 8 + entry] {
            let mut cut = bytes.clone();
            cut.drain(start..start + entry);
            cut[0] = 2;
            assert!(Budget::read(&mut Reader::new(&cut)).is_err());
        }
    }
}
