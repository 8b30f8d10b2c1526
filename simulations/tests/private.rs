//! Private tasks through the simulator: the unit site, the adaptive clip, and what is refused.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say so and stop")]

use koinon_aggregation::privacy::clip::trail;
use koinon_proto::wire::Privacy;
use koinon_simulations::Simulation;
use koinon_simulations::report::Report;
use koinon_simulations::scenario::Scenario;
use std::path::PathBuf;

const SITES: &str = "tcga-luad-sites-private.toml";
const RECORDS: &str = "tcga-luad-private.toml";

fn scenario(name: &str, sets: &[&str]) -> Scenario {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name);
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    Scenario::load(&path, &sets).unwrap()
}

/// A run in which nothing went wrong and every opened sum and version was the oracle's.
fn clean(name: &str, sets: &[&str], sites: u32) -> (Report, Privacy) {
    let report = Simulation::new(&scenario(name, sets), 3).unwrap().traced().run().unwrap();
    let shown: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
    assert!(shown.is_empty(), "{}", shown.join("\n"));
    assert_eq!(report.state, "done", "{}\n{}", report.reason, report.trace.join("\n"));
    assert!(report.rounds.iter().all(|row| row.kind == "train" && row.participants == sites));
    let privacy = report.privacy.clone().unwrap();
    (report, privacy)
}

/// The status' clips are those that follow from its shares.
fn follows(privacy: &Privacy, [initial, quantile, rate]: [f64; 3]) {
    let mut clips = trail(initial, quantile, rate, &privacy.unclipped).unwrap();
    clips.pop();
    assert_eq!(privacy.clips, clips);
    assert!(privacy.unclipped.iter().all(|share| (-1.0..=2.0).contains(share)));
}

#[test]
fn a_task_of_the_unit_site_trains_and_says_what_it_promises() {
    let sets = ["score=false", "task.rounds=2"];
    let (report, privacy) = clean(SITES, &sets, 60);
    assert_eq!((privacy.unit.as_str(), privacy.epsilon, privacy.delta), ("site", 8.0, 1e-4));
    assert_eq!((privacy.clips.len(), report.counts.sums_checked), (2, 2));
    follows(&privacy, [1.0, 0.5, 0.2]);
    // So with a clip that stays as it is.
    let fixed = [
        "score=false",
        "task.rounds=1",
        "task.encoding.clip_l2=0.25",
        "task.privacy={ unit = \"site\", epsilon = 8.0, delta = 0.0001, colluding = 6 }",
    ];
    let (_, privacy) = clean(SITES, &fixed, 60);
    assert_eq!((privacy.unit.as_str(), privacy.epsilon), ("site", 8.0));
    assert!(privacy.clips.is_empty() && privacy.unclipped.is_empty());
}

#[test]
fn a_clip_that_follows_records_settles_where_half_of_them_are_longer() {
    let sets = [
        "score=false",
        "task.rounds=8",
        "task.privacy={ unit = \"record\", epsilon = 500.0, delta = 0.0001, sampling_rate = 0.5, \
         clip = { initial = 16.0, quantile = 0.5, rate = 1.0 }, colluding = 2, expected_rows = 300, retries = 2 }",
    ];
    let (_, privacy) = clean(RECORDS, &sets, 16);
    assert_eq!(privacy.unit, "record");
    follows(&privacy, [16.0, 0.5, 1.0]);
    // At first nearly nobody is clipped; the clip comes down until more are.
    assert!(privacy.unclipped[0] > 0.9, "{privacy:?}");
    assert!(privacy.clips[7] < 2.0 && privacy.unclipped[7] < 0.8, "{privacy:?}");
}

/// With a quarter of the sites the noise on the mean is more than the clip: refused, with figures that
/// anybody can check.
#[test]
fn noise_that_drowns_the_model_is_refused_with_the_arithmetic() {
    let sets = [
        "partition.sites=15",
        "task.cohort={ min = 15, quorum = 15, max = 15 }",
        "task.privacy.colluding=2",
    ];
    let refused = Simulation::new(&scenario(SITES, &sets), 0).unwrap().run().err().unwrap();
    let text = refused.to_string();
    for part in [
        "the noise would drown the model. Unit site, epsilon 8 at delta 0.0001 over 5 steps needs noise of",
        "x the clip on the sum, in each of 257 entries; on the mean that is",
        "x sqrt(15 sites, all adding noise / 13 counted as honest) / 15 sites",
        "the unit record instead of site",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    let number = |before: &str, after: &str| -> f64 {
        let rest = &text[text.find(before).unwrap() + before.len()..];
        rest[..rest.find(after).unwrap()].trim().parse().unwrap()
    };
    let (noise, stated) =
        (number("needs noise of", "x the clip"), number("15 sites =", "x the clip"));
    let by_hand = noise * 257f64.sqrt() * (15f64 / 13.0).sqrt() / 15.0;
    // Three digits are shown, and rounding adds one grid step an entry to what a site may change.
    assert!((stated / by_hand - 1.0).abs() < 0.02 && stated > 1.0, "{stated} {by_hand}");
}
