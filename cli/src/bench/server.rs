//! The coordinator's whole session: every message read from bytes and checked, every answer written,
//! every update added, the sum opened and found to be the right one.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use koinon_aggregation::{
    MaskedUpdate, Notice, Report, Reveal, ServerSession, Shares, SurvivorSignature, client,
};

use super::client::inbox;
use super::cohort::{Cohort, Shape};
use super::cpu::Meter;
use super::figure::{Breakdown, Figure, Limit, Measured};
use super::parts::{Costs, Work};
use super::{Options, Part, Progress};

/// One session to measure.
pub(crate) struct Setting {
    core_s: &'static str,
    over_parts: &'static str,
    limit: Limit,
    n: usize,
    entries: usize,
    dropout_percent: u8,
    complete: bool,
}

/// Parts of the whole that are told apart.
const PHASES: [&str; 6] =
    ["bundles and notices", "shares and inboxes", "updates", "signatures", "reveals", "opening"];

pub(crate) fn settings(options: &Options) -> Vec<(Part, Setting)> {
    let size = |n: usize, entries: usize| {
        if options.quick { (n / 5, entries / 16) } else { (n, entries) }
    };
    let setting = |names: (&'static str, &'static str), limit, (n, entries), lost| Setting {
        core_s: names.0,
        over_parts: names.1,
        limit,
        n,
        entries,
        dropout_percent: lost,
        complete: false,
    };
    let (at_10, at_30) = (
        ("server_10pct_core_s", "server_10pct_over_parts"),
        ("server_30pct_core_s", "server_30pct_over_parts"),
    );
    let n10k = ("server_n10k_core_s", "server_n10k_over_parts");
    let table = ("server_bonawitz_core_s", "server_bonawitz_over_parts");
    let million = 1_000_000;
    vec![
        (Part::Server10pct, setting(at_10, Limit::AtMost(2.0), size(1_000, million), 10)),
        (Part::Server30pct, setting(at_30, Limit::None, size(1_000, million), 30)),
        (Part::ServerN10k, setting(n10k, Limit::None, size(10_000, million), 10)),
        (
            Part::ServerBonawitz,
            Setting {
                complete: true,
                ..setting(table, Limit::AtMost(10.0), size(1_000, 100_000), 30)
            },
        ),
    ]
}

pub(crate) fn measure(
    setting: &Setting,
    options: &Options,
    progress: &Progress,
) -> anyhow::Result<Measured> {
    let (n, entries, lost) = (setting.n, setting.entries, setting.dropout_percent);
    let shape = if setting.complete {
        Shape::complete(n, entries, lost)?
    } else {
        Shape::new(n, entries, lost)?
    };
    let cohort = Cohort::new(&shape, options)?;
    let costs = Costs::measure(options, entries)?;
    let mut session = Session { cohort: &cohort, shape, progress, meters: Default::default() };
    let work = session.run()?;
    let phases: Vec<(&'static str, f64)> =
        PHASES.into_iter().zip(session.meters.iter().map(Meter::seconds)).collect();
    let breakdown = Breakdown {
        name: format!("the coordinator, {}", shape.text()),
        measured_s: phases.iter().map(|(_, seconds)| seconds).sum(),
        parts: costs.parts(&work),
        phases,
    };
    let core_s = Figure::new(setting.core_s, breakdown.measured_s, "s", setting.limit)
        .with_note(shape.text());
    let over_parts =
        Figure::new(setting.over_parts, breakdown.over_parts(), "", Limit::AtMost(1.3));
    Ok(Measured { figures: vec![core_s, over_parts], breakdowns: vec![breakdown] })
}

/// The sites that have agreed to a set of survivors, and the committee's signatures as bytes.
type Agreed = (Vec<(usize, client::Signed)>, Vec<Vec<u8>>);

struct Session<'a> {
    cohort: &'a Cohort,
    shape: Shape,
    progress: &'a Progress,
    /// By [`PHASES`].
    meters: [Meter; 6],
}

impl Session<'_> {
    /// From the first bundle to the sum; says what work nobody could have left out.
    fn run(&mut self) -> anyhow::Result<Work> {
        let advertised = self.cohort.advertise(self.progress)?;
        let bundles = advertised.iter().map(|(_, bundle)| bundle.as_slice());
        let mut server = self.cohort.gather(bundles, &mut self.meters[0])?;
        let (shared, pairs) = self.share(&mut server, advertised)?;
        let masked = self.report(&mut server, shared)?;
        let survivors = self.meters[3].run(|| server.fix_survivors())?;
        let (signed, signatures) = self.sign(&mut server, masked, &survivors)?;
        let n_signatures = signatures.len();
        self.reveal(&mut server, signed, &signatures)?;
        let (sum, transcript) = self.meters[5].run(|| server.open())?;
        self.meters[5].run(|| drop(transcript));
        let alive: Vec<usize> = survivors.iter().map(|&site| usize::from(site)).collect();
        ensure!(
            sum.values() == self.cohort.expected(&alive, self.shape.entries),
            "the opened sum is not the sum of the updates"
        );
        let (n, alive) = (self.shape.n as u64, alive.len() as u64);
        let encoding = &self.cohort.plan.encoding;
        Ok(Work {
            expansions: alive + pairs,
            mask_bytes: 4 * encoding.entries() as u64,
            agreements: pairs + (n - alive),
            signed: 0,
            // Bundles and dealings of all, reports and reveals of the survivors.
            verified: 2 * n + 2 * alive + n_signatures as u64,
            added_bytes: alive * encoding.update_bytes() as u64,
        })
    }

    /// All share. Gives their states, and how many pairs of a lost site and a neighbour that is not
    /// there will be.
    fn share(
        &mut self,
        server: &mut ServerSession,
        advertised: Vec<(client::Advertised, Vec<u8>)>,
    ) -> anyhow::Result<(Vec<client::Shared>, u64)> {
        self.progress.phase("shares", self.shape.n);
        let (mut states, mut pairs) = (Vec::with_capacity(self.shape.n), 0);
        let mut advertised = advertised.into_iter().map(|(state, _)| state).enumerate().peekable();
        while advertised.peek().is_some() {
            let chunk: Vec<_> = advertised.by_ref().take(self.chunk()).collect();
            let told = chunk.into_iter().map(|(site, state)| {
                let notice = self.meters[0].run(|| self.cohort.notice(server, site))?;
                if !self.survives(site) {
                    pairs += self.surviving_neighbours(site, &notice)?;
                }
                Ok((site, state, notice))
            });
            let told = told.collect::<anyhow::Result<Vec<_>>>()?;
            let dealt = self.cohort.each(told, self.progress, |(site, state, notice)| {
                let (state, shares) = self.cohort.share(site, state, &notice)?;
                Ok((state, shares.to_bytes()))
            })?;
            for (state, shares) in dealt {
                self.meters[1].run(|| server.add_shares(Shares::from_bytes(&shares)?))?;
                states.push(state);
            }
        }
        self.meters[1].run(|| server.fix_dealers())?;
        Ok((states, pairs))
    }

    /// The survivors mask their updates, a few at a time.
    fn report(
        &mut self,
        server: &mut ServerSession,
        shared: Vec<client::Shared>,
    ) -> anyhow::Result<Vec<(usize, client::Masked)>> {
        self.progress.phase("updates", self.shape.n);
        let mut masked = Vec::new();
        let mut shared = shared.into_iter().enumerate().peekable();
        while shared.peek().is_some() {
            let chunk: Vec<_> = shared.by_ref().take(self.chunk()).collect();
            let mut told = Vec::new();
            for (site, state) in chunk {
                // A lost site still asked for its inbox.
                let inbox = self.meters[1].run(|| inbox(server, site))?;
                if self.survives(site) {
                    told.push((site, state, inbox));
                }
            }
            let updates = self.cohort.each(told, self.progress, |(site, state, inbox)| {
                let (state, update) = self.cohort.mask(site, state, &inbox, self.shape.entries)?;
                Ok((site, state, update))
            })?;
            for (site, state, MaskedUpdate { report, packed }) in updates {
                let report = report.to_bytes();
                self.meters[2].run(|| server.add_masked(Report::from_bytes(&report)?, &packed))?;
                masked.push((site, state));
            }
        }
        Ok(masked)
    }

    fn sign(
        &mut self,
        server: &mut ServerSession,
        masked: Vec<(usize, client::Masked)>,
        survivors: &[u16],
    ) -> anyhow::Result<Agreed> {
        self.progress.phase("signatures", masked.len());
        let signed = self.cohort.each(masked, self.progress, |(site, state)| {
            let (state, signature) = state.sign(survivors, 3, self.cohort.identity(site))?;
            Ok((site, state, signature.map(|signature| signature.to_bytes())))
        })?;
        let mut states = Vec::with_capacity(signed.len());
        for (site, state, signature) in signed {
            if let Some(bytes) = signature {
                self.meters[3]
                    .run(|| server.add_signature(SurvivorSignature::from_bytes(&bytes)?))?;
            }
            states.push((site, state));
        }
        let request = self.meters[3].run(|| -> anyhow::Result<Vec<Vec<u8>>> {
            Ok(server.unmask_request()?.iter().map(SurvivorSignature::to_bytes).collect())
        })?;
        Ok((states, request))
    }

    fn reveal(
        &mut self,
        server: &mut ServerSession,
        signed: Vec<(usize, client::Signed)>,
        signatures: &[Vec<u8>],
    ) -> anyhow::Result<()> {
        let signatures: Vec<SurvivorSignature> = signatures
            .iter()
            .map(|bytes| SurvivorSignature::from_bytes(bytes))
            .collect::<Result<_, _>>()?;
        self.progress.phase("reveals", signed.len());
        let reveals = self.cohort.each(signed, self.progress, |(site, state)| {
            let (_, reveal) = state.reveal(&signatures, self.cohort.identity(site))?;
            Ok(reveal.to_bytes())
        })?;
        for bytes in reveals {
            let erasures = self.meters[4].run(|| server.add_reveal(Reveal::from_bytes(&bytes)?))?;
            ensure!(erasures.is_empty(), "a share does not open its commitment");
        }
        Ok(())
    }

    /// How many of a lost site's neighbours are not lost.
    fn surviving_neighbours(&self, site: usize, notice: &[u8]) -> anyhow::Result<u64> {
        let notice = Notice::from_bytes(notice)?;
        let names: BTreeSet<&str> = notice.bundles().iter().map(|bundle| bundle.site()).collect();
        let found = self.cohort.names.iter().enumerate().filter(|(other, name)| {
            *other != site && self.survives(*other) && names.contains(name.as_str())
        });
        u64::try_from(found.count()).context("more neighbours than sites")
    }

    /// The planned share of sites is lost after it has shared: the dearest moment.
    fn survives(&self, site: usize) -> bool {
        site % 100 * 7 % 100 >= usize::from(self.shape.sparse.assumptions.dropout_percent)
    }

    /// How many sites' work is in memory at a time.
    fn chunk(&self) -> usize {
        4 * self.cohort.jobs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum is checked by the measurement itself; here, that every phase and part is counted.
    #[test]
    fn a_small_session_opens_and_every_part_of_it_is_counted() {
        let options = Options { quick: true, jobs: 2, round: Default::default() };
        let progress = Progress::new();
        for complete in [false, true] {
            let setting = Setting {
                core_s: "core_s",
                over_parts: "over_parts",
                limit: Limit::None,
                n: 70,
                entries: 1_000,
                dropout_percent: 10,
                complete,
            };
            let measured = measure(&setting, &options, &progress).unwrap();
            let [breakdown] = &measured.breakdowns[..] else { panic!("one session") };
            assert!(breakdown.phases.iter().all(|(_, seconds)| *seconds > 0.0));
            assert!(breakdown.parts.iter().all(|(_, seconds)| *seconds > 0.0));
            // Seven of seventy are lost; those who share with all lose 63 neighbours each.
            let expansions = breakdown.parts[0].0.split(' ').next().unwrap();
            if complete {
                assert_eq!(expansions, (63 + 7 * 63).to_string());
            }
            assert!(measured.figures.iter().all(|figure| figure.value.unwrap().is_finite()));
        }
    }
}
