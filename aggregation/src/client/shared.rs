//! Second step: the other dealers' shares arrive and are checked at once.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::keyed::Keyed;
use super::session::{Session, Step, after_dealing};
use crate::agree::Way;
use crate::ahead::{Agreement, Agreements, Known, Own};
use crate::codec::{CodecError, Reader};
use crate::error::{Erasure, Rejection};
use crate::hash::Digest;
use crate::indices::Indices;
use crate::merkle::root_from;
use crate::message::opening::Opening;
use crate::message::shares::{Commitments, Delivery};
use crate::secret::Secret;
use crate::signer::first_false;
use crate::topology::Version;

/// A site that has shared its secrets out.
pub struct Shared {
    pub(super) session: Session,
    /// What is agreed on with each peer but this site, in order: shares are sealed with it, both
    /// ways.
    pub(super) channels: Vec<Secret<32>>,
    /// The private mask key.
    pub(super) mask: Secret<32>,
    /// The secret of this site's own mask.
    pub(super) secret: Secret<32>,
    /// This site's own shares of its own secrets, where everybody holds everybody's.
    pub(super) own: Option<Opening>,
    /// The digest of what this site signed as a dealer.
    pub(super) dealing: Digest,
    pub(super) known: Known,
}

impl Shared {
    /// The same, knowing what was agreed on ahead of time.
    #[must_use]
    pub fn knowing(self, ahead: Vec<Arc<Agreements>>) -> Self {
        Self { known: Known(ahead), ..self }
    }

    /// What [`Keyed::mask`] will have to agree on and is not known yet: to be computed while the others
    /// deal.
    #[must_use]
    pub fn agreement(&self) -> Agreement {
        let (session, me) = (&self.session, self.session.seat.me);
        let public = session.keys(me).mask;
        let peers = session.seat.peers().map(|(_, peer)| peer).filter(|peer| *peer != me);
        let others = peers.map(|peer| session.keys(peer).mask);
        let own = Own { public, private: self.mask.duplicate() };
        Agreement::of(own, others.filter(|other| !self.known.has(&public, other)))
    }

    /// Takes the shares dealt to this site. Who dealt is what `inbox` says, and this site; the
    /// dealers' signed commitments go into every mask from here on, so that sites which were told
    /// differently do not cancel.
    ///
    /// A share that does not open its commitment is an [`Erasure`] with the dealer's name, and this
    /// site will have none to reveal of it.
    ///
    /// # Errors
    /// A [`Rejection`] if a delivery is not signed by a dealer for these participants, is repeated,
    /// or if too few participants dealt good shares.
    pub fn receive(self, inbox: &[Delivery]) -> Result<(Keyed, Vec<Erasure>), Rejection> {
        let session = self.session;
        let n = session.seat.peers.len();
        let name = |index: u16| session.participants.name(usize::from(index));
        let mut dealings: Vec<Option<Digest>> = vec![None; n];
        let mut held: Vec<Option<Opening>> = (0..n).map(|_| None).collect();
        let own = session.seat.peer(session.seat.me);
        if let Some(at) = own {
            (dealings[at], held[at]) = (Some(self.dealing), self.own);
        }
        let mut claims = Vec::with_capacity(inbox.len());
        for delivery in inbox {
            let dealing = &delivery.dealing;
            let at = session.peer(dealing.dealer, WHAT)?;
            let same_size = dealing.commitments.holders() == n;
            if dealing.agreed != session.agreed() || !same_size {
                let site = name(dealing.dealer);
                return Err(Rejection::WrongSession { site, what: WHAT });
            }
            if dealings[at].replace(dealing.digest()).is_some() {
                return Err(Rejection::Duplicate { site: name(dealing.dealer) });
            }
            let identity = session.participants.get(usize::from(dealing.dealer));
            let identity = identity.expect("every peer is known").identity;
            claims.push(dealing.claim(&identity));
        }
        if let Some(at) = first_false(&claims) {
            let site = name(inbox[at].dealer());
            return Err(Rejection::BadSignature { site, what: WHAT });
        }
        let mut erasures = Vec::new();
        for delivery in inbox {
            let at = session.peer(delivery.dealer(), WHAT)?;
            // The channels leave this site itself out.
            let channel = &self.channels[at - usize::from(own.is_some_and(|own| own < at))];
            held[at] = open(&session, channel, at, delivery);
            if held[at].is_none() {
                let (dealer, site) = (delivery.dealer(), name(delivery.dealer()));
                erasures.push(Erasure { dealer, site });
            }
        }
        let dealers: Indices = (0..n).filter(|&at| dealings[at].is_some()).collect();
        if session.version() == Version::Complete {
            session.check_floor("dealers", dealers.len())?;
        }
        let (have, need) = (held.iter().flatten().count(), session.threshold());
        if have < need {
            return Err(Rejection::TooFew { what: "dealers of good shares", have, need });
        }
        let agreed = after_dealing(&session.agreed(), &dealers, dealings.iter().flatten());
        let dealings = dealings.into_iter().flatten().collect();
        let (mask, secret, dealing, known) = (self.mask, self.secret, self.dealing, self.known);
        let keyed =
            Keyed { session, mask, secret, dealing, agreed, dealers, dealings, held, known };
        Ok((keyed, erasures))
    }

    /// The canonical bytes of this state, with its secrets.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let channels = 32 * self.channels.len();
        let mut out = Step::Shared.start(self.session.bytes_max() + 192 + channels);
        self.session.write(&mut out);
        self.channels.iter().for_each(|channel| {
            out.bytes(channel.expose());
        });
        out.bytes(self.mask.expose()).bytes(self.secret.expose());
        self.own.iter().for_each(|own| {
            out.bytes(&own.to_bytes());
        });
        out.bytes(&self.dealing);
        out.into_secret()
    }

    /// The state that these bytes are.
    ///
    /// # Errors
    /// If the bytes are not this step's canonical ones.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        Step::Shared.read(&mut from)?;
        let session = Session::read(&mut from)?;
        let own = session.seat.peer(session.seat.me);
        let n_channels = session.seat.peers.len() - usize::from(own.is_some());
        let channels = (0..n_channels).map(|_| from.array("channel").map(Secret::new));
        let channels = channels.collect::<Result<_, _>>()?;
        let mask = Secret::new(from.array("mask key")?);
        let secret = Secret::new(from.array("own secret")?);
        let own = own.map(|_| Opening::read(session.version(), &mut from)).transpose()?;
        let dealing = from.array("dealing")?;
        from.end()?;
        Ok(Self { session, channels, mask, secret, own, dealing, known: Known::default() })
    }
}

const WHAT: &str = "shares";

/// The shares in a delivery of the peer at this place, if they are what the dealer committed to.
fn open(
    session: &Session,
    channel: &Secret<32>,
    at: usize,
    delivery: &Delivery,
) -> Option<Opening> {
    let (me, dealer) = (session.seat.me, usize::from(delivery.dealer()));
    let version = session.version();
    let way = Way { version, participants: session.participants.digest(), dealer, receiver: me };
    let opening = way.open(channel, &delivery.dealing.nonce, &delivery.sealed)?;
    let (place, own) = (session.place(dealer, me), usize::from(session.seat.places[at]));
    let committed = match &delivery.dealing.commitments {
        Commitments::Listed(digests) => digests[own] == opening.commitment(place),
        Commitments::Tree { root, holders } => {
            let leaves = opening.leaves(place);
            let leaf = leaves.as_flattened();
            root_from(leaf, own, usize::from(*holders), &delivery.path) == Some(*root)
        }
    };
    committed.then_some(opening)
}
