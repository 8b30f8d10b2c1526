//! A coordinator that lies gets nothing: after each lie, no message with anything of the session has
//! left that had not left before.

use koinon_aggregation::identity::Identity;
use koinon_aggregation::roster::{Role, Roster};
use koinon_aggregation::{Bundle, Signer as _, SurvivorSignature};
use koinon_client::Event;
use koinon_client::participant::{HEARTBEAT_MS, PhaseName};
use koinon_client::policy::ApprovalDefault;
use koinon_model::contribution::RoundKind;
use koinon_model::params::Params;
use koinon_proto::task::InitFrom;
use koinon_proto::wire::to_coordinator::Message as FromSite;
use koinon_proto::wire::to_site::Message as ToSite;
use koinon_proto::{Digest, envelope, limits, wire};
use prost::Message as _;

use crate::world::{Round, Rounds, Task, World, member, site_name, whole_round};

/// Runs a lie and returns what it made the site send, beside codes and heartbeats.
fn gained(world: &mut World, index: usize, lie: impl FnOnce(&mut World)) -> Vec<Vec<u8>> {
    let before = world.sites[index].secrets_sent().len();
    lie(world);
    world.sites[index].secrets_sent().split_off(before)
}

fn ready() -> (World, Task) {
    let mut world = World::new(6);
    let task = Task::new(|_| {});
    world.offer(&task);
    (world, task)
}

/// An invitation that the site refuses with `code`, and from which nothing is gained.
fn refused(world: &mut World, invite: wire::Invite, code: &str) {
    let got = gained(world, 0, |world| world.tell(0, ToSite::Invite(invite)));
    assert!(got.is_empty(), "{code}: something left");
    assert_eq!(world.sites[0].refusals().last(), Some(&code));
    assert_eq!(world.sites[0].participant.status().phase, PhaseName::Idle);
}

/// An honest-looking invitation into a training round that is refused with `code`.
fn refused_round(world: &mut World, task: &Task, session: u8, code: &str) {
    let invite = world_invite(world, task, session);
    refused(world, invite, code);
}

fn fault(world: &World, code: &str) {
    assert_eq!(world.sites[0].faults().last(), Some(&code));
}

/// Drives site 0's session with the honest ones up to the masked updates.
fn reported(world: &mut World, task: &Task, session: u8) -> Rounds {
    let sites = world.all();
    let mut rounds = Rounds::start(world, task, &Round::train(session), &sites);
    rounds.share(world);
    rounds.report(world);
    rounds
}

#[test]
fn fifteen_invented_sites_are_strangers() {
    let (mut world, task) = ready();
    let round = Round { n_min: 5, ..Round::train(1) };
    world.tell(0, ToSite::Invite(world.invite(&task, &round)));
    let own = world.take(0, |message| match message {
        FromSite::Ready(ready) => Some(ready.bundle.clone()),
        _ => None,
    });
    let plan = world.plan(&task, &round);
    let mut bundles = own;
    for index in 0..15u8 {
        let puppet = Identity::from_secret_bytes(&[100 + index; 32]);
        let name = format!("site-{:02}", 20 + index);
        let mut rng = <rand_chacha::ChaCha20Rng as rand::SeedableRng>::from_seed([index; 32]);
        let advertised =
            koinon_aggregation::client::advertise(plan.clone(), &name, &puppet, &mut rng);
        bundles.push(advertised.unwrap().1.to_bytes());
    }
    let session = plan.session.to_vec();
    let got = gained(&mut world, 0, |world| {
        world.tell(
            0,
            ToSite::Participants(wire::Participants { session, bundles, notice: Vec::new() }),
        );
    });
    assert!(got.is_empty());
    fault(&world, "unknown_site");
}

#[test]
fn a_roster_of_the_coordinators_own_making_is_not_believed() {
    let (mut world, _) = ready();
    let puppets = (0..15u8).map(|index| {
        let key = Identity::from_secret_bytes(&[100 + index; 32]).public();
        member(&format!("puppet-{index:02}"), Role::Client, key)
    });
    let mut members: Vec<_> = world.roster.roster().members.clone();
    members.extend(puppets);
    let previous = Some(world.roster.digest());
    let forged = Roster { version: 2, previous, members }.sign(&world.coordinator).unwrap();
    let digest = Digest(forged.digest());
    world.blobs.insert(digest, forged.bytes().to_vec());
    let held = world.sites[0].participant.status().roster;
    world.tell(0, ToSite::Roster(wire::RosterNotice { digest: digest.into() }));
    fault(&world, "roster");
    assert_eq!(world.sites[0].participant.status().roster, held);
}

#[test]
fn an_older_roster_never_comes_back() {
    let (mut world, task) = ready();
    let old = world.roster.clone();
    let mut members = old.roster().members.clone();
    members.iter_mut().find(|member| member.name == "site-05").unwrap().revoked = true;
    let previous = Some(old.digest());
    world.roster = Roster { version: 2, previous, members }.sign(&world.consortium).unwrap();
    let new = Digest(world.roster.digest());
    world.blobs.insert(new, world.roster.bytes().to_vec());
    world.announce(0);
    assert_eq!(world.sites[0].participant.status().roster, Some(new));

    world.roster = old;
    world.announce(0);
    fault(&world, "roster");
    refused_round(&mut world, &task, 1, "roster_mismatch");
    // A restart forgets nothing of it.
    world.restart(0);
    assert_eq!(world.sites[0].participant.status().roster, Some(new));
    world.offer(&task);
    refused_round(&mut world, &task, 2, "roster_mismatch");
}

fn world_invite(world: &World, task: &Task, session: u8) -> wire::Invite {
    world.invite(task, &Round::train(session))
}

#[test]
fn too_few_sites_are_refused_wherever_they_are_offered() {
    let (mut world, task) = ready();
    let mut invite = world_invite(&world, &task, 1);
    // n_min stands behind version, session, context and roster.
    invite.plan[100] = 2;
    refused(&mut world, invite, "plan_invalid");
    let three = world.invite(&task, &Round { n_min: 3, ..Round::train(2) });
    refused(&mut world, three, "cohort_too_small");
    let small = Task::new(|manifest| {
        manifest.cohort.min = 3;
        manifest.cohort.quorum = 3;
    });
    world.offer(&small);
    refused_round(&mut world, &small, 3, "cohort_too_small");

    // Two participants where six were promised.
    let sites = world.all();
    let mut rounds = Rounds::start(&mut world, &task, &Round::train(4), &sites);
    let mut participants = rounds.bundles(&mut world);
    participants.bundles.truncate(2);
    let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Participants(participants)));
    assert!(got.is_empty());
    fault(&world, "too_few");
}

#[test]
fn a_survivor_set_under_the_floor_gets_no_signature() {
    let (mut world, task) = ready();
    let mut rounds = reported(&mut world, &task, 1);
    let survivors = rounds.survivors(&mut world);
    let small = wire::Survivors { indices: vec![0, 1, 2, 3], ..survivors.clone() };
    let without = wire::Survivors { indices: vec![1, 2, 3, 4, 5], ..survivors.clone() };
    let strange = wire::Survivors { indices: vec![0, 1, 2, 3, 4, 70_000], ..survivors.clone() };
    for (lie, code) in [(small, "too_few"), (without, "not_included"), (strange, "malformed")] {
        let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Survivors(lie)));
        assert!(got.is_empty());
        fault(&world, code);
    }
    // The lies cost nothing: the true set is still signed.
    let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Survivors(survivors)));
    assert_eq!(got.len(), 1);
}

#[test]
fn one_changed_digest_gives_a_session_of_its_own_that_opens_nothing() {
    let (mut world, task) = ready();
    // The invitation says another version than the plan is bound to.
    let mut invite = world_invite(&world, &task, 1);
    invite.version[0] ^= 1;
    refused(&mut world, invite, "context_mismatch");
    let mut invite = world_invite(&world, &task, 1);
    invite.round = 2;
    refused(&mut world, invite, "context_mismatch");
    // Other parameters than the task's seed gives, bound as they should be.
    let other = Params::init(&task.spec, 8).to_safetensors(task.spec.layout()).unwrap();
    let digest = Digest::of(&other);
    world.blobs.insert(digest, other);
    let lie = Round { version: Some(digest), ..Round::train(1) };
    let invite = world.invite(&task, &lie);
    refused(&mut world, invite, "context_mismatch");

    // In a later round the site cannot know the version; but its masks cancel with nobody's.
    let honest = Round { number: 2, ..Round::train(2) };
    let lie = Round { version: Some(digest), ..Round { number: 2, ..Round::train(2) } };
    world.tell(0, ToSite::Invite(world.invite(&task, &lie)));
    let others: Vec<usize> = (1..6).collect();
    let mut rounds = Rounds::start(&mut world, &task, &honest, &others);
    let mut participants = rounds.bundles(&mut world);
    let odd = world.take(0, |message| match message {
        FromSite::Ready(ready) => Some(ready.bundle.clone()),
        _ => None,
    });
    participants.bundles.insert(0, odd[0].clone());
    for index in [0, 1] {
        let told = participants.clone();
        let got = gained(&mut world, index, |world| {
            world.tell(index, ToSite::Participants(told));
        });
        assert!(got.is_empty());
        assert_eq!(world.sites[index].faults().last(), Some(&"wrong_session"));
    }
}

#[test]
fn both_kinds_of_share_are_never_shown() {
    let (mut world, task) = ready();
    let mut rounds = reported(&mut world, &task, 1);
    let survivors = rounds.survivors(&mut world);
    let all = survivors.indices.clone();
    let fewer = wire::Survivors { indices: all[..5].to_vec(), ..survivors.clone() };
    // Site 0 signs the full set; the rest collude and sign what they are told, both sets.
    world.tell(0, ToSite::Survivors(survivors.clone()));
    let full = signatures(&mut world, 0);
    let snapshots: Vec<_> = (1..6).map(|index| world.sites[index].disk.clone()).collect();
    let mut both: [Vec<Vec<u8>>; 2] = [full, Vec::new()];
    for (set, told) in [survivors, fewer].into_iter().enumerate() {
        for index in 1..6 {
            world.sites[index].disk = snapshots[index - 1].clone();
            world.restart(index);
            world.tell(index, ToSite::Survivors(told.clone()));
            both[set].extend(signatures(&mut world, index));
        }
    }
    let [full, fewer] = both;
    assert!(full.len() == 6 && fewer.len() >= 4, "{} {}", full.len(), fewer.len());
    let session = vec![1; 32];
    let unmask = |parts: &[&[Vec<u8>]]| wire::Unmask {
        session: session.clone(),
        request: parts.concat().concat(),
    };
    // In one message, in two, before and after the right one, and after a restart.
    let lies = [unmask(&[&full, &fewer]), unmask(&[&fewer, &full]), unmask(&[&fewer])];
    for lie in &lies {
        let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Unmask(lie.clone())));
        assert!(got.is_empty());
        fault(&world, "different_set");
    }
    let right = unmask(&[&full]);
    let reveal = gained(&mut world, 0, |world| world.tell(0, ToSite::Unmask(right.clone())));
    assert_eq!(reveal.len(), 1);
    for restart in [false, true, true] {
        if restart {
            world.restart(0);
        }
        for lie in &lies {
            let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Unmask(lie.clone())));
            assert!(got.iter().all(|body| *body == reveal[0]), "only ever the same reply");
            fault(&world, "changed");
        }
        // The reply was lost: the same question gets the same bytes.
        let again = gained(&mut world, 0, |world| world.tell(0, ToSite::Unmask(right.clone())));
        assert_eq!(again, reveal);
    }
}

fn signatures(world: &mut World, index: usize) -> Vec<Vec<u8>> {
    world.take(index, |message| match message {
        FromSite::SurvivorSignature(signature) => Some(signature.signature.clone()),
        _ => None,
    })
}

#[test]
fn too_few_or_repeated_signatures_open_nothing() {
    let (mut world, task) = ready();
    let mut rounds = reported(&mut world, &task, 1);
    rounds.sign(&mut world);
    let request = rounds.request(&mut world);
    let one = SurvivorSignature::from_bytes(&request.request[..111]).unwrap().to_bytes();
    for (lie, code) in [
        (request.request[..3 * 111].to_vec(), "too_few"),
        (one.repeat(6), "duplicate"),
        (request.request[..3 * 111 + 5].to_vec(), "malformed"),
        (Vec::new(), "too_few"),
    ] {
        let lie = wire::Unmask { session: request.session.clone(), request: lie };
        let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Unmask(lie)));
        assert!(got.is_empty());
        fault(&world, code);
    }
}

#[test]
fn two_survivor_sets_get_one_signature() {
    let (mut world, task) = ready();
    let mut rounds = reported(&mut world, &task, 1);
    let survivors = rounds.survivors(&mut world);
    let other = wire::Survivors { indices: survivors.indices[..5].to_vec(), ..survivors.clone() };
    let first = gained(&mut world, 0, |world| world.tell(0, ToSite::Survivors(survivors.clone())));
    assert_eq!(first.len(), 1);
    for restart in [false, true] {
        if restart {
            world.restart(0);
        }
        let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Survivors(other.clone())));
        assert!(got.iter().all(|body| *body == first[0]));
        fault(&world, "changed");
        let got =
            gained(&mut world, 0, |world| world.tell(0, ToSite::Survivors(survivors.clone())));
        assert_eq!(got, first);
    }
}

#[test]
fn shares_and_keys_are_dealt_once() {
    let (mut world, task) = ready();
    let sites = world.all();
    let mut rounds = Rounds::start(&mut world, &task, &Round::train(1), &sites);
    let participants = rounds.bundles(&mut world);
    world.tell(0, ToSite::Participants(participants.clone()));
    let mut fewer = participants.clone();
    fewer.bundles.pop();
    for restart in [false, true] {
        if restart {
            world.restart(0);
        }
        let before = world.sites[0].secrets_sent();
        world.tell(0, ToSite::Participants(fewer.clone()));
        fault(&world, "changed");
        world.tell(0, ToSite::Participants(participants.clone()));
        world.tell(0, ToSite::Invite(world_invite(&world, &task, 1)));
        let mut invite = world_invite(&world, &task, 1);
        invite.attempt = 9;
        world.tell(0, ToSite::Invite(invite));
        fault(&world, "changed");
        let after = world.sites[0].secrets_sent().split_off(before.len());
        assert!(after.iter().all(|body| before.contains(body)), "only what was said before");
    }
    // A bundle of this site under other keys is not taken for its own.
    let bundle = Bundle::from_bytes(&participants.bundles[0]).unwrap();
    assert_eq!(bundle.site(), "site-00");
}

#[test]
fn older_protocol_versions_are_refused() {
    let (mut world, task) = ready();
    let mut invite = world_invite(&world, &task, 1);
    invite.plan[0] = 0;
    refused(&mut world, invite, "protocol_too_old");
    let body = wire::ToSite { message: Some(ToSite::Invite(world_invite(&world, &task, 1))) };
    let letter = envelope::seal(0, "coordinator", "site-00", body.encode_to_vec(), |message| {
        world.coordinator.sign(message)
    });
    let got = gained(&mut world, 0, |world| world.tell_envelope(0, letter));
    assert!(got.is_empty());
    fault(&world, "envelope");
}

#[test]
fn envelopes_of_others_for_others_or_unsigned_are_not_read() {
    let (mut world, task) = ready();
    let body = wire::ToSite { message: Some(ToSite::Invite(world_invite(&world, &task, 1))) };
    let body = body.encode_to_vec();
    let other = Identity::from_secret_bytes(&world.sites[1].secret);
    let by = |key: &Identity, from: &str, to: &str| {
        envelope::seal(1, from, to, body.clone(), |message| key.sign(message))
    };
    let mut unsigned = by(&world.coordinator, "coordinator", "site-00");
    unsigned.signature.clear();
    let mut changed = by(&world.coordinator, "coordinator", "site-00");
    changed.body.push(0);
    for letter in [
        unsigned,
        changed,
        by(&other, "coordinator", "site-00"),
        by(&other, "site-01", "site-00"),
        by(&world.coordinator, "coordinator", "site-01"),
        wire::Envelope::default(),
    ] {
        let got = gained(&mut world, 0, |world| world.tell_envelope(0, letter));
        assert!(got.is_empty());
        fault(&world, "envelope");
    }
    world.tell_body(0, vec![0xff; 10]);
    fault(&world, "malformed");
    world.tell_body(0, Vec::new());
    fault(&world, "malformed");
}

#[test]
fn oversized_messages_change_nothing() {
    let (mut world, _) = ready();
    world.tell_body(0, vec![0; limits::ENVELOPE_BODY_BYTES_MAX + 1]);
    fault(&world, "oversized");
    let manifest = vec![b' '; limits::MANIFEST_BYTES_MAX + 1];
    world.tell(0, ToSite::Offer(wire::Offer { manifest }));
    fault(&world, "oversized");
    let offered = world.sites[0].participant.offers().count();
    for seed in 0..=limits::TASKS_MAX as u64 {
        let task = Task::new(|manifest| manifest.seed = 1_000 + seed);
        world.tell(0, ToSite::Offer(wire::Offer { manifest: task.bytes }));
    }
    fault(&world, "too_many");
    assert_eq!((offered, world.sites[0].participant.offers().count()), (1, limits::TASKS_MAX));
}

#[test]
fn spent_parameters_are_not_opened_again_under_any_name() {
    let (mut world, task) = ready();
    let sites = world.all();
    whole_round(&mut world, &task, &Round::train(1), &sites);
    refused_round(&mut world, &task, 2, "spent");
    // The same values in another file: another digest, the same parameters.
    let mut renamed = task.params.clone();
    let length = u64::from_le_bytes(renamed[..8].try_into().unwrap()) + 8;
    renamed[..8].copy_from_slice(&length.to_le_bytes());
    let header = usize::try_from(length).unwrap();
    renamed.splice(header..header, [b' '; 8]);
    let digest = Digest::of(&renamed);
    assert_ne!(digest, task.version());
    world.blobs.insert(digest, renamed);
    let lie = Round { version: Some(digest), number: 2, ..Round::train(3) };
    let invite = world.invite(&task, &lie);
    refused(&mut world, invite, "spent");
    // Another task over them, and after a restart.
    let other = Task::new(|manifest| manifest.seed = 8);
    world.offer(&other);
    refused_round(&mut world, &other, 4, "spent");
    world.restart(0);
    world.offer(&task);
    refused_round(&mut world, &task, 5, "spent");
}

/// Training sums the validation figures of the version it starts from, as an evaluation does: with a
/// site fewer in one of the two, their difference would be that site's own figures.
#[test]
fn figures_of_a_version_are_opened_once_by_training_or_by_evaluation() {
    let loss = |sum: &koinon_aggregation::Sum| sum.field("val_loss").unwrap()[0];
    let evaluate =
        |session| Round { kind: RoundKind::Evaluate, number: 2, ..Round::train(session) };
    let (mut world, task) = ready();
    let sites = world.all();
    assert!(loss(&whole_round(&mut world, &task, &Round::train(1), &sites)) > 0.0);
    let invite = world.invite(&task, &evaluate(2));
    refused(&mut world, invite, "spent");

    // The other way round, and under any number of a round.
    let (mut world, task) = ready();
    assert!(loss(&whole_round(&mut world, &task, &evaluate(1), &sites[1..])) > 0.0);
    for number in [1, 2] {
        let train = Round { number, ..Round::train(2) };
        let invite = world.invite(&task, &train);
        let before = world.sites[1].refusals().len();
        world.tell(1, ToSite::Invite(invite));
        assert_eq!(world.sites[1].refusals()[before..], ["spent"], "{number}");
    }
}

/// A version that was evaluated may be trained on. No site says its figures then: if only those left
/// them out that said them before, the sum would be those of the one that did not.
#[test]
fn the_first_round_from_a_given_version_has_no_figures_of_anybody() {
    let (mut world, task) = ready();
    let sites = world.all();
    let evaluate = Round { kind: RoundKind::Evaluate, number: 2, ..Round::train(1) };
    whole_round(&mut world, &task, &evaluate, &sites[1..]);
    let digest = task.version();
    let next = Task::new(|manifest| manifest.init_from = InitFrom::Version { digest });
    world.offer(&next);
    let mut rounds = Rounds::start(&mut world, &next, &Round::train(2), &sites);
    // After a crash the contribution is computed again.
    world.restart(0);
    rounds.share(&mut world);
    rounds.report(&mut world);
    rounds.sign(&mut world);
    rounds.unmask(&mut world);
    let sum = rounds.open(&mut world);
    assert_eq!((sum.n_sites(), sum.field("val_loss").unwrap()[0]), (sites.len(), 0.0));
    assert!(sum.mean("update").unwrap().iter().all(|value| *value > 0.2), "it still trains");
}

#[test]
fn an_evaluation_inside_a_training_task_comes_after_a_round() {
    let (mut world, task) = ready();
    let round = Round { kind: RoundKind::Evaluate, number: 0, ..Round::train(1) };
    let invite = world.invite(&task, &round);
    refused(&mut world, invite, "plan_invalid");
}

#[test]
fn statistics_are_opened_once_per_feature_plan() {
    let (mut world, task) = ready();
    let sites = world.all();
    let statistics =
        |session| Round { kind: RoundKind::Statistics, number: 0, ..Round::train(session) };
    whole_round(&mut world, &task, &statistics(1), &sites);
    let invite = world.invite(&task, &statistics(2));
    refused(&mut world, invite.clone(), "statistics_opened");
    // Another task with the same plan, without one of the sites, would open the difference.
    let other = Task::new(|manifest| manifest.seed = 8);
    world.offer(&other);
    let again = world.invite(&other, &statistics(3));
    refused(&mut world, again, "statistics_opened");
    world.restart(0);
    world.offer(&task);
    refused(&mut world, invite, "statistics_opened");
}

#[test]
fn tasks_are_done_only_when_approved_and_within_the_limits() {
    let task = Task::new(|_| {});
    let mut world = World::with_policy(6, |policy| policy.approvals.default = ApprovalDefault::Ask);
    world.offer(&task);
    refused_round(&mut world, &task, 1, "not_approved");
    let unknown = Task::new(|manifest| manifest.seed = 99);
    refused_round(&mut world, &unknown, 1, "not_approved");

    let mut policy = world.sites[0].policy.clone();
    policy.approvals.approved.insert(task.digest);
    world.event(0, Event::Policy(policy.clone()));
    let checked = world.take(0, |message| match message {
        FromSite::CheckIn(check_in) => Some(check_in.tasks.clone()),
        _ => None,
    });
    assert_eq!(checked.last(), Some(&vec![task.digest.0.to_vec()]));
    world.tell(0, ToSite::Invite(world_invite(&world, &task, 1)));
    assert_eq!(world.sites[0].participant.status().phase, PhaseName::Sharing);

    // Withdrawn in the middle of a session: the site leaves it and never comes back.
    policy.approvals.approved.clear();
    world.event(0, Event::Policy(policy.clone()));
    assert_eq!(world.sites[0].participant.status().phase, PhaseName::Idle);
    policy.approvals.default = ApprovalDefault::Always;
    world.event(0, Event::Policy(policy.clone()));
    refused_round(&mut world, &task, 1, "session_left");

    world.event(0, Event::Pause);
    refused_round(&mut world, &task, 2, "paused");
    world.event(0, Event::Resume);
    for (change, code) in limits_of_the_policy() {
        let mut strict = policy.clone();
        change(&mut strict);
        world.event(0, Event::Policy(strict));
        refused_round(&mut world, &task, 3, code);
    }
}

type Change = fn(&mut koinon_client::Policy);

fn limits_of_the_policy() -> [(Change, &'static str); 7] {
    [
        (|policy| policy.tasks.kinds.clear(), "kind_forbidden"),
        (|policy| policy.tasks.rounds_max = 29, "too_many_rounds"),
        (|policy| policy.tasks.clip_l2_max = 4.0, "bound_too_large"),
        (|policy| policy.tasks.update_bound_max = 0.5, "bound_too_large"),
        (|policy| policy.tasks.frac_bits_max = 19, "too_many_bits"),
        (|policy| policy.tasks.round_bytes_max = 100, "round_too_large"),
        (|policy| policy.cohort.min = 6, "cohort_too_small"),
    ]
}

#[test]
fn an_encoding_that_the_task_does_not_give_is_refused() {
    let (mut world, task) = ready();
    let finer = Task::new(|manifest| manifest.encoding.frac_bits = 24);
    let wider = Task::new(|manifest| manifest.encoding.update_bound = 2.0);
    let unclipped = Task::new(|manifest| manifest.encoding.clip_l2 = 50.0);
    let heavier = Task::new(|manifest| manifest.encoding.rows_max = 4096);
    let more = Task::new(|manifest| manifest.cohort.max = 32);
    for lie in [finer, wider, unclipped, heavier, more] {
        let mut plan = world.plan(&task, &Round::train(1));
        plan.encoding = lie.encoding(RoundKind::Train);
        let invite = wire::Invite { plan: plan.to_bytes(), ..world_invite(&world, &task, 1) };
        refused(&mut world, invite, "encoding_mismatch");
    }
    // The statistics' fields for a training round.
    let mut plan = world.plan(&task, &Round::train(1));
    plan.encoding = task.encoding(RoundKind::Statistics);
    let invite = wire::Invite { plan: plan.to_bytes(), ..world_invite(&world, &task, 1) };
    refused(&mut world, invite, "encoding_mismatch");
}

#[test]
fn files_that_are_not_what_their_digest_says_are_refused() {
    let (mut world, task) = ready();
    world.answers_fetches = false;
    world.tell(0, ToSite::Invite(world_invite(&world, &task, 1)));
    assert_eq!(world.sites[0].participant.status().phase, PhaseName::Invited);
    let digest = task.version();
    let got = gained(&mut world, 0, |world| {
        world.event(0, Event::Blob { digest, bytes: b"something else".to_vec() });
    });
    assert!(got.is_empty());
    assert_eq!(world.sites[0].participant.status().phase, PhaseName::Idle);
    world.event(0, Event::Blob { digest: Digest([9; 32]), bytes: Vec::new() });
    fault(&world, "digest");
    // The right digest of a wrong file: a plan that is none.
    world.answers_fetches = true;
    let other = Task::new(|manifest| manifest.training = Some(Digest::of(b"no plan")));
    world.blobs.insert(Digest::of(b"no plan"), b"no plan".to_vec());
    world.offer(&other);
    refused_round(&mut world, &other, 2, "blob_invalid");
}

#[test]
fn receipts_for_what_was_never_sent_are_faults() {
    let (mut world, task) = ready();
    use wire::coordinator_frame::Frame;
    world.frame(0, Frame::Receipt(wire::Receipt { sequence: 999, rejection: None }));
    fault(&world, "receipt");
    world.sites[0].notes.clear();
    let welcome = wire::Welcome { coordinator_epoch: 5, received: 999 };
    world.frame(0, Frame::Welcome(welcome));
    fault(&world, "out_of_step"); // No hello is without its answer.
    let (now, site) = (world.now + HEARTBEAT_MS, &mut world.sites[0]);
    site.participant.handle(now, &mut site.rng, Event::Tick);
    world.frame(0, Frame::Welcome(welcome));
    fault(&world, "receipt");
    reported(&mut world, &task, 1);
    for next in [u32::MAX, 1_000] {
        let session = vec![1; 32];
        let got = gained(&mut world, 0, |world| {
            world.frame(0, Frame::ChunkReceipt(wire::ChunkReceipt { session, next }));
        });
        assert!(got.is_empty());
        fault(&world, "receipt");
    }
    // Backwards is how a coordinator says that it lost what was staged: the same chunks again.
    let chunks = world.sites[0].secrets_sent();
    let got = gained(&mut world, 0, |world| {
        let receipt = wire::ChunkReceipt { session: vec![1; 32], next: 0 };
        world.frame(0, Frame::ChunkReceipt(receipt));
    });
    assert!(!got.is_empty() && got.iter().all(|chunk| chunks.contains(chunk)));
}

#[test]
fn messages_out_of_step_or_of_other_sessions_do_nothing() {
    let (mut world, task) = ready();
    let session = vec![1; 32];
    let unmask = ToSite::Unmask(wire::Unmask { session: session.clone(), request: Vec::new() });
    let survivors = ToSite::Survivors(wire::Survivors {
        session: session.clone(),
        indices: vec![0, 1],
        bitmap: vec![],
    });
    let inbox = ToSite::Inbox(wire::Inbox { session: session.clone(), shares: Vec::new() });
    let accepted = ToSite::Accepted(wire::Accepted { session: session.clone() });
    for message in [&unmask, &survivors, &inbox, &accepted] {
        let got = gained(&mut world, 0, |world| world.tell(0, message.clone()));
        assert!(got.is_empty());
        fault(&world, "unknown_session");
    }
    world.tell(0, ToSite::Invite(world_invite(&world, &task, 1)));
    for message in [&unmask, &survivors, &inbox, &accepted] {
        let got = gained(&mut world, 0, |world| world.tell(0, message.clone()));
        assert!(got.is_empty());
        fault(&world, "out_of_step");
    }
}

#[test]
fn a_new_session_supersedes_and_the_old_one_is_never_entered_again() {
    let (mut world, task) = ready();
    reported(&mut world, &task, 1);
    world.tell(0, ToSite::Invite(world_invite(&world, &task, 2)));
    let status = world.sites[0].participant.status();
    assert_eq!(status.round.map(|(session, ..)| session), Some(Digest([2; 32])));
    assert!(world.sites[0].disk.vector.is_none(), "the old masked update is gone");
    let got = gained(&mut world, 0, |world| {
        world.tell(0, ToSite::Invite(world_invite(world, &task, 1)));
    });
    assert!(got.is_empty());
    assert_eq!(world.sites[0].refusals().last(), Some(&"session_left"));
    let status = world.sites[0].participant.status();
    assert_eq!(status.round.map(|(session, ..)| session), Some(Digest([2; 32])));
    assert_eq!(site_name(0), world.sites[0].name);
}
