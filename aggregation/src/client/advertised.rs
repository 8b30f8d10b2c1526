//! First step: one-time keys are made and offered; then, with the participants known, the secrets
//! are shared out among them.

use rand::CryptoRng;
use zeroize::Zeroizing;

use super::session::{Session, Step, read_plan};
use super::shared::Shared;
use crate::agree::{self, Way};
use crate::codec::{CodecError, Reader, Writer, is_name};
use crate::error::Rejection;
use crate::message::BUNDLE_BYTES_MAX;
use crate::message::bundle::Bundle;
use crate::message::notice::Notice;
use crate::message::shares::{NONCE_BYTES, Opening, Shares, Terms, commit_secret};
use crate::participants::{COMPLETE_MAX, PARTICIPANTS_MIN, Participant, Participants};
use crate::plan::SessionPlan;
use crate::planted::{Weakness, weak};
use crate::secret::Secret;
use crate::shamir;
use crate::signer::{Members, Signer};

/// A site that has offered its keys.
pub struct Advertised {
    plan: SessionPlan,
    keys: Keys,
    bundle: Bundle,
}

/// The private halves of a bundle.
pub(super) struct Keys {
    pub(super) channel: Secret<32>,
    pub(super) mask: Secret<32>,
}

impl Keys {
    pub(super) fn write(&self, out: &mut Writer) {
        out.bytes(self.channel.expose()).bytes(self.mask.expose());
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let channel = Secret::new(from.array("channel key")?);
        Ok(Self { channel, mask: Secret::new(from.array("mask key")?) })
    }
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
    plan.check()?;
    if !is_name(site) {
        return Err(CodecError::Value("site's name").into());
    }
    let keys = Keys { channel: Secret::random(rng), mask: Secret::random(rng) };
    let (channel, mask) = (agree::public(&keys.channel), agree::public(&keys.mask));
    let bundle = Bundle::new(plan.digest(), site, channel, mask, signer);
    Ok((Advertised { plan, keys, bundle: bundle.clone() }, bundle))
}

impl Advertised {
    /// The session's plan.
    #[must_use]
    pub fn plan(&self) -> &SessionPlan {
        &self.plan
    }

    /// Checks who takes part, and shares this site's two secrets out among them: any
    /// [`threshold`](crate::threshold) of them can open one.
    ///
    /// `notice` says who takes part, this site among them; `members` is the roster the plan names, as this site has verified it; `floor` is the fewest
    /// sites whose sum this site helps to open. The floor stays with the session.
    ///
    /// # Errors
    /// A [`Rejection`] if a bundle is not the roster's, for this plan, usable and in its place, or
    /// if there are too few or too many.
    pub fn share(
        self,
        notice: &Notice,
        members: &dyn Members,
        floor: u16,
        signer: &dyn Signer,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Shared, Shares), Rejection> {
        let bundles = notice.bundles();
        let need = usize::from(floor).max(usize::from(self.plan.n_min)).max(PARTICIPANTS_MIN);
        if bundles.len() < need && !weak(Weakness::NoFloor) {
            return Err(Rejection::TooFew { what: "participants", have: bundles.len(), need });
        }
        let participants = check_bundles(&self.plan, bundles, members)?;
        let me = participants
            .index_of(self.bundle.site())
            .filter(|&me| bundles[me] == self.bundle)
            .ok_or(Rejection::NotIncluded { what: "participants" })?;
        let session = Session { plan: self.plan, participants, me, floor: usize::from(floor) };
        let secret = Secret::random(rng);
        let (own, shares) = deal(&session, &self.keys, &secret, signer, rng)?;
        let dealing = shares.dealing.digest();
        Ok((Shared { session, keys: self.keys, secret, own, dealing }, shares))
    }

    /// The canonical bytes of this state, with its secrets.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let (plan, bundle) = (self.plan.to_bytes(), self.bundle.to_bytes());
        let mut out = Step::Advertised.start(8 + plan.len() + bundle.len() + 64);
        out.chunk(&plan).chunk(&bundle);
        self.keys.write(&mut out);
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
        let keys = Keys::read(&mut from)?;
        from.end()?;
        Ok(Self { plan, keys, bundle })
    }
}

/// The participants that these bundles are of: in order, all different, each one the roster's and
/// for this plan. Both sides check alike.
pub(crate) fn check_bundles(
    plan: &SessionPlan,
    bundles: &[Bundle],
    members: &dyn Members,
) -> Result<Participants, Rejection> {
    let what = "participants";
    let most = usize::try_from(plan.encoding.n_max()).unwrap_or(COMPLETE_MAX);
    let (have, max) = (bundles.len(), most.min(COMPLETE_MAX));
    if have < PARTICIPANTS_MIN {
        return Err(Rejection::TooFew { what, have, need: PARTICIPANTS_MIN });
    }
    if have > max {
        return Err(Rejection::TooMany { what, have, max });
    }
    let digest = plan.digest();
    let mut sites: Vec<Participant> = Vec::with_capacity(bundles.len());
    for bundle in bundles {
        let site = check_bundle(&digest, bundle, members)?;
        if sites.last().is_some_and(|last| last.name > site.name) {
            return Err(Rejection::Order { site: site.name });
        }
        if sites.iter().any(|other| is_same(other, &site)) && !weak(Weakness::SharedKey) {
            return Err(Rejection::Duplicate { site: site.name });
        }
        sites.push(site);
    }
    Ok(Participants::new(&digest, sites))
}

/// The participant that one bundle is of.
pub(crate) fn check_bundle(
    plan: &[u8; 32],
    bundle: &Bundle,
    members: &dyn Members,
) -> Result<Participant, Rejection> {
    let name = bundle.site().to_owned();
    let what = "bundle";
    if bundle.plan() != plan && !weak(Weakness::AnySession) {
        return Err(Rejection::WrongSession { site: name, what });
    }
    let Some(identity) = members.key_of(&name) else {
        return Err(Rejection::UnknownSite { site: name });
    };
    if !bundle.is_signed_by(&identity) && !weak(Weakness::UnsignedBundle) {
        return Err(Rejection::BadSignature { site: name, what });
    }
    if !agree::is_usable(&bundle.channel) || !agree::is_usable(&bundle.mask) {
        return Err(Rejection::BadKey { site: name });
    }
    Ok(Participant { name, identity, channel: bundle.channel, mask: bundle.mask })
}

/// Whether two participants share a name or a key: one site must not count twice.
fn is_same(a: &Participant, b: &Participant) -> bool {
    a.name == b.name || a.identity == b.identity || a.channel == b.channel || a.mask == b.mask
}

/// Shares `secret` and the private mask key out; gives what this site keeps of it, and the message.
fn deal(
    session: &Session,
    keys: &Keys,
    secret: &Secret<32>,
    signer: &dyn Signer,
    rng: &mut dyn CryptoRng,
) -> Result<(Opening, Shares), Rejection> {
    let (n, me, t) = (session.participants.len(), session.me, session.threshold());
    let self_mask = shamir::split(secret, t, n, rng);
    let mask_key = shamir::split(&keys.mask, t, n, rng);
    let openings: Vec<Opening> =
        self_mask.into_iter().zip(mask_key).map(|(s, m)| Opening::new(s, m, rng)).collect();
    // Drawn anew for each dealing, so that a step begun again after a crash never repeats a nonce.
    let mut nonce = [0; NONCE_BYTES];
    rng.fill_bytes(&mut nonce);
    let participants = session.participants.digest();
    let mut sealed = Vec::with_capacity(n - 1);
    for (receiver, opening) in openings.iter().enumerate().filter(|&(index, _)| index != me) {
        let peer = session.participants.get(receiver);
        let shared = agree::agree(&keys.channel, &peer.channel)
            .ok_or_else(|| Rejection::BadKey { site: peer.name.clone() })?;
        sealed.push(Way { participants, dealer: me, receiver }.seal(&shared, &nonce, opening));
    }
    let commitments =
        openings.iter().enumerate().map(|(i, o)| o.commitment(session.place(me, i))).collect();
    let terms = Terms {
        participants: *participants,
        dealer: me,
        nonce,
        secret_commitment: commit_secret(participants, me, secret),
        commitments,
        sealed,
    };
    let own = openings.into_iter().nth(me).expect("every participant has an opening");
    Ok((own, Shares::new(terms, signer)))
}
