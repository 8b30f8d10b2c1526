//! A small consortium of real processes for the tests: coordinator, operator, sites with tiny tables, a task of seconds.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Running, free_port, koinon, read, wait_for_port, wait_until};

/// The folder of a consortium, and its coordinator while it runs.
pub(crate) struct Federation {
    folder: tempfile::TempDir,
    pub(crate) coordinator: Option<Running>,
    pub(crate) port: u16,
    sites: usize,
}

impl Federation {
    /// The consortium's key and a running coordinator; nobody has joined.
    pub(crate) fn empty() -> Federation {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        koinon(folder.path(), &["roster", "init"]).good();
        let listen = format!("127.0.0.1:{port}");
        let key = "consortium/consortium.pub";
        koinon(folder.path(), &["coordinator", "init", "--listen", &listen, "--consortium", key])
            .good();
        let mut federation = Federation { folder, coordinator: None, port, sites: 0 };
        federation.start_coordinator();
        federation
    }

    /// With an operator and so many sites, all in the signed roster.
    pub(crate) fn of(sites: usize) -> Federation {
        let mut federation = Federation::empty();
        federation.join("operator", "operator").good();
        for site in 0..sites {
            let name = name(site);
            federation.join("client", &name).good();
            federation.give_data(&name, &table(site));
        }
        federation.koinon(&["roster", "sign", "--operator", "operator", "--yes"]).good();
        federation.sites = sites;
        federation
    }

    pub(crate) fn dir(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Runs the program in the consortium's folder.
    pub(crate) fn koinon(&self, words: &[&str]) -> crate::support::Ran {
        koinon(self.dir(), words)
    }

    pub(crate) fn start_coordinator(&mut self) {
        self.coordinator = Some(Running::start(self.dir(), "coordinator", &["coordinator", "run"]));
        wait_for_port(self.port);
    }

    /// A token for a new member.
    pub(crate) fn token(&self, role: &str, name: &str, more: &[&str]) -> String {
        let mut words = vec!["roster", "invite", role, name, "--coordinator", "coordinator"];
        words.extend(more);
        self.koinon(&words).good().trim().to_owned()
    }

    pub(crate) fn join(&self, role: &str, name: &str) -> crate::support::Ran {
        let token = self.token(role, name, &[]);
        self.koinon(&["join", &token, "--dir", name])
    }

    /// Writes a site's table and names it in the site's settings.
    pub(crate) fn give_data(&self, site: &str, table: &str) {
        std::fs::write(self.path(site).join("data.csv"), table).unwrap();
        let settings = self.path(site).join("client.toml");
        let text = read(&settings);
        if !text.contains("\n[data]\n") {
            std::fs::write(&settings, text + "\n[data]\npath = \"data.csv\"\n").unwrap();
        }
    }

    /// Writes the tiny task.
    pub(crate) fn write_task(&self, rounds: u32) {
        let dir = self.path("task");
        self.koinon(&["task", "new", "task"]).good();
        std::fs::write(dir.join("features.toml"), FEATURES).unwrap();
        std::fs::write(dir.join("model.toml"), MODEL).unwrap();
        let task = TASK.replace("ROUNDS", &rounds.to_string());
        let task = task.replace("SITES", &self.sites.max(5).to_string());
        std::fs::write(dir.join("task.toml"), task).unwrap();
    }

    /// Submits the tiny task; gives its digest.
    pub(crate) fn submit(&self, rounds: u32) -> String {
        self.write_task(rounds);
        let submitted = self.koinon(&["task", "submit", "task", "--format", "json"]).json();
        submitted["task"].as_str().unwrap().to_owned()
    }

    /// Starts a site's node.
    pub(crate) fn node(&self, site: usize) -> Running {
        let name = name(site);
        Running::start(self.dir(), &name, &["client", "run", "--dir", &name])
    }

    pub(crate) fn nodes(&self) -> Vec<Running> {
        (0..self.sites).map(|site| self.node(site)).collect()
    }

    /// Every site approves.
    pub(crate) fn approve(&self, task: &str) {
        for site in 0..self.sites {
            self.koinon(&["client", "approve", task, "--dir", &name(site)]).good();
        }
    }

    pub(crate) fn status(&self, task: &str) -> Value {
        self.koinon(&["task", "status", task, "--format", "json"]).json()
    }

    /// Waits until the task is in one of these states.
    #[track_caller]
    pub(crate) fn wait_for_state(&self, task: &str, states: &[&str]) -> Value {
        self.wait_for(task, |view| states.contains(&view["state"].as_str().unwrap()))
    }

    /// Waits until the task's view is as wished.
    #[track_caller]
    pub(crate) fn wait_for(&self, task: &str, so: impl Fn(&Value) -> bool) -> Value {
        let seen = std::cell::RefCell::new(Value::Null);
        let said = || self.coordinator.as_ref().map(Running::said).unwrap_or_default();
        wait_until(
            || {
                let ran = self.koinon(&["task", "status", task, "--format", "json"]);
                let view = serde_json::from_str(&ran.out).unwrap_or(Value::Null);
                let there = !view.is_null() && so(&view);
                *seen.borrow_mut() = view;
                there
            },
            || format!("the task does not come so far: {}\n{}", seen.borrow(), said()),
        );
        seen.into_inner()
    }

    /// The site's own status.
    pub(crate) fn node_status(&self, site: usize) -> Value {
        serde_json::from_str(&read(&self.path(&name(site)).join("status.json")))
            .unwrap_or(Value::Null)
    }
}

/// The name and folder of a site.
pub(crate) fn name(site: usize) -> String {
    format!("site-{site}")
}

/// Forty rows of two numbers and a label that follows the first.
pub(crate) fn table(site: usize) -> String {
    let mut text = String::from("patient,age,marker,relapse\n");
    for row in 0..40 {
        let age = 30 + (row * 7 + site * 11) % 50;
        let marker = (row * 13 + site * 5) % 20;
        let relapse = if age + marker > 65 { "yes" } else { "no" };
        writeln!(text, "p{site}-{row},{age},{marker}.5,{relapse}").unwrap();
    }
    text
}

const FEATURES: &str = r#"salt = "tiny-1"
group = "patient"
validation = 0.2

[label]
column = "relapse"
kind = "binary"
values = ["no", "yes"]

[[columns]]
names = ["age", "marker"]
type = "numeric"
bounds = [0, 120]
missing = "mean"
scaling = "standard"
"#;

const MODEL: &str = r#"name = "tiny"
inputs = [{ name = "x", shape = [2] }]

[[nodes]]
name = "fc1"
op = { linear = { units = 4 } }
inputs = ["x"]

[[nodes]]
name = "act1"
op = "relu"
inputs = ["fc1"]

[[nodes]]
name = "fc2"
op = { linear = { units = 2 } }
inputs = ["act1"]
"#;

const TASK: &str = r#"name = "tiny"
kind = "train"
model = "model.toml"
features = "features.toml"
training = "training.toml"
init_from = { fresh = { seed = 7 } }
seed = 7
rounds = ROUNDS
cohort = { min = 5, max = SITES, quorum = 5 }
budget_ms = 60000
grace_ms = 1000
server_optimizer = { average = { learning_rate = 1.0 } }
encoding = { clip_l2 = 10.0, update_bound = 1.0, frac_bits = 18, rows_max = 128 }
algorithm = "fed_avg"
attempts_max = 5
"#;
