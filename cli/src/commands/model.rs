//! `koinon model`: versions at the coordinator, and model folders on disk.
//!
//! A model folder holds layers or a program. Layers: `spec.json` and `params.safetensors`; a version that was
//! pulled has `features.json`, `fitted.json` and `card.json` too, each as it was hashed, and its digest is the
//! SHA-256 of the parameters' file. A program: `program.json` and `constants.safetensors`, and the tokenizer of
//! the model that it was imported from, if that has one.

mod export;
mod folder;
mod graph;
mod import;
mod layers;
mod programs;
mod run;
mod versions;

use std::path::PathBuf;

use clap::Subcommand;

use crate::exit::{Exit, fail};
use crate::output::Format;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Versions at the coordinator.
    List {
        #[command(flatten)]
        operator: super::task::OperatorDir,
        /// Text or JSON.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Fetch a version with all it needs: spec, parameters, feature plan, fitted statistics, card.
    Pull {
        /// The version's digest, or its first characters.
        version: String,
        #[command(flatten)]
        operator: super::task::OperatorDir,
        /// Folder to make; models/VERSION below --dir unless given.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Make a model folder of a network from elsewhere: ONNX, safetensors with PyTorch's names, llama2.c.
    Import(import::Arguments),
    /// Write a model folder as one file for other programs.
    Export(export::Arguments),
    /// Answer one text or input with a model folder, all of it here.
    Run(run::Arguments),
    /// What a model is: nodes, shapes, parameters, operations, digests.
    Inspect {
        /// A model folder, or a spec (TOML or JSON).
        model: PathBuf,
        #[command(flatten)]
        sizes: programs::SizeArguments,
        /// Write an imported program as a page too: its graph, operations, and what would cross at each cut.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// Text or JSON.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Where a model can be cut, and what would cross.
    Cuts {
        /// A model folder, or a spec (TOML or JSON).
        model: PathBuf,
        #[command(flatten)]
        sizes: programs::SizeArguments,
        /// Text or JSON.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Check a model folder: against its digests, or, imported, by running it whole and cut.
    Verify {
        /// The model folder.
        model: PathBuf,
        #[command(flatten)]
        sizes: programs::SizeArguments,
        /// Inputs and outputs to compare with: a folder with `input_0.pb` …, `output_0.pb` …, as ONNX stores
        /// test data.
        #[arg(long)]
        against: Option<PathBuf>,
        /// Text or JSON.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::List { operator, format } => versions::list(&operator.dir, format),
        Command::Pull { version, operator, out } => versions::pull(&version, &operator.dir, out),
        Command::Import(arguments) => import::import(&arguments),
        Command::Export(arguments) => export::export(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Inspect { model, sizes, html, format } if folder::is_program(&model) => {
            programs::inspect(&model, sizes, html.as_deref(), format)
        }
        Command::Inspect { model, html: Some(_), .. } => {
            let words = format!("{} holds layers; pages are drawn of programs", model.display());
            Err(fail(Exit::Usage, words))
        }
        Command::Inspect { model, format, .. } => layers::inspect(&model, format),
        Command::Cuts { model, sizes, format } if folder::is_program(&model) => {
            programs::cuts(&model, sizes, format)
        }
        Command::Cuts { model, format, .. } => layers::cuts(&model, format),
        Command::Verify { model, sizes, against, format } if !folder::is_version(&model) => {
            programs::verify(&model, sizes, against.as_deref(), format)
        }
        Command::Verify { model, format, .. } => layers::verify(&model, format),
    }
}
