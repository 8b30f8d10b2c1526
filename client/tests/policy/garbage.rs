//! Mutated messages of a real session, signed as they should be: the site may refuse or take them, but
//! it never panics and never says one thing in two ways.

use koinon_proto::wire;
use koinon_proto::wire::coordinator_frame::Frame;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

use crate::said::said_once;
use crate::world::{Round, Task, World, whole_round};

/// All mail that site 0 got in an honest round, as bodies.
fn honest_mail() -> Vec<Vec<u8>> {
    let mut world = World::new(6);
    let task = Task::new(|_| {});
    world.offer(&task);
    let sites = world.all();
    whole_round(&mut world, &task, &Round::train(1), &sites);
    std::mem::take(&mut world.sites[0].told)
}

fn mutated(body: &[u8], rng: &mut ChaCha20Rng) -> Vec<u8> {
    let mut body = body.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let length = body.len();
        match rng.random_range(0..5) {
            0 => body.truncate(rng.random_range(0..=length)),
            1 if length > 0 => {
                let at = rng.random_range(0..length);
                body.remove(at);
            }
            2 => {
                let at = rng.random_range(0..=length);
                body.insert(at, rng.random());
            }
            _ if length > 0 => body[rng.random_range(0..length)] ^= 1 << rng.random_range(0..8),
            _ => {}
        }
    }
    body
}

fn random_frame(rng: &mut ChaCha20Rng) -> Option<Frame> {
    let small = rng.random_range(0..40);
    match rng.random_range(0..6) {
        0 => {
            let session = vec![1; 32];
            Some(Frame::ChunkReceipt(wire::ChunkReceipt { session, next: small }))
        }
        1 => {
            let receipt = wire::Receipt { sequence: small.into(), rejection: None };
            Some(Frame::Receipt(receipt))
        }
        2 => Some(Frame::Mail(wire::Mail { sequence: small.into(), envelope: None })),
        3 => {
            let next = rng.random();
            Some(Frame::ChunkReceipt(wire::ChunkReceipt { session: Vec::new(), next }))
        }
        _ => None,
    }
}

#[test]
fn garbage_neither_panics_nor_makes_a_site_contradict_itself() {
    let mail = honest_mail();
    assert!(mail.len() >= 8, "{}", mail.len());
    let mut reveals = 0;
    for seed in 0..25 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut world = World::new(6);
        let task = Task::new(|_| {});
        world.blobs.extend(task.blobs.clone());
        for body in &mail {
            for _ in 0..rng.random_range(0..6) {
                world.tell_body(0, mutated(body, &mut rng));
            }
            if let Some(frame) = random_frame(&mut rng) {
                world.frame(0, frame);
            }
            world.tell_body(0, body.clone());
            if rng.random_range(0..6) == 0 {
                world.restart(0);
            }
        }
        let said = said_once(&world.sites[0]);
        reveals += said.keys().filter(|key| key.starts_with("reveal")).count();
    }
    assert!(reveals > 5, "the garbage hid the deep steps: {reveals}");
}
