//! What machines read: `--format json` is one object or list a line, and a seed gives the same bytes.

use crate::federation::Federation;
use crate::support::{koinon, repository, wait_until};

#[test]
fn json_parses_everywhere() {
    let federation = Federation::of(1);
    let token = federation.token("partition", "partition", &[]);
    let joined =
        federation.koinon(&["join", &token, "--dir", "partition", "--format", "json"]).json();
    assert_eq!((&joined["name"], &joined["role"]), (&"partition".into(), &"partition".into()));
    assert!(joined["transport"]["written"].as_u64() > Some(0), "{joined}");

    federation.write_task(3);
    let submitted = federation.koinon(&["task", "submit", "task", "--format", "json"]).json();
    let task = submitted["task"].as_str().unwrap();
    assert_eq!(federation.status(task)["state"], "waiting");
    assert_eq!(federation.koinon(&["task", "list", "--format", "json"]).json()[0]["task"], task);
    // The start of a fresh task is a version already.
    let versions = federation.koinon(&["model", "list", "--format", "json"]).json();
    assert_eq!(versions.as_array().unwrap().len(), 1, "{versions}");
    let cuts = federation.koinon(&["model", "cuts", "task/model.toml", "--format", "json"]).json();
    assert_eq!((cuts[0]["raw"].as_bool(), cuts[2]["legal"].as_bool()), (Some(true), Some(true)));

    let node = federation.node(0);
    let connected = || federation.node_status(0)["connected"] == true;
    wait_until(connected, || node.said());
    let status =
        federation.koinon(&["client", "status", "--dir", "site-0", "--format", "json"]).json();
    assert!(status["transport"]["written"].as_u64() > Some(0), "{status}");
    let last = ["client", "ledger", "list", "--dir", "site-0", "--last", "2", "--format", "json"];
    assert_eq!(federation.koinon(&last).json().as_array().unwrap().len(), 2);
}

#[test]
fn a_seed_gives_the_same_bytes() {
    let scenario = repository().join("scenarios/smoke.toml").display().to_string();
    let dir = tempfile::tempdir().unwrap();
    let run =
        |more: &[&str]| koinon(dir.path(), &[&["simulate", &scenario][..], more].concat()).good();
    let one = run(&["--seed", "3", "--format", "json"]);
    let object: serde_json::Value = serde_json::from_str(&one).unwrap();
    assert_eq!((&object["seed"], &object["state"]), (&3.into(), &"done".into()));
    assert_eq!(one, run(&["--seed", "3", "--format", "json"]));
    let many = run(&["--seeds", "0..4", "--threads", "1", "--format", "json"]);
    assert_eq!(many, run(&["--seeds", "0..4", "--threads", "2", "--format", "json"]));
    assert_eq!(many.lines().nth(3), one.lines().next());
    assert!(many.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    let rows = run(&["--format", "csv"]);
    let columns = |line: &str| line.split(',').count();
    let first = columns(rows.lines().next().unwrap());
    assert!(rows.lines().count() > 2 && rows.lines().all(|line| columns(line) == first), "{rows}");
    assert!(run(&["--template"]).contains("[faults]"));
}

#[test]
fn an_empty_folder_is_no_surprise() {
    let dir = tempfile::tempdir().unwrap();
    for words in [
        &["client", "run"][..],
        &["client", "check"],
        &["client", "status"],
        &["client", "approve"],
    ] {
        let ran = koinon(dir.path(), words);
        assert!(
            format!("{}{}", ran.out, ran.err).contains("koinon join"),
            "{words:?}: {}",
            ran.err
        );
        ran.fails(3, &[]);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
