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

mod opening;

use std::collections::BTreeMap;

use crate::client::{check_bundle, check_bundles, dealers_digest};
use crate::error::{Erasure, Rejection};
use crate::hash::Digest;
use crate::indices::Indices;
use crate::message::bundle::Bundle;
use crate::message::notice::Notice;
use crate::message::report::{Report, update_digest};
use crate::message::reveal::Reveal;
use crate::message::shares::{Delivery, Place, Shares, Shown};
use crate::message::survivors::SurvivorSignature;
use crate::participants::{Participant, Participants};
use crate::plan::{SessionPlan, threshold};
use crate::planted::{Weakness, weak};
use crate::ring::{add_packed, packed_bytes};
use crate::signer::Members;
use crate::words::Words;

/// A session as the coordinator sees it.
pub struct ServerSession {
    plan: SessionPlan,
    plan_digest: Digest,
    step: Step,
    bundles: BTreeMap<String, Bundle>,
    participants: Option<Participants>,
    shares: BTreeMap<usize, Shares>,
    dealers: Indices,
    digest: Digest,
    reports: BTreeMap<usize, Report>,
    /// The sum of the masked updates so far, modulo 2^bits.
    words: Words,
    survivors: Indices,
    signatures: BTreeMap<usize, SurvivorSignature>,
    reveals: BTreeMap<usize, Reveal>,
    /// By dealer, then by who revealed it: shares that opened their commitment.
    shown: Vec<BTreeMap<usize, Shown>>,
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
}

impl ServerSession {
    /// A session that nobody has entered yet.
    ///
    /// # Errors
    /// [`Rejection::Plan`] if the plan's parts do not fit together.
    pub fn new(plan: SessionPlan) -> Result<Self, Rejection> {
        plan.check()?;
        let words = Words::zero(plan.encoding.entries(), plan.encoding.bits());
        Ok(Self {
            plan_digest: plan.digest(),
            plan,
            step: Step::Advertising,
            bundles: BTreeMap::new(),
            participants: None,
            shares: BTreeMap::new(),
            dealers: Indices::default(),
            digest: [0; 32],
            reports: BTreeMap::new(),
            words,
            survivors: Indices::default(),
            signatures: BTreeMap::new(),
            reveals: BTreeMap::new(),
            shown: Vec::new(),
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
        check_bundle(&self.plan_digest, &bundle, members)?;
        if let Some(known) = self.bundles.get(bundle.site()) {
            return same(known, &bundle, bundle.site(), "bundle");
        }
        self.at(Step::Advertising, "bundle")?;
        self.bundles.insert(bundle.site().to_owned(), bundle);
        Ok(())
    }

    /// The sites whose bundles have come, in order.
    pub fn advertised(&self) -> impl Iterator<Item = &str> {
        self.bundles.keys().map(String::as_str)
    }

    /// Ends advertising: those of `sites` take part. Their indices are their places in the ascending
    /// order of names.
    ///
    /// # Errors
    /// A [`Rejection`] if a site has no bundle, or they are fewer than `n_min` or more than
    /// `n_max`.
    pub fn fix_participants(
        &mut self,
        sites: &[&str],
        members: &dyn Members,
    ) -> Result<(), Rejection> {
        self.at(Step::Advertising, "list of participants")?;
        let mut sites = sites.to_vec();
        sites.sort_unstable();
        let bundles: Vec<Bundle> = sites
            .iter()
            .map(|&site| {
                let unknown = || Rejection::UnknownSite { site: site.to_owned() };
                self.bundles.get(site).cloned().ok_or_else(unknown)
            })
            .collect::<Result<_, _>>()?;
        let need = usize::from(self.plan.n_min);
        if bundles.len() < need {
            return Err(Rejection::TooFew { what: "participants", have: bundles.len(), need });
        }
        self.participants = Some(check_bundles(&self.plan, &bundles, members)?);
        self.bundles.retain(|site, _| sites.contains(&site.as_str()));
        self.step = Step::Sharing;
        Ok(())
    }

    /// What the participant `index` is told, for
    /// [`Advertised::share`](crate::client::Advertised::share).
    ///
    /// # Errors
    /// A [`Rejection`] before the participants are fixed, and for anyone who is none.
    pub fn notice_for(&self, index: u16) -> Result<Notice, Rejection> {
        self.participant(index, "request for the participants")?;
        Ok(Notice { bundles: self.bundles.values().cloned().collect() })
    }

    /// The participants' names by index; none before they are fixed.
    pub fn participants(&self) -> impl Iterator<Item = &str> {
        self.participants.iter().flat_map(Participants::iter).map(|p| p.name.as_str())
    }

    /// The index of a participant.
    #[must_use]
    pub fn index_of(&self, site: &str) -> Option<u16> {
        let index = self.participants.as_ref()?.index_of(site)?;
        u16::try_from(index).ok()
    }

    /// How many good shares open a secret: [`threshold`] of the participants' number, 0 before they
    /// are fixed.
    #[must_use]
    pub fn threshold(&self) -> usize {
        self.participants.as_ref().map_or(0, |p| threshold(p.len()))
    }

    /// The participants whose survivor signatures count, by index; none before they are fixed.
    #[must_use]
    pub fn signers(&self) -> Vec<u16> {
        let n = self.participants.as_ref().map_or(0, Participants::len);
        (0..n).filter_map(|index| u16::try_from(index).ok()).collect()
    }

    /// How many of the signers must sign a set of survivors; 0 before participants are fixed.
    #[must_use]
    pub fn signature_quorum(&self) -> usize {
        self.threshold()
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
        let site = dealer.name.clone();
        let participants = self.fixed();
        let dealing = &shares.dealing;
        let same_size = dealing.commitments.len() == participants.len();
        if dealing.participants != *participants.digest() || !same_size {
            return Err(Rejection::WrongSession { site, what });
        }
        if !shares.is_signed_by(&dealer.identity) {
            return Err(Rejection::BadSignature { site, what });
        }
        if let Some(known) = self.shares.get(&index) {
            return same(known, &shares, &site, what);
        }
        self.at(Step::Sharing, what)?;
        self.shares.insert(index, shares);
        Ok(())
    }

    /// The participants whose shares have come.
    #[must_use]
    pub fn dealt(&self) -> Vec<u16> {
        indices(self.shares.keys()).to_vec()
    }

    /// Ends sharing: those who dealt are the dealers, and each of them can have its inbox.
    ///
    /// # Errors
    /// [`Rejection::TooFew`] if fewer than the threshold or `n_min` dealt; sharing goes on.
    pub fn fix_dealers(&mut self) -> Result<Vec<u16>, Rejection> {
        self.at(Step::Sharing, "list of dealers")?;
        self.check_floor("dealers", self.shares.len())?;
        self.dealers = indices(self.shares.keys());
        let dealings: Vec<Digest> = self.shares.values().map(|s| s.dealing.digest()).collect();
        let participants = *self.fixed().digest();
        self.digest = dealers_digest(&participants, &self.dealers, dealings.iter());
        self.step = Step::Reporting;
        Ok(self.dealers.to_vec())
    }

    /// What the dealer `index` receives of all the others, for
    /// [`Shared::receive`](crate::client::Shared::receive).
    ///
    /// # Errors
    /// A [`Rejection`] before the dealers are fixed, and for anyone who is not a dealer.
    pub fn inbox_for(&self, index: u16) -> Result<Vec<Delivery>, Rejection> {
        let what = "request for shares";
        if self.step < Step::Reporting {
            return Err(Rejection::OutOfTurn { what });
        }
        let receiver = usize::from(index);
        if !self.dealers.contains(receiver) {
            return Err(Rejection::UnknownIndex { index, what });
        }
        Ok(self.shares.values().filter_map(|shares| shares.delivery(receiver)).collect())
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
        let site = reporter.name.clone();
        let index = usize::from(report.index());
        if self.step < Step::Reporting {
            return Err(Rejection::OutOfTurn { what });
        }
        if !self.dealers.contains(index) {
            return Err(Rejection::UnknownIndex { index: report.index(), what });
        }
        if report.dealers != self.digest && !weak(Weakness::AnyReport) {
            return Err(Rejection::WrongSession { site, what });
        }
        if !report.is_signed_by(&reporter.identity) {
            return Err(Rejection::BadSignature { site, what });
        }
        if let Some(known) = self.reports.get(&index) {
            return same(&known.update, &report.update, &site, what);
        }
        self.at(Step::Reporting, what)?;
        let bits = self.plan.encoding.bits();
        let whole = packed.len() == packed_bytes(self.words.len(), bits);
        Some(packed)
            .filter(|_| whole && (update_digest(packed) == report.update || weak(Weakness::AnyUpdate)))
            .and_then(|packed| add_packed(&mut self.words, 0, packed, bits))
            .ok_or(Rejection::WrongUpdate { site })?;
        self.reports.insert(index, report);
        Ok(())
    }

    /// The participants whose updates are in the sum.
    #[must_use]
    pub fn reported(&self) -> Vec<u16> {
        indices(self.reports.keys()).to_vec()
    }

    /// Ends reporting: those whose updates are in the sum are the survivors.
    ///
    /// # Errors
    /// [`Rejection::TooFew`] if fewer than the threshold or `n_min` reported; reporting goes on.
    pub fn fix_survivors(&mut self) -> Result<Vec<u16>, Rejection> {
        self.at(Step::Reporting, "set of survivors")?;
        self.check_floor("survivors", self.reports.len())?;
        self.survivors = indices(self.reports.keys());
        self.shown = (0..self.fixed().len()).map(|_| BTreeMap::new()).collect();
        self.step = Step::Unmasking;
        Ok(self.survivors.to_vec())
    }

    /// Takes a survivor's signature over the survivors, and says whether there is a quorum.
    ///
    /// # Errors
    /// A [`Rejection`] if it is not a survivor's valid signature over exactly this set.
    pub fn add_signature(&mut self, signature: SurvivorSignature) -> Result<bool, Rejection> {
        let what = "survivor signature";
        let index = signature.index();
        let signer = self.survivor(index, what)?;
        let site = signer.name.clone();
        let matches = signature.dealers == self.digest && signature.survivors == self.survivors;
        if !matches {
            return Err(Rejection::WrongSession { site, what });
        }
        if !signature.is_signed_by(&signer.identity) {
            return Err(Rejection::BadSignature { site, what });
        }
        self.signatures.entry(usize::from(index)).or_insert(signature);
        Ok(self.signatures.len() >= self.signature_quorum())
    }

    /// The survivors that have signed.
    #[must_use]
    pub fn signed(&self) -> Vec<u16> {
        indices(self.signatures.keys()).to_vec()
    }

    /// The signatures that every survivor wants to see before it reveals.
    ///
    /// # Errors
    /// [`Rejection::TooFew`] as long as there is no quorum.
    pub fn unmask_request(&self) -> Result<Vec<SurvivorSignature>, Rejection> {
        self.at(Step::Unmasking, "request for signatures")?;
        let (have, need) = (self.signatures.len(), self.signature_quorum());
        if have < need {
            return Err(Rejection::TooFew { what: "survivor signatures", have, need });
        }
        Ok(self.signatures.values().cloned().collect())
    }

    /// Takes a survivor's reveal. Shares that do not open the dealer's commitment are left out, and
    /// given back as erasures with the revealing site's name.
    ///
    /// # Errors
    /// A [`Rejection`] if it is not a survivor's, not signed, not for this set, or a second,
    /// different one.
    pub fn add_reveal(&mut self, reveal: Reveal) -> Result<Vec<Erasure>, Rejection> {
        let what = "reveal";
        let index = usize::from(reveal.index());
        let revealer = self.survivor(reveal.index(), what)?;
        let site = revealer.name.clone();
        let matches = reveal.dealers == self.digest && reveal.survivors == self.survivors;
        if !matches || !self.dealers.contains_all(&reveal.shown_of) {
            return Err(Rejection::WrongSession { site, what });
        }
        if !reveal.is_signed_by(&revealer.identity) {
            return Err(Rejection::BadSignature { site, what });
        }
        if let Some(known) = self.reveals.get(&index) {
            same(known, &reveal, &site, what)?;
            return Ok(Vec::new());
        }
        let mut erasures = Vec::new();
        for (dealer, shown) in reveal.shares() {
            let kind = Reveal::kind_of(&self.survivors, dealer);
            let participants = self.fixed().digest();
            let place = Place { participants, dealer, receiver: index };
            let commitment = &self.shares[&dealer].dealing.commitments[index];
            if shown.opens(kind, place, commitment) || weak(Weakness::UncheckedShare) {
                self.shown[dealer].insert(index, shown);
            } else {
                let dealer = u16::try_from(dealer).expect("indices are below 64");
                erasures.push(Erasure { dealer, site: site.clone() });
            }
        }
        self.reveals.insert(index, reveal);
        Ok(erasures)
    }

    /// The survivors that have revealed.
    #[must_use]
    pub fn revealed(&self) -> Vec<u16> {
        indices(self.reveals.keys()).to_vec()
    }

    /// Whether there are enough good shares of every dealer's secret.
    #[must_use]
    pub fn can_open(&self) -> bool {
        let need = self.threshold();
        self.step == Step::Unmasking && self.dealers.iter().all(|d| self.shown[d].len() >= need)
    }

    fn at(&self, step: Step, what: &'static str) -> Result<(), Rejection> {
        if self.step == step { Ok(()) } else { Err(Rejection::OutOfTurn { what }) }
    }

    fn fixed(&self) -> &Participants {
        self.participants.as_ref().expect("steps after advertising have participants")
    }

    fn participant(&self, index: u16, what: &'static str) -> Result<&Participant, Rejection> {
        let participants = self.participants.as_ref().ok_or(Rejection::OutOfTurn { what })?;
        if usize::from(index) >= participants.len() {
            return Err(Rejection::UnknownIndex { index, what });
        }
        Ok(participants.get(usize::from(index)))
    }

    fn survivor(&self, index: u16, what: &'static str) -> Result<&Participant, Rejection> {
        self.at(Step::Unmasking, what)?;
        if !self.survivors.contains(usize::from(index)) {
            return Err(Rejection::UnknownIndex { index, what });
        }
        self.participant(index, what)
    }

    fn check_floor(&self, what: &'static str, have: usize) -> Result<(), Rejection> {
        let need = self.threshold().max(usize::from(self.plan.n_min));
        if have < need { Err(Rejection::TooFew { what, have, need }) } else { Ok(()) }
    }
}

fn indices<'a>(keys: impl Iterator<Item = &'a usize>) -> Indices {
    let mut set = Indices::default();
    keys.for_each(|&index| {
        set.insert(index);
    });
    set
}

/// A message that came before may come again; another one in its place is equivocation.
fn same<T: PartialEq>(known: &T, new: &T, site: &str, what: &'static str) -> Result<(), Rejection> {
    if known == new { Ok(()) } else { Err(Rejection::Equivocation { site: site.into(), what }) }
}
