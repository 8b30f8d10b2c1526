//! The site's folder and its one TOML file.
//!
//! `join` makes the folder: `client.toml` (this module), `policy.toml`, the keys and pins of
//! [`super::keystore`], `state/` and `ledger/`. The file names secrets by path only. What the site
//! permits is deliberately not here but in the policy. Start at [`load`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use koinon_proto::limits::{CHUNK_BYTES_DEFAULT, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};
use koinon_proto::nearest::toml_error;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::connect::{COORDINATOR, Target};
use super::error::NodeError;
use crate::features::Mapping;
use crate::source::csv::{CsvOptions, CsvSource};
use crate::source::{self, DataError, ReadLimits, Source};

use super::proxy::{Proxy, ProxySetting, split_host_port};

/// The file's name in the site's folder.
pub const FILE: &str = "client.toml";

/// The site's settings. Paths are absolute once [`load`] has read them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How to reach the coordinator.
    pub coordinator: Reach,
    /// Where the site's rows are. Absent until the site has filled it in.
    pub data: Option<Data>,
    /// The policy file.
    #[serde(default = "policy")]
    pub policy: PathBuf,
    /// Folder of what must survive a restart.
    #[serde(default = "state")]
    pub state: PathBuf,
    /// Folder of the ledger.
    #[serde(default = "ledger")]
    pub ledger: PathBuf,
    /// Threads for training; 0 = one per core.
    #[serde(default)]
    pub threads: usize,
    /// Masked updates leave in chunks of this many bytes; an interrupted upload goes on at the first
    /// chunk that the coordinator does not have.
    #[serde(default = "chunk_bytes")]
    pub chunk_bytes: usize,
}

/// How to reach the coordinator.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// `host:port`.
    pub address: String,
    /// `environment`, `none`, or `http://[user@]host:port`.
    #[serde(default = "environment")]
    pub proxy: String,
    /// File with the proxy's password, one line.
    pub proxy_password_file: Option<PathBuf>,
    /// File with a further CA to trust for the coordinator's certificate, PEM.
    pub extra_ca: Option<PathBuf>,
}

/// Where the site's rows are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The file.
    pub path: PathBuf,
    /// Its format; by the file's ending unless given.
    pub format: Option<Format>,
    /// Words for a missing cell; an empty cell is always missing.
    #[serde(default = "missing")]
    pub missing: BTreeSet<String>,
    /// Column of the file → column of the feature plan, where the names differ.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
}

impl Data {
    /// How the file's columns are called in the feature plan.
    #[must_use]
    pub fn mapping(&self) -> Mapping {
        Mapping { rename: self.rename.clone(), missing: self.missing.clone() }
    }

    /// Opens the file.
    ///
    /// # Errors
    /// What the reader says about its beginning.
    pub fn open(&self) -> Result<Box<dyn Source>, DataError> {
        let limits = ReadLimits::default();
        match self.format {
            None => source::open(&self.path, limits),
            Some(Format::Csv) => {
                let options = CsvOptions { limits, ..CsvOptions::default() };
                Ok(Box::new(CsvSource::open(&self.path, options)?))
            }
            #[cfg(feature = "parquet")]
            Some(Format::Parquet) => {
                Ok(Box::new(source::parquet::ParquetSource::open(&self.path, limits)?))
            }
            #[cfg(not(feature = "parquet"))]
            Some(Format::Parquet) => source::open(&self.path.with_extension("parquet"), limits),
        }
    }
}

/// The formats that the site's rows may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Comma-separated text with a header.
    Csv,
    /// Apache Parquet.
    Parquet,
}

fn missing() -> BTreeSet<String> {
    Mapping::default().missing
}

fn policy() -> PathBuf {
    "policy.toml".into()
}

fn state() -> PathBuf {
    "state".into()
}

fn ledger() -> PathBuf {
    "ledger".into()
}

fn chunk_bytes() -> usize {
    CHUNK_BYTES_DEFAULT
}

fn environment() -> String {
    "environment".into()
}

const KEYS: &[&str] = &[
    "coordinator",
    "address",
    "proxy",
    "proxy_password_file",
    "extra_ca",
    "data",
    "path",
    "format",
    "missing",
    "rename",
    "policy",
    "state",
    "ledger",
    "threads",
    "chunk_bytes",
];

/// Reads the site's file from its folder. Relative paths in it start at the folder.
///
/// # Errors
/// What is wrong, in which line, and the nearest right key.
pub fn load(dir: &Path) -> Result<Config, NodeError> {
    let file = dir.join(FILE);
    let text = fs::read_to_string(&file).map_err(|e| {
        NodeError::Config(format!(
            "{} cannot be read: {e}; `koinon join TOKEN` makes a site's folder",
            file.display()
        ))
    })?;
    let mut config = parse(&text, &file.display().to_string())?;
    let dir =
        fs::canonicalize(dir).map_err(|e| NodeError::Config(format!("{}: {e}", dir.display())))?;
    for path in [&mut config.policy, &mut config.state, &mut config.ledger] {
        *path = dir.join(&*path);
    }
    let reach = &mut config.coordinator;
    for path in [&mut reach.proxy_password_file, &mut reach.extra_ca].into_iter().flatten() {
        *path = dir.join(&*path);
    }
    if let Some(data) = &mut config.data {
        data.path = dir.join(&data.path);
    }
    Ok(config)
}

fn parse(text: &str, name: &str) -> Result<Config, NodeError> {
    let config: Config =
        toml::from_str(text).map_err(|e| NodeError::Config(toml_error(text, name, &e, KEYS)))?;
    if split_host_port(&config.coordinator.address).is_none() {
        return Err(NodeError::Config(format!(
            "{name}: `{}` is not an address; write `address = \"host:port\"`",
            config.coordinator.address
        )));
    }
    if !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&config.chunk_bytes) {
        return Err(NodeError::Config(format!(
            "{name}: `chunk_bytes` is {}; it must be from {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX}",
            config.chunk_bytes
        )));
    }
    Ok(config)
}

impl Reach {
    /// The target that these settings describe, with the files they name read.
    ///
    /// # Errors
    /// When a setting or a file is unusable.
    pub fn target(&self) -> Result<Target, NodeError> {
        let mut target = Target::new(&self.address, COORDINATOR);
        target.proxy = self.proxy_setting()?;
        if let Some(path) = &self.extra_ca {
            let fail = |e: String| NodeError::Config(format!("`extra_ca` {}: {e}", path.display()));
            let pem = fs::read(path).map_err(|e| fail(e.to_string()))?;
            target.extra_ca = CertificateDer::pem_slice_iter(&pem)
                .collect::<Result<_, _>>()
                .map_err(|e| fail(e.to_string()))?;
            if target.extra_ca.is_empty() {
                return Err(fail("holds no certificate (PEM)".into()));
            }
        }
        Ok(target)
    }

    fn proxy_setting(&self) -> Result<ProxySetting, NodeError> {
        let proxy = match self.proxy.as_str() {
            "environment" => return Ok(ProxySetting::Environment),
            "none" => return Ok(ProxySetting::Direct),
            url => Proxy::parse(url).map_err(|e| NodeError::Config(format!("`proxy`: {e}")))?,
        };
        if proxy.has_password() {
            return Err(NodeError::Config(
                "`proxy` holds a password; write it into a file of its own (chmod 600) and name that in `proxy_password_file`".into(),
            ));
        }
        let Some(path) = &self.proxy_password_file else { return Ok(ProxySetting::Through(proxy)) };
        let password = Zeroizing::new(fs::read_to_string(path).map_err(|e| {
            NodeError::Config(format!("`proxy_password_file` {}: {e}", path.display()))
        })?);
        let password = Zeroizing::new(password.trim_end_matches(['\r', '\n']).to_owned());
        Ok(ProxySetting::Through(proxy.with_password(password)))
    }
}

/// The commented file that `join` writes.
pub(super) fn template(address: &str) -> String {
    format!(
        "\
# The site's settings. Paths start at this file's folder. A change counts from the next start.
# What the site permits is in policy.toml.

# The policy, what must survive a restart, and the record of all that left this site.
policy = \"policy.toml\"
state = \"state\"
ledger = \"ledger\"

# Threads for training; 0 = one per core.
threads = 0

# Masked updates leave in chunks of this many bytes; an interrupted upload goes on where it was.
chunk_bytes = {CHUNK_BYTES_DEFAULT}

[coordinator]
# The node only dials out, to this one address.
address = {address:?}

# environment: as HTTPS_PROXY and NO_PROXY say. none: directly. Or http://[user@]host:port.
proxy = \"environment\"
# The proxy's password, in a file of its own that only this user may read.
# proxy_password_file = \"proxy.password\"

# A further CA to trust for the coordinator's certificate, PEM.
# extra_ca = \"extra-ca.pem\"

# Where this site's rows are. They are read here and never leave.
# [data]
# path = \"data.csv\"
# csv or parquet; by the file's ending unless given.
# format = \"csv\"
# Words for a missing cell; an empty cell is always missing.
# missing = [\"NA\", \"unknown\"]
#
# Column in the file = column of the feature plan, where the names differ.
# [data.rename]
# AGE = \"age_years\"
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_reads_as_written_and_with_everything_filled_in() {
        let text = template("coordinator.example:7443");
        let config = parse(&text, "client.toml").unwrap();
        assert_eq!(config.coordinator.address, "coordinator.example:7443");
        assert!(config.data.is_none());
        let filled: String = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest)
                    if rest.starts_with('[') || rest.contains(" = \"") || rest.contains(" = [") =>
                {
                    rest
                }
                _ => line,
            })
            .filter(|line| !line.starts_with("http"))
            .collect::<Vec<_>>()
            .join("\n");
        let config = parse(&filled, "client.toml").unwrap();
        let data = config.data.unwrap();
        assert_eq!(data.format, Some(Format::Csv));
        assert_eq!(data.rename["AGE"], "age_years");
        assert!(config.coordinator.extra_ca.is_some());
    }

    #[test]
    fn faults_say_where_and_what_to_do() {
        let text = template("h:1").replace("threads", "thread");
        let error = parse(&text, "client.toml").unwrap_err().to_string();
        assert!(error.contains("line 10") && error.contains("did you mean 'threads'"), "{error}");
        let error = parse(&template("nowhere"), "client.toml").unwrap_err().to_string();
        assert!(error.contains("host:port"), "{error}");
        let text = template("h:1").replace("\"environment\"", "\"http://user:word@proxy:1\"");
        let error = parse(&text, "t").unwrap().coordinator.target().unwrap_err().to_string();
        assert!(error.contains("proxy_password_file") && !error.contains("word@"), "{error}");
    }

    #[test]
    fn secrets_come_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let text = template("h:1")
            .replace("\"environment\"", "\"http://user@proxy:1\"")
            .replace("# proxy_password_file", "proxy_password_file");
        fs::write(dir.path().join(FILE), text).unwrap();
        let config = load(dir.path()).unwrap();
        assert!(config.coordinator.target().unwrap_err().to_string().contains("proxy.password"));
        fs::write(dir.path().join("proxy.password"), "word\n").unwrap();
        let target = config.coordinator.target().unwrap();
        assert!(matches!(target.proxy, ProxySetting::Through(proxy) if proxy.has_password()));
    }
}
