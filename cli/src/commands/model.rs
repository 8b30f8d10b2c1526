//! `koinon model`: versions at the coordinator, and model folders on disk.
//!
//! A model folder holds `spec.json`, `params.safetensors`, `features.json`, `fitted.json` and `card.json`, each as it was
//! hashed; the version's digest is the SHA-256 of the parameters' file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use koinon_model::cut::Cut;
use koinon_model::features::FeaturePlan;
use koinon_model::features::fitted::FittedFeatures;
use koinon_model::params::Params;
use koinon_model::spec::{CheckedSpec, ModelSpec};
use koinon_proto::{Digest, wire};

use super::operator::Operator;
use super::view::{PrivacyView, hex};
use crate::exit::{Exit, OrExit as _, fail};
use crate::output::{Format, say, say_json, table, thousands};

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
    /// What a model is: nodes, shapes, parameters, digests.
    Inspect {
        /// A model folder, or a spec (TOML or JSON).
        model: PathBuf,
    },
    /// Where a model can be cut, and what would cross.
    Cuts {
        /// A model folder, or a spec (TOML or JSON).
        model: PathBuf,
        /// Text or JSON.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Check a model folder against its digests.
    Verify {
        /// The model folder.
        model: PathBuf,
    },
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::List { operator, format } => list(&operator.dir, format),
        Command::Pull { version, operator, out } => pull(&version, &operator.dir, out),
        Command::Inspect { model } => inspect(&model),
        Command::Cuts { model, format } => cuts(&model, format),
        Command::Verify { model } => verify(&model),
    }
}

fn list(dir: &Path, format: Format) -> anyhow::Result<()> {
    let mut versions = Operator::open(dir)?.versions()?;
    versions.sort_by(|a, b| (&a.task, a.round).cmp(&(&b.task, b.round)));
    if format == Format::Json {
        return say_json(&versions.iter().map(card).collect::<Vec<_>>());
    }
    let mut rows = vec![
        ["version", "parent", "round", "sites", "val. AUC", "val. loss"].map(String::from).to_vec(),
    ];
    let short = |d: &[u8]| hex(d).get(..12).unwrap_or("–").to_owned();
    let figure = |x: f64| if x.is_finite() { format!("{x:.4}") } else { "–".into() };
    for v in &versions {
        rows.push(vec![
            short(&v.digest),
            short(&v.parent),
            v.round.to_string(),
            v.participants.to_string(),
            figure(v.validation_auc),
            figure(v.validation_loss),
        ]);
    }
    say(table(&rows).trim_end());
    Ok(())
}

/// The model card: who made it, from what, how good it is.
fn card(v: &wire::Version) -> serde_json::Value {
    let finite = |x: f64| x.is_finite().then_some(x);
    let privacy = v.privacy.clone().map(PrivacyView::from);
    let words = match &privacy {
        Some(privacy) => {
            format!("secure aggregation; {privacy}, in the task that made this version")
        }
        None => {
            "secure aggregation; no differential privacy: the sum itself is not bounded per patient"
                .into()
        }
    };
    serde_json::json!({
        "version": hex(&v.digest), "parent": hex(&v.parent), "task": hex(&v.task), "round": v.round,
        "spec": hex(&v.spec), "features": hex(&v.features), "fitted": hex(&v.fitted),
        "participants": v.participants, "validation_auc": finite(v.validation_auc),
        "validation_loss": finite(v.validation_loss),
        "privacy": words, "differential_privacy": privacy,
    })
}

fn pull(prefix: &str, dir: &Path, out: Option<PathBuf>) -> anyhow::Result<()> {
    let operator = Operator::open(dir)?;
    let versions = operator.versions()?;
    let mut found =
        versions.iter().filter(|v| !prefix.is_empty() && hex(&v.digest).starts_with(prefix));
    let version = match (found.next(), found.next()) {
        (Some(version), None) => version,
        (None, _) => {
            return Err(fail(
                Exit::Usage,
                format!("no version's digest begins with {prefix}; `koinon model list` shows them"),
            ));
        }
        (Some(_), Some(_)) => {
            return Err(fail(
                Exit::Usage,
                format!("several versions begin with {prefix}; give more of it"),
            ));
        }
    };
    let name = hex(&version.digest);
    let out = out.unwrap_or_else(|| dir.join("models").join(name.get(..12).unwrap_or(&name)));
    if out.exists() {
        return Err(fail(
            Exit::Config,
            format!("{} exists already; choose another with --out", out.display()),
        ));
    }
    let partial = out.with_extension("partial");
    fs::create_dir_all(&partial)
        .with_context(|| partial.display().to_string())
        .or_exit(Exit::State)?;
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg:20} {bar:30} {bytes}/{total_bytes}") {
        bar.set_style(style);
    }
    let parts = [
        ("spec.json", &version.spec),
        ("params.safetensors", &version.digest),
        ("features.json", &version.features),
        ("fitted.json", &version.fitted),
    ];
    for (file, digest) in parts {
        if digest.is_empty() {
            continue; // a task without fitted statistics
        }
        let digest = Digest::try_from(digest.as_slice())
            .map_err(|_| fail(Exit::Refused, "the coordinator names a blob by no digest"))?;
        bar.set_message(file);
        let bytes = operator.fetch(digest, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        })?;
        fs::write(partial.join(file), bytes).or_exit(Exit::State)?;
    }
    bar.finish_and_clear();
    fs::write(partial.join("card.json"), serde_json::to_vec_pretty(&card(version))?)
        .or_exit(Exit::State)?;
    fs::rename(&partial, &out).or_exit(Exit::State)?;
    say(out.display().to_string());
    Ok(())
}

/// Reads the spec of a model folder, or a spec file.
fn spec_of(path: &Path) -> anyhow::Result<CheckedSpec> {
    let file = if path.is_dir() { path.join("spec.json") } else { path.to_path_buf() };
    let name = file.display().to_string();
    let bytes =
        fs::read(&file).with_context(|| format!("{name} cannot be read")).or_exit(Exit::Config)?;
    let toml = file.extension().is_some_and(|e| e == "toml");
    let spec = if toml {
        ModelSpec::from_toml(&String::from_utf8_lossy(&bytes))
    } else {
        ModelSpec::from_json(&bytes)
    };
    spec.and_then(ModelSpec::check).with_context(|| name).or_exit(Exit::Config)
}

fn inspect(path: &Path) -> anyhow::Result<()> {
    let spec = spec_of(path)?;
    let input = spec
        .spec()
        .inputs
        .iter()
        .map(|i| format!("{} {:?}", i.name, i.shape))
        .collect::<Vec<_>>()
        .join(", ");
    say(format!(
        "{}: {} parameters, input {input}",
        spec.spec().name,
        thousands(spec.layout().len() as u64)
    ));
    let mut rows = vec![["#", "node", "op", "output", "inputs"].map(String::from).to_vec()];
    for (i, node) in spec.nodes().iter().enumerate() {
        let shape = spec.node_shape(i).map_or_else(String::new, |s| format!("{s:?}"));
        rows.push(vec![
            i.to_string(),
            node.name.clone(),
            node.op.name().into(),
            shape,
            node.inputs.join(", "),
        ]);
    }
    say(table(&rows).trim_end());
    say(format!("spec    {}", Digest::of(spec.canonical())));
    if let Ok(params) = fs::read(path.join("params.safetensors")) {
        say(format!("version {}", Digest::of(&params)));
    }
    Ok(())
}

fn cuts(path: &Path, format: Format) -> anyhow::Result<()> {
    let spec = spec_of(path)?;
    let all: Vec<Cut> = (0..=spec.n_nodes()).filter_map(|p| Cut::at(&spec, p)).collect();
    let after = |c: &Cut| match c.position() {
        0 => "the input".to_owned(),
        p => spec.nodes()[p - 1].name.clone(),
    };
    if format == Format::Json {
        let cuts: Vec<_> = all.iter().map(|c| serde_json::json!({
            "position": c.position(), "after": after(c), "legal": c.is_legal(), "raw": c.is_raw(),
            "tensors": c.live().iter().map(|t| serde_json::json!({ "name": t.name, "shape": t.shape })).collect::<Vec<_>>(),
            "bytes_per_row": 4 * c.elements_per_row(),
        })).collect();
        return say_json(&cuts);
    }
    let mut rows =
        vec![["cut", "after", "crosses", "bytes a row (f32)", ""].map(String::from).to_vec()];
    for c in &all {
        let live = c
            .live()
            .iter()
            .map(|t| format!("{} {:?}", t.name, t.shape))
            .collect::<Vec<_>>()
            .join(" + ");
        let remark = match (c.is_legal(), c.is_raw(), c.position() == 0) {
            (true, ..) => "",
            (false, true, _) => "never: a raw input would cross",
            (false, false, _) => "no split: all of it runs here",
        };
        rows.push(vec![
            c.position().to_string(),
            after(c),
            live,
            (4 * c.elements_per_row()).to_string(),
            remark.into(),
        ]);
    }
    say(table(&rows).trim_end());
    say("which of these a site permits stands in its policy.toml under [[split]]");
    Ok(())
}

fn verify(path: &Path) -> anyhow::Result<()> {
    let read = |name: &str| {
        fs::read(path.join(name))
            .with_context(|| format!("{}/{name}", path.display()))
            .or_exit(Exit::Config)
    };
    let card: serde_json::Value =
        serde_json::from_slice(&read("card.json")?).context("card.json").or_exit(Exit::Config)?;
    let parts = [
        ("spec.json", "spec"),
        ("params.safetensors", "version"),
        ("features.json", "features"),
        ("fitted.json", "fitted"),
    ];
    for (file, key) in parts {
        let named = card[key].as_str().unwrap_or_default();
        if named.is_empty() {
            continue;
        }
        let digest = Digest::of(&read(file)?).to_string();
        if digest != named {
            return Err(fail(
                Exit::Verification,
                format!(
                    "{file} is not what card.json names: {digest} instead of {named}; pull the model again"
                ),
            ));
        }
        say(format!("{file:<20} {digest}"));
    }
    let spec = CheckedSpec::from_canonical(&read("spec.json")?).or_exit(Exit::Verification)?;
    Params::from_safetensors(spec.layout(), &read("params.safetensors")?)
        .or_exit(Exit::Verification)?;
    if let (Ok(features), Ok(fitted)) = (read("features.json"), read("fitted.json")) {
        let plan = FeaturePlan::from_canonical(&features).or_exit(Exit::Verification)?;
        FittedFeatures::from_canonical(&plan, &fitted).or_exit(Exit::Verification)?;
    }
    say("good: every part is what its digest names, and the parts fit one another");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_names_epsilon_delta_and_unit_and_the_clips_way() {
        let privacy = wire::Privacy {
            unit: "record".into(),
            epsilon: 8.0,
            delta: 1e-4,
            clips: vec![1.0, 0.93],
            unclipped: vec![0.86, 0.41],
        };
        let made = card(&wire::Version { privacy: Some(privacy), ..wire::Version::default() });
        let words = made["privacy"].as_str().unwrap();
        assert!(words.contains("epsilon at most 8 at delta 0.0001, unit record"), "{words}");
        assert!(words.contains("adaptive clip from 1.0000 to 0.9300"), "{words}");
        let numbers = &made["differential_privacy"];
        assert_eq!((&numbers["unit"], &numbers["epsilon"]), (&"record".into(), &8.0.into()));
        assert_eq!(numbers["clips"], serde_json::json!([1.0, 0.93]));
        assert_eq!(numbers["unclipped"], serde_json::json!([0.86, 0.41]));
        let plain = card(&wire::Version::default());
        assert!(plain["privacy"].as_str().unwrap().contains("no differential privacy"));
    }
}
