//! A private task at a site: what is opened, what it costs, and what the site refuses.

use koinon_client::Event;
use koinon_client::budget;
use koinon_client::trainer::WorkError;
use koinon_model::contribution::RoundKind;
use koinon_model::features::FeaturePlan;
use koinon_model::features::fitted::FittedFeatures;
use koinon_model::params::Params;
use koinon_model::plan::TrainingPlan;
use koinon_proto::Digest;
use koinon_proto::task::{AdaptiveClip, Clip, InitFrom, Privacy, PrivacyUnit, TaskManifest};
use koinon_proto::wire;
use koinon_proto::wire::site_frame::Frame;
use koinon_proto::wire::to_coordinator::Message as FromSite;
use koinon_proto::wire::to_site::Message as ToSite;

use crate::said::said_once;

use crate::world::{FEATURES, Round, Rounds, TRAINING, Task, World, whole_round};

/// Noise for epsilon 8 over 30 rounds and two retries, with one site that is not trusted.
const PRIVACY: Privacy = Privacy {
    unit: PrivacyUnit::Record,
    epsilon: 8.0,
    delta: 1e-4,
    sampling_rate: 0.5,
    clip: Some(Clip::Fixed(0.5)),
    noise_multiplier: Some(2.5),
    colluding: 1,
    expected_rows: Some(300),
    retries: 2,
};

fn private(change: impl FnOnce(&mut TaskManifest, &mut Privacy)) -> Task {
    let training = TRAINING.replace("learning_rate = 0.1", "learning_rate = 1.0");
    with_training(&training, change)
}

fn with_training(training: &str, change: impl FnOnce(&mut TaskManifest, &mut Privacy)) -> Task {
    let training = TrainingPlan::from_toml(training).unwrap().canonical();
    let mut task = Task::new(|manifest| {
        let mut privacy = PRIVACY;
        manifest.encoding.rows_max = 1;
        manifest.training = Some(Digest::of(&training));
        change(manifest, &mut privacy);
        manifest.privacy = Some(privacy);
    });
    let fitted = FittedFeatures::public(&task.features).unwrap().canonical_bytes();
    task.fitted = Some(Digest::of(&fitted));
    task.blobs.extend([training, fitted].map(|bytes| (Digest::of(&bytes), bytes)));
    task
}

/// What site 0 says to a task and to an invitation into its first round.
fn refusal(world: &mut World, task: &Task, round: &Round) -> Option<&'static str> {
    world.offer(task);
    let invite = world.invite(task, round);
    world.tell(0, ToSite::Invite(invite));
    world.sites[0].refusals().last().copied()
}

#[test]
fn a_private_round_opens_one_noised_update_and_nothing_else() {
    let mut world = World::new(6);
    let task = private(|_, _| {});
    world.offer(&task);
    let sites = world.all();
    let sum = whole_round(&mut world, &task, &Round::train(1), &sites);
    assert_eq!((sum.n_sites(), sum.weight()), (6, 6));
    assert!(sum.field("loss").is_none() && sum.field("val_loss").is_none());
    // Every site adds at most 0.35; the noise of six sites is some 1.4 an entry.
    let update = sum.field("update").unwrap();
    assert_eq!(update.len(), 8);
    let spread = update.iter().map(|x| x * x).sum::<f64>().sqrt();
    assert!(update.iter().any(|x| (x - update[0]).abs() > 0.1), "{update:?}");
    assert!(spread < 60.0, "{update:?}");
    for site in &world.sites {
        assert_eq!(site.participant.budget().steps(), 1);
        let spent = site.participant.budget().epsilon(PrivacyUnit::Record, 1e-4, None);
        assert!(spent > 0.1 && spent < 2.0, "{spent}");
    }
}

/// Written ahead, and once: whenever the site is killed, no masked update has left that was not
/// accounted for, and none is accounted for twice.
#[test]
fn killed_between_any_two_effects_a_step_is_counted_once_and_ahead() {
    let round = |kill_after: Option<usize>| {
        let mut world = World::new(6);
        let task = private(|_, _| {});
        world.offer(&task);
        let start = world.sites[0].effects;
        world.sites[0].kill_after = kill_after.map(|after| start + after);
        let sites = world.all();
        let sum = whole_round(&mut world, &task, &Round::train(1), &sites);
        assert_eq!(sum.n_sites(), 6);
        said_once(&world.sites[0]);
        while world.sites[0].killed {
            world.restart(0);
        }
        assert_eq!(world.sites[0].participant.budget().steps(), 1, "{kill_after:?}");
        world.sites[0].effects - start
    };
    let effects = round(None);
    for kill_after in 1..=effects {
        round(Some(kill_after));
    }
}

#[test]
fn the_account_is_durable_before_the_masked_update_leaves() {
    let left = |site: &crate::world::Site| {
        let chunk = |frame: &wire::SiteFrame| matches!(frame.frame, Some(Frame::Chunk(_)));
        site.sent.iter().any(chunk)
    };
    let mut seen = [false; 2];
    for after in 1..24 {
        let mut world = World::new(6);
        let task = private(|_, _| {});
        world.offer(&task);
        let sites = world.all();
        let mut rounds = Rounds::start(&mut world, &task, &Round::train(1), &sites);
        rounds.share(&mut world);
        let own = rounds.inboxes(&mut world)[&0].clone();
        world.sites[0].kill_after = Some(world.sites[0].effects + after);
        world.tell(0, ToSite::Inbox(own));
        let has_left = left(&world.sites[0]);
        world.sites[0].rebuild();
        let steps = world.sites[0].participant.budget().steps();
        assert!(steps == 1 || !has_left, "killed after {after}");
        seen[usize::from(has_left)] = true;
    }
    assert_eq!(seen, [true; 2], "killed before and after");
}

#[test]
fn a_site_computes_the_epsilon_again_and_refuses_what_is_not_kept() {
    let quiet = |p: &mut Privacy| p.noise_multiplier = Some(1.2);
    let cases: [(&str, Task); 4] = [
        ("privacy_unsound", private(|_, p| quiet(p))),
        ("privacy_unsound", private(|_, p| p.epsilon = 3.0)),
        ("privacy_unsound", private(|m, _| m.rounds = 190)),
        // Ten passes are not one step of clipped rows.
        (
            "privacy_unsound",
            with_training(&TRAINING.replace("epochs = 1", "epochs = 10"), |_, _| {}),
        ),
    ];
    for (wanted, task) in cases {
        let mut world = World::new(6);
        assert_eq!(refusal(&mut world, &task, &Round::train(1)), Some(wanted));
        assert_eq!(world.sites[0].participant.budget().steps(), 0);
    }
    // A row of the third class could not be trained on, and its site would say nothing.
    let mut three = private(|_, _| {});
    let plan = FEATURES.replace("binary", "classes").replace("\"yes\"", "\"yes\", \"perhaps\"");
    let plan = FeaturePlan::from_toml(&plan).unwrap();
    let fitted = FittedFeatures::public(&plan).unwrap().canonical_bytes();
    three.fitted = Some(Digest::of(&fitted));
    three.manifest.features = Digest::of(&plan.canonical_bytes());
    three.blobs.extend([plan.canonical_bytes(), fitted].map(|bytes| (Digest::of(&bytes), bytes)));
    three.bytes = three.manifest.to_canonical_json();
    three.digest = Digest::of(&three.bytes);
    assert_eq!(refusal(&mut World::new(6), &three, &Round::train(1)), Some("privacy_unsound"));
    // Fitted to somebody's rows, whoever's.
    let mut task = private(|_, _| {});
    task.fitted = None;
    assert_eq!(refusal(&mut World::new(6), &task, &Round::train(1)), Some("privacy_unsound"));
}

#[test]
fn nothing_but_training_is_opened_in_a_private_task() {
    let task = private(|_, _| {});
    for kind in [RoundKind::Statistics, RoundKind::Evaluate] {
        let number = u32::from(kind == RoundKind::Evaluate);
        let round = Round { kind, number, ..Round::train(1) };
        assert_eq!(refusal(&mut World::new(6), &task, &round), Some("plan_invalid"), "{kind:?}");
    }
}

#[test]
fn the_policy_has_the_last_word() {
    let plain = Task::new(|_| {});
    let mut world = World::with_policy(6, |policy| policy.privacy.require = true);
    assert_eq!(refusal(&mut world, &plain, &Round::train(1)), Some("privacy_required"));
    let task = private(|_, _| {});
    let mut world = World::with_policy(6, |policy| policy.privacy.epsilon_max = 7.9);
    assert_eq!(refusal(&mut world, &task, &Round::train(1)), Some("privacy_too_weak"));
    let mut world = World::with_policy(6, |policy| policy.privacy.delta_max = 1e-5);
    assert_eq!(refusal(&mut world, &task, &Round::train(1)), Some("privacy_too_weak"));
    let mut world = World::with_policy(6, |policy| policy.privacy.unit = PrivacyUnit::Site);
    assert_eq!(refusal(&mut world, &task, &Round::train(1)), Some("privacy_too_weak"));
    // Nobody's noise is counted on without doubt: a site asks for as much doubt as it has.
    let trusting = private(|_, privacy| privacy.colluding = 0);
    assert_eq!(refusal(&mut World::new(6), &trusting, &Round::train(1)), Some("privacy_too_weak"));
    let mut world = World::with_policy(6, |policy| policy.cohort.colluding_percent_min = 30);
    assert_eq!(refusal(&mut world, &task, &Round::train(1)), Some("privacy_too_weak"));
}

/// Three of thirty sites collude, and the coordinator chooses all of them into a cohort of six: nobody's
/// noise but that of the other three counts.
#[test]
fn noise_is_counted_without_all_colluders_of_the_roster() {
    let narrow = private(|_, _| {});
    let mut world = World::new(30);
    assert_eq!(refusal(&mut world, &narrow, &Round::train(1)), Some("privacy_too_weak"));
    assert_eq!(refusal(&mut World::new(10), &narrow, &Round::train(1)), None, "one of ten");
    assert_eq!(
        refusal(&mut World::new(11), &narrow, &Round::train(1)),
        Some("privacy_too_weak"),
        "two of eleven"
    );
    let task = private(|_, privacy| privacy.colluding = 3);
    let mut world = World::new(30);
    world.offer(&task);
    let sites: Vec<usize> = (0..6).collect();
    let sum = whole_round(&mut world, &task, &Round::train(1), &sites);
    assert_eq!(sum.n_sites(), 6);
    // A task without noise says nothing about anybody's.
    let plain = Task::new(|_| {});
    assert_eq!(refusal(&mut World::new(30), &plain, &Round::train(1)), None);
}

/// People at a site lower the budget while a session is under way: what has not left is not spent.
#[test]
fn a_lowered_budget_ends_the_session_under_way() {
    let session = |masked: bool| {
        let mut world = World::new(6);
        let task = private(|_, _| {});
        world.offer(&task);
        let sites = world.all();
        let mut rounds = Rounds::start(&mut world, &task, &Round::train(1), &sites);
        rounds.share(&mut world);
        if masked {
            let own = rounds.inboxes(&mut world)[&0].clone();
            world.tell(0, ToSite::Inbox(own));
        }
        let mut policy = world.sites[0].policy.clone();
        policy.privacy.epsilon_total = 0.01;
        (world, policy)
    };
    let (mut world, policy) = session(false);
    world.event(0, Event::Policy(policy));
    assert_eq!(world.sites[0].refusals().last(), Some(&"privacy_spent"));
    assert!(world.sites[0].participant.status().round.is_none());
    // While the site was down.
    let (mut world, policy) = session(false);
    world.sites[0].policy = policy;
    world.restart(0);
    assert!(world.sites[0].participant.status().round.is_none());
    assert_eq!(world.sites[0].participant.budget().steps(), 0);
    // The step is paid for: to leave now would save nothing.
    let (mut world, policy) = session(true);
    world.event(0, Event::Policy(policy.clone()));
    assert!(world.sites[0].participant.status().round.is_some());
    world.sites[0].policy = policy;
    world.restart(0);
    assert!(world.sites[0].participant.status().round.is_some());
    assert_eq!(world.sites[0].participant.budget().steps(), 1);
}

/// Parameters can be chosen so that training fails exactly if a certain row is there: the failure must
/// not be told, and be paid for as any other step.
#[test]
fn whether_private_work_can_be_done_is_told_to_nobody() {
    let mut world = World::new(6);
    let task = private(|_, _| {});
    world.offer(&task);
    world.sites[0].works = false;
    let sites = world.all();
    let invite = world.invite(&task, &Round::train(1));
    world.tell(0, ToSite::Invite(invite));
    let job = world.sites[0].job.take().unwrap();
    let result = Err(WorkError::Diverged);
    world.event(0, Event::Worked { session: job.session, result });
    let failed = |said: &FromSite| matches!(said, FromSite::Failure(_) | FromSite::Refusal(_));
    assert!(!world.sites[0].said.iter().any(failed));
    let sum = whole_round(&mut world, &task, &Round::train(1), &sites);
    assert_eq!(sum.n_sites(), 6);
    assert_eq!(world.sites[0].participant.budget().steps(), 1);
}

/// Rounds on, until the total is spent; another task does not make it fresh.
#[test]
fn at_its_limit_a_site_refuses_whatever_the_task() {
    let limit = 3.0;
    let mut world = World::with_policy(6, |policy| policy.privacy.epsilon_total = limit);
    let mut rounds = 0u8;
    let spent = |world: &World| {
        world.sites[0].participant.budget().epsilon(PrivacyUnit::Record, 1e-4, None)
    };
    loop {
        rounds += 1;
        // Each time another task from other parameters.
        let seed = u64::from(rounds) + 7;
        let mut task = private(|m, _| m.init_from = InitFrom::Fresh { seed });
        task.params = Params::init(&task.spec, seed).to_safetensors(task.spec.layout()).unwrap();
        task.blobs.insert(Digest::of(&task.params), task.params.clone());
        world.offer(&task);
        assert!(spent(&world) <= limit && rounds < 60);
        let next = budget::mechanism(&task.manifest, 8).unwrap();
        let budget = world.sites[0].participant.budget();
        if budget.epsilon(PrivacyUnit::Record, 1e-4, Some(&next)) > limit {
            let invite = world.invite(&task, &Round::train(rounds));
            world.tell(0, ToSite::Invite(invite));
            break;
        }
        let sites = world.all();
        whole_round(&mut world, &task, &Round::train(rounds), &sites);
    }
    assert_eq!(world.sites[0].refusals(), ["privacy_spent"]);
    assert!(rounds > 3 && spent(&world) > 0.8 * limit, "{rounds} {}", spent(&world));
    world.restart(0);
    assert!(spent(&world) > 0.8 * limit, "a restart gives nothing back");
}

#[test]
fn a_task_has_as_many_steps_as_it_paid_for() {
    let mut world = World::new(6);
    // One round and one retry, for which the noise is more than enough.
    let task = private(|m, p| {
        m.rounds = 1;
        p.retries = 1;
    });
    world.offer(&task);
    let sites = world.all();
    // The first two attempts are lost after the masked updates left.
    for session in 1..=2 {
        let mut rounds = Rounds::start(&mut world, &task, &Round::train(session), &sites);
        rounds.share(&mut world);
        rounds.report(&mut world);
        assert_eq!(world.sites[0].participant.budget().steps(), usize::from(session));
    }
    let invite = world.invite(&task, &Round::train(3));
    world.tell(0, ToSite::Invite(invite));
    assert_eq!(world.sites[0].refusals().last(), Some(&"privacy_spent"));
}

const RULE: AdaptiveClip = AdaptiveClip { initial: 0.5, quantile: 0.5, rate: 0.2 };

fn adaptive() -> Task {
    private(|_, privacy| privacy.clip = Some(Clip::Adaptive(RULE)))
}

/// The second round, after one that left these shares of contributions as they were.
fn second(session: u8, unclipped: &'static [f64]) -> Round {
    Round { number: 2, unclipped, ..Round::train(session) }
}

#[test]
fn a_site_computes_the_clip_again_and_refuses_another() {
    let task = adaptive();
    let said = |change: &dyn Fn(&mut wire::Invite)| {
        let mut world = World::new(6);
        world.offer(&task);
        let mut invite = world.invite(&task, &second(1, &[0.9]));
        change(&mut invite);
        world.tell(0, ToSite::Invite(invite));
        world.sites[0].refusals().last().copied()
    };
    assert_eq!(said(&|_| {}), None);
    // The bits count.
    let next = |clip: f64| f64::from_bits(clip.to_bits() + 1);
    assert_eq!(said(&|invite| invite.clip = next(invite.clip)), Some("clip_mismatch"));
    assert_eq!(said(&|invite| invite.clip = 0.0), Some("clip_mismatch"));
    assert_eq!(said(&|invite| invite.unclipped = vec![0.8]), Some("clip_mismatch"));
    assert_eq!(said(&|invite| invite.unclipped.push(0.5)), Some("clip_mismatch"));
    assert_eq!(said(&|invite| invite.unclipped.clear()), Some("clip_mismatch"));
    for share in [f64::NAN, f64::INFINITY, 2.1, -1.1] {
        assert_eq!(
            said(&|invite| invite.unclipped = vec![share]),
            Some("clip_mismatch"),
            "{share}"
        );
    }
    // All sites of a sum clip alike: the clip is part of what the session is about.
    let other = Round { unclipped: &[0.8], ..second(1, &[]) };
    let world = World::new(6);
    let (plan, other) = (world.plan(&task, &second(1, &[0.9])), world.plan(&task, &other));
    assert_ne!(plan.context, other.context);
    let told = |invite: &mut wire::Invite| invite.plan = other.to_bytes();
    assert_eq!(said(&told), Some("context_mismatch"));
    // Nobody is told of a clip where it is fixed.
    for change in
        [|i: &mut wire::Invite| i.clip = 0.5, |i: &mut wire::Invite| i.unclipped.push(0.5)]
    {
        let (fixed, mut world) = (private(|_, _| {}), World::new(6));
        world.offer(&fixed);
        let mut invite = world.invite(&fixed, &Round::train(1));
        change(&mut invite);
        world.tell(0, ToSite::Invite(invite));
        assert_eq!(world.sites[0].refusals().last(), Some(&"clip_mismatch"));
    }
}

/// Whatever a coordinator says of earlier rounds: the clip is another, and integers, noise and what the
/// site pays are the same. A lie costs the model, and tells nothing more of anybody.
#[test]
fn a_lie_about_the_shares_changes_the_clip_and_no_part_of_the_account() {
    let run = |session: u8, unclipped: &'static [f64]| {
        let (mut world, task) = (World::new(6), adaptive());
        let round = second(session, unclipped);
        let clip = task.clip(&round).unwrap();
        let encoding = world.plan(&task, &round).encoding;
        world.offer(&task);
        let sites = world.all();
        let sum = whole_round(&mut world, &task, &round, &sites);
        assert_eq!(sum.field("unclipped").unwrap().len(), 1);
        let spent = world.sites[0].participant.budget().epsilon(PrivacyUnit::Record, 1e-4, None);
        (clip, encoding, spent)
    };
    let (clip, encoding, spent) = run(1, &[0.5]);
    assert!(clip == 0.5 && spent > 0.1);
    for lie in [&[-1.0], &[2.0]] {
        let (false_clip, same, paid) = run(2, lie);
        assert!((false_clip / clip).ln().abs() > 0.29, "{false_clip}");
        assert!(same == encoding, "the same integers, the same noise");
        assert_eq!(paid, spent);
    }
    // More is paid than without the count beside the update, and no more than it is worth.
    let fixed = budget::mechanism(&private(|_, _| {}).manifest, 8).unwrap();
    let counted = budget::mechanism(&adaptive().manifest, 8).unwrap();
    assert_eq!((fixed.dimension, counted.dimension), (8, 9));
    let scale = f64::from(adaptive().manifest.encoding.frac_bits).exp2();
    let joint = scale * (1.0 + 0.125f64 * 0.125).sqrt() + 3.0;
    assert!((counted.step().l2 / joint - 1.0).abs() < 2e-4, "{} {joint}", counted.step().l2);
    assert!(counted.step().l2 >= joint);
}
