//! The log of posted keys, as far as this site was shown it: the newest head that it took, and evidence
//! of heads that it could not take.
//!
//! Heads are compared with the newest one and no other. A head that does not extend it, but is signed by
//! the log's keeper, is kept with it. Two of the same size with different roots are a fork, and show
//! anybody that the keeper showed two histories. Two of different sizes prove nothing by themselves:
//! they are grounds to ask the keeper for the proof that they are of one log. Start at [`Heads::take`].

use koinon_aggregation::Digest;
use koinon_aggregation::ahead::{Head, HeadError};

use super::{Reader, StateError, Writer};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heads {
    /// The newest head, and the key of the log's keeper.
    newest: Option<(Digest, Head)>,
    /// Heads that were not taken, each with the one that was the newest then.
    evidence: Vec<Evidence>,
}

/// Two heads of one keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Evidence {
    keeper: Digest,
    held: Head,
    shown: Head,
}

impl Evidence {
    /// Whether it is proof by itself.
    fn is_fork(&self) -> bool {
        self.held.size() == self.shown.size()
    }
}

/// Pairs of heads that are kept as evidence: the first ones say enough. A fork takes the place of what
/// proves less.
const EVIDENCE_MAX: usize = 8;

/// A head was not taken.
pub(crate) struct NotTaken {
    pub(crate) error: HeadError,
    /// Whether there is evidence that was not there before: it should be made durable.
    pub(crate) new: bool,
}

impl Heads {
    /// The newest head of this keeper's log.
    pub(crate) fn newest(&self, keeper: &Digest) -> Option<&Head> {
        self.newest.as_ref().filter(|(of, _)| of == keeper).map(|(_, head)| head)
    }

    /// How many pairs of heads there are that cannot be of one log, or were not proven to be.
    pub(crate) fn contradictions(&self) -> usize {
        self.evidence.len()
    }

    /// Takes a head if it extends the newest one of this keeper: it is to be made durable before
    /// anything that follows from it leaves.
    pub(crate) fn take(
        &mut self,
        keeper: &Digest,
        shown: Head,
        proof: &[Digest],
    ) -> Result<(), NotTaken> {
        let held = self.newest(keeper);
        match shown.check_extends(held, proof, keeper) {
            Ok(()) => {
                self.newest = Some((*keeper, shown));
                Ok(())
            }
            Err(error @ HeadError::Unsigned) => Err(NotTaken { error, new: false }),
            Err(error) => {
                let evidence =
                    held.map(|held| Evidence { keeper: *keeper, held: held.clone(), shown });
                let new = evidence.is_some_and(|evidence| self.keep(evidence));
                Err(NotTaken { error, new })
            }
        }
    }

    /// Keeps evidence if there is a place for it; says whether there was.
    fn keep(&mut self, evidence: Evidence) -> bool {
        if self.evidence.contains(&evidence) {
            return false;
        }
        if self.evidence.len() >= EVIDENCE_MAX {
            let less = self.evidence.iter().rposition(|kept| !kept.is_fork());
            let Some(less) = less.filter(|_| evidence.is_fork()) else { return false };
            self.evidence.remove(less);
        }
        self.evidence.push(evidence);
        true
    }

    pub(super) fn write(&self, to: &mut Writer) {
        to.raw(&[u8::from(self.newest.is_some())]);
        if let Some((keeper, head)) = &self.newest {
            to.raw(keeper);
            to.bytes(&head.to_bytes());
        }
        to.count(self.evidence.len());
        for Evidence { keeper, held, shown } in &self.evidence {
            to.raw(keeper);
            to.bytes(&held.to_bytes());
            to.bytes(&shown.to_bytes());
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, StateError> {
        let newest = match from.byte()? {
            0 => None,
            1 => Some((from.array()?, read_head(from)?)),
            _ => return Err(StateError::Invalid("heads")),
        };
        let evidence = (0..from.count()?).map(|_| {
            Ok(Evidence { keeper: from.array()?, held: read_head(from)?, shown: read_head(from)? })
        });
        let evidence = evidence.collect::<Result<_, StateError>>()?;
        Ok(Self { newest, evidence })
    }
}

fn read_head(from: &mut Reader<'_>) -> Result<Head, StateError> {
    Head::from_bytes(from.bytes()?).map_err(|_| StateError::Invalid("heads"))
}

#[cfg(test)]
mod tests {
    use koinon_aggregation::Signer as _;
    use koinon_aggregation::ahead::Log;
    use koinon_aggregation::identity::Identity;

    use super::*;

    #[test]
    fn heads_are_compared_with_the_newest_and_evidence_survives() {
        let keeper = Identity::from_secret_bytes(&[7; 32]);
        let key = keeper.public();
        let mut log = Log::default();
        let heads: Vec<Head> = (0..30_u8)
            .map(|i| {
                log.append(&[i]);
                Head::sign(&log, &keeper)
            })
            .collect();
        let mut site = Heads::default();
        let proof = |from, to| log.consistency(from, to).unwrap();
        assert!(site.take(&key, heads[0].clone(), &[]).is_ok());
        assert!(site.take(&key, heads[9].clone(), &proof(1, 10)).is_ok());
        assert!(site.take(&key, heads[9].clone(), &[]).is_ok());
        // With a proof from a head that was the newest once: not the newest, so it proves nothing.
        let stale = site.take(&key, heads[19].clone(), &proof(1, 20)).err().unwrap();
        assert_eq!((stale.error, stale.new), (HeadError::Unproven, true));
        for older in &heads[..9] {
            assert_eq!(
                site.take(&key, older.clone(), &[]).err().unwrap().error,
                HeadError::RolledBack
            );
        }
        assert_eq!(site.contradictions(), EVIDENCE_MAX);
        assert!(!site.take(&key, heads[7].clone(), &[]).err().unwrap().new, "bounded");
        // A fork always finds a place, until there are only forks.
        for number in 0..16_u8 {
            let mut fork = Log::default();
            for i in 0..10 {
                fork.append(&[number, i]);
            }
            let fork = Head::sign(&fork, &keeper);
            let refused = site.take(&key, fork.clone(), &[]).err().unwrap();
            let kept = usize::from(number) < EVIDENCE_MAX;
            assert_eq!((refused.error, refused.new), (HeadError::Forked, kept), "fork {number}");
            assert_eq!(site.evidence.iter().any(|evidence| evidence.shown == fork), kept);
            assert_eq!(site.contradictions(), EVIDENCE_MAX);
        }
        let stranger = Identity::from_secret_bytes(&[8; 32]);
        let unsigned = Head::sign(&log, &stranger);
        let unsigned = site.take(&key, unsigned, &proof(10, 30)).err().unwrap();
        assert_eq!((unsigned.error, unsigned.new), (HeadError::Unsigned, false));
        assert_eq!(site.newest(&key), Some(&heads[9]));
        let written = Writer::written(|to| site.write(to));
        let read = Heads::read(&mut Reader::new(&written)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(read, site);
        // Another keeper's log is another log: the consortium named it.
        assert!(site.take(&stranger.public(), Head::sign(&Log::default(), &stranger), &[]).is_ok());
        assert_eq!(site.newest(&key), None);
        assert_eq!(site.contradictions(), EVIDENCE_MAX, "evidence stays");
    }
}
