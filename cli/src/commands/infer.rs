//! `koinon infer`: a site's own rows through a model, all of it here, or with the tail at a partition server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use koinon_client::infer::{LocalModel, VersionFiles, probabilities};
use koinon_client::node::counters::Totals;
use koinon_client::node::inference::{Inference, Options, Tally};
use koinon_client::node::{NodeError, config, site};
use koinon_client::plan::Planner;
use koinon_client::source::ReadLimits;
use koinon_client::split::{self, Placement};
use koinon_model::codec::Codec;
use koinon_model::cut::Cut;
use koinon_model::features::table::{Purpose, Table};
use koinon_model::network::{Form, Network};
use koinon_model::spec::CheckedSpec;
use koinon_proto::Digest;
use serde_json::json;

use crate::exit::{Exit, OrExit as _, fail};
use crate::output::{Format, say, say_json, thousands};

/// Rows in one message to the partition server.
const BATCH_ROWS: usize = 128;
/// How long an answer is waited for before the site answers itself.
const DEADLINE_MS: u32 = 5_000;

/// What to score, with what.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The site's folder: its settings say where the rows are; for split inference also its keys and policy.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// The model folder, as `koinon model pull` makes it.
    #[arg(long)]
    model: PathBuf,
    /// Rows to score instead of the site's own file.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Address of a partition server that runs the rest; without it everything runs here and nothing leaves.
    #[arg(long)]
    partition: Option<String>,
    /// Where to cut, as `koinon model cuts` numbers it; the site's policy must permit it. Without it the plan
    /// decides, after `koinon client profile`, and follows the link.
    #[arg(long, requires = "partition")]
    cut: Option<u32>,
    /// Where the last part comes back to this site, so that outputs stay here: a second cut behind the first.
    #[arg(long, requires = "cut")]
    back: Option<u32>,
    /// How activations are written; where the plan decides, the coarsest way that it may choose.
    #[arg(long, value_enum, default_value_t = CodecChoice::F32)]
    codec: CodecChoice,
    /// Write the scores as CSV into this file.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Text or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Codecs of the boundary.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum CodecChoice {
    /// Exact.
    F32,
    /// Half the bytes.
    F16,
    /// Half the bytes, any magnitude.
    Bf16,
    /// A quarter of the bytes.
    Int8,
    /// An eighth of the bytes.
    Int4,
}

impl From<CodecChoice> for Codec {
    fn from(choice: CodecChoice) -> Codec {
        match choice {
            CodecChoice::F32 => Codec::F32,
            CodecChoice::F16 => Codec::F16,
            CodecChoice::Bf16 => Codec::Bf16,
            CodecChoice::Int8 => Codec::Int8,
            CodecChoice::Int4 => Codec::Int4,
        }
    }
}

/// The files of a model folder.
struct Files {
    spec: Vec<u8>,
    params: Vec<u8>,
    features: Vec<u8>,
    fitted: Vec<u8>,
}

impl Files {
    fn read(folder: &Path) -> anyhow::Result<Files> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path)
                .with_context(|| {
                    format!(
                        "{} cannot be read; `koinon model pull` makes a model folder",
                        path.display()
                    )
                })
                .or_exit(Exit::Config)
        };
        Ok(Files {
            spec: read("spec.json")?,
            params: read("params.safetensors")?,
            features: read("features.json")?,
            fitted: read("fitted.json")?,
        })
    }

    fn version(&self) -> VersionFiles<'_> {
        VersionFiles {
            spec: &self.spec,
            params: &self.params,
            features: &self.features,
            fitted: &self.fitted,
        }
    }
}

pub(crate) fn run(a: &Arguments) -> anyhow::Result<()> {
    let files = Files::read(&a.model)?;
    let local = LocalModel::load(&files.version()).or_exit(Exit::Config)?;
    let table = rows(a, &local)?;
    match (&a.partition, a.cut) {
        (Some(address), cut) => split(a, &files, &local, &table, address, cut),
        _ => here(a, &local, &table),
    }
}

/// The rows to score, by the version's own feature plan.
fn rows(a: &Arguments, local: &LocalModel) -> anyhow::Result<Table> {
    let data = match config::load(&a.dir) {
        Ok(config) => config.data,
        Err(_) if a.input.is_some() && a.partition.is_none() => None, // scoring a file here needs no membership
        Err(e) => return Err(e).or_code(NodeError::exit_code),
    };
    match (&a.input, data) {
        (Some(path), data) => {
            let mut source =
                koinon_client::source::open(path, ReadLimits::default()).or_exit(Exit::Data)?;
            let mapping = data.map(|d| d.mapping()).unwrap_or_default();
            let limits = ReadLimits::default();
            koinon_client::features::read_table(
                source.as_mut(),
                local.features(),
                &mapping,
                &limits,
                Purpose::Infer,
            )
            .or_exit(Exit::Data)
        }
        (None, Some(data)) => {
            site::rows(&data, local.features(), Purpose::Infer).or_exit(Exit::Data)
        }
        (None, None) => {
            Err(fail(Exit::Config, "client.toml has no [data] section; name a file with --input"))
        }
    }
}

fn here(a: &Arguments, local: &LocalModel, table: &Table) -> anyhow::Result<()> {
    let scores = local.scores(table).or_exit(Exit::Config)?;
    write_scores(a.out.as_deref(), &scores.classes, &scores.rows)?;
    let cells = scores.report.cells_missing();
    if a.format == Format::Json {
        let scores: Vec<_> = scores.rows.iter().map(|r| r.last().copied()).collect();
        return say_json(
            &json!({ "rows": scores.len(), "cells_imputed": cells, "scores": scores }),
        );
    }
    say(format!(
        "{} rows scored here; nothing left this machine; {} missing cells were imputed",
        scores.rows.len(),
        cells
    ));
    let class = scores.classes.last().map_or("", String::as_str);
    let label = &local.features().label().column;
    for (i, row) in scores.rows.iter().take(10).enumerate() {
        let score = row.last().copied().unwrap_or_default();
        say(format!("  row {:<5} {label} = {class}: {score:.4}", i + 1));
    }
    if scores.rows.len() > 10 && a.out.is_none() {
        say("  … all of them with --out FILE");
    }
    Ok(())
}

fn split(
    a: &Arguments,
    files: &Files,
    local: &LocalModel,
    table: &Table,
    address: &str,
    cut: Option<u32>,
) -> anyhow::Result<()> {
    let spec = local.spec();
    let (inputs, _) = local.inputs(table).or_exit(Exit::Data)?;
    let network = Network::read(Form::Layers, &files.spec, &files.params).or_exit(Exit::Config)?;
    let names = (Digest::of(&files.spec), Digest::of(&files.params));
    let mut planner = match cut {
        Some(_) => None,
        None => {
            Some(Planner::new(super::plan::read_profile(&a.dir, &names.1)?.up_to(a.codec.into())))
        }
    };
    let options = Options {
        dir: &a.dir,
        servers: &[address.to_owned()],
        placement: placement(a, &network)?,
        network: Arc::new(network),
        names,
    };
    let got = super::runtime()?
        .block_on(ask(options, &inputs.x, inputs.width, planner.as_mut()))
        .or_code(NodeError::exit_code)?;
    let cut = planner.as_ref().map_or(cut, |planner| planner.chosen().cut);
    let whole = local.outputs(&inputs).or_exit(Exit::Config)?;
    let difference = largest_difference(&got.outputs, &whole)?;
    let scores: Vec<Vec<f32>> =
        got.outputs.chunks(spec.output_width()).map(probabilities).collect();
    write_scores(a.out.as_deref(), &local.features().label().values, &scores)?;
    let boundary = cut.map_or("nothing: all here".into(), |cut| boundary_name(spec, cut));
    let raw_bytes = 4 * inputs.x.len() as u64;
    if a.format == Format::Json {
        return say_json(&json!({
            "cut": cut, "boundary": boundary, "rows": inputs.rows, "max_abs_diff": difference,
            "activation_bytes": got.tally.activation_bytes, "raw_bytes": raw_bytes, "origins": got.tally.origins,
            "problem": got.tally.problem,
            "transport": { "written": got.transport.written, "handshake_written": got.transport.handshake_written },
        }));
    }
    tell(&got, inputs.rows, &boundary, raw_bytes, difference);
    Ok(())
}

/// What the servers, or this site, answered.
struct Inferred {
    outputs: Vec<f32>,
    tally: Tally,
    transport: Totals,
}

/// What the caller asks for, held to the cuts that there are; without a cut all here, for the plan to change.
fn placement(a: &Arguments, network: &Network) -> anyhow::Result<Placement> {
    let nodes = u32::try_from(network.n_nodes()).or_exit(Exit::Config)?;
    let Some(cut) = a.cut else {
        return Ok(Placement::here(nodes).with_deadline(DEADLINE_MS));
    };
    if let Some(wrong) = [Some(cut), a.back]
        .into_iter()
        .flatten()
        .find(|&position| !network.cut(position).is_some_and(koinon_model::network::Cut::is_legal))
    {
        let what =
            format!("the model cannot be cut at {wrong}; `koinon model cuts` shows where it can");
        return Err(fail(Exit::Usage, what));
    }
    if a.back.is_some_and(|back| back <= cut) {
        return Err(fail(Exit::Usage, "--back must be behind --cut"));
    }
    let placement = match a.back {
        None => Placement::tail(cut, nodes),
        Some(back) => Placement::u_shape(cut, back, nodes),
    };
    Ok(placement.with_codec(a.codec.into()).with_deadline(DEADLINE_MS))
}

/// Asks for all rows, some at a time; with a planner, one question after another, each where it says.
async fn ask(
    options: Options<'_>,
    rows: &[f32],
    width: usize,
    planner: Option<&mut Planner>,
) -> Result<Inferred, NodeError> {
    let network = Arc::clone(&options.network);
    let nodes = u32::try_from(network.n_nodes()).unwrap_or(u32::MAX);
    let mut inference = Inference::open(options)?;
    let fault = |e: split::SplitError| NodeError::Config(e.to_string());
    let answers = match planner {
        None => {
            let questions = rows.chunks(BATCH_ROWS * width.max(1));
            let questions = questions.map(|rows| split::inputs_of_rows(&network, rows));
            inference.answer(questions.collect::<Result<_, _>>().map_err(fault)?).await?
        }
        Some(planner) => {
            let mut answers = Vec::new();
            let rows_each = planner.rows().max(1);
            for rows in rows.chunks(rows_each * width.max(1)) {
                let placement = planner.choose().placement(nodes).with_deadline(DEADLINE_MS);
                inference.place(placement)?;
                let question = split::inputs_of_rows(&network, rows).map_err(fault)?;
                answers.extend(inference.answer(vec![question]).await?);
                for trip in inference.trips() {
                    planner.answered(trip.bytes, trip.whole, trip.there);
                }
            }
            answers
        }
    };
    let outputs = answers.iter().flat_map(|answer| split::numbers(&answer.outputs));
    let outputs = outputs.copied().collect();
    let tally = inference.tally().clone();
    Ok(Inferred { outputs, tally, transport: inference.close().await })
}

fn tell(got: &Inferred, rows: usize, boundary: &str, raw_bytes: u64, difference: f64) {
    say(format!("{rows} rows scored, cut behind `{boundary}`"));
    if let Some(problem) = &got.tally.problem {
        say(format!("the partition server: {problem}"));
    }
    for (origin, messages) in &got.tally.origins {
        say(format!("  answered by {origin}: {messages} message(s)"));
    }
    say(match got.tally.activation_bytes {
        0 => "nothing left this site: it answered itself".to_owned(),
        bytes => format!(
            "{} bytes of activations left, instead of {} of raw rows; each is in the ledger",
            thousands(bytes),
            thousands(raw_bytes)
        ),
    });
    say(format!("largest difference to the uncut network: {difference:.1e}"));
}

fn largest_difference(split: &[f32], whole: &[f32]) -> anyhow::Result<f64> {
    if split.len() != whole.len() {
        return Err(fail(
            Exit::Verification,
            format!("{} answers for {} outputs", split.len(), whole.len()),
        ));
    }
    let differences = split.iter().zip(whole).map(|(a, b)| f64::from((a - b).abs()));
    Ok(differences.fold(0.0, f64::max))
}

/// What crosses at a cut, by name.
fn boundary_name(spec: &CheckedSpec, cut: u32) -> String {
    let cut = usize::try_from(cut).ok().and_then(|c| Cut::at(spec, c));
    let names = cut.iter().flat_map(Cut::live).map(|l| l.name.clone());
    names.collect::<Vec<_>>().join(" + ")
}

fn write_scores(path: Option<&Path>, classes: &[String], rows: &[Vec<f32>]) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut text = format!("row,{}\n", classes.join(","));
    for (i, row) in rows.iter().enumerate() {
        let figures: Vec<String> = row.iter().map(|p| format!("{p:.6}")).collect();
        text += &format!("{},{}\n", i + 1, figures.join(","));
    }
    std::fs::write(path, text).with_context(|| path.display().to_string()).or_exit(Exit::State)
}
