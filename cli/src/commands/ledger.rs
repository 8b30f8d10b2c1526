//! `koinon client ledger`: what left this site, by its own record.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use koinon_client::ledger::{Entries, Entry, export_csv, file, verify};
use koinon_client::node;

use super::clock::date;
use crate::exit::{Exit, OrExit as _, fail};
use crate::output::{Format, say, say_json, table, thousands};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// What left, by kind; with --last the newest entries one by one.
    List {
        #[command(flatten)]
        site: super::client::SiteDir,
        /// Show this many of the newest entries.
        #[arg(long)]
        last: Option<usize>,
        /// Text or JSON.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Check that no entry was changed, inserted or taken out; and the transcript against it, if there is one.
    Verify {
        #[command(flatten)]
        site: super::client::SiteDir,
        /// A transcript folder: every message must match its entry's hash.
        #[arg(long)]
        transcript: Option<PathBuf>,
    },
    /// Write the ledger as comma-separated text, for a spreadsheet or an auditor.
    Export {
        #[command(flatten)]
        site: super::client::SiteDir,
        /// File to write; standard output unless given.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::List { site, last, format } => list(&site.dir, last, format),
        Command::Verify { site, transcript } => check(&site.dir, transcript.as_deref()),
        Command::Export { site, out } => {
            let mut csv = String::new();
            for text in read(&site.dir)? {
                let part = export_csv(&text).or_exit(Exit::Verification)?;
                // One header for both.
                csv += if csv.is_empty() {
                    &part
                } else {
                    part.split_once('\n').map_or("", |(_, rest)| rest)
                };
            }
            match out {
                Some(path) => std::fs::write(&path, csv).or_exit(Exit::State)?,
                None => say(csv.trim_end()),
            }
            Ok(())
        }
    }
}

/// The node's ledger, and that of split inference once there was any.
fn read(dir: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let config = node::config::load(dir).or_code(node::NodeError::exit_code)?;
    let mut texts = vec![file::read(&config.ledger.join(node::LEDGER_FILE)).or_exit(Exit::State)?];
    let inference = config.ledger.join(node::INFERENCE_LEDGER_FILE);
    if inference.exists() {
        texts.push(file::read(&inference).or_exit(Exit::State)?);
    }
    Ok(texts)
}

fn entries(text: &[u8]) -> anyhow::Result<Vec<Entry>> {
    Entries::of(text).collect::<Result<_, _>>().or_exit(Exit::Verification)
}

fn list(dir: &Path, last: Option<usize>, format: Format) -> anyhow::Result<()> {
    let entries: Vec<Entry> =
        read(dir)?.iter().map(|t| entries(t)).collect::<anyhow::Result<Vec<_>>>()?.concat();
    if let Some(last) = last {
        let newest = &entries[entries.len().saturating_sub(last)..];
        if format == Format::Json {
            return say_json(&newest);
        }
        let mut rows =
            vec![["#", "date", "kind", "bytes", "to", "sha-256"].map(String::from).to_vec()];
        for e in newest {
            rows.push(vec![
                e.index.to_string(),
                date(e.time_ms),
                e.kind.word().into(),
                thousands(e.bytes),
                e.destination.clone(),
                e.sha256.short(),
            ]);
        }
        say(table(&rows).trim_end());
        return Ok(());
    }
    let mut kinds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for e in &entries {
        let kind = kinds.entry(e.kind.word()).or_default();
        *kind = (kind.0 + 1, kind.1 + e.bytes);
    }
    let bytes: u64 = entries.iter().map(|e| e.bytes).sum();
    if format == Format::Json {
        let kinds: BTreeMap<_, _> = kinds
            .iter()
            .map(|(k, (n, b))| (k, serde_json::json!({ "messages": n, "bytes": b })))
            .collect();
        return say_json(
            &serde_json::json!({ "entries": entries.len(), "bytes": bytes, "by_kind": kinds }),
        );
    }
    let mut rows = vec![["kind", "messages", "bytes"].map(String::from).to_vec()];
    rows.extend(
        kinds.iter().map(|(k, (n, b))| vec![(*k).to_owned(), n.to_string(), thousands(*b)]),
    );
    rows.push(vec!["all".into(), entries.len().to_string(), thousands(bytes)]);
    say(table(&rows).trim_end());
    Ok(())
}

fn check(dir: &Path, transcript: Option<&Path>) -> anyhow::Result<()> {
    let texts = read(dir)?;
    for text in &texts {
        let head = verify(text).or_exit(Exit::Verification)?;
        say(format!(
            "good: {} entries in one unbroken chain; its head is {}",
            head.entries, head.digest
        ));
    }
    let Some(folder) = transcript else { return Ok(()) };
    let mut checked = 0;
    for entry in entries(&texts[0])? {
        let path = folder.join(koinon_client::egress::transcript_file(&entry));
        match std::fs::read(&path) {
            Ok(message) if koinon_proto::Digest::of(&message) == entry.sha256 => checked += 1,
            Ok(_) => {
                return Err(fail(
                    Exit::Verification,
                    format!(
                        "{} is not the message that entry {} names",
                        path.display(),
                        entry.index
                    ),
                ));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {} // let out before the transcript began
            Err(e) => return Err(fail(Exit::State, format!("{}: {e}", path.display()))),
        }
    }
    say(format!("good: {checked} messages of the transcript match their entries"));
    Ok(())
}
