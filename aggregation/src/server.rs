//! The coordinator's side of a session: messages go in by step, one sum comes out.
//!
//! The steps are fixed one after the other: bundles → [`ServerSession::fix_participants`] → shares
//! → [`ServerSession::fix_dealers`] → masked updates → [`ServerSession::fix_survivors`] → survivor
//! signatures → [`ServerSession::unmask_request`] → reveals → [`ServerSession::open`]. Every
//! message is checked when it comes: signature, index, length, and that it belongs here. The same
//! message again is welcome and changes nothing; a different one from the same site is a rejection
//! with its name.
//!
//! The session is a function of the messages it accepted, in any order within a step: to survive a
//! crash, keep those bytes and give them again. Deliberately not here: deadlines, and who is asked.

mod cohort;
mod opening;
mod unmasking;

use std::collections::BTreeMap;

use cohort::Cohort;

use crate::client::{after_dealing, check_bundle};
use crate::error::Rejection;
use crate::hash::Digest;
use crate::indices::Indices;
use crate::merkle::Tree;
use crate::message::Agreed;
use crate::message::bundle::Bundle;
use crate::message::notice::Notice;
use crate::message::report::{Report, UpdateHasher};
use crate::message::reveal::Reveal;
use crate::message::shares::{Delivery, Shares};
use crate::message::survivors::{SetName, SurvivorSignature};
use crate::participants::Participant;
use crate::plain::is_plain;
use crate::plan::SessionPlan;
use crate::planted::{Weakness, weak};
use crate::ring::{add_packed, packed_bytes, subtract_packed};
use crate::signer::Members;
use crate::topology::narrow;
use crate::words::{PIECE_ENTRIES, Words};

/// A session as the coordinator sees it.
///
/// Beside the words of the sum it holds, for n participants with k holders of each one's shares,
/// some 170 bytes · n · k in version 2: what is sealed, the commitments with their tree, and the
/// shares that were revealed, each once.
pub struct ServerSession {
    plan: SessionPlan,
    /// The plan, as bundles are bound to it.
    offered: Agreed,
    step: Step,
    /// Of those who have offered to take part, before the participants are fixed.
    bundles: BTreeMap<String, (Bundle, Participant)>,
    cohort: Option<Cohort>,
    shares: BTreeMap<usize, Dealt>,
    dealers: Indices,
    /// What reports, survivor signatures and reveals are bound to.
    agreed: Agreed,
    reports: BTreeMap<usize, Report>,
    /// The sum of the masked updates so far, modulo 2^bits.
    words: Words,
    survivors: Indices,
    survivors_name: Option<SetName>,
    signatures: BTreeMap<usize, SurvivorSignature>,
    reveals: BTreeMap<usize, Reveal>,
    /// By dealer: whose shares of its secret opened their commitment, as places among its holders.
    good: Vec<Vec<u16>>,
    /// How many dealers have fewer good shares than are needed.
    n_short: usize,
}

/// What one dealer handed out.
struct Dealt {
    shares: Shares,
    tree: Option<Tree>,
    digest: Digest,
    /// The signed part's canonical bytes: every delivery begins with them.
    head: Vec<u8>,
}

/// Which step a session is at: what it takes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Step {
    /// Key bundles.
    Advertising,
    /// Dealers' shares.
    Sharing,
    /// Masked updates.
    Reporting,
    /// Survivor signatures, and reveals once there is a quorum.
    Unmasking,
    /// Nothing more: the sum was opened, and everything else given away with it.
    Opened,
}

impl ServerSession {
    /// A session that nobody has entered yet.
    ///
    /// # Errors
    /// [`Rejection::Plan`] if the plan's parts do not fit together.
    pub fn new(plan: SessionPlan) -> Result<Self, Rejection> {
        plan.check()?;
        let words = Words::zero(plan.encoding.entries(), plan.encoding.bits());
        let offered = plan.agreed();
        Ok(Self {
            plan,
            offered,
            step: Step::Advertising,
            bundles: BTreeMap::new(),
            cohort: None,
            shares: BTreeMap::new(),
            dealers: Indices::default(),
            agreed: offered,
            reports: BTreeMap::new(),
            words,
            survivors: Indices::default(),
            survivors_name: None,
            signatures: BTreeMap::new(),
            reveals: BTreeMap::new(),
            good: Vec::new(),
            n_short: 0,
        })
    }

    /// The session's plan.
    #[must_use]
    pub fn plan(&self) -> &SessionPlan {
        &self.plan
    }

    /// What the session takes now.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// Takes a site's key bundle.
    ///
    /// # Errors
    /// A [`Rejection`] if the bundle is not a member's, not for this plan, or a second, different
    /// one.
    pub fn add_bundle(&mut self, bundle: Bundle, members: &dyn Members) -> Result<(), Rejection> {
        let site = check_bundle(&self.offered, &bundle, members)?;
        if let Some(known) = self.bundle(bundle.site()) {
            return same(known, &bundle, bundle.site(), "bundle");
        }
        self.at(Step::Advertising, "bundle")?;
        self.bundles.insert(site.name.clone(), (bundle, site));
        Ok(())
    }

    fn bundle(&self, site: &str) -> Option<&Bundle> {
        match &self.cohort {
            None => self.bundles.get(site).map(|(bundle, _)| bundle),
            Some(cohort) => cohort.bundles.get(cohort.participants.index_of(site)?),
        }
    }

    /// The sites whose bundles have come, in order.
    pub fn advertised(&self) -> impl Iterator<Item = &str> {
        self.bundles.keys().map(String::as_str).chain(self.participants())
    }

    /// Ends advertising: those of `sites` take part. Their indices are their places in the ascending
    /// order of names.
    ///
    /// # Errors
    /// A [`Rejection`] if a site has no bundle, or they are fewer than `n_min` or more than
    /// `n_max`, or the plan's graph is too weak for so many.
    pub fn fix_participants(
        &mut self,
        sites: &[&str],
        members: &dyn Members,
    ) -> Result<(), Rejection> {
        self.at(Step::Advertising, "list of participants")?;
        let mut sites = sites.to_vec();
        sites.sort_unstable();
        let known = sites.iter().map(|&name| {
            let unknown = || Rejection::UnknownSite { site: name.to_owned() };
            let (bundle, site) = self.bundles.get(name).ok_or_else(unknown)?;
            // The bundle was verified when it came; whose key that was must not have changed.
            if members.key_of(name) != Some(site.identity) {
                return Err(unknown());
            }
            Ok((bundle.clone(), site.clone()))
        });
        let known = known.collect::<Result<Vec<_>, Rejection>>()?;
        let cohort = Cohort::new(&self.plan, known.into_iter().unzip())?;
        self.agreed = cohort.agreed;
        self.cohort = Some(cohort);
        self.bundles.clear();
        self.step = Step::Sharing;
        Ok(())
    }

    /// What the participant `index` is told, for
    /// [`Advertised::share`](crate::client::Advertised::share).
    ///
    /// # Errors
    /// A [`Rejection`] before the participants are fixed, and for anyone who is none.
    pub fn notice_for(&self, index: u16) -> Result<Notice, Rejection> {
        let what = "request for the participants";
        self.participant(index, what)?;
        self.cohort(what).map(|cohort| cohort.notice(usize::from(index)))
    }

    /// The canonical bytes of [`ServerSession::notice_for`], made in one go.
    ///
    /// # Errors
    /// As [`ServerSession::notice_for`].
    pub fn notice_bytes_for(&self, index: u16) -> Result<Vec<u8>, Rejection> {
        let what = "request for the participants";
        self.participant(index, what)?;
        self.cohort(what).map(|cohort| cohort.notice_bytes(usize::from(index)))
    }

    /// The participants' names by index; none before they are fixed.
    pub fn participants(&self) -> impl Iterator<Item = &str> {
        self.cohort.iter().flat_map(|cohort| cohort.participants.iter()).map(|p| &p.name[..])
    }

    /// The index of a participant.
    #[must_use]
    pub fn index_of(&self, site: &str) -> Option<u16> {
        self.cohort.as_ref()?.participants.index_of(site).map(narrow)
    }

    /// How many good shares open a secret; 0 before the participants are fixed.
    #[must_use]
    pub fn threshold(&self) -> usize {
        self.cohort.as_ref().map_or(0, |cohort| cohort.rules().threshold)
    }

    /// The participants whose survivor signatures count, by index; none before they are fixed.
    #[must_use]
    pub fn signers(&self) -> Vec<u16> {
        self.cohort.as_ref().map_or_else(Vec::new, |cohort| cohort.rules().signers.to_vec())
    }

    /// How many of the signers must sign a set of survivors; 0 before participants are fixed.
    #[must_use]
    pub fn signature_quorum(&self) -> usize {
        self.cohort.as_ref().map_or(0, |cohort| cohort.rules().quorum)
    }

    /// Takes a dealer's shares.
    ///
    /// # Errors
    /// A [`Rejection`] if they are not signed by that participant for these participants, or are
    /// second and different ones.
    pub fn add_shares(&mut self, shares: Shares) -> Result<(), Rejection> {
        let what = "shares";
        let dealer = self.participant(shares.dealer(), what)?;
        let index = usize::from(shares.dealer());
        let (site, cohort) = (|| dealer.name.clone(), self.cohort(what)?);
        let dealing = &shares.dealing;
        let same_size = dealing.commitments.holders() == cohort.holders(index).len();
        if dealing.agreed != cohort.agreed || !same_size {
            return Err(Rejection::WrongSession { site: site(), what });
        }
        let tree = shares.tree();
        if !shares.is_signed_by(&dealer.identity, tree.as_ref()) {
            return Err(Rejection::BadSignature { site: site(), what });
        }
        if let Some(known) = self.shares.get(&index) {
            return same(&known.shares, &shares, &dealer.name, what);
        }
        self.at(Step::Sharing, what)?;
        let (digest, head) = (dealing.digest(), dealing.to_bytes());
        self.shares.insert(index, Dealt { shares, tree, digest, head });
        Ok(())
    }

    /// The participants whose shares have come.
    #[must_use]
    pub fn dealt(&self) -> Vec<u16> {
        self.shares.keys().map(|&index| narrow(index)).collect()
    }

    /// Ends sharing: those who dealt are the dealers, and each of them can have its inbox.
    ///
    /// # Errors
    /// [`Rejection::TooFew`] if fewer than the threshold or `n_min` dealt; sharing goes on.
    pub fn fix_dealers(&mut self) -> Result<Vec<u16>, Rejection> {
        let what = "list of dealers";
        self.at(Step::Sharing, what)?;
        self.dealers = match is_plain(&self.plan) {
            true => (0..self.cohort(what)?.len()).collect(),
            false => self.shares.keys().copied().collect(),
        };
        self.check_floor("dealers", self.dealers.len())?;
        let dealings = self.shares.values().map(|dealt| &dealt.digest);
        self.agreed = after_dealing(&self.cohort(what)?.agreed, &self.dealers, dealings);
        self.step = Step::Reporting;
        Ok(self.dealers.to_vec())
    }

    /// What the dealer `index` receives of those whose shares it holds, for
    /// [`Shared::receive`](crate::client::Shared::receive).
    ///
    /// # Errors
    /// A [`Rejection`] before the dealers are fixed, and for anyone who is not a dealer.
    pub fn inbox_for(&self, index: u16) -> Result<Vec<Delivery>, Rejection> {
        self.inbox(index, |dealt, place| dealt.shares.delivery(place, dealt.tree.as_ref()))
    }

    /// The canonical bytes of each delivery of [`ServerSession::inbox_for`], each made in one go.
    ///
    /// # Errors
    /// As [`ServerSession::inbox_for`].
    pub fn inbox_bytes_for(&self, index: u16) -> Result<Vec<Vec<u8>>, Rejection> {
        self.inbox(index, |Dealt { shares, tree, head, .. }, place| {
            shares.delivery_bytes(place, tree.as_ref(), head)
        })
    }

    fn inbox<D>(
        &self,
        index: u16,
        delivery: impl Fn(&Dealt, usize) -> Option<D>,
    ) -> Result<Vec<D>, Rejection> {
        let what = "request for shares";
        if !matches!(self.step, Step::Reporting | Step::Unmasking) {
            return Err(Rejection::OutOfTurn { what });
        }
        let (receiver, cohort) = (usize::from(index), self.cohort(what)?);
        if !self.dealers.contains(receiver) {
            return Err(Rejection::UnknownIndex { index, what });
        }
        let dealers = cohort.holders(receiver).iter().map(|&dealer| usize::from(dealer));
        let of =
            |dealer: usize| delivery(self.shares.get(&dealer)?, cohort.place(dealer, receiver)?);
        Ok(dealers.filter_map(of).collect())
    }

    /// Adds a masked update to the sum.
    ///
    /// # Errors
    /// A [`Rejection`] if the report is not signed by a dealer for these dealers, the packed bytes
    /// are not the reported ones or not as long as planned, or the site reported something else
    /// before.
    pub fn add_masked(&mut self, report: Report, packed: &[u8]) -> Result<(), Rejection> {
        let what = "masked update";
        let reporter = self.participant(report.index(), what)?;
        let site = || reporter.name.clone();
        let index = usize::from(report.index());
        if self.step < Step::Reporting {
            return Err(Rejection::OutOfTurn { what });
        }
        if !self.dealers.contains(index) {
            return Err(Rejection::UnknownIndex { index: report.index(), what });
        }
        let plain = is_plain(&self.plan);
        if report.agreed != self.agreed && !plain && !weak(Weakness::AnyReport) {
            return Err(Rejection::WrongSession { site: site(), what });
        }
        if !report.claim(&reporter.identity).holds() {
            return Err(Rejection::BadSignature { site: site(), what });
        }
        if let Some(known) = self.reports.get(&index) {
            return same(&known.update, &report.update, &reporter.name, what);
        }
        self.at(Step::Reporting, what)?;
        let wrong = Rejection::WrongUpdate { site: site() };
        if !self.add_words(&report, packed) {
            return Err(wrong);
        }
        self.reports.insert(index, report);
        Ok(())
    }

    /// Adds packed words to the sum if they are the reported ones, and says so. A piece is added
    /// and hashed while it is in the cache: bytes that turn out to be others are taken off again.
    fn add_words(&mut self, report: &Report, packed: &[u8]) -> bool {
        let bits = self.plan.encoding.bits();
        if packed.len() != packed_bytes(self.words.len(), bits) {
            return false;
        }
        let pieces = || packed.chunks(PIECE_ENTRIES / 8 * usize::from(bits));
        let firsts = || (0..).step_by(PIECE_ENTRIES);
        let mut hasher = UpdateHasher::new(self.agreed.version);
        let mut n_added = 0;
        for (first, piece) in firsts().zip(pieces()) {
            // Adding reads straight on, which memory is fastest at; hashing reads here and there.
            if add_packed(&mut self.words, first, piece, bits).is_none() {
                break;
            }
            hasher.update(piece);
            n_added += 1;
        }
        let whole = n_added == pieces().len();
        if whole && (hasher.finish() == report.update || weak(Weakness::AnyUpdate)) {
            return true;
        }
        for (first, piece) in firsts().zip(pieces()).take(n_added) {
            subtract_packed(&mut self.words, first, piece, bits)
                .expect("what was added can be subtracted");
        }
        false
    }

    /// The participants whose updates are in the sum.
    #[must_use]
    pub fn reported(&self) -> Vec<u16> {
        self.reports.keys().map(|&index| narrow(index)).collect()
    }

    /// Ends reporting: those whose updates are in the sum are the survivors.
    ///
    /// # Errors
    /// [`Rejection::TooFew`] if fewer than the threshold or `n_min` reported, or in a sparse session
    /// too few on some arc of the graph; reporting goes on.
    pub fn fix_survivors(&mut self) -> Result<Vec<u16>, Rejection> {
        let what = "set of survivors";
        self.at(Step::Reporting, what)?;
        self.check_floor("survivors", self.reports.len())?;
        let survivors: Indices = self.reports.keys().copied().collect();
        let cohort = self.cohort(what)?;
        cohort.check_arcs(&survivors)?;
        let n = cohort.len();
        self.survivors_name = Some(SetName::of(&self.agreed, &survivors, n));
        self.survivors = survivors;
        self.good = vec![Vec::new(); n];
        self.n_short = if is_plain(&self.plan) { 0 } else { self.dealers.len() };
        self.step = Step::Unmasking;
        Ok(self.survivors.to_vec())
    }

    fn at(&self, step: Step, what: &'static str) -> Result<(), Rejection> {
        if self.step == step { Ok(()) } else { Err(Rejection::OutOfTurn { what }) }
    }

    fn cohort(&self, what: &'static str) -> Result<&Cohort, Rejection> {
        self.cohort.as_ref().ok_or(Rejection::OutOfTurn { what })
    }

    fn participant(&self, index: u16, what: &'static str) -> Result<&Participant, Rejection> {
        let cohort = self.cohort(what)?;
        if usize::from(index) >= cohort.len() {
            return Err(Rejection::UnknownIndex { index, what });
        }
        Ok(cohort.get(usize::from(index)))
    }

    fn check_floor(&self, what: &'static str, have: usize) -> Result<(), Rejection> {
        let need = self.threshold().max(usize::from(self.plan.n_min));
        if have < need { Err(Rejection::TooFew { what, have, need }) } else { Ok(()) }
    }
}

/// A message that came before may come again; another one in its place is equivocation.
fn same<T: PartialEq>(known: &T, new: &T, site: &str, what: &'static str) -> Result<(), Rejection> {
    if known == new { Ok(()) } else { Err(Rejection::Equivocation { site: site.into(), what }) }
}
