//! The site's keys, certificate and pins, as files of its folder.
//!
//! Two secrets are made at the site and never leave it: `identity.key` (Ed25519, signs what the site
//! says) and `tls.key` (transport). Beside them lie the certificate `tls.pem`, the pinned CA `ca.pem`
//! and `pins.toml`: the consortium's key and the coordinator's name and address, as the invitation
//! gave them. Files are read when needed, so a renewed certificate counts at once. Deliberately no
//! passphrases: the operating system guards the files. Start at [`KeyStore::open`].

use std::path::{Path, PathBuf};

use koinon_aggregation::identity::Identity;
use koinon_aggregation::roster::Role;
use koinon_proto::id::{Digest, Millis, SiteId};
use koinon_proto::limits::CERTIFICATE_CHAIN_MAX;
use koinon_proto::nearest::toml_error;
use koinon_proto::wire;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::connect::Tls;
use super::error::NodeError;
use super::files::{self, Readers};

const IDENTITY: &str = "identity.key";
const TLS_KEY: &str = "tls.key";
const CERTIFICATE: &str = "tls.pem";
const CA: &str = "ca.pem";
const PINS: &str = "pins.toml";
/// The line of `tls.pem` before the certificates.
const VALID_UNTIL: &str = "valid until (Unix ms): ";
/// A certificate is renewed when this much of its validity is left.
const RENEWAL_LEFT_MS: Millis = 30 * 24 * 3_600_000;

/// What the invitation said and the site now holds on to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// This member's name in the roster.
    pub name: SiteId,
    /// Its role: `client`, `partition` or `operator`.
    #[serde(with = "role_word")]
    pub role: Role,
    /// The coordinator's name in the roster; absent until joining is complete.
    pub coordinator: Option<SiteId>,
    /// The coordinator's address, `host:port`, at the time of joining.
    pub address: String,
    /// The consortium's public key: only rosters that it signed count.
    pub consortium_key: Digest,
}

/// A role as its word.
mod role_word {
    use koinon_aggregation::roster::Role;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(role: &Role, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(role.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Role, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A member's folder with its keys. Holds no secret itself: files are read when needed.
#[derive(Clone, Debug)]
pub struct KeyStore {
    dir: PathBuf,
    pins: Pins,
}

impl KeyStore {
    /// Opens the folder of a member that has joined, and checks that everything is there and private.
    ///
    /// # Errors
    /// Which file is missing, damaged or open to others, and what to do.
    pub fn open(dir: &Path) -> Result<Self, NodeError> {
        let store = Self::open_unjoined(dir)?.ok_or_else(|| {
            NodeError::Config(format!(
                "{} is no member's folder (no {PINS}); `koinon join TOKEN` makes one",
                dir.display()
            ))
        })?;
        if store.certificate()?.is_none() {
            return Err(NodeError::Config(format!(
                "{} has no certificate yet: joining was interrupted; repeat `koinon join` with the same token",
                dir.display()
            )));
        }
        store.identity()?;
        store.tls()?;
        Ok(store)
    }

    /// Opens a folder whose joining may not be complete; `None` if there is no member in it.
    pub(super) fn open_unjoined(dir: &Path) -> Result<Option<Self>, NodeError> {
        let path = dir.join(PINS);
        let Some(bytes) = files::read(&path).map_err(|e| unreadable(&path, &e))? else {
            return Ok(None);
        };
        let name = path.display().to_string();
        let text = String::from_utf8(bytes).map_err(|_| damaged(&path, "it is not text"))?;
        let keys = &["name", "role", "coordinator", "address", "consortium_key"];
        let pins = toml::from_str(&text)
            .map_err(|e| NodeError::Config(toml_error(&text, &name, &e, keys)))?;
        Ok(Some(Self { dir: dir.to_path_buf(), pins }))
    }

    /// Makes both keys and writes the pins, in an existing folder. The certificate is still missing.
    pub(super) fn create(
        dir: &Path,
        pins: Pins,
        ca: &CertificateDer<'_>,
        rng: &mut dyn rand::CryptoRng,
    ) -> Result<Self, NodeError> {
        let store = Self { dir: dir.to_path_buf(), pins };
        let identity = Identity::generate(rng);
        let seed = Zeroizing::new(Digest(*identity.to_secret_bytes()).to_string() + "\n");
        let tls_key = KeyPair::generate()
            .map_err(|e| NodeError::State(format!("a TLS key cannot be made: {e}")))?;
        store.write(IDENTITY, seed.as_bytes(), Readers::Owner)?;
        store.write(TLS_KEY, tls_key.serialize_pem().as_bytes(), Readers::Owner)?;
        store.write(CA, pem(&[ca.to_vec()]).as_bytes(), Readers::Everybody)?;
        // The pins come last: they say that the keys are there.
        store.write_pins()?;
        Ok(store)
    }

    /// The same member, now that it knows the coordinator's name.
    pub(super) fn with_coordinator(mut self, coordinator: SiteId) -> Result<Self, NodeError> {
        self.pins.coordinator = Some(coordinator);
        self.write_pins()?;
        Ok(self)
    }

    fn write_pins(&self) -> Result<(), NodeError> {
        let text = toml::to_string(&self.pins)
            .map_err(|e| NodeError::State(format!("{PINS} cannot be written: {e}")))?;
        self.write(PINS, text.as_bytes(), Readers::Everybody)
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the invitation said.
    #[must_use]
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The coordinator's name in the roster; empty until joining is complete.
    #[must_use]
    pub fn coordinator_name(&self) -> &str {
        self.pins.coordinator.as_ref().map_or("", SiteId::as_str)
    }

    /// Reads the identity key.
    ///
    /// # Errors
    /// When the file is missing, damaged or open to others.
    pub fn identity(&self) -> Result<Identity, NodeError> {
        let (path, bytes) = self.secret(IDENTITY)?;
        let seed: Digest = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| damaged(&path, "it must hold 64 hex digits"))?;
        let seed = Zeroizing::new(seed.0);
        Ok(Identity::from_secret_bytes(&seed))
    }

    /// The CA, and certificate and key once there is a certificate.
    ///
    /// # Errors
    /// When a file is missing, damaged or open to others, or key and certificate do not match.
    pub fn tls(&self) -> Result<Tls, NodeError> {
        let path = self.dir.join(CA);
        let bytes = files::read(&path)
            .and_then(|bytes| bytes.ok_or_else(|| std::io::ErrorKind::NotFound.into()))
            .map_err(|e| unreadable(&path, &e))?;
        let ca =
            CertificateDer::from_pem_slice(&bytes).map_err(|e| damaged(&path, &e.to_string()))?;
        let Some((chain, _)) = self.certificate()? else { return Ok(Tls { ca, identity: None }) };
        let (path, bytes) = self.secret(TLS_KEY)?;
        let key =
            PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| damaged(&path, &e.to_string()))?;
        check_pair(&chain, &key).map_err(|reason| damaged(&self.dir.join(CERTIFICATE), &reason))?;
        Ok(Tls { ca, identity: Some((chain, key)) })
    }

    /// When the certificate ends, Unix milliseconds; `None` before there is one.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn not_after_ms(&self) -> Result<Option<Millis>, NodeError> {
        Ok(self.certificate()?.map(|(_, not_after_ms)| not_after_ms))
    }

    /// Whether the certificate should be renewed now.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn renewal_due(&self, now: Millis) -> Result<bool, NodeError> {
        Ok(self.not_after_ms()?.is_some_and(|end| end < now.saturating_add(RENEWAL_LEFT_MS)))
    }

    /// A certificate request (PKCS#10, DER) for the TLS key, naming `hosts` where the role serves.
    ///
    /// # Errors
    /// When the key is unusable or a host is none.
    pub fn certificate_request(&self, hosts: &[String]) -> Result<Vec<u8>, NodeError> {
        let (path, bytes) = self.secret(TLS_KEY)?;
        let key = std::str::from_utf8(&bytes)
            .map_err(|e| damaged(&path, &e.to_string()))
            .and_then(|pem| KeyPair::from_pem(pem).map_err(|e| damaged(&path, &e.to_string())))?;
        let params = CertificateParams::new(hosts.to_vec())
            .map_err(|e| NodeError::Config(format!("a host name cannot be requested: {e}")))?;
        let request = params
            .serialize_request(&key)
            .map_err(|e| NodeError::State(format!("no certificate request: {e}")))?;
        Ok(request.der().to_vec())
    }

    /// Takes a new certificate after checking that it is for this site's key.
    ///
    /// # Errors
    /// When the answer is no certificate for this key, or the file cannot be written.
    pub fn install(&self, certificate: &wire::Certificate) -> Result<(), NodeError> {
        let refused = |reason: &str| {
            NodeError::Refused(format!("the coordinator's answer is no certificate: {reason}"))
        };
        if !(1..=CERTIFICATE_CHAIN_MAX).contains(&certificate.chain.len()) {
            return Err(refused("its chain is empty or too long"));
        }
        let chain: Vec<_> =
            certificate.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let (path, bytes) = self.secret(TLS_KEY)?;
        let key =
            PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| damaged(&path, &e.to_string()))?;
        check_pair(&chain, &key).map_err(|reason| refused(&reason))?;
        let text =
            format!("{VALID_UNTIL}{}\n{}", certificate.not_after_ms, pem(&certificate.chain));
        self.write(CERTIFICATE, text.as_bytes(), Readers::Everybody)
    }

    fn certificate(&self) -> Result<Option<(Vec<CertificateDer<'static>>, Millis)>, NodeError> {
        let path = self.dir.join(CERTIFICATE);
        let Some(bytes) = files::read(&path).map_err(|e| unreadable(&path, &e))? else {
            return Ok(None);
        };
        let not_after_ms = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.lines().find_map(|line| line.strip_prefix(VALID_UNTIL)))
            .and_then(|number| number.trim().parse().ok())
            .ok_or_else(|| damaged(&path, "its first line does not say until when it is valid"))?;
        let chain = CertificateDer::pem_slice_iter(&bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| damaged(&path, &e.to_string()))?;
        if chain.is_empty() {
            return Err(damaged(&path, "it holds no certificate"));
        }
        Ok(Some((chain, not_after_ms)))
    }

    fn secret(&self, name: &str) -> Result<(PathBuf, Zeroizing<Vec<u8>>), NodeError> {
        let path = self.dir.join(name);
        let fail = |e: std::io::Error| unreadable(&path, &e);
        if files::is_open_to_others(&path).map_err(fail)? {
            return Err(NodeError::Config(format!(
                "{} can be read by others; make it private: chmod 600",
                path.display()
            )));
        }
        let bytes = std::fs::read(&path).map_err(fail)?;
        Ok((path, Zeroizing::new(bytes)))
    }

    fn write(&self, name: &str, bytes: &[u8], readers: Readers) -> Result<(), NodeError> {
        let path = self.dir.join(name);
        files::replace(&path, bytes, readers)
            .map_err(|e| NodeError::State(format!("{} cannot be written: {e}", path.display())))
    }
}

/// Whether the key is the certificate's.
fn check_pair(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<(), String> {
    let provider = rustls::crypto::ring::default_provider();
    rustls::sign::CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider)
        .map(|_| ())
        .map_err(|e| format!("certificate and key do not belong together: {e}"))
}

fn pem(chain: &[Vec<u8>]) -> String {
    use base64::Engine as _;
    let mut text = String::new();
    for der in chain {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = base64::engine::general_purpose::STANDARD.encode(der);
        // RFC 7468, section 2: lines of 64 characters.
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, tail) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push('\n');
            rest = tail;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

fn unreadable(path: &Path, error: &std::io::Error) -> NodeError {
    NodeError::Config(format!("{} cannot be read: {error}", path.display()))
}

fn damaged(path: &Path, reason: &str) -> NodeError {
    NodeError::Config(format!(
        "{} is damaged: {reason}; restore it, or join again with a new token in a new folder",
        path.display()
    ))
}
