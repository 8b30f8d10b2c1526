//! The site's own report: a text file with this site's figures, round by round. It stays here.
//!
//! Logs hold ids and counts only, so figures have a file of their own, of bounded size. Start at
//! [`ReportFile::write`].

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use crate::report::SiteReport;
use crate::trainer::WorkError;

/// The file's name in the site's folder; the part before the last turn-over has `.old` behind it.
pub const FILE: &str = "report.txt";

/// The file is turned over when it is this long.
const BYTES_MAX: u64 = 4 << 20;

/// The file.
pub(super) struct ReportFile {
    path: PathBuf,
}

impl ReportFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Adds a round.
    pub(super) fn write(&self, report: &SiteReport<'_>) {
        self.add(&report.to_string());
    }

    /// Adds why there was no contribution to a round.
    pub(super) fn failure(&self, round: u32, error: &WorkError) {
        self.add(&format!("round {round}: no contribution: {error}"));
    }

    fn add(&self, text: &str) {
        if let Err(error) = self.append(text) {
            tracing::warn!(%error, "the site's report cannot be written");
        }
    }

    fn append(&self, text: &str) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|found| found.len() > BYTES_MAX) {
            fs::rename(&self.path, self.path.with_extension("txt.old"))?;
        }
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        writeln!(options.open(&self.path)?, "{text}")
    }
}
