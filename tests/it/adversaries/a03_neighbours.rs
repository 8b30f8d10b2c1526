//! A3: lies about who a site's neighbours are: the attacker wants a neighbourhood of colluders.

use koinon_aggregation::client::advertise;
use koinon_aggregation::parameters::{self, Assumptions};
use koinon_aggregation::planted::{Weakness, neighbours, plant};
use koinon_aggregation::{Notice, ServerSession, SessionPlan, Signer as _, Topology};
use koinon_proto::wire::to_site::Message as ToSite;

use super::sites::{
    Round, Rounds, Task, World, audit, gained, is, ready, refusal, told_participants,
};
use super::sums::{WEAK, cohort, rng, sparse_cohort};
use super::{Class, Outcome, Plant, script};

pub(super) const CLASS: Class = Class {
    number: 3,
    scripts: &[
        script!(
            one_colluder_under_two_names,
            "shares to a neighbour that counts twice",
            Plant::Checks(&[Weakness::SharedKey])
        ),
        script!(
            a_list_of_colluders_alone,
            "shares to fewer neighbours than were promised",
            Plant::Checks(&[Weakness::NoFloor])
        ),
        script!(
            a_neighbour_twice,
            "shares to a neighbour that is in the list twice",
            Plant::Checks(&[Weakness::SharedKey])
        ),
        script!(
            a_neighbour_with_other_keys,
            "shares to keys that the others were not told of",
            Plant::Checks(&[Weakness::UnprovenNeighbour])
        ),
        script!(
            a_graph_too_thin,
            "a session whose graph is too thin for what it assumes",
            Plant::Checks(&[Weakness::AnyGraph])
        ),
        script!(
            a_graph_that_can_be_ground,
            "a session whose graph forty bits of work can choose",
            Plant::World("the site's policy permits forty bits")
        ),
        script!(
            ground_keys,
            "a graph in which colluders are enough of some honest site's neighbours",
            Plant::World("the parameters are for three bits of grinding")
        ),
    ],
};

fn one_colluder_under_two_names(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut cohort = cohort(4, 1);
    cohort.keys[2] = cohort.keys[1].clone();
    cohort.roster.insert("site-02".into(), cohort.keys[1].public());
    let (advertised, bundles) = cohort.advertised(1);
    let victim = advertised.into_iter().next().unwrap();
    let shared = victim.share(&bundles.into(), &cohort.roster, 3, &cohort.keys[0], &mut rng(2));
    match shared {
        Ok(_) => outcome.goal(true, "the site shared with two sites of one key"),
        Err(rejection) => outcome.holds(rejection.code() == "duplicate", rejection.to_string()),
    }
    outcome
}

fn a_list_of_colluders_alone(_: bool) -> Outcome {
    let (mut world, task) = ready(6);
    let sites = world.all();
    let mut rounds = Rounds::start(&mut world, &task, &Round::train(1), &sites);
    let mut participants = rounds.bundles(&mut world);
    participants.bundles.truncate(3);
    told_participants(world, participants, "shares for two colluders left", "too_few")
}

fn a_neighbour_twice(_: bool) -> Outcome {
    let (mut world, task) = ready(6);
    let sites = world.all();
    let mut rounds = Rounds::start(&mut world, &task, &Round::train(1), &sites);
    let mut participants = rounds.bundles(&mut world);
    let twice = participants.bundles[3].clone();
    participants.bundles.insert(3, twice);
    told_participants(world, participants, "shares left", "duplicate")
}

/// A neighbour that colludes has signed two bundles; the site is shown the one, everybody else the
/// other.
fn a_neighbour_with_other_keys(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let cohort = sparse_cohort(40, 1, &WEAK);
    let (mut sites, bundles) = cohort.advertised(1);
    let mut server = ServerSession::new(cohort.plan.clone()).unwrap();
    for bundle in bundles {
        server.add_bundle(bundle, &cohort.roster).unwrap();
    }
    let names: Vec<&str> = cohort.names.iter().map(String::as_str).collect();
    server.fix_participants(&names, &cohort.roster).unwrap();
    let notice = server.notice_for(0).unwrap();
    let neighbour = &notice.bundles()[1];
    let at = names.iter().position(|name| *name == neighbour.site()).unwrap();
    let (plan, key) = (cohort.plan.clone(), &cohort.keys[at]);
    let (_, other) = advertise(plan, names[at], key, &mut rng(77)).unwrap();
    let (old, new) = (neighbour.to_bytes(), other.to_bytes());
    let mut bytes = notice.to_bytes();
    let start = bytes.windows(old.len()).position(|window| window == old).unwrap();
    bytes[start..start + new.len()].copy_from_slice(&new);
    let notice = Notice::from_bytes(&bytes).unwrap();
    let shared = sites.remove(0).share(&notice, &cohort.roster, 3, &cohort.keys[0], &mut rng(2));
    match shared {
        Ok(_) => outcome.goal(true, "the site shared with keys that only it was shown"),
        Err(rejection) => outcome.holds(rejection.code() == "bad_proof", rejection.to_string()),
    }
    outcome
}

/// The plan says what it assumes, and has fewer neighbours than that takes.
fn a_graph_too_thin(_: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut cohort = sparse_cohort(60, 1, &WEAK);
    if let Topology::Sparse(sparse) = &mut cohort.plan.topology {
        sparse.assumptions.sigma = 80;
        sparse.assumptions.colluding_percent = 30;
    }
    let (mut sites, bundles) = cohort.advertised(1);
    let notice = {
        // The coordinator's own program does not mind.
        plant(&[Weakness::AnyGraph], || {
            let mut server = ServerSession::new(cohort.plan.clone()).unwrap();
            for bundle in bundles {
                server.add_bundle(bundle, &cohort.roster).unwrap();
            }
            let names: Vec<&str> = cohort.names.iter().map(String::as_str).collect();
            server.fix_participants(&names, &cohort.roster).unwrap();
            server.notice_for(0).unwrap()
        })
    };
    let shared = sites.remove(0).share(&notice, &cohort.roster, 3, &cohort.keys[0], &mut rng(2));
    match shared {
        Ok(_) => outcome.goal(true, "the site shares"),
        Err(rejection) => {
            outcome.holds(rejection.code() == "parameters_too_weak", rejection.code())
        }
    }
    outcome
}

fn a_graph_that_can_be_ground(planted: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let sigma = 40;
    let mut world = World::with_policy(6, |policy| {
        policy.cohort.sigma_min = if planted { sigma } else { policy.cohort.sigma_min };
    });
    let task = Task::new(|manifest| manifest.cohort.max = 1_000);
    world.offer(&task);
    let assumptions =
        Assumptions { colluding_percent: 10, dropout_percent: 10, sigma, failure_bits: 20 };
    let topology = Topology::Sparse(parameters::sparse(1_000, &assumptions).unwrap());
    let plan = SessionPlan { topology, ..world.plan(&task, &Round::train(1)) };
    let mut invite = world.invite(&task, &Round::train(1));
    invite.plan = plan.to_bytes();
    let got = gained(&mut world, 0, |world| world.tell(0, ToSite::Invite(invite)));
    outcome.goal(got.iter().any(|body| is(body, "ready")), "keys for it left");
    outcome.holds(got.is_empty(), refusal(&world, 0));
    audit(&mut outcome, &mut world, 0);
    outcome
}

/// Whoever colludes may try keys until the graph is good for it: a hundred of a thousand, 512 tries.
fn ground_keys(planted: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (n, colluders) = (1_000, 100);
    let sigma = if planted { 3 } else { 80 };
    let assumptions =
        Assumptions { colluding_percent: 10, dropout_percent: 10, sigma, failure_bits: 20 };
    let sparse = parameters::sparse(n, &assumptions).unwrap();
    let (degree, threshold) = (usize::from(sparse.degree), usize::from(sparse.threshold));
    // So many colluding neighbours hold enough shares of both kinds, as every other one shows one.
    let enough = 2 * threshold - degree;
    let worst = |key| {
        let graph = neighbours(key, n, degree);
        let colluding = |row: &Vec<usize>| row.iter().filter(|&&peer| peer < colluders).count();
        graph[colluders..].iter().map(colluding).max()
    };
    let worst = (0..512).filter_map(worst).max().unwrap_or(0);
    outcome.goal(worst >= enough, format!("{worst} of {degree} neighbours, where {enough} do"));
    outcome
}

#[test]
fn repelled() {
    super::repelled(&CLASS);
}

#[test]
fn planted_is_found() {
    super::planted_is_found(&CLASS);
}
