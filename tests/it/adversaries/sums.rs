//! The stage for attacks on the sum itself: the private sum's own states, as the client and the
//! coordinator drive them.
//!
//! The cohort of the private sum's own tests.

#[expect(dead_code, reason = "the private sum's own tests use the rest")]
#[path = "../../../aggregation/tests/aggregation/support.rs"]
mod support;

use koinon_aggregation::client::{Masked, Shared, advertise};
use koinon_aggregation::{
    Clipped, Encoded, EncodingPlan, Field, MaskedUpdate, OpenError, ServerSession, SessionPlan,
    Sum, UPDATE, Values,
};

pub(crate) use support::{Cohort, Unmasking, WEAK, cohort, resign, rng, sparse_cohort};

/// A plan of one field, the update.
pub(crate) fn one_field(len: usize, n: usize, w_max: u32) -> EncodingPlan {
    let update = Field { name: UPDATE.into(), len, bound: 1.0, frac_bits: 12, weighted: true };
    EncodingPlan::new(vec![update], None, u32::try_from(n).unwrap(), w_max).unwrap()
}

/// A session up to the dealers, of whom one may deal otherwise than with `None`.
pub(crate) fn dealt(
    cohort: &Cohort,
    plan: &SessionPlan,
    seed: u64,
    otherwise: Option<u16>,
) -> (Vec<Shared>, ServerSession) {
    let mut bundles = rng(seed);
    let mut server = ServerSession::new(plan.clone()).unwrap();
    let mut sites = Vec::new();
    for (name, key) in cohort.names.iter().zip(&cohort.keys) {
        let (site, bundle) = advertise(plan.clone(), name, key, &mut bundles).unwrap();
        server.add_bundle(bundle, &cohort.roster).unwrap();
        sites.push(site);
    }
    let names: Vec<&str> = cohort.names.iter().map(String::as_str).collect();
    server.fix_participants(&names, &cohort.roster).unwrap();
    let mut shared = Vec::new();
    for (index, (site, key)) in (0..).zip(sites.into_iter().zip(&cohort.keys)) {
        let notice = server.notice_for(index).unwrap();
        let other = if otherwise == Some(index) { 1_000 } else { 0 };
        let mut rng = rng(seed + 1 + u64::from(index) + other);
        let (site, shares) = site.share(&notice, &cohort.roster, 3, key, &mut rng).unwrap();
        server.add_shares(shares).unwrap();
        shared.push(site);
    }
    server.fix_dealers().unwrap();
    (shared, server)
}

/// What each site puts in, and what a liar makes of what it sends.
pub(crate) struct Inputs<'a> {
    pub(crate) values: &'a dyn Fn(usize) -> Values,
    pub(crate) lie: &'a dyn Fn(usize, &mut MaskedUpdate),
}

impl<'a> Inputs<'a> {
    pub(crate) fn honest(values: &'a dyn Fn(usize) -> Values) -> Self {
        Self { values, lie: &|_, _| {} }
    }
}

/// A whole session of a plan of one field, in which the last `n_lost` are lost after they dealt.
pub(crate) fn opened(
    cohort: &Cohort,
    encoding: EncodingPlan,
    seed: u64,
    n_lost: usize,
    inputs: &Inputs<'_>,
) -> Result<Sum, OpenError> {
    let plan = SessionPlan { encoding, ..cohort.plan.clone() };
    let (shared, mut server) = dealt(cohort, &plan, seed, None);
    let mut rng = rng(seed + 1);
    let n_left = cohort.n() - n_lost;
    let mut masked: Vec<Masked> = Vec::new();
    for (index, (site, key)) in shared.into_iter().zip(&cohort.keys).take(n_left).enumerate() {
        let inbox = server.inbox_for(u16::try_from(index).unwrap()).unwrap();
        let (site, _) = site.receive(&inbox).unwrap();
        let clipped = Clipped::new(&plan.encoding, vec![(inputs.values)(index)], 1).unwrap();
        let (site, mut update) = site.mask(Encoded::new(clipped, &mut rng), key).unwrap();
        (inputs.lie)(index, &mut update);
        server.add_masked(update.report, &update.packed).unwrap();
        masked.push(site);
    }
    let survivors = server.fix_survivors().unwrap();
    let mut signed = Vec::new();
    for (site, key) in masked.into_iter().zip(&cohort.keys) {
        let (site, signature) = site.sign(&survivors, 3, key).unwrap();
        server.add_signature(signature.unwrap()).unwrap();
        signed.push(site);
    }
    let request = server.unmask_request().unwrap();
    for (site, key) in signed.into_iter().zip(&cohort.keys) {
        server.add_reveal(site.reveal(&request, key).unwrap().1).unwrap();
    }
    server.open().map(|(sum, _)| sum)
}
