//! `koinon model import`: a network from elsewhere becomes a model folder.
//!
//! What is read follows from what the source is; nothing is run but a check of names and order, and nothing is
//! fetched. Start at [`import`].

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use koinon_model::architectures::bert::{self, Pooling, Sentence};
use koinon_model::architectures::{Built, Weights, llama2c};
use koinon_model::limits::CONSTANTS_BYTES_MAX;
use koinon_model::network::{Form, Network};
use koinon_model::onnx::{self, FILE_BYTES_MAX};
use koinon_model::params::Params;
use koinon_model::program::{CheckedProgram, Constants, Program, Role};
use koinon_proto::Digest;
use serde_json::json;

use super::folder::{TOKENIZERS, bytes, write};
use super::layers::spec_of;
use crate::exit::{Exit, OrExit as _, fail};
use crate::output::{Format, say, say_json, thousands};

/// What to import.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// An ONNX file (tensors beside it are found); a folder with `model.safetensors` and `config.json` (BERT and
    /// MiniLM) or `spec.json` (layers); a raw checkpoint of llama2.c (`.bin`, with `tokenizer.bin` beside).
    source: PathBuf,
    /// Folder to make.
    #[arg(long)]
    out: PathBuf,
    /// An input that only says which places hold data, so that it may cross a cut; may be given several times.
    #[arg(long = "mask", value_name = "INPUT")]
    masks: Vec<String>,
    /// The model's name; the source's unless given.
    #[arg(long)]
    name: Option<String>,
    /// Text or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// A source that was read: the network, its folder's files, and remarks.
struct Found {
    kind: &'static str,
    network: Network,
    files: Vec<(&'static str, Vec<u8>)>,
    unused: Vec<String>,
}

pub(super) fn import(arguments: &Arguments) -> anyhow::Result<()> {
    let found = read(arguments)?;
    write(&arguments.out, &found.files)?;
    tell(&found, arguments)
}

fn read(arguments: &Arguments) -> anyhow::Result<Found> {
    let source = &arguments.source;
    let ending = source.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    if !source.exists() {
        return Err(fail(Exit::Config, format!("{} is not there", source.display())));
    }
    match ending {
        "onnx" => from_onnx(arguments),
        "bin" => {
            let built = llama2c::import(&name(arguments), &limited(source)?);
            let built =
                built.with_context(|| source.display().to_string()).or_exit(Exit::Config)?;
            let mut found = program("a decoder of llama2.c", built, arguments)?;
            add_tokenizers(&mut found, beside(source));
            Ok(found)
        }
        _ if source.join("spec.json").is_file() || source.join("spec.toml").is_file() => {
            from_layers(source)
        }
        _ if source.join("config.json").is_file() => from_bert(arguments),
        _ => Err(fail(
            Exit::Config,
            format!(
                "{} is no ONNX file, no folder with config.json or spec.json beside its safetensors, and no raw \
                 checkpoint (.bin)",
                source.display()
            ),
        )),
    }
}

fn from_onnx(arguments: &Arguments) -> anyhow::Result<Found> {
    let source = &arguments.source;
    let folder = beside(source).to_path_buf();
    let external =
        move |name: &str, offset: u64, length: Option<u64>| range(&folder, name, offset, length);
    let file = limited(source)?;
    let faults = onnx::faults(&file, &external);
    if !faults.is_empty() {
        let mut words: Vec<String> = faults.iter().map(|fault| format!("  {fault}")).collect();
        words.dedup();
        let words = words.join("\n");
        return Err(fail(Exit::Config, format!("{} is not read:\n{words}", source.display())));
    }
    let imported = onnx::import(&file, &external).or_exit(Exit::Config)?;
    let (mut own, constants) = (imported.program, imported.constants);
    if let Some(name) = &arguments.name {
        own.name.clone_from(name);
    }
    program("an ONNX graph", Built { program: own, constants, unused: Vec::new() }, arguments)
}

fn from_bert(arguments: &Arguments) -> anyhow::Result<Found> {
    let source = &arguments.source;
    let weights = Weights::read(&limited(&source.join("model.safetensors"))?)
        .with_context(|| source.display().to_string())
        .or_exit(Exit::Config)?;
    let config = bytes(&source.join("config.json"))?;
    let built = bert::import(&name(arguments), &config, weights, sentence(source)?)
        .with_context(|| source.display().to_string())
        .or_exit(Exit::Config)?;
    let mut found = program("a BERT encoder", built, arguments)?;
    add_tokenizers(&mut found, source);
    Ok(found)
}

/// How sentence-transformers' `modules.json` says that a sentence's vector is made; without it the states of all
/// places are what comes out.
fn sentence(folder: &Path) -> anyhow::Result<Sentence> {
    let mut sentence = Sentence { pooling: Pooling::None, unit: false };
    let Ok(modules) = fs::read(folder.join("modules.json")) else { return Ok(sentence) };
    let parse = |bytes: &[u8], file: &str| -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(bytes).with_context(|| file.to_owned()).or_exit(Exit::Config)
    };
    let modules = parse(&modules, "modules.json")?;
    for module in modules.as_array().into_iter().flatten() {
        let kind = module["type"].as_str().unwrap_or_default();
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" => {}
            "Normalize" => sentence.unit = true,
            "Pooling" => {
                let file = "1_Pooling/config.json";
                let pooling = parse(&bytes(&folder.join(file))?, file)?;
                let on = |name: &str| pooling[name].as_bool().unwrap_or(false);
                sentence.pooling =
                    match (on("pooling_mode_mean_tokens"), on("pooling_mode_cls_token")) {
                        (true, false) => Pooling::Mean,
                        (false, true) => Pooling::First,
                        _ => {
                            let words =
                                "1_Pooling/config.json: pooling by mean or first token is known";
                            return Err(fail(Exit::Config, words));
                        }
                    };
            }
            other => {
                let words = format!("modules.json: a module `{other}` is not supported");
                return Err(fail(Exit::Config, words));
            }
        }
    }
    Ok(sentence)
}

/// Layers as PyTorch trained them: our spec, and a state dict under the same names.
fn from_layers(source: &Path) -> anyhow::Result<Found> {
    let toml = source.join("spec.toml");
    let spec = spec_of(if toml.is_file() { &toml } else { source })?;
    let stored = ["params.safetensors", "model.safetensors"].map(|name| source.join(name));
    let file = stored.iter().find(|file| file.is_file()).unwrap_or(&stored[0]);
    let params = Params::from_safetensors(spec.layout(), &limited(file)?)
        .with_context(|| file.display().to_string())
        .or_exit(Exit::Config)?;
    let network = Network::layers(&spec, &params).or_exit(Exit::Config)?;
    let [graph, values] = Form::Layers.files();
    let params = params.to_safetensors(spec.layout()).or_exit(Exit::Config)?;
    let files = vec![(graph, spec.canonical().to_vec()), (values, params)];
    Ok(Found { kind: "layers", network, files, unused: Vec::new() })
}

fn program(kind: &'static str, built: Built, arguments: &Arguments) -> anyhow::Result<Found> {
    let Built { mut program, constants, unused } = built;
    for mask in &arguments.masks {
        let Some(port) = program.inputs.iter_mut().find(|port| port.name == *mask) else {
            let known: Vec<&str> = program.inputs.iter().map(|port| port.name.as_str()).collect();
            let known = known.join(", ");
            let words = format!("no input is called `{mask}`; the inputs are {known}");
            return Err(fail(Exit::Usage, words));
        };
        port.role = Role::Mask;
    }
    let checked = check(program, constants)?;
    let written = checked.write().or_exit(Exit::Config)?;
    let [graph, values] = Form::Program.files();
    let files = vec![(graph, written.program), (values, written.constants)];
    Ok(Found { kind, network: Network::program(checked), files, unused })
}

fn check(program: Program, constants: Constants) -> anyhow::Result<CheckedProgram> {
    program.check(constants).or_exit(Exit::Config)
}

fn tell(found: &Found, arguments: &Arguments) -> anyhow::Result<()> {
    let network = &found.network;
    let legal: Vec<usize> =
        network.cuts().iter().filter(|cut| cut.is_legal()).map(|cut| cut.position).collect();
    let layers = network.as_layers().map_or(0, |spec| spec.layout().len());
    let parameters = network.as_program().map_or(layers, CheckedProgram::parameters);
    let digests: Vec<(&str, String)> =
        found.files.iter().map(|(name, bytes)| (*name, Digest::of(bytes).to_string())).collect();
    let out = arguments.out.display();
    if arguments.format == Format::Json {
        let digests: serde_json::Map<String, serde_json::Value> =
            digests.into_iter().map(|(name, digest)| (name.into(), digest.into())).collect();
        return say_json(&json!({
            "kind": found.kind, "folder": out.to_string(), "nodes": network.n_nodes(),
            "parameters": parameters, "legal_cuts": legal, "unused": found.unused, "files": digests,
        }));
    }
    let (nodes, numbers) = (network.n_nodes(), thousands(parameters as u64));
    say(format!("{}: {nodes} nodes, {numbers} parameters, {} legal cuts", found.kind, legal.len()));
    if !found.unused.is_empty() {
        let names = found.unused.join(", ");
        say(format!("not needed, and left out: {names}"));
    }
    for (name, digest) in digests {
        say(format!("{name:<24} {digest}"));
    }
    say(format!("made {out}; `koinon model cuts {out}` says where it can be cut"));
    Ok(())
}

fn add_tokenizers(found: &mut Found, folder: &Path) {
    for name in TOKENIZERS {
        if let Ok(bytes) = fs::read(folder.join(name)) {
            found.files.push((name, bytes));
        }
    }
}

fn name(arguments: &Arguments) -> String {
    let own = || arguments.source.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    arguments.name.clone().or_else(own).unwrap_or_else(|| "model".into())
}

fn beside(source: &Path) -> &Path {
    source.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file of at most as many bytes as constants may have.
fn limited(path: &Path) -> anyhow::Result<Vec<u8>> {
    let len = fs::metadata(path).map_or(0, |about| about.len());
    if len > CONSTANTS_BYTES_MAX.max(FILE_BYTES_MAX) as u64 {
        return Err(fail(Exit::Config, format!("{} has {len} bytes: too many", path.display())));
    }
    bytes(path)
}

/// A range of a file beside a model, which must lie there itself and not be a link to elsewhere.
fn range(folder: &Path, name: &str, offset: u64, length: Option<u64>) -> Result<Vec<u8>, String> {
    let fault = |e: std::io::Error| format!("`{name}` beside the model: {e}");
    let (home, path) =
        (folder.canonicalize().map_err(fault)?, folder.join(name).canonicalize().map_err(fault)?);
    if !path.starts_with(&home) {
        return Err(format!("`{name}` is not beside the model"));
    }
    let mut file = fs::File::open(path).map_err(fault)?;
    file.seek(SeekFrom::Start(offset)).map_err(fault)?;
    let most = length.unwrap_or(CONSTANTS_BYTES_MAX as u64).min(CONSTANTS_BYTES_MAX as u64);
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).map_err(fault)?;
    match length {
        Some(want) if want != bytes.len() as u64 => Err(format!("`{name}` ends early")),
        _ => Ok(bytes),
    }
}
