//! Manifests as they are written, read and refused.

use proptest::prelude::*;

use super::*;
use crate::limits::{COHORT_MAX, COHORT_MIN, MANIFEST_BYTES_MAX};

fn manifest() -> TaskManifest {
    TaskManifest {
        name: "keap1".into(),
        kind: TaskKind::Train,
        model: Some(Digest::of(b"model")),
        features: Digest::of(b"features"),
        training: Some(Digest::of(b"training")),
        init_from: InitFrom::Fresh { seed: 1 },
        rounds: 30,
        seed: 2,
        cohort: CohortPlan::new(5, 16, 12),
        budget_ms: 60_000,
        grace_ms: 2_000,
        server_optimizer: ServerOptimizer::Momentum { learning_rate: 1.0, beta: 0.5 },
        encoding: EncodingChoice { clip_l2: 5.0, update_bound: 1.0, frac_bits: 20, rows_max: 1024 },
        algorithm: AlgorithmChoice::FedProx { mu: 0.01 },
        patience: None,
        attempts_max: 3,
        privacy: None,
    }
}

fn private() -> TaskManifest {
    let privacy = Privacy {
        unit: PrivacyUnit::Record,
        epsilon: 8.0,
        delta: 1e-4,
        sampling_rate: 0.5,
        clip: Some(Clip::Fixed(0.5)),
        noise_multiplier: Some(2.0),
        colluding: 2,
        expected_rows: Some(300),
        retries: 3,
    };
    let encoding = EncodingChoice { rows_max: 1, ..manifest().encoding };
    let cohort = CohortPlan::new(12, 16, 12);
    let algorithm = AlgorithmChoice::FedAvg;
    TaskManifest { privacy: Some(privacy), encoding, cohort, algorithm, ..manifest() }
}

#[test]
fn the_privacy_section_is_checked_and_its_noise_is_always_in_the_canonical_form() {
    let bytes = private().to_canonical_json();
    assert_eq!(TaskManifest::parse_json(&bytes).unwrap(), private());
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.ends_with(
        "\"attempts_max\":3,\"privacy\":{\"unit\":\"record\",\"epsilon\":8.0,\"delta\":0.0001,\
         \"sampling_rate\":0.5,\"clip\":0.5,\"noise_multiplier\":2.0,\"colluding\":2,\
         \"expected_rows\":300,\"retries\":3}}"
    ));
    let privacy = private().privacy.unwrap();
    assert_eq!((privacy.steps(30), privacy.sites_honest(&private().cohort)), (33, 10));
    assert_eq!(privacy.expected_batch(), Some(150.0));

    let complain = |change: &dyn Fn(&mut TaskManifest, &mut Privacy)| {
        let (mut task, mut privacy) = (private(), private().privacy.unwrap());
        change(&mut task, &mut privacy);
        task.privacy = Some(privacy);
        match TaskManifest::parse_json(&task.to_canonical_json()).unwrap_err() {
            ManifestError::Field { field, .. } => field,
            other => panic!("{other}"),
        }
    };
    assert_eq!(complain(&|_, p| p.epsilon = 0.0), "privacy.epsilon");
    assert_eq!(complain(&|_, p| p.delta = 0.004), "privacy.delta");
    assert_eq!(complain(&|_, p| p.sampling_rate = 1.5), "privacy.sampling_rate");
    assert_eq!(complain(&|_, p| p.unit = PrivacyUnit::Site), "privacy.sampling_rate");
    assert_eq!(complain(&|_, p| p.clip = None), "privacy.clip");
    let adaptive =
        |initial, quantile, rate| Some(Clip::Adaptive(AdaptiveClip { initial, quantile, rate }));
    let clips = [
        (adaptive(0.0, 0.5, 0.2), "privacy.clip.initial"),
        (adaptive(2e3, 0.5, 0.2), "privacy.clip.initial"),
        (adaptive(1.0, 1.0, 0.2), "privacy.clip.quantile"),
        (adaptive(1.0, 0.5, 1.5), "privacy.clip.rate"),
    ];
    for (clip, field) in clips {
        assert_eq!(complain(&|t, p| (t.encoding.frac_bits, p.clip) = (12, clip)), field);
    }
    let good = adaptive(1.0, 0.5, 0.2);
    let coarse = |t: &mut TaskManifest, p: &mut Privacy| (t.encoding.frac_bits, p.clip) = (7, good);
    assert_eq!(complain(&coarse), "encoding.frac_bits");
    let narrow = |t: &mut TaskManifest, p: &mut Privacy| {
        (t.encoding.update_bound, p.clip) = (0.2, good);
    };
    assert_eq!(complain(&narrow), "encoding.update_bound");
    let site = |t: &mut TaskManifest, p: &mut Privacy| {
        (p.unit, p.sampling_rate, p.expected_rows) = (PrivacyUnit::Site, 1.0, None);
        (t.encoding.clip_l2, p.clip) = (2.0, good);
    };
    assert_eq!(complain(&site), "encoding.clip_l2");
    assert_eq!(complain(&|_, p| p.noise_multiplier = None), "privacy.noise_multiplier");
    assert_eq!(complain(&|_, p| p.colluding = 12), "privacy.colluding");
    assert_eq!(complain(&|_, p| p.expected_rows = None), "privacy.expected_rows");
    assert_eq!(complain(&|t, _| t.encoding.rows_max = 2), "encoding.rows_max");
    assert_eq!(complain(&|t, _| t.cohort.min = 11), "cohort.min");
    assert_eq!(complain(&|t, _| t.patience = Some(3)), "patience");
    assert_eq!(complain(&|t, _| t.algorithm = AlgorithmChoice::FedProx { mu: 0.1 }), "algorithm");
}

fn complaint(change: impl FnOnce(&mut TaskManifest)) -> String {
    let mut changed = manifest();
    change(&mut changed);
    let bytes = changed.to_canonical_json();
    let error = TaskManifest::parse_json(&bytes).unwrap_err();
    match error {
        ManifestError::Field { field, .. } => field.to_owned(),
        other => other.to_string(),
    }
}

#[test]
fn the_canonical_bytes_are_the_known_ones() {
    let json = String::from_utf8(manifest().to_canonical_json()).unwrap();
    let [model, features, training] =
        [b"model".as_slice(), b"features", b"training"].map(Digest::of);
    let known = format!(
        "{{\"name\":\"keap1\",\"kind\":\"train\",\"model\":\"{model}\",\
         \"features\":\"{features}\",\"training\":\"{training}\",\
         \"init_from\":{{\"fresh\":{{\"seed\":1}}}},\"rounds\":30,\"seed\":2,\
         \"cohort\":{{\"min\":5,\"max\":16,\"quorum\":12}},\
         \"budget_ms\":60000,\"grace_ms\":2000,\
         \"server_optimizer\":{{\"momentum\":{{\"learning_rate\":1.0,\"beta\":0.5}}}},\
         \"encoding\":{{\"clip_l2\":5.0,\"update_bound\":1.0,\"frac_bits\":20,\
         \"rows_max\":1024}},\"algorithm\":{{\"fed_prox\":{{\"mu\":0.01}}}},\
         \"patience\":null,\"attempts_max\":3}}"
    );
    assert_eq!(json, known);
}

#[test]
fn ranges_are_checked_by_name() {
    assert_eq!(manifest().check(), Ok(()));
    assert_eq!(complaint(|m| m.name = String::new()), "name");
    assert_eq!(complaint(|m| m.name = "a\u{1b}[2J".into()), "name");
    assert_eq!(complaint(|m| m.name = "x".repeat(65)), "name");
    assert_eq!(complaint(|m| m.rounds = 0), "rounds");
    assert_eq!(complaint(|m| m.rounds = ROUNDS_MAX + 1), "rounds");
    assert_eq!(complaint(|m| m.model = None), "model");
    assert_eq!(complaint(|m| m.training = None), "training");
    assert_eq!(complaint(|m| m.cohort.min = 2), "cohort.min");
    assert_eq!(complaint(|m| m.cohort.quorum = 4), "cohort.quorum");
    assert_eq!(complaint(|m| m.cohort.max = 11), "cohort.max");
    assert_eq!(complaint(|m| m.cohort.max = 16_385), "cohort.max");
    assert_eq!(complaint(|m| m.budget_ms = 0), "budget_ms");
    assert_eq!(complaint(|m| m.grace_ms = 60_001), "grace_ms");
    assert_eq!(complaint(|m| m.encoding.clip_l2 = 0.0), "encoding.clip_l2");
    assert_eq!(complaint(|m| m.encoding.update_bound = 1e7), "encoding.update_bound");
    assert_eq!(complaint(|m| m.encoding.frac_bits = 41), "encoding.frac_bits");
    assert_eq!(complaint(|m| m.encoding.rows_max = 0), "encoding.rows_max");
    assert_eq!(complaint(|m| m.patience = Some(0)), "patience");
    assert_eq!(complaint(|m| m.attempts_max = 0), "attempts_max");
    let mu = AlgorithmChoice::FedProx { mu: -1.0 };
    assert_eq!(complaint(|m| m.algorithm = mu), "algorithm.fed_prox.mu");
}

#[test]
fn optimizers_are_checked() {
    let field = |optimizer| complaint(|m| m.server_optimizer = optimizer);
    let rate = "server_optimizer.learning_rate";
    assert_eq!(field(ServerOptimizer::Average { learning_rate: 0.0 }), rate);
    let beta = ServerOptimizer::Momentum { learning_rate: 1.0, beta: 1.0 };
    assert_eq!(field(beta), "server_optimizer.beta");
    let adam = ServerOptimizer::Adam { learning_rate: 1.0, beta1: 0.9, beta2: -0.1, epsilon: 1e-3 };
    assert_eq!(field(adam), "server_optimizer.beta");
    let adagrad = ServerOptimizer::Adagrad { learning_rate: 1.0, epsilon: 0.0 };
    assert_eq!(field(adagrad), "server_optimizer.epsilon");
}

#[test]
fn nan_passes_no_range() {
    // JSON has no NaN; a manifest made in memory might.
    let mut bad = manifest();
    bad.encoding.clip_l2 = f64::NAN;
    assert!(bad.check().is_err());
    let mut bad = manifest();
    bad.server_optimizer = ServerOptimizer::Average { learning_rate: f64::NAN };
    assert!(bad.check().is_err());
    let mut bad = manifest();
    bad.algorithm = AlgorithmChoice::FedProx { mu: f64::NAN };
    assert!(bad.check().is_err());
}

#[test]
fn each_kind_has_what_it_needs_and_no_more() {
    let version = InitFrom::Version { digest: Digest::of(b"version") };
    let mut evaluate = manifest();
    evaluate.kind = TaskKind::Evaluate;
    evaluate.training = None;
    evaluate.rounds = 1;
    assert!(evaluate.check().unwrap_err().to_string().contains("'init_from'"));
    evaluate.init_from = version;
    assert_eq!(evaluate.check(), Ok(()));

    let mut statistics = evaluate.clone();
    statistics.kind = TaskKind::Statistics;
    statistics.model = None;
    assert!(statistics.check().unwrap_err().to_string().contains("'init_from'"));
    statistics.init_from = InitFrom::Fresh { seed: 0 };
    assert_eq!(statistics.check(), Ok(()));
    statistics.rounds = 2;
    assert!(statistics.check().unwrap_err().to_string().contains("'rounds'"));
}

#[test]
fn unknown_and_repeated_fields_are_refused() {
    let json = String::from_utf8(manifest().to_canonical_json()).unwrap();
    let parse = |text: String| TaskManifest::parse_json(text.as_bytes());
    assert!(parse(json.replace("\"seed\":2", "\"seed\":2,\"seed\":3")).is_err());
    assert!(parse(json.replace("\"seed\":2", "\"seed\":2,\"code\":\"rm\"")).is_err());
    assert!(parse(json.replace("\"mu\":0.01", "\"mu\":0.01,\"nu\":1")).is_err());
    assert!(parse(json.replace("\"seed\":2", "\"seed\":-2")).is_err());
    assert!(parse(json.replace("\"patience\":null,", "")).is_ok());
    assert!(parse(json.clone() + "{}").is_err());
    assert!(parse(" ".repeat(MANIFEST_BYTES_MAX) + &json).is_err());
    assert!(parse("[".repeat(60_000)).is_err());
}

#[test]
fn a_misspelt_value_is_recognised() {
    let text = "name = \"x\"\nkind = \"trian\"\n";
    let error = TaskManifest::parse_toml(text, "task.toml").unwrap_err().to_string();
    assert!(error.starts_with("task.toml, line 2: unknown value 'trian'; did you mean 'train'?"));
    let error = TaskManifest::parse_toml("name = \"x\"\n", "task.toml").unwrap_err().to_string();
    assert!(error.contains("missing field `kind`"), "{error}");
}

fn optimizers() -> impl Strategy<Value = ServerOptimizer> {
    let (rate, beta, epsilon) = (1e-6_f64..100.0, 0.0_f64..1.0, 1e-9_f64..1.0);
    (rate, beta.clone(), beta, epsilon, 0..5).prop_map(
        |(learning_rate, beta1, beta2, epsilon, which)| match which {
            0 => ServerOptimizer::Average { learning_rate },
            1 => ServerOptimizer::Momentum { learning_rate, beta: beta1 },
            2 => ServerOptimizer::Adagrad { learning_rate, epsilon },
            3 => ServerOptimizer::Adam { learning_rate, beta1, beta2, epsilon },
            _ => ServerOptimizer::Yogi { learning_rate, beta1, beta2, epsilon },
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        name in "[a-z][A-Za-z0-9 ._-]{0,63}",
        (rounds, seed, budget_ms) in (1..=ROUNDS_MAX, any::<u64>(), 1..=BUDGET_MS_MAX),
        (min, quorum, max) in (COHORT_MIN..10, 10_u16..20, 20..=COHORT_MAX),
        server_optimizer in optimizers(),
        (clip_l2, update_bound, frac_bits) in (1e-9_f64..1e6, 1e-9_f64..1e6, -16_i8..=40),
        mu in prop::option::of(0.0_f64..1e3),
        patience in prop::option::of(1_u32..),
    ) {
        let written = TaskManifest {
            name,
            init_from: InitFrom::File { digest: Digest::of(b"file") },
            rounds,
            seed,
            cohort: CohortPlan::new(min, max, quorum),
            budget_ms,
            grace_ms: budget_ms / 2,
            server_optimizer,
            encoding: EncodingChoice { clip_l2, update_bound, frac_bits, rows_max: 1 },
            algorithm: mu.map_or(AlgorithmChoice::FedAvg, |mu| AlgorithmChoice::FedProx { mu }),
            patience,
            ..manifest()
        };
        let bytes = written.to_canonical_json();
        let read = TaskManifest::parse_json(&bytes).unwrap();
        prop_assert_eq!(&read, &written);
        prop_assert_eq!(read.to_canonical_json(), bytes);
    }

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(TaskManifest::parse_json(&bytes).is_err());
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(TaskManifest::parse_toml(&text, "task.toml").is_err());
    }

    #[test]
    fn damage_never_panics(at: prop::sample::Index, byte: u8) {
        let mut bytes = manifest().to_canonical_json();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = TaskManifest::parse_json(&bytes);
        bytes.truncate(at);
        prop_assert!(TaskManifest::parse_json(&bytes).is_err());
    }
}

#[test]
fn an_adaptive_clip_is_read_where_a_number_stands_and_counts_beside_the_update() {
    let mut task = private();
    let rule = AdaptiveClip { initial: 0.5, quantile: 0.8, rate: 0.2 };
    let mut privacy = task.privacy.unwrap();
    privacy.clip = Some(Clip::Adaptive(rule));
    task.privacy = Some(privacy);
    let text = String::from_utf8(task.to_canonical_json()).unwrap();
    let table = "\"clip\":{\"initial\":0.5,\"quantile\":0.8,\"rate\":0.2}";
    assert!(text.contains(table), "{text}");
    assert_eq!(TaskManifest::parse_json(text.as_bytes()).unwrap(), task);
    let bad = text.replace("\"rate\"", "\"rte\"");
    let error = TaskManifest::parse_json(bad.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("unknown field `rte`"), "{error}");
    // One entry more than the model has, and a count of at most 0.8, a quarter as heavy.
    let numbers = |task: &TaskManifest| task.noised_round(257, |a, b, c, d, e| (a, b, c, d, e));
    let (site, [rate, noise, clip], frac_bits, entries, honest) = numbers(&task).unwrap();
    assert_eq!((site, rate, noise, frac_bits), (false, 0.5, 2.0, 20));
    assert_eq!((entries, honest), (258, 10));
    assert!((clip / 1.04f64.sqrt() - 1.0).abs() < 2e-8 && clip > 1.04f64.sqrt(), "{clip}");
    assert_eq!(task.count_frac_bits(), Some(18));
    let (_, [.., clip], _, entries, _) = numbers(&private()).unwrap();
    assert_eq!((clip, entries, private().count_frac_bits()), (0.5, 257, None));
}
