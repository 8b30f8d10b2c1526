//! What the site's people tell a running node, through files of its folder: pause, resume, leave, and
//! changes of the policy (approvals).
//!
//! Files need no port, survive a restart, and are guarded by the folder's permissions. The node looks
//! every half second. A policy that cannot be read pauses the site: what its people meant to forbid
//! must not happen. Start at [`pause`] and [`leave`]; the node's side is [`Control`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use koinon_proto::id::Digest;

use super::error::NodeError;
use super::files::{self, Readers};
use crate::error::Error;
use crate::policy::approve::{with_approval, with_cut};
use crate::policy::{Policy, PolicyError};

const PAUSED: &str = "paused";
const LEFT: &str = "left";

/// Lets the site finish its round and take part in no further one until [`resume`].
///
/// # Errors
/// When the marker cannot be written.
pub fn pause(dir: &Path) -> Result<(), NodeError> {
    mark(&dir.join(PAUSED))
}

/// Undoes [`pause`].
///
/// # Errors
/// When the marker cannot be removed.
pub fn resume(dir: &Path) -> Result<(), NodeError> {
    let path = dir.join(PAUSED);
    files::remove(&path).map_err(|e| NodeError::State(format!("{}: {e}", path.display())))
}

/// Ends the site's membership from this side: a running node stops and does not start again. The
/// keys stay until somebody deletes the folder; the consortium revokes them in its next roster.
///
/// # Errors
/// When the marker cannot be written.
pub fn leave(dir: &Path) -> Result<(), NodeError> {
    mark(&dir.join(LEFT))
}

/// Whether [`leave`] was called.
#[must_use]
pub fn has_left(dir: &Path) -> bool {
    dir.join(LEFT).exists()
}

/// Approves a task by its digest: writes it into the policy file, keeping its comments.
///
/// # Errors
/// When the policy cannot be read, edited or written.
pub fn approve(policy: &Path, task: &Digest, note: &str) -> Result<(), NodeError> {
    edit(policy, |text| with_approval(text, task, note))
}

/// Permits one cut of a model, named by its version or its spec, for split inference.
///
/// # Errors
/// When the policy cannot be read, edited or written.
pub fn permit_cut(policy: &Path, model: &Digest, cut: u32) -> Result<(), NodeError> {
    edit(policy, |text| with_cut(text, model, cut))
}

fn edit(
    policy: &Path,
    change: impl FnOnce(&str) -> Result<String, PolicyError>,
) -> Result<(), NodeError> {
    let fail = |e: io::Error| NodeError::Config(format!("{}: {e}", policy.display()));
    let text = fs::read_to_string(policy).map_err(fail)?;
    let text = change(&text).map_err(|e| NodeError::Site(Error::from(e)))?;
    files::replace(policy, text.as_bytes(), Readers::Everybody).map_err(fail)
}

/// Reads the policy file.
///
/// # Errors
/// When it is missing or wrong, with the line.
pub fn read_policy(path: &Path) -> Result<Policy, NodeError> {
    let text = fs::read_to_string(path)
        .map_err(|e| NodeError::Config(format!("{} cannot be read: {e}", path.display())))?;
    Policy::parse(&text, &path.display().to_string()).map_err(|e| NodeError::Site(Error::from(e)))
}

fn mark(path: &Path) -> Result<(), NodeError> {
    files::replace(path, b"", Readers::Everybody)
        .map_err(|e| NodeError::State(format!("{}: {e}", path.display())))
}

/// What changed since the last look.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    Policy(Box<Policy>),
    Paused(bool),
    Left,
}

/// The node's side: notices changes of the files.
pub(super) struct Control {
    dir: PathBuf,
    policy: PathBuf,
    seen: Stamp,
    policy_broken: bool,
    paused: bool,
}

type Stamp = Option<(SystemTime, u64)>;

impl Control {
    /// Starts from a policy that was just read and a site that is not paused yet.
    pub(super) fn new(dir: &Path, policy: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            policy: policy.to_path_buf(),
            seen: stamp(policy),
            policy_broken: false,
            paused: false,
        }
    }

    /// Looks once.
    pub(super) fn look(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        if has_left(&self.dir) {
            return vec![Change::Left];
        }
        let now = stamp(&self.policy);
        if now != self.seen {
            self.seen = now;
            match read_policy(&self.policy) {
                Ok(policy) => {
                    self.policy_broken = false;
                    changes.push(Change::Policy(Box::new(policy)));
                }
                Err(error) => {
                    self.policy_broken = true;
                    tracing::error!(%error, "the policy cannot be read: paused until it can");
                }
            }
        }
        let paused = self.policy_broken || self.dir.join(PAUSED).exists();
        if paused != self.paused {
            self.paused = paused;
            changes.push(Change::Paused(paused));
        }
        changes
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_reach_the_node_once() {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("policy.toml");
        fs::write(&policy, Policy::template()).unwrap();
        let mut control = Control::new(dir.path(), &policy);
        assert!(control.look().is_empty());
        pause(dir.path()).unwrap();
        assert_eq!(control.look(), [Change::Paused(true)]);
        assert!(control.look().is_empty());
        resume(dir.path()).unwrap();
        assert_eq!(control.look(), [Change::Paused(false)]);
        approve(&policy, &Digest([7; 32]), "keap1").unwrap();
        let changes = control.look();
        assert!(matches!(&changes[..], [Change::Policy(p)] if p.approves(&Digest([7; 32]))));
        leave(dir.path()).unwrap();
        assert_eq!(control.look(), [Change::Left]);
    }

    #[test]
    fn a_broken_policy_pauses_the_site_until_it_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("policy.toml");
        fs::write(&policy, Policy::template()).unwrap();
        let mut control = Control::new(dir.path(), &policy);
        fs::write(&policy, "[cohort]\nmun = 3\n").unwrap();
        assert_eq!(control.look(), [Change::Paused(true)]);
        fs::write(&policy, Policy::template()).unwrap();
        assert!(matches!(&control.look()[..], [Change::Policy(_), Change::Paused(false)]));
    }
}
