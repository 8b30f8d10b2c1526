//! Who is chosen for a round: a function of the task's seed, the round, the attempt and the names.
//!
//! Every candidate draws a lot of its own; the lowest win. So a candidate that comes or goes moves
//! at most one place, and anybody can recompute the choice from the journal. It is deliberately no
//! security decision: the coordinator could choose as it likes, and what protects the sites is the
//! floor of their own policies. Start at [`choose`].

use koinon_proto::SiteId;
use sha2::{Digest as _, Sha256};

const DOMAIN: &[u8] = b"koinon/v1/cohort";

/// What the lots depend on beside the name.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// The task's seed.
    pub seed: u64,
    /// The round's number.
    pub round: u32,
    /// Which attempt at it: another attempt tries others, where there are others.
    pub attempt: u32,
}

/// At most `max` of the candidates, in ascending order of names.
///
/// ```
/// use koinon_coordinator::cohort::{Draw, choose};
/// use koinon_proto::SiteId;
///
/// let sites: Vec<SiteId> = ["a", "b", "c"].map(|name| SiteId::new(name).unwrap()).into();
/// let draw = Draw { seed: 7, round: 1, attempt: 1 };
/// assert_eq!(choose(draw, sites.clone(), 5), sites);
/// assert_eq!(choose(draw, sites, 2).len(), 2);
/// ```
#[must_use]
pub fn choose(draw: Draw, candidates: Vec<SiteId>, max: usize) -> Vec<SiteId> {
    let mut lots: Vec<([u8; 32], SiteId)> =
        candidates.into_iter().map(|site| (lot(draw, &site), site)).collect();
    lots.sort();
    lots.dedup();
    lots.truncate(max);
    let mut chosen: Vec<SiteId> = lots.into_iter().map(|(_, site)| site).collect();
    chosen.sort();
    chosen
}

fn lot(draw: Draw, site: &SiteId) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(DOMAIN);
    hasher.update(draw.seed.to_le_bytes());
    hasher.update(draw.round.to_le_bytes());
    hasher.update(draw.attempt.to_le_bytes());
    hasher.update(site.as_str());
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites(n: usize) -> Vec<SiteId> {
        (0..n).map(|n| SiteId::new(format!("site-{n:02}")).unwrap()).collect()
    }

    #[test]
    fn order_of_arrival_does_not_matter_and_rounds_differ() {
        let draw = Draw { seed: 1, round: 1, attempt: 1 };
        let mut reversed = sites(20);
        reversed.reverse();
        let chosen = choose(draw, sites(20), 6);
        assert_eq!(chosen, choose(draw, reversed, 6));
        assert_eq!(chosen.len(), 6);
        assert_ne!(chosen, choose(Draw { round: 2, ..draw }, sites(20), 6));
        assert_ne!(chosen, choose(Draw { attempt: 2, ..draw }, sites(20), 6));
        assert_ne!(chosen, choose(Draw { seed: 2, ..draw }, sites(20), 6));
    }

    #[test]
    fn every_site_gets_its_turns() {
        let mut turns = std::collections::BTreeMap::<SiteId, usize>::new();
        for round in 0..400 {
            for site in choose(Draw { seed: 3, round, attempt: 1 }, sites(16), 8) {
                *turns.entry(site).or_default() += 1;
            }
        }
        assert_eq!(turns.len(), 16);
        assert!(turns.values().all(|&n| (150..250).contains(&n)), "{turns:?}");
    }

    #[test]
    fn one_site_less_moves_one_place() {
        let draw = Draw { seed: 9, round: 4, attempt: 1 };
        let before = choose(draw, sites(20), 8);
        let gone = before[3].clone();
        let left = sites(20).into_iter().filter(|site| *site != gone).collect();
        let after = choose(draw, left, 8);
        assert_eq!(after.iter().filter(|site| before.contains(site)).count(), 7);
    }
}
