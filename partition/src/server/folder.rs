//! The models' folder: one folder a version, looked at again and again.
//!
//! A folder is read when its two files have stopped changing; a version whose folder is gone or holds another is taken away
//! once its successor is there. What cannot be served is told once. Start at [`Folder::scan`].

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use koinon_model::network::Form;
use koinon_proto::{Digest, limits};

use crate::batcher::Micros;
use crate::models::{AddError, Models, needs};

/// See the module.
pub(super) struct Folder {
    path: PathBuf,
    seen: BTreeMap<(PathBuf, &'static str), Seen>,
}

/// Lengths, times and numbers of two files: another file has others. Times alone are too coarse: a file that takes another's
/// place within one tick of the clock has the same.
type Stamp = [(u64, Option<SystemTime>, u64); 2];

struct Seen {
    stamp: Stamp,
    /// What is served of it; during a change the one before.
    version: Option<Digest>,
    /// Whether these very files were read.
    read: bool,
    /// Bytes that it would need, if it did not fit.
    refused: Option<u64>,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), seen: BTreeMap::new() }
    }

    /// Brings the versions in line with the folder; gives what is wrong with files that cannot be served, once. The first
    /// time nothing is waited for. What only does not fit is told in the log, and tried again when there is room.
    pub(super) fn scan(&mut self, models: &Models, now: Micros, first: bool) -> Vec<String> {
        let mut problems = Vec::new();
        let found = found(&self.path);
        self.seen.retain(|(folder, file), _| {
            found.iter().any(|((path, form), _)| path == folder && form.files()[0] == *file)
        });
        for ((folder, form), stamp) in found {
            let key = (folder, form.files()[0]);
            let seen = self.seen.entry(key.clone()).or_insert_with(|| Seen {
                stamp,
                version: None,
                read: false,
                refused: None,
            });
            let settled = first || seen.stamp == stamp;
            if seen.stamp != stamp {
                (seen.stamp, seen.read) = (stamp, false);
            }
            if !settled || (seen.read && seen.refused.is_none()) {
                continue;
            }
            let (used, max) = models.bytes();
            if seen.read && seen.refused.is_some_and(|needs| used + needs > max) {
                continue;
            }
            let told = seen.refused.is_some();
            (seen.read, seen.refused) = (true, None);
            match add(models, &key.0, form) {
                Ok(version) => {
                    tracing::info!(version = %version.short(), "serving");
                    seen.version = Some(version);
                }
                Err(problem @ Problem::Add(AddError::Budget { .. })) => {
                    seen.version = None;
                    seen.refused = Some(needs(stamp[0].0, stamp[1].0));
                    if !told {
                        tracing::warn!(folder = %key.0.display(), %problem, "not served");
                    }
                }
                Err(problem) => {
                    seen.version = None;
                    problems.push(format!("{}: {problem}", key.0.display()));
                }
            }
        }
        let here: Vec<Digest> = self.seen.values().filter_map(|seen| seen.version).collect();
        models.keep_only(now, &here);
        problems
    }

    /// How many versions did not fit, and the bytes that they need.
    pub(super) fn refused(&self) -> [u64; 2] {
        let all = self.seen.values().filter_map(|seen| seen.refused);
        all.fold([0, 0], |[n, bytes], needs| [n + 1, bytes + needs])
    }
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error(transparent)]
    Add(#[from] AddError),
}

fn add(models: &Models, folder: &Path, form: Form) -> Result<Digest, Problem> {
    let [graph, values] = form.files().map(|name| read_bounded(&folder.join(name)));
    Ok(models.add(form, &graph?, &values?)?)
}

/// Folders that hold both files of a form.
fn found(path: &Path) -> Vec<((PathBuf, Form), Stamp)> {
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    let folders = entries.filter_map(Result::ok).map(|entry| entry.path());
    let all = folders.flat_map(|folder| Form::ALL.map(|form| (folder.clone(), form)));
    let stamped = all.filter_map(|(folder, form)| {
        let [graph, values] = form.files().map(|name| std::fs::metadata(folder.join(name)).ok());
        let of = |file: Metadata| (file.len(), file.modified().ok(), number(&file));
        Some(((folder, form), [of(graph?), of(values?)]))
    });
    stamped.collect()
}

/// The file's number in its file system; a file that is moved to another's place keeps its own.
#[cfg(unix)]
fn number(file: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(file)
}

#[cfg(not(unix))]
fn number(_: &Metadata) -> u64 {
    0
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.len() > limits::BLOB_BYTES_MAX {
        return Err(std::io::Error::other("too large"));
    }
    std::fs::read(path)
}
