//! `koinon model export`: a model folder as one file that other programs read.
//!
//! Start at [`export`].

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use koinon_model::architectures;
use koinon_model::lowering::lower;
use koinon_model::onnx;
use koinon_model::params::Params;
use serde_json::json;

use super::folder::{is_program, read};
use crate::exit::{Exit, OrExit as _, fail};
use crate::output::{Format, say, say_json, thousands};

/// What to write.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The model folder.
    model: PathBuf,
    /// The file to make.
    file: PathBuf,
    /// What it shall be.
    #[arg(long, value_enum)]
    to: Kind,
    /// Text or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Files that are written.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// Operations and weights.
    Onnx,
    /// Weights alone, under their names in PyTorch.
    Safetensors,
}

pub(super) fn export(arguments: &Arguments) -> anyhow::Result<()> {
    let file = &arguments.file;
    if file.exists() {
        return Err(fail(Exit::Config, format!("{} exists already", file.display())));
    }
    let bytes = match arguments.to {
        Kind::Onnx => to_onnx(&arguments.model)?,
        Kind::Safetensors => to_safetensors(&arguments.model)?,
    };
    std::fs::write(file, &bytes)
        .with_context(|| file.display().to_string())
        .or_exit(Exit::State)?;
    let name = file.display().to_string();
    if arguments.format == Format::Json {
        return say_json(&json!({ "file": name, "bytes": bytes.len() }));
    }
    say(format!("made {name}, {} bytes", thousands(bytes.len() as u64)));
    Ok(())
}

fn to_onnx(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let (network, files) = read(folder)?;
    if let Some(program) = network.as_program() {
        return onnx::export(program).or_exit(Exit::Config);
    }
    let missing = || fail(Exit::Config, "the folder holds neither a program nor layers");
    let spec = network.as_layers().ok_or_else(missing)?;
    let params = Params::from_safetensors(spec.layout(), &files[1].1).or_exit(Exit::Config)?;
    let lowered = lower(spec, &params).or_exit(Exit::Config)?;
    let program = lowered.program.check(lowered.constants).or_exit(Exit::Config)?;
    onnx::export(&program).or_exit(Exit::Config)
}

fn to_safetensors(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let (network, files) = read(folder)?;
    if !is_program(folder) {
        // A version's own file has PyTorch's names already.
        let [_, (_, values)] = files;
        return Ok(values);
    }
    let missing = || fail(Exit::Config, "the folder holds no program");
    architectures::weights_of(network.as_program().ok_or_else(missing)?).or_exit(Exit::Config)
}
