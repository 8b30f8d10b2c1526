//! Versions at the coordinator: which there are, and one of them as a folder.
//!
//! Nothing is computed here. Start at [`list`] and [`pull`].

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use koinon_proto::{Digest, wire};

use crate::commands::operator::Operator;
use crate::commands::view::{PrivacyView, hex};
use crate::exit::{Exit, OrExit as _, fail};
use crate::output::{Format, say, say_json, table};

pub(super) fn list(dir: &Path, format: Format) -> anyhow::Result<()> {
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

pub(super) fn pull(prefix: &str, dir: &Path, out: Option<PathBuf>) -> anyhow::Result<()> {
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
