//! First step: one-time keys are made and offered; then, with the participants known, the secrets
//! are shared out among them.

use std::sync::Arc;

use rand::CryptoRng;
use zeroize::Zeroizing;

use super::admission::admit;
use super::keyed::Keyed;
use super::session::{Session, Step, read_plan};
use super::shared::Shared;
use crate::agree::Way;
use crate::ahead::{Agreements, Known, OneTimeKeys};
use crate::codec::{CodecError, Reader, is_name};
use crate::error::Rejection;
use crate::message::BUNDLE_BYTES_MAX;
use crate::message::bundle::Bundle;
use crate::message::notice::Notice;
use crate::message::opening::{Opening, commit_secret};
use crate::message::shares::{Committed, Nonce, Shares, Terms};
use crate::plan::SessionPlan;
use crate::secret::Secret;
use crate::shamir;
use crate::signer::{Members, Signer};
use crate::topology::Version;

/// A site that has offered its keys.
pub struct Advertised {
    plan: SessionPlan,
    /// The private half of the channel key.
    channel: Secret<32>,
    /// The private half of the mask key.
    mask: Secret<32>,
    bundle: Bundle,
    known: Known,
}

/// Enters a session as `site` with fresh keys. Keys serve one session, also if it is abandoned.
///
/// # Errors
/// [`Rejection::Plan`] if the plan's parts do not fit together, [`Rejection::Malformed`] if `site`
/// is not a name.
pub fn advertise(
    plan: SessionPlan,
    site: &str,
    signer: &dyn Signer,
    rng: &mut dyn CryptoRng,
) -> Result<(Advertised, Bundle), Rejection> {
    advertise_posted(plan, site, &OneTimeKeys::draw(rng), signer)
}

/// Enters a session as `site` with keys that it posted ahead of it. The caller has them from its
/// [`Stock`](crate::ahead::Stock) for this session, and drops them.
///
/// # Errors
/// As [`advertise`].
pub fn advertise_posted(
    plan: SessionPlan,
    site: &str,
    keys: &OneTimeKeys,
    signer: &dyn Signer,
) -> Result<(Advertised, Bundle), Rejection> {
    plan.check()?;
    if !is_name(site) {
        return Err(CodecError::Value("site's name").into());
    }
    let (channel, mask) = (keys.channel().duplicate(), keys.mask().duplicate());
    let bundle = Bundle::new(plan.agreed(), site, keys.public, signer);
    let known = Known::default();
    Ok((Advertised { plan, channel, mask, bundle: bundle.clone(), known }, bundle))
}

impl Advertised {
    /// The session's plan.
    #[must_use]
    pub fn plan(&self) -> &SessionPlan {
        &self.plan
    }

    /// The same, knowing what was agreed on ahead of time: it need not be computed then.
    #[must_use]
    pub fn knowing(self, ahead: Vec<Arc<Agreements>>) -> Self {
        Self { known: Known(ahead), ..self }
    }

    /// Checks who takes part, and shares this site's two secrets out among those who are to hold
    /// them: as many as the session's threshold can open one.
    ///
    /// `notice` says who takes part, this site among them; `members` is the roster the plan names, as
    /// this site has verified it; `floor` is the fewest sites whose sum this site helps to open. The
    /// floor stays with the session.
    ///
    /// # Errors
    /// A [`Rejection`] if a bundle is not the roster's, for this plan, usable and in its place, if
    /// there are too few or too many, or if in a sparse session the plan's parameters are too weak
    /// for so many, a bundle is not proven to be in the agreed list, or the bundles are not those of
    /// this site's neighbours.
    pub fn share(
        self,
        notice: &Notice,
        members: &dyn Members,
        floor: u16,
        signer: &dyn Signer,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Shared, Shares), Rejection> {
        let session = admit(self.plan, notice, &self.bundle, members, floor)?;
        let peers = session.seat.peers().map(|(_, peer)| peer);
        let others: Vec<usize> = peers.filter(|peer| *peer != session.seat.me).collect();
        let keys: Vec<_> = others.iter().map(|&peer| &session.keys(peer).channel).collect();
        let agreed = self.known.agree_all(&self.channel, &self.bundle.keys.channel, &keys);
        let channels = others.iter().zip(agreed).map(|(&peer, channel)| {
            channel.ok_or_else(|| Rejection::BadKey { site: session.participants.name(peer) })
        });
        let channels = channels.collect::<Result<Vec<_>, _>>()?;
        let secret = Secret::random(rng);
        let deal = Deal { session: &session, channels: &channels, mask: &self.mask };
        let (own, shares) = deal.out(&secret, signer, rng);
        let dealing = shares.dealing.digest();
        let (mask, known) = (self.mask, self.known);
        Ok((Shared { session, channels, mask, secret, own, dealing, known }, shares))
    }

    /// Goes on to the masked update in a session where nothing is masked, as the participant `me` of
    /// any number.
    #[cfg(feature = "plain")]
    #[must_use]
    pub fn plain(self, me: u16) -> Option<Keyed> {
        use crate::indices::Indices;
        use crate::participants::Participants;
        use crate::topology::{Rules, Seat};
        let agreed = self.plan.agreed();
        let rules = Rules { n: 0, threshold: 0, signers: Indices::default(), quorum: 0 };
        let me = usize::from(me);
        let seat = Seat { me, peers: Vec::new(), places: Vec::new(), rules };
        let participants = Participants::some(me + 1, agreed.digest, Vec::new());
        let session = Session { plan: self.plan, participants, seat, floor: 0, arc_min: 0 };
        Some(Keyed {
            session,
            mask: self.mask,
            secret: Secret::new([0; 32]),
            dealing: [0; 32],
            agreed,
            dealers: Indices::default(),
            dealings: Vec::new(),
            held: Vec::new(),
            known: Known::default(),
        })
    }

    /// There are no such sessions.
    #[cfg(not(feature = "plain"))]
    #[must_use]
    pub fn plain(self, _: u16) -> Option<Keyed> {
        None
    }

    /// The canonical bytes of this state, with its secrets.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let (plan, bundle) = (self.plan.to_bytes(), self.bundle.to_bytes());
        let mut out = Step::Advertised.start(8 + plan.len() + bundle.len() + 64);
        out.chunk(&plan).chunk(&bundle);
        out.bytes(self.channel.expose()).bytes(self.mask.expose());
        out.into_secret()
    }

    /// The state that these bytes are.
    ///
    /// # Errors
    /// If the bytes are not this step's canonical ones.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        Step::Advertised.read(&mut from)?;
        let plan = read_plan(&mut from)?;
        let bundle = Bundle::from_bytes(from.chunk(BUNDLE_BYTES_MAX, "bundle")?)?;
        let channel = Secret::new(from.array("channel key")?);
        let mask = Secret::new(from.array("mask key")?);
        from.end()?;
        Ok(Self { plan, channel, mask, bundle, known: Known::default() })
    }
}

/// What a dealer deals with.
struct Deal<'a> {
    session: &'a Session,
    /// What is agreed on with each peer but itself, in order.
    channels: &'a [Secret<32>],
    /// The private mask key.
    mask: &'a Secret<32>,
}

impl Deal<'_> {
    /// Shares `secret` and the private mask key out; gives what this site keeps of them if it is
    /// among their holders, and the message.
    fn out(
        &self,
        secret: &Secret<32>,
        signer: &dyn Signer,
        rng: &mut dyn CryptoRng,
    ) -> (Option<Opening>, Shares) {
        let session = self.session;
        let (seat, version) = (&session.seat, session.version());
        let (me, t, n) = (seat.me, session.threshold(), seat.peers.len());
        let self_mask = shamir::split(secret, t, n, rng);
        let mask_key = shamir::split(self.mask, t, n, rng);
        let mut openings: Vec<Opening> = self_mask
            .into_iter()
            .zip(mask_key)
            .map(|(s, m)| Opening::new(version, s, m, rng))
            .collect();
        // Drawn anew for each dealing, so that a step begun again after a crash never repeats a
        // nonce.
        let mut nonce = Nonce::default();
        rng.fill_bytes(&mut nonce[..version.nonce_bytes()]);
        let participants = session.participants.digest();
        let mut sealed = Vec::with_capacity(n * version.sealed_bytes());
        let mut channels = self.channels.iter();
        for ((_, receiver), opening) in seat.peers().zip(&openings) {
            if receiver != me {
                let shared = channels.next().expect("one was agreed on for each peer");
                let way = Way { version, participants, dealer: me, receiver };
                sealed.extend_from_slice(&way.seal(shared, &nonce, opening));
            }
        }
        let placed = seat.peers().zip(&openings).map(|((_, r), o)| (session.place(me, r), o));
        let commitments = match version {
            Version::Complete => Committed::Listed(placed.map(|(p, o)| o.commitment(p)).collect()),
            Version::Sparse => Committed::Leaves(placed.map(|(p, o)| o.leaves(p)).collect()),
        };
        let terms = Terms {
            agreed: session.agreed(),
            dealer: me,
            nonce,
            secret_commitment: commit_secret(version, participants, me, secret),
            commitments,
            sealed,
        };
        let own = seat.peer(me).map(|at| openings.swap_remove(at));
        (own, Shares::new(terms, signer))
    }
}
