//! A cohort of real sites and their coordinator, taken step by step: what is measured is one of them
//! or the coordinator, and the others must be there. They work in parallel, off the meter.

use std::collections::BTreeMap;

use anyhow::Context as _;
use koinon_aggregation::identity::Identity;
use koinon_aggregation::parameters::{self, Assumptions, Sparse};
use koinon_aggregation::{
    Bundle, Clipped, Delivery, Encoded, EncodingPlan, Field, MaskedUpdate, Notice, ServerSession,
    SessionPlan, Shares, Signer as _, Topology, UPDATE, client,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::cpu::Meter;
use super::{Options, Progress};

/// Masked words are of 32 bits where the cohort allows it, as in the sums that are compared with.
const BITS_WANTED: u8 = 32;
/// Updates are periodic: what site i adds to entry j depends on j modulo this.
const PERIOD: usize = 17;

/// The size and shape of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) n: usize,
    pub(crate) entries: usize,
    pub(crate) sparse: Sparse,
}

impl Shape {
    /// The smallest malicious parameters at σ = 80 for so many sites.
    pub(crate) fn new(n: usize, entries: usize, dropout_percent: u8) -> anyhow::Result<Self> {
        let sparse = parameters::sparse(n, &assumptions(dropout_percent))?;
        Ok(Self { n, entries, sparse })
    }

    /// Everybody shares with everybody.
    pub(crate) fn complete(n: usize, entries: usize, dropout_percent: u8) -> anyhow::Result<Self> {
        let mut shape = Self::new(n, entries, dropout_percent)?;
        shape.sparse.degree = u16::try_from(n - 1)?;
        shape.sparse.threshold = u16::try_from(2 * n / 3 + 1)?;
        parameters::check(&shape.sparse, n)?;
        Ok(shape)
    }

    pub(crate) fn text(&self) -> String {
        let Sparse { degree, threshold, committee, quorum, assumptions } = self.sparse;
        format!(
            "n = {}, d = {}, k = {degree}, t = {threshold}, {quorum} of {committee} sign, {} % \
             collude, {} % lost, sigma {}",
            self.n,
            self.entries,
            assumptions.colluding_percent,
            assumptions.dropout_percent,
            assumptions.sigma
        )
    }
}

fn assumptions(dropout_percent: u8) -> Assumptions {
    Assumptions { colluding_percent: 10, dropout_percent, sigma: 80, failure_bits: 20 }
}

/// The sites with their keys, and the plan.
pub(crate) struct Cohort {
    pub(crate) plan: SessionPlan,
    pub(crate) names: Vec<String>,
    pub(crate) members: BTreeMap<String, [u8; 32]>,
    identities: Vec<Identity>,
    jobs: usize,
}

impl Cohort {
    pub(crate) fn new(shape: &Shape, options: &Options) -> anyhow::Result<Self> {
        let names: Vec<String> = (0..shape.n).map(|site| format!("site-{site:05}")).collect();
        let identities: Vec<Identity> =
            (0..shape.n).map(|i| Identity::generate(&mut rng(i))).collect();
        let members = names.iter().cloned().zip(identities.iter().map(Identity::public)).collect();
        let plan = SessionPlan {
            session: [1; 32],
            context: [2; 32],
            roster: [3; 32],
            encoding: encoding(shape)?,
            n_min: u16::try_from(shape.n / 2)?,
            topology: Topology::Sparse(shape.sparse),
        };
        Ok(Self { plan, names, members, identities, jobs: options.jobs })
    }

    pub(crate) fn identity(&self, site: usize) -> &Identity {
        &self.identities[site]
    }

    /// Every site's keys, and its bundle as bytes.
    pub(crate) fn advertise(
        &self,
        progress: &Progress,
    ) -> anyhow::Result<Vec<(client::Advertised, Vec<u8>)>> {
        progress.phase("keys", self.names.len());
        self.each((0..self.names.len()).collect(), progress, |site| {
            let (state, bundle) = client::advertise(
                self.plan.clone(),
                &self.names[site],
                self.identity(site),
                &mut rng(site + (1 << 32)),
            )?;
            Ok((state, bundle.to_bytes()))
        })
    }

    /// The coordinator takes the bundles and fixes the participants.
    pub(crate) fn gather<'a>(
        &self,
        bundles: impl Iterator<Item = &'a [u8]>,
        meter: &mut Meter,
    ) -> anyhow::Result<ServerSession> {
        let mut server = meter.run(|| ServerSession::new(self.plan.clone()))?;
        for bytes in bundles {
            meter.run(|| server.add_bundle(Bundle::from_bytes(bytes)?, &self.members))?;
        }
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        meter.run(|| server.fix_participants(&names, &self.members))?;
        Ok(server)
    }

    /// What the coordinator tells a site, as bytes.
    pub(crate) fn notice(&self, server: &ServerSession, site: usize) -> anyhow::Result<Vec<u8>> {
        Ok(server.notice_bytes_for(index(site))?)
    }

    /// A site deals its shares.
    pub(crate) fn share(
        &self,
        site: usize,
        state: client::Advertised,
        notice: &[u8],
    ) -> anyhow::Result<(client::Shared, Shares)> {
        let notice = Notice::from_bytes(notice)?;
        let mut rng = rng(site + (2 << 32));
        let dealt = state.share(&notice, &self.members, 3, self.identity(site), &mut rng);
        dealt.with_context(|| format!("site {site} does not share"))
    }

    /// A site takes its inbox and masks an update.
    pub(crate) fn mask(
        &self,
        site: usize,
        state: client::Shared,
        inbox: &[Vec<u8>],
        entries: usize,
    ) -> anyhow::Result<(client::Masked, MaskedUpdate)> {
        let inbox: Vec<Delivery> =
            inbox.iter().map(|bytes| Delivery::from_bytes(bytes)).collect::<Result<_, _>>()?;
        let (state, _erasures) = state.receive(&inbox)?;
        let values = vec![self.values(site, entries).into()];
        let clipped = Clipped::new(&self.plan.encoding, values, 1)?;
        let encoded = Encoded::new(clipped, &mut rng(site + (3 << 32)));
        Ok(state.mask(encoded, self.identity(site))?)
    }

    /// A site's update: whole multiples of the scale, so that the sum is known exactly.
    pub(crate) fn values(&self, site: usize, entries: usize) -> Vec<f32> {
        let frac_bits = f32::from(self.plan.encoding.fields()[1].frac_bits);
        let unit = (-frac_bits).exp2();
        let period: Vec<f32> = (0..PERIOD).map(|j| integer(site, j) as f32 * unit).collect();
        period.into_iter().cycle().take(entries).collect()
    }

    /// The sum that these sites' updates must open to: the weights, then the entries.
    pub(crate) fn expected(&self, sites: &[usize], entries: usize) -> Vec<i64> {
        let period: Vec<i64> =
            (0..PERIOD).map(|j| sites.iter().map(|&site| integer(site, j)).sum()).collect();
        let weights = std::iter::once(i64::try_from(sites.len()).unwrap_or(i64::MAX));
        weights.chain(period.into_iter().cycle().take(entries)).collect()
    }

    /// Works on all items in parallel; what comes out is in their order.
    pub(crate) fn each<I: Send, O: Send>(
        &self,
        items: Vec<I>,
        progress: &Progress,
        work: impl Fn(I) -> anyhow::Result<O> + Sync,
    ) -> anyhow::Result<Vec<O>> {
        let chunk = items.len().div_ceil(self.jobs).max(1);
        let mut queues: Vec<Vec<I>> = Vec::new();
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            queues.push(items.by_ref().take(chunk).collect());
        }
        let work = &work;
        std::thread::scope(|scope| {
            let threads: Vec<_> = queues
                .into_iter()
                .map(|queue| {
                    scope.spawn(move || {
                        let done = queue.into_iter().map(|item| {
                            let out = work(item);
                            progress.step(1);
                            out
                        });
                        done.collect::<anyhow::Result<Vec<O>>>()
                    })
                })
                .collect();
            let mut all = Vec::new();
            for thread in threads {
                all.extend(thread.join().map_err(|_| anyhow::anyhow!("a site panicked"))??);
            }
            Ok(all)
        })
    }

    /// How many sites can work at a time.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs
    }
}

/// The plan of words of at most [`BITS_WANTED`] bits with the finest scale.
fn encoding(shape: &Shape) -> anyhow::Result<EncodingPlan> {
    let n_max = u32::try_from(shape.n)?;
    let plan = |frac_bits: i8| {
        let field = Field {
            name: UPDATE.into(),
            len: shape.entries,
            bound: 1.0,
            frac_bits,
            weighted: false,
        };
        EncodingPlan::new(vec![field], None, n_max, 1)
    };
    let fits = |plan: &EncodingPlan| plan.bits() <= BITS_WANTED;
    (8..=22)
        .rev()
        .find_map(|frac_bits| plan(frac_bits).ok().filter(fits))
        .context("no scale fits a cohort of this size into 32 bits")
}

/// What site i adds to an entry, in units of the scale.
fn integer(site: usize, entry: usize) -> i64 {
    let mixed = (site * 31 + entry * 7) % 97;
    i64::try_from(mixed).unwrap_or(0) - 48
}

/// The site's entropy, for these measurements the same each time.
pub(crate) fn rng(of: usize) -> StdRng {
    StdRng::seed_from_u64(of as u64)
}

pub(crate) fn index(site: usize) -> u16 {
    u16::try_from(site).expect("cohorts have at most 16,384 sites")
}
