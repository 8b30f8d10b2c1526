//! `koinon client`: the node beside a site's data, and what the site's people do with it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use koinon_client::node::status::NodeStatus;
use koinon_client::node::{self, NodeError, Options, check, config, control, offers};
use koinon_client::policy::ApprovalDefault;
use koinon_proto::{Digest, TaskManifest};

use crate::exit::{Exit, OrExit as _, fail};
use crate::output::{Format, say, say_json, thousands};

/// A site's folder.
#[derive(clap::Args)]
pub(crate) struct SiteDir {
    /// The folder that `koinon join` made.
    #[arg(long = "dir", default_value = ".")]
    pub(crate) dir: PathBuf,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Look at everything between this site and the first round, and say how to mend what is not right.
    Check {
        #[command(flatten)]
        site: SiteDir,
        /// Text or JSON.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Show the tasks on offer; with a digest, approve that task and nothing else.
    Approve {
        /// The task's digest; its first characters do when the task is on offer.
        task: Option<String>,
        #[command(flatten)]
        site: SiteDir,
    },
    /// Permit one cut of one model for split inference, in policy.toml.
    PermitCut {
        /// Digest of the model's version, or of its spec.
        model: String,
        /// Position of the cut, as `koinon model cuts` numbers it.
        cut: u32,
        #[command(flatten)]
        site: SiteDir,
    },
    /// Time a network here, at a partition server and on the way between, at every permitted cut.
    Profile(super::plan::ProfileArguments),
    /// Show every placement and codec with its predicted time, and which one is best.
    Plan(super::plan::PlanArguments),
    /// Run the node until it is asked to stop.
    Run {
        #[command(flatten)]
        site: SiteDir,
        /// Keep the plaintext of everything that leaves in this folder, one file a ledger entry.
        #[arg(long)]
        transcript: Option<PathBuf>,
    },
    /// What the node does right now.
    Status {
        #[command(flatten)]
        site: SiteDir,
        /// Text or JSON.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Take part in no further round until `resume`; a running round is finished.
    Pause {
        #[command(flatten)]
        site: SiteDir,
    },
    /// Take part again.
    Resume {
        #[command(flatten)]
        site: SiteDir,
    },
    /// End this site's part for good: the node stops and does not start again.
    Leave {
        #[command(flatten)]
        site: SiteDir,
        /// Do it.
        #[arg(long)]
        yes: bool,
    },
    /// What left this site.
    #[command(subcommand)]
    Ledger(super::ledger::Command),
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Check { site, format } => check(&site.dir, format),
        Command::Approve { task: Some(task), site } => approve(&site.dir, &task),
        Command::Approve { task: None, site } => offered(&site.dir),
        Command::PermitCut { model, cut, site } => permit_cut(&site.dir, &model, cut),
        Command::Profile(arguments) => super::plan::profile(&arguments),
        Command::Plan(arguments) => super::plan::plan(&arguments),
        Command::Run { site, transcript } => start(&site.dir, transcript),
        Command::Status { site, format } => status(&site.dir, format),
        Command::Pause { site } => control::pause(&site.dir).or_code(NodeError::exit_code),
        Command::Resume { site } => control::resume(&site.dir).or_code(NodeError::exit_code),
        Command::Leave { site, yes } => leave(&site.dir, yes),
        Command::Ledger(command) => super::ledger::run(command),
    }
}

fn start(dir: &Path, transcript: Option<PathBuf>) -> anyhow::Result<()> {
    super::log_to_stderr();
    let options = Options { transcript, ..Options::default() };
    super::runtime()?.block_on(async {
        node::run(dir, &options, super::asked_to_stop()).await.or_code(NodeError::exit_code)
    })
}

fn check(dir: &Path, format: Format) -> anyhow::Result<()> {
    let findings = super::runtime()?.block_on(check::check(dir));
    if format == Format::Json {
        say_json(&findings)?;
    } else {
        for f in &findings {
            say(format!("{} {:<13} {}", if f.ok { "✓" } else { "✗" }, f.area, f.text));
        }
    }
    match findings.iter().find(|f| !f.ok) {
        None => Ok(()),
        Some(first) => {
            let error = anyhow::anyhow!("{} is not right: see above how to mend it", first.area);
            Err(error).or_code(|_| first.exit_code)
        }
    }
}

/// The tasks on offer: digest and manifest.
fn offers_of(dir: &Path) -> anyhow::Result<Vec<(String, TaskManifest)>> {
    let Ok(entries) = std::fs::read_dir(dir.join(offers::FOLDER)) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for path in entries.filter_map(Result::ok).map(|e| e.path()) {
        let bytes = std::fs::read(&path).or_exit(Exit::State)?;
        let manifest = TaskManifest::parse_json(&bytes)
            .with_context(|| path.display().to_string())
            .or_exit(Exit::State)?;
        found.push((Digest::of(&bytes).to_string(), manifest));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn offered(dir: &Path) -> anyhow::Result<()> {
    let policy_path = config::load(dir).or_code(NodeError::exit_code)?.policy;
    let policy = control::read_policy(&policy_path).or_code(NodeError::exit_code)?;
    let found = offers_of(dir)?;
    if found.is_empty() {
        say("no task is on offer; the running node fetches them from the coordinator");
    }
    for (digest, m) in found {
        let approved = digest.parse().is_ok_and(|d| policy.approves(&d));
        say(format!("{digest}  {}", if approved { "approved" } else { "not approved" }));
        if let Err(refusal) = policy.check_task(&m) {
            say(format!("  refused even if approved: {refusal} ({})", refusal.code()));
        }
        say(format!(
            "  {}: {:?}, {} rounds, {} to {} sites",
            m.name, m.kind, m.rounds, m.cohort.min, m.cohort.max
        ));
        let e = m.encoding;
        say(format!(
            "  clip {} (L2), {} a coordinate, {} binary digits; model {}",
            e.clip_l2,
            e.update_bound,
            e.frac_bits,
            m.model.map_or_else(|| "none".into(), |d| d.short())
        ));
        say(match &m.privacy {
            Some(p) => {
                format!(
                    "  tells at most epsilon {} at delta {} of one {}",
                    p.epsilon, p.delta, p.unit
                )
            }
            None => {
                "  no differential privacy: what the sums tell of one row is not bounded".into()
            }
        });
    }
    Ok(())
}

fn approve(dir: &Path, task: &str) -> anyhow::Result<()> {
    let policy = config::load(dir).or_code(NodeError::exit_code)?.policy;
    let limits = control::read_policy(&policy).or_code(NodeError::exit_code)?;
    let found = offers_of(dir)?;
    let mut matching = found.iter().filter(|(d, _)| d.starts_with(task));
    let (digest, name) = match (task.parse::<Digest>(), matching.next(), matching.next()) {
        (Ok(digest), Some((_, m)), _) => (digest, m.name.clone()),
        (Ok(digest), None, _) => (digest, String::from("approved before it was offered")),
        (Err(_), Some((d, m)), None) => {
            (d.parse().map_err(|_| fail(Exit::State, "an offer has a bad name"))?, m.name.clone())
        }
        (Err(_), Some(_), Some(_)) => {
            return Err(fail(
                Exit::Usage,
                format!("several offers begin with {task}; give more of it"),
            ));
        }
        (Err(_), None, _) => {
            return Err(fail(
                Exit::Usage,
                format!(
                    "no task on offer begins with {task}; `koinon client approve` without a digest shows them, a digest has 64 hex digits"
                ),
            ));
        }
    };
    control::approve(&policy, &digest, &name).or_code(NodeError::exit_code)?;
    say(format!("approved {digest} in {}", policy.display()));
    let offer = found.iter().find(|(d, _)| *d == digest.to_string());
    if let Some(refusal) = offer.and_then(|(_, m)| limits.check_task(m).err()) {
        let code = refusal.code();
        say(format!(
            "but it will not be done: {refusal} ({code}); the limits are in the same file"
        ));
    }
    if limits.approvals.default == ApprovalDefault::Never {
        say("but it will not be done: approvals.default is \"never\" in the same file");
    }
    Ok(())
}

fn permit_cut(dir: &Path, model: &str, cut: u32) -> anyhow::Result<()> {
    let model: Digest = model.parse().map_err(|_| {
        fail(Exit::Usage, "the model is named by 64 hex digits; `koinon model inspect` shows them")
    })?;
    if cut == 0 {
        return Err(fail(
            Exit::Usage,
            "cut 0 would send the raw rows; `koinon model cuts` shows the legal ones",
        ));
    }
    let path = config::load(dir).or_code(NodeError::exit_code)?.policy;
    let policy = control::read_policy(&path).or_code(NodeError::exit_code)?;
    if policy.permits_cut(&model, &model, cut) {
        say(format!("cut {cut} is permitted already"));
        return Ok(());
    }
    control::permit_cut(&path, &model, cut).or_code(NodeError::exit_code)?;
    say(format!("permitted cut {cut} of {} in {}", model.short(), path.display()));
    Ok(())
}

fn status(dir: &Path, format: Format) -> anyhow::Result<()> {
    config::load(dir).or_code(NodeError::exit_code)?;
    let path = dir.join(node::status::FILE);
    let text = std::fs::read_to_string(&path).map_err(|e| {
        fail(Exit::Config, format!("{}: {e}; the node has not run here yet", path.display()))
    })?;
    if format == Format::Json {
        say(text.trim_end());
        return Ok(());
    }
    let s: NodeStatus = serde_json::from_str(&text)
        .with_context(|| path.display().to_string())
        .or_exit(Exit::State)?;
    let state = match (s.running, s.connected, s.paused) {
        (false, ..) => "stopped",
        (_, _, true) => "paused",
        (_, true, _) => "connected",
        (_, false, _) => "not connected",
    };
    say(format!("node      {state}, process {}", s.pid));
    if let Some(problem) = s.problem {
        say(format!("problem   {problem}"));
    }
    say(format!("round     {} ({}), {} done since the start", s.round, s.phase, s.rounds_done));
    if let Some(upload) = s.upload {
        say(format!("upload    {} of {} chunks acknowledged", upload.acknowledged, upload.total));
    }
    if !s.last_outcome.is_empty() {
        say(format!("last      {}", s.last_outcome));
    }
    if s.key_log_contradictions > 0 {
        let n = s.key_log_contradictions;
        say(format!(
            "key log   {n} times not proven to be what this site took before: ask whether the \
             coordinator was restored from a backup, or shows different histories; tell the consortium"
        ));
    }
    for task in s.awaiting_approval {
        say(format!("waiting   for an approval: koinon client approve {task}"));
    }
    say(format!(
        "ledger    {} entries; {} bytes left since the start, {} on the wire",
        s.ledger.entries,
        thousands(s.ledger.bytes),
        thousands(s.transport.written)
    ));
    if let Some(p) = s.privacy {
        say(format!(
            "privacy   at most epsilon {:.2} of {} at delta {} told of one {}, in {} steps",
            p.epsilon, p.epsilon_total, p.delta, p.unit, p.steps
        ));
    }
    Ok(())
}

fn leave(dir: &Path, yes: bool) -> anyhow::Result<()> {
    config::load(dir).or_code(NodeError::exit_code)?;
    if !yes {
        return Err(fail(
            Exit::Usage,
            "this cannot be undone: the node stops and never starts again in this folder; add --yes to do it",
        ));
    }
    control::leave(dir).or_code(NodeError::exit_code)?;
    say("left; ask the consortium to revoke this member with: koinon roster revoke NAME");
    Ok(())
}
