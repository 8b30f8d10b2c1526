//! The house's own rules, held by a test: sizes, forbidden shortcuts, walls that the sources show.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const CRATES: [&str; 9] = [
    "proto",
    "aggregation",
    "model",
    "coordinator",
    "client",
    "partition",
    "simulations",
    "cli",
    "tests",
];
/// Lines of a file before its `#[cfg(test)]` part.
const FILE_LINES_MAX: usize = 500;
/// Lines of a file with its tests.
const FILE_LINES_ABSOLUTE_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").into()
}

/// Every Rust source of the workspace with its text, by path relative to the root.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = CRATES.iter().map(|c| root().join(c)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("folder is readable") {
            let path = entry.expect("entry is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root()).expect("below the root").display().to_string();
                found.push((name, std::fs::read_to_string(&path).expect("source is text")));
            }
        }
    }
    found.sort();
    assert!(found.len() > 50, "the walk found only {} files", found.len());
    found
}

fn is_test_file(name: &str) -> bool {
    name.contains("/tests/") || name.starts_with("tests/") || name.contains("/examples/")
}

/// The part of a source before its unit tests.
fn shipped(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or(text)
}

fn report(rule: &str, offences: &[String]) {
    let mut message = String::new();
    for offence in offences {
        let _ = writeln!(message, "  {offence}");
    }
    assert!(offences.is_empty(), "{rule}:\n{message}");
}

#[test]
fn files_hold_one_concept() {
    let mut offences = Vec::new();
    for (name, text) in sources() {
        let (own, all) = (shipped(&text).lines().count(), text.lines().count());
        if all > FILE_LINES_ABSOLUTE_MAX || (own > FILE_LINES_MAX && !is_test_file(&name)) {
            offences.push(format!("{name}: {own} lines, {all} with tests"));
        }
    }
    report("files are at most 500 lines without tests, 800 with", &offences);
}

#[test]
fn functions_fit_on_a_screen() {
    let mut offences = Vec::new();
    for (name, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let indent = line.len() - code.len();
            let head = code.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            let head = head.trim_start_matches("async ").trim_start_matches("const ");
            if !head.starts_with("fn ") {
                continue;
            }
            // rustfmt closes a function at the indentation of its head.
            let closing = format!("{}}}", " ".repeat(indent));
            let body = lines[start..].iter().position(|l| *l == closing || l.ends_with(';'));
            let end = lines[start..].iter().position(|l| *l == closing);
            if let (Some(first), Some(end)) = (body, end)
                && end + 1 > FUNCTION_LINES_MAX
                && first > 0
            {
                offences.push(format!("{name}:{}: {} lines", start + 1, end + 1));
            }
        }
    }
    report("functions are at most 70 lines", &offences);
}

#[test]
fn no_shortcuts() {
    // Spelled in halves, so that this file does not find itself.
    let banned = [
        concat!("#[al", "low("),
        concat!("#![al", "low("),
        concat!("#[ig", "nore"),
        concat!("todo", "!("),
        concat!("unimpl", "emented!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("/wo", "rk/"),
    ];
    let mut offences = Vec::new();
    for (name, text) in sources() {
        for (n, line) in text.lines().enumerate() {
            if let Some(found) = banned.iter().find(|b| line.contains(*b)) {
                offences.push(format!("{name}:{}: {found}", n + 1));
            }
        }
    }
    report("nothing is switched off or left open", &offences);
}

#[test]
fn every_file_says_what_it_is() {
    let mut offences = Vec::new();
    for (name, text) in sources() {
        if !text.starts_with("//!") && !name.ends_with("build.rs") {
            offences.push(name);
        }
    }
    report("every file begins with a module doc", &offences);
}

#[test]
fn only_the_engine_names_burn_and_only_aggregation_the_curve() {
    let walls: [(&str, &[&str]); 4] = [
        ("burn::", &["model/src/engine", "model/src/lib.rs"]),
        ("curve25519_dalek", &["aggregation/"]),
        ("ed25519_dalek", &["aggregation/"]),
        ("x25519_dalek", &["aggregation/"]),
    ];
    let mut offences = Vec::new();
    for (name, text) in sources() {
        for (word, homes) in &walls {
            if text.lines().any(|l| l.contains(word) && !l.trim_start().starts_with("//"))
                && !homes.iter().any(|h| name.starts_with(h))
                && name != "tests/it/tidy.rs"
            {
                offences.push(format!("{name} names {word}"));
            }
        }
    }
    report("walls", &offences);
}

#[test]
fn cores_touch_no_world() {
    let cores = ["aggregation/src/", "coordinator/src/", "client/src/participant", "proto/src/"];
    let shells = ["coordinator/src/server"];
    let banned = [
        "std::time::",
        "SystemTime",
        "Instant::now",
        "std::fs",
        "std::net",
        "HashMap",
        "HashSet",
        "thread_rng",
        "SysRng",
        "OsRng",
        "async fn",
    ];
    let mut offences = Vec::new();
    for (name, text) in sources() {
        if !cores.iter().any(|c| name.starts_with(c)) || shells.iter().any(|s| name.starts_with(s))
        {
            continue;
        }
        for (n, line) in shipped(&text).lines().enumerate() {
            let code = line.trim_start();
            if let Some(found) =
                banned.iter().find(|b| code.contains(*b) && !code.starts_with("//"))
            {
                offences.push(format!("{name}:{}: {found}", n + 1));
            }
        }
    }
    report("a core has no clock, socket, file, hash order or randomness of its own", &offences);
}

#[test]
fn only_kernels_are_unsafe() {
    // Spelled in halves, so that this file does not find itself.
    let word = concat!("uns", "afe");
    let opens = [
        format!("{word} {{"),
        format!("{word} fn"),
        format!("{word} impl"),
        format!("{word}_code"),
    ];
    let mut offences = Vec::new();
    for (name, text) in sources() {
        let kernel = name == "aggregation/src/kernel.rs"
            || name.starts_with("aggregation/src/kernel/")
            || name == "model/src/engine/fused/product.rs";
        if kernel {
            continue;
        }
        for (n, line) in text.lines().enumerate() {
            let code = line.trim_start();
            if !code.starts_with("//") && opens.iter().any(|open| code.contains(open)) {
                offences.push(format!("{name}:{}: {code}", n + 1));
            }
        }
    }
    report(
        &format!(
            "{word} code is in the key stream kernel and at the door to matrix products alone"
        ),
        &offences,
    );
}
