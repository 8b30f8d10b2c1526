//! The coordinator's folder and its one TOML file.
//!
//! Everything the coordinator owns lies in one folder: `coordinator.toml`, `public.toml` (what the
//! consortium needs for invitations; no secrets), the CA, the identity key, the journal and the blobs.
//! The file names secrets by path only. It is deliberately small: limits are constants of
//! `koinon_proto::limits`, and what a task wants is in the task. Start at [`load`].

use std::fs;
use std::path::{Path, PathBuf};

use koinon_proto::id::{Digest, SiteId};
use koinon_proto::nearest::toml_error;
use serde::{Deserialize, Serialize};

use super::error::ServerError;

/// The file's name in the coordinator's folder.
pub const FILE: &str = "coordinator.toml";
/// The file that the consortium gets.
pub const PUBLIC_FILE: &str = "public.toml";

/// The coordinator's settings. Paths are absolute once [`load`] has read them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The coordinator's name in the roster.
    pub name: SiteId,
    /// Address and port to listen on, `host:port`.
    pub listen: String,
    /// Host names and addresses that the server certificate shall name besides the role.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The consortium's public key, 64 hex digits.
    pub consortium_key: Digest,
    /// File with the identity key (Ed25519 seed, 64 hex digits).
    pub identity_key: PathBuf,
    /// File with the CA's certificate, PEM.
    pub ca_certificate: PathBuf,
    /// File with the CA's key, PEM.
    pub ca_key: PathBuf,
    /// Folder of the journal, the blobs and the lock.
    pub state: PathBuf,
    /// Whether masked updates are kept after their round, for audits. They are noise to the reader.
    #[serde(default)]
    pub keep_masked_updates: bool,
}

const KEYS: &[&str] = &[
    "name",
    "listen",
    "hosts",
    "consortium_key",
    "identity_key",
    "ca_certificate",
    "ca_key",
    "state",
    "keep_masked_updates",
];

/// What the consortium needs to know of the coordinator: goes into every invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Public {
    /// The coordinator's name in the roster.
    pub name: SiteId,
    /// The address that members dial, `host:port`.
    pub address: String,
    /// The coordinator's identity key, 64 hex digits.
    pub identity_key: Digest,
    /// The CA that signs all certificates of this consortium, PEM.
    pub ca_pem: String,
}

/// Reads the coordinator's file: `path` is the file or its folder. Relative paths in it start at its
/// folder.
///
/// # Errors
/// What is wrong, in which line, and the nearest right key.
pub fn load(path: &Path) -> Result<Config, ServerError> {
    let file = if path.is_dir() { path.join(FILE) } else { path.to_path_buf() };
    let text = fs::read_to_string(&file).map_err(|e| {
        ServerError::Config(format!(
            "{} cannot be read: {e}; `koinon coordinator init` makes one",
            file.display()
        ))
    })?;
    let mut config = parse(&text, &file.display().to_string())?;
    let folder = file.parent().unwrap_or(Path::new("."));
    let folder = fs::canonicalize(folder)
        .map_err(|e| ServerError::Config(format!("{}: {e}", folder.display())))?;
    for path in [
        &mut config.identity_key,
        &mut config.ca_certificate,
        &mut config.ca_key,
        &mut config.state,
    ] {
        *path = folder.join(&*path);
    }
    Ok(config)
}

/// Reads `public.toml`: `path` is the file or the coordinator's folder.
///
/// # Errors
/// What is wrong, in which line.
pub fn load_public(path: &Path) -> Result<Public, ServerError> {
    let file = if path.is_dir() { path.join(PUBLIC_FILE) } else { path.to_path_buf() };
    let name = file.display().to_string();
    let text = fs::read_to_string(&file)
        .map_err(|e| ServerError::Config(format!("{name} cannot be read: {e}")))?;
    toml::from_str(&text).map_err(|e| {
        let keys = &["name", "address", "identity_key", "ca_pem"];
        ServerError::Config(toml_error(&text, &name, &e, keys))
    })
}

fn parse(text: &str, name: &str) -> Result<Config, ServerError> {
    toml::from_str(text).map_err(|e| ServerError::Config(toml_error(text, name, &e, KEYS)))
}

/// The commented file that `init` writes.
pub(super) fn template(
    name: &SiteId,
    listen: &str,
    hosts: &[String],
    consortium: &Digest,
) -> String {
    let hosts = hosts.iter().map(|host| format!("{host:?}")).collect::<Vec<_>>().join(", ");
    format!(
        "\
# The coordinator's settings. Paths start at this file's folder. A change counts from the next start.

# The coordinator's name in the roster.
name = \"{name}\"

# Where to listen. One port serves sites and operators; sites only dial out to it.
listen = {listen:?}

# Names and addresses that the server certificate shall carry besides its role. Koinon's own nodes
# check the role, so this is for other tools only.
hosts = [{hosts}]

# The consortium's public key. Only what it signed counts: the roster and the invitations.
consortium_key = \"{consortium}\"

# Secrets are named by path and never written here. Only the coordinator's user may read them.
identity_key = \"identity.key\"
ca_certificate = \"ca.pem\"
ca_key = \"ca.key\"

# The journal, the blobs and the lock.
state = \"state\"

# Keep masked updates after their round. They are noise to whoever reads them; only audits need them.
keep_masked_updates = false
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> String {
        let name = SiteId::new("coordinator").unwrap();
        template(&name, "0.0.0.0:7443", &["a.example".into(), "10.0.0.1".into()], &Digest([7; 32]))
    }

    #[test]
    fn the_template_reads_as_written() {
        let config = parse(&example(), "t").unwrap();
        assert_eq!(config.name.as_str(), "coordinator");
        assert_eq!(config.listen, "0.0.0.0:7443");
        assert_eq!(config.hosts, ["a.example", "10.0.0.1"]);
        assert_eq!(config.consortium_key, Digest([7; 32]));
        assert!(!config.keep_masked_updates);
    }

    #[test]
    fn every_key_of_the_template_is_known() {
        for line in example().lines().filter(|l| !l.starts_with('#') && l.contains(" = ")) {
            let key = line.split(" = ").next().unwrap();
            assert!(KEYS.contains(&key), "{key}");
        }
    }

    #[test]
    fn faults_name_line_and_nearest_key() {
        let text = example().replace("listen =", "lisen =");
        let error = parse(&text, "coordinator.toml").unwrap_err().to_string();
        assert!(error.contains("line 7") && error.contains("did you mean 'listen'"), "{error}");
    }
}
