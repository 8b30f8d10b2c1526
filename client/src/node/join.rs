//! Joining: one command with a token makes a member's folder.
//!
//! Keys are made here and never leave. The token pins the consortium's key and the coordinator's CA;
//! the enrolment proves possession of the identity key and is bound to the token's secret, so the
//! coordinator can pass it on but not swap the key. A join that broke off, even after the coordinator
//! took it, is repeated with the same token and the same folder. Start at [`join`].

use std::fs;
use std::path::Path;

use koinon_aggregation::Signer;
use koinon_aggregation::invitation::Invitation;
use koinon_aggregation::roster::Role;
use koinon_proto::id::{Digest, SiteId};
use koinon_proto::wire;
use rustls::pki_types::CertificateDer;

use super::config;
use super::connect::{self, COORDINATOR, Target, Tls};
use super::counters::{Counters, Totals};
use super::error::NodeError;
use super::files::{self, Readers};
use super::keystore::{KeyStore, Pins};
use super::outlet::Outlet;
use super::proxy::ProxySetting;
use super::rounds::{call, check_version, client, refused, version_range};
use crate::ledger::Kind;
use crate::policy::Policy;

/// What a join may be told besides the token.
#[derive(Clone, Debug, Default)]
pub struct JoinOptions {
    /// The coordinator's address, if it is another one than the token says.
    pub address: Option<String>,
    /// The way out of the site.
    pub proxy: ProxySetting,
    /// Further CAs to trust for the coordinator's certificate, DER.
    pub extra_ca: Vec<CertificateDer<'static>>,
    /// Host names and addresses that a partition server's certificate shall carry.
    pub hosts: Vec<String>,
}

/// What a join made.
#[derive(Clone, Debug)]
pub struct Joined {
    /// What the folder now holds on to.
    pub pins: Pins,
    /// This member's identity key: its fingerprint is compared when the consortium signs the roster.
    pub identity_key: [u8; 32],
    /// Whether the folder had already joined and nothing was done.
    pub already: bool,
    /// Bytes on the wire, below TLS, that joining took.
    pub transport: Totals,
}

/// Joins with a token and makes the member's folder.
///
/// # Errors
/// When the token is wrong or expired, the folder is somebody else's, the coordinator cannot be
/// reached or refuses.
pub async fn join(token: &str, dir: &Path, options: &JoinOptions) -> Result<Joined, NodeError> {
    let invitation =
        Invitation::parse_token(token).map_err(|e| NodeError::Refused(e.to_string()))?;
    let keys = prepare(&invitation, dir, options)?;
    let identity = keys.identity()?;
    let identity_key = identity.public();
    if keys.not_after_ms()?.is_some() {
        let transport = Totals::default();
        return Ok(Joined { pins: keys.pins().clone(), identity_key, already: true, transport });
    }
    invitation.check_expiry(super::now_ms()).map_err(|e| NodeError::Refused(e.to_string()))?;
    let request = keys.certificate_request(&options.hosts)?;
    let enrolment = invitation.enrol(&identity, request);
    let enrolment = wire::Enrolment {
        admission: enrolment.admission,
        identity_key: enrolment.identity_key.to_vec(),
        binding: enrolment.binding.to_vec(),
        signature: enrolment.signature.to_vec(),
        certificate_request: enrolment.certificate_request,
    };
    let counters = Counters::default();
    let certificate = enrol(&keys, options, &counters, enrolment).await?;
    super::settle(&counters).await;
    let coordinator = SiteId::new(certificate.coordinator.clone())
        .map_err(|e| NodeError::Refused(format!("the coordinator's answer: {e}")))?;
    let keys = keys.with_coordinator(coordinator)?;
    if keys.pins().role == Role::Client {
        write_settings(dir, &keys.pins().address)?;
    }
    // The certificate comes last: it says that joining is complete.
    keys.install(&certificate)?;
    let transport = counters.totals();
    Ok(Joined { pins: keys.pins().clone(), identity_key, already: false, transport })
}

/// Makes the folder with its keys, or finds those of an earlier attempt with the same token.
fn prepare(
    invitation: &Invitation,
    dir: &Path,
    options: &JoinOptions,
) -> Result<KeyStore, NodeError> {
    let terms = invitation.terms();
    let consortium_key = Digest(*invitation.consortium_key());
    if let Some(keys) = KeyStore::open_unjoined(dir)? {
        let pins = keys.pins();
        if pins.name.as_str() == terms.name
            && pins.role == terms.role
            && pins.consortium_key == consortium_key
        {
            return Ok(keys);
        }
        return Err(NodeError::Config(format!(
            "{} belongs to {} `{}` of another membership; choose another folder",
            dir.display(),
            pins.role,
            pins.name
        )));
    }
    let fail = |e: std::io::Error| NodeError::Config(format!("{}: {e}", dir.display()));
    let fresh = !dir.exists();
    fs::create_dir_all(dir).map_err(fail)?;
    // The site's data may lie there already. Keys without pins are of an attempt that broke off
    // before anything left, and are made anew; those of other roles are never touched.
    for other in ["coordinator.toml", "consortium.key"] {
        if dir.join(other).exists() {
            return Err(NodeError::Config(format!(
                "{} holds {other}: it is no folder for a member; choose another one",
                dir.display()
            )));
        }
    }
    if fresh {
        restrict(dir).map_err(fail)?;
    }
    let name = SiteId::new(terms.name.clone()).map_err(|e| NodeError::Refused(e.to_string()))?;
    let pins = Pins {
        name,
        role: terms.role,
        coordinator: None,
        address: options.address.clone().unwrap_or_else(|| terms.coordinator.clone()),
        consortium_key,
    };
    let ca = CertificateDer::from(terms.ca_certificate.clone());
    KeyStore::create(dir, pins, &ca, &mut super::rng())
}

async fn enrol(
    keys: &KeyStore,
    options: &JoinOptions,
    counters: &Counters,
    enrolment: wire::Enrolment,
) -> Result<wire::Certificate, NodeError> {
    let address = options.address.as_ref().unwrap_or(&keys.pins().address);
    let target = Target {
        address: address.clone(),
        server_name: COORDINATOR.into(),
        proxy: options.proxy.clone(),
        extra_ca: options.extra_ca.clone(),
    };
    // The coordinator's name is learnt only now; until then the ledger names its address.
    let outlet = match keys.pins().role {
        Role::Client => Some(Outlet::open(&keys.dir().join("ledger"), Policy::default(), None)?),
        _ => None,
    };
    let tls = Tls { ca: keys.tls()?.ca, identity: None };
    let channel = connect::channel(&target, &tls, counters).await?;
    let range = version_range(0);
    let range = match &outlet {
        Some(outlet) => outlet.let_out(Kind::Negotiate, None, address, range)?,
        None => range,
    };
    let answer = call(client(&channel).negotiate(range))
        .await
        .map_err(|status| refused(&target, "negotiate", &status))?;
    check_version(&answer, 0)?;
    let enrolment = match &outlet {
        Some(outlet) => outlet.let_out(Kind::Enrol, None, address, enrolment)?,
        None => enrolment,
    };
    call(client(&channel).enrol(enrolment))
        .await
        .map_err(|status| refused(&target, "enrol", &status))
}

fn write_settings(dir: &Path, address: &str) -> Result<(), NodeError> {
    let fail = |e: std::io::Error| NodeError::State(format!("{}: {e}", dir.display()));
    for (name, text) in
        [(config::FILE, config::template(address)), ("policy.toml", Policy::template().to_owned())]
    {
        let path = dir.join(name);
        // Somebody may have edited it after an attempt that broke off.
        if !path.exists() {
            files::replace(&path, text.as_bytes(), Readers::Everybody).map_err(fail)?;
        }
    }
    for name in ["state", "ledger"] {
        fs::create_dir_all(dir.join(name)).map_err(fail)?;
    }
    Ok(())
}

fn restrict(dir: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
    }
    #[cfg(not(unix))]
    {
        let _ = dir;
        Ok(())
    }
}
