//! A model folder on disk: which form it has, its network, and how one is made without leaving half of it.
//!
//! Start at [`read`] and [`write`].

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use koinon_model::network::{Form, Network};

use crate::exit::{Exit, OrExit as _, fail};

/// Tokenizers' files, as models bring them.
pub(super) const TOKENIZERS: [&str; 2] = ["tokenizer.json", "tokenizer.bin"];

/// Whether it holds a program.
pub(super) fn is_program(path: &Path) -> bool {
    path.join(Form::Program.files()[0]).is_file()
}

/// Whether it is a version that a coordinator gave out, with its card.
pub(super) fn is_version(path: &Path) -> bool {
    path.join("card.json").is_file()
}

pub(super) fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path)
        .with_context(|| format!("{} cannot be read", path.display()))
        .or_exit(Exit::Config)
}

/// The two files of a network, by name.
pub(super) type Files = [(&'static str, Vec<u8>); 2];

/// The network of a folder, and the bytes of its files.
pub(super) fn read(path: &Path) -> anyhow::Result<(Network, Files)> {
    let form = if is_program(path) { Form::Program } else { Form::Layers };
    let [graph, values] = form.files();
    let files = [(graph, bytes(&path.join(graph))?), (values, bytes(&path.join(values))?)];
    let network = Network::read(form, &files[0].1, &files[1].1)
        .with_context(|| path.display().to_string())
        .or_exit(Exit::Verification)?;
    Ok((network, files))
}

/// Makes a folder of these files, all or nothing.
pub(super) fn write(out: &Path, files: &[(&str, Vec<u8>)]) -> anyhow::Result<()> {
    if out.exists() {
        let words = format!("{} exists already; choose another with --out", out.display());
        return Err(fail(Exit::Config, words));
    }
    let mut partial = PathBuf::from(out).into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    fs::create_dir_all(&partial)
        .with_context(|| partial.display().to_string())
        .or_exit(Exit::State)?;
    for (name, bytes) in files {
        fs::write(partial.join(name), bytes).or_exit(Exit::State)?;
    }
    fs::rename(&partial, out).with_context(|| out.display().to_string()).or_exit(Exit::State)
}
