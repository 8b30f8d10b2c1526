//! Joining and membership: tokens, ports, roles, revocation.

use std::net::TcpListener;

use crate::federation::Federation;
use crate::support::{edit, read, wait_until};

#[test]
fn bad_tokens_are_told_apart_and_make_no_folder() {
    let federation = Federation::empty();
    let token = federation.token("client", "a", &[]);
    let join = |token: &str| federation.koinon(&["join", token, "--dir", "a"]);
    join("hello").fails(5, &["no token", "koinon1-"]);
    join(&token[..token.len() - 9]).fails(5, &["cut off"]);
    let mut changed = token.clone().into_bytes();
    let middle = changed.len() / 2;
    changed[middle] = if changed[middle] == b'a' { b'b' } else { b'a' };
    join(&String::from_utf8(changed).unwrap()).fails(5, &["changed"]);
    assert!(!federation.path("a").exists(), "a bad token made a folder");
    // Only the coordinator's clock says what is too late; a new token goes on in the same folder.
    join(&federation.token("client", "a", &["--days", "0"])).fails(5, &["expired", "new"]);

    // A token joins once, in one folder; repeating it there is no harm.
    assert!(join(&token).good().contains("fingerprint"));
    assert!(join(&token).good().contains("already"));
    federation.koinon(&["join", &token, "--dir", "b"]).fails(5, &["admission_spent"]);
    federation
        .koinon(&["roster", "invite", "client", "Not A Name", "--coordinator", "coordinator"])
        .fails(2, &[]);
}

#[test]
fn a_coordinator_that_is_away_or_another_is_told_apart() {
    let mut federation = Federation::empty();
    let token = federation.token("client", "a", &[]);
    // Somebody else's server: not of the pinned CA.
    let other = Federation::empty();
    let address = format!("127.0.0.1:{}", other.port);
    let join = ["join", &token, "--dir", "a", "--address", &address];
    federation.koinon(&join).fails(6, &["not from the consortium's CA"]);
    federation.coordinator = None;
    federation.koinon(&["join", &token, "--dir", "c"]).fails(6, &["cannot be reached"]);
    federation
        .koinon(&["join", &token, "--dir", "d", "--address", "no.such.host.invalid:1"])
        .fails(6, &["resolved", "DNS"]);
    // What broke off is taken up again with the same token and folder.
    federation.start_coordinator();
    federation.koinon(&["join", &token, "--dir", "c"]).good();
}

#[test]
fn a_port_in_use_is_named() {
    let federation = Federation::empty();
    federation.koinon(&["coordinator", "run"]).fails(6, &["127.0.0.1", "listen", "in use"]);
    federation.join("partition", "partition").good();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    federation
        .koinon(&["partition", "run", "--listen", &address])
        .fails(6, &[&address, "--listen"]);
    // Another port does not help: the folder has one coordinator at a time.
    edit(&federation.path("coordinator/coordinator.toml"), &format!(":{}", federation.port), ":0");
    federation.koinon(&["coordinator", "run"]).fails(7, &["in use by another coordinator"]);
}

#[test]
fn roles_and_revocation_hold() {
    let federation = Federation::of(2);
    // A site's folder submits no tasks, an operator's runs no node.
    federation.koinon(&["task", "list", "--dir", "site-0"]).fails(5, &["role operator"]);
    federation.koinon(&["client", "run", "--dir", "operator"]).fails(3, &["operator", "client"]);
    let listed = federation.koinon(&["roster", "list", "--format", "json"]).json();
    assert_eq!(
        listed["members"].as_array().unwrap().len(),
        4,
        "coordinator, operator, two sites: {listed}"
    );

    federation
        .koinon(&["roster", "revoke", "site-9", "--operator", "operator"])
        .fails(2, &["site-9", "did you mean"]);
    federation.koinon(&["roster", "revoke", "site-1", "--operator", "operator"]).good();
    federation
        .koinon(&["roster", "revoke", "site-1", "--operator", "operator"])
        .fails(2, &["already"]);
    let listed = federation.koinon(&["roster", "list", "--format", "json"]).json();
    assert_eq!(listed["version"], 2);
    assert!(federation.koinon(&["roster", "list"]).good().contains("revoked"));

    federation.koinon(&["roster", "sign", "--operator", "operator", "--yes"]).good();
    // Whoever takes the place of a member is shown beside it.
    federation.join("client", "late").good();
    federation.koinon(&["roster", "sign", "--operator", "operator", "--yes"]).good();
    let token = federation.token("client", "late", &[]);
    federation.koinon(&["join", &token, "--dir", "later"]).good();
    let sign = ["roster", "sign", "--operator", "operator", "--yes", "--renew"];
    let said = federation.koinon(&sign).good();
    assert!(said.contains("instead of") && said.contains("valid until"), "{said}");

    let asked = federation.join("client", "newest");
    assert!(asked.good().contains("joined as client"));
    // Nobody answers the question on an empty input: nothing is signed.
    federation
        .koinon(&["roster", "sign", "--operator", "operator"])
        .fails(130, &["nothing was signed"]);
    assert!(!federation.koinon(&["roster", "list"]).good().contains("newest"));
}

#[test]
fn pausing_and_leaving() {
    let federation = Federation::of(1);
    let node = federation.node(0);
    let said = |so: &dyn Fn(&serde_json::Value) -> bool| {
        wait_until(
            || so(&federation.node_status(0)),
            || read(&federation.path("site-0/status.json")),
        );
    };
    said(&|status| status["connected"] == true);
    assert!(
        federation.koinon(&["client", "status", "--dir", "site-0"]).good().contains("connected")
    );
    // One node a folder.
    federation.koinon(&["client", "run", "--dir", "site-0"]).fails(7, &["in use"]);
    federation.koinon(&["client", "check", "--dir", "site-0"]).good();
    federation.koinon(&["client", "pause", "--dir", "site-0"]).good();
    said(&|status| status["paused"] == true);
    federation.koinon(&["client", "resume", "--dir", "site-0"]).good();
    said(&|status| status["paused"] == false);

    federation.koinon(&["client", "leave", "--dir", "site-0"]).fails(2, &["--yes"]);
    federation.koinon(&["client", "leave", "--dir", "site-0", "--yes"]).good();
    assert_eq!(node.ended(), 0);
    federation.koinon(&["client", "run", "--dir", "site-0"]).fails(5, &["has left"]);
}

#[test]
fn an_offer_beyond_the_policys_limits_says_so_before_it_is_approved() {
    let federation = Federation::of(5);
    let task = federation.submit(201);
    let node = federation.node(0);
    let offered = || federation.koinon(&["client", "approve", "--dir", "site-0"]).good();
    wait_until(|| offered().contains(&task), offered);
    assert!(offered().contains("too_many_rounds"), "{}", offered());
    let said = federation.koinon(&["client", "approve", &task[..10], "--dir", "site-0"]).good();
    assert!(said.contains("too_many_rounds") && said.contains("not be done"), "{said}");
    federation.koinon(&["client", "approve", "ffff", "--dir", "site-0"]).fails(2, &["ffff"]);
    assert_eq!(node.terminate(), 0);
}
