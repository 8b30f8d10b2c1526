//! Founding the federation as in real life: the consortium's key, the coordinator, invitations, joining, the signed roster,
//! the nodes, and the task that each site approves by its digest.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use super::Data;
use super::referee::{Dealt, Wanted};
use super::relay::Line;
use super::screen::Screen;
use super::split::{Bytes, Sent};
use super::stage::{Relay, Stage, free_port};

/// What runs, and what is measured.
pub(crate) struct Federation {
    pub(crate) relay: Relay,
    pub(crate) sites: Vec<String>,
    /// The site whose bytes, ledger and masked update are shown.
    pub(crate) measured: String,
    /// What the measured site wrote to its sockets while joining.
    pub(crate) joining: Sent,
    /// Port on which the partition server will listen.
    pub(crate) partition_port: u16,
}

/// The submitted task.
pub(crate) struct Task {
    pub(crate) digest: String,
    pub(crate) rounds: u32,
}

/// What `koinon task submit --format json` prints.
#[derive(Deserialize)]
struct Submitted {
    task: String,
    rounds: u32,
}

/// What `koinon join --format json` prints of its bytes.
#[derive(Deserialize)]
struct Joined {
    transport: Bytes,
}

impl Federation {
    /// From an empty folder with dealt rows to sixteen nodes that wait for work.
    pub(crate) fn found(
        stage: &mut Stage,
        screen: &Screen,
        dealt: &Dealt,
    ) -> anyhow::Result<Federation> {
        let port = free_port()?;
        let partition_port = free_port()?;
        stage.call(&["roster", "init", "--dir", "consortium"])?;
        screen.step("consortium", "made its key; it stays off the coordinator");

        let address = format!("127.0.0.1:{port}");
        stage.call(&[
            "coordinator",
            "init",
            "--dir",
            "coordinator",
            "--listen",
            &address,
            "--consortium",
            "consortium/consortium.pub",
        ])?;
        keep_masked_updates(stage)?;
        stage.start("coordinator", &["coordinator", "run", "--dir", "coordinator"])?;
        super::split::wait_for(&address)?;
        screen.step(
            "coordinator",
            format!("listens on {address}; its first task will be to see nothing but sums"),
        );

        let relay = start_relay(stage, dealt, port, partition_port)?;
        let measured =
            dealt.sites.iter().find(|s| s.ends_with("05")).unwrap_or(&dealt.sites[0]).clone();
        let sites = dealt.sites.clone();
        let joining = Sent::default();
        let mut federation = Federation { relay, sites, measured, joining, partition_port };
        federation.join_all(stage)?;
        screen.step(
            "joining",
            format!("{} sites, one partition server, one operator: one token each, keys made at the site", dealt.sites.len()),
        );
        let signed = stage.call(&[
            "roster",
            "sign",
            "--dir",
            "consortium",
            "--operator",
            "operator",
            "--yes",
        ])?;
        screen.step("roster", last_line(&signed));
        Ok(federation)
    }

    fn join_all(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let direct = ["operator", "partition"].map(|name| (name, name.to_owned(), None));
        let sites = self.sites.iter().map(|s| Ok(("client", s.clone(), Some(self.relay.port(s)?))));
        let members = direct.into_iter().map(Ok).chain(sites);
        for member in members.collect::<anyhow::Result<Vec<_>>>()? {
            let (role, name, port) = member;
            let through = port.map(|p| format!("127.0.0.1:{p}"));
            let mut words = vec![
                "roster",
                "invite",
                role,
                &name,
                "--dir",
                "consortium",
                "--coordinator",
                "coordinator/public.toml",
            ];
            if let Some(through) = &through {
                words.extend(["--address", through]);
            }
            let token = stage.call(&words)?;
            let printed = stage
                .call(&["join", last_line(&token), "--dir", &name, "--format", "json"])
                .with_context(|| format!("{name} could not join"))?;
            if name == self.measured {
                let joined: Joined = serde_json::from_str(last_line(&printed))?;
                self.joining = Sent::from(joined.transport);
            }
        }
        Ok(())
    }

    /// Submits the task, has every site approve its digest, and starts the nodes.
    pub(crate) fn start_task(
        &self,
        stage: &mut Stage,
        screen: &Screen,
        wanted: &Wanted,
    ) -> anyhow::Result<Task> {
        super::referee::write_task(&stage.path("operator/task"), wanted, self.sites.len())?;
        let printed = stage.call(&[
            "task",
            "submit",
            "operator/task/task.toml",
            "--dir",
            "operator",
            "--format",
            "json",
        ])?;
        let submitted: Submitted =
            serde_json::from_str(&printed).context("`koinon task submit` is not understood")?;
        let short = submitted.task.get(..12).unwrap_or_default().to_owned();
        screen.step("task", format!("{short}… submitted: model, plans and budget named by digest"));
        for site in &self.sites {
            stage.call(&["client", "approve", &submitted.task, "--dir", site])?;
            name_rows(stage, site)?;
            if wanted.data == Data::Banks && *site != self.measured {
                small_chunks(stage, site)?;
            }
            let transcript = format!("{site}/transcript");
            let mut words = vec!["client", "run", "--dir", site];
            if *site == self.measured {
                words.extend(["--transcript", &transcript]);
            }
            stage.start(site, &words)?;
        }
        screen.step(
            "approval",
            format!("{} sites approved the digest and started their nodes", self.sites.len()),
        );
        Ok(Task { digest: submitted.task, rounds: submitted.rounds })
    }
}

/// The line that a person adds to the settings: where this site's rows are.
fn name_rows(stage: &Stage, site: &str) -> anyhow::Result<()> {
    let path = stage.path(site).join("client.toml");
    let text = std::fs::read_to_string(&path)?;
    Ok(std::fs::write(path, text + "\n[data]\npath = \"data.csv\"\n")?)
}

/// The banks' updates are so small that they would leave in one piece, and could not be caught half-way.
fn small_chunks(stage: &Stage, site: &str) -> anyhow::Result<()> {
    set_key(&stage.path(site).join("client.toml"), "chunk_bytes", "1024")
}

/// For the histogram at the end the coordinator keeps what it would otherwise forget after a round.
fn keep_masked_updates(stage: &Stage) -> anyhow::Result<()> {
    set_key(&stage.path("coordinator/coordinator.toml"), "keep_masked_updates", "true")
}

/// Sets a key of a settings file that has it already, commented out or not, as a person would in an editor.
fn set_key(path: &Path, key: &str, value: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path)?;
    let is_key = |line: &str| {
        line.trim_start_matches(['#', ' ']).split('=').next().is_some_and(|k| k.trim() == key)
    };
    anyhow::ensure!(text.lines().any(is_key), "{} has no key {key}", path.display());
    let changed: Vec<String> = text
        .lines()
        .map(|l| if is_key(l) { format!("{key} = {value}") } else { l.to_owned() })
        .collect();
    Ok(std::fs::write(path, changed.join("\n") + "\n")?)
}

fn start_relay(stage: &Stage, dealt: &Dealt, port: u16, partition: u16) -> anyhow::Result<Relay> {
    let line =
        |name: &str, port: u16| Line { name: name.into(), target: ([127, 0, 0, 1], port).into() };
    let mut lines: Vec<Line> = dealt.sites.iter().map(|s| line(s, port)).collect();
    lines.push(line("partition", partition));
    stage.relay(&lines)
}

/// The last line that a command printed.
pub(crate) fn last_line(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or_default()
}
