//! Whole rounds over real gRPC and mutual TLS: what the masks add to a round, and what a coordinator
//! holds meanwhile.
//!
//! The coordinator is a process of its own, this program once more; every site is a whole node in
//! this process, with its own folder, keys, ledger and connection. Rounds with and without masks
//! alternate on one federation, so that both meet the same machine; a plain one needs the feature
//! `plain`, which no shipped program has. Training is a stand-in that takes a stated time, sleeping or
//! computing: a thousand sites that each had a machine of their own share this one here.
//! Deliberately no network in between but the loopback. Start at [`measure`].

mod federation;
mod process;
mod task;
mod trainer;

use anyhow::Context as _;
use koinon_aggregation::Topology;
use koinon_aggregation::parameters::{Assumptions, sparse_between};
use koinon_proto::task::CohortPlan;

use self::federation::{Federation, Seen};
use self::trainer::Training;
use super::Progress;
use super::cpu::median;
use super::figure::{Figure, Limit, Measured};

/// What is measured of rounds.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Sites of a round.
    #[arg(long, default_value_t = 1_000, help_heading = "Rounds")]
    pub(crate) sites: u16,
    /// Parameters of the model, about.
    #[arg(long, default_value_t = 100_000, help_heading = "Rounds")]
    pub(crate) parameters: u32,
    /// How long each site trains.
    #[arg(long, default_value_t = 1_000, help_heading = "Rounds")]
    pub(crate) training_ms: u64,
    /// What a site does while it trains.
    #[arg(long, value_enum, default_value_t = trainer::Manner::Sleep, help_heading = "Rounds")]
    pub(crate) training: trainer::Manner,
    /// Rounds of each kind; the middle one counts.
    #[arg(long, default_value_t = 3, help_heading = "Rounds")]
    pub(crate) pairs: u16,
}

/// Sites of the small federation: as many as are often seen, few enough for this machine to be
/// everybody's own.
const SMALL: u16 = 16;

/// What a run on one federation gives.
struct Run {
    secure: Vec<Seen>,
    plain: Vec<Seen>,
    coordinator_mib: f64,
}

/// Measures rounds of a small federation, and of one of the wanted size.
pub(crate) fn measure(
    options: &Options,
    quick: bool,
    progress: &Progress,
) -> anyhow::Result<Measured> {
    let mut options = options.clone();
    if quick {
        (options.sites, options.pairs) = (options.sites.min(100), 1);
    }
    process::allow_files(u64::from(options.sites) * 16 + 256);
    let small = Options { sites: SMALL.min(options.sites), ..options.clone() };
    let small = run(&small, progress).context("in the small federation")?;
    let large = run(&options, progress)?;
    Ok(Measured { figures: figures(&options, &small, &large), breakdowns: Vec::new() })
}

fn run(options: &Options, progress: &Progress) -> anyhow::Result<Run> {
    let training = Training { ms: options.training_ms, manner: options.training };
    let mut federation = Federation::found(options.sites, training, progress)?;
    let plain = cfg!(feature = "plain");
    let rounds = usize::from(options.pairs) * (1 + usize::from(plain)) + 1;
    progress.phase(&format!("rounds of {} sites", options.sites), rounds);
    // Fits the features, which is done once, and warms everything up.
    federation.round(task::Wanted::new(options, false, 0))?;
    progress.step(1);
    let mut run = Run { secure: Vec::new(), plain: Vec::new(), coordinator_mib: 0.0 };
    for pair in 1..=options.pairs {
        run.secure.push(federation.round(task::Wanted::new(options, false, pair))?);
        progress.step(1);
        if plain {
            run.plain.push(federation.round(task::Wanted::new(options, true, pair))?);
            progress.step(1);
        }
    }
    run.coordinator_mib = federation.coordinator_peak_mib()?;
    federation.stop();
    Ok(run)
}

fn middle(seen: &[Seen], value: impl Fn(&Seen) -> f64) -> f64 {
    median(&mut seen.iter().map(value).collect::<Vec<_>>())
}

fn figures(options: &Options, small: &Run, large: &Run) -> Vec<Figure> {
    let n = f64::from(options.sites);
    let cpu_ms = |seen: &Seen| (seen.sites_s + seen.coordinator_s) * 1e3 / n;
    let terms = format!(
        "{} sites, d = {}, training {} ms {}",
        options.sites,
        options.parameters,
        options.training_ms,
        options.training.words()
    );
    let secure_ms = middle(&large.secure, cpu_ms);
    let part = |of: fn(&Seen) -> f64| middle(&large.secure, of) * 1e3 / n;
    let (sites_ms, coordinator_ms) = (part(|s| s.sites_s), part(|s| s.coordinator_s));
    let mut figures = vec![
        Figure::new("round_cpu_ms_per_site", secure_ms, "ms", Limit::None).with_note(format!(
            "{terms}; at the site {sites_ms:.1} ms, at the coordinator {coordinator_ms:.1} ms"
        )),
        Figure::new("round_wall_s", middle(&large.secure, |s| s.wall_s), "s", Limit::None)
            .with_note(phases(&large.secure)),
    ];
    figures.push(extra(&terms, secure_ms, large, &cpu_ms));
    figures.push(ratio("round_secure_over_plain_wall", &terms, large));
    let few = format!("{SMALL} sites on one machine, else alike");
    figures.push(ratio("round_small_secure_over_plain_wall", &few, small));
    let bound = memory_bound_mib(options);
    let memory = large.coordinator_mib;
    figures.push(
        Figure::new("round_coordinator_memory_mib", memory, "MiB", Limit::AtMost(bound))
            .with_note("the most it ever held, joining included"),
    );
    let up = middle(&large.secure, |s| s.up / (1.01 * s.packed + 16_384.0));
    figures.push(
        Figure::new("round_up_over_bound", up, "", Limit::AtMost(1.0))
            .with_note("all bytes below TLS over 1.01 x d x b / 8 + 16 KB"),
    );
    let down = middle(&large.secure, |s| s.down / 1024.0);
    figures.push(
        Figure::new("round_down_kib", down, "KiB", Limit::None)
            .with_note("parameters, keys, proofs and shares"),
    );
    figures
}

fn extra(terms: &str, secure_ms: f64, run: &Run, cpu_ms: &dyn Fn(&Seen) -> f64) -> Figure {
    let name = "round_extra_cpu_ms_per_site";
    if run.plain.is_empty() {
        return unpaired(name, "ms", Limit::AtMost(20.0));
    }
    let plain_ms = middle(&run.plain, cpu_ms);
    Figure::new(name, secure_ms - plain_ms, "ms", Limit::AtMost(20.0))
        .with_note(format!("plain {plain_ms:.1} ms, both sides together; {terms}"))
}

fn ratio(name: &'static str, terms: &str, run: &Run) -> Figure {
    if run.plain.is_empty() {
        return unpaired(name, "", Limit::AtMost(1.1));
    }
    let wall_s = |seen: &[Seen]| middle(seen, |s| s.wall_s);
    let (secure_s, plain_s) = (wall_s(&run.secure), wall_s(&run.plain));
    Figure::new(name, secure_s / plain_s, "", Limit::AtMost(1.1))
        .with_note(format!("{secure_s:.2} s over {plain_s:.2} s; {terms}"))
}

/// A figure that only a program with plain rounds can measure.
fn unpaired(name: &'static str, unit: &'static str, limit: Limit) -> Figure {
    let mut figure = Figure::new(name, f64::NAN, unit, limit);
    figure.value = None;
    figure.with_note("cargo run --release --features plain -- bench aggregation --only round")
}

/// The phases of the round in the middle.
fn phases(seen: &[Seen]) -> String {
    let mut seen: Vec<&Seen> = seen.iter().collect();
    seen.sort_by(|a, b| a.wall_s.total_cmp(&b.wall_s));
    let phases = seen.get(seen.len() / 2).map(|seen| &seen.phases[..]).unwrap_or_default();
    let words: Vec<String> = phases.iter().map(|(name, s)| format!("{name} {s:.1} s")).collect();
    words.join(", ")
}

/// 24 bytes an entry, 64 MiB, and 200 bytes for each share of each site.
fn memory_bound_mib(options: &Options) -> f64 {
    let n = f64::from(options.sites);
    let holders = f64::from(holders(&task::cohort(options.sites), options.sites));
    let bytes = 24.0 * f64::from(options.parameters) + 200.0 * n * holders;
    (bytes / f64::from(1 << 20) + 64.0).round()
}

/// How many hold shares of one site, as the coordinator plans it.
fn holders(cohort: &CohortPlan, sites: u16) -> u16 {
    if usize::from(sites) <= koinon_aggregation::COMPLETE_MAX {
        return sites;
    }
    let colluding = (u32::from(sites) * u32::from(cohort.colluding_percent)).div_ceil(100);
    let among_quorum = (100 * colluding).div_ceil(u32::from(cohort.quorum));
    let among_quorum = u8::try_from(among_quorum).unwrap_or(50).min(50);
    let planned = (cohort.colluding_percent..=among_quorum).rev().find_map(|colluding_percent| {
        let assumptions = Assumptions {
            colluding_percent,
            dropout_percent: cohort.dropout_percent,
            sigma: 80,
            failure_bits: 20,
        };
        sparse_between(usize::from(cohort.quorum)..=usize::from(sites), &assumptions).ok()
    });
    match planned.map(Topology::Sparse) {
        Some(Topology::Sparse(sparse)) => sparse.degree,
        _ => sites,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(wall_s: f64, sites_s: f64) -> Seen {
        let phases = vec![("training".to_owned(), 1.0)];
        let (packed, up, down) = (350_000.0, 360_000.0, 500_000.0);
        Seen { wall_s, sites_s, coordinator_s: 0.1, packed, up, down, phases }
    }

    fn options() -> Options {
        let training = trainer::Manner::Sleep;
        Options { sites: 1000, parameters: 100_000, training_ms: 1000, training, pairs: 3 }
    }

    #[test]
    fn figures_are_of_the_middle_round_and_a_ratio_needs_both_kinds() {
        let secure = || vec![seen(2.2, 15.9), seen(9.0, 90.0), seen(2.0, 10.0)];
        let alone = Run { secure: secure(), plain: vec![], coordinator_mib: 80.0 };
        let paired = Run { plain: vec![seen(2.0, 4.9)], ..Run { secure: secure(), ..alone } };
        let value = |run: &Run, name: &str| {
            let figures = figures(&options(), run, run);
            figures.into_iter().find(|figure| figure.name == name).unwrap().value
        };
        let near = |value: Option<f64>, wanted: f64| (value.unwrap() - wanted).abs() < 1e-9;
        assert!(near(value(&paired, "round_extra_cpu_ms_per_site"), 11.0));
        assert!(near(value(&paired, "round_secure_over_plain_wall"), 1.1));
        assert!(near(value(&paired, "round_coordinator_memory_mib"), 80.0));
        let alone = Run { plain: vec![], ..paired };
        assert_eq!(value(&alone, "round_secure_over_plain_wall"), None);
        assert!(near(value(&alone, "round_cpu_ms_per_site"), 16.0));
    }

    #[test]
    fn the_bound_grows_with_parameters_and_shares() {
        let bound = memory_bound_mib(&options());
        assert!((85.0..110.0).contains(&bound), "{bound}");
        let longer = Options { parameters: 1_000_000, ..options() };
        assert!(memory_bound_mib(&longer) > bound + 20.0);
    }
}
