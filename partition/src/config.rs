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

# Rows that run together at most, and how long the first request may wait for company (milliseconds).
batch_rows = 64
wait_ms = 2

# Most rows in one request, and bytes that wait: of all sites, and of one.
request_rows = 1024
queue_bytes = 67108864
site_bytes = 16777216
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
    /// How long a batch may wait for company.
    pub wait_ms: u64,
    /// Most rows in one request.
    pub request_rows: usize,
    /// Bytes that wait, of all sites.
    pub queue_bytes: usize,
    /// Bytes that wait, of one site.
    pub site_bytes: usize,
}

const KEYS: &[&str] = &[
    "listen",
    "models",
    "certificate",
    "key",
    "ca",
    "batch_rows",
    "wait_ms",
    "request_rows",
    "queue_bytes",
    "site_bytes",
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
    let least_one = [("batch_rows", config.batch_rows), ("request_rows", config.request_rows)];
    if let Some((key, _)) = least_one.iter().find(|(_, value)| *value == 0) {
        return Err(format!("{shown}: `{key}` must be at least 1"));
    }
    if config.site_bytes > config.queue_bytes {
        return Err(format!("{shown}: `site_bytes` must not be above `queue_bytes`"));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_valid_and_a_wrong_key_is_named() {
        assert!(parse(TEMPLATE, FILE).is_ok());
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
