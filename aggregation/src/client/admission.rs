//! Who takes part: bundles and notices are checked against plan and roster, by the coordinator and
//! by every site, before anything is shared.

use std::collections::BTreeSet;

use super::session::Session;
use crate::agree;
use crate::error::Rejection;
use crate::hash::Digest;
use crate::indices::Indices;
use crate::merkle::root_from;
use crate::message::Agreed;
use crate::message::bundle::Bundle;
use crate::message::notice::{Notice, Rest};
use crate::participants::{
    PARTICIPANTS_MIN, Participant, Participants, PublicKeys, names_digest, participant_leaf,
    sparse_digest,
};
use crate::plan::SessionPlan;
use crate::planted::{Weakness, weak};
use crate::signer::{Claim, Members, first_false};
use crate::topology::{Scheme, Version, arc_min};

/// The participants that these bundles are of: in order, all different, each one the roster's and
/// for this plan.
fn check_bundles(
    plan: &SessionPlan,
    bundles: &[Bundle],
    members: &dyn Members,
) -> Result<Vec<Participant>, Rejection> {
    let agreed = plan.agreed();
    let mut different = Different::default();
    let (mut sites, mut claims) = (Vec::new(), Vec::new());
    for bundle in bundles {
        let (site, claim) = look(&agreed, bundle, members)?;
        different.add(&site)?;
        sites.push(site);
        claims.push(claim);
    }
    check_signatures(bundles, &claims)?;
    Ok(sites)
}

/// Refuses participants, each of them checked, that are too few, too many, out of order or not all
/// different.
pub(crate) fn check_different(plan: &SessionPlan, sites: &[Participant]) -> Result<(), Rejection> {
    check_size(plan, sites.len(), usize::from(plan.n_min).max(PARTICIPANTS_MIN))?;
    let mut different = Different::default();
    sites.iter().try_for_each(|site| different.add(site))
}

/// The participant that one bundle is of.
pub(crate) fn check_bundle(
    agreed: &Agreed,
    bundle: &Bundle,
    members: &dyn Members,
) -> Result<Participant, Rejection> {
    let (site, claim) = look(agreed, bundle, members)?;
    check_signatures(std::slice::from_ref(bundle), &[claim])?;
    Ok(site)
}

/// What a site takes part in, if it is told the truth: `need` is the fewest participants, `own` the
/// bundle that it offered.
pub(super) fn admit(
    plan: SessionPlan,
    notice: &Notice,
    own: &Bundle,
    members: &dyn Members,
    floor: u16,
) -> Result<Session, Rejection> {
    let need = usize::from(floor).max(usize::from(plan.n_min)).max(PARTICIPANTS_MIN);
    check_size(&plan, notice.n(), need)?;
    let missing = || Rejection::NotIncluded { what: "participants" };
    let arc_min = match arc_min(&plan.topology, notice.n()) {
        Err(_) if weak(Weakness::AnyGraph) => 0,
        found => found?,
    };
    let agreed = plan.agreed();
    let (participants, seat) = match &notice.rest {
        None if agreed.version == Version::Complete => {
            let sites = check_bundles(&plan, notice.bundles(), members)?;
            let participants = Participants::complete(&agreed.digest, sites);
            let me = participants.index_of(own.site()).ok_or_else(missing)?;
            let scheme = Scheme::new(&plan.topology, participants.digest(), participants.len())?;
            (participants, scheme.seat(me))
        }
        Some(rest) if agreed.version == Version::Sparse => {
            let (participants, scheme) = check_notice(&plan, notice.bundles(), rest, members)?;
            let me = rest.index_of(own.site()).ok_or_else(missing)?;
            let seat = scheme.seat(me);
            check_neighbours(rest, notice.bundles(), me, &seat.peers)?;
            let known = known(participants, &seat.rules.signers);
            (known, seat)
        }
        _ => {
            let site = own.site().to_owned();
            return Err(Rejection::WrongSession { site, what: "notice" });
        }
    };
    if !notice.bundles().contains(own) {
        return Err(missing());
    }
    Ok(Session { plan, participants, seat, floor: usize::from(floor), arc_min })
}

/// All participants that a notice of version 2 tells of, with keys where it shows them, and what
/// follows for them.
fn check_notice(
    plan: &SessionPlan,
    bundles: &[Bundle],
    rest: &Rest,
    members: &dyn Members,
) -> Result<(Participants, Scheme), Rejection> {
    let mut sites: Vec<Participant> = Vec::with_capacity(rest.names.len());
    let mut identities = Different::default();
    for name in rest.names.iter() {
        let unknown = || Rejection::UnknownSite { site: name.clone() };
        let identity = members.key_of(name).ok_or_else(unknown)?;
        let site = Participant { name: name.clone(), identity, keys: None };
        identities.add(&site)?;
        sites.push(site);
    }
    let agreed = plan.agreed();
    let mut keys = Different::default();
    let (mut root, mut claims) = (None, Vec::with_capacity(bundles.len()));
    for (bundle, path) in bundles.iter().zip(&rest.paths) {
        let bad = || Rejection::BadProof { site: bundle.site().to_owned() };
        let (site, claim) = look(&agreed, bundle, members)?;
        keys.add(&site)?;
        claims.push(claim);
        let index = rest.index_of(bundle.site()).ok_or_else(bad)?;
        let leaf = participant_leaf(&site.name, &site.identity, &bundle.keys);
        let reached = root_from(&leaf, index, sites.len(), path).ok_or_else(bad)?;
        if *root.get_or_insert(reached) != reached && !weak(Weakness::UnprovenNeighbour) {
            return Err(bad());
        }
        sites[index] = site;
    }
    check_signatures(bundles, &claims)?;
    let root = root.ok_or(Rejection::NotIncluded { what: "participants" })?;
    let names = names_digest(sites.iter().map(|site| (&site.name[..], &site.identity)));
    let digest = sparse_digest(&agreed.digest, sites.len(), &names, &root);
    let scheme = Scheme::new(&plan.topology, &digest, sites.len())?;
    Ok((Participants::all(digest, sites), scheme))
}

/// Refuses bundles that are not exactly those of a participant and its neighbours.
fn check_neighbours(
    rest: &Rest,
    bundles: &[Bundle],
    me: usize,
    peers: &[u16],
) -> Result<(), Rejection> {
    let name = |index: usize| rest.names[index].clone();
    let shown: BTreeSet<usize> =
        bundles.iter().filter_map(|bundle| rest.index_of(bundle.site())).collect();
    let wanted: BTreeSet<usize> = peers.iter().map(|&peer| usize::from(peer)).chain([me]).collect();
    if let Some(&index) = wanted.difference(&shown).next() {
        return Err(Rejection::WrongNeighbours { site: name(index), what: "missing" });
    }
    if let Some(&index) = shown.difference(&wanted).next() {
        return Err(Rejection::WrongNeighbours { site: name(index), what: "not one of them" });
    }
    Ok(())
}

/// Keeps those with whom there is something to share, and those whose signatures count.
fn known(all: Participants, signers: &Indices) -> Participants {
    let (n, digest) = (all.len(), *all.digest());
    let known = (0..)
        .zip(all.into_sites())
        .filter(|(index, site)| site.keys.is_some() || signers.contains(usize::from(*index)));
    Participants::some(n, digest, known.collect())
}

fn check_size(plan: &SessionPlan, have: usize, need: usize) -> Result<(), Rejection> {
    let what = "participants";
    if have < need && !weak(Weakness::NoFloor) {
        return Err(Rejection::TooFew { what, have, need });
    }
    let max = usize::try_from(plan.encoding.n_max()).unwrap_or(usize::MAX);
    if have > max {
        return Err(Rejection::TooMany { what, have, max });
    }
    Ok(())
}

/// Everything about a bundle but its signature.
fn look(
    agreed: &Agreed,
    bundle: &Bundle,
    members: &dyn Members,
) -> Result<(Participant, Claim), Rejection> {
    let name = bundle.site().to_owned();
    if bundle.agreed != *agreed && !weak(Weakness::AnySession) {
        return Err(Rejection::WrongSession { site: name, what: "bundle" });
    }
    let Some(identity) = members.key_of(&name) else {
        return Err(Rejection::UnknownSite { site: name });
    };
    let PublicKeys { channel, mask } = &bundle.keys;
    if !agree::is_usable(channel) || !agree::is_usable(mask) {
        return Err(Rejection::BadKey { site: name });
    }
    Ok((Participant { name, identity, keys: Some(bundle.keys) }, bundle.claim(&identity)))
}

fn check_signatures(bundles: &[Bundle], claims: &[Claim]) -> Result<(), Rejection> {
    match first_false(claims) {
        Some(at) if !weak(Weakness::UnsignedBundle) => {
            let site = bundles[at].site().to_owned();
            Err(Rejection::BadSignature { site, what: "bundle" })
        }
        _ => Ok(()),
    }
}

/// Names in order, and all keys different: one site must not count twice.
#[derive(Default)]
struct Different {
    last: String,
    identities: BTreeSet<[u8; 32]>,
    keys: [BTreeSet<[u8; 32]>; 2],
}

impl Different {
    fn add(&mut self, site: &Participant) -> Result<(), Rejection> {
        if self.last > site.name {
            return Err(Rejection::Order { site: site.name.clone() });
        }
        let mut new = self.last != site.name && self.identities.insert(site.identity);
        if let Some(PublicKeys { channel, mask }) = &site.keys {
            new &= self.keys[0].insert(*channel) & self.keys[1].insert(*mask);
        }
        if !new && !weak(Weakness::SharedKey) {
            return Err(Rejection::Duplicate { site: site.name.clone() });
        }
        self.last.clone_from(&site.name);
        Ok(())
    }
}

/// The digest that participants of a sparse session, all known with their keys, have; with their
/// leaves.
pub(crate) fn sparse_participants(
    plan: &Digest,
    sites: &[Participant],
    root: impl FnOnce(&[Digest]) -> Digest,
) -> Digest {
    let leaves: Vec<Digest> = sites
        .iter()
        .map(|Participant { name, identity, keys }| {
            let keys = keys.as_ref().expect("the coordinator has every participant's bundle");
            participant_leaf(name, identity, keys)
        })
        .collect();
    let names = names_digest(sites.iter().map(|site| (&site.name[..], &site.identity)));
    sparse_digest(plan, sites.len(), &names, &root(&leaves))
}
