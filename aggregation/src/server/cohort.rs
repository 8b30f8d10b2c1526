//! The participants of a session as the coordinator fixed them, and who holds whose shares.

use std::sync::Arc;

use crate::client::{check_different, sparse_participants};
use crate::error::Rejection;
use crate::hash::Digest;
use crate::indices::Indices;
use crate::merkle::Tree;
use crate::message::Agreed;
use crate::message::bundle::Bundle;
use crate::message::notice::{Notice, Rest, names_bytes, sparse_bytes};
use crate::participants::{Participant, Participants};
use crate::plan::SessionPlan;
use crate::planted::{Weakness, weak};
use crate::topology::{Rules, Scheme, Version, arc_min};

/// The participants, with what follows from them.
pub(super) struct Cohort {
    pub(super) agreed: Agreed,
    pub(super) participants: Participants,
    /// By index.
    pub(super) bundles: Vec<Bundle>,
    scheme: Scheme,
    /// By dealer: who holds its shares, ascending.
    holders: Vec<Vec<u16>>,
    arc_min: usize,
    /// What notices of version 2 are made of.
    listed: Option<Listed>,
}

struct Listed {
    names: Arc<Vec<String>>,
    /// How each notice begins.
    head: Vec<u8>,
    /// Of the tree over the participants.
    leaves: Vec<Digest>,
    tree: Tree,
}

impl Cohort {
    /// Of these sites with their bundles, each checked, in order.
    pub(super) fn new(
        plan: &SessionPlan,
        (bundles, sites): (Vec<Bundle>, Vec<Participant>),
    ) -> Result<Self, Rejection> {
        check_different(plan, &sites)?;
        let n = sites.len();
        let arc_min = match arc_min(&plan.topology, n) {
            Err(_) if weak(Weakness::AnyGraph) => 0,
            found => usize::from(found?),
        };
        let plan_digest = plan.digest();
        let (participants, listed) = match plan.version() {
            Version::Complete => (Participants::complete(&plan_digest, sites), None),
            Version::Sparse => {
                let names: Vec<String> = sites.iter().map(|site| site.name.clone()).collect();
                let (head, names) = (names_bytes(&names), Arc::new(names));
                let mut listed = None;
                let digest = sparse_participants(&plan_digest, &sites, |leaves| {
                    let (leaves, tree) = (leaves.to_vec(), Tree::new(n, |index| leaves[index]));
                    listed.insert(Listed { names, head, leaves, tree }).tree.root()
                });
                (Participants::all(digest, sites), listed)
            }
        };
        let scheme = Scheme::new(&plan.topology, participants.digest(), n)?;
        let holders = (0..n).map(|dealer| scheme.holders(dealer)).collect();
        let agreed = Agreed { version: plan.version(), digest: *participants.digest() };
        Ok(Self { agreed, participants, bundles, scheme, holders, arc_min, listed })
    }

    pub(super) fn rules(&self) -> &Rules {
        self.scheme.rules()
    }

    pub(super) fn len(&self) -> usize {
        self.participants.len()
    }

    pub(super) fn get(&self, index: usize) -> &Participant {
        self.participants.get(index).expect("the coordinator knows all participants")
    }

    /// Who holds the shares of `dealer`, ascending.
    pub(super) fn holders(&self, dealer: usize) -> &[u16] {
        &self.holders[dealer]
    }

    /// At which place among the holders of `dealer` another one is, if it is one.
    pub(super) fn place(&self, dealer: usize, holder: usize) -> Option<usize> {
        self.holders[dealer].binary_search(&u16::try_from(holder).ok()?).ok()
    }

    /// Refuses survivors that their own sites would refuse for a gap in the graph.
    pub(super) fn check_arcs(&self, survivors: &Indices) -> Result<(), Rejection> {
        let (have, need) = (self.scheme.fewest_on_an_arc(survivors), self.arc_min);
        let what = "survivors on an arc of the graph";
        if have < need { Err(Rejection::TooFew { what, have, need }) } else { Ok(()) }
    }

    /// What this participant is told.
    pub(super) fn notice(&self, index: usize) -> Notice {
        let Some(listed) = &self.listed else {
            return Notice::from(self.bundles.clone());
        };
        let shown = self.shown(index);
        let bundles = shown.iter().map(|&index| self.bundles[index].clone()).collect();
        let paths = shown.iter().map(|&index| listed.path(index).collect()).collect();
        Notice { bundles, rest: Some(Rest { names: Arc::clone(&listed.names), paths }) }
    }

    /// The canonical bytes of [`Cohort::notice`], made in one go.
    pub(super) fn notice_bytes(&self, index: usize) -> Vec<u8> {
        let Some(listed) = &self.listed else { return self.notice(index).to_bytes() };
        let shown = self.shown(index);
        let bundles = shown.iter().map(|&index| (&self.bundles[index], listed.path(index)));
        sparse_bytes(&listed.head, bundles)
    }

    /// Whose bundles a participant is shown, ascending: its peers' and its own.
    fn shown(&self, index: usize) -> Vec<usize> {
        let peers = self.holders[index].iter().map(|&peer| usize::from(peer));
        let mut shown: Vec<usize> = peers.chain([index]).collect();
        shown.sort_unstable();
        shown
    }
}

impl Listed {
    fn path(&self, index: usize) -> impl Iterator<Item = Digest> {
        self.tree.path(index, |index| self.leaves[index])
    }
}
