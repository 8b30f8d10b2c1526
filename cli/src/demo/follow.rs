//! Following the training to its end, and the two faults on the way: one site and the coordinator are killed with SIGKILL while
//! an upload is under way, and come back.
//!
//! Nothing in the shipped programs knows of this: the relay slows a line down, the demo looks at the same status that an
//! operator can look at, and a supervisor starts again what died, as a service manager would.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::outcome::Faults;
use super::screen::Screen;
use super::stage::{Relay, Stage};
use crate::commands::view::TaskView;
use crate::exit::{Exit, fail};

/// How often status is looked at while a fault waits for its moment.
const LOOK: Duration = Duration::from_millis(15);
/// How long the supervisor waits before it starts again what died.
const RESTART_PAUSE: Duration = Duration::from_millis(300);
/// The whole training may take so long.
const PATIENCE: Duration = Duration::from_secs(600);

/// Who is killed, and when.
pub(crate) struct FaultPlan {
    /// Site killed in the middle of its upload, at this round.
    pub(crate) site: (String, u32),
    /// Round in which the coordinator is killed, and the site whose line is slow meanwhile.
    pub(crate) coordinator: (u32, String),
    /// Bytes a second on a line whose upload shall be caught half-way.
    pub(crate) slow_line: u64,
}

/// How the training ended.
pub(crate) struct Followed {
    pub(crate) view: TaskView,
    pub(crate) faults: Faults,
    /// Every version that the coordinator named as the newest while the task ran.
    pub(crate) seen_versions: BTreeSet<String>,
}

/// What a client's `status.json` says of an upload.
#[derive(Deserialize)]
struct SiteStatus {
    upload: Option<Upload>,
}

#[derive(Deserialize)]
struct Upload {
    acknowledged: u64,
    total: u64,
}

#[derive(PartialEq, Eq)]
enum Fault {
    Waiting,
    Armed,
    Done,
}

struct Follower<'a> {
    stage: &'a mut Stage,
    relay: &'a mut Relay,
    screen: &'a Screen,
    plan: Option<FaultPlan>,
    site: Fault,
    coordinator: Fault,
    faults: Faults,
    /// Wall clock of the faults, Unix milliseconds.
    moments: Vec<(u64, String)>,
    seen_versions: BTreeSet<String>,
    shown: usize,
    began: bool,
}

/// Follows `task` until it ends. Without a plan there are no faults.
pub(crate) fn follow(
    stage: &mut Stage,
    relay: &mut Relay,
    screen: &Screen,
    task: &str,
    plan: Option<FaultPlan>,
) -> anyhow::Result<Followed> {
    let mut watch = Watch::start(stage, task)?;
    let (site, coordinator) = match plan {
        Some(_) => (Fault::Waiting, Fault::Waiting),
        None => (Fault::Done, Fault::Done),
    };
    let mut follower = Follower {
        stage,
        relay,
        screen,
        plan,
        site,
        coordinator,
        faults: Faults::default(),
        moments: Vec::new(),
        seen_versions: BTreeSet::new(),
        shown: 0,
        began: false,
    };
    let view = follower.run(&mut watch)?;
    screen.end_rounds();
    let origin = view.history.first().map_or(0, |r| r.started_ms);
    let moments = std::mem::take(&mut follower.moments);
    follower.faults.at_seconds = moments
        .into_iter()
        .map(|(ms, what)| (ms.saturating_sub(origin) as f64 / 1000.0, what))
        .collect();
    if view.state != "done" {
        let reason = format!("the task ended as {}: {}", view.state, view.reason);
        return Err(fail(Exit::Task, reason));
    }
    Ok(Followed { faults: follower.faults, seen_versions: follower.seen_versions, view })
}

impl Follower<'_> {
    fn run(&mut self, watch: &mut Watch) -> anyhow::Result<TaskView> {
        let deadline = Instant::now() + PATIENCE;
        let mut last: Option<TaskView> = None;
        loop {
            match watch.next(LOOK)? {
                Some(view) => {
                    self.show(&view);
                    if view.ended() {
                        return Ok(view);
                    }
                    last = Some(view);
                }
                None if Instant::now() > deadline => bail!("the training did not end in time"),
                None => {}
            }
            if let Some(view) = &last {
                self.fault_at_site(view)?;
                self.fault_at_coordinator(view)?;
            }
            if let Some(what) = self.stage.fallen()? {
                bail!("{what}");
            }
        }
    }

    fn show(&mut self, view: &TaskView) {
        if !self.began {
            self.began = true;
            self.screen.begin_rounds(view.rounds);
        }
        for round in view.history.iter().skip(self.shown) {
            self.screen.round(round);
        }
        self.shown = self.shown.max(view.history.len());
        if !view.version.is_empty() {
            self.seen_versions.insert(view.version.clone());
        }
        let now = match view.phase.as_str() {
            "reporting" => format!("reporting {}/{}", view.accepted, view.cohort),
            "training" => format!("training {}/{}", view.ready, view.cohort),
            other => other.to_owned(),
        };
        self.screen.now(now);
    }

    fn fault_at_site(&mut self, view: &TaskView) -> anyhow::Result<()> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let (name, round) = plan.site.clone();
        match self.site {
            Fault::Waiting if view.round >= round => {
                self.relay.slow(&name, plan.slow_line)?;
                self.site = Fault::Armed;
            }
            Fault::Armed => {
                let Some(upload) = self.upload_of(&name) else { return Ok(()) };
                if upload.acknowledged < 1 || upload.acknowledged >= upload.total {
                    return Ok(());
                }
                self.stage.kill(&name)?;
                self.site = Fault::Done;
                self.faults.site_kills += 1;
                self.note(
                    format!("{name} killed"),
                    format!(
                        "{name} killed with SIGKILL on purpose: {} of {} chunks of its upload acknowledged; its service manager starts it again",
                        upload.acknowledged, upload.total
                    ),
                );
                self.relay.fast(&name)?;
                std::thread::sleep(RESTART_PAUSE);
                self.stage.start(&name, &["client", "run", "--dir", &name])?;
            }
            Fault::Waiting | Fault::Done => {}
        }
        Ok(())
    }

    fn fault_at_coordinator(&mut self, view: &TaskView) -> anyhow::Result<()> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let (round, slow) = plan.coordinator.clone();
        match self.coordinator {
            Fault::Waiting if self.site == Fault::Done && view.round >= round => {
                self.relay.slow(&slow, plan.slow_line)?;
                self.coordinator = Fault::Armed;
            }
            Fault::Armed if view.phase == "reporting" && view.accepted >= 1 => {
                self.stage.kill("coordinator")?;
                self.coordinator = Fault::Done;
                self.faults.coordinator_kills += 1;
                self.note(
                    "coordinator killed".into(),
                    format!(
                        "coordinator killed with SIGKILL on purpose in round {}, reporting, {} of {} updates accepted; it starts again and goes on",
                        view.round, view.accepted, view.cohort
                    ),
                );
                self.relay.fast(&slow)?;
                std::thread::sleep(RESTART_PAUSE);
                self.stage.start("coordinator", &["coordinator", "run", "--dir", "coordinator"])?;
            }
            Fault::Waiting | Fault::Armed | Fault::Done => {}
        }
        Ok(())
    }

    /// The upload that a site's own status tells of; nothing while the file is being replaced.
    fn upload_of(&self, site: &str) -> Option<Upload> {
        let text = std::fs::read_to_string(self.stage.path(site).join("status.json")).ok()?;
        serde_json::from_str::<SiteStatus>(&text).ok()?.upload
    }

    fn note(&mut self, short: String, long: String) {
        self.screen.line(format!("  ✗ {long}"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_ms = now.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(0));
        self.moments.push((now_ms, short));
        self.faults.notes.push(long);
    }
}

/// `koinon task watch`, as a process of its own, read line by line.
struct Watch {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Watch {
    fn start(stage: &Stage, task: &str) -> anyhow::Result<Watch> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["task", "watch", task, "--dir", "operator", "--format", "json"])
            .current_dir(&stage.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(stage.path("logs").join("watch.log"))?)
            .spawn()
            .context("cannot start the watch")?;
        let output = child.stdout.take().context("the watch has no output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Watch { child, lines })
    }

    fn next(&mut self, patience: Duration) -> anyhow::Result<Option<TaskView>> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => {
                Ok(Some(serde_json::from_str(&line).context("the watch is not understood")?))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait()?;
                bail!(
                    "`koinon task watch` ended before the task did ({status}); see logs/watch.log"
                )
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
