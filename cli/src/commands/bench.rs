//! `koinon bench`: what the private sum and the engine cost on this machine, and whether models are
//! computed as their format says.

use std::path::PathBuf;

use crate::bench::{self, Options, Part};
use crate::exit::{Exit, OrExit as _, fail};
use crate::output::{Format, say, say_json};

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// The private sum: kernels, one site, the coordinator, noise.
    #[command(after_long_help = TEACHING)]
    Aggregation(Arguments),
    /// Split inference against the physical minimum, over lines of stated round trip and bandwidth.
    #[command(after_long_help = LINES)]
    Split(SplitArguments),
    /// ONNX's own test cases: passed, unsupported, wrong.
    #[command(after_long_help = CASES)]
    Conformance(Cases),
    /// The engine: CPU time of an answer, and of training for a row.
    #[command(after_long_help = ENGINE)]
    Engine(Engine),
}

const ENGINE: &str = "\
One thread, random numbers, the middle of many runs. An axis without a length is the batch.
  koinon bench engine model.onnx --batch 1,32
  koinon bench engine --train
benches/peers/ compares with other programs: speed says nothing by itself on a machine with other work.";

#[derive(clap::Args)]
pub(crate) struct Engine {
    /// ONNX files to answer by.
    files: Vec<PathBuf>,
    /// Rows in one call.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 32])]
    batch: Vec<usize>,
    /// Train McMahan's CNN and 2NN as well.
    #[arg(long)]
    train: bool,
    /// How long each figure is measured.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// A table, or a list of {name, value, unit, limit}.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

const CASES: &str = "\
The cases come with the package onnx of PyPI, versions up to 1.22:
  pip download --no-deps onnx==1.22.0 && unzip onnx-*.whl 'onnx/backend/*'
  koinon bench conformance onnx/backend/test/data/node
A float passes within 1e-4 + 1e-3 of its size; everything else exactly. What is not supported is
refused by name when a file is read, and never computed wrongly: a wrong case ends with exit code 9.";

const LINES: &str = "\
It needs a site and a partition server that have joined one consortium; a demo leaves both behind:
  koinon demo --no-faults && cd koinon-demo
  koinon bench split --site hospital-05 --server partition --model hospital-05/federated --cut 2
The minimum is head + tail + bytes / bandwidth + round trip, head and tail timed in the same run. The
lines are this program's own: 0.2 ms at 1 Gbit/s and 20 ms at 50 Mbit/s, nothing lost. Every activation
is in the site's ledger and on its disk before it leaves; that time is in the figures.";

#[derive(clap::Args)]
pub(crate) struct SplitArguments {
    #[command(flatten)]
    what: bench::split::Options,
    /// A table, or a list of {name, value, unit, limit}.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// End with exit code 9 if a figure misses its limit.
    #[arg(long)]
    check: bool,
}

fn split(arguments: &SplitArguments) -> anyhow::Result<()> {
    let mut report = bench::figure::Report::new(false);
    report.add(bench::split::measure(&arguments.what)?);
    match arguments.format {
        Format::Text => say(report.text().trim_end()),
        Format::Json => say_json(&report.json())?,
    }
    judge(&report, arguments.check)
}

/// A check that fails where a figure misses its limit.
fn judge(report: &bench::figure::Report, check: bool) -> anyhow::Result<()> {
    let missed = report.missed();
    if check && !missed.is_empty() {
        let message = format!("beyond their limits: {}", missed.join(", "));
        return Err(fail(Exit::Verification, message));
    }
    Ok(())
}

#[derive(clap::Args)]
pub(crate) struct Cases {
    /// The folder of cases: each a folder with `model.onnx` and `test_data_set_N`.
    dir: PathBuf,
    /// Name every case, not only what is wrong.
    #[arg(long)]
    all: bool,
    /// A table, or a list of {name, value, unit, limit}.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

const TEACHING: &str = "\
What the figures are:
  kernel_*_gb_s            masks added in a second of one core, each kernel forced in turn
  kernel_share_of_peak     the best kernel over the AES units without any memory
  client_{1m,10m}_ms       one of 1,000 sites, its whole session, at d entries
  server_*_core_s          the coordinator's whole session, from the first bundle to the sum
  *_over_parts             measured time over what nobody can leave out: masks, agreements,
                           signatures and bytes, each measured on this machine in this run
  wire_over_bound          bytes up over 1.01 x d x b / 8 + 16 KB
  noise_ns_per_sample      one sample of discrete noise
  round_cpu_ms_per_site    a whole round over gRPC and mutual TLS, both sides together
  round_extra_cpu_*, round_*_over_plain_wall
                           against the same round without masks: only a program that is built
                           with --features plain can run one
  round_coordinator_memory_mib
                           the most that the coordinator's process ever held
  round_up_over_bound      bytes up of a site over 1.01 x d x b / 8 + 16 KB

All but the rounds is CPU time of one core, so another busy program matters little; one that shares
the core's caches matters some. Rounds have wall times too: run them on a quiet machine. Everything
takes a quarter of an hour, nearly all of it to prepare ten thousand real sites. For a look:
  koinon bench aggregation --only kernel
  koinon bench aggregation --only client --quick
A figure that this CPU cannot give (a kernel without its instructions) has no value.";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Measure only these, as in --only kernel,client.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Smaller sessions: for a look, held to no limit, and marked so.
    #[arg(long)]
    quick: bool,
    /// Threads that prepare what is not timed; 0 = one a core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// A table, or a list of {name, value, unit, limit}.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Draw the figures into an SVG file.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// End with exit code 9 if a figure misses its limit.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    round: bench::round::Options,
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Aggregation(arguments) => aggregation(arguments),
        Command::Split(arguments) => split(&arguments),
        Command::Conformance(cases) => conformance(&cases),
        Command::Engine(arguments) => engine(&arguments),
    }
}

fn engine(arguments: &Engine) -> anyhow::Result<()> {
    let each = std::time::Duration::try_from_secs_f64(arguments.seconds).or_exit(Exit::Config)?;
    let all = bench::engine::run(&arguments.files, &arguments.batch, arguments.train, each)
        .or_exit(Exit::Config)?;
    match arguments.format {
        Format::Text => {
            for one in &all {
                say(format!("{:32} {:12.1} {}", one.name, one.value, one.unit));
            }
        }
        Format::Json => say_json(&all)?,
    }
    Ok(())
}

fn conformance(cases: &Cases) -> anyhow::Result<()> {
    let outcome = bench::conformance::run(&cases.dir).or_exit(Exit::Config)?;
    match cases.format {
        Format::Text => say(outcome.text(cases.all)),
        Format::Json => say_json(&outcome.json())?,
    }
    let [_, _, wrong] = outcome.counts();
    if wrong > 0 {
        return Err(fail(Exit::Verification, format!("{wrong} cases are computed wrongly")));
    }
    Ok(())
}

fn aggregation(arguments: Arguments) -> anyhow::Result<()> {
    let jobs = match arguments.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let options = Options { quick: arguments.quick, jobs, round: arguments.round };
    let report = bench::run(&arguments.only, &options)?;
    match arguments.format {
        Format::Text => say(report.text().trim_end()),
        Format::Json => say_json(&report.json())?,
    }
    if let Some(file) = &arguments.plot {
        std::fs::write(file, bench::plot::svg(&report))
            .or_exit(Exit::State)
            .map_err(|e| e.context(format!("while writing {}", file.display())))?;
    }
    judge(&report, arguments.check)
}
