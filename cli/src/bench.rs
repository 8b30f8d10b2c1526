//! What the private sum costs, in CPU time, against what it must cost: the figures behind
//! `koinon bench aggregation`.
//!
//! Every session here is a real one, by the shipped library: real keys, real shares, real masks, and
//! the opened sum is checked. What the other side of the measured one does is done beforehand,
//! untimed. A figure ending in `_over_parts` is the measured time over the sum of the parts that
//! nobody can leave out, each measured on the same machine in the same run ([`parts`]).
//!
//! Whole rounds are measured with the network that this machine has within itself ([`round`]), and
//! only of them the wall time. Deliberately not here: other frameworks, and opinions: limits are
//! printed beside the figures. Start with [`run`].

mod client;
mod cohort;
pub(crate) mod conformance;
mod cpu;
pub(crate) mod engine;
pub(crate) mod figure;
mod kernel;
mod noise;
mod parts;
pub(crate) mod plot;
mod progress;
pub(crate) mod round;
mod server;
pub(crate) mod split;

use figure::Report;
pub(crate) use progress::Progress;

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// The key stream kernels, each forced in turn.
    Kernel,
    /// One site's whole session, at a million and at ten million entries.
    Client,
    /// All four of the coordinator's.
    Server,
    /// The coordinator, 1,000 sites, 10 % lost.
    #[value(name = "server_10pct")]
    Server10pct,
    /// The coordinator, 1,000 sites, 30 % lost.
    #[value(name = "server_30pct")]
    Server30pct,
    /// The coordinator, 10,000 sites, 10 % lost.
    #[value(name = "server_n10k")]
    ServerN10k,
    /// The coordinator, 1,000 sites that all share with all, 30 % lost: the table of Bonawitz et al.
    #[value(name = "server_bonawitz")]
    ServerBonawitz,
    /// Samples of discrete noise.
    Noise,
    /// Whole rounds over gRPC and mutual TLS.
    Round,
}

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Smaller sessions, good for a look and for nothing else.
    pub(crate) quick: bool,
    /// Threads that prepare what is not timed.
    pub(crate) jobs: usize,
    /// Of whole rounds.
    pub(crate) round: round::Options,
}

/// Measures the wanted parts, all if none is named.
pub(crate) fn run(only: &[Part], options: &Options) -> anyhow::Result<Report> {
    let wants = |part: Part| only.is_empty() || only.contains(&part);
    let progress = Progress::new();
    let mut report = Report::new(options.quick);
    if wants(Part::Kernel) {
        report.add(kernel::measure(options, &progress)?);
    }
    if wants(Part::Noise) {
        report.add(noise::measure(options, &progress)?);
    }
    if wants(Part::Client) {
        report.add(client::measure(options, &progress)?);
    }
    for (part, setting) in server::settings(options) {
        if wants(part) || wants(Part::Server) {
            report.add(server::measure(&setting, options, &progress)?);
        }
    }
    if wants(Part::Round) {
        report.add(round::measure(&options.round, options.quick, &progress)?);
    }
    Ok(report)
}
