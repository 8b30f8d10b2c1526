//! The coordinator: one state machine from events to effects.
//!
//! [`Coordinator::handle`] is the only door. It checks what a peer says, writes down what it decides
//! as records, and lists what the driver shall do, records before everything that follows from them.
//! What is here beside the durable state is derived from it ([`Live`], [`Material`], the parsed
//! roster) or volatile (connections, check-ins, uploads under way), and a restart rebuilds or drops
//! it. No clock, no randomness of its own, no files. Start at [`Coordinator::handle`]; its parts are
//! `requests` (operators and joining), `frames` (sites), `advance` (what follows).

mod advance;
mod frames;
mod keys;
mod requests;
mod views;

pub use views::named_blobs;

use std::collections::BTreeMap;

use koinon_aggregation::identity::Identity;
use koinon_aggregation::roster::SignedRoster;
use koinon_aggregation::{Members as _, Signer as _};
use koinon_proto::wire::to_site::Message;
use koinon_proto::{Digest, Millis, PROTOCOL, SiteId, envelope, wire};
use prost::Message as _;
use rand::CryptoRng;

use crate::error::ReplayError;
use crate::event::{Effect, Event};
use crate::post::Connection;
use crate::record::{Change, Record};
use crate::round::selection::Selection;
use crate::round::{Live, Round};
use crate::state::State;
use crate::task::material::Material;

/// What a coordinator is set up with.
#[derive(Debug)]
pub struct Setup {
    /// Its name in the roster.
    pub name: SiteId,
    /// Its identity key; signs what it says.
    pub identity: Identity,
    /// The consortium's key, which signs rosters and admissions.
    pub consortium_key: [u8; 32],
}

/// The coordinator's core.
pub struct Coordinator {
    setup: Setup,
    state: State,
    now: Millis,
    roster: Option<SignedRoster>,
    /// Of the running rounds, by task.
    live: BTreeMap<Digest, Live>,
    /// Of the tasks that have not ended.
    materials: BTreeMap<Digest, Material>,
    connections: BTreeMap<SiteId, Connection>,
    selections: BTreeMap<Digest, Selection>,
    /// When each task wants to be asked again.
    deadlines: BTreeMap<Digest, Millis>,
    /// Whether something changed that selection depends on.
    stirred: bool,
}

/// What one call comes to, in the order of the driver's law.
#[derive(Default)]
struct Out {
    blobs: Vec<(Digest, Vec<u8>)>,
    records: Vec<Record>,
    rest: Vec<Effect>,
}

impl Out {
    fn send(&mut self, site: &SiteId, frame: wire::CoordinatorFrame) {
        self.rest.push(Effect::Send { site: site.clone(), frame });
    }

    fn into_effects(self) -> Vec<Effect> {
        let blobs = self.blobs.into_iter().map(|(digest, bytes)| Effect::Blob { digest, bytes });
        blobs.chain(self.records.into_iter().map(Effect::Record)).chain(self.rest).collect()
    }
}

impl Coordinator {
    /// A coordinator with an empty journal. Call [`Coordinator::boot`] before anything else.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            state: State::default(),
            now: 0,
            roster: None,
            live: BTreeMap::new(),
            materials: BTreeMap::new(),
            connections: BTreeMap::new(),
            selections: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            stirred: true,
        }
    }

    /// The coordinator that wrote these records. `blobs` finds what they name by digest. Call
    /// [`Coordinator::boot`] next.
    ///
    /// # Errors
    /// [`ReplayError`]: a record does not follow, a blob is missing, or an accepted message of a
    /// running round is not acceptable. Nothing can be continued then.
    pub fn recover(
        setup: Setup,
        records: Vec<Record>,
        blobs: &dyn Fn(&Digest) -> Option<Vec<u8>>,
    ) -> Result<Self, ReplayError> {
        let mut coordinator = Self::new(setup);
        for (index, record) in records.iter().enumerate() {
            let applied = coordinator.state.apply(record);
            applied.map_err(|_| ReplayError::Record { index })?;
        }
        coordinator.restore(blobs)?;
        Ok(coordinator)
    }

    /// Starts: what was running goes on with what was left of its budget. Sites have to say hello
    /// again, and then get what they should see now.
    pub fn boot(&mut self, now: Millis, rng: &mut dyn CryptoRng) -> Vec<Effect> {
        self.now = now.max(self.state.at_ms);
        let mut out = Out::default();
        let epoch = rng.next_u64().max(1);
        self.decide(&mut out, Change::Booted { epoch });
        self.state.order.iter().for_each(|task| self.forget_stale(&mut out, task));
        self.stirred = true;
        self.advance(&mut out, rng);
        out.into_effects()
    }

    /// Takes one event and gives what is to be done; [`Effect`] has the law of it.
    ///
    /// `now` is in Unix milliseconds; when it goes back, time stands still here. `rng` gives session
    /// ids and mailbox epochs, nothing that protects a site.
    pub fn handle(&mut self, now: Millis, rng: &mut dyn CryptoRng, event: Event) -> Vec<Effect> {
        self.now = self.now.max(now);
        let mut out = Out::default();
        match event {
            Event::Connected { site } => self.on_connected(&mut out, site),
            Event::Disconnected { site } => self.forget_connection(&site),
            Event::Frame { site, frame } => self.on_frame(&mut out, rng, &site, frame),
            Event::Enrol { enrolment, reply } => {
                let result = self.on_enrol(&mut out, &enrolment);
                out.rest.push(Effect::Reply { reply, result });
            }
            Event::PublishRoster { bytes, reply } => {
                let result = self.on_roster(&mut out, bytes);
                out.rest.push(Effect::Reply { reply, result });
            }
            Event::Submit { manifest, blobs, reply } => {
                let result = self.on_submit(&mut out, manifest, blobs);
                out.rest.push(Effect::Reply { reply, result });
            }
            Event::Cancel { task, reply } => {
                let result = self.on_cancel(&mut out, &task);
                out.rest.push(Effect::Reply { reply, result });
            }
            Event::Tick => self.stirred = true,
        }
        self.advance(&mut out, rng);
        out.into_effects()
    }

    /// When [`Event::Tick`] is wanted, if nothing else happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.deadlines.values().min().copied()
    }

    /// A digest of the durable state: the same for the same records.
    #[must_use]
    pub fn state_digest(&self) -> Digest {
        self.state.digest()
    }

    /// Writes a decision down and does it.
    fn decide(&mut self, out: &mut Out, change: Change) {
        let record = Record { at_ms: self.now, change };
        self.state.apply(&record).expect("a decision is made in the state that it follows from");
        self.state.forget_said(Some(&record.change));
        out.records.push(record);
    }

    /// Puts a message into a site's mailbox, if it is connected and the message is not there yet.
    fn post(&mut self, out: &mut Out, site: &SiteId, mut message: Message) {
        let log_size = self.prove_log(site, &mut message);
        let Some(connection) = self.connections.get_mut(site) else { return };
        let Some(post) = connection.post.as_mut() else { return };
        if let Message::Outcome(outcome) = &message
            && Digest::try_from(&outcome.session[..]).is_ok_and(|session| !post.tell(session))
        {
            return;
        }
        let body = wire::ToSite { message: Some(message) }.encode_to_vec();
        if post.holds(&body) {
            return;
        }
        let (name, identity) = (self.setup.name.as_str(), &self.setup.identity);
        let sign = |message: &[u8]| identity.sign(message);
        match post.push(envelope::seal(PROTOCOL.max, name, site.as_str(), body, sign)) {
            Ok(frame) => {
                // Mail is read in order: with the next invitation the site has this head.
                connection.log_size = log_size.or(connection.log_size);
                out.send(site, frame);
            }
            Err(_) => self.disconnect(out, site),
        }
    }

    /// Ends a site's connection: it has left too much unread, or is no member any more. When it comes
    /// back it gets what it should see then.
    fn disconnect(&mut self, out: &mut Out, site: &SiteId) {
        if self.connections.contains_key(site) {
            self.forget_connection(site);
            out.rest.push(Effect::Disconnect { site: site.clone() });
        }
    }

    /// A connection is gone, and with it the mail in its box: others may have the place for that.
    fn forget_connection(&mut self, site: &SiteId) {
        self.connections.remove(site);
        self.live.values_mut().for_each(|live| live.mailing.leave(site));
        self.stirred = true;
    }

    /// The identity keys that count now, of sites that are connected and said hello.
    fn key_of(&self, site: &SiteId) -> Option<[u8; 32]> {
        let roster = self.roster.as_ref()?.roster();
        roster.clients_at(Some(self.now)).key_of(site.as_str())
    }

    /// Derives what is not in the journal from the blobs.
    fn restore(&mut self, blobs: &dyn Fn(&Digest) -> Option<Vec<u8>>) -> Result<(), ReplayError> {
        let find = |digest: &Digest| blobs(digest).filter(|bytes| Digest::of(bytes) == *digest);
        if let Some(digest) = self.state.members.roster {
            self.roster = Some(self.read_roster(&digest, &find)?);
        }
        for (digest, task) in self.state.open() {
            let at = task.version.map(|version| (version, task.optimizer));
            let (material, _) = Material::read(&task.manifest, at, &find).map_err(|rejection| {
                ReplayError::BadBlob { digest: *digest, what: rejection.to_string() }
            })?;
            self.materials.insert(*digest, material);
        }
        for (digest, round) in self.state.rounds() {
            let members = self.cohort_keys(round, &find)?;
            self.live.insert(*digest, Live::rebuild(round, members, &find)?);
        }
        self.state.forget_said(None);
        Ok(())
    }

    fn read_roster(
        &self,
        digest: &Digest,
        find: &dyn Fn(&Digest) -> Option<Vec<u8>>,
    ) -> Result<SignedRoster, ReplayError> {
        let what = || "the roster".to_owned();
        let missing = || ReplayError::BlobMissing { digest: *digest, what: what() };
        let bytes = find(digest).ok_or_else(missing)?;
        SignedRoster::verify(&bytes, &self.setup.consortium_key).map_err(|error| {
            ReplayError::BadBlob { digest: *digest, what: format!("{}: {error}", what()) }
        })
    }

    /// The cohort's keys as the roster of the round's plan states them.
    fn cohort_keys(
        &self,
        round: &Round,
        find: &dyn Fn(&Digest) -> Option<Vec<u8>>,
    ) -> Result<BTreeMap<String, [u8; 32]>, ReplayError> {
        let signed = self.read_roster(&round.terms.roster, find)?;
        Ok(keys(&signed, round.terms.cohort.iter()))
    }
}

/// The keys of these sites; time is not asked, for they were members when they were chosen.
fn keys<'a>(
    signed: &SignedRoster,
    sites: impl Iterator<Item = &'a SiteId>,
) -> BTreeMap<String, [u8; 32]> {
    let members = signed.roster().clients_at(None);
    let key = |site: &SiteId| Some((site.to_string(), members.key_of(site.as_str())?));
    sites.filter_map(key).collect()
}
