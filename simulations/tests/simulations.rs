//! Scenarios from the folder `scenarios`, run for fewer seeds than by `koinon simulate`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say so and stop")]

use koinon_simulations::report::{Report, summary};
use koinon_simulations::scenario::Scenario;
use koinon_simulations::{Bug, Simulation, run_many};
use std::path::PathBuf;

fn scenario(name: &str, sets: &[&str]) -> Scenario {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name);
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    Scenario::load(&path, &sets).unwrap()
}

fn run(scenario: &Scenario, seed: u64) -> Report {
    Simulation::new(scenario, seed).unwrap().traced().run().unwrap()
}

/// Panics with the violations, and the end of the trace: what to look at first.
fn assert_clean(report: &Report) {
    let shown: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
    let tail = report.trace.len().saturating_sub(60);
    assert!(shown.is_empty(), "{}\n{}", shown.join("\n"), report.trace[tail..].join("\n"));
}

/// Only what a liar does goes wrong.
const NOTHING_ELSE: [&str; 10] = [
    "network.drop=0",
    "network.duplicate=0",
    "network.reorder=0",
    "network.disconnect=0",
    "network.cuts=0",
    "faults.site_crash=0",
    "faults.coordinator_crash=0",
    "faults.full_disk=0",
    "faults.cancel=0",
    "task.attempts_max=2",
];
const HONEST: [&str; 3] = ["faults.lying_sites=0", "faults.lying_coordinator=0", "faults.cancel=0"];

#[test]
fn a_quiet_task_goes_through() {
    let report = run(&scenario("smoke.toml", &[]), 0);
    assert_clean(&report);
    assert_eq!(report.state, "done", "{}\n{}", report.reason, report.trace.join("\n"));
    let kinds: Vec<&str> = report.rounds.iter().map(|row| row.kind).collect();
    assert_eq!(kinds, ["statistics", "train", "train", "evaluate"]);
    assert!(report.rounds.iter().all(|row| row.participants == 6 && row.outcome == "committed"));
    assert!(report.rounds.is_sorted_by_key(|row| row.started_ms));
    assert!(report.rounds[3].started_ms < report.virtual_ms);
    assert_eq!(report.counts.sums_checked, 4);
    assert!(report.counts.words_tested > 4 * 6 * 10 && report.counts.replays_checked > 3);
}

/// Noised sums and nothing else; the noise of every site is in what is opened, and no more than that.
#[test]
fn a_private_task_opens_noised_updates_alone() {
    let scenario = scenario("tcga-luad-private.toml", &["task.rounds=3", "score=false"]);
    let report = run(&scenario, 2);
    assert_clean(&report);
    assert_eq!(report.state, "done", "{}\n{}", report.reason, report.trace.join("\n"));
    let kinds: Vec<&str> = report.rounds.iter().map(|row| row.kind).collect();
    assert_eq!(kinds, ["train"; 3]);
    assert!(report.rounds.iter().all(|row| row.participants == 16));
    assert_eq!(report.counts.sums_checked, 3);
}

#[test]
fn faults_break_no_rule() {
    let reports = run_many(&scenario("faults.toml", &[]), 0..24, 2, assert_clean).unwrap();
    let sum = |f: fn(&Report) -> u64| reports.iter().map(f).sum::<u64>();
    assert!(sum(|r| r.counts.site_crashes) > 20 && sum(|r| r.counts.coordinator_crashes) > 20);
    assert!(sum(|r| r.counts.disks_full) > 5);
    let done = reports.iter().filter(|r| r.state == "done").count();
    assert!(done >= 18, "only {done} of {} tasks got through", reports.len());
}

#[test]
fn seeds_that_found_a_bug_stay_clean() {
    for &seed in SEEDS_OF_BUGS {
        run_many(&scenario("faults.toml", &[]), seed..seed + 1, 1, assert_clean).unwrap();
    }
}

/// 348: a site that was left out had taken the same invitation once more, and never heard of the end.
const SEEDS_OF_BUGS: &[u64] = &[348];

#[test]
fn crashes_at_every_turn_break_no_rule() {
    let often = ["faults.coordinator_crash=0.03", "faults.site_crash=0.02", "faults.crashes_max=9"];
    let scenario = scenario("faults.toml", &[&HONEST[..], &often[..]].concat());
    let reports = run_many(&scenario, 1_000..1_006, 2, assert_clean).unwrap();
    assert!(reports.iter().all(|r| r.state == "done"));
    assert!(reports.iter().any(|r| r.counts.coordinator_crashes == 9));
}

#[test]
fn uploads_of_many_chunks_survive_a_bad_network() {
    let bad = [
        "network.drop=0.08",
        "network.duplicate=0.1",
        "network.reorder=0.2",
        "network.disconnect=0.01",
        "data.arithmetic.inputs=400",
        "sites.chunk_bytes=1024",
    ];
    let scenario = scenario("faults.toml", &[&HONEST[..], &bad[..]].concat());
    let reports = run_many(&scenario, 2_000..2_005, 2, assert_clean).unwrap();
    assert!(reports.iter().all(|r| r.state == "done"));
}

#[test]
fn a_lying_site_harms_nobody_else() {
    for lie in ["garbage", "bad_shares", "wrong_lengths", "equivocate", "withhold"] {
        let lies = format!("faults.site_lies=[\"{lie}\"]");
        let sets = ["faults.lying_sites=1", "faults.lying_coordinator=0", &lies];
        let scenario = scenario("faults.toml", &[&NOTHING_ELSE[..], &sets[..]].concat());
        for report in run_many(&scenario, 0..2, 2, assert_clean).unwrap() {
            assert_eq!(report.state, "done", "{lie}: {}", report.reason);
        }
    }
}

#[test]
fn a_lying_coordinator_gets_nothing() {
    let lies = [
        ("digest_for_one", true),
        ("both_kinds", true),
        ("two_survivor_sets", false),
        ("tiny_cohort", false),
        ("phantom_sites", true),
        ("ask_twice", true),
        ("swapped_key", true),
        ("old_shares", true),
        ("repeated_signature", true),
    ];
    for (lie, commits) in lies {
        let kind = format!("faults.coordinator_lies=[\"{lie}\"]");
        let sets = ["faults.lying_sites=0", "faults.lying_coordinator=1", &kind];
        let scenario = scenario("faults.toml", &[&NOTHING_ELSE[..], &sets[..]].concat());
        for report in run_many(&scenario, 0..2, 2, assert_clean).unwrap() {
            // Who lies to one site loses that site; who lies to half of them loses the round.
            assert_eq!(report.state == "done", commits, "{lie}: {}", report.reason);
        }
    }
}

#[test]
fn a_cancelled_task_ends_at_once_and_everywhere() {
    let sets = ["faults.lying_coordinator=0", "faults.cancel=1", "faults.cancel_ms=[8000,20000]"];
    let scenario = scenario("faults.toml", &sets);
    for report in run_many(&scenario, 0..4, 2, assert_clean).unwrap() {
        assert_eq!(report.state, "cancelled", "seed {}", report.seed);
        // The operator asks again until a crashed coordinator is back; then there is the settling.
        assert!(report.virtual_ms < 20_000 + 60_000, "{}", report.virtual_ms);
    }
}

#[test]
fn planted_bugs_are_found() {
    let bugs = [
        (Bug::LostWrite, "durable"),
        (Bug::CountedTwice, "of the sum is"),
        (Bug::MissingSurvivorCheck, "second set of survivors"),
        (Bug::MaskOmitted, "not uniform"),
        (Bug::MaskReused, "the mask is that of"),
    ];
    let scenario = scenario("faults.toml", &[]);
    for (bug, sign) in bugs {
        let shows = |seed: &u64| {
            let simulation = Simulation::new(&scenario, *seed).unwrap().with_planted(bug);
            let report = simulation.run().unwrap();
            report.violations.iter().any(|violation| violation.what.contains(sign))
        };
        assert!((0..1_000).find(shows).is_some_and(|seed| seed < 50), "{bug:?} was not found");
    }
}

#[test]
fn a_violation_names_the_command_that_replays_it() {
    let scenario = scenario("smoke.toml", &["task.rounds=1"]);
    let simulation = Simulation::new(&scenario, 3).unwrap().with_planted(Bug::CountedTwice);
    let report = simulation.run().unwrap();
    let shown = report.violations[0].to_string();
    assert!(shown.contains("smoke.toml --set 'task.rounds=1' --seed 3 --trace"), "{shown}");
}

#[test]
fn one_seed_gives_the_same_bytes_twice_and_on_any_number_of_threads() {
    let scenario = scenario("faults.toml", &[]);
    let bytes = |report: &Report| format!("{}{}", report.csv(), report.json());
    let (first, second) = (run(&scenario, 5), run(&scenario, 5));
    assert_eq!(first.trace, second.trace);
    assert_eq!(bytes(&first), bytes(&second));
    let many = |threads| {
        let mut seen = Vec::new();
        let reports = run_many(&scenario, 3..9, threads, |r| seen.push(r.seed)).unwrap();
        assert_eq!(seen, [3, 4, 5, 6, 7, 8]);
        (reports.iter().map(bytes).collect::<String>(), summary(&reports).to_string())
    };
    assert_eq!(many(1), many(2));
}

#[test]
fn an_experiment_scores_the_three_ways() {
    let sets =
        ["task.rounds=3", "data.synthetic.rows=600", "partition.alpha=2", "partition.sites=6"];
    let cohort = "task.cohort={ min = 5, quorum = 5, max = 6 }";
    let report = run(&scenario("dirichlet.toml", &[&sets[..], &[cohort]].concat()), 1);
    assert_clean(&report);
    let scores = report.scores.as_ref().unwrap();
    assert!(scores.federated.value > 0.7, "{scores:?}");
    assert!(scores.pooled.low <= scores.pooled.value && scores.pooled.value <= scores.pooled.high);
    assert_eq!(scores.alone.len(), 6);
    assert_eq!(report.csv().lines().count(), 5);
    assert!(report.rounds[1].loss.is_finite() && report.rounds[3].validation_auc.is_finite());
}

#[test]
fn the_committed_tables_fit_their_scenarios() {
    for name in ["tcga-luad.toml", "sba-loans.toml"] {
        let scenario = scenario(name, &["task.rounds=2"]);
        assert_eq!(scenario.task.rounds, 2);
        Simulation::new(&scenario, 0).unwrap();
    }
}

/// More sites than may all share with all: graphs, committees, notices with proofs.
#[test]
fn faults_above_sixty_four_sites_break_no_rule() {
    let reports = run_many(&scenario("faults-large.toml", &[]), 0..2, 2, assert_clean).unwrap();
    assert!(reports.iter().all(|r| r.counts.site_crashes > 3 && r.state == "done"));
    let seeds = SEEDS_OF_BUGS_LARGE.iter().flat_map(|&seed| {
        run_many(&scenario("faults-large.toml", &[]), seed..seed + 1, 1, assert_clean).unwrap()
    });
    assert_eq!(seeds.count(), SEEDS_OF_BUGS_LARGE.len());
}

/// 4: a site outside the committee, which agrees to survivors in silence, was cut off until the round
/// was over; it had nothing to say again, and never heard of the end.
const SEEDS_OF_BUGS_LARGE: &[u64] = &[4];
