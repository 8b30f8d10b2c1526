//! The nearest right word to a mistyped one, for error messages.
//!
//! Not a spell checker: it only offers a candidate that is close enough to be meant.

/// The candidate nearest to `word`, if at most a third of its letters (but at least two) differ.
///
/// Case is ignored. At most the first 10,000 candidates and words up to 64 characters are looked
/// at: a hint may cost nothing.
///
/// ```
/// use koinon_model::features::nearest::nearest;
/// assert_eq!(nearest("scalling", ["scaling", "missing"]), Some("scaling"));
/// assert_eq!(nearest("age", ["KEAP1", "stage_of_disease"]), None);
/// ```
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = word.chars().take(65).flat_map(char::to_lowercase).collect();
    let allowed = 2.max(wanted.len() / 3);
    candidates
        .into_iter()
        .take(10_000)
        .map(|candidate| (distance(&wanted, candidate), candidate))
        .filter(|&(distance, candidate)| {
            distance <= allowed && distance < candidate.chars().count()
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Adds "; did you mean `x`?" to a serde message about an unknown field or variant, whose text
/// lists what was expected in backticks.
#[must_use]
pub fn with_hint(message: &str) -> String {
    let Some(start) = message.find("unknown field `").or(message.find("unknown variant `")) else {
        return message.to_owned();
    };
    let mut quoted = message[start..].split('`').skip(1).step_by(2);
    let found = quoted.next().and_then(|word| nearest(word, quoted));
    match found {
        Some(word) => format!("{}; did you mean `{word}`?", message.trim_end()),
        None => message.trim_end().to_owned(),
    }
}

/// Levenshtein distance, one row at a time.
fn distance(wanted: &[char], candidate: &str) -> usize {
    let mut row: Vec<usize> = (0..=wanted.len()).collect();
    for (i, letter) in candidate.chars().take(65).flat_map(char::to_lowercase).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &other) in wanted.iter().enumerate() {
            let substituted = diagonal + usize::from(letter != other);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[wanted.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_come_from_the_message() {
        let message = "unknown field `scalling`, expected one of `name`, `scaling`";
        assert!(with_hint(message).ends_with("did you mean `scaling`?"));
        assert_eq!(with_hint("invalid type"), "invalid type");
    }

    #[test]
    fn far_words_are_not_offered() {
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(nearest("", ["age"]), None);
        assert_eq!(nearest("AGE", ["age"]), Some("age"));
    }
}
