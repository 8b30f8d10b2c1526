//! The step before the last: survivors sign their set, and reveal shares once there is a quorum.

use super::{ServerSession, Step, same};
use crate::error::{Erasure, Rejection};
use crate::message::Agreed;
use crate::message::opening::Place;
use crate::message::reveal::Reveal;
use crate::message::survivors::{SetName, SurvivorSignature};
use crate::participants::Participant;
use crate::planted::{Weakness, weak};
use crate::topology::narrow;

impl ServerSession {
    /// Takes a survivor's signature over the survivors, and says whether there is a quorum.
    ///
    /// # Errors
    /// A [`Rejection`] if it is not a survivor's valid signature over exactly this set, or not of
    /// one whose signature counts.
    pub fn add_signature(&mut self, signature: SurvivorSignature) -> Result<bool, Rejection> {
        let what = "survivor signature";
        let index = signature.index();
        let signer = self.survivor(index, what)?;
        let site = || signer.name.clone();
        if !self.cohort(what)?.rules().signers.contains(usize::from(index)) {
            return Err(Rejection::UnknownIndex { index, what });
        }
        if !self.is_for_survivors(&signature.agreed, &signature.survivors) {
            return Err(Rejection::WrongSession { site: site(), what });
        }
        if !signature.claim(&signer.identity).holds() {
            return Err(Rejection::BadSignature { site: site(), what });
        }
        self.signatures.entry(usize::from(index)).or_insert(signature);
        Ok(self.signatures.len() >= self.signature_quorum())
    }

    /// The survivors that have signed.
    #[must_use]
    pub fn signed(&self) -> Vec<u16> {
        self.signatures.keys().map(|&index| narrow(index)).collect()
    }

    /// The signatures that every survivor wants to see before it reveals: a quorum of them.
    ///
    /// # Errors
    /// [`Rejection::TooFew`] as long as there is no quorum.
    pub fn unmask_request(&self) -> Result<Vec<SurvivorSignature>, Rejection> {
        self.at(Step::Unmasking, "request for signatures")?;
        let (have, need) = (self.signatures.len(), self.signature_quorum());
        if have < need {
            return Err(Rejection::TooFew { what: "survivor signatures", have, need });
        }
        Ok(self.signatures.values().take(need).cloned().collect())
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
        let cohort = self.cohort(what)?;
        let site = || revealer.name.clone();
        // Whose shares this one holds: those who hold its own.
        let peers = cohort.holders(index);
        let dealt = |place| {
            peers.get(place).is_some_and(|&dealer| self.dealers.contains(usize::from(dealer)))
        };
        let fits = reveal.has_peers(peers.len()) && reveal.shown_of.iter().all(dealt);
        if !fits || !self.is_for_survivors(&reveal.agreed, &reveal.survivors) {
            return Err(Rejection::WrongSession { site: site(), what });
        }
        if !reveal.claim(&revealer.identity).holds() {
            return Err(Rejection::BadSignature { site: site(), what });
        }
        if let Some(known) = self.reveals.get(&index) {
            same(known, &reveal, &revealer.name, what)?;
            return Ok(Vec::new());
        }
        let (mut good, mut erasures) = (Vec::new(), Vec::new());
        for at in reveal.shown_of.iter() {
            let dealer = usize::from(peers[at]);
            match self.good_share(&reveal, at, dealer) {
                Some(place) => good.push((dealer, narrow(place))),
                None => erasures.push(Erasure { dealer: peers[at], site: site() }),
            }
        }
        let need = self.threshold();
        for (dealer, place) in good {
            let places = &mut self.good[dealer];
            if let Err(at) = places.binary_search(&place) {
                places.insert(at, place);
                self.n_short -= usize::from(places.len() == need);
            }
        }
        self.reveals.insert(index, reveal);
        Ok(erasures)
    }

    /// The revealing site's place among the dealer's holders, if the share opens its commitment.
    fn good_share(&self, reveal: &Reveal, at: usize, dealer: usize) -> Option<usize> {
        let cohort = self.cohort.as_ref()?;
        let receiver = usize::from(reveal.index());
        let place = cohort.place(dealer, receiver)?;
        let kind = Reveal::kind_of(&self.survivors, dealer);
        let participants = cohort.participants.digest();
        let belongs = Place { participants, dealer, receiver };
        let commitment = self.shares.get(&dealer)?.shares.commitment(place);
        let opens = reveal.share(at)?.opens(kind, belongs, commitment);
        (opens || weak(Weakness::UncheckedShare)).then_some(place)
    }

    /// The survivors that have revealed.
    #[must_use]
    pub fn revealed(&self) -> Vec<u16> {
        self.reveals.keys().map(|&index| narrow(index)).collect()
    }

    /// Whether there are enough good shares of every dealer's secret.
    #[must_use]
    pub fn can_open(&self) -> bool {
        self.step == Step::Unmasking && self.n_short == 0
    }

    fn survivor(&self, index: u16, what: &'static str) -> Result<&Participant, Rejection> {
        self.at(Step::Unmasking, what)?;
        if !self.survivors.contains(usize::from(index)) {
            return Err(Rejection::UnknownIndex { index, what });
        }
        self.participant(index, what)
    }

    fn is_for_survivors(&self, agreed: &Agreed, survivors: &SetName) -> bool {
        *agreed == self.agreed && self.survivors_name.as_ref() == Some(survivors)
    }
}
