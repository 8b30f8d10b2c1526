//! Sites that lie, flood, stall and speak out of turn: they cost themselves, and the others nothing.

use koinon_aggregation::Signer;
use koinon_coordinator::record::Change;
use koinon_proto::wire::site_frame::Frame as Up;
use koinon_proto::wire::to_coordinator::Message as Say;
use koinon_proto::{Digest, envelope, wire};
use prost::Message as _;

use crate::site::Question;
use crate::world::{World, manifest};

fn until_phase(world: &mut World, task: &Digest, phase: &str) {
    world.run_until(|world| world.core.status(task).unwrap().phase == phase);
}

/// Runs until the statistics are fitted: an update of training has several chunks.
fn until_training(world: &mut World, task: &Digest) {
    world.run_until(|world| {
        let status = world.core.status(task).unwrap();
        (status.round, status.phase.as_str()) == (1, "training")
    });
}

#[test]
fn a_garbled_upload_is_tried_once_more_and_then_the_site_is_named() {
    let mut world = World::new(6, 1);
    world.site(4).garbles = true;
    let task = world.submit(&manifest()).unwrap();
    let status = world.run(&task);
    assert_eq!(status.state, "done");
    assert!(status.history.iter().all(|round| round.participants == 5));
    let site = world.name(4);
    let named = |change: &Change| matches!(change, Change::Declined { site: s, code, .. } if *s == site && code == "bad_upload");
    assert!(world.changes().any(named));
    assert!(world.site(4).rejections.contains(&"bad_upload".to_owned()));
    world.check();
}

#[test]
fn uploads_that_were_not_announced_like_this_are_not_staged() {
    let mut world = World::new(5, 2);
    let task = world.submit(&manifest()).unwrap();
    until_training(&mut world, &task);
    for number in 0..5 {
        world.site(number).stalls = true;
    }
    until_phase(&mut world, &task, "reporting");
    world.settle();
    let before = world.core.state_digest();
    let site = world.name(0);
    let session = Vec::from(world.site(0).session().unwrap());
    let chunk = |index, total, len| {
        let chunk =
            wire::UploadChunk { session: session.clone(), index, total, data: vec![0; len] };
        wire::SiteFrame { cursor: 0, frame: Some(Up::Chunk(chunk)) }
    };
    for _ in 0..100 {
        world.send(&site, chunk(7, 9, 1024));
        world.send(&site, chunk(u32::MAX, u32::MAX, 1 << 20));
        world.send(&site, chunk(0, 1 << 30, 1024));
    }
    let mut foreign = chunk(0, 3, 1024);
    if let Some(Up::Chunk(chunk)) = &mut foreign.frame {
        chunk.session = vec![9; 32];
    }
    world.send(&site, foreign);
    world.settle();
    assert_eq!(world.core.state_digest(), before);

    // A report of another length than planned, and a second, different report.
    let body = world.site(0).answered(Question::Inbox).unwrap();
    let Some(Say::Report(report)) = wire::ToCoordinator::decode(&body[..]).unwrap().message else {
        panic!("that was the report");
    };
    let mut short = report.clone();
    (short.bytes, short.report) = (10, report.report.iter().map(|byte| byte ^ 1).collect());
    let frame = world.site(0).say(Say::Report(short));
    world.send(&site, frame);
    world.settle();
    assert_eq!(world.site(0).rejections, ["equivocation"]);

    for number in 0..5 {
        world.site(number).stalls = false;
    }
    world.crash();
    let status = world.run(&task);
    assert_eq!((status.state.as_str(), status.abandoned), ("done", 0));
    world.check();
}

#[test]
fn a_chunk_that_does_not_fit_twice_ends_the_upload_of_that_site() {
    let mut world = World::new(5, 3);
    let task = world.submit(&manifest()).unwrap();
    until_training(&mut world, &task);
    world.site(0).stalls = true;
    until_phase(&mut world, &task, "reporting");
    world.run_until(|world| world.core.status(&task).unwrap().accepted == 4);
    let site = world.name(0);
    let session = Vec::from(world.site(0).session().unwrap());
    for _ in 0..4 {
        // Whatever chunk is wanted now, one of these has its number, and none its length.
        for index in 0..6 {
            let chunk = wire::UploadChunk {
                session: session.clone(),
                index,
                total: 1,
                data: vec![1; 5000],
            };
            world.send(&site, wire::SiteFrame { cursor: 0, frame: Some(Up::Chunk(chunk)) });
        }
    }
    world.settle();
    let named = |change: &Change| matches!(change, Change::Declined { site: s, code, .. } if *s == site && code == "bad_upload");
    assert!(world.changes().any(named));
    world.site(0).stalls = false;
    let status = world.run(&task);
    assert_eq!((status.state.as_str(), status.abandoned), ("done", 0));
    world.check();
}

#[test]
fn messages_of_others_of_other_sessions_and_out_of_turn_change_nothing() {
    let mut world = World::new(5, 4);
    world.site(0).mute.insert(Question::Participants);
    let task = world.submit(&manifest()).unwrap();
    until_phase(&mut world, &task, "sharing");
    world.settle();
    let before = world.core.state_digest();
    let site = world.name(0);
    let session = Vec::from(world.site(1).session().unwrap());
    let told = |world: &mut World, message: Say| {
        let frame = world.site(0).say(message);
        world.send(&site, frame);
        world.settle();
        world.site(0).rejections.pop().unwrap_or_default()
    };
    // Another site's answers under one's own name.
    for question in [Question::Invite, Question::Participants] {
        let body = world.site(1).answered(question).unwrap();
        let message = wire::ToCoordinator::decode(&body[..]).unwrap().message.unwrap();
        let code = told(&mut world, message);
        assert!(["equivocation", "bad_message"].contains(&code.as_str()), "{question:?}: {code}");
    }
    let (reveal, signature, bundle) = (vec![1; 50], vec![2; 111], vec![3; 40]);
    let early = Say::Reveal(wire::Reveal { session: session.clone(), reveal });
    assert_eq!(told(&mut world, early), "early");
    let early = wire::SurvivorSignature { session: session.clone(), signature };
    assert_eq!(told(&mut world, Say::SurvivorSignature(early)), "early");
    let unknown = Say::Ready(wire::Ready { session: vec![8; 32], bundle: bundle.clone() });
    assert_eq!(told(&mut world, unknown), "unknown_session");
    let malformed = Say::Ready(wire::Ready { session: vec![8; 31], bundle });
    assert_eq!(told(&mut world, malformed), "bad_id");
    let garbage = Say::Shares(wire::Shares { session: session.clone(), shares: vec![0; 100] });
    assert_eq!(told(&mut world, garbage), "malformed");
    let code = "Not A Code".to_owned();
    let refusal = Say::Refusal(wire::Refusal { session, code });
    assert_eq!(told(&mut world, refusal), "bad_message");
    assert_eq!(world.core.state_digest(), before);
    world.check();
}

#[test]
fn envelopes_count_only_with_their_senders_signature() {
    let mut world = World::new(5, 5);
    let task = world.submit(&manifest()).unwrap();
    until_phase(&mut world, &task, "training");
    world.settle();
    let before = world.core.state_digest();
    let (site, session) = (world.name(0), vec![0; 32]);
    let code = "policy".to_owned();
    let refusal = Say::Refusal(wire::Refusal { session, code });
    let body = wire::ToCoordinator { message: Some(refusal) }.encode_to_vec();
    let key = |world: &mut World, number| *world.site(number).identity.to_secret_bytes();
    let (own, other) = (key(&mut world, 0), key(&mut world, 1));
    let cases = [
        (other, "site-00", "coordinator", 1, "bad_signature"),
        (other, "site-01", "coordinator", 1, "wrong_sender"),
        (own, "site-00", "someone", 1, "wrong_recipient"),
        (own, "site-00", "coordinator", 7, "version_refused"),
    ];
    for (secret, sender, recipient, version, expected) in cases {
        let identity = koinon_aggregation::identity::Identity::from_secret_bytes(&secret);
        let sign = |message: &[u8]| identity.sign(message);
        let envelope = envelope::seal(version, sender, recipient, body.clone(), sign);
        let mut frame = world.site(0).say(Say::CheckIn(wire::CheckIn::default()));
        if let Some(Up::Mail(mail)) = &mut frame.frame {
            mail.envelope = Some(envelope);
        }
        world.send(&site, frame);
        world.settle();
        assert_eq!(world.site(0).rejections.pop().as_deref(), Some(expected));
    }
    assert_eq!(world.core.state_digest(), before);
}

#[test]
fn a_flood_of_letters_and_hellos_is_dropped_and_the_others_go_on() {
    let mut world = World::new(6, 6);
    let task = world.submit(&manifest()).unwrap();
    until_phase(&mut world, &task, "training");
    let site = world.name(5);
    world.site(5).mute.insert(Question::Participants);
    let hello = world.site(5).hello();
    let letter = world.site(5).say(Say::CheckIn(wire::CheckIn::default()));
    for _ in 0..5_000 {
        world.send(&site, hello.clone());
        world.send(&site, letter.clone());
    }
    let status = world.run(&task);
    assert_eq!((status.state.as_str(), status.abandoned), ("done", 0));
    assert!(status.history.iter().all(|round| round.participants >= 5));
    world.check();
}

#[test]
fn frames_before_hello_and_of_strangers_are_dropped() {
    let mut world = World::new(4, 7);
    world.settle();
    let site = world.name(1);
    world.disconnect(&site);
    world.handle(koinon_coordinator::Event::Connected { site: site.clone() });
    let before = world.core.state_digest();
    let letter = world.site(1).say(Say::CheckIn(wire::CheckIn::default()));
    let stranger = koinon_proto::SiteId::new("stranger").unwrap();
    for of in [&site, &stranger] {
        for frame in [letter.clone(), wire::SiteFrame::default()] {
            let event = koinon_coordinator::Event::Frame { site: of.clone(), frame };
            let effects = world.core.handle(world.now, &mut world.rng, event);
            assert!(effects.is_empty());
        }
    }
    assert_eq!(world.core.state_digest(), before);
}
