//! Makes a coordinator's folder: keys, CA, settings.
//!
//! Everything is made beside the final name and renamed at the end, so a folder is whole or not there.
//! An existing one is never touched. Deliberately no network and no roster: the consortium signs that
//! with its own key. Start at [`init`].

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use koinon_aggregation::Signer;
use koinon_aggregation::identity::Identity;
use koinon_proto::id::{Digest, SiteId};
use zeroize::Zeroizing;

use super::certificates::Authority;
use super::config::{self, Config, Public};
use super::error::ServerError;

/// What [`init`] needs to know.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// The folder to make.
    pub dir: PathBuf,
    /// The coordinator's name in the roster.
    pub name: SiteId,
    /// Address and port to listen on.
    pub listen: String,
    /// The address that members will dial, `host:port`.
    pub address: String,
    /// Further names for the server certificate.
    pub hosts: Vec<String>,
    /// The consortium's public key.
    pub consortium_key: [u8; 32],
}

/// Makes the folder and gives back what the consortium needs, which is also in its `public.toml`.
///
/// # Errors
/// When the folder exists, an option is wrong, or a file cannot be written.
pub fn init(options: &InitOptions) -> Result<Public, ServerError> {
    let dir = &options.dir;
    if dir.exists() {
        return Err(ServerError::Config(format!(
            "{} exists already; choose another folder, or move it away if that coordinator is no longer needed",
            dir.display()
        )));
    }
    if options.address.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        return Err(ServerError::Config(format!(
            "`{}` is not an address that members can dial; write host:port",
            options.address
        )));
    }
    let fail =
        |e: std::io::Error| ServerError::Config(format!("{} cannot be made: {e}", dir.display()));
    let mut unfinished = dir.clone().into_os_string();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(fail)?;
    }
    fs::create_dir_all(&unfinished).map_err(fail)?;
    let public = fill(&unfinished, options)?;
    fs::rename(&unfinished, dir).map_err(fail)?;
    Ok(public)
}

fn fill(dir: &Path, options: &InitOptions) -> Result<Public, ServerError> {
    let fail =
        |e: std::io::Error| ServerError::Config(format!("{} cannot be filled: {e}", dir.display()));
    let setup = |e: super::certificates::CertificateError| ServerError::Setup(e.to_string());
    let identity = Identity::generate(&mut super::rng());
    let (ca, ca_key) = Authority::create(&options.name, super::now_ms()).map_err(setup)?;
    // A host name that cannot be in a certificate is found now and not at the first start.
    let authority = Authority::load(&ca, &ca_key).map_err(setup)?;
    authority
        .server(&options.name, &options.hosts, super::now_ms())
        .map_err(|e| ServerError::Config(e.to_string()))?;

    let consortium = Digest(options.consortium_key);
    let settings = config::template(&options.name, &options.listen, &options.hosts, &consortium);
    let public = Public {
        name: options.name.clone(),
        address: options.address.clone(),
        identity_key: Digest(identity.public()),
        ca_pem: ca.clone(),
    };
    let public_text = toml::to_string(&public).map_err(|e| ServerError::Setup(e.to_string()))?;
    let seed = Zeroizing::new(Digest(*identity.to_secret_bytes()).to_string() + "\n");
    write(dir, "identity.key", &seed, 0o600).map_err(fail)?;
    write(dir, "ca.key", &ca_key, 0o600).map_err(fail)?;
    write(dir, "ca.pem", &ca, 0o644).map_err(fail)?;
    write(dir, config::PUBLIC_FILE, &public_text, 0o644).map_err(fail)?;
    write(dir, config::FILE, &settings, 0o644).map_err(fail)?;
    fs::create_dir(dir.join("state")).map_err(fail)?;
    Ok(public)
}

/// Reads the identity key and the CA that a configuration names.
///
/// # Errors
/// What is missing or malformed, and which file.
pub(super) fn secrets(config: &Config) -> Result<(Identity, Authority), ServerError> {
    let text = secret(&config.identity_key)?;
    let seed: Digest = text.trim().parse().map_err(|_| {
        ServerError::Config(format!(
            "{} is damaged: it must hold 64 hex digits",
            config.identity_key.display()
        ))
    })?;
    let ca = fs::read_to_string(&config.ca_certificate).map_err(|e| {
        ServerError::Config(format!("{} cannot be read: {e}", config.ca_certificate.display()))
    })?;
    let authority = Authority::load(&ca, &secret(&config.ca_key)?)
        .map_err(|e| ServerError::Config(e.to_string()))?;
    let seed = Zeroizing::new(seed.0);
    Ok((Identity::from_secret_bytes(&seed), authority))
}

fn secret(path: &Path) -> Result<Zeroizing<String>, ServerError> {
    let fail = |reason: String| ServerError::Config(format!("{} {reason}", path.display()));
    let text = fs::read_to_string(path).map_err(|e| fail(format!("cannot be read: {e}")))?;
    let text = Zeroizing::new(text);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path).map_err(|e| fail(e.to_string()))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(fail("can be read by others; make it private: chmod 600".into()));
        }
    }
    Ok(text)
}

fn write(dir: &Path, name: &str, text: &str, mode: u32) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(mode);
    }
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(dir.join(name))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dir: PathBuf) -> InitOptions {
        InitOptions {
            dir,
            name: SiteId::new("coordinator").unwrap(),
            listen: "127.0.0.1:0".into(),
            address: "localhost:7443".into(),
            hosts: vec!["localhost".into()],
            consortium_key: [7; 32],
        }
    }

    #[test]
    fn a_new_folder_can_be_loaded_and_an_existing_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path().join("c"));
        let public = init(&options).unwrap();
        let config = config::load(&options.dir).unwrap();
        let (identity, _) = secrets(&config).unwrap();
        assert_eq!(public.identity_key, Digest(identity.public()));
        assert_eq!(config::load_public(&options.dir).unwrap(), public);
        assert!(init(&options).unwrap_err().to_string().contains("exists already"));
        let text = fs::read_to_string(options.dir.join(config::PUBLIC_FILE)).unwrap();
        assert!(!text.contains("PRIVATE"));
    }

    #[test]
    fn wrong_options_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut wrong = options(dir.path().join("c"));
        wrong.hosts = vec!["no host".into()];
        assert_eq!(init(&wrong).unwrap_err().exit_code(), 3);
        assert!(!wrong.dir.exists());
        wrong.hosts.clear();
        wrong.address = "localhost".into();
        assert!(init(&wrong).unwrap_err().to_string().contains("host:port"));
        wrong.address = "localhost:1".into();
        init(&wrong).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path().join("c"));
        init(&options).unwrap();
        let config = config::load(&options.dir).unwrap();
        fs::set_permissions(&config.ca_key, fs::Permissions::from_mode(0o640)).unwrap();
        let error = secrets(&config).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("ca.key") && error.contains("chmod 600"), "{error}");
    }
}
