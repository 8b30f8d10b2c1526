//! The tutorials, `docs/quickstart.md` and `docs/split.md`, work as written: every line of their `sh` blocks, one after the other,
//! in one shell.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{KOINON, free_port, read, repository, wait_until};

/// The lines of the page's `sh` blocks, with their numbers.
fn lines(page: &str) -> Vec<(usize, String)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (n, line) in page.lines().enumerate() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if inside && !line.trim().is_empty() => found.push((n + 1, line.to_owned())),
            _ => {}
        }
    }
    found
}

/// The page as a script that says which line it is at, and stops at the first that fails.
fn script(page: &str, ports: [(&str, u16); 2]) -> String {
    let mut text = String::from("set -eu\n");
    for (n, line) in lines(page) {
        let line =
            ports.iter().fold(line, |line, (port, free)| line.replace(port, &free.to_string()));
        text += &format!("echo '== line {n}' >&2\n{line}\n");
    }
    text + "echo '== end' >&2\n"
}

/// What a run of the page left.
struct Walked {
    folder: tempfile::TempDir,
    said: String,
}

fn walk(page: &str) -> Walked {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink(repository().join("data"), at("data")).unwrap();
    let page = read(&repository().join(page));
    std::fs::write(at("script"), script(&page, [("7443", free_port()), ("7444", free_port())]))
        .unwrap();
    let program = Path::new(KOINON).parent().unwrap().display().to_string();
    let path = format!("{program}:{}", std::env::var("PATH").unwrap_or_default());
    let log = std::fs::File::create(at("log")).unwrap();
    let mut shell = Command::new("bash")
        .arg("script")
        .current_dir(folder.path())
        .env("PATH", path)
        .env("TMPDIR", folder.path())
        .env_remove("HTTPS_PROXY")
        .env_remove("https_proxy")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap();
    let group = format!("-{}", shell.id());
    let start = std::time::Instant::now();
    let mut status = None;
    while status.is_none() && start.elapsed().as_secs() < 90 {
        status = shell.try_wait().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // Whatever the page left running, or did not end, ends here.
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    let _ = shell.wait();
    let said = read(&at("log"));
    assert!(status.is_some_and(|s| s.success()), "the page does not work as written:\n{said}");
    Walked { folder, said }
}

#[test]
fn the_quickstart_works_as_written() {
    let walked = walk("docs/quickstart.md");
    let said = &walked.said;
    assert!(said.ends_with("== end\n"), "{said}");
    for words in [
        "roster version 1 signed and published: 8 members",
        "the ledger verifies",
        "done; version ",
        "in one unbroken chain",
        "messages of the transcript match their entries",
        "good: every part is what its digest names",
        "permitted cut 2 of",
    ] {
        assert!(said.contains(words), "`{words}` is not there:\n{said}");
    }
    // Nothing is left running: every lock can be had again.
    let place = std::fs::read_dir(walked.folder.path()).unwrap().filter_map(Result::ok);
    let place = place.map(|e| e.path()).find(|p| p.join("consortium").exists()).unwrap();
    let check =
        || crate::support::koinon(&place, &["client", "status", "--dir", "hospital-05"]).good();
    wait_until(|| check().contains("stopped"), check);
    answers_agree(&place);
}

#[test]
fn the_split_tutorial_works_as_written() {
    let walked = walk("docs/split.md");
    let said = &walked.said;
    assert!(said.ends_with("== end\n"), "{said}");
    for words in [
        "link: round trip",
        "cut 2, after act1",
        "answered by split: 1 message(s)",
        "answered by local: not connected: 1 message(s)",
        "nothing left this site",
    ] {
        assert!(said.contains(words), "`{words}` is not there:\n{said}");
    }
    let place = walked.folder.path().join("koinon-demo");
    let parse = |name: &str| -> serde_json::Value {
        serde_json::from_str(&read(&place.join(name))).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    let (exact, coarse, u) = (parse("exact.json"), parse("coarse.json"), parse("u.json"));
    let number = |of: &serde_json::Value, key: &str| of[key].as_f64().unwrap();
    assert!(number(&exact, "max_abs_diff") <= 1e-6 && number(&u, "max_abs_diff") <= 1e-6);
    assert!(number(&coarse, "max_abs_diff") > 0.0);
    assert!(number(&coarse, "activation_bytes") * 2.0 < number(&exact, "activation_bytes"));
}

/// The answers of the page's two inferences: here, and with the tail at the partition server.
fn answers_agree(place: &Path) {
    let parse = |name: &str| -> serde_json::Value {
        let text = read(&place.join(name));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}: {text}"))
    };
    let (local, split) = (parse("local.json"), parse("split.json"));
    assert_eq!(local["rows"], split["rows"], "{local} {split}");
    assert!(split["rows"].as_u64().unwrap() > 0);
    let origins = split["origins"].as_object().unwrap();
    assert!(
        origins.len() == 1 && origins.contains_key("split"),
        "not answered by the server: {split}"
    );
    assert!(split["max_abs_diff"].as_f64().unwrap() <= 1e-5, "{split}");
    assert!(split["activation_bytes"].as_u64() < split["raw_bytes"].as_u64(), "{split}");
}
