//! A cohort with keys and values of its own, and sessions brought as far as a test wants them.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use koinon_aggregation::client::{Advertised, Keyed, Masked, Shared, Signed, advertise};
use koinon_aggregation::parameters::{self, Assumptions, Sparse};
use koinon_aggregation::{
    Bundle, Clipped, Delivery, Encoded, EncodingPlan, Field, MaskedUpdate, ServerSession,
    SessionPlan, Shares, Signer, SurvivorSignature, Topology, UPDATE,
};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// Sites with their keys, the roster that states them, and a plan.
pub(crate) struct Cohort {
    pub(crate) names: Vec<String>,
    pub(crate) keys: Vec<SigningKey>,
    pub(crate) roster: BTreeMap<String, [u8; 32]>,
    pub(crate) plan: SessionPlan,
}

pub(crate) const ENTRIES: usize = 5;

/// A cohort of `n` whose session is called `session`.
pub(crate) fn cohort(n: usize, session: u8) -> Cohort {
    let digits = if n > 100 { 3 } else { 2 };
    let names: Vec<String> = (0..n).map(|i| format!("site-{i:0digits$}")).collect();
    let key = |i: usize| {
        let [high, low] = u16::try_from(i + 1).unwrap().to_be_bytes();
        let mut secret = [if high == 0 { low } else { 0 }; 32];
        (secret[0], secret[1]) = if high == 0 { (low, low) } else { (high, low) };
        SigningKey::from_bytes(&secret)
    };
    let keys: Vec<SigningKey> = (0..n).map(key).collect();
    let roster = names.iter().cloned().zip(keys.iter().map(Signer::public)).collect();
    let field = |name: &str, len, weighted| Field {
        name: name.into(),
        len,
        bound: 4.0,
        frac_bits: 8,
        weighted,
    };
    let fields = vec![field(UPDATE, ENTRIES, true), field("bins", 2, false)];
    let plan = SessionPlan {
        session: [session; 32],
        context: [2; 32],
        roster: [3; 32],
        encoding: EncodingPlan::new(fields, None, 64, 100).unwrap(),
        n_min: 3,
        topology: Topology::Complete,
    };
    Cohort { names, keys, roster, plan }
}

/// A cohort of `n` whose session is carried out on a graph: what is assumed is weak, so that there
/// are graphs for few sites too.
pub(crate) fn sparse_cohort(n: usize, session: u8, assumptions: &Assumptions) -> Cohort {
    sparse_cohort_with(n, session, parameters::sparse(n, assumptions).unwrap())
}

fn sparse_cohort_with(n: usize, session: u8, sparse: Sparse) -> Cohort {
    let cohort = cohort(n, session);
    let fields = cohort.plan.encoding.fields()[1..].to_vec();
    let encoding = EncodingPlan::new(fields, None, u32::try_from(n).unwrap(), 100).unwrap();
    let topology = Topology::Sparse(sparse);
    Cohort { plan: SessionPlan { encoding, topology, ..cohort.plan }, ..cohort }
}

/// As weak as can be: a ring on which each shares with the two on either side.
pub(crate) fn small_graph(n: usize, degree: u16) -> Cohort {
    let assumptions =
        Assumptions { colluding_percent: 0, dropout_percent: 0, sigma: 1, failure_bits: 1 };
    let threshold = degree / 2 + 1;
    let sparse = Sparse { degree, threshold, committee: 5, quorum: 3, assumptions };
    sparse_cohort_with(n, 1, sparse)
}

/// A tenth colludes, a fifth is lost, and a bad graph is not rare at all.
pub(crate) const WEAK: Assumptions =
    Assumptions { colluding_percent: 10, dropout_percent: 20, sigma: 3, failure_bits: 3 };

pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

impl Cohort {
    pub(crate) fn n(&self) -> usize {
        self.names.len()
    }

    /// The update of site `i` in units of 2^-8, within the plan's bound of 4.
    pub(crate) fn units(i: usize) -> impl Iterator<Item = i16> {
        (0..ENTRIES).map(move |e| i16::try_from((i * 37 + e * 11) % 1900).unwrap() - 896)
    }

    /// The update of site `i`: whole multiples of 2^-8, so that encoding is exact.
    pub(crate) fn update(&self, i: usize) -> Vec<f32> {
        Self::units(i).map(|unit| f32::from(unit) / 256.0).collect()
    }

    pub(crate) fn weight(&self, i: usize) -> u32 {
        u32::try_from(i * 7 % 100 + 1).unwrap()
    }

    pub(crate) fn encoded(&self, i: usize, seed: u64) -> Encoded {
        let bins = vec![1.0f64, (i % 128) as f64 / 32.0];
        let values = vec![self.update(i).into(), bins.into()];
        let clipped = Clipped::new(&self.plan.encoding, values, self.weight(i)).unwrap();
        Encoded::new(clipped, &mut rng(seed))
    }

    /// What the updates of these sites sum up to, computed without any of the code under test.
    pub(crate) fn oracle(&self, sites: &[usize]) -> Vec<i64> {
        let mut sum = vec![0; 1 + ENTRIES + 2];
        for &i in sites {
            let weight = i64::from(self.weight(i));
            sum[0] += weight;
            for (e, unit) in Self::units(i).enumerate() {
                sum[1 + e] += weight * i64::from(unit);
            }
            sum[1 + ENTRIES] += 256;
            sum[2 + ENTRIES] += i64::try_from(8 * (i % 128)).unwrap();
        }
        sum
    }

    pub(crate) fn advertised(&self, seed: u64) -> (Vec<Advertised>, Vec<Bundle>) {
        let mut rng = rng(seed);
        self.names
            .iter()
            .zip(&self.keys)
            .map(|(name, key)| advertise(self.plan.clone(), name, key, &mut rng).unwrap())
            .unzip()
    }

    /// Everybody has shared; the dealers are fixed.
    pub(crate) fn shared(&self, seed: u64) -> (Vec<Shared>, Vec<Shares>, ServerSession) {
        let (advertised, bundles) = self.advertised(seed);
        self.share(advertised, bundles, seed)
    }

    pub(crate) fn share(
        &self,
        advertised: Vec<Advertised>,
        bundles: Vec<Bundle>,
        seed: u64,
    ) -> (Vec<Shared>, Vec<Shares>, ServerSession) {
        let mut server = ServerSession::new(self.plan.clone()).unwrap();
        for bundle in bundles {
            server.add_bundle(bundle, &self.roster).unwrap();
        }
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        server.fix_participants(&names, &self.roster).unwrap();
        let mut rng = rng(seed + 1);
        let (shared, shares): (Vec<_>, Vec<_>) = (0..)
            .zip(advertised.into_iter().zip(&self.keys))
            .map(|(i, (a, key))| {
                let notice = server.notice_for(i).unwrap();
                a.share(&notice, &self.roster, 3, key, &mut rng).unwrap()
            })
            .unzip();
        for shares in &shares {
            server.add_shares(shares.clone()).unwrap();
        }
        server.fix_dealers().unwrap();
        (shared, shares, server)
    }

    /// What site `i` receives in a session where everybody has shared.
    pub(crate) fn inbox(&self, server: &ServerSession, i: usize) -> Vec<Delivery> {
        server.inbox_for(u16::try_from(i).unwrap()).unwrap()
    }

    pub(crate) fn keyed(&self, seed: u64) -> (Vec<Keyed>, ServerSession) {
        let (shared, _, server) = self.shared(seed);
        let keyed = (0..).zip(shared).map(|(i, s)| {
            let (keyed, erasures) = s.receive(&self.inbox(&server, i)).unwrap();
            assert!(erasures.is_empty());
            keyed
        });
        (keyed.collect(), server)
    }

    pub(crate) fn mask(&self, keyed: Keyed, i: usize) -> (Masked, MaskedUpdate) {
        keyed.mask(self.encoded(i, 5), &self.keys[i]).unwrap()
    }

    /// All but the last `n_lost` have reported; the survivors are fixed.
    pub(crate) fn masked(&self, seed: u64, n_lost: usize) -> (Vec<Masked>, ServerSession) {
        let (keyed, mut server) = self.keyed(seed);
        let n_left = self.n() - n_lost;
        let mut masked = Vec::new();
        for (i, keyed) in keyed.into_iter().take(n_left).enumerate() {
            let (state, update) = self.mask(keyed, i);
            server.add_masked(update.report, &update.packed).unwrap();
            masked.push(state);
        }
        server.fix_survivors().unwrap();
        (masked, server)
    }

    /// All survivors have signed.
    pub(crate) fn signed(&self, seed: u64, n_lost: usize) -> Unmasking {
        let (masked, mut server) = self.masked(seed, n_lost);
        let survivors = server.reported();
        let mut signed = Vec::new();
        for (state, key) in masked.into_iter().zip(&self.keys) {
            let (state, signature) = state.sign(&survivors, 3, key).unwrap();
            if let Some(signature) = signature {
                server.add_signature(signature).unwrap();
            }
            signed.push(state);
        }
        let signatures = server.unmask_request().unwrap();
        Unmasking { signed, server, survivors, signatures }
    }
}

/// A session with a quorum, before anything was revealed.
pub(crate) struct Unmasking {
    pub(crate) signed: Vec<Signed>,
    pub(crate) server: ServerSession,
    pub(crate) survivors: Vec<u16>,
    pub(crate) signatures: Vec<SurvivorSignature>,
}

/// Signs a tampered message anew, as a site that lies can do: `bytes` are the body and the old
/// signature.
pub(crate) fn resign(bytes: &mut [u8], label: &str, key: &SigningKey) {
    let body = bytes.len() - 64;
    let len = u8::try_from(label.len()).unwrap();
    let signed = [&[len], label.as_bytes(), &bytes[..body]].concat();
    let signature = Signer::sign(key, &signed);
    bytes[body..].copy_from_slice(&signature);
}
