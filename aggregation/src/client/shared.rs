//! Second step: the other dealers' shares arrive and are checked at once.

use zeroize::Zeroizing;

use super::advertised::Keys;
use super::keyed::Keyed;
use super::session::{Session, Step, dealers_digest};
use crate::agree::{self, Way};
use crate::codec::{CodecError, Reader};
use crate::error::{Erasure, Rejection};
use crate::hash::Digest;
use crate::indices::Indices;
use crate::message::shares::{Delivery, OPENING_BYTES, Opening};
use crate::secret::Secret;

/// A site that has shared its secrets out.
pub struct Shared {
    pub(super) session: Session,
    pub(super) keys: Keys,
    /// The secret of this site's own mask.
    pub(super) secret: Secret<32>,
    /// This site's own shares of its own secrets.
    pub(super) own: Opening,
    /// The digest of what this site signed as a dealer.
    pub(super) dealing: Digest,
}

impl Shared {
    /// Takes the shares dealt to this site. Who dealt is what `inbox` says, and this site; the set
    /// and the dealers' signed commitments go into every mask from here on, so that sites which
    /// were told differently do not cancel.
    ///
    /// A share that does not open its commitment is an [`Erasure`] with the dealer's name, and this
    /// site will have none to reveal of it.
    ///
    /// # Errors
    /// A [`Rejection`] if a delivery is not signed by a dealer for these participants, is repeated,
    /// or if too few participants dealt good shares.
    pub fn receive(self, inbox: &[Delivery]) -> Result<(Keyed, Vec<Erasure>), Rejection> {
        let session = self.session;
        let n = session.participants.len();
        let mut dealings: Vec<Option<Digest>> = vec![None; n];
        let mut held: Vec<Option<Opening>> = (0..n).map(|_| None).collect();
        let mut erasures = Vec::new();
        dealings[session.me] = Some(self.dealing);
        held[session.me] = Some(self.own);
        for delivery in inbox {
            let dealer = check_dealing(&session, delivery)?;
            if dealings[dealer].is_some() {
                let site = session.participants.get(dealer).name.clone();
                return Err(Rejection::Duplicate { site });
            }
            dealings[dealer] = Some(delivery.dealing.digest());
            held[dealer] = open(&session, &self.keys, dealer, delivery);
            if held[dealer].is_none() {
                let site = session.participants.get(dealer).name.clone();
                erasures.push(Erasure { dealer: delivery.dealer(), site });
            }
        }
        session.check_floor("dealers", dealings.iter().flatten().count())?;
        let have = held.iter().flatten().count();
        if have < session.threshold() {
            let need = session.threshold();
            return Err(Rejection::TooFew { what: "dealers of good shares", have, need });
        }
        let mut dealers = Indices::default();
        for (index, _) in dealings.iter().enumerate().filter(|(_, dealing)| dealing.is_some()) {
            dealers.insert(index);
        }
        let digest =
            dealers_digest(session.participants.digest(), &dealers, dealings.iter().flatten());
        let mask = self.keys.mask;
        Ok((Keyed { session, mask, secret: self.secret, dealers, digest, held }, erasures))
    }

    /// The canonical bytes of this state, with its secrets.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Step::Shared.start(self.session.bytes_max() + 128 + OPENING_BYTES);
        self.session.write(&mut out);
        self.keys.write(&mut out);
        out.bytes(self.secret.expose()).bytes(self.own.to_bytes().as_slice());
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
        let keys = Keys::read(&mut from)?;
        let secret = Secret::new(from.array("own secret")?);
        let own = read_opening(&mut from)?;
        let dealing = from.array("dealing")?;
        from.end()?;
        Ok(Self { session, keys, secret, own, dealing })
    }
}

pub(super) fn read_opening(from: &mut Reader<'_>) -> Result<Opening, CodecError> {
    let bytes = Zeroizing::new(from.array::<OPENING_BYTES>("shares")?);
    Ok(Opening::from_bytes(&bytes))
}

/// The index of the dealer that signed this for the session's participants.
fn check_dealing(session: &Session, delivery: &Delivery) -> Result<usize, Rejection> {
    let what = "shares";
    let dealing = &delivery.dealing;
    let dealer = session.participant(dealing.dealer, what)?;
    let site = dealer.name.clone();
    let same_size = dealing.commitments.len() == session.participants.len();
    if dealing.participants != *session.participants.digest() || !same_size {
        return Err(Rejection::WrongSession { site, what });
    }
    if !dealing.is_signed_by(&dealer.identity) {
        return Err(Rejection::BadSignature { site, what });
    }
    Ok(usize::from(dealing.dealer))
}

/// The shares in a delivery, if they are what the dealer committed to.
fn open(session: &Session, keys: &Keys, dealer: usize, delivery: &Delivery) -> Option<Opening> {
    let me = session.me;
    let shared = agree::agree(&keys.channel, &session.participants.get(dealer).channel)?;
    let way = Way { participants: session.participants.digest(), dealer, receiver: me };
    let opening = way.open(&shared, &delivery.dealing.nonce, &delivery.sealed)?;
    let commitment = opening.commitment(session.place(dealer, me));
    (commitment == delivery.dealing.commitments[me]).then_some(opening)
}
