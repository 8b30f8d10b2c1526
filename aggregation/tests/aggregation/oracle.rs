//! Any arrival order, any tolerated loss at every step: exactly the oracle's sum, or a named
//! reason.

use koinon_aggregation::client::{Advertised, Keyed, Masked, Shared, Signed, advertise};
use koinon_aggregation::{
    Bundle, Delivery, Notice, Report, Reveal, ServerSession, Shares, Sum, SurvivorSignature,
    threshold,
};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;

use crate::support::{Cohort, cohort, rng};

/// The first step that a site does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lost {
    BeforeAdvertising,
    BeforeSharing,
    BeforeReporting,
    BeforeSigning,
    BeforeRevealing,
    Never,
}

const STEPS: [Lost; 6] = [
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

type Outcome<T> = Result<T, &'static str>;

/// A session on its way, with the losses and the order of arrival that one case has.
struct Case<'a> {
    cohort: &'a Cohort,
    lost: &'a [Lost],
    seed: u64,
    rng: ChaCha20Rng,
    server: ServerSession,
}

impl Case<'_> {
    fn active(&self, i: usize, step: Lost) -> bool {
        self.lost[i] >= step
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
        }
        let sites: Vec<&str> = advertised.iter().map(|(i, _)| cohort.names[*i].as_str()).collect();
        self.server.fix_participants(&sites, roster).map_err(|r| r.code())?;
        let (mut shared, mut arriving) = (Vec::new(), Vec::new());
        for (i, state) in advertised {
            let key = &cohort.keys[i];
            let me = self.server.index_of(&cohort.names[i]).unwrap();
            let notice = through_bytes!(message Notice, self.server.notice_for(me).unwrap());
            let (state, shares) = state.share(&notice, roster, 3, key, &mut self.rng).unwrap();
            if self.active(i, Lost::BeforeReporting) {
                arriving.push(shares);
                shared.push((i, through_bytes!(Shared, state)));
            }
        }
        for shares in shuffled(arriving, self.seed + 1) {
            self.server.add_shares(through_bytes!(message Shares, shares)).unwrap();
        }
        self.server.fix_dealers().map_err(|r| r.code())?;
        Ok(shared)
    }

    fn report(&mut self, shared: Vec<(usize, Shared)>) -> Outcome<Vec<(usize, Masked)>> {
        let (mut masked, mut arriving) = (Vec::new(), Vec::new());
        for (i, state) in shared {
            let me = self.server.index_of(&self.cohort.names[i]).unwrap();
            let inbox = self.server.inbox_for(me).unwrap();
            let inbox: Vec<Delivery> =
                inbox.iter().map(|d| through_bytes!(message Delivery, d)).collect();
            let (state, erasures) = state.receive(&shuffled(inbox, self.seed + 2)).unwrap();
            assert!(erasures.is_empty());
            let (state, update) = self.cohort.mask(through_bytes!(Keyed, state), i);
            if self.active(i, Lost::BeforeSigning) {
                arriving.push(update);
                masked.push((i, through_bytes!(Masked, state)));
            }
        }
        for update in shuffled(arriving, self.seed + 3) {
            let report = through_bytes!(message Report, update.report);
            self.server.add_masked(report, &update.packed).unwrap();
        }
        Ok(masked)
    }

    fn open(&mut self, masked: Vec<(usize, Masked)>) -> Outcome<Sum> {
        let survivors = self.server.fix_survivors().map_err(|r| r.code())?;
        let (mut signed, mut arriving) = (Vec::new(), Vec::new());
        for (i, state) in masked {
            let (state, signature) = state.sign(&survivors, 3, &self.cohort.keys[i]).unwrap();
            if self.active(i, Lost::BeforeRevealing) {
                arriving.extend(signature);
                signed.push((i, through_bytes!(Signed, state)));
            }
        }
        for signature in shuffled(arriving, self.seed + 4) {
            let signature = through_bytes!(message SurvivorSignature, signature);
            self.server.add_signature(signature).unwrap();
        }
        let signatures = self.server.unmask_request().map_err(|r| r.code())?;
        for (i, state) in shuffled(signed, self.seed + 5) {
            if self.active(i, Lost::Never) {
                let (_, reveal) = state.reveal(&signatures, &self.cohort.keys[i]).unwrap();
                let reveal = through_bytes!(message Reveal, reveal);
                assert_eq!(self.server.add_reveal(reveal.clone()).unwrap(), []);
                let again = self.server.add_reveal(reveal).unwrap();
                assert_eq!(again, [], "the same again is welcome");
            }
        }
        let can_open = self.server.can_open();
        let opened = self.server.open();
        assert_eq!(can_open, opened.is_ok());
        opened.map(|(sum, _)| sum).map_err(|e| e.code())
    }
}

/// A whole session; the error is the code of the reason it ended with.
fn run(cohort: &Cohort, lost: &[Lost], seed: u64) -> Outcome<Sum> {
    let server = ServerSession::new(cohort.plan.clone()).unwrap();
    let mut case = Case { cohort, lost, seed, rng: rng(seed), server };
    let shared = case.share()?;
    let masked = case.report(shared)?;
    case.open(masked)
}

/// What must come of it.
fn expected(cohort: &Cohort, lost: &[Lost]) -> Outcome<Vec<i64>> {
    let left =
        |step: Lost| -> Vec<usize> { (0..cohort.n()).filter(|&i| lost[i] >= step).collect() };
    let n = left(Lost::BeforeSharing).len();
    if n < 3 {
        return Err("too_few");
    }
    let t = threshold(n);
    for step in [Lost::BeforeReporting, Lost::BeforeSigning, Lost::BeforeRevealing] {
        if left(step).len() < t {
            return Err("too_few");
        }
    }
    if left(Lost::Never).len() < t {
        return Err("too_few_shares");
    }
    Ok(cohort.oracle(&left(Lost::BeforeSigning)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_order_and_any_loss_give_the_sum_or_a_reason(
        lost in proptest::collection::vec(prop_oneof![
            2 => proptest::sample::select(STEPS.to_vec()),
            5 => Just(Lost::Never),
        ], 3..=9),
        seed: u32,
    ) {
        let cohort = cohort(lost.len(), 1);
        let got = run(&cohort, &lost, u64::from(seed)).map(|sum| sum.values().to_vec());
        prop_assert_eq!(got, expected(&cohort, &lost));
    }
}

#[test]
fn the_largest_cohort_opens_with_a_third_lost() {
    let cohort = cohort(64, 1);
    let mut lost = [Lost::Never; 64];
    lost[3..24].fill(Lost::BeforeSigning);
    assert_eq!(64 - 21, threshold(64));
    let sum = run(&cohort, &lost, 9).unwrap();
    assert_eq!(sum.values(), expected(&cohort, &lost).unwrap());
    lost[24] = Lost::BeforeSigning;
    assert_eq!(run(&cohort, &lost, 9), Err("too_few"));
}

#[test]
fn masked_words_minus_the_encoded_are_uniform() {
    use koinon_aggregation::{Clipped, Encoded, EncodingPlan, Field, SessionPlan, UPDATE};
    // ⌈8191/4096 · 2^12⌉ · 4 = 32,764 < 2^15: words of 16 bits, which pack into two bytes each.
    let len = 40_000;
    let field =
        Field { name: UPDATE.into(), len, bound: 8191.0 / 4096.0, frac_bits: 12, weighted: false };
    let encoding = EncodingPlan::new(vec![field], None, 4, 1).unwrap();
    assert_eq!(encoding.bits(), 16);
    let mut cohort = cohort(3, 1);
    cohort.plan = SessionPlan { encoding: encoding.clone(), ..cohort.plan };
    let (keyed, _) = cohort.keyed(1);
    for (keyed, key) in keyed.into_iter().zip(&cohort.keys) {
        let clipped = Clipped::new(&encoding, vec![vec![1.0f32; len].into()], 1).unwrap();
        let (_, update) = keyed.mask(Encoded::new(clipped, &mut rng(2)), key).unwrap();
        let mut counts = [0u32; 256];
        for pair in update.packed[2..].chunks_exact(2) {
            let word = u16::from_le_bytes([pair[0], pair[1]]).wrapping_sub(4096);
            counts[usize::from(word >> 8)] += 1;
            counts[usize::from(word & 255)] += 1;
        }
        let expected = 2.0 * len as f64 / 256.0;
        let chi2: f64 = counts.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
        // 255 degrees of freedom: mean 255, standard deviation 22.6.
        assert!((140.0..390.0).contains(&chi2), "{chi2}");
    }
}
