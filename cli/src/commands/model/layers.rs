//! Folders and files that hold layers: what they are, where they can be cut, whether they are whole.
//!
//! Programs have a file of their own. Start at [`inspect`], [`cuts`], [`verify`].

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use koinon_model::cut::Cut;
use koinon_model::features::FeaturePlan;
use koinon_model::features::fitted::FittedFeatures;
use koinon_model::params::Params;
use koinon_model::spec::{CheckedSpec, ModelSpec};
use koinon_proto::Digest;

use crate::exit::{Exit, OrExit as _, fail};
use crate::output::{Format, say, say_json, table, thousands};

/// Reads the spec of a model folder, or a spec file.
pub(super) fn spec_of(path: &Path) -> anyhow::Result<CheckedSpec> {
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

pub(super) fn inspect(path: &Path, format: Format) -> anyhow::Result<()> {
    let spec = spec_of(path)?;
    if format == Format::Json {
        return inspect_json(path, &spec);
    }
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

fn inspect_json(path: &Path, spec: &CheckedSpec) -> anyhow::Result<()> {
    let nodes = spec.nodes().iter().enumerate().map(|(at, node)| {
        serde_json::json!({ "position": at, "name": node.name, "op": node.op.name(),
            "shape": spec.node_shape(at), "inputs": node.inputs })
    });
    let version = fs::read(path.join("params.safetensors")).ok();
    say_json(&serde_json::json!({
        "name": spec.spec().name, "form": "layers", "parameters": spec.layout().len(),
        "nodes": nodes.collect::<Vec<_>>(), "spec": Digest::of(spec.canonical()).to_string(),
        "version": version.map(|bytes| Digest::of(&bytes).to_string()),
    }))
}

pub(super) fn cuts(path: &Path, format: Format) -> anyhow::Result<()> {
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

pub(super) fn verify(path: &Path, format: Format) -> anyhow::Result<()> {
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
    let mut found = serde_json::Map::new();
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
        found.insert(file.to_owned(), digest.clone().into());
        if format == Format::Text {
            say(format!("{file:<20} {digest}"));
        }
    }
    let spec = CheckedSpec::from_canonical(&read("spec.json")?).or_exit(Exit::Verification)?;
    Params::from_safetensors(spec.layout(), &read("params.safetensors")?)
        .or_exit(Exit::Verification)?;
    if let (Ok(features), Ok(fitted)) = (read("features.json"), read("fitted.json")) {
        let plan = FeaturePlan::from_canonical(&features).or_exit(Exit::Verification)?;
        FittedFeatures::from_canonical(&plan, &fitted).or_exit(Exit::Verification)?;
    }
    if format == Format::Json {
        return say_json(&serde_json::json!({ "whole": true, "digests": found }));
    }
    say("good: every part is what its digest names, and the parts fit one another");
    Ok(())
}
