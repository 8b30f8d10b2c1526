//! The choice while requests run: it follows the link, and does not flutter.
//!
//! After each answer the link is known a little better and all candidates are predicted again. Another
//! one is taken when it has been predicted a tenth faster for two answers in a row. What is not tried is
//! not known, so every sixth question, or every third after a surprise, looks around: in turn by the placement that would be best were the
//! link four times as fast, and, while everything runs here, by the best one that leaves. A site that does
//! not want that has no permitted cut. It asks nobody. Start at [`Planner::choose`] and
//! [`Planner::answered`].

use std::time::Duration;

use super::{Candidate, Link, Profile, best, candidates};

/// How much faster another candidate must be.
const FASTER: f64 = 0.9;
/// For how many answers in a row.
const ANSWERS: u32 = 2;
/// Every so many questions one looks around.
const LOOK: u32 = 6;
/// The same for a while after an answer that was not as predicted.
const LOOK_CURIOUS: u32 = 3;
/// For how many questions.
const CURIOUS: u32 = 18;
/// By how much, relatively, a surprise is off.
const SURPRISE: f64 = 0.3;
/// How much faster a link may have become unseen.
const HOPE: f64 = 4.0;

/// See the module.
pub struct Planner {
    profile: Profile,
    link: Link,
    all: Vec<Candidate>,
    chosen: usize,
    /// Another candidate, and for how many answers it was better.
    rival: Option<(usize, u32)>,
    /// Questions since the last look around, and looks so far.
    since: u32,
    looks: u32,
    /// Questions for which it stays curious.
    curious: u32,
}

impl Planner {
    /// Begins with what the profile says.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        let link = profile.link.clone();
        let all = candidates(&profile, &link);
        let chosen = best(&all).unwrap_or(0);
        Self { profile, link, all, chosen, rival: None, since: 0, looks: 0, curious: 0 }
    }

    /// Rows of one question, as they were measured.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.profile.rows
    }

    /// All candidates as they are predicted now.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.all
    }

    /// The link as it is believed to be.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The choice.
    #[must_use]
    pub fn chosen(&self) -> &Candidate {
        &self.all[self.chosen]
    }

    /// By which candidate the next question runs: the choice, or now and then a look around.
    pub fn choose(&mut self) -> Candidate {
        self.since += 1;
        self.curious = self.curious.saturating_sub(1);
        if self.since < if self.curious > 0 { LOOK_CURIOUS } else { LOOK } {
            return self.all[self.chosen].clone();
        }
        (self.since, self.looks) = (0, self.looks.wrapping_add(1));
        let hoped = Link::new(self.link.rtt_us() / HOPE, self.link.bytes_per_s() * HOPE);
        let hope = self.looks.is_multiple_of(2);
        let seen = candidates(&self.profile, if hope { &hoped } else { &self.link });
        let here = self.all[self.chosen].cut.is_none();
        let away = seen.iter().enumerate().filter(|(_, one)| one.cut.is_some() || !here);
        let at = away.min_by(|a, b| a.1.p50_us.total_cmp(&b.1.p50_us)).map(|(at, _)| at);
        self.all[at.unwrap_or(self.chosen)].clone()
    }

    /// A trip over the link: bytes out and back, the time from door to answer, and what of it was spent
    /// at the server.
    pub fn answered(&mut self, bytes: (usize, usize), whole: Duration, there: Duration) {
        let on_link = whole.saturating_sub(there).as_secs_f64() * 1e6;
        if (on_link / self.link.trip_us(bytes.0, bytes.1) - 1.0).abs() > SURPRISE {
            self.curious = CURIOUS;
        }
        self.link.observe(bytes.0, bytes.1, on_link);
        self.all = candidates(&self.profile, &self.link);
        let Some(fastest) = best(&self.all) else { return };
        let better = self.all[fastest].p50_us < self.all[self.chosen].p50_us * FASTER;
        self.rival = match self.rival {
            _ if !better => None,
            Some((rival, n)) if rival == fastest => Some((rival, n + 1)),
            _ => Some((fastest, 1)),
        };
        if let Some((rival, n)) = self.rival
            && n >= ANSWERS
        {
            self.chosen = rival;
            self.rival = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::profile;
    use super::*;

    /// Runs questions over a true link; gives after how many the choice stayed what it is at the end.
    fn settle(planner: &mut Planner, truth: &Link, questions: u32, jitter: bool) -> u32 {
        let mut last_change = 0;
        for at in 1..=questions {
            let before = planner.chosen().cut.zip(Some(planner.chosen().codec));
            let one = planner.choose();
            if one.cut.is_some() {
                let shake = if jitter { 1.0 + 0.04 * f64::from(at * 7 % 5) - 0.08 } else { 1.0 };
                let took = truth.trip_us(one.bytes, 100) * shake + one.parts_us[2];
                let there = Duration::from_secs_f64(one.parts_us[2] * 1e-6);
                planner.answered((one.bytes, 100), Duration::from_secs_f64(took * 1e-6), there);
            }
            if planner.chosen().cut.zip(Some(planner.chosen().codec)) != before {
                last_change = at;
            }
        }
        last_change
    }

    #[test]
    fn after_a_change_of_link_it_settles_on_what_is_best_within_twenty_questions() {
        let links = [
            Link::new(200.0, 1.25e9),
            Link::new(200.0, 12.5e6),
            Link::new(1_000.0, 1.25e6),
            Link::new(100_000.0, 625_000.0),
            Link::new(200.0, 1.25e9),
        ];
        for from in &links {
            for to in &links {
                let mut planner = Planner::new(Profile { link: from.clone(), ..profile() });
                settle(&mut planner, from, 40, true);
                let after = settle(&mut planner, to, 60, true);
                let all = candidates(&profile(), to);
                let right = &all[best(&all).unwrap()];
                let chosen = planner.chosen();
                let own = all.iter().find(|o| o.cut == chosen.cut && o.codec == chosen.codec);
                let own = own.unwrap().p50_us;
                assert!(own <= right.p50_us * 1.12, "{from:?} → {to:?}: {own} {}", right.p50_us);
                // Back from all here, looks over the link come every eighth question only.
                let limit = if candidates(&profile(), from)[0].p50_us <= 10_000.0
                    && best(&candidates(&profile(), from)) == Some(0)
                {
                    40
                } else {
                    20
                };
                assert!(after <= limit, "{from:?} → {to:?}: {after}");
            }
        }
    }

    #[test]
    fn noise_does_not_move_the_choice() {
        let truth = Link::new(200.0, 12.5e6);
        let mut planner = Planner::new(Profile { link: truth.clone(), ..profile() });
        assert_eq!(settle(&mut planner, &truth, 500, true), 0);
    }
}
