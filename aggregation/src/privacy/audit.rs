//! Epsilon from below: what a membership-inference attack on a released model proves about the
//! mechanism that trained it. A bound above the stated epsilon means that the statement is wrong.
//!
//! A low bound proves nothing but that this attack is weak. The attack itself (which scores, which
//! models) is the caller's. [`epsilon_at_least`] wants independent trials, one training run each;
//! [`epsilon_at_least_one_run`] makes do with one run over many planted records. Start with either.

use super::numeric::log_binomial;

/// Epsilon beyond which no bound is reported.
const EPSILON_MAX: f64 = 64.0;
/// Thresholds tried on the half that chooses.
const THRESHOLDS_MAX: usize = 256;

/// Outcomes of an attack that says *member* or *not* of one record a trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Members called members.
    pub true_positives: u64,
    /// Members missed.
    pub false_negatives: u64,
    /// Others called members.
    pub false_positives: u64,
    /// Others recognised.
    pub true_negatives: u64,
}

/// What an attack proves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Audit {
    /// The lower bound on epsilon, 0 or more.
    pub epsilon: f64,
    /// Members have scores of at least this.
    pub threshold: f64,
    /// On the half of the trials that confirms.
    pub counts: Counts,
}

/// The lower bound on epsilon from independent trials, right with probability at least
/// `confidence`; 0 if nothing is proved. Both the attack and its mirror image (who is *not* a
/// member) count.
///
/// (epsilon, delta) bounds TPR <= exp(epsilon)·FPR + delta and TNR <= exp(epsilon)·FNR + delta
/// (Kairouz, Oh, Viswanath 2015, arXiv:1311.0776, Theorem 2.1). The bounds on TPR and FPR are
/// Clopper and Pearson's, each missing with half of 1 − `confidence`; the mirror image needs no
/// others.
pub fn epsilon_at_least(counts: &Counts, delta: f64, confidence: f64) -> f64 {
    let miss = (1.0 - confidence) / 2.0;
    if !(miss > 0.0 && miss < 0.5 && delta >= 0.0) {
        return 0.0;
    }
    let members = counts.true_positives.saturating_add(counts.false_negatives);
    let others = counts.false_positives.saturating_add(counts.true_negatives);
    let missed_members = proportion_at_most(counts.false_negatives, members, miss);
    let called_others = proportion_at_most(counts.false_positives, others, miss);
    let bound = |right: f64, wrong: f64| {
        if right > delta { libm::log((right - delta) / wrong) } else { 0.0 }
    };
    let direct = bound(1.0 - missed_members, called_others);
    let mirrored = bound(1.0 - called_others, missed_members);
    direct.max(mirrored).clamp(0.0, EPSILON_MAX)
}

/// The same from scores (higher: more likely a member), one independent trial each. The even
/// trials choose the threshold, the odd ones prove the bound, so that the choice costs no
/// confidence. The order of the trials must have nothing to do with their scores.
pub fn epsilon_from_scores(members: &[f64], others: &[f64], delta: f64, confidence: f64) -> Audit {
    let count = |half: usize, threshold: f64| {
        let called = |scores: &[f64]| {
            let trials = scores.iter().skip(half).step_by(2);
            let all = trials.clone().count() as u64;
            let called = trials.filter(|score| **score >= threshold).count() as u64;
            (called, all - called)
        };
        let (true_positives, false_negatives) = called(members);
        let (false_positives, true_negatives) = called(others);
        Counts { true_positives, false_negatives, false_positives, true_negatives }
    };
    let mut candidates: Vec<f64> =
        members.iter().step_by(2).chain(others.iter().step_by(2)).copied().collect();
    candidates.retain(|score| !score.is_nan());
    candidates.sort_by(f64::total_cmp);
    candidates.dedup();
    let stride = candidates.len().div_ceil(THRESHOLDS_MAX).max(1);
    let proved = |threshold: f64| epsilon_at_least(&count(0, threshold), delta, confidence);
    let choices: Vec<(f64, f64)> =
        candidates.iter().step_by(stride).map(|&at| (proved(at), at)).collect();
    let best = choices.iter().fold(f64::NEG_INFINITY, |best, (epsilon, _)| best.max(*epsilon));
    let good: Vec<f64> =
        choices.iter().filter(|choice| choice.0 >= best - NEARLY).map(|choice| choice.1).collect();
    let threshold = good.get(good.len() / 2).copied().unwrap_or(f64::INFINITY);
    let counts = count(1, threshold);
    Audit { epsilon: epsilon_at_least(&counts, delta, confidence), threshold, counts }
}

/// How much less than the best choice a threshold may prove and still be chosen. The best one lies
/// just beyond the last wrong score of its half, where the other half has wrong scores too; the
/// middle one of those that are nearly as good lies clear of both.
const NEARLY: f64 = 0.1;

/// The lower bound on epsilon from one training run: of `planted` records each was put in or left
/// out by a fair coin; the attack guesses about `guesses` of them (it may abstain from the others)
/// and is right `correct` times. Right with probability at least `confidence`; 0 if nothing is
/// proved.
///
/// Steinke, Nasr, Jagielski 2023 (arXiv:2305.08846) Theorem 5.2: the chance of so many right
/// guesses is at most f(correct) + 2·planted·delta·max over i of (f(correct − i) − f(correct))/i,
/// where f(v) is the chance that a binomial of `guesses` trials with success
/// exp(epsilon)/(1 + exp(epsilon)) reaches v.
pub fn epsilon_at_least_one_run(
    correct: u64,
    guesses: u64,
    planted: u64,
    delta: f64,
    confidence: f64,
) -> f64 {
    let miss = 1.0 - confidence;
    let sound = correct <= guesses && guesses <= planted && miss > 0.0 && miss < 1.0;
    if !sound || delta.is_nan() || delta < 0.0 {
        return 0.0;
    }
    let is_refuted = |epsilon: f64| {
        let success = 1.0 / (1.0 + libm::exp(-epsilon));
        chance_of_so_many(correct, guesses, planted, delta, success) <= miss
    };
    if !is_refuted(0.0) {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, EPSILON_MAX);
    while high - low > 1e-9 {
        let middle = 0.5 * (low + high);
        if is_refuted(middle) { low = middle } else { high = middle }
    }
    low
}

fn chance_of_so_many(correct: u64, guesses: u64, planted: u64, delta: f64, success: f64) -> f64 {
    let (n, log_right, log_wrong) = (guesses as f64, libm::log(success), libm::log1p(-success));
    let mass = |v: u64| {
        let v = v as f64;
        let wrong = if v == n { 0.0 } else { (n - v) * log_wrong };
        libm::exp(log_binomial(n, v) + v * log_right + wrong)
    };
    let reached: f64 = (correct..=guesses).map(mass).sum();
    // f(correct − i) − f(correct), a term more for every i.
    let (mut gained, mut steepest) = (0.0, 0.0f64);
    for i in 1..=correct {
        gained += mass(correct - i);
        steepest = steepest.max(gained / i as f64);
    }
    reached + 2.0 * planted as f64 * delta * steepest
}

/// Clopper and Pearson 1934: the largest proportion at which `hits` or fewer of `trials` still
/// have a chance of `miss`. 1 without trials.
fn proportion_at_most(hits: u64, trials: u64, miss: f64) -> f64 {
    if hits >= trials {
        return 1.0;
    }
    let (k, n) = (hits as f64, trials as f64);
    // Above k/n the terms fall from k downwards, so the sum is short.
    let chance = |p: f64| {
        let mut term = libm::exp(log_binomial(n, k) + k * libm::log(p) + (n - k) * libm::log1p(-p));
        let (mut sum, mut i) = (term, k);
        while i > 0.0 && term > 1e-18 * sum {
            term *= i * (1.0 - p) / ((n - i + 1.0) * p);
            sum += term;
            i -= 1.0;
        }
        sum
    };
    let (mut low, mut high) = (k / n, 1.0);
    while high - low > 1e-12 {
        let middle = 0.5 * (low + high);
        if chance(middle) > miss { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    #[test]
    fn proportions_are_clopper_and_pearsons() {
        // scipy.stats.binomtest(k, n).proportion_ci(0.95).high, two-sided.
        let known = [
            (0, 10, 0.308_497_107_819),
            (3, 10, 0.652_452_850_060),
            (50, 1000, 0.065_390_487_915),
            (999, 1000, 0.999_974_682_513),
        ];
        for (hits, trials, high) in known {
            let ours = proportion_at_most(hits, trials, 0.025);
            assert!((ours - high).abs() < 1e-10, "{hits} of {trials}: {ours}");
        }
        assert_eq!(proportion_at_most(0, 0, 0.025), 1.0);
        assert_eq!(proportion_at_most(7, 7, 0.025), 1.0);
    }

    #[test]
    fn nothing_is_proved_by_nothing() {
        assert_eq!(epsilon_at_least(&Counts::default(), 1e-5, 0.95), 0.0);
        let coin = Counts {
            true_positives: 500,
            false_negatives: 500,
            false_positives: 500,
            true_negatives: 500,
        };
        assert_eq!(epsilon_at_least(&coin, 1e-5, 0.95), 0.0);
        assert_eq!(epsilon_at_least(&coin, f64::NAN, 0.95), 0.0);
        assert_eq!(epsilon_at_least(&coin, 0.0, 1.0), 0.0);
        assert_eq!(epsilon_from_scores(&[], &[], 0.0, 0.95).epsilon, 0.0);
        assert_eq!(epsilon_from_scores(&[f64::NAN; 9], &[f64::NAN; 9], 0.0, 0.95).epsilon, 0.0);
        assert_eq!(epsilon_at_least_one_run(5, 4, 10, 0.0, 0.95), 0.0);
        assert_eq!(epsilon_at_least_one_run(50, 100, 100, 0.0, 0.95), 0.0);
        // A delta as large as the advantage explains it all.
        assert_eq!(epsilon_at_least_one_run(70, 100, 100, 0.1, 0.95), 0.0);
    }

    #[test]
    fn a_planted_leak_is_found_by_counts_scores_and_in_one_run() {
        let leak = Counts {
            true_positives: 900,
            false_negatives: 100,
            false_positives: 2,
            true_negatives: 998,
        };
        let found = epsilon_at_least(&leak, 1e-5, 0.95);
        assert!((4.5..6.2).contains(&found), "{found}");
        // The mirror image leaks as much.
        let mirrored = Counts {
            true_positives: 998,
            false_negatives: 2,
            false_positives: 100,
            true_negatives: 900,
        };
        assert!((epsilon_at_least(&mirrored, 1e-5, 0.95) - found).abs() < 1e-9);

        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut scores = |shift: f64| -> Vec<f64> {
            (0..2000).map(|_| shift + (0..12).map(|_| rng.random::<f64>()).sum::<f64>()).collect()
        };
        let (members, others) = (scores(3.0), scores(0.0));
        let audit = epsilon_from_scores(&members, &others, 1e-5, 0.95);
        assert!(audit.epsilon > 3.0, "{audit:?}");
        let told_apart_by_nothing = epsilon_from_scores(&others, &scores(0.0), 1e-5, 0.95);
        assert!(told_apart_by_nothing.epsilon < 0.3, "{told_apart_by_nothing:?}");
        // 980 of 1000 right: epsilon of at least log(0.97 / 0.03) or so.
        let one_run = epsilon_at_least_one_run(980, 1000, 1000, 1e-9, 0.95);
        assert!((3.3..3.9).contains(&one_run), "{one_run}");
        assert!(epsilon_at_least_one_run(980, 1000, 1000, 1e-3, 0.95) < one_run);
    }

    /// Randomized response tells the truth with probability exp(e)/(1 + exp(e)) and is exactly
    /// e-private: bounds may exceed e as often as the confidence says, and are not idle.
    #[test]
    fn bounds_exceed_a_known_epsilon_no_oftener_than_they_may() {
        const SEEDS: u64 = 400;
        let (mut by_counts, mut by_scores, mut in_one_run) = (0, 0, 0);
        let mut sum = 0.0;
        for seed in 0..SEEDS {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let known = [0.5f64, 1.0, 3.0][usize::try_from(seed % 3).unwrap()];
            let truth = known.exp() / (1.0 + known.exp());
            let mut answers = |p: f64| -> Vec<f64> {
                (0..300).map(|_| f64::from(u8::from(rng.random::<f64>() < p))).collect()
            };
            let (members, others) = (answers(truth), answers(1.0 - truth));
            let ones = |answers: &[f64]| answers.iter().filter(|a| **a == 1.0).count() as u64;
            let counts = Counts {
                true_positives: ones(&members),
                false_negatives: 300 - ones(&members),
                false_positives: ones(&others),
                true_negatives: 300 - ones(&others),
            };
            let found = epsilon_at_least(&counts, 0.0, 0.9);
            sum += found / known;
            by_counts += u64::from(found > known);
            let audit = epsilon_from_scores(&members, &others, 0.0, 0.9);
            by_scores += u64::from(audit.epsilon > known);
            let one_run = epsilon_at_least_one_run(ones(&members), 300, 300, 0.0, 0.9);
            in_one_run += u64::from(one_run > known);
        }
        // A tenth of the seeds, and three standard deviations.
        let allowed = 40 + 18;
        for (how, exceeded) in
            [("counts", by_counts), ("scores", by_scores), ("one run", in_one_run)]
        {
            assert!(exceeded <= allowed, "by {how} {exceeded} of {SEEDS} exceed");
        }
        assert!(in_one_run > 10, "the bound of one run is idle: {in_one_run}");
        assert!(sum / SEEDS as f64 > 0.6, "bounds are idle: {}", sum / SEEDS as f64);
    }
}
