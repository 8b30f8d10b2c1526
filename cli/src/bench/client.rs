//! One site's whole session: keys, shares, signatures, encoding, masks, reveal; messages read from
//! and written to bytes. Everything it receives comes from real sites and a real coordinator.

use anyhow::Context as _;
use koinon_aggregation::{
    Clipped, Delivery, Encoded, Notice, ServerSession, Shares, SurvivorSignature, client,
};

use super::cohort::{Cohort, Shape, index, rng};
use super::cpu::{self, Meter};
use super::figure::{Breakdown, Figure, Limit, Measured};
use super::parts::{Costs, Work};
use super::{Options, Progress};

const SITES: usize = 1_000;
const DROPOUT_PERCENT: u8 = 10;

/// What of a session has a name, in its order.
const PHASES: [&str; 6] = ["keys", "sharing", "agreeing", "masking", "signing", "revealing"];

pub(crate) fn measure(options: &Options, progress: &Progress) -> anyhow::Result<Measured> {
    let mut measured = Measured::default();
    let (n, small, large) =
        if options.quick { (200, 1 << 16, 1 << 18) } else { (SITES, 1_000_000, 10_000_000) };
    let (ms, over) = ("client_1m_ms", "client_1m_over_parts");
    let shape = Shape::new(n, small, DROPOUT_PERCENT)?;
    let (breakdown, wire) = session(&shape, options, progress)?;
    measured.figures.push(
        Figure::new(ms, breakdown.measured_s * 1e3, "ms", Limit::AtMost(28.0))
            .with_note(shape.text()),
    );
    measured.figures.push(Figure::new(over, breakdown.over_parts(), "", Limit::None));
    measured.figures.push(wire.figure());
    measured.breakdowns.push(breakdown);
    let (breakdown, _) = session(&Shape::new(n, large, DROPOUT_PERCENT)?, options, progress)?;
    measured.figures.push(
        Figure::new("client_10m_ms", breakdown.measured_s * 1e3, "ms", Limit::AtMost(150.0))
            .with_note(format!("{:.2} × its parts", breakdown.over_parts())),
    );
    measured.breakdowns.push(breakdown);
    Ok(measured)
}

/// Bytes that the measured site sent and got.
struct Wire {
    up: usize,
    down: usize,
    bound: f64,
}

impl Wire {
    fn figure(&self) -> Figure {
        let note = format!("{} bytes up, {} bytes down beside the model", self.up, self.down);
        Figure::new("wire_over_bound", self.up as f64 / self.bound, "", Limit::AtMost(1.0))
            .with_note(note)
    }
}

/// All that a site is told after it has offered its keys.
struct Told {
    site: usize,
    /// The site with its offered keys: begun again for every run.
    advertised: Vec<u8>,
    notice: Vec<u8>,
    inbox: Vec<Vec<u8>>,
    survivors: Vec<u16>,
    signatures: Vec<Vec<u8>>,
}

fn session(
    shape: &Shape,
    options: &Options,
    progress: &Progress,
) -> anyhow::Result<(Breakdown, Wire)> {
    let cohort = Cohort::new(shape, options)?;
    let told = prepare(&cohort, shape, progress)?;
    let runs = if shape.entries > 2_000_000 { 3 } else { 7 };
    progress.phase("one site's session", runs);
    let costs = Costs::measure(options, shape.entries)?;
    let mut all = Vec::new();
    let mut up = 0;
    for _ in 0..runs {
        let (phases, bytes) = run(&cohort, &told, shape)?;
        up = bytes;
        all.push(phases);
        progress.step(1);
    }
    let phases: Vec<(&'static str, f64)> = PHASES
        .into_iter()
        .enumerate()
        .map(|(i, name)| (name, cpu::median(&mut all.iter().map(|run| run[i]).collect::<Vec<_>>())))
        .collect();
    let update_bytes = cohort.plan.encoding.update_bytes();
    let degree = u64::from(shape.sparse.degree);
    let work = Work {
        expansions: degree + 1,
        mask_bytes: 4 * cohort.plan.encoding.entries() as u64,
        agreements: 2 * degree + 2,
        // Bundle, dealing, report, survivors, reveal.
        signed: 5,
        verified: 2 * degree + told.signatures.len() as u64,
        added_bytes: (4 * shape.entries + update_bytes) as u64,
    };
    let down = told.notice.len()
        + told.inbox.iter().chain(&told.signatures).map(Vec::len).sum::<usize>()
        + 2 * told.survivors.len();
    let breakdown = Breakdown {
        name: format!("one site, {}", shape.text()),
        measured_s: phases.iter().map(|(_, seconds)| seconds).sum(),
        parts: costs.parts(&work),
        phases,
    };
    Ok((breakdown, Wire { up, down, bound: 1.01 * update_bytes as f64 + 16_384.0 }))
}

/// Has everybody else do its part.
fn prepare(cohort: &Cohort, shape: &Shape, progress: &Progress) -> anyhow::Result<Told> {
    let mut off = Meter::default();
    let advertised = cohort.advertise(progress)?;
    let bundles = advertised.iter().map(|(_, bundle)| bundle.as_slice());
    let mut server = cohort.gather(bundles, &mut off)?;
    let site = measured_site(&server)?;
    let notice = cohort.notice(&server, site)?;
    let own = advertised[site].0.to_secret_bytes().to_vec();
    let mut shared = deal_all(cohort, &mut server, advertised, progress)?;
    let survivors: Vec<u16> = (0..shape.n).filter(|&i| survives(i, site)).map(index).collect();
    let signers: Vec<usize> = server.signers().into_iter().map(usize::from).collect();
    let asked: Vec<(usize, client::Shared)> = signers
        .into_iter()
        .filter(|&signer| survives(signer, site))
        .take(server.signature_quorum())
        .filter_map(|signer| Some((signer, shared[signer].take()?)))
        .collect();
    progress.phase("the committee's signatures", asked.len());
    let signatures = cohort.each(asked, progress, |(signer, state)| {
        let inbox = inbox(&server, signer)?;
        let (masked, _) = cohort.mask(signer, state, &inbox, shape.entries)?;
        let (_, signature) = masked.sign(&survivors, 3, cohort.identity(signer))?;
        Ok(signature.context("a member of the committee does not sign")?.to_bytes())
    })?;
    let inbox = inbox(&server, site)?;
    Ok(Told { site, advertised: own, notice, inbox, survivors, signatures })
}

/// A site that is not asked for its signature: most are not, and then the quorum is the others'.
fn measured_site(server: &ServerSession) -> anyhow::Result<usize> {
    let signers = server.signers();
    let site = (0..u16::MAX).find(|site| signers.binary_search(site).is_err());
    Ok(usize::from(site.context("everybody signs")?))
}

fn survives(site: usize, measured: usize) -> bool {
    site % 10 != 7 || site == measured
}

/// Everybody shares, and the coordinator takes it all.
fn deal_all(
    cohort: &Cohort,
    server: &mut ServerSession,
    advertised: Vec<(client::Advertised, Vec<u8>)>,
    progress: &Progress,
) -> anyhow::Result<Vec<Option<client::Shared>>> {
    progress.phase("everybody's shares", advertised.len());
    let sites = advertised.into_iter().map(|(state, _)| state).enumerate().collect();
    let told: &ServerSession = server;
    let dealt = cohort.each(sites, progress, |(site, state)| {
        cohort.share(site, state, &cohort.notice(told, site)?)
    })?;
    let mut states = Vec::new();
    for (state, shares) in dealt {
        server.add_shares(shares)?;
        states.push(Some(state));
    }
    server.fix_dealers()?;
    Ok(states)
}

pub(crate) fn inbox(server: &ServerSession, site: usize) -> anyhow::Result<Vec<Vec<u8>>> {
    Ok(server.inbox_bytes_for(index(site))?)
}

/// One session on the meter: seconds by phase, and the bytes that went up.
fn run(cohort: &Cohort, told: &Told, shape: &Shape) -> anyhow::Result<([f64; 6], usize)> {
    let (site, signer) = (told.site, cohort.identity(told.site));
    let mut rng = rng(site + (9 << 32));
    let values = cohort.values(site, shape.entries);
    let mut meters: [Meter; 6] = std::array::from_fn(|_| Meter::default());
    let [keys, sharing, agreeing, masking, signing, revealing] = &mut meters;
    let (_, bundle) = keys.run(|| {
        let plan = cohort.plan.clone();
        client::advertise(plan, &cohort.names[site], signer, &mut rng)
    })?;
    let state = client::Advertised::from_secret_bytes(&told.advertised)?;
    let (state, shares) = sharing.run(|| -> anyhow::Result<_> {
        let notice = Notice::from_bytes(&told.notice)?;
        let dealt = state.share(&notice, &cohort.members, 3, signer, &mut rng)?;
        Ok((dealt.0, Shares::to_bytes(&dealt.1)))
    })?;
    let state = agreeing.run(|| -> anyhow::Result<_> {
        let inbox: Vec<Delivery> =
            told.inbox.iter().map(|bytes| Delivery::from_bytes(bytes)).collect::<Result<_, _>>()?;
        Ok(state.receive(&inbox)?.0)
    })?;
    let (state, update) = masking.run(|| -> anyhow::Result<_> {
        let clipped = Clipped::new(&cohort.plan.encoding, vec![values.into()], 1)?;
        Ok(state.mask(Encoded::new(clipped, &mut rng), signer)?)
    })?;
    let (state, signature) = signing.run(|| state.sign(&told.survivors, 3, signer))?;
    let reveal = revealing.run(|| reveal(state, told, cohort))?;
    let up = bundle.to_bytes().len()
        + shares.len()
        + update.report.to_bytes().len()
        + update.packed.len()
        + signature.map_or(0, |signature| signature.to_bytes().len())
        + reveal.len();
    Ok((meters.map(|meter| meter.seconds()), up))
}

fn reveal(state: client::Signed, told: &Told, cohort: &Cohort) -> anyhow::Result<Vec<u8>> {
    let signatures: Vec<SurvivorSignature> = told
        .signatures
        .iter()
        .map(|bytes| SurvivorSignature::from_bytes(bytes))
        .collect::<Result<_, _>>()?;
    Ok(state.reveal(&signatures, cohort.identity(told.site))?.1.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_session_is_measured_whole() {
        let options = Options { quick: true, jobs: 2, round: Default::default() };
        let shape = Shape::new(70, 1_000, 10).unwrap();
        let (breakdown, wire) = session(&shape, &options, &Progress::new()).unwrap();
        assert!(breakdown.phases.iter().all(|(_, seconds)| *seconds > 0.0), "{breakdown:?}");
        assert!(breakdown.parts.iter().all(|(_, seconds)| *seconds > 0.0), "{breakdown:?}");
        // An update of 4 KB and what goes with it.
        assert!((4_000..20_000).contains(&wire.up), "{}", wire.up);
        assert!(wire.down > wire.up && wire.figure().value.unwrap() < 1.0);
    }
}
