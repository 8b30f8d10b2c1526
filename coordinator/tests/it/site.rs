//! A site for tests: it answers every question of a session once, by the same bytes ever after, and
//! contributes numbers that a test can add up.

use std::collections::{BTreeMap, BTreeSet};

use koinon_aggregation::ahead::{Head, Named, Stock, check_named};
use koinon_aggregation::client::{Advertised, Masked, Revealed, Shared, Signed, advertise};
use koinon_aggregation::identity::Identity;
use koinon_aggregation::roster::{Roster, SignedRoster};
use koinon_aggregation::{
    Bundle, Clipped, Delivery, Encoded, EncodingPlan, Notice, SessionPlan, Signer,
    SurvivorSignature,
};
use koinon_proto::mailbox::{Accept, Inbox, Outbox};
use koinon_proto::wire::coordinator_frame::Frame;
use koinon_proto::wire::site_frame::Frame as Up;
use koinon_proto::wire::to_coordinator::Message as Say;
use koinon_proto::wire::to_site::Message as Hear;
use koinon_proto::{Digest, SiteId, envelope, wire};
use prost::Message as _;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

pub(crate) type Blobs = BTreeMap<Digest, Vec<u8>>;

/// The questions that a session asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Question {
    Invite,
    Participants,
    Inbox,
    Survivors,
    Unmask,
}

enum Step {
    Advertised(Box<Advertised>),
    Shared(Box<Shared>),
    Masked(Box<Masked>),
    Signed(Box<Signed>),
    Revealed {
        #[expect(dead_code, reason = "held as a site holds it, and never asked again")]
        state: Box<Revealed>,
    },
    Between,
}

struct Session {
    id: Digest,
    /// What a reveal spends.
    opens: (i32, Vec<u8>),
    plan: SessionPlan,
    step: Step,
    packed: Vec<u8>,
    last: Option<Vec<u8>>,
}

pub(crate) struct Site {
    pub(crate) name: SiteId,
    pub(crate) identity: Identity,
    pub(crate) number: u32,
    rng: ChaCha20Rng,
    epoch: u64,
    outbox: Outbox,
    inbox: Inbox,
    coordinator_epoch: u64,
    roster: Option<(Digest, Roster)>,
    offers: BTreeSet<Digest>,
    session: Option<Session>,
    answers: BTreeMap<(Digest, Question), Vec<u8>>,
    spent: BTreeSet<(i32, Vec<u8>)>,
    /// Questions that it leaves unanswered.
    pub(crate) mute: BTreeSet<Question>,
    /// Whether its uploads stop before the last chunk.
    pub(crate) stalls: bool,
    /// Whether it flips a bit of its upload's last chunk.
    pub(crate) garbles: bool,
    pub(crate) refuses: bool,
    /// Whether it posts keys ahead.
    pub(crate) posts: bool,
    /// The newest head of the log of posted keys.
    pub(crate) head: Option<Head>,
    stock: Stock,
    /// Its own keys that invitations named.
    pub(crate) named: Vec<[u8; 32]>,
    /// Chunks it sent.
    pub(crate) chunks: usize,
    pub(crate) rejections: Vec<String>,
    pub(crate) outcomes: Vec<wire::Outcome>,
    pub(crate) accepted: Vec<Digest>,
    out: Vec<wire::SiteFrame>,
}

const COORDINATOR: &str = "coordinator";
const CHUNK_BYTES: usize = 1024;

impl Site {
    pub(crate) fn new(number: u32) -> Self {
        let mut seed = [7; 32];
        seed[..4].copy_from_slice(&number.to_le_bytes());
        Self {
            name: SiteId::new(format!("site-{number:02}")).unwrap(),
            identity: Identity::from_secret_bytes(&seed),
            number,
            rng: ChaCha20Rng::from_seed(seed),
            epoch: 1,
            outbox: Outbox::new(),
            inbox: Inbox::new(),
            coordinator_epoch: 0,
            roster: None,
            offers: BTreeSet::new(),
            session: None,
            answers: BTreeMap::new(),
            spent: BTreeSet::new(),
            mute: BTreeSet::new(),
            stalls: false,
            garbles: false,
            refuses: false,
            posts: true,
            head: None,
            stock: Stock::default(),
            named: Vec::new(),
            chunks: 0,
            rejections: Vec::new(),
            outcomes: Vec::new(),
            accepted: Vec::new(),
            out: Vec::new(),
        }
    }

    /// The constant that every entry of its update is.
    pub(crate) fn update(&self) -> f64 {
        0.01 * f64::from(self.number + 1)
    }

    pub(crate) fn weight(&self) -> u32 {
        self.number + 1
    }

    pub(crate) fn hello(&self) -> wire::SiteFrame {
        self.frame(Up::Hello(wire::Hello {
            site_epoch: self.epoch,
            first_sequence: self.outbox.first_sequence(),
            coordinator_epoch: self.coordinator_epoch,
            log_size: self.posts.then(|| self.head.as_ref().map_or(0, Head::size)),
        }))
    }

    /// Starts anew: what is durable stays, the mailbox is gone.
    pub(crate) fn restart(&mut self) {
        self.epoch += 1;
        self.outbox = Outbox::new();
        self.inbox = Inbox::new();
        self.coordinator_epoch = 0;
        self.stock.clear();
    }

    fn frame(&self, frame: Up) -> wire::SiteFrame {
        wire::SiteFrame { cursor: self.inbox.cursor(), frame: Some(frame) }
    }

    fn letter(&self, body: Vec<u8>) -> wire::Envelope {
        let sign = |message: &[u8]| self.identity.sign(message);
        envelope::seal(1, self.name.as_str(), COORDINATOR, body, sign)
    }

    /// Says something; also used by tests to say what no honest site would.
    pub(crate) fn say(&mut self, message: Say) -> wire::SiteFrame {
        self.post(wire::ToCoordinator { message: Some(message) }.encode_to_vec())
    }

    fn post(&mut self, body: Vec<u8>) -> wire::SiteFrame {
        let envelope = self.letter(body);
        let sequence = self.outbox.push(envelope.clone()).unwrap();
        self.frame(Up::Mail(wire::Mail { sequence, envelope: Some(envelope) }))
    }

    /// The session it is in.
    pub(crate) fn session(&self) -> Option<Digest> {
        self.session.as_ref().map(|session| session.id)
    }

    /// The answer it gave to a question, as a body.
    pub(crate) fn answered(&self, question: Question) -> Option<Vec<u8>> {
        self.answers.get(&(self.session()?, question)).cloned()
    }

    pub(crate) fn on_frame(
        &mut self,
        frame: wire::CoordinatorFrame,
        blobs: &Blobs,
    ) -> Vec<wire::SiteFrame> {
        match frame.frame.unwrap() {
            Frame::Welcome(welcome) => self.on_welcome(welcome),
            Frame::Mail(mail) => {
                if self.inbox.accept(mail.sequence) == Accept::New {
                    let envelope = mail.envelope.unwrap();
                    let message = wire::ToSite::decode(&envelope.body[..]).unwrap();
                    self.hear(message.message.unwrap(), blobs);
                }
            }
            Frame::Receipt(receipt) => {
                self.rejections.extend(receipt.rejection.map(|rejection| rejection.code));
                self.outbox.acknowledge(receipt.sequence).unwrap();
            }
            Frame::ChunkReceipt(receipt) => self.on_chunk_receipt(&receipt),
        }
        std::mem::take(&mut self.out)
    }

    fn on_welcome(&mut self, welcome: wire::Welcome) {
        self.outbox.acknowledge(welcome.received).unwrap();
        let again: Vec<wire::SiteFrame> = self
            .outbox
            .after(0)
            .map(|(sequence, envelope)| {
                let envelope = Some(envelope.clone());
                self.frame(Up::Mail(wire::Mail { sequence, envelope }))
            })
            .collect();
        self.out.extend(again);
        if welcome.coordinator_epoch != self.coordinator_epoch {
            self.coordinator_epoch = welcome.coordinator_epoch;
            self.inbox = Inbox::new();
            self.check_in();
            if let Some(body) = self.session.as_ref().and_then(|session| session.last.clone()) {
                let frame = self.post(body);
                self.out.push(frame);
            }
        }
    }

    fn check_in(&mut self) {
        let Some((roster, _)) = &self.roster else { return };
        let tasks = self.offers.iter().map(|task| (*task).into()).collect();
        let frame = self.say(Say::CheckIn(wire::CheckIn {
            tasks,
            roster: (*roster).into(),
            head: self.head.as_ref().map(Head::to_bytes).unwrap_or_default(),
        }));
        self.out.push(frame);
    }

    fn hear(&mut self, message: Hear, blobs: &Blobs) {
        match message {
            Hear::Roster(notice) => {
                let digest = Digest::try_from(&notice.digest[..]).unwrap();
                let key = super::world::consortium().public();
                let signed = SignedRoster::verify(&blobs[&digest], &key).unwrap();
                self.roster = Some((digest, signed.roster().clone()));
                self.check_in();
            }
            Hear::Offer(offer) => {
                if self.offers.insert(Digest::of(&offer.manifest)) {
                    self.check_in();
                }
            }
            Hear::Invite(invite) => self.on_invite(invite),
            Hear::KeysWanted(_) => self.post_keys(),
            Hear::Participants(m) => self.on_participants(&m),
            Hear::Inbox(m) => self.on_inbox(&m),
            Hear::Survivors(m) => self.on_survivors(&m),
            Hear::Unmask(m) => self.on_unmask(&m),
            Hear::Accepted(m) => self.accepted.push(Digest::try_from(&m.session[..]).unwrap()),
            Hear::Outcome(outcome) => {
                if self.session().is_some_and(|id| id.0[..] == outcome.session) {
                    self.session = None;
                }
                self.outcomes.push(outcome);
            }
        }
    }

    /// Posts a batch; also used by tests to post more than an honest site would.
    pub(crate) fn post_keys(&mut self) {
        assert!(self.posts, "{} is asked for keys", self.name);
        let keeper = super::world::setup().identity.public();
        let (name, identity) = (self.name.as_str(), &self.identity);
        let batch = self.stock.make(&keeper, name, identity, &mut self.rng).to_bytes();
        let frame = self.say(Say::PostedKeys(wire::PostedKeys { batch }));
        self.out.push(frame);
    }

    /// What it posted and was not sent by an answer to a frame.
    pub(crate) fn take_out(&mut self) -> Vec<wire::SiteFrame> {
        std::mem::take(&mut self.out)
    }

    /// Checks what an honest coordinator says of posted keys: nothing of it may ever be refused.
    fn on_keys(&mut self, keys: &wire::KeysAhead) {
        assert!(self.posts, "{} is named keys", self.name);
        let keeper = super::world::setup().identity.public();
        let head = Head::from_bytes(&keys.head).unwrap();
        let hash = |hash: &Vec<u8>| <[u8; 32]>::try_from(&hash[..]).unwrap();
        let proof: Vec<_> = keys.consistency.iter().map(hash).collect();
        let taken = head.check_extends(self.head.as_ref(), &proof, &keeper);
        assert_eq!(taken, Ok(()), "{}: {:?} {head:?}", self.name, self.head);
        let all: Vec<Named> =
            keys.named.iter().map(|bytes| Named::from_bytes(bytes).unwrap()).collect();
        let members = self.roster.as_ref().unwrap().1.clone();
        assert_eq!(check_named(&keeper, &head, &all, &members.clients_at(None)), Ok(()));
        self.head = Some(head);
        let own = all.iter().find(|named| named.site() == self.name.as_str());
        self.named.extend(own.map(|own| *own.channel()));
    }

    fn on_invite(&mut self, invite: wire::Invite) {
        invite.keys.iter().for_each(|keys| self.on_keys(keys));
        let plan = SessionPlan::from_bytes(&invite.plan).unwrap();
        let id = Digest(plan.session);
        let session = invite.plan[4..36].to_vec();
        if self.again(&id, Question::Invite) {
            return;
        }
        let of = if invite.version.is_empty() { invite.task } else { invite.version };
        let opens = (invite.kind, of);
        if self.refuses || self.spent.contains(&opens) {
            let code = if self.refuses { "policy" } else { "spent" }.to_owned();
            let frame = self.say(Say::Refusal(wire::Refusal { session, code }));
            self.out.push(frame);
            return;
        }
        if self.mute.contains(&Question::Invite) {
            return;
        }
        let (state, bundle) =
            advertise(plan.clone(), self.name.as_str(), &self.identity, &mut self.rng).unwrap();
        let (step, packed, last) = (Step::Advertised(Box::new(state)), Vec::new(), None);
        self.session = Some(Session { id, opens, plan, step, packed, last });
        let bundle = bundle.to_bytes();
        self.answer(Question::Invite, Say::Ready(wire::Ready { session, bundle }));
    }

    fn on_participants(&mut self, message: &wire::Participants) {
        let Some((id, step)) = self.take(&message.session, Question::Participants) else { return };
        let Step::Advertised(state) = step else { panic!("{}: out of step", self.name) };
        let bundles: Vec<Bundle> =
            message.bundles.iter().map(|bytes| Bundle::from_bytes(bytes).unwrap()).collect();
        let notice = match message.notice.is_empty() {
            true => bundles.into(),
            false => Notice::from_bytes(&message.notice).unwrap(),
        };
        let members = self.roster.as_ref().unwrap().1.clone();
        let members = members.clients_at(None);
        let (state, shares) =
            state.share(&notice, &members, 3, &self.identity, &mut self.rng).unwrap();
        self.put(Step::Shared(Box::new(state)));
        let (session, shares) = (id.into(), shares.to_bytes());
        self.answer(Question::Participants, Say::Shares(wire::Shares { session, shares }));
    }

    fn on_inbox(&mut self, message: &wire::Inbox) {
        let Some((id, step)) = self.take(&message.session, Question::Inbox) else { return };
        let Step::Shared(state) = step else { panic!("{}: out of step", self.name) };
        let inbox: Vec<Delivery> =
            message.shares.iter().map(|bytes| Delivery::from_bytes(bytes).unwrap()).collect();
        let (state, erasures) = state.receive(&inbox).unwrap();
        assert!(erasures.is_empty());
        let plan = &self.session.as_ref().unwrap().plan.encoding;
        let clipped = Clipped::new(plan, self.values(plan), self.weight().min(plan.w_max()));
        let clipped = clipped.unwrap();
        let encoded = Encoded::new(clipped, &mut self.rng);
        let (state, update) = state.mask(encoded, &self.identity).unwrap();
        let bytes = update.packed.len() as u64;
        self.put(Step::Masked(Box::new(state)));
        self.session.as_mut().unwrap().packed = update.packed;
        let (session, report) = (id.into(), update.report.to_bytes());
        self.answer(Question::Inbox, Say::Report(wire::Report { session, report, bytes }));
    }

    fn on_chunk_receipt(&mut self, receipt: &wire::ChunkReceipt) {
        let Some(session) = &self.session else { return };
        if session.id.0[..] != receipt.session || session.packed.is_empty() {
            return;
        }
        let chunks: Vec<&[u8]> = session.packed.chunks(CHUNK_BYTES).collect();
        let Some(data) = chunks.get(receipt.next as usize) else { return };
        let mut data = data.to_vec();
        let total = u32::try_from(chunks.len()).unwrap();
        if receipt.next + 1 == total {
            if self.stalls {
                return;
            }
            data[0] ^= u8::from(self.garbles);
        }
        self.chunks += 1;
        let session = receipt.session.clone();
        let chunk = wire::UploadChunk { session, index: receipt.next, total, data };
        let frame = self.frame(Up::Chunk(chunk));
        self.out.push(frame);
    }

    fn on_survivors(&mut self, message: &wire::Survivors) {
        let Some((id, step)) = self.take(&message.session, Question::Survivors) else { return };
        let Step::Masked(state) = step else { panic!("{}: out of step", self.name) };
        let listed = message.indices.iter().map(|&index| u16::try_from(index).unwrap());
        let bit = |index: &u16| message.bitmap[usize::from(index / 8)] >> (index % 8) & 1 == 1;
        let marked = (0..8 * u16::try_from(message.bitmap.len()).unwrap()).filter(bit);
        let indices: Vec<u16> = listed.chain(marked).collect();
        let (state, signature) = state.sign(&indices, 3, &self.identity).unwrap();
        self.put(Step::Signed(Box::new(state)));
        // Above 64 sites only a committee signs.
        let Some(signature) = signature else { return };
        let (session, signature) = (id.into(), signature.to_bytes());
        let message = wire::SurvivorSignature { session, signature };
        self.answer(Question::Survivors, Say::SurvivorSignature(message));
    }

    fn on_unmask(&mut self, message: &wire::Unmask) {
        let Some((id, step)) = self.take(&message.session, Question::Unmask) else { return };
        let Step::Signed(state) = step else {
            // It was muted before: it has not signed, so it cannot reveal.
            return self.put(step);
        };
        let signatures = SurvivorSignature::list_from_bytes(&message.request, 1 << 14).unwrap();
        let (state, reveal) = state.reveal(&signatures, &self.identity).unwrap();
        self.put(Step::Revealed { state: Box::new(state) });
        self.spent.insert(self.session.as_ref().unwrap().opens.clone());
        let (session, reveal) = (id.into(), reveal.to_bytes());
        self.answer(Question::Unmask, Say::Reveal(wire::Reveal { session, reveal }));
    }

    /// Takes the step of a session that is asked something new.
    fn take(&mut self, session: &[u8], question: Question) -> Option<(Digest, Step)> {
        let id = Digest::try_from(session).unwrap();
        if self.again(&id, question) || self.mute.contains(&question) {
            return None;
        }
        let own = self.session.as_mut().filter(|own| own.id == id)?;
        Some((id, std::mem::replace(&mut own.step, Step::Between)))
    }

    fn put(&mut self, step: Step) {
        self.session.as_mut().unwrap().step = step;
    }

    /// Whether the question was answered before; then it is answered again.
    fn again(&mut self, id: &Digest, question: Question) -> bool {
        let Some(body) = self.answers.get(&(*id, question)).cloned() else { return false };
        let frame = self.post(body);
        self.out.push(frame);
        true
    }

    fn answer(&mut self, question: Question, message: Say) {
        let body = wire::ToCoordinator { message: Some(message) }.encode_to_vec();
        let session = self.session.as_mut().unwrap();
        session.last = Some(body.clone());
        self.answers.insert((session.id, question), body.clone());
        let frame = self.post(body);
        self.out.push(frame);
    }

    /// Numbers that add up: ten rows, five of each class, the model right on every one of them.
    fn values(&self, plan: &EncodingPlan) -> Vec<koinon_aggregation::Values> {
        let rows = 10.0;
        let fields = plan.fields()[1..].iter();
        let of = |field: &koinon_aggregation::Field| -> Vec<f64> {
            match field.name.as_str() {
                "update" => vec![self.update(); field.len],
                "loss" => vec![0.25; field.len],
                "unclipped" => vec![0.5],
                "val_loss" => vec![0.5 * rows],
                "val_pos" => binned(field.len, 50, rows / 2.0),
                "val_neg" => binned(field.len, 10, rows / 2.0),
                "numbers.sum" => vec![0.0; field.len],
                "numbers.squares" => vec![rows / 4.0; field.len],
                "labels.count" => vec![rows / 2.0; field.len],
                _ => vec![rows; field.len],
            }
        };
        fields.map(|field| of(field).into()).collect()
    }
}

fn binned(len: usize, bin: usize, rows: f64) -> Vec<f64> {
    let mut counts = vec![0.0; len];
    counts[bin] = rows;
    counts
}
