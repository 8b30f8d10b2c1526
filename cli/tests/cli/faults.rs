//! Processes that are killed, and disks that are full: what was accepted stays, what was not let out did not leave.
#![cfg(unix)]

use crate::federation::{Federation, name};
use crate::support::{Running, read};

#[test]
fn killed_processes_come_back_and_the_task_ends() {
    let mut federation = Federation::of(6);
    let task = federation.submit(12);
    federation.approve(&task);
    let mut nodes = federation.nodes();
    federation.wait_for(&task, |view| view["round"].as_u64() >= Some(3));
    nodes.swap_remove(2).kill();
    federation.wait_for(&task, |view| view["round"].as_u64() >= Some(5));
    let versions = federation.koinon(&["model", "list", "--format", "json"]).json();
    federation.coordinator.take().unwrap().kill();
    nodes.push(federation.node(2));
    federation.start_coordinator();
    // No version that was there is lost.
    let after = federation.koinon(&["model", "list", "--format", "json"]).json();
    for version in versions.as_array().unwrap() {
        assert!(after.as_array().unwrap().contains(version), "{version} is gone");
    }
    let view = federation.wait_for_state(&task, &["done", "failed"]);
    assert_eq!(view["state"], "done", "{view}");
    let committed =
        |round: &&serde_json::Value| round["outcome"] == "committed" && round["kind"] == "train";
    assert_eq!(view["history"].as_array().unwrap().iter().filter(committed).count(), 12, "{view}");
    // Orderly ends, and every ledger holds.
    for node in nodes {
        assert_eq!(node.terminate(), 0);
    }
    for site in 0..6 {
        federation.koinon(&["client", "ledger", "verify", "--dir", &name(site)]).good();
    }
    assert_eq!(federation.coordinator.take().unwrap().terminate(), 0);
}

#[test]
fn watching_and_cancelling() {
    let federation = Federation::of(5);
    let task = federation.submit(190);
    federation.approve(&task);
    let _nodes = federation.nodes();
    let watch = Running::start(
        federation.dir(),
        "watch",
        &["task", "watch", &task[..12], "--format", "json"],
    );
    federation.wait_for(&task, |view| view["round"].as_u64() >= Some(2));
    assert!(federation.koinon(&["task", "cancel", &task[..12]]).good().contains("cancelled"));
    // A task that ended without a result is exit code 8, and each line before was an object.
    let said = federation.path("watch.log");
    assert_eq!(watch.ended(), 8);
    let lines = read(&said);
    let objects: Vec<_> = lines.lines().filter(|line| line.starts_with('{')).collect();
    assert!(!objects.is_empty(), "{lines}");
    for object in objects {
        serde_json::from_str::<serde_json::Value>(object).unwrap();
    }
    federation.koinon(&["task", "cancel", &task]).good();
    federation.koinon(&["task", "cancel", "0000"]).fails(2, &["0000", "koinon task list"]);
    let listed = federation.koinon(&["task", "list", "--format", "json"]).json();
    assert_eq!(listed[0]["state"], "cancelled");
}

#[test]
fn on_a_full_disk_nothing_more_leaves_and_later_it_goes_on() {
    let federation = Federation::of(5);
    let task = federation.submit(30);
    federation.approve(&task);
    let mut nodes: Vec<_> = (1..5).map(|site| federation.node(site)).collect();
    let words = ["client", "run", "--dir", "site-0", "--transcript", "site-0/transcript"];
    let full = Running::start_on_a_full_disk(federation.dir(), "site-0", 24, &words);
    assert_eq!(full.ended(), 7, "{}", read(&federation.path("site-0.log")));
    let said = read(&federation.path("site-0.log"));
    assert!(said.contains("ledger") || said.contains("cannot be written"), "{said}");
    // Whatever left before is in the ledger, and the ledger holds.
    let verify =
        ["client", "ledger", "verify", "--dir", "site-0", "--transcript", "site-0/transcript"];
    federation.koinon(&verify).good();
    let at_stop = federation.status(&task)["round"].clone();
    assert!(at_stop.as_u64().unwrap() < 30);
    // With room again, the same site goes on and the task ends.
    nodes.push(Running::start(federation.dir(), "site-0", &words));
    let view = federation.wait_for_state(&task, &["done", "failed"]);
    assert_eq!(view["state"], "done", "{view}");
    federation.koinon(&verify).good();
    let transcript = std::fs::read_dir(federation.path("site-0/transcript")).unwrap();
    let mut messages = transcript.map(|message| message.unwrap().path());
    let fifth = |path: &std::path::PathBuf| path.display().to_string().contains("/0000000005-");
    let kept = messages.find(fifth).unwrap();
    std::fs::write(&kept, "something else").unwrap();
    federation.koinon(&verify).fails(9, &["entry 5"]);
}

#[test]
fn a_coordinator_on_a_full_disk_says_nothing_it_cannot_keep() {
    let mut federation = Federation::of(5);
    let task = federation.submit(12);
    federation.approve(&task);
    federation.coordinator = None;
    let full =
        Running::start_on_a_full_disk(federation.dir(), "full", 160, &["coordinator", "run"]);
    let nodes = federation.nodes();
    assert_eq!(full.ended(), 7, "{}", read(&federation.path("full.log")));
    federation.start_coordinator();
    let view = federation.wait_for_state(&task, &["done", "failed"]);
    assert_eq!(view["state"], "done", "{view}");
    drop(nodes);
}
