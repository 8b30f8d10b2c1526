//! Enrolments and rosters: who may join, once, and what an old or foreign roster is worth.

use koinon_aggregation::Signer;
use koinon_aggregation::identity::Identity;
use koinon_aggregation::invitation::{Invitation, Terms};
use koinon_aggregation::roster::{Member, Role};
use koinon_coordinator::{Answer, Coordinator, Event, Rejection};
use koinon_proto::wire::to_coordinator::Message as ToCoordinator;
use koinon_proto::{SiteId, wire};

use crate::site::Question;
use crate::world::{World, consortium, manifest, row};

fn invitation(world: &mut World, by: &Identity, expires_ms: u64) -> Invitation {
    let terms = Terms {
        name: "site-90".into(),
        role: Role::Client,
        coordinator: "localhost:7400".into(),
        ca_certificate: vec![1; 10],
        expires_ms,
    };
    Invitation::new(terms, by, &mut world.rng).unwrap()
}

fn enrolment(invitation: &Invitation, identity: &Identity) -> wire::Enrolment {
    let made = invitation.enrol(identity, b"request".to_vec());
    wire::Enrolment {
        admission: made.admission,
        identity_key: made.identity_key.to_vec(),
        binding: made.binding.to_vec(),
        signature: made.signature.to_vec(),
        certificate_request: made.certificate_request,
    }
}

fn enrol(world: &mut World, enrolment: &wire::Enrolment) -> Result<Answer, Rejection> {
    let enrolment = enrolment.clone();
    world.ask(|reply| Event::Enrol { enrolment, reply })
}

fn code<T: std::fmt::Debug>(result: Result<T, Rejection>) -> &'static str {
    result.unwrap_err().code
}

#[test]
fn an_admission_is_spent_by_the_first_key_and_answered_again_to_it() {
    let mut world = World::new(4, 1);
    let invitation = invitation(&mut world, &consortium(), 2_000_000);
    let (one, two) =
        (Identity::from_secret_bytes(&[31; 32]), Identity::from_secret_bytes(&[32; 32]));
    let first = enrolment(&invitation, &one);
    let answer = enrol(&mut world, &first).unwrap();
    assert!(
        matches!(&answer, Answer::Enrolled { name, role: Role::Client, .. } if name.as_str() == "site-90")
    );
    let before = world.journal.len();
    assert_eq!(enrol(&mut world, &first).unwrap(), answer, "a lost answer is given again");
    assert_eq!(code(enrol(&mut world, &enrolment(&invitation, &two))), "admission_spent");
    world.crash();
    assert_eq!(code(enrol(&mut world, &enrolment(&invitation, &two))), "admission_spent");
    assert_eq!(world.journal.len(), before + 1, "only the new start was written");
    assert_eq!(world.core.pending().enrolments, [first]);

    let roster = world.next_roster(|members| members.push(row("site-90", Role::Client, &one)));
    world.publish(roster).unwrap();
    assert!(world.core.pending().enrolments.is_empty(), "the roster answers it");
    world.check();
}

#[test]
fn forged_expired_and_damaged_enrolments_change_nothing() {
    let mut world = World::new(4, 2);
    let own = Identity::from_secret_bytes(&[31; 32]);
    let good = invitation(&mut world, &consortium(), 2_000_000);
    let forged = invitation(&mut world, &Identity::from_secret_bytes(&[66; 32]), 2_000_000);
    let now = world.now;
    let expired = invitation(&mut world, &consortium(), now);
    let before = world.core.state_digest();
    assert_eq!(code(enrol(&mut world, &enrolment(&forged, &own))), "bad_admission");
    assert_eq!(code(enrol(&mut world, &enrolment(&expired, &own))), "bad_admission");
    let mut stolen = enrolment(&good, &own);
    stolen.identity_key = Identity::from_secret_bytes(&[67; 32]).public().to_vec();
    assert_eq!(code(enrol(&mut world, &stolen)), "bad_enrolment", "no proof of possession");
    let mut short = enrolment(&good, &own);
    short.binding.pop();
    assert_eq!(code(enrol(&mut world, &short)), "bad_enrolment");
    let mut long = enrolment(&good, &own);
    long.admission = vec![0; 2000];
    assert_eq!(code(enrol(&mut world, &long)), "bad_enrolment");
    assert_eq!(code(enrol(&mut world, &wire::Enrolment::default())), "bad_enrolment");
    assert_eq!(world.core.state_digest(), before);
}

#[test]
fn rosters_go_forward_only_and_come_from_the_consortium() {
    let mut world = World::new(4, 3);
    let first = world.roster.clone().unwrap();
    let second = world.next_roster(|members| members.retain(|row| row.name != "site-03"));
    let fork = world.next_roster(|members| members.retain(|row| row.name != "site-02"));
    let unheard = world.next_roster(|members| members.retain(|row| row.name != "coordinator"));
    assert_eq!(code(world.publish(unheard)), "bad_roster", "nobody would believe the coordinator");
    world.publish(second.clone()).unwrap();
    let before = world.core.state_digest();
    assert_eq!(code(world.publish(first.clone())), "roster_rollback");
    assert_eq!(code(world.publish(fork)), "roster_rollback");
    let stranger = Identity::from_secret_bytes(&[66; 32]);
    let foreign = first.roster().clone().sign(&stranger).unwrap();
    assert_eq!(code(world.publish(foreign)), "bad_roster");
    let again = world.publish(second);
    assert!(matches!(again, Ok(Answer::RosterPublished { version: 2, .. })));
    assert_eq!(world.core.state_digest(), before);
    world.crash();
    assert_eq!(code(world.publish(first)), "roster_rollback", "also after a restart");
    world.check();
}

#[test]
fn a_revoked_site_is_parted_from_and_never_chosen_again() {
    let mut world = World::new(6, 4);
    world.settle();
    let roster = world.next_roster(|members| {
        members.iter_mut().filter(|row| row.name == "site-02").for_each(|row| row.revoked = true);
    });
    world.publish(roster).unwrap();
    world.settle();
    let site = world.name(2);
    world.connect(&site);
    let task = world.submit(&manifest()).unwrap();
    let status = world.run(&task);
    assert!(status.history.iter().all(|round| round.participants == 5));
    assert!(world.site(2).rejections.iter().all(|code| code == "not_a_member"));
    assert!(!world.site(2).rejections.is_empty(), "its check-in was refused");
    world.check();
}

#[test]
fn a_site_that_enrolled_before_the_roster_sees_the_tasks_when_it_is_in() {
    let mut world = World::new(4, 5);
    let late = world.name(3);
    let without = world.next_roster(|members| members.retain(|row| row.name != "site-03"));
    world.publish(without).unwrap();
    let mut task = manifest();
    task.cohort.quorum = 4;
    let task = world.submit(&task).unwrap();
    world.settle();
    assert_eq!(world.core.status(&task).unwrap().state, "waiting");
    let identity = Identity::from_secret_bytes(&secret(&world.sites[&late].identity));
    let with = world.next_roster(|members| members.push(row("site-03", Role::Client, &identity)));
    world.publish(with).unwrap();
    assert_eq!(world.run(&task).state, "done");
    world.check();
}

#[test]
fn a_roster_that_comes_while_sites_train_costs_no_attempt() {
    let mut world = World::new(6, 6);
    world.site(0).mute.insert(Question::Invite);
    let mut task = manifest();
    task.attempts_max = 1;
    let task = world.submit(&task).unwrap();
    world.run_until(|world| world.core.status(&task).unwrap().ready == 5);
    let newcomer = Identity::from_secret_bytes(&[90; 32]);
    let roster = world.next_roster(|members| members.push(row("site-90", Role::Client, &newcomer)));
    world.publish(roster).unwrap();
    world.site(0).mute.clear();
    let status = world.run(&task);
    assert_eq!(status.state, "done", "{}", status.reason);
    let outcomes: Vec<&str> = status.history.iter().map(|round| round.outcome.as_str()).collect();
    assert_eq!(outcomes, ["roster_changed", "committed", "committed", "committed", "committed"]);
    world.check();
}

#[test]
fn a_roster_that_comes_later_in_a_round_does_not_disturb_it() {
    let mut world = World::new(6, 7);
    let task = world.submit(&manifest()).unwrap();
    world.run_until(|world| world.core.status(&task).unwrap().phase == "reporting");
    let newcomer = Identity::from_secret_bytes(&[90; 32]);
    let roster = world.next_roster(|members| members.push(row("site-90", Role::Client, &newcomer)));
    world.publish(roster).unwrap();
    world.crash();
    let status = world.run(&task);
    assert_eq!((status.state.as_str(), status.abandoned), ("done", 0), "{}", status.reason);
    world.check();
}

#[test]
fn a_first_check_in_without_a_roster_is_no_mistake_and_invites_nobody() {
    let mut world = World::new(4, 8);
    world.settle();
    let task = world.submit(&manifest()).unwrap();
    let site = world.name(0);
    for (roster, expected) in [(vec![], None), (vec![7; 31], Some("bad_id"))] {
        let tasks = vec![task.into()];
        let letter = world.site(0).say(ToCoordinator::CheckIn(wire::CheckIn {
            tasks,
            roster,
            head: Vec::new(),
        }));
        world.send(&site, letter);
        world.step();
        world.settle();
        assert_eq!(world.site(0).rejections.pop().as_deref(), expected);
    }
    assert_eq!(world.run(&task).state, "done");
    world.check();
}

#[test]
fn an_operator_counts_by_the_roster_and_not_by_a_certificate_of_old() {
    let mut world = World::new(4, 9);
    let (operator, site, now) = (SiteId::new("operator").unwrap(), world.name(0), world.now);
    let key = Identity::from_secret_bytes(&[91; 32]);
    let empty = Coordinator::new(crate::world::setup());
    assert!(empty.may_publish(&operator, b"", now) && !empty.is_operator(&operator, now));

    let named = world.next_roster(|members| members.push(row("operator", Role::Operator, &key)));
    assert!(!world.core.is_operator(&operator, now), "not yet");
    assert!(!world.core.may_publish(&operator, world.first_roster().bytes(), now));
    assert!(world.core.may_publish(&operator, named.bytes(), now), "the consortium names it there");
    let mut forged = named.bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert!(!world.core.may_publish(&operator, &forged, now));

    world.publish(named).unwrap();
    assert!(world.core.is_operator(&operator, now) && !world.core.is_operator(&site, now));
    assert!(!world.core.is_operator(&operator, 1 << 51), "expired");
    let revoke = |member: &mut Member| member.revoked |= member.name == "operator";
    let revoked = world.next_roster(|members| members.iter_mut().for_each(revoke));
    assert!(world.core.may_publish(&operator, revoked.bytes(), now), "also its own revocation");
    world.publish(revoked).unwrap();
    assert!(!world.core.is_operator(&operator, now));
    let next = world.next_roster(|_| ());
    assert!(!world.core.may_publish(&operator, next.bytes(), now));
}

fn secret(identity: &Identity) -> [u8; 32] {
    *identity.to_secret_bytes()
}
