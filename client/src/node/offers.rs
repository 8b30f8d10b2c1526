//! The tasks on offer, as files: what `koinon client approve` shows and approves.
//!
//! One file per task, `offers/DIGEST.json`: the manifest verbatim, so that its SHA-256 is the digest
//! that an approval names. A display only; nothing reads it back. Start at [`OffersFolder::update`].

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use koinon_proto::id::Digest;

use super::files;
use crate::participant::Participant;

/// The folder's name in the site's folder.
pub const FOLDER: &str = "offers";

/// The folder with what was written into it.
pub(super) struct OffersFolder {
    folder: PathBuf,
    written: Option<BTreeSet<Digest>>,
}

impl OffersFolder {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, written: None }
    }

    /// Makes the folder say what the participant says.
    pub(super) fn update(&mut self, participant: &Participant) {
        let offered: BTreeSet<Digest> = participant.offers().map(|offer| offer.task).collect();
        // What an earlier start left is shown until the coordinator spoke again.
        if self.written.as_ref() == Some(&offered) || (self.written.is_none() && offered.is_empty())
        {
            return;
        }
        if let Err(error) = self.write(participant, &offered) {
            tracing::warn!(%error, "the tasks on offer cannot be written");
        }
        self.written = Some(offered);
    }

    fn write(&self, participant: &Participant, offered: &BTreeSet<Digest>) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let stale = stem
                .and_then(|stem| stem.parse().ok())
                .is_some_and(|digest: Digest| !offered.contains(&digest));
            if stale {
                fs::remove_file(path)?;
            }
        }
        for offer in participant.offers() {
            files::publish(&self.folder.join(format!("{}.json", offer.task)), offer.bytes)?;
        }
        Ok(())
    }
}
