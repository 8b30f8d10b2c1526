//! Files that people write: an unknown key is refused with line and nearest right key, a missing file with who makes it.

use std::path::Path;

use crate::federation::Federation;
use crate::support::{edit, koinon, read, repository};

/// The line (from 1) of a file on which a text stands.
fn line_of(path: &Path, text: &str) -> String {
    let at = read(path).lines().position(|line| line.contains(text)).unwrap();
    format!("line {}:", at + 1)
}

#[test]
fn an_unknown_key_is_refused_with_line_and_nearest_key() {
    let federation = Federation::of(1);
    federation.join("partition", "partition").good();
    federation.koinon(&["task", "new", "task"]).good();
    for (file, right, wrong, words) in [
        ("coordinator/coordinator.toml", "listen =", "lisen =", &["coordinator", "run"][..]),
        (
            "site-0/client.toml",
            "chunk_bytes =",
            "chunk_byte =",
            &["client", "run", "--dir", "site-0"],
        ),
        (
            "site-0/policy.toml",
            "rounds_max =",
            "round_max =",
            &["client", "run", "--dir", "site-0"],
        ),
        ("partition/partition.toml", "batch_rows =", "batch_row =", &["partition", "run"]),
        ("task/task.toml", "budget_ms =", "budgt_ms =", &["task", "check", "task"]),
        ("task/training.toml", "epochs =", "epoch =", &["task", "check", "task"]),
        ("task/features.toml", "validation =", "validatoin =", &["task", "check", "task"]),
    ] {
        let path = federation.path(file);
        edit(&path, right, wrong);
        let (right, wrong) = (right.trim_end_matches(" ="), wrong.trim_end_matches(" ="));
        let line = line_of(&path, wrong);
        let name = path.file_name().unwrap().to_str().unwrap();
        federation.koinon(words).fails(3, &[name, line.trim_end_matches(':'), wrong, right]);
        edit(&path, wrong, right);
    }
    // The settings that were mended are good again.
    federation.koinon(&["task", "check", "task"]).good();
}

#[test]
fn client_check_says_which_file_is_wrong() {
    let federation = Federation::of(1);
    let check = ["client", "check", "--dir", "site-0", "--format", "json"];
    let policy = federation.path("site-0/policy.toml");
    edit(&policy, "min = 5", "min = 2");
    let ran = federation.koinon(&check);
    assert_eq!(ran.code, 3, "{}", ran.out);
    let findings: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let bad: Vec<_> = findings.as_array().unwrap().iter().filter(|f| f["ok"] == false).collect();
    assert_eq!(bad.len(), 1, "{findings}");
    assert_eq!(bad[0]["area"], "policy");
    assert!(bad[0]["text"].as_str().unwrap().contains("cohort.min"), "{findings}");
    edit(&policy, "min = 2", "min = 5");
    let findings = federation.koinon(&check).json();
    for area in ["folder", "policy", "data", "connection", "interception", "certificate", "clock"] {
        let found = findings.as_array().unwrap().iter().find(|f| f["area"] == area);
        assert_eq!(found.map(|f| &f["ok"]), Some(&true.into()), "{area}: {findings}");
    }
}

#[test]
fn a_scenario_is_checked_the_same_way() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("s.toml");
    std::fs::copy(repository().join("scenarios/smoke.toml"), &scenario).unwrap();
    let text = read(&scenario);
    std::fs::write(&scenario, text.replacen("name =", "nmae =", 1)).unwrap();
    let line = line_of(&scenario, "nmae");
    koinon(dir.path(), &["simulate", "s.toml"])
        .fails(3, &["s.toml", line.trim_end_matches(':'), "nmae", "name"]);
    std::fs::write(&scenario, text).unwrap();
    koinon(dir.path(), &["simulate", "s.toml", "--set", "task.rouns=2"])
        .fails(3, &["rouns", "rounds"]);
    koinon(dir.path(), &["simulate", "s.toml", "--set", "rounds"]).fails(3, &["rounds", "="]);
}

#[test]
fn a_missing_file_is_named_with_who_makes_it() {
    let dir = tempfile::tempdir().unwrap();
    for (words, said) in [
        (&["coordinator", "run"][..], &["coordinator", "koinon coordinator init"][..]),
        (&["coordinator", "init", "--consortium", "none.pub"], &["none.pub", "koinon roster init"]),
        (&["client", "run", "--dir", "none"], &["none", "koinon join"]),
        (&["client", "status", "--dir", "none"], &["none", "koinon join"]),
        (&["client", "ledger", "verify", "--dir", "none"], &["none", "koinon join"]),
        (&["client", "approve", "--dir", "none"], &["none", "koinon join"]),
        (&["partition", "run"], &["partition", "koinon join"]),
        (&["roster", "list"], &["consortium", "koinon roster init"]),
        (&["roster", "sign", "--operator", "operator"], &["consortium", "koinon roster init"]),
        (&["task", "check", "task"], &["task", "koinon task new"]),
        (&["task", "list"], &["operator", "koinon join"]),
        (&["model", "inspect", "none"], &["none"]),
        (&["model", "verify", "none"], &["none"]),
        (&["simulate", "none.toml"], &["none.toml"]),
    ] {
        koinon(dir.path(), words).fails(3, said);
    }
    let here = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(here, 0, "a command that failed left something behind");
}

#[test]
fn a_tasks_own_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path();
    koinon(here, &["task", "new", "task", "--example", "banks"]).good();
    let check = ["task", "check", "task"];
    assert!(koinon(here, &check).good().contains("parameters"));

    let task = here.join("task/task.toml");
    edit(&task, "\"training.toml\"", "\"trainin.toml\"");
    koinon(here, &check).fails(3, &["training", "trainin.toml"]);
    edit(&task, "\"trainin.toml\"", "\"training.toml\"");

    edit(&task, "min = 8", "min = 2");
    koinon(here, &check).fails(3, &["cohort.min", "at least 3"]);
    edit(&task, "min = 2", "min = 8");

    let model = here.join("task/model.toml");
    edit(&model, "inputs = [\"act1\"]", "inputs = [\"atc1\"]");
    koinon(here, &check).fails(3, &["model.toml", "atc1"]);
    edit(&model, "inputs = [\"atc1\"]", "inputs = [\"act1\"]");

    edit(&here.join("task/features.toml"), "\"92\",", "");
    koinon(here, &check).fails(3, &["numbers a row"]);
}
