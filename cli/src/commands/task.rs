//! `koinon task`: what the sites are asked to do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use koinon_proto::Digest;

use super::operator::Operator;
use super::taskfile;
use super::view::TaskView;
use crate::exit::{Exit, OrExit as _, fail};
use crate::output::{Format, say, say_json, table, thousands};

/// How long `watch` waits for a coordinator that is away.
const WATCH_PATIENCE: Duration = Duration::from_secs(120);

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a folder with a commented task, model, feature plan and training plan to start from.
    New {
        /// Folder to make.
        dir: PathBuf,
        /// Which example to start from.
        #[arg(long, value_enum, default_value_t = Example::Hospitals)]
        example: Example,
    },
    /// Check a task and everything it names, without sending it.
    Check {
        /// The task's file, or its folder.
        task: PathBuf,
    },
    /// Send a task to the coordinator; the sites will be asked to approve its digest.
    Submit {
        /// The task's file, or its folder.
        task: PathBuf,
        #[command(flatten)]
        operator: OperatorDir,
        /// Text or JSON.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// All tasks.
    List {
        #[command(flatten)]
        operator: OperatorDir,
        /// Text or JSON.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// One task with its rounds.
    Status {
        /// The task's digest, or its first characters.
        task: String,
        #[command(flatten)]
        operator: OperatorDir,
        /// Text or JSON.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Follow a task until it ends; a coordinator that restarts is waited for.
    Watch {
        /// The task's digest, or its first characters.
        task: String,
        #[command(flatten)]
        operator: OperatorDir,
        /// A line a round, or one JSON object a change.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// End a task; training at the sites stops within seconds.
    Cancel {
        /// The task's digest, or its first characters.
        task: String,
        #[command(flatten)]
        operator: OperatorDir,
    },
}

/// Where the operator's keys lie.
#[derive(clap::Args)]
pub(crate) struct OperatorDir {
    /// Folder of an operator that joined.
    #[arg(long = "dir", default_value = "operator")]
    pub(crate) dir: PathBuf,
}

/// Examples that come with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Example {
    /// Gene expression of lung tumours, label keap1_mutated.
    Hospitals,
    /// The same patients with differential privacy: logistic regression, one noised step a round.
    HospitalsPrivate,
    /// Loans, label charged_off.
    Banks,
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::New { dir, example } => new(&dir, example),
        Command::Check { task } => check(&task),
        Command::Submit { task, operator, format } => submit(&task, &operator.dir, format),
        Command::List { operator, format } => list(&operator.dir, format),
        Command::Status { task, operator, format } => {
            let views = views(&Operator::open(&operator.dir)?)?;
            show(find(&views, &task)?, format)
        }
        Command::Watch { task, operator, format } => watch(&task, &operator.dir, format),
        Command::Cancel { task, operator } => cancel(&task, &operator.dir),
    }
}

/// The files of an example: name and text.
pub(crate) fn example_files(example: Example) -> [(&'static str, &'static str); 4] {
    match example {
        Example::Hospitals => [
            (taskfile::FILE, include_str!("../../../data/tcga-luad/task.toml")),
            ("model.toml", include_str!("../../../data/tcga-luad/model.toml")),
            ("features.toml", include_str!("../../../data/tcga-luad/features.toml")),
            ("training.toml", include_str!("../../../data/tcga-luad/training.toml")),
        ],
        Example::HospitalsPrivate => [
            (taskfile::FILE, include_str!("../../../data/tcga-luad-private/task.toml")),
            ("model.toml", include_str!("../../../data/tcga-luad-private/model.toml")),
            ("features.toml", include_str!("../../../data/tcga-luad-private/features.toml")),
            ("training.toml", include_str!("../../../data/tcga-luad-private/training.toml")),
        ],
        Example::Banks => [
            (taskfile::FILE, include_str!("../../../data/sba-loans/task.toml")),
            ("model.toml", include_str!("../../../data/sba-loans/model.toml")),
            ("features.toml", include_str!("../../../data/sba-loans/features.toml")),
            ("training.toml", include_str!("../../../data/sba-loans/training.toml")),
        ],
    }
}

fn new(dir: &Path, example: Example) -> anyhow::Result<()> {
    if dir.exists() {
        return Err(fail(
            Exit::Config,
            format!("{} exists already; choose another folder", dir.display()),
        ));
    }
    std::fs::create_dir_all(dir).or_exit(Exit::State)?;
    for (name, text) in example_files(example) {
        std::fs::write(dir.join(name), text).or_exit(Exit::State)?;
    }
    say(format!("made {}; edit it, then: koinon task check {}", dir.display(), dir.display()));
    Ok(())
}

fn check(path: &Path) -> anyhow::Result<()> {
    let task = taskfile::read(path)?;
    let m = &task.manifest;
    say(format!("{}  {}", m.name, task.digest()));
    if let Some(spec) = &task.spec {
        say(format!(
            "model     {}: {} parameters, {} nodes",
            spec.spec().name,
            thousands(spec.layout().len() as u64),
            spec.n_nodes()
        ));
    }
    if let Some(plan) = &task.features {
        say(format!("features  {} columns, {} numbers a row", plan.columns().len(), plan.width()));
    }
    say(format!(
        "rounds    {} with {} to {} sites, quorum {}",
        m.rounds, m.cohort.min, m.cohort.max, m.cohort.quorum
    ));
    if let Some(planned) = &task.planned {
        planned.lines().for_each(say);
    }
    say("good; send it with: koinon task submit");
    Ok(())
}

fn submit(path: &Path, dir: &Path, format: Format) -> anyhow::Result<()> {
    let task = taskfile::read(path)?;
    let (digest, rounds) = (task.digest(), task.manifest.rounds);
    let accepted = Operator::open(dir)?.submit(task.manifest.to_canonical_json(), task.blobs)?;
    if accepted.task != digest.0 {
        return Err(fail(
            Exit::Verification,
            "the coordinator names another digest than the one sent",
        ));
    }
    match format {
        Format::Json => say_json(&serde_json::json!({ "task": digest, "rounds": rounds })),
        Format::Text => {
            say(format!("submitted {digest}"));
            say(format!(
                "each site now approves it: koinon client approve {} --dir SITE",
                digest.short()
            ));
            Ok(())
        }
    }
}

fn views(operator: &Operator) -> anyhow::Result<Vec<TaskView>> {
    Ok(operator.tasks()?.into_iter().map(TaskView::from).collect())
}

/// The one task whose digest begins with `prefix`.
fn find<'a>(views: &'a [TaskView], prefix: &str) -> anyhow::Result<&'a TaskView> {
    let mut found = views.iter().filter(|v| !prefix.is_empty() && v.task.starts_with(prefix));
    match (found.next(), found.next()) {
        (Some(view), None) => Ok(view),
        (None, _) => Err(fail(
            Exit::Usage,
            format!("no task's digest begins with {prefix}; `koinon task list` shows them"),
        )),
        (Some(_), Some(_)) => Err(fail(
            Exit::Usage,
            format!("several tasks' digests begin with {prefix}; give more of it"),
        )),
    }
}

fn list(dir: &Path, format: Format) -> anyhow::Result<()> {
    let views = views(&Operator::open(dir)?)?;
    if format == Format::Json {
        return say_json(&views);
    }
    let mut rows =
        vec![["task", "name", "state", "round", "phase", "version"].map(String::from).to_vec()];
    for v in &views {
        let short = |d: &str| d.get(..12).unwrap_or("–").to_owned();
        rows.push(vec![
            short(&v.task),
            v.name.clone(),
            v.state.clone(),
            format!("{}/{}", v.round, v.rounds),
            v.phase.clone(),
            short(&v.version),
        ]);
    }
    say(table(&rows).trim_end());
    Ok(())
}

fn show(v: &TaskView, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return say_json(v);
    }
    say(about(v));
    say(heading());
    for round in &v.history {
        say(row(round));
    }
    Ok(())
}

/// What is said of a task before its rounds.
fn about(v: &TaskView) -> String {
    let reason = if v.reason.is_empty() { String::new() } else { format!(" ({})", v.reason) };
    let mut lines = vec![
        format!("{}  {}", v.name, v.task),
        format!("state     {}{reason}, round {} of {}, {}", v.state, v.round, v.rounds, v.phase),
    ];
    if !v.waiting_for.is_empty() {
        lines.push(format!("waiting   for {}", v.waiting_for.join(", ")));
    }
    lines.push(format!("version   {}\nbest      {}", v.version, v.best_version));
    lines.push(match &v.privacy {
        Some(privacy) => format!("privacy   {privacy}"),
        None => "privacy   none beyond the sum: no differential privacy".to_owned(),
    });
    if let Some(trail) = v.privacy.as_ref().and_then(|privacy| privacy.trail()) {
        lines.push(format!("clip      by round, with the share it left as it was: {trail}"));
    }
    lines.join("\n")
}

fn heading() -> String {
    format!(
        "{:<11}{:>6}{:>10}{:>10}{:>9}  outcome",
        "round", "sites", "loss", "val. AUC", "seconds"
    )
}

fn row(r: &super::view::RoundView) -> String {
    let figure = |x: Option<f64>| x.map_or_else(|| "–".into(), |x| format!("{x:.4}"));
    let name = if r.kind == "train" { r.round.to_string() } else { r.kind.clone() };
    format!(
        "{name:<11}{:>6}{:>10}{:>10}{:>9.2}  {}",
        r.participants,
        figure(r.loss),
        figure(r.validation_auc),
        r.seconds,
        r.outcome
    )
}

fn watch(task: &str, dir: &Path, format: Format) -> anyhow::Result<()> {
    let operator = Operator::open(dir)?;
    let digest: Digest = match task.parse() {
        Ok(digest) => digest,
        Err(_) => find(&views(&operator)?, task)?
            .task
            .parse()
            .map_err(|_| fail(Exit::Refused, "the coordinator names a task by no digest"))?,
    };
    let mut shown = 0;
    let mut last = None;
    if format == Format::Text {
        say(heading());
    }
    operator.watch(digest, WATCH_PATIENCE, |status| {
        let view = TaskView::from(status);
        match format {
            Format::Json => {
                if say_json(&view).is_err() {
                    return false;
                }
            }
            Format::Text => view.history.iter().skip(shown).for_each(|r| say(row(r))),
        }
        shown = shown.max(view.history.len());
        last = Some(view);
        true
    })?;
    match last {
        Some(view) if view.state == "done" => {
            if format == Format::Text {
                say(format!("done; version {}", view.version));
            }
            Ok(())
        }
        Some(view) => {
            Err(fail(Exit::Task, format!("the task ended as {}: {}", view.state, view.reason)))
        }
        None => Err(fail(Exit::Network, "the coordinator said nothing of the task")),
    }
}

fn cancel(task: &str, dir: &Path) -> anyhow::Result<()> {
    let operator = Operator::open(dir)?;
    let all = views(&operator)?;
    let view = find(&all, task)?;
    let digest: Digest = view
        .task
        .parse()
        .map_err(|_| fail(Exit::Refused, "the coordinator names a task by no digest"))?;
    let status = operator.cancel(digest)?;
    say(format!("{}: {}", view.name, status.state));
    Ok(())
}

#[cfg(test)]
mod tests {
    use koinon_proto::wire;

    use super::*;

    fn shown(privacy: Option<wire::Privacy>) -> String {
        about(&TaskView::from(wire::TaskStatus { privacy, ..wire::TaskStatus::default() }))
    }

    #[test]
    fn a_status_names_epsilon_delta_and_unit_and_the_clips_way() {
        let fixed = wire::Privacy {
            unit: "site".into(),
            epsilon: 8.0,
            delta: 1e-5,
            ..wire::Privacy::default()
        };
        let text = shown(Some(fixed.clone()));
        assert!(text.contains("epsilon at most 8 at delta 0.00001, unit site"), "{text}");
        assert!(!text.contains("clip"), "{text}");
        let (clips, unclipped) = (vec![1.0, 0.93], vec![0.86, 0.41]);
        let text = shown(Some(wire::Privacy { clips, unclipped, ..fixed }));
        assert!(text.contains("unit site, adaptive clip from 1.0000 to 0.9300"), "{text}");
        assert!(text.contains("1.0000 (86 %), 0.9300 (41 %)"), "{text}");
        assert!(shown(None).contains("no differential privacy"));
    }
}
