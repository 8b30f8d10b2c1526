//! The mailbox over carriers that lose, repeat, and break; and coordinators that start anew.

use koinon_client::participant::HEARTBEAT_MS;
use koinon_client::{Effect, Event};
use koinon_proto::wire;
use koinon_proto::wire::to_coordinator::Message as FromSite;
use koinon_proto::wire::to_site::Message as ToSite;
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

use crate::world::{Round, Task, World};

#[test]
fn heartbeats_come_on_time_and_only_when_connected() {
    let mut world = World::new(1);
    let site = &mut world.sites[0];
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    let due = site.participant.next_deadline().unwrap();
    assert_eq!(due, 10_001);
    let early = site.participant.handle(due - 1, &mut rng, Event::Tick);
    assert!(early.is_empty());
    let beat = site.participant.handle(due, &mut rng, Event::Tick);
    assert!(
        matches!(&beat[..], [Effect::Send(wire::SiteFrame { frame: Some(wire::site_frame::Frame::Hello(hello)), .. })] if hello.coordinator_epoch == 1)
    );
    assert_eq!(site.participant.next_deadline(), Some(due + 10_000));
    site.participant.handle(due + 1, &mut rng, Event::Disconnected);
    assert_eq!(site.participant.next_deadline(), None);
    assert!(site.participant.handle(due + 99_999, &mut rng, Event::Tick).is_empty());
}

#[test]
fn mail_that_was_lost_comes_with_the_next_welcome() {
    let mut world = World::new(1);
    let task = Task::new(|_| {});
    // The carrier breaks before the offer's check-in is receipted.
    let participant = &mut world.sites[0].participant;
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    participant.handle(2, &mut rng, Event::Disconnected);
    participant.handle(3, &mut rng, Event::Pause);
    participant.handle(3, &mut rng, Event::Resume);
    let hello = participant.handle(4, &mut rng, Event::Connected);
    let Some(Effect::Send(frame)) = hello.first() else { panic!("a hello") };
    let Some(wire::site_frame::Frame::Hello(hello)) = &frame.frame else { panic!("a hello") };
    let welcome = |coordinator_epoch, received| {
        let welcome = wire::Welcome { coordinator_epoch, received };
        let frame = Some(wire::coordinator_frame::Frame::Welcome(welcome));
        Event::Frame(wire::CoordinatorFrame { frame })
    };
    let received = hello.first_sequence - 1;
    let sent = participant.handle(5, &mut rng, welcome(7, received));
    let mail = |effects: &[Effect]| {
        let mail = |effect: &Effect| match effect {
            Effect::Send(wire::SiteFrame {
                frame: Some(wire::site_frame::Frame::Mail(mail)),
                ..
            }) => Some(mail.sequence),
            _ => None,
        };
        effects.iter().filter_map(mail).collect::<Vec<u64>>()
    };
    let first = mail(&sent);
    assert!(!first.is_empty());
    // The hello that confirms the new epoch has its answer as well.
    assert_eq!(mail(&participant.handle(5, &mut rng, welcome(7, received))), first);
    // Not receipted: the next welcome of the same epoch brings the same mail again, and no other.
    participant.handle(5 + HEARTBEAT_MS, &mut rng, Event::Tick);
    let later = 5 + HEARTBEAT_MS;
    assert_eq!(mail(&participant.handle(later, &mut rng, welcome(7, received))), first);
    // One that answers no hello brings nothing, whatever epoch it speaks of, however often it comes.
    for epoch in [7, 8, 9, 7] {
        let sent = participant.handle(later, &mut rng, welcome(epoch, received));
        assert!(!sent.iter().any(|effect| matches!(effect, Effect::Send(_))), "epoch {epoch}");
    }
    let last = *first.last().unwrap();
    participant.handle(6 + 2 * HEARTBEAT_MS, &mut rng, Event::Tick);
    let last = participant.handle(6 + 2 * HEARTBEAT_MS, &mut rng, welcome(7, last));
    assert!(mail(&last).is_empty());
    drop(task);
}

#[test]
fn repeated_reordered_and_early_mail_is_taken_once_and_in_order() {
    let mut world = World::new(1);
    let (first, second) = (Task::new(|_| {}), Task::new(|manifest| manifest.seed = 8));
    world.sites[0].skip_sequence();
    world.tell(0, ToSite::Offer(wire::Offer { manifest: second.bytes.clone() }));
    assert_eq!(world.sites[0].participant.offers().count(), 0, "one before it is missing");
    world.sites[0].go_back(2);
    world.tell(0, ToSite::Offer(wire::Offer { manifest: first.bytes.clone() }));
    world.tell(0, ToSite::Offer(wire::Offer { manifest: second.bytes }));
    assert_eq!(world.sites[0].participant.offers().count(), 2);
    world.sites[0].go_back(1);
    let third = Task::new(|manifest| manifest.seed = 9);
    world.tell(0, ToSite::Offer(wire::Offer { manifest: third.bytes }));
    assert_eq!(world.sites[0].participant.offers().count(), 2, "that number was taken");
}

#[test]
fn a_new_coordinator_epoch_hears_the_check_in_and_the_last_answer_again() {
    let mut world = World::new(6);
    let task = Task::new(|_| {});
    world.offer(&task);
    world.tell(0, ToSite::Invite(world.invite(&task, &Round::train(1))));
    let said = |world: &mut World| {
        world.take(0, |message| match message {
            FromSite::CheckIn(check_in) => Some(format!("check-in of {}", check_in.tasks.len())),
            FromSite::Ready(ready) => Some(format!("ready {:?}", &ready.bundle[..])),
            _ => None,
        })
    };
    let first = said(&mut world);
    let ready = first.last().unwrap().clone();
    world.event(0, Event::Disconnected);
    world.sites[0].new_coordinator();
    world.event(0, Event::Connected);
    assert_eq!(said(&mut world), ["check-in of 1".to_owned(), ready]);
}

#[test]
fn mail_waits_for_the_roster_that_may_hold_its_key() {
    let mut world = World::new(2);
    let task = Task::new(|_| {});
    world.restart(0);
    // A site that has just joined has no roster: an offer before it can not be verified.
    world.sites[1].disk = Default::default();
    world.sites[1].rebuild();
    world.answers_fetches = false;
    world.event(1, Event::Connected);
    world.announce(1);
    world.tell(1, ToSite::Offer(wire::Offer { manifest: task.bytes.clone() }));
    assert_eq!(world.sites[1].participant.offers().count(), 0);
    let digest = koinon_proto::Digest(world.roster.digest());
    let bytes = world.roster.bytes().to_vec();
    world.event(1, Event::Blob { digest, bytes });
    assert_eq!(world.sites[1].participant.offers().count(), 1);
}

#[test]
fn a_roster_whose_fetch_was_lost_with_the_connection_is_asked_for_again() {
    let mut world = World::new(2);
    world.sites[1].disk = Default::default();
    world.sites[1].rebuild();
    world.answers_fetches = false;
    world.event(1, Event::Connected);
    world.announce(1);
    assert_eq!(world.sites[1].participant.status().roster, None);
    world.event(1, Event::Disconnected);
    world.answers_fetches = true;
    world.sites[1].new_coordinator();
    world.event(1, Event::Connected);
    assert!(world.sites[1].participant.status().roster.is_some());
}

#[test]
fn tasks_that_are_not_offered_any_more_make_room_for_new_ones() {
    let mut world = World::new(1);
    let many = koinon_proto::limits::TASKS_MAX as u64;
    let offer = |world: &mut World, seed: u64| {
        let task = Task::new(|manifest| manifest.seed = seed);
        world.tell(0, ToSite::Offer(wire::Offer { manifest: task.bytes }));
    };
    (0..many).for_each(|seed| offer(&mut world, seed));
    world.event(0, Event::Disconnected);
    world.sites[0].new_coordinator();
    world.event(0, Event::Connected);
    offer(&mut world, 3);
    offer(&mut world, many + 1);
    assert!(world.sites[0].faults().is_empty());
    assert_eq!(world.sites[0].participant.offers().count(), 2);
}
