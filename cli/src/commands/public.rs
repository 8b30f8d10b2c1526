//! The coordinator's `public.toml`, as the consortium reads it: a few words and a certificate, no secrets.

use std::path::Path;

use anyhow::Context as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;

use crate::exit::{Exit, OrExit as _, fail};

/// What an invitation needs of the coordinator.
pub(crate) struct Public {
    pub(crate) address: String,
    /// CA certificate, DER.
    pub(crate) ca: Vec<u8>,
}

#[derive(Deserialize)]
struct File {
    address: String,
    ca_pem: String,
}

/// Reads the file, or the one in a coordinator's folder.
pub(crate) fn load(path: &Path) -> anyhow::Result<Public> {
    let path = if path.is_dir() { path.join("public.toml") } else { path.into() };
    let name = path.display().to_string();
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{name} cannot be read; `koinon coordinator init` makes it"))
        .or_exit(Exit::Config)?;
    let file: File = toml::from_str(&text).with_context(|| name.clone()).or_exit(Exit::Config)?;
    let ca = CertificateDer::from_pem_slice(file.ca_pem.as_bytes())
        .map_err(|e| fail(Exit::Config, format!("{name}: `ca_pem` holds no certificate: {e}")))?;
    Ok(Public { address: file.address, ca: ca.to_vec() })
}
