//! Split inference against the physical minimum, `head + tail + bytes ÷ bandwidth + round trip`.
//!
//! A site's own folder, a partition server's own folder, the shipped client and server with mutual TLS,
//! policy and ledger; between them a line of this program ([`line`]), because shaping a real one needs an
//! administrator. Head and tail are timed in the same run by the same kernels. Deliberately not here:
//! loss, which a relay above TCP cannot have. Start at [`measure`].

mod line;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use koinon_client::node::inference::{Inference, Options as Asking};
use koinon_client::plan::sample::{self, Size};
use koinon_client::split::{Origin, Placement};
use koinon_model::codec::{Activation, Codec};
use koinon_model::crossing::Crossing;
use koinon_model::network::Network;
use koinon_model::program::Value;
use koinon_partition::{config, server};

use self::line::Line;
use super::figure::{Figure, Limit, Measured};
use crate::commands::plan::read_network;
use crate::exit::{Exit, OrExit as _};

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The site's folder, whose policy permits the cut.
    #[arg(long)]
    pub(crate) site: PathBuf,
    /// The partition server's folder.
    #[arg(long)]
    pub(crate) server: PathBuf,
    /// The model folder.
    #[arg(long)]
    pub(crate) model: PathBuf,
    /// Where to cut.
    #[arg(long)]
    pub(crate) cut: u32,
    /// Rows of one question.
    #[arg(long, default_value_t = 1)]
    pub(crate) rows: usize,
    /// Length of every other free side.
    #[arg(long, default_value_t = 32)]
    pub(crate) length: usize,
    /// Questions over each line.
    #[arg(long, default_value_t = 200)]
    pub(crate) questions: usize,
}

/// The lines, with the names of their figures: median, its ratio to the minimum, 99th percentile's ratio.
const LINES: [(f64, f64, [&str; 3]); 2] = [
    (200.0, 1e9, ["split_1gbit_p50_us", "split_1gbit_p50_over_min", "split_1gbit_p99_over_min"]),
    (
        20_000.0,
        50e6,
        ["split_50mbit_p50_us", "split_50mbit_p50_over_min", "split_50mbit_p99_over_min"],
    ),
];

/// Waits for an answer so long.
const PATIENCE_MS: u32 = 10_000;
/// Questions before those that count.
const WARM_UP: usize = 20;
/// What may be added to the minimum where that is more than a twentieth.
const EXTRA_US: f64 = 150.0;

/// Measures all lines.
pub(crate) fn measure(options: &Options) -> anyhow::Result<Measured> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(options))
}

async fn run(options: &Options) -> anyhow::Result<Measured> {
    let (network, names) = read_network(&options.model)?;
    let network = Arc::new(network);
    let size = Size { rows: options.rows.max(1), length: options.length.max(1) };
    let inputs = sample::inputs(&network, size).or_exit(Exit::Config)?;
    let (head_us, crossing) = timed(&network, 0, options.cut as usize, &inputs)?;
    let (tail_us, _) = timed(&network, options.cut as usize, network.n_nodes(), crossing.values())?;
    let bytes = Activation::encode(&crossing, Codec::F32).or_exit(Exit::Config)?.bytes().len();

    let mut settings =
        config::load(&options.server).map_err(anyhow::Error::msg).or_exit(Exit::Config)?;
    let parent = options.model.canonicalize().or_exit(Exit::Config)?;
    settings.models =
        parent.parent().context("the model folder has no parent").or_exit(Exit::Config)?.into();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let target = listener.local_addr()?;
    tokio::spawn(server::run(settings, listener, std::future::pending()));

    let nodes = u32::try_from(network.n_nodes()).or_exit(Exit::Config)?;
    let placement = Placement::tail(options.cut, nodes).with_deadline(PATIENCE_MS);
    let mut measured = Measured::default();
    for (rtt_us, bits_per_s, figures) in LINES {
        let line =
            Line { rtt: Duration::from_secs_f64(rtt_us * 1e-6), bytes_per_s: bits_per_s / 8.0 };
        let servers = [line.open(target)?.to_string()];
        let mut inference = Inference::open(Asking {
            dir: &options.site,
            servers: &servers,
            network: Arc::clone(&network),
            names,
            placement: placement.clone(),
        })
        .or_code(koinon_client::node::NodeError::exit_code)?;
        let times = ask(&mut inference, &inputs, options.questions).await?;
        inference.close().await;
        let wire_us = count(bytes) * 8e6 / bits_per_s + rtt_us;
        let minimum_us = head_us + tail_us + wire_us;
        measured.figures.extend(judged(figures, &times, minimum_us, &format!(
            "{bytes} bytes cross; minimum {minimum_us:.0} µs = {head_us:.0} head + {tail_us:.0} tail + {wire_us:.0} line"
        )));
    }
    Ok(measured)
}

fn judged(names: [&'static str; 3], times_us: &[f64], minimum_us: f64, note: &str) -> [Figure; 3] {
    let (p50, p99) = (percentile(times_us, 50), percentile(times_us, 99));
    let limit = (minimum_us * 1.05).max(minimum_us + EXTRA_US);
    [
        Figure::new(names[0], p50, "µs", Limit::AtMost(limit.round())).with_note(note),
        Figure::new(names[1], p50 / minimum_us, "", Limit::None),
        Figure::new(names[2], p99 / minimum_us, "", Limit::AtMost(1.2)),
    ]
}

/// Asks one question after another; gives the times of those that count, ascending, in microseconds.
async fn ask(
    inference: &mut Inference,
    inputs: &[Value],
    questions: usize,
) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::with_capacity(questions);
    for at in 0..questions.max(1) + WARM_UP {
        let question = vec![inputs.to_vec()];
        let started = Instant::now();
        let answers =
            inference.answer(question).await.or_code(koinon_client::node::NodeError::exit_code)?;
        let took = started.elapsed();
        if answers.iter().any(|answer| answer.origin != Origin::Split) {
            let why = inference.tally().problem.clone().unwrap_or_else(|| "it was too slow".into());
            anyhow::bail!("the partition server did not answer: {why}");
        }
        if at >= WARM_UP {
            times.push(took.as_secs_f64() * 1e6);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// The median time of some nodes, microseconds, and what comes out.
fn timed(
    network: &Network,
    from: usize,
    to: usize,
    inputs: &[Value],
) -> anyhow::Result<(f64, Crossing)> {
    let at = network.crossing(from, inputs.to_vec()).or_exit(Exit::Config)?;
    let mut times = Vec::new();
    let mut out = None;
    for _ in 0..50 {
        let started = Instant::now();
        out = Some(network.forward(to, &at, &mut network.start(from..to)).or_exit(Exit::Config)?);
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok((percentile(&times, 50), out.context("nothing was run")?))
}

/// Of ascending times.
fn percentile(times: &[f64], percent: usize) -> f64 {
    times
        .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

fn count(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::MAX, f64::from)
}
