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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Config {
        address: Option<String>,
        limits: Option<Limits>,
        mode: Option<Mode>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Limits {
        budget_ms: Option<u64>,
        rows_max: Option<u32>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        Always,
        Never,
    }

    fn complaint(text: &str) -> String {
        let error = toml::from_str::<Config>(text).unwrap_err();
        let keys = ["address", "limits", "mode", "budget_ms", "rows_max"];
        toml_error(text, "site.toml", &error, &keys)
    }

    #[test]
    fn slips_of_the_finger_are_recognised() {
        let keys = ["budget_ms", "grace_ms", "rows_max", "min", "max"];
        for (typed, meant) in [
            ("budget", Some("budget_ms")),
            ("Budget-ms", Some("budget_ms")),
            ("bugdet_ms", Some("budget_ms")),
            ("row_max", Some("rows_max")),
            ("mni", Some("min")),
            ("mux", Some("max")),
            ("", None),
            ("completely_else", None),
        ] {
            assert_eq!(nearest(typed, keys), meant, "{typed}");
        }
    }

    #[test]
    fn distances_are_the_known_ones() {
        let steps = |a: &str, b: &str| distance(&folded(a), &folded(b));
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
            ("ca", "abc", 3),
        ] {
            assert_eq!((steps(a, b), steps(b, a)), (expected, expected), "{a} {b}");
        }
    }

    #[test]
    fn the_line_is_quoted() {
        let text = "# a comment\naddress = \"x\"\n\n[limits]\nbudget = 5\n";
        assert_eq!(
            complaint(text),
            "site.toml, line 5: unknown key 'budget'; did you mean 'budget_ms'?\n  5 | budget = 5"
        );
    }

    #[test]
    fn a_key_in_the_wrong_table_is_told_apart() {
        assert_eq!(
            complaint("rows_max = 5\r\n"),
            "site.toml, line 1: key 'rows_max' belongs to another table; this one has: address, \
             limits, mode\n  1 | rows_max = 5"
        );
        let text = complaint("zebra = 1");
        assert!(
            text.contains("unknown key 'zebra'; possible here: address, limits, mode"),
            "{text}"
        );
    }

    #[test]
    fn values_and_syntax_are_explained_too() {
        let text = complaint("mode = \"allways\"");
        assert!(text.contains("line 1: unknown value 'allways'; did you mean 'always'?"), "{text}");
        let text = complaint("address = \"x\"\nlimits = { budget_ms = \"long\" }");
        assert!(text.starts_with("site.toml, line 2: invalid type: string"), "{text}");
        let text = complaint("address = \n");
        assert!(text.starts_with("site.toml, line 1: "), "{text}");
    }

    proptest! {
        #[test]
        fn any_file_is_answered(text in "[ -~\n\"=\\[\\]é]{0,200}") {
            if let Err(error) = toml::from_str::<Config>(&text) {
                prop_assert!(toml_error(&text, "site.toml", &error, &[]).starts_with("site.toml"));
            }
        }

        #[test]
        fn the_word_itself_is_nearest(words in prop::collection::btree_set("[a-z_]{1,12}", 1..8)) {
            for word in &words {
                let found = nearest(word, words.iter().map(String::as_str));
                prop_assert_eq!(found, Some(word.as_str()));
            }
        }
    }
}
