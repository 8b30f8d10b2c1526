//! Keys: private or refused, damaged and named, and the ledger's chain.

use crate::federation::Federation;
use crate::support::{edit, koinon, read};

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_refused() {
    use crate::support::set_mode;
    let mut federation = Federation::of(1);
    federation.coordinator = None;
    for (file, words) in [
        ("coordinator/identity.key", &["coordinator", "run"][..]),
        ("coordinator/ca.key", &["coordinator", "run"]),
        ("site-0/identity.key", &["client", "run", "--dir", "site-0"]),
        ("site-0/tls.key", &["client", "run", "--dir", "site-0"]),
        ("operator/tls.key", &["task", "list"]),
        ("consortium/consortium.key", &["roster", "list"]),
    ] {
        let path = federation.path(file);
        let name = path.file_name().unwrap().to_str().unwrap();
        set_mode(&path, 0o644);
        federation.koinon(words).fails(3, &[name, "chmod 600"]);
        set_mode(&path, 0o600);
    }
    federation.start_coordinator();
    federation.koinon(&["task", "list"]).good();
}

#[test]
fn a_damaged_key_is_named() {
    let mut federation = Federation::of(1);
    federation.coordinator = None;
    for (file, words) in [
        ("coordinator/identity.key", &["coordinator", "run"][..]),
        ("coordinator/ca.key", &["coordinator", "run"]),
        ("coordinator/ca.pem", &["coordinator", "run"]),
        ("site-0/identity.key", &["client", "run", "--dir", "site-0"]),
        ("site-0/tls.key", &["client", "run", "--dir", "site-0"]),
        ("site-0/tls.pem", &["client", "run", "--dir", "site-0"]),
        ("site-0/ca.pem", &["client", "run", "--dir", "site-0"]),
        ("consortium/consortium.key", &["roster", "list"]),
        ("consortium/roster.bin", &["roster", "list"]),
    ] {
        let path = federation.path(file);
        let whole = std::fs::read(&path).unwrap();
        // Truncated in place, which keeps the file's mode.
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let ran = federation.koinon(words);
        let named = ran.err.contains(path.file_name().unwrap().to_str().unwrap());
        assert!(named || ran.err.contains("CA's"), "{file}: {}", ran.err);
        ran.fails(3, &[]);
        std::fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_ledger_that_was_touched_is_found_and_not_continued() {
    let federation = Federation::of(1);
    let ledger = federation.path("site-0/ledger/ledger.jsonl");
    let verify = ["client", "ledger", "verify", "--dir", "site-0"];
    assert!(federation.koinon(&verify).good().contains("good"));
    let listed = federation
        .koinon(&["client", "ledger", "list", "--dir", "site-0", "--format", "json"])
        .json();
    assert!(
        listed["entries"].as_u64().unwrap() >= 2,
        "joining left nothing in the ledger: {listed}"
    );
    let csv = federation.koinon(&["client", "ledger", "export", "--dir", "site-0"]).good();
    assert_eq!(csv.lines().count() as u64, listed["entries"].as_u64().unwrap() + 1);

    let whole = read(&ledger);
    edit(&ledger, "\"kind\":\"negotiate\"", "\"kind\":\"hello\"");
    federation.koinon(&verify).fails(9, &["line 2", "changed"]);
    federation.koinon(&["client", "run", "--dir", "site-0"]).fails(7, &["line 2", "changed"]);
    // The first line taken out.
    std::fs::write(&ledger, whole.split_once('\n').unwrap().1).unwrap();
    federation.koinon(&verify).fails(9, &["line 1"]);
    std::fs::write(&ledger, "not a ledger\n").unwrap();
    federation.koinon(&verify).fails(9, &[]);
    std::fs::write(&ledger, whole).unwrap();
    federation.koinon(&verify).good();
}

#[test]
fn a_model_folder_that_was_touched_is_found() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("m")).unwrap();
    std::fs::write(dir.path().join("m/card.json"), r#"{"version":"00","spec":"11"}"#).unwrap();
    std::fs::write(dir.path().join("m/spec.json"), "{}").unwrap();
    koinon(dir.path(), &["model", "verify", "m"]).fails(9, &["spec.json", "pull"]);
    std::fs::write(dir.path().join("m/card.json"), "{").unwrap();
    koinon(dir.path(), &["model", "verify", "m"]).fails(3, &["card.json"]);
}

#[test]
fn a_secret_is_never_taken_for_the_public_key() {
    let dir = tempfile::tempdir().unwrap();
    koinon(dir.path(), &["roster", "init"]).good();
    let init = |key: &str| koinon(dir.path(), &["coordinator", "init", "--consortium", key]);
    init("consortium/consortium.key").fails(3, &["consortium.key", "consortium.pub"]);
    assert!(!dir.path().join("coordinator").exists());
    init("consortium/consortium.pub").good();
    init("none.pub").fails(3, &["none.pub", "koinon roster init"]);
}
