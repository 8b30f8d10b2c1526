//! Folders of imported networks: what they are, where they can be cut, whether cut and whole agree.
//!
//! Sides, bytes and operations are those of one run on made-up inputs. Start at [`inspect`], [`cuts`], [`verify`].

use std::path::Path;

use anyhow::Context as _;
use koinon_model::codec::Codec;
use koinon_model::network::{Cut, Network, Obstacle};
use koinon_model::onnx;
use koinon_model::program::figures::{Figures, Sides, Sizes, sample};
use koinon_model::program::{CheckedProgram, DType, Value};
use koinon_proto::Digest;
use serde_json::json;

use super::folder::{bytes, read};
use super::graph::{Line, page};
use crate::exit::{Exit, OrExit as _, fail};
use crate::output::{Format, say, say_json, table, thousands};

/// How far an answer may be from another one of the same network: a part of the value, and near zero so much.
const TOLERANCE: [f64; 2] = [1e-3, 1e-4];

/// Sides of the made-up inputs, where a network leaves them free.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct SizeArguments {
    /// Rows.
    #[arg(long, default_value_t = 1)]
    rows: usize,
    /// Every other free side: tokens of a text, or a picture's height and width.
    #[arg(long, default_value_t = 8)]
    length: usize,
}

impl From<SizeArguments> for Sizes {
    fn from(own: SizeArguments) -> Self {
        Self { rows: own.rows, length: own.length }
    }
}

/// A program and what one run of it shows.
struct Shown<'a> {
    program: &'a CheckedProgram,
    figures: Figures,
}

impl<'a> Shown<'a> {
    fn of(network: &'a Network, sizes: SizeArguments) -> anyhow::Result<Self> {
        let missing = || fail(Exit::Config, "the folder holds no program");
        let program = network.as_program().ok_or_else(missing)?;
        let inputs = sample(&program.program().inputs, sizes.into()).or_exit(Exit::Usage)?;
        let figures =
            program.figures(inputs).context("try another --length").or_exit(Exit::Data)?;
        Ok(Self { program, figures })
    }

    /// What crosses a cut, with its sides.
    fn crossing(&self, cut: &'a Cut) -> Vec<(&'a str, &Sides)> {
        let sides = |name: &'a str| self.figures.sides(name).map(|sides| (name, sides));
        cut.live.iter().filter_map(|live| sides(&live.name)).collect()
    }

    fn bytes(&self, cut: &'a Cut, codec: Codec) -> usize {
        let crossing = self.crossing(cut);
        codec.bytes_for(crossing.iter().map(|(_, (dtype, shape))| (*dtype, shape.as_slice())))
    }

    /// Share of all operations that run before a cut.
    fn share(&self, cut: &Cut) -> f64 {
        let all = self.figures.flops_before(self.program.n_nodes()).max(1);
        self.figures.flops_before(cut.position) as f64 / all as f64
    }
}

pub(super) fn inspect(
    path: &Path,
    sizes: SizeArguments,
    html: Option<&Path>,
    format: Format,
) -> anyhow::Result<()> {
    let (network, files) = read(path)?;
    let shown = Shown::of(&network, sizes)?;
    if let Some(file) = html {
        std::fs::write(file, draw(&network, &shown, sizes))
            .with_context(|| file.display().to_string())
            .or_exit(Exit::State)?;
    }
    let (program, figures) = (shown.program.program(), &shown.figures);
    let flops = figures.flops_before(program.nodes.len());
    let nodes = program.nodes.iter().zip(&figures.nodes);
    if format == Format::Json {
        let nodes = nodes.map(|(node, own)| {
            let shapes: Vec<&[usize]> = own.outputs.iter().map(|(_, s)| s.as_slice()).collect();
            json!({ "name": node.name, "op": op_name(node), "inputs": node.inputs, "shapes": shapes,
                "parameters": own.parameters, "flops": own.flops })
        });
        let digest =
            |(name, bytes): &(&str, Vec<u8>)| json!({ *name: Digest::of(bytes).to_string() });
        return say_json(&json!({
            "name": program.name, "form": "program", "parameters": shown.program.parameters(),
            "flops": flops, "inputs": program.inputs, "outputs": program.outputs,
            "states": program.states, "nodes": nodes.collect::<Vec<_>>(),
            "files": files.iter().map(digest).collect::<Vec<_>>(),
        }));
    }
    let numbers = thousands(shown.program.parameters() as u64);
    say(format!("{}: {numbers} parameters, {} operations", program.name, thousands(flops)));
    for port in &program.inputs {
        let sides = figures.sides(&port.name).map_or_else(String::new, words);
        say(format!("input {} {sides} ({:?})", port.name, port.role));
    }
    if !program.states.is_empty() {
        say(format!("{} states, kept from step to step", program.states.len()));
    }
    let mut rows =
        vec![["#", "node", "op", "output", "parameters", "operations"].map(String::from).to_vec()];
    for (at, (node, own)) in nodes.enumerate() {
        rows.push(vec![
            at.to_string(),
            node.name.clone(),
            op_name(node),
            own.outputs.iter().map(words).collect::<Vec<_>>().join(" + "),
            thousands(own.parameters as u64),
            thousands(own.flops),
        ]);
    }
    say(table(&rows).trim_end());
    for (name, bytes) in &files {
        say(format!("{name:<24} {}", Digest::of(bytes)));
    }
    Ok(())
}

/// The program as a page.
fn draw(network: &Network, shown: &Shown<'_>, sizes: SizeArguments) -> String {
    let program = shown.program.program();
    let cuts = network.cuts().iter().skip(1);
    let nodes = program.nodes.iter().zip(&shown.figures.nodes).zip(cuts);
    let lines: Vec<Line> = nodes
        .map(|((node, own), cut)| {
            let crosses: Vec<String> = shown
                .crossing(cut)
                .into_iter()
                .map(|(name, sides)| format!("{name} {}", words(sides)))
                .collect();
            let bytes = [Codec::F32, Codec::Int8].map(|codec| shown.bytes(cut, codec) as u64);
            let remark = if cut.is_legal() {
                format!("crosses: {}; {} bytes in int8", crosses.join(" + "), bytes[1])
            } else {
                remark(cut)
            };
            Line {
                name: node.name.clone(),
                op: op_name(node),
                reads: node.inputs.clone(),
                gives: node.outputs.clone(),
                shape: own.outputs.iter().map(words).collect::<Vec<_>>().join(" + "),
                parameters: own.parameters as u64,
                flops: own.flops,
                bytes,
                legal: cut.is_legal(),
                remark,
            }
        })
        .collect();
    let flops = thousands(shown.figures.flops_before(program.nodes.len()));
    let numbers = thousands(shown.program.parameters() as u64);
    let legal = lines.iter().filter(|line| line.legal).count();
    let about = format!(
        "{} nodes, {numbers} parameters; {flops} operations for {} row(s) of length {}; {legal} legal cuts",
        lines.len(),
        sizes.rows,
        sizes.length
    );
    page(&program.name, &about, &lines)
}

/// An operation's name, as `program.json` writes it.
fn op_name(node: &koinon_model::program::ProgramNode) -> String {
    match serde_json::to_value(&node.op) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(serde_json::Value::Object(fields)) => {
            fields.into_iter().next().map_or_else(String::new, |(name, inner)| {
                match (name.as_str(), inner.as_str()) {
                    ("unary" | "binary" | "fold", Some(inner)) => inner.to_owned(),
                    ("unary" | "binary", None) => {
                        inner.as_object().and_then(|o| o.keys().next().cloned()).unwrap_or(name)
                    }
                    _ => name,
                }
            })
        }
        _ => String::new(),
    }
}

fn words((dtype, shape): &Sides) -> String {
    match dtype {
        DType::F32 => format!("{shape:?}"),
        other => format!("{other:?} {shape:?}").to_lowercase(),
    }
}

/// Why nothing may be cut there, if nothing may.
fn remark(cut: &Cut) -> String {
    match &cut.obstacle {
        Some(Obstacle::End) => "no split: all of it runs here".into(),
        _ if cut.raw => "never: a raw input would cross".into(),
        Some(Obstacle::State(name)) => format!("never: `{name}` would be cut from its own past"),
        Some(Obstacle::Many(count)) => format!("never: {count} tensors would cross"),
        None => String::new(),
    }
}

pub(super) fn cuts(path: &Path, sizes: SizeArguments, format: Format) -> anyhow::Result<()> {
    let (network, _) = read(path)?;
    let shown = Shown::of(&network, sizes)?;
    if format == Format::Json {
        let cuts = network.cuts().iter().map(|cut| {
            let tensors = shown.crossing(cut).into_iter().map(
                |(name, (dtype, shape))| json!({ "name": name, "dtype": dtype, "shape": shape }),
            );
            let bytes: serde_json::Map<String, serde_json::Value> = Codec::ALL
                .iter()
                .map(|codec| (codec.name().to_owned(), shown.bytes(cut, *codec).into()))
                .collect();
            json!({ "position": cut.position, "after": cut.after, "legal": cut.is_legal(),
                "raw": cut.raw, "remark": remark(cut), "tensors": tensors.collect::<Vec<_>>(),
                "bytes": bytes, "flops_before": shown.share(cut) })
        });
        return say_json(&cuts.collect::<Vec<_>>());
    }
    let mut heading = vec!["cut".to_owned(), "after".into(), "work before".into()];
    heading.extend(Codec::ALL.iter().map(|codec| format!("bytes {}", codec.name())));
    heading.push("crosses".into());
    let mut rows = vec![heading];
    for cut in network.cuts().iter().filter(|cut| cut.is_legal()) {
        let crosses: Vec<String> = shown
            .crossing(cut)
            .into_iter()
            .map(|(name, sides)| format!("{name} {}", words(sides)))
            .collect();
        let share = format!("{:.1} %", 100.0 * shown.share(cut));
        let mut row = vec![cut.position.to_string(), cut.after.clone(), share];
        row.extend(Codec::ALL.iter().map(|codec| shown.bytes(cut, *codec).to_string()));
        row.push(crosses.join(" + "));
        rows.push(row);
    }
    say(table(&rows).trim_end());
    let illegal = network.cuts().len() - (rows.len() - 1);
    say(format!("{illegal} other positions are never cut: --format json says why for each"));
    Ok(())
}

pub(super) fn verify(
    path: &Path,
    sizes: SizeArguments,
    against: Option<&Path>,
    format: Format,
) -> anyhow::Result<()> {
    let (network, files) = read(path)?;
    let (inputs, wanted) = match against {
        Some(folder) => (tensors(folder, "input")?, tensors(folder, "output")?),
        None => (made_up(&network, sizes)?, Vec::new()),
    };
    let end = network.n_nodes();
    let start = network.crossing(0, inputs).or_exit(Exit::Data)?;
    let whole = network.forward(end, &start, &mut network.start(0..end)).or_exit(Exit::Data)?;
    let whole = whole.into_values();
    let given = if wanted.is_empty() { None } else { Some(largest_gap(&whole, &wanted)?) };
    let (mut cuts, mut worst) = (0_usize, 0.0_f64);
    for cut in network.cuts().iter().filter(|cut| cut.is_legal()) {
        let at = cut.position;
        let head = network.forward(at, &start, &mut network.start(0..at)).or_exit(Exit::Data)?;
        let tail = network.forward(end, &head, &mut network.start(at..end)).or_exit(Exit::Data)?;
        let gap = largest_gap(tail.values(), &whole).context(format!("cut at {at}"))?;
        (cuts, worst) = (cuts + 1, worst.max(gap));
    }
    let digests: Vec<(&str, String)> =
        files.iter().map(|(name, bytes)| (*name, Digest::of(bytes).to_string())).collect();
    if format == Format::Json {
        return say_json(&json!({ "whole": true, "digests": digests, "cuts": cuts,
            "largest_difference_cut": worst, "largest_difference_against": given }));
    }
    for (name, digest) in digests {
        say(format!("{name:<24} {digest}"));
    }
    if let Some(gap) = given {
        say(format!("answers as given: at most {gap:.2e} apart"));
    }
    say(format!(
        "good: canonical, and {cuts} legal cuts answer as the whole does, at most {worst:.2e} apart"
    ));
    Ok(())
}

/// Made-up inputs for either form.
fn made_up(network: &Network, sizes: SizeArguments) -> anyhow::Result<Vec<Value>> {
    if let Some(program) = network.as_program() {
        return sample(&program.program().inputs, sizes.into()).or_exit(Exit::Usage);
    }
    let ports: Vec<koinon_model::program::Port> = network.cuts()[0]
        .live
        .iter()
        .map(|live| koinon_model::program::Port {
            name: live.name.clone(),
            dtype: DType::F32,
            shape: live.shape.as_ref().map(|sides| {
                std::iter::once(None).chain(sides.iter().map(|side| Some(*side))).collect()
            }),
            role: koinon_model::program::Role::Rows,
        })
        .collect();
    sample(&ports, sizes.into()).or_exit(Exit::Usage)
}

fn tensors(folder: &Path, kind: &str) -> anyhow::Result<Vec<Value>> {
    let files = (0..).map(|at| folder.join(format!("{kind}_{at}.pb")));
    let values: Vec<Value> = files
        .take_while(|file| file.is_file())
        .map(|file| {
            let value = onnx::read_tensor(&bytes(&file)?);
            value.with_context(|| file.display().to_string()).or_exit(Exit::Config)
        })
        .collect::<Result<_, _>>()?;
    if values.is_empty() {
        let words = format!("{} holds no {kind}_0.pb", folder.display());
        return Err(fail(Exit::Config, words));
    }
    Ok(values)
}

/// The largest difference, or what is not within the tolerance.
fn largest_gap(got: &[Value], want: &[Value]) -> anyhow::Result<f64> {
    let differ = |words: String| fail(Exit::Verification, words);
    if got.len() != want.len() {
        return Err(differ(format!("{} answers where {} are wanted", got.len(), want.len())));
    }
    let mut worst = 0.0_f64;
    for (got, want) in got.iter().zip(want) {
        if (got.dtype(), got.shape()) != (want.dtype(), want.shape()) {
            let (got, want) = (got.shape(), want.shape());
            return Err(differ(format!("an answer of shape {got:?} where {want:?} is wanted")));
        }
        for (got, want) in got.to_f64s().into_iter().zip(want.to_f64s()) {
            let same = got == want || (got.is_nan() && want.is_nan());
            let gap = if same { 0.0 } else { (got - want).abs() };
            if gap.is_nan() || gap > TOLERANCE[0] * want.abs() + TOLERANCE[1] {
                return Err(differ(format!("{got} where {want} is wanted")));
            }
            worst = worst.max(gap);
        }
    }
    Ok(worst)
}
