//! One session from its first message to its sum, with the losses, the order of arrival and the
//! restarts that a case has.

use koinon_aggregation::client::{Advertised, Keyed, Masked, Shared, Signed, advertise};
use koinon_aggregation::{
    Bundle, Delivery, Notice, Rejection, Report, Reveal, ServerSession, Shares, Sum,
    SurvivorSignature,
};
use rand::Rng as _;
use rand_chacha::ChaCha20Rng;

use crate::support::{Cohort, rng};

/// The first step that a site does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lost {
    BeforeAdvertising,
    BeforeSharing,
    BeforeReporting,
    BeforeSigning,
    BeforeRevealing,
    Never,
}

pub(crate) const STEPS: [Lost; 6] = [
    Lost::BeforeAdvertising,
    Lost::BeforeSharing,
    Lost::BeforeReporting,
    Lost::BeforeSigning,
    Lost::BeforeRevealing,
    Lost::Never,
];

/// Shuffles by a seed: who comes first is the network's choice.
fn shuffled<T>(mut items: Vec<T>, seed: u64) -> Vec<T> {
    let mut rng = rng(seed);
    for i in (1..items.len()).rev() {
        let j = usize::try_from(rng.next_u64() % (i as u64 + 1)).unwrap();
        items.swap(i, j);
    }
    items
}

/// Brings every state and every message through its bytes, as a crash and a wire do.
macro_rules! through_bytes {
    ($type:ty, $state:expr) => {
        <$type>::from_secret_bytes(&$state.to_secret_bytes()).unwrap()
    };
    (message $type:ty, $message:expr) => {
        <$type>::from_bytes(&$message.to_bytes()).unwrap()
    };
}

/// The sum and whose updates are in it; or the code of the reason that there is none.
pub(crate) type Outcome<T> = Result<T, &'static str>;

/// What the coordinator has accepted, to give it again after a restart.
#[derive(Default)]
struct Journal {
    bundles: Vec<Bundle>,
    participants: Vec<String>,
    shares: Vec<Shares>,
    updates: Vec<(Report, Vec<u8>)>,
    signatures: Vec<SurvivorSignature>,
    reveals: Vec<Reveal>,
}

/// A session on its way.
pub(crate) struct Case<'a> {
    cohort: &'a Cohort,
    lost: &'a [Lost],
    seed: u64,
    rng: ChaCha20Rng,
    server: ServerSession,
    journal: Journal,
    /// The codes of what sites refused: such a site is lost from there on.
    pub(crate) refused: Vec<&'static str>,
}

impl<'a> Case<'a> {
    pub(crate) fn new(cohort: &'a Cohort, lost: &'a [Lost], seed: u64) -> Self {
        let server = ServerSession::new(cohort.plan.clone()).unwrap();
        let (journal, refused) = (Journal::default(), Vec::new());
        Self { cohort, lost, seed, rng: rng(seed), server, journal, refused }
    }

    /// The whole session.
    pub(crate) fn run(&mut self) -> Outcome<(Sum, Vec<usize>)> {
        let shared = self.share()?;
        let masked = self.report(shared);
        self.open(masked)
    }

    fn active(&self, i: usize, step: Lost) -> bool {
        self.lost[i] >= step
    }

    fn refuse(&mut self, rejection: &Rejection) {
        self.refused.push(rejection.code());
    }

    /// Sometimes the coordinator crashes, and goes on from what it accepted.
    fn maybe_restart(&mut self, step: u64) {
        if self.seed >> (3 * step) & 7 != 0 {
            return;
        }
        let (cohort, journal) = (self.cohort, &self.journal);
        let mut server = ServerSession::new(cohort.plan.clone()).unwrap();
        let done = self.server.step();
        for bundle in shuffled(journal.bundles.clone(), step) {
            server.add_bundle(bundle, &cohort.roster).unwrap();
        }
        if done > koinon_aggregation::Step::Advertising {
            let names: Vec<&str> = journal.participants.iter().map(String::as_str).collect();
            server.fix_participants(&names, &cohort.roster).unwrap();
        }
        for shares in shuffled(journal.shares.clone(), step) {
            server.add_shares(shares).unwrap();
        }
        if done > koinon_aggregation::Step::Sharing {
            server.fix_dealers().unwrap();
        }
        for (report, packed) in shuffled(journal.updates.clone(), step) {
            server.add_masked(report, &packed).unwrap();
        }
        if done > koinon_aggregation::Step::Reporting {
            server.fix_survivors().unwrap();
        }
        for signature in shuffled(journal.signatures.clone(), step) {
            server.add_signature(signature).unwrap();
        }
        for reveal in shuffled(journal.reveals.clone(), step) {
            server.add_reveal(reveal).unwrap();
        }
        assert_eq!(server.step(), done);
        self.server = server;
    }

    fn share(&mut self) -> Outcome<Vec<(usize, Shared)>> {
        let (cohort, roster) = (self.cohort, &self.cohort.roster);
        let (mut advertised, mut arriving) = (Vec::new(), Vec::new());
        let lost = self.lost;
        for i in (0..cohort.n()).filter(|&i| lost[i] >= Lost::BeforeSharing) {
            let (name, key) = (&cohort.names[i], &cohort.keys[i]);
            let (state, bundle) = advertise(cohort.plan.clone(), name, key, &mut self.rng).unwrap();
            advertised.push((i, through_bytes!(Advertised, state)));
            arriving.push(bundle);
        }
        for bundle in shuffled(arriving, self.seed) {
            self.server.add_bundle(through_bytes!(message Bundle, bundle), roster).unwrap();
            self.journal.bundles.push(bundle);
        }
        self.maybe_restart(0);
        let sites: Vec<&str> = advertised.iter().map(|(i, _)| cohort.names[*i].as_str()).collect();
        self.server.fix_participants(&sites, roster).map_err(|r| r.code())?;
        self.journal.participants = sites.into_iter().map(str::to_owned).collect();
        self.maybe_restart(1);
        let (mut shared, mut arriving) = (Vec::new(), Vec::new());
        for (i, state) in advertised {
            let key = &cohort.keys[i];
            let me = self.server.index_of(&cohort.names[i]).unwrap();
            let notice = self.server.notice_for(me).unwrap();
            assert_eq!(self.server.notice_bytes_for(me).unwrap(), notice.to_bytes());
            let notice = through_bytes!(message Notice, notice);
            let (state, shares) = state.share(&notice, roster, 3, key, &mut self.rng).unwrap();
            if self.active(i, Lost::BeforeReporting) {
                arriving.push(shares);
                shared.push((i, through_bytes!(Shared, state)));
            }
        }
        for shares in shuffled(arriving, self.seed + 1) {
            self.server.add_shares(through_bytes!(message Shares, shares)).unwrap();
            self.journal.shares.push(shares);
        }
        self.maybe_restart(2);
        self.server.fix_dealers().map_err(|r| r.code())?;
        Ok(shared)
    }

    fn report(&mut self, shared: Vec<(usize, Shared)>) -> Vec<(usize, Masked)> {
        let (mut masked, mut arriving) = (Vec::new(), Vec::new());
        for (i, state) in shared {
            let me = self.server.index_of(&self.cohort.names[i]).unwrap();
            let inbox = self.server.inbox_for(me).unwrap();
            let bytes: Vec<Vec<u8>> = inbox.iter().map(Delivery::to_bytes).collect();
            assert_eq!(self.server.inbox_bytes_for(me).unwrap(), bytes);
            let inbox: Vec<Delivery> =
                inbox.iter().map(|d| through_bytes!(message Delivery, d)).collect();
            match state.receive(&shuffled(inbox, self.seed + 2)) {
                Err(rejection) => self.refuse(&rejection),
                Ok((state, erasures)) => {
                    assert!(erasures.is_empty());
                    let (state, update) = self.cohort.mask(through_bytes!(Keyed, state), i);
                    if self.active(i, Lost::BeforeSigning) {
                        arriving.push(update);
                        masked.push((i, through_bytes!(Masked, state)));
                    }
                }
            }
        }
        self.maybe_restart(3);
        for update in shuffled(arriving, self.seed + 3) {
            let report = through_bytes!(message Report, update.report);
            self.server.add_masked(report, &update.packed).unwrap();
            self.journal.updates.push((update.report, update.packed));
        }
        self.maybe_restart(4);
        masked
    }

    fn open(&mut self, masked: Vec<(usize, Masked)>) -> Outcome<(Sum, Vec<usize>)> {
        let survivors = self.server.fix_survivors().map_err(|r| r.code())?;
        let summed: Vec<usize> = masked.iter().map(|(i, _)| *i).collect();
        let (mut signed, mut arriving) = (Vec::new(), Vec::new());
        for (i, state) in masked {
            match state.sign(&survivors, 3, &self.cohort.keys[i]) {
                Err(rejection) => self.refuse(&rejection),
                Ok((state, signature)) => {
                    if self.active(i, Lost::BeforeRevealing) {
                        arriving.extend(signature);
                        signed.push((i, through_bytes!(Signed, state)));
                    }
                }
            }
        }
        for signature in shuffled(arriving, self.seed + 4) {
            let signature = through_bytes!(message SurvivorSignature, signature);
            self.server.add_signature(signature.clone()).unwrap();
            self.journal.signatures.push(signature);
        }
        self.maybe_restart(5);
        let signatures = self.server.unmask_request().map_err(|r| r.code())?;
        for (i, state) in shuffled(signed, self.seed + 5) {
            if self.active(i, Lost::Never) {
                let (_, reveal) = state.reveal(&signatures, &self.cohort.keys[i]).unwrap();
                let reveal = through_bytes!(message Reveal, reveal);
                assert_eq!(self.server.add_reveal(reveal.clone()).unwrap(), []);
                let again = self.server.add_reveal(reveal.clone()).unwrap();
                assert_eq!(again, [], "the same again is welcome");
                self.journal.reveals.push(reveal);
            }
        }
        self.maybe_restart(6);
        let can_open = self.server.can_open();
        let opened = self.server.open();
        assert_eq!(can_open, opened.is_ok());
        opened.map(|(sum, _)| (sum, summed)).map_err(|e| e.code())
    }
}
