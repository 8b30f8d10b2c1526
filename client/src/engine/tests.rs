//! Jobs on a small table: the three kinds, stopping, refusals.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use koinon_model::contribution::{FieldChoice, fields};
use koinon_model::features::fitted::FittedFeatures;
use koinon_model::spec::ModelSpec;
use koinon_proto::task::{AdaptiveClip, Clip};
use koinon_proto::{SiteId, TaskManifest};

use super::*;
use crate::features::{Mapping, read_table};
use crate::source::ReadLimits;
use crate::source::csv::{CsvOptions, CsvSource};
use crate::trainer::job_seed;

const FEATURES: &str = r#"
salt = "test"
validation = 0.25
[label]
column = "relapse"
kind = "binary"
values = ["no", "yes"]
[[columns]]
names = ["a", "b"]
type = "numeric"
bounds = [-10, 10]
"#;

fn rows(count: usize) -> String {
    let mut text = String::from("a,b,relapse\n");
    for row in 0..count {
        let a = (row * 7 % 19) as f64 - 9.0;
        let b = (row * 5 % 13) as f64 - 6.0;
        let label = if a + 0.5 * b > 0.0 { "yes" } else { "no" };
        text.push_str(&format!("{a},{b},{label}\n"));
    }
    text
}

fn trainer(text: String) -> (SiteTrainer, Arc<AtomicUsize>) {
    let reads = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&reads);
    let read = move |plan: &FeaturePlan, purpose: Purpose| {
        counter.fetch_add(1, Ordering::Relaxed);
        let reader = Box::new(std::io::Cursor::new(text.clone().into_bytes()));
        let mut source = CsvSource::from_reader("rows.csv".into(), reader, CsvOptions::default())?;
        let limits = ReadLimits::default();
        read_table(&mut source, plan, &Mapping::default(), &limits, purpose)
    };
    (SiteTrainer::new(Box::new(read)), reads)
}

/// A site whose file may be anything.
fn bytes_trainer(bytes: Vec<u8>) -> SiteTrainer {
    SiteTrainer::new(Box::new(move |plan: &FeaturePlan, purpose: Purpose| {
        let reader = Box::new(std::io::Cursor::new(bytes.clone()));
        let mut source = CsvSource::from_reader("rows.csv".into(), reader, CsvOptions::default())?;
        let limits = ReadLimits::default();
        read_table(&mut source, plan, &Mapping::default(), &limits, purpose)
    }))
}

fn job(kind: RoundKind, fitted: Option<FittedFeatures>) -> Job {
    let spec = ModelSpec::from_json(
        br#"{"name":"m","inputs":[{"name":"x","shape":[2]}],
            "nodes":[{"name":"fc","op":{"linear":{"units":2}},"inputs":["x"]}]}"#,
    );
    let spec = spec.unwrap().check().unwrap();
    let training = TrainingPlan::from_toml(
        "epochs = 5\nbatch_size = 4\nlearning_rate = 0.1\nloss = \"cross_entropy\"\n",
    );
    let digest = koinon_proto::Digest([1; 32]);
    let manifest = format!(
        r#"
name = "t"
kind = "train"
model = "{digest}"
features = "{digest}"
training = "{digest}"
init_from = {{ fresh = {{ seed = 1 }} }}
rounds = 3
seed = 7
cohort = {{ min = 5, max = 16, quorum = 5 }}
budget_ms = 60000
grace_ms = 2000
server_optimizer = {{ average = {{ learning_rate = 1.0 }} }}
encoding = {{ clip_l2 = 5.0, update_bound = 1.0, frac_bits = 20, rows_max = 30 }}
algorithm = {{ fed_prox = {{ mu = 0.1 }} }}
attempts_max = 3
"#
    );
    Job {
        session: digest,
        task: digest,
        manifest: Arc::new(TaskManifest::parse_toml(&manifest, "t").unwrap()),
        kind,
        round: 1,
        features: Arc::new(FeaturePlan::from_toml(FEATURES).unwrap()),
        params: Some(Arc::new(Params::init(&spec, 1))),
        spec: Some(Arc::new(spec)),
        training: Some(Arc::new(training.unwrap())),
        fitted: fitted.map(Arc::new),
        seed: job_seed(7, 1, &SiteId::new("site").unwrap()),
        draw: None,
        clip: None,
        budget_ms: 1_000,
    }
}

fn work(trainer: &mut SiteTrainer, job: &Job) -> Work {
    trainer.work(job, &|| false).unwrap_or_else(|error| panic!("{error}"))
}

fn fits(work: &Work, job: &Job) -> bool {
    let choice = &job.manifest.encoding;
    let chosen = FieldChoice {
        update_bound: choice.update_bound,
        frac_bits: choice.frac_bits,
        rows_max: choice.rows_max,
        private: job.manifest.privacy.is_some(),
        count_frac_bits: job.manifest.count_frac_bits(),
    };
    let trainable = job.spec.as_ref().unwrap().layout().trainable();
    work.contribution.fits(&fields(job.kind, trainable, &job.features, &chosen))
}

#[test]
fn the_three_kinds_of_job_give_what_the_round_sums() {
    let (mut trainer, reads) = trainer(rows(60));
    let statistics = job(RoundKind::Statistics, None);
    let fitted = work(&mut trainer, &statistics);
    assert!(fits(&fitted, &statistics));
    let plan = &statistics.features;
    let fitted = FittedFeatures::from_sums(plan, &fitted.contribution.values).unwrap();

    let train = job(RoundKind::Train, Some(fitted.clone()));
    let first = work(&mut trainer, &train);
    assert!(fits(&first, &train));
    assert_eq!(first.contribution.weight, 30, "no more rows than the task counts");
    let again = work(&mut trainer, &train);
    assert!(first.contribution.values == again.contribution.values, "the same job, the same work");
    assert_eq!(reads.load(Ordering::Relaxed), 2, "rows are read once per plan and fit");
    assert!(first.figures.loss.unwrap() > 0.0 && first.figures.validation_loss.is_some());
    assert_eq!(first.figures.rows_training + first.figures.rows_validation, 60);

    let evaluate = job(RoundKind::Evaluate, Some(fitted));
    let figures = work(&mut trainer, &evaluate);
    assert!(fits(&figures, &evaluate));
    trainer.forget();
    work(&mut trainer, &evaluate);
    assert_eq!(reads.load(Ordering::Relaxed), 3);
}

#[test]
fn work_that_cannot_be_done_says_why() {
    let (mut site, _) = trainer(rows(60));
    let code = |result: Result<Work, WorkError>| result.err().expect("refused").code();
    let train = job(RoundKind::Train, None);
    assert_eq!(code(site.work(&train, &|| false)), "data");
    let statistics = work(&mut site, &job(RoundKind::Statistics, None));
    let fitted =
        FittedFeatures::from_sums(&train.features, &statistics.contribution.values).unwrap();
    let train = job(RoundKind::Train, Some(fitted.clone()));
    assert_eq!(code(site.work(&train, &|| true)), "stopped");
    let mut wild = train.clone();
    let plan = TrainingPlan {
        learning_rate: 100.0,
        epochs: 500,
        ..(**train.training.as_ref().unwrap()).clone()
    };
    wild.training = Some(Arc::new(plan));
    let result = site.work(&wild, &|| false);
    assert!(result.is_ok() || code(result) == "diverged");
    let mut wide = train.clone();
    wide.spec = Some(Arc::new(
        ModelSpec::from_json(
            br#"{"name":"m","inputs":[{"name":"x","shape":[3]}],
            "nodes":[{"name":"fc","op":{"linear":{"units":2}},"inputs":["x"]}]}"#,
        )
        .unwrap()
        .check()
        .unwrap(),
    ));
    assert_eq!(code(site.work(&wide, &|| false)), "engine");
    let (mut broken, _) = trainer("a,b,relapse\n1,x,yes\n".to_owned());
    let error = broken.work(&train, &|| false).err().unwrap();
    assert!(error.to_string().contains("rows.csv"), "{error}");
    let (mut missing, _) = trainer("a,relapse\n1,yes\n".to_owned());
    let error = missing.work(&train, &|| false).err().unwrap();
    assert!(error.to_string().contains('b'), "{error}");
}

/// What the account rests on: whoever else is there, one row moves update and count together by no
/// more than the sensitivity that is accounted, whatever the clip is.
#[test]
fn under_an_adaptive_clip_one_row_moves_update_and_count_by_at_most_what_is_accounted() {
    let rule = AdaptiveClip { initial: 1.0, quantile: 0.7, rate: 0.2 };
    let mut job = private_job(1.0, Clip::Adaptive(rule));
    let (mut counts, mut moved) = (Vec::new(), 0);
    for clip in [1e-3, 1.1, 1e3] {
        job.clip = Some(clip);
        let with = |n: usize| {
            let done = work(&mut trainer(rows(n)).0, &job);
            assert!(fits(&done, &job));
            assert_eq!(done.figures.clip, Some(clip));
            let mut joined = done.contribution.values[0].clone();
            joined.push(done.contribution.values[1][0] / 4.0);
            joined
        };
        let mut before = with(50);
        for n in 51..=60 {
            let now = with(n);
            let far = now.iter().zip(&before).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            assert!(far <= rule.sensitivity() * (1.0 + 1e-6), "{clip}, {n}: {far}");
            moved += usize::from(far > 0.0);
            before = now;
        }
        counts.push(before.last().unwrap() * 4.0);
    }
    assert!(moved > 15, "most rows are trained on");
    // All are clipped, some, none: seen from the quantile.
    assert!(counts[0] < -20.0 && counts[2] > 8.0, "{counts:?}");
    assert!(counts[0] < counts[1] && counts[1] < counts[2], "{counts:?}");
}

/// A step of record-level privacy, on features fitted to sixty rows.
fn private_job(sampling_rate: f64, clip: Clip) -> Job {
    let (mut site, _) = trainer(rows(60));
    let statistics = work(&mut site, &job(RoundKind::Statistics, None));
    let mut job = job(RoundKind::Train, None);
    let fitted = FittedFeatures::from_sums(&job.features, &statistics.contribution.values).unwrap();
    job.fitted = Some(Arc::new(fitted));
    let mut manifest = (*job.manifest).clone();
    manifest.privacy = Some(Privacy {
        unit: PrivacyUnit::Record,
        epsilon: 8.0,
        delta: 1e-3,
        sampling_rate,
        clip: Some(clip),
        noise_multiplier: Some(1.0),
        colluding: 1,
        expected_rows: Some(45),
        retries: 0,
    });
    job.manifest = Arc::new(manifest);
    job.draw = Some(zeroize::Zeroizing::new([3; 32]));
    job.clip = Some(0.5);
    job
}

/// One row that cannot be read takes nothing with it: else it would move the sum by as many clips as
/// its site has rows.
#[test]
fn in_a_private_round_a_row_that_cannot_be_read_takes_no_other_with_it() {
    let job = private_job(0.5, Clip::Fixed(0.5));
    let sound = work(&mut trainer(rows(60)).0, &job);
    assert_eq!(sound.figures.imputation.as_ref().unwrap().rows_unreadable, 0);
    let bad: [(&str, &[u8]); 8] = [
        ("a cell", b"5,two,yes\n"),
        ("no number", b"inf,1,yes\n"),
        ("a label", b"5,2,perhaps\n"),
        ("a short record", b"5,2\n"),
        ("a long record", b"5,2,yes,no\n"),
        ("not UTF-8", b"5,\xe9,yes\n"),
        ("a cell without end", &[b"5,", &[b'1'; 70_000][..], b",yes\n"].concat()),
        ("a quote without end, last", b"5,\"2,yes\n"),
    ];
    for (what, record) in bad {
        let lines = rows(60);
        let (head, tail) = lines.split_at(lines.match_indices('\n').nth(20).unwrap().0 + 1);
        let last = record.contains(&b'"');
        let parts = if last { [&lines, "", ""] } else { [head, "", tail] };
        let text = [parts[0].as_bytes(), record, parts[2].as_bytes()].concat();
        let done = work(&mut bytes_trainer(text.clone()), &job);
        let report = done.figures.imputation.as_ref().unwrap();
        assert_eq!(
            (report.rows_unreadable, report.rows_used, report.rows_read),
            (1, 60, 61),
            "{what}"
        );
        let bits = |work: &Work| -> Vec<u64> {
            work.contribution.values.iter().flatten().map(|value| value.to_bits()).collect()
        };
        assert!(bits(&done) == bits(&sound), "{what}");
        // What nobody's noise covers is refused as a whole, by its line.
        let mut open = job.clone();
        let mut manifest = (*open.manifest).clone();
        manifest.privacy = None;
        open.manifest = Arc::new(manifest);
        assert!(bytes_trainer(text).work(&open, &|| false).is_err(), "{what}");
    }
}
