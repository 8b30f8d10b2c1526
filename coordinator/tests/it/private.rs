//! Private tasks: what the coordinator opens, makes of it and says, with a clip that follows.

use koinon_aggregation::privacy::clip::trail;
use koinon_proto::task::{AdaptiveClip, Clip, CohortPlan, EncodingChoice, Privacy, PrivacyUnit};
use koinon_proto::{Digest, TaskManifest};

use crate::world::{SPEC, TRAINING, World, manifest};

const FEATURES: &[u8] = br#"{"salt":"test-0001","validation":0.0,
    "label":{"column":"y","kind":"binary","values":["no","yes"]},
    "columns":[{"names":["a","b"],"type":"numeric","bounds":[0,1],"scaling":"bounds",
    "missing":"constant","constant":0.5}]}"#;

const RULE: AdaptiveClip = AdaptiveClip { initial: 0.25, quantile: 0.5, rate: 0.4 };

/// Two rounds over six sites, of the unit site.
fn private(change: impl FnOnce(&mut Privacy)) -> TaskManifest {
    let mut privacy = Privacy {
        unit: PrivacyUnit::Site,
        epsilon: 20.0,
        delta: 1e-4,
        sampling_rate: 1.0,
        clip: Some(Clip::Adaptive(RULE)),
        noise_multiplier: Some(2.0),
        colluding: 1,
        expected_rows: None,
        retries: 4,
    };
    change(&mut privacy);
    TaskManifest {
        features: Digest::of(FEATURES),
        cohort: CohortPlan::new(6, 8, 6),
        encoding: EncodingChoice { clip_l2: 1.0, update_bound: 1.0, frac_bits: 20, rows_max: 1 },
        privacy: Some(privacy),
        ..manifest()
    }
}

fn blobs() -> Vec<Vec<u8>> {
    [SPEC, FEATURES, TRAINING].map(<[u8]>::to_vec).to_vec()
}

#[test]
fn the_clip_follows_what_was_opened_and_status_and_versions_say_so() {
    let mut world = World::new(6, 11);
    let task = world.submit_with(&private(|_| {}), blobs()).unwrap();
    let status = world.run(&task);
    assert_eq!((status.state.as_str(), status.history.len()), ("done", 2), "{}", status.reason);
    let privacy = status.privacy.unwrap();
    assert_eq!((privacy.unit.as_str(), privacy.epsilon, privacy.delta), ("site", 20.0, 1e-4));
    // All six sites say that they were not clipped; the noise is some eight sites' worth.
    let shares = &privacy.unclipped;
    assert!(shares.len() == 2 && shares.iter().all(|share| (-1.0..=2.0).contains(share)));
    let clips = trail(RULE.initial, RULE.quantile, RULE.rate, shares).unwrap();
    assert_eq!(privacy.clips, clips[..2]);
    assert_ne!(clips[0], clips[1]);
    // Each version names the clips up to the round that made it; what the task started from has none.
    for version in world.core.versions() {
        let named = version.privacy.map(|privacy| (privacy.clips, privacy.unclipped));
        let round = version.round as usize;
        let known = (round > 0).then(|| (clips[..round].to_vec(), shares[..round].to_vec()));
        assert_eq!(named, known);
    }
}

#[test]
fn noise_that_does_not_keep_the_stated_epsilon_is_refused() {
    let mut world = World::new(6, 12);
    let too_little = private(|privacy| privacy.epsilon = 1.0);
    let refused = world.submit_with(&too_little, blobs()).unwrap_err();
    assert_eq!(refused.code, "bad_manifest");
    assert!(refused.detail.contains("6 steps with this noise spend epsilon"), "{}", refused.detail);
}

#[test]
fn a_loss_without_room_for_the_labels_classes_is_refused() {
    let mut world = World::new(6, 13);
    let text = std::str::from_utf8(TRAINING).unwrap();
    let training = text.replace("cross_entropy", "binary_cross_entropy");
    let task = TaskManifest { training: Some(Digest::of(training.as_bytes())), ..private(|_| {}) };
    let blobs = [SPEC, FEATURES, training.as_bytes()].map(<[u8]>::to_vec).to_vec();
    let refused = world.submit_with(&task, blobs).unwrap_err();
    assert_eq!(refused.code, "bad_blob");
    assert!(refused.detail.contains("for a label of 2 classes"), "{}", refused.detail);
}
