//! Errors in TOML files that say how to mend them: the line, the text there, the nearest right key.
//!
//! Deliberately no parser and no schema: serde names the unknown key and the keys it expected, and
//! this module makes a sentence of it. Start at [`toml_error`].
//!
//! ```
//! use koinon_proto::nearest::toml_error;
//!
//! #[derive(Debug, serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     address: String,
//! }
//! let text = "adress = \"127.0.0.1:7000\"\n";
//! let error = toml::from_str::<Config>(text).unwrap_err();
//! assert_eq!(
//!     toml_error(text, "site.toml", &error, &["address"]),
//!     "site.toml, line 1: unknown key 'adress'; did you mean 'address'?\n  1 | adress = \"127.0.0.1:7000\""
//! );
//! ```

/// Longest line of a file that an error quotes, in characters.
const QUOTE_CHARACTERS_MAX: usize = 120;

/// The candidate that `key` most likely stands for: fewest insertions, deletions, replacements and
/// swaps of neighbours, at most a third of the longer word. The first wins a draw; case and `-` for
/// `_` count nothing.
///
/// ```
/// use koinon_proto::nearest::nearest;
/// assert_eq!(nearest("quroum", ["min", "max", "quorum"]), Some("quorum"));
/// assert_eq!(nearest("colour", ["min", "max", "quorum"]), None);
/// ```
pub fn nearest<'a>(key: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let key = folded(key);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let other = folded(candidate);
        // A long word costs quadratic time and resembles nothing.
        if key.len().abs_diff(other.len()) > key.len().max(other.len()) / 3 {
            continue;
        }
        let steps = distance(&key, &other);
        if steps <= key.len().max(other.len()).div_ceil(3) && best.is_none_or(|(b, _)| steps < b) {
            best = Some((steps, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// What is wrong in a TOML file, where, and what was probably meant.
///
/// `text` is the file's content and `path` its name for people; `known_keys` are the keys of all the
/// file's tables, so that a right key in the wrong table is told apart from a misspelt one.
#[must_use]
pub fn toml_error(text: &str, path: &str, error: &toml::de::Error, known_keys: &[&str]) -> String {
    let what = explain(error.message(), known_keys);
    let Some(span) = error.span() else { return format!("{path}: {what}") };
    let (number, line) = line_at(text, span.start);
    format!("{path}, line {number}: {what}\n  {number} | {line}")
}

/// serde's message; of an unknown key or value with the nearest right one.
fn explain(message: &str, known_keys: &[&str]) -> String {
    let message = message.trim_end();
    let (kind, rest) = if let Some(rest) = message.strip_prefix("unknown field `") {
        ("key", rest)
    } else if let Some(rest) = message.strip_prefix("unknown variant `") {
        ("value", rest)
    } else {
        return message.to_owned();
    };
    let Some((wrong, expected)) = rest.split_once("`, ") else { return message.to_owned() };
    let wrong: String = wrong.chars().take(64).collect();
    // serde quotes the expected words in backticks: every second piece is one.
    let right: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    if let Some(meant) = nearest(&wrong, right.iter().copied()) {
        return format!("unknown {kind} '{wrong}'; did you mean '{meant}'?");
    }
    let list = if right.is_empty() { "none".to_owned() } else { right.join(", ") };
    if kind == "key" && known_keys.contains(&wrong.as_str()) {
        return format!("key '{wrong}' belongs to another table; this one has: {list}");
    }
    format!("unknown {kind} '{wrong}'; possible here: {list}")
}

/// The number (from 1) and the text of the line that holds byte `at`.
fn line_at(text: &str, at: usize) -> (usize, String) {
    let at = at.min(text.len());
    let before = &text.as_bytes()[..at];
    let number = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or("").trim_end();
    (number, line.chars().take(QUOTE_CHARACTERS_MAX).collect())
}

/// The word as it is compared; 64 characters of it are enough to recognise it.
fn folded(word: &str) -> Vec<char> {
    word.chars()
        .take(64)
        .flat_map(char::to_lowercase)
        .map(|c| if c == '-' { '_' } else { c })
        .collect()
}

/// Insertions, deletions, replacements and swaps of neighbours between two words (optimal string
/// alignment: no part is edited twice).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &to) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            let mut steps = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                steps = steps.min(before[j - 1] + 1);
            }
            row.push(steps);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}
