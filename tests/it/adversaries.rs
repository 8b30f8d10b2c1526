//! Adversaries: every attack of the threat model as a script that is run against the shipped code.
//!
//! A [`Script`] is an attacker with a goal. It drives the shipped participant by frames ([`sites`]), the
//! shipped coordinator by frames ([`center`]), or the private sum's own states ([`sums`]), and says in
//! an [`Outcome`] whether it reached its goal and what else went wrong: an honest site that hangs, says
//! one thing in two ways, or lets something out that its ledger does not show. Each script runs twice:
//! as it is, where the attacker must fail, and with a weakness planted on purpose, where it must
//! succeed; a script that fails at a weakness would prove nothing. Weaknesses are checks left out
//! (`koinon_aggregation::planted`) or something that the script itself does, like restoring a disk.
//!
//! One file a class, numbered as in `docs/threat-model.md`. Start at `a01_both_shares`.

mod a01_both_shares;
mod a02_survivor_sets;
mod a03_neighbours;
mod a04_phantoms;
mod a05_replay;
mod a06_told_differently;
mod a07_crafted_models;
mod a08_tiny_cohorts;
mod a09_differencing;
mod a10_single_contributor;
mod a11_bad_shares;
mod a12_wrap_around;
mod a13_float_leaks;
mod a14_masks_twice;
mod a15_roll_back;
mod a16_size_and_slowness;
mod a17_too_little_noise;
mod center;
mod judge;
mod sites;
mod sums;

use koinon_aggregation::planted::{Weakness, plant};

/// What became of an attack.
#[derive(Default)]
pub(crate) struct Outcome {
    /// What shows that the attacker reached its goal.
    won: Option<String>,
    /// What else should not be: a hang, a contradiction, an unstable code, a gap in a ledger.
    wrong: Vec<String>,
}

impl Outcome {
    /// The attacker reached its goal if `reached`.
    pub(crate) fn goal(&mut self, reached: bool, evidence: impl Into<String>) {
        if reached && self.won.is_none() {
            self.won = Some(evidence.into());
        }
    }

    /// Whatever becomes of the attack, this should be so.
    pub(crate) fn holds(&mut self, so: bool, what: impl Into<String>) {
        if !so {
            self.wrong.push(what.into());
        }
    }
}

/// What is planted, so that the script succeeds.
pub(crate) enum Plant {
    /// These checks are left out.
    Checks(&'static [Weakness]),
    /// The script does this itself.
    World(&'static str),
}

/// One attack.
pub(crate) struct Script {
    name: &'static str,
    goal: &'static str,
    plant: Plant,
    /// Told whether to plant what [`Plant::World`] says.
    run: fn(bool) -> Outcome,
}

/// A script by its function, so that its name is the function's.
macro_rules! script {
    ($run:ident, $goal:expr, $plant:expr) => {
        $crate::adversaries::Script {
            name: stringify!($run),
            goal: $goal,
            plant: $plant,
            run: $run,
        }
    };
}
pub(crate) use script;

/// All attacks of one class.
pub(crate) struct Class {
    number: u8,
    scripts: &'static [Script],
}

const CLASSES: [&Class; 17] = [
    &a01_both_shares::CLASS,
    &a02_survivor_sets::CLASS,
    &a03_neighbours::CLASS,
    &a04_phantoms::CLASS,
    &a05_replay::CLASS,
    &a06_told_differently::CLASS,
    &a07_crafted_models::CLASS,
    &a08_tiny_cohorts::CLASS,
    &a09_differencing::CLASS,
    &a10_single_contributor::CLASS,
    &a11_bad_shares::CLASS,
    &a12_wrap_around::CLASS,
    &a13_float_leaks::CLASS,
    &a14_masks_twice::CLASS,
    &a15_roll_back::CLASS,
    &a16_size_and_slowness::CLASS,
    &a17_too_little_noise::CLASS,
];

/// No script of the class reaches its goal, and nothing else goes wrong.
pub(crate) fn repelled(class: &Class) {
    let mut failed = Vec::new();
    for script in class.scripts {
        let Outcome { won, wrong } = (script.run)(false);
        if won.is_some() || !wrong.is_empty() {
            failed.push(format!("{}: {}: {won:?} {wrong:?}", script.name, script.goal));
        }
    }
    assert!(failed.is_empty(), "A{}: {failed:#?}", class.number);
}

/// Every script of the class reaches its goal where a weakness is planted.
pub(crate) fn planted_is_found(class: &Class) {
    let mut blind = Vec::new();
    for script in class.scripts {
        let (outcome, what) = match &script.plant {
            Plant::Checks(checks) => (plant(checks, || (script.run)(true)), format!("{checks:?}")),
            Plant::World(what) => ((script.run)(true), (*what).to_owned()),
        };
        if outcome.won.is_none() {
            blind.push(format!("{} does not find: {what} {:?}", script.name, outcome.wrong));
        }
    }
    assert!(blind.is_empty(), "A{}: {blind:#?}", class.number);
}

#[test]
fn every_class_has_scripts_and_each_script_its_plant() {
    let numbers: Vec<u8> = CLASSES.iter().map(|class| class.number).collect();
    assert_eq!(numbers, (1..=17).collect::<Vec<u8>>());
    assert!(CLASSES.iter().all(|class| !class.scripts.is_empty()));
    let all = || CLASSES.iter().flat_map(|class| class.scripts);
    let planted = all().filter(|script| match script.plant {
        Plant::Checks(checks) => !checks.is_empty(),
        Plant::World(what) => !what.is_empty(),
    });
    assert_eq!(planted.count(), all().count());
    let names: std::collections::BTreeSet<_> = all().map(|script| script.name).collect();
    assert_eq!(names.len(), all().count(), "two scripts of one name");
    assert!(names.len() >= 40, "{} scripts", names.len());
    // The page names each of them.
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/threat-model.md");
    let page = std::fs::read_to_string(page).unwrap();
    for name in names {
        assert!(page.contains(&format!("`{name}`")), "docs/threat-model.md does not name {name}");
    }
}

#[test]
fn nothing_is_weak_unless_planted() {
    use koinon_aggregation::planted::weak;
    assert!(!weak(Weakness::NoFloor));
    plant(&[Weakness::NoFloor], || {
        assert!(weak(Weakness::NoFloor) && !weak(Weakness::AnySum));
        assert!(!std::thread::spawn(|| weak(Weakness::NoFloor)).join().unwrap());
    });
    assert!(!weak(Weakness::NoFloor));
}
