//! Writing a permission into the policy file, so that its comments stay.
//!
//! It adds one digest to `approvals.approved`, or one cut to `split`, and deliberately can do nothing
//! else: every other change to the policy is a person's, in an editor. Start at [`with_approval`] and
//! [`with_cut`].

use koinon_proto::Digest;

use super::{Policy, PolicyError};

/// The text of a policy with `task` approved; `note` (the task's name) stands beside it as a comment.
/// A text that approves the task already is returned as it is.
///
/// # Errors
/// When `text` is not a policy, or has `approved` in a form this function does not find.
///
/// ```
/// use koinon_client::policy::{Policy, approve::with_approval};
/// use koinon_proto::Digest;
///
/// let task = Digest::of(b"manifest");
/// let text = with_approval(Policy::template(), &task, "keap1")?;
/// assert!(Policy::parse(&text, "policy.toml")?.approves(&task));
/// assert!(text.contains("# keap1"));
/// # Ok::<(), koinon_client::policy::PolicyError>(())
/// ```
pub fn with_approval(text: &str, task: &Digest, note: &str) -> Result<String, PolicyError> {
    let mut wanted = Policy::parse(text, "policy")?;
    if !wanted.approvals.approved.insert(*task) {
        return Ok(text.to_owned());
    }
    let note: String = note.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
    let line = format!("\n    \"{task}\", # {note}");
    let changed = match list_start(text) {
        Some(at) => format!("{}{line}{}", &text[..at], rest_of_list(&text[at..])),
        None => with_new_list(text, &line),
    };
    match Policy::parse(&changed, "policy") {
        Ok(policy) if policy == wanted => Ok(changed),
        _ => Err(PolicyError::Approve(
            "the list `approved` in [approvals] has a form that cannot be edited here: add the digest by hand",
        )),
    }
}

/// The text of a policy with a cut of `model` permitted, in a table of its own at the end. A text that
/// permits it already is returned as it is.
///
/// # Errors
/// When `text` is not a policy, or the cut is none that a policy can permit.
pub fn with_cut(text: &str, model: &Digest, cut: u32) -> Result<String, PolicyError> {
    if Policy::parse(text, "policy")?.permits_cut(model, model, cut) {
        return Ok(text.to_owned());
    }
    let changed =
        format!("{}\n\n[[split]]\nmodel = \"{model}\"\ncuts = [{cut}]\n", text.trim_end());
    Policy::parse(&changed, "policy").map(|_| changed)
}

/// What follows the new line of the list must start on a line of its own, for the comment's sake.
fn rest_of_list(rest: &str) -> String {
    if rest.starts_with(['\n', '\r']) { rest.to_owned() } else { format!("\n{rest}") }
}

/// The place behind the bracket that opens `approved = [` in the table `[approvals]`.
fn list_start(text: &str) -> Option<usize> {
    let mut table = "";
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            table = trimmed;
        } else if table.starts_with("[approvals]")
            && let Some(value) = trimmed.strip_prefix("approved")
            && let Some(value) = value.trim_start().strip_prefix('=')
            && value.trim_start().starts_with('[')
        {
            return line.find('[').map(|bracket| at + bracket + 1);
        }
        at += line.len();
    }
    None
}

/// The policy with a list that it did not have before.
fn with_new_list(text: &str, line: &str) -> String {
    let list = format!("approved = [{line}\n]\n");
    let mut at = 0;
    for found in text.split_inclusive('\n') {
        at += found.len();
        if found.trim().starts_with("[approvals]") {
            let end = if found.ends_with('\n') { "" } else { "\n" };
            return format!("{}{end}{list}{}", &text[..at], &text[at..]);
        }
    }
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{end}\n[approvals]\n{list}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_list_is_edited_or_refused() {
        let (first, second) = (Digest([1; 32]), Digest([2; 32]));
        for text in [
            Policy::template().to_owned(),
            String::new(),
            "[cohort]\nmin = 6".to_owned(),
            "[approvals]".to_owned(),
            "[approvals]\ndefault = \"ask\"\n\n[cohort]\nmin = 6\n".to_owned(),
            format!("[approvals]\napproved = [\"{first}\"]\n"),
            format!("[approvals]\napproved=[ # mine\n  \"{first}\",\n]\n[tasks]\nrounds_max = 3\n"),
        ] {
            let changed = with_approval(&text, &second, "a task\nmin = 3").unwrap();
            assert!(Policy::parse(&changed, "policy").unwrap().approves(&second), "{changed}");
            assert_eq!(with_approval(&changed, &second, "again").unwrap(), changed);
        }
        assert!(with_approval("approvals.approved = []\n", &first, "x").is_err());
    }

    #[test]
    fn a_cut_is_added_once_and_nothing_else_changes() {
        let model = Digest([1; 32]);
        let changed = with_cut(Policy::template(), &model, 2).unwrap();
        let policy = Policy::parse(&changed, "policy").unwrap();
        assert!(policy.permits_cut(&model, &model, 2) && !policy.permits_cut(&model, &model, 3));
        assert_eq!(with_cut(&changed, &model, 2).unwrap(), changed);
        let before = Policy::parse(Policy::template(), "policy").unwrap();
        assert_eq!(Policy { split: before.split.clone(), ..policy }, before);
    }
}
