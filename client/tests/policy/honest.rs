//! What an honest coordinator gets: the sum, and nothing twice.

use koinon_client::participant::{Ending, Note, PhaseName};
use koinon_model::contribution::RoundKind;
use koinon_model::params::Params;
use koinon_proto::Digest;

use crate::world::{Round, Task, World, whole_round};

#[test]
fn a_round_opens_the_sum_and_leaves_the_sites_idle() {
    let mut world = World::new(6);
    let task = Task::new(|_| {});
    world.offer(&task);
    let sites = world.all();
    let sum = whole_round(&mut world, &task, &Round::train(1), &sites);
    assert_eq!((sum.n_sites(), sum.weight()), (6, 60));
    let mean = sum.mean("update").unwrap();
    assert!(mean.iter().all(|value| (0.25..0.36).contains(value)), "{mean:?}");
    for site in &world.sites {
        assert_eq!(site.participant.status().phase, PhaseName::Idle);
        assert!(site.disk.vector.is_none());
        assert!(site.faults().is_empty() && site.refusals().is_empty());
        let ended = site.notes.iter().any(|note| {
            matches!(note, Note::Ended { ending: Ending::Committed(digest), .. } if *digest == Digest([9; 32]))
        });
        assert!(ended);
    }
}

#[test]
fn statistics_and_evaluation_are_rounds_too() {
    let mut world = World::new(5);
    let task = Task::new(|_| {});
    world.offer(&task);
    let sites = world.all();
    let round = Round { kind: RoundKind::Statistics, number: 0, ..Round::train(1) };
    assert_eq!(whole_round(&mut world, &task, &round, &sites).n_sites(), 5);
    assert_eq!(whole_round(&mut world, &task, &Round::train(2), &sites).n_sites(), 5);
    // The last version: nobody trained on it.
    let last = Params::init(&task.spec, 8).to_safetensors(task.spec.layout()).unwrap();
    let version = Some(Digest::of(&last));
    world.blobs.insert(Digest::of(&last), last);
    let round = Round { kind: RoundKind::Evaluate, number: 31, version, ..Round::train(3) };
    assert_eq!(whole_round(&mut world, &task, &round, &sites).n_sites(), 5);
}
