//! Notes in words, for logs. The words are for people; codes and digests in them are public.
//!
//! Deliberately nothing of a site's rows is in a note. Start at [`Note`](super::Note).

use std::fmt;

use super::{Ending, Note};

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Welcomed => f.write_str("the coordinator answered"),
            Self::Roster { version, digest, member } => {
                let not = if *member { "" } else { "not " };
                let digest = digest.short();
                write!(f, "roster {version} ({digest}) is in force, this site is {not}in it")
            }
            Self::AwaitingApproval { task } => {
                write!(f, "task {} waits for an approval at this site", task.short())
            }
            Self::Refused { task, session, refusal } => {
                f.write_str("refused")?;
                if let Some(task) = task {
                    write!(f, " task {}", task.short())?;
                }
                if let Some(session) = session {
                    write!(f, " in session {}", session.short())?;
                }
                write!(f, ": {refusal} ({})", refusal.code())
            }
            Self::Phase { session, phase } => {
                write!(f, "session {} is {}", session.short(), phase.word())
            }
            Self::Uploaded { session, acknowledged, total } => {
                write!(f, "session {}: {acknowledged} of {total} chunks sent", session.short())
            }
            Self::Accepted { session } => {
                write!(f, "session {}: the coordinator has the update", session.short())
            }
            Self::Ended { session, ending } => {
                write!(f, "session {} {ending}", session.short())
            }
            Self::Fault { fault, code } => {
                write!(f, "a message of the coordinator was bad: {fault}")?;
                if code.is_empty() { Ok(()) } else { write!(f, " ({code})") }
            }
            Self::Rejected { code } => {
                write!(f, "the coordinator rejected a message of this site ({code})")
            }
            Self::Nothing { session, code } => {
                let session = session.short();
                write!(f, "session {session}: the work failed ({code}), noise alone is sent")
            }
            Self::MailboxFull => f.write_str("too much mail is unread; the rest is sent later"),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed(result) => write!(f, "committed: {}", result.short()),
            Self::Abandoned(reason) => write!(f, "was abandoned: {reason}"),
            Self::Superseded => f.write_str("gave way to another"),
            Self::Failed(code) => write!(f, "failed at this site: {code}"),
            Self::Withdrawn(refusal) => write!(f, "was left: {refusal} ({})", refusal.code()),
        }
    }
}

#[cfg(test)]
mod tests {
    use koinon_proto::Digest;

    use super::*;
    use crate::error::Refusal;

    #[test]
    fn notes_are_sentences() {
        let (task, session) = (Digest([1; 32]), Digest([2; 32]));
        let refusal = Refusal::Paused;
        let roster = Note::Roster { version: 3, digest: task, member: false };
        let refused = Note::Refused { task: Some(task), session: None, refusal };
        let ended = Note::Ended { session, ending: Ending::Withdrawn(refusal) };
        let (t, s) = (task.short(), session.short());
        assert_eq!(
            roster.to_string(),
            format!("roster 3 ({t}) is in force, this site is not in it")
        );
        assert_eq!(refused.to_string(), format!("refused task {t}: the site is paused (paused)"));
        assert_eq!(ended.to_string(), format!("session {s} was left: the site is paused (paused)"));
    }
}
