//! The partition server's one TOML file. Secrets by path only. Start at [`load`] and [`TEMPLATE`].

use std::path::{Path, PathBuf};

use koinon_proto::nearest::toml_error;
use serde::Deserialize;

/// The file's name in the server's folder.
pub const FILE: &str = "partition.toml";

/// The file that joining makes.
pub const TEMPLATE: &str = r#"# The partition server: runs the rest of a cut model on activations.

# Address and port to listen on; sites dial it.
listen = "127.0.0.1:7444"

# Folder with one folder a version, each with spec.json and params.safetensors, as `koinon model pull` makes them.
# New ones are served within seconds, without a restart.
models = "models"

# Certificate, key and CA, made by `koinon join`.
certificate = "tls.pem"
key = "tls.key"
ca = "ca.pem"

# Rows that run together at most. A request that is alone never waits; where several sites keep pace, a batch waits for
# those of the last one, a quarter of its run at most, and never longer than this (milliseconds).
batch_rows = 64
wait_ms = 2

# Threads that compute, each a batch of its own; 0 = one for each core.
threads = 0

# Most rows in one request, and bytes that wait: of all sites, and of one.
request_rows = 1024
queue_bytes = 134217728
site_bytes = 33554432

# Bytes that sequences may remember here: of all sites, and of one. Who is over loses what it used longest ago.
state_bytes = 1073741824
site_state_bytes = 268435456

# Bytes of all versions together, twice their files of values. What does not fit is not served, and the log says why.
model_bytes = 4294967296

# Sites at one time, and streams of each.
sites = 256
site_streams = 16

# Where Prometheus may read what is counted; nothing else is there, and nobody is asked who he is. Off by default.
# metrics = "127.0.0.1:9464"
"#;

/// The server's settings; paths are absolute once [`load`] has read them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `host:port` to listen on.
    pub listen: String,
    /// Folder of the versions.
    pub models: PathBuf,
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The consortium's CA, PEM: only its members may connect.
    pub ca: PathBuf,
    /// Rows in one batch.
    pub batch_rows: usize,
    /// How long a batch may wait for company at most.
    pub wait_ms: u64,
    /// Threads that compute; 0 = one for each core.
    #[serde(default)]
    pub threads: usize,
    /// Most rows in one request.
    pub request_rows: usize,
    /// Bytes that wait, of all sites.
    pub queue_bytes: usize,
    /// Bytes that wait, of one site.
    pub site_bytes: usize,
    /// Bytes that sequences remember, of all sites.
    #[serde(default = "state_bytes")]
    pub state_bytes: usize,
    /// Bytes that sequences remember, of one site.
    #[serde(default = "site_state_bytes")]
    pub site_state_bytes: usize,
    /// Bytes of all versions together.
    #[serde(default = "model_bytes")]
    pub model_bytes: u64,
    /// Sites at one time.
    #[serde(default = "sites")]
    pub sites: usize,
    /// Streams of one site.
    #[serde(default = "site_streams")]
    pub site_streams: usize,
    /// `host:port` for Prometheus.
    #[serde(default)]
    pub metrics: Option<String>,
}

fn state_bytes() -> usize {
    1 << 30
}

fn site_state_bytes() -> usize {
    1 << 28
}

fn model_bytes() -> u64 {
    1 << 32
}

fn sites() -> usize {
    256
}

fn site_streams() -> usize {
    16
}

const KEYS: &[&str] = &[
    "listen",
    "models",
    "certificate",
    "key",
    "ca",
    "batch_rows",
    "wait_ms",
    "threads",
    "request_rows",
    "queue_bytes",
    "site_bytes",
    "state_bytes",
    "site_state_bytes",
    "model_bytes",
    "sites",
    "site_streams",
    "metrics",
];

/// Reads the settings: `path` is the file or its folder. Relative paths in it start at its folder.
///
/// # Errors
/// What is wrong, in which line, and the nearest right key.
pub fn load(path: &Path) -> Result<Config, String> {
    let file = if path.is_dir() { path.join(FILE) } else { path.to_path_buf() };
    let shown = file.display().to_string();
    let text = std::fs::read_to_string(&file).map_err(|e| {
        format!("{shown} cannot be read: {e}; `koinon join TOKEN` with a token of role partition makes one")
    })?;
    let mut config = parse(&text, &shown)?;
    let folder = file.parent().unwrap_or(Path::new("."));
    for path in [&mut config.models, &mut config.certificate, &mut config.key, &mut config.ca] {
        *path = folder.join(&*path);
    }
    Ok(config)
}

fn parse(text: &str, shown: &str) -> Result<Config, String> {
    let config: Config = toml::from_str(text).map_err(|e| toml_error(text, shown, &e, KEYS))?;
    let least_one = [
        ("batch_rows", config.batch_rows),
        ("request_rows", config.request_rows),
        ("sites", config.sites),
        ("site_streams", config.site_streams),
    ];
    if let Some((key, _)) = least_one.iter().find(|(_, value)| *value == 0) {
        return Err(format!("{shown}: `{key}` must be at least 1"));
    }
    if config.site_bytes > config.queue_bytes {
        return Err(format!("{shown}: `site_bytes` must not be above `queue_bytes`"));
    }
    if config.site_state_bytes > config.state_bytes {
        return Err(format!("{shown}: `site_state_bytes` must not be above `state_bytes`"));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_valid_and_a_wrong_key_is_named() {
        let config = parse(TEMPLATE, FILE).unwrap();
        let older: Vec<&str> = TEMPLATE.lines().filter(|l| !l.contains("state_bytes")).collect();
        let older = parse(&older.join("\n"), FILE).unwrap();
        assert_eq!(older.state_bytes, config.state_bytes, "a file of before is still read");
        let wrong = TEMPLATE.replace("wait_ms", "wiat_ms");
        let error = parse(&wrong, FILE).unwrap_err();
        assert!(error.contains("line") && error.contains("wait_ms"), "{error}");
        assert!(
            parse(&TEMPLATE.replace("batch_rows = 64", "batch_rows = 0"), FILE)
                .unwrap_err()
                .contains("at least 1")
        );
    }
}
