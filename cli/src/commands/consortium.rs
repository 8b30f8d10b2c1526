//! The consortium's folder: its key, the invitations it made, the last roster it signed. It never lies on the coordinator.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use koinon_proto::Digest;
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, OrExit as _, fail};

/// Secret: whoever has it signs rosters.
const KEY: &str = "consortium.key";
/// Public half, for the coordinator.
pub(crate) const PUBLIC: &str = "consortium.pub";
/// Begins the public file, so that no secret is ever taken for it: both are 64 hex digits.
const PUBLIC_LABEL: &str = "koinon-consortium-1 ";
/// What each invitation's token held, so that the joining key can be checked.
const INVITATIONS: &str = "invitations.json";
/// The last signed roster, verbatim.
const ROSTER: &str = "roster.bin";

/// The opened folder.
pub(crate) struct Folder {
    dir: PathBuf,
}

/// What is kept of an invitation until its member stands in the roster.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) name: String,
    pub(crate) role: String,
    /// The token as it was handed out; it holds the secret.
    pub(crate) token: String,
    pub(crate) expires_ms: u64,
}

impl Folder {
    /// Makes the folder with a new key; an existing key is never replaced.
    pub(crate) fn create(
        dir: &Path,
        secret: &[u8; 32],
        public: &[u8; 32],
    ) -> anyhow::Result<Folder> {
        if dir.join(KEY).exists() {
            return Err(fail(
                Exit::Config,
                format!(
                    "{} holds a consortium key already; it is never replaced. Choose another --dir",
                    dir.display()
                ),
            ));
        }
        fs::create_dir_all(dir)
            .with_context(|| format!("cannot make {}", dir.display()))
            .or_exit(Exit::Config)?;
        let folder = Folder { dir: dir.into() };
        write_private(&folder.dir.join(KEY), Digest(*secret).to_string().as_bytes())?;
        write_private(&folder.dir.join(INVITATIONS), b"[]")?;
        fs::write(folder.dir.join(PUBLIC), format!("{PUBLIC_LABEL}{}\n", Digest(*public)))
            .or_exit(Exit::State)?;
        Ok(folder)
    }

    /// Opens an existing folder.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Folder> {
        if dir.join(KEY).exists() {
            return Ok(Folder { dir: dir.into() });
        }
        let what = format!(
            "{} holds no consortium key; `koinon roster init --dir {}` makes one",
            dir.display(),
            dir.display()
        );
        Err(fail(Exit::Config, what))
    }

    /// The secret key's bytes.
    pub(crate) fn secret(&self) -> anyhow::Result<[u8; 32]> {
        let path = self.dir.join(KEY);
        let text = fs::read_to_string(&path)
            .with_context(|| path.display().to_string())
            .or_exit(Exit::Config)?;
        private(&path)?;
        let digest: Digest = text.trim().parse().map_err(|_| {
            fail(
                Exit::Config,
                format!("{}: expected 64 hex digits; restore it from your safe", path.display()),
            )
        })?;
        Ok(digest.0)
    }

    /// The invitations still open.
    pub(crate) fn invitations(&self) -> anyhow::Result<Vec<Kept>> {
        let path = self.dir.join(INVITATIONS);
        let text =
            fs::read(&path).with_context(|| path.display().to_string()).or_exit(Exit::Config)?;
        serde_json::from_slice(&text)
            .with_context(|| path.display().to_string())
            .or_exit(Exit::Config)
    }

    /// Replaces the list of invitations.
    pub(crate) fn keep_invitations(&self, kept: &[Kept]) -> anyhow::Result<()> {
        write_private(&self.dir.join(INVITATIONS), &serde_json::to_vec_pretty(kept)?)
    }

    /// The last roster signed here; `None` before the first.
    pub(crate) fn roster(&self) -> anyhow::Result<Option<Vec<u8>>> {
        match fs::read(self.dir.join(ROSTER)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e)
                .with_context(|| self.dir.join(ROSTER).display().to_string())
                .or_exit(Exit::Config),
        }
    }

    /// Keeps a newly signed roster.
    #[cfg(feature = "client")]
    pub(crate) fn keep_roster(&self, bytes: &[u8]) -> anyhow::Result<()> {
        replace(&self.dir.join(ROSTER), bytes, 0o644)
    }
}

/// Reads the public file that [`Folder::create`] wrote.
#[cfg(feature = "coordinator")]
pub(crate) fn read_public(path: &Path) -> anyhow::Result<Digest> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .with_context(|| format!("{shown} cannot be read; `koinon roster init` makes it"))
        .or_exit(Exit::Config)?;
    text.strip_prefix(PUBLIC_LABEL).and_then(|hex| hex.trim().parse().ok()).ok_or_else(|| {
        let what = format!("{shown} is no consortium's public key; give the file {PUBLIC}, and never the secret one");
        fail(Exit::Config, what)
    })
}

/// Refuses a secret that others can read: it may have been copied already.
fn private(path: &Path) -> anyhow::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(path).or_exit(Exit::Config)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(fail(
                Exit::Config,
                format!("{} can be read by others; make it private: chmod 600", path.display()),
            ));
        }
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Writes a file that only its owner may read, through a temporary name.
fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    replace(path, bytes, 0o600)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        #[cfg(not(unix))]
        let _ = mode;
        let mut file = options.open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display())).or_exit(Exit::State)
}
