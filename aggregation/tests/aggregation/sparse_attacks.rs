//! Attacks on sessions that are carried out on a graph: lies about the graph, the participants and
//! the survivors, too weak parameters, and messages of the other version.

use koinon_aggregation::client::{Advertised, Masked, Revealed, Shared, Signed};
use koinon_aggregation::parameters::{self, Sparse};
use koinon_aggregation::{
    Bundle, CodecError, Delivery, Notice, OpenError, Rejection, Report, Reveal, ServerSession,
    SessionPlan, Shares, SurvivorSignature, Topology,
};

use crate::support::{Cohort, Unmasking, WEAK, cohort, resign, rng, sparse_cohort};

const N: usize = 40;

fn code<T>(result: Result<T, Rejection>) -> &'static str {
    result.map(|_| ()).expect_err("must be rejected").code()
}

/// A server whose participants are fixed, and the sites that wait to be told of it.
fn fixed(cohort: &Cohort, seed: u64) -> (Vec<Advertised>, ServerSession) {
    let (advertised, bundles) = cohort.advertised(seed);
    let mut server = ServerSession::new(cohort.plan.clone()).unwrap();
    for bundle in bundles {
        server.add_bundle(bundle, &cohort.roster).unwrap();
    }
    let names: Vec<&str> = cohort.names.iter().map(String::as_str).collect();
    server.fix_participants(&names, &cohort.roster).unwrap();
    (advertised, server)
}

/// A notice taken apart, so that it can be put together wrongly.
#[derive(Clone)]
struct Parts {
    names: Vec<String>,
    /// Bundles with the hashes of their paths.
    shown: Vec<(Bundle, Vec<u8>)>,
}

impl Parts {
    fn of(notice: &Notice) -> Self {
        let bytes = notice.to_bytes();
        let mut rest = &bytes[4..];
        let mut take = |n: usize| {
            let (head, tail) = rest.split_at(n);
            rest = tail;
            head
        };
        let number = |bytes: &[u8]| usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        let n = number(take(2));
        let mut names = Vec::new();
        for _ in 0..n {
            let len = usize::from(take(1)[0]);
            names.push(String::from_utf8(take(len).to_vec()).unwrap());
        }
        let mut shown = Vec::new();
        for _ in 0..number(take(2)) {
            let head = take(38);
            let len = usize::from(head[37]);
            let bundle = [head, take(len + 128)].concat();
            let bundle = Bundle::from_bytes(&bundle).unwrap();
            let index = names.iter().position(|name| name == bundle.site()).unwrap();
            shown.push((bundle, take(32 * path_len(index, n)).to_vec()));
        }
        Self { names, shown }
    }

    fn notice(&self) -> Notice {
        let mut bytes = 2u32.to_le_bytes().to_vec();
        let number = |n: usize| u16::try_from(n).unwrap().to_le_bytes();
        bytes.extend(number(self.names.len()));
        for name in &self.names {
            bytes.push(u8::try_from(name.len()).unwrap());
            bytes.extend(name.as_bytes());
        }
        bytes.extend(number(self.shown.len()));
        for (bundle, path) in &self.shown {
            bytes.extend(bundle.to_bytes());
            bytes.extend(path);
        }
        Notice::from_bytes(&bytes).unwrap()
    }
}

/// How long the path of a leaf is: RFC 9162, section 2.1.3.1, by its recursion.
fn path_len(index: usize, n: usize) -> usize {
    if n == 1 {
        return 0;
    }
    let split = n.next_power_of_two() / 2;
    1 + if index < split { path_len(index, split) } else { path_len(index - split, n - split) }
}

/// Site 0 is told this instead of the truth.
fn share_with(cohort: &Cohort, change: impl FnOnce(&mut Parts, &ServerSession)) -> Rejection {
    let (mut advertised, server) = fixed(cohort, 1);
    let mut parts = Parts::of(&server.notice_for(0).unwrap());
    change(&mut parts, &server);
    let state = advertised.remove(0);
    let shared = state.share(&parts.notice(), &cohort.roster, 3, &cohort.keys[0], &mut rng(2));
    shared.map(|_| ()).expect_err("must be rejected")
}

#[test]
fn missing_additional_and_wrong_neighbours_are_named() {
    let cohort = sparse_cohort(N, 1, &WEAK);
    let mut missing = String::new();
    let rejected = share_with(&cohort, |parts, _| {
        let (bundle, _) = parts.shown.remove(3);
        missing = bundle.site().to_owned();
    });
    assert_eq!(rejected, Rejection::WrongNeighbours { site: missing, what: "missing" });
    // A stranger to site 0, with its right path: more, or in a neighbour's place.
    let stranger = |parts: &Parts, server: &ServerSession| {
        let known: Vec<String> = parts.shown.iter().map(|(b, _)| b.site().to_owned()).collect();
        let strangers = (1..40).flat_map(|i| Parts::of(&server.notice_for(i).unwrap()).shown);
        strangers.into_iter().find(|(b, _)| !known.iter().any(|k| k == b.site())).unwrap()
    };
    let add = |parts: &mut Parts, server: &ServerSession| {
        let stranger = stranger(parts, server);
        parts.shown.push(stranger);
        parts.shown.sort_by(|(a, _), (b, _)| a.site().cmp(b.site()));
    };
    assert_eq!(share_with(&cohort, add).code(), "wrong_neighbours");
    let replace = |parts: &mut Parts, server: &ServerSession| {
        parts.shown.remove(3);
        add(parts, server);
    };
    assert_eq!(share_with(&cohort, replace).code(), "wrong_neighbours");
    // The notice of another site is not about this one.
    let other = |parts: &mut Parts, server: &ServerSession| {
        *parts = Parts::of(&server.notice_for(1).unwrap());
        parts.shown.retain(|(bundle, _)| bundle.site() != "site-00");
    };
    assert_eq!(share_with(&cohort, other).code(), "wrong_neighbours");
}

#[test]
fn a_bundle_or_a_path_that_is_not_in_the_agreed_list_is_found() {
    let cohort = sparse_cohort(N, 1, &WEAK);
    // Another valid bundle of the same neighbour: signed by it, for this plan, but not in the tree.
    let (_, others) = cohort.advertised(9);
    let rejected = share_with(&cohort, |parts, _| {
        let site = parts.shown[2].0.site().to_owned();
        parts.shown[2].0 = others.iter().find(|b| b.site() == site).unwrap().clone();
    });
    assert_eq!(rejected.code(), "bad_proof");
    // A bundle of another site under a neighbour's path, a path bent by one bit.
    let rejected = share_with(&cohort, |parts, _| {
        let path = parts.shown[2].1.clone();
        parts.shown[4].1 = path;
    });
    assert!(matches!(rejected, Rejection::BadProof { .. }), "{rejected}");
    let rejected = share_with(&cohort, |parts, _| parts.shown[5].1[0] ^= 1);
    assert_eq!(rejected.code(), "bad_proof");
    // A tree of the coordinator's own, over one neighbour's other bundle: who else sees the right
    // tree agrees on another digest, and shares do not go from one to the other.
    let (mut advertised, server) = fixed(&cohort, 1);
    let mut lied_to = ServerSession::new(cohort.plan.clone()).unwrap();
    let (_, honest) = cohort.advertised(1);
    for (i, bundle) in honest.into_iter().enumerate() {
        let bundle = if i == 39 { others[39].clone() } else { bundle };
        lied_to.add_bundle(bundle, &cohort.roster).unwrap();
    }
    let names: Vec<&str> = cohort.names.iter().map(String::as_str).collect();
    lied_to.fix_participants(&names, &cohort.roster).unwrap();
    let (key, roster) = (&cohort.keys[0], &cohort.roster);
    let notice = lied_to.notice_for(0).unwrap();
    let (_, shares) = advertised.remove(0).share(&notice, roster, 3, key, &mut rng(2)).unwrap();
    let mut server = server;
    assert_eq!(code(server.add_shares(shares)), "wrong_session");
}

#[test]
fn a_participant_that_the_roster_does_not_state_is_found_by_everybody() {
    let mut cohort = sparse_cohort(N, 1, &WEAK);
    let (advertised, server) = fixed(&cohort, 1);
    for absent in (1..N).step_by(6) {
        let identity = cohort.roster.remove(&cohort.names[absent]).unwrap();
        let notice = server.notice_for(0).unwrap();
        let state = Advertised::from_secret_bytes(&advertised[0].to_secret_bytes()).unwrap();
        let rejected = state.share(&notice, &cohort.roster, 3, &cohort.keys[0], &mut rng(2));
        let site = cohort.names[absent].clone();
        assert_eq!(rejected.err(), Some(Rejection::UnknownSite { site: site.clone() }));
        cohort.roster.insert(site, identity);
    }
    // One key under two names counts once, whoever's neighbours they are.
    cohort.roster.insert("site-38".into(), cohort.roster["site-39"]);
    let notice = server.notice_for(0).unwrap();
    let state = Advertised::from_secret_bytes(&advertised[0].to_secret_bytes()).unwrap();
    let rejected = state.share(&notice, &cohort.roster, 3, &cohort.keys[0], &mut rng(2));
    assert_eq!(rejected.err(), Some(Rejection::Duplicate { site: "site-39".into() }));
}

#[test]
fn parameters_that_are_too_weak_for_those_present_are_refused() {
    let strong = sparse_cohort(N, 1, &WEAK);
    let Topology::Sparse(sparse) = strong.plan.topology.clone() else { panic!("sparse") };
    let (degree, threshold) = parameters::semi_honest(N, &WEAK).unwrap();
    let weak = [
        Sparse { threshold: sparse.threshold - 1, ..sparse },
        Sparse { quorum: sparse.quorum - 1, ..sparse },
        Sparse { degree, threshold, ..sparse },
    ];
    for weak in weak {
        let cohort = Cohort {
            plan: SessionPlan { topology: Topology::Sparse(weak), ..strong.plan.clone() },
            ..sparse_cohort(N, 1, &WEAK)
        };
        // The coordinator would not; a lying one gets as far as the first site. It offers what an
        // honest one offers under the right plan, and the wrong plan to this site.
        let mut server = ServerSession::new(cohort.plan.clone()).unwrap();
        let (mut advertised, bundles) = cohort.advertised(1);
        for bundle in &bundles {
            server.add_bundle(bundle.clone(), &cohort.roster).unwrap();
        }
        let names: Vec<&str> = cohort.names.iter().map(String::as_str).collect();
        let refused = server.fix_participants(&names, &cohort.roster);
        assert_eq!(code(refused), "parameters_too_weak");
        let (_, right) = fixed(&strong, 1);
        let notice = right.notice_for(0).unwrap();
        let (key, roster) = (&cohort.keys[0], &cohort.roster);
        let shared = advertised.remove(0).share(&notice, roster, 3, key, &mut rng(1));
        assert_eq!(code(shared), "parameters_too_weak");
    }
    // Enough for forty, but only ten came.
    let mut server = ServerSession::new(strong.plan.clone()).unwrap();
    for bundle in strong.advertised(1).1 {
        server.add_bundle(bundle, &strong.roster).unwrap();
    }
    let names: Vec<&str> = strong.names[..10].iter().map(String::as_str).collect();
    assert_eq!(code(server.fix_participants(&names, &strong.roster)), "parameter_out_of_range");
}

/// Who is whose neighbour, as the notices say.
fn neighbours(server: &ServerSession, n: usize) -> Vec<Vec<usize>> {
    let index = |bundle: &Bundle| usize::from(server.index_of(bundle.site()).unwrap());
    (0..n)
        .map(|i| {
            let notice = server.notice_for(u16::try_from(i).unwrap()).unwrap();
            notice.bundles().iter().map(index).filter(|&other| other != i).collect()
        })
        .collect()
}

/// The order of the ring, from site 0 on: next to a site is whoever has most neighbours in common
/// with it.
fn ring(neighbours: &[Vec<usize>]) -> Vec<usize> {
    let common =
        |a: usize, b: usize| neighbours[a].iter().filter(|x| neighbours[b].contains(x)).count();
    let mut ring = vec![0];
    while ring.len() < neighbours.len() {
        let at = ring[ring.len() - 1];
        let left = neighbours[at].iter().filter(|x| !ring.contains(x));
        ring.push(*left.max_by_key(|&&x| common(at, x)).unwrap());
    }
    ring
}

#[test]
fn an_arc_of_the_ring_is_not_opened_alone() {
    let n = 80;
    let cohort = sparse_cohort(n, 1, &WEAK);
    let (mut masked, server) = cohort.masked(1, 0);
    let graph = neighbours(&server, n);
    let (ring, degree) = (ring(&graph), graph[0].len());
    let state = masked.remove(0).to_secret_bytes();
    let sign = |survivors: &[usize]| {
        let survivors: Vec<u16> = survivors.iter().map(|&i| u16::try_from(i).unwrap()).collect();
        Masked::from_secret_bytes(&state).unwrap().sign(&survivors, 3, &cohort.keys[0])
    };
    // Site 0 with all its neighbours and nobody else: its own neighbours are all there.
    let arc: Vec<usize> = graph[0].iter().copied().chain([0]).collect();
    assert_eq!(
        sign(&arc).err(),
        Some(Rejection::TooFew { what: "survivors on an arc of the graph", have: 0, need: 5 }),
    );
    // All but one arc as wide as a neighbourhood is to one side.
    let gap = &ring[30..30 + degree / 2];
    let rest: Vec<usize> = (0..n).filter(|i| !gap.contains(i)).collect();
    let rejected = sign(&rest).err().unwrap();
    assert!(
        matches!(rejected, Rejection::TooFew { what: "survivors on an arc of the graph", .. }),
        "{rejected}"
    );
    // Fewer than t of its neighbours, though many survive.
    let lonely: Vec<usize> = (0..n).filter(|i| !graph[0][..degree / 2].contains(i)).collect();
    assert!(matches!(
        sign(&lonely).err(),
        Some(Rejection::TooFew { what: "neighbours among the survivors", .. })
    ));
    let few_lost: Vec<usize> = (0..n).filter(|i| i % 9 != 4).collect();
    assert!(sign(&few_lost).is_ok());
}

#[test]
fn two_sets_of_survivors_do_not_both_find_a_quorum() {
    let cohort = sparse_cohort(N, 1, &WEAK);
    let (masked, server) = cohort.masked(1, 0);
    let (signers, quorum) = (server.signers(), server.signature_quorum());
    let sets: [Vec<u16>; 2] = [(0..40).collect(), (0..39).collect()];
    let bytes: Vec<_> = masked.iter().map(Masked::to_secret_bytes).collect();
    let sign = |i: u16, set: usize| {
        let state = Masked::from_secret_bytes(&bytes[usize::from(i)]).unwrap();
        state.sign(&sets[set], 3, &cohort.keys[usize::from(i)]).unwrap()
    };
    // As many colluders in the committee as the parameters exclude, less one, sign both sets; the
    // honest ones sign one each.
    let members: Vec<u16> = signers.iter().copied().filter(|&i| i != 39).collect();
    let colluders = 2 * quorum - signers.len() - 1;
    let (both, honest) = members.split_at(colluders);
    let enough = (0..=honest.len()).filter(|&first| {
        let of = |k: usize| both.len() + k;
        of(first) >= quorum && of(honest.len() - first) >= quorum
    });
    assert_eq!(enough.count(), 0);
    let first: Vec<SurvivorSignature> =
        both.iter().chain(&honest[..quorum - both.len()]).map(|&i| sign(i, 0).1.unwrap()).collect();
    let second: Vec<SurvivorSignature> =
        both.iter().chain(&honest[quorum - both.len()..]).map(|&i| sign(i, 1).1.unwrap()).collect();
    let (signed, _) = sign(1, 0);
    let state = signed.to_secret_bytes();
    let reveal = |signatures: &[SurvivorSignature]| {
        Signed::from_secret_bytes(&state).unwrap().reveal(signatures, &cohort.keys[1])
    };
    assert_eq!(code(reveal(&second)), "different_set");
    assert_eq!(code(reveal(&[&first[..quorum - 1], &second[..1]].concat())), "different_set");
    assert_eq!(code(reveal(&first[..quorum - 1])), "too_few");
    assert_eq!(code(reveal(&[&first[..quorum - 1], &first[..1]].concat())), "duplicate");
    let (revealed, sent) = reveal(&first).unwrap();
    let revealed = Revealed::from_secret_bytes(&revealed.to_secret_bytes()).unwrap();
    assert_eq!(revealed.reveal(&sets[0]).unwrap().to_bytes(), sent.to_bytes());
    assert_eq!(revealed.reveal(&sets[1]), Err(Rejection::DifferentSet));
    let signed = Signed::from_secret_bytes(&state).unwrap();
    assert_eq!(signed.signature(&sets[1]), Err(Rejection::DifferentSet));
}

#[test]
fn the_signature_of_one_who_is_not_asked_counts_nowhere() {
    let cohort = sparse_cohort(N, 1, &WEAK);
    let Unmasking { mut signed, mut server, signatures, .. } = cohort.signed(1, 0);
    let signers = server.signers();
    let outsider = (0..40).find(|i| !signers.contains(i)).unwrap();
    let mut bytes = signatures[0].to_bytes();
    bytes[69..71].copy_from_slice(&outsider.to_le_bytes());
    resign(&mut bytes, "koinon/2/sign/survivors", &cohort.keys[usize::from(outsider)]);
    let forged = SurvivorSignature::from_bytes(&bytes).unwrap();
    assert_eq!(code(server.add_signature(forged.clone())), "unknown_index");
    let with = [&signatures[1..], &[forged]].concat();
    let (mut stolen, key) = (signatures[0].to_bytes(), &cohort.keys[usize::from(outsider)]);
    resign(&mut stolen, "koinon/2/sign/survivors", key);
    let stolen = SurvivorSignature::from_bytes(&stolen).unwrap();
    let state = signed.remove(0);
    let bytes = state.to_secret_bytes();
    assert_eq!(code(state.reveal(&with, &cohort.keys[0])), "unknown_index");
    let state = Signed::from_secret_bytes(&bytes).unwrap();
    let with = [&signatures[1..], &[stolen]].concat();
    let who = cohort.names[usize::from(signatures[0].index())].clone();
    let what = "survivor signature";
    assert_eq!(
        state.reveal(&with, &cohort.keys[0]).err(),
        Some(Rejection::BadSignature { site: who, what })
    );
}

#[test]
fn a_reveal_has_room_for_one_share_of_each() {
    let cohort = sparse_cohort(N, 1, &WEAK);
    let Unmasking { mut signed, mut server, signatures, .. } = cohort.signed(1, 4);
    let (_, reveal) = signed.remove(0).reveal(&signatures, &cohort.keys[0]).unwrap();
    let degree = neighbours(&server, N)[0].len();
    let bytes = reveal.to_bytes();
    assert_eq!(bytes.len(), 37 + 32 + 2 + 2 + degree.div_ceil(8) + 32 * degree + 64);
    let longer = [&bytes[..], &bytes[80..112]].concat();
    assert_eq!(Reveal::from_bytes(&longer), Err(CodecError::Trailing(32)));
    // More peers than it has, or another set: not for this session.
    for at in [71, 40] {
        let mut other = bytes.clone();
        other[at] ^= 4;
        resign(&mut other, "koinon/2/sign/reveal", &cohort.keys[0]);
        if let Ok(other) = Reveal::from_bytes(&other) {
            assert_eq!(code(server.add_reveal(other)), "wrong_session");
        }
    }
}

#[test]
fn nothing_of_the_other_version_passes() {
    let (sparse, complete) = (sparse_cohort(N, 1, &WEAK), cohort(N, 1));
    let (mut advertised, mut server) = fixed(&sparse, 1);
    let (_, bundles) = complete.advertised(1);
    let mut fresh = ServerSession::new(sparse.plan.clone()).unwrap();
    assert_eq!(code(fresh.add_bundle(bundles[1].clone(), &sparse.roster)), "wrong_session");
    let mut other = ServerSession::new(complete.plan.clone()).unwrap();
    assert_eq!(
        code(other.add_bundle(sparse.advertised(1).1.swap_remove(1), &sparse.roster)),
        "wrong_session"
    );
    // A notice of version 1 for a plan of version 2: everybody would be a neighbour.
    let state = advertised.remove(0);
    let bytes = state.to_secret_bytes();
    let (key, roster) = (&sparse.keys[0], &sparse.roster);
    let (_, own) = sparse.advertised(1);
    assert_eq!(code(state.share(&own.into(), roster, 3, key, &mut rng(2))), "wrong_session");
    let state = Advertised::from_secret_bytes(&bytes).unwrap();
    assert_eq!(code(state.share(&bundles.into(), roster, 3, key, &mut rng(2))), "wrong_session");
    // The other version's shares, updates, signatures and reveals.
    let (_, shares, _) = complete.shared(1);
    assert_eq!(code(server.add_shares(shares[3].clone())), "wrong_session");
    let (mut shared, _, server) = sparse.shared(1);
    let (_, _, complete_server) = complete.shared(1);
    let mut inbox = sparse.inbox(&server, 0);
    let dealer = inbox[0].dealer();
    let foreign = complete.inbox(&complete_server, 0);
    inbox[0] = foreign.into_iter().find(|d| d.dealer() == dealer).unwrap();
    assert_eq!(code(shared.remove(0).receive(&inbox)), "wrong_session");
    let old = complete.signed(1, 0);
    let Unmasking { mut signed, mut server, .. } = sparse.signed(1, 0);
    let from = |i: u16| old.signatures.iter().find(|s| s.index() == i).cloned();
    let known: Vec<_> = server.signers().into_iter().filter_map(from).collect();
    assert_eq!(code(server.add_signature(known[0].clone())), "wrong_session");
    let state = signed.remove(0);
    assert_eq!(code(state.reveal(&known, &sparse.keys[0])), "wrong_session");
    let (_, reveal) = {
        let mut signed = old.signed;
        signed.remove(0).reveal(&old.signatures, &complete.keys[0]).unwrap()
    };
    assert_eq!(code(server.add_reveal(reveal)), "wrong_session");
    // The version's number is signed: changing it makes another message.
    let (_, shares, mut server) = sparse.shared(1);
    let mut bytes = shares[0].to_bytes();
    bytes[0] = 1;
    assert!(Shares::from_bytes(&bytes).is_err());
    let (mut keyed, _) = sparse.keyed(1);
    let (_, update) = sparse.mask(keyed.remove(0), 0);
    for version in [0, 1, 3] {
        let mut bytes = update.report.to_bytes();
        bytes[0] = version;
        match Report::from_bytes(&bytes) {
            Ok(report) => {
                let rejected = server.add_masked(report, &update.packed);
                assert_eq!((version, code(rejected)), (1, "wrong_session"));
            }
            Err(error) => assert_eq!(error, CodecError::Version(version.into())),
        }
    }
}

#[test]
fn a_bad_sealed_share_is_an_erasure_with_a_name() {
    let cohort = sparse_cohort(N, 1, &WEAK);
    let (shared, _, mut server) = cohort.shared(1);
    let mut masked = Vec::new();
    for (i, state) in shared.into_iter().enumerate() {
        let mut inbox = cohort.inbox(&server, i);
        let mut garbled = Vec::new();
        if i == 2 {
            // One bit of what is sealed; of another one, of its path.
            let paths = inbox[0].to_bytes().len() - 217 - 64;
            for (at, from_end) in [(1, paths + 5), (4, 7)] {
                let mut bytes = inbox[at].to_bytes();
                let len = bytes.len();
                bytes[len - from_end] ^= 1;
                inbox[at] = Delivery::from_bytes(&bytes).unwrap();
                garbled.push(cohort.names[usize::from(inbox[at].dealer())].clone());
            }
        }
        let (state, erasures) = state.receive(&inbox).unwrap();
        let named: Vec<String> = erasures.into_iter().map(|e| e.site).collect();
        assert_eq!(named, garbled);
        let (state, update) = cohort.mask(state, i);
        server.add_masked(update.report, &update.packed).unwrap();
        masked.push(Masked::from_secret_bytes(&state.to_secret_bytes()).unwrap());
    }
    let survivors = server.fix_survivors().unwrap();
    let mut signed = Vec::new();
    for (state, key) in masked.into_iter().zip(&cohort.keys) {
        let (state, signature) = state.sign(&survivors, 3, key).unwrap();
        signature.into_iter().for_each(|s| assert!(server.add_signature(s).is_ok()));
        signed.push(state);
    }
    let signatures = server.unmask_request().unwrap();
    for (state, key) in signed.into_iter().zip(&cohort.keys) {
        server.add_reveal(state.reveal(&signatures, key).unwrap().1).unwrap();
    }
    let all: Vec<usize> = (0..N).collect();
    assert_eq!(server.open().unwrap().0.values(), cohort.oracle(&all));
}

/// Of the holders of site 4's shares the first few lie, or withhold what they owe.
fn with_bad_holders(cohort: &Cohort, liars: usize, withhold: bool) -> Result<Vec<i64>, OpenError> {
    let Unmasking { signed, mut server, signatures, .. } = cohort.signed(1, 0);
    let graph = neighbours(&server, N);
    let bad = &graph[4][..liars];
    for (i, (state, key)) in signed.into_iter().zip(&cohort.keys).enumerate() {
        let (_, reveal) = state.reveal(&signatures, key).unwrap();
        if !bad.contains(&i) {
            assert_eq!(server.add_reveal(reveal).unwrap(), []);
        } else if !withhold {
            let mut bytes = reveal.to_bytes();
            let place = graph[i].iter().position(|&dealer| dealer == 4).unwrap();
            bytes[37 + 32 + 2 + 2 + graph[i].len().div_ceil(8) + 32 * place] ^= 1;
            resign(&mut bytes, "koinon/2/sign/reveal", key);
            let erasures = server.add_reveal(Reveal::from_bytes(&bytes).unwrap()).unwrap();
            assert_eq!(erasures.len(), 1);
            assert_eq!((erasures[0].dealer, &erasures[0].site), (4, &cohort.names[i]));
        }
    }
    server.open().map(|(sum, _)| sum.values().to_vec())
}

#[test]
fn false_and_withheld_shares_do_no_harm_up_to_k_minus_t() {
    let cohort = sparse_cohort(N, 1, &WEAK);
    let Topology::Sparse(Sparse { degree, threshold, .. }) = cohort.plan.topology else {
        panic!("sparse")
    };
    let harmless = usize::from(degree - threshold);
    let all: Vec<usize> = (0..N).collect();
    for withhold in [false, true] {
        let opened = with_bad_holders(&cohort, harmless, withhold);
        assert_eq!(opened, Ok(cohort.oracle(&all)));
        let error = with_bad_holders(&cohort, harmless + 1, withhold).unwrap_err();
        assert_eq!(error.code(), "too_few_shares");
        assert!(withhold || error.site() == Some("site-04"));
    }
}

#[test]
fn an_opened_session_has_given_everything_away() {
    let cohort = sparse_cohort(N, 1, &WEAK);
    let Unmasking { signed, mut server, signatures, .. } = cohort.signed(1, 2);
    for (state, key) in signed.into_iter().zip(&cohort.keys) {
        server.add_reveal(state.reveal(&signatures, key).unwrap().1).unwrap();
    }
    assert!(server.can_open());
    let (_, transcript) = server.open().unwrap();
    assert!(transcript.to_json().len() > 40 * 20 * 96);
    assert_eq!(server.open().map(|_| ()), Err(OpenError::OutOfTurn));
    assert_eq!(code(server.add_signature(signatures[0].clone())), "out_of_turn");
    assert_eq!(code(server.inbox_for(0)), "out_of_turn");
    assert!(!server.can_open());
}

#[test]
fn a_delivery_of_one_who_is_no_neighbour_is_refused() {
    let cohort = sparse_cohort(N, 1, &WEAK);
    let (mut shared, _, server) = cohort.shared(1);
    let graph = neighbours(&server, N);
    let stranger = (1..N).find(|i| !graph[0].contains(i)).unwrap();
    let foreign = cohort.inbox(&server, graph[stranger][0]);
    let foreign = foreign.into_iter().find(|d| usize::from(d.dealer()) == stranger).unwrap();
    let inbox = [cohort.inbox(&server, 0), vec![foreign]].concat();
    let bytes = shared[0].to_secret_bytes();
    assert_eq!(code(shared.remove(0).receive(&inbox)), "unknown_index");
    // Too few neighbours dealt for the secrets ever to be opened.
    let Topology::Sparse(Sparse { threshold, .. }) = cohort.plan.topology else { panic!("sparse") };
    let few = &inbox[..usize::from(threshold) - 1];
    assert_eq!(code(Shared::from_secret_bytes(&bytes).unwrap().receive(few)), "too_few");
}
