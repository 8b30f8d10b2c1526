//! Wrong command lines: exit code 2, what is wrong, and what was probably meant.

use crate::support::{koinon, read};

#[test]
fn a_wrong_word_is_named_with_the_nearest_right_one() {
    let dir = tempfile::tempdir().unwrap();
    koinon(dir.path(), &["task", "list", "--formt", "json"]).fails(2, &["--formt", "--format"]);
    koinon(dir.path(), &["task", "lst"]).fails(2, &["lst", "list"]);
    koinon(dir.path(), &["clinet", "run"]).fails(2, &["clinet", "client"]);
    koinon(dir.path(), &["task", "list", "--format", "xml"]).fails(2, &["xml", "text", "json"]);
    koinon(dir.path(), &["roster", "invite", "clerk", "x"])
        .fails(2, &["clerk", "client", "operator"]);
    koinon(dir.path(), &["simulate", "x.toml", "--seeds", "9..3"]).fails(2, &["9..3", "above"]);
    koinon(dir.path(), &["simulate"]).fails(2, &["SCENARIO"]);
    koinon(dir.path(), &[]).fails(2, &["demo", "quickstart"]);
    assert!(koinon(dir.path(), &["--help"]).good().contains("koinon demo"));
    assert!(koinon(dir.path(), &["--version"]).good().contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_command_explains_itself() {
    let dir = tempfile::tempdir().unwrap();
    for words in [
        &["demo"][..],
        &["coordinator", "init"],
        &["coordinator", "run"],
        &["roster", "init"],
        &["roster", "invite"],
        &["roster", "sign"],
        &["roster", "list"],
        &["roster", "revoke"],
        &["join"],
        &["client", "check"],
        &["client", "approve"],
        &["client", "permit-cut"],
        &["client", "run"],
        &["client", "status"],
        &["client", "pause"],
        &["client", "resume"],
        &["client", "leave"],
        &["client", "ledger", "list"],
        &["client", "ledger", "verify"],
        &["client", "ledger", "export"],
        &["partition", "run"],
        &["task", "new"],
        &["task", "check"],
        &["task", "submit"],
        &["task", "list"],
        &["task", "status"],
        &["task", "watch"],
        &["task", "cancel"],
        &["model", "list"],
        &["model", "pull"],
        &["model", "inspect"],
        &["model", "cuts"],
        &["model", "verify"],
        &["infer"],
        &["simulate"],
    ] {
        let help = koinon(dir.path(), &[words, &["--help"]].concat()).good();
        assert!(help.contains("Usage: koinon"), "{words:?}: {help}");
    }
}

#[test]
fn what_exists_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path();
    std::fs::create_dir(here.join("koinon-demo")).unwrap();
    std::fs::write(here.join("koinon-demo/mine.txt"), "mine").unwrap();
    koinon(here, &["demo"]).fails(3, &["koinon-demo", "exists", "--fresh"]);
    assert_eq!(read(&here.join("koinon-demo/mine.txt")), "mine");
    // `--fresh` takes away a demo's folder, not whatever has that name.
    koinon(here, &["demo", "--fresh"]).fails(3, &["koinon-demo"]);
    assert_eq!(read(&here.join("koinon-demo/mine.txt")), "mine");

    koinon(here, &["roster", "init"]).good();
    let key = read(&here.join("consortium/consortium.key"));
    koinon(here, &["roster", "init"]).fails(3, &["consortium", "never replaced"]);
    assert_eq!(read(&here.join("consortium/consortium.key")), key);

    let init = ["coordinator", "init", "--consortium", "consortium/consortium.pub"];
    koinon(here, &init).good();
    koinon(here, &init).fails(3, &["coordinator exists already"]);

    koinon(here, &["task", "new", "task"]).good();
    koinon(here, &["task", "new", "task"]).fails(3, &["task exists already"]);
}
