//! The pages say what is so: every code is explained, every test that a page names exists, every link leads somewhere.

use std::collections::BTreeSet;

use crate::support::{read, repository};

/// The quoted word behind each occurrence of `mark` in a source.
fn words_behind(source: &str, mark: &str) -> BTreeSet<String> {
    let text = read(&repository().join(source));
    let text = text.split("#[cfg(test)]").next().unwrap();
    let word = |rest: &str| rest.split('"').next().unwrap().to_owned();
    let found: BTreeSet<String> = text.split(mark).skip(1).map(word).collect();
    assert!(!found.is_empty(), "{source} has no `{mark}`");
    let sound =
        |w: &String| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    found.into_iter().filter(sound).collect()
}

#[test]
fn every_code_is_explained() {
    let page = read(&repository().join("docs/operate.md"));
    let mut codes = BTreeSet::new();
    for (source, mark) in [
        ("client/src/error.rs", " = \""),
        ("client/src/trainer.rs", " => \""),
        ("coordinator/src/event.rs", ": &str = \""),
        ("aggregation/src/error.rs", " => \""),
        ("proto/src/error.rs", " => \""),
        ("partition/src/admission.rs", "rejection(\""),
        ("partition/src/server/compute.rs", "rejection(\""),
    ] {
        codes.extend(words_behind(source, mark));
    }
    assert!(codes.len() > 70, "{codes:?}");
    let missing: Vec<_> =
        codes.iter().filter(|code| !page.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "docs/operate.md does not explain {missing:?}");
}

#[test]
fn every_exit_code_is_explained() {
    let page = read(&repository().join("docs/operate.md"));
    let source = read(&repository().join("cli/src/exit.rs"));
    let numbers = source
        .lines()
        .filter_map(|line| line.split_once(" = ")?.1.strip_suffix(',')?.parse::<u8>().ok());
    let numbers: Vec<u8> = numbers.collect();
    assert!(numbers.len() >= 9, "{numbers:?}");
    for number in numbers {
        assert!(page.contains(&format!("\n| {number} | ")), "exit code {number} has no row");
    }
}

#[test]
fn every_test_that_a_page_names_exists() {
    let page = read(&repository().join("docs/threat-model.md"));
    let mut file = String::new();
    let mut seen = 0;
    for line in page.lines() {
        for word in line.split('`').skip(1).step_by(2) {
            if word.ends_with(".rs") {
                file = read(&repository().join(word));
                assert!(!file.is_empty(), "{word} does not exist");
            } else if word.contains('_')
                && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
                && word != "rows_max"
            {
                assert!(
                    file.contains(&format!("fn {word}(")),
                    "no test {word} in the file named before it: {line}"
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 25, "only {seen} tests are named");
}

#[test]
fn every_link_leads_somewhere() {
    for page in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "docs/quickstart.md",
        "docs/split.md",
        "docs/threat-model.md",
        "docs/operate.md",
    ] {
        let path = repository().join(page);
        let text = read(&path);
        assert!(!text.is_empty(), "{page} is missing");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            if file.is_empty() {
                assert!(anchors(&text).contains(anchor), "{page} has no heading #{anchor}");
                continue;
            }
            assert!(
                path.parent().unwrap().join(file).exists(),
                "{page} links to {target}, which does not exist"
            );
        }
    }
}

/// The anchors of a page's headings, as common renderers make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let heading = |line: &str| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    };
    page.lines().filter(|line| line.starts_with('#')).map(heading).collect()
}
