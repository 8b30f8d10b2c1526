//! How many neighbours, how many shares, how large a signing committee: computed from the size of
//! the cohort and from what is assumed about it, by exact sums. `docs/protocol.md` says which claim
//! rests on which of these.
//!
//! Assumed are: at most a share γ of the sites colludes with the coordinator, and at most a share δ
//! is lost (colluders who withhold what they owe count as lost). The graph is random
//! (`Graph::derive`), so a bad one is drawn now and then; these are the events, with x marked
//! among k drawn out of n being hypergeometric:
//!
//! | event | how rare | by |
//! |---|---|---|
//! | some site has ≥ 2t - k colluders among its k neighbours | 2^-(σ+1) | n · P(X_k(γn) ≥ 2t - k) |
//! | honest survivors on a ring with two arcs of k/2 places, w colluders in each, are cut in two | 2^-(σ+1) | n(n-1)/2 · P(both ≥ w) |
//! | more than 2q - c colluders in a committee of c, less one | 2^-σ | P(X_c(γn) ≥ 2q - c) |
//! | some site has fewer than t neighbours left | 2^-f | n · P(X_k(δn) ≥ k - t + 1) |
//! | some arc of k/2 has fewer than w sites left | 2^-f | n · P(X_{k/2}(δn) ≥ k/2 - w + 1) |
//! | fewer than q honest members of the committee are left | 2^-f | P(X_c(γn + δn) ≥ c - q + 1) |
//!
//! The first: with fewer than 2t - k colluders among the neighbours, no two sets of t neighbours can
//! show the two kinds of share of one site, as 2t ≤ k + colluders would be needed (Bell et al. 2020,
//! section 4, "2t > k"; there with the colluders bounded likewise), and fewer than t know a share by
//! themselves. n · P is exactly the expected number of sites with so many, so it bounds the chance of
//! one. The second is not in Bell et al., whose functionality lets a malicious server open several
//! large parts of the sum apart; here one set is opened as a whole or not at all, so every site asks
//! for w survivors on each arc ([`survivors_on_an_arc`]) before it reveals. The third: two sets of
//! survivors signed by q each need 2q signatures, of which an honest member gives one and a colluder
//! two. [`check`] is what a site recomputes; the last three events only cost a round, so they bind
//! whoever plans, in [`sparse`].
//!
//! Deliberately not here: the sessions of up to 64 sites, where all share with all, and what γ, δ and σ
//! a site accepts (its policy). Start with [`sparse`] and [`check`].

mod scaled;
mod tails;

use std::ops::RangeInclusive;

use tails::{Draw, both_arcs_at_least};

use crate::graph::is_degree;
use crate::participants::PARTICIPANTS_MAX;

/// The most neighbours that a site takes: twice what 16,384 sites need at γ = 10 %, δ = 30 % and
/// σ = 80. A site's work grows with the square of its neighbours.
pub const DEGREE_MAX: usize = 2_048;

/// What is assumed of a cohort, and how rarely it may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumptions {
    /// γ: at most so many of a hundred sites collude with the coordinator; at most 50.
    pub colluding_percent: u8,
    /// δ: at most so many of a hundred sites are lost, colluders who withhold among them; at most 50.
    pub dropout_percent: u8,
    /// σ: the chance that a drawn graph or committee is bad is about 2^-σ; 1 to 128.
    pub sigma: u8,
    /// f: each way to fall short of completion has a chance of at most 2^-f; 1 to 128.
    pub failure_bits: u8,
}

/// The parameters of a session above 64 sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sparse {
    /// k: how many neighbours each site has; even, or all others.
    pub degree: u16,
    /// t: how many of its neighbours' shares open one of a site's two secrets.
    pub threshold: u16,
    /// c: how many sites sign the set of survivors.
    pub committee: u16,
    /// q: how many of their signatures a site demands before it reveals a share.
    pub quorum: u16,
    /// What the four were computed for.
    pub assumptions: Assumptions,
}

/// Why there are no parameters, or why some are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// A number is outside its range.
    #[error("{what} is {value}, which is not in {range}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// What it is.
        value: usize,
        /// What it may be.
        range: &'static str,
    },
    /// No graph or no committee on so few sites is as strong as assumed.
    #[error(
        "no {what} of {n} sites withstands {colluding_percent} % colluding and {dropout_percent} % \
         lost at σ = {sigma}: assume less, or gather more sites"
    )]
    Unattainable {
        /// What there is none of: "neighbourhood" or "committee".
        what: &'static str,
        /// The number of sites.
        n: usize,
        /// γ.
        colluding_percent: u8,
        /// δ.
        dropout_percent: u8,
        /// σ.
        sigma: u8,
    },
    /// A threshold or quorum is lower than the assumptions demand.
    #[error(
        "the {what} is {have}, but {n} sites need at least {need} to be as safe as the parameters \
         say: plan again for this number of sites"
    )]
    TooWeak {
        /// Which one: "threshold" or "quorum".
        what: &'static str,
        /// What it is.
        have: usize,
        /// What it must be.
        need: usize,
        /// The number of sites.
        n: usize,
    },
}

impl ParameterError {
    /// A code that does not change between versions.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::OutOfRange { .. } => "parameter_out_of_range",
            Self::Unattainable { .. } => "parameters_unattainable",
            Self::TooWeak { .. } => "parameters_too_weak",
        }
    }
}

/// The smallest parameters for `n` sites and a malicious coordinator: the smallest degree and
/// committee, and for each the smallest threshold that is safe.
///
/// # Errors
/// [`ParameterError::OutOfRange`] for impossible assumptions or more than 65,535 sites,
/// [`ParameterError::Unattainable`] if `n` is too small for them.
pub fn sparse(n: usize, assumptions: &Assumptions) -> Result<Sparse, ParameterError> {
    sparse_between(n..=n, assumptions)
}

/// The smallest parameters that hold for every number of sites in `sizes`, for a plan that is made
/// before it is known who will be there.
///
/// # Errors
/// As [`sparse`], for the smallest size among others: the committee is drawn from it too.
pub fn sparse_between(
    sizes: RangeInclusive<usize>,
    assumptions: &Assumptions,
) -> Result<Sparse, ParameterError> {
    let (fewest, most) = (*sizes.start(), *sizes.end());
    check_assumptions(assumptions, fewest)?;
    check_assumptions(assumptions, most.max(fewest))?;
    let mut cohorts = vec![Cohort::new(most.max(fewest), assumptions)];
    loop {
        let (degree, threshold) = neighbourhood(&cohorts, fewest, Setting::Malicious)?;
        let (committee, quorum) = signers(&cohorts, fewest)?;
        let assumptions = *assumptions;
        let found = Sparse { degree, threshold, committee, quorum, assumptions };
        let fails = |n: &usize| check(&found, *n).is_err() || !completes(&found, *n);
        let Some(n) = worst_sizes(fewest, most, &assumptions).into_iter().rev().find(fails) else {
            return Ok(found);
        };
        cohorts.push(Cohort::new(n, &assumptions));
    }
}

/// The smallest (degree, threshold) for `n` sites when the coordinator follows the protocol: t of k
/// shares are more than the colluders among the neighbours have, and the honest survivors stay
/// connected (Bell et al. 2020, theorem 3.10, with exact sums). For comparisons; no session takes
/// them.
///
/// # Errors
/// As [`sparse`].
pub fn semi_honest(n: usize, assumptions: &Assumptions) -> Result<(u16, u16), ParameterError> {
    check_assumptions(assumptions, n)?;
    neighbourhood(&[Cohort::new(n, assumptions)], n, Setting::SemiHonest)
}

/// What a site recomputes before it takes part: whether `sparse` is, for the `n` sites that are really
/// there, at least as safe as its own assumptions say. Whether the round completes is not asked: that
/// harms nobody. What assumptions are good enough is for the site's policy.
///
/// # Errors
/// [`ParameterError::OutOfRange`] if there is no such graph or committee, or one with far more
/// neighbours than its assumptions need; [`ParameterError::TooWeak`] if the threshold or the quorum is too low.
pub fn check(sparse: &Sparse, n: usize) -> Result<(), ParameterError> {
    let assumptions = &sparse.assumptions;
    check_assumptions(assumptions, n)?;
    let [degree, threshold, committee, quorum] =
        [sparse.degree, sparse.threshold, sparse.committee, sparse.quorum].map(usize::from);
    let out = |what, value, range| Err(ParameterError::OutOfRange { what, value, range });
    if !is_degree(degree, n) {
        return out("degree", degree, "the even numbers below the number of sites, or all others");
    }
    if degree > DEGREE_MAX || is_wasteful(degree, assumptions) {
        return out("degree", degree, "at most 2,048 and less than four times what is needed");
    }
    if !(1..=degree).contains(&threshold) {
        return out("threshold", threshold, "1 to the degree");
    }
    if !(1..=n).contains(&committee) {
        return out("committee", committee, "1 to the number of sites");
    }
    if !(1..=committee).contains(&quorum) {
        return out("quorum", quorum, "1 to the size of the committee");
    }
    let cohort = Cohort::new(n, assumptions);
    // Colluders that make two sets possible: 2t - k and 2q - c.
    let excess = (2 * threshold).saturating_sub(degree);
    if !cohort.neighbours_are_safe(degree, excess) {
        let need = (degree + cohort.colluding_neighbours(degree, excess)).div_ceil(2);
        return Err(ParameterError::TooWeak { what: "threshold", have: threshold, need, n });
    }
    let excess = (2 * quorum).saturating_sub(committee);
    if !cohort.committee_is_safe(committee, excess) {
        let need = (committee + cohort.colluding_members(committee, excess)).div_ceil(2);
        return Err(ParameterError::TooWeak { what: "quorum", have: quorum, need, n });
    }
    Ok(())
}

/// Whether a quarter of these neighbours would do for the largest session there is, which needs most.
/// Nobody who plans honestly asks for so many; whoever does has the sites work for nothing.
fn is_wasteful(degree: usize, assumptions: &Assumptions) -> bool {
    let quarter = degree / 8 * 2;
    quarter >= DEGREE_FREE / 4 && Cohort::new(PARTICIPANTS_MAX, assumptions).is_enough(quarter)
}

/// So many neighbours cost nothing worth asking about.
const DEGREE_FREE: usize = 64;

/// How many survivors a site demands on every arc of degree / 2 places of the ring before it reveals
/// a share, so that the honest ones among them are not cut in two: the least w such that two disjoint
/// arcs with w colluders each are rarer than 2^-(σ+1). Zero if all sites are neighbours.
///
/// # Errors
/// As [`check`].
pub fn survivors_on_an_arc(sparse: &Sparse, n: usize) -> Result<usize, ParameterError> {
    check(sparse, n)?;
    Ok(Cohort::new(n, &sparse.assumptions).least_on_an_arc(usize::from(sparse.degree)))
}

/// Whom the coordinator is assumed to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Setting {
    SemiHonest,
    Malicious,
}

/// A number of sites with what is assumed of them in numbers, rounded up.
struct Cohort {
    n: usize,
    colluding: usize,
    lost: usize,
    /// Colluding or lost; in a committee both are counted on to be missing.
    missing: usize,
    sigma: u32,
    failure_bits: u32,
    assumptions: Assumptions,
}

impl Cohort {
    fn new(n: usize, assumptions: &Assumptions) -> Self {
        let (gamma, delta) = (assumptions.colluding_percent, assumptions.dropout_percent);
        let part = |percent: u8| (n * usize::from(percent)).div_ceil(100);
        Self {
            n,
            colluding: part(gamma),
            lost: part(delta),
            missing: part(gamma + delta),
            sigma: assumptions.sigma.into(),
            failure_bits: assumptions.failure_bits.into(),
            assumptions: *assumptions,
        }
    }

    fn draw(&self, marked: usize, drawn: usize) -> Draw {
        Draw { all: self.n, marked, drawn }
    }

    /// Whether sites with `excess` or more colluders among `degree` neighbours are rare.
    fn neighbours_are_safe(&self, degree: usize, excess: usize) -> bool {
        let tail = self.draw(self.colluding, degree).at_least(excess);
        tail.times(tails::real(self.n)).is_at_most_2_to_minus(self.sigma + 1)
    }

    /// The least number, from `start` on, of colluding neighbours that is rare.
    fn colluding_neighbours(&self, degree: usize, start: usize) -> usize {
        (start..).find(|&x| self.neighbours_are_safe(degree, x)).expect("degree + 1 never happens")
    }

    fn committee_is_safe(&self, committee: usize, excess: usize) -> bool {
        self.draw(self.colluding, committee).at_least(excess).is_at_most_2_to_minus(self.sigma)
    }

    /// The least number, from `start` on, of colluders in a committee that is rare.
    fn colluding_members(&self, committee: usize, start: usize) -> usize {
        (start..).find(|&x| self.committee_is_safe(committee, x)).expect("all + 1 never happens")
    }

    /// Whether every site keeps `threshold` of its neighbours, as a rule.
    fn neighbours_stay(&self, degree: usize, threshold: usize) -> bool {
        let tail = self.draw(self.lost, degree).at_least(degree - threshold + 1);
        tail.times(tails::real(self.n)).is_at_most_2_to_minus(self.failure_bits)
    }

    /// Whether so many neighbours are safe and complete, at the threshold that is best for that.
    fn is_enough(&self, degree: usize) -> bool {
        let threshold = (degree + self.colluding_neighbours(degree, 1)).div_ceil(2);
        threshold <= degree && self.neighbours_stay(degree, threshold) && self.arcs_stay(degree)
    }

    /// Whether `quorum` honest members of a committee stay, as a rule.
    fn members_stay(&self, committee: usize, quorum: usize) -> bool {
        let tail = self.draw(self.missing, committee).at_least(committee - quorum + 1);
        tail.is_at_most_2_to_minus(self.failure_bits)
    }

    /// Whether two arcs with `least` of the `marked` on each are rare.
    fn arcs_are_safe(&self, degree: usize, marked: usize, least: usize) -> bool {
        let both = both_arcs_at_least(self.n, marked, degree / 2, least);
        let pairs = tails::real(self.n) * tails::real(self.n - 1) / 2.0;
        both.times(pairs).is_at_most_2_to_minus(self.sigma + 1)
    }

    fn least_on_an_arc(&self, degree: usize) -> usize {
        if degree + 1 == self.n {
            return 0;
        }
        let mean = degree / 2 * self.colluding / self.n;
        (mean..)
            .find(|&w| self.arcs_are_safe(degree, self.colluding, w))
            .expect("more than an arc holds never happens")
    }

    /// Whether every arc keeps as many as are demanded of it, as a rule.
    fn arcs_stay(&self, degree: usize) -> bool {
        let (arc, least) = (degree / 2, self.least_on_an_arc(degree));
        if least > arc {
            return false;
        }
        let tail = self.draw(self.lost, arc).at_least(arc - least + 1);
        least == 0 || tail.times(tails::real(self.n)).is_at_most_2_to_minus(self.failure_bits)
    }
}

/// The smallest degree and threshold that hold for every cohort, below the smallest size `fewest`.
fn neighbourhood(
    cohorts: &[Cohort],
    fewest: usize,
    setting: Setting,
) -> Result<(u16, u16), ParameterError> {
    // How many colluding neighbours are rare grows with the degree.
    let mut excess: Vec<usize> = vec![1; cohorts.len()];
    let all = (cohorts.len() == 1 && cohorts[0].n == fewest).then(|| fewest.saturating_sub(1));
    let odd = all.filter(|all| !all.is_multiple_of(2));
    let most = fewest.min(DEGREE_MAX + 1);
    for degree in (2..most).step_by(2).chain(odd.filter(|&odd| odd < most)) {
        let mut threshold = 1;
        for (cohort, excess) in cohorts.iter().zip(&mut excess) {
            *excess = cohort.colluding_neighbours(degree, *excess);
            threshold = threshold.max(match setting {
                Setting::SemiHonest => *excess,
                Setting::Malicious => (degree + *excess).div_ceil(2),
            });
        }
        let holds = |cohort: &Cohort| {
            let connected = match setting {
                Setting::SemiHonest => cohort.arcs_are_safe(degree, cohort.missing, degree / 2),
                Setting::Malicious => cohort.arcs_stay(degree),
            };
            cohort.neighbours_stay(degree, threshold) && (connected || all == Some(degree))
        };
        if threshold <= degree && cohorts.iter().all(holds) {
            return Ok((narrow(degree), narrow(threshold)));
        }
    }
    Err(unattainable("neighbourhood", cohorts, fewest))
}

/// The smallest committee and quorum that hold for every cohort.
fn signers(cohorts: &[Cohort], fewest: usize) -> Result<(u16, u16), ParameterError> {
    let mut excess: Vec<usize> = vec![1; cohorts.len()];
    for committee in 1..=fewest {
        let mut quorum = 1;
        for (cohort, excess) in cohorts.iter().zip(&mut excess) {
            *excess = cohort.colluding_members(committee, *excess);
            quorum = quorum.max((committee + *excess).div_ceil(2));
        }
        if quorum <= committee && cohorts.iter().all(|c| c.members_stay(committee, quorum)) {
            return Ok((narrow(committee), narrow(quorum)));
        }
    }
    Err(unattainable("committee", cohorts, fewest))
}

fn unattainable(what: &'static str, cohorts: &[Cohort], fewest: usize) -> ParameterError {
    let Assumptions { colluding_percent, dropout_percent, sigma, .. } = cohorts[0].assumptions;
    ParameterError::Unattainable { what, n: fewest, colluding_percent, dropout_percent, sigma }
}

/// Whether a round with these parameters completes as often as assumed.
fn completes(sparse: &Sparse, n: usize) -> bool {
    let [degree, threshold, committee, quorum] =
        [sparse.degree, sparse.threshold, sparse.committee, sparse.quorum].map(usize::from);
    let cohort = Cohort::new(n, &sparse.assumptions);
    cohort.neighbours_stay(degree, threshold)
        && (cohort.arcs_stay(degree) || degree + 1 == n)
        && cohort.members_stay(committee, quorum)
}

/// The sizes where a rounded-up number of marked sites has just grown by one, and the ends. Between
/// them every tail here, also times n, falls with n: with M = n + 1 and K marked, the ratio of the
/// next n's n · P(X = x) to this one's is (M - K)(M - k) / ((M - K - k + x)(M - 1)), at most 1 if
/// x - 1 ≥ ((K - 1)(k - 1) + x - 1) / M, that is, for x above the mean.
fn worst_sizes(fewest: usize, most: usize, assumptions: &Assumptions) -> Vec<usize> {
    let (gamma, delta) = (assumptions.colluding_percent, assumptions.dropout_percent);
    let grown = |n: usize, percent: u8| {
        let part = |n: usize| (n * usize::from(percent)).div_ceil(100);
        part(n) > part(n - 1)
    };
    let grows = |n: &usize| {
        let n = *n;
        n == fewest || [gamma, delta, gamma + delta].iter().any(|&percent| grown(n, percent))
    };
    (fewest..=most).filter(grows).collect()
}

fn check_assumptions(assumptions: &Assumptions, n: usize) -> Result<(), ParameterError> {
    let Assumptions { colluding_percent, dropout_percent, sigma, failure_bits } = *assumptions;
    let sites = "3 to 65,535";
    let checks = [
        ("number of sites", n, 3..=usize::from(u16::MAX), sites),
        ("share of colluding sites in per cent", colluding_percent.into(), 0..=50, "0 to 50"),
        ("share of lost sites in per cent", dropout_percent.into(), 0..=50, "0 to 50"),
        ("σ", sigma.into(), 1..=128, "1 to 128"),
        ("failure of completion in bits", failure_bits.into(), 1..=128, "1 to 128"),
    ];
    match checks.into_iter().find(|(_, value, range, _)| !range.contains(value)) {
        Some((what, value, _, range)) => Err(ParameterError::OutOfRange { what, value, range }),
        None => Ok(()),
    }
}

fn narrow(count: usize) -> u16 {
    u16::try_from(count).expect("at most as many as there are sites, which fit into 16 bits")
}

#[cfg(test)]
mod tests;
